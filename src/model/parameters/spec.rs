//! What parameters a model of given sizes has: one list, from which counts, random starts, decay, freezing, adapter targets,
//! and missing and unused tensors follow.
//!
//! Knows nothing of values, files or devices.

use crate::model::config::{ModelConfig, TextConfig, VisionConfig, VisionKind};

/// What a parameter does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Weight of a linear layer, [out, in] (patches: [out, channels, frames, rows, columns]).
    Matrix,
    /// Added to the output of a linear layer or of a layer norm.
    Bias,
    /// Multiplies normalised values.
    Norm,
    /// A row per token: the embedding, and the head.
    Table,
}

/// Where a parameter sits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The vision tower.
    Vision,
    /// What makes text embeddings of its output.
    Merger,
    /// The language model.
    Text,
    /// The output head, if it is not the embedding.
    Head,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterSpec {
    /// Hub name.
    pub name: String,
    /// Shape in files.
    pub shape: Vec<usize>,
    /// What it does.
    pub role: Role,
    /// Where it sits.
    pub part: Part,
}

impl ParameterSpec {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// [rows, columns] of the parameter as a matrix; axes after the first are flattened.
    #[must_use]
    pub fn matrix(&self) -> [usize; 2] {
        let rows = self.shape.first().copied().unwrap_or(1);
        [rows, self.shape[1..].iter().product()]
    }

    /// Whether it belongs to what `freeze_vision_modules` freezes: tower and merger.
    #[must_use]
    pub const fn is_vision(&self) -> bool {
        matches!(self.part, Part::Vision | Part::Merger)
    }

    /// The module of the linear layer whose weight it is: its name without `.weight`; the head is none.
    #[must_use]
    pub fn linear_module(&self) -> Option<&str> {
        let is_linear = self.role == Role::Matrix && self.shape.len() == 2;
        is_linear
            .then(|| self.name.strip_suffix(".weight"))
            .flatten()
    }
}

/// Whether the parameter of this hub name belongs to what `freeze_vision_modules` freezes: tower and merger.
#[must_use]
pub fn is_vision(name: &str) -> bool {
    name.starts_with("visual.")
}

/// Whether weight decay acts on the parameter of this name: not on biases and norms, as in transformers' Trainer.
#[must_use]
pub fn decays(name: &str) -> bool {
    let is_layer_norm =
        name.contains(".norm1.") || name.contains(".norm2.") || name.contains(".ln_q.");
    !(name.ends_with(".bias")
        || name.contains("layernorm")
        || name.ends_with("norm.weight")
        || is_layer_norm)
}

/// All parameters of a model, in the order in which a picture and a text pass through them.
#[must_use]
pub fn specs(config: &ModelConfig) -> Vec<ParameterSpec> {
    let mut list = List(Vec::new());
    list.vision(&config.vision, config.text.hidden_size);
    list.text(&config.text);
    list.0
}

struct List(Vec<ParameterSpec>);

impl List {
    fn add(&mut self, part: Part, role: Role, name: String, shape: &[usize]) {
        self.0.push(ParameterSpec {
            name,
            shape: shape.to_vec(),
            role,
            part,
        });
    }

    fn linear(&mut self, part: Part, module: &str, [output, input]: [usize; 2], bias: bool) {
        let weight = format!("{module}.weight");
        self.add(part, Role::Matrix, weight, &[output, input]);
        if bias {
            self.add(part, Role::Bias, format!("{module}.bias"), &[output]);
        }
    }

    /// A norm of the tower: with a bias in Qwen2-VL, without in Qwen2.5-VL.
    fn vision_norm(&mut self, part: Part, module: &str, config: &VisionConfig) {
        let weight = format!("{module}.weight");
        self.add(part, Role::Norm, weight, &[config.embed_dim]);
        if config.kind == VisionKind::Qwen2 {
            let bias = format!("{module}.bias");
            self.add(part, Role::Bias, bias, &[config.embed_dim]);
        }
    }

