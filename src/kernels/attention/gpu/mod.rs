//! Launches the shaders of the operation on tensors that are on the GPU.
//! It knows buffers and variants, not what the tokens are.

mod shaders;

use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn::tensor::{DType, FloatDType, Shape, Slice};

use super::spans::Spans;
use super::tables::{Split, Table};
use super::{Gradients, Inputs};
use crate::kernels::launch::{contiguous, empty, launch};
pub(crate) use shaders::shaders;
use shaders::{MERGE_WORKGROUP, Pass, merge, shader};

/// Queries, keys and values, row-major.
pub(super) struct Buffers {
    queries: CubeTensor,
    keys: CubeTensor,
    values: CubeTensor,
    /// n, H, E.
    asked: [usize; 3],
    /// m, K, E.
    stored: [usize; 3],
}

impl Buffers {
    pub fn new(inputs: Inputs<CubeBackend>) -> Self {
        let [queries, keys, values] = [inputs.queries, inputs.keys, inputs.values].map(contiguous);
        Self {
            asked: queries.meta.shape().dims(),
            stored: keys.meta.shape().dims(),
            queries,
            keys,
            values,
        }
    }

    /// `tile_table` = the first word of the table's tiles.
    fn params(&self, table: &Table, tile_table: usize) -> [u32; 7] {
        let ([_, heads, width], [keys, groups, _]) = (self.asked, self.stored);
        [
            heads as u32,
            groups as u32,
            width as u32,
            table.tiles as u32,
            tile_table as u32,
            (1.0 / (width as f32).sqrt()).to_bits(),
            keys as u32,
        ]
    }

    /// Results [rows, H, E] and log-sum-exp [rows, H], not yet computed.
    fn results(&self, rows: usize) -> (CubeTensor, CubeTensor) {
        let [_, heads, width] = self.asked;
        (
            empty(&self.queries, [rows, heads, width], DType::F32),
            empty(&self.queries, [rows, heads], DType::F32),
        )
    }
}

/// `(out [n, H, E], lse [n, H])`.
pub(super) fn forward(inputs: &Buffers, spans: &Spans) -> (CubeTensor, CubeTensor) {
    let ([count, heads, width], [_, groups, _]) = (inputs.asked, inputs.stored);
    let share = heads / groups;
    if let Some(split) = spans.tables.split(spans.visible(), share, &inputs.queries) {
        return split_forward(inputs, split);
    }
    let table = spans.tables.queries(spans.visible(), &inputs.queries);
    let (out, lse) = inputs.results(count);
    launch(
        shader(Pass::Forward, width),
        &[
            (&inputs.queries, ReadOnly),
            (&inputs.keys, ReadOnly),
            (&inputs.values, ReadOnly),
            (&table.words, ReadOnly),
            (&out, WriteOnly),
            (&lse, WriteOnly),
        ],
        &inputs.params(table, 4 * count),
        (table.tiles * heads) as u32,
    );
    (out, lse)
}

/// As [`forward`], in two launches: the parts, and their merging.
fn split_forward(inputs: &Buffers, split: &Split) -> (CubeTensor, CubeTensor) {
    let ([count, heads, width], [_, groups, _]) = (inputs.asked, inputs.stored);
    let table = &split.table;
    let (parts, part_lse) = inputs.results(split.slots);
    launch(
        shader(Pass::Split, width),
        &[
            (&inputs.queries, ReadOnly),
            (&inputs.keys, ReadOnly),
            (&inputs.values, ReadOnly),
            (&table.words, ReadOnly),
            (&parts, WriteOnly),
            (&part_lse, WriteOnly),
        ],
        &inputs.params(table, 5 * count),
        (table.tiles * groups) as u32,
    );
    let (out, lse) = inputs.results(count);
    let values = (count * heads * width) as u32;
    launch(
        merge(),
        &[
            (&parts, ReadOnly),
            (&part_lse, ReadOnly),
            (&table.words, ReadOnly),
            (&out, WriteOnly),
            (&lse, WriteOnly),
        ],
        &[values, heads as u32, width as u32],
        values.div_ceil(MERGE_WORKGROUP),
    );
    (out, lse)
}

/// Gradients to queries, keys and values.
pub(super) fn backward(
    inputs: &Buffers,
    upstream: CubeTensor,
    statistics: CubeTensor,
    spans: &Spans,
) -> Gradients<CubeBackend> {
    let ([count, heads, width], [keys, groups, _]) = (inputs.asked, inputs.stored);
    let (upstream, statistics) = (contiguous(upstream), contiguous(statistics));
    let to_queries = empty(&inputs.queries, [count, heads, width], DType::F32);
    // Zeros: a key that nobody sees is in no tile.
    let both = CubeBackend::float_zeros(
        Shape::new([2, keys, groups, width]),
        &inputs.queries.device,
        FloatDType::F32,
    );
    let pass = |pass, table: &Table, result, heads| {
        launch(
            shader(pass, width),
            &[
                (&inputs.queries, ReadOnly),
                (&inputs.keys, ReadOnly),
                (&inputs.values, ReadOnly),
                (&upstream, ReadOnly),
                (&statistics, ReadOnly),
                (&table.words, ReadOnly),
                result,
            ],
            &inputs.params(table, 4 * count),
            (table.tiles * heads) as u32,
        );
    };
    let query_table = spans.tables.queries(spans.visible(), &inputs.queries);
    let key_table = spans
        .tables
        .keys((spans.visible(), spans.keys()), &inputs.queries);
    pass(
        Pass::BackwardQueries,
        query_table,
        (&to_queries, WriteOnly),
        heads,
    );
    pass(Pass::BackwardKeys, key_table, (&both, ReadWrite), groups);
    let part = |index: usize| {
        let one = CubeBackend::float_slice(both.clone(), &[Slice::from(index..index + 1)]);
        CubeBackend::float_reshape(one, Shape::new([keys, groups, width]))
    };
    (to_queries, part(0), part(1))
}
