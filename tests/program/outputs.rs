//! Does the program keep what is not its own: inputs under another spelling, files that exist, links, files outside the
//! folders that it was given?

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::support::program::{copied_model, edit_json, program, text, training_refused};
use crate::support::run::{Workspace, json_lines, names, shown};

const LOST: &str = "which would be lost";

/// Every file of a folder with its bytes.
fn bytes(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = names(folder).into_iter();
    let read = |name: String| {
        let bytes = fs::read(folder.join(&name)).unwrap_or_default();
        (name, bytes)
    };
    files.map(read).collect()
}

/// `folder/./file`: the same file for the system, not for a comparison of texts.
fn otherwise(path: &Path) -> PathBuf {
    let folder = path.parent().expect("a folder");
    folder
        .join(".")
        .join("..")
        .join(folder.file_name().expect("a name"))
        .join(path.file_name().expect("a name"))
}

#[test]
fn no_output_of_a_run_is_one_of_its_inputs() {
    let work = Workspace::new();
    let rollouts = work.path("rollouts.jsonl");
    let dump = [
        ("dump_rollouts", shown(&rollouts)),
        ("max_steps", "1".to_owned()),
    ];
    let dump: Vec<_> = dump
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    work.train("recorded", &dump);
    let (rows, again) = (shown(&otherwise(&work.rows)), shown(&otherwise(&rollouts)));
    let expert = format!("[{{name: expert, path: {}}}]", work.expert.display());
    let expert_again = shown(&otherwise(&work.expert));
    let template = work.path("template.txt");
    fs::write(&template, "{Question}").expect("written");
    let (template, template_again) = (shown(&template), shown(&otherwise(&template)));
    let plain = shown(&rollouts);
    let before = (
        fs::read(&work.rows).expect("rows"),
        fs::read(&rollouts).expect("rollouts"),
        fs::read(&work.expert).expect("actions"),
    );
    let cases: [(&[(&str, &str)], &str); 6] = [
        (
            &[("dump_rollouts", &rows), ("overwrite", "true")],
            "`dataset_name`",
        ),
        (&[("external_cache", &rows)], "`dataset_name`"),
        (
            &[
                ("replay_rollouts", &plain),
                ("dump_rollouts", &again),
                ("overwrite", "true"),
            ],
            "`replay_rollouts`",
        ),
        (
            &[
                ("external", &expert),
                ("dump_rollouts", &expert_again),
                ("overwrite", "true"),
            ],
            "`external`",
        ),
        (
            &[
                ("prompt_template", &template),
                ("external_cache", &template_again),
            ],
            "`prompt_template`",
        ),
        (
            &[("dump_rollouts", &rows), ("external_cache", &rows)],
            "`external_cache`",
        ),
    ];
    for (keys, input) in cases {
        training_refused(&work, "refused", keys, &[LOST, input, "name another file"]);
    }
    // A file that is nobody's input is not replaced either, unless that is said.
    training_refused(
        &work,
        "refused",
        &[("dump_rollouts", &plain)],
        &["exists", "--overwrite"],
    );
    let after = (
        fs::read(&work.rows).expect("rows"),
        fs::read(&rollouts).expect("rollouts"),
        fs::read(&work.expert).expect("actions"),
    );
    assert!(before == after, "every byte is there");
    let config = work.config("again", &[("max_steps", "1")]);
    let flags = ["--dump_rollouts", text(&rollouts), "--overwrite"];
    program(&[&["train", text(&config)][..], &flags].concat()).done();
}

#[test]
fn a_data_set_named_as_the_record_of_answers_keeps_its_bytes() {
    let work = Workspace::new();
    let rows: Vec<serde_json::Value> =
        serde_json::from_slice(&fs::read(&work.rows).expect("rows")).expect("JSON");
    let record = work.path("rows-of-one-line.json");
    let content = serde_json::to_string(&rows).expect("JSON");
    fs::write(&record, &content).expect("written");
    let external = "[{name: e, base_url: 'http://127.0.0.1:9', model: m}]";
    let config = work.config("harvest", &[("external", external)]);
    let harvest = ["harvest", text(&config), "--external_cache", text(&record)];
    program(&[&harvest[..], &["--estimate"]].concat())
        .refused(&["rows-of-one-line.json:1: not an entry of a record of external answers"]);
    assert_eq!(fs::read_to_string(&record).expect("readable"), content);
    let harvest = [
        "harvest",
        text(&config),
        "--external_cache",
        text(&work.rows),
    ];
    program(&[&harvest[..], &["--estimate"]].concat()).refused(&[LOST, "`dataset_name`"]);
}

