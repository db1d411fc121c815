//! The policy: a Qwen2-VL (or Qwen2.5-VL) model on one device.
//!
//! [`Qwen2Vl`] is cheap to build: it holds handles to the tensors of [`Weights`]. Tokens lie packed, without padding
//! ([`packing::Packed`]); the same layers serve training, where a completion reads its prompt among them, and decoding, where
//! it reads a cache. Knows nothing of losses, optimizers, rewards or files other than the weights' own.

pub mod activations;
pub mod adapter;
pub mod config;
pub mod generate;
mod kv_cache;
mod layers;
pub mod packing;
mod repetition;
mod rope_frequencies;
mod rotary;
pub mod tensor_file;
mod text;
mod vision;
pub mod weights;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::kernels::attention;
use crate::record::{ImagePatches, Prompt};
use config::ModelConfig;
use layers::Source;
use packing::{Packed, number};
use rotary::Rotary;
use text::TextModel;
pub(crate) use text::index_tensor;
use vision::VisionTower;
use weights::{Weights, WeightsError};

/// A Qwen2-VL model: handles to its parameters.
#[derive(Debug, Clone)]
pub struct Qwen2Vl {
    /// Sizes.
    pub config: ModelConfig,
    text: TextModel,
    vision: VisionTower,
    device: Device,
}

impl Qwen2Vl {
    /// Builds the model from its parameters; `folder` is for messages.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn new(
        config: &ModelConfig,
        weights: &Weights,
        folder: &str,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        Self::from_source(config, &Source::new(weights, folder), device)
    }

    /// As [`Qwen2Vl::new`] for weights that were just loaded: a note names tensors that no part of the model reads, as
    /// transformers does.
    ///
    /// # Errors
    /// As [`Qwen2Vl::new`].
    pub fn of_loaded(
        config: &ModelConfig,
        weights: &Weights,
        folder: &str,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        let source = Source::new(weights, folder);
        let model = Self::from_source(config, &source, device)?;
        let mut unused = source.unused();
        // A tied head may be repeated in the files.
        unused.retain(|name| *name != "lm_head.weight");
        if let Some(first) = unused.first() {
            log::warn!(
                "{folder}: {} tensors are no part of the model that config.json describes and change nothing: `{}` ...\nhint: compare `num_hidden_layers` and `depth` with the files",
                unused.len(),
                first.escape_debug()
            );
        }
        Ok(model)
    }

    fn from_source(
        config: &ModelConfig,
        source: &Source<'_>,
        device: &Device,
    ) -> Result<Self, WeightsError> {
        Ok(Self {
            config: config.clone(),
            text: TextModel::new(&config.text, source)?,
            vision: VisionTower::new(&config.vision, config.text.hidden_size, source)?,
            device: device.clone(),
        })
    }

    /// [V, D] the output head.
    #[must_use]
    pub fn head(&self) -> Tensor<2> {
        self.text.head.clone()
    }

    /// Logits [n, V] of hidden states [n, D].
    #[must_use]
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.matmul(self.head().transpose())
    }

    /// Image embeddings [sum of P/4, D] of some pictures, one after the other; `None` without pictures.
    #[must_use]
    pub fn image_embeddings(&self, pictures: &[&ImagePatches]) -> Option<Tensor<2>> {
        self.vision.forward(pictures, &self.device)
    }

    /// Final hidden states [n, D] of packed tokens; the pictures are those of `prompts`, in their order.
    ///
    /// # Panics
    /// If there are more or fewer image tokens than image embeddings; [`Prompt`]s of the prompt stage never do that.
    #[must_use]
    pub fn hidden(&self, prompts: &[Arc<Prompt>], packed: &Packed) -> Tensor<2> {
        let rotary = self.rotary(&packed.positions);
        let embedded = self.embed(prompts, packed);
        self.text
            .forward(embedded, &rotary, |_, [queries, keys, values]| {
                attention(queries, keys, values, &packed.spans)
            })
    }

    fn rotary(&self, positions: &[[u32; 3]]) -> Rotary {
        Rotary::text(positions, &self.config.text, &self.device)
    }

    /// Input embeddings [n, D]: tokens, with the rows of the prompts' image tokens taken from the vision tower.
    fn embed(&self, prompts: &[Arc<Prompt>], packed: &Packed) -> Tensor<2> {
        let tokens = self.text.embed(&packed.ids, &self.device);
        let pictures: Vec<&ImagePatches> = prompts
            .iter()
            .flat_map(|prompt| prompt.images.iter().map(Arc::as_ref))
            .collect();
        let Some(images) = self.image_embeddings(&pictures) else {
            return tokens;
        };
        // One table of token rows and image rows, and one gather: differentiable towards both.
        let mut next_image = number(packed.ids.len());
        let mut rows: Vec<u32> = (0..next_image).collect();
        for place in packed.prompts.iter().cloned().flatten() {
            if packed.ids[place as usize] == self.config.image_token_id {
                rows[place as usize] = next_image;
                next_image += 1;
            }
        }
        let table = Tensor::cat(vec![tokens, images], 0);
        assert_eq!(
            next_image as usize,
            table.dims()[0],
            "one image token per image embedding"
        );
        table.select(0, index_tensor(&rows, &self.device))
    }
}
