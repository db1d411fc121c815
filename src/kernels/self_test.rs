//! Every kernel on a device against its CPU twin, quickly: what `doctor` shows.
//!
//! The tests do the same at many sizes; this is for the machine of a person. Knows nothing of adapters.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::{
    PolicyLossInput, PolicyLossOptions, SampleOptions, TokenLogprobOptions, group_advantage,
    policy_loss, sample_token, token_logprob,
};
use crate::actions::advantage::{
    AdvantageInput, ScaleRewards, group_advantage as reference_advantage,
};

/// How one kernel did.
#[derive(Debug, Clone, PartialEq)]
pub struct SelfTest {
    /// The kernel.
    pub kernel: &'static str,
    /// Largest absolute difference from the CPU twin.
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

/// Runs every kernel, forward and backward, on `device` and on the CPU.
#[must_use]
pub fn self_test(device: &Device) -> Vec<SelfTest> {
    let cpu = Device::flex();
    let compare = |kernel, tolerance, run: fn(&Device) -> Vec<f32>| SelfTest {
        kernel,
        worst: worst(&run(device), &run(&cpu)),
        tolerance,
    };
    let (input, reference) = advantages();
    vec![
        compare("token_logprob", 1e-4, token_logprobs),
        compare("token_logprob_backward", 1e-4, token_logprob_gradients),
        compare("sample_token", 1e-4, samples),
        compare("policy_loss", 1e-5, policy_losses),
        SelfTest {
            kernel: "group_advantage",
            worst: worst(&group_advantage(&input, device), &reference),
            tolerance: 1e-5,
        },
    ]
}

fn worst(found: &[f32], expected: &[f32]) -> f32 {
    let differences = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| (found - expected).abs());
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

fn tensor<const D: usize>(shape: [usize; D], stream: u32, device: &Device) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(values(shape.iter().product(), stream), shape),
        device,
    )
}

fn host<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor
        .without_autodiff()
        .try_into_vec_as::<f32>()
        .unwrap_or_else(|_| vec![f32::NAN])
}

const TOKENS: usize = 33;
const WIDTH: usize = 48;
const VOCABULARY: usize = 1023;

fn targets(device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..TOKENS as i32)
        .map(|token| token * 31 % VOCABULARY as i32)
        .collect();
    Tensor::from_data(TensorData::new(ids, [TOKENS]), device)
}

fn token_logprobs(device: &Device) -> Vec<f32> {
    let (hidden, head) = (
        tensor([TOKENS, WIDTH], 1, device),
        tensor([VOCABULARY, WIDTH], 2, device),
    );
    let found = token_logprob(
        hidden,
        head,
        targets(device),
        &TokenLogprobOptions::default(),
    );
    [host(found.logprobs), host(found.entropies)].concat()
}

fn token_logprob_gradients(device: &Device) -> Vec<f32> {
    let hidden = tensor([TOKENS, WIDTH], 1, device).autodiff().require_grad();
    let head = tensor([VOCABULARY, WIDTH], 2, device)
        .autodiff()
        .require_grad();
    let options = TokenLogprobOptions {
        with_entropy: false,
        ..TokenLogprobOptions::default()
    };
    let found = token_logprob(hidden.clone(), head.clone(), targets(device), &options);
    let gradients = found.logprobs.sum().backward();
    let gradient = |leaf: &Tensor<2>| leaf.grad(&gradients).map_or_else(|| vec![f32::NAN], host);
    [gradient(&hidden), gradient(&head)].concat()
}

fn samples(device: &Device) -> Vec<f32> {
    let logits = tensor([TOKENS, VOCABULARY], 3, device);
    let uniforms = tensor([TOKENS], 4, device)
        .add_scalar(2.0)
        .div_scalar(4.001);
    let options = SampleOptions {
        temperature: 0.9,
        top_k: 50,
        top_p: 0.9,
        min_p: 0.01,
        logprob_temperature: 1.0,
    };
    host(sample_token(logits, uniforms, None, &options))
}

fn policy_losses(device: &Device) -> Vec<f32> {
    let shape = [7, 31];
    let logprobs = tensor(shape, 5, device)
        .mul_scalar(0.2)
        .autodiff()
        .require_grad();
    let input = PolicyLossInput {
        logprobs: logprobs.clone(),
        old_logprobs: tensor(shape, 6, device).mul_scalar(0.2),
        reference_logprobs: Some(tensor(shape, 7, device).mul_scalar(0.2)),
        advantages: tensor(shape, 8, device),
        mask: Tensor::ones(shape, device),
        weights: Tensor::ones(shape, device).div_scalar(217.0),
        kl_weights: None,
    };
    let options = PolicyLossOptions {
        epsilon_low: 0.2,
        epsilon_high: 0.28,
        delta: Some(4.0),
        beta: 0.04,
        sequence_level: false,
        bias_corrected_kl: false,
    };
    let found = policy_loss(input, &options);
    let gradients = found.loss.backward();
    let gradient = logprobs
        .grad(&gradients)
        .map_or_else(|| vec![f32::NAN], host);
    [host(found.loss), gradient].concat()
}

/// Groups of nine with ties, an absent reward, and one group without any spread.
fn advantages() -> (AdvantageInput, Vec<f32>) {
    let rows = 9 * 33;
    let reward = |row: usize| match row {
        5 => f32::NAN,
        row if row / 9 == 2 => 1.0,
        row => (row * 7 % 3) as f32,
    };
    let input = AdvantageInput {
        rewards: (0..rows).map(reward).collect(),
        groups: (0..rows).map(|row| (row / 9) as u32).collect(),
        in_baseline: (0..rows).map(|row| row % 9 != 8).collect(),
        wanted: vec![true; rows],
        scale_rewards: ScaleRewards::Group,
    };
    let reference = reference_advantage(&input);
    (input, reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cpu_agrees_with_itself_and_nan_is_never_right() {
        for test in self_test(&Device::flex()) {
            assert!(test.passed(), "{test:?}");
        }
        assert!(worst(&[f32::NAN], &[0.0]).is_nan(), "NaN is seen");
        let wrong = SelfTest {
            kernel: "any",
            worst: f32::NAN,
            tolerance: 1.0,
        };
        assert!(!wrong.passed(), "NaN is wrong");
    }
}
