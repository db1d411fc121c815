//! Data files without usable rows, rows that are left out, and files that belong to other rows.

use std::path::Path;

use serde_json::{Value, json};

use crate::support::program::{edit_json, program, refused_by, text, training_refused};
use crate::support::run::{Workspace, json_lines, names};

/// Writes a data file and expects `train` to refuse it in these words.
fn file_refused(name: &str, content: &str, words: &[&str]) {
    let work = Workspace::new();
    let path = work.path(name);
    std::fs::write(&path, content).expect("written");
    let mut words = words.to_vec();
    words.push(name);
    training_refused(&work, "run", &[("dataset_name", text(&path))], &words);
}

#[test]
fn a_data_set_without_rows() {
    file_refused("rows.json", "[]", &["the data set is empty"]);
    file_refused("rows.jsonl", "\n", &["the data set is empty"]);
    file_refused(
        "rows.json",
        "[{\"id\": 1, \"prob",
        &["not a valid JSON list", "column"],
    );
    file_refused(
        "rows.json",
        "3",
        &["expected a JSON list of rows", "text that begins with `3`"],
    );
    file_refused(
        "rows.json",
        "[{\"question\": \"?\"}]",
        &["unknown row layout", "question", "`problem`"],
    );
    let work = Workspace::new();
    let absent = work.path("absent.json");
    let keys = [("dataset_name", text(&absent))];
    let words = ["absent.json: no such data file", "check `dataset_name`"];
    training_refused(&work, "run", &keys, &words);
}

#[test]
fn fewer_rows_than_a_batch_of_prompts() {
    let work = Workspace::new();
    edit_json(&work.rows, |rows| {
        rows.as_array_mut().expect("rows").truncate(1);
    });
    let words = [
        "the data set has 1 usable rows",
        "takes 2 different prompts",
        "per_device_train_batch_size",
    ];
    let keys = [
        ("per_device_train_batch_size", "8"),
        ("num_generations", "4"),
    ];
    training_refused(&work, "run", &keys, &words);
}

#[test]
fn rows_that_lack_something() {
    for (edit, reason) in [
        (
            json!({"solution": null, "answer": null}),
            "no `solution` or `answer`",
        ),
        (json!({"image": 3}), "a picture must be a path"),
        (json!({"id": "train-1"}), "the id is already used by"),
    ] {
        let work = Workspace::new();
        edit_json(&work.rows, |rows| {
            let row = rows[4].as_object_mut().expect("a row");
            row.extend(edit.as_object().expect("keys").clone());
            row.retain(|_, value| !value.is_null());
        });
        let place = format!("{}:5 (id `", work.rows.display());
        training_refused(&work, "run", &[], &["1 of 10 rows", &place, reason]);
    }
}

/// Three of ten rows are bad: a fifth is too few to allow, three tenths is enough.
#[test]
fn rejected_rows_are_counted_and_named() {
    let work = Workspace::new();
    let break_rows = |rows: &mut Value| (3..6).for_each(|row| rows[row]["image"] = json!("no.png"));
    edit_json(&work.rows, break_rows);
    let words = [
        "3 of 10 rows cannot be used, `max_rejected_fraction` is 0.2",
        "train-5",
    ];
    let short = ("max_steps", "1");
    training_refused(
        &work,
        "run",
        &[("max_rejected_fraction", "0.2"), short],
        &words,
    );
    let listed = |count: usize| {
        let rejected = json_lines(&work.path("run").join("rejected_rows.jsonl"));
        let rows: Vec<u64> = rejected
            .iter()
            .filter_map(|row| row["row"].as_u64())
            .collect();
        assert_eq!(rows, [4, 5, 6][..count], "{rejected:?}");
    };
    listed(3);

    // The same command again, with a limit that allows them: the list is no earlier run.
    let config = work.config("run", &[("max_rejected_fraction", "0.3"), short]);
    let said = program(&["train", text(&config)]);
    assert!(
        said.stderr.contains("3 of 10 rows are left out"),
        "{}",
        said.stderr
    );
    said.done();
    listed(3);
    assert!(names(&work.path("run")).contains(&"checkpoint-1".to_owned()));

    let overwrite = ["train", text(&config), "--overwrite_output_dir", "true"];
    program(&overwrite).done();
    listed(3);

    edit_json(&work.rows, |rows| {
        (3..6).for_each(|row| rows[row]["image"] = rows[0]["image"].clone())
    });
    program(&overwrite).done();
    let left = names(&work.path("run"));
    assert!(
        !left.contains(&"rejected_rows.jsonl".to_owned()),
        "{left:?}"
    );
}

