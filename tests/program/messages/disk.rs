//! Folders that cannot be written, disks that are full, and what an earlier run keeps through all that.

use std::fs;
use std::path::Path;
#[cfg(unix)]
use std::process::Command;

use serde_json::json;
use vision_ekipl::run::folder::{Mode, RunFolder};

#[cfg(unix)]
use crate::support::program::run;
use crate::support::program::{program, text, training_refused};
use crate::support::run::{Workspace, names};

/// Every file below a folder with its bytes, except the lock.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for name in names(folder).into_iter().filter(|name| name != "run.lock") {
        let path = folder.join(&name);
        if path.is_dir() {
            let inner = contents(&path).into_iter();
            all.extend(inner.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            all.push((name, std::fs::read(path).expect("a readable file")));
        }
    }
    all
}

#[test]
fn an_output_folder_that_cannot_be_made() {
    let work = Workspace::new();
    std::fs::write(work.path("file"), "").expect("written");
    let below = work.path("file").join("run");
    let words = [
        "file/run: cannot create the folder",
        "choose an `output_dir`",
    ];
    training_refused(&work, "run", &[("output_dir", text(&below))], &words);
}

/// As administrator every folder can be written, so that the test would prove nothing.
#[cfg(unix)]
#[test]
fn an_output_folder_without_permission() {
    use std::os::unix::fs::PermissionsExt;
    let work = Workspace::new();
    let locked = work.path("locked");
    std::fs::create_dir(&locked).expect("a folder");
    std::fs::set_permissions(&locked, PermissionsExt::from_mode(0o555)).expect("permissions");
    if std::fs::write(locked.join("probe"), "").is_ok() {
        println!("SKIPPED: this user may write everywhere");
        return;
    }
    let below = locked.join("run");
    let words = ["locked/run: cannot create the folder", "ermission denied"];
    training_refused(&work, "run", &[("output_dir", text(&below))], &words);
}

#[test]
fn a_folder_that_holds_something_else() {
    let work = Workspace::new();
    let config = work.config("run", &[]);
    std::fs::create_dir(work.path("run")).expect("a folder");
    std::fs::write(work.path("run").join("notes.txt"), "mine").expect("written");
    program(&["train", text(&config)]).refused(&[
        "run: expected an empty folder, found `notes.txt`",
        "--resume_from_checkpoint true",
        "--overwrite_output_dir true",
    ]);
    assert_eq!(
        contents(&work.path("run")),
        [("notes.txt".to_owned(), b"mine".to_vec())]
    );
}

#[test]
fn nothing_to_resume_from() {
    let work = Workspace::new();
    let keys = [("resume_from_checkpoint", "true")];
    let words = [
        "run: expected a whole checkpoint",
        "found none",
        "leave out",
    ];
    training_refused(&work, "run", &keys, &words);
}

#[test]
fn a_start_that_fails_keeps_the_earlier_run() {
    let work = Workspace::new();
    let config = work.config("run", &[("max_steps", "1"), ("save_steps", "1")]);
    program(&["train", text(&config)]).done();
    let before = contents(&work.path("run"));
    assert!(
        before
            .iter()
            .any(|(name, _)| name == "checkpoint-1/model.safetensors")
    );
    let absent = work.path("absent/file");
    for key in [
        "--dataset_name",
        "--dump_rollouts",
        "--replay_rollouts",
        "--model_name_or_path",
    ] {
        let start = ["train", text(&config), "--overwrite_output_dir", "true"];
        let said = program(&[&start[..], &[key, text(&absent)]].concat());
        said.refused(&["absent/file"]);
        assert_eq!(contents(&work.path("run")), before, "after a wrong {key}");
    }
}

#[test]
fn too_little_room_for_the_checkpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let opened = RunFolder::open(folder.path(), Mode::Fresh, None).expect("an empty folder");
    opened.check_space(1).expect("one byte");
    let message = opened
        .check_space(u64::MAX)
        .expect_err("no disk is so large")
        .to_string();
    for word in [
        "expected 18446744073.7 GB of free space",
        "found ",
        "\nhint: free some",
    ] {
        assert!(message.contains(word), "{message}");
    }
}

