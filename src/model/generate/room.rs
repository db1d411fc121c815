//! How many completions are in the making at once, and how much of their prompts is kept for them.
//!
//! Plain numbers: knows no tensor and no device.

use crate::model::config::TextConfig;

/// Bytes of the rows' cache, and again of the prompts', unless `generation_rows` says how many rows there are: half of
/// the frozen 4-bit weights of a model of two billion parameters, 18,000 tokens of its keys and values.
pub const CACHE_BYTES: usize = 1 << 30;

/// Bytes of either half of one tensor of the cache: both together are 128 MiB, the smallest binding limit there is.
const TENSOR_BYTES: usize = 1 << 26;

/// The cache of a batch of completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheRoom {
    /// Rows alive at once.
    pub rows: usize,
    /// Places of one row.
    pub row_places: usize,
    /// Places of all prompts that are kept at once.
    pub prompt_places: usize,
    /// Bytes of one place in all layers.
    pub place_bytes: usize,
}

impl CacheRoom {
    /// Room for `count` completions of at most `max_new_tokens` of each prompt; `prompts` are their lengths.
    /// `generation_rows` bounds the rows, memory does where it is `None`.
    #[must_use]
    pub fn new(
        config: &TextConfig,
        prompts: &[usize],
        [count, max_new_tokens]: [usize; 2],
        generation_rows: Option<usize>,
    ) -> Self {
        let tensor = config.num_key_value_heads * config.head_dim * size_of::<f32>();
        let place_bytes = 2 * config.num_hidden_layers * tensor;
        let bounded = (CACHE_BYTES / place_bytes.max(1)).min(TENSOR_BYTES / tensor.max(1));
        let rows = generation_rows.unwrap_or(bounded / max_new_tokens.max(1));
        let rows = rows.min(prompts.len() * count).max(1);
        let mut lengths = prompts.to_vec();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        // A prompt is kept for the rows that are alive, so there are never more of them; the longest fits alone.
        let kept: usize = lengths.iter().take(rows).sum();
        let longest = lengths.first().copied().unwrap_or(0);
        Self {
            rows,
            row_places: max_new_tokens,
            prompt_places: kept.min(bounded).max(longest),
            place_bytes,
        }
    }

    /// Places of prompts and rows.
    #[must_use]
    pub const fn places(&self) -> usize {
        self.prompt_places + self.rows * self.row_places
    }

    /// Bytes of the whole cache.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.places() * self.place_bytes
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::model::config::ModelConfig;

    /// The sizes of Qwen2-VL-2B.
    fn two_billion() -> TextConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
        TextConfig {
            num_hidden_layers: 28,
            num_key_value_heads: 2,
            head_dim: 128,
            ..ModelConfig::open(&folder).expect("config.json").text
        }
    }

    #[test]
    fn memory_bounds_the_rows_where_nobody_else_does() {
        let prompts = vec![700; 100];
        let room = CacheRoom::new(&two_billion(), &prompts, [8, 512], None);
        assert_eq!(room.place_bytes, 57_344);
        assert_eq!(room.rows, 36);
        assert_eq!(room.prompt_places, 18_724);
        assert!(room.bytes() <= 2 * CACHE_BYTES, "{}", room.bytes());
        let few = CacheRoom::new(&two_billion(), &prompts[..2], [8, 512], None);
        assert_eq!(
            (few.rows, few.prompt_places),
            (16, 1400),
            "no more than there are"
        );
    }

    #[test]
    fn the_configuration_bounds_the_rows_and_one_prompt_always_fits() {
        let of = |prompts: &[usize], rows| {
            let room = CacheRoom::new(&two_billion(), prompts, [3, 10], Some(rows));
            (room.rows, room.prompt_places)
        };
        assert_eq!(of(&[5, 9, 7], 1), (1, 9));
        assert_eq!(of(&[5, 9, 7], 2), (2, 16));
        assert_eq!(of(&[5, 9, 7], 1000), (9, 21));
        assert_eq!(of(&[40_000, 9], 4), (4, 40_000));
    }
}
