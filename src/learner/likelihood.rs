//! What a token's probability counts in a likelihood term, and its slope; knows nothing of where the terms come from.
//!
//! A term is -coefficient x value(p), and its gradient with respect to log p is -coefficient x slope(p). Both are worked
//! out on the host from the probabilities of the forward pass, so that a new shape is an entry here and no kernel.

use crate::record::{LikelihoodShape, TokenBatch, TokenRow};

/// The value of a shape and d(value) / d(log p), what is fixed being held.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shaped {
    /// The value.
    pub value: f64,
    /// Its slope.
    pub slope: f64,
}

/// The shape at log-probability `logprob`, with `old_logprob` at rollout time.
///
/// | shape | value | slope | source |
/// |---|---|---|---|
/// | `LogLikelihood` | log p | 1 | maximum likelihood |
/// | `UncertaintyWeighted` | sg[p (1 - p)] log p | p (1 - p) | CHORD's phi (arXiv 2508.11408) |
/// | `Probability` | p | p | LUFFY without shaping |
/// | `Shaped` | p / (p + g) | g p / (p + g)² | LUFFY (arXiv 2504.14945) |
/// | `ExplorationWeighted` | sqrt(1 - sg[p]) 2 p / (p_old + w), w = (p_old + 1) / 2 | the value | RL-PLUS |
#[must_use]
pub fn shaped(shape: LikelihoodShape, logprob: f32, old_logprob: f32) -> Shaped {
    let logprob = f64::from(logprob);
    let probability = logprob.exp();
    let (value, slope) = match shape {
        LikelihoodShape::LogLikelihood => (logprob, 1.0),
        LikelihoodShape::UncertaintyWeighted => {
            let factor = probability * (1.0 - probability);
            (factor * logprob, factor)
        }
        LikelihoodShape::Probability => (probability, probability),
        LikelihoodShape::Shaped { gamma } => {
            let gamma = f64::from(gamma);
            let sum = probability + gamma;
            (probability / sum, gamma * probability / (sum * sum))
        }
        LikelihoodShape::ExplorationWeighted => {
            let old = f64::from(old_logprob).exp();
            // Rounding may leave p a hair above 1.
            let root = (1.0 - probability).max(0.0).sqrt();
            let value = root * 2.0 * probability / (old + 0.5 * (old + 1.0));
            (value, value)
        }
    };
    Shaped { value, slope }
}

/// The likelihood terms of a batch, linear around the probabilities of the forward pass.
#[derive(Debug, Clone, PartialEq)]
pub struct LikelihoodTerms {
    /// [row][token] loss before weighting; 0 where a row has no term.
    pub losses: Vec<Vec<f32>>,
    /// [row][token] d(step's loss) / d(log p).
    pub slopes: Vec<Vec<f32>>,
    /// The sum of all weighted losses.
    pub loss: f64,
}

/// The terms of the rows that have one; `None` if none has.
///
/// `logprobs` and `weights` are [row][token]; a row without `old_logprobs` is at its first update, where old and current
/// probabilities are the same.
#[must_use]
pub fn terms(
    batch: &TokenBatch,
    logprobs: &[Vec<f32>],
    weights: &[Vec<f32>],
) -> Option<LikelihoodTerms> {
    if batch.rows.iter().all(|row| row.likelihood.is_none()) {
        return None;
    }
    let mut terms = LikelihoodTerms {
        losses: Vec::with_capacity(batch.rows.len()),
        slopes: Vec::with_capacity(batch.rows.len()),
        loss: 0.0,
    };
    for ((row, logprobs), weights) in batch.rows.iter().zip(logprobs).zip(weights) {
        let tokens: Vec<(f32, f32)> = (0..row.token_ids.len())
            .map(|token| token_term(row, token, logprobs[token], weights[token]))
            .collect();
        let weighted = tokens.iter().zip(weights);
        terms.loss += weighted
            .map(|((loss, _), weight)| f64::from(*loss) * f64::from(*weight))
            .sum::<f64>();
        terms
            .losses
            .push(tokens.iter().map(|(loss, _)| *loss).collect());
        terms
            .slopes
            .push(tokens.iter().map(|(_, slope)| *slope).collect());
    }
    Some(terms)
}

