//! `token_logprob` and `logits_logprob`: values.

use burn::tensor::{DType, Device, FloatDType, Int, Tensor, TensorData};
use vision_ekipl::kernels::{
    SUPPRESSED_LOGPROB, TokenLogprob, TokenLogprobOptions, WeightMatrix, logits_logprob,
    token_logprob,
};

use crate::devices::{assert_close, devices, integers, uniform, values};

/// `(logprobs, entropies, logsumexp)` of logits `[T, V]` by definition.
fn reference(
    logits: &[f64],
    targets: &[i64],
    mask: Option<&[f32]>,
    temperature: f64,
) -> [Vec<f64>; 3] {
    let vocabulary = logits.len() / targets.len();
    let mut results = [vec![], vec![], vec![]];
    for (row, &target) in logits.chunks(vocabulary).zip(targets) {
        let allowed = |column: usize| mask.is_none_or(|mask| mask[column] == 0.0);
        let scaled = |column: usize| row[column] / temperature;
        let columns = || (0..vocabulary).filter(|&column| allowed(column));
        let highest = columns().map(scaled).fold(f64::NEG_INFINITY, f64::max);
        let logsumexp = highest
            + columns()
                .map(|j| (scaled(j) - highest).exp())
                .sum::<f64>()
                .ln();
        let logprob = |column| scaled(column) - logsumexp;
        results[0].push(logprob(target as usize));
        results[1].push(
            -columns()
                .map(|j| logprob(j).exp() * logprob(j))
                .sum::<f64>(),
        );
        results[2].push(logsumexp);
    }
    results
}

/// Product of hidden states `[T, D]` and the transposed head `[V, D]`.
fn product(hidden: &[f32], weight: &[f32], size: usize) -> Vec<f64> {
    let dot = |a: &[f32], b: &[f32]| {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    hidden
        .chunks(size)
        .flat_map(|h| weight.chunks(size).map(move |w| dot(h, w)))
        .collect()
}

fn matrix(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn tokens(ids: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len()]), device)
}

fn options(mask: Option<&[f32]>, temperature: f32, device: &Device) -> TokenLogprobOptions {
    let suppressed = mask
        .map(|mask| Tensor::<1>::from_data(TensorData::new(mask.to_vec(), [mask.len()]), device));
    TokenLogprobOptions {
        temperature,
        suppressed,
        with_entropy: true,
        entropy_gradient: false,
    }
}

/// Tolerances: f32 sums over the vocabulary, and exponentials within a few units in the last place.
fn assert_matches(case: &str, found: TokenLogprob, expected: &[Vec<f64>; 3]) {
    let found = [found.logprobs, found.entropies, found.logsumexp].map(values);
    for (name, (found, expected)) in ["logprobs", "entropies", "logsumexp"]
        .iter()
        .zip(found.iter().zip(expected))
    {
        assert_close(&format!("{case} {name}"), found, expected, 2e-5, 2e-6);
    }
}

/// Every third token except the targets.
fn mask_without(targets: &[i64], vocabulary: usize) -> Vec<f32> {
    let masked = |column: usize| column % 3 == 0 && !targets.contains(&(column as i64));
    (0..vocabulary)
        .map(|column| f32::from(u8::from(masked(column))))
        .collect()
}

#[test]
fn ready_logits_of_awkward_sizes() {
    // Vocabularies that are multiples of four take another path than the others.
    let sizes = [
        (1, 1),
        (1, 152),
        (31, 1023),
        (33, 1028),
        (1023, 257),
        (5, 4096),
        (65_537, 3),
        (65_537, 4),
        (2, 40_001),
    ];
    for (rows, vocabulary) in sizes {
        let logits = uniform(1, rows * vocabulary, -9.0, 9.0);
        let targets = integers(2, rows, vocabulary);
        let exact: Vec<f64> = logits.iter().copied().map(f64::from).collect();
        for (masked, temperature) in [(false, 1.0), (true, 0.7)] {
            let mask = masked.then(|| mask_without(&targets, vocabulary));
            let expected = reference(&exact, &targets, mask.as_deref(), f64::from(temperature));
            for device in devices() {
                let found = logits_logprob(
                    matrix(&logits, [rows, vocabulary], &device),
                    tokens(&targets, &device),
                    &options(mask.as_deref(), temperature, &device),
                );
                assert_matches(
                    &format!("[{rows}, {vocabulary}] {masked} {device:?}"),
                    found,
                    &expected,
                );
            }
        }
    }
}

#[test]
fn hidden_states_and_head_of_awkward_sizes() {
    // The last but one has logits of 79 MB: more than one tile.
    for (rows, size, vocabulary) in [
        (1, 1, 1),
        (33, 7, 257),
        (1023, 5, 131),
        (130, 3, 151_936),
        (65_537, 2, 3),
    ] {
        let (hidden, weight) = (
            uniform(3, rows * size, -2.0, 2.0),
            uniform(4, vocabulary * size, -2.0, 2.0),
        );
        let targets = integers(5, rows, vocabulary);
        let mask = mask_without(&targets[..rows.min(40)], vocabulary);
        let mask = (rows <= 40).then_some(mask.as_slice());
        let expected = reference(
            &product(&hidden, &weight, size),
            &targets,
            mask,
            f64::from(1.3f32),
        );
        for device in devices() {
            let found = token_logprob(
                matrix(&hidden, [rows, size], &device),
                &WeightMatrix::Dense(matrix(&weight, [vocabulary, size], &device)),
                tokens(&targets, &device),
                &options(mask, 1.3, &device),
            );
            assert_matches(
                &format!("[{rows}, {size}] x [{vocabulary}, {size}] {device:?}"),
                found,
                &expected,
            );
        }
    }
}

