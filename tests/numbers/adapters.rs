//! Is an adapter what its definition says: W + s·B·A in values and gradients, nothing at the start, off for the reference,
//! and the same after a folder was written and read?

use burn::tensor::Device;
use vision_ekipl::learner::{Learner, LearnerOptions};
use vision_ekipl::model::adapter::AdapterConfig;
use vision_ekipl::model::adapter::names::Naming;
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::open::{ModelPlace, attach_new};
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::options::TargetModules;
use vision_ekipl::record::TokenBatch;
use vision_ekipl::run::checkpoint;

use crate::learner_matches_golden::{batch, reference, weights};
use crate::support::{assert_close, golden_path};

const FOLDER: &str = "qwen2vl-tiny";
const MODULE: &str = "model.layers.0.mlp.up_proj";

fn settings(modules_to_save: &[&str]) -> AdapterConfig {
    AdapterConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        use_rslora: false,
        target_modules: TargetModules::AllLinear,
        exclude_modules: None,
        modules_to_save: modules_to_save.iter().map(|m| (*m).to_owned()).collect(),
        base_model_name_or_path: Some(golden_path(FOLDER).display().to_string()),
        naming: Naming::Current,
    }
}

fn base(holding: &Holding<'_>) -> Weights {
    let weights = Weights::load(&golden_path(FOLDER), holding, &Device::flex());
    weights.expect("weights")
}

fn learner(weights: Weights, options: LearnerOptions) -> Learner {
    let config = ModelConfig::open(&golden_path(FOLDER)).expect("config.json");
    Learner::new(config, weights, FOLDER, options, &Device::flex()).expect("a whole model")
}

/// A learner with an adapter whose factors B are not zero.
fn adapted(settings: AdapterConfig, options: LearnerOptions) -> Learner {
    let mut weights = base(&Holding::frozen(u64::MAX));
    attach_new(&mut weights, settings, 3, &Device::flex()).expect("it fits");
    let factors: Vec<String> = weights
        .iter()
        .map(|(name, _)| name.clone())
        .filter(|name| name.contains(".lora_B."))
        .collect();
    for (place, name) in factors.iter().enumerate() {
        let values = weights.values(name).expect("a factor").clone();
        let start = place as f32;
        let count = values.dims()[0];
        let wave: Vec<f32> = (0..count)
            .map(|index| 0.02 * (start + index as f32).sin())
            .collect();
        let wave = burn::tensor::Tensor::from_floats(wave.as_slice(), &Device::flex());
        weights.replace(name, wave);
    }
    learner(weights, options)
}

fn golden_batch() -> (TokenBatch, Vec<Vec<f32>>) {
    let batch = batch(&reference(), "t1.0", 0..4);
    let tokens = batch.rows.iter().map(|row| row.token_ids.len()).sum();
    let weights = weights("dapo", &batch, tokens, 1.0);
    (batch, weights)
}

fn values(learner: &Learner, name: &str) -> Vec<f64> {
    let values = host_values(learner.weights.values(name).expect("a parameter"));
    values.into_iter().map(f64::from).collect()
}

fn gradient(learner: &Learner, name: &str) -> Vec<f64> {
    let mut gradients = learner.gradients().iter();
    let (_, found) = gradients
        .find(|(found, _)| *found == name)
        .unwrap_or_else(|| panic!("{name} has a gradient"));
    host_values(found).into_iter().map(f64::from).collect()
}

fn logprobs(learner: &Learner, weights: &Weights, batch: &TokenBatch) -> Vec<f32> {
    learner.logprobs(weights, batch).expect("finite").concat()
}

