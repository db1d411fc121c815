//! What can be chosen: the words of every key that takes one of a few, and the two values that have several forms.
//!
//! The configuration reads them and the stages follow them, so each stands here once. Knows the words only; what they do
//! is documented in full and done where a stage follows them.

use serde::{Deserialize, Serialize};

mod weights;

pub use weights::{Held, TargetModules, WeightFormat};

/// Declares an enum whose variants are written as the given words in YAML, flags and logs.
macro_rules! choices {
    ($($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ })+) => { $(
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$doc])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Every word, in the same order.
            pub const NAMES: &'static [&'static str] = &[$($word),+];

            /// The word of this value.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// The value of this word, if there is one.
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

    /// `dtype`: the number format in which weights that do not train are held; computing is in float32.
    #[derive(Default)]
    Dtype {
        /// As the file has them.
        #[default]
        Auto = "auto",
        /// 4 bytes a number.
        Float32 = "float32",
        /// 2 bytes a number, the range of float32.
        Bfloat16 = "bfloat16",
        /// 2 bytes a number, up to 65504.
        Float16 = "float16",
    }

    /// `verify_images`: how much of every picture is read before the first step.
    VerifyImages {
        /// Size and kind, and whether the file's end is there.
        Header = "header",
        /// All of it is decoded once.
        Full = "full",
    }

    /// `external_image_paths`: which picture files that rows name are sent to a server.
    ExternalImagePaths {
        /// Those below `image_dir`, or below the data file's folder; links count as what they point to.
        Inside = "inside",
        /// Any file of the machine.
        Any = "any",
    }

    /// `score_compat`: whose reading of answers the evaluation follows (method: section 3.7).
    #[derive(Default)]
    ScoreCompat {
        /// An answer may span lines.
        #[default]
        Fixed = "fixed",
        /// As upstream: an answer that spans lines is overlooked and the whole text is scored, thinking included.
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

    /// `loss_type`: how the losses of tokens become the loss of a step.
    LossType {
        /// Mean over tokens, then over completions (DeepSeekMath; method: section 1.3).
        Grpo = "grpo",
        /// Mean over the tokens of the micro-batch.
        Bnpo = "bnpo",
        /// Sum over tokens / (completions · `max_completion_length`) (Dr. GRPO).
        DrGrpo = "dr_grpo",
        /// Sum over tokens / tokens of the whole generation batch (DAPO).
        Dapo = "dapo",
        /// As dapo, of CISPO's surrogate: the ratio is capped and fixed.
        Cispo = "cispo",
        /// As grpo, of SAPO's surrogate: a smooth gate in place of the clip.
        Sapo = "sapo",
    }

    /// `importance_sampling_level`: one probability ratio per token or per sequence.
    ImportanceSamplingLevel {
        /// Per token.
        Token = "token",
        /// The geometric mean over the sequence.
        Sequence = "sequence",
    }

    /// `multi_objective_aggregation`: how several rewards become advantages.
    #[derive(Default)]
    ObjectiveAggregation {
        /// The weighted sum is compared within its group.
        #[default]
        SumThenNormalize = "sum_then_normalize",
        /// Each reward is compared within its group, then the weighted sum within the generation batch (GDPO).
        NormalizeThenSum = "normalize_then_sum",
    }

    /// `scale_rewards`: what divides the advantages.
    #[derive(Default)]
    ScaleRewards {
        /// The standard deviation of the group's baseline set.
        #[default]
        Group = "group",
        /// The standard deviation of all selected actions of the generation batch.
        Batch = "batch",
        /// Nothing.
        None = "none",
    }

    /// `logprob_temperature`: what divides the logits where training takes log-probabilities.
    LogprobTemperature {
        /// The sampling temperature, as TRL.
        Sampling = "sampling",
        /// Nothing, as Reason-RFT.
        Raw = "raw",
    }

    /// `selection`: which actions of the pool enter the loss (method: section 2.1).
    #[derive(Default)]
    Selection {
        /// The `group_size` actions of highest reward.
        #[default]
        TopReward = "top_reward",
        /// The subset of `group_size` actions with the largest variance of rewards.
        MaxVariance = "max_variance",
        /// The whole pool.
        All = "all",
        /// The first `group_size` policy actions; where none of the policy passes, up to `replace_max` of the worst give
        /// way to external actions with a higher reward than any policy action.
        ReplaceWorstIfAllWrong = "replace_worst_if_all_wrong",
    }

    /// `selection_ties`: the order among actions of equal reward (method: section 2.2).
    #[derive(Default)]
    SelectionTies {
        /// Policy actions first, each kind in order of arrival.
        #[default]
        Policy = "policy",
        /// External actions first, each kind in order of arrival.
        External = "external",
        /// A permutation drawn from seed, step and prompt id.
        Random = "random",
    }

    /// `advantage_baseline`: whose rewards give the mean and the standard deviation (method: section 2.3).
    #[derive(Default)]
    AdvantageBaseline {
        /// The selected actions: their advantages sum to 0.
        #[default]
        Selected = "selected",
        /// The whole pool: the advantages of a top-reward selection sum to 0 or more.
        Pool = "pool",
        /// All policy actions, selected or not (LUFFY, CalibRL).
        PolicyOnly = "policy_only",
    }

    /// `external_ratio`: what takes the place of the importance ratio on external tokens (method: sections 2.5 and 2.6). p is
    /// the policy's probability of the token, p_old at rollout time, q the external model's, A the advantage.
    #[derive(Default)]
    ExternalRatio {
        /// p / p_old, clipped as on policy tokens (the paper's Eq. 3).
        #[default]
        Same = "same",
        /// p / (p + gamma), never clipped (LUFFY, arXiv 2504.14945); without gamma plain p.
        Luffy = "luffy",
        /// sqrt(1 - p) 2 p / (p_old + (p_old + 1) / 2), never clipped (RL-PLUS).
        RlPlus = "rl_plus",
        /// p / sg[p]: A log p at every update.
        Unit = "unit",
        /// The clipped ratio times min(π_old / q, cap).
        Is = "is",
        /// As `is`, the weights of a group normalised to their number.
        Snis = "snis",
        /// A supervised part of weight mu beside (1 - mu) of the policy loss on the policy's actions (CHORD).
        Chord = "chord",
        /// Prompts that the policy fails are imitated, all others are plain GRPO (HPT).
        Hpt = "hpt",
        /// Only the likelihood of the selected external actions (the control for "is it just distillation").
        SftSelected = "sft_selected",
    }

    /// `external_is_level`: one importance weight per action or per token.
    #[derive(Default)]
    WeightLevel {
        /// One, from the sums of log-probabilities.
        #[default]
        Sequence = "sequence",
        /// One per token; the external model must share the policy's tokens.
        Token = "token",
    }

    /// `external_cache_mode`: what the record of answers is used for.
    #[derive(Default)]
    RecordMode {
        /// An answer that is there is taken; others are asked for and added.
        #[default]
        Auto = "auto",
        /// Everything is asked for anew and added; what a run added itself it takes.
        Record = "record",
        /// Nothing is asked for; what is not there is an error.
        Replay = "replay",
    }

    /// `on_teacher_failure`: what happens to a run whose teacher fails beyond its retries.
    #[derive(Default)]
    OnTeacherFailure {
        /// The group goes on without the action.
        #[default]
        Skip = "skip",
        /// The run ends.
        Stop = "stop",
    }

    /// `reasoning` of an endpoint: what becomes of thoughts that a server gives apart from the answer.
    #[derive(Default)]
    Reasoning {
        /// They stand in `<think>` tags before it.
        #[default]
        Think = "think",
        /// They are left out, and so is a `<think>` block at the beginning of the answer.
        Drop = "drop",
        /// The answer stays as it came, whatever stands beside it.
        AsIs = "as_is",
    }

    /// `pictures` of a reward program: how the pictures of a prompt reach it, once per prompt.
    #[derive(Default)]
    RewardPictures {
        /// As the objects of Pillow that TRL gives.
        #[default]
        Pil = "pil",
        /// As paths of files.
        Paths = "paths",
        /// Not at all.
        None = "none",
    }

    /// How a schedule moves between its ends.
    #[derive(Default)]
    ScheduleShape {
        /// Half a cosine wave.
        #[default]
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

    /// The part of `device` before a colon.
    DeviceApi {
        /// A hardware GPU if there is one, else the CPU.
        Auto = "auto",
        /// A hardware GPU of any API.
        Gpu = "gpu",
        /// A Vulkan adapter, software included.
        Vulkan = "vulkan",
        /// A Metal adapter.
        Metal = "metal",
        /// A Direct3D 12 adapter.
        Dx12 = "dx12",
        /// The CPU.
        Cpu = "cpu",
    }
}

/// `device`: where tensors live; an API and, where it has several adapters, one of them by its number or by a part of its
/// name (`vulkan:1`, `gpu:radeon`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceChoice {
    /// What the adapter must be.
    pub api: DeviceApi,
    /// Its number among those, or a part of its name; the best one if absent.
    pub adapter: Option<String>,
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "device `{0}` is unknown; expected auto, gpu, vulkan, metal, dx12 or cpu, and for one of several adapters its number or a part of its name after a colon, as in vulkan:1\nhint: `vision-ekipl doctor` lists what this machine has"
)]
pub struct UnknownDevice(String);

