//! Does a run take exactly the optimizer steps that its keys say, each from the rollouts that belong to it?

use std::path::Path;

use crate::support::run::{Workspace, json_lines, metric, metrics, shown};

/// The sizes of a run, and what follows from them.
struct Case {
    num_generations: usize,
    batch: usize,
    accumulation: usize,
    /// `steps_per_generation`; 0 leaves it out.
    per_generation: usize,
    iterations: usize,
    /// Completions that were sampled for each of the first two steps.
    sampled: [usize; 2],
}

const fn case(sizes: [usize; 5], sampled: [usize; 2]) -> Case {
    let [
        num_generations,
        batch,
        accumulation,
        per_generation,
        iterations,
    ] = sizes;
    Case {
        num_generations,
        batch,
        accumulation,
        per_generation,
        iterations,
        sampled,
    }
}

/// The completions of a step in completions.jsonl.
fn completions_of(run: &Path, step: usize) -> usize {
    let rows = json_lines(&run.join("completions.jsonl"));
    rows.iter()
        .filter(|row| row["step"].as_u64() == Some(step as u64))
        .count()
}

/// Two steps of each: `num_generations`, `per_device_train_batch_size`, `gradient_accumulation_steps`,
/// `steps_per_generation`, `num_iterations`; only the first four cut a prompt's rows.
#[test]
fn a_generation_batch_is_exactly_the_steps_of_its_keys() {
    let work = Workspace::new();
    for (index, case) in [
        case([8, 6, 4, 0, 1], [24, 24]),
        case([8, 3, 8, 0, 1], [24, 24]),
        case([8, 12, 2, 0, 1], [24, 24]),
        case([8, 10, 4, 0, 1], [40, 40]),
        case([4, 2, 2, 4, 1], [8, 0]),   // a rollout for two steps
        case([4, 4, 1, 1, 2], [4, 0]),   // two iterations
        case([4, 4, 4, 2, 1], [16, 16]), // a step over two rollouts
        case([2, 2, 2, 3, 2], [6, 0]),   // a step over the end of an iteration
        case([2, 2, 2, 3, 1], [6, 6]),   // a step over the end of a rollout
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("run-{index}");
        let text = |number: usize| match number {
            0 => String::new(),
            number => number.to_string(),
        };
        let sizes = [
            ("num_generations", case.num_generations),
            ("per_device_train_batch_size", case.batch),
            ("gradient_accumulation_steps", case.accumulation),
            ("steps_per_generation", case.per_generation),
            ("num_iterations", case.iterations),
        ]
        .map(|(key, number)| (key, text(number)));
        let mut keys: Vec<(&str, &str)> = sizes
            .iter()
            .map(|(key, value)| (*key, value.as_str()))
            .collect();
        keys.extend([("max_steps", "2"), ("max_completion_length", "4")]);
        let run = work.train(&name, &keys);
        assert_eq!(metric(&run, "grad_norm").len(), 2, "{name}");
        assert!(run.join("checkpoint-2").is_dir(), "{name}");
        for (step, sampled) in (1..).zip(case.sampled) {
            assert_eq!(completions_of(&run, step), sampled, "{name}, step {step}");
            let row = &metrics(&run)[step - 1];
            assert_eq!(
                row.contains_key("timing_s/gen"),
                sampled > 0,
                "{name}, step {step}"
            );
        }
    }
}

/// The first pass over 10 rows at 4 prompts a rollout has 2 rollouts; its second step of 3 micro-batches is cut short.
#[test]
fn the_last_step_of_a_pass_takes_what_is_left() {
    let work = Workspace::new();
    let keys = [
        ("num_generations", "2"),
        ("per_device_train_batch_size", "4"),
        ("steps_per_generation", "2"),
        ("gradient_accumulation_steps", "3"),
        ("max_steps", "-1"),
        ("num_train_epochs", "2"),
        ("max_completion_length", "4"),
        ("save_strategy", "epoch"),
    ];
    let run = work.train("run", &keys);
    // 4 micro-batches a pass: a step of 3 and one of 1.
    assert_eq!(metric(&run, "grad_norm").len(), 4);
    for step in [2, 4] {
        assert!(run.join(format!("checkpoint-{step}")).is_dir(), "{step}");
    }
    let sampled: usize = (1..=4).map(|step| completions_of(&run, step)).sum();
    assert_eq!(sampled, 4 * 8, "two rollouts a pass");
}

