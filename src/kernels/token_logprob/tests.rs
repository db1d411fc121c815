//! Tiles of every width: against the definition in double precision, finite differences and Burn's own operations, with a
//! dense and a frozen head, on the CPU and on the GPU if there is one.

use std::sync::Arc;

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::kernels::Storage;

const TEMPERATURE: f32 = 0.8;

fn devices() -> Vec<Device> {
    let gpu = Device::wgpu_options().init().ok();
    [Some(Device::flex()), gpu].into_iter().flatten().collect()
}

fn uniform(seed: u64, count: usize, limit: f32) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| random.random_range(-limit..limit))
        .collect()
}

fn tensor<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("f32")
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

#[track_caller]
fn assert_close(what: &str, found: &[f32], expected: &[f64], bound: f64) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        let nan = found.is_nan() && expected.is_nan();
        assert!(
            nan || error <= bound * (1.0 + expected.abs()),
            "{what}[{index}]: found {found}, expected {expected}"
        );
    }
}

/// A small head, its tokens, and factors of what the gradients are of.
struct Case {
    shape: [usize; 3],
    hidden: Vec<f32>,
    weight: Vec<f32>,
    targets: Vec<i64>,
    mask: Vec<f32>,
    of_logprobs: Vec<f32>,
    of_entropies: Vec<f32>,
}

impl Case {
    /// Targets in the first and the last tile; columns 7 to 13, a whole tile of 7, are suppressed, and some others.
    fn new(vocabulary: usize) -> Self {
        let [rows, width] = [5, 3];
        let last = vocabulary as i64 - 1;
        let masked = |column: usize| (7..14).contains(&column) || column % 10 == 4;
        Self {
            shape: [rows, width, vocabulary],
            hidden: uniform(1, rows * width, 1.5),
            weight: uniform(2, vocabulary * width, 1.5),
            targets: vec![0, last, 6, 15, last - 2],
            mask: (0..vocabulary)
                .map(|column| f32::from(u8::from(masked(column))))
                .collect(),
            of_logprobs: uniform(3, rows, 2.0),
            of_entropies: uniform(4, rows, 2.0),
        }
    }

    /// `[logprobs, entropies, logsumexp]` by definition.
    fn exact(&self, hidden: &[f64], weight: &[f64]) -> [Vec<f64>; 3] {
        let width = self.shape[1];
        let mut results = [vec![], vec![], vec![]];
        for (hidden, &target) in hidden.chunks(width).zip(&self.targets) {
            let dot = |row: &[f64]| -> f64 { row.iter().zip(hidden).map(|(a, b)| a * b).sum() };
            let x: Vec<f64> = weight
                .chunks(width)
                .map(|row| dot(row) / f64::from(TEMPERATURE))
                .collect();
            let allowed = || (0..x.len()).filter(|column| self.mask[*column] == 0.0);
            let logsumexp = allowed().map(|column| x[column].exp()).sum::<f64>().ln();
            let entropy = allowed().map(|column| {
                let log = x[column] - logsumexp;
                -log.exp() * log
            });
            let logprob = usize::try_from(target)
                .ok()
                .and_then(|target| x.get(target));
            results[0].push(logprob.map_or(f64::NAN, |x| x - logsumexp));
            results[1].push(entropy.sum());
            results[2].push(logsumexp);
        }
        results
    }

    /// The sum that the gradients are of.
    fn sum(&self, hidden: &[f64], weight: &[f64]) -> f64 {
        let [logprobs, entropies, _] = self.exact(hidden, weight);
        let dot = |factors: &[f32], values: &[f64]| -> f64 {
            let pairs = factors.iter().zip(values);
            pairs.map(|(a, b)| f64::from(*a) * b).sum()
        };
        dot(&self.of_logprobs, &logprobs) + dot(&self.of_entropies, &entropies)
    }

    fn options(&self, device: &Device) -> TokenLogprobOptions {
        TokenLogprobOptions {
            temperature: TEMPERATURE,
            suppressed: Some(tensor(&self.mask, [self.mask.len()], device)),
            with_entropy: true,
            entropy_gradient: true,
        }
    }

    fn frozen(&self) -> WeightMatrix {
        let bytes: Vec<u8> = self.weight.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = [self.shape[2], self.shape[1]];
        WeightMatrix::Frozen(Arc::new(FrozenMatrix::new(
            shape,
            Storage::F32,
            bytes.into(),
        )))
    }

