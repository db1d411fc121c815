//! Rows and files of `generate`, `score` and `eval` that cannot be used.

use serde_json::{Value, json};

use crate::support::golden_path;
use crate::support::program::{Said, program, text};
use crate::support::run::Workspace;

fn row() -> Value {
    json!({"id": "a", "messages": [{"role": "user", "content": "hi"}], "completion_ids": [5, 6]})
}

/// Runs `score` on a good row and the given second line; nothing may be written if it fails.
fn score(second: &str) -> Said {
    let work = Workspace::new();
    let (input, output) = (work.path("rows.jsonl"), work.path("scores.jsonl"));
    std::fs::write(&input, format!("{}\n{second}\n", row())).expect("written");
    let said = on_file("score", text(&input), text(&output));
    assert_eq!(output.exists(), said.code == Some(0), "{}", said.stderr);
    said
}

fn on_file(command: &str, input: &str, output: &str) -> Said {
    let model = golden_path("qwen2vl-tiny");
    let arguments = [
        command,
        "--model",
        text(&model),
        "--input",
        input,
        "--output",
        output,
    ];
    program(&[&arguments[..], &["--device", "cpu"]].concat())
}

#[test]
fn rows_that_cannot_be_scored() {
    score(&row().to_string()).done();
    let picture =
        json!([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]);
    for (key, value, words) in [
        (
            "completion_ids",
            json!([5, 928]),
            [
                "token 928 is outside the vocabulary of 928",
                "another model",
            ],
        ),
        (
            "completion_ids",
            json!([]),
            ["`completion_ids` is empty", "at least one token"],
        ),
        (
            "completion_ids",
            json!([-4]),
            ["must be a list of token ids", "integer `-4`"],
        ),
        (
            "completion_ids",
            json!(null),
            ["neither `completion` nor `completion_ids`", "add one"],
        ),
        (
            "completion_ids",
            json!(vec![5; 32_768]),
            ["the completion of 32768", "context length 32768"],
        ),
        (
            "messages",
            picture,
            [
                "have 1 image placeholders, the row has 0 images",
                "mend the rows",
            ],
        ),
        (
            "images",
            json!(["no.png"]),
            ["no.png` does not exist", "mend the rows"],
        ),
        (
            "messages",
            json!(3),
            [
                "`messages` must be text or a list of turns",
                "found a number",
            ],
        ),
    ] {
        let mut second = row();
        second[key] = value;
        score(&second.to_string()).refused(&[&["rows.jsonl:2"], &words[..]].concat());
    }
    score("{\"id\": ").refused(&["rows.jsonl:2: the line is not valid JSON", "EOF"]);
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let work = Workspace::new();
    let (rows, nowhere) = (work.path("rows.jsonl"), work.path("absent/out.jsonl"));
    for command in ["generate", "score"] {
        on_file(command, text(&nowhere), text(&rows)).refused(&["absent/out.jsonl", "--input"]);
        assert!(!rows.exists());
        std::fs::write(&rows, "\n").expect("written");
        on_file(command, text(&rows), text(&nowhere)).refused(&["rows.jsonl: no rows"]);
        let line = format!("{}\n", row());
        std::fs::write(&rows, &line).expect("written");
        on_file(command, text(&rows), text(&nowhere)).refused(&["cannot create", "folder exists"]);
        let words = ["--output names the file of --input", "name another file"];
        on_file(command, text(&rows), text(&rows)).refused(&words);
        assert_eq!(std::fs::read_to_string(&rows).expect("the rows"), line);
        if cfg!(target_os = "linux") {
            let words = [
                "/dev/full: cannot write: No space left on device",
                "the disk is not full",
            ];
            on_file(command, text(&rows), "/dev/full").refused(&words);
        }
        std::fs::remove_file(&rows).expect("removed");
    }
}

#[test]
fn evaluation_that_cannot_be_written_or_has_no_rows() {
    let work = Workspace::new();
    let rows = format!("[{}]", work.rows.display());
    let keys = [
        ("eval_dataset_name", rows.as_str()),
        ("max_completion_length", "2"),
    ];
    let config = work.config("run", &keys);
    let model = golden_path("qwen2vl-tiny");
    let eval = ["eval", text(&config), "--model", text(&model)];
    let nowhere = work.path("absent/result.json");
    let said = program(&[&eval[..], &["--output", text(&nowhere)]].concat());
    said.refused(&["absent/result.json: cannot be written", "check --output"]);
    assert_eq!(said.stdout, "", "it is found before the work");
    if cfg!(target_os = "linux") {
        let said = program(&[&eval[..], &["--output", "/dev/full"]].concat());
        said.refused(&["/dev/full: cannot be written: No space left on device"]);
        assert!(
            said.stdout.contains("accuracy"),
            "the table is not lost\n{}",
            said.stdout
        );
    }
    let absent = work.path("absent.json");
    program(&[&eval[..], &["--eval_dataset_name", text(&absent)]].concat())
        .refused(&["absent.json"]);
    let folder = work.path("");
    let keys = ["--eval_dataset_name", "[]", "--dataset_name", text(&folder)];
    let said = program(&[&eval[..], &keys].concat());
    said.refused(&["no file of the split `test`", "name the file itself"]);
}
