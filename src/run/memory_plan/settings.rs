//! What a plan depends on: sizes of models, prompts and batches, and how weights are held and trained.
//!
//! Numbers and words only; knows neither the configuration's keys nor files.

use std::collections::{BTreeMap, BTreeSet};

use crate::kernels::Storage;
use crate::model::config::{ModelConfig, TextConfig};
use crate::model::generate::{CacheRoom, TOKENS_AT_ONCE};
use crate::model::parameters::spec::ParameterSpec;

/// More prompts than any cache holds at once.
const MOST_PROMPTS: usize = 1 << 20;

/// A run in numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Sizes of the policy.
    pub model: ModelConfig,
    /// How its weights that do not train are held.
    pub formats: Formats,
    /// What of it trains.
    pub trained: Trained,
    /// What the run is for.
    pub work: Work,
    /// Where it computes.
    pub place: Place,
    /// Bytes of the files that the tokenizer is made of.
    pub tokenizer_bytes: u64,
    /// Whether a block is computed again in the backward pass, so that only its input is kept.
    pub gradient_checkpointing: bool,
    /// Whether gradients wait for each other: for their common norm, or for those of further micro-batches.
    pub keeps_gradients: bool,
    /// Whether a KL term compares with the start of the run.
    pub reference: bool,
    /// Whether log-probabilities are taken before the update, of the reference or of the policy itself.
    pub scores: bool,
    /// Prompts of a generation batch (Q).
    pub prompts: usize,
    /// Completions drawn per prompt (N).
    pub samples: usize,
    /// Completions in the making at once; `None` = as many as the cache's own bound allows.
    pub generation_rows: Option<usize>,
    /// Actions kept per prompt (G); 1 in supervised fine-tuning, where every row has a prompt of its own.
    pub group: usize,
    /// Micro-batches of a generation batch.
    pub micro_batches: usize,
    /// Micro-batches of an optimizer step.
    pub accumulation: usize,
    /// Tokens of a completion at most.
    pub completion_tokens: usize,
    /// The largest prompt in each respect.
    pub prompt: PromptSizes,
    /// Models of others on the same device.
    pub teachers: Vec<TeacherSettings>,
    /// Whether their weights leave the memory where they are not asked.
    pub unload_teachers: bool,
}

/// What a run is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Sampling and learning.
    Training,
    /// Learning from given text.
    Supervised,
}

/// Where a run computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The processor: device memory is that of the process, and frozen weights are pages of mapped files.
    Cpu,
    /// A GPU with memory of its own; what lies on the host besides is not counted.
    Gpu,
}

/// How frozen weights are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formats {
    /// Matrices of the layers.
    pub matrices: Storage,
    /// Embedding and head.
    pub tables: Storage,
}

/// What trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Trained {
    /// The model's own weights.
    Weights {
        /// Tower and projector too.
        vision: bool,
    },
    /// Adapters beside them.
    Adapters(Adapters),
}

/// Low-rank adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapters {
    /// r.
    pub rank: usize,
    /// Whether some of their inputs are dropped: each adapter then keeps its own.
    pub dropout: bool,
    /// Linear layers that have one, by hub name.
    pub modules: BTreeSet<String>,
    /// Values of the parameters that train whole, by hub name.
    pub whole: BTreeMap<String, usize>,
}

/// Sizes of the largest prompt, in each respect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PromptSizes {
    /// Tokens, those of pictures included.
    pub tokens: usize,
    /// Pictures.
    pub pictures: usize,
    /// Patches of the largest picture, before they are merged.
    pub picture_patches: usize,
}

/// A frozen model that writes actions.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherSettings {
    /// Its sizes.
    pub model: ModelConfig,
    /// How its weights are held.
    pub formats: Formats,
    /// Actions per prompt.
    pub actions: usize,
    /// Tokens of an action at most.
    pub completion_tokens: usize,
}

