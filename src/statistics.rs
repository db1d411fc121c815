//! Mean, spread and pass@k: the numbers that advantages, metrics, evaluations and the study all take. Knows nothing of what
//! is counted.

/// Arithmetic mean; `None` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Unbiased variance (divisor n - 1); `None` for fewer than two values.
#[must_use]
pub fn variance(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (values.len() > 1).then(|| squares / (values.len() - 1) as f64)
}

/// Probability that at least one of `k` completions, drawn without replacement from `samples` of which `correct` are right,
/// is right: 1 - C(n-c, k)/C(n, k) as a product, so that nothing overflows (Chen et al., arXiv 2107.03374, section 2.1).
/// `None` unless 1 <= k <= n and c <= n.
#[must_use]
pub fn pass_at_k(samples: u32, correct: u32, k: u32) -> Option<f64> {
    if k == 0 || k > samples || correct > samples {
        return None;
    }
    if samples - correct < k {
        return Some(1.0);
    }
    let all_wrong: f64 = (samples - correct + 1..=samples)
        .map(|i| 1.0 - f64::from(k) / f64::from(i))
        .product();
    Some(1.0 - all_wrong)
}

/// Mean of [`pass_at_k`] over rows; `None` also without rows.
#[must_use]
pub fn mean_pass_at_k(samples: u32, correct_counts: &[u32], k: u32) -> Option<f64> {
    let rows: Vec<f64> = correct_counts
        .iter()
        .map(|correct| pass_at_k(samples, *correct, k))
        .collect::<Option<_>>()?;
    mean(&rows)
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

    #[test]
    fn the_variance_is_unbiased_and_needs_two_values() {
        assert_eq!((mean(&[]), variance(&[])), (None, None));
        assert_eq!((mean(&[3.0]), variance(&[3.0])), (Some(3.0), None));
        near(variance(&[1.0, 2.0, 4.0]).expect("three values"), 7.0 / 3.0);
    }

    /// Exact values from Python's `fractions` and `math.comb`, in the same script.
    #[test]
    fn pass_at_k_is_exact_and_stable() {
        for (samples, correct, k, expected) in GOLDEN_PASS {
            near(pass_at_k(samples, correct, k).expect("a valid k"), expected);
        }
        assert_eq!(pass_at_k(8, 0, 8), Some(0.0));
        assert_eq!(pass_at_k(8, 1, 8), Some(1.0));
        assert_eq!(pass_at_k(8, 4, 9), None, "more tries than samples");
        assert_eq!(pass_at_k(8, 9, 2), None, "more right than samples");
        assert_eq!(pass_at_k(8, 4, 0), None);
        near(mean_pass_at_k(4, &[0, 2, 4], 2).expect("rows"), 11.0 / 18.0);
        assert_eq!(mean_pass_at_k(4, &[], 2), None);
    }
    const GOLDEN_PASS: [(u32, u32, u32, f64); 5] = [
        (4, 2, 2, 5.0 / 6.0),
        (64, 1, 32, 0.5),
        (64, 5, 16, 0.775_421_167_938_354_6),
        (64, 3, 60, 0.999_903_993_855_606_8),
        (2000, 7, 500, 0.866_983_670_438_714_8),
    ];
}
