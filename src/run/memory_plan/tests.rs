//! Numbers worked out by hand, order in every size, and advice that holds when it is followed.

use std::collections::BTreeMap;
use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::kernels::Storage;
use crate::model::config::ModelConfig;
use crate::model::parameters::spec::specs;

fn tiny() -> ModelConfig {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
    ModelConfig::open(&folder).expect("config.json")
}

/// 2 prompts of 100 tokens with a picture of 64 patches, 4 completions of 32 tokens each, 2 micro-batches.
fn settings() -> Settings {
    Settings {
        model: tiny(),
        formats: Formats {
            matrices: Storage::Bf16,
            tables: Storage::Bf16,
        },
        trained: Trained::Weights { vision: false },
        work: Work::Training,
        place: Place::Gpu,
        tokenizer_bytes: 3 << 20,
        gradient_checkpointing: false,
        keeps_gradients: true,
        reference: false,
        scores: true,
        prompts: 2,
        samples: 4,
        generation_rows: None,
        group: 4,
        micro_batches: 2,
        accumulation: 2,
        completion_tokens: 32,
        prompt: PromptSizes {
            tokens: 100,
            pictures: 1,
            picture_patches: 64,
        },
        teachers: Vec::new(),
        unload_teachers: false,
    }
}

/// Adapters of some rank on layers whose names end in one of `ends`.
fn adapters(rank: usize, ends: &[&str]) -> Adapters {
    let all = specs(&tiny());
    let modules = all.iter().filter_map(|spec| spec.linear_module());
    let wanted = modules.filter(|module| ends.iter().any(|end| module.ends_with(end)));
    Adapters {
        rank,
        dropout: false,
        modules: wanted.map(str::to_owned).collect(),
        whole: BTreeMap::new(),
    }
}

fn bytes(settings: &Settings, what: &str, phase: Phase) -> u64 {
    let plan = MemoryPlan::new(settings);
    let part = plan.parts.iter().find(|part| part.what == what);
    part.map_or(0, |part| part.of(phase))
}

/// Every size of the tiny model is written out, so that a mistake in the arithmetic is not made twice.
#[test]
fn a_small_run_takes_what_was_worked_out_by_hand() {
    let settings = settings();
    let at = |what: &str, phase| bytes(&settings, what, phase);
    // Hidden 64, inner 176, 4 heads and 2 key heads of 16, 2 layers, 928 tokens in the table, tied.
    let layer = 64 * 64 + 64 + 2 * (32 * 64 + 32) + 64 * 64 + 3 * 176 * 64 + 2 * 64;
    let text = 928 * 64 + 2 * layer + 64;
    assert_eq!(at("trained weights", Phase::Update), 4 * text);
    assert_eq!(at("AdamW moments", Phase::Sampling), 8 * text);
    assert_eq!(
        at("AdamW moments", Phase::Loading),
        0,
        "they come with the first step"
    );
    assert_eq!(at("gradients", Phase::Update), 4 * text);
    // The tower: width 32, inner 128, 2 blocks, patches of 3 x 2 x 14 x 14; matrices in two bytes, vectors in four.
    let matrices = 32 * 1176 + 2 * (96 * 32 + 32 * 32 + 2 * 128 * 32) + 128 * 128 + 64 * 128;
    let vectors = 2 * (96 + 32 + 128 + 32 + 4 * 32) + 2 * 32 + 128 + 64;
    assert_eq!(
        at("frozen weights", Phase::Sampling),
        2 * matrices + 4 * vectors
    );
    // Prompts once, 8 rows of 32; keys and values of 2 layers, 2 heads of 16.
    assert_eq!(
        at("decoding caches", Phase::Sampling),
        (200 + 8 * 32) * 2 * 2 * 32 * 4
    );
    // A micro-batch is one prompt with its 4 rows: 228 tokens.
    assert_eq!(settings.update_tokens(), 228);
    let inputs = 228 * (2 + 2) * 64 + 2 * 128 * 64;
    assert_eq!(at("inputs of the blocks", Phase::Backward), inputs * 4);
    // Normed, queries and keys turned, values, output, log-sum-exp; hidden, normed, scales; gate, up, gated.
    let kept = 64 + 2 * 64 + 2 * 32 + 4 + 2 * 64 + 2 + 3 * 176;
    let passing = 2 * 176 + 2 * 64;
    assert_eq!(
        at("graph of all blocks", Phase::Backward),
        228 * (2 * kept + passing) * 4
    );
    // 16 merged patches of 64 values each for two prompts, computed once.
    assert_eq!(at("pictures", Phase::Scoring), 2 * 16 * 64 * 4);
    assert_eq!(
        at("vision tower at work", Phase::Backward),
        0,
        "it is frozen"
    );
    let plan = MemoryPlan::new(&settings);
    assert_eq!(plan.tokens.sampled, 8 * 32);
    assert_eq!((plan.tokens.micro_batch, plan.tokens.learnt), (228, 8 * 32));
    let names: Vec<&str> = plan.phases.iter().map(|phase| phase.name()).collect();
    assert_eq!(
        names,
        [
            "loading", "sampling", "scoring", "backward", "update", "saving"
        ]
    );
}

