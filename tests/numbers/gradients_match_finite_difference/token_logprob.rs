//! `token_logprob` and `logits_logprob`: gradients.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use vision_ekipl::kernels::{TokenLogprobOptions, WeightMatrix, logits_logprob, token_logprob};

use crate::devices::{assert_close, devices, integers, uniform, values};

const TEMPERATURE: f32 = 0.8;

fn matrix(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn tokens(ids: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len()]), device)
}

fn options(mask: &[f32], device: &Device) -> TokenLogprobOptions {
    TokenLogprobOptions {
        temperature: TEMPERATURE,
        suppressed: Some(vector(mask, device)),
        with_entropy: true,
        entropy_gradient: false,
    }
}

/// `Σ_t upstream[t] · logprobs[t]` in double precision.
fn loss(logits: &[f64], targets: &[i64], mask: &[f32], upstream: &[f32]) -> f64 {
    let rows = logits.chunks(mask.len()).zip(targets).zip(upstream);
    let terms = rows.map(|((row, &target), &upstream)| {
        let scaled = |x: f64| x / f64::from(TEMPERATURE);
        let allowed = row.iter().zip(mask).filter(|(_, masked)| **masked == 0.0);
        let total: f64 = allowed.map(|(&x, _)| scaled(x).exp()).sum();
        f64::from(upstream) * (scaled(row[target as usize]) - total.ln())
    });
    terms.sum()
}

/// Central differences of a function of many numbers.
fn differences(at: &[f32], function: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut point: Vec<f64> = at.iter().copied().map(f64::from).collect();
    let step = 1e-5;
    (0..at.len())
        .map(|index| {
            let middle = point[index];
            point[index] = middle + step;
            let above = function(&point);
            point[index] = middle - step;
            let below = function(&point);
            point[index] = middle;
            (above - below) / (2.0 * step)
        })
        .collect()
}

fn product(hidden: &[f64], weight: &[f64], size: usize) -> Vec<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum();
    hidden
        .chunks(size)
        .flat_map(|h| weight.chunks(size).map(move |w| dot(h, w)))
        .collect()
}

#[test]
fn gradient_to_ready_logits_with_and_without_overwriting_them() {
    for vocabulary in [37, 40] {
        gradient_to_ready_logits(vocabulary);
    }
}

fn gradient_to_ready_logits(vocabulary: usize) {
    let rows = 5;
    let logits = uniform(1, rows * vocabulary, -3.0, 3.0);
    let upstream = uniform(2, rows, -2.0, 2.0);
    let targets = [0, 36, 7, 20, 11];
    let mask: Vec<f32> = (0..vocabulary)
        .map(|column| f32::from(u8::from(column % 5 == 4)))
        .collect();
    let expected = differences(&logits, |logits| loss(logits, &targets, &mask, &upstream));
    for device in devices().into_iter().map(Device::autodiff) {
        for owned_by_the_graph in [false, true] {
            let leaf = matrix(&logits, [rows, vocabulary], &device).require_grad();
            // A product belongs to the graph alone, so its buffer becomes the gradient.
            let input = if owned_by_the_graph {
                leaf.clone() * 1.0
            } else {
                leaf.clone()
            };
            let found = logits_logprob(input, tokens(&targets, &device), &options(&mask, &device));
            let grads = (found.logprobs * vector(&upstream, &device))
                .sum()
                .backward();
            let gradient = leaf.grad(&grads).expect("the leaf is tracked");
            assert_close(
                &format!("{device:?}"),
                &values(gradient),
                &expected,
                2e-6,
                2e-5,
            );
            assert_eq!(
                values(leaf.inner()),
                logits,
                "{device:?}: the leaf was overwritten"
            );
        }
    }
}

#[test]
fn gradients_to_hidden_states_and_head() {
    let (rows, size, vocabulary) = (6, 3, 29);
    let (hidden, weight) = (
        uniform(3, rows * size, -1.5, 1.5),
        uniform(4, vocabulary * size, -1.5, 1.5),
    );
    let upstream = uniform(5, rows, -2.0, 2.0);
    let targets = [0, 28, 7, 21, 11, 7];
    let mask: Vec<f32> = (0..vocabulary)
        .map(|column| f32::from(u8::from(column % 5 == 4)))
        .collect();
    let exact = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
    let to_hidden = differences(&hidden, |hidden| {
        loss(
            &product(hidden, &exact(&weight), size),
            &targets,
            &mask,
            &upstream,
        )
    });
    let to_weight = differences(&weight, |weight| {
        loss(
            &product(&exact(&hidden), weight, size),
            &targets,
            &mask,
            &upstream,
        )
    });
    for device in devices().into_iter().map(Device::autodiff) {
        for (track_hidden, track_weight) in [(true, true), (true, false), (false, true)] {
            let track = |tensor: Tensor<2>, tracked| {
                if tracked {
                    tensor.require_grad()
                } else {
                    tensor
                }
            };
            let hidden = track(matrix(&hidden, [rows, size], &device), track_hidden);
            let weight = track(matrix(&weight, [vocabulary, size], &device), track_weight);
            let found = token_logprob(
                hidden.clone(),
                &WeightMatrix::Dense(weight.clone()),
                tokens(&targets, &device),
                &options(&mask, &device),
            );
            let grads = (found.logprobs * vector(&upstream, &device))
                .sum()
                .backward();
            for (name, tensor, tracked, expected) in [
                ("hidden", hidden, track_hidden, &to_hidden),
                ("weight", weight, track_weight, &to_weight),
            ] {
                let gradient = tensor.grad(&grads);
                assert_eq!(
                    gradient.is_some(),
                    tracked,
                    "{device:?}: gradient to {name}"
                );
                if let Some(gradient) = gradient {
                    assert_close(
                        &format!("{device:?} {name}"),
                        &values(gradient),
                        expected,
                        5e-6,
                        2e-5,
                    );
                }
            }
        }
    }
}

