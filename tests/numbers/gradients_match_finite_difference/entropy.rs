//! `token_logprob` and `logits_logprob` with `entropy_gradient`: values and gradients of log-probabilities and entropies.

use burn::tensor::{Device, Int, Tensor, TensorData};
use vision_ekipl::kernels::{TokenLogprobOptions, WeightMatrix, logits_logprob, token_logprob};

use crate::devices::{assert_close, devices, uniform, values};

const TEMPERATURE: f32 = 0.8;

fn matrix(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn options(mask: &[f32], device: &Device) -> TokenLogprobOptions {
    TokenLogprobOptions {
        temperature: TEMPERATURE,
        suppressed: Some(vector(mask, device)),
        with_entropy: false,
        entropy_gradient: true,
    }
}

/// One case: targets, which tokens are suppressed, and the factors of log-probabilities and entropies in the sum.
struct Case {
    targets: Vec<i64>,
    mask: Vec<f32>,
    of_logprobs: Vec<f32>,
    of_entropies: Vec<f32>,
}

impl Case {
    fn new(rows: usize, vocabulary: usize) -> Self {
        Self {
            targets: (0..rows as i64).map(|row| row * 7 % 5).collect(),
            mask: (0..vocabulary)
                .map(|column| f32::from(u8::from(column % 6 == 5)))
                .collect(),
            of_logprobs: uniform(12, rows, -2.0, 2.0),
            of_entropies: uniform(13, rows, -2.0, 2.0),
        }
    }

    /// Entropy of each row and the weighted sum, in double precision from the definitions.
    fn exact(&self, logits: &[f64]) -> (Vec<f64>, f64) {
        let (mut entropies, mut sum) = (Vec::new(), 0.0);
        for (row, logits) in logits.chunks(self.mask.len()).enumerate() {
            let scaled: Vec<f64> = logits.iter().map(|x| x / f64::from(TEMPERATURE)).collect();
            let allowed = || (0..scaled.len()).filter(|column| self.mask[*column] == 0.0);
            let total: f64 = allowed().map(|column| scaled[column].exp()).sum();
            let log = |column: usize| scaled[column] - total.ln();
            let entropy: f64 = allowed()
                .map(|column| -log(column).exp() * log(column))
                .sum();
            sum += f64::from(self.of_logprobs[row]) * log(self.targets[row] as usize)
                + f64::from(self.of_entropies[row]) * entropy;
            entropies.push(entropy);
        }
        (entropies, sum)
    }

    fn sum(&self, found: vision_ekipl::kernels::TokenLogprob, device: &Device) -> Tensor<1> {
        (found.logprobs * vector(&self.of_logprobs, device)).sum()
            + (found.entropies * vector(&self.of_entropies, device)).sum()
    }
}

/// Central differences of a function of many numbers.
fn differences(at: &[f32], function: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut point: Vec<f64> = at.iter().copied().map(f64::from).collect();
    let step = 1e-5;
    let slope = |index: usize| {
        let middle = point[index];
        point[index] = middle + step;
        let above = function(&point);
        point[index] = middle - step;
        let below = function(&point);
        point[index] = middle;
        (above - below) / (2.0 * step)
    };
    (0..at.len()).map(slope).collect()
}

#[test]
fn entropies_of_ready_logits_have_their_gradient() {
    for vocabulary in [33, 40] {
        let rows = 5;
        let case = Case::new(rows, vocabulary);
        let logits = uniform(11, rows * vocabulary, -4.0, 4.0);
        let wide: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        let expected = differences(&logits, |logits| case.exact(logits).1);
        for device in devices().into_iter().map(Device::autodiff) {
            for owned_by_the_graph in [false, true] {
                let leaf = matrix(&logits, [rows, vocabulary], &device).require_grad();
                let input = if owned_by_the_graph {
                    leaf.clone() * 1.0
                } else {
                    leaf.clone()
                };
                let targets = Tensor::<1, Int>::from_data(
                    TensorData::new(case.targets.clone(), [rows]),
                    &device,
                );
                let found = logits_logprob(input, targets, &options(&case.mask, &device));
                let what = format!("{device:?} V {vocabulary}");
                let entropies = values(found.entropies.clone().inner());
                assert_close(&what, &entropies, &case.exact(&wide).0, 1e-5, 1e-5);
                let grads = case.sum(found, &device).backward();
                let gradient = values(leaf.grad(&grads).expect("the leaf is tracked"));
                assert_close(&what, &gradient, &expected, 5e-6, 5e-5);
            }
        }
    }
}

#[test]
fn entropies_reach_hidden_states_and_head() {
    let (rows, size, vocabulary) = (6, 3, 29);
    let case = Case::new(rows, vocabulary);
    let (hidden, weight) = (
        uniform(14, rows * size, -1.5, 1.5),
        uniform(15, vocabulary * size, -1.5, 1.5),
    );
    let exact = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let product = |hidden: &[f64], weight: &[f64]| -> Vec<f64> {
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
        hidden
            .chunks(size)
            .flat_map(|h| weight.chunks(size).map(move |w| dot(h, w)))
            .collect()
    };
    let to_hidden = differences(&hidden, |hidden| {
        case.exact(&product(hidden, &exact(&weight))).1
    });
    let to_weight = differences(&weight, |weight| {
        case.exact(&product(&exact(&hidden), weight)).1
    });
    for device in devices().into_iter().map(Device::autodiff) {
        let hidden = matrix(&hidden, [rows, size], &device).require_grad();
        let weight = matrix(&weight, [vocabulary, size], &device).require_grad();
        let targets =
            Tensor::<1, Int>::from_data(TensorData::new(case.targets.clone(), [rows]), &device);
        let found = token_logprob(
            hidden.clone(),
            &WeightMatrix::Dense(weight.clone()),
            targets,
            &options(&case.mask, &device),
        );
        let grads = case.sum(found, &device).backward();
        for (name, tensor, expected) in [
            ("hidden", hidden, &to_hidden),
            ("weight", weight, &to_weight),
        ] {
            let gradient = values(tensor.grad(&grads).expect("tracked"));
            assert_close(
                &format!("{device:?} {name}"),
                &gradient,
                expected,
                1e-5,
                5e-5,
            );
        }
    }
}

/// A probability of 0 has no logarithm: its part of the gradient is 0, not NaN. Half of 2 and half of 0 is ln 2.
#[test]
fn impossible_tokens_leave_the_gradient_finite() {
    let logits = [0.0, 0.0, f32::NEG_INFINITY, -2e30, -200.0];
    for device in devices().into_iter().map(Device::autodiff) {
        let leaf = matrix(&logits, [1, 5], &device).require_grad();
        let targets = Tensor::<1, Int>::from_ints([0], &device);
        let found = logits_logprob(leaf.clone(), targets, &options(&[0.0; 5], &device));
        let entropies = values(found.entropies.clone().inner());
        assert_close("entropy", &entropies, &[std::f64::consts::LN_2], 1e-6, 0.0);
        let grads = (found.entropies.sum() + found.logprobs.sum()).backward();
        let gradient = values(leaf.grad(&grads).expect("tracked"));
        let expected = [0.5 / 0.8, -0.5 / 0.8, 0.0, 0.0, 0.0];
        assert_close(&format!("{device:?}"), &gradient, &expected, 1e-5, 0.0);
    }
}
