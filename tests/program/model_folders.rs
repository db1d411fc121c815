//! Model folders as people have them: saved by wrappers, merged in place, stretched to long contexts. Each gives the numbers
//! that transformers gives, or a message with both names and the remedy.
//!
//! Where numbers stand here, they were computed with transformers 5.24 (float32, eager) on the recorded tiny model.

use std::path::Path;

use base64::Engine;
use serde_json::{Value, json};

use crate::support::program::{Said, copied_model, edit_json, program, text};
use crate::support::run::Workspace;

/// A picture of 56 x 84 pixels.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAADgAAABUCAIAAABY0mNoAAABk0lEQVR4nO2avUoDQRSFz53dwiYEi6BilWAviFhYCYKlgp2dT2EreQILbbQXsbPwDXyDBFNYCIooWlikUGxWi7j/k7jFkbBwPqbYuTs7+7HV4c7a5u6OMwSAs3QEyTXSynDjNb2F0sq4HhhWLhveHXKvAJxh9WmxuIMBAKw4HGqCRNlIlI1E2UiUjUTZSJRNGLWWYADwnU8rv1OklWiwYIYoU0+n8TAgMjzcfTj4slgcppLK+UEnG7uKCQ65B+uBRNlIlI1E2UiUjUTZSJSNde1kbHjJ55e5vTfvrXL76bF9Wt6wHIgCw/HVjGeZtxE27S9VFYmykSgbibKRKBuJspEom7DfvXelUFM4iRtd3/TeK6antbN9wHP6htKpXGvrVulpSkiUjUTZSJSNRNlIlE1tRMPl4cWfsWU07V1/jltZWNw/nK14cvfV6EyObNmmVT2QKBuJspEoG4mykSgbibIJj57n3cTQlASZ9npzQoco++B28OL9m9wTiAbNKq9W7+kfkCgbibKRKBuJspEom9qI/gC8oSx4PlsqoQAAAABJRU5ErkJggg==";
/// Log-probabilities with the folder as it is.
const PLAIN: [f64; 3] = [-10.10039, -12.83533, -9.72224];

/// Scores one completion about the picture with the folder.
fn score(work: &Workspace, model: &Path) -> (Said, Vec<f64>, Value) {
    let picture = base64::engine::general_purpose::STANDARD
        .decode(PICTURE)
        .expect("base64");
    std::fs::write(work.path("pic.png"), picture).expect("written");
    let row = json!({
        "id": "a", "images": ["pic.png"], "completion_ids": [10, 20, 898],
        "messages": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How many?"}]}],
    });
    let (input, output) = (work.path("rows.jsonl"), work.path("scores.jsonl"));
    std::fs::write(&input, format!("{row}\n")).expect("written");
    let said = program(&[
        "score",
        "--model",
        text(model),
        "--input",
        text(&input),
        "--output",
        text(&output),
        "--overwrite",
        "--device",
        "cpu",
    ]);
    if said.code != Some(0) {
        return (said, Vec::new(), Value::Null);
    }
    let scored: Value =
        serde_json::from_slice(&std::fs::read(&output).expect("scores")).expect("JSON");
    let logprobs = scored["logprobs"].as_array().expect("a list");
    let logprobs = logprobs
        .iter()
        .map(|value| value.as_f64().expect("a number"))
        .collect();
    (said, logprobs, scored["prompt_ids"].clone())
}

fn assert_close(found: &[f64], expected: &[f64], what: &str) {
    let close = |(found, expected): (&f64, &f64)| (found - expected).abs() < 2e-4;
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(close),
        "{what}: {found:?} against {expected:?}"
    );
}

/// Scores with a changed copy of the model.
fn with(change: impl FnOnce(&Path)) -> (Said, Vec<f64>, Value) {
    let work = Workspace::new();
    let model = copied_model(&work, "model");
    change(&model);
    score(&work, &model)
}

fn config(change: impl FnOnce(&mut Value)) -> impl FnOnce(&Path) {
    |model: &Path| edit_json(&model.join("config.json"), change)
}