    /// Values, and gradients to hidden states and a dense head.
    fn run(&self, frozen: bool, tile_bytes: usize, device: &Device) -> Found {
        let [rows, width, vocabulary] = self.shape;
        let hidden = tensor(&self.hidden, [rows, width], device).require_grad();
        let weight = tensor(&self.weight, [vocabulary, width], device).require_grad();
        let head = if frozen {
            self.frozen()
        } else {
            WeightMatrix::Dense(weight.clone())
        };
        let targets = TensorData::new(self.targets.clone(), [rows]);
        let targets = Tensor::<1, Int>::from_data(targets, device);
        let options = self.options(device);
        let found = in_tiles(hidden.clone(), &head, targets, &options, tile_bytes);
        let factors = |values: &[f32]| tensor(values, [rows], device);
        let sum = (found.logprobs.clone() * factors(&self.of_logprobs)).sum()
            + (found.entropies.clone() * factors(&self.of_entropies)).sum();
        let gradients = sum.backward();
        Found {
            values: [found.logprobs, found.entropies, found.logsumexp]
                .map(|values| host(values.without_autodiff())),
            to_hidden: hidden.grad(&gradients).map(host),
            to_weight: weight.grad(&gradients).map(host),
        }
    }
}

#[derive(Debug, PartialEq)]
struct Found {
    values: [Vec<f32>; 3],
    to_hidden: Option<Vec<f32>>,
    to_weight: Option<Vec<f32>>,
}

/// Budgets that give tiles of one column, of 3 and 7 columns, and one tile.
const BUDGETS: [usize; 4] = [4, 4 * 3 * 3, 4 * 3 * 7, LOGITS_CHUNK_BYTES];

#[test]
fn tiles_of_odd_widths_have_the_values_of_the_definition() {
    for vocabulary in [29, 32, 33] {
        let case = Case::new(vocabulary);
        let expected = case.exact(&wide(&case.hidden), &wide(&case.weight));
        for device in devices().into_iter().map(Device::autodiff) {
            for bytes in BUDGETS {
                for frozen in [false, true] {
                    let found = case.run(frozen, bytes, &device);
                    let what = format!("{device:?} V {vocabulary}, {bytes} bytes, {frozen}");
                    for (found, expected) in found.values.iter().zip(&expected) {
                        assert_close(&what, found, expected, 3e-6);
                    }
                }
            }
        }
    }
}

/// Central differences of the sum of log-probabilities and entropies.
#[test]
fn tiles_of_odd_widths_have_the_gradients_of_finite_differences() {
    let case = Case::new(29);
    let (hidden, weight) = (wide(&case.hidden), wide(&case.weight));
    let differences = |at: &[f64], function: &dyn Fn(&[f64]) -> f64| -> Vec<f64> {
        let mut point = at.to_vec();
        let step = 1e-5;
        let slope = |index: usize| {
            point[index] = at[index] + step;
            let above = function(&point);
            point[index] = at[index] - step;
            let below = function(&point);
            point[index] = at[index];
            (above - below) / (2.0 * step)
        };
        (0..at.len()).map(slope).collect()
    };
    let to_hidden = differences(&hidden, &|hidden| case.sum(hidden, &weight));
    let to_weight = differences(&weight, &|weight| case.sum(&hidden, weight));
    for device in devices().into_iter().map(Device::autodiff) {
        for bytes in BUDGETS {
            let what = format!("{device:?} {bytes} bytes");
            let found = case.run(false, bytes, &device);
            let (hidden, weight) = (found.to_hidden, found.to_weight);
            assert_close(&what, &hidden.expect("tracked"), &to_hidden, 1e-5);
            assert_close(&what, &weight.expect("tracked"), &to_weight, 1e-5);
            let frozen = case.run(true, bytes, &device);
            assert_close(&what, &frozen.to_hidden.expect("tracked"), &to_hidden, 1e-5);
            assert_eq!(frozen.to_weight, None, "a frozen head has no gradient");
        }
    }
}

/// On the CPU the stored bits are the same numbers, so the results are the same bits.
#[test]
fn a_frozen_head_gives_the_numbers_of_a_dense_one() {
    let case = Case::new(33);
    let device = Device::flex().autodiff();
    for bytes in BUDGETS {
        let dense = case.run(false, bytes, &device);
        let frozen = case.run(true, bytes, &device);
        assert_eq!(dense.values, frozen.values, "{bytes}");
        assert_eq!(dense.to_hidden, frozen.to_hidden, "{bytes}");
    }
}

