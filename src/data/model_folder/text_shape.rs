//! The language model's sizes in config.json, with the defaults of transformers' `Qwen2VLTextConfig`.
//!
//! Those of `Qwen2_5_VLTextConfig` are the same. Knows nothing of the vision tower.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::error::ModelFileError;
use super::rope::{POSITIONS, Rope};
use super::section::{Section, same};

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
    /// How positions turn queries and keys.
    pub rope: Rope,
    /// V: rows of the embedding table (more than the tokenizer has).
    pub vocab_size: usize,
    /// Longest sequence the positions were trained for, in tokens.
    pub max_position_embeddings: usize,
    /// Whether the output head is the embedding table.
    pub tie_word_embeddings: bool,
}

const HEADS: RangeInclusive<usize> = 1..=1 << 10;
const LAYERS: RangeInclusive<usize> = 1..=1 << 10;
/// Keys that files of transformers 4.5x hold at the root and in `text_config`: they must agree.
const IN_BOTH: [&str; 11] = [
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "use_sliding_window",
];

const TWICE: &str =
    "transformers reads `text_config` and ignores the root; make both say the same, or remove one";

/// What transformers fills in where a key is absent.
pub(super) fn defaults() -> &'static Map<String, Value> {
    static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
        let defaults = json!({
            "vocab_size": 152_064,
            "hidden_size": 8192,
            "intermediate_size": 29_568,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "hidden_act": "silu",
            "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-5,
            "use_sliding_window": false,
            "sliding_window": 4096,
            "max_window_layers": 80,
            "attention_dropout": 0.0,
            "rope_theta": 1_000_000.0,
        });
        defaults.as_object().cloned().unwrap_or_default()
    });
    &DEFAULTS
}

impl TextConfig {
    /// Reads the text model's keys; `root` is given where they stand in an object of their own.
    ///
    /// # Errors
    /// [`ModelFileError::Key`].
    pub(super) fn read(
        text: &Section<'_>,
        root: Option<&Section<'_>>,
    ) -> Result<Self, ModelFileError> {
        if let Some(root) = root {
            agree_with_root(text, root)?;
        }
        text.word("hidden_act", &["silu", "swish"])?;
        refuse_dropout(text)?;
        let num_hidden_layers = text.size("num_hidden_layers", LAYERS)?;
        let max_position_embeddings = text.size("max_position_embeddings", POSITIONS)?;
        refuse_windows(text, num_hidden_layers, max_position_embeddings)?;
        let hidden_size = text.size("hidden_size", 1..=1 << 16)?;
        let num_attention_heads = text.size("num_attention_heads", HEADS)?;
        let num_key_value_heads = match text.value("num_key_value_heads") {
            Value::Null => num_attention_heads,
            _ => text.size("num_key_value_heads", HEADS)?,
        };
        let tied = text.flag("tie_word_embeddings")?;
        let config = Self {
            hidden_size,
            intermediate_size: text.size("intermediate_size", 1..=1 << 20)?,
            num_hidden_layers,
            num_attention_heads,
            num_key_value_heads,
            head_dim: hidden_size / num_attention_heads,
            rms_norm_eps: text.number_above("rms_norm_eps", 0.0, 1.0)?,
            rope: Rope::read(text)?,
            vocab_size: text.size("vocab_size", 1..=1 << 24)?,
            max_position_embeddings,
            tie_word_embeddings: match root {
                Some(root) => tied | root.flag("tie_word_embeddings")?,
                None => tied,
            },
        };
        config.check_heads(text)?;
        Ok(config)
    }

