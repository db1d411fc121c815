//! What asking would take, worked out without asking. Knows nothing of servers: tokens are guessed from sizes.

use std::collections::HashSet;

use super::chat::Question;
use super::failure::Failure;
use super::options::EndpointOptions;
use super::record_file::RecordFile;

/// What is missing in the record, and about what it would take.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Estimate {
    /// Actions of the examples.
    pub actions: usize,
    /// Those that stand in the record.
    pub recorded: usize,
    /// Actions that cannot be asked for, because a picture cannot be read.
    pub unreadable: usize,
    /// Requests for the others.
    pub requests: usize,
    /// Tokens of their prompts: four bytes of text or 784 pixels each.
    pub input_tokens: u64,
    /// Tokens of their answers: the mean of the recorded ones, or `max_tokens` each if there are none.
    pub output_tokens: u64,
    /// Whether `output_tokens` is the mean of recorded answers, not the upper bound.
    pub has_recorded_lengths: bool,
    /// Their price.
    pub cost: f64,
    /// What the recorded answers of this teacher cost.
    pub spent: f64,
}

impl Estimate {
    /// Adds up the questions; `one_by_one` servers need a request for each action.
    pub(super) fn of(
        options: &EndpointOptions,
        record: &RecordFile,
        one_by_one: bool,
        questions: impl Iterator<Item = Result<Question, Failure>>,
    ) -> Self {
        let totals = record.totals(&options.name);
        let mut estimate = Self {
            spent: totals.cost,
            has_recorded_lengths: totals.answers > 0,
            ..Self::default()
        };
        let answer_tokens = if totals.answers > 0 {
            totals.output_tokens.div_ceil(totals.answers as u64)
        } else {
            options.max_tokens as u64
        };
        let mut seen = HashSet::new();
        for question in questions {
            estimate.actions += options.num_actions;
            let Ok(question) = question else {
                estimate.unreadable += options.num_actions;
                continue;
            };
            let is_missing =
                |key: &&String| record.find(key).is_none() && seen.insert((*key).clone());
            let missing = question.keys.iter().filter(is_missing).count();
            estimate.recorded += question.keys.len() - missing;
            let requests = if one_by_one { missing } else { missing.min(1) };
            estimate.requests += requests;
            estimate.input_tokens +=
                requests as u64 * question.estimated_tokens(options.max_pixels);
            estimate.output_tokens += missing as u64 * answer_tokens;
        }
        estimate.cost = options
            .budget
            .price(estimate.input_tokens, estimate.output_tokens);
        estimate
    }
}
