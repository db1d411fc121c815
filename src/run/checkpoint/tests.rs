//! Checkpoints of a tiny learner: what is written is read again, and a file that is not what was written is refused.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use serde_json::{Map, Value, json};

use super::*;
use crate::learner::LearnerOptions;
use crate::learner::optimizer::gradients::Gradients;
use crate::model::config::ModelConfig;
use crate::model::parameters::{Holding, Weights, host_values};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/public")
        .join(name)
}

fn learner(base: &Path) -> Learner {
    let options = LearnerOptions::default();
    let device = Device::flex();
    let config = ModelConfig::open(base).expect("config.json");
    let weights = Weights::load(base, &Holding::trained(u64::MAX), &device).expect("weights");
    Learner::new(config, weights, "tiny", options, &device).expect("a whole model")
}

/// Two updates of every parameter but one, by gradients that differ.
fn updated(base: &Path) -> Learner {
    let mut learner = learner(base);
    for step in 1..=2 {
        let mut gradients = Gradients::default();
        for (index, (name, parameter)) in learner.weights.iter().enumerate().skip(1) {
            let slope = (index * step) as f32 * 1e-3;
            let values = parameter.dense().expect("all of it trains");
            let gradient = values.clone().mul_scalar(slope).add_scalar(slope);
            gradients.add(name, gradient);
        }
        learner
            .optimizer
            .step(&mut learner.weights, &gradients, 1e-3);
    }
    learner
}

fn saved(learner: &Learner, base: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let state = TrainerState {
        global_step: 2,
        ..TrainerState::default()
    };
    save(learner, base, &state, folder.path(), false).expect("saved");
    folder
}

fn values(learner: &Learner) -> Vec<Vec<f32>> {
    let weights = learner.weights.iter();
    let weights = weights.filter_map(|(_, parameter)| parameter.dense());
    let weights = weights.map(host_values);
    let moments = learner.optimizer.state();
    weights
        .chain(moments.map(|(_, tensor)| host_values(tensor)))
        .collect()
}

#[test]
fn a_restored_learner_equals_the_saved_one() {
    for name in ["qwen2vl-tiny", "qwen2vl-tiny-v5-sharded-bf16"] {
        let learner = updated(&golden(name));
        let folder = saved(&learner, &golden(name));
        let mut again = self::learner(folder.path());
        let device = Device::flex();
        restore_optimizer(&mut again, folder.path(), 2, &device).expect("restored");
        assert!(values(&again) == values(&learner), "{name}");
        assert_eq!(again.optimizer.steps_taken(), 2, "{name}");
    }
}

/// The header of a safetensors file, changed, before the same bytes; or other bytes.
fn edit(folder: &Path, change: impl FnOnce(&mut Map<String, Value>, &mut Vec<u8>)) {
    let path = folder.join(OPTIMIZER_FILE);
    let bytes = fs::read(&path).expect("readable");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
    let mut header = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    let mut data = bytes[8 + length..].to_vec();
    change(&mut header, &mut data);
    let header = serde_json::to_vec(&header).expect("JSON");
    let length = (header.len() as u64).to_le_bytes();
    fs::write(&path, [&length[..], &header, &data].concat()).expect("written");
}

/// Takes tensors out, and closes the gaps that they leave.
fn drop_tensors(header: &mut Map<String, Value>, data: &mut Vec<u8>, gone: &dyn Fn(&str) -> bool) {
    let mut kept = Vec::new();
    header.retain(|name, _| !gone(name));
    for (name, tensor) in header
        .iter_mut()
        .filter(|(name, _)| *name != "__metadata__")
    {
        let offset = |index: usize| tensor["data_offsets"][index].as_u64().expect(name) as usize;
        let (from, to) = (offset(0), offset(1));
        tensor["data_offsets"] = json!([kept.len(), kept.len() + to - from]);
        kept.extend_from_slice(&data[from..to]);
    }
    *data = kept;
}

fn put(header: &Map<String, Value>, data: &mut [u8], prefix: &str, value: f32) {
    let tensor = header.iter().find(|(name, _)| name.starts_with(prefix));
    let start = tensor.expect("a tensor").1["data_offsets"][0]
        .as_u64()
        .expect("an offset") as usize;
    data[start..start + 4].copy_from_slice(&value.to_le_bytes());
}

type Change<'a> = &'a dyn Fn(&mut Map<String, Value>, &mut Vec<u8>);

