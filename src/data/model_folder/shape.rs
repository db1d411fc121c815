//! The shape of a Qwen2-VL or Qwen2.5-VL model, read from the checkpoint's `config.json`.
//!
//! Reads the hub's flat form (text keys at the root) and transformers 5's nested form (`text_config`). Every key that is
//! absent has the default of transformers' class; every key that would change the numbers is honoured or refused by name.
//! Knows nothing of weights or devices.

use std::path::Path;
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::error::ModelFileError;
use super::folder::ModelFolder;
use super::json::{kind_of, shown};
use super::section::Section;
use super::text_shape::{self, TextConfig};
use super::vision_shape::{self, Family, VisionConfig, VisionKind};

/// A whole model's shape.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The language model.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// The placeholder that image embeddings replace.
    pub image_token_id: u32,
}

/// Ids of picture markers that config.json names; they must be the tokenizer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageTokenIds {
    /// Stands for one merged patch of a picture.
    pub image: u32,
    /// Stands for one merged patch of a video, if the file says.
    pub video: Option<u32>,
    /// Opens a picture, if the file says.
    pub vision_start: Option<u32>,
    /// Closes a picture, if the file says.
    pub vision_end: Option<u32>,
}

const IMAGE: &str = "image_token_id";
/// `torch_dtype` says how weights are stored and changes nothing here: they are computed in f32. Other formats are not
/// ordinary weights.
const NUMBER_FORMATS: [&str; 7] = [
    "float32", "float", "float16", "half", "bfloat16", "bfloat", "auto",
];

impl ModelConfig {
    /// Reads `config.json` in `model_dir`.
    ///
    /// # Errors
    /// If the folder or the file is absent, is not JSON, names another architecture, or has a key that makes no sense.
    pub fn open(model_dir: &Path) -> Result<Self, ModelFileError> {
        Self::read(&ModelFolder::open(model_dir)?)
    }

    /// Reads `config.json` of an open folder.
    ///
    /// # Errors
    /// As [`ModelConfig::open`].
    pub fn read(folder: &ModelFolder) -> Result<Self, ModelFileError> {
        Self::from_json(&folder.config_json()?, &folder.path("config.json"))
    }

    /// Reads the parsed `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`ModelConfig::open`].
    pub fn from_json(root: &Value, path: &Path) -> Result<Self, ModelFileError> {
        let root = whole(root, path)?;
        let family = family(&root)?;
        refuse_what_changes_the_numbers(&root)?;
        let text_map = inner(&root, "text_config")?;
        let text = match text_map {
            None => TextConfig::read(&section(path, "", root.map, text_shape::defaults()), None)?,
            Some(map) => {
                // The root's text keys have no defaults of their own beside `text_config`.
                let text = section(path, "text_config.", map, text_shape::defaults());
                let outer = section(path, "", root.map, text_shape::defaults());
                TextConfig::read(&text, Some(&outer))?
            }
        };
        let empty = Map::new();
        let vision_map = inner(&root, "vision_config")?.unwrap_or(&empty);
        let vision = section(
            path,
            "vision_config.",
            vision_map,
            vision_shape::defaults(family),
        );
        let vision = VisionConfig::read(&vision, family, text.hidden_size)?;
        let image_token_id = token(&root, IMAGE, text.vocab_size)?;
        Ok(Self {
            text,
            vision,
            image_token_id,
        })
    }

    /// Number of parameters of a model of these sizes.
    #[must_use]
    pub const fn parameter_count(&self) -> usize {
        let (text, vision) = (&self.text, &self.vision);
        let (width, inner) = (text.hidden_size, text.intermediate_size);
        let queries = text.num_attention_heads * text.head_dim;
        let keys = text.num_key_value_heads * text.head_dim;
        let layer = 2 * queries * width
            + queries
            + 2 * (keys * width + keys)
            + 3 * inner * width
            + 2 * width;
        let heads = if text.tie_word_embeddings { 1 } else { 2 };
        let language = heads * text.vocab_size * width + text.num_hidden_layers * layer + width;
        let (tower, hidden) = (vision.embed_dim, vision.intermediate_size);
        let (mlp, norms) = match vision.kind {
            VisionKind::Qwen2 => (2 * tower * hidden + hidden + tower, 2),
            VisionKind::Qwen25 { .. } => (3 * tower * hidden + 2 * hidden + tower, 1),
        };
        let block = 4 * tower * tower + 4 * tower + mlp + 2 * norms * tower;
        let merged = tower * vision.spatial_merge_size * vision.spatial_merge_size;
        let merger = norms * tower + merged * merged + merged + width * merged + width;
        language + vision.patch_values() * tower + vision.depth * block + merger
    }
}

