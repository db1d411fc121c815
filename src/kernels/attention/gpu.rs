//! Launches the three shaders of the operation on tensors that are on the GPU, and uploads their tables once per spans.
//! It knows buffers and variants, not what the tokens are.

use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn::tensor::{DType, FloatDType, Shape, Slice, TensorData};

use super::Gradients;
use super::spans::{KeyTile, QueryTile, Spans};
use crate::kernels::assemble::Shader;
use crate::kernels::launch::{contiguous, empty, launch};

/// Invocations per workgroup of all three shaders: 32 rows of four.
const WORKGROUP: u32 = 128;
/// Head sizes up to this are rounded up to a multiple of 16; larger ones to [`LARGEST_HEAD`].
const LARGEST_COMMON_HEAD: usize = 128;
/// Largest head that the shaders hold in their registers and their workgroup's memory.
const LARGEST_HEAD: usize = 256;

const INDEX: &str = include_str!("../../../shaders/shared/index.wgsl");
const ATTENTION: &str = include_str!("../../../shaders/shared/attention.wgsl");

/// The three passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Forward,
    BackwardQueries,
    BackwardKeys,
}

/// Every variant of the three shaders.
pub(crate) fn shaders() -> Vec<Shader> {
    let heads = (16..=LARGEST_COMMON_HEAD).step_by(16).chain([LARGEST_HEAD]);
    heads
        .flat_map(|head| {
            [Pass::Forward, Pass::BackwardQueries, Pass::BackwardKeys]
                .map(|pass| shader(pass, head))
        })
        .collect()
}

fn shader(pass: Pass, head: usize) -> Shader {
    let (name, source) = match pass {
        Pass::Forward => ("attention", include_str!("../../../shaders/attention.wgsl")),
        Pass::BackwardQueries => (
            "attention_backward_queries",
            include_str!("../../../shaders/attention_backward_queries.wgsl"),
        ),
        Pass::BackwardKeys => (
            "attention_backward_keys",
            include_str!("../../../shaders/attention_backward_keys.wgsl"),
        ),
    };
    // Blocks of two tensors and the parts of their products fit 16 KiB of workgroup memory.
    let block = if pass == Pass::Forward && head <= LARGEST_COMMON_HEAD {
        8
    } else {
        4
    };
    Shader {
        name,
        source,
        shared: &[INDEX, ATTENTION],
        tunables: vec![("HEAD", format!("{head}u")), ("BLOCK", format!("{block}u"))],
        workgroup: WORKGROUP,
    }
}

/// Size of a head in the shaders.
fn padded_head(width: usize) -> usize {
    assert!(
        width <= LARGEST_HEAD,
        "attention: heads have at most {LARGEST_HEAD} values, found {width}"
    );
    if width <= LARGEST_COMMON_HEAD {
        width.next_multiple_of(16)
    } else {
        LARGEST_HEAD
    }
}

/// Queries, keys and values, row-major.
pub(super) struct Buffers {
    queries: CubeTensor,
    keys: CubeTensor,
    values: CubeTensor,
}

impl Buffers {
    pub(super) fn new(queries: CubeTensor, keys: CubeTensor, values: CubeTensor) -> Self {
        Self {
            queries: contiguous(queries),
            keys: contiguous(keys),
            values: contiguous(values),
        }
    }

    /// n, H, K, E.
    fn sizes(&self) -> [usize; 4] {
        let [count, heads, width] = self.queries.meta.shape().dims();
        let [_, groups, _] = self.keys.meta.shape().dims();
        [count, heads, groups, width]
    }

    fn params(&self, tiles: usize, tile_table: usize) -> Vec<u32> {
        let [_, heads, groups, width] = self.sizes();
        vec![
            heads as u32,
            groups as u32,
            width as u32,
            tiles as u32,
            tile_table as u32,
            (1.0 / (width as f32).sqrt()).to_bits(),
        ]
    }
}

