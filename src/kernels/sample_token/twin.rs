//! The CPU twin of the kernel, on slices, parallel over rows.
//! It knows neither tensors nor devices.

use rayon::prelude::*;

use super::super::vector_math::{LANES, VectorTask, exp, run};
use super::{NO_TOKEN, NOT_FINITE_TOKEN, SampleOptions};

/// Tokens whose weights are added up in f32 before they are in f64.
const BLOCK: usize = 1024;

/// The CPU twin: `logits` [B, V], `uniforms` [B], `suppressed` [V] or [4] zeros -> [B, 2], parallel over rows.
pub(super) fn sample(
    logits: &[f32],
    uniforms: &[f32],
    suppressed: &[f32],
    options: &SampleOptions,
) -> Vec<f32> {
    let vocabulary = logits.len() / uniforms.len();
    let suppressed = if suppressed.len() == vocabulary {
        suppressed
    } else {
        &[]
    };
    let mut chosen = vec![0.0; 2 * uniforms.len()];
    chosen
        .par_chunks_mut(2)
        .zip(logits.par_chunks(vocabulary))
        .zip(uniforms)
        .for_each(|((chosen, row), &uniform)| {
            chosen.copy_from_slice(&sample_row(row, uniform, suppressed, options))
        });
    chosen
}

/// Draws from one row: id and log-probability.
fn sample_row(
    logits: &[f32],
    uniform: f32,
    suppressed: &[f32],
    options: &SampleOptions,
) -> [f32; 2] {
    let row = match Row::new(logits, suppressed) {
        Ok(row) => row,
        Err(code) => return [code, 0.0],
    };
    let scale = options.logprob_temperature.recip();
    let (unfiltered, total) = row.exponentials(scale);
    let token = if options.temperature == options.logprob_temperature {
        draw(&row.filtered(unfiltered, options), uniform)
    } else if options.temperature > 0.0 {
        draw(&row.weights(options), uniform)
    } else {
        row.highest_id
    };
    let logprob = f64::from((row.logits[token] - row.highest) * scale) - total.ln();
    [token as f32, logprob as f32]
}

/// The unnormalised probability of every token after all filters, [V]; `temperature` must not be 0.
///
/// It is what [`sample_token`](super::sample_token) draws from on the CPU device, made visible for tests and diagnosis.
///
/// # Errors
/// The negative id that [`sample_token`](super::sample_token) would return.
pub fn sample_weights(
    logits: &[f32],
    suppressed: &[f32],
    options: &SampleOptions,
) -> Result<Vec<f32>, f32> {
    Ok(Row::new(logits, suppressed)?.weights(options))
}

/// A row of logits in which suppressed tokens are -infinity, with its maximum.
struct Row {
    logits: Vec<f32>,
    highest: f32,
    highest_id: usize,
}

impl Row {
    fn new(logits: &[f32], suppressed: &[f32]) -> Result<Self, f32> {
        let mut logits = logits.to_vec();
        for (logit, &suppressed) in logits.iter_mut().zip(suppressed) {
            *logit = if suppressed > 0.5 {
                f32::NEG_INFINITY
            } else {
                *logit
            };
        }
        let (highest, finite_or_low) = run(Highest(&logits));
        if !finite_or_low {
            return Err(NOT_FINITE_TOKEN);
        }
        if highest == f32::NEG_INFINITY {
            return Err(NO_TOKEN);
        }
        let highest_id = logits
            .iter()
            .position(|&logit| logit == highest)
            .expect("the maximum is in the row");
        Ok(Self {
            logits,
            highest,
            highest_id,
        })
    }

    /// `exp((logit - highest) * scale)` of every token, and the sum.
    fn exponentials(&self, scale: f32) -> (Vec<f32>, f64) {
        run(Exponentials { row: self, scale })
    }

    /// Weights of the survivors; 0 for every other token.
    fn weights(&self, options: &SampleOptions) -> Vec<f32> {
        let (weights, _) = self.exponentials(options.temperature.recip());
        self.filtered(weights, options)
    }

    /// The weights with 0 for every token that a filter drops.
    fn filtered(&self, mut weights: Vec<f32>, options: &SampleOptions) -> Vec<f32> {
        let threshold = self.threshold(&weights, options);
        for (id, weight) in weights.iter_mut().enumerate() {
            let kept = *weight >= options.min_p
                && (threshold == 0 || place(self.logits[id], id) >= threshold);
            *weight = if kept { *weight } else { 0.0 };
        }
        weights
    }

