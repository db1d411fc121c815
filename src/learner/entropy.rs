//! Which tokens are uncertain, and what their entropy adds to the loss.
//!
//! Works on host values of one micro-batch; knows nothing of models and devices. Tokens of a likelihood term have no
//! surrogate and are left out of both.

use crate::record::{TokenBatch, TokenRow};

/// [row][token] 1 where the token is among the `share` with the highest entropy of the micro-batch, else 0; `None` for a
/// share of 1, where all are. (TRL `get_high_entropy_mask`; Beyond the 80/20 Rule, arXiv 2506.01939.)
///
/// `entropies` is [row][token]. Tokens outside of the mask are 0 and do not count.
#[must_use]
pub(super) fn high_entropy_mask(
    batch: &TokenBatch,
    entropies: &[Vec<f32>],
    share: f64,
) -> Option<Vec<Vec<f32>>> {
    if share >= 1.0 {
        return None;
    }
    let rows = || batch.rows.iter().zip(entropies);
    let known = rows().flat_map(|(row, entropies)| {
        let counted = entropies.iter().enumerate();
        counted.filter_map(|(token, entropy)| counts(row, token).then_some(*entropy))
    });
    let threshold = quantile(known.collect(), (1.0 - share) as f32);
    let mask = |(row, entropies): (&TokenRow, &Vec<f32>)| {
        let flag = |(token, entropy): (usize, &f32)| {
            let uncertain = threshold.is_some_and(|threshold| *entropy >= threshold);
            f32::from(u8::from(uncertain && counts(row, token)))
        };
        entropies.iter().enumerate().map(flag).collect()
    };
    Some(rows().map(mask).collect())
}

/// [row][token] weights of the entropies in the loss of a micro-batch: -`coefficient` / the tokens that count, so that
/// the sum is -`coefficient` times their mean entropy. (TRL `_compute_loss`: the bonus acts on the tokens of `uncertain`.)
#[must_use]
pub(super) fn bonus_weights(
    batch: &TokenBatch,
    uncertain: Option<&[Vec<f32>]>,
    coefficient: f32,
) -> Vec<Vec<f32>> {
    let weight = |row: usize, token: usize| {
        let chosen = uncertain.map_or(1.0, |uncertain| uncertain[row][token]);
        chosen * f32::from(u8::from(counts(&batch.rows[row], token)))
    };
    let tokens = |row: usize| 0..batch.rows[row].token_ids.len();
    let all = || (0..batch.rows.len()).flat_map(|row| tokens(row).map(move |token| (row, token)));
    let count: f32 = all().map(|(row, token)| weight(row, token)).sum();
    let factor = -coefficient / count.max(1.0);
    (0..batch.rows.len())
        .map(|row| {
            tokens(row)
                .map(|token| factor * weight(row, token))
                .collect()
        })
        .collect()
}

fn counts(row: &TokenRow, token: usize) -> bool {
    row.likelihood.is_none() && row.mask[token] > 0.0
}

/// torch.quantile with linear interpolation, in single precision as there; `None` of nothing.
fn quantile(mut values: Vec<f32>, q: f32) -> Option<f32> {
    values.sort_unstable_by(f32::total_cmp);
    let last = values.len().checked_sub(1)?;
    let rank = q * last as f32;
    let below = (rank.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let (low, high, weight) = (values[below], values[above], rank - rank.floor());
    // torch.lerp takes the nearer end as its start.
    Some(if weight < 0.5 {
        low + weight * (high - low)
    } else {
        high - (high - low) * (1.0 - weight)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::record::{Likelihood, LikelihoodShape};

    fn golden() -> Value {
        let text = include_str!("../../tests/golden/losses.json");
        serde_json::from_str(text).expect("JSON")
    }

    #[expect(clippy::cast_possible_truncation, reason = "the learner works in f32")]
    fn table(value: &Value) -> Vec<Vec<f32>> {
        let number = |value: &Value| value.as_f64().expect("a number") as f32;
        let row = |row: &Value| row.as_array().expect("a row").iter().map(number).collect();
        value.as_array().expect("rows").iter().map(row).collect()
    }

    fn batch(mask: &[Vec<f32>]) -> TokenBatch {
        let row = |mask: &Vec<f32>| TokenRow {
            mask: mask.clone(),
            ..TokenRow::plain(0, vec![5; mask.len()])
        };
        TokenBatch {
            prompts: Vec::new(),
            rows: mask.iter().map(row).collect(),
        }
    }

    #[test]
    fn the_mask_of_uncertain_tokens_is_trls() {
        let golden = golden();
        let (batch, entropies) = (
            batch(&table(&golden["mask"])),
            table(&golden["token_entropies"]),
        );
        for case in golden["high_entropy_masks"].as_array().expect("cases") {
            let share = case["top_entropy_quantile"].as_f64().expect("a share");
            let found = high_entropy_mask(&batch, &entropies, share).expect("below 1");
            assert_eq!(found, table(&case["mask"]), "{share}");
        }
        assert_eq!(high_entropy_mask(&batch, &entropies, 1.0), None);
    }

    #[test]
    fn tokens_that_do_not_count_are_in_no_mask_and_have_no_bonus() {
        let mut some = batch(&[vec![1.0, 0.0, 1.0], vec![1.0, 1.0, 1.0]]);
        some.rows[1].likelihood = Some(Likelihood {
            shape: LikelihoodShape::LogLikelihood,
            coefficients: vec![1.0; 3],
        });
        let entropies = vec![vec![0.5, 9.0, 0.4], vec![9.0; 3]];
        let mask = high_entropy_mask(&some, &entropies, 0.5).expect("below 1");
        assert_eq!(mask, [[1.0, 0.0, 0.0], [0.0; 3]]);
        assert_eq!(
            bonus_weights(&some, None, 0.5),
            [[-0.25, 0.0, -0.25], [0.0; 3]]
        );
        assert_eq!(
            bonus_weights(&some, Some(&mask), 0.5),
            [[-0.5, 0.0, 0.0], [0.0; 3]]
        );
        let none = batch(&[vec![0.0; 2]]);
        assert_eq!(
            high_entropy_mask(&none, &[vec![1.0; 2]], 0.2),
            Some(vec![vec![0.0; 2]])
        );
        assert_eq!(bonus_weights(&none, None, 1.0), [[0.0; 2]]);
    }
}
