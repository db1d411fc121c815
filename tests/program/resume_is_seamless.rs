//! Does a run that was interrupted and resumed end as if nothing had happened, bit for bit on the CPU?

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::golden_path;
use crate::support::run::{
    Workspace, assert_same_checkpoint, assert_same_logs, copy_folder, metric, metrics, names,
    shown, with,
};
use half::bf16;
use safetensors::SafeTensors;

type Keys<'a> = Vec<(&'a str, &'a str)>;

/// The run `name` as it stood when only `checkpoint-{step}` had been written; its logs already went further.
fn interrupted(work: &Workspace, name: &str, step: u64) -> PathBuf {
    let copy = work.path(&format!("{name}-resumed"));
    copy_folder(&work.path(name), &copy);
    for folder in names(&copy) {
        if folder.starts_with("checkpoint-") && folder != format!("checkpoint-{step}") {
            std::fs::remove_dir_all(copy.join(folder)).expect("removed");
        }
    }
    assert!(copy.join(format!("checkpoint-{step}")).is_dir());
    copy
}

/// Trains to the end, resumes a copy from `step`, and compares everything at the end.
fn resumes_seamlessly(work: &Workspace, name: &str, step: u64, keys: &Keys<'_>) {
    let whole = work.train(name, keys);
    let resumed = interrupted(work, name, step);
    let again = with(keys, &[("resume_from_checkpoint", "true")]);
    work.train(&format!("{name}-resumed"), &again);
    assert_same_logs(&resumed, &whole);
    assert!(
        metric(&whole, "grad_norm")
            .iter()
            .filter(|norm| **norm > 0.0)
            .count()
            > 2,
        "it learned something"
    );
    let last = names(&whole)
        .into_iter()
        .filter(|name| name.starts_with("checkpoint-"))
        .max()
        .expect("a checkpoint");
    assert_same_checkpoint(&resumed.join(&last), &whole.join(&last));
    assert_ne!(
        std::fs::read(whole.join(&last).join("optimizer.safetensors")).expect("a file"),
        std::fs::read(whole.join(format!("checkpoint-{step}/optimizer.safetensors")))
            .expect("a file"),
        "there was something left to learn after step {step}"
    );
}

/// The window of two logged steps is open at step 3, and a checkpoint that a kill left unfinished lies beside it.
#[test]
fn from_the_middle_of_a_logging_window() {
    let work = Workspace::new();
    let whole = work.train("run", &[("logging_steps", "2")]);
    let resumed = interrupted(&work, "run", 3);
    let partial = resumed.join("checkpoint-5.partial");
    std::fs::create_dir(&partial).expect("a new folder");
    std::fs::write(partial.join("config.json"), "{\"half\":").expect("a file");
    let keys = [("logging_steps", "2"), ("resume_from_checkpoint", "true")];
    work.train("run-resumed", &keys);
    assert_same_logs(&resumed, &whole);
    assert_same_checkpoint(&resumed.join("checkpoint-6"), &whole.join("checkpoint-6"));
    assert!(!partial.exists(), "what was half written is gone");
    let steps: Vec<u64> = metrics(&resumed)
        .iter()
        .filter_map(|row| row["step"].as_u64())
        .collect();
    assert_eq!(steps, [2, 4, 6, 6], "three windows and the summary");
}

/// Rollouts last two optimizer steps, so that the checkpoint of step 3 waits for step 4; the frozen start is loaded
/// again for the KL term, and an expert is asked anew.
#[test]
fn with_two_iterations_a_reference_model_and_an_expert() {
    let work = Workspace::new();
    let expert = format!("[{{name: expert, path: {}}}]", shown(&work.expert));
    let keys = vec![
        ("num_iterations", "2"),
        ("logging_steps", "3"),
        ("beta", "0.04"),
        ("external", expert.as_str()),
        ("selection_ties", "random"),
        ("max_completion_length", "64"),
        ("max_steps", "8"),
    ];
    resumes_seamlessly(&work, "run", 4, &keys);
}

/// The model's own files round to bf16; the exact parameters come back from the optimizer's file.
#[test]
fn from_a_checkpoint_in_bf16_with_exact_parameters() {
    let work = Workspace::new();
    let start = shown(&golden_path("qwen2vl-tiny-v5-sharded-bf16"));
    let keys = vec![
        ("model_name_or_path", start.as_str()),
        ("learning_rate", "1e-4"),
        ("save_total_limit", "2"),
    ];
    resumes_seamlessly(&work, "run", 3, &keys);
    let path = work.path("run/checkpoint-6/optimizer.safetensors");
    let bytes = std::fs::read(path).expect("a file");
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let exact = file.tensor("exact.model.norm.weight").expect("a parameter");
    let finer = exact.data().chunks_exact(4).filter(|word| {
        let value = f32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        bf16::from_f32(value).to_f32() != value
    });
    assert!(finer.count() > 0, "bf16 would have lost something");
}

