//! The operation on slices: the oracle of the parity tests and the fast path of the CPU device.
//! It knows no tensors; rows are shared out among threads, columns among vector lanes.

use std::ops::Range;

use rayon::prelude::*;

use super::{SUPPRESSED_LOGPROB, Settings};
use crate::kernels::vector_math::{LANES, VectorTask, exp, multiply_add, run};

/// Finite stand-in for minus infinity, as in `shaders/shared/online_softmax.wgsl`.
const LOWEST: f32 = SUPPRESSED_LOGPROB;
/// Columns gathered at a time; a block stays in the first-level cache between its two passes.
const BLOCK: usize = 1024;
/// Elements that are worth a thread of their own.
const ELEMENTS_PER_THREAD: usize = 1 << 14;

/// The softmax of one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Softmax<'a> {
    /// V
    pub(super) vocabulary: usize,
    /// `[V]`, positive for a token of probability zero.
    pub(super) suppressed: Option<&'a [f32]>,
    pub(super) settings: Settings,
}

/// What is known of one row after some tiles of the vocabulary.
#[derive(Debug, Clone, Copy)]
pub(super) struct RowState {
    running: Running,
    /// Scaled logit of the target; NaN until its tile has come.
    target: f32,
}

impl RowState {
    /// Before the first tile.
    pub(super) const NEW: Self = Self {
        running: Running {
            highest: LOWEST,
            total: 0.0,
            weighted: 0.0,
        },
        target: f32::NAN,
    };
}

/// Results per row, `[T]` each.
#[derive(Debug)]
pub(super) struct RowResults {
    pub(super) logprobs: Vec<f32>,
    pub(super) entropies: Vec<f32>,
    pub(super) logsumexp: Vec<f32>,
}

/// What the gradient needs per row, `[T]` each.
#[derive(Debug)]
pub(super) struct PerRow<'a> {
    pub(super) targets: &'a [i64],
    pub(super) logsumexp: &'a [f32],
    /// Gradient with respect to the log-probabilities.
    pub(super) upstream: &'a [f32],
    /// Read with an entropy gradient only.
    pub(super) entropies: &'a [f32],
    /// Gradient with respect to the entropies; read with an entropy gradient only.
    pub(super) entropy_upstream: &'a [f32],
}

impl PerRow<'_> {
    /// The same of some rows.
    pub(super) fn part(&self, rows: Range<usize>) -> PerRow<'_> {
        PerRow {
            targets: &self.targets[rows.clone()],
            logsumexp: &self.logsumexp[rows.clone()],
            upstream: &self.upstream[rows.clone()],
            entropies: &self.entropies[rows.clone()],
            entropy_upstream: &self.entropy_upstream[rows],
        }
    }
}

impl Softmax<'_> {
    /// Adds the logits `[rows, columns]` of a tile of the vocabulary to the states of their rows.
    pub(super) fn add(
        &self,
        states: &mut [RowState],
        logits: &[f32],
        columns: &Range<usize>,
        targets: &[i64],
    ) {
        let mask = self.tile_of_mask(columns);
        let inverse_temperature = self.settings.inverse_temperature;
        let rows = logits.par_chunks_exact(columns.len().max(1)).zip(targets);
        rows.zip(states)
            .with_min_len(rows_per_thread(columns.len()))
            .for_each(|((row, &target), state)| {
                state.running = run(RowStatistics {
                    row,
                    mask,
                    inverse_temperature,
                    state: state.running,
                });
                if let Some(place) = place(target, columns) {
                    let mask = mask.map(|mask| &mask[place..=place]);
                    let target = std::slice::from_mut(&mut state.target);
                    scale(&row[place..=place], mask, inverse_temperature, target);
                }
            });
    }

    /// Log-probability, entropy and log-sum-exp of each row after its last tile.
    pub(super) fn results(&self, states: &[RowState]) -> RowResults {
        let log_total = |state: &RowState| state.running.total.ln();
        let logprob = |state: &RowState| {
            if state.target <= LOWEST {
                SUPPRESSED_LOGPROB
            } else {
                (state.target - state.running.highest) - log_total(state)
            }
        };
        let entropy = |state: &RowState| {
            let Running {
                total, weighted, ..
            } = state.running;
            if self.settings.with_entropy {
                log_total(state) - weighted / total
            } else {
                0.0
            }
        };
        let logsumexp = |state: &RowState| state.running.highest + log_total(state);
        RowResults {
            logprobs: states.iter().map(logprob).collect(),
            entropies: states.iter().map(entropy).collect(),
            logsumexp: states.iter().map(logsumexp).collect(),
        }
    }

    /// Replaces the logits `[rows, columns]` of a tile by the gradient with respect to them.
    pub(super) fn gradient(&self, logits: &mut [f32], columns: &Range<usize>, per_row: &PerRow) {
        let mask = self.tile_of_mask(columns);
        let inverse_temperature = self.settings.inverse_temperature;
        logits
            .par_chunks_exact_mut(columns.len().max(1))
            .zip(per_row.targets)
            .enumerate()
            .with_min_len(rows_per_thread(columns.len()))
            .for_each(|(index, (row, &target))| {
                let usable = self.is_usable(target);
                let factor = per_row.upstream[index] * inverse_temperature;
                let factor = if usable { factor } else { 0.0 };
                run(RowGradient {
                    row: &mut *row,
                    mask,
                    inverse_temperature,
                    logsumexp: per_row.logsumexp[index],
                    factor,
                    entropy: self.settings.entropy_gradient.then(|| {
                        let pull = per_row.entropy_upstream[index] * inverse_temperature;
                        (per_row.entropies[index], pull)
                    }),
                });
                if let Some(place) = place(target, columns).filter(|_| usable) {
                    row[place] += factor;
                }
            });
    }

    fn tile_of_mask(&self, columns: &Range<usize>) -> Option<&[f32]> {
        self.suppressed.map(|mask| &mask[columns.clone()])
    }

    /// Whether the target is in the vocabulary and not suppressed.
    fn is_usable(&self, target: i64) -> bool {
        place(target, &(0..self.vocabulary))
            .is_some_and(|column| self.suppressed.is_none_or(|mask| mask[column] <= 0.0))
    }
}