impl From<DeviceApi> for DeviceChoice {
    fn from(api: DeviceApi) -> Self {
        Self { api, adapter: None }
    }
}

impl std::str::FromStr for DeviceChoice {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, UnknownDevice> {
        let unknown = || UnknownDevice(text.to_owned());
        let (api, adapter) = match text.split_once(':') {
            None => (text, None),
            Some((api, adapter)) => (api, Some(adapter.trim())),
        };
        let api = DeviceApi::from_name(api).ok_or_else(unknown)?;
        if adapter.is_some_and(|adapter| adapter.is_empty() || api == DeviceApi::Cpu) {
            return Err(unknown());
        }
        Ok(Self {
            api,
            adapter: adapter.map(str::to_owned),
        })
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.api.name())?;
        match &self.adapter {
            Some(adapter) => write!(f, ":{adapter}"),
            None => Ok(()),
        }
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = UnknownDevice;

    fn try_from(text: String) -> Result<Self, UnknownDevice> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// `external_when`: which prompts ask for external actions (method: section 2.4).
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternalWhen {
    /// Every prompt.
    #[default]
    Always,
    /// Prompts where no policy action passes.
    AllWrong,
    /// Each prompt with this probability, drawn anew at every step.
    Probability(f64),
    /// Each prompt with a probability that changes over the run.
    Schedule(ExternalSchedule),
    /// Prompts whose share of passing policy actions lies in this range, ends included.
    #[serde(untagged)]
    PassRate {
        /// Lower end.
        #[serde(rename = "pass_rate_min")]
        min: f64,
        /// Upper end.
        #[serde(rename = "pass_rate_max")]
        max: f64,
    },
}

/// A probability over optimizer steps: from 0 up to `from` during `warmup` steps, then to `to` in `steps` steps.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ExternalSchedule {
    /// Probability after the warm-up.
    pub from: f64,
    /// Probability at the end and ever after.
    pub to: f64,
    /// Optimizer steps from `from` to `to`.
    pub steps: u64,
    /// The way down (or up).
    pub shape: ScheduleShape,
    /// Optimizer steps from 0 to `from`.
    pub warmup: u64,
}

