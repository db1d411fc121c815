//! Folders that PEFT itself wrote: tests/golden/peft.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::*;
use crate::options::TargetModules;

fn golden(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(folder)
}

/// Names and shapes of the parameters of the model that the adapters belong to.
fn parameters() -> Vec<(String, Vec<usize>)> {
    let file = std::fs::read(golden("public/qwen2vl-tiny/model.safetensors")).expect("readable");
    let tensors = safetensors::SafeTensors::deserialize(&file).expect("a whole file");
    let mut parameters: Vec<_> = tensors
        .iter()
        .map(|(name, view)| (name.to_owned(), view.shape().to_vec()))
        .collect();
    parameters.sort();
    parameters
}

#[test]
fn the_tensors_of_a_file_are_those_of_its_layout() {
    let parameters = parameters();
    for (name, layers, saved) in [("all-linear", 24, 0), ("rslora-saved", 4, 7)] {
        let (config, tensors) = AdapterFiles::read(&golden("peft").join(name)).expect("readable");
        let named = parameters
            .iter()
            .map(|(name, shape)| (name.as_str(), shape.as_slice()));
        let layout = config.lay_out(named).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((layout.adapted.len(), layout.saved.len()), (layers, saved));
        let expected: BTreeMap<_, _> = layout.tensors().collect();
        let found: BTreeMap<_, _> = tensors
            .into_iter()
            .map(|tensor| (tensor.name, tensor.shape))
            .collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn settings_are_understood_and_written_as_peft_does() {
    let pattern = r"^(?!.*visual).*(gate_proj|o_proj)$".to_owned();
    let (config, _) = AdapterFiles::read(&golden("peft/rslora-saved")).expect("readable");
    assert_eq!(config.target_modules, TargetModules::Pattern(pattern));
    assert_eq!(config.modules_to_save, ["lm_head", "merger"]);
    assert!((config.scale() - 5.0 / 3.0_f64.sqrt()).abs() < 1e-12);
    let read = |path: PathBuf| -> Map<String, Value> {
        let text = std::fs::read_to_string(path).expect("readable");
        serde_json::from_str(&text).expect("JSON")
    };
    for name in ["all-linear", "rslora-saved"] {
        let folder = golden("peft").join(name);
        let (config, tensors) = AdapterFiles::read(&folder).expect("readable");
        let copy = tempfile::tempdir().expect("a folder");
        AdapterFiles::write(copy.path(), &config, tensors).expect("written");
        let (theirs, mut ours) = (
            read(folder.join(ADAPTER_CONFIG)),
            read(copy.path().join(ADAPTER_CONFIG)),
        );
        // How it began says nothing once it is trained.
        ours.insert("init_lora_weights".to_owned(), false.into());
        for (key, value) in &ours {
            assert_eq!(Some(value), theirs.get(key), "{name}: {key}");
        }
        let tensors = |folder: &Path| {
            let file = std::fs::read(folder.join(ADAPTER_TENSORS)).expect("readable");
            let tensors = safetensors::SafeTensors::deserialize(&file).expect("a whole file");
            tensors
                .iter()
                .map(|(name, view)| (name.to_owned(), view.data().to_vec()))
                .collect::<BTreeMap<_, _>>()
        };
        assert_eq!(
            tensors(copy.path()),
            tensors(&folder),
            "{name}: names and bits"
        );
    }
}
