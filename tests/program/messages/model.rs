//! Model folders that are incomplete, broken, or of another model.

use std::path::Path;

use burn::tensor::Device;
use serde_json::{Value, json};
use vision_ekipl::model::parameters::{Holding, Weights};

use crate::support::golden_path;
use crate::support::program::{copied_model, edit_json, program, text, training_refused};
use crate::support::run::{Workspace, copy_folder};

const WEIGHTS: &str = "model.safetensors";
const GATE: &str = "model.layers.0.mlp.gate_proj.weight";

/// Changes the header of a safetensors file, and its tensors' bytes.
fn edit_weights(folder: &Path, edit: impl FnOnce(&mut Value, &mut [u8])) {
    let path = folder.join(WEIGHTS);
    let file = std::fs::read(&path).expect("weights");
    let (length, rest) = file.split_first_chunk::<8>().expect("a length");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header: Value = serde_json::from_slice(header).expect("a header");
    let mut tensors = tensors.to_vec();
    edit(&mut header, &mut tensors);
    let header = header.to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length, header.as_bytes(), &tensors].concat()).expect("written");
}

/// Damages a copy of the model and expects `train` to refuse it in these words.
fn refused(damage: impl FnOnce(&Path), words: &[&str]) {
    let work = Workspace::new();
    let model = copied_model(&work, "model");
    damage(&model);
    training_refused(&work, "run", &[("model_name_or_path", text(&model))], words);
}

#[test]
fn weights_that_are_absent() {
    let remove = |model: &Path| std::fs::remove_file(model.join(WEIGHTS)).expect("removed");
    refused(remove, &["no model.safetensors", "hint: pass the folder"]);
    let all = |model: &Path| std::fs::remove_dir_all(model).expect("removed");
    refused(
        all,
        &[
            "model: not found",
            "Hugging Face model folder",
            "hf download",
        ],
    );
    let work = Workspace::new();
    let sharded = work.path("sharded");
    copy_folder(&golden_path("qwen2vl-tiny-v5-sharded-bf16"), &sharded);
    let shard = "model-00002-of-00002.safetensors";
    std::fs::remove_file(sharded.join(shard)).expect("removed");
    training_refused(
        &work,
        "run",
        &[("model_name_or_path", text(&sharded))],
        &[
            shard,
            "it names 2 files of which 1 are not there",
            "download the missing files",
        ],
    );
}

#[test]
fn weights_that_are_cut_off() {
    let length = golden_path("qwen2vl-tiny")
        .join(WEIGHTS)
        .metadata()
        .expect("weights")
        .len();
    for keep in [length / 2, 5, 0] {
        let cut = |model: &Path| {
            let mut options = std::fs::File::options();
            let file = options.write(true).open(model.join(WEIGHTS));
            file.and_then(|file| file.set_len(keep)).expect("cut");
        };
        let found = format!("{keep} bytes are there");
        let mut words = vec![
            "model/model.safetensors: not a whole safetensors file",
            &found,
        ];
        let expected = format!("its header announces {length} bytes");
        if keep > 8 {
            words.push(&expected);
        }
        refused(cut, &words);
    }
}

#[test]
fn tensors_that_do_not_fit_the_configuration() {
    let reversed = |header: &mut Value, _: &mut [u8]| {
        let shape = header[GATE]["shape"].as_array_mut().expect("a shape");
        shape.reverse();
    };
    refused(
        |model| edit_weights(model, reversed),
        &[
            GATE,
            "must have shape [176, 64], found [64, 176]",
            "config.json",
        ],
    );
    let renamed = |header: &mut Value, _: &mut [u8]| {
        let entries = header.as_object_mut().expect("a map");
        let tensor = entries.remove(GATE).expect("the tensor");
        entries.insert("model.layers.0.mlp.gate.weight".to_owned(), tensor);
    };
    let missing = format!("tensor `{GATE}` is missing");
    refused(|model| edit_weights(model, renamed), &[&missing]);
    let whole_numbers = |header: &mut Value, _: &mut [u8]| header[GATE]["dtype"] = json!("I32");
    refused(
        |model| edit_weights(model, whole_numbers),
        &[
            GATE,
            "is I32; weights must be F32, F16 or BF16",
            "quantised",
        ],
    );
}

