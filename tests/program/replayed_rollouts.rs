//! Do given tokens train as sampled ones do, and as TRL trains on them?

use std::path::{Path, PathBuf};

use crate::support::run::{Workspace, json_lines, metric, metrics, shown};
use crate::support::{Golden, golden_path};
use serde_json::{Value, json};
use vision_ekipl::data::dataset::Cursor;

/// Metrics that only a run has that samples, or the one that replays has not.
fn numbers_of_learning(run: &Path) -> Vec<String> {
    let rows = metrics(run);
    let row = |row: &serde_json::Map<String, Value>| {
        let wanted = [
            "loss",
            "grad_norm",
            "entropy",
            "reward",
            "learning_rate",
            "num_tokens",
        ];
        json!(wanted.map(|name| row.get(name))).to_string()
    };
    rows.iter().map(row).collect()
}

/// Five prompts a step of ten rows, so that passes end inside a run; the expert's actions are in the file.
#[test]
fn a_dump_replays_to_the_same_bits() {
    let work = Workspace::new();
    let file = work.path("rollouts.jsonl");
    let expert = format!("[{{name: expert, path: {}}}]", shown(&work.expert));
    let dump = shown(&file);
    let common = [
        ("max_completion_length", "48"),
        ("num_iterations", "2"),
        ("max_steps", "4"),
    ];
    let dumping = [
        ("dump_rollouts", dump.as_str()),
        ("external", expert.as_str()),
    ];
    let recorded = work.train("recorded", &[&common[..], &dumping].concat());
    let sources: Vec<Value> = json_lines(&file)
        .iter()
        .map(|row| row["source"].clone())
        .collect();
    assert_eq!(
        sources.len(),
        2 * 2 * (4 + 1),
        "two rollouts of two prompts"
    );
    assert!(sources.contains(&json!("policy")) && sources.contains(&json!("expert")));

    let replaying = [("replay_rollouts", dump.as_str())];
    let replayed = work.train("replayed", &[&common[..], &replaying].concat());
    assert_eq!(
        numbers_of_learning(&replayed),
        numbers_of_learning(&recorded)
    );
    assert!(
        metric(&replayed, "grad_norm")
            .iter()
            .all(|norm| *norm > 0.0),
        "there was a gradient"
    );
    let saved = |run: &Path| run.join("checkpoint-4");
    let weights = |run: &Path| std::fs::read(saved(run).join("model.safetensors")).expect("a file");
    assert!(weights(&replayed) == weights(&recorded), "the same weights");
    let moments =
        |run: &Path| std::fs::read(saved(run).join("optimizer.safetensors")).expect("a file");
    assert!(moments(&replayed) == moments(&recorded), "the same moments");
}

/// A batch that ends one pass over the data and begins the next may hold the same example twice.
#[test]
fn an_example_that_stands_twice_in_a_batch_replays_as_two_groups() {
    let work = Workspace::new();
    let few = work.path("data/three.json");
    let text = std::fs::read_to_string(&work.rows).expect("rows");
    let mut rows: Vec<Value> = serde_json::from_str(&text).expect("a list");
    rows.truncate(3);
    std::fs::write(&few, json!(rows).to_string()).expect("written rows");
    // The second batch takes the last row of one pass and the first of the next.
    let seed = (0..).find(|seed| {
        let mut cursor = Cursor::new(3, *seed, true);
        cursor.next(2);
        matches!(cursor.next(2)[..], [first, second] if first == second)
    });
    let (few, file) = (shown(&few), work.path("rollouts.jsonl"));
    let (dump, seed) = (shown(&file), seed.expect("one seed in three").to_string());
    let keys = [
        ("dataset_name", few.as_str()),
        ("data_seed", seed.as_str()),
        ("max_steps", "3"),
    ];
    let recorded = work.train(
        "recorded",
        &[&keys[..], &[("dump_rollouts", &dump)]].concat(),
    );
    let rows = json_lines(&file);
    let second: Vec<&Value> = rows[8..16].iter().map(|row| &row["id"]).collect();
    assert!(
        second.iter().all(|id| *id == second[0]),
        "one example twice: {second:?}"
    );
    assert_ne!(
        rows[8]["completion_ids"], rows[12]["completion_ids"],
        "its groups have draws of their own"
    );
    let replayed = work.train(
        "replayed",
        &[&keys[..], &[("replay_rollouts", &dump)]].concat(),
    );
    assert_eq!(
        numbers_of_learning(&replayed),
        numbers_of_learning(&recorded)
    );
    assert_same_completions(&replayed, &recorded);
}

