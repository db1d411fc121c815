//! Keys of external actions, selection and advantage: the heart of Vision-EKIPL.
//!
//! Declares names, types and defaults; selects nothing.

use serde::{Deserialize, Serialize};

use super::super::choice::{AdvantageBaseline, ScaleRewards, Selection, SelectionTies};
use super::super::external::{self, External};
use super::super::external_when::{self, ExternalWhen};
use super::super::key::{Key, section};
use super::super::special_values;
use super::super::value::{ANY_NUMBER, FROM_ZERO, Kind};

section! {
    /// The pool of actions for a prompt, and what becomes of it.
    GROUP: GroupKeys {
        /// Completions that the policy samples per prompt (N).
        num_generations: usize = Kind::Count(1), "8";
        /// External models whose actions join the policy's; [] = plain GRPO.
        external: Vec<External> = external::LIST, "[]";
        /// When a prompt asks for external actions.
        external_when: ExternalWhen = external_when::WHEN, "always";
        /// Accuracy reward from which a policy action counts as right.
        pass_threshold: f64 = ANY_NUMBER, "1";
        /// Actions per prompt that train (G); null = `num_generations`.
        group_size: usize = Kind::Optional(&Kind::Count(1)), "null";
        /// Which actions of the pool train.
        selection: Selection = Kind::Choice(Selection::NAMES), "top_reward";
        /// Order among equal rewards.
        selection_ties: SelectionTies = Kind::Choice(SelectionTies::NAMES), "policy";
        /// Most policy actions that `replace_worst_if_all_wrong` replaces.
        replace_max: usize = Kind::Count(1), "1";
        /// Whose rewards give mean and standard deviation of the advantages.
        advantage_baseline: AdvantageBaseline = Kind::Choice(AdvantageBaseline::NAMES), "selected";
        /// Which standard deviation divides the advantages; true = group, false = none.
        scale_rewards: ScaleRewards = special_values::SCALE_REWARDS, "group";
        /// Keep the KL term on external tokens.
        external_kl: bool = Kind::Bool, "true";
        /// Multiplies the external part of the loss.
        external_coef: f64 = FROM_ZERO, "1";
    }
}
