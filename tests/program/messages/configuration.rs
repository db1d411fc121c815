//! Keys, values and files of a configuration that cannot be used.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::program::{program, refused_by, run, text, training_refused};
use crate::support::run::Workspace;

#[test]
fn groups_of_one_or_of_an_odd_number() {
    let work = Workspace::new();
    let refused = |count: &str, words: &[&str]| {
        let keys = [
            ("num_generations", count),
            ("per_device_train_batch_size", "8"),
        ];
        training_refused(&work, "run", &keys, words);
    };
    let place = format!("{}: `num_generations` is ", work.path("run.yaml").display());
    let words = [
        &place,
        "1; group-relative advantages need at least 2",
        "8 is the default",
    ];
    refused("1", &words);
    let words = [
        &place,
        "3, which does not divide the generation batch of 8 completions",
        "`per_device_train_batch_size` 8 x `steps_per_generation` 1",
        "make that product 6 or 9, or `num_generations` 2 or 4",
    ];
    refused("3", &words);
}

#[test]
fn a_typo_names_the_nearest_key() {
    let work = Workspace::new();
    let words = [
        "run.yaml: unknown key `lerning_rate`",
        "the nearest known key is `learning_rate`",
    ];
    training_refused(&work, "run", &[("lerning_rate", "1e-6")], &words);
    let config = work.config("run", &[]);
    for flag in ["--lerning_rate", "--lerning-rate"] {
        let said = program(&["train", text(&config), flag, "1e-6"]);
        assert_eq!(said.code, Some(2), "{}", said.stderr);
        assert!(said.stderr.contains(flag), "{}", said.stderr);
        assert!(said.stderr.contains("--learning_rate"), "{}", said.stderr);
    }
}

#[test]
fn values_that_a_key_does_not_take() {
    let work = Workspace::new();
    for (key, value, words) in [
        (
            "learning_rate",
            "fast",
            ["`learning_rate` is \"fast\"", "a number from 0 to 1"],
        ),
        (
            "loss_type",
            "gpro",
            [
                "`loss_type` is \"gpro\"",
                "one of grpo, bnpo, dr_grpo, dapo",
            ],
        ),
        (
            "max_completion_length",
            "0",
            ["`max_completion_length` is ", "from 1 to 1048576"],
        ),
        (
            "temperature",
            "0",
            ["`temperature` is ", "a number from 0.001 to 1000"],
        ),
        ("group_size", "9", ["`group_size` is 9", "at most 4"]),
        (
            "reward_weights",
            "[1]",
            ["has 1 weights for 3 reward functions", "one weight per"],
        ),
        (
            "max_pixels",
            "1000000000000",
            [
                "`max_pixels` is ",
                "a whole number from 1 to 67108864, or null",
            ],
        ),
    ] {
        training_refused(&work, "run", &[(key, value)], &words);
        let config = work.config("run", &[]);
        let said = program(&["train", text(&config), &format!("--{key}"), value]);
        said.refused(&[&["command line: "], &words[..]].concat());
    }
}

#[test]
fn a_file_that_is_no_configuration() {
    let work = Workspace::new();
    let path = work.path("broken.yaml");
    let train = ["train", text(&path)];
    program(&train).refused(&[
        "cannot read the configuration",
        "broken.yaml",
        "No such file",
    ]);
    for (content, words) in [
        ("beta: [1\n", ["broken.yaml: ", "line 1"]),
        ("- beta\n", ["broken.yaml: ", "flat YAML mapping"]),
        ("beta: 0\nBeta: 1\n", ["unknown key `Beta`", "`beta`"]),
        (
            "beta: 0\n",
            ["`model_name_or_path` is missing", "--model_name_or_path"],
        ),
    ] {
        std::fs::write(&path, content).expect("written");
        program(&train).refused(&words);
    }
}

#[test]
fn an_external_model_that_is_the_policy() {
    let work = Workspace::new();
    let own = work.path("run").join("checkpoint-1");
    let external = format!("[{{name: self, model_name_or_path: {}}}]", own.display());
    let words = [
        "`external` names ",
        "cannot be the policy in training",
        "checkpoint-1",
    ];
    training_refused(&work, "run", &[("external", &external)], &words);
}

