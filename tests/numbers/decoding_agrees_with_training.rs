//! Are the log-probabilities kept while sampling those that training computes, and is a draw a function of its seed?

use std::sync::Arc;

use crate::support::{Golden, devices, golden_path};
use burn::tensor::Device;
use vision_ekipl::actions::generator::{Generate, Sampled, SamplingParameters};
use vision_ekipl::data::prompt::{PromptEncoder, PromptOptions};
use vision_ekipl::learner::{Learner, LearnerOptions};
use vision_ekipl::model::Qwen2Vl;
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::parameters::{Holding, Weights};
use vision_ekipl::record::{FinishReason, Prompt, TokenBatch, TokenRow};

const FOLDER: &str = "qwen2vl-tiny";
const TEMPERATURE: f32 = 0.9;
const GROUP: usize = 3;

/// One picture, two pictures, none; 76, 77 and 93 tokens.
fn prompts() -> Vec<Arc<Prompt>> {
    let golden = Golden::open("golden-qwen2vl-tiny.safetensors");
    ["p0", "p3", "p4"]
        .map(|id| golden.prompt(id, &golden))
        .to_vec()
}

fn suppressed() -> Vec<bool> {
    let folder = golden_path(FOLDER);
    let vocabulary = ModelConfig::open(&folder)
        .expect("config.json")
        .text
        .vocab_size;
    let encoder = PromptEncoder::open(&folder, &PromptOptions::default()).expect("a tokenizer");
    encoder.suppressed_tokens(vocabulary)
}

fn learner(device: &Device, logprob_temperature: f32, suppressed: Option<Vec<bool>>) -> Learner {
    let options = LearnerOptions {
        logprob_temperature,
        suppressed,
        ..LearnerOptions::default()
    };
    let folder = golden_path(FOLDER);
    let config = ModelConfig::open(&folder).expect("config.json");
    let weights = Weights::load(&folder, &Holding::trained(u64::MAX), device).expect("weights");
    Learner::new(config, weights, FOLDER, options, device).expect("a whole model")
}

fn policy(device: &Device) -> Qwen2Vl {
    learner(device, 1.0, None).policy().expect("a whole model")
}

/// As in the paper's preset; one token in 40 ends a completion, so that the rows of a batch end at different places.
fn parameters(logprob_temperature: f32, suppressed: Option<Vec<bool>>) -> SamplingParameters {
    SamplingParameters {
        temperature: TEMPERATURE,
        top_k: 50,
        top_p: 0.9,
        min_p: 0.0,
        repetition_penalty: 1.0,
        max_new_tokens: 12,
        logprob_temperature,
        end_tokens: (0..928).filter(|id| id % 40 == 3).collect(),
        suppressed: suppressed.map(Arc::from),
        generation_rows: None,
        seed: 11,
    }
}

fn batch(prompts: Vec<Arc<Prompt>>, groups: &[Vec<Sampled>]) -> TokenBatch {
    let rows = groups.iter().enumerate().flat_map(|(prompt, group)| {
        group.iter().map(move |sampled| TokenRow {
            sampling_logprobs: Some(sampled.logprobs.clone()),
            ..TokenRow::plain(prompt, sampled.token_ids.clone())
        })
    });
    TokenBatch {
        rows: rows.collect(),
        prompts,
    }
}

#[test]
fn sampled_log_probabilities_are_those_of_training() {
    for (name, device) in devices() {
        let tolerance = if name == "cpu" { 2e-5 } else { 1e-4 };
        for logprob_temperature in [1.0, TEMPERATURE] {
            for suppressed in [None, Some(suppressed())] {
                let case = format!(
                    "{name}, divided by {logprob_temperature}, suppression {}",
                    suppressed.is_some()
                );
                let learner = learner(&device, logprob_temperature, suppressed.clone());
                let policy = learner.policy().expect("a whole model");
                let parameters = parameters(logprob_temperature, suppressed);
                let groups = policy
                    .generate(&prompts(), GROUP, &parameters)
                    .expect("finite logits");
                let batch = batch(prompts(), &groups);
                let lengths: Vec<usize> = batch.rows.iter().map(|row| row.mask.len()).collect();
                assert_eq!(lengths.len(), prompts().len() * GROUP);
                assert!(
                    lengths.iter().any(|length| *length != lengths[0]),
                    "rows of different length: {lengths:?}"
                );
                let found = learner
                    .logprobs(&learner.weights, &batch)
                    .expect("a whole model");
                let mut worst = 0.0f32;
                for (row, found) in batch.rows.iter().zip(&found) {
                    let kept = row.sampling_logprobs.as_ref().expect("sampled");
                    assert_eq!(kept.len(), found.len());
                    for (kept, found) in kept.iter().zip(found) {
                        worst = worst.max((kept - found).abs());
                    }
                }
                println!("{case}: largest difference {worst:.1e}");
                assert!(
                    worst <= tolerance,
                    "{case}: {worst:e}, at most {tolerance:e} is right"
                );
            }
        }
    }
}

