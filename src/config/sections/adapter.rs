//! Keys of LoRA.
//!
//! Declares names, types and defaults: TRL's names and defaults, PEFT's meaning. Knows no layer.

use serde::{Deserialize, Serialize};

use super::super::key::{Key, section};
use super::super::ranges::from_to;
use super::super::special_values;
use super::super::value::Kind;
use crate::options::TargetModules;

/// The layers that PEFT gives a Qwen2 model where `target_modules` is not set.
const QWEN2_TARGETS: [&str; 2] = ["q_proj", "v_proj"];

/// Largest rank, and largest `lora_alpha`.
const RANK: u64 = 65_536;

section! {
    /// What trains in place of the model's own weights.
    ADAPTER: AdapterKeys {
        /// Train low-rank adapters (LoRA) and leave the model's own weights as they are.
        use_peft: bool = Kind::Bool, "false";
        /// Rank of an adapter.
        lora_r: usize = Kind::Count(1, RANK), "16";
        /// An adapter's output is multiplied by lora_alpha / lora_r.
        lora_alpha: usize = Kind::Count(1, RANK), "32";
        /// Share of an adapter's inputs that are dropped in training.
        lora_dropout: f64 = from_to(0.0, 0.999), "0.05";
        /// Layers with an adapter: names, all-linear, or one regular expression; null = [q_proj, v_proj], PEFT's for Qwen2.
        lora_target_modules: Option<TargetModules> = Kind::Optional(&Kind::Joined(&special_values::TARGET_MODULES)), "null";
        /// Layers that train whole beside the adapters, and are saved with them.
        lora_modules_to_save: Vec<String> = Kind::Optional(&Kind::List(&Kind::Text)), "null";
        /// Multiply by lora_alpha / sqrt(lora_r) instead (rsLoRA).
        use_rslora: bool = Kind::Bool, "false";
    }
}

impl AdapterKeys {
    /// The layers with an adapter.
    #[must_use]
    pub fn target_modules(&self) -> TargetModules {
        let default = || TargetModules::Names(QWEN2_TARGETS.map(str::to_owned).to_vec());
        self.lora_target_modules.clone().unwrap_or_else(default)
    }
}