/// Training longer is resuming a run that had ended.
#[test]
fn from_the_end_of_a_shorter_run() {
    let work = Workspace::new();
    let constant = ("lr_scheduler_type", "constant");
    let whole = work.train("whole", &[constant]);
    work.train("longer", &[constant, ("max_steps", "3")]);
    let keys = [constant, ("resume_from_checkpoint", "true")];
    let longer = work.train("longer", &keys);
    assert_same_logs(&longer, &whole);
    assert_same_checkpoint(&longer.join("checkpoint-6"), &whole.join("checkpoint-6"));
}

#[test]
fn a_dumped_and_a_replayed_run_resume_too() {
    let work = Workspace::new();
    let (file, copy) = (work.path("rollouts.jsonl"), work.path("copy.jsonl"));
    let whole = work.train("whole", &[("dump_rollouts", &shown(&file))]);
    std::fs::copy(&file, &copy).expect("a copied file");
    let resumed = interrupted(&work, "whole", 3);
    let keys = [("dump_rollouts", shown(&copy))];
    let mut keys: Keys<'_> = keys
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    keys.push(("resume_from_checkpoint", "true"));
    work.train("whole-resumed", &keys);
    let text = |path: &Path| std::fs::read_to_string(path).expect("rollouts");
    assert_eq!(
        text(&copy),
        text(&file),
        "the dump continues where it stood"
    );
    assert_same_logs(&resumed, &whole);

    let replayed = shown(&file);
    resumes_seamlessly(&work, "replayed", 3, &vec![("replay_rollouts", &replayed)]);
}

#[test]
fn supervised_fine_tuning_resumes() {
    let work = Workspace::new();
    let keys = [
        ("max_completion_length", "256"),
        ("per_device_train_batch_size", "2"),
        ("gradient_accumulation_steps", "2"),
        ("logging_steps", "2"),
        ("max_steps", "9"),
        ("save_total_limit", "1"),
    ];
    // The limit must not take away the folder that a resumed run copies its files from.
    let whole = work.fine_tune("whole", &with(&keys, &[("save_total_limit", "")]));
    let resumed = interrupted(&work, "whole", 3);
    let again = with(&keys, &[("resume_from_checkpoint", "true")]);
    work.fine_tune("whole-resumed", &again);
    assert_same_logs(&resumed, &whole);
    assert_same_checkpoint(&resumed.join("checkpoint-9"), &whole.join("checkpoint-9"));
    assert!(
        !resumed.join("checkpoint-3").exists(),
        "only the newest is kept"
    );
}

#[test]
fn a_limit_of_one_checkpoint_does_not_remove_the_one_resumed_from_too_early() {
    let work = Workspace::new();
    let keys = [("save_steps", "1")];
    let whole = work.train("whole", &keys);
    let resumed = interrupted(&work, "whole", 3);
    let again = with(
        &keys,
        &[
            ("save_total_limit", "1"),
            ("resume_from_checkpoint", "true"),
        ],
    );
    work.train("whole-resumed", &again);
    assert_same_logs(&resumed, &whole);
    assert_same_checkpoint(&resumed.join("checkpoint-6"), &whole.join("checkpoint-6"));
}

/// The program itself, in the background.
fn start(command: &str, config: &Path, flags: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vision-ekipl"))
        .arg(command)
        .arg(config)
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts")
}

