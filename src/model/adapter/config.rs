//! The settings of an adapter, with PEFT's names and meaning.
//!
//! Knows neither files nor the layers of a model.

use super::names::Naming;
use crate::options::TargetModules;

/// Largest rank that is read or laid out.
pub(super) const MOST_RANK: usize = 65_536;

/// The settings of LoRA (PEFT: `LoraConfig`).
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// Rank.
    pub r: usize,
    /// See [`Self::scale`].
    pub lora_alpha: f64,
    /// Share of the inputs of A that are dropped in training.
    pub lora_dropout: f64,
    /// See [`Self::scale`].
    pub use_rslora: bool,
    /// Layers with an adapter.
    pub target_modules: TargetModules,
    /// Layers that have none although `target_modules` names them.
    pub exclude_modules: Option<TargetModules>,
    /// Modules that train whole, all below them included.
    pub modules_to_save: Vec<String>,
    /// The model that the adapter belongs to, as its folder was named.
    pub base_model_name_or_path: Option<String>,
    /// Whose names of modules the settings and the file have.
    pub naming: Naming,
}

/// The vision tower with its projector, by either naming, as PEFT's `exclude_modules` says it.
const VISION_TOWER: &str = r"(model\.)?visual(\..*)?";

impl AdapterConfig {
    /// What the output of `B (A x)` is multiplied by: alpha / r, or alpha / sqrt(r) with `use_rslora`.
    #[must_use]
    pub fn scale(&self) -> f64 {
        let rank = self.r as f64;
        let divisor = if self.use_rslora { rank.sqrt() } else { rank };
        self.lora_alpha / divisor
    }

    /// The same without adapters in the vision tower.
    #[must_use]
    pub fn without_vision_tower(mut self) -> Self {
        self.exclude_modules = Some(TargetModules::Pattern(VISION_TOWER.to_owned()));
        self
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Settings with these targets.
    pub(in super::super) fn settings(target_modules: TargetModules) -> AdapterConfig {
        AdapterConfig {
            r: 4,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            target_modules,
            exclude_modules: None,
            modules_to_save: Vec::new(),
            base_model_name_or_path: None,
            naming: Naming::Current,
        }
    }

    #[test]
    fn the_scale_is_pefts() {
        let plain = settings(TargetModules::AllLinear);
        assert_eq!(plain.scale(), 2.0);
        let stabilised = AdapterConfig {
            use_rslora: true,
            ..plain
        };
        assert_eq!(stabilised.scale(), 4.0);
    }
}
