//! What is measured: forward and backward of one causal row through attention, and through the operations of one block of
//! the language model, whose matrices train.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Tensor};
use vision_ekipl::kernels::{Spans, Visible, attention, rms_norm, rotary, swiglu};

pub const SIZES: &str =
    "width 512, 8 query heads and 2 key heads of 64, inner width 2048, one causal row, f32";
const WIDTH: usize = 512;
const INNER: usize = 2048;
const HEADS: usize = 8;
const GROUPS: usize = 2;
const HEAD: usize = 64;

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 0.1), device).require_grad()
}

fn causal(tokens: usize) -> Arc<Spans> {
    let seen = |token| Visible {
        prefix: 0..0,
        own: 0..token + 1,
    };
    Arc::new(Spans::new((0..tokens as u32).map(seen).collect(), tokens))
}

/// Gradients to queries, keys and values.
pub fn attention_alone(tokens: usize, device: &Device) {
    let queries = random([tokens, HEADS, HEAD], device);
    let keys = random([tokens, GROUPS, HEAD], device);
    let values = random([tokens, GROUPS, HEAD], device);
    attention(queries, keys, values, &causal(tokens))
        .sum()
        .backward();
}

/// Gradients to the block's input and to all of its parameters.
pub fn one_block(tokens: usize, device: &Device) {
    let input = random([tokens, WIDTH], device);
    let matrix = |x: Tensor<2>, columns: usize| {
        let rows = x.dims()[1];
        x.matmul(random([columns, rows], device).transpose())
    };
    let angles = || random([tokens, HEAD / 2], device).detach();
    let (cosines, sines) = (angles(), angles());
    let heads = |x: Tensor<2>, heads: usize| {
        let projected = matrix(x, heads * HEAD).reshape([tokens, heads, HEAD]);
        rotary(projected, cosines.clone(), sines.clone())
    };
    let normed = rms_norm(input.clone(), random([WIDTH], device), 1e-6);
    let (queries, keys) = (heads(normed.clone(), HEADS), heads(normed.clone(), GROUPS));
    let values = matrix(normed, GROUPS * HEAD).reshape([tokens, GROUPS, HEAD]);
    let attended = attention(queries, keys, values, &causal(tokens));
    let hidden = input + matrix(attended.reshape([tokens, HEADS * HEAD]), WIDTH);
    let normed = rms_norm(hidden.clone(), random([WIDTH], device), 1e-6);
    let gated = swiglu(matrix(normed.clone(), INNER), matrix(normed, INNER));
    (hidden + matrix(gated, WIDTH)).sum().backward();
}