/// A repetition penalty changes what is drawn and leaves the log-probability that of the plain distribution. A large one
/// forbids every token that was there before.
#[test]
fn a_repetition_penalty_changes_draws_and_not_log_probabilities() {
    for (name, device) in devices() {
        let learner = learner(&device, 1.0, None);
        let policy = learner.policy().expect("a whole model");
        let draw = |repetition_penalty: f32| {
            let parameters = SamplingParameters {
                temperature: 0.0,
                repetition_penalty,
                ..parameters(1.0, None)
            };
            policy
                .generate(&prompts(), 2, &parameters)
                .expect("finite logits")
        };
        let (plain, penalised) = (draw(1.0), draw(1e6));
        assert_ne!(plain, penalised, "{name}");
        for (prompt, group) in prompts().iter().zip(&penalised) {
            let mut seen = prompt.input_ids.clone();
            for id in &group[0].token_ids {
                assert!(!seen.contains(id), "{name}: {id} was there before");
                seen.push(*id);
            }
        }
        let batch = batch(prompts(), &penalised);
        let found = learner.logprobs(&learner.weights, &batch);
        for (row, found) in batch.rows.iter().zip(found.expect("a whole model")) {
            let kept = row.sampling_logprobs.as_ref().expect("sampled");
            let pairs = kept.iter().zip(&found);
            let worst = pairs.fold(0.0f32, |worst, (kept, found)| {
                worst.max((kept - found).abs())
            });
            assert!(worst <= 1e-4, "{name}: {worst:e}");
        }
    }
}

/// What the agreement above would not show: that both sides ignore temperature and suppression.
#[test]
fn temperature_and_suppression_change_the_log_probabilities() {
    let device = Device::flex();
    let parameters = parameters(1.0, None);
    let groups = policy(&device)
        .generate(&prompts(), GROUP, &parameters)
        .expect("finite logits");
    let batch = batch(prompts(), &groups);
    let of = |learner: Learner| -> Vec<f32> {
        let rows = learner.logprobs(&learner.weights, &batch);
        rows.expect("a whole model").into_iter().flatten().collect()
    };
    let raw = of(learner(&device, 1.0, None));
    let scaled = of(learner(&device, TEMPERATURE, None));
    let filtered = of(learner(&device, 1.0, Some(suppressed())));
    let differences = raw
        .iter()
        .zip(&scaled)
        .map(|(raw, scaled)| (raw - scaled).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest > 0.01, "the temperature counts: {largest}");
    let suppressed = suppressed();
    let ids = batch.rows.iter().flat_map(|row| &row.token_ids);
    for (token, id) in ids.enumerate() {
        // Mass taken from suppressed tokens goes to all others.
        let is_suppressed = suppressed[*id as usize];
        assert!(
            is_suppressed || filtered[token] > raw[token],
            "token {token}: {} is not above {}",
            filtered[token],
            raw[token]
        );
    }
}

#[test]
fn the_seed_decides_the_tokens() {
    for (name, device) in devices() {
        let policy = policy(&device);
        let parameters = parameters(1.0, None);
        let draw = |seed: u64| {
            let parameters = SamplingParameters {
                seed,
                ..parameters.clone()
            };
            policy
                .generate(&prompts(), GROUP, &parameters)
                .expect("finite logits")
        };
        let first = draw(11);
        assert_eq!(first, draw(11), "{name}: the same seed");
        assert_ne!(first, draw(12), "{name}: another seed");
        let ids: Vec<&Vec<u32>> = first.iter().flatten().map(|row| &row.token_ids).collect();
        for (index, row) in ids.iter().enumerate() {
            assert!(
                !ids[..index].contains(row),
                "{name}: rows have streams of their own"
            );
        }
    }
}