impl ImageTokenIds {
    /// Reads the picture markers of `config.json`.
    ///
    /// # Errors
    /// As [`ModelConfig::open`], for these keys.
    pub fn read(folder: &ModelFolder, config: &ModelConfig) -> Result<Self, ModelFileError> {
        let (file, path) = (folder.config_json()?, folder.path("config.json"));
        let root = whole(&file, &path)?;
        let id = |key: &str| match root.written(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => token(&root, key, 1 << 24).map(Some),
        };
        Ok(Self {
            image: config.image_token_id,
            video: id("video_token_id")?,
            vision_start: id("vision_start_token_id")?,
            vision_end: id("vision_end_token_id")?,
        })
    }
}

fn section<'a>(
    path: &'a Path,
    prefix: &str,
    map: &'a Map<String, Value>,
    defaults: &'a Map<String, Value>,
) -> Section<'a> {
    Section {
        path,
        prefix: prefix.to_owned(),
        map,
        defaults,
    }
}

/// The root with the one default that transformers' outer class adds and this program reads.
fn whole<'a>(root: &'a Value, path: &'a Path) -> Result<Section<'a>, ModelFileError> {
    static DEFAULTS: LazyLock<Map<String, Value>> =
        LazyLock::new(|| Map::from_iter([(IMAGE.to_owned(), 151_655.into())]));
    let map = root
        .as_object()
        .ok_or_else(|| ModelFileError::broken(path, "a JSON object", kind_of(root).to_owned()))?;
    Ok(section(path, "", map, &DEFAULTS))
}

fn family(root: &Section<'_>) -> Result<Family, ModelFileError> {
    match root.written("model_type").and_then(Value::as_str) {
        Some("qwen2_vl") => Ok(Family::Qwen2),
        Some("qwen2_5_vl") => Ok(Family::Qwen25),
        _ => Err(ModelFileError::Architecture {
            path: root.path.to_owned(),
            found: root.written("model_type").map_or_else(
                || "absent".to_owned(),
                |value| {
                    format!(
                        "`{}`",
                        value
                            .as_str()
                            .map_or_else(|| shown(value), |word| word.escape_debug().to_string())
                    )
                },
            ),
        }),
    }
}

/// The object under a key; null counts as absent.
fn inner<'a>(
    root: &Section<'a>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, ModelFileError> {
    match root.written(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(root.wrong(key, "an object".to_owned())),
    }
}

fn token(root: &Section<'_>, key: &str, below: usize) -> Result<u32, ModelFileError> {
    let id = root.value(key).as_u64().filter(|id| *id < below as u64);
    let id = id.and_then(|id| u32::try_from(id).ok());
    id.ok_or_else(|| root.wrong(key, format!("a token id below {below}")))
}

