//! Rewards that look at how long or how repetitive a completion is; they are told whether it is correct.

use std::collections::HashSet;
use std::f32::consts::PI;

/// Weight of the length reward.
const LENGTH_SCALE: f32 = 0.05;
/// Optimizer steps before the length reward sets in.
const LENGTH_START_STEP: usize = 800;

/// Shortest and longest completion of a batch, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CharacterRange {
    /// Characters of the shortest.
    pub shortest: usize,
    /// Characters of the longest.
    pub longest: usize,
}

impl CharacterRange {
    /// The range over some texts; `None` without any.
    #[must_use]
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let lengths = texts.into_iter().map(|text| text.chars().count());
        lengths.fold(None, |range: Option<Self>, length| {
            let range = range.unwrap_or(Self {
                shortest: length,
                longest: length,
            });
            Some(Self {
                shortest: range.shortest.min(length),
                longest: range.longest.max(length),
            })
        })
    }
}

/// 0.05 λ for a correct completion, 0.05 min(0, λ) otherwise, λ = ½ − (length − shortest)/(longest − shortest) in
/// characters over the batch; 0 before step 800 and where all lengths are equal.
/// (Kimi 1.5, arXiv 2501.12599; Reason-RFT `len_reward`.)
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "completions are far shorter than 2^24 characters"
)]
pub fn length_reward(text: &str, correct: bool, range: CharacterRange, step: usize) -> f32 {
    if step < LENGTH_START_STEP || range.shortest == range.longest {
        return 0.0;
    }
    let length = text.chars().count().clamp(range.shortest, range.longest);
    let position = (length - range.shortest) as f32 / (range.longest - range.shortest) as f32;
    let lambda = 0.5 - position;
    LENGTH_SCALE * if correct { lambda } else { lambda.min(0.0) }
}

/// Half a cosine wave over the share of `max_completion_length` used: from 1 down to 0.5 for a correct completion,
/// from −1 up to −0.5 for a wrong one. (arXiv 2502.03373; open-r1 `get_cosine_scaled_reward` with its own defaults,
/// but measured in tokens.)
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "completions are far shorter than 2^24 tokens"
)]
pub fn cosine_reward(tokens: usize, correct: bool, max_completion_length: usize) -> f32 {
    let progress = (tokens as f32 / max_completion_length.max(1) as f32).min(1.0);
    let (longest, shortest) = if correct { (0.5, 1.0) } else { (-0.5, -1.0) };
    longest + 0.5 * (shortest - longest) * (1.0 + (progress * PI).cos())
}

/// 0 up to `max_completion_length − cache` tokens, then falling to −1 at `max_completion_length`.
/// (DAPO, arXiv 2503.14476, Eq. 13; TRL `get_soft_overlong_punishment`.)
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "completions are far shorter than 2^24 tokens"
)]
pub fn soft_overlong_punishment(tokens: usize, max_completion_length: usize, cache: usize) -> f32 {
    if tokens > max_completion_length {
        return -1.0;
    }
    // As far into the cache as the completion reaches, counted from the far end so that nothing is negative.
    let excess = (tokens + cache).saturating_sub(max_completion_length);
    if excess == 0 {
        0.0
    } else {
        -(excess as f32) / cache as f32
    }
}

/// −(1 − distinct n-grams / n-grams) over the token ids, n = 3; 0 for fewer than n tokens.
/// (arXiv 2502.03373, appendix C.2; TRL `get_repetition_penalty_reward` with its defaults.)
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "completions are far shorter than 2^24 tokens"
)]
pub fn repetition_penalty(token_ids: &[u32]) -> f32 {
    let total = token_ids.len().saturating_sub(2);
    let distinct = token_ids.windows(3).collect::<HashSet<_>>().len();
    if total == distinct {
        0.0
    } else {
        distinct as f32 / total as f32 - 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_reward_prefers_short_correct_completions() {
        let range = CharacterRange::of(["é", "abc", "abcde"]).expect("three texts");
        assert_eq!(
            range,
            CharacterRange {
                shortest: 1,
                longest: 5
            }
        );
        assert_eq!(length_reward("é", true, range, 800), 0.025);
        assert_eq!(length_reward("é", false, range, 800), 0.0);
        assert_eq!(length_reward("abcde", true, range, 800), -0.025);
        assert_eq!(length_reward("abcde", false, range, 800), -0.025);
        assert_eq!(length_reward("abc", true, range, 800), 0.0);
        assert_eq!(length_reward("é", true, range, 799), 0.0);
        let equal = CharacterRange {
            shortest: 3,
            longest: 3,
        };
        assert_eq!(length_reward("abc", true, equal, 800), 0.0);
        assert_eq!(CharacterRange::of([]), None);
    }

    #[test]
    fn cosine_reward_runs_between_its_ends() {
        let near = |found: f32, expected: f32| {
            assert!((found - expected).abs() < 1e-6, "{found}, not {expected}")
        };
        near(cosine_reward(0, true, 100), 1.0);
        near(cosine_reward(50, true, 100), 0.75);
        near(cosine_reward(100, true, 100), 0.5);
        near(cosine_reward(0, false, 100), -1.0);
        near(cosine_reward(100, false, 100), -0.5);
        near(cosine_reward(500, false, 100), -0.5);
    }

    #[test]
    fn soft_overlong_punishment_is_the_one_of_trl() {
        assert_eq!(soft_overlong_punishment(80, 100, 20), 0.0);
        assert_eq!(soft_overlong_punishment(90, 100, 20), -0.5);
        assert_eq!(soft_overlong_punishment(100, 100, 20), -1.0);
        assert_eq!(soft_overlong_punishment(101, 100, 20), -1.0);
        assert_eq!(soft_overlong_punishment(100, 100, 0), 0.0);
        assert_eq!(soft_overlong_punishment(101, 100, 0), -1.0);
    }

    #[test]
    fn repetition_penalty_counts_repeated_trigrams() {
        assert_eq!(repetition_penalty(&[1, 2, 3, 4, 5]), 0.0);
        assert_eq!(repetition_penalty(&[5, 5]), 0.0);
        assert_eq!(repetition_penalty(&[]), 0.0);
        assert_eq!(repetition_penalty(&[5, 5, 5, 5, 5, 5]), -0.75);
    }
}
