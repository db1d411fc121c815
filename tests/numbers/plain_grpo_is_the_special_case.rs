//! Is a run without external actions plain GRPO, bit for bit, and what do external actions add to it?

use std::path::Path;

use crate::support::golden_path;
use crate::support::run::{
    ROWS, Workspace, assert_same_checkpoint, assert_same_logs, json_lines, metric, metrics, shown,
};
use serde_json::{Map, Value};

/// What the presets set and a test cannot afford.
const SMALL: [(&str, &str); 5] = [
    ("loss_type", ""),
    ("gradient_accumulation_steps", "1"),
    ("max_prompt_length", "4096"),
    ("max_completion_length", "24"),
    ("max_steps", "4"),
];

#[test]
fn ekipl_without_external_models_is_reason_rft() {
    let work = Workspace::new();
    let ekipl = [("preset", "ekipl"), ("external", "[]"), ("group_size", "4")];
    let found = work.train("ekipl", &[&SMALL[..], &ekipl].concat());
    let expected = work.train("rft", &[&SMALL[..], &[("preset", "reason-rft")]].concat());
    assert_same_logs(&found, &expected);
    assert_same_checkpoint(&found.join("checkpoint-4"), &expected.join("checkpoint-4"));
    assert!(
        metric(&found, "grad_norm").iter().all(|norm| *norm > 0.0),
        "there was a gradient to compare"
    );
    let named = metrics(&found)
        .iter()
        .any(|row| row.keys().any(|name| name.starts_with("external/")));
    assert!(!named, "plain GRPO has no external metrics");
}

/// Whatever rule selects, a pool without external actions trains whole.
#[test]
fn every_selection_rule_is_plain_grpo_without_external_models() {
    let work = Workspace::new();
    let expected = work.train("plain", &[("max_steps", "2")]);
    for rule in ["max_variance", "all", "replace_worst_if_all_wrong"] {
        let keys = [
            ("max_steps", "2"),
            ("selection", rule),
            ("selection_ties", "random"),
            ("advantage_baseline", "pool"),
            ("external_coef", "0"),
            ("external_kl", "false"),
            ("external_when", "all_wrong"),
        ];
        let found = work.train(rule, &keys);
        assert_same_logs(&found, &expected);
        assert_same_checkpoint(&found.join("checkpoint-2"), &expected.join("checkpoint-2"));
    }
}

type Row = Map<String, Value>;

fn of_source<'a>(rows: &'a [Row], source: &str) -> Vec<&'a Row> {
    rows.iter().filter(|row| row["source"] == source).collect()
}

/// The expert's recorded text joins every pool, scored like any action; where it is right it leads its group, because a
/// policy of random weights never is.
#[test]
fn recorded_actions_join_the_groups() {
    let work = Workspace::new();
    let external = format!("[{{name: expert, path: {}}}]", shown(&work.expert));
    let keys = [
        ("external", external.as_str()),
        ("max_completion_length", "200"),
        ("learning_rate", "1e-3"),
        ("max_steps", "4"),
        ("reward_funcs", "[accuracy, format]"),
    ];
    let run = work.train("run", &keys);
    let completions = json_lines(&run.join("completions.jsonl"));
    let spoken = json_lines(&work.expert);
    let actions = of_source(&completions, "expert");
    assert_eq!(actions.len(), 4 * 2, "one for each prompt of each step");
    let mut right = 0;
    for action in &actions {
        let recorded = spoken
            .iter()
            .find(|row| row["id"] == action["id"])
            .expect("recorded");
        let text = recorded["text"].as_str().expect("text");
        assert_eq!(action["completion"].as_str().expect("text"), text.trim());
        let reward = action["reward"].as_f64().expect("scored");
        assert!(reward >= 1.0, "its format is right: {action:?}");
        assert_eq!(action["selected"], true, "the best of its group");
        assert!(action["advantage"].as_f64().expect("selected") > 1.0);
        right += usize::from(action["accuracy"] == 1.0);
    }
    assert!(
        right > 0 && right < actions.len(),
        "{right} of {}",
        actions.len()
    );
    let mean = |name: &str| metric(&run, name);
    assert!(
        mean("external/groups_with_actions_frac")
            .iter()
            .all(|share| *share == 1.0)
    );
    assert!(
        mean("external/expert/fraction")
            .iter()
            .all(|share| *share == 0.25)
    );
    assert!(
        mean("external/ratio_mean")
            .iter()
            .all(|ratio| (ratio - 1.0).abs() < 1e-5)
    );
    assert!(
        mean("reward").iter().all(|reward| *reward == 0.0),
        "`reward` describes the policy alone"
    );
    let selected = completions.iter().filter(|row| row["selected"] == true);
    assert_eq!(selected.count(), 4 * 2 * 4, "the group keeps its size");
    assert_raised_probability(&mean("external/policy_prob_mean"));
}

