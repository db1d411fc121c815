//! TRL's clip metrics and `kl` from the terms of the loss, on the host.
//! It knows neither tensors nor devices.

use super::{PolicyLossOptions, Surrogate, TERMS};

/// What TRL logs beside the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PolicyLossMetrics {
    /// The loss, which decides what is logged.
    pub surrogate: Surrogate,
    /// `clip_ratio/low_mean`: share of tokens (of rows, at sequence level) clipped below.
    pub clip_low_mean: f64,
    /// `clip_ratio/low_min`: the smallest share of a row.
    pub clip_low_min: f64,
    /// `clip_ratio/high_mean`: share clipped above.
    pub clip_high_mean: f64,
    /// `clip_ratio/high_max`: the largest share of a row.
    pub clip_high_max: f64,
    /// `clip_ratio/region_mean`: share clipped on either side.
    pub clip_region_mean: f64,
    /// `kl`: mean of k3 over tokens.
    pub kl: f64,
}

impl PolicyLossMetrics {
    /// Names as TRL logs them, with the values: a loss that clips nothing has no share that it clipped.
    #[must_use]
    pub fn named(&self) -> Vec<(&'static str, f64)> {
        match self.surrogate {
            Surrogate::Clipped => vec![
                ("clip_ratio/low_mean", self.clip_low_mean),
                ("clip_ratio/low_min", self.clip_low_min),
                ("clip_ratio/high_mean", self.clip_high_mean),
                ("clip_ratio/high_max", self.clip_high_max),
                ("clip_ratio/region_mean", self.clip_region_mean),
                ("kl", self.kl),
            ],
            Surrogate::Cispo => vec![("cispo_clip_ratio", self.clip_high_mean), ("kl", self.kl)],
            Surrogate::Sapo { .. } => vec![("kl", self.kl)],
        }
    }
}

/// The metrics of `GRPOTrainer._compute_loss` from `terms` [5, R, T] and `mask` [R, T], with T = `tokens`.
///
/// At sequence level a row counts once, whatever its length, and a row without tokens counts as not clipped. Per
/// token, a row without tokens is left out of the smallest and largest share. Without any token every value is 0.
///
/// # Panics
/// If the slices do not have these shapes.
#[must_use]
pub fn policy_loss_metrics(
    terms: &[f32],
    mask: &[f32],
    tokens: usize,
    options: &PolicyLossOptions,
) -> PolicyLossMetrics {
    assert_eq!(
        terms.len(),
        TERMS * mask.len(),
        "terms must be [5, R, T] for a mask of {} elements",
        mask.len()
    );
    let plane = |index: usize| &terms[index * mask.len()..(index + 1) * mask.len()];
    let (low, high) = (plane(3), plane(4));
    let region: Vec<f32> = low
        .iter()
        .zip(high)
        .map(|(low, high)| low.max(*high))
        .collect();
    let level = if options.sequence_level {
        Level::Row
    } else {
        Level::Token
    };
    let low = Shares::new(low, mask, tokens, level);
    let high = Shares::new(high, mask, tokens, level);
    PolicyLossMetrics {
        surrogate: options.surrogate,
        clip_low_mean: low.mean,
        clip_low_min: low.smallest,
        clip_high_mean: high.mean,
        clip_high_max: high.largest,
        clip_region_mean: Shares::new(&region, mask, tokens, level).mean,
        kl: Shares::new(plane(2), mask, tokens, Level::Token).mean,
    }
}

/// What counts as one.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Level {
    Token,
    Row,
}

/// The mean of a plane over everything that counts, and the extremes of its rows.
struct Shares {
    mean: f64,
    smallest: f64,
    largest: f64,
}

