//! Does the program end well when it is made to: signals, kills, closed and full outputs?

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, test_kill_process};

use crate::support::program::{program, signal, text};
use crate::support::run::{Workspace, names};

const LONG: Duration = Duration::from_secs(30);

/// Waits until `done`, not longer than [`LONG`].
fn until(what: &str, done: impl Fn() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The program in the background, its standard error in a file.
fn start(arguments: &[&str], errors: &Path) -> Child {
    let errors = fs::File::create(errors).expect("a file");
    Command::new(env!("CARGO_BIN_EXE_vision-ekipl"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .expect("the program starts")
}

fn is_alive(process: i32) -> bool {
    let state = fs::read_to_string(format!("/proc/{process}/stat"));
    let is_zombie = state.is_ok_and(|state| state.contains(") Z "));
    let process = Pid::from_raw(process).expect("a process");
    test_kill_process(process).is_ok() && !is_zombie
}

/// A reward program that never reads its input and has a child of its own; both numbers are in `pids`.
fn sleeping_reward(work: &Workspace) -> String {
    let script = work.path("sleep.sh");
    let pids = work.path("pids");
    let lines = format!(
        "#!/bin/sh\nsleep 300 &\necho $$ >> {0}\necho $! >> {0}\nwait\n",
        pids.display()
    );
    fs::write(&script, lines).expect("written");
    format!(
        "[{{name: sleeps, command: [sh, {}], timeout_s: 60}}]",
        script.display()
    )
}

fn pids(work: &Workspace) -> Vec<i32> {
    let text = fs::read_to_string(work.path("pids")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// `reward-check` that waits for a reward program which never answers.
fn waiting_check(work: &Workspace) -> (Child, Vec<i32>) {
    let completions = work.path("completions.jsonl");
    fs::write(
        &completions,
        "{\"id\": \"train-0\", \"completion\": \"3\"}\n",
    )
    .expect("written");
    let _ = fs::remove_file(work.path("pids"));
    let config = work.config("check", &[("reward_funcs", &sleeping_reward(work))]);
    let arguments = [
        "reward-check",
        text(&config),
        "--completions",
        text(&completions),
    ];
    let child = start(&arguments, &work.path("errors"));
    until("the reward program runs", || pids(work).len() == 2);
    (child, pids(work))
}

#[test]
fn reward_programs_and_their_children_end_with_the_program_however_it_ends() {
    let work = Workspace::new();
    for (how, code) in [
        (Signal::KILL, None),
        (Signal::ABORT, None),
        (Signal::QUIT, None),
        (Signal::TERM, Some(143)),
        (Signal::INT, Some(130)),
    ] {
        let (mut child, started) = waiting_check(&work);
        signal(child.id(), how);
        let ended = child.wait().expect("ended");
        assert_eq!(ended.code(), code, "{how:?}");
        until("they end", || {
            started.iter().all(|process| !is_alive(*process))
        });
        assert_eq!(pids(&work), started, "{how:?}: none was started again");
        let errors = fs::read_to_string(work.path("errors")).expect("readable");
        assert!(!errors.contains("started again"), "{how:?}: {errors}");
    }
}

#[test]
fn a_second_signal_ends_a_run_at_once_and_the_checkpoints_are_whole() {
    let work = Workspace::new();
    let keys = [
        ("max_steps", "3000"),
        ("save_steps", "1"),
        ("save_total_limit", "2"),
    ];
    let config = work.config("run", &keys);
    let mut child = start(&["train", text(&config)], &work.path("errors"));
    let folder = work.path("run");
    until("it saves", || folder.join("checkpoint-2").exists());
    let asked = Instant::now();
    signal(child.id(), Signal::TERM);
    signal(child.id(), Signal::TERM);
    let ended = child.wait().expect("ended");
    assert_eq!(ended.code(), Some(143));
    assert!(
        asked.elapsed() < Duration::from_secs(3),
        "{:?}",
        asked.elapsed()
    );
    let resumed = ["train", text(&config), "--resume_from_checkpoint", "true"];
    let last = names(&folder)
        .iter()
        .filter_map(|name| name.strip_prefix("checkpoint-")?.parse::<u64>().ok())
        .max();
    let end = (last.expect("a checkpoint") + 1).to_string();
    program(&[&resumed[..], &["--max_steps", &end]].concat()).done();
}

/// With its outputs in files a run has no terminal to lose; `nohup` says the same.
#[test]
fn a_hang_up_does_not_end_a_run_without_a_terminal() {
    let work = Workspace::new();
    let config = work.config("run", &[("max_steps", "12"), ("save_steps", "1")]);
    let mut child = start(&["train", text(&config)], &work.path("errors"));
    let folder = work.path("run");
    until("it saves", || folder.join("checkpoint-1").exists());
    signal(child.id(), Signal::HUP);
    assert_eq!(child.wait().expect("ended").code(), Some(0));
    assert!(
        folder.join("checkpoint-12").exists(),
        "it went on to its end"
    );
}

/// Runs the program through a shell that closes or fills its outputs.
fn shell(redirection: &str, arguments: &[&str]) -> Option<i32> {
    let script = format!("\"$0\" \"$@\" {redirection}");
    let status = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_vision-ekipl")])
        .args(arguments)
        .stdin(Stdio::null())
        .status();
    status.expect("a shell").code()
}

#[cfg(target_os = "linux")]
#[test]
fn closed_and_full_outputs_end_nothing_early() {
    let work = Workspace::new();
    let errors = work.path("errors");
    let to_errors = format!("2>{}", errors.display());
    let dry = work.config("dry", &[]);
    let dry = ["train", text(&dry), "--dry-run"];
    let said = || fs::read_to_string(&errors).expect("readable");

    assert_eq!(shell(&format!(">/dev/full {to_errors}"), &dry), Some(1));
    assert!(
        said().contains("error: standard output cannot be written"),
        "{}",
        said()
    );
    assert_eq!(shell(&format!("{to_errors} | true"), &dry), Some(0));
    assert_eq!(said().find("panicked"), None, "{}", said());
    assert_eq!(shell("2>/dev/full", &["train", "absent.yaml"]), Some(1));
    assert_eq!(shell("2>/dev/full", &["nosuch"]), Some(2));
    for (index, full) in ["2>/dev/full", "2>&-", ">&-", "2>/dev/full >/dev/null"]
        .iter()
        .enumerate()
    {
        let name = format!("run-{index}");
        let config = work.config(&name, &[("max_steps", "1"), ("log_completions", "true")]);
        assert_eq!(shell(full, &["train", text(&config)]), Some(0), "{full}");
        assert!(work.path(&name).join("checkpoint-1").exists(), "{full}");
    }

    // What goes into a file is there, whatever becomes of the table.
    let config = work.config(
        "eval",
        &[("eval_dataset_name", &format!("[{}]", work.rows.display()))],
    );
    let model = crate::support::golden_path("qwen2vl-tiny");
    let output = work.path("result.json");
    let eval = [
        "eval",
        text(&config),
        "--model",
        text(&model),
        "--output",
        text(&output),
    ];
    let eval = [
        &eval[..],
        &["--max_eval_samples", "1", "--max_completion_length", "2"],
    ]
    .concat();
    assert_eq!(shell(&format!(">/dev/full {to_errors}"), &eval), Some(1));
    assert!(
        said().contains("standard output cannot be written"),
        "{}",
        said()
    );
    let result = fs::read_to_string(&output).expect("a result");
    assert!(result.ends_with("}\n"), "{result}");
}
