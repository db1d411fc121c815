//! The records that travel through a training step, in the order of the flow:
//! [`Example`] -> [`Prompt`] -> [`Action`] -> [`ScoredAction`] -> [`Group`] -> [`TokenBatch`].
//!
//! Plain host data. This module knows nothing of devices, files, models or rewards, and no stage adds methods
//! here that compute anything: a stage takes a record and returns it enriched.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Which of Reason-RFT's task families a row belongs to; it selects the prompt template and the accuracy reward.
///
/// The names in files are Reason-RFT's `task_name`s (method: section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Task {
    /// Visual counting.
    #[serde(rename = "clevr-math")]
    Counting,
    /// Structure perception.
    #[serde(rename = "geomath")]
    Structure,
    /// Spatial transformation, partial credit for partly right functions.
    #[serde(rename = "trance")]
    Transformation,
    /// Spatial transformation, credit for whole functions only (all published scripts).
    #[serde(rename = "trance-only-full")]
    TransformationOnlyFull,
    /// Spatial transformation, wrong parts subtract.
    #[serde(rename = "trance-penalty")]
    TransformationPenalty,
    /// Spatial transformation, whole functions only, four-tag format.
    #[serde(rename = "trance-full-caption")]
    TransformationFullCaption,
}

impl Task {
    /// Every task, in the order of the paper's table.
    pub const ALL: [Self; 6] = [
        Self::Counting,
        Self::Structure,
        Self::Transformation,
        Self::TransformationOnlyFull,
        Self::TransformationPenalty,
        Self::TransformationFullCaption,
    ];

    /// Reason-RFT's `task_name`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counting => "clevr-math",
            Self::Structure => "geomath",
            Self::Transformation => "trance",
            Self::TransformationOnlyFull => "trance-only-full",
            Self::TransformationPenalty => "trance-penalty",
            Self::TransformationFullCaption => "trance-full-caption",
        }
    }

    /// The task with this `task_name`, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }

    /// Whether the answer is a sequence of transformation functions.
    #[must_use]
    pub const fn is_transformation(self) -> bool {
        !matches!(self, Self::Counting | Self::Structure)
    }
}

/// One part of a message: text, or the place of the next picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum ContentPart {
    /// The next picture of [`Example::images`].
    Image,
    /// Literal text.
    Text {
        /// The text.
        text: String,
    },
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: String,
    /// Parts in reading order.
    pub content: Vec<ContentPart>,
}

/// Where the bytes of a picture come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageSource {
    /// A file.
    Path(PathBuf),
    /// An encoded picture (PNG, JPEG, ...) that stood in the row itself.
    Bytes(Arc<[u8]>),
}

/// One usable row of a data set.
///
/// `{id: "train-7", task: Counting, messages: [user: image, "How many ... ?"], images: [a.png], solution: "3"}`
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The row's `id`, or `<file stem>-<row>` where it has none; unique within the data set.
    pub id: String,
    /// The task family, if the row or the configuration names one.
    pub task: Option<Task>,
    /// The conversation up to the model's turn.
    pub messages: Vec<Message>,
    /// Pictures, in the order of the image parts of `messages`.
    pub images: Vec<ImageSource>,
    /// The gold answer.
    pub solution: String,
    /// A ground-truth chain of thought, for supervised fine-tuning.
    pub cot: Option<String>,
    /// The answer as the row itself writes it (a `completion`, or the model's own last turn), for supervised fine-tuning.
    pub target: Option<String>,
    /// Every column of the row as it was read, for reward functions and logs.
    pub columns: serde_json::Map<String, serde_json::Value>,
    /// `file:row` (1-based) for messages.
    pub origin: String,
}

/// A picture cut into patches as the vision tower takes them.
#[derive(Debug, Clone, PartialEq)]
pub struct ImagePatches {
    /// Frames, patch rows, patch columns.
    pub grid: [usize; 3],
    /// [P, C]: `grid` product rows of channel x frame x y x x values, normalised.
    pub pixel_values: Vec<f32>,
}

impl ImagePatches {
    /// The largest `max_pixels`: 8192 x 8192, and more tokens than any context holds.
    pub const MOST_MAX_PIXELS: usize = 1 << 26;
    /// The largest `min_pixels`: what every small picture would be blown up to.
    pub const MOST_MIN_PIXELS: usize = 1 << 24;
}

/// An example as the policy reads it.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// [`Example::id`].
    pub id: String,
    /// The chat template's output, image placeholders not yet expanded.
    pub rendered: String,
    /// [T] token ids, each image placeholder repeated once per merged patch.
    pub input_ids: Vec<u32>,
    /// [T] M-RoPE positions: temporal, height, width.
    pub positions: Vec<[u32; 3]>,
    /// Largest position + 1 - T; generated token n has position T + n + `rope_delta` on all three axes.
    pub rope_delta: i64,
    /// Pictures in the order of their placeholders.
    pub images: Vec<Arc<ImagePatches>>,
}

/// Who wrote an action.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// The policy that is being trained.
    Policy,
    /// The external model of this name.
    External(Arc<str>),
}

impl Source {
    /// `policy`, or the external model's name: what logs and files hold.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Policy => "policy",
            Self::External(name) => name,
        }
    }
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FinishReason {
    /// An end token was produced; it is the last of the ids.
    Stop,
    /// `max_completion_length` tokens without an end token.
    Length,
}

