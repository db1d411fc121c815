//! Files as other programs leave them: every command that reads rows reads them, or says what they are.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::support::golden_path;
use crate::support::program::{edit_json, program, text};
use crate::support::run::{Workspace, json_lines};
use crate::support::server::Server;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

/// The text as other programs write it.
fn written_elsewhere(text: &str) -> Vec<(&'static str, Vec<u8>)> {
    let windows = text.replace('\n', "\r\n");
    let marked = format!("\u{feff}{windows}");
    let utf16 = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
    vec![
        ("marked, with carriage returns", marked.into_bytes()),
        ("UTF-16", utf16),
        ("gzip", gzip(windows.as_bytes())),
    ]
}

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

/// Runs `score` and gives the log-probabilities of each row.
fn scored(work: &Workspace, input: &Path) -> Vec<Value> {
    let (model, output) = (golden_path("qwen2vl-tiny"), work.path("scores.jsonl"));
    let device = ["score", "--model", text(&model), "--device", "cpu"];
    let files = [
        "--input",
        text(input),
        "--output",
        text(&output),
        "--overwrite",
    ];
    program(&[&device[..], &files[..]].concat()).done();
    json_lines(&output)
        .iter()
        .map(|row| row["logprobs"].clone())
        .collect()
}

#[test]
fn text_written_elsewhere_is_read_by_every_command() {
    let work = Workspace::new();
    let rows: Vec<Value> =
        serde_json::from_slice(&std::fs::read(&work.rows).expect("rows")).expect("JSON");
    let ask = json!([{"role": "user", "content": "wie groß?"}]);
    let to_score = lines(&[
        json!({"id": 1, "messages": ask, "completion": "3"}),
        json!({"messages": ask, "completion_ids": [5, 6]}),
    ]);
    let plain = work.path("plain rows.jsonl");
    std::fs::write(&plain, &to_score).expect("written");
    let expected = scored(&work, &plain);
    let completion = json!({"id": rows[0]["id"], "completion": "<answer>3</answer>"});
    for index in 0..3 {
        let put = |name: &str, content: &str| {
            let (form, bytes) = written_elsewhere(content).swap_remove(index);
            // Any name will do: the content tells.
            let path = work.path(&format!("größe {form} {name}"));
            std::fs::write(&path, bytes).expect("written");
            path
        };
        assert_eq!(scored(&work, &put("score.jsonl", &to_score)), expected);
        let config = work.config("check", &[]);
        let completions = put(
            "completions.jsonl",
            &lines(std::slice::from_ref(&completion)),
        );
        let check = [
            "reward-check",
            text(&config),
            "--completions",
            text(&completions),
            "--json",
        ];
        assert!(program(&check).done().contains("\"accuracy\""));
        for content in [
            lines(&rows),
            serde_json::to_string_pretty(&rows).expect("JSON"),
        ] {
            let data = put("data.json", &content);
            let actions = put(
                "actions.jsonl",
                &std::fs::read_to_string(&work.expert).expect("actions"),
            );
            let external = format!("[{{name: expert, path: \"{}\"}}]", text(&actions));
            let folder = work.rows.parent().expect("a folder");
            let keys = [
                ("dataset_name", text(&data)),
                ("image_dir", text(folder)),
                ("external", external.as_str()),
            ];
            let config = work.config("dry", &keys);
            let said = program(&["train", text(&config), "--dry-run"]).done();
            assert!(said.contains("# 10 rows (0 rejected)"), "{said}");
        }
    }
}

#[test]
fn score_reads_every_form_of_a_message() {
    let work = Workspace::new();
    let picture = golden_path("images/badge.png");
    std::fs::copy(picture, work.path("ein bild 図.png")).expect("copied");
    let name = "ein bild 図.png";
    let ids = json!([10, 20, 898]);
    let ask = |parts: Value| json!([{"role": "user", "content": parts}]);
    let words = json!({"type": "text", "text": "How many?"});
    let rows = [
        json!({"id": "list", "messages": ask(json!([{"type": "image"}, words])), "images": [name], "completion_ids": ids}),
        json!({"id": "part", "messages": ask(json!([{"type": "image", "image": name}, words])), "completion_ids": ids}),
        json!({"id": "openai", "messages": ask(json!([{"type": "image_url", "image_url": {"url": name}}, words])), "completion_ids": ids}),
        json!({"id": "single", "messages": ask(json!([{"type": "image", "text": null}, words])), "images": name, "completion_ids": ids}),
        json!({"id": "mark", "prompt": "<image>How many?", "image": {"path": name, "bytes": null}, "completion_ids": ids}),
        json!({"id": "open", "problem": "How many?", "image": {"image": name}, "completion_ids": ids}),
        json!({"id": "sharegpt", "conversations": [{"from": "human", "value": "<image>How many?"}], "images": [name], "completion_ids": ids}),
        json!({"id": "copy", "messages": ask(json!([{"type": "image", "image": "badge"}, words])), "images": [name], "completion_ids": ids}),
    ];
    let input = work.path("rows.jsonl");
    let score = |row: &Value| {
        std::fs::write(&input, lines(std::slice::from_ref(row))).expect("written");
        scored(&work, &input).remove(0)
    };
    let expected = score(&rows[0]);
    for row in &rows[1..] {
        assert_eq!(score(row), expected, "{}", row["id"]);
    }
    // The model's own turn and a completion are the same text to score.
    let turns = [
        json!({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "3"}], "images": null}),
        json!({"messages": [{"role": "user", "content": "?"}], "completion": "3"}),
        json!({"prompt": "?", "completion": [{"role": "assistant", "content": [{"type": "text", "text": "3"}]}]}),
    ];
    let found: Vec<Value> = turns.iter().map(score).collect();
    assert!(found[0] == found[1] && found[1] == found[2], "{found:?}");
}

