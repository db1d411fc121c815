//! How host code reaches any model that writes completions: the trait [`Generate`] and its sampling parameters.
//!
//! Knows nothing of devices: the policy and local teachers implement it, and so does the tests' stand-in.

use std::sync::Arc;

use crate::record::{FinishReason, Prompt};

/// How completions are drawn. The filters apply in Hugging Face's order: temperature, top-k, top-p, min-p.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParameters {
    /// Divides the logits; 0 takes the most probable token.
    pub temperature: f32,
    /// Keep this many tokens; 0 keeps all.
    pub top_k: usize,
    /// Keep the most probable tokens up to this mass; 1 keeps all.
    pub top_p: f32,
    /// Keep tokens of at least this share of the largest probability; 0 keeps all.
    pub min_p: f32,
    /// Positive logits of tokens that prompt or completion already hold are divided by it, negative ones multiplied; 1 =
    /// off. The kept log-probability is that without it (transformers: `RepetitionPenaltyLogitsProcessor`).
    pub repetition_penalty: f32,
    /// Longest completion in tokens, end token included.
    pub max_new_tokens: usize,
    /// Divides the logits for the log-probability that is kept: the temperature of training's softmax.
    pub logprob_temperature: f32,
    /// Any of these ends a completion.
    pub end_tokens: Vec<u32>,
    /// [V] tokens that must never be drawn; they have probability 0 in the kept log-probability too.
    pub suppressed: Option<Arc<[bool]>>,
    /// Completions in the making at once; the others wait for one to end. `None` takes what memory allows. Changes how
    /// fast they are made, not which tokens are drawn.
    pub generation_rows: Option<usize>,
    /// Same seed, same device: same tokens.
    pub seed: u64,
}

/// A completion as it was drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// [T] up to and including the first end token.
    pub token_ids: Vec<u32>,
    /// [T] log-probability of each, not filtered by top-k, top-p or min-p.
    pub logprobs: Vec<f32>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// Why a model cannot write.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The model's output is NaN or infinite.
    #[error(
        "prompt `{id}`: the logits of completion token {token} are not finite\nhint: the weights diverged or are damaged; go back to an earlier checkpoint or lower learning_rate"
    )]
    NotFinite {
        /// [`Prompt::id`].
        id: String,
        /// Index of the token.
        token: usize,
    },
    /// The model cannot be run, with the remedy.
    #[error("{0}")]
    Failed(String),
    /// Prompt and completion do not fit.
    #[error(
        "prompt `{id}` has {prompt} tokens; with {completion} new ones it exceeds the model's {context}\nhint: lower max_completion_length or max_pixels"
    )]
    TooLong {
        /// [`Prompt::id`].
        id: String,
        /// Its tokens.
        prompt: usize,
        /// Tokens to be drawn.
        completion: usize,
        /// The model's context.
        context: usize,
    },
}

/// A model that writes completions.
pub trait Generate {
    /// `count` completions of each prompt.
    ///
    /// # Errors
    /// If the model's output is not finite or a prompt does not fit.
    fn generate(
        &self,
        prompts: &[Arc<Prompt>],
        count: usize,
        parameters: &SamplingParameters,
    ) -> Result<Vec<Vec<Sampled>>, GenerateError>;
}
