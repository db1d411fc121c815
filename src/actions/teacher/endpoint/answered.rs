//! One action of a question, answered or lost, and its share of what the request took. Knows nothing of how it was asked
//! for or where it is kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::reply::{Choice, Usage};

/// One action of a question, answered or lost.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    /// Which action.
    pub(super) sample: usize,
    pub(super) choice: Result<Choice, Failure>,
    pub(super) usage: Option<RecordedUsage>,
    pub(super) price: f64,
    pub(super) latency: Duration,
    /// Parameters that the server refused, so that it was asked without them.
    pub(super) left_out: Vec<&'static str>,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedUsage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Whether the server did not say, and text was counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl RecordedUsage {
    /// Share `index` of `count` equal parts; the first takes what is left over.
    pub(super) fn share(usage: Usage, estimated: bool, index: usize, count: usize) -> Self {
        let part = |tokens: u64| {
            let count = count.max(1) as u64;
            tokens / count + if index == 0 { tokens % count } else { 0 }
        };
        Self {
            prompt_tokens: part(usage.input_tokens),
            completion_tokens: part(usage.output_tokens),
            estimated,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        let usage = Usage {
            input_tokens: 11,
            output_tokens: 7,
        };
        let shares: Vec<_> = (0..3)
            .map(|index| RecordedUsage::share(usage, false, index, 3))
            .collect();
        let prompts: Vec<u64> = shares.iter().map(|share| share.prompt_tokens).collect();
        assert_eq!(prompts, [5, 3, 3]);
        let completions = shares.iter().map(|share| share.completion_tokens);
        assert_eq!(completions.sum::<u64>(), 7);
    }
}