#[test]
fn prompt_completion_rows_are_fine_tuned_on() {
    let work = Workspace::new();
    edit_json(&work.rows, |rows| {
        for row in rows.as_array_mut().expect("rows") {
            let ask = json!([{"type": "image"}, {"type": "text", "text": row["problem"]}]);
            let answer = json!([{"type": "text", "text": "There are 2."}]);
            *row = json!({"prompt": [{"role": "user", "content": ask}], "images": [row["image"]],
                          "completion": [{"role": "assistant", "content": answer}]});
        }
    });
    let config = work.config("sft", &[("max_steps", "1")]);
    program(&["sft", text(&config)]).done();
    assert!(work.path("sft/metrics.jsonl").is_file());
}

#[test]
fn what_is_no_file_of_rows_is_named() {
    let work = Workspace::new();
    let snapshot = work.path("snap/data");
    std::fs::create_dir_all(&snapshot).expect("created");
    std::fs::write(snapshot.join("train-00000-of-00001.parquet"), b"PAR1").expect("written");
    let zip = work.path("rows.zip");
    std::fs::write(&zip, b"PK\x03\x04").expect("written");
    let model = golden_path("qwen2vl-tiny");
    for (name, words) in [
        (
            text(&work.path("snap")),
            &["train-00000-of-00001.parquet", "to_json"][..],
        ),
        (
            text(&snapshot.join("train-00000-of-00001.parquet")),
            &["a Parquet file", "to_json"],
        ),
        (text(&zip), &["a zip archive"]),
        (
            "lmms-lab/multimodal-open-r1-8k-verified",
            &["not downloaded", "load_dataset"],
        ),
    ] {
        let server = "[{name: e, base_url: 'http://127.0.0.1:9', model: m}]";
        for (command, external) in [("train", ""), ("sft", ""), ("harvest", server)] {
            let config = work.config("run", &[("dataset_name", name), ("external", external)]);
            program(&[command, text(&config)]).refused(words);
        }
        let list = format!("['{name}']");
        let config = work.config("run", &[("eval_dataset_name", list.as_str())]);
        program(&["eval", text(&config), "--model", text(&model)]).refused(words);
    }
}

#[test]
fn a_header_is_enough_to_start_unless_the_key_says_otherwise() {
    let work = Workspace::new();
    let mut bytes = std::fs::read(golden_path("images/photo.png")).expect("a picture");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 9].fill(0);
    let broken = work.path("broken.png");
    std::fs::write(&broken, bytes).expect("written");
    edit_json(&work.rows, |rows| rows[7]["image"] = json!(text(&broken)));
    for (verify, is_found) in [("header", false), ("full", true)] {
        let config = work.config("run", &[("verify_images", verify)]);
        let said = program(&["train", text(&config), "--dry-run"]);
        assert_eq!(said.code == Some(1), is_found, "{}", said.stderr);
        assert_eq!(
            said.stderr.contains("the image is corrupt"),
            is_found,
            "{}",
            said.stderr
        );
        assert!(
            said.stderr.contains("1 pictures lie outside"),
            "{}",
            said.stderr
        );
    }
}

/// Rows of somebody else may name any picture of the machine.
#[test]
fn a_picture_outside_the_data_set_reaches_no_server_unasked() {
    let work = Workspace::new();
    let private = work.path("private.png");
    std::fs::copy(golden_path("images/badge.png"), &private).expect("copied");
    let names = [
        json!(text(&private)),
        json!("../private.png"),
        json!(format!("file://{}", text(&private))),
    ];
    edit_json(&work.rows, |rows| {
        let rows = rows.as_array_mut().expect("rows");
        rows.truncate(4);
        for (row, name) in rows.iter_mut().zip(names) {
            row["image"] = name;
        }
    });
    let server = Server::start(Duration::ZERO);
    let external = format!("[{{name: e, base_url: '{}', model: m}}]", server.address);
    let config = work.config("run", &[("external", external.as_str())]);
    let said = program(&["harvest", text(&config)]);
    assert!(
        said.stderr.contains("3 pictures lie outside"),
        "{}",
        said.stderr
    );
    assert!(
        said.stderr.contains("external_image_paths: any"),
        "{}",
        said.stderr
    );
    assert_eq!(
        server.requests(),
        1,
        "the row with a picture of the data set\n{}",
        said.stderr
    );
    let any = ["harvest", text(&config), "--external_image_paths", "any"];
    program(&any).done();
    assert_eq!(server.requests(), 4, "the others too");
}
