//! The settings that would make a run fit, found by planning it with each of them.
//!
//! Tries few changes before many, and those that change nothing of what is learnt before those that do.

use serde::Serialize;

use super::bytes::times;
use super::plan::MemoryPlan;
use super::settings::{Adapters, Settings, Trained, Work};
use crate::kernels::Storage;

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remedy {
    /// Keys with their new values, as YAML.
    pub keys: String,
    /// Bytes that come back to the peak without it.
    pub saves: u64,
}

/// What to do about a run that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// The changes, in the order in which they are made.
    pub remedies: Vec<Remedy>,
    /// The peak with all of them.
    pub peak: u64,
    /// Whether that fits.
    pub fits: bool,
}

/// A kind of change; how far it can go depends on the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    GradientCheckpointing,
    GenerationRows,
    BatchSize,
    Adapters,
    FourBits,
    Pixels,
    CompletionLength,
}

/// Mildest first.
const CHANGES: [Change; 7] = [
    Change::GradientCheckpointing,
    Change::GenerationRows,
    Change::BatchSize,
    Change::Adapters,
    Change::FourBits,
    Change::Pixels,
    Change::CompletionLength,
];
/// Pictures are not made smaller than this, in pixels, nor completions shorter than that, in tokens.
const FEWEST_PIXELS: usize = 100_000;
const SHORTEST_COMPLETION: usize = 128;

/// Settings after a change, and its keys.
type Changed = (Settings, String);

/// What brings the peak of `settings` down to `limit` bytes; nothing if it is there already. `adapters` are those that
/// `use_peft: true` would lay on, if it can.
#[must_use]
pub fn advice(settings: &Settings, adapters: Option<&Adapters>, limit: u64) -> Option<Advice> {
    if peak(settings) <= limit {
        return None;
    }
    let possible: Vec<Change> = CHANGES
        .into_iter()
        .filter(|change| !levels(*change, settings, adapters).is_empty())
        .collect();
    let fitting = (1..=possible.len())
        .flat_map(|count| choices(&possible, count))
        .find(|chosen| peak(&strongest(settings, chosen, adapters)) <= limit);
    let chosen = fitting.unwrap_or_else(|| without_idle(settings, &possible, adapters));
    Some(explained(settings, &chosen, adapters, limit))
}

fn peak(settings: &Settings) -> u64 {
    MemoryPlan::new(settings).peak().1
}

/// Every choice of `count` of them, in order.
fn choices(all: &[Change], count: usize) -> Vec<Vec<Change>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let mut found = Vec::new();
    for (place, first) in all.iter().enumerate() {
        for rest in choices(&all[place + 1..], count - 1) {
            found.push([vec![*first], rest].concat());
        }
    }
    found
}

/// Those of all changes that make a difference where all go as far as they can.
fn without_idle(settings: &Settings, all: &[Change], adapters: Option<&Adapters>) -> Vec<Change> {
    let mut kept = all.to_vec();
    let mut least = peak(&strongest(settings, all, adapters));
    for change in all {
        let others: Vec<Change> = kept.iter().copied().filter(|one| one != change).collect();
        let without = peak(&strongest(settings, &others, adapters));
        if without <= least {
            (kept, least) = (others, without);
        }
    }
    kept
}

fn strongest(settings: &Settings, chosen: &[Change], adapters: Option<&Adapters>) -> Settings {
    let all: Vec<Step> = chosen.iter().map(|change| (*change, usize::MAX)).collect();
    taken(settings, &all, adapters).0
}

/// A change and which of its levels, the last one if it has fewer.
type Step = (Change, usize);

/// The settings after some steps, and the keys of each.
fn taken(
    settings: &Settings,
    steps: &[Step],
    adapters: Option<&Adapters>,
) -> (Settings, Vec<String>) {
    let mut now = settings.clone();
    let mut keys = Vec::new();
    for (change, level) in steps {
        let mut levels = levels(*change, &now, adapters);
        if levels.is_empty() {
            keys.push(String::new());
            continue;
        }
        let (changed, key) = levels.swap_remove((*level).min(levels.len() - 1));
        keys.push(key);
        now = changed;
    }
    (now, keys)
}

/// Each change only as far as is needed when those after it go all the way; what each saves is what would come back without
/// it.
fn explained(
    settings: &Settings,
    chosen: &[Change],
    adapters: Option<&Adapters>,
    limit: u64,
) -> Advice {
    let mut steps: Vec<Step> = chosen.iter().map(|change| (*change, usize::MAX)).collect();
    let after = |steps: &[Step]| peak(&taken(settings, steps, adapters).0);
    for place in 0..steps.len() {
        let before = taken(settings, &steps[..place], adapters).0;
        let count = levels(chosen[place], &before, adapters).len();
        let enough = (0..count).find(|level| {
            let mut milder = steps.clone();
            milder[place].1 = *level;
            after(&milder) <= limit
        });
        steps[place].1 = enough.unwrap_or(count.saturating_sub(1));
    }
    let (changed, keys) = taken(settings, &steps, adapters);
    let peak = peak(&changed);
    let saves = |place: usize| {
        let mut others = steps.clone();
        others.remove(place);
        after(&others).saturating_sub(peak)
    };
    let remedies = keys.into_iter().enumerate().map(|(place, keys)| Remedy {
        keys,
        saves: saves(place),
    });
    Advice {
        remedies: remedies.collect(),
        peak,
        fits: peak <= limit,
    }
}

