//! Importance weights of external actions, exact or self-normalised; knows nothing of advantages and losses.
//!
//! The real proposal of a selected action is conditioned on its selection (top-G by reward, for example); no weight here
//! corrects for that (method: section 2.5).

/// The largest log-ratio of a sequence, either way, before `exp`.
const LARGEST_LOG_RATIO: f64 = 20.0;

/// min(π_old(o) / q(o), cap) of a whole action, from the sums of its log-probabilities.
#[must_use]
pub fn sequence_weight(old: f64, external: f64, cap: f64) -> f64 {
    let log_ratio = (old - external).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO);
    log_ratio.exp().min(cap)
}

/// min(π_old(o_t) / q(o_t), cap) of each token.
#[must_use]
pub fn token_weights(old: &[f32], external: &[f32], cap: f64) -> Vec<f64> {
    let weight =
        |(old, external): (&f32, &f32)| sequence_weight(f64::from(*old), f64::from(*external), cap);
    old.iter().zip(external).map(weight).collect()
}

/// |S| w_i / Σ w_j over a group, with w = 1 for policy actions.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "groups are small")]
pub fn self_normalised(weights: &[f64]) -> Vec<f64> {
    let sum: f64 = weights.iter().sum();
    weights
        .iter()
        .map(|weight| weights.len() as f64 * weight / sum)
        .collect()
}

/// (Σ w)² / Σ w²: how many equally weighted actions the group is worth.
#[must_use]
pub fn effective_sample_size(weights: &[f64]) -> f64 {
    let sum: f64 = weights.iter().sum();
    let squares: f64 = weights.iter().map(|weight| weight * weight).sum();
    sum * sum / squares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand: exp(-3 - -2) = 0.36788, exp(2) capped at 3, exp(-40) held at exp(-20).
    #[test]
    fn weights_are_truncated_ratios() {
        for (old, external, expected) in [
            (-3.0, -2.0, 0.367_879_441),
            (-2.0, -4.0, 3.0),
            (-50.0, -10.0, 2.061_153_622e-9),
        ] {
            let found = sequence_weight(old, external, 3.0);
            assert!(
                (found / expected - 1.0).abs() < 1e-8,
                "{found}, expected {expected}"
            );
        }
        let tokens = token_weights(&[-1.0, -0.5], &[-0.5, -2.5], 3.0);
        assert!(
            (tokens[0] - 0.606_530_660).abs() < 1e-8 && tokens[1] == 3.0,
            "{tokens:?}"
        );
    }

    /// By hand for w = 1, 1, 0.5, 1.5: sum 4, so each times 4 / 4; squares 4.5, so 16 / 4.5.
    #[test]
    fn a_group_is_normalised_by_its_own_sum() {
        assert_eq!(self_normalised(&[1.0, 1.0, 0.5, 1.5]), [1.0, 1.0, 0.5, 1.5]);
        assert_eq!(self_normalised(&[1.0, 3.0]), [0.5, 1.5]);
        assert!((effective_sample_size(&[1.0, 1.0, 0.5, 1.5]) - 3.555_555_555).abs() < 1e-8);
        assert_eq!(effective_sample_size(&[1.0; 8]), 8.0);
    }
}
