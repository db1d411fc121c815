//! The program itself, run as a person runs it, and what it said.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::golden_path;
use super::run::{Workspace, copy_folder, names};

/// What a run of the program said.
#[derive(Debug)]
pub struct Said {
    /// 0 = success, 1 = an error that the program explains, 2 = a command line that cannot be read.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Sends a signal, without a program that a small machine may lack.
#[cfg(unix)]
pub fn signal(process: u32, signal: rustix::process::Signal) {
    let process = i32::try_from(process)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    let process = process.expect("a process");
    rustix::process::kill_process(process, signal).expect("a signal");
}

/// Runs the program to its end.
pub fn program<Argument: AsRef<OsStr>>(arguments: &[Argument]) -> Said {
    run(Command::new(env!("CARGO_BIN_EXE_vision-ekipl")).args(arguments))
}

/// Runs a prepared command to its end.
pub fn run(command: &mut Command) -> Said {
    let output = command
        .env_remove("RUST_LOG")
        .output()
        .expect("the program starts");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("text"),
        stderr: String::from_utf8(output.stderr).expect("text"),
    }
}

impl Said {
    /// The run succeeded; gives what it printed.
    pub fn done(self) -> String {
        assert_eq!(self.code, Some(0), "exit code\n{}", self.stderr);
        self.stdout
    }

    /// The run ended with an explained error that holds all `words` and a remedy, and did not panic.
    pub fn refused(&self, words: &[&str]) {
        let text = &self.stderr;
        assert_eq!(self.code, Some(1), "exit code\n{text}");
        assert!(!text.contains("panicked"), "{text}");
        let message = text
            .find("error: ")
            .map(|start| &text[start..])
            .unwrap_or_else(|| panic!("no error line in\n{text}"));
        for word in words.iter().chain(&["\nhint: "]) {
            assert!(message.contains(word), "`{word}` is not in\n{text}");
        }
    }
}

/// `train` refuses these keys before step 1 with a message that holds all `words`, and leaves nothing of a run behind.
pub fn training_refused(work: &Workspace, name: &str, keys: &[(&str, &str)], words: &[&str]) {
    refused_by("train", work, name, keys, words);
}

/// As [`training_refused`], by another command that takes a configuration.
pub fn refused_by(
    command: &str,
    work: &Workspace,
    name: &str,
    keys: &[(&str, &str)],
    words: &[&str],
) {
    let config = work.config(name, keys);
    program(&[command, text(&config)]).refused(words);
    let folder = work.path(name);
    if folder.exists() {
        let mut left = names(&folder);
        left.retain(|name| name != "run.lock" && name != "rejected_rows.jsonl");
        assert_eq!(left, Vec::<String>::new(), "left behind by {name}");
    }
}

/// A path as an argument.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("a path of plain characters")
}

/// A copy of the tiny model that a test may damage.
pub fn copied_model(work: &Workspace, name: &str) -> PathBuf {
    let folder = work.path(name);
    copy_folder(&golden_path("qwen2vl-tiny"), &folder);
    folder
}

/// Changes a JSON file in place.
pub fn edit_json(path: &Path, edit: impl FnOnce(&mut serde_json::Value)) {
    let bytes = std::fs::read(path).expect("a readable file");
    let mut value = serde_json::from_slice(&bytes).expect("JSON");
    edit(&mut value);
    std::fs::write(path, value.to_string()).expect("a written file");
}

/// Lets programs that are started from here on hear interrupts: a shell's background and `nohup` hand them down ignored, and
/// the program respects that.
pub fn hear_interrupts() {
    #[cfg(unix)]
    {
        unsafe extern "C" {
            fn signal(number: i32, action: usize) -> usize;
        }
        const DEFAULT: usize = 0;
        for number in [rustix::process::Signal::INT, rustix::process::Signal::QUIT] {
            // SAFETY: the default action needs no handler, and these tests install none.
            unsafe { signal(number.as_raw(), DEFAULT) };
        }
    }
}
