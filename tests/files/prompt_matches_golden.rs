//! Are prompts the model's prompts? Every recorded prompt of every recorded model folder, from rows to token ids,
//! positions and patches, against what transformers' processor made of it.

use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use vision_ekipl::data::prompt::{PromptEncoder, PromptOptions};
use vision_ekipl::picture;
use vision_ekipl::record::{ContentPart, Example, ImageSource, Message, Prompt};

/// Model folder, recording of its prompts, recording that holds their pixel values.
const MODELS: [[&str; 3]; 3] = [
    ["qwen2vl-tiny", "golden-qwen2vl-tiny", "golden-qwen2vl-tiny"],
    [
        "qwen2vl-tiny-v5-sharded-bf16",
        "golden-qwen2vl-tiny",
        "golden-qwen2vl-tiny",
    ],
    [
        "qwen25vl-tiny",
        "golden-qwen25vl-tiny",
        "golden-qwen2vl-tiny",
    ],
];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/public")
        .join(name)
}

fn recorded_prompts(recording: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(golden(&format!("{recording}.json"))).expect("a recording");
    let recording: Value = serde_json::from_str(&text).expect("JSON");
    recording["prompts"].as_array().expect("prompts").clone()
}

fn encoder(model: &str) -> PromptEncoder {
    PromptEncoder::open(&golden(model), &PromptOptions::default()).expect("an encoder")
}

/// The recorded messages as a data row; a plain string is one text part.
fn example(prompt: &Value) -> Example {
    let part = |part: &Value| match part["type"].as_str() {
        Some("image") => ContentPart::Image,
        _ => ContentPart::Text {
            text: part["text"].as_str().expect("text").to_owned(),
        },
    };
    let message = |message: &Value| Message {
        role: message["role"].as_str().expect("a role").to_owned(),
        content: match &message["content"] {
            Value::String(text) => vec![ContentPart::Text { text: text.clone() }],
            parts => parts.as_array().expect("parts").iter().map(part).collect(),
        },
    };
    let files = prompt["image_files"].as_array().expect("files").iter();
    let image = |file: &Value| golden("images").join(file.as_str().expect("a name"));
    Example {
        id: prompt["id"].as_str().expect("an id").to_owned(),
        task: None,
        messages: prompt["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .map(message)
            .collect(),
        images: files.map(|file| ImageSource::Path(image(file))).collect(),
        solution: String::new(),
        cot: None,
        target: None,
        columns: serde_json::Map::new(),
        origin: "recording:1".to_owned(),
    }
}

struct Recording(Vec<u8>);

impl Recording {
    fn open(name: &str) -> Self {
        Self(std::fs::read(golden(&format!("{name}.safetensors"))).expect("a recording"))
    }

    fn integers(&self, name: &str) -> Vec<i64> {
        let tensors = SafeTensors::deserialize(&self.0).expect("safetensors");
        let tensor = tensors.tensor(name).expect("a tensor");
        assert_eq!(tensor.dtype(), Dtype::I64, "{name}");
        let bytes = tensor.data().chunks_exact(8);
        bytes
            .map(|value| i64::from_le_bytes(value.try_into().expect("8 bytes")))
            .collect()
    }

    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensors = SafeTensors::deserialize(&self.0).expect("safetensors");
        let tensor = tensors.tensor(name).ok()?;
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let bytes = tensor.data().chunks_exact(4);
        Some(
            bytes
                .map(|value| f32::from_le_bytes(value.try_into().expect("4 bytes")))
                .collect(),
        )
    }
}

fn assert_tokens_match(prompt: &Prompt, recording: &Recording, what: &str) {
    let ids: Vec<i64> = prompt.input_ids.iter().map(|&id| i64::from(id)).collect();
    assert_eq!(
        ids,
        recording.integers(&format!("{}.input_ids", prompt.id)),
        "{what}: ids"
    );
    let axis = |axis: usize| {
        prompt
            .positions
            .iter()
            .map(move |position| i64::from(position[axis]))
    };
    let positions: Vec<i64> = (0..3).flat_map(axis).collect();
    let expected = recording.integers(&format!("{}.position_ids", prompt.id));
    assert_eq!(positions, expected, "{what}: positions");
    let delta = recording.integers(&format!("{}.rope_delta", prompt.id));
    assert_eq!([prompt.rope_delta], delta[..], "{what}: rope_delta");
}

