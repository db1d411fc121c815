//! The devices that kernels are tested on, and inputs for them.

use std::sync::OnceLock;

use burn::tensor::{Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The CPU device, and the GPU device if an adapter is found; says so if not.
pub fn devices() -> Vec<Device> {
    static GPU: OnceLock<Option<Device>> = OnceLock::new();
    let gpu = GPU.get_or_init(|| match Device::wgpu_options().init() {
        Ok(device) => Some(device),
        Err(error) => {
            println!("SKIPPED on the GPU: no adapter ({error}); install a Vulkan driver to run it");
            None
        }
    });
    let devices = [Some(Device::flex()), gpu.clone()];
    devices
        .into_iter()
        .flatten()
        .inspect(fill_with_noise)
        .collect()
}

/// Writes NaN into many buffers and frees them, so that new buffers do not happen to contain zeros.
fn fill_with_noise(device: &Device) {
    for size in [64, 1 << 10, 1 << 14, 1 << 18, 1 << 21] {
        let buffers: Vec<_> = (0..4)
            .map(|_| Tensor::<1>::full([size], f32::NAN, device))
            .collect();
        for buffer in buffers {
            assert!(buffer.slice([0..1]).into_scalar::<f32>().is_nan());
        }
    }
}

/// `count` numbers in `low..high`, the same for the same seed.
pub fn uniform(seed: u64, count: usize, low: f32, high: f32) -> Vec<f32> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(low..high)).collect()
}

/// `count` integers below `end`, the same for the same seed.
pub fn integers(seed: u64, count: usize, end: usize) -> Vec<i64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..count)
        .map(|_| random.random_range(0..end as i64))
        .collect()
}

/// Fails unless each value is within `absolute + relative * |expected|` of what is expected.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: number of values");
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        let bound = absolute + relative * expected.abs();
        assert!(
            error <= bound,
            "{what}[{index}]: found {found}, expected {expected}, error {error:e} above {bound:e}"
        );
    }
}

/// The values of a tensor.
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().expect("an f32 tensor")
}
