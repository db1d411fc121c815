//! `dropout`: how many values it keeps and which, the same on every device, and its gradient.

use burn::tensor::{Device, Tensor, TensorData};
use vision_ekipl::kernels::dropout;

use crate::devices::{devices, uniform, values};

fn dropped(x: &[f32], shape: [usize; 2], probability: f32, seed: u64, device: &Device) -> Vec<f32> {
    let x = Tensor::from_data(TensorData::new(x.to_vec(), shape), device);
    values(dropout(x, probability, seed))
}

#[test]
fn the_share_of_the_kept_and_the_mean_are_right() {
    let shape = [301, 333];
    let count = (shape[0] * shape[1]) as f64;
    let ones = vec![1.0; shape[0] * shape[1]];
    for probability in [0.05, 0.5, 0.9] {
        let found = dropped(&ones, shape, probability, 7, &Device::flex());
        let (p, scale) = (f64::from(probability), 1.0 / (1.0 - f64::from(probability)));
        assert!(
            found
                .iter()
                .all(|&y| y == 0.0 || (f64::from(y) - scale).abs() < 1e-5 * scale)
        );
        let kept = found.iter().filter(|y| **y != 0.0).count() as f64;
        let deviation = (count * p * (1.0 - p)).sqrt();
        assert!(
            (kept - count * (1.0 - p)).abs() < 4.0 * deviation,
            "{p}: {kept} of {count}"
        );
    }
}

/// Neighbouring places, rows and seeds do not follow each other.
#[test]
fn masks_are_not_correlated() {
    let shape = [256, 256];
    let ones = vec![1.0; 1 << 16];
    let mask = |seed: u64| -> Vec<bool> {
        let found = dropped(&ones, shape, 0.5, seed, &Device::flex());
        found.into_iter().map(|y| y != 0.0).collect()
    };
    let first = mask(3);
    assert_eq!(first, mask(3), "the same seed");
    let agreement = |other: &[bool], shift: usize| {
        let pairs = first.iter().zip(&other[shift..]);
        let count = pairs.len() as f64;
        (pairs.filter(|(a, b)| a == b).count() as f64 / count - 0.5) * count.sqrt() * 2.0
    };
    for (what, other, shift) in [
        ("the next seed", mask(4), 0),
        ("a seed far away", mask(3 | 1 << 60), 0),
        ("the next place", first.clone(), 1),
        ("the next row", first.clone(), 256),
    ] {
        let deviations = agreement(&other, shift);
        assert!(deviations.abs() < 4.5, "{what}: {deviations} deviations");
    }
}

#[test]
fn every_device_gives_the_same_bits_and_the_gradient_the_same_mask() {
    for shape in [[1, 1], [3, 7], [5, 131], [70, 129]] {
        let x = uniform(1, shape[0] * shape[1], -3.0, 3.0);
        let upstream = uniform(2, shape[0] * shape[1], -3.0, 3.0);
        for (probability, seed) in [(0.1, 0), (0.5, u64::MAX), (0.99, 12_345)] {
            let expected = dropped(&x, shape, probability, seed, &Device::flex());
            let gradient = dropped(&upstream, shape, probability, seed, &Device::flex());
            for device in devices() {
                assert_eq!(dropped(&x, shape, probability, seed, &device), expected);
                let tensor = |values: &[f32], device: &Device| {
                    Tensor::<2>::from_data(TensorData::new(values.to_vec(), shape), device)
                };
                let x = tensor(&x, &device.clone().autodiff()).require_grad();
                let above = Tensor::from_inner(tensor(&upstream, &device));
                let mut graph = (dropout(x.clone(), probability, seed) * above)
                    .sum()
                    .backward();
                let found = values(x.grad_remove(&mut graph).expect("tracked"));
                assert_eq!(found, gradient, "{shape:?} on {device:?}");
            }
        }
    }
}

#[test]
fn probability_zero_changes_nothing() {
    let x = uniform(1, 12, -3.0, 3.0);
    for device in devices() {
        assert_eq!(dropped(&x, [3, 4], 0.0, 9, &device), x);
    }
}

#[test]
#[should_panic(expected = "at least 0 and below 1, found 1")]
fn a_probability_of_one_is_refused() {
    let _ = dropout(Tensor::zeros([1, 1], &Device::flex()), 1.0, 0);
}
