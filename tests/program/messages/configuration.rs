//! Keys, values and files of a configuration that cannot be used.

use crate::support::program::{program, text, training_refused};
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
