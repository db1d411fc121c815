//! The parts of a run's memory, and in which phases each of them is there.

use super::activations::text_passing;
use super::bytes::{F32, times};
use super::graph::{gone_at_the_last_block, text_graph_bytes};
use super::part::{Part, Phase};
use super::settings::{Place, Settings, TeacherSettings, Work};
use super::tower::{picture_patches, pictures, tower, tower_passing};
use super::weights::{WeightBytes, frozen, of_policy};
use crate::kernels::LOGITS_CHUNK_BYTES;
use crate::model::config::ModelConfig;
use crate::model::generate::CacheRoom;

/// The program itself on the CPU device: its code, threads, buffers of libraries; measured.
const PROGRAM: u64 = 56 << 20;
/// Memory that a byte of a tokenizer's files takes; measured with 49,152 tokens.
const OF_TOKENIZER: u64 = 21;

/// All parts, those without bytes included.
pub(super) fn of(settings: &Settings) -> Vec<Part> {
    let weights = of_policy(settings);
    let mut parts = held(settings, &weights);
    let gradients = gradients(settings, &weights);
    // What is given back between the start of the backward pass and the tower's part in it.
    let inputs = block_inputs(settings);
    let room = inputs
        .of(Phase::Backward)
        .saturating_add(text_graph_bytes(settings))
        .saturating_add(gradients.of(Phase::Backward))
        .saturating_sub(gradients.of(Phase::Update));
    parts.push(gradients);
    parts.extend(teachers(settings));
    parts.extend([
        pictures(settings),
        tower(settings, room),
        caches(settings),
        passing(settings),
        inputs,
        graph(settings),
        head(settings, &weights),
        one_tensor(settings, &weights),
    ]);
    parts
}

/// What stays from the first step to the last.
fn held(settings: &Settings, weights: &WeightBytes) -> Vec<Part> {
    let program = if settings.place == Place::Cpu {
        PROGRAM.saturating_add(settings.tokenizer_bytes.saturating_mul(OF_TOKENIZER))
    } else {
        0
    };
    let learnt = weights.trained + weights.adapters;
    // Without adapters the reference is the start of the run, and every weight that trains leaves it.
    let reference = if settings.reference {
        weights.trained
    } else {
        0
    };
    let after_loading = |phase| phase != Phase::Loading;
    vec![
        Part::new("program", program, |_| true),
        Part::new("frozen weights", weights.frozen, |_| true),
        Part::new("trained weights", weights.trained, |_| true),
        Part::new("adapters", weights.adapters, |_| true),
        Part::new("AdamW moments", 2 * learnt, after_loading),
        Part::new("reference model", reference, after_loading),
    ]
}

/// Gradients come block by block while the graph goes; those of earlier micro-batches are there from the start.
fn gradients(settings: &Settings, weights: &WeightBytes) -> Part {
    let all = weights.trained + weights.adapters;
    // One block at a time an optimizer that waits for nothing takes them as they come.
    let kept = if settings.keeps_gradients || !settings.gradient_checkpointing {
        all
    } else {
        weights.largest_block
    };
    let beside = if settings.accumulation > 1 {
        kept
    } else {
        kept.saturating_sub(gone_at_the_last_block(settings))
    };
    Part::empty("gradients")
        .at(Phase::Backward, beside)
        .at(Phase::Update, kept)
}

/// Weights of local teachers, and what the largest of them takes while it acts.
fn teachers(settings: &Settings) -> [Part; 2] {
    let all = &settings.teachers;
    let weights = all
        .iter()
        .map(|teacher| frozen(&teacher.model, teacher.formats))
        .sum();
    let held = |phase| !settings.unload_teachers || phase == Phase::Teachers;
    let acting = all.iter().map(|teacher| acting(settings, teacher)).max();
    [
        Part::new("local teachers", weights, held),
        Part::empty("local teachers at work").at(Phase::Teachers, acting.unwrap_or(0)),
    ]
}

