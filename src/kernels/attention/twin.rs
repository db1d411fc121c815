//! The operation on slices: the oracle of the parity tests and the path of the CPU device.
//! It knows no tensors; (tile, head) pairs are shared out among threads, keys among vector lanes.

use std::ops::Range;

use rayon::prelude::*;

use super::spans::{KeyTile, QUERY_TILE, QueryTile, Segment, Spans};
use crate::kernels::product::{Matrix, Sum, multiply};
use crate::kernels::vector_math::{LANES, VectorTask, exp, run};

/// Log-sum-exp of a query that sees nothing.
const LOWEST: f32 = -1.0e30;

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

/// What the backward pass gets from behind the operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output<'a> {
    /// `[n, H, E]` gradient to the output.
    pub upstream: &'a [f32],
    /// `[n, H, 2]` log-sum-exp, and the sum over E of upstream times output.
    pub statistics: &'a [f32],
}

impl Output<'_> {
    fn of(&self, sizes: Sizes, query: usize, head: usize) -> [f32; 2] {
        let at = (query * sizes.heads + head) * 2;
        [self.statistics[at], self.statistics[at + 1]]
    }
}

/// Scratch of one thread, kept from task to task.
#[derive(Debug, Default)]
struct Scratch {
    scores: Vec<f32>,
    gradients: Vec<f32>,
}

