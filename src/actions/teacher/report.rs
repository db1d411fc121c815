//! What asking a teacher took: requests, tokens, money and time. Knows nothing of what the answers are worth.

use std::collections::BTreeMap;

/// What happened at a teacher since its last report. All zero for teachers that cost nothing to ask.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TeacherReport {
    /// HTTP requests that were sent, repeated ones included.
    pub requests: usize,
    /// Actions that a server wrote for this run.
    pub answered: usize,
    /// Actions that stood in the record already.
    pub cache_hits: usize,
    /// Actions that were asked for and lost, by reason.
    pub failures: BTreeMap<&'static str, usize>,
    /// Tokens of prompts, as the server counts them.
    pub input_tokens: u64,
    /// Tokens of answers, as the server counts them.
    pub output_tokens: u64,
    /// What that cost, in the currency of the entry's prices.
    pub cost: f64,
    /// Time from each request to its answer, summed over requests; they overlap.
    pub latency_s: f64,
    /// Time that the run stood still for answers.
    pub waited_s: f64,
}

impl TeacherReport {
    /// Adds what another teacher took.
    pub fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.answered += other.answered;
        self.cache_hits += other.cache_hits;
        for (reason, count) in &other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.cost += other.cost;
        self.latency_s += other.latency_s;
        self.waited_s += other.waited_s;
    }
}