fn assert_patches_match(prompt: &Prompt, pixels: &Recording, what: &str) {
    let values: Vec<f32> = prompt
        .images
        .iter()
        .flat_map(|image| image.pixel_values.iter().copied())
        .collect();
    let Some(expected) = pixels.floats(&format!("{}.pixel_values", prompt.id)) else {
        assert!(
            prompt.images.is_empty(),
            "{what}: pictures that the recording lacks"
        );
        return;
    };
    let grids: Vec<i64> = prompt
        .images
        .iter()
        .flat_map(|image| image.grid)
        .map(|side| side as i64)
        .collect();
    let expected_grids = pixels.integers(&format!("{}.image_grid_thw", prompt.id));
    assert_eq!(grids, expected_grids, "{what}: grids");
    assert_eq!(values.len(), expected.len(), "{what}: size of the patches");
    let differences = values.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    let largest = differences.fold(0.0, f32::max);
    assert!(largest <= 1e-6, "{what}: pixel values differ by {largest}");
}

#[test]
fn every_recorded_prompt_is_met() {
    for [model, recording, pixels] in MODELS {
        let encoder = encoder(model);
        let (tensors, pixels) = (Recording::open(recording), Recording::open(pixels));
        let prompts = recorded_prompts(recording);
        assert_eq!(prompts.len(), 5);
        for recorded in &prompts {
            let prompt = encoder.encode(&example(recorded)).expect("a prompt");
            let what = format!("{model} {}", prompt.id);
            assert_eq!(prompt.rendered, recorded["rendered"], "{what}: rendered");
            let expanded = encoder.decode(&prompt.input_ids, false);
            assert_eq!(expanded, recorded["expanded"], "{what}: expanded");
            assert_tokens_match(&prompt, &tensors, &what);
            assert_patches_match(&prompt, &pixels, &what);
        }
    }
}

#[test]
fn recorded_completions_encode_and_greedy_tokens_decode() {
    for [model, recording, _] in MODELS {
        let encoder = encoder(model);
        let tensors = Recording::open(recording);
        for recorded in recorded_prompts(recording) {
            let id = recorded["id"].as_str().expect("an id");
            let text = recorded["completion"].as_str().expect("a completion");
            // Recorded texts spell the end token out; given text carries it as an id.
            let body = text.strip_suffix("<|im_end|>");
            let mut ids = encoder
                .encode_completion(body.unwrap_or(text))
                .expect("ids");
            ids.extend(body.map(|_| encoder.special().end_tokens[0]));
            let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
            let expected = tensors.integers(&format!("{id}.completion_ids"));
            assert_eq!(ids, expected, "{model} {id}: completion");
            let greedy = tensors.integers(&format!("{id}.greedy_ids"));
            let greedy: Vec<u32> = greedy.into_iter().map(|id| id as u32).collect();
            assert_eq!(
                encoder.decode(&greedy, false),
                recorded["greedy_text"],
                "{model} {id}"
            );
        }
    }
}

#[test]
fn a_row_may_carry_the_bytes_of_its_images() {
    let encoder = encoder("qwen2vl-tiny");
    for recorded in recorded_prompts("golden-qwen2vl-tiny") {
        let by_path = example(&recorded);
        let mut by_bytes = by_path.clone();
        for image in &mut by_bytes.images {
            let ImageSource::Path(path) = &*image else {
                panic!("recorded as a path")
            };
            *image = ImageSource::Bytes(std::fs::read(path).expect("a file").into());
        }
        let (path, bytes) = (encoder.encode(&by_path), encoder.encode(&by_bytes));
        assert_eq!(path.expect("a prompt"), bytes.expect("a prompt"));
    }
}

#[test]
fn every_recorded_image_passes_verification() {
    let mut verified = 0;
    for entry in std::fs::read_dir(golden("images")).expect("a folder") {
        let source = ImageSource::Path(entry.expect("an entry").path());
        let header = picture::header(&source).expect("a header");
        let image = picture::decode(&source).expect("a picture");
        assert_eq!((image.width, image.height), (header.width, header.height));
        verified += 1;
    }
    assert_eq!(verified, 13);
}