fn assert_same_completions(found: &Path, expected: &Path) {
    let text = |run: &Path| std::fs::read_to_string(run.join("completions.jsonl")).expect("a log");
    assert_eq!(text(found), text(expected), "completions.jsonl");
}

/// The dump of a replay is the file that was replayed, and trains on.
#[test]
fn a_replay_can_be_dumped_again() {
    let work = Workspace::new();
    let (first, second) = (work.path("first.jsonl"), work.path("second.jsonl"));
    let keys = [("max_steps", "2")];
    let dump = shown(&first);
    let recorded = work.train(
        "recorded",
        &[&keys[..], &[("dump_rollouts", &dump)]].concat(),
    );
    let again = shown(&second);
    let both = [
        ("replay_rollouts", dump.as_str()),
        ("dump_rollouts", again.as_str()),
    ];
    let replayed = work.train("replayed", &[&keys[..], &both].concat());
    let text = |path: &Path| std::fs::read_to_string(path).expect("rollouts");
    assert_eq!(text(&second), text(&first));
    assert_same_completions(&replayed, &recorded);
    let saved = "checkpoint-2";
    let weights = |run: &Path| std::fs::read(run.join(saved).join("model.safetensors"));
    assert!(weights(&replayed).expect("a file") == weights(&recorded).expect("a file"));
}

/// The golden prompt `p0` as a row of TRL's form, and the golden group as rollouts.
struct GoldenGroup {
    work: Workspace,
    rows: PathBuf,
    tensors: Golden,
    json: Value,
}

impl GoldenGroup {
    fn open() -> Self {
        let work = Workspace::new();
        let read = |name: &str| -> Value {
            let text = std::fs::read_to_string(golden_path(name)).expect("a golden file");
            serde_json::from_str(&text).expect("json")
        };
        let prompts = read("golden-qwen2vl-tiny.json");
        let prompt = &prompts["prompts"][0];
        let mut messages = prompt["messages"].clone();
        for part in messages[1]["content"].as_array_mut().expect("parts") {
            part.as_object_mut().expect("a part").remove("image");
        }
        let row = json!({
            "id": "p0",
            "prompt": messages,
            "images": prompt["image_files"],
            "solution": "3",
        });
        let rows = work.path("golden.jsonl");
        std::fs::write(&rows, format!("{row}\n")).expect("a written row");
        Self {
            work,
            rows,
            tensors: Golden::open("golden-grpo-qwen2vl-tiny.safetensors"),
            json: read("golden-grpo-qwen2vl-tiny.json"),
        }
    }

    /// The four completions with TRL's rewards and old log-probabilities, as a replay file.
    fn rollouts(&self) -> String {
        let width = self.tensors.shape("completion_ids")[1];
        let (ids, mask) = (
            self.tensors.ids("completion_ids"),
            self.tensors.f64("completion_mask"),
        );
        let (old, rewards) = (
            self.tensors.f32("old_logps_t1.0"),
            self.tensors.f32("rewards"),
        );
        let mut text = String::new();
        for (row, reward) in rewards.iter().enumerate() {
            let tokens = mask[row * width..(row + 1) * width].iter().sum::<f64>() as usize;
            let cut = row * width..row * width + tokens;
            let line = json!({
                "step": 1, "id": "p0", "source": "policy", "reward": reward,
                "completion_ids": ids[cut.clone()], "old_logprobs": old[cut],
            });
            text += &format!("{line}\n");
        }
        let path = self.work.path("golden-rollouts.jsonl");
        std::fs::write(&path, text).expect("written rollouts");
        shown(&path)
    }

    /// Trains one step as one of TRL's configurations says; the run's folder.
    fn train(&self, name: &str, settings: &Value) -> PathBuf {
        let text = |key: &str| match &settings[key] {
            Value::String(word) => word.clone(),
            other => other.to_string(),
        };
        let (rows, images, rollouts) = (
            shown(&self.rows),
            shown(&golden_path("images")),
            self.rollouts(),
        );
        let given = [
            "loss_type",
            "importance_sampling_level",
            "epsilon",
            "epsilon_high",
            "temperature",
        ]
        .map(|key| (key, text(key)));
        let mut keys: Vec<(&str, &str)> = given
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        keys.extend([
            ("dataset_name", rows.as_str()),
            ("image_dir", images.as_str()),
            ("replay_rollouts", rollouts.as_str()),
            ("task_name", ""),
            ("top_k", ""),
            ("max_pixels", "12544"),
            ("per_device_train_batch_size", "4"),
            ("max_completion_length", "32"),
            ("suppress_vision_tokens", "false"),
            ("max_steps", "1"),
            ("save_strategy", "no"),
        ]);
        self.work.train(name, &keys)
    }
}

