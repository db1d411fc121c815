//! The CPU twin of the kernel, on slices, parallel over rows.
//! It knows neither tensors nor devices.

use rayon::prelude::*;

use super::{LARGEST_LOG_RATIO, LARGEST_LOG_REFERENCE_RATIO, PolicyLossOptions, Surrogate, TERMS};

/// Rows of tokens, [R, T] each, and the options.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) logprobs: &'a [f32],
    pub(super) old: &'a [f32],
    pub(super) reference: Option<&'a [f32]>,
    pub(super) advantages: &'a [f32],
    pub(super) mask: &'a [f32],
    pub(super) weights: &'a [f32],
    pub(super) kl_weights: &'a [f32],
    pub(super) surrogate_weights: &'a [f32],
    pub(super) options: &'a PolicyLossOptions,
}

/// Loss, terms [5, R, T] and gradient [R, T] on the host.
pub(super) struct HostLoss {
    pub(super) loss: f32,
    pub(super) terms: Vec<f32>,
    pub(super) gradient: Vec<f32>,
}

/// The CPU twin, parallel over rows of `tokens` tokens.
pub(super) fn compute(rows: &Rows, tokens: usize) -> HostLoss {
    let plane = rows.mask.len();
    let mut terms = vec![0.0; TERMS * plane];
    let mut gradient = vec![0.0; plane];
    let mut planes = terms
        .chunks_mut(plane)
        .map(|plane| plane.par_chunks_mut(tokens));
    let mut next = || planes.next().expect("there are five planes");
    let outputs = (
        next(),
        next(),
        next(),
        next(),
        next(),
        gradient.par_chunks_mut(tokens),
    );
    let row_losses: Vec<f64> = outputs
        .into_par_iter()
        .enumerate()
        .map(|(row, (losses, ratios, k3, low, high, gradient))| {
            rows.row(row * tokens..(row + 1) * tokens)
                .compute([losses, ratios, k3, low, high], gradient)
        })
        .collect();
    HostLoss {
        loss: row_losses.iter().sum::<f64>() as f32,
        terms,
        gradient,
    }
}

/// What one token adds: `ratio_slope` is d(l)/d(ln r), `own_slope` the part of d(l)/d(logprob) beside it.
struct Term {
    loss: f32,
    k3: f32,
    low: bool,
    high: bool,
    ratio_slope: f32,
    own_slope: f32,
}

/// A surrogate and its slopes, as in [`Term`]; `low` and `high` say whether the ratio was clipped.
#[derive(Default)]
struct Gain {
    value: f32,
    ratio_slope: f32,
    own_slope: f32,
    low: bool,
    high: bool,
}

impl<'a> Rows<'a> {
    fn row(&self, range: std::ops::Range<usize>) -> Self {
        let part = |values: &'a [f32]| &values[range.clone()];
        Self {
            logprobs: part(self.logprobs),
            old: part(self.old),
            reference: self.reference.map(part),
            advantages: part(self.advantages),
            mask: part(self.mask),
            weights: part(self.weights),
            kl_weights: part(self.kl_weights),
            surrogate_weights: part(self.surrogate_weights),
            options: self.options,
        }
    }

    /// Fills the terms and the gradient of this one row; the result is the row's loss.
    fn compute(
        &self,
        [losses, ratios, k3, low, high]: [&mut [f32]; TERMS],
        gradient: &mut [f32],
    ) -> f64 {
        let sequence = self.options.sequence_level;
        let counted: f32 = self.mask.iter().sum();
        let row_log_ratio = if sequence {
            self.mean_log_ratio(counted)
        } else {
            0.0
        };
        let (mut loss, mut row_slope) = (0.0, 0.0);
        for token in self.counted_tokens() {
            let log_ratio = if sequence {
                row_log_ratio
            } else {
                self.log_ratio(token)
            };
            let broken =
                self.is_broken(token) || !log_ratio.is_finite() || log_ratio > LARGEST_LOG_RATIO;
            let ratio = if broken { f32::NAN } else { log_ratio.exp() };
            let term = self.term(token, ratio);
            let weight = self.weights[token] * self.mask[token];
            losses[token] = if broken { f32::NAN } else { term.loss };
            ratios[token] = ratio;
            k3[token] = term.k3;
            low[token] = f32::from(u8::from(term.low));
            high[token] = f32::from(u8::from(term.high));
            let slope = if sequence { 0.0 } else { term.ratio_slope } + term.own_slope;
            gradient[token] = if broken { f32::NAN } else { weight * slope };
            loss += f64::from(weight) * f64::from(losses[token]);
            row_slope += f64::from(weight) * f64::from(term.ratio_slope);
        }
        if sequence {
            let share = row_slope / f64::from(counted.max(1.0));
            for token in self.counted_tokens() {
                gradient[token] += (f64::from(self.mask[token]) * share) as f32;
            }
        }
        loss
    }

