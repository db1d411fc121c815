//! The ranges that keys share, by what they count.

use super::bounds::Bounds;
pub(crate) use super::bounds::STEPS;
use super::value::Kind;
use crate::record::ImagePatches;

/// Most rows or completions of a batch.
pub(crate) const ROWS: u64 = 1_000_000;
/// Most actions of one prompt.
pub(crate) const ACTIONS: u64 = 65_536;
/// Most tokens of a prompt or a completion.
pub(crate) const TOKENS: u64 = 1_048_576;
/// The largest `min_pixels` and `max_pixels`.
pub(crate) const PIXELS: [u64; 2] = [
    ImagePatches::MOST_MIN_PIXELS as u64,
    ImagePatches::MOST_MAX_PIXELS as u64,
];
/// The largest seed.
pub(crate) const SEED: u64 = i64::MAX as u64;

/// From 0 to 1.
pub(crate) const SHARE: Kind = from_to(0.0, 1.0);
/// A factor or a price.
pub(crate) const AMOUNT: Kind = from_to(0.0, 1e6);
/// A reward or its weight.
pub(crate) const REWARD: Kind = from_to(-1e6, 1e6);
/// Divides logits; smaller ones leave no number in an f32.
pub(crate) const TEMPERATURE: Kind = from_to(1e-3, 1e3);
/// Divides logits, or 0 for the most probable token each time.
pub(crate) const TEMPERATURE_OR_GREEDY: Kind = zero_or(1e-3, 1e3);
/// A share of probability.
pub(crate) const NUCLEUS: Kind = from_to(1e-6, 1.0);
/// Seconds to wait.
pub(crate) const SECONDS: Kind = from_to(1e-3, 1e6);

/// A number within a range.
pub(crate) const fn from_to(low: f64, high: f64) -> Kind {
    Kind::Number(Bounds {
        low,
        high,
        or_zero: false,
    })
}

/// 0, or a number within a range.
pub(crate) const fn zero_or(low: f64, high: f64) -> Kind {
    Kind::Number(Bounds {
        low,
        high,
        or_zero: true,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_ends_belong_and_are_named() {
        for (kind, inside, outside, words) in [
            (SHARE, [0.0, 1.0], [-0.1, 1.1], "a number from 0 to 1"),
            (
                NUCLEUS,
                [1e-6, 1.0],
                [1e-46, 1.1],
                "a number from 1e-6 to 1",
            ),
            (
                TEMPERATURE_OR_GREEDY,
                [0.0, 1000.0],
                [1e-46, 1e39],
                "0 or a number from 0.001 to 1000",
            ),
            (
                REWARD,
                [-1e6, 1e6],
                [-1e39, 1e39],
                "a number from -1e6 to 1e6",
            ),
        ] {
            assert_eq!(kind.description(), words);
            assert!(
                inside.iter().all(|x| kind.read(&json!(x)).is_ok()),
                "{words}"
            );
            assert!(
                outside.iter().all(|x| kind.read(&json!(x)).is_err()),
                "{words}"
            );
        }
    }
}
