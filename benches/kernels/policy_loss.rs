//! The clipped policy loss with k3, forward and backward.

use burn::tensor::{Device, Distribution, Tensor};
use vision_ekipl::kernels::{PolicyLossInput, PolicyLossOptions, Surrogate, policy_loss};

use crate::case::{Bench, Case};

const OPTIONS: PolicyLossOptions = PolicyLossOptions {
    surrogate: Surrogate::Clipped,
    epsilon_low: 0.2,
    epsilon_high: 0.28,
    delta: None,
    beta: 0.04,
    sequence_level: false,
    bias_corrected_kl: false,
};

/// Runs every case of the operation.
pub fn run(bench: &Bench) {
    for shape in [[64, 128], [512, 1024]] {
        forward_and_backward(bench, shape);
    }
}

fn input(shape: [usize; 2], device: &Device) -> PolicyLossInput {
    let random = |low, high| Tensor::<2>::random(shape, Distribution::Uniform(low, high), device);
    let logprobs = random(-5.0, -0.1);
    PolicyLossInput {
        old_logprobs: logprobs.clone() + random(-0.4, 0.4),
        reference_logprobs: Some(logprobs.clone() + random(-0.4, 0.4)),
        advantages: random(-2.0, 2.0),
        mask: random(0.0, 1.0).greater_elem(0.2).float(),
        weights: Tensor::full(shape, 1.0 / (shape[0] * shape[1]) as f32, device),
        kl_weights: None,
        surrogate_weights: None,
        logprobs: logprobs.detach().require_grad(),
    }
}

/// The same loss from Burn's operations.
fn stock(input: PolicyLossInput) -> Tensor<1> {
    let ratio = (input.logprobs.clone() - input.old_logprobs).exp();
    let plain = ratio.clone() * input.advantages.clone();
    let clipped =
        ratio.clamp(1.0 - OPTIONS.epsilon_low, 1.0 + OPTIONS.epsilon_high) * input.advantages;
    let d = input.reference_logprobs.expect("given above") - input.logprobs;
    let k3 = d.clone().exp() - d - 1.0;
    ((k3 * OPTIONS.beta - plain.min_pair(clipped)) * input.mask * input.weights).sum()
}

/// The result is the gradient. Seven tensors are read; five terms and the gradient are written.
fn forward_and_backward(bench: &Bench, shape: [usize; 2]) {
    let device = bench.device.clone().autodiff();
    let input = input(shape, &device);
    let gradient = |loss: Tensor<1>| input.logprobs.grad(&loss.backward()).expect("tracked");
    bench.run(Case {
        name: format!("policy_loss + backward, {shape:?}"),
        bytes: 13 * shape[0] * shape[1] * 4,
        tolerance: 1e-6,
        ours: || gradient(policy_loss(input.clone(), &OPTIONS).loss),
        stock: || gradient(stock(input.clone())),
    });
}
