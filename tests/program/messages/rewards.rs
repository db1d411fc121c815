//! Programs that reward, and do not.

use crate::support::program::{program, text, training_refused};
use crate::support::run::{Workspace, json_lines};

#[test]
fn programs_that_cannot_be_started_are_found_before_the_first_step() {
    let work = Workspace::new();
    for (entry, words) in [
        (
            "{name: judge, command: [no-such-program-here]}",
            ["reward `judge` (`no-such-program-here`)", "was not found"],
        ),
        (
            "{name: judge, command: python3 judge.py}",
            ["`reward_funcs[0].command` is ", "write it as a list"],
        ),
        (
            "{name: reward, command: [judge]}",
            [
                "`reward_funcs[0].name` is ",
                "no column of the completions log",
            ],
        ),
        (
            "{name: judge}",
            [
                "`reward_funcs[0].command` is missing",
                "The program and its arguments",
            ],
        ),
    ] {
        training_refused(
            &work,
            "run",
            &[("reward_funcs", &format!("[{entry}]"))],
            &words,
        );
    }
}

#[cfg(unix)]
#[test]
fn a_program_that_ends_stops_the_run_with_the_reason() {
    let work = Workspace::new();
    let script = "read -r line; echo '[0, 1, 0, 1, 0, 1, 0, 1]'; echo out of memory >&2; exit 3";
    let entry = format!("[{{name: judge, command: [sh, -c, \"{script}\"], max_restarts: 0}}]");
    let keys = [("reward_funcs", entry.as_str()), ("save_steps", "1")];
    let config = work.config("run", &keys);
    let said = program(&["train", text(&config)]);
    said.refused(&[
        "reward `judge`",
        "it ended (exit status: 3) without an answer",
        "\n  out of memory",
    ]);
    let rows = json_lines(&work.path("run").join("metrics.jsonl"));
    assert_eq!(rows.len(), 1, "the first step is not lost");
    assert!(work.path("run").join("checkpoint-1").exists());
}
