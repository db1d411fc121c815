//! A running program and its three streams, each with a thread of its own, so that neither side can ever block the
//! other. Knows nothing of requests and answers but that they are lines.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TryRecvError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use super::error::{ProcessFault, shown};
use super::messages::Messages;
use crate::actions::secret::Secret;
use crate::system::guard::{self, Guard, LastWord};

/// Bytes of an answer: room for a million rewards.
const LONGEST_ANSWER: usize = 32 << 20;
/// How long a program may take to end after its input has.
const GRACE: Duration = Duration::from_secs(2);
/// How long the end of a program and its last words may take to reach us.
const SETTLE: Duration = Duration::from_millis(500);
/// Between two looks at a program that is ending.
const LOOK: Duration = Duration::from_millis(10);

/// Programs that run now, to be ended with ours. Whoever starts one holds it, so that none is missed.
static RUNNING: Mutex<Vec<Weak<Mutex<Running>>>> = Mutex::new(Vec::new());
/// Set before our end: what happens to programs from then on is no fault of theirs.
static ENDING: AtomicBool = AtomicBool::new(false);

/// A running program; it ends with this value, and everything that it started with it.
#[derive(Debug)]
pub(super) struct Program {
    running: Arc<Mutex<Running>>,
    /// Lines for its standard input; `None` once that is closed.
    requests: Option<Sender<Arc<[u8]>>>,
    answers: Receiver<Line>,
    messages: Arc<Messages>,
    /// Closed when its standard error is.
    silent: Receiver<()>,
}

/// The program as the system sees it.
#[derive(Debug)]
struct Running {
    child: Child,
    /// Ends it, and everything that it started, if we are killed.
    guard: Option<Guard>,
    /// How it ended.
    status: Option<ExitStatus>,
}

/// A line of its standard output.
enum Line {
    Whole(Vec<u8>),
    /// The beginning of one that is longer than [`LONGEST_ANSWER`].
    TooLong(Vec<u8>),
}

impl Program {
    /// Starts it in a process group of its own: a Ctrl-C at the terminal is ours to handle.
    ///
    /// # Errors
    /// If the system refuses.
    pub(super) fn start(
        mut command: Command,
        name: &str,
        secrets: Vec<Secret>,
    ) -> Result<Self, ProcessFault> {
        let file = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut guard = guard::start(LastWord::Kill);
        let mut all = lock(&RUNNING);
        let mut child = command.spawn().map_err(|error| match error.kind() {
            ErrorKind::NotFound => ProcessFault::NotFound(file),
            _ => ProcessFault::Start(error.to_string()),
        })?;
        if let Some(Err(error)) = guard.as_mut().map(|guard| guard.watch(child.id())) {
            log::warn!(
                "reward `{name}`: it would outlive this program if that were killed: {error}"
            );
        }
        let piped = "the stream was asked for above";
        let input = child.stdin.take().expect(piped);
        let output = child.stdout.take().expect(piped);
        let errors = child.stderr.take().expect(piped);
        let running = Arc::new(Mutex::new(Running {
            child,
            guard,
            status: None,
        }));
        all.retain(|known| known.strong_count() > 0);
        all.push(Arc::downgrade(&running));
        drop(all);

        let messages = Arc::new(Messages::new(name, secrets));
        let (requests, to_write) = channel();
        // Room for one line: a program that floods its output waits, and takes no memory of ours.
        let (read, answers) = sync_channel(1);
        let (speaking, silent) = channel();
        let heard = Arc::clone(&messages);
        let program = Self {
            running,
            requests: Some(requests),
            answers,
            messages,
            silent,
        };
        spawn(name, move || write_lines(input, &to_write))?;
        spawn(name, move || read_lines(output, &read))?;
        spawn(name, move || {
            let _speaking: Sender<()> = speaking;
            heard.read(errors);
        })?;
        Ok(program)
    }

    /// Gives it a line and takes the line that it answers.
    ///
    /// # Errors
    /// If it has ended, says anything else, or takes longer than `timeout`.
    pub(super) fn ask(
        &mut self,
        line: &Arc<[u8]>,
        timeout: Duration,
    ) -> Result<Vec<u8>, ProcessFault> {
        self.messages.next_batch();
        match self.answers.try_recv() {
            Ok(Line::Whole(line) | Line::TooLong(line)) => {
                return Err(ProcessFault::Unasked(shown(&self.messages.scrubbed(line))));
            }
            Err(TryRecvError::Disconnected) => return Err(self.ended()),
            Err(TryRecvError::Empty) => {}
        }
        // A program that closed its input is heard of through its output.
        let _ = self
            .requests
            .as_ref()
            .map(|requests| requests.send(Arc::clone(line)));
        match self.answers.recv_timeout(timeout) {
            Ok(Line::Whole(line)) => Ok(self.messages.scrubbed(line)),
            Ok(Line::TooLong(line)) => Err(ProcessFault::TooLong {
                most: LONGEST_ANSWER,
                line: shown(&self.messages.scrubbed(line)),
            }),
            Err(RecvTimeoutError::Timeout) => {
                Err(ProcessFault::TimedOut(timeout.as_secs_f64().to_string()))
            }
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
        }
    }