/// In every tile but one such a target is simply not there.
#[test]
fn a_target_outside_the_vocabulary_is_nan_and_a_suppressed_one_finite_whatever_the_tiles() {
    let mut case = Case::new(29);
    case.targets = vec![-1, 29, i64::from(i32::MAX), 8, 0];
    case.of_entropies = vec![0.0; 5];
    for device in devices().into_iter().map(Device::autodiff) {
        for bytes in BUDGETS {
            let what = format!("{device:?} {bytes} bytes");
            let found = case.run(false, bytes, &device);
            let [logprobs, entropies, _] = found.values;
            assert!(
                logprobs[..3].iter().all(|x| x.is_nan()),
                "{what}: {logprobs:?}"
            );
            assert_eq!(logprobs[3], SUPPRESSED_LOGPROB, "{what}");
            assert!(logprobs[4].is_finite() && logprobs[4] < 0.0, "{what}");
            assert!(entropies.iter().all(|x| x.is_finite()), "{what}");
        }
    }
}

/// Logits far apart, in tiles of their own: the higher tile comes first, last, or alone counts.
#[test]
fn tiles_far_apart_do_not_lose_the_small_ones() {
    let logits = [-90.0, -91.0, 300.0, 299.5, -3e4, 80.0, 299.0f32];
    let case = Case {
        shape: [1, 1, 7],
        hidden: vec![TEMPERATURE],
        weight: logits.to_vec(),
        targets: vec![1],
        mask: vec![0.0; 7],
        of_logprobs: vec![1.0],
        of_entropies: vec![1.0],
    };
    let terms = [0.0f64, -0.5, -1.0];
    let total: f64 = terms.iter().map(|x| x.exp()).sum();
    let entropy = total.ln() - terms.iter().map(|x| x.exp() * x).sum::<f64>() / total;
    for device in devices().into_iter().map(Device::autodiff) {
        for bytes in [4, 8, 12, 1 << 20] {
            let [logprobs, entropies, logsumexp] = case.run(false, bytes, &device).values;
            let what = format!("{device:?} {bytes} bytes");
            assert_close(&what, &logprobs, &[-391.0 - total.ln()], 1e-6);
            assert_close(&what, &entropies, &[entropy], 1e-6);
            assert_close(&what, &logsumexp, &[300.0 + total.ln()], 1e-6);
        }
    }
}

/// Parts of the rows, aligned tiles and a narrower last one.
#[test]
fn gradients_of_many_tiles_match_stock_operations() {
    let [rows, width, vocabulary] = [37, 19, 1003];
    let (hidden, weight) = (
        uniform(5, rows * width, 1.0),
        uniform(6, vocabulary * width, 1.0),
    );
    let upstream = uniform(7, rows, 1.0);
    let targets: Vec<i64> = (0..rows)
        .map(|row| (row * 271 % vocabulary) as i64)
        .collect();
    let gradients = |device: &Device, tile_bytes: Option<usize>| {
        let hidden = tensor(&hidden, [rows, width], device).require_grad();
        let weight = tensor(&weight, [vocabulary, width], device).require_grad();
        let targets = Tensor::<1, Int>::from_data(TensorData::new(targets.clone(), [rows]), device);
        let logprobs = match tile_bytes {
            Some(bytes) => {
                let options = TokenLogprobOptions::default();
                let head = WeightMatrix::Dense(weight.clone());
                in_tiles(hidden.clone(), &head, targets, &options, bytes).logprobs
            }
            None => log_softmax(hidden.clone().matmul(weight.clone().transpose()), 1)
                .gather(1, targets.unsqueeze_dim(1))
                .squeeze_dim(1),
        };
        let found = (logprobs * tensor(&upstream, [rows], device))
            .sum()
            .backward();
        [hidden, weight].map(|leaf| host(leaf.grad(&found).expect("tracked")))
    };
    let expected = gradients(&Device::flex().autodiff(), None);
    for device in devices().into_iter().map(Device::autodiff) {
        for bytes in [4 * 1024 * 5, 4 * 128 * 37, 4 * 37 * 1003] {
            let found = gradients(&device, Some(bytes));
            for (found, expected) in found.iter().zip(&expected) {
                assert_close(&format!("{device:?} {bytes}"), found, &wide(expected), 1e-5);
            }
        }
    }
}

#[test]
fn no_tokens_have_no_results_and_gradients_of_zero() {
    for device in devices().into_iter().map(Device::autodiff) {
        let hidden = Tensor::<2>::zeros([0, 3], &device).require_grad();
        let weight = Tensor::<2>::ones([8, 3], &device).require_grad();
        let targets = Tensor::<1, Int>::zeros([1], &device).slice([0..0]);
        let head = WeightMatrix::Dense(weight.clone());
        let options = TokenLogprobOptions::default();
        let found = token_logprob(hidden.clone(), &head, targets, &options);
        assert_eq!(found.logprobs.dims(), [0]);
        let gradients = (found.logprobs.sum() + hidden.clone().sum()).backward();
        let gradient = weight.grad(&gradients).map(host);
        assert!(
            gradient.is_none_or(|values| values == [0.0; 24]),
            "{device:?}"
        );
    }
}
