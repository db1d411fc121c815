//! The largest tensors besides the parameters, which must each fit one buffer of the device.

use super::bytes::{F32, times};
use super::settings::{Settings, Work};
use crate::model::PATCHES_AT_ONCE;
use crate::model::generate::CacheRoom;

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
pub struct Buffer {
    /// What it holds, with the sizes that make it.
    pub what: String,
    /// Its bytes.
    pub bytes: u64,
    /// What to make smaller.
    pub cause: Cause,
}

impl Buffer {
    fn new(what: String, sizes: [usize; 2], cause: Cause) -> Self {
        Self {
            what,
            bytes: times(sizes).saturating_mul(F32),
            cause,
        }
    }
}

/// Prompts and completions that go through the layers together.
struct Batch {
    prompts: usize,
    rows: usize,
}

impl Settings {
    /// The largest tensor of the update.
    #[must_use]
    pub fn largest_of_update(&self) -> Buffer {
        let batch = Batch {
            prompts: self.update_prompts(),
            rows: self.rows(),
        };
        larger(self.of_tower(batch.prompts), self.of_layers(&batch))
    }

    /// The largest tensor of sampling; `None` where nothing is sampled.
    #[must_use]
    pub fn largest_of_sampling(&self) -> Option<Buffer> {
        if self.work == Work::Supervised {
            return None;
        }
        let room = self.room();
        let read = self.read_at_once(room.rows, self.samples);
        let batch = Batch {
            prompts: read / self.prompt.tokens.max(1),
            rows: 0,
        };
        let prompts = larger(self.of_tower(batch.prompts), self.of_layers(&batch));
        Some(larger(prompts, self.of_decoding(&room)))
    }

    /// The tower runs over some pictures at once, as many as have few patches together, at least one.
    fn of_tower(&self, prompts: usize) -> Buffer {
        let tower = &self.model.vision;
        let picture = self.prompt.picture_patches;
        let all = picture.saturating_mul(prompts.saturating_mul(self.prompt.pictures));
        let patches = picture.max(all.min(PATCHES_AT_ONCE));
        let widest = (3 * tower.embed_dim)
            .max(tower.intermediate_size)
            .max(tower.patch_values());
        let what = format!("the vision tower over {patches} patches");
        Buffer::new(what, [patches, widest], Cause::Picture)
    }

    fn of_layers(&self, batch: &Batch) -> Buffer {
        let (text, prompt, length) = (&self.model.text, self.prompt.tokens, self.completion_tokens);
        let prompts = batch.prompts.saturating_mul(prompt);
        let completions = batch.rows.saturating_mul(length);
        let queries = text.num_attention_heads * text.head_dim;
        let widest = text.intermediate_size.max(text.hidden_size).max(queries);
        let tokens = prompts.saturating_add(completions);
        let cause = if prompts >= completions {
            Cause::Prompts
        } else {
            Cause::Completions
        };
        let what = format!(
            "a layer over {tokens} tokens ({} prompts of up to {prompt}, {} completions of up to {length})",
            batch.prompts, batch.rows
        );
        Buffer::new(what, [tokens, widest], cause)
    }

    fn of_decoding(&self, room: &CacheRoom) -> Buffer {
        let (text, rows) = (&self.model.text, room.rows);
        let own = rows.saturating_mul(room.row_places);
        let logits = format!("the logits of {rows} completions");
        let cache = format!(
            "the cache of {rows} completions of up to {} tokens",
            self.completion_tokens
        );
        let keys = text.num_key_value_heads * text.head_dim;
        let places = own.saturating_add(room.prompt_places);
        larger(
            Buffer::new(logits, [rows, text.vocab_size], Cause::Completions),
            Buffer::new(cache, [places, keys], Cause::Completions),
        )
    }
}

fn larger(a: Buffer, b: Buffer) -> Buffer {
    if b.bytes > a.bytes { b } else { a }
}