/// Keys of the whole model under which transformers would compute, or load, something else.
fn refuse_what_changes_the_numbers(root: &Section<'_>) -> Result<(), ModelFileError> {
    let absent = [
        (
            "quantization_config",
            "quantised checkpoints are not supported; take the original one",
        ),
        (
            "compression_config",
            "quantised checkpoints are not supported; take the original one",
        ),
        (
            "transformers_weights",
            "weights are read from model.safetensors or its index; give the file that name and remove the key",
        ),
    ];
    for (key, hint) in absent {
        if root.written(key).is_some_and(|value| !value.is_null()) {
            return Err(root.refused(key, "no such key".to_owned(), hint));
        }
    }
    for key in ["torch_dtype", "dtype"] {
        let Some(value) = root.written(key).filter(|value| !value.is_null()) else {
            continue;
        };
        let word = value
            .as_str()
            .map(|word| word.strip_prefix("torch.").unwrap_or(word));
        if !word.is_some_and(|word| NUMBER_FORMATS.contains(&word)) {
            let expected = "float32, float16 or bfloat16".to_owned();
            let hint =
                "weights in other number formats are not read; save the model in one of these";
            return Err(root.refused(key, expected, hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn open(folder: &str) -> ModelConfig {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/public")
            .join(folder);
        ModelConfig::open(&dir).expect("a golden folder")
    }

    fn golden(folder: &str) -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/public")
            .join(folder)
            .join("config.json");
        serde_json::from_str(&std::fs::read_to_string(path).expect("a file")).expect("JSON")
    }

    fn read(root: &Value) -> Result<ModelConfig, String> {
        ModelConfig::from_json(root, Path::new("c/config.json")).map_err(|error| error.to_string())
    }

    #[test]
    fn old_and_new_forms_read_the_same() {
        assert_eq!(open("qwen2vl-tiny"), open("qwen2vl-tiny-v5-sharded-bf16"));
        let config = open("qwen2vl-tiny");
        assert_eq!(config.text.head_dim, 16, "64 over 4 heads");
        assert_eq!(config.vision.intermediate_size, 128, "mlp_ratio 4");
        assert!(config.text.tie_word_embeddings, "tied in both");
    }

    #[test]
    fn qwen25_reads_windows() {
        let config = open("qwen25vl-tiny");
        assert_eq!(
            config.vision.embed_dim, 32,
            "hidden_size is the tower's width"
        );
        let VisionKind::Qwen25 {
            full_attention_blocks,
            ..
        } = config.vision.kind
        else {
            panic!("kind")
        };
        assert_eq!(full_attention_blocks, [1], "one full block");
    }

    /// Values of `Qwen2VLConfig()` and `Qwen2_5_VLConfig()` of transformers 5.24; both put an 8192 wide text model beside a
    /// tower that gives 3584, so the widths are said.
    #[test]
    fn a_file_without_keys_is_the_class_of_transformers() {
        for (kind, own) in [
            ("qwen2_vl", json!({"hidden_size": 8192})),
            ("qwen2_5_vl", json!({"out_hidden_size": 8192})),
        ] {
            for keys in [
                json!({}),
                json!({"text_config": {}}),
                json!({"text_config": null}),
            ] {
                let mut root = keys;
                root["model_type"] = kind.into();
                root["vision_config"] = own.clone();
                let config = read(&root).expect("defaults");
                let text = &config.text;
                assert_eq!((text.vocab_size, text.hidden_size), (152_064, 8192));
                assert_eq!(
                    (text.intermediate_size, text.num_hidden_layers),
                    (29_568, 80)
                );
                assert_eq!(
                    (text.num_attention_heads, text.num_key_value_heads),
                    (64, 8)
                );
                assert_eq!(
                    (text.max_position_embeddings, text.rms_norm_eps),
                    (32_768, 1e-5)
                );
                assert_eq!((text.rope.theta, text.rope.section), (1e6, [16, 24, 24]));
                assert!(!text.tie_word_embeddings);
                assert_eq!(config.image_token_id, 151_655);
                let vision = &config.vision;
                assert_eq!((vision.depth, vision.num_heads), (32, 16));
                assert_eq!((vision.patch_size, vision.spatial_merge_size), (14, 2));
                assert_eq!((vision.temporal_patch_size, vision.in_channels), (2, 3));
                assert_eq!(vision.rope_theta, 10_000.0);
                let (width, inner, tower) = match kind {
                    "qwen2_vl" => (1280, 5120, VisionKind::Qwen2),
                    _ => (
                        3584,
                        3420,
                        VisionKind::Qwen25 {
                            window_size: 112,
                            full_attention_blocks: vec![7, 15, 23, 31],
                        },
                    ),
                };
                assert_eq!((vision.embed_dim, vision.intermediate_size), (width, inner));
                assert_eq!(vision.kind, tower);
            }
        }
    }

    /// Folders saved again by transformers keep only what differs from the class.
    #[test]
    fn what_equals_a_default_may_be_left_out_one_by_one() {
        for name in [
            "qwen2vl-tiny",
            "qwen2vl-tiny-v5-sharded-bf16",
            "qwen25vl-tiny",
        ] {
            let whole = golden(name);
            let expected = read(&whole).expect("golden");
            let leave_out = |object: &str, key: &str| {
                let mut root = whole.clone();
                let place = if object.is_empty() {
                    &mut root
                } else {
                    &mut root[object]
                };
                place
                    .as_object_mut()
                    .is_some_and(|map| map.shift_remove(key).is_some())
                    .then(|| read(&root))
            };
            for key in [
                "spatial_merge_size",
                "patch_size",
                "temporal_patch_size",
                "in_channels",
                "in_chans",
                "mlp_ratio",
                "hidden_act",
                "rope_parameters",
                "spatial_patch_size",
                "tokens_per_second",
            ] {
                if let Some(read) = leave_out("vision_config", key) {
                    assert_eq!(read.as_ref(), Ok(&expected), "{name}: vision_config.{key}");
                }
            }
            for object in ["", "text_config"] {
                for key in [
                    "max_position_embeddings",
                    "rope_theta",
                    "hidden_act",
                    "use_sliding_window",
                    "attention_dropout",
                    "layer_types",
                    "torch_dtype",
                    "dtype",
                ] {
                    if let Some(read) = leave_out(object, key) {
                        assert_eq!(read.as_ref(), Ok(&expected), "{name}: {object} {key}");
                    }
                }
            }
            // And what does not equal one gives the default, not a guess.
            let eps =
                leave_out("", "rms_norm_eps").or_else(|| leave_out("text_config", "rms_norm_eps"));
            assert_eq!(
                eps.expect("there").expect("read").text.rms_norm_eps,
                1e-5,
                "{name}"
            );
        }
    }

    #[test]
    fn other_names_and_forms_of_a_key_are_read() {
        let changed = |change: fn(&mut Value)| {
            let mut root = golden("qwen2vl-tiny");
            change(&mut root);
            read(&root).expect("read")
        };
        let aliased = changed(|root| {
            let vision = root["vision_config"].as_object_mut().expect("an object");
            for (key, alias) in [
                ("depth", "num_hidden_layers"),
                ("num_heads", "num_attention_heads"),
            ] {
                let value = vision.shift_remove(key).expect("there");
                vision.insert(alias.to_owned(), value);
            }
        });
        assert_eq!(aliased, open("qwen2vl-tiny"));
        assert_eq!(
            changed(|root| root["num_key_value_heads"] = Value::Null)
                .text
                .num_key_value_heads,
            4
        );
        assert_eq!(
            changed(|root| root["torch_dtype"] = "torch.bfloat16".into()),
            open("qwen2vl-tiny")
        );
        assert_eq!(
            changed(|root| root["hidden_act"] = "swish".into()),
            open("qwen2vl-tiny")
        );
        assert_eq!(
            changed(|root| root["vision_config"]["mlp_ratio"] = 2.6.into())
                .vision
                .intermediate_size,
            83
        );
        assert_eq!(
            changed(|root| root["vision_config"]["rope_parameters"] =
                json!({"rope_type": "axial", "rope_theta": 500.0}))
            .vision
            .rope_theta,
            500.0
        );
        // A window that holds the whole context is none.
        let wide = changed(|root| {
            root["use_sliding_window"] = true.into();
            root["sliding_window"] = 32_768.into();
        });
        assert_eq!(wide, open("qwen2vl-tiny"));
        let later = changed(|root| {
            root["use_sliding_window"] = true.into();
            root["sliding_window"] = 128.into();
            root["max_window_layers"] = 2.into();
        });
        assert_eq!(later, open("qwen2vl-tiny"));
    }

    #[test]
    fn what_changes_the_numbers_is_named() {
        type Change = fn(&mut Value);
        let flat: &[(Change, &str)] = &[
            (
                |r| r["hidden_act"] = "gelu".into(),
                "`hidden_act` is \"gelu\"; expected `silu` or `swish`",
            ),
            (
                |r| r["attention_dropout"] = 0.1.into(),
                "`attention_dropout` is 0.1; expected 0",
            ),
            (
                |r| {
                    r["use_sliding_window"] = true.into();
                    r["sliding_window"] = 64.into();
                    r["max_window_layers"] = 1.into();
                },
                "`use_sliding_window` is true; expected false",
            ),
            (
                |r| r["use_sliding_window"] = "no".into(),
                "`use_sliding_window` is \"no\"; expected true or false",
            ),
            (
                |r| r["layer_types"] = json!(["full_attention", "sliding_attention"]),
                "`layer_types` is [\"full_attention\",\"sliding_attention\"]",
            ),
            (
                |r| r["layer_types"] = json!(["full_attention"]),
                "expected a list of 2",
            ),
            (
                |r| r["head_dim"] = 32.into(),
                "`head_dim` is 32; expected 16",
            ),
            (
                |r| r["rms_norm_eps"] = (-1).into(),
                "`rms_norm_eps` is -1; expected a number above 0, at most 1",
            ),
            (|r| r["rms_norm_eps"] = 0.into(), "`rms_norm_eps` is 0;"),
            (
                |r| r["rms_norm_eps"] = "1e-6".into(),
                "`rms_norm_eps` is \"1e-6\"",
            ),
            (
                |r| r["rope_theta"] = 0.into(),
                "`rope_theta` is 0; expected a number above 1",
            ),
            (
                |r| r["hidden_size"] = Value::Null,
                "`hidden_size` is null; expected a whole number from 1 to 65536",
            ),
            (|r| r["hidden_size"] = 64.5.into(), "`hidden_size` is 64.5"),
            (
                |r| r["hidden_size"] = 66.into(),
                "`num_attention_heads` is 4; expected a divisor of `hidden_size`, 66",
            ),
            (
                |r| r["vocab_size"] = (1_u64 << 63).into(),
                "`vocab_size` is 9223372036854775808; expected a whole number from 1 to 16777216",
            ),
            (
                |r| r["num_hidden_layers"] = 0.into(),
                "`num_hidden_layers` is 0",
            ),
            (
                |r| r["num_key_value_heads"] = 3.into(),
                "`num_key_value_heads` is 3; expected a divisor of `num_attention_heads`, 4",
            ),
            (
                |r| r["max_position_embeddings"] = (-1).into(),
                "`max_position_embeddings` is -1",
            ),
            (
                |r| r["image_token_id"] = 928.into(),
                "`image_token_id` is 928; expected a token id below 928",
            ),
            (
                |r| {
                    r.as_object_mut().expect("").shift_remove("image_token_id");
                },
                "`image_token_id` is left out, so 151655, transformers' default; expected a token id below 928",
            ),
            (
                |r| {
                    r.as_object_mut().expect("").shift_remove("rope_scaling");
                },
                "`mrope_section` [16, 24, 24] sums to 64; expected half of a head, 8",
            ),
            (
                |r| r["tie_word_embeddings"] = 1.into(),
                "`tie_word_embeddings` is 1; expected true or false",
            ),
            (
                |r| r["torch_dtype"] = "float8_e4m3fn".into(),
                "`torch_dtype` is \"float8_e4m3fn\"; expected float32, float16 or bfloat16",
            ),
            (
                |r| r["quantization_config"] = json!({"quant_method": "awq"}),
                "`quantization_config` is {\"quant_method\":\"awq\"}; expected no such key",
            ),
            (
                |r| r["transformers_weights"] = "other.safetensors".into(),
                "`transformers_weights` is \"other.safetensors\"",
            ),
            (
                |r| r["vision_config"] = 3.into(),
                "`vision_config` is 3; expected an object",
            ),
            (
                |r| r["vision_config"]["hidden_act"] = "gelu".into(),
                "`vision_config.hidden_act` is \"gelu\"; expected `quick_gelu`",
            ),
            (
                |r| r["vision_config"]["hidden_size"] = 32.into(),
                "`vision_config.hidden_size` is 32; expected 64, the text model's",
            ),
            (
                |r| {
                    r["vision_config"]
                        .as_object_mut()
                        .expect("")
                        .shift_remove("hidden_size");
                },
                "`vision_config.hidden_size` is left out, so 3584, transformers' default; expected 64",
            ),
            (
                |r| r["vision_config"]["in_chans"] = 1.into(),
                "`vision_config.in_chans` is 1; expected 3, as `vision_config.in_channels` (left out",
            ),
            (
                |r| r["vision_config"]["in_channels"] = 1.into(),
                "`vision_config.in_channels` is 1",
            ),
            (
                |r| r["vision_config"]["spatial_patch_size"] = 16.into(),
                "`vision_config.spatial_patch_size` is 16; expected 14, as",
            ),
            (
                |r| r["vision_config"]["patch_size"] = (1_u64 << 63).into(),
                "`vision_config.patch_size` is 9223372036854775808; expected a whole number from 1 to 256",
            ),
            (
                |r| r["vision_config"]["patch_size"] = json!([14, 14]),
                "`vision_config.patch_size` is [14,14]",
            ),
            (
                |r| r["vision_config"]["temporal_patch_size"] = (1_u64 << 40).into(),
                "`vision_config.temporal_patch_size` is",
            ),
            (
                |r| r["vision_config"]["num_hidden_layers"] = 3.into(),
                "`vision_config.num_hidden_layers` is 3; expected 2, as `vision_config.depth`",
            ),
            (
                |r| r["vision_config"]["num_heads"] = 3.into(),
                "`vision_config.num_heads` is 3; expected a number of heads",
            ),
            (
                |r| r["vision_config"]["mlp_ratio"] = 0.into(),
                "`vision_config.mlp_ratio` is 0; expected a number above 0",
            ),
            (
                |r| r["vision_config"]["mlp_ratio"] = 0.001.into(),
                "`vision_config.mlp_ratio` is 0.001",
            ),
            (
                |r| r["vision_config"]["head_dim"] = 8.into(),
                "`vision_config.head_dim` is 8; expected 16",
            ),
            (
                |r| r["vision_config"]["rope_parameters"] = json!({"rope_type": "yarn"}),
                "`vision_config.rope_parameters.rope_type` is \"yarn\"",
            ),
        ];
        for (change, words) in flat {
            let mut root = golden("qwen2vl-tiny");
            change(&mut root);
            let text = read(&root).expect_err(words);
            assert!(text.contains(words), "{words}: {text}");
            assert!(
                text.starts_with("c/config.json: ") && text.contains("\nhint: "),
                "{text}"
            );
        }
        let windowed: &[(Change, &str)] = &[
            (
                |r| r["vision_config"]["window_size"] = 20.into(),
                "`vision_config.window_size` is 20; expected at least 28",
            ),
            (
                |r| r["vision_config"]["fullatt_block_indexes"] = json!([1.5]),
                "`vision_config.fullatt_block_indexes` is [1.5]",
            ),
            (
                |r| r["vision_config"]["fullatt_block_indexes"] = 1.into(),
                "`vision_config.fullatt_block_indexes` is 1; expected a list",
            ),
            (
                |r| r["vision_config"]["out_hidden_size"] = 63.into(),
                "`vision_config.out_hidden_size` is 63; expected 64",
            ),
        ];
        for (change, words) in windowed {
            let mut root = golden("qwen25vl-tiny");
            change(&mut root);
            let text = read(&root).expect_err(words);
            assert!(text.contains(words), "{words}: {text}");
        }
    }

    #[test]
    fn the_root_and_text_config_must_agree() {
        let mut root = golden("qwen2vl-tiny-v5-sharded-bf16");
        for (key, value) in golden("qwen2vl-tiny").as_object().expect("an object") {
            if !["vision_config", "torch_dtype"].contains(&key.as_str()) {
                root[key] = value.clone();
            }
        }
        assert_eq!(
            read(&root),
            Ok(open("qwen2vl-tiny")),
            "transformers 4.5x writes both"
        );
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 4] = [
            (
                |r| r["hidden_size"] = 128.into(),
                "`hidden_size` is 128; expected as in `text_config`, where it is 64",
            ),
            (
                |r| {
                    r["text_config"]
                        .as_object_mut()
                        .expect("")
                        .shift_remove("rms_norm_eps");
                },
                "`rms_norm_eps` is 1e-6; expected as in `text_config`, where it is left out, so 0.00001, transformers' default",
            ),
            (
                |r| {
                    r["rope_scaling"] =
                        json!({"type": "yarn", "factor": 4, "mrope_section": [2, 3, 3]})
                },
                "`rope_scaling` is {\"type\":\"yarn\",\"factor\":4,\"mrope_section\":[2,3,3]}; expected as in",
            ),
            (
                |r| r["text_config"]["rope_parameters"]["rope_theta"] = 5.0.into(),
                "`rope_theta` is 1000000.0; expected as in `text_config`",
            ),
        ];
        for (change, words) in cases {
            let mut root = root.clone();
            change(&mut root);
            let text = read(&root).expect_err(words);
            assert!(text.contains(words), "{words}: {text}");
        }
        // Either place ties the head.
        root["tie_word_embeddings"] = false.into();
        root["text_config"]["tie_word_embeddings"] = true.into();
        assert!(read(&root).expect("tied").text.tie_word_embeddings);
    }

    #[test]
    fn other_architectures_are_named() {
        for (root, found) in [
            (
                json!({"model_type": "llava"}),
                "`llava`; this program runs `qwen2_vl`",
            ),
            (json!({"model_type": 3}), "`3`; this program"),
            (json!({}), "absent; this program"),
            (json!([]), "expected a JSON object, found a list"),
        ] {
            let error = read(&root).expect_err("another");
            assert!(error.contains(found) && error.contains("hint:"), "{error}");
        }
    }
}