/// A recipe of R1-V for TRL's SFTConfig, as it is pasted; then the same with what cannot be honoured.
#[test]
fn a_pasted_recipe_is_read_or_told_everything_at_once() {
    let work = Workspace::new();
    let recipe = [
        ("dataset_configs", "[all]"),
        ("dataset_kwargs", "{skip_prepare_dataset: true}"),
        ("dataset_num_proc", "4"),
        ("dataset_text_field", "text"),
        ("preprocessing_num_workers", "8"),
        ("packing", "false"),
        ("gradient_checkpointing", "true"),
        ("bf16", "true"),
        ("report_to", "wandb"),
        ("torch_dtype", "bfloat16"),
        ("attn_implementation", "flash_attention_2"),
        ("dataloader_num_workers", "4"),
        ("deepspeed", "zero3.json"),
    ];
    let config = work.config("recipe", &recipe);
    let said = program(&["sft", text(&config), "--dry-run"]);
    let told = said.stderr.clone();
    assert!(said.done().contains("# 10 rows (0 rejected)"));
    let warned = |key: &str| {
        told.lines()
            .any(|line| line.contains("WARN") && line.contains(&format!("`{key}` is ")))
    };
    for key in ["bf16", "dtype", "report_to", "deepspeed"] {
        assert!(warned(key), "{key}\n{told}");
    }
    let notes = told
        .lines()
        .filter(|line| line.contains("no effect"))
        .count();
    assert_eq!(notes, 2, "one note a group\n{told}");
    let keys = [
        ("packing", "true"),
        ("lerning_rate", "1"),
        ("dataset_nam", "x"),
    ];
    let words = [
        "`packing` is true: several rows are never packed",
        "2 unknown keys: `dataset_nam` (nearest: `dataset_name`), `lerning_rate` (nearest: `learning_rate`)",
    ];
    refused_by(
        "sft",
        &work,
        "recipe",
        &[&recipe[..], &keys[..]].concat(),
        &words,
    );
    let said = program(&[
        "train",
        text(&config),
        "--betta",
        "1",
        "--num_generation",
        "8",
    ]);
    assert_eq!(said.code, Some(2), "{}", said.stderr);
    for word in [
        "2 unknown flags",
        "--betta (nearest: --beta)",
        "--num_generation (nearest: --num_generations)",
    ] {
        assert!(said.stderr.contains(word), "{}", said.stderr);
    }
}

/// The home folder and variables of the environment, in the file and in flags; nothing is called `~`.
#[test]
fn paths_as_people_write_them() {
    let work = Workspace::new();
    let home = work.path("home of ünser");
    std::fs::create_dir_all(home.join("rows here")).expect("a folder");
    crate::support::run::copy_folder(
        work.rows.parent().expect("a folder"),
        &home.join("rows here"),
    );
    let rows = work
        .rows
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let keys = [
        ("dataset_name", format!("~/rows here/{rows}")),
        ("output_dir", "$OUT/run".to_owned()),
        (
            "external",
            format!(
                "[{{name: expert, path: '${{HOME}}/rows here/{}'}}]",
                work.expert.file_name().expect("a name").to_string_lossy()
            ),
        ),
        ("max_steps", "1".to_owned()),
    ];
    let keys: Vec<(&str, &str)> = keys
        .iter()
        .map(|(key, value)| (*key, value.as_str()))
        .collect();
    let config = work.config("paths", &keys);
    let mut command = Command::new(env!("CARGO_BIN_EXE_vision-ekipl"));
    command
        .args(["train", text(&config)])
        .env("HOME", &home)
        .env("OUT", work.path("out"))
        .current_dir(work.path("."));
    run(&mut command).done();
    assert!(work.path("out/run/metrics.jsonl").is_file());
    let here = crate::support::run::names(&work.path("."));
    assert!(
        !here.iter().any(|name| name.starts_with(['~', '$'])),
        "{here:?}"
    );
    // A resumed run reads the saved configuration, in which the paths are whole.
    let saved = std::fs::read_to_string(work.path("out/run/config.yaml")).expect("saved");
    assert!(
        saved.contains("home of ünser/rows here") && !saved.contains('$'),
        "{saved}"
    );
    command.env_remove("OUT");
    run(&mut command)
        .refused(&["`output_dir` is \"$OUT/run\": the environment variable `OUT` is not set"]);
}

