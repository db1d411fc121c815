//! The backward pass from the log-sum-exp: one pass over queries for their gradient, one over keys for theirs.

use std::ops::Range;

use rayon::prelude::*;

use super::rows::{Statistics, hide};
use super::{Problem, Scratch, Sizes, clamped, sized};
use crate::kernels::attention::tiles::{KeyTile, QueryTile};
use crate::kernels::product::{Matrix, Sum, multiply};

/// Most keys of a tile of the pass over keys.
const TILE_KEYS: usize = 64;

/// What the backward pass gets from behind the operation.
#[derive(Debug, Clone, Copy)]
pub struct Output<'a> {
    /// `[n, H, E]` gradient to the output.
    pub upstream: &'a [f32],
    /// `[n, H, 2]` log-sum-exp, and the sum over E of upstream times output.
    pub statistics: &'a [f32],
}

impl Problem<'_> {
    /// Gradient to the queries `[n, H, E]`.
    pub fn query_gradients(&self, output: &Output<'_>) -> Vec<f32> {
        let Sizes { groups, .. } = self.sizes;
        let tiles = self.spans.query_tiles(self.sizes.tile_queries());
        let results: Vec<Vec<f32>> = (0..tiles.len() * groups)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                self.query_gradient_tile(&tiles[task / groups], task % groups, output, scratch)
            })
            .collect();
        let mut gradient = vec![0.0; self.queries.len()];
        for (task, rows) in results.iter().enumerate() {
            let queries = &tiles[task / groups].queries;
            self.scatter(rows, queries, task % groups, &mut gradient);
        }
        gradient
    }

    /// Gradients to keys and values, `[m, K, E]` each.
    pub fn key_gradients(&self, output: &Output<'_>) -> (Vec<f32>, Vec<f32>) {
        let Sizes { groups, width, .. } = self.sizes;
        let tiles = self.spans.key_tiles(TILE_KEYS);
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

    fn query_gradient_tile(
        &self,
        tile: &QueryTile,
        group: usize,
        output: &Output<'_>,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let (share, width) = (self.sizes.share(), self.sizes.width);
        let Scratch {
            queries,
            upstream,
            scores,
            gradients,
        } = scratch;
        self.gather(self.queries, &tile.queries, group, queries);
        self.gather(output.upstream, &tile.queries, group, upstream);
        let mut result = vec![0.0; queries.len()];
        for chunk in self.chunks(tile) {
            let shape = [chunk.queries.len() * share, chunk.keys.len()];
            let first = (chunk.queries.start - tile.queries.start) * share * width;
            let keys = self.keys_of(self.keys, &chunk.keys, group);
            let values = self.keys_of(self.values, &chunk.keys, group);
            let asked = Matrix::rows(&queries[first..], [shape[0], width], width);
            let pulled = Matrix::rows(&upstream[first..], [shape[0], width], width);
            let scores = sized(scores, shape[0] * shape[1]);
            let gradients = sized(gradients, shape[0] * shape[1]);
            let scale = self.sizes.scale();
            multiply(scores, asked, keys.transposed(), scale, Sum::Replace);
            multiply(gradients, pulled, values.transposed(), 1.0, Sum::Replace);
            let both = scores.chunks_exact_mut(shape[1]);
            let both = both.zip(gradients.chunks_exact_mut(shape[1]));
            for (row, (scores, gradients)) in both.enumerate() {
                let query = chunk.queries.start + row / share;
                let visible = self.visible(chunk.segment, query, &chunk.keys);
                hide(gradients, &visible);
                self.statistics(output, query, group * share + row % share)
                    .differentiate(&mut scores[visible.clone()], &mut gradients[visible]);
            }
            multiply(
                &mut result[first..first + shape[0] * width],
                Matrix::rows(gradients, shape, shape[1]),
                keys,
                1.0,
                Sum::Add,
            );
        }
        result
    }

    fn key_gradient_tile(
        &self,
        tile: &KeyTile,
        group: usize,
        output: &Output<'_>,
        scratch: &mut Scratch,
    ) -> [Vec<f32>; 2] {
        let (share, width) = (self.sizes.share(), self.sizes.width);
        let keys = self.keys_of(self.keys, &tile.keys, group);
        let values = self.keys_of(self.values, &tile.keys, group);
        let mut results = [vec![0.0; keys.rows * width], vec![0.0; keys.rows * width]];
        let block = self.sizes.tile_queries();
        for first in tile.queries.clone().step_by(block) {
            let queries = first..(first + block).min(tile.queries.end);
            let shape = [queries.len() * share, keys.rows];
            self.gather(self.queries, &queries, group, &mut scratch.queries);
            self.gather(output.upstream, &queries, group, &mut scratch.upstream);
            let asked = Matrix::rows(&scratch.queries, [shape[0], width], width);
            let upstream = Matrix::rows(&scratch.upstream, [shape[0], width], width);
            let scores = sized(&mut scratch.scores, shape[0] * shape[1]);
            let gradients = sized(&mut scratch.gradients, shape[0] * shape[1]);
            multiply(
                scores,
                asked,
                keys.transposed(),
                self.sizes.scale(),
                Sum::Replace,
            );
            multiply(gradients, upstream, values.transposed(), 1.0, Sum::Replace);
            let both = scores.chunks_exact_mut(keys.rows);
            let both = both.zip(gradients.chunks_exact_mut(keys.rows));
            for (row, row_values) in both.enumerate() {
                let query = queries.start + row / share;
                let statistics = self.statistics(output, query, group * share + row % share);
                self.weigh_row(&tile.keys, query, statistics, row_values);
            }
            let [to_keys, to_values] = &mut results;
            let transposed = |values| Matrix::rows(values, shape, keys.rows).transposed();
            multiply(to_keys, transposed(gradients), asked, 1.0, Sum::Add);
            multiply(to_values, transposed(scores), upstream, 1.0, Sum::Add);
        }
        results
    }

    /// Turns one row of scores and value gradients over a key tile into weights and score gradients, zero where its query
    /// does not see.
    fn weigh_row(
        &self,
        keys: &Range<usize>,
        query: usize,
        statistics: Statistics,
        (scores, gradients): (&mut [f32], &mut [f32]),
    ) {
        let seen = &self.spans.visible()[query];
        let mut ranges = [&seen.prefix, &seen.own].map(|range| clamped(range, keys));
        ranges.sort_by_key(|range| range.start);
        let mut hidden = 0;
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            scores[hidden..range.start].fill(0.0);
            gradients[hidden..range.start].fill(0.0);
            hidden = range.end;
            statistics.differentiate(&mut scores[range.clone()], &mut gradients[range]);
        }
        scores[hidden..].fill(0.0);
        gradients[hidden..].fill(0.0);
    }

    fn statistics(&self, output: &Output<'_>, query: usize, head: usize) -> Statistics {
        let at = (query * self.sizes.heads + head) * 2;
        Statistics {
            lse: output.statistics[at],
            delta: output.statistics[at + 1],
            scale: self.sizes.scale(),
        }
    }
}