/// How far a change can go, mildest first.
fn levels(change: Change, settings: &Settings, adapters: Option<&Adapters>) -> Vec<Changed> {
    match change {
        Change::GradientCheckpointing => gradient_checkpointing(settings),
        Change::GenerationRows => generation_rows(settings),
        Change::BatchSize => batch_size(settings),
        Change::Adapters => use_adapters(settings, adapters),
        Change::FourBits => four_bits(settings),
        Change::Pixels => pixels(settings),
        Change::CompletionLength => completion_length(settings),
    }
}

fn gradient_checkpointing(settings: &Settings) -> Vec<Changed> {
    if settings.gradient_checkpointing {
        return Vec::new();
    }
    let changed = Settings {
        gradient_checkpointing: true,
        ..settings.clone()
    };
    vec![(changed, "gradient_checkpointing: true".to_owned())]
}

fn generation_rows(settings: &Settings) -> Vec<Changed> {
    if settings.work == Work::Supervised {
        return Vec::new();
    }
    let changed = |rows| {
        let changed = Settings {
            generation_rows: Some(rows),
            ..settings.clone()
        };
        (changed, format!("generation_rows: {rows}"))
    };
    halves(settings.rows_at_once(), 1)
        .into_iter()
        .map(changed)
        .collect()
}

/// Smaller micro-batches, as many times as many of them: what an optimizer step learns from stays.
fn batch_size(settings: &Settings) -> Vec<Changed> {
    let mut found = Vec::new();
    let rows = settings.rows();
    let powers = (1..)
        .map(|power| 1_usize << power)
        .take_while(|parts| *parts < rows);
    for parts in powers.chain((rows > 1).then_some(rows)) {
        if !rows.is_multiple_of(parts) {
            continue;
        }
        let mut changed = settings.clone();
        let keys = match settings.work {
            Work::Training => {
                changed.micro_batches = settings.micro_batches * parts;
                let size = settings.completions() / settings.micro_batches.max(1);
                if !size.is_multiple_of(parts) {
                    continue;
                }
                format!(
                    "per_device_train_batch_size: {}, gradient_accumulation_steps: {}, steps_per_generation: {}",
                    size / parts,
                    settings.accumulation * parts,
                    changed.micro_batches
                )
            }
            Work::Supervised => {
                changed.prompts = rows / parts;
                format!(
                    "per_device_train_batch_size: {}, gradient_accumulation_steps: {}",
                    rows / parts,
                    settings.accumulation * parts
                )
            }
        };
        changed.accumulation = settings.accumulation * parts;
        changed.keeps_gradients = true;
        found.push((changed, keys));
    }
    found
}

fn use_adapters(settings: &Settings, adapters: Option<&Adapters>) -> Vec<Changed> {
    let Some(adapters) = adapters.filter(|_| settings.adapters().is_none()) else {
        return Vec::new();
    };
    let changed = Settings {
        trained: Trained::Adapters(adapters.clone()),
        gradient_checkpointing: true,
        ..settings.clone()
    };
    vec![(
        changed,
        format!("use_peft: true, lora_r: {}", adapters.rank),
    )]
}

fn four_bits(settings: &Settings) -> Vec<Changed> {
    if settings.formats.matrices == Storage::Q4 {
        return Vec::new();
    }
    let mut changed = settings.clone();
    changed.formats.matrices = Storage::Q4;
    vec![(changed, "load_in_4bit: true".to_owned())]
}

fn pixels(settings: &Settings) -> Vec<Changed> {
    let (vision, prompt) = (&settings.model.vision, settings.prompt);
    let unit = vision.spatial_merge_size * vision.spatial_merge_size;
    let area = vision.patch_size * vision.patch_size;
    let changed = |pixels: usize| {
        let patches = prompt.picture_patches.min((pixels / area).max(unit));
        let fewer = (prompt.picture_patches - patches) / unit;
        let mut changed = settings.clone();
        changed.prompt.picture_patches = patches;
        changed.prompt.tokens = prompt.tokens.saturating_sub(prompt.pictures * fewer);
        (changed, format!("max_pixels: {pixels}"))
    };
    let whole = times([prompt.picture_patches, area]) as usize;
    halves(whole, FEWEST_PIXELS)
        .into_iter()
        .map(changed)
        .collect()
}

fn completion_length(settings: &Settings) -> Vec<Changed> {
    let changed = |tokens| {
        let changed = Settings {
            completion_tokens: tokens,
            ..settings.clone()
        };
        (changed, format!("max_completion_length: {tokens}"))
    };
    let levels = halves(settings.completion_tokens, SHORTEST_COMPLETION);
    levels.into_iter().map(changed).collect()
}

/// A half, a quarter, ... of `whole`, as long as it is at least `least`.
fn halves(whole: usize, least: usize) -> Vec<usize> {
    let halved = |value: &usize| Some(value / 2).filter(|half| *half >= least);
    std::iter::successors(halved(&whole), halved).collect()
}
