//! Rows of the six layouts, recorded answers, records of servers' answers, rollout files.

use std::collections::HashSet;
use std::fs;

use serde_json::{Value, json};
use vision_ekipl::actions::teacher::endpoint::{RecordFile, RecordMode};
use vision_ekipl::actions::teacher::{RecordedOptions, RecordedTeacher};
use vision_ekipl::data::dataset::{Dataset, DatasetOptions};
use vision_ekipl::record::{Example, Task};
use vision_ekipl::run::rollout_file::{self, Accepted};

use super::{World, assert_is_a_message, each_case, golden};

fn lines(rows: &[Value]) -> Vec<u8> {
    let lines: Vec<String> = rows.iter().map(Value::to_string).collect();
    (lines.join("\n") + "\n").into_bytes()
}

/// Two rows of each layout, as lines and as a list.
fn layouts() -> Vec<Vec<u8>> {
    let turn = |role: &str, content: Value| json!({"role": role, "content": content});
    let parts = json!([{"type": "image"}, {"type": "text", "text": "How many?"}]);
    let tagged = "<image> How many red things?";
    let rows = [
        json!({"id": "a", "image": "plain.png", "problem": "How many?", "solution": "<answer> 3 </answer>", "cot": "One, two, three."}),
        json!({"id": "b", "images": ["plain.png"], "problem": tagged, "answer": "3"}),
        json!({"id": "c", "image": "plain.png", "prompt": [turn("system", json!("See.")), turn("user", parts.clone())], "solution": "3"}),
        json!({"id": "d", "images": [{"bytes": null, "path": "plain.png"}], "prompt": [turn("user", json!(tagged))], "reward_model": {"style": "rule", "ground_truth": "3"}}),
        json!({"id": "e", "images": ["plain.png"], "messages": [turn("user", parts), turn("assistant", json!("3"))]}),
        json!({"id": 6, "image": "plain.png", "conversations": [{"from": "human", "value": tagged}, {"from": "gpt", "value": "3"}]}),
    ];
    let one = |row: &Value| {
        let mut second = row.clone();
        second["id"] = json!("second");
        vec![row.clone(), second]
    };
    let mut seeds: Vec<Vec<u8>> = rows.iter().map(|row| lines(&one(row))).collect();
    seeds.extend(
        rows.iter()
            .map(|row| json!(one(row)).to_string().into_bytes()),
    );
    seeds
}

#[test]
fn data_rows() {
    let picture = golden("images/plain.png");
    each_case("rows", 2500, &layouts(), move |input| {
        let world = World::new();
        world.write("plain.png", &picture);
        let name = if input.trim_ascii_start().starts_with(b"[") {
            "rows.json"
        } else {
            "rows.jsonl"
        };
        let file = world.write(name, input);
        let options = DatasetOptions {
            files: vec![file],
            task: Some(Task::Counting),
            max_rejected_fraction: 1.0,
            ..DatasetOptions::default()
        };
        match world.keeps(|| Dataset::load(&options, &|_: &Example| Ok(()))) {
            Ok(dataset) => {
                let ids: HashSet<&str> =
                    dataset.examples.iter().map(|one| one.id.as_str()).collect();
                assert_eq!(ids.len(), dataset.examples.len(), "ids are unique");
                let all = dataset.examples.len() + dataset.rejected.len();
                if let Some(rows) = rows_in(input) {
                    assert_eq!(all, rows, "each row is used or rejected");
                }
                for row in &dataset.rejected {
                    assert_is_a_message(&row.to_string());
                }
            }
            Err(error) => assert_is_a_message(&error.to_string()),
        }
    });
}

/// Items of a list, or lines that are not blank; `None` of a list that this test cannot read whole, such as one that is
/// nested deeper than `serde_json` goes.
fn rows_in(input: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(input);
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.starts_with('[') {
        let items = serde_json::from_str::<Vec<Value>>(text).ok()?;
        return Some(items.len());
    }
    let lines = text.split('\n').filter(|line| !line.trim().is_empty());
    Some(lines.count())
}

