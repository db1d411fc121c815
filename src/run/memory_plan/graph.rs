//! Bytes that graphs hold between forward and backward.

use super::activations::{Graph, text_graph};
use super::bytes::{F32, times};
use super::settings::Settings;

/// What the graph of the language model holds at its largest: of one block at a time, or of all.
pub(super) fn text_graph_bytes(settings: &Settings) -> u64 {
    let layers = settings.model.text.num_hidden_layers;
    let blocks = (0..layers).map(|layer| text_graph(settings, layer));
    let values = graph_values(blocks, settings.gradient_checkpointing);
    times([settings.update_tokens(), values]).saturating_mul(F32)
}

/// Values per token of some blocks.
pub(super) fn graph_values(blocks: impl Iterator<Item = Graph>, one_at_a_time: bool) -> usize {
    let (mut sum, mut kept, mut passing) = (0, 0, 0);
    for block in blocks {
        sum += block.kept;
        kept = kept.max(block.kept);
        passing = passing.max(block.passing);
    }
    passing + if one_at_a_time { kept } else { sum }
}

/// What the blocks of the language model have given back when the first of them has its gradients.
pub(super) fn gone_at_the_last_block(settings: &Settings) -> u64 {
    let text = &settings.model.text;
    let layers = text.num_hidden_layers;
    let (mut sum, mut largest) = (0, 0);
    for kept in (0..layers).map(|layer| text_graph(settings, layer).kept) {
        sum += kept;
        largest = largest.max(kept);
    }
    let graphs = if settings.gradient_checkpointing {
        0
    } else {
        sum - largest
    };
    let inputs = layers.saturating_sub(1) * text.hidden_size;
    times([settings.update_tokens(), graphs + inputs]).saturating_mul(F32)
}
