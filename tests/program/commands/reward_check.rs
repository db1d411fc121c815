//! `reward-check`, and rewards from a program of the user's.

use serde_json::{Value, json};

use crate::support::program::{Said, program, text};
use crate::support::run::{ROWS, Workspace, json_lines};

/// `reward_funcs` with a program that answers every batch of eight alike.
#[cfg(unix)]
const JUDGED: &str = r#"[accuracy, {name: judge, command: [sh, -c, "while read -r line; do echo '[0, 1, 0, 1, 0, 1, 0, null]'; done"]}]"#;

fn check(work: &Workspace, keys: &[(&str, &str)], file: &str, more: &[&str]) -> Said {
    let config = work.config("check", keys);
    let arguments = ["reward-check", text(&config), "--completions", file];
    program(&[&arguments[..], more].concat())
}

#[test]
fn recorded_actions_are_shown_with_answer_gold_verdict_and_rewards() {
    let work = Workspace::new();
    let keys = [("reward_funcs", "[accuracy, format]")];
    let printed = check(&work, &keys, text(&work.expert), &[]).done();
    let summary = "10 completions: 7 (70.0 %) pass, 0 (0.0 %) without <answer> tags\n";
    assert!(printed.ends_with(summary), "{printed}");
    let first = &json_lines(&work.expert)[0];
    let begin = format!(
        "{}:1 (id `{}`) by ",
        work.expert.display(),
        first["id"].as_str().expect("an id")
    );
    assert!(printed.starts_with(&begin), "{printed}");
    for part in [
        "  | <think>",
        "\n  answer: ",
        "\n  gold: ",
        "\n  rewards: accuracy ",
        "; weighted sum ",
    ] {
        assert_eq!(printed.matches(part).count(), ROWS, "{part} in {printed}");
    }
    assert!(
        printed.contains("\nreward          mean  null\n"),
        "{printed}"
    );
    assert!(
        printed.contains("\naccuracy      0.7000     0\n"),
        "{printed}"
    );
}

#[test]
fn json_holds_the_same_and_a_limit_counts_from_the_top() {
    let work = Workspace::new();
    let (id, other) = {
        let rows = json_lines(&work.expert);
        (rows[0]["id"].clone(), rows[1]["id"].clone())
    };
    let file = work.path("mine.jsonl");
    let rows = [
        json!({"id": id, "completion": "no tags"}),
        json!({"id": "nobody", "completion": "3"}),
        json!({"id": other, "source": "expert", "text": "<answer>-1</answer>"}),
        json!({"id": other, "text": "never read"}),
    ];
    std::fs::write(&file, rows.map(|row| format!("{row}\n")).concat()).expect("written");
    let keys = [
        ("reward_funcs", "[format, trance, repetition_penalty]"),
        ("reward_weights", "[2, 1, 0]"),
    ];
    let printed = check(&work, &keys, text(&file), &["--json", "--limit", "3"]).done();
    let found: Value = serde_json::from_str(&printed).expect("JSON");
    let completions = found["completions"].as_array().expect("a list");
    assert_eq!(completions.len(), 2);
    let brief = |one: &Value| {
        (
            one["answer"].clone(),
            one["passes"].clone(),
            one["rewards"]["trance"].clone(),
        )
    };
    assert_eq!(
        brief(&completions[0]),
        (json!(null), json!(false), json!(null))
    );
    assert_eq!(
        brief(&completions[1]),
        (json!("-1"), json!(false), json!(null))
    );
    assert_eq!(completions[1]["source"], "expert");
    assert!(
        completions[0]["rewards"]["repetition_penalty"].is_number(),
        "the model's tokenizer was found"
    );
    assert_eq!(found["summary"]["without_answer_tags"], 1);
    assert_eq!(
        found["summary"]["rewards"]["trance"],
        json!({"mean": null, "null": 2})
    );
    let place = format!("{}:2", file.display());
    assert_eq!(
        found["left_out"],
        json!([{"place": place, "id": "nobody", "reason": "the data set has no such id"}])
    );

    // Without the model's folder everything but rewards of tokens is as before.
    let keys = [&keys[..], &[("model_name_or_path", "nowhere")]].concat();
    let said = check(&work, &keys, text(&file), &["--json", "--limit", "3"]);
    assert!(
        said.stderr.contains("without a tokenizer"),
        "{}",
        said.stderr
    );
    let without: Value = serde_json::from_str(&said.done()).expect("JSON");
    assert_eq!(
        without["completions"][0]["rewards"]["repetition_penalty"],
        json!(null)
    );
    assert_eq!(
        without["completions"][0]["rewards"]["format"],
        completions[0]["rewards"]["format"]
    );
}

#[test]
fn completions_that_cannot_be_checked() {
    let work = Workspace::new();
    let file = work.path("mine.jsonl");
    check(&work, &[], text(&file), &[])
        .refused(&["mine.jsonl: cannot be read", "check --completions"]);
    std::fs::write(&file, "{\"id\": \"x\", \"completion\": \"3\"}\n{\"id\": ").expect("written");
    check(&work, &[], text(&file), &[]).refused(&["mine.jsonl:2: not a completion", "EOF"]);
    let words = [
        "none of its 1 completions belongs to a row of ",
        "mine.jsonl:1 (id `x`): the data set has no such id",
        "--dataset_name",
    ];
    check(&work, &[], text(&file), &["--limit", "1"]).refused(&words);
    let keys = [(
        "reward_funcs",
        "[{name: judge, command: [no-such-program-here]}]",
    )];
    check(&work, &keys, text(&work.expert), &[]).refused(&[
        "reward `judge`",
        "was not found",
        "PATH",
    ]);
}

#[cfg(unix)]
#[test]
fn a_program_that_fails_ends_the_check_with_its_own_words() {
    let work = Workspace::new();
    let keys = [(
        "reward_funcs",
        "[{name: judge, command: [sh, -c, 'echo no judge today >&2; exit 3'], max_restarts: 1}]",
    )];
    let said = check(&work, &keys, text(&work.expert), &[]);
    let words = [
        "reward `judge` (`sh -c ",
        "it ended (exit status: 3) without an answer, also after it was started again",
        "\n  no judge today",
    ];
    said.refused(&words);
    assert!(
        said.stderr
            .contains("it is started again (1 of at most 1 times"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stdout, "");
}

/// What training logged, `reward-check` finds again.
#[cfg(unix)]
#[test]
fn a_run_with_a_program_and_its_completions_checked_again() {
    let work = Workspace::new();
    let keys = [
        ("reward_funcs", JUDGED),
        ("reward_weights", "[1, 0.5]"),
        ("max_steps", "2"),
        ("save_steps", "2"),
    ];
    let run = work.train("judged", &keys);
    let metrics = json_lines(&run.join("metrics.jsonl"));
    let mean = metrics[0]["rewards/judge/mean"].as_f64().expect("a mean");
    assert!((mean - 3.0 / 7.0).abs() < 1e-6, "null is left out: {mean}");
    let file = run.join("completions.jsonl");
    let said = check(&work, &keys, text(&file), &["--json"]);
    let found: Value = serde_json::from_str(&said.done()).expect("JSON");
    let logged = json_lines(&file);
    assert_eq!(found["completions"].as_array().map(Vec::len), Some(16));
    for (one, row) in found["completions"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(&logged)
    {
        for name in ["accuracy", "judge"] {
            assert_eq!(one["rewards"][name], row[name], "{name} of {row:?}");
        }
        assert_eq!(one["reward"], row["reward"], "{row:?}");
    }
}
