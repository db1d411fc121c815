//! Does a model with an adapter say what PEFT and transformers say, merged and unmerged?

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{Golden, assert_close, devices, golden_path};
use burn::tensor::Device;
use vision_ekipl::model::Qwen2Vl;
use vision_ekipl::model::adapter::AdapterFiles;
use vision_ekipl::model::open::ModelPlace;
use vision_ekipl::model::packing::Packed;
use vision_ekipl::model::parameters::{Holding, host_values};
use vision_ekipl::record::Prompt;
use vision_ekipl::run::merge;

const PROMPTS: [&str; 3] = ["p0", "p2", "p4"];
const ADAPTERS: [&str; 3] = ["all-linear", "rslora-saved", "embedding-saved"];
/// Folders of one model, stored as f32 in the hub's names and as bf16 shards in those of transformers 5.
const BASES: [&str; 2] = ["qwen2vl-tiny", "qwen2vl-tiny-v5-sharded-bf16"];

fn adapter(name: &str) -> PathBuf {
    golden_path("../peft").join(name)
}

fn place(base: &str, name: &str) -> ModelPlace {
    ModelPlace {
        base: golden_path(base),
        adapter: Some(adapter(name)),
    }
}

fn open(place: &ModelPlace, device: &Device) -> Qwen2Vl {
    let holding = Holding::frozen(u64::MAX);
    let (config, weights) = place
        .open(&holding, device)
        .unwrap_or_else(|e| panic!("{e}"));
    Qwen2Vl::new(&config, &weights, "model", device).expect("a whole model")
}

/// Logits of the last four tokens.
fn last_logits(model: &Qwen2Vl, prompt: &Arc<Prompt>) -> Vec<f32> {
    let prompts = [Arc::clone(prompt)];
    let packed = Packed::new(&prompts, &[]);
    let logits = host_values(&model.logits(model.hidden(&prompts, &packed)));
    let width = model.config.text.vocab_size;
    logits[logits.len() - 4 * width..].to_vec()
}

fn check(what: &str, model: &Qwen2Vl, name: &str, tolerance: f64) {
    let public = Golden::open("golden-qwen2vl-tiny.safetensors");
    let golden = Golden::open("../peft/golden.safetensors");
    for id in PROMPTS {
        let found = last_logits(model, &public.prompt(id, &public));
        let expected = golden.f64(&format!("{name}.{id}.logits_last4"));
        assert_close(&format!("{what} {name} {id}"), &found, expected, tolerance);
    }
}

#[test]
fn a_model_with_pefts_adapter_gives_pefts_logits() {
    for (_, device) in devices() {
        for base in BASES {
            for name in ADAPTERS {
                check(base, &open(&place(base, name), &device), name, 3e-4);
            }
        }
    }
}

#[test]
fn switched_off_it_is_the_model_itself() {
    let public = Golden::open("golden-qwen2vl-tiny.safetensors");
    let device = Device::flex();
    for name in ADAPTERS {
        let (config, weights) = place(BASES[0], name)
            .open(&Holding::frozen(u64::MAX), &device)
            .expect("readable");
        let plain = Qwen2Vl::new(&config, &weights.without_adapter(), "model", &device);
        let found = last_logits(&plain.expect("whole"), &public.prompt("p0", &public));
        let expected = public.f64("p0.logits");
        let expected = &expected[expected.len() - found.len()..];
        assert_close(name, &found, expected, 3e-4);
    }
}

/// bf16 keeps 8 bits of a weight: the merged logits of those files, as large as 16, are rounded.
#[test]
fn merged_folders_give_pefts_logits_in_the_model_s_own_files() {
    for (base, tolerance) in BASES.into_iter().zip([3e-4, 0.5]) {
        for name in ADAPTERS {
            let work = tempfile::tempdir().expect("a folder");
            let out = work.path().join("merged");
            merge::merge(&place(base, name), &out).unwrap_or_else(|e| panic!("{e:#}"));
            let model = open(&ModelPlace::plain(&out), &Device::flex());
            check(&format!("merged {base}"), &model, name, tolerance);
            same_layout(&golden_path(base), &out, name == "all-linear");
            let again = merge::merge(&place(base, name), &out).expect_err("it exists");
            assert!(
                again.to_string().contains("nothing is overwritten"),
                "{again}"
            );
        }
    }
}

/// Files and, where no tied table was trained, names and formats of tensors are those of the model.
fn same_layout(base: &Path, merged: &Path, tensors_too: bool) {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.expect("an entry").file_name();
        let mut names: Vec<_> = entries.map(name).collect();
        names.sort();
        names
    };
    assert_eq!(names(merged), names(base));
    for file in names(base) {
        if !tensors_too || !file.to_string_lossy().ends_with(".safetensors") {
            continue;
        }
        let header = |folder: &Path| {
            let bytes = std::fs::read(folder.join(&file)).expect("readable");
            let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("whole");
            let mut all: Vec<_> = tensors
                .iter()
                .map(|(name, view)| (name.to_owned(), view.dtype(), view.shape().to_vec()))
                .collect();
            all.sort();
            all
        };
        assert_eq!(header(merged), header(base), "{file:?}");
    }
}

#[test]
fn an_adapter_of_another_model_is_refused() {
    let config = AdapterFiles::read_config(&adapter("rslora-saved")).expect("readable");
    assert!(config.use_rslora);
    let other = place("qwen25vl-tiny", "rslora-saved");
    let text = other
        .open(&Holding::frozen(u64::MAX), &Device::flex())
        .expect_err("another model")
        .to_string();
    assert!(
        text.contains("\nhint: the adapter belongs to another model"),
        "{text}"
    );
}
