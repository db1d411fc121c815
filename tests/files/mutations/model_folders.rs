//! Model folders of others: configuration, processor, tokenizer, chat template, weights and their index.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use burn::tensor::Device;
use serde_json::Map;
use vision_ekipl::data::prompt::{PromptEncoder, PromptOptions};
use vision_ekipl::model::Qwen2Vl;
use vision_ekipl::model::config::ModelConfig;
use vision_ekipl::model::parameters::{Holding, Weights};
use vision_ekipl::record::{ContentPart, Example, ImageSource, Message};
use vision_ekipl::run::checkpoint;

use super::{World, assert_is_a_message, each_case, golden};

/// Tokens and picture values that a prompt of one small picture and a sentence may have.
const LONGEST_PROMPT: usize = 100_000;

/// Files of a model folder, weights left out.
fn small_files(folder: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(crate::support::golden_path(folder)).expect("a folder");
    let mut found: Vec<(String, Vec<u8>)> = entries
        .map(|entry| entry.expect("a file").path())
        .filter(|path| {
            path.extension()
                .is_some_and(|ending| ending != "safetensors")
        })
        .map(|path| {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    found.sort();
    found
}

fn example(picture: &[u8]) -> Example {
    let text = "How many things are there?".to_owned();
    Example {
        id: "a".to_owned(),
        task: None,
        messages: vec![Message {
            role: "user".to_owned(),
            content: vec![ContentPart::Image, ContentPart::Text { text }],
        }],
        images: vec![ImageSource::Bytes(picture.into())],
        solution: "3".to_owned(),
        cot: None,
        target: None,
        columns: Map::new(),
        origin: "rows.json:1".to_owned(),
    }
}

/// Opens a folder in which one file is changed, and makes a prompt with it.
fn prompts(kind: &'static str, cases: u64, folder: &'static str, file: &'static str) {
    let files = small_files(folder);
    let seed = files
        .iter()
        .find(|(name, _)| name == file)
        .expect("the file")
        .1
        .clone();
    let picture = golden("images/plain.png");
    each_case(kind, cases, &[seed], move |input| {
        let world = World::new();
        for (name, bytes) in &files {
            world.write(name, if name == file { input } else { bytes });
        }
        world.keeps(|| {
            if file == "config.json"
                && let Err(error) = ModelConfig::open(&world.input())
            {
                assert_is_a_message(&error.to_string());
            }
            let encoder = PromptEncoder::open(&world.input(), &PromptOptions::default());
            let prompt = encoder.and_then(|encoder| {
                let prompt = encoder.encode(&example(&picture))?;
                let text = encoder.decode(&prompt.input_ids, false);
                assert!(text.len() < 64 * LONGEST_PROMPT);
                Ok(prompt)
            });
            match prompt {
                Ok(prompt) => assert!(prompt.input_ids.len() < LONGEST_PROMPT),
                Err(error) => assert_is_a_message(&error.to_string()),
            }
        });
    });
}

#[test]
fn model_configurations() {
    prompts("config-json", 400, "qwen2vl-tiny", "config.json");
    prompts("config-json-2-5", 200, "qwen25vl-tiny", "config.json");
    prompts(
        "generation-config",
        100,
        "qwen2vl-tiny",
        "generation_config.json",
    );
}

#[test]
fn picture_settings() {
    prompts(
        "preprocessor",
        600,
        "qwen2vl-tiny",
        "preprocessor_config.json",
    );
    prompts(
        "processor",
        200,
        "qwen2vl-tiny-v5-sharded-bf16",
        "processor_config.json",
    );
}

#[test]
fn tokenizers() {
    prompts("tokenizer", 500, "qwen2vl-tiny", "tokenizer.json");
    prompts(
        "tokenizer-config",
        200,
        "qwen2vl-tiny",
        "tokenizer_config.json",
    );
}

#[test]
fn chat_templates() {
    prompts("template-json", 200, "qwen2vl-tiny", "chat_template.json");
    prompts("template", 500, "qwen25vl-tiny", "chat_template.jinja");
}

/// Loads the weights of the folder, makes a model of them, and saves it as a checkpoint does.
fn load_and_save(world: &World) {
    let device = Device::flex();
    let folder = world.input();
    let loaded = world.keeps(|| Weights::load(&folder, &Holding::trained(1 << 30), &device));
    let weights = match loaded {
        Ok(weights) => weights,
        Err(error) => return assert_is_a_message(&error.to_string()),
    };
    let config = ModelConfig::open(&folder).expect("the unchanged configuration");
    let name = folder.display().to_string();
    if let Err(error) = Qwen2Vl::new(&config, &weights, &name, &device) {
        return assert_is_a_message(&error.to_string());
    }
    let out = world.output();
    if let Err(error) = world.keeps(|| checkpoint::save_model(&weights, &folder, &out)) {
        assert_is_a_message(&error.to_string());
    }
    let names = |folder: &Path| -> BTreeSet<String> {
        let entries = fs::read_dir(folder).expect("readable");
        entries
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    for name in names(&out) {
        assert!(out.join(&name).is_file(), "{name} is a plain file");
    }
}

#[test]
fn weights() {
    let files = small_files("qwen2vl-tiny");
    let whole = golden("qwen2vl-tiny/model.safetensors");
    // Only the header is changed; the values behind it stay.
    let length = u64::from_le_bytes(whole[..8].try_into().expect("eight bytes"));
    let header_end = 8 + usize::try_from(length).expect("a length");
    let (header, values) = (whole[..header_end].to_vec(), whole[header_end..].to_vec());
    each_case("safetensors", 150, &[header], move |input| {
        let world = World::new();
        for (name, bytes) in &files {
            world.write(name, bytes);
        }
        let mut file = input.to_vec();
        // Half of the changed headers say their length rightly, so that what they say is read.
        if input.len() > 8 && input.len() % 2 == 0 {
            let length = input.len() as u64 - 8;
            file[..8].copy_from_slice(&length.to_le_bytes());
        }
        file.extend_from_slice(&values);
        world.write("model.safetensors", &file);
        load_and_save(&world);
    });
}

#[test]
fn indices_of_weights() {
    let folder = "qwen2vl-tiny-v5-sharded-bf16";
    let files = small_files(folder);
    let shards = [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    .map(|name| (name, golden(&format!("{folder}/{name}"))));
    let index = golden(&format!("{folder}/model.safetensors.index.json"));
    let text = String::from_utf8(index.clone()).expect("text");
    // Names that lead out of the folder: the changes combine them further.
    let outside = text.replace("model-00002-of-00002.safetensors", "../secret");
    each_case("index", 150, &[index, outside.into_bytes()], move |input| {
        let world = World::new();
        for (name, bytes) in &files {
            world.write(name, bytes);
        }
        for (name, bytes) in &shards {
            world.write(name, bytes);
        }
        world.write("model.safetensors.index.json", input);
        load_and_save(&world);
    });
}
