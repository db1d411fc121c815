//! The study's arithmetic: summaries over seeds, paired differences with Student-t intervals, curves.
//!
//! Plain functions of numbers. Knows nothing of runs, methods or tables.

use std::collections::BTreeMap;

use statrs::distribution::{ContinuousCDF, StudentsT};

pub use crate::statistics::{mean, mean_pass_at_k};

use crate::statistics::variance;

/// Confidence of every interval.
pub const CONFIDENCE: f64 = 0.95;

/// Values over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their unbiased standard deviation; `None` for one value.
    pub deviation: Option<f64>,
}

/// Mean and deviation; `None` of nothing.
#[must_use]
pub fn summarize(values: &[f64]) -> Option<Summary> {
    Some(Summary {
        count: values.len(),
        mean: mean(values)?,
        deviation: variance(values).map(f64::sqrt),
    })
}

/// An estimated mean with its confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// Values it rests on.
    pub count: usize,
    /// The mean.
    pub mean: f64,
    /// Lower and upper bound at [`CONFIDENCE`]; `None` for one value.
    pub interval: Option<(f64, f64)>,
}

/// Mean of the values, with Student's t interval of n - 1 degrees of freedom; `None` of nothing.
#[must_use]
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let mean = mean(values)?;
    let count = values.len();
    let half = variance(values).and_then(|variance| {
        Some((variance / count as f64).sqrt() * t_quantile(count as f64 - 1.0)?)
    });
    Some(Estimate {
        count,
        mean,
        interval: half.map(|half| (mean - half, mean + half)),
    })
}

/// Differences `ours - theirs` of the seeds that both have.
#[must_use]
pub fn paired_differences(ours: &BTreeMap<u64, f64>, theirs: &BTreeMap<u64, f64>) -> Vec<f64> {
    ours.iter()
        .filter_map(|(seed, value)| Some(value - theirs.get(seed)?))
        .collect()
}

/// Mean over the strata (each weighing the same) of their means, whose values are independent; the interval has
/// Welch-Satterthwaite's degrees of freedom. `None` without strata or with an empty one; no interval if a stratum has one value.
#[must_use]
pub fn stratified_estimate(strata: &[Vec<f64>]) -> Option<Estimate> {
    let means: Vec<f64> = strata
        .iter()
        .map(|values| mean(values))
        .collect::<Option<_>>()?;
    let mean = mean(&means)?;
    let count = strata.iter().map(Vec::len).sum();
    let errors: Option<Vec<(f64, f64)>> = strata
        .iter()
        .map(|values| {
            let scale = (values.len() * strata.len() * strata.len()) as f64;
            Some((variance(values)? / scale, values.len() as f64 - 1.0))
        })
        .collect();
    let half = errors.and_then(|errors| {
        let total: f64 = errors.iter().map(|(error, _)| error).sum();
        if total == 0.0 {
            return Some(0.0);
        }
        let spread: f64 = errors
            .iter()
            .map(|(error, free)| error.powi(2) / free)
            .sum();
        Some(total.sqrt() * t_quantile(total.powi(2) / spread)?)
    });
    Some(Estimate {
        count,
        mean,
        interval: half.map(|half| (mean - half, mean + half)),
    })
}

/// The t value that [`CONFIDENCE`] of the distribution lies within on both sides.
fn t_quantile(degrees_of_freedom: f64) -> Option<f64> {
    let distribution = StudentsT::new(0.0, 1.0, degrees_of_freedom).ok()?;
    Some(distribution.inverse_cdf(0.5 + CONFIDENCE / 2.0))
}

/// A window of a tenth of the values, at least one.
#[must_use]
pub fn tenth(count: usize) -> usize {
    count.div_ceil(10).max(1)
}

/// Mean of each value and the `window - 1` before it; `None` until the window is full.
#[must_use]
pub fn trailing_means(values: &[f64], window: usize) -> Vec<Option<f64>> {
    let window = window.max(1);
    let full = |end: usize| {
        end.checked_sub(window)
            .and_then(|start| mean(&values[start..end]))
    };
    (1..=values.len()).map(full).collect()
}