/// Prompts differ from step to step, but the form of the answer does not.
fn assert_raised_probability(probabilities: &[f64]) {
    let [first, .., last] = probabilities else {
        panic!("several steps: {probabilities:?}");
    };
    assert!(
        last > first,
        "the policy learns the expert's words: {probabilities:?}"
    );
}

#[test]
fn a_missing_action_is_named_before_the_first_step() {
    let work = Workspace::new();
    let text = std::fs::read_to_string(&work.expert).expect("actions");
    let kept: Vec<&str> = text
        .lines()
        .filter(|line| !line.contains("\"train-4\""))
        .collect();
    assert_eq!(kept.len(), ROWS - 1);
    let path = work.path("incomplete.jsonl");
    std::fs::write(&path, kept.join("\n")).expect("written actions");
    let external = format!("[{{name: expert, path: {}}}]", shown(&path));
    let error = work
        .try_train("run", &[("external", &external)])
        .expect_err("an action is missing");
    let text = format!("{error:#}");
    assert!(
        text.contains("train-4") && text.contains("incomplete.jsonl") && text.contains("hint: "),
        "{text}"
    );
    assert!(
        !work.path("run/metrics.jsonl").exists(),
        "nothing was begun"
    );
}

/// Checkpoints of two families on the same device, one folder under two names. They were taught to answer briefly: a
/// model of random weights hardly ever ends, and what was cut off is no action.
#[test]
fn local_models_act() {
    let work = Workspace::new();
    let teacher = |name: &str, folder: &str| -> String {
        let start = shown(&golden_path(folder));
        let keys = [
            ("model_name_or_path", start.as_str()),
            ("sft_target", "answer"),
            ("learning_rate", "3e-3"),
            ("max_steps", "20"),
        ];
        shown(&work.fine_tune(name, &keys).join("checkpoint-20"))
    };
    let one = teacher("teacher-2", "qwen2vl-tiny-v5-sharded-bf16");
    let other = teacher("teacher-2.5", "qwen25vl-tiny");
    let external = format!(
        "[{{name: first, model_name_or_path: {one}, temperature: 1}}, \
         {{name: second, model_name_or_path: {one}, temperature: 1, num_actions: 2}}, \
         {{name: third, model_name_or_path: {other}, temperature: 0, max_tokens: 5}}]"
    );
    let keys = [
        ("external", external.as_str()),
        ("selection", "all"),
        ("reward_funcs", "[accuracy]"),
        ("max_steps", "2"),
    ];
    let run = work.train("run", &keys);
    let completions = json_lines(&run.join("completions.jsonl"));
    for (name, asked) in [("first", 4), ("second", 8), ("third", 4)] {
        let actions = of_source(&completions, name);
        let dropped: f64 = ["empty", "endpoint_length", "too_long", "control_token"]
            .iter()
            .flat_map(|reason| metric(&run, &format!("external/{name}/dropped/{reason}")))
            .sum();
        assert_eq!(actions.len() as f64 + dropped, f64::from(asked), "{name}");
        assert!(
            actions.len() * 2 > asked as usize,
            "{name}: {dropped} were dropped"
        );
        assert!(actions.iter().all(|action| action["selected"] == true));
    }
    let again = work.train("again", &keys);
    assert_same_logs(&again, &run);
}

/// External actions that weigh nothing, with a baseline of the policy's own, leave only the larger denominator.
#[test]
fn external_actions_without_weight_change_nothing_but_the_denominator() {
    let work = Workspace::new();
    let external = format!("[{{name: expert, path: {}}}]", shown(&work.expert));
    let common = [
        ("loss_type", "dr_grpo"),
        ("scale_rewards", "none"),
        ("max_steps", "1"),
        ("max_grad_norm", "0"),
        ("save_strategy", "no"),
        ("max_completion_length", "64"),
    ];
    let weightless = [
        ("external", external.as_str()),
        ("external_coef", "0"),
        ("selection", "all"),
        ("advantage_baseline", "policy_only"),
    ];
    let found = work.train("weightless", &[&common[..], &weightless].concat());
    let expected = work.train("plain", &common);
    let norm = |run: &Path| metric(run, "grad_norm")[0];
    let ratio = norm(&found) / norm(&expected);
    assert!(
        (ratio - 4.0 / 5.0).abs() < 1e-4,
        "{ratio}: 4 of 5 actions are the policy's"
    );
    let counted = [
        &common[..],
        &[
            ("external", external.as_str()),
            ("selection", "all"),
            ("advantage_baseline", "policy_only"),
        ],
    ]
    .concat();
    let counted = work.train("counted", &counted);
    assert!(
        (norm(&counted) / norm(&expected) - 0.8).abs() > 0.1,
        "with weight they count"
    );
}
