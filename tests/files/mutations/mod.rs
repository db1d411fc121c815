//! Does every reader stand what nobody meant? Inputs of each kind, changed at random from a fixed seed, and what must hold
//! whatever they say: no panic, an end within seconds, memory and messages in proportion, nothing written outside the folder
//! that was named, and no file of the user's changed.
//!
//! A failure names the kind and the number of the case and leaves its input under `target/tmp/mutations`; the same numbers
//! give the same inputs everywhere. Cases per kind are chosen so that all take about a minute on two slow cores.

mod change;
mod configuration;
mod model_folders;
mod pictures;
mod replies;
mod results;
mod rewards;
mod rows;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use vision_ekipl::printable::printable_lines;

/// What no case may take, on a machine with others on it; most take a millisecond.
const LONGEST: Duration = Duration::from_secs(20);
/// By how much the process may grow while the cases of a kind run.
const MOST_MEMORY: u64 = 1 << 30;
/// Bytes of a message as a person gets to read it.
const LONGEST_MESSAGE: usize = 40_000;
/// Failures of a kind that are listed before it ends.
const LISTED: usize = 8;

/// Kinds run one after the other, so that each is asked about its own memory.
static ONE_KIND_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Runs `check` on `cases` inputs made of `seeds`; a check that panics has failed, an assertion or the program.
fn each_case(
    kind: &str,
    cases: u64,
    seeds: &[Vec<u8>],
    check: impl Fn(&[u8]) + Send + Sync + 'static,
) {
    let _turn = ONE_KIND_AT_A_TIME
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let check = Arc::new(check);
    // Unchanged inputs are the ones that the changes start from: they come first.
    let whole = seeds.iter().cloned().map(|seed| (0, seed));
    let changed = (1..=cases).map(|case| {
        let mut random = ChaCha8Rng::seed_from_u64(case);
        (case, change::change(&mut random, seeds))
    });
    let before = largest_so_far();
    let mut failures = Vec::new();
    for (case, input) in whole.chain(changed) {
        let place = keep(kind, &input);
        if let Err(problem) = run(&input, Arc::clone(&check)) {
            let kept = place.with_file_name(format!("{kind}-{case}"));
            let _ = fs::copy(&place, &kept);
            failures.push(format!(
                "case {case}: {problem} (input: {})",
                kept.display()
            ));
        }
        let grown = largest_so_far().saturating_sub(before);
        assert!(
            grown < MOST_MEMORY,
            "{kind}, case {case}: {} MiB more",
            grown >> 20
        );
        if failures.len() >= LISTED {
            break;
        }
    }
    assert!(failures.is_empty(), "{kind}:\n{}", failures.join("\n"));
}

/// Runs a case in a thread of its own, which is left behind if it does not end.
fn run(input: &[u8], check: Arc<impl Fn(&[u8]) + Send + Sync + 'static>) -> Result<(), String> {
    let (sender, receiver) = channel();
    let input = input.to_vec();
    let body = move || {
        let result = catch_unwind(AssertUnwindSafe(|| check(&input)));
        let _ = sender.send(result.map_err(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            text.unwrap_or("a panic without words").to_owned()
        }));
    };
    let thread = std::thread::Builder::new().stack_size(4 << 20).spawn(body);
    let thread = thread.expect("a thread");
    match receiver.recv_timeout(LONGEST) {
        Ok(result) => {
            let _ = thread.join();
            result
        }
        Err(RecvTimeoutError::Timeout) => Err(format!("no end after {LONGEST:?}")),
        Err(RecvTimeoutError::Disconnected) => Err("the thread ended without a word".to_owned()),
    }
}

/// Writes the input where it is found after a crash that takes the process with it.
fn keep(kind: &str, input: &[u8]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mutations");
    fs::create_dir_all(&folder).expect("a folder");
    let place = folder.join(format!("{kind}-now"));
    fs::write(&place, input).expect("written");
    place
}

/// The most bytes that this process ever held, where the system tells.
fn largest_so_far() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// A message says something and no more than a person reads, as the program prints it.
fn assert_is_a_message(text: &str) {
    let text = printable_lines(text).to_string();
    assert!(!text.trim().is_empty(), "an error without words");
    let length = text.len();
    let begin: String = text.chars().take(200).collect();
    assert!(
        length <= LONGEST_MESSAGE,
        "a message of {length} bytes: {begin}"
    );
}

/// A folder of a user: data to read, a file to keep, a folder to write to.
struct World {
    root: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a folder");
        fs::create_dir(root.path().join("out")).expect("a folder");
        fs::create_dir(root.path().join("in")).expect("a folder");
        fs::write(root.path().join(change::SECRET), SECRET_TEXT).expect("written");
        Self { root }
    }

    /// What is read.
    fn input(&self) -> PathBuf {
        self.root.path().join("in")
    }

    /// What may be written.
    fn output(&self) -> PathBuf {
        self.root.path().join("out")
    }

    /// Writes a file to read.
    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.input().join(name);
        fs::write(&path, bytes).expect("written");
        path
    }

    /// Names below the folder, without what may be written, each with what it says.
    fn others(&self) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = Vec::new();
        let mut open = vec![self.root.path().to_owned()];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).expect("readable") {
                let path = entry.expect("readable").path();
                if path == self.output() {
                    continue;
                }
                if path.is_dir() {
                    open.push(path);
                } else {
                    let bytes = fs::read(&path).expect("readable");
                    found.push((path, bytes));
                }
            }
        }
        found.sort();
        found
    }

    /// Runs `work` and makes sure that outside of the output folder nothing came, went or changed.
    fn keeps<T>(&self, work: impl FnOnce() -> T) -> T {
        let before = self.others();
        let result = work();
        assert!(
            self.others() == before,
            "a file outside the output folder changed"
        );
        result
    }
}

/// Content of the file that changed names point to.
const SECRET_TEXT: &str = "do not touch";

/// `tests/golden/public/<name>` as bytes.
fn golden(name: &str) -> Vec<u8> {
    let path = crate::support::golden_path(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The harness itself: what it does not notice, every kind would pass.
#[test]
fn a_panic_an_endless_case_and_a_changed_file_are_noticed() {
    fn panics(_: &[u8]) {
        panic!("case {}", 1);
    }
    fn is_x(input: &[u8]) {
        assert_eq!(input, b"x");
    }
    assert_eq!(run(b"x", Arc::new(panics)), Err("case 1".to_owned()));
    assert_eq!(run(b"x", Arc::new(is_x)), Ok(()));
    let world = World::new();
    let touches = || fs::write(world.root.path().join(change::SECRET), "").expect("written");
    let noticed = catch_unwind(AssertUnwindSafe(|| world.keeps(touches)));
    assert!(noticed.is_err());
    world.keeps(|| fs::write(world.output().join("mine"), "").expect("written"));
}