#[test]
fn weights_that_are_no_numbers() {
    for (value, shown) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let poison = |header: &mut Value, tensors: &mut [u8]| {
            let begin = header[GATE]["data_offsets"][0].as_u64().expect("offset") as usize + 400;
            tensors[begin..begin + 4].copy_from_slice(&value.to_le_bytes());
        };
        let found = format!("tensor `{GATE}` holds {shown} at index 100");
        refused(
            |model| edit_weights(model, poison),
            &["model/model.safetensors", &found, "diverged run"],
        );
    }
}

#[test]
fn a_configuration_of_another_architecture_or_size() {
    let set = |key: &'static str, value: Value| {
        move |model: &Path| edit_json(&model.join("config.json"), |config| config[key] = value)
    };
    refused(
        set("model_type", json!("llama")),
        &["`model_type` is `llama`", "`qwen2_vl` and `qwen2_5_vl`"],
    );
    refused(
        set("num_attention_heads", json!(3)),
        &[
            "model/config.json: `num_attention_heads` is 3; expected a divisor of",
            "`hidden_size`, 64",
        ],
    );
    refused(
        set("vocab_size", json!(909)),
        &["`vocab_size` is 909", "ids up to"],
    );
    let broken = |model: &Path| {
        std::fs::write(model.join("config.json"), "{\"model_type\": ").expect("written");
    };
    refused(
        broken,
        &[
            "config.json: expected the configuration",
            "restore the file",
        ],
    );
}

#[test]
fn a_tokenizer_without_the_vision_tokens() {
    let text_only = |model: &Path| {
        edit_json(&model.join("tokenizer.json"), |tokenizer| {
            let tokens = tokenizer["added_tokens"].as_array_mut().expect("tokens");
            let is_vision = |token: &Value| {
                let content = token["content"].as_str().expect("text");
                content.contains("vision") || content.contains("_pad")
            };
            tokens.retain(|token| !is_vision(token));
        });
    };
    refused(
        text_only,
        &[
            "tokenizer.json: the tokenizer has no token `<|image_pad|>`",
            "Qwen2-VL",
        ],
    );
    let absent =
        |model: &Path| std::fs::remove_file(model.join("tokenizer.json")).expect("removed");
    refused(
        absent,
        &["tokenizer.json: not found", "copy tokenizer.json"],
    );
}

/// The largest tensor is the embedding: 928 x 64 values of 4 bytes.
#[test]
fn a_tensor_larger_than_a_buffer_of_the_device() {
    let folder = golden_path("qwen2vl-tiny");
    let error = Weights::load(&folder, &Holding::trained(237_567), &Device::flex())
        .expect_err("one byte too few");
    let message = error.to_string();
    for word in [
        "`model.embed_tokens.weight` needs a buffer of 237568 bytes, the device allows 237567",
        "hint: run on --device cpu",
    ] {
        assert!(message.contains(word), "{message}");
    }
    Weights::load(&folder, &Holding::trained(237_568), &Device::flex()).expect("it fits");
}

/// No Linux has Metal, no Mac has Direct3D.
#[test]
fn no_adapter() {
    let absent = if cfg!(target_os = "macos") {
        "dx12"
    } else {
        "metal"
    };
    let work = Workspace::new();
    let words = format!("no adapter was found for `--device {absent}`");
    let words = [words.as_str(), "--device cpu", "mesa-vulkan-drivers"];
    training_refused(&work, "run", &[("device", absent)], &words);
    let model = golden_path("qwen2vl-tiny");
    let generate = [
        "generate",
        "--model",
        text(&model),
        "--prompt",
        "hi",
        "--device",
        absent,
    ];
    program(&generate).refused(&words);
}