#[test]
fn recorded_answers() {
    let seeds = [
        lines(&[
            json!({"id": "a", "source": "expert", "text": "<think>\n1\n</think>\n<answer>\n3\n</answer>"}),
            json!({"id": "b", "text": "3", "finish_reason": "length"}),
        ]),
        lines(&[
            json!({"id": "a", "source": "x", "text": "1"}),
            json!({"id": "a", "source": "y", "text": "2"}),
        ]),
    ];
    each_case("recorded-answers", 1500, &seeds, |input| {
        let world = World::new();
        let path = world.write("actions.jsonl", input);
        let options = RecordedOptions {
            name: "expert".to_owned(),
            path,
            num_actions: 2,
        };
        if let Err(error) = world.keeps(|| RecordedTeacher::open(options)) {
            assert_is_a_message(&error.to_string());
        }
    });
}

/// A line as a run writes it.
fn record() -> Vec<u8> {
    lines(&[json!({
        "key": "5e884898da28047151d0e56f8dc6292773603d0d6aabbd62a11ef721d1542d8a",
        "name": "expert", "model": "m", "base_url": "http://127.0.0.1:9/v1",
        "parameters": {"temperature": 0.2, "max_tokens": 1024}, "prompt_id": "a", "sample_index": 0,
        "text": "<answer> 3 </answer>", "finish_reason": "stop",
        "logprobs": {"tokens": ["3", [240, 159]], "logprobs": [-0.1, -0.2]},
        "usage": {"prompt_tokens": 50, "completion_tokens": 9},
        "price": 0.001, "latency_s": 0.5, "created": 1_790_000_000_u64,
    })])
}

#[test]
fn records_of_servers_answers() {
    let seeds = [
        record(),
        record().repeat(2),
        b"[{\"id\": 1, \"problem\": \"json.dump writes no final line end\"}]".to_vec(),
    ];
    each_case("records", 1500, &seeds, |input| {
        for mode in [RecordMode::Replay, RecordMode::Auto, RecordMode::Record] {
            let world = World::new();
            let path = world.output().join("record.jsonl");
            fs::write(&path, input).expect("written");
            let opened = world.keeps(|| RecordFile::open(Some(&path), mode));
            let left = fs::read(&path).expect("readable");
            match opened {
                // A half line that a killed run left may be cut; whole lines stay.
                Ok(_) => {
                    let whole = input
                        .iter()
                        .rposition(|byte| *byte == b'\n')
                        .map_or(0, |at| at + 1);
                    assert!(
                        left.starts_with(&input[..whole]),
                        "{mode:?}: whole lines were lost"
                    );
                }
                Err(error) => {
                    assert_is_a_message(&error.to_string());
                    assert!(left == input, "{mode:?}: a refused file was changed");
                }
            }
        }
    });
}

#[test]
fn rollout_files() {
    let row = |step: u64, source: &str| {
        json!({"step": step, "id": "a", "source": source, "completion_ids": [27, 3, 9], "reward": 1.0,
               "old_logprobs": [-0.1, -0.2, -0.3], "sampling_logprobs": [-0.1, -0.2, -0.3]})
    };
    let seeds = [lines(&[
        row(1, "policy"),
        row(1, "expert"),
        row(2, "policy"),
    ])];
    each_case("rollouts", 2000, &seeds, |input| {
        let world = World::new();
        let path = world.write("rollouts.jsonl", input);
        let accepted = Accepted {
            ids: HashSet::from(["a"]),
            vocabulary: 300,
            max_completion_length: 16,
        };
        match world.keeps(|| rollout_file::read(&path, &accepted)) {
            Ok(steps) => {
                for rows in steps {
                    let count = rows.len();
                    let groups = rollout_file::groups(rows, 2);
                    assert_eq!(groups.iter().map(Vec::len).sum::<usize>(), count);
                }
            }
            Err(error) => assert_is_a_message(&error.to_string()),
        }
    });
}