impl Shares {
    fn new(plane: &[f32], mask: &[f32], tokens: usize, level: Level) -> Self {
        let rows: Vec<(f64, f64)> = plane
            .chunks(tokens.max(1))
            .zip(mask.chunks(tokens.max(1)))
            .map(|(values, mask)| match level {
                Level::Token => sum_and_count(values, mask),
                // The flag is the same at every token of the row.
                Level::Row => (
                    mask.iter()
                        .zip(values)
                        .find(|(mask, _)| **mask != 0.0)
                        .map_or(0.0, |(_, value)| f64::from(*value)),
                    1.0,
                ),
            })
            .collect();
        let (sum, count) = rows
            .iter()
            .fold((0.0, 0.0), |(sum, count), row| (sum + row.0, count + row.1));
        let shares = || {
            rows.iter()
                .filter(|row| row.1 > 0.0)
                .map(|row| row.0 / row.1)
        };
        let finite = |value: f64| if value.is_finite() { value } else { 0.0 };
        Self {
            mean: sum / f64::max(count, 1.0),
            smallest: finite(shares().fold(f64::INFINITY, f64::min)),
            largest: finite(shares().fold(f64::NEG_INFINITY, f64::max)),
        }
    }
}

fn sum_and_count(values: &[f32], mask: &[f32]) -> (f64, f64) {
    values
        .iter()
        .zip(mask)
        .filter(|(_, mask)| **mask != 0.0)
        .fold((0.0, 0.0), |(sum, count), (value, mask)| {
            (
                sum + f64::from(*value) * f64::from(*mask),
                count + f64::from(*mask),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(sequence_level: bool) -> PolicyLossOptions {
        PolicyLossOptions {
            sequence_level,
            ..PolicyLossOptions::default()
        }
    }

    /// Two rows of three tokens; the last token of the first row is masked.
    fn terms() -> (Vec<f32>, Vec<f32>) {
        let planes = [
            [0.0; 6],
            [1.0; 6],
            [0.1, 0.2, 9.0, 0.3, 0.3, 0.3],
            [1.0, 0.0, 9.0, 0.0, 0.0, 0.0],
            [0.0, 0.0, 9.0, 1.0, 1.0, 0.0],
        ];
        (planes.concat(), vec![1.0, 1.0, 0.0, 1.0, 1.0, 1.0])
    }

    #[test]
    fn token_level_counts_tokens() {
        let (terms, mask) = terms();
        let metrics = policy_loss_metrics(&terms, &mask, 3, &options(false));
        assert!((metrics.clip_low_mean - 0.2).abs() < 1e-9, "{metrics:?}");
        assert!((metrics.clip_high_mean - 0.4).abs() < 1e-9, "{metrics:?}");
        assert!((metrics.clip_region_mean - 0.6).abs() < 1e-9, "{metrics:?}");
        assert_eq!(
            (metrics.clip_low_min, metrics.clip_high_max),
            (0.0, 2.0 / 3.0)
        );
        assert!((metrics.kl - 0.24).abs() < 1e-6, "{metrics:?}");
    }

    #[test]
    fn sequence_level_counts_rows() {
        let (terms, mask) = terms();
        let metrics = policy_loss_metrics(&terms, &mask, 3, &options(true));
        assert_eq!(
            (
                metrics.clip_low_mean,
                metrics.clip_high_mean,
                metrics.clip_region_mean
            ),
            (0.5, 0.5, 1.0)
        );
        assert_eq!((metrics.clip_low_min, metrics.clip_high_max), (0.0, 1.0));
    }

    #[test]
    fn rows_without_tokens_have_no_share() {
        let (terms, _) = terms();
        let metrics =
            policy_loss_metrics(&terms, &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0], 3, &options(false));
        assert!(
            (metrics.clip_high_max - 2.0 / 3.0).abs() < 1e-9,
            "{metrics:?}"
        );
        let nothing = policy_loss_metrics(&terms, &[0.0; 6], 3, &options(false));
        assert!(
            nothing.named().iter().all(|(_, value)| *value == 0.0),
            "{nothing:?}"
        );
    }
}