    /// The lowest [`place`] that top-k and top-p keep; 0 keeps everything.
    fn threshold(&self, weights: &[f32], options: &SampleOptions) -> u64 {
        let drop_share = options.drop_share();
        if options.top_k == 0 && drop_share <= 0.0 {
            return 0;
        }
        let finite = self
            .logits
            .iter()
            .enumerate()
            .filter(|&(_, &logit)| logit > f32::NEG_INFINITY);
        let mut places: Vec<u64> = finite.map(|(id, &logit)| place(logit, id)).collect();
        let mut threshold = 0;
        if options.top_k > 0 && options.top_k < places.len() {
            let left_out = places.len() - options.top_k;
            let (_, &mut last, _) = places.select_nth_unstable(left_out);
            threshold = last & !u64::from(u32::MAX); // every id with the logit of the k-th
            places.retain(|&place| place >= threshold);
        }
        if drop_share > 0.0 {
            threshold = first_above(&mut places, weights, drop_share);
        }
        threshold
    }
}

/// Position of a token in the order (logit, id), as one number.
fn place(logit: f32, id: usize) -> u64 {
    let bits = (logit + 0.0).to_bits(); // -0 becomes 0
    let key = if bits >> 31 == 1 {
        !bits
    } else {
        bits | (1 << 31)
    };
    (u64::from(key) << 32) | id as u64
}

/// The first place, in ascending order, whose running share of the weight exceeds `share` in f32, as PyTorch compares
/// it; the last place if none does.
///
/// A quickselect on weights: it sums one half and goes on in the half that holds the answer.
fn first_above(places: &mut [u64], weights: &[f32], share: f32) -> u64 {
    let sum = |places: &[u64]| -> f64 {
        places
            .iter()
            .map(|&place| f64::from(weights[place as u32 as usize]))
            .sum()
    };
    let total = sum(places);
    let mut rest = places;
    let mut below = 0.0;
    while rest.len() > 1 {
        let middle = rest.len() / 2;
        rest.select_nth_unstable(middle);
        let reached = below + sum(&rest[..middle]);
        if (reached / total) as f32 > share {
            rest = &mut rest[..middle];
        } else {
            below = reached;
            rest = &mut rest[middle..];
        }
    }
    rest[0]
}

/// The first token in id order whose running weight exceeds `uniform` times the total, block by block, then one by one.
fn draw(weights: &[f32], uniform: f32) -> usize {
    let sums: Vec<f64> = weights.chunks(BLOCK).map(sum).collect();
    let goal = f64::from(uniform) * sums.iter().sum::<f64>();
    let (mut block, mut before, mut running) = (0, 0.0, 0.0);
    for (index, &sum) in sums.iter().enumerate().filter(|&(_, &sum)| sum > 0.0) {
        (block, before) = (index, running);
        running += sum;
        if running > goal {
            break;
        }
    }
    let mut token = block * BLOCK;
    running = before;
    for (id, &weight) in weights.iter().enumerate().skip(block * BLOCK).take(BLOCK) {
        running += f64::from(weight);
        token = if weight > 0.0 { id } else { token };
        if running > goal {
            break;
        }
    }
    token
}

/// Sum in lanes, which the compiler turns into vector instructions.
fn sum(weights: &[f32]) -> f64 {
    let mut lanes = [0.0_f32; LANES];
    for chunk in weights.chunks(LANES) {
        for (lane, weight) in lanes.iter_mut().zip(chunk) {
            *lane += weight;
        }
    }
    lanes.iter().map(|&lane| f64::from(lane)).sum()
}

/// The largest value, and whether none is NaN or +infinity.
struct Highest<'a>(&'a [f32]);

impl VectorTask for Highest<'_> {
    type Output = (f32, bool);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (f32, bool) {
        let mut highest = [f32::NEG_INFINITY; LANES];
        let mut good = [true; LANES];
        for chunk in self.0.chunks(LANES) {
            for (index, &logit) in chunk.iter().enumerate() {
                highest[index] = if logit > highest[index] {
                    logit
                } else {
                    highest[index]
                };
                good[index] &= logit < f32::INFINITY;
            }
        }
        (
            highest.into_iter().fold(f32::NEG_INFINITY, f32::max),
            good == [true; LANES],
        )
    }
}

/// The vectorised loop of [`Row::exponentials`].
struct Exponentials<'a> {
    row: &'a Row,
    scale: f32,
}

impl VectorTask for Exponentials<'_> {
    type Output = (Vec<f32>, f64);

    #[inline(always)]
    fn run<const FMA: bool>(self) -> (Vec<f32>, f64) {
        let mut weights = vec![0.0; self.row.logits.len()];
        for (weight, &logit) in weights.iter_mut().zip(&self.row.logits) {
            *weight = exp::<FMA>((logit - self.row.highest) * self.scale);
        }
        let total = weights.chunks(BLOCK).map(sum).sum();
        (weights, total)
    }
}