    fn counted_tokens(&self) -> impl Iterator<Item = usize> {
        let mask = self.mask;
        (0..mask.len()).filter(|&token| mask[token] != 0.0)
    }

    fn log_ratio(&self, token: usize) -> f32 {
        self.logprobs[token] - self.old[token]
    }

    /// The mean over the mask, as TRL takes it: the divisor is at least 1.
    fn mean_log_ratio(&self, counted: f32) -> f32 {
        let weighted = |token| f64::from(self.mask[token]) * f64::from(self.log_ratio(token));
        let sum: f64 = self.counted_tokens().map(weighted).sum();
        (sum / f64::from(counted.max(1.0))) as f32
    }

    fn is_broken(&self, token: usize) -> bool {
        let reference = self.reference.map_or(0.0, |reference| reference[token]);
        let used = [
            self.logprobs[token],
            self.old[token],
            reference,
            self.advantages[token],
            self.weights[token],
        ];
        used.iter().any(|value| !value.is_finite())
    }

    fn term(&self, token: usize, ratio: f32) -> Term {
        let options = self.options;
        let gain = self.gain(token, ratio);
        let d = self
            .reference
            .map_or(0.0, |reference| reference[token] - self.logprobs[token]);
        let exponential = d
            .clamp(-LARGEST_LOG_REFERENCE_RATIO, LARGEST_LOG_REFERENCE_RATIO)
            .exp();
        let correction = if options.bias_corrected_kl {
            ratio
        } else {
            1.0
        };
        let k3 = (exponential - d - 1.0) * correction;
        let beta = options.beta * self.kl_weights[token];
        let corrected = if options.bias_corrected_kl {
            beta * k3
        } else {
            0.0
        };
        let share = self.surrogate_weights[token];
        Term {
            loss: -share * gain.value + beta * k3,
            k3,
            low: gain.low,
            high: gain.high,
            ratio_slope: corrected - share * gain.ratio_slope,
            own_slope: beta * correction * (1.0 - exponential) - share * gain.own_slope,
        }
    }

    fn gain(&self, token: usize, ratio: f32) -> Gain {
        let advantage = self.advantages[token];
        match self.options.surrogate {
            Surrogate::Clipped => self.clipped(advantage, ratio),
            Surrogate::Cispo => {
                let capped = ratio.min(self.options.epsilon_high) * advantage;
                Gain {
                    value: capped * self.logprobs[token],
                    own_slope: capped,
                    high: ratio > self.options.epsilon_high && advantage > 0.0,
                    ..Gain::default()
                }
            }
            Surrogate::Sapo { positive, negative } => {
                let sharpness = if advantage > 0.0 { positive } else { negative };
                let gate = 1.0 / (1.0 + (-sharpness * (ratio - 1.0)).exp());
                Gain {
                    value: gate * 4.0 / sharpness * advantage,
                    ratio_slope: 4.0 * gate * (1.0 - gate) * ratio * advantage,
                    ..Gain::default()
                }
            }
        }
    }

    fn clipped(&self, advantage: f32, ratio: f32) -> Gain {
        let options = self.options;
        let (lowest, largest) = (1.0 - options.epsilon_low, 1.0 + options.epsilon_high);
        let delta = options.delta.unwrap_or(f32::MAX);
        let capped = ratio.min(delta);
        let (plain, clipped) = (capped * advantage, ratio.clamp(lowest, largest) * advantage);
        let plain_slope = f32::from(u8::from(ratio <= delta));
        let clipped_slope = f32::from(u8::from((lowest..=largest).contains(&ratio)));
        // Equal arguments of the minimum share its slope, as in PyTorch.
        let slope = if plain < clipped {
            plain_slope
        } else if clipped < plain {
            clipped_slope
        } else {
            0.5 * (plain_slope + clipped_slope)
        };
        Gain {
            value: plain.min(clipped),
            ratio_slope: advantage * ratio * slope,
            own_slope: 0.0,
            low: capped < lowest && advantage < 0.0,
            high: capped > largest && advantage > 0.0,
        }
    }
}
