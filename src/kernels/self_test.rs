//! Every kernel on a device against stored values, quickly: what `doctor` shows.
//!
//! The values were worked out in double precision by a program that shares no line with this one
//! (tests/golden/self_test.py), so the CPU device is tested like every other. The tests do the same at many sizes; this is
//! for the machine of a person. Knows nothing of adapters.

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    AdamWState, AdamWStep, AdvantageRows, FrozenMatrix, Places, PolicyLossInput, PolicyLossOptions,
    SampleOptions, Spans, Storage, Surrogate, TokenLogprobOptions, Visible, WeightMatrix, adamw,
    attention, dropout, group_advantage, policy_loss, rms_norm, rotary, sample_token, swiglu,
    token_logprob, write_rows,
};
use crate::options::ScaleRewards;

/// How one kernel did.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// The kernel.
    pub kernel: &'static str,
    /// Largest absolute difference from the stored values.
    pub worst: f32,
    /// Largest difference that is right.
    pub tolerance: f32,
}

impl SelfTest {
    /// Whether the kernel computes the right thing; NaN is wrong.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.worst <= self.tolerance
    }
}

/// What a kernel gives on a device, in the order of the stored values.
type Run = fn(&Device) -> Vec<f32>;

/// Each kernel with its tolerance.
const RUNS: [(&str, f32, Run); 14] = [
    ("attention", 1e-4, |device| {
        [attentions(device).0, decoding(device)].concat()
    }),
    ("attention_backward", 1e-4, |device| attentions(device).1),
    ("rms_norm", 1e-5, norms),
    ("swiglu", 1e-5, gates),
    ("rotary", 1e-5, turns),
    ("dropout", 1e-6, dropped),
    ("frozen_matrix", 1e-5, frozen_products),
    ("write_rows", 1e-6, rows_written),
    ("token_logprob", 1e-4, |device| token_logprobs(device).0),
    ("token_logprob_backward", 1e-4, |device| {
        token_logprobs(device).1
    }),
    ("sample_token", 1e-4, samples),
    ("policy_loss", 1e-5, policy_losses),
    ("group_advantage", 1e-5, advantages),
    ("adamw", 1e-5, updates),
];

/// Runs every kernel, forward and backward, on `device`. A kernel that fails altogether is NaN off.
#[must_use]
pub fn self_test(device: &Device) -> Vec<SelfTest> {
    let stored: BTreeMap<String, Vec<f64>> =
        serde_json::from_str(include_str!("self_test.json")).expect("the stored values are JSON");
    let test = |(kernel, tolerance, run): (&'static str, f32, Run)| {
        let found = crate::device::guard(kernel, || run(device)).unwrap_or_else(|failure| {
            log::error!("{failure}");
            Vec::new()
        });
        SelfTest {
            kernel,
            worst: worst(&found, &stored[kernel]),
            tolerance,
        }
    };
    RUNS.into_iter().map(test).collect()
}

/// The largest difference; NaN if a value is not a number or the numbers of values differ.
fn worst(found: &[f32], expected: &[f64]) -> f32 {
    if found.len() != expected.len() {
        return f32::NAN;
    }
    let differences = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (f64::from(*found) - expected).abs() as f32);
    // `max` would swallow NaN.
    differences.fold(0.0, |worst, next| if next <= worst { worst } else { next })
}

/// Reproducible values in -2..2 without any order.
fn values(count: usize, stream: u32) -> Vec<f32> {
    let value = |index: usize| {
        let mixed = (index as u32 ^ stream.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b);
        let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xc2b2_ae35);
        (mixed >> 8) as f32 / (1u32 << 22) as f32 - 2.0
    };
    (0..count).map(value).collect()
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .without_autodiff()
        .try_into_vec_as::<f32>()
        .unwrap_or_else(|_| vec![f32::NAN])
}