#[test]
fn the_golden_group_has_the_loss_and_the_metrics_of_trl() {
    let group = GoldenGroup::open();
    let losses = group.json["losses"].as_object().expect("losses");
    let mut checked = 0;
    for (name, settings) in losses
        .iter()
        .filter(|(_, settings)| settings["beta"] == 0.0)
    {
        let run = group.train(name, settings);
        let row = &metrics(&run)[0];
        let golden = settings["metrics"].as_object().expect("metrics");
        let expected = golden.iter().map(|(name, value)| (name.as_str(), value));
        for (metric, expected) in expected.chain([("loss", &settings["loss"])]) {
            let (found, expected) = (row[metric].as_f64(), expected.as_f64());
            let (found, expected) = (found.expect(metric), expected.expect("a number"));
            println!("{name} {metric}: {found:.7}, TRL {expected:.7}");
            assert!(
                (found - expected).abs() <= 1e-4,
                "{name} {metric}: {found}, TRL has {expected}"
            );
        }
        let rewards = group.tensors.f64("rewards");
        assert!(
            (row["reward"].as_f64().expect("a reward") - rewards.iter().sum::<f64>() / 4.0).abs()
                < 1e-6
        );
        let advantages: Vec<f64> = json_lines(&run.join("completions.jsonl"))
            .iter()
            .map(|row| row["advantage"].as_f64().expect("selected"))
            .collect();
        for (found, expected) in advantages.iter().zip(group.tensors.f64("advantages")) {
            assert!(
                (found - expected).abs() < 1e-5,
                "{found}, TRL has {expected}"
            );
        }
        checked += 1;
    }
    assert_eq!(
        checked, 9,
        "four loss types at two levels, and GSPO's own clip range"
    );
}

#[test]
fn what_cannot_be_replayed_is_said_before_the_first_step() {
    let work = Workspace::new();
    let file = work.path("rollouts.jsonl");
    let replay = shown(&file);
    let refused = |name: &str, text: &str, more: &[(&str, &str)]| -> String {
        std::fs::write(&file, text).expect("written rollouts");
        let keys = [&[("replay_rollouts", replay.as_str())], more].concat();
        let error = work.try_train(name, &keys).expect_err(name);
        assert!(!work.path(name).join("checkpoint-6").exists());
        format!("{error:#}")
    };
    let row = |id: &str| {
        format!(
            "{{\"step\":1,\"id\":\"{id}\",\"source\":\"policy\",\"completion_ids\":[5,6],\"reward\":1.0}}\n"
        )
    };
    let text = refused("unknown", &row("train-999"), &[("max_steps", "1")]);
    assert!(
        text.contains("rollouts.jsonl:1: `train-999` is no example of the data set"),
        "{text}"
    );
    let text = refused("short", &row("train-0"), &[]);
    assert!(
        text.contains("`max_steps` is 6") && text.contains("for 1 steps"),
        "{text}"
    );
    let text = refused("broken", "{\"step\": 1}\n", &[]);
    assert!(text.contains("rollouts.jsonl:1"), "{text}");
    let text = refused("empty", "", &[]);
    assert!(text.contains("no rows"), "{text}");
}

/// A file may hold fewer prompts a step than the configuration would sample: the run is then as long as the file.
#[test]
fn a_run_ends_with_its_file() {
    let work = Workspace::new();
    let file = work.path("rollouts.jsonl");
    let dump = shown(&file);
    work.train("recorded", &[("max_steps", "4"), ("dump_rollouts", &dump)]);
    let text = std::fs::read_to_string(&file).expect("rollouts");
    let first = json_lines(&file)[0]["id"].clone();
    let own: Vec<&str> = text.lines().collect();
    // Of the two prompts of a step only the first stays.
    let kept: Vec<&str> = own.chunks(8).flat_map(|step| &step[..4]).copied().collect();
    assert!(kept[0].contains(first.as_str().expect("an id")));
    std::fs::write(&file, kept.join("\n")).expect("written rollouts");
    let keys = [
        ("max_steps", "-1"),
        ("steps_per_generation", "2"),
        ("per_device_train_batch_size", "4"),
        ("save_strategy", "no"),
        ("replay_rollouts", dump.as_str()),
    ];
    let run = work.train("replayed", &keys);
    let steps = metric(&run, "grad_norm").len();
    assert_eq!(
        steps, 8,
        "the two optimizer steps of each generation batch, whatever it holds"
    );
    assert!(run.join("checkpoint-8").is_dir(), "the end is saved");
    assert_eq!(json_lines(&run.join("completions.jsonl")).len(), 4 * 4);
}
