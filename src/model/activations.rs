//! The largest tensors that a batch makes, worked out from shapes alone, so that a run is refused before it starts.
//!
//! Counts what this model's code allocates; knows nothing of configurations and data sets.

use super::config::ModelConfig;
use super::vision::PATCHES_AT_ONCE;

/// What a model is asked for at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Prompts of a batch.
    pub prompts: usize,
    /// Tokens of the longest prompt, pictures included.
    pub prompt_tokens: usize,
    /// Pictures of the batch.
    pub pictures: usize,
    /// Patches of the largest picture, before they are merged.
    pub picture_patches: usize,
    /// Completions of a batch.
    pub rows: usize,
    /// Most tokens of a completion.
    pub completion_tokens: usize,
    /// What becomes of the completions.
    pub work: Work,
}

/// How a batch runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Prompts and completions go through the layers at once.
    Learning,
    /// Prompts go through the layers at once, completions token by token beside a cache.
    Sampling,
}

/// What makes a tensor as large as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The patches of one picture.
    Picture,
    /// The tokens of the prompts of a batch.
    Prompts,
    /// The completions of a batch.
    Completions,
}

/// One tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activation {
    /// What it holds, with the sizes that make it.
    pub what: String,
    /// Its bytes.
    pub bytes: u64,
    /// What to make smaller.
    pub cause: Cause,
}

impl Activation {
    fn new(what: String, sizes: [usize; 2], cause: Cause) -> Self {
        let count = sizes.iter().map(|size| *size as u64);
        Self {
            what,
            // No number of bytes is too large to be compared.
            bytes: count.fold(4, u64::saturating_mul),
            cause,
        }
    }
}

impl ModelConfig {
    /// The largest tensor besides the parameters that `demand` needs.
    #[must_use]
    pub fn largest_activation(&self, demand: &Demand) -> Activation {
        let mut all = vec![self.of_pictures(demand), self.of_layers(demand)];
        if demand.work == Work::Sampling {
            all.extend(self.of_sampling(demand));
        }
        let largest = all.into_iter().max_by_key(|activation| activation.bytes);
        largest.expect("there are two")
    }

    /// The tower runs over some pictures at once, as many as have few patches together, at least one.
    fn of_pictures(&self, demand: &Demand) -> Activation {
        let tower = &self.vision;
        let all = demand.picture_patches.saturating_mul(demand.pictures);
        let patches = demand.picture_patches.max(all.min(PATCHES_AT_ONCE));
        let widest = (3 * tower.embed_dim)
            .max(tower.intermediate_size)
            .max(tower.patch_values());
        let what = format!("the vision tower over {patches} patches");
        Activation::new(what, [patches, widest], Cause::Picture)
    }

    fn of_layers(&self, demand: &Demand) -> Activation {
        let text = &self.text;
        let prompts = demand.prompts.saturating_mul(demand.prompt_tokens);
        let completions = match demand.work {
            Work::Learning => demand.rows.saturating_mul(demand.completion_tokens),
            Work::Sampling => 0,
        };
        let queries = text.num_attention_heads * text.head_dim;
        let widest = text.intermediate_size.max(text.hidden_size).max(queries);
        let tokens = prompts.saturating_add(completions);
        let cause = if prompts >= completions {
            Cause::Prompts
        } else {
            Cause::Completions
        };
        let what = format!(
            "a layer over {tokens} tokens ({} prompts of up to {}, {} completions of up to {})",
            demand.prompts, demand.prompt_tokens, demand.rows, demand.completion_tokens
        );
        Activation::new(what, [tokens, widest], cause)
    }

    fn of_sampling(&self, demand: &Demand) -> [Activation; 2] {
        let (text, rows) = (&self.text, demand.rows);
        let own = rows.saturating_mul(demand.completion_tokens);
        let prompts = demand.prompts.saturating_mul(demand.prompt_tokens);
        let places = prompts.saturating_add(own);
        let logits = format!("the logits of {rows} completions");
        let cache = format!(
            "the cache of {rows} completions of up to {} tokens",
            demand.completion_tokens
        );
        let keys = text.num_key_value_heads * text.head_dim;
        [
            Activation::new(logits, [rows, text.vocab_size], Cause::Completions),
            Activation::new(cache, [places, keys], Cause::Completions),
        ]
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn tiny() -> ModelConfig {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
        ModelConfig::open(&folder).expect("config.json")
    }

    fn demand() -> Demand {
        Demand {
            prompts: 2,
            prompt_tokens: 100,
            pictures: 2,
            picture_patches: 64,
            rows: 8,
            completion_tokens: 32,
            work: Work::Learning,
        }
    }

    #[test]
    fn a_large_picture_decides_alone_and_small_ones_together() {
        let config = tiny();
        let tower = &config.vision;
        let widest = (3 * tower.embed_dim)
            .max(tower.intermediate_size)
            .max(tower.patch_values());
        for (picture_patches, pictures, at_once) in [(50_000, 3, 50_000), (64, 1000, 4096)] {
            let found = config.largest_activation(&Demand {
                pictures,
                picture_patches,
                ..demand()
            });
            assert_eq!(found.bytes, (at_once * widest * 4) as u64);
            assert_eq!(found.cause, Cause::Picture);
            assert_eq!(
                found.what,
                format!("the vision tower over {at_once} patches")
            );
        }
    }

    #[test]
    fn long_prompts_and_completions_decide_where_they_are_larger() {
        let config = tiny();
        let text = &config.text;
        let queries = text.num_attention_heads * text.head_dim;
        let widest = text.intermediate_size.max(text.hidden_size).max(queries) as u64;
        let prompts = config.largest_activation(&Demand {
            prompt_tokens: 400_000,
            ..demand()
        });
        assert_eq!(prompts.bytes, (2 * 400_000 + 8 * 32) * widest * 4);
        assert_eq!(prompts.cause, Cause::Prompts);
        let completions = config.largest_activation(&Demand {
            completion_tokens: 200_000,
            ..demand()
        });
        assert_eq!(completions.bytes, (2 * 100 + 8 * 200_000) * widest * 4);
        assert_eq!(completions.cause, Cause::Completions);
    }

    #[test]
    fn sampling_holds_logits_and_a_cache_of_all_rows() {
        let config = tiny();
        let text = &config.text;
        let many = config.largest_activation(&Demand {
            rows: 100_000,
            completion_tokens: 4,
            work: Work::Sampling,
            ..demand()
        });
        assert_eq!(many.bytes, 100_000 * 4 * text.vocab_size as u64);
        assert_eq!(many.what, "the logits of 100000 completions");
        let long = config.largest_activation(&Demand {
            completion_tokens: 1_000_000,
            work: Work::Sampling,
            ..demand()
        });
        let keys = (text.num_key_value_heads * text.head_dim) as u64;
        assert_eq!(long.bytes, (200 + 8_000_000) * keys * 4);
        assert_eq!(long.cause, Cause::Completions);
    }

    #[test]
    fn no_size_is_too_large_to_be_counted() {
        let all = usize::MAX / 2;
        let found = tiny().largest_activation(&Demand {
            prompts: all,
            prompt_tokens: all,
            pictures: all,
            picture_patches: all,
            rows: all,
            completion_tokens: all,
            work: Work::Sampling,
        });
        assert_eq!(found.bytes, u64::MAX);
    }
}
