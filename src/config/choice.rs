//! The values of every key that takes one of a few words.
//!
//! Knows the words only; what they do is documented where it is done.

use serde::{Deserialize, Serialize};

/// Declares an enum whose variants are written as the given words in YAML, flags and logs.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every word, in the order of the documentation.
            pub const NAMES: &'static [&'static str] = &[$($word),+];

            /// The word of this value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of this word.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    )+ };
}

choices! {
    /// `preset`: a published method as a set of keys (method: section 2.7).
    Preset {
        /// Reason-RFT's reinforcement stage.
        ReasonRft = "reason-rft",
        /// Reason-RFT's supervised stage.
        ReasonRftSft = "reason-rft-sft",
        /// Vision-EKIPL.
        Ekipl = "ekipl",
        /// Vision-EKIPL with the subset of largest reward variance.
        EkiplMaxVariance = "ekipl-maxvar",
        /// External actions only where the policy fails.
        OnFailure = "on-failure",
        /// LUFFY: one external trace per group with a shaped probability.
        Luffy = "luffy",
        /// RL-PLUS: as LUFFY with its own ratio.
        RlPlus = "rl-plus",
        /// CHORD: a supervised part beside GRPO.
        Chord = "chord",
        /// HPT: imitation where the policy fails, GRPO elsewhere.
        Hpt = "hpt",
        /// Likelihood of the external actions that Vision-EKIPL would select.
        SftSelected = "sft-selected",
        /// DAPO's loss and clip range, as TRL has them.
        TrlDapo = "trl-dapo",
        /// Dr. GRPO: no division by the standard deviation or by the length.
        DrGrpo = "dr-grpo",
    }

    /// `reward_funcs`: one reward function.
    RewardFunction {
        /// The accuracy reward of the row's task.
        Accuracy = "accuracy",
        /// Thinking and answer in their tags.
        Format = "format",
        /// Numeric answers with partial credit by relative distance.
        MathAccuracy = "math_accuracy",
        /// Function sequences, partial credit.
        Trance = "trance",
        /// Function sequences, whole functions only.
        TranceOnlyFull = "trance-only-full",
        /// Function sequences, wrong parts subtract.
        TrancePenalty = "trance-penalty",
        /// TRL's format reward.
        ThinkFormat = "think_format_reward",
        /// DAPO's penalty near the longest completion.
        SoftOverlongPunishment = "soft_overlong_punishment",
        /// Right and short first, wrong and short last.
        Cosine = "cosine",
        /// A penalty on repeated n-grams.
        RepetitionPenalty = "repetition_penalty",
        /// Kimi's length reward.
        Length = "length",
        /// Marks of step-by-step reasoning.
        Reason = "reason",
    }

    /// `score_compat`: whose reading of answers the evaluation follows (method: section 3.7).
    ScoreCompat {
        /// The original's quirks repaired.
        Fixed = "fixed",
        /// As the original scores.
        ReasonRft = "reason-rft",
    }

    /// `lr_scheduler_type`: the course of the learning rate after the warm-up.
    SchedulerType {
        /// Straight to 0 at the last step.
        Linear = "linear",
        /// Half a cosine to 0 at the last step.
        Cosine = "cosine",
        /// Unchanged, and no warm-up.
        Constant = "constant",
        /// Unchanged after the warm-up.
        ConstantWithWarmup = "constant_with_warmup",
    }

    /// `loss_type`: how token losses become one number.
    LossType {
        /// Mean over the tokens of a sequence, then over sequences.
        Grpo = "grpo",
        /// Sum over tokens, divided by the tokens of the micro-batch.
        Bnpo = "bnpo",
        /// Sum over tokens, divided by sequences x `max_completion_length`.
        DrGrpo = "dr_grpo",
        /// Sum over tokens, divided by the tokens of the whole generation batch.
        Dapo = "dapo",
    }

    /// `importance_sampling_level`: one probability ratio per token or per sequence.
    ImportanceSamplingLevel {
        /// Per token.
        Token = "token",
        /// The geometric mean over the sequence.
        Sequence = "sequence",
    }

    /// `scale_rewards`: which standard deviation divides the advantages.
    ScaleRewards {
        /// The group's.
        Group = "group",
        /// The generation batch's.
        Batch = "batch",
        /// None.
        None = "none",
    }

    /// `logprob_temperature`: what divides the logits where training takes log-probabilities.
    LogprobTemperature {
        /// The sampling temperature, as TRL.
        Sampling = "sampling",
        /// Nothing, as Reason-RFT.
        Raw = "raw",
    }

    /// `selection`: which actions of the pool train (method: section 2.1).
    Selection {
        /// The highest rewards.
        TopReward = "top_reward",
        /// The subset of largest reward variance.
        MaxVariance = "max_variance",
        /// Every action.
        All = "all",
        /// The policy's own, with external actions in place of the worst where none of its own is right.
        ReplaceWorstIfAllWrong = "replace_worst_if_all_wrong",
    }

    /// `selection_ties`: the order among equal rewards (method: section 2.2).
    SelectionTies {
        /// Policy actions first.
        Policy = "policy",
        /// External actions first.
        External = "external",
        /// A permutation drawn from the run's seed.
        Random = "random",
    }

    /// `advantage_baseline`: whose rewards give mean and deviation (method: section 2.3).
    AdvantageBaseline {
        /// The selected actions.
        Selected = "selected",
        /// The whole pool.
        Pool = "pool",
        /// The policy's actions.
        PolicyOnly = "policy_only",
    }

    /// `external_ratio`: how external tokens are learnt from (method: sections 2.5 and 2.6).
    ExternalRatio {
        /// The policy's ratio, clipped (the paper).
        Same = "same",
        /// LUFFY's shaped probability.
        Luffy = "luffy",
        /// RL-PLUS.
        RlPlus = "rl_plus",
        /// Ratio 1: advantage times log-likelihood.
        Unit = "unit",
        /// Exact importance weights, capped.
        Is = "is",
        /// Self-normalised importance weights.
        Snis = "snis",
        /// CHORD's mixture with a supervised loss.
        Chord = "chord",
        /// HPT's switch to imitation where the policy fails.
        Hpt = "hpt",
        /// Likelihood of the selected external actions alone.
        SftSelected = "sft_selected",
    }

    /// `external_is_level`: what has an importance weight.
    WeightLevel {
        /// The whole action.
        Sequence = "sequence",
        /// Each token.
        Token = "token",
    }

    /// `external_cache_mode`: where the answers of endpoints come from.
    ExternalCacheMode {
        /// The file where it has them, else the endpoint.
        Auto = "auto",
        /// The endpoint, always.
        Record = "record",
        /// The file; a missing answer is an error.
        Replay = "replay",
    }

    /// `on_teacher_failure`: what an endpoint that fails for good does to the run.
    OnTeacherFailure {
        /// The group goes on without the action.
        Skip = "skip",
        /// The run stops.
        Stop = "stop",
    }

    /// The shape of a schedule of the external share.
    ScheduleShape {
        /// Half a cosine.
        Cosine = "cosine",
        /// A straight line.
        Linear = "linear",
    }

    /// `save_strategy` and `eval_strategy`: when something happens.
    IntervalStrategy {
        /// Never (a checkpoint is still written at the end).
        No = "no",
        /// Every so many optimizer steps.
        Steps = "steps",
        /// After each pass over the data.
        Epoch = "epoch",
    }

    /// `sft_target`: what supervised fine-tuning teaches.
    SftTarget {
        /// The row's chain of thought in think tags, then the answer in answer tags.
        Cot = "cot",
        /// The bare answer.
        Answer = "answer",
        /// The row's chain of thought and answer where it has one, else the bare answer.
        CotOrAnswer = "cot_or_answer",
    }

    /// `device`: where tensors live.
    DeviceChoice {
        /// A hardware GPU if there is one, else the faster of software Vulkan and CPU.
        Auto = "auto",
        /// A hardware GPU of any API.
        Gpu = "gpu",
        /// A Vulkan adapter.
        Vulkan = "vulkan",
        /// A Metal adapter.
        Metal = "metal",
        /// A Direct3D 12 adapter.
        Dx12 = "dx12",
        /// The CPU.
        Cpu = "cpu",
    }
}