#[test]
fn rows_without_a_usable_target_have_gradient_zero() {
    let logits = uniform(6, 4 * 7, -3.0, 3.0);
    let mask = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for device in devices().into_iter().map(Device::autodiff) {
        let leaf = matrix(&logits, [4, 7], &device).require_grad();
        let found = logits_logprob(
            leaf.clone(),
            tokens(&[-1, 7, 1, 6], &device),
            &options(&mask, &device),
        );
        // The mask of a loss: where, not times, because the first two values are NaN.
        let wanted = Tensor::<1, Int>::from_ints([0, 0, 0, 1], &device).equal_elem(1);
        let zeros = Tensor::zeros([4], &device);
        let grads = zeros.mask_where(wanted, found.logprobs).sum().backward();
        let gradient = values(leaf.grad(&grads).expect("the leaf is tracked"));
        assert!(
            gradient[..21].iter().all(|&value| value == 0.0),
            "{device:?}: {gradient:?}"
        );
        assert!(
            gradient[21..].iter().any(|&value| value != 0.0),
            "{device:?}: {gradient:?}"
        );
    }
}

#[test]
fn gradients_match_stock_operations() {
    for (rows, size, vocabulary) in [(1, 5, 33), (1023, 9, 257), (2, 3, 151_936), (4099, 2, 4)] {
        for device in devices() {
            assert_matches_stock([rows, size, vocabulary], &device.autodiff());
        }
    }
}

/// Logits of 69 MB: more than one tile. The matrix products take too long on a software GPU.
#[test]
fn gradients_of_several_tiles_match_stock_operations() {
    assert_matches_stock([113, 3, 151_936], &Device::flex().autodiff());
}

fn assert_matches_stock([rows, size, vocabulary]: [usize; 3], device: &Device) {
    let (hidden, weight) = (
        uniform(7, rows * size, -1.0, 1.0),
        uniform(8, vocabulary * size, -1.0, 1.0),
    );
    let (upstream, targets) = (uniform(9, rows, -1.0, 1.0), integers(10, rows, vocabulary));
    let gradients =
        |device: &Device, logprobs: fn(Tensor<2>, Tensor<2>, Tensor<1, Int>) -> Tensor<1>| {
            let hidden = matrix(&hidden, [rows, size], device).require_grad();
            let weight = matrix(&weight, [vocabulary, size], device).require_grad();
            let logprobs = logprobs(hidden.clone(), weight.clone(), tokens(&targets, device));
            let grads = (logprobs * vector(&upstream, device)).sum().backward();
            [hidden, weight].map(|tensor| values(tensor.grad(&grads).expect("tracked")))
        };
    let expected = gradients(&Device::flex().autodiff(), |hidden, weight, targets| {
        let logits = hidden.matmul(weight.transpose());
        log_softmax(logits, 1)
            .gather(1, targets.unsqueeze_dim(1))
            .squeeze_dim(1)
    });
    let found = gradients(device, |hidden, weight, targets| {
        let head = WeightMatrix::Dense(weight);
        token_logprob(hidden, &head, targets, &TokenLogprobOptions::default()).logprobs
    });
    for (name, (found, expected)) in ["hidden", "weight"].iter().zip(found.iter().zip(expected)) {
        let expected: Vec<f64> = expected.into_iter().map(f64::from).collect();
        let largest = expected
            .iter()
            .fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let case = format!("[{rows}, {size}] x [{vocabulary}, {size}] {device:?} {name}");
        assert_close(&case, found, &expected, 1e-5 * largest, 1e-4);
    }
}

/// The forward pass keeps a few numbers per token, and the backward pass allocates the gradient alone.
#[test]
fn no_buffer_of_the_size_of_the_logits_besides_the_gradient() {
    let (rows, vocabulary) = (512, 8000);
    let logits_bytes = (rows * vocabulary * 4) as f64;
    for device in devices().into_iter().map(Device::autodiff) {
        let logits = Tensor::<2>::zeros([rows, vocabulary], &device).require_grad();
        let targets = tokens(&integers(11, rows, vocabulary), &device);
        device.memory_cleanup();
        // Bytes reserved count freed buffers too, so their growth is the peak.
        let Some(usage) = device.memory_pool_usage() else {
            continue;
        };
        let before = usage.bytes_reserved;
        let grown = || {
            device.sync().expect("the device works");
            let usage = device.memory_pool_usage().expect("reported before");
            (usage.bytes_reserved - before) as f64 / logits_bytes
        };
        let logprobs =
            logits_logprob(logits.clone(), targets, &TokenLogprobOptions::default()).logprobs;
        let forward = grown();
        let grads = logprobs.sum().backward();
        let backward = grown();
        assert!(
            forward < 0.1,
            "{device:?}: the forward pass grew memory by {forward} times the logits"
        );
        assert!(
            backward < 1.2,
            "{device:?}: both passes grew memory by {backward} times the logits"
        );
        assert!(logits.grad(&grads).is_some());
    }
}