/// Waits until the run has written `path`.
fn wait_for(path: &Path, child: &mut Child) {
    let started = Instant::now();
    while !path.exists() {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{}",
            path.display()
        );
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "{}: ended with {ended:?}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

const LONG: [(&str, &str); 3] = [
    ("max_steps", "30"),
    ("save_steps", "2"),
    ("logging_steps", "3"),
];

/// Killed twice without warning, wherever it happens to be.
#[test]
fn a_killed_program_continues() {
    let work = Workspace::new();
    let whole = work.train("whole", &LONG);
    let config = work.config("killed", &LONG);
    let killed = work.path("killed");
    for (checkpoint, flags) in [
        ("checkpoint-4", &[][..]),
        ("checkpoint-14", &["--resume_from_checkpoint", "true"][..]),
    ] {
        let mut child = start("train", &config, flags);
        wait_for(&killed.join(checkpoint), &mut child);
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert!(
            !killed.join("checkpoint-30").exists(),
            "it was not done yet"
        );
    }
    let status = start("train", &config, &["--resume_from_checkpoint", "true"]).wait();
    assert!(status.expect("ended").success());
    assert_same_logs(&killed, &whole);
    assert_same_checkpoint(&killed.join("checkpoint-30"), &whole.join("checkpoint-30"));
}

/// Ctrl-C saves what was done so far, whatever `save_steps` says.
#[cfg(unix)]
#[test]
fn an_interrupted_program_saves_and_continues() {
    let work = Workspace::new();
    let never = with(&LONG, &[("save_strategy", "no"), ("num_iterations", "2")]);
    let whole = work.train("whole", &never);
    let config = work.config("stopped", &never);
    let stopped = work.path("stopped");
    let mut child = start("train", &config, &[]);
    let log = stopped.join("metrics.jsonl");
    wait_for(&log, &mut child);
    while std::fs::read_to_string(&log)
        .expect("a log")
        .lines()
        .count()
        < 2
    {
        std::thread::sleep(Duration::from_millis(2));
    }
    crate::support::program::signal(child.id(), rustix::process::Signal::INT);
    let ended = child.wait().expect("ended");
    assert_eq!(ended.code(), Some(130), "as shells have it");
    let saved: Vec<String> = names(&stopped)
        .into_iter()
        .filter(|name| name.starts_with("checkpoint-"))
        .collect();
    let [saved] = saved.as_slice() else {
        panic!("one checkpoint, found {saved:?}");
    };
    assert_ne!(saved, "checkpoint-30", "it was stopped before its end");
    let status = start("train", &config, &["--resume_from_checkpoint", "true"]).wait();
    assert!(status.expect("ended").success());
    assert_same_logs(&stopped, &whole);
    assert_same_checkpoint(&stopped.join("checkpoint-30"), &whole.join("checkpoint-30"));
}

/// What results depend on is refused by name unless it is allowed by name; the rest is the run's own business.
#[test]
fn a_run_that_is_told_something_else_is_not_the_same_run() {
    let work = Workspace::new();
    let short = [("max_steps", "2"), ("save_steps", "1")];
    work.train("run", &short);
    let resume = [("resume_from_checkpoint", "true"), ("max_steps", "3")];
    let told = |more: &[(&str, &str)]| {
        let keys = with(&with(&short, &resume), more);
        work.try_train("run", &keys)
            .map_err(|error| format!("{error:#}"))
    };
    let other_rows = shown(&work.expert);
    for (key, value, was, allow) in [
        ("seed", "8", "`seed` was 7, is 8", "seed,data_seed"),
        ("beta", "0.5", "`beta` was 0.0, is 0.5", "beta"),
        (
            "learning_rate",
            "1e-3",
            "`learning_rate` was 0.0003, is 0.001",
            "learning_rate",
        ),
        (
            "num_generations",
            "8",
            "`num_generations` was 4, is 8",
            "num_generations",
        ),
        (
            "dataset_name",
            &other_rows,
            "`dataset_name` was",
            "dataset_name",
        ),
        (
            "freeze_vision_modules",
            "true",
            "is true",
            "freeze_vision_modules",
        ),
    ] {
        let error = told(&[(key, value)]).expect_err(key);
        assert!(error.contains(was), "{error}");
        let hint = format!("--resume_allow_changes {allow}");
        assert!(error.contains(&hint), "{hint}: {error}");
        assert_eq!(
            metrics(&work.path("run")).len(),
            3,
            "{key}: nothing is touched"
        );
    }
    let some = [
        ("beta", "0.5"),
        ("learning_rate", "1e-3"),
        ("resume_allow_changes", "[beta]"),
    ];
    let error = told(&some).expect_err("one is not allowed");
    assert!(!error.contains("`beta` was"), "{error}");
    let all = [
        ("beta", "0.5"),
        ("learning_rate", "1e-3"),
        ("resume_allow_changes", "[beta, learning_rate]"),
    ];
    told(
        &[
            &all[..],
            &[("save_total_limit", "5"), ("logging_steps", "2")],
        ]
        .concat(),
    )
    .expect("allowed");
    assert!(work.path("run/checkpoint-3").exists());
    // The same file with another answer in it is not the same data.
    let rows = std::fs::read_to_string(&work.rows).expect("rows");
    let other = rows.replacen("\"solution\": \"", "\"solution\": \"9", 1);
    assert_ne!(other, rows);
    std::fs::write(&work.rows, other).expect("written");
    let same = [
        ("beta", "0.5"),
        ("learning_rate", "1e-3"),
        ("max_steps", "4"),
    ];
    let error = told(&same).expect_err("other rows");
    assert!(error.contains("the rows say something else"), "{error}");
    std::fs::write(&work.rows, rows).expect("written");
    // From now on that is what the run is told.
    let error = told(&[("max_steps", "4")]).expect_err("the old values are the change now");
    assert!(error.contains("`beta` was 0.5, is 0.0"), "{error}");
}