    /// Ends it at once; gives its last lines on standard error.
    pub(super) fn kill(self) -> Vec<String> {
        lock(&self.running).kill();
        // Its last words may still be on their way.
        let _ = self.silent.recv_timeout(SETTLE);
        self.messages.last()
    }

    /// Why its output has ended.
    fn ended(&self) -> ProcessFault {
        match self.wait(SETTLE) {
            Some(status) => ProcessFault::Ended(status.to_string()),
            None => ProcessFault::Closed,
        }
    }

    /// Waits for its end, `longest` at most.
    fn wait(&self, longest: Duration) -> Option<ExitStatus> {
        wait(longest, || lock(&self.running).ended())
    }
}

impl Drop for Program {
    /// Its input ends, and so may it; what is still there after a moment is killed.
    fn drop(&mut self) {
        self.requests = None;
        self.wait(GRACE);
        lock(&self.running).kill();
    }
}

impl Running {
    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                self.kill_group();
                if let Some(guard) = self.guard.take() {
                    guard.release();
                }
            }
        }
        self.status
    }

    /// Ends it and everything that it started.
    fn kill(&mut self) {
        if self.status.is_none() {
            self.kill_group();
            let _ = self.child.kill();
            wait(SETTLE, || self.ended());
        }
    }

    /// What the program started may outlive it. (On Windows it does: there are no process groups, and job objects are not
    /// used.) Never called again after its end: the number of the group may then
    /// belong to somebody else.
    #[cfg(unix)]
    fn kill_group(&self) {
        use rustix::process::{Pid, Signal, kill_process_group};
        // Nothing is left to kill where all have ended.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
    }

    #[cfg(not(unix))]
    fn kill_group(&self) {}
}

/// Kills every reward program that runs, for the moment before ours exits without cleaning up: nothing is waited for, and no
/// program is started or judged any more; threads that try to do so stand still.
pub fn end_processes() {
    ENDING.store(true, Ordering::SeqCst);
    let all = lock(&RUNNING);
    for running in all.iter().filter_map(Weak::upgrade) {
        let mut running = lock(&running);
        if running.status.is_none() {
            running.kill_group();
            let _ = running.child.kill();
        }
    }
    // Held until the end.
    std::mem::forget(all);
}

/// Does not return once [`end_processes`] was called: a program that was ended with us has made no mistake, and is not
/// started again.
pub(super) fn stand_still_if_ending() {
    while ENDING.load(Ordering::SeqCst) {
        thread::park();
    }
}

/// Looks for the end of a program now and then, `longest` at most.
fn wait(longest: Duration, mut look: impl FnMut() -> Option<ExitStatus>) -> Option<ExitStatus> {
    for _ in 0..longest.as_millis() / LOOK.as_millis() {
        if let Some(status) = look() {
            return Some(status);
        }
        thread::sleep(LOOK);
    }
    look()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), ProcessFault> {
    let thread = thread::Builder::new().name(format!("reward {name}"));
    let started = thread.spawn(work).map(drop);
    started.map_err(|error| ProcessFault::Start(error.to_string()))
}

/// Writes until nobody sends any more, or the program closes its input; then closes it.
fn write_lines(mut input: ChildStdin, lines: &Receiver<Arc<[u8]>>) {
    for line in lines {
        if input.write_all(&line).and_then(|()| input.flush()).is_err() {
            return;
        }
    }
}

/// Reads until the output ends or nobody listens; empty lines are no answers.
fn read_lines(output: ChildStdout, lines: &SyncSender<Line>) {
    let mut reader = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(LONGEST_ANSWER as u64)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(1..)) {
            return;
        }
        if line.trim_ascii().is_empty() && line.len() < LONGEST_ANSWER {
            continue;
        }
        let is_whole = line.len() < LONGEST_ANSWER || line.ends_with(b"\n");
        let line = if is_whole {
            Line::Whole(line)
        } else {
            Line::TooLong(line)
        };
        if lines.send(line).is_err() || !is_whole {
            return;
        }
    }
}
