//! The shape of a Qwen2-VL or Qwen2.5-VL model, read from the checkpoint's `config.json`.
//!
//! Reads the hub's flat form (`rope_scaling`, text keys at the root) and transformers 5's nested form (`text_config`,
//! `rope_parameters`). Knows nothing of weights or devices.

use std::path::Path;

use serde_json::{Map, Value};

/// What is wrong with a `config.json`.
#[derive(Debug, thiserror::Error)]
pub enum ModelConfigError {
    /// The file cannot be read.
    #[error(
        "{path}: cannot be read: {source}\nhint: the folder must be a Hugging Face model folder with a config.json"
    )]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not JSON.
    #[error(
        "{path}: not valid JSON: {source}\nhint: copy config.json again from the model's repository"
    )]
    NotJson {
        /// The file.
        path: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// Another architecture.
    #[error(
        "{path}: `model_type` is {found}; this program runs `qwen2_vl` and `qwen2_5_vl`\nhint: choose a Qwen2-VL or Qwen2.5-VL checkpoint"
    )]
    Architecture {
        /// The file.
        path: String,
        /// The value found.
        found: String,
    },
    /// A key is absent or of the wrong kind.
    #[error(
        "{path}: `{key}` must be {expected}, found {found}\nhint: compare the file with the one of Qwen/Qwen2-VL-2B-Instruct"
    )]
    Key {
        /// The file.
        path: String,
        /// The key.
        key: String,
        /// What it should be.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// Numbers that do not fit together, or a feature that is not supported.
    #[error("{path}: {problem}\nhint: {hint}")]
    Inconsistent {
        /// The file.
        path: String,
        /// What does not fit.
        problem: String,
        /// What to do.
        hint: &'static str,
    },
}

/// The language model's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct TextConfig {
    /// D: width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated MLP.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// H: query heads.
    pub num_attention_heads: usize,
    /// K: key/value heads.
    pub num_key_value_heads: usize,
    /// E: width of a head.
    pub head_dim: usize,
    /// Added to the mean square in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How many of the E/2 frequencies turn with the temporal, height and width position.
    pub mrope_section: [usize; 3],
    /// V: rows of the embedding table (more than the tokenizer has).
    pub vocab_size: usize,
    /// Longest sequence the positions were trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
}

/// Which vision tower a checkpoint has.
#[derive(Debug, Clone, PartialEq)]
pub enum VisionKind {
    /// Qwen2-VL: LayerNorm, quick-GELU MLP, attention within the whole picture.
    Qwen2,
    /// Qwen2.5-VL: RMSNorm, gated MLP, attention within windows except in some blocks.
    Qwen25 {
        /// Window edge in pixels.
        window_size: usize,
        /// Blocks that attend to the whole picture.
        full_attention_blocks: Vec<usize>,
    },
}

/// The vision tower's sizes.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// Which tower.
    pub kind: VisionKind,
    /// Number of blocks.
    pub depth: usize,
    /// Width of the tower.
    pub embed_dim: usize,
    /// Attention heads.
    pub num_heads: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Edge of a patch in pixels.
    pub patch_size: usize,
    /// Edge of the square of patches that becomes one token.
    pub spatial_merge_size: usize,
    /// Frames in a patch.
    pub temporal_patch_size: usize,
    /// Colour channels.
    pub in_channels: usize,
}

impl VisionConfig {
    /// Values of one patch: channel x frame x row x column.
    #[must_use]
    pub const fn patch_values(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }
}

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

impl ModelConfig {
    /// Reads `config.json` in `model_dir`.
    ///
    /// # Errors
    /// If the file is absent, is not JSON, names another architecture, or lacks a size.
    pub fn open(model_dir: &Path) -> Result<Self, ModelConfigError> {
        let path = model_dir.join("config.json");
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(&path).map_err(|source| ModelConfigError::Unreadable {
                path: name.clone(),
                source,
            })?;
        let root = serde_json::from_str(&text).map_err(|source| ModelConfigError::NotJson {
            path: name.clone(),
            source,
        })?;
        Self::from_json(&root, &name)
    }

