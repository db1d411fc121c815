//! A watcher that ends a child and all that it started when this program is gone, however it went: killed, aborted, or out
//! of memory.
//!
//! On Unix the watcher is a shell that waits for the end of a pipe which only we hold; the system closes it with us. (A
//! parent-death signal, Linux's other way, spares what the child started, and comes when the *thread* that started the
//! child ends.) On Windows there is none: what a killed trainer leaves behind there must be ended by hand.

use std::io;

/// What is sent to the children when we are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastWord {
    /// They end at once.
    Kill,
    /// They may clean up, as at a Ctrl-C.
    Interrupt,
}

#[cfg(unix)]
mod watcher {
    use std::io::{self, Write};
    use std::process::{Child, ChildStdin, Command, Stdio};

    use super::LastWord;

    /// Reads the number of a process group, waits for the end of its input, and signals the group.
    const SCRIPT: &str = "read -r group || exit 0; read -r end; kill -s \"$0\" -- \"-$group\"";

    /// A watcher. Where this value is dropped, by accident or because the program ends, the group is signalled.
    #[derive(Debug)]
    pub struct Guard {
        shell: Child,
        pipe: ChildStdin,
    }

    impl Guard {
        /// Starts a watcher, which watches nothing yet: children that are started after it are never unwatched for longer
        /// than it takes to name them.
        ///
        /// # Errors
        /// There is no shell, or no process can be started.
        pub fn start(last_word: LastWord) -> io::Result<Self> {
            let signal = match last_word {
                LastWord::Kill => "KILL",
                LastWord::Interrupt => "INT",
            };
            let mut command = Command::new("/bin/sh");
            command.args(["-c", SCRIPT, signal]);
            // A group of its own: a Ctrl-C at the terminal must not take the watcher away. No environment: it needs none.
            std::os::unix::process::CommandExt::process_group(&mut command, 0);
            let mut shell = command
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()?;
            let pipe = shell.stdin.take();
            let pipe = pipe.ok_or_else(|| io::Error::other("no pipe"))?;
            Ok(Self { shell, pipe })
        }

        /// From now on the process group `group` ends with us.
        ///
        /// # Errors
        /// The watcher is gone.
        pub fn watch(&mut self, group: u32) -> io::Result<()> {
            self.pipe.write_all(format!("{group}\n").as_bytes())
        }

        /// The group has ended: the watcher goes too, before its pipe does, because the number of the group may belong to
        /// somebody else by now.
        pub fn release(mut self) {
            let _ = self.shell.kill();
            let _ = self.shell.wait();
        }
    }
}

#[cfg(not(unix))]
mod watcher {
    use std::io;

    use super::LastWord;

    /// Nothing: see the module.
    #[derive(Debug)]
    pub struct Guard;

    impl Guard {
        /// Nothing.
        ///
        /// # Errors
        /// Never.
        pub fn start(_: LastWord) -> io::Result<Self> {
            Ok(Self)
        }

        /// Nothing.
        ///
        /// # Errors
        /// Never.
        pub fn watch(&mut self, _: u32) -> io::Result<()> {
            Ok(())
        }

        /// Nothing.
        pub fn release(self) {}
    }
}

pub use watcher::Guard;

/// A watcher, or a warning that there is none: a machine without a shell must not stop the work.
#[must_use]
pub fn start(last_word: LastWord) -> Option<Guard> {
    let started: io::Result<Guard> = Guard::start(last_word);
    started
        .inspect_err(|error| {
            log::warn!(
                "children would outlive this program if it were killed: no watcher: {error}"
            );
        })
        .ok()
}

#[cfg(all(test, unix))]
mod tests {
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use super::*;

    fn sleeper() -> Child {
        let mut command = Command::new("sh");
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // The shell stays, and the sleep is its child.
        command
            .args(["-c", "sleep 300; exit 3"])
            .stdin(Stdio::null());
        command.spawn().expect("started")
    }

    fn ends(child: &mut Child) -> bool {
        for _ in 0..200 {
            if child.try_wait().expect("a child").is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }

    #[test]
    fn a_lost_guard_ends_the_group_and_a_released_one_does_not() {
        let mut child = sleeper();
        let mut guard = Guard::start(LastWord::Kill).expect("a shell");
        guard.watch(child.id()).expect("told");
        guard.release();
        std::thread::sleep(Duration::from_millis(200));
        assert!(
            child.try_wait().expect("a child").is_none(),
            "let go, not ended"
        );

        let mut guard = Guard::start(LastWord::Kill).expect("a shell");
        guard.watch(child.id()).expect("told");
        // The system does this when the program is killed.
        drop(guard);
        assert!(ends(&mut child), "the pipe closed, and the child went on");
    }
}
