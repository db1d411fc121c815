//! The vision tower's sizes in config.json, with the defaults of transformers' `Qwen2VLVisionConfig` and
//! `Qwen2_5_VLVisionConfig`.
//!
//! Knows nothing of the text model but its width.

use std::ops::RangeInclusive;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::error::ModelFileError;
use super::section::Section;

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
    /// Base of the rotary frequencies of rows and columns.
    pub rope_theta: f64,
}

/// Which family's keys a file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// `qwen2_vl`
    Qwen2,
    /// `qwen2_5_vl`
    Qwen25,
}

const COUNT: RangeInclusive<usize> = 1..=1 << 10;
const WIDTH: RangeInclusive<usize> = 1..=1 << 16;

/// What transformers fills in where a key is absent.
pub(super) fn defaults(family: Family) -> &'static Map<String, Value> {
    static DEFAULTS: LazyLock<[Map<String, Value>; 2]> = LazyLock::new(|| {
        let both = json!({
            "depth": 32,
            "num_heads": 16,
            "in_channels": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "hidden_size": 3584,
            "rope_theta": 10_000.0,
        });
        let own = [
            json!({"embed_dim": 1280, "mlp_ratio": 4, "hidden_act": "quick_gelu"}),
            json!({
                "intermediate_size": 3420,
                "hidden_act": "silu",
                "window_size": 112,
                "out_hidden_size": 3584,
                "fullatt_block_indexes": [7, 15, 23, 31],
            }),
        ];
        own.map(|own| {
            let mut defaults = both.as_object().cloned().unwrap_or_default();
            defaults.extend(own.as_object().cloned().unwrap_or_default());
            defaults
        })
    });
    &DEFAULTS[family as usize]
}

impl VisionConfig {
    /// Values of one patch: channel x frame x row x column.
    #[must_use]
    pub const fn patch_values(&self) -> usize {
        self.in_channels * self.temporal_patch_size * self.patch_size * self.patch_size
    }

    /// Reads the tower's keys; `text_width` is the width of the text model that its tokens join.
    ///
    /// # Errors
    /// [`ModelFileError::Key`].
    pub(super) fn read(
        section: &Section<'_>,
        family: Family,
        text_width: usize,
    ) -> Result<Self, ModelFileError> {
        // In Qwen2-VL `hidden_size` is the text model's width and `embed_dim` the tower's; in Qwen2.5-VL `hidden_size` is
        // the tower's.
        let (own_width, joined_width) = match family {
            Family::Qwen2 => ("embed_dim", "hidden_size"),
            Family::Qwen25 => ("hidden_size", "out_hidden_size"),
        };
        let embed_dim = section.size(own_width, WIDTH)?;
        if section.size(joined_width, WIDTH)? != text_width {
            let expected = format!("{text_width}, the text model's `hidden_size`");
            return Err(section.wrong(joined_width, expected));
        }
        let (kind, intermediate_size) = match family {
            Family::Qwen2 => (VisionKind::Qwen2, mlp_width(section, embed_dim)?),
            Family::Qwen25 => (
                windows(section)?,
                section.size("intermediate_size", 1..=1 << 20)?,
            ),
        };
        match family {
            Family::Qwen2 => section.word("hidden_act", &["quick_gelu"])?,
            Family::Qwen25 => section.word("hidden_act", &["silu", "swish"])?,
        };
        let config = Self {
            kind,
            depth: counted(section, "depth", "num_hidden_layers")?,
            embed_dim,
            num_heads: counted(section, "num_heads", "num_attention_heads")?,
            intermediate_size,
            patch_size: section.size("patch_size", 1..=256)?,
            spatial_merge_size: section.size("spatial_merge_size", 1..=16)?,
            temporal_patch_size: section.size("temporal_patch_size", 1..=16)?,
            in_channels: section.size("in_channels", 3..=3)?,
            rope_theta: rope_theta(section)?,
        };
        // Keys of the hub's files that transformers does not read.
        section.agree("in_channels", "in_chans")?;
        section.agree("patch_size", "spatial_patch_size")?;
        config.check(section)?;
        Ok(config)
    }

    fn check(&self, section: &Section<'_>) -> Result<(), ModelFileError> {
        let head = self.embed_dim / self.num_heads;
        if self.embed_dim % self.num_heads != 0 || head % 4 != 0 {
            let expected = format!(
                "a number of heads that cuts the width of {} into multiples of 4",
                self.embed_dim
            );
            let hint = "a vision head turns with two axes, two halves each";
            return Err(section.refused("num_heads", expected, hint));
        }
        if let Some(value) = section.written("head_dim")
            && value.as_u64() != Some(head as u64)
        {
            return Err(section.wrong("head_dim", format!("{head}, the width over `num_heads`")));
        }
        if let VisionKind::Qwen25 { window_size, .. } = self.kind
            && window_size / self.spatial_merge_size / self.patch_size == 0
        {
            let least = self.patch_size * self.spatial_merge_size;
            let expected = format!("at least {least}, the edge of one token's square in pixels");
            return Err(section.wrong("window_size", expected));
        }
        Ok(())
    }
}

/// A number under its own name, or under the one that transformers' `attribute_map` takes for it.
fn counted(section: &Section<'_>, key: &str, alias: &str) -> Result<usize, ModelFileError> {
    match (section.written(key), section.written(alias)) {
        (None, Some(_)) => section.size(alias, COUNT),
        _ => {
            section.agree(key, alias)?;
            section.size(key, COUNT)
        }
    }
}

/// Python's `int(embed_dim * mlp_ratio)`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range was checked"
)]
fn mlp_width(section: &Section<'_>, embed_dim: usize) -> Result<usize, ModelFileError> {
    let width = embed_dim as f64 * section.number_above("mlp_ratio", 0.0, 64.0)?;
    match width as usize {
        0 => Err(section.wrong(
            "mlp_ratio",
            "a ratio that leaves the MLP a width".to_owned(),
        )),
        width => Ok(width),
    }
}

fn windows(section: &Section<'_>) -> Result<VisionKind, ModelFileError> {
    const KEY: &str = "fullatt_block_indexes";
    let blocks: Option<Vec<usize>> = match section.value(KEY) {
        Value::Array(list) => list
            .iter()
            .map(|block| block.as_u64()?.try_into().ok())
            .collect(),
        _ => None,
    };
    Ok(VisionKind::Qwen25 {
        window_size: section.size("window_size", 1..=1 << 20)?,
        full_attention_blocks: blocks
            .ok_or_else(|| section.wrong(KEY, "a list of block numbers".to_owned()))?,
    })
}

/// `rope_theta`, also inside `rope_parameters`; the tower's rotation has no other kind than `axial`.
fn rope_theta(section: &Section<'_>) -> Result<f64, ModelFileError> {
    for key in ["rope_scaling", "rope_parameters"] {
        let map = match section.written(key) {
            None | Some(Value::Null) => continue,
            Some(Value::Object(map)) if map.is_empty() => continue,
            Some(Value::Object(map)) => map,
            Some(_) => return Err(section.wrong(key, "an object".to_owned())),
        };
        let rope = Section {
            path: section.path,
            prefix: format!("{}{key}.", section.prefix),
            map,
            defaults: section.defaults,
        };
        for kind in ["rope_type", "type"] {
            if rope.written(kind).is_some() {
                rope.word(kind, &["axial", "default"])?;
            }
        }
        if rope.written("rope_theta").is_some() {
            return rope.number_above("rope_theta", 1.0, 1e15);
        }
    }
    section.number_above("rope_theta", 1.0, 1e15)
}
