//! The operation on slices: the oracle of the parity tests and the path of the CPU device.
//!
//! A task is a tile of queries with one key head: the query heads that share it are rows of the same products, so that keys
//! and values are read once for all of them. Keys are walked in chunks with an online softmax ([`forward`]); the backward
//! pass ([`backward`]) needs only its log-sum-exp. Knows no tensors.

mod backward;
mod forward;
mod rows;

use std::ops::Range;

use super::spans::Spans;
use super::tiles::{QueryTile, Segment};
use crate::kernels::product::Matrix;
pub(super) use backward::Output;

/// Log-sum-exp of a query that sees nothing.
const LOWEST: f32 = -1.0e30;
/// Rows of a tile: queries times the query heads of one key head. Products of fewer rows pay for the keys' transposition.
const TILE_ROWS: usize = 192;
/// Most queries of a tile: of a causal row half of that is computed for nothing.
const TILE_QUERIES: usize = 64;
/// Keys whose scores are alive at once.
const CHUNK: usize = 256;

/// Heads and their size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    /// H, query heads.
    pub heads: usize,
    /// K, key heads.
    pub groups: usize,
    /// E, values of a head.
    pub width: usize,
}

impl Sizes {
    /// Query heads per key head.
    const fn share(self) -> usize {
        self.heads / self.groups
    }

    /// Of the scores.
    fn scale(self) -> f32 {
        1.0 / (self.width as f32).sqrt()
    }

    /// Most queries of a tile.
    fn tile_queries(self) -> usize {
        (TILE_ROWS / self.share()).clamp(1, TILE_QUERIES)
    }
}

/// The inputs of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Problem<'a> {
    /// `[n, H, E]`
    pub queries: &'a [f32],
    /// `[m, K, E]`
    pub keys: &'a [f32],
    /// `[m, K, E]`
    pub values: &'a [f32],
    pub sizes: Sizes,
    pub spans: &'a Spans,
}

impl Problem<'_> {
    /// [keys, E] of one head of a `[m, K, E]` slice.
    fn keys_of<'s>(&self, values: &'s [f32], keys: &Range<usize>, group: usize) -> Matrix<'s> {
        let Sizes { groups, width, .. } = self.sizes;
        let start = ((keys.start * groups + group) * width).min(values.len());
        Matrix::rows(&values[start..], [keys.len(), width], groups * width)
    }

    /// Copies rows [queries * share, E] of one key head out of a `[n, H, E]` slice.
    fn gather(&self, values: &[f32], queries: &Range<usize>, group: usize, rows: &mut Vec<f32>) {
        let Sizes { heads, width, .. } = self.sizes;
        let size = self.sizes.share() * width;
        rows.clear();
        for query in queries.clone() {
            let start = query * heads * width + group * size;
            rows.extend_from_slice(&values[start..start + size]);
        }
    }

    /// The other way round: rows [queries * share, E] into a `[n, H, E]` slice.
    fn scatter(&self, rows: &[f32], queries: &Range<usize>, group: usize, values: &mut [f32]) {
        let Sizes { heads, width, .. } = self.sizes;
        let size = self.sizes.share() * width;
        for (index, query) in queries.clone().enumerate() {
            let start = query * heads * width + group * size;
            values[start..start + size].copy_from_slice(&rows[index * size..(index + 1) * size]);
        }
    }

    /// Which of `keys` a query of a segment sees, counted from the first of them.
    fn visible(&self, segment: &Segment, query: usize, keys: &Range<usize>) -> Range<usize> {
        let seen = &self.spans.visible()[query];
        let range = if segment.prefix {
            &seen.prefix
        } else {
            &seen.own
        };
        clamped(range, keys)
    }

    /// The chunks of keys of a tile, each with the queries from the first to the last that sees one of them.
    fn chunks<'t>(&self, tile: &'t QueryTile) -> Vec<Chunk<'t>> {
        let mut chunks = Vec::new();
        for segment in &tile.segments {
            for start in segment.keys.clone().step_by(CHUNK) {
                let keys = start..(start + CHUNK).min(segment.keys.end);
                let sees = |query: &usize| !self.visible(segment, *query, &keys).is_empty();
                let mut queries = segment.queries.clone();
                if let (Some(first), Some(last)) = (queries.clone().find(sees), queries.rfind(sees))
                {
                    let queries = first..last + 1;
                    chunks.push(Chunk {
                        segment,
                        keys,
                        queries,
                    });
                }
            }
        }
        chunks
    }
}

/// Keys of a segment that are walked together.
#[derive(Debug)]
struct Chunk<'t> {
    segment: &'t Segment,
    keys: Range<usize>,
    queries: Range<usize>,
}

/// The part of a range that lies in `keys`, counted from the first of them.
fn clamped(range: &Range<u32>, keys: &Range<usize>) -> Range<usize> {
    let clamp = |key: u32| (key as usize).clamp(keys.start, keys.end) - keys.start;
    clamp(range.start)..clamp(range.end)
}

/// Scratch of one thread, kept from task to task.
#[derive(Debug, Default)]
struct Scratch {
    queries: Vec<f32>,
    upstream: Vec<f32>,
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

/// The first `size` values, of which there are enough afterwards.
fn sized(values: &mut Vec<f32>, size: usize) -> &mut [f32] {
    if values.len() < size {
        values.resize(size, 0.0);
    }
    &mut values[..size]
}
