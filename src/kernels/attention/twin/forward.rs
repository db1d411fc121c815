//! The forward pass: an online softmax over chunks of keys, whose parts can be merged.
//!
//! Where queries are few, as in decoding, the keys of a tile are shared out among tasks too.

use rayon::prelude::*;

use super::rows::{exponentials, hide, highest, scale};
use super::{Chunk, LOWEST, Problem, Scratch, Sizes, sized};
use crate::kernels::attention::tiles::QueryTile;
use crate::kernels::product::{Matrix, Sum, multiply};

/// Tasks that a call is cut into at least, where keys allow it: enough for the threads of a large processor. A constant, so
/// that results do not depend on the number of threads.
const TASKS: usize = 64;
/// Parts that the keys of one tile are cut into at most.
const MOST_PARTS: usize = 16;

/// What some rows have seen so far: `out = Σ exp(s − highest) v`, `total = Σ exp(s − highest)`.
#[derive(Debug)]
struct Online {
    width: usize,
    out: Vec<f32>,
    highest: Vec<f32>,
    total: Vec<f32>,
}

impl Online {
    fn new(rows: usize, width: usize) -> Self {
        Self {
            width,
            out: vec![0.0; rows * width],
            highest: vec![LOWEST; rows],
            total: vec![0.0; rows],
        }
    }

    /// Raises the highest score of a row; what it summed up is scaled to it.
    fn raise(&mut self, row: usize, highest: f32) {
        if highest <= self.highest[row] {
            return;
        }
        let factor = (self.highest[row] - highest).exp();
        self.highest[row] = highest;
        self.total[row] *= factor;
        scale(
            &mut self.out[row * self.width..(row + 1) * self.width],
            factor,
        );
    }

    /// Adds what the same rows have seen of other keys.
    fn merge(&mut self, other: &Self) {
        for row in 0..self.total.len() {
            if other.total[row] == 0.0 {
                continue;
            }
            self.raise(row, other.highest[row]);
            let factor = (other.highest[row] - self.highest[row]).exp();
            self.total[row] += factor * other.total[row];
            let place = row * self.width..(row + 1) * self.width;
            for (value, more) in self.out[place.clone()].iter_mut().zip(&other.out[place]) {
                *value += factor * more;
            }
        }
    }

    /// Turns sums into the result and gives the log-sum-exp of each row; zeros and [`LOWEST`] where nothing was seen.
    fn finish(&mut self) -> Vec<f32> {
        let mut lse = vec![LOWEST; self.total.len()];
        for (row, lse) in lse.iter_mut().enumerate() {
            let total = self.total[row];
            if total > 0.0 {
                *lse = self.highest[row] + total.ln();
                let place = row * self.width..(row + 1) * self.width;
                scale(&mut self.out[place], 1.0 / total);
            }
        }
        lse
    }
}