/// (loss, weighted slope) of one token.
#[expect(clippy::cast_possible_truncation, reason = "the learner works in f32")]
fn token_term(row: &TokenRow, token: usize, logprob: f32, weight: f32) -> (f32, f32) {
    let Some(likelihood) = &row.likelihood else {
        return (0.0, 0.0);
    };
    // A weight of 0 is a token that does not count; its numbers need not be finite.
    if weight == 0.0 {
        return (0.0, 0.0);
    }
    let old = row.old_logprobs.as_ref().map_or(logprob, |old| old[token]);
    let shaped = shaped(likelihood.shape, logprob, old);
    let coefficient = -f64::from(likelihood.coefficients[token]);
    (
        (coefficient * shaped.value) as f32,
        (coefficient * shaped.slope * f64::from(weight)) as f32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [LikelihoodShape; 5] = [
        LikelihoodShape::LogLikelihood,
        LikelihoodShape::UncertaintyWeighted,
        LikelihoodShape::Probability,
        LikelihoodShape::Shaped { gamma: 0.1 },
        LikelihoodShape::ExplorationWeighted,
    ];

    /// g at p = p_old = 0.25 and, for the last, p = 0.25 after p_old = 0.5, from the formulas by hand:
    /// 1; 0.25 x 0.75; 0.25; 0.1 x 0.25 / 0.35²; sqrt(0.75) x 4 x 0.25 / (3 x 0.25 + 1); sqrt(0.75) x 0.5 / (0.5 + 0.75).
    #[test]
    fn slopes_equal_the_table_of_the_method() {
        let at = |shape, p: f32, old: f32| shaped(shape, p.ln(), old.ln()).slope;
        let expected = [1.0, 0.1875, 0.25, 0.204_081_632, 0.494_871_659];
        for (shape, expected) in SHAPES.into_iter().zip(expected) {
            let found = at(shape, 0.25, 0.25);
            assert!(
                (found - expected).abs() < 1e-7,
                "{shape:?}: {found}, expected {expected}"
            );
        }
        let moved = at(LikelihoodShape::ExplorationWeighted, 0.25, 0.5);
        assert!((moved - 0.346_410_162).abs() < 1e-7, "{moved}");
    }

    /// The slope is the derivative of the value with respect to log p, the fixed factors held.
    #[test]
    fn slopes_are_derivatives() {
        for shape in SHAPES {
            for p in [0.03_f64, 0.4, 0.93] {
                let held = |logprob: f64| match shape {
                    LikelihoodShape::UncertaintyWeighted => p * (1.0 - p) * logprob,
                    LikelihoodShape::ExplorationWeighted => {
                        (1.0 - p).sqrt() * 2.0 * logprob.exp() / (0.6 + 0.5 * 1.6)
                    }
                    LikelihoodShape::Shaped { .. } => {
                        logprob.exp() / (logprob.exp() + f64::from(0.1_f32))
                    }
                    LikelihoodShape::Probability => logprob.exp(),
                    LikelihoodShape::LogLikelihood => logprob,
                };
                let step = 1e-5;
                let numeric = (held(p.ln() + step) - held(p.ln() - step)) / (2.0 * step);
                let found = shaped(shape, p.ln() as f32, 0.6_f32.ln());
                assert!(
                    (found.slope - numeric).abs() < 1e-6,
                    "{shape:?} at {p}: {} and {numeric}",
                    found.slope
                );
                assert!(
                    (found.value - held(p.ln())).abs() < 1e-6,
                    "{shape:?} at {p}"
                );
            }
        }
    }

    /// Method: section 2.5, column "limits and clip".
    #[test]
    fn slopes_have_the_limits_that_the_method_names() {
        let luffy = |p: f32| shaped(LikelihoodShape::Shaped { gamma: 0.1 }, p.ln(), p.ln()).slope;
        assert!((luffy(0.1) - 0.25).abs() < 1e-6, "a quarter at p = gamma");
        assert!((luffy(1.0) - 0.1 / 1.21).abs() < 1e-6);
        assert!((luffy(1e-6) / (1e-6 / 0.1) - 1.0).abs() < 1e-4);
        let rl_plus = |p: f32| shaped(LikelihoodShape::ExplorationWeighted, p.ln(), p.ln()).slope;
        let largest = (1..1000)
            .map(|p| rl_plus(p as f32 / 1000.0))
            .fold(0.0, f64::max);
        assert!(
            (largest - 0.57).abs() < 0.005 && rl_plus(1.0) == 0.0,
            "{largest}"
        );
        assert!(rl_plus(0.46) > rl_plus(0.44).min(rl_plus(0.48)));
    }
}