impl Problem<'_> {
    /// `(out [n, H, E], lse [n, H])`.
    pub fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let Sizes { heads, width, .. } = self.sizes;
        let tiles = self.for_tiles_and_heads(|tile, head, scratch| {
            let (out, lse) = self.forward_tile(tile, head, &mut scratch.scores);
            [out, lse].concat()
        });
        let count = self.spans.queries();
        let (mut out, mut lse) = (vec![0.0; count * heads * width], vec![0.0; count * heads]);
        for (task, result) in tiles.iter().enumerate() {
            let (tile, head) = (&self.spans.query_tiles()[task / heads], task % heads);
            let (rows, statistics) = result.split_at(tile.queries.len() * width);
            for (index, query) in tile.queries.clone().enumerate() {
                let place = query * heads + head;
                out[place * width..(place + 1) * width]
                    .copy_from_slice(&rows[index * width..(index + 1) * width]);
                lse[place] = statistics[index];
            }
        }
        (out, lse)
    }

    /// Gradient to the queries `[n, H, E]`.
    pub fn query_gradients(&self, output: &Output<'_>) -> Vec<f32> {
        let Sizes { heads, width, .. } = self.sizes;
        let tiles = self.for_tiles_and_heads(|tile, head, scratch| {
            self.query_gradient_tile(tile, head, output, scratch)
        });
        let mut gradient = vec![0.0; self.spans.queries() * heads * width];
        for (task, rows) in tiles.iter().enumerate() {
            let (tile, head) = (&self.spans.query_tiles()[task / heads], task % heads);
            for (index, query) in tile.queries.clone().enumerate() {
                let place = (query * heads + head) * width;
                gradient[place..place + width]
                    .copy_from_slice(&rows[index * width..(index + 1) * width]);
            }
        }
        gradient
    }

    /// Gradients to keys and values, `[m, K, E]` each.
    pub fn key_gradients(&self, output: &Output<'_>) -> (Vec<f32>, Vec<f32>) {
        let Sizes { groups, width, .. } = self.sizes;
        let tiles = self.spans.key_tiles();
        let results: Vec<[Vec<f32>; 2]> = (0..tiles.len() * groups)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                self.key_gradient_tile(&tiles[task / groups], task % groups, output, scratch)
            })
            .collect();
        let size = self.spans.keys() * groups * width;
        let mut gradients = [vec![0.0; size], vec![0.0; size]];
        for (task, parts) in results.iter().enumerate() {
            let (tile, group) = (&tiles[task / groups], task % groups);
            for (gradient, part) in gradients.iter_mut().zip(parts) {
                for (index, key) in tile.keys.clone().enumerate() {
                    let place = (key * groups + group) * width;
                    gradient[place..place + width]
                        .copy_from_slice(&part[index * width..(index + 1) * width]);
                }
            }
        }
        let [keys, values] = gradients;
        (keys, values)
    }

    /// Results of `task` for every tile and head, heads innermost.
    fn for_tiles_and_heads(
        &self,
        task: impl Fn(&QueryTile, usize, &mut Scratch) -> Vec<f32> + Sync,
    ) -> Vec<Vec<f32>> {
        let (tiles, heads) = (self.spans.query_tiles(), self.sizes.heads);
        (0..tiles.len() * heads)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, index| {
                task(&tiles[index / heads], index % heads, scratch)
            })
            .collect()
    }

    fn forward_tile(
        &self,
        tile: &QueryTile,
        head: usize,
        scratch: &mut Vec<f32>,
    ) -> (Vec<f32>, Vec<f32>) {
        let width = self.sizes.width;
        self.scores(tile, head, scratch);
        let mut lse = Vec::with_capacity(tile.queries.len());
        let mut factors = Vec::with_capacity(tile.queries.len());
        for query in tile.queries.clone() {
            let places = self.places(tile, query);
            let highest = places.iter().flatten().fold(LOWEST, |highest, place| {
                run(Highest(&scratch[place.row.clone()][place.visible.clone()])).max(highest)
            });
            let mut total = 0.0;
            for place in places.into_iter().flatten() {
                let row = &mut scratch[place.row];
                hide(row, &place.visible);
                total += run(Exponentials {
                    row: &mut row[place.visible],
                    shift: highest,
                });
            }
            let sees = total > 0.0;
            lse.push(if sees { highest + total.ln() } else { LOWEST });
            factors.push(if sees { 1.0 / total } else { 0.0 });
        }
        let mut out = vec![0.0; tile.queries.len() * width];
        self.add_products(tile, head, scratch, self.values, &mut out);
        for (row, factor) in out.chunks_exact_mut(width.max(1)).zip(&factors) {
            row.iter_mut().for_each(|value| *value *= factor);
        }
        (out, lse)
    }

    fn query_gradient_tile(
        &self,
        tile: &QueryTile,
        head: usize,
        output: &Output<'_>,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let Scratch { scores, gradients } = scratch;
        self.scores(tile, head, scores);
        gradients.resize(scores.len(), 0.0);
        let mut start = 0;
        for segment in &tile.segments {
            let end = start + segment.queries.len() * segment.keys.len();
            let upstream = self.rows_of(output.upstream, &segment.queries, head);
            let values = self.keys_of(self.values, &segment.keys, head / self.share());
            multiply(
                &mut gradients[start..end],
                upstream,
                values.transposed(),
                1.0,
                Sum::Replace,
            );
            start = end;
        }
        for query in tile.queries.clone() {
            let [lse, delta] = output.of(self.sizes, query, head);
            for place in self.places(tile, query).into_iter().flatten() {
                let (row, gradient) = (&mut scores[place.row.clone()], &mut gradients[place.row]);
                hide(gradient, &place.visible);
                run(ScoreGradients {
                    scores: &mut row[place.visible.clone()],
                    gradients: &mut gradient[place.visible],
                    lse,
                    delta,
                    scale: self.scale(),
                });
            }
        }
        let mut result = vec![0.0; tile.queries.len() * self.sizes.width];
        self.add_products(tile, head, gradients, self.keys, &mut result);
        result
    }

    fn key_gradient_tile(
        &self,
        tile: &KeyTile,
        group: usize,
        output: &Output<'_>,
        scratch: &mut Scratch,
    ) -> [Vec<f32>; 2] {
        let width = self.sizes.width;
        let Scratch { scores, gradients } = scratch;
        let keys = self.keys_of(self.keys, &tile.keys, group);
        let values = self.keys_of(self.values, &tile.keys, group);
        let mut results = [vec![0.0; keys.rows * width], vec![0.0; keys.rows * width]];
        for first in tile.queries.clone().step_by(2 * QUERY_TILE) {
            let queries = first..(first + 2 * QUERY_TILE).min(tile.queries.end);
            let size = queries.len() * keys.rows;
            scores.resize(size.max(scores.len()), 0.0);
            gradients.resize(size.max(gradients.len()), 0.0);
            let (scores, gradients) = (&mut scores[..size], &mut gradients[..size]);
            for head in group * self.share()..(group + 1) * self.share() {
                let asked = self.rows_of(self.queries, &queries, head);
                let upstream = self.rows_of(output.upstream, &queries, head);
                multiply(scores, asked, keys.transposed(), self.scale(), Sum::Replace);
                multiply(gradients, upstream, values.transposed(), 1.0, Sum::Replace);
                for (index, query) in queries.clone().enumerate() {
                    let row = index * keys.rows..(index + 1) * keys.rows;
                    self.weigh_row(
                        &tile.keys,
                        (query, head),
                        output,
                        (&mut scores[row.clone()], &mut gradients[row]),
                    );
                }
                let shape = [queries.len(), keys.rows];
                let [to_keys, to_values] = &mut results;
                let transposed = |values| Matrix::rows(values, shape, keys.rows).transposed();
                multiply(to_keys, transposed(gradients), asked, 1.0, Sum::Add);
                multiply(to_values, transposed(scores), upstream, 1.0, Sum::Add);
            }
        }
        results
    }

    /// Turns one query's scores and value gradients over a key tile into weights and score gradients, zero where it does
    /// not see.
    fn weigh_row(
        &self,
        keys: &Range<usize>,
        (query, head): (usize, usize),
        output: &Output<'_>,
        (scores, gradients): (&mut [f32], &mut [f32]),
    ) {
        let seen = &self.spans.visible()[query];
        let mut ranges = [&seen.prefix, &seen.own].map(|range| {
            let clamp = |key: u32| (key as usize).clamp(keys.start, keys.end) - keys.start;
            clamp(range.start)..clamp(range.end)
        });
        ranges.sort_by_key(|range| range.start);
        let [lse, delta] = output.of(self.sizes, query, head);
        let mut hidden = 0;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            scores[hidden..range.start].fill(0.0);
            gradients[hidden..range.start].fill(0.0);
            hidden = range.end;
            run(ScoreGradients {
                scores: &mut scores[range.clone()],
                gradients: &mut gradients[range],
                lse,
                delta,
                scale: self.scale(),
            });
        }
        scores[hidden..].fill(0.0);
        gradients[hidden..].fill(0.0);
    }

    /// Scaled scores of a tile, one dense matrix per segment after the other.
    fn scores(&self, tile: &QueryTile, head: usize, scratch: &mut Vec<f32>) {
        let size = |segment: &Segment| segment.queries.len() * segment.keys.len();
        scratch.resize(tile.segments.iter().map(size).sum(), 0.0);
        let mut start = 0;
        for segment in &tile.segments {
            let end = start + size(segment);
            let keys = self.keys_of(self.keys, &segment.keys, head / self.share());
            multiply(
                &mut scratch[start..end],
                self.rows_of(self.queries, &segment.queries, head),
                keys.transposed(),
                self.scale(),
                Sum::Replace,
            );
            start = end;
        }
    }

    /// Adds each segment's weights times `what` `[m, K, E]` to the rows of its queries in `result`.
    fn add_products(
        &self,
        tile: &QueryTile,
        head: usize,
        weights: &[f32],
        what: &[f32],
        result: &mut [f32],
    ) {
        let width = self.sizes.width;
        let mut start = 0;
        for segment in &tile.segments {
            let shape = [segment.queries.len(), segment.keys.len()];
            let end = start + shape[0] * shape[1];
            let first = (segment.queries.start - tile.queries.start) * width;
            multiply(
                &mut result[first..first + shape[0] * width],
                Matrix::rows(&weights[start..end], shape, shape[1]),
                self.keys_of(what, &segment.keys, head / self.share()),
                1.0,
                Sum::Add,
            );
            start = end;
        }
    }

    /// Where the scores of one query lie, and which of them it sees: its prefix and its own range.
    fn places(&self, tile: &QueryTile, query: usize) -> [Option<Place>; 2] {
        let seen = &self.spans.visible()[query];
        let mut places = [None, None];
        let mut start = 0;
        for segment in &tile.segments {
            let keys = segment.keys.len();
            if segment.queries.contains(&query) {
                let range = if segment.prefix {
                    &seen.prefix
                } else {
                    &seen.own
                };
                let row = start + (query - segment.queries.start) * keys;
                // An empty range may lie outside the segment.
                let from = if range.is_empty() {
                    0
                } else {
                    range.start as usize - segment.keys.start
                };
                places[usize::from(segment.prefix)] = Some(Place {
                    row: row..row + keys,
                    visible: from..from + range.len(),
                });
            }
            start += segment.queries.len() * keys;
        }
        places
    }

    /// [queries, E] of one head of a `[n, H, E]` slice.
    fn rows_of<'s>(&self, values: &'s [f32], queries: &Range<usize>, head: usize) -> Matrix<'s> {
        let Sizes { heads, width, .. } = self.sizes;
        let start = ((queries.start * heads + head) * width).min(values.len());
        Matrix::rows(&values[start..], [queries.len(), width], heads * width)
    }

    /// [keys, E] of one head of a `[m, K, E]` slice.
    fn keys_of<'s>(&self, values: &'s [f32], keys: &Range<usize>, group: usize) -> Matrix<'s> {
        let Sizes { groups, width, .. } = self.sizes;
        let start = ((keys.start * groups + group) * width).min(values.len());
        Matrix::rows(&values[start..], [keys.len(), width], groups * width)
    }

    /// Query heads per key head.
    const fn share(&self) -> usize {
        self.sizes.heads / self.sizes.groups
    }

    fn scale(&self) -> f32 {
        1.0 / (self.sizes.width as f32).sqrt()
    }
}

