//! Runs the commands of a plan, several at a time, each in a process of its own, and skips those that are done.
//!
//! Knows nothing of what a command computes. A command that was cut short is started again; a training run goes on from
//! its last checkpoint. Processes end with this one however it ends, after a checkpoint; a lock that is still held is waited for.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::plan::{LAST_CHECKPOINT, Task};
use crate::run::folder;
use crate::study::error::{StudyError, io_error};
use crate::system::files::{self, Existing};
use crate::system::guard::{self, Guard, LastWord};

/// How often processes are looked after.
const TICK: Duration = Duration::from_millis(100);

/// What a finished command leaves behind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Its arguments.
    pub words: Vec<String>,
    /// When it was first started, as RFC 3339.
    pub started: String,
    /// Seconds of all its attempts that this program saw to their end.
    pub seconds: f64,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Done, now or earlier.
    Done(Done),
    /// It failed; the last words of its log.
    Failed(String),
    /// It was not started, or not finished.
    NotRun,
}

/// A process at work.
struct Running {
    task: usize,
    child: Child,
    /// Interrupts it if we are killed.
    guard: Option<Guard>,
    log: PathBuf,
    words: Vec<String>,
    started: String,
    clock: Instant,
}

/// How commands are started.
#[derive(Debug, Clone)]
pub struct Runner {
    /// The program.
    pub program: PathBuf,
    /// Processes at a time.
    pub jobs: usize,
    /// Threads of each process.
    pub threads: usize,
}

/// Told once at the start and of every task that ends, with what became of all tasks so far.
pub type OnEnd<'a> = &'a mut dyn FnMut(Option<usize>, &[Outcome]) -> Result<(), StudyError>;

impl Runner {
    /// Runs what is `wanted` and not done yet, in order, until nothing is left or `stop` is set; a failed task takes those that need
    /// it with it, and no other.
    ///
    /// # Errors
    /// A process cannot be started or looked after, a marker cannot be written, or `on_end` fails.
    pub fn run(
        &self,
        tasks: &[Task],
        wanted: &BTreeSet<usize>,
        stop: &AtomicBool,
        on_end: OnEnd,
    ) -> Result<Vec<Outcome>, StudyError> {
        let mut outcomes: Vec<Outcome> = tasks.iter().map(earlier).collect();
        on_end(None, &outcomes)?;
        let mut running: Vec<Running> = Vec::new();
        let mut told = false;
        loop {
            let ended = self.collect(&mut running, tasks, &mut outcomes, stop)?;
            for task in &ended {
                on_end(Some(*task), &outcomes)?;
            }
            if !stop.load(Ordering::SeqCst) {
                self.fill(&mut running, (tasks, wanted), &mut outcomes)?;
            } else if !told {
                running.iter().for_each(|process| interrupt(&process.child));
                told = true;
            }
            if running.is_empty() && ended.is_empty() {
                return Ok(outcomes);
            }
            std::thread::sleep(TICK);
        }
    }

    /// Starts tasks whose predecessors are done, as long as there is room.
    fn fill(
        &self,
        running: &mut Vec<Running>,
        (tasks, wanted): (&[Task], &BTreeSet<usize>),
        outcomes: &mut [Outcome],
    ) -> Result<(), StudyError> {
        for index in wanted.iter().copied() {
            let task = &tasks[index];
            if running.len() >= self.jobs {
                break;
            }
            let fresh = outcomes[index] == Outcome::NotRun
                && running.iter().all(|other| other.task != index);
            let ready = |before: &usize| matches!(outcomes[*before], Outcome::Done(_));
            if !fresh || !task.after.iter().all(ready) {
                continue;
            }
            match self.start(index, task)? {
                Started::Process(process) => running.push(process),
                Started::Busy => {}
                Started::Impossible(reason) => outcomes[index] = Outcome::Failed(reason),
            }
        }
        Ok(())
    }

    fn start(&self, index: usize, task: &Task) -> Result<Started, StudyError> {
        let mut words = match with_checkpoints(&task.words) {
            Ok(words) => words,
            Err(reason) => return Ok(Started::Impossible(reason)),
        };
        let written = words.clone();
        let folder = task.marker.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(folder).map_err(io_error("create the folder", folder))?;
        if let Some(output) = trained_folder(&words) {
            if folder::is_locked(&output) {
                log::info!("{}: an earlier process still works on it", task.label);
                return Ok(Started::Busy);
            }
            let (key, value) = match folder::newest_checkpoint(&output) {
                Some(_) => ("--resume_from_checkpoint", "true"),
                None => ("--overwrite_output_dir", "true"),
            };
            words.extend([key.to_owned(), value.to_owned()]);
        }
        let log = task.marker.with_extension("log");
        let output = files::open_to_append(&log).map_err(io_error("write", &log))?;
        let errors = output.try_clone().map_err(io_error("write", &log))?;
        let mut guard = guard::start(LastWord::Interrupt);
        let mut command = Command::new(&self.program);
        apart(&mut command);
        let child = command
            .args(&words)
            .env("RAYON_NUM_THREADS", self.threads.to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(io_error("start", &self.program))?;
        if let Some(Err(error)) = guard.as_mut().map(|guard| guard.watch(child.id())) {
            log::warn!(
                "{}: it would outlive this program if that were killed: {error}",
                task.label
            );
        }
        Ok(Started::Process(Running {
            task: index,
            child,
            guard,
            log,
            words: written,
            started: first_start(&task.marker)?,
            clock: Instant::now(),
        }))
    }

    /// Takes processes that have ended off the list.
    fn collect(
        &self,
        running: &mut Vec<Running>,
        tasks: &[Task],
        outcomes: &mut [Outcome],
        stop: &AtomicBool,
    ) -> Result<Vec<usize>, StudyError> {
        let mut ended = Vec::new();
        let mut still = Vec::new();
        for mut process in running.drain(..) {
            let status = process.child.try_wait();
            let Some(status) = status.map_err(io_error("look after", &self.program))? else {
                still.push(process);
                continue;
            };
            if let Some(guard) = process.guard.take() {
                guard.release();
            }
            let index = process.task;
            ended.push(index);
            // A run that was asked to stop ends well, with a checkpoint, before its last step.
            if stop.load(Ordering::SeqCst) {
                continue;
            }
            outcomes[index] = if status.success() {
                let done = Done {
                    words: process.words,
                    started: process.started,
                    seconds: process.clock.elapsed().as_secs_f64(),
                };
                write_json(&tasks[index].marker, &done)?;
                Outcome::Done(done)
            } else {
                Outcome::Failed(last_words(&process.log, &status.to_string()))
            };
        }
        *running = still;
        Ok(ended)
    }
}

/// The terminal's Ctrl-C goes to this program alone, which passes it on once: a second one would end a run without a
/// checkpoint.
#[cfg(unix)]
fn apart(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}

#[cfg(unix)]
fn interrupt(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::INT)) {
        log::warn!("process {}: cannot be stopped: {error}", child.id());
    }
}

