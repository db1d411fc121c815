//! Values that one token, or one patch, leaves in memory while it goes through a block.
//!
//! "Kept" is what the operations of the graph hold until their backward pass has run, besides the block's input; "passing"
//! is what is alive besides at the worst moment. Written after the forward functions of `model::text` and `model::vision`:
//! a change there is a change here.

use super::settings::Settings;
use crate::model::config::{ModelConfig, TextConfig, VisionConfig, VisionKind};

/// Values per token or patch of one block with its graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Graph {
    /// Held from forward to backward.
    pub kept: usize,
    /// Alive besides in the backward pass.
    pub passing: usize,
}

/// Inputs that learning layers keep: each its own where dropout made it, else one for all that read the same.
struct Inputs<'a> {
    settings: &'a Settings,
    dropout: bool,
    rank: usize,
}

impl<'a> Inputs<'a> {
    fn new(settings: &'a Settings) -> Self {
        let adapters = settings.adapters();
        Self {
            settings,
            dropout: adapters.is_some_and(|adapters| adapters.dropout),
            rank: adapters.map_or(0, |adapters| adapters.rank),
        }
    }

    /// Values kept for the layers of `names`, which all read `width` values; `held` if something else keeps these anyway.
    fn kept(&self, names: &[String], width: usize, held: bool) -> usize {
        let learning = names
            .iter()
            .filter(|name| self.settings.learns(name))
            .count();
        let inputs = match (learning, self.dropout, held) {
            (0, ..) | (_, false, true) => 0,
            (_, false, false) => width,
            (count, true, _) => count * width,
        };
        inputs + learning * self.rank
    }
}

/// A block of the language model.
pub(super) fn text_graph(settings: &Settings, layer: usize) -> Graph {
    let text = &settings.model.text;
    let (width, inner) = (text.hidden_size, text.intermediate_size);
    let (queries, keys) = heads(text);
    let name = |part: &str| format!("model.layers.{layer}.{part}");
    let inputs = Inputs::new(settings);
    let attention = ["q_proj", "k_proj", "v_proj"].map(|part| name(&format!("self_attn.{part}")));
    let output = [name("self_attn.o_proj")];
    let gates = ["gate_proj", "up_proj"].map(|part| name(&format!("mlp.{part}")));
    let down = [name("mlp.down_proj")];
    let gated = inputs.kept(&down, inner, false);
    let kept = inputs.kept(&attention, width, false)
        // Turned queries and keys, values, the output, a log-sum-exp a head.
        + 2 * queries + 2 * keys + text.num_attention_heads
        + inputs.kept(&output, queries, true)
        // The second norm's input, and a scale for each norm.
        + width + 2
        + inputs.kept(&gates, width, false)
        + 2 * inner
        + gated;
    // At the gate's gradient: those of the gated values, of gate and up, and of the residual stream; the gated values
    // themselves are gone.
    let passing = 3 * inner + 2 * width - gated.min(inner);
    Graph { kept, passing }
}

/// Values per token that are alive at once in a block without a graph.
pub(super) fn text_passing(model: &ModelConfig, adapters: bool) -> usize {
    let text = &model.text;
    let (queries, keys) = heads(text);
    // An adapter's output and the sum with the layer's own lie beside both for a moment.
    let sum = usize::from(adapters);
    let attention = 3 * queries + 3 * keys + sum * queries;
    let mlp = text.hidden_size + (3 + sum) * text.intermediate_size;
    2 * text.hidden_size + attention.max(mlp)
}

/// A block of the vision tower.
pub(super) fn vision_graph(settings: &Settings, block: usize) -> Graph {
    let vision = &settings.model.vision;
    let (width, inner) = (vision.embed_dim, vision.intermediate_size);
    let name = |part: &str| format!("visual.blocks.{block}.{part}");
    let inputs = Inputs::new(settings);
    let kept = |parts: &[&str], width: usize, held: bool| {
        let names: Vec<String> = parts.iter().map(|part| name(part)).collect();
        inputs.kept(&names, width, held)
    };
    // Turned queries and keys; values are a part of the projection's output, which stays whole; the output.
    let attention = 6 * width + vision.num_heads + kept(&["attn.proj"], width, true);
    let first = kept(&["attn.qkv"], width, false);
    match vision.kind {
        VisionKind::Qwen2 => Graph {
            // Layer norms: centred and scaled values each. Quick GELU: its input, the sigmoid.
            kept: 4 * width
                + first
                + attention
                + kept(&["mlp.fc1"], width, false)
                + 2 * inner
                + kept(&["mlp.fc2"], inner, false),
            passing: 4 * inner + 2 * width,
        },
        VisionKind::Qwen25 { .. } => Graph {
            // The second norm's input, two scales.
            kept: width
                + 2
                + first
                + attention
                + kept(&["mlp.gate_proj", "mlp.up_proj"], width, false)
                + 2 * inner
                + kept(&["mlp.down_proj"], inner, false),
            passing: 3 * inner + 2 * width,
        },
    }
}

/// Values per patch that are alive at once in a block of the tower without a graph.
pub(super) fn vision_passing(vision: &VisionConfig) -> usize {
    let (width, inner) = (vision.embed_dim, vision.intermediate_size);
    // The projection's output, its turned copies and the attention's output, or the MLP's three.
    2 * width + (7 * width).max(width + 3 * inner)
}

/// Values per patch outside of the blocks: its pixels and the merger's rows.
pub(super) const fn vision_ends(model: &ModelConfig) -> usize {
    model.vision.patch_values() + 2 * model.vision.embed_dim
}

/// Widths of all query heads and of all key heads.
const fn heads(text: &TextConfig) -> (usize, usize) {
    (
        text.num_attention_heads * text.head_dim,
        text.num_key_value_heads * text.head_dim,
    )
}
