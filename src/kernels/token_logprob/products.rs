//! Forward and backward from hidden states on a GPU: matrix products and the two shaders, tile by tile.
//! It knows tensors and no graph.

use std::ops::Range;
use std::sync::Arc;

use burn::backend::TensorMetadata;
use burn::backend::ops::FloatTensorOps;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::tensor::{DType, FloatDType, Shape, Slice};

use super::backward::{Saved, Upstream, Wanted};
use super::gpu::{Call, Gradient, Running};
use super::tiles::Tiles;
use super::{Head, Statistics};
use crate::kernels::frozen_matrix::FrozenMatrixOps;
use crate::kernels::launch::empty;

impl Head<CubeBackend> {
    /// The logits `[rows, columns]` of a tile.
    fn logits(&self, hidden: CubeTensor, columns: &Range<usize>) -> CubeTensor {
        match self {
            Self::Dense(weight) => {
                let weight = CubeBackend::float_transpose(rows_of(weight, columns));
                CubeBackend::float_matmul(hidden, weight)
            }
            Self::Frozen(weight) => {
                CubeBackend::frozen_linear(hidden, Arc::clone(weight), columns.clone())
            }
        }
    }

    /// What the gradient `[rows, columns]` to the logits of a tile passes back to the hidden states.
    fn to_hidden(&self, gradient: CubeTensor, columns: &Range<usize>) -> CubeTensor {
        match self {
            Self::Dense(weight) => CubeBackend::float_matmul(gradient, rows_of(weight, columns)),
            Self::Frozen(weight) => {
                CubeBackend::frozen_linear_backward(gradient, Arc::clone(weight), columns.clone())
            }
        }
    }
}

/// Log-probabilities, entropies and log-sum-exp of hidden states `[T, D]`.
pub(super) fn forward(
    hidden: &CubeTensor,
    head: &Head<CubeBackend>,
    call: Call,
    tiles: Tiles,
) -> Statistics<CubeBackend> {
    let running = Running::new(call);
    for columns in tiles.columns() {
        for rows in tiles.rows() {
            let logits = head.logits(rows_of(hidden, &rows), &columns);
            running.add(logits, &rows, &columns);
        }
    }
    running.results()
}

/// Gradients to the hidden states `[T, D]` and the head `[V, D]`; each tile's logits become their own gradient.
pub(super) fn backward(
    saved: &Saved<CubeBackend>,
    upstream: Upstream<CubeBackend>,
    wanted: Wanted,
) -> (Option<CubeTensor>, Option<CubeTensor>) {
    let Saved { hidden, head, .. } = saved;
    let tiles = saved.tiles();
    let mask = saved.mask.clone();
    let per_row = saved.per_row(upstream);
    let gradient = Gradient::new(per_row, mask, tiles.vocabulary(), saved.settings);
    let mut to_hidden = vec![None; tiles.rows().count()];
    let mut to_head = wanted
        .head
        .then(|| TileByTile::new(hidden, tiles.vocabulary()));
    for columns in tiles.columns() {
        let mut to_tile = None;
        for (rows, to_hidden) in tiles.rows().zip(&mut to_hidden) {
            let hidden = rows_of(hidden, &rows);
            let gradient = gradient.of(head.logits(hidden.clone(), &columns), &rows, &columns);
            if wanted.hidden {
                add(to_hidden, head.to_hidden(gradient.clone(), &columns));
            }
            if wanted.head {
                let gradient = CubeBackend::float_transpose(gradient);
                add(&mut to_tile, CubeBackend::float_matmul(gradient, hidden));
            }
        }
        if let (Some(to_head), Some(tile)) = (&mut to_head, to_tile) {
            to_head.write(&columns, tile);
        }
    }
    let to_hidden = wanted.hidden.then(|| {
        let parts: Vec<_> = to_hidden.into_iter().flatten().collect();
        if parts.is_empty() {
            zeros(hidden, hidden.shape())
        } else {
            CubeBackend::float_cat(parts, 0)
        }
    });
    (to_hidden, to_head.map(TileByTile::whole))
}

/// A gradient `[V, D]` that comes by rows; nothing of its size exists beside it.
struct TileByTile {
    shape: Shape,
    like: CubeTensor,
    written: Option<CubeTensor>,
}

impl TileByTile {
    fn new(hidden: &CubeTensor, vocabulary: usize) -> Self {
        Self {
            shape: Shape::new([vocabulary, hidden.shape()[1]]),
            like: hidden.clone(),
            written: None,
        }
    }

    fn write(&mut self, rows: &Range<usize>, tile: CubeTensor) {
        if rows.len() == self.shape[0] {
            self.written = Some(tile);
            return;
        }
        // Every row is written before anybody reads.
        let written = self.written.take();
        let written = written.unwrap_or_else(|| empty(&self.like, self.shape.clone(), DType::F32));
        self.written = Some(CubeBackend::float_slice_assign(written, &[at(rows)], tile));
    }

    /// Zeros if nothing came: there were no tokens.
    fn whole(self) -> CubeTensor {
        let Self {
            shape,
            like,
            written,
        } = self;
        written.unwrap_or_else(|| zeros(&like, shape))
    }
}

fn zeros(like: &CubeTensor, shape: Shape) -> CubeTensor {
    CubeBackend::float_zeros(shape, &like.device, FloatDType::F32)
}

/// Adds a term to a sum that may not have begun.
fn add(sum: &mut Option<CubeTensor>, term: CubeTensor) {
    *sum = Some(match sum.take() {
        Some(sum) => CubeBackend::float_add(sum, term),
        None => term,
    });
}

/// Some rows of a matrix; a view where they begin and end at a place that can be bound.
fn rows_of(matrix: &CubeTensor, rows: &Range<usize>) -> CubeTensor {
    if rows.len() == matrix.shape()[0] {
        return matrix.clone();
    }
    CubeBackend::float_slice(matrix.clone(), &[at(rows), Slice::full()])
}

fn at(rows: &Range<usize>) -> Slice {
    Slice::from(rows.clone())
}