/// The place of a token within a tile that has it.
fn place(token: i64, columns: &Range<usize>) -> Option<usize> {
    let column = usize::try_from(token).ok()?;
    columns.contains(&column).then(|| column - columns.start)
}

fn rows_per_thread(vocabulary: usize) -> usize {
    ELEMENTS_PER_THREAD.div_ceil(vocabulary.max(1))
}

/// Highest value so far, sum of exp(x - maximum), and that sum weighted by (x - maximum).
#[derive(Debug, Clone, Copy)]
struct Running {
    highest: f32,
    total: f32,
    weighted: f32,
}

/// Online softmax of one row of a tile, from the state before it.
struct RowStatistics<'a> {
    row: &'a [f32],
    mask: Option<&'a [f32]>,
    inverse_temperature: f32,
    state: Running,
}

impl VectorTask for RowStatistics<'_> {
    type Output = Running;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Running {
        let mut state = self.state;
        let mut block = [[LOWEST; LANES]; BLOCK / LANES];
        for (index, columns) in self.row.chunks(BLOCK).enumerate() {
            let mask = self.mask.map(|mask| &mask[index * BLOCK..]);
            let groups = columns.len().div_ceil(LANES);
            block[groups - 1] = [LOWEST; LANES];
            let values = &mut block.as_flattened_mut()[..columns.len()];
            scale(columns, mask, self.inverse_temperature, values);
            state = add_block::<FMA>(state, &block[..groups]);
        }
        state
    }
}

/// Scaled logits, LOWEST where suppressed; a NaN stays a NaN.
#[inline(always)]
fn scale(columns: &[f32], mask: Option<&[f32]>, inverse_temperature: f32, values: &mut [f32]) {
    for (value, &logit) in values.iter_mut().zip(columns) {
        let x = logit * inverse_temperature;
        *value = if x < LOWEST { LOWEST } else { x };
    }
    if let Some(mask) = mask {
        for (value, &suppressed) in values.iter_mut().zip(mask) {
            *value = if suppressed > 0.0 { LOWEST } else { *value };
        }
    }
}

#[inline(always)]
fn add_block<const FMA: bool>(state: Running, block: &[[f32; LANES]]) -> Running {
    let mut maxima = [state.highest; LANES];
    for values in block {
        for (maximum, &value) in maxima.iter_mut().zip(values) {
            *maximum = if value > *maximum { value } else { *maximum };
        }
    }
    let highest = maxima.iter().copied().fold(state.highest, f32::max);
    let (mut totals, mut weighted) = ([0.0; LANES], [0.0; LANES]);
    for values in block {
        for ((total, weighted), value) in totals.iter_mut().zip(&mut weighted).zip(values) {
            let shifted = value - highest;
            let term = exp::<FMA>(shifted);
            *total += term;
            *weighted = multiply_add::<FMA>(term, shifted, *weighted);
        }
    }
    let shift = state.highest - highest;
    let factor = shift.exp();
    Running {
        highest,
        total: state.total * factor + totals.iter().sum::<f32>(),
        weighted: (state.weighted + shift * state.total) * factor + weighted.iter().sum::<f32>(),
    }
}

/// Replaces one row of logits by `-p (factor + pull (ln p + entropy))`, zero where suppressed.
struct RowGradient<'a> {
    row: &'a mut [f32],
    mask: Option<&'a [f32]>,
    inverse_temperature: f32,
    logsumexp: f32,
    factor: f32,
    /// Entropy of the row and its pull, if it has one.
    entropy: Option<(f32, f32)>,
}

impl VectorTask for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let inverse_temperature = self.inverse_temperature;
        if let Some((entropy, pull)) = self.entropy {
            for value in self.row.iter_mut() {
                let shifted = multiply_add::<FMA>(*value, inverse_temperature, -self.logsumexp);
                // Below LOWEST the probability is 0; minus infinity times 0 would be NaN.
                let log = if shifted < LOWEST { LOWEST } else { shifted };
                *value = -exp::<FMA>(shifted) * (self.factor + pull * (log + entropy));
            }
        } else {
            for value in self.row.iter_mut() {
                let shifted = multiply_add::<FMA>(*value, inverse_temperature, -self.logsumexp);
                *value = -self.factor * exp::<FMA>(shifted);
            }
        }
        if let Some(mask) = self.mask {
            for (value, &suppressed) in self.row.iter_mut().zip(mask) {
                *value = if suppressed > 0.0 { 0.0 } else { *value };
            }
        }
    }
}