/// A whole completion of a prompt ("action" in the paper).
///
/// `{source: Policy, token_ids: [27, 3, 151645], text: "3", sampling_logprobs: Some([-0.1, -1.2, -0.0]), finish: Stop}`
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Who wrote it.
    pub source: Source,
    /// [T] policy-tokenizer ids up to and including the first end token; never empty.
    pub token_ids: Vec<u32>,
    /// The ids decoded with special tokens skipped: the text that is scored.
    pub text: String,
    /// [T] the policy's log-probability of each token when it was drawn; `None` for external actions.
    pub sampling_logprobs: Option<Vec<f32>>,
    /// [T] the external model's own log-probability of each token, where it gives them for the policy's tokens.
    pub external_logprobs: Option<Vec<f32>>,
    /// The external model's log-probability of the whole text in its own tokens, where it gives it.
    pub external_logprob_sum: Option<f32>,
    /// [T] given log-probabilities that the importance ratio is taken against; only replayed rollouts have them.
    pub old_logprobs: Option<Vec<f32>>,
    /// Why it ended.
    pub finish: FinishReason,
}

/// An action with its rewards.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredAction {
    /// The action.
    pub action: Action,
    /// One value per reward function, in configuration order; `None` = not applicable.
    pub rewards: Vec<Option<f32>>,
    /// Weighted sum of the values that are present; `None` if none is (the action then leaves the statistics).
    pub reward: Option<f32>,
    /// Whether the accuracy reward reached `pass_threshold`.
    pub passes: bool,
}

/// All actions for one prompt, and which of them train.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The example.
    pub example: Arc<Example>,
    /// Its prompt.
    pub prompt: Arc<Prompt>,
    /// The pool: policy samples first, then external actions, each in order of arrival.
    pub pool: Vec<ScoredAction>,
    /// Indices into `pool` of the actions that enter the loss, in selection order.
    pub selected: Vec<usize>,
    /// One advantage per entry of `selected`.
    pub advantages: Vec<f32>,
}

/// Which part of the loss a row belongs to; each part is averaged over its own rows and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// The policy loss of the run's `loss_type`.
    Policy,
    /// A supervised loss: mean over the tokens of this part.
    Supervised,
}

/// What a token's probability p counts in a likelihood term; p_old is p at rollout time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum LikelihoodShape {
    /// log p.
    LogLikelihood,
    /// p (1 - p) log p, the factor fixed.
    UncertaintyWeighted,
    /// p.
    Probability,
    /// p / (p + gamma).
    Shaped {
        /// Probability at which the slope is largest.
        gamma: f32,
    },
    /// sqrt(1 - p) 2 p / (p_old + (p_old + 1) / 2), the root fixed.
    ExplorationWeighted,
}

/// A likelihood term beside the policy loss: the loss of token t is -coefficient_t times the shape of its probability.
#[derive(Debug, Clone, PartialEq)]
pub struct Likelihood {
    /// What the probability counts.
    pub shape: LikelihoodShape,
    /// [T] factors, for example the advantage.
    pub coefficients: Vec<f32>,
}

/// One selected action as the learner takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRow {
    /// Index into [`TokenBatch::prompts`].
    pub prompt: usize,
    /// Who wrote it.
    pub source: Source,
    /// [T] completion ids.
    pub token_ids: Vec<u32>,
    /// [T] 1 where the token counts, 0 where it does not (a masked truncated completion is 0 throughout).
    pub mask: Vec<f32>,
    /// [T] advantage of each token.
    pub advantages: Vec<f32>,
    /// [T] log-probabilities of the policy at rollout time, if they differ from the current ones.
    pub old_logprobs: Option<Vec<f32>>,
    /// [T] log-probabilities of the frozen start, if a KL term is on.
    pub reference_logprobs: Option<Vec<f32>>,
    /// [T] log-probabilities from decoding, for the agreement check; `None` for external actions.
    pub sampling_logprobs: Option<Vec<f32>>,
    /// Factor of the KL term on this row's tokens.
    pub kl_weight: f32,
    /// A likelihood term beside the clipped surrogate.
    pub likelihood: Option<Likelihood>,
    /// The part of the loss that averages this row.
    pub component: Component,
    /// Factor of everything this row adds to the loss.
    pub scale: f32,
    /// [T] the external model's own log-probabilities, if it gave them for these tokens.
    pub external_logprobs: Option<Vec<f32>>,
    /// The external model's log-probability of the whole text, if it gave it.
    pub external_logprob_sum: Option<f32>,
}

impl TokenRow {
    /// A row of the policy whose every token counts once, without credit: what scoring and supervised fine-tuning read,
    /// and what every other row is a variation of.
    #[must_use]
    pub fn plain(prompt: usize, token_ids: Vec<u32>) -> Self {
        let tokens = token_ids.len();
        Self {
            prompt,
            source: Source::Policy,
            token_ids,
            mask: vec![1.0; tokens],
            advantages: vec![0.0; tokens],
            old_logprobs: None,
            reference_logprobs: None,
            sampling_logprobs: None,
            kl_weight: 1.0,
            likelihood: None,
            component: Component::Policy,
            scale: 1.0,
            external_logprobs: None,
            external_logprob_sum: None,
        }
    }
}

/// The selected actions of some prompts, ready for forward and backward.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenBatch {
    /// Each prompt once.
    pub prompts: Vec<Arc<Prompt>>,
    /// Rows in order of their prompt.
    pub rows: Vec<TokenRow>,
}
