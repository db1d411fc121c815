//! Are loss, gradients and updates those of TRL and torch? One group of four completions on the tiny checkpoint.

use std::collections::BTreeMap;

use crate::support::{Golden, assert_close, devices, golden_path};
use burn::tensor::Device;
use serde_json::Value;
use vision_ekipl::kernels::PolicyLossOptions;
use vision_ekipl::learner::optimizer::adamw::AdamWOptions;
use vision_ekipl::learner::{Learner, LearnerOptions, MicroBatchResult};
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::record::{TokenBatch, TokenRow};

const FOLDER: &str = "qwen2vl-tiny";
const MAX_COMPLETION_LENGTH: f32 = 32.0;

pub(crate) struct Reference {
    tensors: Golden,
    json: Value,
}

pub(crate) fn reference() -> Reference {
    let text =
        std::fs::read_to_string(golden_path("golden-grpo-qwen2vl-tiny.json")).expect("golden json");
    Reference {
        tensors: Golden::open("golden-grpo-qwen2vl-tiny.safetensors"),
        json: serde_json::from_str(&text).expect("json"),
    }
}

fn learner(settings: &Value, device: &Device) -> Learner {
    let number = |key: &str| settings[key].as_f64().expect("a number") as f32;
    let loss = PolicyLossOptions {
        epsilon_low: number("epsilon"),
        epsilon_high: number("epsilon_high"),
        delta: None,
        beta: number("beta"),
        sequence_level: settings["importance_sampling_level"] == "sequence",
        bias_corrected_kl: settings["use_bias_correction_kl"] == true,
        ..PolicyLossOptions::default()
    };
    let adamw = AdamWOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        decay_everything: true,
    };
    let options = LearnerOptions {
        loss,
        adamw,
        max_grad_norm: 0.0,
        logprob_temperature: number("temperature"),
        suppressed: None,
        freeze_vision_modules: false,
        ..LearnerOptions::default()
    };
    let path = golden_path(FOLDER);
    let config = ModelConfig::open(&path).expect("config.json");
    let weights = Weights::load(&path, &Holding::trained(u64::MAX), device).expect("weights");
    Learner::new(config, weights, FOLDER, options, device).expect("a whole model")
}

/// The golden group; `temperature` selects the given old and reference log-probabilities.
pub(crate) fn batch(
    reference: &Reference,
    temperature: &str,
    rows: std::ops::Range<usize>,
) -> TokenBatch {
    let prompts = Golden::open("golden-qwen2vl-tiny.safetensors");
    let tensors = &reference.tensors;
    let width = tensors.shape("completion_ids")[1];
    let (ids, mask) = (
        tensors.ids("completion_ids"),
        tensors.f32("completion_mask"),
    );
    let (old, frozen) = (
        tensors.f32(&format!("old_logps_{temperature}")),
        tensors.f32(&format!("ref_logps_{temperature}")),
    );
    let advantages = tensors.f32("advantages");
    let row = |row: usize| {
        let length = mask[row * width..(row + 1) * width]
            .iter()
            .filter(|value| **value > 0.0)
            .count();
        let cut = |values: &[f32]| values[row * width..row * width + length].to_vec();
        TokenRow {
            advantages: vec![advantages[row]; length],
            old_logprobs: Some(cut(&old)),
            reference_logprobs: Some(cut(&frozen)),
            ..TokenRow::plain(0, ids[row * width..row * width + length].to_vec())
        }
    };
    TokenBatch {
        prompts: vec![prompts.prompt("p0", &prompts)],
        rows: rows.map(row).collect(),
    }
}