/// `(out [n, H, E], lse [n, H])`.
pub(super) fn forward(
    queries: CubeTensor,
    keys: CubeTensor,
    values: CubeTensor,
    spans: &Spans,
) -> (CubeTensor, CubeTensor) {
    let inputs = Buffers::new(queries, keys, values);
    let [count, heads, _, width] = inputs.sizes();
    let table = query_table(spans, &inputs.queries);
    let out = empty(&inputs.queries, [count, heads, width], DType::F32);
    let lse = empty(&inputs.queries, [count, heads], DType::F32);
    let tiles = query_rows(spans).len();
    launch(
        shader(Pass::Forward, padded_head(width)),
        &[
            (&inputs.queries, ReadOnly),
            (&inputs.keys, ReadOnly),
            (&inputs.values, ReadOnly),
            (&table, ReadOnly),
            (&out, WriteOnly),
            (&lse, WriteOnly),
        ],
        &inputs.params(tiles, 4 * count),
        (tiles * heads) as u32,
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
    let [count, heads, groups, width] = inputs.sizes();
    let (upstream, statistics) = (contiguous(upstream), contiguous(statistics));
    let table = query_table(spans, &inputs.queries);
    let query_tiles = query_rows(spans).len();
    let to_queries = empty(&inputs.queries, [count, heads, width], DType::F32);
    launch(
        shader(Pass::BackwardQueries, padded_head(width)),
        &[
            (&inputs.queries, ReadOnly),
            (&inputs.keys, ReadOnly),
            (&inputs.values, ReadOnly),
            (&upstream, ReadOnly),
            (&statistics, ReadOnly),
            (&table, ReadOnly),
            (&to_queries, WriteOnly),
        ],
        &inputs.params(query_tiles, 4 * count),
        (query_tiles * heads) as u32,
    );
    // Zeros: a key that nobody sees is in no tile.
    let both = CubeBackend::float_zeros(
        Shape::new([2, spans.keys(), groups, width]),
        &inputs.queries.device,
        FloatDType::F32,
    );
    let key_tiles = spans.key_tiles().len();
    let mut params = inputs.params(key_tiles, 4 * count);
    let table = key_table(spans, &inputs.queries);
    params.push(spans.keys() as u32);
    launch(
        shader(Pass::BackwardKeys, padded_head(width)),
        &[
            (&inputs.queries, ReadOnly),
            (&inputs.keys, ReadOnly),
            (&inputs.values, ReadOnly),
            (&upstream, ReadOnly),
            (&statistics, ReadOnly),
            (&table, ReadOnly),
            (&both, ReadWrite),
        ],
        &params,
        (key_tiles * groups) as u32,
    );
    let part = |index: usize| {
        let one = CubeBackend::float_slice(both.clone(), &[Slice::from(index..index + 1)]);
        CubeBackend::float_reshape(one, Shape::new([spans.keys(), groups, width]))
    };
    (to_queries, part(0), part(1))
}

/// `[first query, queries, prefix start, prefix end, own start, own end]` per workgroup of the passes over queries: rows
/// of a cache that lie far apart are walked separately.
fn query_rows(spans: &Spans) -> Vec<[u32; 6]> {
    let row = |tile: &QueryTile, queries: std::ops::Range<usize>, own: &std::ops::Range<usize>| {
        let prefix = &spans.visible()[tile.queries.start].prefix;
        [
            queries.start as u32,
            queries.len() as u32,
            prefix.start,
            prefix.end,
            own.start as u32,
            own.end as u32,
        ]
    };
    let tiles = spans.query_tiles().iter();
    tiles
        .flat_map(|tile| {
            let own = tile.segments.iter().filter(|segment| !segment.prefix);
            own.map(move |segment| row(tile, segment.queries.clone(), &segment.keys))
        })
        .collect()
}

/// What every query sees, then the tiles of the passes over queries; uploaded by the first launch that needs it.
fn query_table(spans: &Spans, like: &CubeTensor) -> CubeTensor {
    let upload = || table(spans, query_rows(spans).as_flattened(), like);
    spans.query_table.get_or_init(upload).clone()
}

/// What every query sees, then the tiles of the pass over keys; uploaded by the first backward pass.
fn key_table(spans: &Spans, like: &CubeTensor) -> CubeTensor {
    let row = |tile: &KeyTile| {
        let KeyTile { keys, queries } = tile;
        [keys.start, keys.len(), queries.start, queries.end].map(|value| value as u32)
    };
    let upload = || {
        let tiles: Vec<[u32; 4]> = spans.key_tiles().iter().map(row).collect();
        table(spans, tiles.as_flattened(), like)
    };
    spans.key_table.get_or_init(upload).clone()
}

fn table(spans: &Spans, tiles: &[u32], like: &CubeTensor) -> CubeTensor {
    let visible = spans.visible().iter().flat_map(|seen| {
        let (prefix, own) = (&seen.prefix, &seen.own);
        [prefix.start, prefix.end, own.start, own.end]
    });
    let mut words: Vec<i32> = visible
        .chain(tiles.iter().copied())
        .map(|word| word as i32)
        .collect();
    // No buffer is empty.
    words.resize(words.len().max(1), 0);
    let count = words.len();
    contiguous(CubeBackend::int_from_data(
        TensorData::new(words, [count]),
        &like.device,
    ))
}
