//! Pictures and the vision tower: pixels, features, and what the tower takes while it works.

use super::activations::{vision_ends, vision_graph, vision_passing};
use super::bytes::{F32, times};
use super::graph::graph_values;
use super::part::{Part, Phase};
use super::settings::{Place, Settings, Work};
use crate::model::PATCHES_AT_ONCE;
use crate::model::config::ModelConfig;

/// Patches of the pictures of some prompts, those of the largest picture, and how many go through the tower at once.
pub(super) struct Patches {
    all: usize,
    at_once: usize,
}

pub(super) fn picture_patches(settings: &Settings, prompts: usize) -> Patches {
    let prompt = settings.prompt;
    let all = prompts
        .saturating_mul(prompt.pictures)
        .saturating_mul(prompt.picture_patches);
    Patches {
        all,
        at_once: prompt
            .picture_patches
            .max(all.min(PATCHES_AT_ONCE))
            .min(all),
    }
}

/// Prompts whose pictures are in memory at once.
const fn prompts_at_once(settings: &Settings) -> usize {
    match settings.work {
        Work::Training => settings.prompts,
        Work::Supervised => settings.update_prompts(),
    }
}

/// Pixels on the host, and what the tower made of them.
pub(super) fn pictures(settings: &Settings) -> Part {
    let patches = picture_patches(settings, prompts_at_once(settings)).all;
    let (vision, text) = (&settings.model.vision, &settings.model.text);
    let unit = vision.spatial_merge_size * vision.spatial_merge_size;
    let pixels = match settings.place {
        Place::Cpu => times([patches, vision.patch_values()]),
        Place::Gpu => 0,
    };
    let features = times([patches / unit, text.hidden_size]);
    let bytes = pixels.saturating_add(features).saturating_mul(F32);
    Part::new("pictures", bytes, |phase| {
        !matches!(phase, Phase::Loading | Phase::Saving)
    })
}

/// The tower at work. Where nothing of it learns it runs once for every picture, where a picture is first needed. `room` is
/// what the language model has given back when the backward pass comes to the tower.
pub(super) fn tower(settings: &Settings, room: u64) -> Part {
    let part = Part::empty("vision tower at work");
    let without_graph =
        |prompts| tower_passing(&settings.model, picture_patches(settings, prompts));
    let micro_batch = settings.update_prompts();
    let first = match settings.work {
        Work::Training => part.at(Phase::Sampling, without_graph(settings.prompts)),
        Work::Supervised => part.at(Phase::Backward, without_graph(micro_batch)),
    };
    if !settings.vision_learns() {
        return first;
    }
    let scoring = if settings.scores {
        without_graph(micro_batch)
    } else {
        0
    };
    first
        .at(Phase::Scoring, scoring)
        .at(Phase::Backward, tower_graph(settings, room))
}

/// What the tower keeps for its backward pass, which comes after that of the language model: one block at a time its graph
/// takes the place of what is gone by then.
fn tower_graph(settings: &Settings, room: u64) -> u64 {
    let vision = &settings.model.vision;
    let patches = picture_patches(settings, settings.update_prompts()).all;
    let bytes = |values| times([patches, values]).saturating_mul(F32);
    let blocks = (0..vision.depth).map(|block| vision_graph(settings, block));
    let graph = graph_values(blocks, settings.gradient_checkpointing);
    let kept = vision.depth * vision.embed_dim + vision_ends(&settings.model);
    if settings.gradient_checkpointing {
        bytes(kept).saturating_add(bytes(graph).saturating_sub(room))
    } else {
        bytes(kept + graph)
    }
}

pub(super) fn tower_passing(model: &ModelConfig, patches: Patches) -> u64 {
    let values = vision_passing(&model.vision) + vision_ends(model);
    times([patches.at_once, values]).saturating_mul(F32)
}
