//! `generate` and `score` against what transformers computes for the same rows.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::support::program::{program, text};
use crate::support::run::json_lines;
use crate::support::{Golden, assert_close, golden_path};

const GOLDEN: &str = "golden-qwen2vl-tiny";
/// `<|im_end|>`, with which given text is ended.
const END: u32 = 898;

fn with_model(command: &str, arguments: &[&str]) -> String {
    let model = golden_path("qwen2vl-tiny");
    let always = [command, "--model", text(&model), "--device", "cpu"];
    program(&[&always[..], arguments].concat()).done()
}

/// The golden prompts as rows, beside copies of their pictures.
fn golden_rows(folder: &Path) -> Vec<Map<String, Value>> {
    let file = std::fs::read(golden_path(&format!("{GOLDEN}.json"))).expect("a golden file");
    let golden: Value = serde_json::from_slice(&file).expect("JSON");
    std::fs::create_dir(folder.join("pictures")).expect("a folder");
    let prompts = golden["prompts"].as_array().expect("prompts").iter();
    prompts
        .map(|prompt| {
            let files = prompt["image_files"].as_array().expect("files").iter();
            let images = files.map(|name| {
                let beside = format!("pictures/{}", name.as_str().expect("a name"));
                let from = golden_path("images").join(&beside["pictures/".len()..]);
                std::fs::copy(from, folder.join(&beside)).expect("a copied picture");
                json!(beside)
            });
            let images: Value = images.collect();
            let row = json!({"id": prompt["id"], "messages": prompt["messages"], "images": images,
                             "completion": prompt["completion"]});
            row.as_object().expect("a row").clone()
        })
        .collect()
}

fn write_rows(path: &Path, rows: &[Map<String, Value>]) {
    let lines = rows
        .iter()
        .map(|row| Value::Object(row.clone()).to_string() + "\n");
    std::fs::write(path, lines.collect::<String>()).expect("written rows");
}

fn ids(row: &Map<String, Value>, key: &str) -> Vec<u32> {
    serde_json::from_value(row[key].clone()).expect("token ids")
}

fn numbers(row: &Map<String, Value>, key: &str) -> Vec<f32> {
    serde_json::from_value(row[key].clone()).expect("numbers")
}

/// Scores rows at a temperature, and checks id and prompt of each result.
fn scored(
    folder: &Path,
    rows: &[Map<String, Value>],
    temperature: &str,
) -> Vec<Map<String, Value>> {
    let (input, output) = (folder.join("rows.jsonl"), folder.join("scores.jsonl"));
    write_rows(&input, rows);
    let files = ["--input", text(&input), "--output", text(&output)];
    with_model(
        "score",
        &[&files[..], &["--temperature", temperature, "--overwrite"]].concat(),
    );
    let results = json_lines(&output);
    assert_eq!(results.len(), rows.len(), "one result per row");
    let golden = Golden::open(&format!("{GOLDEN}.safetensors"));
    for (result, row) in results.iter().zip(rows) {
        assert_eq!(result["id"], row["id"]);
        let prompt = golden.ids(&format!("{}.input_ids", row["id"].as_str().expect("an id")));
        assert_eq!(ids(result, "prompt_ids"), prompt);
        assert!(!result.contains_key("finish_reason"));
    }
    results
}

#[test]
fn score_gives_the_log_probabilities_of_transformers() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = Golden::open(&format!("{GOLDEN}.safetensors"));
    let rows = golden_rows(folder.path());
    let given_ids: Vec<Map<String, Value>> = rows
        .iter()
        .map(|row| {
            let name = row["id"].as_str().expect("an id");
            let mut row = row.clone();
            row.remove("completion");
            let completion = golden.ids(&format!("{name}.completion_ids"));
            row.insert("completion_ids".to_owned(), json!(completion));
            row
        })
        .collect();
    for temperature in ["1.0", "0.7"] {
        for result in scored(folder.path(), &given_ids, temperature) {
            let id = result["id"].as_str().expect("an id");
            let expected =
                |what: &str| golden.f64(&format!("{id}.completion_{what}_t{temperature}"));
            assert_eq!(
                ids(&result, "completion_ids"),
                golden.ids(&format!("{id}.completion_ids"))
            );
            for (key, what) in [("logprobs", "logps"), ("entropies", "entropies")] {
                let name = format!("{id} {key} at {temperature}");
                assert_close(&name, &numbers(&result, key), expected(what), 3e-4);
            }
        }
    }
}

