//! Does a study run every method once, survive a kill to equal results, keep what is done, and say what failed?

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program::{Said, program, signal};
use serde_json::Value;

const METHODS: [&str; 3] = ["zero-shot", "reason-rft", "ekipl"];

/// A base whose model has a few thousand weights and whose stages take seconds.
const BASE: &str = "
model: a model of a few thousand weights
baseline: reason-rft-zero
sft: sft.yaml
train: train.yaml
process_gib: 1
pass_at_k: {rows: 3, samples: 4, temperature: 0.9, top_p: 1.0}
families:
  structure:
    shared:
      - data structure --split train --count 12 --seed 5 --expert none --naming 0.3 --explaining 0.3 --reasoning 0.2 --out {shared}/rows
      - init --rows {shared}/rows/structure-train.json --task_name geomath --vocabulary 300 --hidden 48 --layers 1 --vision-width 16 --vision-depth 1 --out {shared}/start
    prepare:
      - data structure --split train --count 12 --seed 2{seed} --expert paper --out {folder}/train
      - data structure --split test --count 5 --seed {seed} --out {folder}/test
      - data structure --split test-ood --count 4 --seed {seed} --out {folder}/test
    model_name_or_path: '{shared}/start'
    dataset_name: '{folder}/train/structure-train.json'
    external:
      - {name: expert-a, path: '{folder}/train/structure-train-expert-a.jsonl'}
      - {name: expert-b, path: '{folder}/train/structure-train-expert-b.jsonl'}
    tests:
      - {split: test, domain: in, rows: '{folder}/test/structure-test.json'}
      - {split: test-ood, domain: out, rows: '{folder}/test/structure-test-ood.json'}
    keys: {task_name: geomath, max_completion_length: 40}
presets:
  short: {methods: [zero-shot], seeds: 1}
";
const SFT: &str = "
model_name_or_path: a
dataset_name: b
output_dir: c
max_pixels: 3136
per_device_train_batch_size: 2
logging_steps: 1
save_steps: 5
";
/// Penalised repetition tells the completions of random weights apart.
const TRAIN: &str = "
model_name_or_path: a
dataset_name: b
output_dir: c
max_pixels: 3136
num_generations: 8
per_device_train_batch_size: 16
gradient_accumulation_steps: 1
max_steps: 8
learning_rate: 1.0e-3
reward_funcs: [repetition_penalty, accuracy, format]
eval_strategy: steps
eval_steps: 4
eval_temperature: 0
per_device_eval_batch_size: 8
logging_steps: 1
save_steps: 2
save_total_limit: 1
";