fn doubles(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

/// `left [n, k] · right [k, m]`.
fn product(left: &[f64], right: &[f64], [n, k, m]: [usize; 3]) -> Vec<f64> {
    let cell = |row: usize, column: usize| -> f64 {
        let terms = (0..k).map(|inner| left[row * k + inner] * right[inner * m + column]);
        terms.sum()
    };
    (0..n)
        .flat_map(|row| (0..m).map(move |column| (row, column)))
        .map(|(row, column)| cell(row, column))
        .collect()
}

fn transposed(values: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    let cells = (0..columns).flat_map(|column| (0..rows).map(move |row| (row, column)));
    cells
        .map(|(row, column)| values[row * columns + column])
        .collect()
}

/// The model with W + s·B·A in the place of every W, all of it trained.
fn merged(adapted: &Learner, scale: f64) -> Learner {
    let mut weights = base(&Holding::trained(u64::MAX));
    let names: Vec<String> = weights.iter().map(|(name, _)| name.clone()).collect();
    for name in names {
        let module = name.strip_suffix(".weight").unwrap_or(&name);
        let [a, b] = ["A", "B"].map(|letter| format!("{module}.lora_{letter}.weight"));
        let (Some(down), Some(up)) = (adapted.weights.get(&a), adapted.weights.get(&b)) else {
            continue;
        };
        let (rank, input, output) = (down.shape[0], down.shape[1], up.shape[0]);
        let added = product(
            &values(adapted, &b),
            &values(adapted, &a),
            [output, rank, input],
        );
        let own = host_values(weights.values(&name).expect("a matrix"));
        let sum = own.iter().zip(added).map(|(w, x)| w + (scale * x) as f32);
        weights.insert(&name, sum.collect(), vec![output, input], &Device::flex());
    }
    learner(weights, LearnerOptions::default())
}

#[test]
fn values_and_gradients_are_those_of_the_merged_matrix() {
    let (batch, shares) = golden_batch();
    for (use_rslora, scale) in [(false, 2.0), (true, 4.0)] {
        let settings = AdapterConfig {
            use_rslora,
            ..settings(&[])
        };
        let mut adapted = adapted(settings, LearnerOptions::default());
        let mut merged = merged(&adapted, scale);
        let found = logprobs(&adapted, &adapted.weights, &batch);
        let expected = logprobs(&merged, &merged.weights, &batch);
        assert_close("log-probabilities", &found, &doubles(&expected), 1e-4);
        let plain = adapted.weights.without_adapter();
        let plain = logprobs(&adapted, &plain, &batch);
        let far = plain.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        assert!(far.fold(0.0, f32::max) > 0.01, "the adapter does something");
        adapted.accumulate(&batch, &shares).expect("finite");
        merged.accumulate(&batch, &shares).expect("finite");
        assert!(
            adapted
                .gradients()
                .iter()
                .all(|(name, _)| name.contains(".lora_")),
            "nothing else trains"
        );
        let [a, b] = ["A", "B"].map(|letter| format!("{MODULE}.lora_{letter}.weight"));
        let shape = &adapted.weights.get(&a).expect("A").shape;
        let (rank, input) = (shape[0], shape[1]);
        let output = adapted.weights.get(&b).expect("B").shape[0];
        let dense = gradient(&merged, &format!("{MODULE}.weight"));
        let scaled: Vec<f64> = dense.iter().map(|value| scale * value).collect();
        // y = (W + sBA)x, so dA = s Bᵀ dW and dB = s dW Aᵀ.
        let up = transposed(&values(&adapted, &b), [output, rank]);
        let of_a = product(&up, &scaled, [rank, output, input]);
        let down = transposed(&values(&adapted, &a), [rank, input]);
        let of_b = product(&scaled, &down, [output, input, rank]);
        for (name, expected) in [(a, of_a), (b, of_b)] {
            for (found, expected) in gradient(&adapted, &name).iter().zip(expected) {
                let allowed = 1e-5 + 1e-3 * expected.abs();
                assert!(
                    (found - expected).abs() < allowed,
                    "{name}: {found}, {expected}"
                );
            }
        }
    }
}

#[test]
fn a_new_adapter_changes_nothing_and_training_it_leaves_the_model_alone() {
    let (batch, shares) = golden_batch();
    let mut weights = base(&Holding::frozen(u64::MAX));
    let plain = learner(weights.clone(), LearnerOptions::default());
    let expected = logprobs(&plain, &plain.weights, &batch);
    let own = |weights: &Weights| {
        let frozen = weights.base("model.layers.1.mlp.down_proj.weight");
        format!("{frozen:?}")
    };
    let before = own(&weights);
    attach_new(&mut weights, settings(&["merger"]), 3, &Device::flex()).expect("it fits");
    let mut adapted = learner(weights, LearnerOptions::default());
    let found = logprobs(&adapted, &adapted.weights, &batch);
    // The copy of the merger is dense: another product, which adds in another order.
    assert_close("a new adapter", &found, &doubles(&expected), 1e-5);
    for _ in 0..2 {
        adapted.accumulate(&batch, &shares).expect("finite");
        adapted.apply(1e-2).expect("applied");
    }
    let moved = logprobs(&adapted, &adapted.weights, &batch);
    assert!(moved != found, "it trains");
    let reference = adapted.weights.without_adapter();
    let reference = logprobs(&adapted, &reference, &batch);
    assert_eq!(
        reference, expected,
        "the reference is the model with the adapter off"
    );
    assert_eq!(own(&adapted.weights), before);
}

#[test]
fn a_written_adapter_is_read_as_the_same_model() {
    let (batch, shares) = golden_batch();
    for modules_to_save in [&[][..], &["lm_head", "merger"], &["embed_tokens"]] {
        let mut trained = adapted(settings(modules_to_save), LearnerOptions::default());
        trained.accumulate(&batch, &shares).expect("finite");
        trained.apply(1e-2).expect("applied");
        let expected = logprobs(&trained, &trained.weights, &batch);
        let folder = tempfile::tempdir().expect("a folder");
        checkpoint::save_model(&trained.weights, &golden_path(FOLDER), folder.path())
            .expect("written");
        assert!(
            !folder.path().join("config.json").exists(),
            "readers look for the model elsewhere"
        );
        let place = ModelPlace::of(folder.path()).expect("an adapter");
        assert_eq!(place.base, golden_path(FOLDER));
        let opened = place.open(&Holding::frozen(u64::MAX), &Device::flex());
        let (_, weights) = opened.expect("it fits its model");
        let again = learner(weights, LearnerOptions::default());
        let found = logprobs(&again, &again.weights, &batch);
        assert_eq!(found, expected, "{modules_to_save:?}");
    }
}

/// The masks are the same when a block is computed again, differ between micro-batches, and are off outside of training.
#[test]
fn dropout_acts_in_training_only_and_the_same_when_a_block_is_computed_again() {
    let (batch, shares) = golden_batch();
    let of = |lora_dropout, gradient_checkpointing| {
        let settings = AdapterConfig {
            lora_dropout,
            ..settings(&[])
        };
        let options = LearnerOptions {
            gradient_checkpointing,
            dropout_seed: 11,
            ..LearnerOptions::default()
        };
        let mut learner = adapted(settings, options);
        let first = learner.accumulate(&batch, &shares).expect("finite");
        let gradient = gradient(&learner, &format!("{MODULE}.lora_A.weight"));
        let second = learner.accumulate(&batch, &shares).expect("finite");
        let scored = logprobs(&learner, &learner.weights, &batch);
        (
            first.logprobs.concat(),
            gradient,
            second.logprobs.concat(),
            scored,
        )
    };
    let (plain, whole, by_block) = (of(0.0, false), of(0.5, false), of(0.5, true));
    assert_eq!(plain.0, plain.2);
    assert!(
        whole.0 != plain.0 && whole.0 != whole.2,
        "masks act, and differ"
    );
    assert_eq!(whole.3, plain.3, "scores have no dropout");
    assert_close("log-probabilities", &by_block.0, &doubles(&whole.0), 1e-6);
    for (found, expected) in by_block.1.iter().zip(&whole.1) {
        assert!((found - expected).abs() < 1e-6, "{found}, {expected}");
    }
}

/// An adapter whose model is gone is named with it, and one of another model with the tensor that does not fit.
#[test]
fn an_adapter_without_its_model_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut moved = settings(&[]);
    moved.base_model_name_or_path = Some("models/Qwen2-VL-2B-Instruct".to_owned());
    let learner = adapted(moved, LearnerOptions::default());
    checkpoint::save_model(&learner.weights, &golden_path(FOLDER), folder.path()).expect("written");
    let error = ModelPlace::of(folder.path())
        .expect_err("no model")
        .to_string();
    for part in [
        "LoRA adapter",
        "`models/Qwen2-VL-2B-Instruct`",
        "\nhint: ",
        "merge",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let place = ModelPlace {
        base: golden_path("qwen25vl-tiny"),
        adapter: Some(folder.path().to_owned()),
    };
    let error = place.open(&Holding::frozen(u64::MAX), &Device::flex());
    let error = error.expect_err("another tower").to_string();
    assert!(
        error.contains("tensor") && error.contains("hint: "),
        "{error}"
    );
}
