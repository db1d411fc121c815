//! What a command does when it is asked to end: by Ctrl-C, a job scheduler, or the end of the terminal.
//!
//! Knows nothing of how signals come.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use anyhow::{Context, Result};

use crate::actions::reward::end_processes;
use crate::run::stop::STOP;
use crate::system::signals;

/// The first signal that came; 0 before.
static CAUGHT: AtomicU8 = AtomicU8::new(0);

/// What the first signal does; a second one always ends at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FirstSignal {
    /// What is at hand is finished and kept; the text says what.
    Finishes(&'static str),
    /// The command has nothing to keep and ends at once.
    Ends,
}

/// From now on signals do what `first` says, and programs that reward end with us.
///
/// # Errors
/// If signals cannot be caught.
pub(super) fn catch(first: FirstSignal) -> Result<()> {
    let on_signal = move |signal: u8| {
        let again = CAUGHT.swap(signal, Ordering::SeqCst) != 0;
        let FirstSignal::Finishes(what) = first else {
            end(signal)
        };
        if again {
            end(signal);
        }
        STOP.store(true, Ordering::SeqCst);
        // On a thread of its own: where nobody reads standard error any more it may never return, and a second signal must
        // still count.
        thread::spawn(move || log::warn!("{what}; press Ctrl-C again to stop at once"));
    };
    signals::watch(on_signal).context("Ctrl-C cannot be caught")
}

/// The status of a command that has ended: 128 and the number of the signal if one ended it early, as shells have it; else 0,
/// or 1 after an error.
#[must_use]
pub fn exit_status(ended: &Result<()>) -> u8 {
    match CAUGHT.load(Ordering::SeqCst) {
        0 => u8::from(ended.is_err()),
        signal => status_of(signal),
    }
}

const fn status_of(signal: u8) -> u8 {
    128 + signal % 128
}

fn end(signal: u8) -> ! {
    end_processes();
    signals::exit(status_of(signal))
}
