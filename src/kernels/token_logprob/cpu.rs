//! Forward and backward from hidden states on the CPU: products of slices and the twin, tile by tile in one buffer.
//! It knows no tensor and no graph.

use std::borrow::Cow;
use std::ops::Range;

use super::tiles::Tiles;
use super::twin::{PerRow, RowResults, RowState, Softmax};
use crate::kernels::frozen_matrix::FrozenMatrix;
use crate::kernels::product::{Matrix, Sum, multiply_on_all_threads};

/// The head `[V, D]` by rows.
#[derive(Debug)]
pub(super) enum HeadRows<'a> {
    Dense(Cow<'a, [f32]>),
    Frozen(&'a FrozenMatrix),
}

/// What the logits are made of.
#[derive(Debug)]
pub(super) struct Inputs<'a> {
    /// `[T, D]`
    pub(super) hidden: &'a [f32],
    /// D
    pub(super) width: usize,
    pub(super) head: &'a HeadRows<'a>,
    pub(super) softmax: Softmax<'a>,
    pub(super) tiles: Tiles,
}

/// Memory of a pass, used again by every tile.
#[derive(Debug, Default)]
struct Scratch {
    logits: Vec<f32>,
    decoded: Vec<f32>,
}

impl Inputs<'_> {
    /// Log-probabilities, entropies and log-sum-exp of all rows.
    pub(super) fn forward(&self, targets: &[i64]) -> RowResults {
        let mut states = vec![RowState::NEW; targets.len()];
        let mut scratch = Scratch::default();
        for columns in self.tiles.columns() {
            let weight = self.head_rows(&columns, &mut scratch.decoded);
            for rows in self.tiles.rows() {
                let logits = self.logits(&rows, weight, &mut scratch.logits);
                let states = &mut states[rows.clone()];
                self.softmax.add(states, logits, &columns, &targets[rows]);
            }
        }
        self.softmax.results(&states)
    }

    /// Adds the gradient to the hidden states `[T, D]` and writes that to the head `[V, D]`, as far as they are given.
    pub(super) fn backward(
        &self,
        per_row: &PerRow,
        mut to_hidden: Option<&mut [f32]>,
        mut to_head: Option<&mut [f32]>,
    ) {
        let mut scratch = Scratch::default();
        for columns in self.tiles.columns() {
            let weight = self.head_rows(&columns, &mut scratch.decoded);
            for rows in self.tiles.rows() {
                let gradient = self.logits(&rows, weight, &mut scratch.logits);
                self.softmax
                    .gradient(gradient, &columns, &per_row.part(rows.clone()));
                let gradient = Matrix::rows(gradient, [rows.len(), columns.len()], columns.len());
                if let Some(to_hidden) = &mut to_hidden {
                    let part = &mut to_hidden[self.values(&rows)];
                    multiply_on_all_threads(part, gradient, self.matrix(weight), Sum::Add);
                }
                if let Some(to_head) = &mut to_head {
                    let part = &mut to_head[self.values(&columns)];
                    let hidden = self.matrix(&self.hidden[self.values(&rows)]);
                    let sum = if rows.start == 0 {
                        Sum::Replace
                    } else {
                        Sum::Add
                    };
                    multiply_on_all_threads(part, gradient.transposed(), hidden, sum);
                }
            }
        }
    }

    /// The rows of the head that make a tile; decoded into `scratch` if they are stored in another format.
    fn head_rows<'a>(&'a self, columns: &Range<usize>, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        match &self.head {
            HeadRows::Dense(weight) => &weight[self.values(columns)],
            HeadRows::Frozen(weight) => {
                scratch.resize(columns.len() * self.width, 0.0);
                weight.copy_rows(columns.clone(), scratch);
                scratch
            }
        }
    }

    /// The logits `[rows, columns]` of a tile.
    fn logits<'a>(
        &self,
        rows: &Range<usize>,
        weight: &[f32],
        scratch: &'a mut Vec<f32>,
    ) -> &'a mut [f32] {
        let hidden = self.matrix(&self.hidden[self.values(rows)]);
        let weight = self.matrix(weight);
        scratch.resize(hidden.rows * weight.rows, 0.0);
        multiply_on_all_threads(scratch, hidden, weight.transposed(), Sum::Replace);
        scratch
    }

    /// Where rows of D values lie.
    const fn values(&self, rows: &Range<usize>) -> Range<usize> {
        rows.start * self.width..rows.end * self.width
    }

    /// Rows of D values.
    fn matrix<'a>(&self, values: &'a [f32]) -> Matrix<'a> {
        Matrix::rows(
            values,
            [values.len() / self.width.max(1), self.width],
            self.width,
        )
    }
}