/// Each token's share in the loss, from TRL's definitions.
pub(crate) fn weights(
    loss_type: &str,
    batch: &TokenBatch,
    tokens_of_all: usize,
    accumulation: f32,
) -> Vec<Vec<f32>> {
    let rows = batch.rows.len() as f32;
    let tokens: usize = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let share = |length: usize| match loss_type {
        "grpo" => 1.0 / (rows * length as f32 * accumulation),
        "bnpo" => 1.0 / (tokens as f32 * accumulation),
        "dr_grpo" => 1.0 / (rows * MAX_COMPLETION_LENGTH * accumulation),
        "dapo" => 1.0 / tokens_of_all as f32,
        other => panic!("loss type {other}"),
    };
    batch
        .rows
        .iter()
        .map(|row| vec![share(row.token_ids.len()); row.token_ids.len()])
        .collect()
}

fn run(learner: &mut Learner, settings: &Value, batch: &TokenBatch) -> MicroBatchResult {
    let tokens: usize = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let shares = weights(
        settings["loss_type"].as_str().expect("a name"),
        batch,
        tokens,
        1.0,
    );
    learner.accumulate(batch, &shares).expect("a finite loss")
}

#[test]
fn every_loss_matches_trl_through_the_model() {
    let reference = reference();
    for (name, device) in devices() {
        let mut models: BTreeMap<String, Learner> = BTreeMap::new();
        for (configuration, settings) in reference.json["losses"].as_object().expect("losses") {
            // Software Vulkan compiles for a while; two configurations reach every branch there.
            if name != "cpu"
                && !["grpo-beta0.04-token", "dapo-beta0.04-sequence-klcorrected"]
                    .contains(&configuration.as_str())
            {
                continue;
            }
            let mut learner = learner(settings, &device);
            let temperature = if settings["temperature"] == 0.7 {
                "t0.7"
            } else {
                "t1.0"
            };
            let batch = batch(&reference, temperature, 0..4);
            let found = run(&mut learner, settings, &batch);
            let expected = settings["loss"].as_f64().expect("a number");
            assert_close(
                &format!("{name} {configuration} loss"),
                &[found.loss],
                &[expected],
                1e-4,
            );
            let tokens: Vec<f32> = found.logprobs.iter().flatten().copied().collect();
            let golden = golden_tokens(&reference, &format!("logps_{temperature}"), &batch);
            assert_close(
                &format!("{name} {configuration} log-probabilities"),
                &tokens,
                &golden,
                3e-4,
            );
            let tokens: Vec<f32> = found.entropies.iter().flatten().copied().collect();
            let golden = golden_tokens(&reference, &format!("entropies_{temperature}"), &batch);
            assert_close(
                &format!("{name} {configuration} entropies"),
                &tokens,
                &golden,
                3e-4,
            );
            models.insert(configuration.clone(), learner);
        }
        for (letter, configuration) in [("A", "grpo-beta0.04-token"), ("B", "dapo-beta0.0-token")] {
            if let Some(learner) = models.get(configuration) {
                gradients_match(&reference, letter, learner);
            }
        }
    }
}

/// [n] golden values of real tokens.
fn golden_tokens(reference: &Reference, name: &str, batch: &TokenBatch) -> Vec<f64> {
    let width = reference.tensors.shape(name)[1];
    let values = reference.tensors.f64(name);
    let rows = batch.rows.iter().enumerate();
    rows.flat_map(|(row, content)| {
        values[row * width..row * width + content.token_ids.len()].to_vec()
    })
    .collect()
}

fn gradients_match(reference: &Reference, letter: &str, learner: &Learner) {
    let norms = reference.json["gradients"][letter]["norms"]
        .as_object()
        .expect("norms");
    assert_eq!(
        learner.gradients().iter().count(),
        norms.len(),
        "every parameter has a gradient"
    );
    for (name, gradient) in learner.gradients().iter() {
        let values = host_values(gradient);
        let norm = values
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        let expected = norms[name].as_f64().expect("a number");
        // A key bias shifts all scores of a query alike up to rotary: its gradient is small, hence the floor.
        assert!(
            (norm - expected).abs() <= 1e-4 * expected.max(1e-3),
            "{letter} {name}: norm {norm}, expected {expected}"
        );
        let golden = format!("grad{letter}.{name}");
        if reference.tensors.has(&golden) {
            let expected = reference.tensors.f64(&golden);
            let largest = expected
                .iter()
                .fold(0.0f64, |largest, value| largest.max(value.abs()));
            assert_close(&golden, &values, expected, 1e-3 * largest);
        }
    }
}

