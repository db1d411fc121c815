//! Keys of external actions, selection and advantage: the heart of Vision-EKIPL.
//!
//! Declares names, types and defaults; selects nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::super::external::{self, External};
use super::super::external_when;
use super::super::key::{Key, section};
use super::super::ranges::{ACTIONS, AMOUNT, REWARD, SHARE, from_to};
use super::super::special_values;
use super::super::value::Kind;
use crate::options::{
    AdvantageBaseline, ExternalImagePaths, ExternalRatio, ExternalWhen, ObjectiveAggregation,
    RecordMode, ScaleRewards, Selection, SelectionTies, SupervisedShare, WeightLevel,
};

section! {
    /// The pool of actions for a prompt, and what becomes of it.
    GROUP: GroupKeys {
        /// Completions that the policy samples per prompt (N).
        num_generations: usize = Kind::Count(1, ACTIONS), "8";
        /// External models whose actions join the policy's; [] = plain GRPO.
        external: Vec<External> = external::LIST, "[]";
        /// Sample further prompts in place of those whose group gives no gradient.
        dynamic_sampling: bool = Kind::Bool, "false";
        /// Further rollouts of one generation batch at most, for `dynamic_sampling`.
        max_resample_times: usize = Kind::Count(1, 1000), "3";
        /// JSONL file that keeps every answer of an endpoint; null = external_cache.jsonl in `output_dir`.
        external_cache: Option<PathBuf> = Kind::Optional(&Kind::Path), "null";
        /// Whether answers come from the file, from the endpoint, or from the file where it has them.
        external_cache_mode: RecordMode = Kind::Choice(RecordMode::NAMES), "auto";
        /// Picture files of rows that an endpoint may be sent: those below `image_dir` (null = the data file's folder), or any.
        external_image_paths: ExternalImagePaths = Kind::Choice(ExternalImagePaths::NAMES), "inside";
        /// Drop the weights of local external models while the policy is updated.
        unload_between_phases: bool = Kind::Bool, "false";
        /// When a prompt asks for external actions.
        external_when: ExternalWhen = external_when::WHEN, "always";
        /// Accuracy reward from which a policy action counts as right.
        pass_threshold: f64 = REWARD, "1";
        /// Actions per prompt that train (G); null = `num_generations`.
        group_size: usize = Kind::Optional(&Kind::Count(1, ACTIONS)), "null";
        /// Which actions of the pool train.
        selection: Selection = Kind::Choice(Selection::NAMES), "top_reward";
        /// Order among equal rewards.
        selection_ties: SelectionTies = Kind::Choice(SelectionTies::NAMES), "policy";
        /// Most policy actions that `replace_worst_if_all_wrong` replaces.
        replace_max: usize = Kind::Count(1, ACTIONS), "1";
        /// Most external actions among those that train, as a share of them.
        max_external_fraction: f64 = SHARE, "1";
        /// Whose rewards give mean and standard deviation of the advantages.
        advantage_baseline: AdvantageBaseline = Kind::Choice(AdvantageBaseline::NAMES), "selected";
        /// Which standard deviation divides the advantages; true = group, false = none.
        scale_rewards: ScaleRewards = special_values::SCALE_REWARDS, "group";
        /// Compare the weighted sum of the rewards within groups, or each by itself and their sum within the batch (GDPO).
        multi_objective_aggregation: ObjectiveAggregation = Kind::Choice(ObjectiveAggregation::NAMES), "sum_then_normalize";
        /// How external tokens are learnt from.
        external_ratio: ExternalRatio = special_values::EXTERNAL_RATIO, "same";
        /// Where LUFFY's shaping p / (p + gamma) is steepest; null = plain p.
        external_gamma: Option<f64> = Kind::Optional(&from_to(1e-6, 1e3)), "0.1";
        /// One importance weight per external action or per token, for `is`.
        external_is_level: WeightLevel = Kind::Choice(WeightLevel::NAMES), "sequence";
        /// Cap of the importance weights of `is` and `snis`.
        external_is_cap: f64 = from_to(1e-6, 1e6), "3";
        /// Share of the supervised loss in `chord`: a number, or {peak, valley, warmup_steps, decay_steps}.
        external_mu: SupervisedShare = special_values::SUPERVISED_SHARE, "0.1";
        /// Whether `chord` weighs tokens by p (1 - p).
        external_phi: bool = Kind::Bool, "true";
        /// Keep the KL term on external tokens.
        external_kl: bool = Kind::Bool, "true";
        /// Multiplies the external part of the loss.
        external_coef: f64 = AMOUNT, "1";
    }
}
