//! Does every `external_ratio` give the loss of its formula through the model, and the gradient of that loss?
//!
//! The numbers come from `golden/external_ratios.py`, which knows the formulas and nothing of this program.

use std::collections::BTreeMap;

use crate::support::{Golden, assert_close, devices, golden_path};
use burn::tensor::Device;
use serde_json::Value;
use vision_ekipl::actions::external_ratio::{
    ExternalRatio, ExternalRatioOptions, SupervisedShare, WeightLevel, stamp,
};
use vision_ekipl::kernels::PolicyLossOptions;
use vision_ekipl::learner::batch::{LossType, LossWeightOptions, loss_weights};
use vision_ekipl::learner::optimizer::adamw::AdamWOptions;
use vision_ekipl::learner::{Learner, LearnerOptions};
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::record::{Source, TokenBatch, TokenRow};

const FOLDER: &str = "qwen2vl-tiny";

fn learner(device: &Device) -> Learner {
    let loss = PolicyLossOptions {
        epsilon_low: 0.2,
        epsilon_high: 0.2,
        delta: None,
        beta: 0.04,
        sequence_level: false,
        ..PolicyLossOptions::default()
    };
    let options = LearnerOptions {
        loss,
        adamw: AdamWOptions {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay_everything: false,
        },
        max_grad_norm: 0.0,
        logprob_temperature: 1.0,
        suppressed: None,
        freeze_vision_modules: false,
        ..LearnerOptions::default()
    };
    let path = golden_path(FOLDER);
    let config = ModelConfig::open(&path).expect("config.json");
    let weights = Weights::load(&path, &Holding::trained(u64::MAX), device).expect("weights");
    Learner::new(config, weights, FOLDER, options, device).expect("a whole model")
}

/// The golden group, its last two rows external. The external model's log-probabilities are the policy's old ones plus
/// 0.3 and minus 0.2 in turn, as in the script.
fn batch() -> TokenBatch {
    let prompts = Golden::open("golden-qwen2vl-tiny.safetensors");
    let golden = Golden::open("golden-grpo-qwen2vl-tiny.safetensors");
    let width = golden.shape("completion_ids")[1];
    let (ids, mask) = (golden.ids("completion_ids"), golden.f32("completion_mask"));
    let (old, frozen) = (golden.f32("old_logps_t1.0"), golden.f32("ref_logps_t1.0"));
    let advantages = golden.f32("advantages");
    let row = |row: usize| {
        let start = row * width;
        let length = mask[start..start + width]
            .iter()
            .filter(|value| **value > 0.0)
            .count();
        let old = old[start..start + length].to_vec();
        let is_external = row >= 2;
        let shifted = |(token, old): (usize, &f32)| old + if token % 2 == 0 { 0.3 } else { -0.2 };
        let external: Vec<f32> = old.iter().enumerate().map(shifted).collect();
        TokenRow {
            source: if is_external {
                Source::External("expert".into())
            } else {
                Source::Policy
            },
            advantages: vec![advantages[row]; length],
            old_logprobs: Some(old),
            reference_logprobs: Some(frozen[start..start + length].to_vec()),
            external_logprobs: is_external.then_some(external),
            ..TokenRow::plain(0, ids[start..start + length].to_vec())
        }
    };
    TokenBatch {
        prompts: vec![prompts.prompt("p0", &prompts)],
        rows: (0..4).map(row).collect(),
    }
}

fn options(name: &str) -> ExternalRatioOptions {
    let ratio = match name.split(' ').next().expect("a word") {
        "same" => ExternalRatio::Same,
        "luffy" => ExternalRatio::Luffy,
        "rl_plus" => ExternalRatio::RlPlus,
        "unit" => ExternalRatio::Unit,
        "is" => ExternalRatio::Is,
        "snis" => ExternalRatio::Snis,
        "chord" => ExternalRatio::Chord,
        "hpt" => ExternalRatio::Hpt,
        other => panic!("no ratio {other}"),
    };
    ExternalRatioOptions {
        ratio,
        gamma: (!name.ends_with("unshaped")).then_some(0.1),
        weight_level: if name.ends_with("token") {
            WeightLevel::Token
        } else {
            WeightLevel::Sequence
        },
        weight_cap: 3.0,
        share: SupervisedShare::Constant(0.25),
        uncertainty_weighted: !name.ends_with("phi"),
        coefficient: 1.0,
        model_weights: BTreeMap::new(),
    }
}

fn stamped(name: &str) -> (TokenBatch, Vec<Vec<f32>>) {
    let mut batch = batch();
    stamp(&mut batch, &options(name), 0).expect("can be stamped");
    let aggregation = LossWeightOptions {
        loss_type: LossType::Grpo,
        max_completion_length: 32,
        steps: 1.0,
    };
    let weights = loss_weights(std::slice::from_ref(&batch), &aggregation).remove(0);
    (batch, weights)
}

#[test]
fn every_ratio_has_the_loss_of_its_formula() {
    let text =
        std::fs::read_to_string(golden_path("../external_ratios.json")).expect("the numbers");
    let expected: BTreeMap<String, Value> = serde_json::from_str(&text).expect("json");
    assert_eq!(expected.len(), 11);
    for (device_name, device) in devices() {
        let mut learner = learner(&device);
        for (name, expected) in &expected {
            let (batch, weights) = stamped(name);
            let found = learner.accumulate(&batch, &weights).expect("a finite loss");
            let expected = expected.as_f64().expect("a number");
            let tolerance = 3e-6 * expected.abs().max(1.0);
            assert_close(
                &format!("{device_name} {name}"),
                &[found.loss],
                &[expected],
                tolerance,
            );
        }
    }
}

/// Steps along one tensor and compares the change of the loss with the gradient, where nothing in the formula is held
/// fixed; the schemes that hold a factor fixed have the slope of one of these times that factor.
#[test]
fn gradients_are_those_of_the_loss() {
    const TENSOR: &str = "model.embed_tokens.weight";
    let (_, device) = devices()
        .into_iter()
        .find(|(name, _)| *name == "cpu")
        .expect("the CPU is always there");
    for name in ["luffy", "luffy unshaped", "unit", "hpt"] {
        let (batch, weights) = stamped(name);
        let mut whole = learner(&device);
        whole.accumulate(&batch, &weights).expect("a finite loss");
        let gradients = whole
            .gradients()
            .iter()
            .find(|(found, _)| found.as_str() == TENSOR);
        let gradient = gradients
            .map(|(_, gradient)| gradient.clone())
            .expect("a gradient");
        let norm = host_values(&gradient)
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            .sqrt();
        let direction = gradient.div_scalar(norm);
        let loss_at = |step: f64| {
            let mut moved = learner(&device);
            let value = moved.weights.values(TENSOR).expect("the tensor").clone()
                + direction.clone().mul_scalar(step);
            moved.weights.replace(TENSOR, value);
            f64::from(
                moved
                    .accumulate(&batch, &weights)
                    .expect("a finite loss")
                    .loss,
            )
        };
        let step = 2e-4;
        let slope = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        assert!(
            (slope / norm - 1.0).abs() < 0.01,
            "{name}: slope {slope}, gradient {norm}"
        );
    }
}