#[test]
fn five_adamw_steps_follow_torch() {
    let reference = reference();
    for (name, device) in devices() {
        let settings = &reference.json["losses"]["grpo-beta0.04-token"];
        let mut learner = learner(settings, &device);
        let batch = batch(&reference, "t1.0", 0..4);
        for (step, expected) in reference.json["adamw_trace_A"]
            .as_array()
            .expect("a trace")
            .iter()
            .enumerate()
        {
            let loss = f64::from(run(&mut learner, settings, &batch).loss);
            if step == 1 {
                parameters_match(&reference, &learner);
            }
            let report = learner.apply(1e-3).expect("finite gradients");
            for (what, found, key) in [
                ("loss", loss, "loss_before"),
                ("norm", report.grad_norm, "grad_norm_before"),
            ] {
                let golden = expected[key].as_f64().expect("a number");
                let allowed = if step == 0 && what == "loss" {
                    1e-4
                } else {
                    1e-4 + 1e-3 * golden.abs()
                };
                println!("{name} step {step} {what}: {found:.7} against {golden:.7}");
                assert!(
                    (found - golden).abs() <= allowed,
                    "{name} step {step} {what}: {found}, expected {golden}"
                );
            }
        }
    }
}

/// After one step: where the gradient is not tiny, the parameter is torch's.
fn parameters_match(reference: &Reference, learner: &Learner) {
    for name in reference
        .tensors
        .names()
        .filter(|name| name.starts_with("step1."))
    {
        let parameter = name.trim_start_matches("step1.");
        let expected = reference.tensors.f64(name);
        let found = host_values(learner.weights.values(parameter).expect("a parameter"));
        let gradient = reference.tensors.f64(&format!("gradA.{parameter}"));
        for (index, found) in found.iter().enumerate() {
            let allowed = if gradient[index].abs() > 1e-6 {
                5e-6
            } else {
                2e-3 + 5e-6
            };
            let difference = (f64::from(*found) - expected[index]).abs();
            assert!(
                difference <= allowed,
                "{parameter}[{index}]: {found}, expected {}",
                expected[index]
            );
        }
    }
}

#[test]
fn two_micro_batches_add_up_to_trls() {
    let reference = reference();
    let device = Device::flex();
    for (loss_type, expected) in reference.json["micro_batches"]
        .as_object()
        .expect("micro-batches")
    {
        let settings = &reference.json["losses"][format!("{loss_type}-beta0.04-token")];
        let mut learner = learner(settings, &device);
        let whole = batch(&reference, "t1.0", 0..4);
        let tokens: usize = whole.rows.iter().map(|row| row.token_ids.len()).sum();
        for part in 0..2 {
            let micro = batch(&reference, "t1.0", part * 2..part * 2 + 2);
            let shares = weights(loss_type, &micro, tokens, 2.0);
            let found = learner
                .accumulate(&micro, &shares)
                .expect("a finite loss")
                .loss;
            let golden = expected["losses"][part].as_f64().expect("a number");
            assert_close(
                &format!("{loss_type} micro-batch {part}"),
                &[found],
                &[golden],
                1e-4,
            );
        }
    }
}