    /// Reads the parsed `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`ModelConfig::open`].
    pub fn from_json(root: &Value, path: &str) -> Result<Self, ModelConfigError> {
        let empty = Map::new();
        let root = Section {
            map: root.as_object().unwrap_or(&empty),
            parent: None,
            path,
        };
        let is_qwen25 = match root.text("model_type").as_deref() {
            Some("qwen2_vl") => false,
            Some("qwen2_5_vl") => true,
            other => {
                return Err(ModelConfigError::Architecture {
                    path: path.to_owned(),
                    found: other.map_or_else(|| "absent".to_owned(), |name| format!("`{name}`")),
                });
            }
        };
        let text_map = root
            .map
            .get("text_config")
            .and_then(Value::as_object)
            .unwrap_or(root.map);
        let text = Section {
            map: text_map,
            parent: Some(root.map),
            path,
        };
        let vision_map = root
            .map
            .get("vision_config")
            .and_then(Value::as_object)
            .unwrap_or(&empty);
        let vision = Section {
            map: vision_map,
            parent: None,
            path,
        };
        let config = Self {
            text: read_text(&text)?,
            vision: read_vision(&vision, is_qwen25)?,
            image_token_id: u32::try_from(root.size("image_token_id")?).unwrap_or(u32::MAX),
        };
        config.check(path)?;
        Ok(config)
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

    fn check(&self, path: &str) -> Result<(), ModelConfigError> {
        let fail = |problem: String, hint| {
            Err(ModelConfigError::Inconsistent {
                path: path.to_owned(),
                problem,
                hint,
            })
        };
        let (text, vision) = (&self.text, &self.vision);
        if text.num_attention_heads % text.num_key_value_heads != 0 {
            let problem = format!(
                "`num_attention_heads` {} is not a multiple of `num_key_value_heads` {}",
                text.num_attention_heads, text.num_key_value_heads
            );
            return fail(
                problem,
                "each key/value head serves the same number of query heads",
            );
        }
        let section: usize = text.mrope_section.iter().sum();
        if section * 2 != text.head_dim {
            let problem = format!(
                "`mrope_section` {:?} sums to {section}, half of a head is {}",
                text.mrope_section,
                text.head_dim / 2
            );
            return fail(problem, "the three sections must share half of `head_dim`");
        }
        if vision.embed_dim % vision.num_heads != 0
            || (vision.embed_dim / vision.num_heads) % 4 != 0
        {
            let problem = format!(
                "vision width {} over {} heads",
                vision.embed_dim, vision.num_heads
            );
            return fail(
                problem,
                "a vision head's width must be a multiple of 4 (two axes, two halves)",
            );
        }
        Ok(())
    }
}

/// A JSON object with an optional fallback object (the root of a flat config).
struct Section<'a> {
    map: &'a Map<String, Value>,
    parent: Option<&'a Map<String, Value>>,
    path: &'a str,
}

impl Section<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        let found = self
            .map
            .get(key)
            .or_else(|| self.parent.and_then(|parent| parent.get(key)));
        found.filter(|value| !value.is_null())
    }

    fn text(&self, key: &str) -> Option<String> {
        self.value(key).and_then(Value::as_str).map(str::to_owned)
    }

    fn wrong(&self, key: &str, expected: &'static str) -> ModelConfigError {
        let found = self
            .value(key)
            .map_or_else(|| "nothing".to_owned(), ToString::to_string);
        ModelConfigError::Key {
            path: self.path.to_owned(),
            key: key.to_owned(),
            expected,
            found,
        }
    }

    fn size(&self, key: &str) -> Result<usize, ModelConfigError> {
        let found = self
            .value(key)
            .and_then(Value::as_u64)
            .filter(|value| *value > 0);
        found
            .and_then(|value| usize::try_from(value).ok())
            .ok_or_else(|| self.wrong(key, "a positive integer"))
    }

    fn size_or(&self, key: &str, default: usize) -> Result<usize, ModelConfigError> {
        if self.value(key).is_none() {
            Ok(default)
        } else {
            self.size(key)
        }
    }

    fn number_or(&self, key: &str, default: f64) -> Result<f64, ModelConfigError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.wrong(key, "a number")),
        }
    }

    fn flag(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or(false)
    }
}

