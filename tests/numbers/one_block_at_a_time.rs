//! Does a backward pass that computes every block again give the gradients of the whole graph, does a step that uses each
//! gradient as it comes give the update of a step that gathers them, and is a picture computed once?

use burn::tensor::Device;
use vision_ekipl::actions::generator::{Generate, SamplingParameters};
use vision_ekipl::learner::{LearnError, Learner, LearnerOptions};
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::record::{TokenBatch, TokenRow};

use crate::learner_matches_golden::{batch, reference, weights};
use crate::support::{Golden, assert_close, devices, golden_path};

fn learner(folder: &str, options: LearnerOptions, device: &Device) -> Learner {
    let path = golden_path(folder);
    let config = ModelConfig::open(&path).expect("config.json");
    let frozen = options.freeze_vision_modules;
    let trains = move |name: &str| !(frozen && name.starts_with("visual."));
    let holding = Holding {
        trains: &trains,
        ..Holding::trained(u64::MAX)
    };
    let weights = Weights::load(&path, &holding, device).expect("weights");
    Learner::new(config, weights, folder, options, device).expect("a whole model")
}

/// The golden group with its pictures on each model; Qwen2.5-VL has the same vocabulary.
fn two_prompts() -> TokenBatch {
    let mut batch = batch(&reference(), "t1.0", 0..4);
    let golden = Golden::open("golden-qwen2vl-tiny.safetensors");
    batch.prompts.push(golden.prompt("p1", &golden));
    batch.rows.push(TokenRow {
        advantages: vec![0.7; 3],
        ..TokenRow::plain(1, vec![40, 41, 42])
    });
    batch
}

fn gradients(learner: &Learner) -> Vec<(String, Vec<f64>)> {
    let all = learner.gradients().iter();
    let values = |tensor| host_values(tensor).into_iter().map(f64::from).collect();
    all.map(|(name, tensor)| (name.clone(), values(tensor)))
        .collect()
}

fn assert_same(what: &str, found: &[(String, Vec<f64>)], expected: &[(String, Vec<f64>)]) {
    let names = |all: &[(String, Vec<f64>)]| -> Vec<String> {
        all.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(found), names(expected), "{what}");
    for ((name, found), (_, expected)) in found.iter().zip(expected) {
        for (found, expected) in found.iter().zip(expected) {
            assert!(
                (found - expected).abs() <= 1e-6,
                "{what} {name}: {found} against {expected}"
            );
        }
    }
}

#[test]
fn gradients_are_those_of_the_whole_graph() {
    let batch = two_prompts();
    let tokens = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let weights = weights("dapo", &batch, tokens, 1.0);
    for (device_name, device) in devices() {
        for folder in ["qwen2vl-tiny", "qwen25vl-tiny"] {
            for freeze_vision_modules in [false, true] {
                let of = |gradient_checkpointing| {
                    let options = LearnerOptions {
                        freeze_vision_modules,
                        gradient_checkpointing,
                        entropy_coef: 0.01,
                        ..LearnerOptions::default()
                    };
                    let mut learner = learner(folder, options, &device);
                    let result = learner.accumulate(&batch, &weights).expect("finite");
                    (result.loss, gradients(&learner))
                };
                let ((loss, whole), (again, by_block)) = (of(false), of(true));
                let what =
                    format!("{folder} on {device_name}, tower frozen: {freeze_vision_modules}");
                assert!((loss - again).abs() < 1e-6, "{what}: {loss}, {again}");
                assert_same(&what, &by_block, &whole);
                let has_tower = whole.iter().any(|(name, _)| name.starts_with("visual."));
                assert_eq!(has_tower, !freeze_vision_modules, "{what}");
            }
        }
    }
}