/// Gives every tensor of the weights another name; `None` leaves it out.
fn rename(model: &Path, new: impl Fn(&str) -> Option<String>) {
    let path = model.join("model.safetensors");
    let file = std::fs::read(&path).expect("weights");
    let (length, rest) = file.split_first_chunk::<8>().expect("a length");
    let (header, tensors) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let header: serde_json::Map<String, Value> = serde_json::from_slice(header).expect("a header");
    let renamed: serde_json::Map<String, Value> = header
        .into_iter()
        .filter_map(|(name, value)| Some((new(&name)?, value)))
        .collect();
    let header = Value::Object(renamed).to_string();
    let length = (header.len() as u64).to_le_bytes();
    std::fs::write(path, [&length, header.as_bytes(), tensors].concat()).expect("written");
}

#[test]
fn long_contexts_and_left_out_keys_give_transformers_numbers() {
    let (said, plain, _) = with(|_| {});
    said.done();
    assert_close(&plain, &PLAIN, "as it is");
    let yarn = json!({"type": "yarn", "factor": 4, "original_max_position_embeddings": 32768, "mrope_section": [2, 3, 3]});
    let (said, stretched, _) = with(config(|file| file["rope_scaling"] = yarn));
    said.done();
    assert_close(&stretched, &[-10.27977, -12.61567, -9.63623], "yarn");
    let (said, left_out, _) = with(config(|file| {
        let vision = file["vision_config"].as_object_mut().expect("an object");
        for key in [
            "mlp_ratio",
            "in_chans",
            "patch_size",
            "spatial_merge_size",
            "spatial_patch_size",
            "temporal_patch_size",
        ] {
            vision.shift_remove(key).expect("there");
        }
        let root = file.as_object_mut().expect("an object");
        for key in [
            "hidden_act",
            "rope_theta",
            "max_position_embeddings",
            "use_sliding_window",
        ] {
            root.shift_remove(key).expect("there");
        }
    }));
    said.done();
    assert_close(&left_out, &PLAIN, "keys that equal a default left out");
    let longrope = config(|file| file["rope_scaling"]["type"] = "longrope".into());
    with(longrope)
        .0
        .refused(&["config.json: `rope_scaling.type` is \"longrope\""]);
}

#[test]
fn weights_are_those_that_transformers_would_load() {
    let index = |model: &Path, file: &str| {
        let index = json!({"metadata": {}, "weight_map": {"model.norm.weight": file}});
        std::fs::write(
            model.join("model.safetensors.index.json"),
            index.to_string(),
        )
        .expect("written");
    };
    let wrapped = |front: &'static str| {
        move |model: &Path| {
            rename(model, |name| {
                Some(if name == "__metadata__" {
                    name.to_owned()
                } else {
                    format!("{front}{name}")
                })
            })
        }
    };
    let cases: Vec<(&str, Box<dyn FnOnce(&Path)>)> = vec![
        (
            "a stale index",
            Box::new(move |model| index(model, "model-00001-of-00002.safetensors")),
        ),
        (
            "an index of the one file",
            Box::new(move |model| index(model, "model.safetensors")),
        ),
        (
            "two sets",
            Box::new(move |model| {
                std::fs::write(model.join("other.safetensors"), "old").expect("written");
                index(model, "other.safetensors");
            }),
        ),
        ("torch.compile", Box::new(wrapped("_orig_mod."))),
        (
            "DDP around torch.compile",
            Box::new(wrapped("module._orig_mod.")),
        ),
        ("PEFT", Box::new(wrapped("base_model.model."))),
    ];
    for (what, change) in cases {
        let (said, logprobs, _) = with(change);
        said.done();
        assert_close(&logprobs, &PLAIN, what);
    }
    with(wrapped("student.")).0.refused(&[
        "tensor `model.layers.0.input_layernorm.weight` is missing",
        "the files call it `student.model.layers.0.input_layernorm.weight`",
    ]);
    with(|model| {
        rename(model, |name| {
            Some(name.replace(
                "0.self_attn.q_proj.weight",
                "0.self_attn.q_proj.lora_A.weight",
            ))
        })
    })
    .0
    .refused(&[
        "belongs to an adapter that was not merged",
        "merge_and_unload",
    ]);
    with(|model| {
        std::fs::rename(
            model.join("model.safetensors"),
            model.join("pytorch_model.bin"),
        )
        .expect("renamed");
    })
    .0
    .refused(&[
        "no model.safetensors",
        "but pytorch_model.bin",
        "save_pretrained",
    ]);
    with(config(|file| file["tie_word_embeddings"] = false.into()))
        .0
        .refused(&[
            "tensor `lm_head.weight` is missing",
            "`tie_word_embeddings`",
        ]);
}

