//! What the learner knows of parameters by their names: which ones decay.
//!
//! Knows nothing of how they are updated.

use burn::tensor::Tensor;

use super::optimizer::Parameters;
use crate::model::weights::Weights;

impl Parameters for Weights {
    fn change(&mut self, name: &str, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> bool {
        Self::change(self, name, change)
    }

    /// As transformers' Trainer: not biases, not norms.
    fn decays(&self, name: &str) -> bool {
        let is_layer_norm =
            name.contains(".norm1.") || name.contains(".norm2.") || name.contains(".ln_q.");
        !(name.ends_with(".bias")
            || name.contains("layernorm")
            || name.ends_with("norm.weight")
            || is_layer_norm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_and_norms_do_not_decay() {
        let weights = Weights::default();
        for name in [
            "visual.blocks.0.norm1.weight",
            "visual.merger.ln_q.weight",
            "model.norm.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.self_attn.q_proj.bias",
        ] {
            assert!(!weights.decays(name), "{name}");
        }
        for name in [
            "model.layers.0.mlp.up_proj.weight",
            "model.embed_tokens.weight",
        ] {
            assert!(weights.decays(name), "{name}");
        }
    }
}