#[test]
fn optimizer_files_that_are_not_what_was_written_are_refused() {
    let base = golden("qwen2vl-tiny");
    let learner = updated(&base);
    let first = "exp_avg.model.layers.0.input_layernorm.weight";
    let cases: &[(Change<'_>, &str)] = &[
        (
            &|header, data| drop_tensors(header, data, &|name| name.starts_with("exp_avg_sq.")),
            "lacks exp_avg_sq of ",
        ),
        (
            &|header, data| drop_tensors(header, data, &|name| name == first),
            "lacks exp_avg of 1 parameters: `model.layers.0.input_layernorm.weight`",
        ),
        (
            &|header, data| {
                drop_tensors(header, data, &|name| {
                    name.ends_with(".0.input_layernorm.weight")
                })
            },
            "it was written with the moments of ",
        ),
        (
            &|header, data| {
                drop_tensors(header, data, &|name| name.starts_with("exp_avg"));
            },
            "and has those of 0",
        ),
        (
            &|header, data| drop_tensors(header, data, &|name| name == "num_parameters"),
            "`num_parameters` is not noted",
        ),
        (
            &|header, data| put(header, data, "exp_avg.", f32::NAN),
            "holds NaN at index 0",
        ),
        (
            &|header, data| put(header, data, "exp_avg.", f32::NEG_INFINITY),
            "holds -inf at index 0",
        ),
        (
            &|header, data| put(header, data, "exp_avg_sq.", -1.0),
            "holds -1 at index 0",
        ),
        (
            &|header, _| header["__metadata__"]["steps"] = json!("0"),
            "it is of 0 updates, the checkpoint is of step 2",
        ),
        (
            &|header, _| header["__metadata__"]["steps"] = json!("many"),
            "the number of updates is not noted",
        ),
        (
            &|header, _| {
                let tensor = header.shift_remove(first).expect("a tensor");
                header.insert("exp_avg.model.layers.7.x".to_owned(), tensor);
            },
            "`exp_avg.model.layers.7.x` belongs to no parameter",
        ),
        (
            &|header, _| {
                let count = header[first]["shape"][0].as_u64().expect("a size");
                header[first]["shape"] = json!([count * 2]);
                header[first]["dtype"] = json!("BF16");
            },
            "values, the model has",
        ),
        (
            &|header, _| header[first]["dtype"] = json!("I32"),
            "is I32, expected F32",
        ),
        (
            &|_, data| data.truncate(100),
            "not a whole safetensors file",
        ),
    ];
    for (change, expected) in cases {
        let folder = saved(&learner, &base);
        edit(folder.path(), change);
        let mut again = self::learner(folder.path());
        let error = restore_optimizer(&mut again, folder.path(), 2, &Device::flex());
        let error = error.expect_err(expected).to_string();
        assert!(
            error.contains(expected),
            "expected {expected}, found {error}"
        );
        assert!(
            error.contains(OPTIMIZER_FILE) && error.contains("\nhint: resume from another"),
            "{error}"
        );
    }
}

#[test]
fn a_checkpoint_without_an_optimizer_says_so() {
    let base = golden("qwen2vl-tiny");
    let folder = saved(&updated(&base), &base);
    fs::remove_file(folder.path().join(OPTIMIZER_FILE)).expect("removed");
    let mut again = learner(folder.path());
    let error = restore_optimizer(&mut again, folder.path(), 2, &Device::flex());
    let error = error.expect_err("nothing to restore").to_string();
    assert!(error.contains("saved with `save_only_model`"), "{error}");
}

#[test]
fn exact_values_must_be_whole_where_the_files_round() {
    let base = golden("qwen2vl-tiny-v5-sharded-bf16");
    let folder = saved(&updated(&base), &base);
    edit(folder.path(), |header, data| {
        drop_tensors(header, data, &|name| name == "exact.model.norm.weight");
    });
    let mut again = learner(folder.path());
    let error = restore_optimizer(&mut again, folder.path(), 2, &Device::flex());
    let error = error.expect_err("incomplete").to_string();
    assert!(
        error.contains("lacks exact of 1 parameters: `model.norm.weight`"),
        "{error}"
    );
}

#[test]
fn weights_that_are_not_finite_are_never_saved() {
    let base = golden("qwen2vl-tiny");
    let mut learner = updated(&base);
    let name = "model.norm.weight";
    let count = learner.weights.get(name).expect("a parameter").shape[0];
    let spoilt = Tensor::<1>::full([count], f32::NAN, &Device::flex());
    learner.weights.replace(name, spoilt);
    let folder = tempfile::tempdir().expect("a folder");
    let state = TrainerState::default();
    let error = save(&learner, &base, &state, folder.path(), false).expect_err("refused");
    let error = error.to_string();
    assert!(
        error.starts_with(
            "the new weights of `model.norm.weight` are not finite; nothing was saved"
        ),
        "{error}"
    );
    let left = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(left, 0, "not even a small file");
}