/// A base in a folder of its own.
struct Site {
    folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [
            ("base.yaml", BASE),
            ("sft.yaml", SFT),
            ("train.yaml", TRAIN),
        ] {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The command line of a study of the shipped methods.
    fn words(&self, output: &str, methods: &[&str], more: &[&str]) -> Vec<String> {
        let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/study");
        let mut words = vec!["study".to_owned()];
        for method in methods {
            words.push(configs.join(format!("{method}.yaml")).display().to_string());
        }
        let (base, output) = (self.path("base.yaml"), self.path(output));
        for word in [
            "--base",
            &base.display().to_string(),
            "--output",
            &output.display().to_string(),
        ] {
            words.push(word.to_owned());
        }
        words.extend(["--device", "cpu", "--jobs", "2"].map(str::to_owned));
        words.extend(more.iter().map(|word| (*word).to_owned()));
        words
    }

    fn study(&self, output: &str, methods: &[&str], more: &[&str]) -> Said {
        program(&self.words(output, methods, more))
    }

    fn result(&self, output: &str, method: &str) -> Value {
        let path = self
            .path(output)
            .join(format!("results/{method}-structure-seed-1.json"));
        let text = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_str(&text).expect("JSON")
    }
}

/// What does not depend on the clock and the folder.
fn learnt(result: &Value) -> String {
    let mut result = result.clone();
    let fields = result.as_object_mut().expect("an object");
    fields.retain(|key, _| {
        !["commands", "started", "wall_seconds", "timing_s"].contains(&key.as_str())
    });
    for list in ["steps", "evaluations"] {
        for row in fields[list].as_array_mut().expect("rows") {
            row.as_object_mut().expect("a row").remove("wall_seconds");
        }
    }
    result.to_string()
}

/// A folder in `folder` with a checkpoint of that step of a run that still works.
fn running_at(folder: &Path, step: u64) -> Option<PathBuf> {
    let seed = std::fs::read_dir(folder).ok()?.flatten();
    let runs = seed.flat_map(|entry| std::fs::read_dir(entry.path()).into_iter().flatten());
    let runs = runs.flatten().map(|entry| entry.path());
    let mut runs = runs.filter(|path| path.display().to_string().contains("/train-"));
    runs.find(|run| {
        run.join(format!("checkpoint-{step}")).is_dir() && !run.join("study-task.json").exists()
    })
}

#[cfg(unix)]
#[test]
fn a_killed_study_goes_on_to_the_same_results() {
    let site = Site::new();
    let methods = &METHODS[1..];
    site.study("whole", methods, &["--seeds", "1"]).done();

    let mut child = Command::new(env!("CARGO_BIN_EXE_vision-ekipl"))
        .args(site.words("killed", methods, &["--seeds", "1"]))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let start = Instant::now();
    let run = loop {
        if let Some(run) = running_at(&site.path("killed"), 2) {
            break run;
        }
        assert!(start.elapsed() < Duration::from_secs(300), "no checkpoint");
        assert!(
            child.try_wait().expect("a status").is_none(),
            "it ended before the kill"
        );
        std::thread::sleep(Duration::from_millis(5));
    };
    child.kill().expect("killed");
    child.wait().expect("a status");
    // One of its processes dies with it, another may live on: the study waits for it.
    let process =
        std::fs::read_to_string(run.join("run.lock")).expect("the lock names the process");
    let process = process.trim().parse().expect("a number");
    signal(process, rustix::process::Signal::KILL);

    let said = site.study("killed", methods, &["--seeds", "1"]).done();
    assert!(
        said.contains("report.md") && said.contains("report.html"),
        "{said}"
    );
    for method in methods {
        let (whole, killed) = (site.result("whole", method), site.result("killed", method));
        assert_eq!(learnt(&whole), learnt(&killed), "{method}");
    }
}

#[test]
fn results_hold_what_the_report_needs_and_are_made_once() {
    let site = Site::new();
    site.study("runs", &METHODS, &["--seeds", "1"]).done();
    let (zero, grpo, ekipl) = (
        site.result("runs", "zero-shot"),
        site.result("runs", "reason-rft"),
        site.result("runs", "ekipl"),
    );
    assert_eq!(zero["steps"].as_array().map(Vec::len), Some(0));
    for result in [&grpo, &ekipl] {
        assert_eq!(result["steps"].as_array().map(Vec::len), Some(8));
        assert_eq!(
            result["evaluations"].as_array().map(Vec::len),
            Some(4),
            "2 moments, 2 splits"
        );
        let pass = &result["final"][1]["pass_at_k"];
        assert_eq!(pass["correct_counts"].as_array().map(Vec::len), Some(3));
        assert_eq!(
            result["final"][0]["scores"].as_array().map(Vec::len),
            Some(5)
        );
        assert!(result["timing_s"]["timing_s/gen"].as_f64() > Some(0.0));
    }
    // 2 prompts: 8 own samples each, and one action of each of two experts.
    assert_eq!(grpo["steps"][7]["samples"], 8 * 16);
    assert_eq!(ekipl["steps"][7]["samples"], 8 * 20);
    let shares = ekipl["steps"][7]["external_share"]
        .as_object()
        .expect("shares");
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["expert-a", "expert-b"]);
    // The supervised stage is shared: both name the very same command.
    let stage = |result: &Value| {
        let commands = result["commands"].as_array().expect("commands").iter();
        let mut texts = commands.filter_map(Value::as_str);
        texts
            .find(|line| line.starts_with("vision-ekipl sft"))
            .map(str::to_owned)
    };
    assert!(stage(&grpo).is_some() && stage(&grpo) == stage(&ekipl));

    let made = |name: &str| {
        let path = site.path("runs/results").join(name);
        std::fs::metadata(path)
            .and_then(|data| data.modified())
            .expect("a result")
    };
    let before = made("ekipl-structure-seed-1.json");
    site.study("runs", &METHODS, &["--seeds", "1"]).done();
    assert_eq!(
        before,
        made("ekipl-structure-seed-1.json"),
        "not made again"
    );
    let report = std::fs::read_to_string(site.path("runs/report/report.md")).expect("a report");
    for title in ["Vision-EKIPL", "Reason-RFT", "zero-shot"] {
        assert!(report.contains(title), "{title}");
    }

    let train = TRAIN.replace("max_steps: 8", "max_steps: 9");
    std::fs::write(site.path("train.yaml"), train).expect("written");
    let other = site.study("runs", &METHODS, &["--seeds", "1"]);
    other.refused(&["made with another configuration", "-structure-seed-1.json"]);
    assert_eq!(
        before,
        made("ekipl-structure-seed-1.json"),
        "not overwritten"
    );
}

