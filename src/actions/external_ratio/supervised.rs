//! The supervised ways to learn from external actions: CHORD's mixture, HPT's switch, plain likelihood.
//!
//! Decides which selected actions stay and how large the supervised part is; knows nothing of tokens.

use crate::options::SupervisedShare;
use crate::record::{Group, Source};

impl SupervisedShare {
    /// mu at optimizer step `step`, from 0 (CHORD, arXiv 2508.11408; ms-swift's `chord_mu_*`).
    ///
    /// peak s / warmup while s < warmup; then valley + (peak - valley) (1 + cos pi u) / 2 with
    /// u = min(1, (s - warmup) / decay).
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "step counts are far below 2^52")]
    pub fn at(self, step: u64) -> f64 {
        match self {
            Self::Constant(share) => share,
            Self::Course {
                peak, warmup_steps, ..
            } if step < warmup_steps => peak * step as f64 / warmup_steps as f64,
            Self::Course {
                peak,
                valley,
                warmup_steps,
                decay_steps,
            } => {
                let done = ((step - warmup_steps) as f64 / decay_steps.max(1) as f64).min(1.0);
                valley + (peak - valley) * 0.5 * (1.0 + (std::f64::consts::PI * done).cos())
            }
        }
    }
}

/// CHORD's default filter: external actions stay only if they pass.
pub(super) fn keep_passing(group: &mut Group) {
    let pool = &group.pool;
    group
        .selected
        .retain(|&index| pool[index].action.source == Source::Policy || pool[index].passes);
}

/// HPT (Unify-Post-Training): where no policy action passes, the group is one right external action to imitate; else, and
/// where no external action is right either, the policy's own actions.
pub(super) fn switch_to_demonstration(group: &mut Group) {
    let is_own = |index: &usize| group.pool[*index].action.source == Source::Policy;
    let solved = group
        .pool
        .iter()
        .any(|scored| scored.action.source == Source::Policy && scored.passes);
    let reward = |index: &usize| group.pool[*index].reward.unwrap_or(f32::NEG_INFINITY);
    // Of equals the first.
    let demonstration = (0..group.pool.len())
        .rev()
        .filter(|index| !is_own(index) && group.pool[*index].passes)
        .max_by(|a, b| reward(a).total_cmp(&reward(b)));
    group.selected = match demonstration {
        Some(demonstration) if !solved => vec![demonstration],
        _ => (0..group.pool.len()).filter(is_own).collect(),
    };
}

/// The control of the method's section 6, row b: only the external actions that selection kept.
pub(super) fn keep_external(group: &mut Group) {
    let pool = &group.pool;
    group
        .selected
        .retain(|&index| pool[index].action.source != Source::Policy);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Worked out with Python's `math`: peak 0.9, valley 0.05, 20 steps up, 80 down.
    #[test]
    fn the_share_rises_and_falls_as_chord_says() {
        let course = SupervisedShare::Course {
            peak: 0.9,
            valley: 0.05,
            warmup_steps: 20,
            decay_steps: 80,
        };
        for (step, expected) in [
            (0, 0.0),
            (5, 0.225),
            (20, 0.9),
            (40, 0.775_520_382),
            (60, 0.475),
            (100, 0.05),
            (5000, 0.05),
        ] {
            let found = course.at(step);
            assert!(
                (found - expected).abs() < 1e-9,
                "step {step}: {found}, expected {expected}"
            );
        }
        assert_eq!(SupervisedShare::Constant(0.1).at(7), 0.1);
    }
}