#[test]
fn the_draws_of_a_row_do_not_depend_on_its_neighbours() {
    let policy = policy(&Device::flex());
    let parameters = parameters(1.0, None);
    let draw = |prompts: &[Arc<Prompt>], count: usize| {
        let groups = policy.generate(prompts, count, &parameters);
        groups.expect("finite logits")
    };
    let tokens = |group: &[Sampled]| -> Vec<Vec<u32>> {
        group.iter().map(|row| row.token_ids.clone()).collect()
    };
    let prompts = prompts();
    let together = draw(&prompts, GROUP);
    for (prompt, group) in prompts.iter().zip(&together) {
        let alone = draw(std::slice::from_ref(prompt), GROUP);
        assert_eq!(tokens(&alone[0]), tokens(group), "{} alone", prompt.id);
        let fewer = draw(std::slice::from_ref(prompt), 1);
        assert_eq!(
            tokens(&fewer[0]),
            tokens(&group[..1]),
            "{}: the first of one is the first of three",
            prompt.id
        );
    }
    let reversed: Vec<Arc<Prompt>> = prompts.iter().rev().cloned().collect();
    let mut backwards = draw(&reversed, GROUP);
    backwards.reverse();
    for (one, other) in together.iter().zip(&backwards) {
        assert_eq!(tokens(one), tokens(other), "in another order");
    }
}

/// Rows that wait for the place of another draw what they would have drawn at once; prompts are read in turn then.
#[test]
fn draws_do_not_depend_on_how_many_rows_are_alive_at_once() {
    for (name, device) in devices() {
        let policy = policy(&device);
        let draw = |generation_rows: Option<usize>| -> Vec<Sampled> {
            let parameters = SamplingParameters {
                generation_rows,
                ..parameters(1.0, None)
            };
            let groups = policy.generate(&prompts(), 5, &parameters);
            groups
                .expect("finite logits")
                .into_iter()
                .flatten()
                .collect()
        };
        let all = draw(None);
        let lengths = || all.iter().map(|row| row.token_ids.len());
        assert!(lengths().min() < lengths().max(), "{name}: rows end apart");
        for rows in [1, 2, 3, 7] {
            for (index, (row, expected)) in draw(Some(rows)).iter().zip(&all).enumerate() {
                let case = format!("{name}: row {index}, {rows} at once");
                assert_eq!(row.token_ids, expected.token_ids, "{case}");
                assert_eq!(row.finish, expected.finish, "{case}");
                for (one, other) in row.logprobs.iter().zip(&expected.logprobs) {
                    assert!((one - other).abs() <= 1e-5, "{case}: {one}, {other}");
                }
            }
        }
    }
}

#[test]
fn suppressed_tokens_are_never_drawn() {
    let policy = policy(&Device::flex());
    let flags = suppressed();
    let drawn = |suppressed: Option<Vec<bool>>| -> Vec<u32> {
        let parameters = SamplingParameters {
            temperature: 5.0,
            top_k: 0,
            top_p: 1.0,
            max_new_tokens: 48,
            end_tokens: Vec::new(),
            ..parameters(1.0, suppressed)
        };
        let groups = policy
            .generate(&prompts(), 32, &parameters)
            .expect("finite logits");
        let rows: Vec<Sampled> = groups.into_iter().flatten().collect();
        assert!(rows.iter().all(|row| row.finish == FinishReason::Length));
        rows.into_iter().flat_map(|row| row.token_ids).collect()
    };
    let count = |ids: &[u32]| ids.iter().filter(|id| flags[**id as usize]).count();
    let (free, filtered) = (drawn(None), drawn(Some(flags.clone())));
    assert_eq!((free.len(), filtered.len()), (4608, 4608));
    assert!(
        count(&free) > 20,
        "{} without suppression: the test can fail",
        count(&free)
    );
    assert_eq!(count(&filtered), 0);
}