#[test]
fn adapters_keep_the_weights_frozen_and_a_graph_of_what_learns() {
    let with = |adapters| Settings {
        trained: Trained::Adapters(adapters),
        gradient_checkpointing: true,
        reference: true,
        ..settings()
    };
    let few = with(adapters(8, &["q_proj", "v_proj"]));
    // Rank 8 on [64, 64] and [32, 64] in two layers.
    assert_eq!(
        bytes(&few, "adapters", Phase::Saving),
        2 * 8 * (128 + 96) * 4
    );
    assert_eq!(bytes(&few, "trained weights", Phase::Update), 0);
    assert_eq!(
        bytes(&few, "reference model", Phase::Scoring),
        0,
        "adapters off are the reference"
    );
    // The gates' input and the gated values are kept for nobody; two adapters have a middle of 8.
    let kept = 64 + 2 * 8 + 2 * 64 + 2 * 32 + 4 + 64 + 2 + 2 * 176;
    let passing = 3 * 176 + 2 * 64;
    assert_eq!(
        bytes(&few, "graph of one block", Phase::Backward),
        228 * (kept + passing) * 4
    );
    let mut dropping = adapters(8, &["q_proj", "v_proj"]);
    dropping.dropout = true;
    let dropping = bytes(&with(dropping), "graph of one block", Phase::Backward);
    assert_eq!(
        dropping,
        228 * (kept + 64 + passing) * 4,
        "each has dropped others"
    );
    let all = with(adapters(8, &["_proj"]));
    assert!(
        bytes(&all, "graph of one block", Phase::Backward)
            > bytes(&few, "graph of one block", Phase::Backward)
    );
    let mut whole = adapters(8, &["q_proj"]);
    whole
        .whole
        .insert("model.embed_tokens.weight".to_owned(), 928 * 64);
    let extra = bytes(&with(whole), "adapters", Phase::Update);
    assert_eq!(
        extra,
        (2 * 8 * 128 + 928 * 64) * 4,
        "a copy that trains lies beside the frozen table"
    );
}

#[test]
fn a_full_run_with_a_kl_term_holds_its_start() {
    let held = |reference| {
        let settings = Settings {
            reference,
            ..settings()
        };
        (
            bytes(&settings, "reference model", Phase::Sampling),
            bytes(&settings, "trained weights", Phase::Sampling),
        )
    };
    let (reference, trained) = held(true);
    assert_eq!((reference, held(false).0), (trained, 0));
}

#[test]
fn teachers_are_there_when_they_are_needed() {
    let teacher = TeacherSettings {
        model: tiny(),
        formats: Formats {
            matrices: Storage::Q4,
            tables: Storage::Q8,
        },
        actions: 1,
        completion_tokens: 16,
    };
    let with = |unload_teachers| Settings {
        teachers: vec![teacher.clone()],
        unload_teachers,
        ..settings()
    };
    assert!(bytes(&with(false), "local teachers", Phase::Update) > 0);
    assert_eq!(bytes(&with(true), "local teachers", Phase::Update), 0);
    assert!(bytes(&with(true), "local teachers", Phase::Teachers) > 0);
    assert!(
        MemoryPlan::new(&with(true))
            .phases
            .contains(&Phase::Teachers)
    );
}