/// Elsewhere the console tells every process by itself.
#[cfg(not(unix))]
const fn apart(_: &mut Command) {}

#[cfg(not(unix))]
const fn interrupt(_: &Child) {}

enum Started {
    Process(Running),
    /// Another process holds the folder; it is tried again.
    Busy,
    Impossible(String),
}

/// What an earlier study left: a marker of the very same command, on whatever device, means that it is done.
fn earlier(task: &Task) -> Outcome {
    let text = fs::read_to_string(&task.marker).ok();
    let done = text.and_then(|text| serde_json::from_str::<Done>(&text).ok());
    let wanted = with_checkpoints(&task.words);
    let is_same =
        |done: &Done| wanted.as_deref().map(without_device) == Ok(without_device(&done.words));
    done.filter(is_same).map_or(Outcome::NotRun, Outcome::Done)
}

fn without_device(words: &[String]) -> Vec<&str> {
    let is_device = |index: usize| words.get(index).is_some_and(|word| word == "--device");
    let others = words
        .iter()
        .enumerate()
        .filter(|(index, _)| !is_device(*index) && !index.checked_sub(1).is_some_and(is_device));
    others.map(|(_, word)| word.as_str()).collect()
}

/// When the task was first started; kept beside the marker until it is done.
fn first_start(marker: &Path) -> Result<String, StudyError> {
    let path = marker.with_extension("started");
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text);
    }
    let now = Timestamp::now().round(jiff::Unit::Second);
    let now = now.map_or_else(|_| Timestamp::now().to_string(), |now| now.to_string());
    files::write(&path, &now, Existing::Replace).map_err(io_error("write", &path))?;
    Ok(now)
}

fn write_json(path: &Path, done: &Done) -> Result<(), StudyError> {
    let text = serde_json::to_string_pretty(done).unwrap_or_default();
    files::write_whole(path, text).map_err(io_error("write", path))
}

/// Puts the newest checkpoint where the words ask for it.
fn with_checkpoints(words: &[String]) -> Result<Vec<String>, String> {
    let fill = |word: &String| {
        let folder = word
            .strip_prefix(LAST_CHECKPOINT)
            .and_then(|rest| rest.strip_suffix('}'));
        let Some(folder) = folder else {
            return Ok(word.clone());
        };
        let newest = folder::newest_checkpoint(Path::new(folder));
        newest
            .map(|path| path.display().to_string())
            .ok_or_else(|| format!("{folder}: expected a checkpoint, found none"))
    };
    words.iter().map(fill).collect()
}

/// The folder that a training command writes.
fn trained_folder(words: &[String]) -> Option<PathBuf> {
    let trains = matches!(words.first().map(String::as_str), Some("train" | "sft"));
    let place = words.iter().position(|word| word == "--output_dir")?;
    trains.then(|| words.get(place + 1).map(PathBuf::from))?
}

/// The last error of a log, in one line.
fn last_words(log: &Path, status: &str) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    let begin = lines.iter().rposition(|line| line.starts_with("error: "));
    let words = match begin {
        Some(begin) => lines[begin..].join(" "),
        None => lines.last().copied().unwrap_or("no output").to_owned(),
    };
    format!("{status}: {words} (log: {})", log.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_marker_of_the_same_command_means_done() {
        let folder = tempfile::tempdir().unwrap();
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let task = |text: &str| Task {
            label: String::new(),
            words: words(text),
            marker: folder.path().join("task.json"),
            after: Vec::new(),
        };
        let done = Done {
            words: words("eval a.yaml --top_p 1 --device cpu"),
            started: String::new(),
            seconds: 1.0,
        };
        assert_eq!(earlier(&task("eval a.yaml")), Outcome::NotRun);
        write_json(&folder.path().join("task.json"), &done).unwrap();
        assert_eq!(
            earlier(&task("eval a.yaml --device vulkan --top_p 1")),
            Outcome::Done(done)
        );
        for other in [
            "eval a.yaml --top_p 0.9 --device cpu",
            "eval a.yaml --top_p 1 --seed 2 --device cpu",
            "eval {last:absent}",
        ] {
            assert_eq!(earlier(&task(other)), Outcome::NotRun, "{other}");
        }
    }
}