#[test]
fn supervised_targets() {
    let work = Workspace::new();
    let words = [
        "rows `train-0`".replace("rows", "row"),
        "`max_completion_length` is 4".into(),
    ];
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let short = [("max_completion_length", "4")];
    refused_by(
        "sft",
        &work,
        "long",
        &short,
        &[&words[..], &["a target is never cut"]].concat(),
    );
    edit_json(&work.rows, |rows| {
        rows[2].as_object_mut().expect("a row").remove("cot");
    });
    let words = [":3: row `train-2`: no `cot`", "sft_target: answer"];
    refused_by(
        "sft",
        &work,
        "bare",
        &[("max_completion_length", "64")],
        &words,
    );
}

#[test]
fn recorded_actions_of_an_example_that_is_missing() {
    let work = Workspace::new();
    let lines = std::fs::read_to_string(&work.expert).expect("actions");
    let kept: Vec<&str> = lines
        .lines()
        .filter(|line| !line.contains("\"train-7\""))
        .collect();
    let path = work.path("actions.jsonl");
    let external = format!("[{{name: expert, path: {}}}]", path.display());
    let keys = [("external", external.as_str())];
    training_refused(
        &work,
        "run",
        &keys,
        &["actions.jsonl", "`expert`", "No such file"],
    );
    std::fs::write(&path, kept.join("\n")).expect("written");
    let words = [
        "actions.jsonl: no action of `expert` for example `train-7`",
        "9 ids",
    ];
    training_refused(&work, "run", &keys, &words);
    std::fs::write(&path, "[\n").expect("written");
    training_refused(
        &work,
        "run",
        &keys,
        &["actions.jsonl:1: ", "expected an action"],
    );
}

fn rollouts(path: &Path, rows: &[Value]) {
    let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path, lines.concat()).expect("written");
}

#[test]
fn rollouts_of_another_run() {
    let work = Workspace::new();
    let path = work.path("rollouts.jsonl");
    let keys = [
        ("replay_rollouts", text(&path)),
        ("max_completion_length", "16"),
    ];
    let row = json!({"step": 1, "id": "train-0", "source": "policy", "completion_ids": [5, 6], "reward": 1.0});
    for (key, value, words) in [
        (
            "id",
            json!("train-99"),
            ["`train-99` is no example", "the data set that"],
        ),
        (
            "completion_ids",
            json!([5, 928]),
            ["token 928 of `train-0`", "vocabulary of 928"],
        ),
        (
            "completion_ids",
            json!(vec![5; 17]),
            ["has 17 tokens, `max_completion_length` is 16", "raise"],
        ),
        (
            "completion_ids",
            json!([]),
            ["`completion_ids` of `train-0` is empty", "each line is"],
        ),
        (
            "old_logprobs",
            json!([-1.0]),
            ["has 1 values for 2 tokens", "each line is"],
        ),
        ("step", json!("one"), ["invalid type", "each line is"]),
    ] {
        let mut second = row.clone();
        second[key] = value;
        rollouts(&path, &[row.clone(), second]);
        training_refused(
            &work,
            "run",
            &keys,
            &[&["rollouts.jsonl:2: "], &words[..]].concat(),
        );
    }
}