/// Index of the first value whose trailing mean is at least `level`.
#[must_use]
pub fn first_reaching(values: &[f64], window: usize, level: f64) -> Option<usize> {
    trailing_means(values, window)
        .iter()
        .position(|mean| mean.is_some_and(|mean| mean >= level))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < 1e-9,
            "expected {expected}, found {found}"
        );
    }

    /// The expected numbers were printed by `python3 tests/golden/study/expected_values.py` (scipy, fractions).
    #[test]
    fn a_difference_has_scipys_t_interval() {
        let ours = BTreeMap::from([(1, 0.71), (2, 0.68), (3, 0.74), (7, 0.99)]);
        let theirs = BTreeMap::from([(1, 0.66), (2, 0.65), (3, 0.67), (9, 0.11)]);
        let differences = paired_differences(&ours, &theirs);
        let found = estimate(&differences).expect("three seeds");
        assert_eq!(found.count, 3, "seeds 7 and 9 have no partner");
        near(found.mean, 0.05);
        let (low, high) = found.interval.expect("three seeds");
        near(low, GOLDEN_PAIRED.0);
        near(high, GOLDEN_PAIRED.1);
    }
    const GOLDEN_PAIRED: (f64, f64) = (0.000_317_245_764_993, 0.099_682_754_235_007);

    #[test]
    fn t_quantiles_are_scipys() {
        for (free, expected) in [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (3.5, 2.940_088_637_982_728),
            (9.0, 2.262_157_162_798_205),
        ] {
            near(t_quantile(free).expect("a distribution"), expected);
        }
    }

    #[test]
    fn a_stratified_estimate_is_welchs() {
        let strata = [
            vec![0.05, 0.03, 0.07],
            vec![0.02, 0.10, 0.06],
            vec![-0.01, 0.01, 0.00],
        ];
        let found = stratified_estimate(&strata).expect("full strata");
        assert_eq!(found.count, 9);
        near(found.mean, GOLDEN_STRATIFIED.0);
        let (low, high) = found.interval.expect("three values each");
        near(low, GOLDEN_STRATIFIED.1);
        near(high, GOLDEN_STRATIFIED.2);
        assert_eq!(stratified_estimate(&[vec![1.0], vec![]]), None);
        let single = stratified_estimate(&[vec![1.0], vec![2.0, 4.0]]).expect("values");
        assert_eq!((single.mean, single.interval), (2.0, None));
    }
    /// 42/13 degrees of freedom.
    const GOLDEN_STRATIFIED: (f64, f64, f64) = (
        0.036_666_666_666_667,
        0.009_700_868_787_876,
        0.063_632_464_545_457,
    );

    #[test]
    fn few_values_give_no_spread() {
        assert_eq!(summarize(&[]), None);
        let one = summarize(&[0.5]).expect("one value");
        assert_eq!((one.count, one.mean, one.deviation), (1, 0.5, None));
        assert_eq!(estimate(&[0.5]).expect("one value").interval, None);
        let two = summarize(&[1.0, 2.0]).expect("two values");
        near(
            two.deviation.expect("two values"),
            std::f64::consts::FRAC_1_SQRT_2,
        );
    }

    #[test]
    fn a_level_is_reached_by_the_mean_of_a_full_window() {
        let values = [0.0, 9.0, 0.0, 3.0, 3.0, 4.0];
        assert_eq!(
            trailing_means(&values, 3)[..3],
            [None, None, Some(3.0)],
            "two values do not fill the window"
        );
        assert_eq!(first_reaching(&values, 1, 5.0), Some(1));
        assert_eq!(first_reaching(&values, 3, 3.5), Some(3), "(9 + 0 + 3)/3");
        assert_eq!(first_reaching(&values, 3, 4.5), None);
        assert_eq!((tenth(0), tenth(9), tenth(150), tenth(151)), (1, 1, 15, 16));
    }
}