/// A query's scores over one segment.
#[derive(Debug)]
struct Place {
    /// In the scratch.
    row: Range<usize>,
    /// In the row.
    visible: Range<usize>,
}

/// Zeros where a query does not see.
fn hide(row: &mut [f32], visible: &Range<usize>) {
    row[..visible.start].fill(0.0);
    row[visible.end..].fill(0.0);
}

struct Highest<'a>(&'a [f32]);

impl VectorTask for Highest<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let larger = |a: f32, b: f32| if a > b { a } else { b };
        let (blocks, rest) = self.0.as_chunks::<LANES>();
        let mut lanes = [LOWEST; LANES];
        for block in blocks {
            for lane in 0..LANES {
                lanes[lane] = larger(block[lane], lanes[lane]);
            }
        }
        lanes.iter().chain(rest).fold(LOWEST, |a, &b| larger(b, a))
    }
}

/// Replaces a row by exp(x − shift) and gives the sum.
struct Exponentials<'a> {
    row: &'a mut [f32],
    shift: f32,
}

impl VectorTask for Exponentials<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> f32 {
        let (blocks, rest) = self.row.as_chunks_mut::<LANES>();
        let mut sums = [0.0; LANES];
        for block in blocks {
            for lane in 0..LANES {
                block[lane] = exp::<FMA>(block[lane] - self.shift);
                sums[lane] += block[lane];
            }
        }
        let mut total: f32 = sums.iter().sum();
        for value in rest {
            *value = exp::<FMA>(*value - self.shift);
            total += *value;
        }
        total
    }
}

/// Replaces scores by their weights p = exp(s − lse), and the gradients to the weights by those to the scores before they
/// were scaled: p (g − delta) · scale.
struct ScoreGradients<'a> {
    scores: &'a mut [f32],
    gradients: &'a mut [f32],
    lse: f32,
    delta: f32,
    scale: f32,
}

impl VectorTask for ScoreGradients<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let Self {
            scores,
            gradients,
            lse,
            delta,
            scale,
        } = self;
        let one = |score: &mut f32, gradient: &mut f32| {
            *score = exp::<FMA>(*score - lse);
            *gradient = *score * (*gradient - delta) * scale;
        };
        let (score_blocks, score_rest) = scores.as_chunks_mut::<LANES>();
        let (blocks, rest) = gradients.as_chunks_mut::<LANES>();
        for (scores, gradients) in score_blocks.iter_mut().zip(blocks) {
            for lane in 0..LANES {
                one(&mut scores[lane], &mut gradients[lane]);
            }
        }
        for (score, gradient) in score_rest.iter_mut().zip(rest) {
            one(score, gradient);
        }
    }
}