/// transformers 5 does not tie a head that is another table: `tie_weights` of `modeling_utils.py`.
#[test]
fn a_stored_head_that_differs_is_the_head_whatever_config_json_says() {
    let with_head = |tied: bool, value: f32| {
        with(move |model| {
            let path = model.join("model.safetensors");
            let file = std::fs::read(&path).expect("weights");
            let tensors = safetensors::SafeTensors::deserialize(&file).expect("safetensors");
            let embedding = tensors
                .tensor("model.embed_tokens.weight")
                .expect("the embedding");
            let head: Vec<u8> = embedding
                .data()
                .chunks_exact(4)
                .flat_map(|bytes| {
                    let own = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
                    (own * value).to_le_bytes()
                })
                .collect();
            let head = safetensors::tensor::TensorView::new(
                embedding.dtype(),
                embedding.shape().to_vec(),
                &head,
            );
            let mut all = tensors.tensors();
            all.push(("lm_head.weight".to_owned(), head.expect("a view")));
            safetensors::serialize_to_file(all, None, &path).expect("written");
            edit_json(&model.join("config.json"), |file| {
                file["tie_word_embeddings"] = tied.into()
            });
        })
    };
    let (said, own, _) = with_head(true, 0.5);
    assert!(
        said.stderr.contains("lm_head.weight is the head"),
        "{}",
        said.stderr
    );
    let (_, untied, _) = with_head(false, 0.5);
    assert_close(&own, &untied, "tied and untied");
    assert!((own[0] - PLAIN[0]).abs() > 0.1, "{own:?}");
    let (said, repeated, _) = with_head(true, 1.0);
    assert!(!said.stderr.contains("is the head"), "{}", said.stderr);
    assert_close(&repeated, &PLAIN, "a repeated head");
}

#[test]
fn names_and_folders_that_are_no_model() {
    let work = Workspace::new();
    let said = |model: &str| {
        program(&[
            "generate", "--model", model, "--prompt", "hi", "--device", "cpu",
        ])
    };
    said("Qwen/Qwen2-VL-2B-Instruct")
        .refused(&["not downloaded", "hf download Qwen/Qwen2-VL-2B-Instruct"]);
    let model = copied_model(&work, "model");
    std::fs::write(
        model.join("adapter_config.json"),
        r#"{"peft_type": "LORA", "base_model_name_or_path": "models/base"}"#,
    )
    .expect("written");
    said(text(&model)).refused(&["LoRA adapter", "`models/base`", "merge_and_unload"]);
    said(text(&model.join("config.json"))).refused(&["not a single file"]);
}

/// The ids are those of transformers with the ordinary template.
#[test]
fn templates_with_generation_tags_say_the_same() {
    let (_, plain, ids) = with(|_| {});
    let (said, tagged, tagged_ids) = with(|model| {
        let file: Value = serde_json::from_slice(
            &std::fs::read(model.join("chat_template.json")).expect("a template"),
        )
        .expect("JSON");
        let template = file["chat_template"].as_str().expect("text");
        let tagged = template.replace(
            "{{ message['content'] }}",
            "{% generation %}{{ message['content'] }}{% endgeneration %}",
        );
        assert_ne!(template, tagged, "the template holds the place");
        std::fs::write(model.join("chat_template.jinja"), tagged).expect("written");
    });
    said.done();
    assert_eq!(ids, tagged_ids);
    assert_close(&plain, &tagged, "with tags");
}

#[test]
fn tensors_that_no_part_of_the_model_reads_are_counted() {
    let (said, _, _) = with(|_| {});
    assert!(
        !said.stderr.contains("no part of the model"),
        "{}",
        said.stderr
    );
    let fewer = config(|file| file["num_hidden_layers"] = 1.into());
    let (said, logprobs, _) = with(fewer);
    assert!(
        said.stderr.contains("12 tensors are no part of the model"),
        "{}",
        said.stderr
    );
    assert!(
        (logprobs[0] - PLAIN[0]).abs() > 1e-3,
        "one layer is another model"
    );
}