/// A size of [`token_logprob`].
struct Head {
    tokens: usize,
    vocabulary: usize,
    temperature: f32,
    /// Every fifth token has probability 0, and the entropies have a gradient.
    with_everything: bool,
    /// Every so many rows of the head's gradient are compared.
    kept_rows: usize,
}

/// The width of the hidden states.
const WIDTH: usize = 8;
/// A vocabulary that is read one by one, and one that is read by fours.
const HEADS: [Head; 2] = [
    Head {
        tokens: 5,
        vocabulary: 261,
        temperature: 0.7,
        with_everything: true,
        kept_rows: 1,
    },
    Head {
        tokens: 3,
        vocabulary: 5000,
        temperature: 1.0,
        with_everything: false,
        kept_rows: 125,
    },
];

/// Log-probabilities and entropies; gradients to hidden states and head.
fn token_logprobs(device: &Device) -> (Vec<f32>, Vec<f32>) {
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for head in &HEADS {
        let (values, gradients) = head.run(&device.clone().autodiff());
        forward.extend(values);
        backward.extend(gradients);
    }
    (forward, backward)
}

impl Head {
    fn run(&self, device: &Device) -> (Vec<f32>, Vec<f32>) {
        let Self {
            tokens, vocabulary, ..
        } = *self;
        let leaf = |rows, stream| {
            tensor(values(rows * WIDTH, stream), [rows, WIDTH], device).require_grad()
        };
        let (hidden, head) = (leaf(tokens, 1), leaf(vocabulary, 2));
        let targets: Vec<i32> = (0..tokens)
            .map(|token| (token * 31 % vocabulary / 5 * 5) as i32)
            .collect();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets, [tokens]), device);
        let fifth = |column: usize| f32::from(u8::from(column % 5 == 4));
        let mask: Vec<f32> = (0..vocabulary).map(fifth).collect();
        let options = TokenLogprobOptions {
            temperature: self.temperature,
            suppressed: self
                .with_everything
                .then(|| tensor(mask, [vocabulary], device)),
            with_entropy: true,
            entropy_gradient: self.with_everything,
        };
        let found = token_logprob(
            hidden.clone(),
            &WeightMatrix::Dense(head.clone()),
            targets,
            &options,
        );
        let factors = |stream| tensor(values(tokens, stream), [tokens], device);
        let mut sum = (found.logprobs.clone() * factors(9)).sum();
        if self.with_everything {
            sum = sum + (found.entropies.clone() * factors(10)).sum();
        }
        let gradients = sum.backward();
        let gradient =
            |leaf: &Tensor<2>| leaf.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
        let rows = gradient(&head);
        let kept = rows.chunks(WIDTH).step_by(self.kept_rows).flatten();
        let mut to_both = gradient(&hidden);
        to_both.extend(kept);
        (
            [host(found.logprobs), host(found.entropies)].concat(),
            to_both,
        )
    }
}

/// A prompt and two completions that see it, grouped heads: the result; gradients to queries, keys and values.
fn attentions(device: &Device) -> (Vec<f32>, Vec<f32>) {
    let (count, width) = (12, 8);
    let device = device.clone().autodiff();
    let rows = |heads: usize, stream| {
        let values = values(count * heads * width, stream);
        tensor::<3>(values, [count, heads, width], &device)
    };
    let leaves = [rows(4, 11), rows(2, 12), rows(2, 13)].map(Tensor::require_grad);
    let visible = |token: u32| match token {
        0..5 => (0..0, 0..token + 1),
        5..9 => (0..5, 5..token + 1),
        _ => (0..5, 9..token + 1),
    };
    let visible = (0..count as u32).map(|token| {
        let (prefix, own) = visible(token);
        Visible { prefix, own }
    });
    let spans = Arc::new(Spans::new(visible.collect(), count));
    let [queries, keys, stored] = leaves.clone();
    let out = attention(queries, keys, stored, &spans);
    let gradients = (out.clone() * rows(4, 14)).sum().backward();
    let gradient = |leaf: &Tensor<3>| leaf.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
    (host(out), leaves.iter().flat_map(gradient).collect())
}

