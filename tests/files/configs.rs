//! Every file under configs/ loads, says how to run it, and keeps the promises of its header.

use std::fs;
use std::path::{Path, PathBuf};

use vision_ekipl::config::{self, LogprobTemperature, LossType, Purpose, Run, Selection};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("configs")
}

/// Every YAML file below a folder, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path
            .extension()
            .is_some_and(|extension| extension == "yaml")
        {
            found.push(path);
        }
    }
    // Methods and bases of the study are no configurations of one run; tests/program/study_runs.rs reads them.
    let of_study = |path: &PathBuf| {
        let named = |name: &str| path.ends_with(format!("study/base/{name}.yaml"));
        path.parent()
            .is_some_and(|folder| folder.ends_with("study"))
            || named("laptop")
            || named("qwen2-vl-2b")
    };
    found.retain(|path| !of_study(path));
    found.sort();
    found
}

/// The command of the first line of the header that runs this very file.
fn purpose_in_header(path: &Path, text: &str) -> Purpose {
    let relative = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    let name = relative.to_string_lossy().replace('\\', "/");
    let header = text.lines().take_while(|line| line.starts_with('#'));
    let commands = [
        ("train", Purpose::Train),
        ("sft", Purpose::Sft),
        ("eval", Purpose::Eval),
    ];
    for line in header {
        for (command, purpose) in commands {
            if line.contains(&format!("vision-ekipl {command} {name}")) {
                return purpose;
            }
        }
    }
    panic!("{name}: its header has no command that runs it");
}

fn load(path: &Path) -> Run {
    let text = fs::read_to_string(path).unwrap();
    let purpose = purpose_in_header(path, &text);
    config::load(purpose, path, &[]).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_file_loads_without_notes_and_reloads_equal() {
    let files = files(&folder());
    assert!(files.len() >= 6, "found only {files:?}");
    for path in files {
        let run = load(&path);
        assert!(run.notes.is_empty(), "{}: {:?}", path.display(), run.notes);
        let resolved = tempfile::NamedTempFile::new().unwrap();
        fs::write(resolved.path(), run.to_yaml()).unwrap();
        let purpose = purpose_in_header(&path, &fs::read_to_string(&path).unwrap());
        let mut again =
            config::load(purpose, resolved.path(), &[]).unwrap_or_else(|error| panic!("{error}"));
        // What is printed holds every key, also those that the command does not use, and says so when it is read.
        again.notes.clear();
        assert_eq!(again, run, "{}", path.display());
    }
}

#[test]
fn every_header_says_why() {
    for path in files(&folder()) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.lines().any(|line| line.starts_with("# Why: ")),
            "{}",
            path.display()
        );
    }
}

#[test]
fn the_paper_s_file_is_the_paper_s_preset() {
    let run = load(&folder().join("ekipl.yaml"));
    assert_eq!(
        (
            run.group.num_generations,
            run.group.group_size,
            run.group.external.len()
        ),
        (8, 8, 2)
    );
    assert_eq!((run.prompts_per_generation(), run.loss.beta), (14, 0.04));
    assert_eq!(
        (run.loss.loss_type, run.group.selection),
        (LossType::Grpo, Selection::TopReward)
    );
    assert_eq!(run.sampling.logprob_temperature, LogprobTemperature::Raw);
    assert_eq!(
        (
            run.sampling.temperature,
            run.sampling.top_p,
            run.sampling.top_k
        ),
        (0.9, 0.9, 50)
    );
    assert_eq!(run.sampling.max_completion_length, 512);
}

/// Two files that are compared differ only where they say so.
fn assert_differ_only_in(left: &str, right: &str, keys: &[&str]) {
    let [left, right] =
        [left, right].map(|name| serde_json::to_value(load(&folder().join(name))).unwrap());
    for (key, value) in left.as_object().unwrap() {
        let same = value == &right[key];
        assert_eq!(
            same,
            !keys.contains(&key.as_str()),
            "{key}: {value} and {}",
            right[key]
        );
    }
}

#[test]
fn baselines_differ_from_ekipl_in_the_external_actions_only() {
    let keys = ["preset", "external", "output_dir"];
    assert_differ_only_in("reason-rft-zero.yaml", "ekipl.yaml", &keys);
    assert_differ_only_in("demo/grpo.yaml", "demo/ekipl.yaml", &keys);
}