/// Draws a run of any kind.
fn drawn(rng: &mut ChaCha8Rng) -> Settings {
    let storages = [Storage::F32, Storage::Bf16, Storage::Q8, Storage::Q4];
    let ends: &[&[&str]] = &[&["q_proj", "v_proj"], &["_proj"], &["_proj", "qkv", "fc1"]];
    let vision = rng.random();
    let mut laid = adapters(
        rng.random_range(1..64),
        ends[rng.random_range(0..ends.len())],
    );
    laid.dropout = rng.random();
    let mut micro_batches = 1 << rng.random_range(0..3);
    let mut samples = 1 << rng.random_range(0..4);
    let mut work = Work::Training;
    if rng.random_range(0..4) == 0 {
        (work, micro_batches, samples) = (Work::Supervised, 1, 1);
    }
    Settings {
        formats: Formats {
            matrices: storages[rng.random_range(0..4)],
            tables: storages[rng.random_range(0..4)],
        },
        trained: if rng.random() {
            Trained::Weights { vision }
        } else {
            Trained::Adapters(laid)
        },
        work,
        place: if rng.random() { Place::Cpu } else { Place::Gpu },
        gradient_checkpointing: rng.random(),
        keeps_gradients: rng.random(),
        reference: rng.random(),
        scores: rng.random(),
        prompts: micro_batches * rng.random_range(1..5),
        samples,
        generation_rows: rng.random::<bool>().then(|| rng.random_range(1..64)),
        group: samples,
        micro_batches,
        accumulation: micro_batches,
        completion_tokens: rng.random_range(1..2000),
        prompt: PromptSizes {
            tokens: rng.random_range(100..3000),
            pictures: rng.random_range(0..3),
            picture_patches: 4 * rng.random_range(1..2000),
        },
        ..settings()
    }
}

#[test]
fn no_larger_size_takes_less() {
    let grow: [(&str, fn(&mut Settings)); 12] = [
        ("prompts", |settings| {
            settings.prompts += settings.micro_batches
        }),
        ("samples", |settings| {
            settings.samples += 1;
            // As many prompts are read for them as before.
            settings.generation_rows = settings.generation_rows.map(|rows| rows + settings.prompts);
        }),
        ("group", |settings| settings.group *= 2),
        ("completion", |settings| settings.completion_tokens += 7),
        ("prompt", |settings| settings.prompt.tokens += 9),
        ("pictures", |settings| settings.prompt.pictures += 1),
        ("patches", |settings| settings.prompt.picture_patches += 4),
        ("rows", |settings| {
            settings.generation_rows = settings.generation_rows.map(|rows| rows + 1);
        }),
        ("layers", |settings| {
            settings.model.text.num_hidden_layers += 1
        }),
        ("vocabulary", |settings| {
            settings.model.text.vocab_size += 32
        }),
        ("inner", |settings| {
            settings.model.text.intermediate_size += 32
        }),
        ("depth", |settings| settings.model.vision.depth += 1),
    ];
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for _ in 0..200 {
        let settings = drawn(&mut rng);
        let before = MemoryPlan::new(&settings);
        for (what, grow) in grow {
            let mut larger = settings.clone();
            grow(&mut larger);
            let after = MemoryPlan::new(&larger);
            for phase in Phase::ALL {
                assert!(
                    after.of(phase) >= before.of(phase),
                    "{what} in {phase:?}: {settings:?}"
                );
            }
        }
    }
}

#[test]
fn fewer_bits_take_less() {
    let frozen = |matrices| {
        let settings = Settings {
            formats: Formats {
                matrices,
                tables: Storage::Bf16,
            },
            ..settings()
        };
        bytes(&settings, "frozen weights", Phase::Loading)
    };
    let all = [Storage::F32, Storage::Bf16, Storage::Q8, Storage::Q4].map(frozen);
    assert!(all.is_sorted_by(|more, fewer| more > fewer), "{all:?}");
}

/// The keys of an advice as a person would set them.
fn followed(mut settings: Settings, keys: &str, laid: &Adapters) -> Settings {
    for pair in keys.split(", ") {
        let (key, value) = pair.split_once(": ").expect("a key and its value");
        let number = || value.parse::<usize>().expect("a number");
        match key {
            "gradient_checkpointing" => settings.gradient_checkpointing = true,
            "generation_rows" => settings.generation_rows = Some(number()),
            "per_device_train_batch_size" if settings.work == Work::Supervised => {
                settings.prompts = number();
            }
            // The completions of a generation batch stay as many.
            "per_device_train_batch_size" => {
                settings.micro_batches = settings.prompts * settings.samples / number();
            }
            "gradient_accumulation_steps" => {
                settings.accumulation = number();
                settings.keeps_gradients = true;
            }
            "steps_per_generation" => assert_eq!(settings.micro_batches, number()),
            "use_peft" => {
                settings.trained = Trained::Adapters(laid.clone());
                settings.gradient_checkpointing = true;
            }
            "lora_r" => assert_eq!(laid.rank, number()),
            "load_in_4bit" => settings.formats.matrices = Storage::Q4,
            "max_pixels" => {
                let patches = (number() / 196).max(4);
                let fewer = settings.prompt.picture_patches.saturating_sub(patches);
                settings.prompt.picture_patches -= fewer;
                let fewer = settings.prompt.pictures * (fewer / 4);
                settings.prompt.tokens = settings.prompt.tokens.saturating_sub(fewer);
            }
            "max_completion_length" => settings.completion_tokens = number(),
            other => panic!("{other} is no key"),
        }
    }
    settings
}

