//! What was found: scored completions, those that have no example, and the means. Knows nothing of how it is shown.

use super::completion_rows::CompletionRow;
use crate::actions::reward::{answer_or_text, tagged_answer};
use crate::record::{Example, ScoredAction};
use crate::run::metrics::mean_ignoring_nan;

/// A scored completion.
pub(super) struct Checked<'a> {
    /// As it was given.
    pub row: &'a CompletionRow,
    /// What it answers.
    pub example: &'a Example,
    /// What it earned.
    pub scored: &'a ScoredAction,
}

/// A completion that could not be scored.
pub(super) struct LeftOut {
    /// `file:line`.
    pub place: String,
    /// The id without an example.
    pub id: String,
    /// Why there is none.
    pub reason: String,
}

/// Everything that was found.
pub(super) struct Report<'a> {
    /// The rewards, in configuration order.
    pub names: Vec<String>,
    /// In file order; never empty.
    pub checked: Vec<Checked<'a>>,
    /// In file order.
    pub left_out: Vec<LeftOut>,
}

/// The mean of a reward.
pub(super) struct Mean {
    /// Over the values that are present, if any is.
    pub mean: Option<f64>,
    /// Values that are null.
    pub null: usize,
}

impl Checked<'_> {
    /// The content of the completion's answer tags.
    pub(super) fn answer(&self) -> Option<&str> {
        tagged_answer(&self.row.text)
    }

    /// The gold answer.
    pub(super) fn gold(&self) -> &str {
        answer_or_text(&self.example.solution)
    }
}

impl Report<'_> {
    /// The mean of one reward.
    pub(super) fn mean(&self, index: usize) -> Mean {
        mean(self.checked.iter().map(|one| one.scored.rewards[index]))
    }

    /// The mean of the weighted sums.
    pub(super) fn mean_sum(&self) -> Mean {
        mean(self.checked.iter().map(|one| one.scored.reward))
    }

    /// Completions that pass.
    pub(super) fn passing(&self) -> usize {
        self.checked.iter().filter(|one| one.scored.passes).count()
    }

    /// Completions without answer tags.
    pub(super) fn untagged(&self) -> usize {
        self.checked
            .iter()
            .filter(|one| one.answer().is_none())
            .count()
    }
}

fn mean(values: impl Iterator<Item = Option<f32>> + Clone) -> Mean {
    let numbers = values
        .clone()
        .map(|value| value.map_or(f64::NAN, f64::from));
    Mean {
        // Without a value the mean is not a number.
        mean: Some(mean_ignoring_nan(numbers)).filter(|mean| mean.is_finite()),
        null: values.filter(Option::is_none).count(),
    }
}