fn acting(settings: &Settings, teacher: &TeacherSettings) -> u64 {
    let count = [teacher.actions, teacher.completion_tokens];
    let room = settings.cache_room(&teacher.model.text, count, settings.generation_rows);
    let read = settings.read_at_once(room.rows, teacher.actions);
    let read = times([read.max(room.rows), text_passing(&teacher.model, false)]);
    cache(&room)
        .saturating_add(read.saturating_mul(F32))
        .saturating_add(logits(&teacher.model, room.rows))
        .max(tower_passing(
            &teacher.model,
            picture_patches(settings, settings.prompts),
        ))
}

/// Keys and values of the prompts, each once, and of the completions in the making.
fn caches(settings: &Settings) -> Part {
    let bytes = match settings.work {
        Work::Training => cache(&settings.room()),
        Work::Supervised => 0,
    };
    Part::empty("decoding caches").at(Phase::Sampling, bytes)
}

fn cache(room: &CacheRoom) -> u64 {
    let rows = times([room.rows, room.row_places, room.place_bytes]);
    rows.saturating_add(times([room.prompt_places, room.place_bytes]))
}

/// What goes through a block without a graph.
fn passing(settings: &Settings) -> Part {
    let values = text_passing(&settings.model, settings.adapters().is_some());
    let bytes = |tokens| times([tokens, values]).saturating_mul(F32);
    let part = Part::empty("activations in passing");
    let part = match settings.work {
        Work::Training => {
            let rows = settings.rows_at_once();
            let read = settings.read_at_once(rows, settings.samples);
            part.at(Phase::Sampling, bytes(read.max(rows)))
        }
        Work::Supervised => part,
    };
    let scoring = if settings.scores {
        bytes(settings.update_tokens())
    } else {
        0
    };
    part.at(Phase::Scoring, scoring)
}

/// The input of every block, and the states that the head reads with their gradient.
fn block_inputs(settings: &Settings) -> Part {
    let text = &settings.model.text;
    let inputs = times([
        settings.update_tokens(),
        text.num_hidden_layers + 2,
        text.hidden_size,
    ]);
    let states = times([settings.learnt_tokens(), 2, text.hidden_size]);
    let bytes = inputs.saturating_add(states).saturating_mul(F32);
    Part::empty("inputs of the blocks").at(Phase::Backward, bytes)
}

/// What the graph holds: of one block at a time, or of all.
fn graph(settings: &Settings) -> Part {
    let what = if settings.gradient_checkpointing {
        "graph of one block"
    } else {
        "graph of all blocks"
    };
    Part::empty(what).at(Phase::Backward, text_graph_bytes(settings))
}

/// Logits: of the rows in the making, or of as many tokens or rows of the table as a tile holds, with their gradient.
fn head(settings: &Settings, weights: &WeightBytes) -> Part {
    let text = &settings.model.text;
    let whole = times([settings.learnt_tokens(), text.vocab_size]).saturating_mul(F32);
    let tile = whole.min(LOGITS_CHUNK_BYTES as u64);
    let table = times([text.vocab_size, text.hidden_size]).saturating_mul(F32);
    // A table that trains gets a gradient as the head, and one as the embedding.
    let table = if weights.trained > 0 { table } else { 0 };
    let sampling = match settings.work {
        Work::Training => logits(&settings.model, settings.rows_at_once()),
        Work::Supervised => 0,
    };
    let scoring = if settings.scores { tile } else { 0 };
    Part::empty("logits")
        .at(Phase::Sampling, sampling)
        .at(Phase::Scoring, scoring)
        .at(Phase::Backward, (2 * tile).saturating_add(table))
}

fn logits(model: &ModelConfig, rows: usize) -> u64 {
    times([2, rows, model.text.vocab_size]).saturating_mul(F32)
}

/// The largest tensor on its way: from a file, through the optimizer, into a file.
fn one_tensor(settings: &Settings, weights: &WeightBytes) -> Part {
    let largest = weights.largest_trained;
    let part = Part::empty("one tensor on its way").at(Phase::Update, largest);
    match settings.place {
        // As f32, and as the file has it.
        Place::Cpu => part
            .at(Phase::Loading, largest / 2)
            .at(Phase::Saving, largest + largest / 2),
        Place::Gpu => part,
    }
}
