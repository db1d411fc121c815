//! Is a saved checkpoint the same kind of folder as the one it was loaded from, and the same model?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::support::run::{Workspace, names, shown};
use crate::support::{Golden, golden_path};
use burn::tensor::Device;
use half::bf16;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use vision_ekipl::model::Qwen2Vl;
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::packing::Packed;
use vision_ekipl::model::parameters::{Holding, Weights, host_values};
use vision_ekipl::run::checkpoint::OPTIMIZER_FILE;

const FOLDERS: [&str; 3] = [
    "qwen2vl-tiny",
    "qwen2vl-tiny-v5-sharded-bf16",
    "qwen25vl-tiny",
];

/// What only a resumed run needs.
const OURS: [&str; 2] = [OPTIMIZER_FILE, "trainer_state.json"];

/// `checkpoint-1` of one step of fine-tuning from a golden folder.
fn one_step(work: &Workspace, folder: &str, learning_rate: &str) -> PathBuf {
    let start = shown(&golden_path(folder));
    let name = format!("{folder}-{learning_rate}");
    let keys = [
        ("model_name_or_path", start.as_str()),
        ("learning_rate", learning_rate),
        ("max_completion_length", "256"),
        ("max_steps", "1"),
    ];
    work.fine_tune(&name, &keys).join("checkpoint-1")
}

/// File, tensor name -> number format and shape, with the bytes.
type Tensors = BTreeMap<(String, String), (Dtype, Vec<usize>, Vec<u8>)>;

fn tensors(folder: &Path) -> Tensors {
    let mut all = Tensors::new();
    for file in names(folder) {
        if !file.ends_with(".safetensors") || OURS.contains(&file.as_str()) {
            continue;
        }
        let bytes = std::fs::read(folder.join(&file)).expect("a readable file");
        let content = SafeTensors::deserialize(&bytes).expect("safetensors");
        for (name, view) in content.tensors() {
            let tensor = (view.dtype(), view.shape().to_vec(), view.data().to_vec());
            all.insert((file.clone(), name), tensor);
        }
    }
    assert!(!all.is_empty(), "{} has weights", folder.display());
    all
}

/// Logits of the last prompt token, for every golden prompt.
fn logits(folder: &Path) -> Vec<f32> {
    let device = Device::flex();
    let config = ModelConfig::open(folder).expect("config.json");
    let weights = Weights::load(folder, &Holding::trained(u64::MAX), &device).expect("weights");
    let model = Qwen2Vl::new(&config, &weights, &shown(folder), &device).expect("a whole model");
    let golden = Golden::open("golden-qwen2vl-tiny.safetensors");
    let prompts = ["p0", "p1", "p2", "p3", "p4"].map(|id| golden.prompt(id, &golden));
    let packed = Packed::new(&prompts, &[]);
    host_values(&model.logits(model.hidden(&prompts, &packed)))
}

#[test]
fn files_tensors_and_formats_are_those_of_the_start() {
    let work = Workspace::new();
    for folder in FOLDERS {
        let start = golden_path(folder);
        let saved = one_step(&work, folder, "1e-3");
        let mut expected = names(&start);
        expected.extend(OURS.map(str::to_owned));
        expected.sort();
        assert_eq!(names(&saved), expected, "{folder}: files");
        let read = |folder: &Path, name: &str| std::fs::read(folder.join(name)).expect("a file");
        for name in names(&start) {
            if name.ends_with(".safetensors") {
                continue;
            }
            if name.ends_with(".index.json") {
                let parsed = |folder: &Path| -> Value {
                    serde_json::from_slice(&read(folder, &name)).expect("an index")
                };
                assert_eq!(parsed(&saved), parsed(&start), "{folder}: {name}");
                continue;
            }
            assert!(
                read(&saved, &name) == read(&start, &name),
                "{folder}: {name} is copied byte for byte"
            );
        }
        let (found, expected) = (tensors(&saved), tensors(&start));
        assert!(
            found.keys().eq(expected.keys()),
            "{folder}: names of tensors in each file"
        );
        let mut moved = 0;
        for (name, (dtype, shape, bytes)) in &expected {
            let (found_dtype, found_shape, found_bytes) = &found[name];
            assert_eq!(
                (found_dtype, found_shape),
                (dtype, shape),
                "{folder}: {name:?}"
            );
            moved += usize::from(found_bytes != bytes);
        }
        assert!(
            moved * 2 > expected.len(),
            "{folder}: the step moved {moved} of {} tensors",
            expected.len()
        );
    }
}

#[test]
fn an_update_of_nothing_saves_the_same_model() {
    let work = Workspace::new();
    for folder in FOLDERS {
        let start = golden_path(folder);
        let saved = one_step(&work, folder, "0");
        assert!(
            tensors(&saved) == tensors(&start),
            "{folder}: every byte of every tensor"
        );
        assert!(logits(&saved) == logits(&start), "{folder}: logits");
    }
}

/// The saved values are the ones in training: exact where the format is f32, the nearest bf16 values otherwise.
#[test]
fn the_saved_model_is_the_one_in_training() {
    let work = Workspace::new();
    for folder in FOLDERS {
        let saved = one_step(&work, folder, "1e-3");
        assert!(
            logits(&saved) != logits(&golden_path(folder)),
            "{folder}: it learned"
        );
        let state = std::fs::read(saved.join(OPTIMIZER_FILE)).expect("a file");
        let state = SafeTensors::deserialize(&state).expect("safetensors");
        let device = Device::flex();
        let weights = Weights::load(&saved, &Holding::trained(u64::MAX), &device).expect("weights");
        assert_eq!(
            weights.stored_exactly(),
            !state.names().iter().any(|name| name.starts_with("exact.")),
            "{folder}: exact parameters are kept where the files round them"
        );
        if weights.stored_exactly() {
            continue;
        }
        for (name, parameter) in weights.iter() {
            let exact = state
                .tensor(&format!("exact.{name}"))
                .unwrap_or_else(|_| panic!("{folder}: {name} is kept exactly"));
            let words = exact.data().chunks_exact(4);
            let rounded: Vec<f32> = words
                .map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]]))
                .map(|value| bf16::from_f32(value).to_f32())
                .collect();
            assert!(
                host_values(parameter.dense().expect("f32")) == rounded,
                "{folder}: {name}"
            );
        }
    }
}
