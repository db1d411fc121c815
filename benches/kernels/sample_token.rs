//! Drawing the next token: the plain distribution, and top-k with top-p.

use burn::tensor::activation::{log_softmax, softmax};
use burn::tensor::{Device, Distribution, Int, Tensor};
use vision_ekipl::kernels::{SampleOptions, sample_token};

use crate::case::{Bench, Case};

const TOP_K: usize = 50;
const TOP_P: f32 = 0.9;

/// Runs every case of the operation.
pub fn run(bench: &Bench) {
    plain(bench, 64, 1_000);
    plain(bench, 64, 32_000);
    filtered(bench, 64, 1_000);
    filtered(bench, 64, 4_000);
}

/// Logits with one outstanding token per row: both sides draw it, although they order the others differently and round
/// their sums differently. The work does not depend on the values.
fn inputs(rows: usize, vocabulary: usize, device: &Device) -> (Tensor<2>, Tensor<1>) {
    let noise = Tensor::<2>::random([rows, vocabulary], Distribution::Normal(0.0, 3.0), device);
    let distribution = Distribution::Uniform(0.0, vocabulary as f64);
    let outstanding = Tensor::<2, Int>::random([rows, 1], distribution, device);
    let ids = Tensor::<1, Int>::arange(0..vocabulary as i64, device).unsqueeze_dim::<2>(0);
    let logits = noise
        + ids
            .expand([rows, vocabulary])
            .equal(outstanding.expand([rows, vocabulary]))
            .float()
            * 80.0;
    (
        logits,
        Tensor::random([rows], Distribution::Uniform(0.01, 0.99), device),
    )
}

/// The number of cumulative probabilities up to the uniform is the index that is drawn.
fn draw(probabilities: Tensor<2>, uniforms: Tensor<1>) -> Tensor<2, Int> {
    let [rows, candidates] = probabilities.dims();
    let uniforms = uniforms.unsqueeze_dim::<2>(1).expand([rows, candidates]);
    probabilities
        .cumsum(1)
        .lower_equal(uniforms)
        .int()
        .sum_dim(1)
}

fn with_logprob(ids: Tensor<2, Int>, logits: Tensor<2>) -> Tensor<2> {
    let logprobs = log_softmax(logits, 1).gather(1, ids.clone());
    Tensor::cat(vec![ids.float(), logprobs], 1)
}

/// The usual draw from Burn's operations adds Gumbel noise; its running sums take time square in the vocabulary.
fn plain(bench: &Bench, rows: usize, vocabulary: usize) {
    let (logits, uniforms) = inputs(rows, vocabulary, &bench.device);
    let stock = || {
        let distribution = Distribution::Uniform(1e-6, 1.0);
        let noise = Tensor::<2>::random([rows, vocabulary], distribution, &bench.device);
        with_logprob(
            (logits.clone() - noise.log().neg().log()).argmax(1),
            logits.clone(),
        )
    };
    bench.run(Case {
        name: format!("sample_token, logits [{rows}, {vocabulary}]"),
        bytes: rows * vocabulary * 4,
        tolerance: 1e-4,
        ours: || {
            sample_token(
                logits.clone(),
                uniforms.clone(),
                None,
                &SampleOptions::default(),
            )
            .expect("options in range")
        },
        stock,
    });
}

/// At most 4,096 tokens: Burn 0.22.1's top-k on software Vulkan looks at no more of a row.
fn filtered(bench: &Bench, rows: usize, vocabulary: usize) {
    let (logits, uniforms) = inputs(rows, vocabulary, &bench.device);
    let options = SampleOptions {
        top_k: TOP_K,
        top_p: TOP_P,
        ..SampleOptions::default()
    };
    let stock = || {
        let (values, ids) = logits.clone().topk_with_indices(TOP_K, 1);
        let probabilities = softmax(values, 1);
        let before = probabilities.clone().cumsum(1) - probabilities.clone();
        let kept = probabilities * before.lower_elem(TOP_P).float();
        let kept = kept.clone() / kept.sum_dim(1);
        with_logprob(ids.gather(1, draw(kept, uniforms.clone())), logits.clone())
    };
    bench.run(Case {
        name: format!("sample_token top-k top-p, logits [{rows}, {vocabulary}]"),
        bytes: rows * vocabulary * 4,
        tolerance: 1e-4,
        ours: || {
            sample_token(logits.clone(), uniforms.clone(), None, &options)
                .expect("options in range")
        },
        stock,
    });
}