impl Problem<'_> {
    /// `(out [n, H, E], lse [n, H])`.
    pub fn forward(&self) -> (Vec<f32>, Vec<f32>) {
        let Sizes {
            heads,
            groups,
            width,
        } = self.sizes;
        let tiles = self.spans.query_tiles(self.sizes.tile_queries());
        let units = tiles.len() * groups;
        let parts = (TASKS / units.max(1)).clamp(1, MOST_PARTS);
        let mut results: Vec<Online> = (0..units * parts)
            .into_par_iter()
            .map_init(Scratch::default, |scratch, task| {
                let unit = task / parts;
                self.part(
                    (&tiles[unit / groups], unit % groups),
                    [task % parts, parts],
                    scratch,
                )
            })
            .collect();
        let count = self.spans.queries();
        let (mut out, mut lse) = (vec![0.0; count * heads * width], vec![0.0; count * heads]);
        for (unit, results) in results.chunks_exact_mut(parts).enumerate() {
            let (queries, group) = (&tiles[unit / groups].queries, unit % groups);
            let [whole, rest @ ..] = results else {
                continue;
            };
            rest.iter().for_each(|part| whole.merge(part));
            let statistics = whole.finish();
            self.scatter(&whole.out, queries, group, &mut out);
            let share = self.sizes.share();
            for (row, statistic) in statistics.into_iter().enumerate() {
                let query = queries.start + row / share;
                lse[query * heads + group * share + row % share] = statistic;
            }
        }
        (out, lse)
    }

    /// What the rows of a tile see of one of `parts` equal parts of its chunks.
    fn part(
        &self,
        (tile, group): (&QueryTile, usize),
        [part, parts]: [usize; 2],
        scratch: &mut Scratch,
    ) -> Online {
        let rows = tile.queries.len() * self.sizes.share();
        let mut online = Online::new(rows, self.sizes.width);
        let chunks = self.chunks(tile);
        let chunks = &chunks[chunks.len() * part / parts..chunks.len() * (part + 1) / parts];
        if chunks.is_empty() {
            return online;
        }
        let Scratch {
            queries, scores, ..
        } = scratch;
        self.gather(self.queries, &tile.queries, group, queries);
        for chunk in chunks {
            self.absorb(chunk, (tile, group), queries, &mut online, scores);
        }
        online
    }

    /// Adds one chunk of keys; `queries` are the gathered rows of the tile.
    fn absorb(
        &self,
        chunk: &Chunk<'_>,
        (tile, group): (&QueryTile, usize),
        queries: &[f32],
        online: &mut Online,
        scores: &mut Vec<f32>,
    ) {
        let (share, width) = (self.sizes.share(), self.sizes.width);
        let first = (chunk.queries.start - tile.queries.start) * share;
        let shape = [chunk.queries.len() * share, chunk.keys.len()];
        let scores = sized(scores, shape[0] * shape[1]);
        let asked = Matrix::rows(&queries[first * width..], [shape[0], width], width);
        let keys = self.keys_of(self.keys, &chunk.keys, group);
        let scale = self.sizes.scale();
        multiply(scores, asked, keys.transposed(), scale, Sum::Replace);
        for (index, row_scores) in scores.chunks_exact_mut(shape[1]).enumerate() {
            let query = chunk.queries.start + index / share;
            let visible = self.visible(chunk.segment, query, &chunk.keys);
            hide(row_scores, &visible);
            let seen = &mut row_scores[visible];
            let row = first + index;
            online.raise(row, highest(seen));
            online.total[row] += exponentials(seen, online.highest[row]);
        }
        multiply(
            &mut online.out[first * width..(first + shape[0]) * width],
            Matrix::rows(scores, shape, shape[1]),
            self.keys_of(self.values, &chunk.keys, group),
            1.0,
            Sum::Add,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of width 2 that saw scores with value vectors (v, 1).
    fn seen(rows: [&[(f32, f32)]; 2]) -> Online {
        let mut online = Online::new(2, 2);
        for (row, scores) in rows.into_iter().enumerate() {
            for (score, value) in scores {
                online.raise(row, *score);
                let weight = (score - online.highest[row]).exp();
                online.total[row] += weight;
                online.out[row * 2] += weight * value;
                online.out[row * 2 + 1] += weight;
            }
        }
        online
    }

    #[test]
    fn parts_merge_into_the_whole_whatever_they_saw() {
        let all: [(f32, f32); 5] = [
            (-90.0, 3.0),
            (1.5, -1.0),
            (70.0, 0.5),
            (71.0, 2.0),
            (-3.0, 9.0),
        ];
        let mut whole = seen([&all, &[]]);
        let whole_lse = whole.finish();
        for cut in 0..=all.len() {
            let mut first = seen([&all[..cut], &[]]);
            first.merge(&seen([&all[cut..], &[]]));
            let lse = first.finish();
            assert!(
                (lse[0] - whole_lse[0]).abs() < 1e-5,
                "{lse:?}, {whole_lse:?}"
            );
            for (found, expected) in first.out.iter().zip(&whole.out) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{cut}: {found}, {expected}"
                );
            }
            assert_eq!((lse[1], &first.out[2..]), (LOWEST, &[0.0, 0.0][..]));
        }
    }
}