/// Text becomes the same tokens, and an end token that it must not spell out itself.
#[test]
fn score_takes_text_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = Golden::open(&format!("{GOLDEN}.safetensors"));
    let mut rows = golden_rows(folder.path());
    for row in &mut rows {
        let completion = row["completion"].as_str().expect("text");
        let plain = completion.trim_end_matches("<|im_end|>").to_owned();
        row.insert("completion".to_owned(), json!(plain));
    }
    let results = scored(folder.path(), &rows, "1.0");
    for (result, row) in results.iter().zip(&rows) {
        let id = row["id"].as_str().expect("an id");
        let mut expected = golden.ids(&format!("{id}.completion_ids"));
        if expected.last() != Some(&END) {
            expected.push(END);
        }
        assert_eq!(ids(result, "completion_ids"), expected, "{id}");
        assert_eq!(result["text"], row["completion"], "{id}");
        let logprobs = numbers(result, "logprobs");
        let golden = golden.f64(&format!("{id}.completion_logps_t1.0"));
        assert_close(id, &logprobs[..golden.len()], golden, 3e-4);
    }
}

#[test]
fn greedy_rows_are_those_of_transformers_and_score_agrees() {
    let folder = tempfile::tempdir().expect("a folder");
    let golden = Golden::open(&format!("{GOLDEN}.safetensors"));
    let mut rows = golden_rows(folder.path());
    let (input, output) = (
        folder.path().join("in.jsonl"),
        folder.path().join("out.jsonl"),
    );
    write_rows(&input, &rows);
    let files = ["--input", text(&input), "--output", text(&output)];
    let how = [
        "--max-new-tokens",
        "24",
        "--suppress-vision-tokens",
        "false",
    ];
    with_model("generate", &[&files[..], &how].concat());
    let results = json_lines(&output);
    assert_eq!(results.len(), 5, "p0..p4");
    for (result, row) in results.iter().zip(&mut rows) {
        let id = row["id"].as_str().expect("an id").to_owned();
        assert_eq!(result["id"], id);
        assert_eq!(result["finish_reason"], "length", "{id}");
        assert!(!result.contains_key("entropies"));
        assert_eq!(
            ids(result, "prompt_ids"),
            golden.ids(&format!("{id}.input_ids"))
        );
        let completion = ids(result, "completion_ids");
        assert_eq!(completion, golden.ids(&format!("{id}.greedy_ids")), "{id}");
        row.remove("completion");
        row.insert("completion_ids".to_owned(), json!(completion));
    }
    for (result, again) in results.iter().zip(scored(folder.path(), &rows, "1.0")) {
        let expected: Vec<f64> = numbers(&again, "logprobs")
            .into_iter()
            .map(f64::from)
            .collect();
        assert_close(
            "decoding and scoring",
            &numbers(result, "logprobs"),
            &expected,
            1e-4,
        );
        assert_eq!(result["text"], again["text"]);
    }
}

#[test]
fn generate_completes_one_prompt_with_a_picture() {
    let golden = Golden::open(&format!("{GOLDEN}.safetensors"));
    let picture = golden_path("images/badge.png");
    let prompt = [
        "--prompt",
        "Which shape is the largest?",
        "--image",
        text(&picture),
    ];
    let how = [
        "--max_completion_length",
        "24",
        "--suppress-vision-tokens",
        "false",
    ];
    let greedy = [&prompt[..], &how].concat();
    let printed = with_model("generate", &[&greedy[..], &["--json"]].concat());
    let result: Map<String, Value> = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!(ids(&result, "prompt_ids"), golden.ids("p1.input_ids"));
    assert_eq!(ids(&result, "completion_ids"), golden.ids("p1.greedy_ids"));
    assert_eq!(numbers(&result, "logprobs").len(), 24);
    let plain = with_model("generate", &greedy);
    assert_eq!(
        plain,
        format!("{}\n", result["text"].as_str().expect("text"))
    );

    let drawn = |seed: &str| {
        let how = [
            "--temperature",
            "1",
            "--max-new-tokens",
            "12",
            "--seed",
            seed,
        ];
        with_model("generate", &[&prompt[..], &how].concat())
    };
    assert_eq!(drawn("1"), drawn("1"), "the same seed gives the same text");
    assert_ne!(drawn("1"), drawn("2"), "another seed gives another text");
}
