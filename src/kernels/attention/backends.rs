//! The operation on a GPU and on the CPU: which code runs where.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn_flex::FlexTensor;

use super::super::flex_slices::{floats, from_floats};
use super::{AttentionOps, Gradients, Inputs, Spans, gpu, twin};

impl AttentionOps for CubeBackend {
    fn packed_attention(
        queries: CubeTensor,
        keys: CubeTensor,
        values: CubeTensor,
        spans: Arc<Spans>,
    ) -> (CubeTensor, CubeTensor) {
        let inputs = Inputs {
            queries,
            keys,
            values,
        };
        gpu::forward(&gpu::Buffers::new(inputs), &spans)
    }

    fn packed_attention_backward(
        inputs: Inputs<Self>,
        upstream: CubeTensor,
        statistics: CubeTensor,
        spans: Arc<Spans>,
    ) -> Gradients<Self> {
        gpu::backward(&gpu::Buffers::new(inputs), upstream, statistics, &spans)
    }
}

impl AttentionOps for Flex {
    fn packed_attention(
        queries: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        spans: Arc<Spans>,
    ) -> (FlexTensor, FlexTensor) {
        let inputs = Inputs {
            queries,
            keys,
            values,
        };
        let slices = Slices::new(&inputs);
        let (out, lse) = slices.problem(&spans).forward();
        let [count, heads, width] = slices.asked;
        (
            from_floats(out, [count, heads, width]),
            from_floats(lse, [count, heads]),
        )
    }

    fn packed_attention_backward(
        inputs: Inputs<Self>,
        upstream: FlexTensor,
        statistics: FlexTensor,
        spans: Arc<Spans>,
    ) -> Gradients<Self> {
        let slices = Slices::new(&inputs);
        let problem = slices.problem(&spans);
        let (upstream, statistics) = (floats(&upstream), floats(&statistics));
        let output = twin::Output {
            upstream: &upstream,
            statistics: &statistics,
        };
        let (to_keys, to_values) = problem.key_gradients(&output);
        (
            from_floats(problem.query_gradients(&output), slices.asked),
            from_floats(to_keys, slices.stored),
            from_floats(to_values, slices.stored),
        )
    }
}

/// The inputs of the twin, row-major.
struct Slices<'a> {
    queries: Cow<'a, [f32]>,
    keys: Cow<'a, [f32]>,
    values: Cow<'a, [f32]>,
    /// n, H, E.
    asked: [usize; 3],
    /// m, K, E.
    stored: [usize; 3],
}

impl<'a> Slices<'a> {
    fn new(inputs: &'a Inputs<Flex>) -> Self {
        Self {
            queries: floats(&inputs.queries),
            keys: floats(&inputs.keys),
            values: floats(&inputs.values),
            asked: inputs.queries.layout().shape().dims(),
            stored: inputs.keys.layout().shape().dims(),
        }
    }

    fn problem<'s>(&'s self, spans: &'s Spans) -> twin::Problem<'s> {
        let [_, heads, width] = self.asked;
        twin::Problem {
            queries: &self.queries,
            keys: &self.keys,
            values: &self.values,
            sizes: twin::Sizes {
                heads,
                groups: self.stored[1],
                width,
            },
            spans,
        }
    }
}