    fn check_heads(&self, text: &Section<'_>) -> Result<(), ModelFileError> {
        let heads = self.num_attention_heads;
        if self.hidden_size % heads != 0 {
            let expected = format!("a divisor of `hidden_size`, {}", self.hidden_size);
            return Err(text.wrong("num_attention_heads", expected));
        }
        if heads % self.num_key_value_heads != 0 {
            let expected = format!("a divisor of `num_attention_heads`, {heads}");
            let hint = "each key/value head serves the same number of query heads";
            return Err(text.refused("num_key_value_heads", expected, hint));
        }
        // transformers' attention reads no `head_dim`; its rotary embedding does, and fails if it is another.
        match text.written("head_dim") {
            None | Some(Value::Null) => {}
            Some(value) if value.as_u64() == Some(self.head_dim as u64) => {}
            Some(_) => {
                let expected = format!(
                    "{}, `hidden_size` over `num_attention_heads`",
                    self.head_dim
                );
                return Err(text.wrong("head_dim", expected));
            }
        }
        let turning: usize = self.rope.section.iter().sum();
        if turning * 2 != self.head_dim {
            let found = format!("`mrope_section` {:?} sums to {turning}", self.rope.section);
            let expected = format!("half of a head, {}", self.head_dim as f64 / 2.0);
            return Err(ModelFileError::Key {
                path: text.path.to_owned(),
                key: format!("{}rope_scaling", text.prefix),
                found,
                expected,
                hint: "the three sections must share half of `head_dim`; where the key is left out they are 16, 24, 24".to_owned(),
            });
        }
        Ok(())
    }
}

/// Keys at the root that `text_config` has too, or should have: transformers reads the latter alone.
fn agree_with_root(text: &Section<'_>, root: &Section<'_>) -> Result<(), ModelFileError> {
    for key in IN_BOTH {
        match root.written(key) {
            None | Some(Value::Null) => {}
            Some(value) if same(value, text.value(key)) => {}
            Some(_) if key == "num_key_value_heads" && text.value(key).is_null() => {}
            Some(_) => {
                let expected = format!("as in `text_config`, where it is {}", text.found(key));
                return Err(root.refused(key, expected, TWICE));
            }
        }
    }
    let (inner, outer) = (Rope::read(text)?, Rope::read(root)?);
    let written = |key: &str| root.written(key).is_some_and(|value| !value.is_null());
    let object = ["rope_scaling", "rope_parameters"]
        .into_iter()
        .find(|key| written(key));
    let wrong = match object {
        Some(key) if (outer.section, &outer.scaling) != (inner.section, &inner.scaling) => key,
        _ if written("rope_theta") && outer.theta != inner.theta => "rope_theta",
        _ => return Ok(()),
    };
    Err(root.refused(wrong, "as in `text_config`".to_owned(), TWICE))
}

fn refuse_dropout(text: &Section<'_>) -> Result<(), ModelFileError> {
    match text.value("attention_dropout") {
        Value::Null => Ok(()),
        value if value.as_f64() == Some(0.0) => Ok(()),
        _ => {
            let hint = "dropout in the attention is not computed; set it to 0, as in every published Qwen2-VL";
            Err(text.refused("attention_dropout", "0".to_owned(), hint))
        }
    }
}

/// Refuses layers that see a window of the text, unless the window holds every text that fits the context.
fn refuse_windows(text: &Section<'_>, layers: usize, longest: usize) -> Result<(), ModelFileError> {
    let window = match (
        text.flag("use_sliding_window")?,
        text.value("sliding_window"),
    ) {
        (false, _) | (true, Value::Null) => None,
        (true, _) => Some(text.size("sliding_window", 1..=usize::MAX)?),
    };
    let narrow = window.is_some_and(|window| window < longest);
    let hint = "windows in the text model are not computed; supported is full attention, as in every published Qwen2-VL";
    let listed = match text.written("layer_types") {
        None | Some(Value::Null) => {
            let first = match text.value("max_window_layers") {
                Value::Null => 0,
                _ => text.size("max_window_layers", 0..=usize::MAX)?,
            };
            return match narrow && first < layers {
                true => Err(text.refused("use_sliding_window", "false".to_owned(), hint)),
                false => Ok(()),
            };
        }
        Some(value) => value
            .as_array()
            .filter(|list| list.len() == layers)
            .ok_or_else(|| {
                text.wrong(
                    "layer_types",
                    format!("a list of {layers}, one for each of `num_hidden_layers`"),
                )
            })?,
    };
    let full = |kind: &Value| {
        kind == "full_attention" || (kind == "sliding_attention" && window.is_some() && !narrow)
    };
    match listed.iter().all(full) {
        true => Ok(()),
        false => Err(text.refused(
            "layer_types",
            "\"full_attention\" for every layer".to_owned(),
            hint,
        )),
    }
}
