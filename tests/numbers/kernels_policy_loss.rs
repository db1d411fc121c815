//! Is `policy_loss` TRL's loss, in value, statistics and gradient, on every device?

use crate::support::{Golden, assert_close, devices, golden_path};
use burn::tensor::{Device, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use vision_ekipl::kernels::{
    PolicyLossInput, PolicyLossOptions, Surrogate, policy_loss, policy_loss_metrics,
};

/// One batch on the host, every field [R, T].
#[derive(Clone)]
struct Batch {
    shape: [usize; 2],
    logprobs: Vec<f32>,
    old_logprobs: Vec<f32>,
    reference_logprobs: Option<Vec<f32>>,
    advantages: Vec<f32>,
    mask: Vec<f32>,
    weights: Vec<f32>,
    kl_weights: Option<Vec<f32>>,
    surrogate_weights: Option<Vec<f32>>,
}

struct Outcome {
    loss: f32,
    terms: Vec<f32>,
    gradient: Vec<f32>,
}

impl Batch {
    /// Loss, terms and the gradient of `factor` times the loss, after noise has gone through the device's memory.
    fn run_scaled(&self, device: &Device, options: &PolicyLossOptions, factor: f32) -> Outcome {
        let elements = self.mask.len();
        drop(Tensor::<1>::full([7 * elements], f32::NAN, device).into_data());
        let device = device.clone().autodiff();
        let tensor = |values: &Vec<f32>| {
            Tensor::<2>::from_data(TensorData::new(values.clone(), self.shape), &device)
        };
        let logprobs = tensor(&self.logprobs).require_grad();
        let input = PolicyLossInput {
            logprobs: logprobs.clone(),
            old_logprobs: tensor(&self.old_logprobs),
            reference_logprobs: self.reference_logprobs.as_ref().map(tensor),
            advantages: tensor(&self.advantages),
            mask: tensor(&self.mask),
            weights: tensor(&self.weights),
            kl_weights: self.kl_weights.as_ref().map(tensor),
            surrogate_weights: self.surrogate_weights.as_ref().map(tensor),
        };
        let result = policy_loss(input, options);
        assert_eq!(result.loss.dims(), [1]);
        assert_eq!(result.terms.dims(), [5, self.shape[0], self.shape[1]]);
        let gradients = (result.loss.clone() * factor).backward();
        let read = |data: TensorData| data.try_to_vec::<f32>().expect("f32");
        Outcome {
            loss: read(result.loss.into_data())[0],
            terms: read(result.terms.into_data()),
            gradient: read(
                logprobs
                    .grad(&gradients)
                    .expect("logprobs are tracked")
                    .into_data(),
            ),
        }
    }

    fn run(&self, device: &Device, options: &PolicyLossOptions) -> Outcome {
        self.run_scaled(device, options, 1.0)
    }
}

fn plain_options() -> PolicyLossOptions {
    PolicyLossOptions {
        epsilon_high: 0.28,
        ..PolicyLossOptions::default()
    }
}

/// The aggregation of a loss type as a weight per token, from TRL's definition (`accumulation` micro-batches).
fn weights(
    loss_type: &str,
    mask: &[f32],
    [rows, tokens]: [usize; 2],
    accumulation: f32,
    batch_tokens: f32,
) -> Vec<f32> {
    let counted = |row: usize| {
        mask[row * tokens..(row + 1) * tokens]
            .iter()
            .sum::<f32>()
            .max(1.0)
    };
    let total: f32 = mask.iter().sum();
    let weight = |row: usize| match loss_type {
        "grpo" => 1.0 / (counted(row) * rows as f32 * accumulation),
        "bnpo" => 1.0 / (total.max(1.0) * accumulation),
        "dr_grpo" => 1.0 / (rows as f32 * 32.0 * accumulation),
        "dapo" => 1.0 / batch_tokens,
        other => panic!("{other} is not in the golden file"),
    };
    (0..mask.len())
        .map(|index| weight(index / tokens))
        .collect()
}

/// The golden group of 4 completions with 23 tokens at a temperature, garbage where the mask is 0.
fn golden_batch(golden: &Golden, loss_type: &str, temperature: &str) -> Batch {
    let mask = golden.f32("completion_mask");
    let shape = [4, mask.len() / 4];
    let masked = |name: &str| {
        let values = golden.f32(&format!("{name}_t{temperature}"));
        values
            .iter()
            .zip(&mask)
            .map(|(&value, &mask)| if mask > 0.0 { value } else { f32::NAN })
            .collect()
    };
    let advantages = golden.f32("advantages");
    Batch {
        shape,
        logprobs: masked("logps"),
        old_logprobs: masked("old_logps"),
        reference_logprobs: Some(masked("ref_logps")),
        advantages: (0..mask.len())
            .map(|index| advantages[index / shape[1]])
            .collect(),
        weights: weights(loss_type, &mask, shape, 1.0, mask.iter().sum()),
        mask,
        kl_weights: None,
        surrogate_weights: None,
    }
}

fn golden_json() -> Value {
    let text = std::fs::read_to_string(golden_path("golden-grpo-qwen2vl-tiny.json"))
        .expect("a golden file");
    serde_json::from_str(&text).expect("JSON")
}

fn golden_options(entry: &Value) -> PolicyLossOptions {
    let number = |key: &str| entry[key].as_f64().expect("a number") as f32;
    PolicyLossOptions {
        epsilon_low: number("epsilon"),
        epsilon_high: number("epsilon_high"),
        beta: number("beta"),
        sequence_level: entry["importance_sampling_level"] == "sequence",
        bias_corrected_kl: entry["use_bias_correction_kl"] == true,
        ..PolicyLossOptions::default()
    }
}

#[test]
fn loss_metrics_and_gradient_match_trl_for_every_configuration() {
    let (json, golden) = (
        golden_json(),
        Golden::open("golden-grpo-qwen2vl-tiny.safetensors"),
    );
    for (device_name, device) in devices() {
        for (name, entry) in json["losses"].as_object().expect("an object") {
            let options = golden_options(entry);
            let temperature = format!("{:.1}", entry["temperature"].as_f64().expect("a number"));
            let batch = golden_batch(
                &golden,
                entry["loss_type"].as_str().expect("a name"),
                &temperature,
            );
            let outcome = batch.run(&device, &options);
            let what = format!("{device_name} {name}");
            assert_close(
                &what,
                &[outcome.loss],
                &[entry["loss"].as_f64().expect("a number")],
                2e-6,
            );
            assert_close(
                &what,
                &outcome.gradient,
                golden.f64(&format!("dlogps.{name}")),
                1e-6,
            );
            let metrics =
                policy_loss_metrics(&outcome.terms, &batch.mask, batch.shape[1], &options);
            for (key, value) in metrics.named() {
                if let Some(expected) = entry["metrics"][key].as_f64() {
                    assert!(
                        (value - expected).abs() <= 2e-6,
                        "{what}: {key} is {value}, expected {expected}"
                    );
                } else {
                    assert!(
                        key == "kl" && options.beta == 0.0,
                        "{what}: the golden file lacks {key}"
                    );
                }
            }
        }
    }
}

#[test]
fn micro_batches_add_up_as_in_trl() {
    let (json, golden) = (
        golden_json(),
        Golden::open("golden-grpo-qwen2vl-tiny.safetensors"),
    );
    let options = PolicyLossOptions {
        beta: 0.04,
        ..plain_options()
    };
    for (loss_type, entry) in json["micro_batches"].as_object().expect("an object") {
        let whole = golden_batch(&golden, loss_type, "1.0");
        let half = whole.mask.len() / 2;
        for (index, expected) in entry["losses"]
            .as_array()
            .expect("a list")
            .iter()
            .enumerate()
        {
            let part = |values: &Vec<f32>| values[index * half..(index + 1) * half].to_vec();
            let shape = [2, whole.shape[1]];
            let mask = part(&whole.mask);
            let batch = Batch {
                shape,
                logprobs: part(&whole.logprobs),
                old_logprobs: part(&whole.old_logprobs),
                reference_logprobs: whole.reference_logprobs.as_ref().map(part),
                advantages: part(&whole.advantages),
                weights: weights(loss_type, &mask, shape, 2.0, whole.mask.iter().sum()),
                mask,
                kl_weights: None,
                surrogate_weights: None,
            };
            let loss = batch.run(&Device::flex(), &options).loss;
            assert_close(
                &format!("{loss_type} part {index}"),
                &[loss],
                &[expected.as_f64().expect("a number")],
                2e-6,
            );
        }
    }
}

/// Log-probabilities near each other, some tokens masked, whole rows masked now and then.
fn random_batch(seed: u64, shape: [usize; 2]) -> Batch {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let elements = shape[0] * shape[1];
    let mut vector = |low: f32, high: f32| -> Vec<f32> {
        (0..elements)
            .map(|_| random.random_range(low..high))
            .collect()
    };
    let logprobs = vector(-6.0, 0.0);
    let near = |offsets: Vec<f32>| {
        logprobs
            .iter()
            .zip(offsets)
            .map(|(logprob, offset)| logprob + offset)
            .collect()
    };
    let (old_logprobs, reference_logprobs) = (near(vector(-0.6, 0.6)), near(vector(-1.5, 1.5)));
    let advantages = vector(-2.0, 2.0);
    let mut mask: Vec<f32> = vector(0.0, 1.0)
        .iter()
        .map(|&value| f32::from(u8::from(value < 0.8)))
        .collect();
    mask.chunks_mut(shape[1])
        .skip(2)
        .step_by(5)
        .for_each(|row| row.fill(0.0));
    mask[0] = 1.0;
    let weights = vector(0.1, 1.0)
        .iter()
        .map(|weight| weight / elements as f32)
        .collect();
    let kl_weights = Some(vector(0.0, 2.0));
    let surrogate_weights = Some(vector(0.0, 1.5));
    let reference_logprobs = Some(reference_logprobs);
    Batch {
        shape,
        logprobs,
        old_logprobs,
        reference_logprobs,
        advantages,
        mask,
        weights,
        kl_weights,
        surrogate_weights,
    }
}

/// Every switch on and off, with a cap that acts, and every surrogate.
fn all_options() -> Vec<PolicyLossOptions> {
    let sapo = Surrogate::Sapo {
        positive: 1.0,
        negative: 1.05,
    };
    let mut all = Vec::new();
    for surrogate in [Surrogate::Cispo, sapo] {
        for sequence_level in [false, true] {
            all.push(PolicyLossOptions {
                surrogate,
                epsilon_high: 1.2,
                sequence_level,
                beta: 0.1,
                bias_corrected_kl: sequence_level,
                ..plain_options()
            });
        }
    }
    for sequence_level in [false, true] {
        for bias_corrected_kl in [false, true] {
            for (beta, delta) in [
                (0.0, None),
                (0.1, None),
                (0.1, Some(1.5)),
                (0.04, Some(1.1)),
            ] {
                all.push(PolicyLossOptions {
                    sequence_level,
                    bias_corrected_kl,
                    beta,
                    delta,
                    ..plain_options()
                });
            }
        }
    }
    all
}

#[test]
fn every_device_agrees_with_the_twin_on_odd_sizes() {
    let cpu = Device::flex();
    for (device_name, device) in devices().into_iter().skip(1) {
        for (seed, shape) in [
            [1, 1],
            [1, 31],
            [31, 33],
            [33, 1023],
            [1023, 7],
            [65_537, 3],
        ]
        .into_iter()
        .enumerate()
        {
            let batch = random_batch(seed as u64, shape);
            for options in all_options()
                .into_iter()
                .step_by(if shape[0] > 60_000 { 5 } else { 1 })
            {
                let (expected, found) = (batch.run(&cpu, &options), batch.run(&device, &options));
                let wide = |values: &[f32]| {
                    values
                        .iter()
                        .map(|&value| f64::from(value))
                        .collect::<Vec<_>>()
                };
                let what = format!("{device_name} {shape:?} {options:?}");
                let largest = |values: &[f32]| {
                    values
                        .iter()
                        .fold(0.0, |largest: f32, value| largest.max(value.abs()))
                };
                assert_close(&what, &[found.loss], &[f64::from(expected.loss)], 1e-5);
                let tolerance = f64::from(largest(&expected.terms)).max(1.0) * 2e-6;
                assert_close(&what, &found.terms, &wide(&expected.terms), tolerance);
                let tolerance = f64::from(largest(&expected.gradient)) * 1e-5;
                assert_close(&what, &found.gradient, &wide(&expected.gradient), tolerance);
            }
        }
    }
}

#[test]
fn the_gradient_is_the_finite_difference() {
    const STEP: f32 = 2e-3;
    for (device_name, device) in devices() {
        let mut batch = random_batch(7, [3, 4]);
        batch.weights.fill(1.0);
        for mut options in all_options() {
            if options.surrogate == Surrogate::Cispo {
                // Its ratio is a constant to the gradient: below every ratio the cap is one in truth.
                options.epsilon_high = 0.1;
            }
            let found = batch.run_scaled(&device, &options, 3.0).gradient;
            for index in 0..found.len() {
                let shifted = |step: f32| {
                    let mut batch = batch.clone();
                    batch.logprobs[index] += step;
                    f64::from(batch.run(&device, &options).loss)
                };
                let expected = 3.0 * (shifted(STEP) - shifted(-STEP)) / f64::from(2.0 * STEP);
                let difference = (f64::from(found[index]) - expected).abs();
                assert!(
                    difference < 5e-3 * expected.abs().max(1.0),
                    "{device_name} {options:?} token {index}: {}, finite difference {expected}",
                    found[index]
                );
            }
        }
    }
}

/// One token with ratio `exp(log_ratio)`, advantage 1 or -1.
fn single(log_ratio: f32, advantage: f32) -> Batch {
    Batch {
        shape: [1, 1],
        logprobs: vec![log_ratio - 1.0],
        old_logprobs: vec![-1.0],
        reference_logprobs: None,
        advantages: vec![advantage],
        mask: vec![1.0],
        weights: vec![1.0],
        kl_weights: None,
        surrogate_weights: None,
    }
}

#[test]
fn the_four_corners_of_the_clip() {
    let (low, high) = (0.5_f32.ln(), 2.0_f32.ln());
    // log-ratio, advantage, delta -> l, gradient, clipped below, clipped above
    let cases = [
        (0.0, 1.0, None, -1.0, -1.0, 0.0, 0.0),
        (low, 1.0, None, -0.5, -0.5, 0.0, 0.0),
        (low, -1.0, None, 0.8, 0.0, 1.0, 0.0),
        (high, 1.0, None, -1.28, 0.0, 0.0, 1.0),
        (high, -1.0, None, 2.0, 2.0, 0.0, 0.0),
        (high, -1.0, Some(1.5), 1.5, 0.0, 0.0, 0.0),
        (0.1, 0.0, None, 0.0, 0.0, 0.0, 0.0),
    ];
    for (device_name, device) in devices() {
        for (log_ratio, advantage, delta, l, gradient, below, above) in cases {
            let options = PolicyLossOptions {
                delta,
                ..plain_options()
            };
            let outcome = single(log_ratio, advantage).run(&device, &options);
            let what = format!("{device_name} {log_ratio} {advantage} {delta:?}");
            assert_close(
                &what,
                &[outcome.loss, outcome.terms[0], outcome.gradient[0]],
                &[l, l, gradient],
                1e-6,
            );
            assert_close(&what, &outcome.terms[3..], &[below, above], 0.0);
        }
    }
}

#[test]
fn numbers_that_are_not_finite_and_ratios_that_overflow_make_the_loss_nan() {
    for (device_name, device) in devices() {
        for sequence_level in [false, true] {
            let options = PolicyLossOptions {
                sequence_level,
                beta: 0.1,
                ..plain_options()
            };
            let healthy = random_batch(3, [2, 5]);
            assert!(
                healthy.run(&device, &options).loss.is_finite(),
                "{device_name}"
            );
            let broken = |change: &dyn Fn(&mut Batch)| {
                let mut batch = healthy.clone();
                batch.mask[0] = 1.0;
                change(&mut batch);
                let outcome = batch.run(&device, &options);
                assert!(outcome.loss.is_nan(), "{device_name}: {}", outcome.loss);
                assert!(
                    outcome.gradient[0].is_nan(),
                    "{device_name}: {:?}",
                    outcome.gradient
                );
            };
            broken(&|batch| batch.logprobs[0] = f32::NAN);
            broken(&|batch| batch.old_logprobs[0] = f32::NEG_INFINITY);
            broken(&|batch| batch.reference_logprobs.as_mut().expect("given")[0] = f32::INFINITY);
            broken(&|batch| batch.advantages[0] = f32::NAN);
            broken(&|batch| batch.weights[0] = f32::NAN);
            broken(&|batch| batch.old_logprobs[0] = -1e6);
        }
    }
}

#[test]
fn old_logprobs_may_be_the_detached_new_ones() {
    let device = Device::flex().autodiff();
    let logprobs = Tensor::<2>::from_data([[-1.0, -2.0]], &device).require_grad();
    let input = PolicyLossInput {
        logprobs: logprobs.clone(),
        old_logprobs: logprobs.clone().detach(),
        reference_logprobs: None,
        advantages: Tensor::from_data([[2.0, -3.0]], &device),
        mask: Tensor::ones([1, 2], &device),
        weights: Tensor::full([1, 2], 0.5, &device),
        kl_weights: None,
        surrogate_weights: None,
    };
    let result = policy_loss(input, &plain_options());
    let gradients = result.loss.clone().backward();
    let gradient = logprobs
        .grad(&gradients)
        .expect("tracked")
        .into_data()
        .try_to_vec::<f32>()
        .expect("f32");
    assert_eq!(gradient, [-1.0, 1.5]);
    assert_eq!(result.loss.into_scalar::<f32>(), 0.5);
}

#[test]
fn an_empty_batch_has_no_loss() {
    let batch = Batch {
        shape: [0, 4],
        logprobs: vec![],
        old_logprobs: vec![],
        reference_logprobs: None,
        advantages: vec![],
        mask: vec![],
        weights: vec![],
        kl_weights: None,
        surrogate_weights: None,
    };
    assert_eq!(batch.run(&Device::flex(), &plain_options()).loss, 0.0);
}

#[test]
#[should_panic(expected = "policy_loss: T is 1 in `logprobs` and 2 in `weights` [1, 2]")]
fn shapes_that_disagree_are_named() {
    let device = Device::flex();
    let input = PolicyLossInput {
        logprobs: Tensor::zeros([1, 1], &device),
        old_logprobs: Tensor::zeros([1, 1], &device),
        reference_logprobs: None,
        advantages: Tensor::zeros([1, 1], &device),
        mask: Tensor::zeros([1, 1], &device),
        weights: Tensor::zeros([1, 2], &device),
        kl_weights: None,
        surrogate_weights: None,
    };
    let _ = policy_loss(input, &plain_options());
}

/// Values and gradients of `cispo` and `sapo` from TRL's code in plain Python (tests/golden/losses.py).
#[test]
fn cispo_and_sapo_match_trl() {
    let text = std::fs::read_to_string("tests/golden/losses.json").expect("a golden file");
    let json: Value = serde_json::from_str(&text).expect("JSON");
    let table = |key: &str| -> Vec<f32> {
        let rows = json[key].as_array().expect("rows").iter();
        rows.flat_map(|row| row.as_array().expect("a row").clone())
            .map(|value| value.as_f64().expect("a number") as f32)
            .collect()
    };
    let mask = table("mask");
    let shape = [4, mask.len() / 4];
    let advantages = json["advantages"].as_array().expect("a list");
    for (device_name, device) in devices() {
        for entry in json["losses"].as_array().expect("a list") {
            let number = |key: &str| entry[key].as_f64().expect("a number") as f32;
            let loss_type = entry["loss_type"].as_str().expect("a name");
            let options = PolicyLossOptions {
                surrogate: match loss_type {
                    "cispo" => Surrogate::Cispo,
                    _ => Surrogate::Sapo {
                        positive: number("sapo_temperature_pos"),
                        negative: number("sapo_temperature_neg"),
                    },
                },
                epsilon_high: number("epsilon_high"),
                ..golden_options(entry)
            };
            let aggregation = if loss_type == "cispo" { "dapo" } else { "grpo" };
            let batch = Batch {
                shape,
                logprobs: table("logps"),
                old_logprobs: table("old_logps"),
                reference_logprobs: Some(table("ref_logps")),
                advantages: (0..mask.len())
                    .map(|index| advantages[index / shape[1]].as_f64().expect("a number") as f32)
                    .collect(),
                weights: weights(aggregation, &mask, shape, 1.0, mask.iter().sum()),
                mask: mask.clone(),
                kl_weights: None,
                surrogate_weights: None,
            };
            let outcome = batch.run(&device, &options);
            let what = format!("{device_name} {options:?}");
            let exact = |value: &Value| value.as_f64().expect("a number");
            assert_close(&what, &[outcome.loss], &[exact(&entry["loss"])], 1e-6);
            let gradient = entry["gradient"].as_array().expect("a list");
            let gradient: Vec<f64> = gradient.iter().map(exact).collect();
            assert_close(&what, &outcome.gradient, &gradient, 1e-6);
            let metrics = policy_loss_metrics(&outcome.terms, &mask, shape[1], &options).named();
            let share = metrics.iter().find(|(name, _)| *name == "cispo_clip_ratio");
            let expected = entry["cispo_clip_ratio"].as_f64();
            assert_eq!(
                share.map(|(_, value)| *value as f32),
                expected.map(|value| value as f32)
            );
        }
    }
}

/// A factor of 0 takes the surrogate away, its gradient too, and leaves the KL term; 1 is the same as none.
#[test]
fn surrogate_weights_leave_the_kl_term() {
    for (device_name, device) in devices() {
        for options in all_options() {
            let mut batch = random_batch(5, [4, 6]);
            batch.surrogate_weights = None;
            let plain = batch.run(&device, &options);
            batch.surrogate_weights = Some(vec![1.0; 24]);
            let ones = batch.run(&device, &options);
            assert_eq!(
                (plain.loss, &plain.gradient),
                (ones.loss, &ones.gradient),
                "{device_name}"
            );
            batch.surrogate_weights = Some(vec![0.0; 24]);
            let without = batch.run(&device, &options);
            batch.surrogate_weights = None;
            batch.advantages.fill(0.0);
            let kl_alone = batch.run(&device, &options);
            assert_close(
                device_name,
                &[without.loss],
                &[f64::from(kl_alone.loss)],
                1e-6,
            );
            let expected: Vec<f64> = kl_alone.gradient.iter().copied().map(f64::from).collect();
            assert_close(device_name, &without.gradient, &expected, 1e-6);
        }
    }
}
