//! Signals that ask the program to end, and ending it at once.
//!
//! Knows nothing of what is done about them.

use std::io;

/// SIGINT's number, which is also that of a Ctrl-C where there are no signals.
pub const INTERRUPT: u8 = 2;

#[cfg(unix)]
mod caught {
    use std::io::{self, IsTerminal, Read};
    use std::os::fd::IntoRawFd;
    use std::sync::atomic::{AtomicI32, Ordering};
    use std::thread;

    use nix::libc;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    /// Where the handler writes the numbers of signals; −1 before there is such a place.
    static PIPE: AtomicI32 = AtomicI32::new(-1);

    /// Runs in the middle of anything, so it does nothing but a system call, and leaves no trace of its errors.
    extern "C" fn note(signal: libc::c_int) {
        let before = nix::errno::Errno::last_raw();
        let byte = signal as u8;
        // SAFETY: `write` may be called in a signal handler; it reads the one byte that lives on this stack. The descriptor is
        // never closed.
        unsafe {
            libc::write(PIPE.load(Ordering::Relaxed), (&raw const byte).cast(), 1);
        }
        nix::errno::Errno::set_raw(before);
    }

    /// See [`super::watch`].
    pub(super) fn watch(on_signal: impl Fn(u8) + Send + 'static) -> io::Result<()> {
        let (mut reader, writer) = io::pipe()?;
        PIPE.store(writer.into_raw_fd(), Ordering::Relaxed);
        let thread = thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || {
            let mut byte = [0];
            while reader.read_exact(&mut byte).is_ok() {
                on_signal(byte[0]);
            }
        })?;
        // An interrupt counts even where a shell started us in the background with it ignored: somebody sent it on purpose.
        for signal in [Signal::SIGINT, Signal::SIGTERM] {
            handle(signal, SigHandler::Handler(note))?;
        }
        let before = handle(Signal::SIGHUP, SigHandler::SigIgn)?;
        if !matches!(before, SigHandler::SigIgn) && talks_to_a_terminal() {
            handle(Signal::SIGHUP, SigHandler::Handler(note))?;
        }
        Ok(())
    }

    /// Whether the end of a terminal concerns us. With both outputs in files, as `nohup` leaves them (and programs between it
    /// and us may undo its ignoring of the signal), a run goes on without it.
    fn talks_to_a_terminal() -> bool {
        io::stdout().is_terminal() || io::stderr().is_terminal()
    }

    fn handle(signal: Signal, handler: SigHandler) -> io::Result<SigHandler> {
        let action = SigAction::new(handler, SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler, where it is one, is `note`, which may run at any moment.
        let before = unsafe { sigaction(signal, &action) }?;
        Ok(before.handler())
    }

    /// See [`super::exit`].
    pub(super) fn exit(status: u8) -> ! {
        // SAFETY: `_exit` may be called at any moment. What `exit` would run besides, such as a graphics driver's clean-up
        // while another thread is inside the driver, is what must not run.
        unsafe { libc::_exit(i32::from(status)) }
    }
}

#[cfg(not(unix))]
mod caught {
    use std::io;

    /// See [`super::watch`].
    pub(super) fn watch(on_signal: impl Fn(u8) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || on_signal(super::INTERRUPT)).map_err(io::Error::other)
    }

    /// See [`super::exit`].
    pub(super) fn exit(status: u8) -> ! {
        std::process::exit(i32::from(status))
    }
}

/// Calls `on_signal`, on a thread of its own, with the number of each SIGINT and SIGTERM from now on, and of each SIGHUP
/// unless that was ignored at the start (`nohup`) or nothing goes to a terminal.
///
/// # Errors
/// The system refuses.
pub fn watch(on_signal: impl Fn(u8) + Send + 'static) -> io::Result<()> {
    caught::watch(on_signal)
}

/// Ends the program at once, whatever its threads are doing.
pub fn exit(status: u8) -> ! {
    caught::exit(status)
}