fn read_text(section: &Section<'_>) -> Result<TextConfig, ModelConfigError> {
    let hidden_size = section.size("hidden_size")?;
    let num_attention_heads = section.size("num_attention_heads")?;
    let act = section
        .text("hidden_act")
        .unwrap_or_else(|| "silu".to_owned());
    if act != "silu" || section.flag("use_sliding_window") {
        return Err(ModelConfigError::Inconsistent {
            path: section.path.to_owned(),
            problem: format!(
                "`hidden_act` {act}, `use_sliding_window` {}",
                section.flag("use_sliding_window")
            ),
            hint: "supported are `silu` and full attention, as in every published Qwen2-VL",
        });
    }
    let rope = ["rope_parameters", "rope_scaling"]
        .iter()
        .find_map(|key| section.value(key).and_then(Value::as_object));
    let empty = Map::new();
    let rope = Section {
        map: rope.unwrap_or(&empty),
        parent: Some(section.map),
        path: section.path,
    };
    let sections: Vec<usize> = rope
        .value("mrope_section")
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter_map(|value| value.as_u64().and_then(|value| value.try_into().ok()))
                .collect()
        })
        .unwrap_or_default();
    let mrope_section = sections
        .try_into()
        .map_err(|_| rope.wrong("mrope_section", "a list of three integers"))?;
    Ok(TextConfig {
        hidden_size,
        intermediate_size: section.size("intermediate_size")?,
        num_hidden_layers: section.size("num_hidden_layers")?,
        num_attention_heads,
        num_key_value_heads: section.size_or("num_key_value_heads", num_attention_heads)?,
        head_dim: section.size_or("head_dim", hidden_size / num_attention_heads)?,
        rms_norm_eps: section.number_or("rms_norm_eps", 1e-6)?,
        rope_theta: rope.number_or("rope_theta", 1e6)?,
        mrope_section,
        vocab_size: section.size("vocab_size")?,
        max_position_embeddings: section.size_or("max_position_embeddings", 32_768)?,
        tie_word_embeddings: section.flag("tie_word_embeddings")
            || section.parent.is_some_and(|root| {
                root.get("tie_word_embeddings")
                    .and_then(Value::as_bool)
                    .unwrap_or(false)
            }),
    })
}

fn read_vision(section: &Section<'_>, is_qwen25: bool) -> Result<VisionConfig, ModelConfigError> {
    // In Qwen2-VL `hidden_size` is the text width and `embed_dim` the tower's; in Qwen2.5-VL `hidden_size` is the tower's.
    let embed_dim = section.size(if is_qwen25 {
        "hidden_size"
    } else {
        "embed_dim"
    })?;
    let (kind, intermediate_size) = if is_qwen25 {
        let blocks = section
            .value("fullatt_block_indexes")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        let full_attention_blocks = blocks
            .iter()
            .filter_map(|value| value.as_u64()?.try_into().ok())
            .collect();
        let window_size = section.size_or("window_size", 112)?;
        (
            VisionKind::Qwen25 {
                window_size,
                full_attention_blocks,
            },
            section.size("intermediate_size")?,
        )
    } else {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive size"
        )]
        let width = (embed_dim as f64 * section.number_or("mlp_ratio", 4.0)?) as usize;
        (VisionKind::Qwen2, width)
    };
    Ok(VisionConfig {
        kind,
        depth: section.size("depth")?,
        embed_dim,
        num_heads: section.size("num_heads")?,
        intermediate_size,
        patch_size: section.size_or("patch_size", 14)?,
        spatial_merge_size: section.size_or("spatial_merge_size", 2)?,
        temporal_patch_size: section.size_or("temporal_patch_size", 2)?,
        // Hub files say `in_chans`, which transformers does not read.
        in_channels: section.size_or("in_channels", 3)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &str) -> ModelConfig {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/golden/public")
            .join(folder);
        ModelConfig::open(&dir).expect("a golden folder")
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

    #[test]
    fn other_architectures_are_named() {
        let error =
            ModelConfig::from_json(&serde_json::json!({"model_type": "llava"}), "x/config.json")
                .expect_err("llava");
        assert!(
            error
                .to_string()
                .contains("`llava`; this program runs `qwen2_vl`"),
            "{error}"
        );
        assert!(error.to_string().contains("hint:"), "{error}");
        let error = ModelConfig::from_json(&serde_json::json!({"model_type": "qwen2_vl"}), "c")
            .expect_err("no sizes");
        assert!(
            error
                .to_string()
                .contains("`hidden_size` must be a positive integer, found nothing"),
            "{error}"
        );
    }
}