impl Settings {
    /// Completions of a generation batch.
    pub(super) const fn completions(&self) -> usize {
        match self.work {
            Work::Training => self.prompts.saturating_mul(self.samples),
            Work::Supervised => 0,
        }
    }

    /// Completions of a micro-batch at most.
    pub(super) const fn rows(&self) -> usize {
        let all = self.prompts.saturating_mul(self.group);
        all.div_ceil(if self.micro_batches == 0 {
            1
        } else {
            self.micro_batches
        })
    }

    /// Prompts of a micro-batch at most: the rows of a prompt are neighbours, but a cut may part them.
    pub(super) const fn update_prompts(&self) -> usize {
        let (rows, group) = (self.rows(), if self.group == 0 { 1 } else { self.group });
        let parted = !rows.is_multiple_of(group) && !group.is_multiple_of(rows);
        let count = rows.div_ceil(group) + parted as usize;
        if count < self.prompts {
            count
        } else {
            self.prompts
        }
    }

    /// Tokens of a micro-batch at most.
    pub(super) const fn update_tokens(&self) -> usize {
        let prompts = self.update_prompts().saturating_mul(self.prompt.tokens);
        prompts.saturating_add(self.learnt_tokens())
    }

    /// Completion tokens of a micro-batch at most.
    pub(super) const fn learnt_tokens(&self) -> usize {
        self.rows().saturating_mul(self.completion_tokens)
    }

    /// Room for the completions in the making at once and for their prompts; none where nothing is sampled.
    pub(super) fn room(&self) -> CacheRoom {
        let count = [self.samples, self.completion_tokens];
        self.cache_room(&self.model.text, count, self.generation_rows)
    }

    /// Completions in the making at once.
    pub(super) fn rows_at_once(&self) -> usize {
        match self.work {
            Work::Training => self.room().rows,
            Work::Supervised => 0,
        }
    }

    /// Room for `count` completions of each prompt of a generation batch.
    pub(super) fn cache_room(
        &self,
        model: &TextConfig,
        count: [usize; 2],
        rows: Option<usize>,
    ) -> CacheRoom {
        let prompts = vec![self.prompt.tokens; self.prompts.min(MOST_PROMPTS)];
        CacheRoom::new(model, &prompts, count, rows)
    }

    /// Prompt tokens that are read at once for so many rows.
    pub(super) fn read_at_once(&self, rows: usize, count: usize) -> usize {
        let prompts = rows.div_ceil(count.max(1)).min(self.prompts);
        let all = prompts.saturating_mul(self.prompt.tokens);
        all.min(TOKENS_AT_ONCE).max(self.prompt.tokens)
    }

    /// Whether the linear layer of this name learns: its own weights, or an adapter.
    pub(super) fn learns(&self, module: &str) -> bool {
        match &self.trained {
            Trained::Weights { vision } => *vision || !module.starts_with("visual."),
            Trained::Adapters(adapters) => {
                adapters.modules.contains(module)
                    || adapters.whole.contains_key(&format!("{module}.weight"))
            }
        }
    }

    /// Whether anything of the vision tower learns, so that pictures are part of the graph.
    pub(super) fn vision_learns(&self) -> bool {
        match &self.trained {
            Trained::Weights { vision } => *vision,
            Trained::Adapters(adapters) => {
                let mut all = adapters.modules.iter().chain(adapters.whole.keys());
                all.any(|name| name.starts_with("visual."))
            }
        }
    }

    /// Whether a parameter of the model's own trains.
    pub(super) fn trains(&self, spec: &ParameterSpec) -> bool {
        match &self.trained {
            Trained::Weights { vision } => *vision || !spec.is_vision(),
            Trained::Adapters(_) => false,
        }
    }

    pub(super) const fn adapters(&self) -> Option<&Adapters> {
        match &self.trained {
            Trained::Weights { .. } => None,
            Trained::Adapters(adapters) => Some(adapters),
        }
    }
}