/// Keys of services in places where people have put them.
#[test]
fn a_key_in_the_wrong_place_is_not_printed() {
    let work = Workspace::new();
    let key = "sk-live-0123456789abcdef";
    let endpoint = "name: e, base_url: 'http://127.0.0.1:9', model: m";
    for external in [
        format!("[{{{endpoint}, api_key_env: {key}}}]"),
        format!("[{{{endpoint}, api_key: {key}}}]"),
        format!("[{{name: e, api_key: {key}, base-url: 'http://127.0.0.1:9', model: m}}]"),
        format!("[{{name: e, base_url: 'http://user:{key}@127.0.0.1:9', model: m}}]"),
        format!("[{{name: e, base_url: 'http://127.0.0.1:9/{key}/v1', model: m}}]"),
        format!("[{{name: e, base_url: 'http://127.0.0.1:9', model: {key}}}]"),
        key.to_string(),
        format!("[{{{endpoint}, api_key_env: {key}"),
    ] {
        let config = work.config("run", &[]);
        for command in ["train", "teachers", "harvest"] {
            let mut words = vec![command, text(&config), "--external", &external];
            words.extend((command == "train").then_some("--dry-run"));
            let said = program(&words);
            assert_ne!(said.code, Some(0), "{external}");
            let printed = format!("{}{}", said.stdout, said.stderr);
            assert!(!printed.contains("0123456789"), "{printed}");
        }
    }
    for keys in [
        [(key, "x")],
        [("openai_key", key)],
        [("run_name", key)],
        [("seed", key)],
    ] {
        let said = program(&["train", text(&work.config("run", &keys)), "--dry-run"]);
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        assert!(!said.stderr.contains("0123456789"), "{}", said.stderr);
    }
}

/// Numbers that have hung programs or asked for terabytes: each is an error within seconds.
#[test]
fn plans_that_no_machine_can_hold() {
    let work = Workspace::new();
    let config = work.config("run", &[]);
    for flags in [
        &["--num_generations", "9000000000000000"][..],
        &[
            "--num_generations",
            "30001",
            "--per_device_train_batch_size",
            "30000",
        ],
        &[
            "--per_device_train_batch_size",
            "4611686018427387904",
            "--steps_per_generation",
            "4",
        ],
        &[
            "--per_device_train_batch_size",
            "4294967296",
            "--steps_per_generation",
            "4294967296",
        ],
        &[
            "--per_device_train_batch_size",
            "1000000",
            "--steps_per_generation",
            "1000000",
        ],
        &["--gradient_accumulation_steps", "4611686018427387904"],
        &["--num_iterations", "2147483648"],
        &["--max_steps", "9223372036854775807"],
        &["--num_train_epochs", "1e300", "--max_steps", "-1"],
        &["--learning_rate", "1e39"],
        &["--reward_weights", "1e300,1e300,1"],
        &["--temperature", "1e-46"],
        &["--top_p", "1e-46"],
        &["--max_grad_norm", "1e-300"],
        &["--max_pixels", "1000000000000"],
        &["--max_completion_length", "2147483648"],
    ] {
        let start = Instant::now();
        let words = [&["train", text(&config), "--dry-run"], flags].concat();
        let said = program(&words);
        said.refused(&[flags[0]
            .trim_start_matches('-')
            .split(' ')
            .next()
            .expect("a key")]);
        assert!(start.elapsed() < Duration::from_secs(10), "{flags:?}");
    }
    for words in [
        &[
            "init",
            "--rows",
            "x",
            "--out",
            "y",
            "--vocabulary",
            "18446744073709551615",
        ][..],
        &[
            "init", "--rows", "x", "--out", "y", "--hidden", "6144", "--layers", "128",
        ],
        &[
            "data",
            "counting",
            "--split",
            "train",
            "--count",
            "9",
            "--out",
            "y",
            "--expert-actions",
            "18446744073709551615",
        ],
        &[
            "data",
            "structure",
            "--split",
            "train",
            "--count",
            "1000000",
            "--out",
            "y",
            "--expert-actions",
            "1000",
        ],
        &[
            "generate",
            "--model",
            "m",
            "--prompt",
            "x",
            "--max-new-tokens",
            "18446744073709551615",
        ],
        &["study", "a.yaml", "--seeds", "18446744073709551615"],
    ] {
        let start = Instant::now();
        let said = program(words);
        assert!(
            matches!(said.code, Some(1 | 2)) && !said.stderr.contains("panicked"),
            "{}",
            said.stderr
        );
        assert!(start.elapsed() < Duration::from_secs(10), "{words:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_configuration_that_never_ends() {
    let work = Workspace::new();
    program(&["train", "/dev/zero", "--dry-run"]).refused(&["/dev/zero", "a pipe or a device"]);
    program(&["train", text(&work.path(".")), "--dry-run"]).refused(&["a folder"]);
    let long = work.path("long.yaml");
    std::fs::write(&long, format!("run_name: {}", "a".repeat(2_000_000))).expect("written");
    program(&["train", text(&long), "--dry-run"]).refused(&["longer than 1048576 bytes"]);
}
