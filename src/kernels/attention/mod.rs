//! Attention of packed tokens, with no buffer of queries x keys and no mask: each query sees two ranges of keys.
//! It knows tensors and ranges, not what the tokens are.
//!
//! With `s[i, h, j] = q[i, h] · k[j, h / (H/K)] / sqrt(E)` over the keys j that query i sees:
//! `lse[i, h] = ln Σ_j exp s[i, h, j]`, `out[i, h] = Σ_j exp(s[i, h, j] − lse[i, h]) v[j, h / (H/K)]`.
//! A query that sees nothing gives zeros. Counterpart elsewhere: FlashAttention-2 (arXiv 2307.08691), whose backward pass
//! from `lse` this one follows: one pass over queries for dq, one over keys for dk and dv.

mod autodiff;
mod backends;
mod gpu;
mod spans;
mod split;
mod tables;
mod tiles;
mod twin;
mod visible;

use std::sync::Arc;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::Tensor;

pub(crate) use gpu::shaders;
pub use spans::Spans;
pub use visible::Visible;

use super::shape_check::ShapeCheck;

/// Attention of each query over the keys that `spans` lets it see; differentiable towards all three tensors.
///
/// # Shapes
/// `queries` `[n, H, E]`, `keys` and `values` `[m, K, E]` with K a divisor of H; result `[n, H, E]`. Query head h reads key
/// head h / (H/K).
///
/// # Panics
/// If the shapes disagree with each other or with the spans.
pub fn attention(
    queries: Tensor<3>,
    keys: Tensor<3>,
    values: Tensor<3>,
    spans: &Arc<Spans>,
) -> Tensor<3> {
    ShapeCheck::new("attention")
        .tensor("queries", "nHE", &queries.dims())
        .tensor("keys", "mKE", &keys.dims())
        .tensor("values", "mKE", &values.dims());
    let ([count, heads, _], [stored, groups, _]) = (queries.dims(), keys.dims());
    assert!(
        (count, stored) == (spans.queries(), spans.keys()) && heads.is_multiple_of(groups),
        "attention: {count} queries of {heads} heads over {stored} keys of {groups}, the spans say {} over {}",
        spans.queries(),
        spans.keys()
    );
    let (out, _) = Dispatch::packed_attention(
        queries.into_dispatch(),
        keys.into_dispatch(),
        values.into_dispatch(),
        Arc::clone(spans),
    );
    Tensor::from_dispatch(out)
}

/// Queries `[n, H, E]`, keys and values `[m, K, E]`.
#[derive(ExtensionType)]
pub(crate) struct Inputs<B: Backend> {
    pub(crate) queries: FloatTensor<B>,
    pub(crate) keys: FloatTensor<B>,
    pub(crate) values: FloatTensor<B>,
}

/// Gradients to queries, keys and values.
pub(crate) type Gradients<B> = (FloatTensor<B>, FloatTensor<B>, FloatTensor<B>);

/// Routes the operation to WGSL or to the CPU twin; all floats are f32.
#[backend_extension(Cube, Flex, Autodiff)]
pub(crate) trait AttentionOps: Backend {
    /// `(out [n, H, E], lse [n, H])`.
    fn packed_attention(
        queries: FloatTensor<Self>,
        keys: FloatTensor<Self>,
        values: FloatTensor<Self>,
        spans: Arc<Spans>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// Gradients from `upstream` `[n, H, E]` and `statistics` `[n, H, 2]`: lse and Σ_e upstream · out.
    fn packed_attention_backward(
        #[extension_type] inputs: Inputs<Self>,
        upstream: FloatTensor<Self>,
        statistics: FloatTensor<Self>,
        spans: Arc<Spans>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
