//! The operation on a GPU and on the CPU: which code runs where.

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
        gpu::forward(queries, keys, values, &spans)
    }

    fn packed_attention_backward(
        inputs: Inputs<Self>,
        upstream: CubeTensor,
        statistics: CubeTensor,
        spans: Arc<Spans>,
    ) -> Gradients<Self> {
        let Inputs {
            queries,
            keys,
            values,
        } = inputs;
        let inputs = gpu::Buffers::new(queries, keys, values);
        gpu::backward(&inputs, upstream, statistics, &spans)
    }
}

impl AttentionOps for Flex {
    fn packed_attention(
        queries: FlexTensor,
        keys: FlexTensor,
        values: FlexTensor,
        spans: Arc<Spans>,
    ) -> (FlexTensor, FlexTensor) {
        let [count, heads, width] = queries.layout().shape().dims();
        let [_, groups, _] = keys.layout().shape().dims();
        let (queries, keys, values) = (floats(&queries), floats(&keys), floats(&values));
        let problem = twin::Problem {
            queries: &queries,
            keys: &keys,
            values: &values,
            sizes: twin::Sizes {
                heads,
                groups,
                width,
            },
            spans: &spans,
        };
        let (out, lse) = problem.forward();
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
        let Inputs {
            queries,
            keys,
            values,
        } = inputs;
        let [count, heads, width] = queries.layout().shape().dims();
        let [stored, groups, _] = keys.layout().shape().dims();
        let (queries, keys, values) = (floats(&queries), floats(&keys), floats(&values));
        let (upstream, statistics) = (floats(&upstream), floats(&statistics));
        let problem = twin::Problem {
            queries: &queries,
            keys: &keys,
            values: &values,
            sizes: twin::Sizes {
                heads,
                groups,
                width,
            },
            spans: &spans,
        };
        let output = twin::Output {
            upstream: &upstream,
            statistics: &statistics,
        };
        let (key_gradient, value_gradient) = problem.key_gradients(&output);
        (
            from_floats(problem.query_gradients(&output), [count, heads, width]),
            from_floats(key_gradient, [stored, groups, width]),
            from_floats(value_gradient, [stored, groups, width]),
        )
    }
}