#[test]
fn extreme_logits_do_not_overflow() {
    let logits = [
        3e4,
        -3e4,
        2.9e4,
        0.0,
        -1e30,
        f32::NEG_INFINITY,
        -88.0,
        -88.1,
        -200.0,
        5.0,
        5.0,
        5.0,
    ];
    let targets = [0, 0, 2, 0];
    let finite: Vec<f64> = logits.iter().map(|&x| f64::from(x).max(-1e30)).collect();
    let expected = reference(&finite, &targets, None, 1.0);
    for device in devices() {
        let found = logits_logprob(
            matrix(&logits, [4, 3], &device),
            tokens(&targets, &device),
            &options(None, 1.0, &device),
        );
        assert_matches(&format!("{device:?}"), found, &expected);
    }
}

#[test]
fn a_target_outside_the_vocabulary_is_nan_and_a_suppressed_one_is_finite() {
    let logits = uniform(6, 5 * 7, -3.0, 3.0);
    let mask = [0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    for device in devices() {
        let found = logits_logprob(
            matrix(&logits, [5, 7], &device),
            tokens(&[-1, 7, i64::from(i32::MAX), 1, 6], &device),
            &options(Some(&mask), 1.0, &device),
        );
        let logprobs = values(found.logprobs);
        assert!(
            logprobs[..3].iter().all(|logprob| logprob.is_nan()),
            "{device:?}: {logprobs:?}"
        );
        assert_eq!(logprobs[3], SUPPRESSED_LOGPROB, "{device:?}");
        assert!(
            logprobs[4] < 0.0 && logprobs[4] > -10.0,
            "{device:?}: {logprobs:?}"
        );
        assert!(
            values(found.logsumexp)
                .iter()
                .all(|value| value.is_finite())
        );
    }
}

#[test]
fn a_nan_in_the_logits_is_not_swallowed() {
    for position in [0, 1, 700, 1999] {
        let mut logits = uniform(7, 2 * 2000, -3.0, 3.0);
        logits[position] = f32::NAN;
        for device in devices() {
            let found = logits_logprob(
                matrix(&logits, [2, 2000], &device),
                tokens(&[5, 5], &device),
                &options(None, 1.0, &device),
            );
            let logprobs = values(found.logprobs);
            assert!(
                logprobs[0].is_nan() && logprobs[1].is_finite(),
                "{device:?} {position}: {logprobs:?}"
            );
        }
    }
}

#[test]
fn entropies_are_zero_if_not_asked_for() {
    for device in devices() {
        let options = TokenLogprobOptions {
            with_entropy: false,
            ..TokenLogprobOptions::default()
        };
        let found = logits_logprob(
            matrix(&[1.0, 2.0, 3.0], [1, 3], &device),
            tokens(&[2], &device),
            &options,
        );
        assert_eq!(values(found.entropies), [0.0]);
        assert_close(
            "logprobs",
            &values(found.logprobs),
            &[-0.407_605_964],
            1e-6,
            0.0,
        );
    }
}

#[test]
fn strided_inputs_and_no_rows() {
    let logits = uniform(8, 5 * 6, -3.0, 3.0);
    let transposed: Vec<f64> = (0..30)
        .map(|index| f64::from(logits[index % 5 * 6 + index / 5]))
        .collect();
    let targets = [4, 3, 2, 1, 0, 4];
    let expected = reference(&transposed, &targets, None, 1.0);
    for device in devices() {
        let options = options(None, 1.0, &device);
        let view = matrix(&logits, [5, 6], &device).transpose();
        assert_matches(
            "transposed",
            logits_logprob(view, tokens(&targets, &device), &options),
            &expected,
        );
        let rows = matrix(&logits, [5, 6], &device).slice([2..2]);
        let nothing = logits_logprob(rows, tokens(&targets, &device).slice([0..0]), &options);
        assert_eq!(nothing.logprobs.dims(), [0]);
    }
}

#[test]
fn half_precision_inputs_are_computed_in_single_precision() {
    let logits = uniform(9, 3 * 50, -3.0, 3.0);
    let targets = [0, 49, 20];
    let device = Device::flex();
    let half = matrix(&logits, [3, 50], &device).cast(FloatDType::F16);
    let rounded: Vec<f64> = values(half.clone().cast(FloatDType::F32))
        .into_iter()
        .map(f64::from)
        .collect();
    let expected = reference(&rounded, &targets, None, 1.0);
    let options = options(None, 1.0, &device);
    assert_matches(
        "f16",
        logits_logprob(half.clone(), tokens(&targets, &device), &options),
        &expected,
    );

    let leaf = half.autodiff().require_grad();
    let found = logits_logprob(leaf.clone(), tokens(&targets, &device), &options);
    let gradient = leaf
        .grad(&found.logprobs.sum().backward())
        .expect("the leaf is tracked");
    assert_eq!(gradient.dtype(), DType::F16);
}