/// A limit on the size of files stands for the disk that fills up: the write fails in the middle of the weights.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_keeps_the_last_checkpoint() {
    let work = Workspace::new();
    let config = work.config("run", &[("max_steps", "1"), ("save_steps", "1")]);
    program(&["train", text(&config)]).done();
    let last = work.path("run").join("checkpoint-1");
    let before = contents(&last);
    let limited = "trap '' XFSZ; ulimit -f 400; exec \"$0\" \"$@\"";
    let mut shell = Command::new("sh");
    shell.args([
        "-c",
        limited,
        env!("CARGO_BIN_EXE_vision-ekipl"),
        "train",
        text(&config),
    ]);
    shell.args(["--resume_from_checkpoint", "true", "--max_steps", "2"]);
    run(&mut shell).refused(&[
        "checkpoint-2: the checkpoint could not be written",
        "File too large",
        "is the disk full?",
        "checkpoint-1` with `--resume_from_checkpoint true`",
    ]);
    assert_eq!(contents(&last), before);
    let left = names(&work.path("run"));
    assert!(
        !left.iter().any(|name| name.starts_with("checkpoint-2")),
        "{left:?}"
    );
    program(&[
        "train",
        text(&config),
        "--resume_from_checkpoint",
        "true",
        "--max_steps",
        "2",
    ])
    .done();
}

/// Writing to `/dev/full` fails as on a full disk.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_the_rollouts() {
    let work = Workspace::new();
    let config = work.config("run", &[("dump_rollouts", "/dev/full")]);
    let words = [
        "/dev/full: cannot write: No space left on device",
        "the disk is not full",
    ];
    program(&["train", text(&config)]).refused(&words);
    let left = names(&work.path("run"));
    assert!(
        !left.iter().any(|name| name.starts_with("checkpoint")),
        "{left:?}"
    );
}

/// Old log-probabilities out of all measure: the loss is not a number, and the step must not reach the weights.
#[test]
fn a_step_that_is_not_finite_is_refused() {
    let work = Workspace::new();
    let path = work.path("rollouts.jsonl");
    let row = |index: usize| {
        json!({"step": 1, "id": "train-0", "source": "policy", "completion_ids": [5, 6],
               "reward": index as f64, "old_logprobs": [-1e38, -1.0]})
        .to_string()
    };
    std::fs::write(&path, (0..4).map(row).collect::<Vec<_>>().join("\n")).expect("written");
    let keys = [("replay_rollouts", text(&path)), ("max_steps", "1")];
    let config = work.config("run", &keys);
    program(&["train", text(&config)]).refused(&[
        "step 1: the update was refused; its rollouts are in ",
        "failed-step-1.jsonl",
        "nothing was written to the weights",
    ]);
    let failed = work.path("run").join("failed-step-1.jsonl");
    assert_eq!(
        std::fs::read_to_string(failed)
            .expect("the rollouts")
            .lines()
            .count(),
        4
    );
}

/// The gradients are fine, and the step is far too long: what it would leave is neither kept nor saved, and nothing goes.
#[test]
fn new_weights_that_are_not_finite_are_refused() {
    let work = Workspace::new();
    let keys = [
        ("max_steps", "1"),
        ("save_steps", "1"),
        ("save_total_limit", "1"),
        ("reward_funcs", "[repetition_penalty, format]"),
    ];
    let config = work.config("run", &keys);
    program(&["train", text(&config)]).done();
    // A finite moment whose step is beyond f32: the update, not the file, is what is wrong.
    let file = work.path("run/checkpoint-1/optimizer.safetensors");
    set_first_value(&file, "exp_avg.model.norm.weight", 1e38);
    set_first_value(&file, "exp_avg_sq.model.norm.weight", 0.0);
    let before = contents(&work.path("run/checkpoint-1"));
    let resume = ["--resume_from_checkpoint", "true", "--max_steps", "2"];
    let said = program(&[&["train", text(&config)][..], &resume].concat());
    said.refused(&["step 2: ", "the new weights of `", "are not finite"]);
    assert_eq!(contents(&work.path("run/checkpoint-1")), before);
    let left = names(&work.path("run"));
    assert!(
        !left.iter().any(|name| name.starts_with("checkpoint-2")),
        "{left:?}"
    );
}

/// Replaces the first value of an f32 tensor in a safetensors file.
fn set_first_value(file: &Path, tensor: &str, value: f32) {
    let mut bytes = fs::read(file).expect("a safetensors file");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let header: serde_json::Value =
        serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let start = header[tensor]["data_offsets"][0]
        .as_u64()
        .expect("the tensor") as usize;
    let place = 8 + length + start;
    bytes[place..place + 4].copy_from_slice(&value.to_le_bytes());
    fs::write(file, bytes).expect("written");
}
