//! Log-probabilities under a vocabulary: ready logits, and hidden states with a head.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Distribution, Int, Tensor};
use vision_ekipl::kernels::{TokenLogprobOptions, WeightMatrix, logits_logprob, token_logprob};

use crate::case::{Bench, Case};

/// Runs every case of the operation.
pub fn run(bench: &Bench) {
    forward(bench, 256, 32_000);
    forward_and_backward(bench, 512, 32_000);
    from_hidden_states(bench, [128, 64], 32_000);
}

fn without_entropy() -> TokenLogprobOptions {
    TokenLogprobOptions {
        with_entropy: false,
        ..TokenLogprobOptions::default()
    }
}

fn stock(logits: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_softmax(logits, 1)
        .gather(1, targets.unsqueeze_dim(1))
        .squeeze_dim(1)
}

fn targets(rows: usize, vocabulary: usize, device: &Device) -> Tensor<1, Int> {
    Tensor::random(
        [rows],
        Distribution::Uniform(0.0, vocabulary as f64),
        device,
    )
}

fn forward(bench: &Bench, rows: usize, vocabulary: usize) {
    let device = &bench.device;
    let logits = Tensor::<2>::random([rows, vocabulary], Distribution::Normal(0.0, 3.0), device);
    let targets = targets(rows, vocabulary, device);
    bench.run(Case {
        name: format!("token_logprob forward, logits [{rows}, {vocabulary}]"),
        bytes: rows * vocabulary * 4,
        tolerance: 1e-4,
        ours: || logits_logprob(logits.clone(), targets.clone(), &without_entropy()).logprobs,
        stock: || stock(logits.clone(), targets.clone()),
    });
}

/// The result is the gradient; it is read and written once beside two reads of the logits.
fn forward_and_backward(bench: &Bench, rows: usize, vocabulary: usize) {
    let device = bench.device.clone().autodiff();
    let logits = Tensor::<2>::random([rows, vocabulary], Distribution::Normal(0.0, 3.0), &device)
        .require_grad();
    let targets = targets(rows, vocabulary, &device);
    let gradient = |logprobs: Tensor<1>| logits.grad(&logprobs.sum().backward()).expect("tracked");
    bench.run(Case {
        name: format!("token_logprob + backward, logits [{rows}, {vocabulary}]"),
        bytes: 3 * rows * vocabulary * 4,
        // Burn's sum over the row is off by up to 1e-5 of its value on software Vulkan.
        tolerance: 1e-4,
        ours: || {
            gradient(logits_logprob(logits.clone(), targets.clone(), &without_entropy()).logprobs)
        },
        stock: || gradient(stock(logits.clone(), targets.clone())),
    });
}

/// Mostly the matrix products, which are Burn's on both sides.
fn from_hidden_states(bench: &Bench, [rows, size]: [usize; 2], vocabulary: usize) {
    let device = bench.device.clone().autodiff();
    let random =
        |shape| Tensor::<2>::random(shape, Distribution::Normal(0.0, 0.3), &device).require_grad();
    let (hidden, weight) = (random([rows, size]), random([vocabulary, size]));
    let targets = targets(rows, vocabulary, &device);
    let gradient = |logprobs: Tensor<1>| {
        let grads = logprobs.sum().backward();
        let gradients = [&hidden, &weight].map(|tensor| tensor.grad(&grads).expect("tracked"));
        Tensor::cat(gradients.to_vec(), 0)
    };
    bench.run(Case {
        name: format!("token_logprob + backward, [{rows}, {size}] x [{vocabulary}, {size}]"),
        bytes: 4 * (3 * rows * vocabulary + 3 * (rows + vocabulary) * size),
        tolerance: 1e-4,
        ours: || {
            gradient(
                token_logprob(
                    hidden.clone(),
                    &WeightMatrix::Dense(weight.clone()),
                    targets.clone(),
                    &without_entropy(),
                )
                .logprobs,
            )
        },
        stock: || {
            gradient(stock(
                hidden.clone().matmul(weight.clone().transpose()),
                targets.clone(),
            ))
        },
    });
}
