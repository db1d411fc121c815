//! One row of the table: the check of a kernel against stock operations, and both times.

use std::time::Instant;

use burn::tensor::{Device, Distribution, Tensor};

/// What every case of one device shares.
pub struct Bench {
    /// The device under test.
    pub device: Device,
    /// Timed repetitions; the median counts.
    pub repetitions: usize,
    /// Bytes read plus written per second by a plain copy on this device.
    pub copy_rate: f64,
    /// Cases whose name does not contain it are left out.
    pub filter: String,
}

/// A computation in two versions with the same result.
pub struct Case<Ours, Stock> {
    /// Name and shapes.
    pub name: String,
    /// Bytes that the operation must read and write at least.
    pub bytes: usize,
    /// Largest accepted difference between the results.
    pub tolerance: f32,
    /// Through our kernel.
    pub ours: Ours,
    /// Through Burn's operations.
    pub stock: Stock,
}

impl Bench {
    /// Checks and times one case and prints its row.
    ///
    /// # Panics
    /// If the results differ by more than the tolerance: a wrong kernel has no speed.
    pub fn run<const D: usize>(&self, case: Case<impl Fn() -> Tensor<D>, impl Fn() -> Tensor<D>>) {
        let Case {
            name,
            bytes,
            tolerance,
            ours,
            stock,
        } = case;
        if !name.contains(&self.filter) {
            return;
        }
        // This is also the warm-up: kernels compile here.
        let error = (ours() - stock()).abs().max().into_scalar::<f32>();
        assert!(
            error <= tolerance,
            "{name}: results differ by {error}, more than {tolerance}"
        );
        let stock = self.seconds(stock);
        let ours = self.seconds(ours);
        let rate = bytes as f64 / ours;
        println!(
            "{name:<52} {:>10.2} {:>10.2} {:>7.2} {:>7.2} {:>7.0}% {error:>12.1e}",
            stock * 1e3,
            ours * 1e3,
            stock / ours,
            rate / 1e9,
            100.0 * rate / self.copy_rate
        );
    }

    fn seconds<const D: usize>(&self, work: impl Fn() -> Tensor<D>) -> f64 {
        median_seconds(&self.device, self.repetitions, work)
    }
}

/// Bytes per second of `x * 1` on 64 MB, reads and writes counted.
pub fn copy_rate(device: &Device, repetitions: usize) -> f64 {
    let elements = 1 << 24;
    let source = Tensor::<1>::random([elements], Distribution::Default, device);
    let copy = || source.clone() * 1.0;
    copy();
    (2 * elements * size_of::<f32>()) as f64 / median_seconds(device, repetitions, copy)
}

fn median_seconds<const D: usize>(
    device: &Device,
    repetitions: usize,
    work: impl Fn() -> Tensor<D>,
) -> f64 {
    let mut seconds: Vec<f64> = (0..repetitions)
        .map(|_| {
            device.sync().expect("the device works");
            let start = Instant::now();
            let result = work();
            device.sync().expect("the device works");
            let elapsed = start.elapsed().as_secs_f64();
            drop(result);
            elapsed
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    seconds[repetitions / 2]
}
