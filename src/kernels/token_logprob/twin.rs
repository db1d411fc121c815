//! The operation on slices: the oracle of the parity tests and the fast path of the CPU device.
//! It knows no tensors; rows are shared out among threads, columns among vector lanes.

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
    /// `[V]`, positive for a token of probability zero.
    pub(super) suppressed: Option<&'a [f32]>,
    pub(super) settings: Settings,
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

impl Softmax<'_> {
    /// Log-probability, entropy and log-sum-exp of each row of `logits` `[T, V]`.
    pub(super) fn statistics(
        &self,
        logits: &[f32],
        vocabulary: usize,
        targets: &[i64],
    ) -> RowResults {
        let row = |(row, &target): (&[f32], &i64)| {
            let statistics = run(RowStatistics {
                row,
                softmax: *self,
            });
            let log_total = statistics.total.ln();
            let entropy = log_total - statistics.weighted / statistics.total;
            (
                self.target_logprob(row, target, statistics.highest, log_total),
                if self.settings.with_entropy {
                    entropy
                } else {
                    0.0
                },
                statistics.highest + log_total,
            )
        };
        let rows = logits.par_chunks_exact(vocabulary.max(1)).zip(targets);
        let results: Vec<_> = rows
            .with_min_len(rows_per_thread(vocabulary))
            .map(row)
            .collect();
        RowResults {
            logprobs: results.iter().map(|result| result.0).collect(),
            entropies: results.iter().map(|result| result.1).collect(),
            logsumexp: results.iter().map(|result| result.2).collect(),
        }
    }

    /// Replaces `logits` `[T, V]` by the gradient with respect to them.
    pub(super) fn gradient(&self, logits: &mut [f32], vocabulary: usize, per_row: &PerRow) {
        logits
            .par_chunks_exact_mut(vocabulary.max(1))
            .zip(per_row.targets)
            .enumerate()
            .with_min_len(rows_per_thread(vocabulary))
            .for_each(|(index, (row, &target))| {
                let inverse_temperature = self.settings.inverse_temperature;
                let target = self.usable_target(vocabulary, target);
                let factor = target.map_or(0.0, |_| per_row.upstream[index] * inverse_temperature);
                run(RowGradient {
                    row: &mut *row,
                    softmax: *self,
                    logsumexp: per_row.logsumexp[index],
                    factor,
                    entropy: self.settings.entropy_gradient.then(|| {
                        let pull = per_row.entropy_upstream[index] * inverse_temperature;
                        (per_row.entropies[index], pull)
                    }),
                });
                if let Some(target) = target {
                    row[target] += factor;
                }
            });
    }

    fn target_logprob(&self, row: &[f32], target: i64, highest: f32, log_total: f32) -> f32 {
        match self.usable_target(row.len(), target) {
            Some(target) => {
                let x = row[target] * self.settings.inverse_temperature;
                if x <= LOWEST {
                    SUPPRESSED_LOGPROB
                } else {
                    (x - highest) - log_total
                }
            }
            None if (0..row.len() as i64).contains(&target) => SUPPRESSED_LOGPROB,
            None => f32::NAN,
        }
    }

    /// The target as a column, unless it is outside the vocabulary or suppressed.
    fn usable_target(&self, vocabulary: usize, target: i64) -> Option<usize> {
        let column = usize::try_from(target)
            .ok()
            .filter(|&column| column < vocabulary)?;
        let suppressed = self.suppressed.is_some_and(|mask| mask[column] > 0.0);
        (!suppressed).then_some(column)
    }
}

fn rows_per_thread(vocabulary: usize) -> usize {
    ELEMENTS_PER_THREAD.div_ceil(vocabulary.max(1))
}

/// Running maximum, sum of exp(x - maximum), and that sum weighted by (x - maximum).
#[derive(Debug, Clone, Copy)]
struct Running {
    highest: f32,
    total: f32,
    weighted: f32,
}

/// Online softmax of one row.
struct RowStatistics<'a> {
    row: &'a [f32],
    softmax: Softmax<'a>,
}

impl VectorTask for RowStatistics<'_> {
    type Output = Running;

    #[inline(always)]
    fn run<const FMA: bool>(self) -> Running {
        let mut state = Running {
            highest: LOWEST,
            total: 0.0,
            weighted: 0.0,
        };
        let mut block = [[LOWEST; LANES]; BLOCK / LANES];
        for (index, columns) in self.row.chunks(BLOCK).enumerate() {
            let mask = self.softmax.suppressed.map(|mask| &mask[index * BLOCK..]);
            let groups = columns.len().div_ceil(LANES);
            block[groups - 1] = [LOWEST; LANES];
            let values = &mut block.as_flattened_mut()[..columns.len()];
            scale(
                columns,
                mask,
                self.softmax.settings.inverse_temperature,
                values,
            );
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
    softmax: Softmax<'a>,
    logsumexp: f32,
    factor: f32,
    /// Entropy of the row and its pull, if it has one.
    entropy: Option<(f32, f32)>,
}

impl VectorTask for RowGradient<'_> {
    type Output = ();

    #[inline(always)]
    fn run<const FMA: bool>(self) {
        let inverse_temperature = self.softmax.settings.inverse_temperature;
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
        if let Some(mask) = self.softmax.suppressed {
            for (value, &suppressed) in self.row.iter_mut().zip(mask) {
                *value = if suppressed > 0.0 { 0.0 } else { *value };
            }
        }
    }
}