#[test]
fn a_method_that_fails_is_named_and_takes_no_other_with_it() {
    let site = Site::new();
    let broken = site.path("broken.yaml");
    let text = "title: broken\nrole: control\norder: 99\nstages:\n  - command: train\n    keys: {preset: reason-rft, learning_rte: 1}\n";
    std::fs::write(&broken, text).expect("written");
    let mut words = site.words("runs", &["zero-shot"], &["--seeds", "1"]);
    words.insert(1, broken.display().to_string());
    let said = program(&words);
    said.refused(&["1 of 2 runs failed", "learning_rte"]);
    assert_eq!(site.result("runs", "zero-shot")["seed"], 1);
    let report = std::fs::read_to_string(site.path("runs/report/report.md")).expect("a report");
    assert!(
        report.contains("broken, structure, seed 1: failed"),
        "{report}"
    );
}

#[test]
fn what_cannot_be_studied_is_refused_before_anything_runs() {
    let site = Site::new();
    let preset = site.study("runs", &METHODS, &["--preset", "shrt"]);
    preset.refused(&["--preset shrt", "short"]);
    let only = site.study("runs", &METHODS, &["--only", "ekipl-zero"]);
    only.refused(&["ekipl-zero", "reason-rft"]);
    let base = BASE.replace("process_gib: 1", "process_gib: 1\nprocess_gb: 1");
    std::fs::write(site.path("base.yaml"), base).expect("written");
    site.study("runs", &METHODS, &[])
        .refused(&["base.yaml", "process_gb"]);
    let base = BASE.split("    external:").next().expect("text").to_owned()
        + "    tests: [{split: test, domain: in, rows: a.json}]\n";
    std::fs::write(site.path("base.yaml"), base).expect("written");
    let experts = site.study("runs", &METHODS, &[]);
    experts.refused(&["families.structure.external", "ekipl"]);
    assert!(!site.path("runs").exists(), "nothing was begun");
}

#[test]
fn the_shipped_study_plans_every_method_for_every_family_and_seed() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/study");
    let mut files: Vec<String> = std::fs::read_dir(&configs)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.is_file())
        .map(|path| path.display().to_string())
        .collect();
    files.sort();
    let plan = |more: &[&str]| {
        let mut words = vec!["study".to_owned()];
        words.extend(files.clone());
        words.extend(more.iter().map(|word| (*word).to_owned()));
        program(&words).done()
    };
    let all = plan(&["--dry-run"]);
    let runs = files.len() * 3 * 3;
    assert!(all.contains(&format!("# {runs} runs")), "{all}");
    let core = plan(&["--dry-run", "--preset", "core"]);
    assert!(core.contains("# 63 runs"), "{core}");
    let real = configs.join("base/qwen2-vl-2b.yaml").display().to_string();
    let real = plan(&["--dry-run", "--base", &real]);
    assert!(real.contains(&format!("# {runs} runs")), "{real}");
    assert!(
        core.contains(r#"'[{"name":"expert-a","path":"#),
        "as a shell takes it"
    );
    let smoke = plan(&["--dry-run", "--preset", "smoke"]);
    assert!(smoke.contains("# 3 runs"), "{smoke}");
}

#[test]
fn the_committed_report_is_what_the_program_makes_of_the_committed_results() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let site = Site::new();
    let report = site.path("report").display().to_string();
    let committed = root.join("benches/results/study");
    let runs = committed.join("runs").display().to_string();
    let more = [
        "--preset",
        "core",
        "--report-only",
        "--results",
        &runs,
        "--report",
        &report,
    ];
    let mut words = vec!["study".to_owned()];
    let mut methods: Vec<String> = std::fs::read_dir(root.join("configs/study"))
        .expect("methods")
        .map(|entry| entry.expect("a file").path().display().to_string())
        .filter(|path| path.ends_with(".yaml"))
        .collect();
    methods.sort();
    words.extend(methods);
    words.extend(more.map(str::to_owned));
    words.extend([
        "--output".to_owned(),
        site.path("output").display().to_string(),
    ]);
    program(&words).done();
    let read = |path: PathBuf| {
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    for name in ["report.md", "results.csv"] {
        assert_eq!(
            read(site.path("report").join(name)),
            read(committed.join(name)),
            "{name}"
        );
    }
    let charts = |folder: PathBuf| -> BTreeSet<String> {
        let entries = std::fs::read_dir(folder).expect("charts");
        entries
            .map(|entry| {
                entry
                    .expect("a file")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    let names = charts(committed.join("charts"));
    assert_eq!(charts(site.path("report").join("charts")), names);
    for name in names {
        let chart = |folder: PathBuf| read(folder.join("charts").join(&name));
        assert!(
            chart(site.path("report")) == chart(committed.clone()),
            "charts/{name} differs"
        );
    }
}