/// A step over two rollouts writes both, and a replay takes them apart again.
#[test]
fn a_step_over_two_rollouts_replays() {
    let work = Workspace::new();
    let file = work.path("rollouts.jsonl");
    let dump = shown(&file);
    let sizes = [
        ("num_generations", "4"),
        ("per_device_train_batch_size", "4"),
        ("steps_per_generation", "1"),
        ("gradient_accumulation_steps", "2"),
        ("max_steps", "2"),
    ];
    let recorded = work.train(
        "recorded",
        &[&sizes[..], &[("dump_rollouts", dump.as_str())]].concat(),
    );
    let replayed = work.train(
        "replayed",
        &[&sizes[..], &[("replay_rollouts", dump.as_str())]].concat(),
    );
    assert_eq!(metric(&recorded, "loss"), metric(&replayed, "loss"));
    let weights = |run: &Path| std::fs::read(run.join("checkpoint-2/model.safetensors"));
    assert!(weights(&recorded).expect("a file") == weights(&replayed).expect("a file"));
}

#[test]
fn the_first_step_is_logged_and_evaluation_starts_when_asked() {
    let work = Workspace::new();
    let rows = format!("[{}]", shown(&work.rows));
    let keys = [
        ("logging_steps", "4"),
        ("logging_first_step", "true"),
        ("eval_on_start", "true"),
        ("eval_strategy", "steps"),
        ("eval_steps", "1"),
        ("eval_delay", "3"),
        ("eval_dataset_name", rows.as_str()),
        ("max_eval_samples", "1"),
        ("num_generations_eval", "1"),
        ("max_steps", "5"),
    ];
    let run = work.train("run", &keys);
    let steps_with = |name: &str| -> Vec<u64> {
        let rows = metrics(&run);
        let rows = rows.iter().filter(|row| row.contains_key(name));
        rows.map(|row| row["step"].as_u64().expect("a step"))
            .collect()
    };
    assert_eq!(steps_with("grad_norm"), [1, 4, 5]);
    assert_eq!(steps_with("eval_accuracy"), [0, 3, 4, 5]);
    assert_eq!(steps_with("timing_s/reward"), [1, 4, 5]);
}

/// Alpha 1 at every step makes the reference the policy that samples: the KL term is 0, where it grows without.
#[test]
fn a_reference_that_follows_the_policy_is_kept_in_checkpoints() {
    let work = Workspace::new();
    let keys = [
        ("beta", "0.04"),
        ("max_steps", "4"),
        ("save_steps", "2"),
        ("learning_rate", "1e-3"),
    ];
    let synced = |alpha: &'static str| {
        let more = [
            ("sync_ref_model", "true"),
            ("ref_model_sync_steps", "1"),
            ("ref_model_mixup_alpha", alpha),
        ];
        [&keys[..], &more].concat()
    };
    let frozen = work.train("frozen", &keys);
    let kl = metric(&frozen, "kl");
    assert!(kl[0] == 0.0 && kl[3] > 0.0, "{kl:?}");
    let followed = work.train("followed", &synced("1"));
    assert_eq!(metric(&followed, "kl"), [0.0; 4]);
    let still = work.train("still", &synced("0"));
    assert_eq!(metric(&still, "kl"), kl);
    assert!(!frozen.join("checkpoint-2/reference.safetensors").exists());

    let whole = work.train("whole", &synced("0.5"));
    let resumed = work.path("resumed");
    crate::support::run::copy_folder(&whole, &resumed);
    std::fs::remove_dir_all(resumed.join("checkpoint-4")).expect("removed");
    let again = [&synced("0.5")[..], &[("resume_from_checkpoint", "true")]].concat();
    work.train("resumed", &again);
    crate::support::run::assert_same_checkpoint(
        &resumed.join("checkpoint-4"),
        &whole.join("checkpoint-4"),
    );
}

/// Without any reward every group is flat: each step asks `max_resample_times` further rollouts, and learns from the first.
#[test]
fn flat_groups_make_room_for_further_prompts() {
    let work = Workspace::new();
    let keys = [
        ("dynamic_sampling", "true"),
        ("max_resample_times", "2"),
        ("max_steps", "1"),
    ];
    let flat = work.train(
        "flat",
        &[&keys[..], &[("reward_funcs", "[format]")]].concat(),
    );
    assert_eq!(metric(&flat, "dynamic_sampling/rollouts"), [3.0]);
    assert_eq!(metric(&flat, "dynamic_sampling/flat_groups"), [6.0]);
    assert_eq!(
        completions_of(&flat, 1),
        3 * 8,
        "what was discarded is logged, too"
    );
    let rows = json_lines(&flat.join("completions.jsonl"));
    let selected = rows.iter().filter(|row| row["selected"] == true).count();
    assert_eq!(selected, 8, "a batch has its size");

    // The expert's rewards differ from the policy's: nothing is flat.
    let expert = format!("[{{name: expert, path: {}}}]", shown(&work.expert));
    let more = [
        ("reward_funcs", "[format]"),
        ("external", expert.as_str()),
        ("selection", "all"),
        ("max_completion_length", "96"),
    ];
    let useful = work.train("useful", &[&keys[..], &more].concat());
    assert_eq!(metric(&useful, "dynamic_sampling/rollouts"), [1.0]);
    assert_eq!(metric(&useful, "dynamic_sampling/flat_groups"), [0.0]);
}