    fn vision(&mut self, config: &VisionConfig, output: usize) {
        let (width, inner) = (config.embed_dim, config.intermediate_size);
        let edge = config.patch_size;
        let shape = [
            width,
            config.in_channels,
            config.temporal_patch_size,
            edge,
            edge,
        ];
        let patches = "visual.patch_embed.proj.weight".to_owned();
        self.add(Part::Vision, Role::Matrix, patches, &shape);
        for block in 0..config.depth {
            let name = |part: &str| format!("visual.blocks.{block}.{part}");
            let mut linear = |part: &str, shape| {
                self.linear(Part::Vision, &name(part), shape, true);
            };
            linear("attn.qkv", [3 * width, width]);
            linear("attn.proj", [width, width]);
            if config.kind == VisionKind::Qwen2 {
                linear("mlp.fc1", [inner, width]);
                linear("mlp.fc2", [width, inner]);
            } else {
                linear("mlp.gate_proj", [inner, width]);
                linear("mlp.up_proj", [inner, width]);
                linear("mlp.down_proj", [width, inner]);
            }
            self.vision_norm(Part::Vision, &name("norm1"), config);
            self.vision_norm(Part::Vision, &name("norm2"), config);
        }
        let merged = width * config.spatial_merge_size * config.spatial_merge_size;
        self.vision_norm(Part::Merger, "visual.merger.ln_q", config);
        self.linear(Part::Merger, "visual.merger.mlp.0", [merged, merged], true);
        self.linear(Part::Merger, "visual.merger.mlp.2", [output, merged], true);
    }

    fn text(&mut self, config: &TextConfig) {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let queries = config.num_attention_heads * config.head_dim;
        let keys = config.num_key_value_heads * config.head_dim;
        let table = [config.vocab_size, width];
        let embedding = "model.embed_tokens.weight".to_owned();
        self.add(Part::Text, Role::Table, embedding, &table);
        for layer in 0..config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let mut linear = |part: &str, shape, bias| {
                self.linear(Part::Text, &name(part), shape, bias);
            };
            linear("self_attn.q_proj", [queries, width], true);
            linear("self_attn.k_proj", [keys, width], true);
            linear("self_attn.v_proj", [keys, width], true);
            linear("self_attn.o_proj", [width, queries], false);
            linear("mlp.gate_proj", [inner, width], false);
            linear("mlp.up_proj", [inner, width], false);
            linear("mlp.down_proj", [width, inner], false);
            for norm in ["input_layernorm", "post_attention_layernorm"] {
                let weight = name(&format!("{norm}.weight"));
                self.add(Part::Text, Role::Norm, weight, &[width]);
            }
        }
        let norm = "model.norm.weight".to_owned();
        self.add(Part::Text, Role::Norm, norm, &[width]);
        if !config.tie_word_embeddings {
            let head = "lm_head.weight".to_owned();
            self.add(Part::Head, Role::Table, head, &table);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    fn golden(family: &str) -> ModelConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public");
        ModelConfig::open(&folder.join(family)).expect("config.json")
    }

    /// The list against the tensors that transformers wrote.
    #[test]
    fn the_list_is_what_the_files_hold() {
        for family in ["qwen2vl-tiny", "qwen25vl-tiny"] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public");
            let bytes = std::fs::read(folder.join(family).join("model.safetensors"));
            let bytes = bytes.expect("a file");
            let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
            let found: BTreeSet<(String, Vec<usize>)> = tensors
                .iter()
                .map(|(name, view)| (super::super::files::hub_name(name), view.shape().to_vec()))
                .collect();
            let listed: BTreeSet<(String, Vec<usize>)> = specs(&golden(family))
                .into_iter()
                .map(|spec| (spec.name, spec.shape))
                .collect();
            assert_eq!(listed, found, "{family}");
        }
    }

    #[test]
    fn decay_and_freezing_follow_from_role_and_part() {
        for family in ["qwen2vl-tiny", "qwen25vl-tiny"] {
            for spec in specs(&golden(family)) {
                let matrix = matches!(spec.role, Role::Matrix | Role::Table);
                assert_eq!(decays(&spec.name), matrix, "{}", spec.name);
                assert_eq!(is_vision(&spec.name), spec.is_vision(), "{}", spec.name);
            }
        }
    }
}