/// Three queries over a long prompt and a few keys of their own in a cache.
fn decoding(device: &Device) -> Vec<f32> {
    let rows = |count: usize, heads: usize, stream| {
        let values = values(count * heads * 8, stream);
        tensor::<3>(values, [count, heads, 8], device)
    };
    let visible = (0..3).map(|row| Visible {
        prefix: 0..150,
        own: 150 + row * 10..153 + row * 10,
    });
    let spans = Arc::new(Spans::new(visible.collect(), 180));
    host(attention(
        rows(3, 4, 27),
        rows(180, 2, 28),
        rows(180, 2, 29),
        &spans,
    ))
}

/// A result, and the gradients of its products with `factors` to what it was made of.
fn with_gradients<const D: usize>(
    out: Tensor<D>,
    factors: Tensor<D>,
    leaves: [Tensor<D>; 2],
) -> Vec<f32> {
    let gradients = (out.clone() * factors).sum().backward();
    let gradient = |leaf: &Tensor<D>| leaf.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
    let mut all = host(out);
    all.extend(leaves.iter().flat_map(gradient));
    all
}

/// Three rows of 40 values; gradients to rows and weight.
fn norms(device: &Device) -> Vec<f32> {
    let device = device.clone().autodiff();
    let x = tensor(values(120, 17), [3, 40], &device).require_grad();
    let weight = tensor(values(40, 18), [1, 40], &device).require_grad();
    let out = rms_norm(x.clone(), weight.clone().reshape([40]), 1e-6);
    let factors = tensor(values(120, 19), [3, 40], &device);
    with_gradients(out, factors, [x, weight])
}

/// A gated row of 21 values, three times; gradients to gate and what it lets through.
fn gates(device: &Device) -> Vec<f32> {
    let device = device.clone().autodiff();
    let leaf = |stream| tensor(values(63, stream), [3, 21], &device).require_grad();
    let (gate, up) = (leaf(20), leaf(21));
    let factors = tensor(values(63, 22), [3, 21], &device);
    with_gradients(swiglu(gate.clone(), up.clone()), factors, [gate, up])
}

/// Three tokens with two heads of width 8; the gradient to the heads.
fn turns(device: &Device) -> Vec<f32> {
    let device = device.clone().autodiff();
    let x = tensor(values(48, 23), [3, 2, 8], &device).require_grad();
    let angles = |stream| tensor(values(12, stream), [3, 4], &device);
    let out = rotary(x.clone(), angles(25), angles(26));
    let gradients = (out.clone() * tensor(values(48, 24), [3, 2, 8], &device))
        .sum()
        .backward();
    let gradient = x.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
    [host(out), gradient].concat()
}

/// Two rows of a cache of six.
fn rows_written(device: &Device) -> Vec<f32> {
    let cache = tensor(values(24, 15), [6, 1, 4], device);
    let rows = tensor(values(8, 16), [2, 1, 4], device);
    host(write_rows(cache, rows, &Arc::new(Places::new(vec![4, 1]))))
}

/// A third of 39 values zeroed; the gradient.
fn dropped(device: &Device) -> Vec<f32> {
    let device = device.clone().autodiff();
    let x = tensor(values(39, 27), [3, 13], &device).require_grad();
    let out = dropout(x.clone(), 1.0 / 3.0, 0x0123_4567_89ab_cdef);
    let factors = tensor(values(39, 28), [3, 13], &device);
    let gradients = (out.clone() * factors).sum().backward();
    let gradient = x.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
    [host(out), gradient].concat()
}