#[test]
fn commands_keep_what_exists() {
    let work = Workspace::new();
    let model = copied_model(&work, "model");
    let before = (bytes(&model), fs::read(&work.rows).expect("rows"));
    let config = work.config(
        "eval",
        &[("eval_dataset_name", &format!("[{}]", work.rows.display()))],
    );
    let eval = [
        "eval",
        text(&config),
        "--model",
        text(&model),
        "--overwrite",
        "--output",
    ];
    let rows = otherwise(&work.rows);
    program(&[&eval[..], &[text(&rows)]].concat()).refused(&["--output names the file of", LOST]);
    let weights = otherwise(&model.join("model.safetensors"));
    program(&[&eval[..], &[text(&weights)]].concat())
        .refused(&["--output names the file of", LOST]);
    let tokenizer = model.join("tokenizer.json");
    let sheet = ["data", "structure", "--split", "train", "--contact-sheet"];
    program(&[&sheet[..], &[text(&tokenizer)]].concat()).refused(&["exists", "--overwrite"]);
    let init = [
        "init",
        "--rows",
        text(&work.rows),
        "--out",
        text(&model),
        "--layers",
        "1",
    ];
    program(&init).refused(&["model/", "exists", "--overwrite"]);
    let data = work.rows.parent().expect("a folder");
    let again = [
        "data",
        "counting",
        "--split",
        "train",
        "--count",
        "2",
        "--out",
        text(data),
    ];
    program(&again).refused(&["the file of --out exists"]);
    let one = json!({"id": 1, "messages": [{"role": "user", "content": "a"}], "completion": "b"});
    let input = work.path("input.jsonl");
    fs::write(&input, format!("{one}\n")).expect("written");
    for command in ["score", "generate"] {
        let said = |output: &Path| {
            let files = ["--input", text(&input), "--output", text(output)];
            program(
                &[
                    &[command, "--model", text(&model), "--device", "cpu"][..],
                    &files,
                ]
                .concat(),
            )
        };
        said(&otherwise(&input)).refused(&["--output names the file of --input", LOST]);
        said(&otherwise(&model.join("config.json")))
            .refused(&["--output names the file of --model"]);
        let output = work.path(&format!("{command}.jsonl"));
        said(&output).done();
        said(&output).refused(&["the file of --output exists"]);
        assert_eq!(json_lines(&output).len(), 1, "{command}: the result stays");
    }
    assert!(
        before == (bytes(&model), fs::read(&work.rows).expect("rows")),
        "every byte is there"
    );
}

#[cfg(unix)]
#[test]
fn links_in_a_run_folder_are_not_followed() {
    use std::os::unix::fs::symlink;
    let work = Workspace::new();
    let precious = work.path("precious");
    fs::write(&precious, "precious\n").expect("written");
    for name in ["run.lock", "write-probe.partial", "external_cache.jsonl"] {
        let folder = work.path(&format!("with-{name}"));
        fs::create_dir(&folder).expect("a folder");
        symlink("../precious", folder.join(name)).expect("a link");
        let external = "[{name: e, base_url: 'http://127.0.0.1:9', model: m}]";
        let config = work.config(&format!("with-{name}"), &[("external", external)]);
        program(&["train", text(&config)]).refused(&[name, "it is a symbolic link"]);
        assert_eq!(
            fs::read_to_string(&precious).expect("readable"),
            "precious\n",
            "{name}"
        );
    }
}

#[test]
fn names_in_an_index_stay_in_the_folder() {
    let work = Workspace::new();
    let model = work.path("model");
    let source = crate::support::golden_path("qwen2vl-tiny-v5-sharded-bf16");
    let weights = source.join("model-00001-of-00002.safetensors");
    let victim = work.path("precious.safetensors");
    for name in [
        shown(&victim),
        "../precious.safetensors".to_owned(),
        "sub/../../precious.safetensors".to_owned(),
        "optimizer.safetensors".to_owned(),
    ] {
        let _ = fs::remove_dir_all(&model);
        crate::support::run::copy_folder(&source, &model);
        fs::copy(&weights, &victim).expect("copied");
        edit_json(&model.join("model.safetensors.index.json"), |index| {
            let map = index["weight_map"].as_object_mut().expect("a map");
            map.values_mut().for_each(|file| *file = json!(name));
        });
        let keys = [("model_name_or_path", shown(&model))];
        let keys = keys.iter().map(|(key, value)| (*key, value.as_str()));
        let keys: Vec<_> = keys.collect();
        let words = [
            "model.safetensors.index.json",
            "\"weight_map\" names a file outside the folder",
        ];
        training_refused(&work, "run", &keys, &words);
        assert!(
            fs::read(&victim).expect("there") == fs::read(&weights).expect("there"),
            "{name}"
        );
    }
}