#[test]
fn a_step_that_uses_each_gradient_as_it_comes_is_the_same_step() {
    let (batch, device) = (two_prompts(), Device::flex());
    let tokens = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let weights = weights("grpo", &batch, tokens, 1.0);
    let options = |gradient_checkpointing| LearnerOptions {
        gradient_checkpointing,
        max_grad_norm: 0.0,
        ..LearnerOptions::default()
    };
    let mut gathered = learner("qwen2vl-tiny", options(false), &device);
    let mut streamed = learner("qwen2vl-tiny", options(true), &device);
    for _ in 0..3 {
        gathered.accumulate(&batch, &weights).expect("finite");
        let first = gathered.apply(1e-3).expect("applied");
        let step = streamed.step_of_one(&batch, &weights, 1e-3, |_| Ok::<(), LearnError>(()));
        let (_, second) = step.expect("applied");
        assert!((first.grad_norm / second.grad_norm - 1.0).abs() < 1e-4);
        assert!(streamed.gradients().is_empty());
    }
    assert_eq!(streamed.optimizer.steps_taken(), 3);
    let mut far = 0;
    for (name, parameter) in gathered.weights.iter() {
        let expected = host_values(parameter.dense().expect("it trains"));
        let found = host_values(streamed.weights.values(name).expect("the same model"));
        let pairs = found.iter().zip(&expected);
        // Where a gradient is nothing but rounding, its sign and so a whole step of 1e-3 is chance.
        far += pairs.filter(|(a, b)| (*a - *b).abs() > 1e-5).count();
    }
    assert!(far * 1000 < gathered.weights.count(), "{far} values differ");
    let before = host_values(
        streamed
            .weights
            .values("model.norm.weight")
            .expect("a norm"),
    );
    let refused = streamed.step_of_one(&batch, &weights, 1e-3, |result| {
        let found = result.loss;
        Err::<(), LearnError>(LearnError::Loss { found })
    });
    assert!(refused.is_err() && streamed.optimizer.steps_taken() == 3);
    let after = host_values(
        streamed
            .weights
            .values("model.norm.weight")
            .expect("a norm"),
    );
    assert_eq!(before, after, "a step that is refused changes nothing");
}

/// A frozen tower computes a picture once for sampling, reference and all micro-batches of its generation batch.
#[test]
fn a_picture_is_computed_once_where_the_tower_stays_as_it_is() {
    let (batch, device) = (two_prompts(), Device::flex());
    let pictures: usize = batch.prompts.iter().map(|prompt| prompt.images.len()).sum();
    assert!(pictures > 0, "the golden prompts have pictures");
    let weights = weights("grpo", &batch, 100, 1.0);
    for gradient_checkpointing in [false, true] {
        let options = LearnerOptions {
            freeze_vision_modules: true,
            gradient_checkpointing,
            ..LearnerOptions::default()
        };
        let mut learner = learner("qwen2vl-tiny", options, &device);
        let sampled = learner.policy().expect("whole").generate(
            &batch.prompts,
            2,
            &SamplingParameters {
                temperature: 1.0,
                top_k: 0,
                top_p: 1.0,
                min_p: 0.0,
                repetition_penalty: 1.0,
                max_new_tokens: 3,
                logprob_temperature: 1.0,
                end_tokens: Vec::new(),
                suppressed: None,
                generation_rows: None,
                seed: 7,
            },
        );
        assert_eq!(sampled.expect("finite").len(), 2);
        let reference = learner.weights.clone();
        learner.logprobs(&reference, &batch).expect("finite");
        for _ in 0..2 {
            learner.accumulate(&batch, &weights).expect("finite");
        }
        learner.apply(1e-3).expect("applied");
        learner.accumulate(&batch, &weights).expect("finite");
        assert_eq!(learner.pictures_computed(), Some(pictures));
    }
    let trained = learner("qwen2vl-tiny", LearnerOptions::default(), &device);
    assert_eq!(trained.pictures_computed(), None);
}

/// The bits of the file, wherever they are held, are the same model.
#[test]
fn frozen_weights_are_the_same_model() {
    let golden = Golden::open("golden-qwen2vl-tiny.safetensors");
    let prompts = [golden.prompt("p0", &golden), golden.prompt("p1", &golden)];
    let batch = TokenBatch {
        rows: vec![
            TokenRow::plain(0, vec![50, 60, 70]),
            TokenRow::plain(1, vec![80, 90]),
        ],
        prompts: prompts.to_vec(),
    };
    for (device_name, device) in devices() {
        for folder in ["qwen2vl-tiny", "qwen2vl-tiny-v5-sharded-bf16"] {
            let path = golden_path(folder);
            let config = ModelConfig::open(&path).expect("config.json");
            let of = |holding: &Holding<'_>| {
                let weights = Weights::load(&path, holding, &device).expect("weights");
                let options = LearnerOptions::default();
                let learner = Learner::new(config.clone(), weights, folder, options, &device);
                let learner = learner.expect("a whole model");
                learner.logprobs(&learner.weights, &batch).expect("finite")
            };
            let expected = of(&Holding::trained(u64::MAX)).concat();
            // A limit below the size of the larger matrices: they are split by rows.
            for limit in [u64::MAX, 100_000] {
                let found = of(&Holding::frozen(limit)).concat();
                let expected: Vec<f64> = expected.iter().copied().map(f64::from).collect();
                let what = format!("{folder} on {device_name}, buffers up to {limit}");
                assert_close(&what, &found, &expected, 2e-5);
            }
        }
    }
}