/// In every storage: products of 17 and of 3 rows with five of seven weight rows, the gradient of the latter to the rows,
/// and three gathered rows.
fn frozen_products(device: &Device) -> Vec<f32> {
    let (all, width) = (7, 33);
    let products = |storage| {
        let bytes = stored_bytes(storage, all, width).into();
        let weight = FrozenMatrix::new([all, width], storage, bytes);
        let weight = WeightMatrix::Frozen(Arc::new(weight));
        let many = tensor(values(17 * width, 30), [17, width], device);
        let few = tensor(values(3 * width, 31), [3, width], device);
        let upstream = tensor(values(15, 32), [3, 5], device);
        let ids = Tensor::<1, Int>::from_data(TensorData::new(vec![6i32, 0, 3], [3]), device);
        [
            host(weight.linear_rows(many, 1..6)),
            host(weight.linear_rows(few, 1..6)),
            host(weight.linear_rows_backward(upstream, 1..6)),
            host(weight.gather(ids)),
        ]
    };
    let all = Storage::ALL.map(products);
    all.into_iter().flatten().flatten().collect()
}

/// The bytes of a matrix; floats are a quarter of the usual values, codes and scales follow their format.
fn stored_bytes(storage: Storage, all: usize, width: usize) -> Vec<u8> {
    let quarter = |values: Vec<f32>| values.into_iter().map(|value| value / 4.0);
    let half = |value: f32| half::f16::from_f32(value).to_le_bytes();
    let floats = quarter(values(all * width, 29));
    let blocks = width.div_ceil(32);
    let row = |row: usize| -> Vec<u8> {
        let codes = if storage == Storage::Q8 { 32 } else { 16 } * blocks;
        let scales = if storage == Storage::Q8 {
            blocks.next_multiple_of(2)
        } else {
            2 * blocks
        };
        let code = |value: f32| (value * 64.0) as i8 as u8;
        let codes = values(codes, 33 + row as u32).into_iter().map(code);
        let scales = values(scales, 43 + row as u32).into_iter();
        codes
            .chain(scales.flat_map(|value| half(value / 32.0)))
            .collect()
    };
    match storage {
        Storage::F32 => floats.flat_map(f32::to_le_bytes).collect(),
        Storage::Bf16 => floats
            .flat_map(|value| half::bf16::from_f32(value).to_le_bytes())
            .collect(),
        Storage::F16 => floats.flat_map(half).collect(),
        Storage::Q8 | Storage::Q4 => (0..all).flat_map(row).collect(),
    }
}

/// A vocabulary for the small search and one for the large.
fn samples(device: &Device) -> Vec<f32> {
    let options = SampleOptions {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.9,
        min_p: 0.01,
        logprob_temperature: 1.0,
    };
    let draw = |(tokens, vocabulary): (usize, usize)| {
        let logits = tensor(values(tokens * vocabulary, 3), [tokens, vocabulary], device);
        let uniforms = values(tokens, 4)
            .iter()
            .map(|x| (x + 2.0) / 4.001)
            .collect();
        let uniforms = tensor(uniforms, [tokens], device);
        sample_token(logits, uniforms, None, &options).map_or_else(|_| vec![f32::NAN], host)
    };
    [(33, 1023), (5, 5000)].map(draw).concat()
}

/// Every surrogate, with a KL term: per token, per token with the corrected KL, per sequence.
fn policy_losses(device: &Device) -> Vec<f32> {
    let with_kl = || PolicyLossOptions {
        epsilon_high: 0.28,
        beta: 0.04,
        ..PolicyLossOptions::default()
    };
    let all = [
        PolicyLossOptions {
            delta: Some(4.0),
            ..with_kl()
        },
        PolicyLossOptions {
            surrogate: Surrogate::Cispo,
            bias_corrected_kl: true,
            ..with_kl()
        },
        PolicyLossOptions {
            surrogate: Surrogate::Sapo {
                positive: 1.0,
                negative: 1.05,
            },
            sequence_level: true,
            ..with_kl()
        },
    ];
    all.iter()
        .flat_map(|options| loss_and_gradient(options, &device.clone().autodiff()))
        .collect()
}