#[test]
fn accumulated_gradients_equal_those_of_the_larger_batch() {
    let reference = reference();
    let device = Device::flex();
    let settings = &reference.json["losses"]["dapo-beta0.04-token"];
    let whole = batch(&reference, "t1.0", 0..4);
    let tokens: usize = whole.rows.iter().map(|row| row.token_ids.len()).sum();
    let mut once = learner(settings, &device);
    once.accumulate(&whole, &weights("dapo", &whole, tokens, 1.0))
        .expect("a finite loss");
    let mut twice = learner(settings, &device);
    for rows in [0..1, 1..4] {
        let micro = batch(&reference, "t1.0", rows);
        twice
            .accumulate(&micro, &weights("dapo", &micro, tokens, 1.0))
            .expect("a finite loss");
    }
    for ((name, once), (_, twice)) in once.gradients().iter().zip(twice.gradients().iter()) {
        let expected: Vec<f64> = host_values(once).into_iter().map(f64::from).collect();
        let largest = expected
            .iter()
            .fold(1e-6f64, |largest, value| largest.max(value.abs()));
        assert_close(name, &host_values(twice), &expected, 1e-4 * largest);
    }
}

#[test]
fn a_step_that_is_not_finite_never_reaches_the_weights() {
    let reference = reference();
    let settings = &reference.json["losses"]["grpo-beta0.04-token"];
    let mut learner = learner(settings, &Device::flex());
    let before = host_values(
        learner
            .weights
            .values("model.norm.weight")
            .expect("a parameter"),
    );
    let mut bad = batch(&reference, "t1.0", 0..4);
    let row: &mut TokenRow = &mut bad.rows[1];
    row.advantages = vec![f32::NAN; row.token_ids.len()];
    let tokens: usize = bad.rows.iter().map(|row| row.token_ids.len()).sum();
    let shares = weights("grpo", &bad, tokens, 1.0);
    let error = learner
        .accumulate(&bad, &shares)
        .expect_err("NaN advantages");
    assert!(error.to_string().starts_with("the loss is NaN"), "{error}");
    assert!(learner.gradients().is_empty(), "nothing is left to apply");
    let after = host_values(
        learner
            .weights
            .values("model.norm.weight")
            .expect("a parameter"),
    );
    assert_eq!(before, after, "the weights are untouched");
}

#[test]
fn frozen_parts_get_no_gradient() {
    let reference = reference();
    let settings = &reference.json["losses"]["grpo-beta0.04-token"];
    let path = golden_path(FOLDER);
    let device = Device::flex();
    let config = ModelConfig::open(&path).expect("config.json");
    let weights = Weights::load(&path, &Holding::trained(u64::MAX), &device).expect("weights");
    let options = LearnerOptions {
        loss: PolicyLossOptions {
            epsilon_low: 0.2,
            epsilon_high: 0.28,
            delta: None,
            beta: 0.04,
            sequence_level: false,
            ..PolicyLossOptions::default()
        },
        adamw: AdamWOptions {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay_everything: false,
        },
        max_grad_norm: 1.0,
        logprob_temperature: 1.0,
        suppressed: None,
        freeze_vision_modules: true,
        ..LearnerOptions::default()
    };
    let mut learner =
        Learner::new(config, weights, FOLDER, options, &device).expect("a whole model");
    run(&mut learner, settings, &batch(&reference, "t1.0", 0..4));
    assert!(
        learner
            .gradients()
            .iter()
            .all(|(name, _)| !name.starts_with("visual.")),
        "no vision gradient"
    );
    let frozen = |learner: &Learner| {
        host_values(
            learner
                .weights
                .values("visual.merger.mlp.0.weight")
                .expect("there"),
        )
    };
    let moving = |learner: &Learner| {
        host_values(learner.weights.values("model.norm.weight").expect("there"))
    };
    let (before, before_moving) = (frozen(&learner), moving(&learner));
    learner.apply(1e-3).expect("finite gradients");
    assert_eq!(before, frozen(&learner), "frozen tensors are bit-identical");
    assert_ne!(before_moving, moving(&learner), "trainable tensors move");
}

const NORM: &str = "model.norm.weight";

