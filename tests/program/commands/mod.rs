//! Do the commands do what they say? Each is run as a person runs it.

mod counting;
mod families;
mod golden_rows;
mod reward_check;

use std::path::{Path, PathBuf};

use crate::support::program::{program, text};
use crate::support::run::{Workspace, json_lines};
use counting::counting;
use serde_json::{Value, json};

/// The flags of a key are one key in any spelling, and what a dry run prints is itself a configuration.
#[test]
fn a_dry_run_prints_the_resolved_configuration_memory_and_steps() {
    let work = Workspace::new();
    let config = work.config("run", &[("learning_rate", "")]);
    let dry = |config: &Path, more: &[&str]| {
        program(&[&["train", text(config), "--dry-run"], more].concat()).done()
    };
    let printed = dry(&config, &["--learning_rate", "2.5e-6"]);
    assert_eq!(printed, dry(&config, &["--learning-rate", "2.5e-6"]));
    assert_eq!(printed, dry(&config, &["--learning-rate=2.5e-6"]));
    let (yaml, report) = printed
        .split_once("\n\n# 10 rows")
        .expect("a report after the keys");
    for line in ["num_generations: 4", "beta: ", "external: []", "seed: 7"] {
        assert!(yaml.contains(line), "{line} in {yaml}");
    }
    let learning_rate = |printed: &str| {
        let line = printed
            .lines()
            .find_map(|line| line.strip_prefix("learning_rate: "));
        line.expect("the key").parse::<f64>().expect("a number")
    };
    assert!(
        (learning_rate(yaml) - 2.5e-6).abs() < 1e-12,
        "the flag counts"
    );
    assert!(
        (learning_rate(&dry(&config, &[])) - 1e-6).abs() < 1e-12,
        "the default"
    );
    for part in [
        "(0 rejected), 6 optimizer steps",
        "# trained weights",
        "# AdamW moments",
        "# total",
        "# peak: ",
    ] {
        assert!(report.contains(part), "{part} in {report}");
    }
    let resolved = work.path("resolved.yaml");
    std::fs::write(&resolved, &printed).expect("written");
    assert_eq!(dry(&resolved, &[]), printed, "it resolves to itself");
    assert!(!work.path("run").exists(), "nothing is written");

    let tuning = program(&["sft", text(&config), "--dry-run", "--max_steps=-1"]).done();
    assert!(tuning.contains("optimizer steps"), "{tuning}");
}

#[test]
fn an_unknown_flag_names_the_nearest() {
    for (arguments, nearest) in [
        (
            &["train", "run.yaml", "--num_generation", "4"][..],
            "--num_generations",
        ),
        (
            &["train", "run.yaml", "--learning-rte", "1"][..],
            "--learning",
        ),
        (
            &[
                "generate",
                "--model",
                "m",
                "--prompt",
                "x",
                "--temprature",
                "1",
            ][..],
            "--temperature",
        ),
        (&["score", "--modle", "m"][..], "--model"),
        (&["data", "counting", "--splt", "train"][..], "--split"),
    ] {
        let said = program(arguments);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(
            said.stderr.contains(nearest),
            "{nearest} in {}",
            said.stderr
        );
    }
    let said = program(&[
        "data",
        "counting",
        "--split",
        "validation",
        "--count",
        "1",
        "--out",
        "x",
    ]);
    assert!(
        said.stderr.contains("train, test, test-ood"),
        "{}",
        said.stderr
    );
}

/// Fine-tuning, training from its result, and evaluation of that, as the README shows them.
#[test]
fn sft_train_and_eval_follow_each_other() {
    let work = Workspace::new();
    let steps = [("max_steps", "2"), ("save_steps", "2")];
    let last = |name: &str| -> PathBuf { work.path(name).join("checkpoint-2") };
    let long = ("max_completion_length", "64");
    let tuned = work.config("tuned", &[&steps[..], &[long]].concat());
    let printed = program(&["sft", text(&tuned)]).done();
    assert_eq!(
        printed,
        format!("{}\n", work.path("tuned").display()),
        "the run's folder"
    );
    let start = last("tuned");
    let trained = work.config(
        "trained",
        &[&steps[..], &[("model_name_or_path", text(&start))]].concat(),
    );
    let printed = program(&["train", text(&trained)]).done();
    assert_eq!(printed, format!("{}\n", work.path("trained").display()));
    assert_eq!(
        json_lines(&work.path("trained").join("metrics.jsonl")).len(),
        3,
        "two steps and the end"
    );

    let data = work.path("data");
    counting(&data, "test", &[]);
    counting(&data, "test-ood", &[]);
    let sets = format!(
        "{0}/counting-test.json,{0}/counting-test-ood.json",
        data.display()
    );
    let output = work.path("result.json");
    let model = last("trained");
    let eval = [
        "eval",
        text(&trained),
        "--model",
        text(&model),
        "--output",
        text(&output),
    ];
    let printed = program(
        &[
            &eval[..],
            &["--eval_dataset_name", &sets, "--num_generations_eval", "2"],
        ]
        .concat(),
    )
    .done();
    let lines: Vec<Vec<&str>> = printed
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0].join(" "),
        "split task rows accuracy exact match format pass@2 tokens"
    );
    for (line, name) in lines[2..]
        .iter()
        .zip(["counting-test", "counting-test-ood"])
    {
        assert_eq!(line[..3], [name, "clevr-math", "6"]);
        assert_eq!(line[4], "%", "{printed}");
    }
    let results: Value =
        serde_json::from_slice(&std::fs::read(output).expect("a file")).expect("JSON");
    assert_eq!(results["model"], json!(model.display().to_string()));
    assert!(results["parameters"].as_u64() > Some(1000), "{results}");
    let results = &results["results"];
    assert_eq!(results.as_array().map(Vec::len), Some(2));
    for (result, name) in results
        .as_array()
        .expect("splits")
        .iter()
        .zip(["counting-test", "counting-test-ood"])
    {
        assert_eq!(
            (&result["name"], &result["rows"]),
            (&json!(name), &json!(6))
        );
        assert!((0.0..=1.0).contains(&result["accuracy"].as_f64().expect("a share")));
        assert_eq!(result["pass_at"].as_array().expect("pass@k").len(), 2);
        let scores = result["scores"].as_array().expect("scores");
        let sum: f64 = scores.iter().filter_map(Value::as_f64).sum();
        let accuracy = result["accuracy"].as_f64().expect("a share");
        assert!((sum / 6.0 - accuracy).abs() < 1e-9, "{result}");
    }
}