/// `external_mu`: the share of the supervised loss in CHORD.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SupervisedShare {
    /// The same at every step.
    Constant(f64),
    /// From 0 to the peak, then along half a cosine to the valley, and the valley from there.
    Course {
        /// Largest share.
        peak: f64,
        /// Last share.
        valley: f64,
        /// Optimizer steps from 0 to the peak.
        warmup_steps: u64,
        /// Optimizer steps from the peak to the valley.
        decay_steps: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_its_name_and_its_form_in_files() {
        for function in RewardFunction::ALL {
            assert_eq!(RewardFunction::from_name(function.name()), Some(*function));
            assert_eq!(serde_json::to_value(function).unwrap(), function.name());
        }
        assert_eq!(RewardFunction::ALL.len(), RewardFunction::NAMES.len());
        assert_eq!(RewardFunction::from_name("acuracy"), None);
    }

    #[test]
    fn a_device_is_an_api_and_perhaps_an_adapter() {
        for text in [
            "auto",
            "cpu",
            "gpu",
            "vulkan:1",
            "gpu:Radeon RX",
            "dx12:arc",
            "vulkan:a:b",
        ] {
            let choice: DeviceChoice = text.parse().expect("a device");
            assert_eq!(choice.to_string(), text);
            let json = serde_json::to_string(&choice).expect("a form in files");
            assert_eq!(
                serde_json::from_str::<DeviceChoice>(&json).expect("reads"),
                choice
            );
        }
        for text in ["cuda", "", "gpu:", "gpu: ", "cpu:1", "Vulkan", ":1"] {
            let message = text
                .parse::<DeviceChoice>()
                .expect_err("no device")
                .to_string();
            assert!(
                message.starts_with(&format!("device `{text}` is unknown; expected auto, gpu")),
                "{message}"
            );
            assert!(message.contains("as in vulkan:1\nhint: "), "{message}");
        }
    }

    #[test]
    fn every_form_of_the_gate_is_read_and_written_back() {
        let schedule = ExternalSchedule {
            from: 0.5,
            to: 0.05,
            steps: 200,
            shape: ScheduleShape::Linear,
            warmup: 20,
        };
        for (written, when) in [
            (r#""always""#, ExternalWhen::Always),
            (r#""all_wrong""#, ExternalWhen::AllWrong),
            (
                r#"{"pass_rate_min":0.0,"pass_rate_max":0.5}"#,
                ExternalWhen::PassRate { max: 0.5, min: 0.0 },
            ),
            (r#"{"probability":0.25}"#, ExternalWhen::Probability(0.25)),
            (
                r#"{"schedule":{"from":0.5,"to":0.05,"steps":200,"shape":"linear","warmup":20}}"#,
                ExternalWhen::Schedule(schedule),
            ),
        ] {
            assert_eq!(serde_json::from_str::<ExternalWhen>(written).unwrap(), when);
            assert_eq!(serde_json::to_string(&when).unwrap(), written);
        }
    }
}