fn loss_and_gradient(options: &PolicyLossOptions, device: &Device) -> Vec<f32> {
    let (shape, count) = ([7, 31], 7 * 31);
    let small = |stream| {
        let values = values(count, stream).iter().map(|x| x * 0.2).collect();
        tensor::<2>(values, shape, device)
    };
    let mask = |index: usize| f32::from(u8::from(index % 7 != 3));
    let logprobs = small(5).require_grad();
    let input = PolicyLossInput {
        logprobs: logprobs.clone(),
        old_logprobs: small(6),
        reference_logprobs: Some(small(7)),
        advantages: tensor(values(count, 8), shape, device),
        mask: tensor((0..count).map(mask).collect(), shape, device),
        weights: Tensor::full(shape, 1.0 / 217.0, device),
        kl_weights: None,
        surrogate_weights: None,
    };
    let found = policy_loss(input, options);
    let gradients = found.loss.backward();
    let gradient = logprobs
        .grad(&gradients)
        .map_or_else(|| vec![f32::NAN], host);
    [host(found.loss), gradient].concat()
}

/// Groups of nine with ties, of which the last never counts in the baseline; an absent reward, a group without spread.
fn advantages(device: &Device) -> Vec<f32> {
    let rows = 9 * 33;
    let reward = |row: usize| match row {
        5 => f32::NAN,
        row if row / 9 == 2 => 1.0,
        row => (row * 7 % 3) as f32,
    };
    let rewards: Vec<f32> = (0..rows).map(reward).collect();
    let groups: Vec<u32> = (0..rows).map(|row| (row / 9) as u32).collect();
    let in_baseline: Vec<bool> = (0..rows).map(|row| row % 9 != 8).collect();
    let wanted = vec![true; rows];
    let of = |scale_rewards| {
        let input = AdvantageRows {
            rewards: &rewards,
            groups: &groups,
            in_baseline: &in_baseline,
            wanted: &wanted,
            scale_rewards,
        };
        group_advantage(&input, device).unwrap_or_else(|_| vec![f32::NAN])
    };
    [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None]
        .map(of)
        .concat()
}

/// The third update of 300 values: parameters, then both moments.
fn updates(device: &Device) -> Vec<f32> {
    let column = |stream| tensor::<1>(values(300, stream), [300], device);
    let state = AdamWState {
        parameter: column(27),
        exp_avg: column(28),
        exp_avg_sq: column(29) * column(29),
    };
    let (beta1, beta2) = (0.9f64, 0.95f64);
    let step = AdamWStep {
        decay: 1.0 - 0.01 * 0.1,
        beta1,
        beta2,
        rate: 0.01 / (1.0 - beta1.powi(3)),
        root_correction: (1.0 - beta2.powi(3)).sqrt(),
        epsilon: 1e-8,
    };
    let state = adamw(state, column(30), &step);
    [state.parameter, state.exp_avg, state.exp_avg_sq]
        .map(host)
        .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_double_precision_but_not_exactly() {
        for test in self_test(&Device::flex()) {
            assert!(test.passed(), "{test:?}");
            // A difference of exactly 0 would mean that something is compared with itself.
            let may_be_exact = ["group_advantage", "write_rows"].contains(&test.kernel);
            assert!(test.worst > 0.0 || may_be_exact, "{test:?}");
        }
    }

    /// Whoever adds a kernel adds stored values.
    #[test]
    fn every_kernel_has_stored_values() {
        for shader in crate::kernels::shaders() {
            let tested = RUNS
                .iter()
                .any(|(kernel, ..)| shader.name.starts_with(kernel));
            assert!(tested, "{} has none", shader.name);
        }
    }

    #[test]
    fn wrong_values_are_seen() {
        assert!(worst(&[f32::NAN], &[0.0]).is_nan(), "NaN is seen");
        assert!(worst(&[], &[0.0]).is_nan(), "nothing is not right");
        let wrong = SelfTest {
            kernel: "any",
            worst: f32::NAN,
            tolerance: 1.0,
        };
        assert!(!wrong.passed(), "NaN is wrong");
    }
}