/// The golden group under these options, with the first weight of the final norm moved by `nudge`; and that weight's
/// gradient.
fn nudged(entropy_coef: f32, top_entropy_quantile: f64, nudge: f32) -> (MicroBatchResult, f64) {
    let (path, device) = (golden_path(FOLDER), Device::flex());
    let config = ModelConfig::open(&path).expect("config.json");
    let mut all = Weights::load(&path, &Holding::trained(u64::MAX), &device).expect("weights");
    let mut norm = host_values(all.values(NORM).expect("a parameter"));
    norm[0] += nudge;
    let shape = vec![norm.len()];
    all.insert(NORM, norm, shape, &device);
    let options = LearnerOptions {
        entropy_coef,
        top_entropy_quantile,
        ..LearnerOptions::default()
    };
    let mut learner = Learner::new(config, all, FOLDER, options, &device).expect("a whole model");
    let batch = batch(&reference(), "t1.0", 0..4);
    let tokens = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let result = learner
        .accumulate(&batch, &weights("dapo", &batch, tokens, 1.0))
        .expect("a finite loss");
    let gradient = learner.gradients().iter().find(|(name, _)| *name == NORM);
    let gradient = host_values(gradient.expect("the norm is trained").1)[0];
    (result, f64::from(gradient))
}

fn mean_entropy(result: &MicroBatchResult) -> f64 {
    let all = result.entropies.concat();
    all.iter().map(|entropy| f64::from(*entropy)).sum::<f64>() / all.len() as f64
}

/// TRL subtracts `entropy_coef` times the mean entropy; the gradient follows it down to the weights.
#[test]
fn an_entropy_bonus_changes_loss_and_gradient_by_what_it_says() {
    let ((plain, slope), (with, steeper)) = (nudged(0.0, 1.0, 0.0), nudged(0.5, 1.0, 0.0));
    assert_eq!(plain.policy_loss, None);
    let policy = with.policy_loss.expect("a loss beside the bonus");
    assert!((policy - plain.loss).abs() < 1e-5, "{policy}");
    let bonus = f64::from(plain.loss) - f64::from(with.loss);
    let mean = mean_entropy(&plain);
    assert!(
        (bonus - 0.5 * mean).abs() < 1e-5,
        "{bonus} of a mean entropy of {mean}"
    );
    let step = 0.05;
    let mean_at = |nudge| mean_entropy(&nudged(0.0, 1.0, nudge).0);
    let expected = -0.5 * (mean_at(step) - mean_at(-step)) / f64::from(2.0 * step);
    let found = steeper - slope;
    assert!(
        (found - expected).abs() < 2e-2 * expected.abs() + 1e-5,
        "{found}, finite difference {expected}"
    );
}

/// A quarter of the tokens, those of the highest entropy, have a policy loss and a bonus; the others have none.
#[test]
fn uncertain_tokens_alone_have_a_policy_loss() {
    let (result, _) = nudged(0.5, 0.25, 0.0);
    let (plain, _) = nudged(0.0, 0.25, 0.0);
    let (terms, entropies) = (result.loss_terms.concat(), result.entropies.concat());
    let kept: Vec<usize> = (0..terms.len())
        .filter(|token| terms[*token] != 0.0)
        .collect();
    let lowest = kept
        .iter()
        .map(|token| entropies[*token])
        .fold(f32::INFINITY, f32::min);
    let above = entropies
        .iter()
        .filter(|entropy| **entropy >= lowest)
        .count();
    assert_eq!(kept.len(), above, "all that are as uncertain are kept");
    let share = kept.len() as f64 / terms.len() as f64;
    assert!(
        (share - 0.25).abs() < 0.03,
        "{share} of {} tokens",
        terms.len()
    );
    let mean: f64 = kept
        .iter()
        .map(|token| f64::from(entropies[*token]))
        .sum::<f64>()
        / kept.len() as f64;
    let bonus = f64::from(plain.loss) - f64::from(result.loss);
    assert!(
        (bonus - 0.5 * mean).abs() < 1e-5,
        "{bonus} of a mean entropy of {mean}"
    );
}
