//! Rotary frequencies of a head: plain, stretched evenly, or by YaRN.
//!
//! Follows transformers' `modeling_rope_utils.py` operation by operation, in f32 where it computes in f32. Knows nothing
//! of positions or tensors.

use std::f64::consts::TAU;

use super::config::{Rope, RopeScaling};

/// theta^(-i/count) for i in 0..count, in f32 as transformers computes them.
pub(crate) fn inverse_frequencies(theta: f64, count: usize) -> Vec<f32> {
    powers(theta, count).map(|power| 1.0 / power).collect()
}

fn powers(theta: f64, count: usize) -> impl Iterator<Item = f32> {
    (0..count).map(move |index| (theta as f32).powf(index as f32 / count as f32))
}

/// The `count` = E/2 frequencies of the text model, and the factor on their cosines and sines.
pub(crate) fn text_frequencies(rope: &Rope, count: usize) -> (Vec<f32>, f32) {
    let plain = inverse_frequencies(rope.theta, count);
    match rope.scaling {
        RopeScaling::Plain => (plain, 1.0),
        RopeScaling::Linear { factor } => (
            plain.iter().map(|value| value / factor as f32).collect(),
            1.0,
        ),
        RopeScaling::Yarn {
            factor,
            attention_factor,
            ..
        } => {
            let ramp = ramp(rope, count);
            let stretched = powers(rope.theta, count).map(|power| 1.0 / (factor as f32 * power));
            let parts = stretched.zip(plain).zip(ramp);
            let mixed = parts.map(|((slow, fast), share)| {
                // As transformers writes it: the share is of the fast ones, and rounds as 1 - (1 - share).
                let kept = 1.0 - share;
                slow * (1.0 - kept) + fast * kept
            });
            (mixed.collect(), attention_factor as f32)
        }
    }
}

/// How far each frequency is stretched, from 0 (fast) to 1 (slow).
///
/// Source: `find_correction_range` and `linear_ramp_factor` of `_compute_yarn_parameters`.
fn ramp(rope: &Rope, count: usize) -> Vec<f32> {
    let RopeScaling::Yarn {
        beta_fast,
        beta_slow,
        original,
        truncate,
        ..
    } = rope.scaling
    else {
        return vec![0.0; count];
    };
    let width = 2.0 * count as f64;
    let place = |turns: f64| width * (original / (turns * TAU)).ln() / (2.0 * rope.theta.ln());
    let (mut low, mut high) = (place(beta_fast), place(beta_slow));
    if truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(width - 1.0));
    if low == high {
        high += 0.001;
    }
    let share = |index: usize| (index as f32 - low as f32) / (high - low) as f32;
    (0..count)
        .map(|index| share(index).clamp(0.0, 1.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yarn(factor: f64, original: f64, truncate: bool) -> Rope {
        Rope {
            theta: 1e6,
            section: [16, 24, 24],
            scaling: RopeScaling::Yarn {
                factor,
                attention_factor: 0.1 * factor.ln() + 1.0,
                beta_fast: 32.0,
                beta_slow: 1.0,
                original,
                truncate,
            },
        }
    }

    fn assert_close(found: f32, expected: f64) {
        let difference = (f64::from(found) - expected).abs();
        assert!(
            difference <= 2e-6 * expected.abs(),
            "{found} against {expected}"
        );
    }

    /// The recipe of the Qwen2.5-VL card: heads of 128, base 1e6, factor 4 over 32,768 tokens. By hand: frequencies are fast
    /// up to floor(128 ln(32768/(32 tau)) / (2 ln 1e6)) = 23, slow from ceil(128 ln(32768/tau) / (2 ln 1e6)) = 40 on.
    #[test]
    fn yarn_keeps_fast_frequencies_and_stretches_slow_ones() {
        let (found, scale) = text_frequencies(&yarn(4.0, 32_768.0, true), 64);
        assert_close(scale, 1.138_629_436_111_989);
        let plain = |index: usize| 1e6_f64.powf(-(index as f64) / 64.0);
        for index in 0..=23 {
            assert_close(found[index], plain(index));
        }
        for index in 24..40 {
            let share = (index as f64 - 23.0) / 17.0;
            assert_close(found[index], plain(index) * (share / 4.0 + 1.0 - share));
        }
        for index in 40..64 {
            assert_close(found[index], plain(index) / 4.0);
        }
    }

    #[test]
    fn bounds_may_lie_between_frequencies_and_coincide() {
        let (rounded, _) = text_frequencies(&yarn(4.0, 32_768.0, true), 64);
        let (exact, _) = text_frequencies(&yarn(4.0, 32_768.0, false), 64);
        // 128 ln(32768/(32 tau)) / (2 ln 1e6) = 23.59, so the 24th is less stretched than from 23 on.
        assert!(
            exact[24] > rounded[24],
            "{} against {}",
            exact[24],
            rounded[24]
        );
        // Half a turn less than one of the slowest: both bounds are cut at 0, and only the first frequency is fast.
        let (short, _) = text_frequencies(&yarn(4.0, 6.0, true), 64);
        assert_close(short[0], 1.0);
        assert_close(short[1], 1e6_f64.powf(-1.0 / 64.0) / 4.0);
    }

    #[test]
    fn linear_scaling_divides_all() {
        let rope = Rope {
            scaling: RopeScaling::Linear { factor: 8.0 },
            ..yarn(1.0, 1.0, true)
        };
        let (found, scale) = text_frequencies(&rope, 4);
        assert_close(scale, 1.0);
        for (found, expected) in found.iter().zip([1.0, 0.031_622_776, 1e-3, 3.162_277_6e-5]) {
            assert_close(*found, expected / 8.0);
        }
    }
}