#[test]
fn advice_that_is_followed_fits() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let laid = adapters(16, &["q_proj", "v_proj"]);
    let (mut fitting, mut beyond) = (0, 0);
    for _ in 0..300 {
        let settings = drawn(&mut rng);
        let (_, peak) = MemoryPlan::new(&settings).peak();
        assert_eq!(
            advice(&settings, Some(&laid), peak),
            None,
            "it fits as it is"
        );
        let limit = (peak as f64 * rng.random_range(0.05..1.0)) as u64;
        let Some(found) = advice(&settings, Some(&laid), limit) else {
            panic!("{peak} bytes in {limit}")
        };
        let all = found
            .remedies
            .iter()
            .fold(settings.clone(), |settings, remedy| {
                followed(settings, &remedy.keys, &laid)
            });
        let (_, after) = MemoryPlan::new(&all).peak();
        assert_eq!(after, found.peak, "{settings:?}\n{found:?}");
        assert_eq!(found.fits, after <= limit);
        assert!(
            found.remedies.iter().all(|remedy| remedy.saves > 0),
            "{found:?}"
        );
        if found.fits {
            fitting += 1;
            let without_last = &found.remedies[..found.remedies.len() - 1];
            let fewer = without_last.iter().fold(settings, |settings, remedy| {
                followed(settings, &remedy.keys, &laid)
            });
            assert!(
                MemoryPlan::new(&fewer).peak().1 > limit,
                "none is idle: {found:?}"
            );
        } else {
            beyond += 1;
        }
    }
    assert!(fitting > 50 && beyond > 5, "{fitting} and {beyond}");
}

#[test]
fn a_large_picture_decides_alone_and_small_ones_together() {
    let tower = tiny().vision;
    let widest = (3 * tower.embed_dim)
        .max(tower.intermediate_size)
        .max(tower.patch_values());
    for (picture_patches, pictures, at_once) in [(50_000, 3, 50_000), (64, 1000, 4096)] {
        let mut settings = settings();
        settings.prompt.pictures = pictures;
        settings.prompt.picture_patches = picture_patches;
        let found = settings.largest_of_update();
        assert_eq!(found.bytes, (at_once * widest * 4) as u64);
        assert_eq!(found.cause, Cause::Picture);
        assert_eq!(
            found.what,
            format!("the vision tower over {at_once} patches")
        );
    }
}

#[test]
fn long_prompts_and_completions_decide_where_they_are_larger() {
    let mut long = settings();
    long.prompt.tokens = 400_000;
    let prompts = long.largest_of_update();
    assert_eq!(prompts.bytes, (400_000 + 4 * 32) * 176 * 4);
    assert_eq!(prompts.cause, Cause::Prompts);
    let completions = Settings {
        completion_tokens: 200_000,
        ..settings()
    };
    let found = completions.largest_of_update();
    assert_eq!(found.bytes, (100 + 4 * 200_000) * 176 * 4);
    assert_eq!(found.cause, Cause::Completions);
}

#[test]
fn sampling_holds_logits_and_a_cache_of_the_rows_in_the_making() {
    let rows = |samples, completion_tokens, generation_rows| {
        let settings = Settings {
            samples,
            completion_tokens,
            generation_rows,
            ..settings()
        };
        settings.largest_of_sampling().expect("it samples")
    };
    let many = rows(50_000, 4, Some(100_000));
    assert_eq!(many.bytes, 100_000 * 928 * 4);
    assert_eq!(many.what, "the logits of 100000 completions");
    assert_eq!(rows(50_000, 4, Some(2000)).bytes, 2000 * 928 * 4);
    let long = rows(4, 1_000_000, Some(8));
    assert_eq!(long.bytes, (200 + 8_000_000) * 32 * 4);
    assert_eq!(long.cause, Cause::Completions);
    assert!(
        rows(4, 1_000_000, None).bytes < long.bytes,
        "memory bounds the rows by itself"
    );
    let supervised = Settings {
        work: Work::Supervised,
        ..settings()
    };
    assert_eq!(supervised.largest_of_sampling(), None);
}

#[test]
fn no_size_is_too_large_to_be_counted() {
    let all = 1 << 40;
    let settings = Settings {
        prompts: all,
        samples: all,
        group: all,
        completion_tokens: all,
        prompt: PromptSizes {
            tokens: all,
            pictures: all,
            picture_patches: all,
        },
        ..settings()
    };
    assert_eq!(MemoryPlan::new(&settings).peak().1, u64::MAX);
    assert_eq!(settings.largest_of_update().bytes, u64::MAX);
}
