//! The policy: a Qwen2-VL (or Qwen2.5-VL) model on one device.
//!
//! [`Qwen2Vl`] is cheap to build: it holds handles to the tensors of [`Weights`]. Tokens lie packed, without padding
//! ([`packing::Packed`]); the same layers serve training, where a completion reads its prompt among them, and decoding, where
//! it reads a cache. Knows nothing of losses, optimizers, rewards or files other than the weights' own.

pub mod adapter;
pub mod config;
pub mod features;
pub mod generate;
mod layers;
pub mod open;
pub mod packing;
pub mod parameters;
mod rope_frequencies;
mod rotary;
mod stack;
pub mod tensor_file;
mod text;
mod vision;

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::kernels::{WeightMatrix, attention};
use crate::record::{ImagePatches, Prompt};
use config::ModelConfig;
use features::Features;
use layers::Source;
use packing::{Packed, number};
use parameters::{Weights, WeightsError};
use rotary::Rotary;
pub use stack::{BlockGradient, Recomputation};
use text::TextModel;
pub(crate) use text::{EMBEDDING, FINAL_NORM, HEAD, flag_tensor, index_tensor};
pub use vision::PATCHES_AT_ONCE;
use vision::VisionTower;

/// A Qwen2-VL model: handles to its parameters.
#[derive(Debug, Clone)]
pub struct Qwen2Vl {
    /// Sizes.
    pub config: ModelConfig,
    text: TextModel,
    vision: VisionTower,
    device: Device,
    /// Embeddings of pictures that a frozen tower need not compute again.
    features: Option<Features>,
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
        Self::from_source(config, &Source::new(config, weights, folder), device)
    }

    /// As [`Qwen2Vl::new`] in training: an adapter's dropout is on, its masks drawn from `dropout_seed`.
    ///
    /// # Errors
    /// As [`Qwen2Vl::new`].
    pub fn in_training(
        config: &ModelConfig,
        weights: &Weights,
        folder: &str,
        device: &Device,
        dropout_seed: u64,
    ) -> Result<Self, WeightsError> {
        let source = Source::new(config, weights, folder).with_dropout(Some(dropout_seed));
        Self::from_source(config, &source, device)
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
        let source = Source::new(config, weights, folder);
        let model = Self::from_source(config, &source, device)?;
        let mut unused = source.unused();
        // A tied head may be repeated in the files.
        unused.retain(|name| *name != HEAD);
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
            vision: VisionTower::new(&config.vision, source)?,
            device: device.clone(),
            features: None,
        })
    }

    /// The same model with a memory of what its tower has seen; the tower must stay as it is.
    #[must_use]
    pub fn remembering(self, features: Option<Features>) -> Self {
        Self { features, ..self }
    }

    /// [V, D] the output head.
    #[must_use]
    pub fn head(&self) -> WeightMatrix {
        self.text.head.clone()
    }

    /// Logits [n, V] of hidden states [n, D].
    #[must_use]
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        self.text.head.linear(hidden)
    }

    /// Image embeddings [sum of P/4, D] of some pictures, one after the other; `None` without pictures.
    #[must_use]
    pub fn image_embeddings(&self, pictures: &[Arc<ImagePatches>]) -> Option<Tensor<2>> {
        let compute = |new: &[&ImagePatches]| self.vision.forward(new, &self.device);
        match &self.features {
            Some(features) => features.of(pictures, compute),
            None => {
                let pictures: Vec<&ImagePatches> = pictures.iter().map(Arc::as_ref).collect();
                compute(&pictures)
            }
        }
    }

    /// Final hidden states [n, D] of packed tokens; the pictures are those of `prompts`, in their order.
    ///
    /// # Panics
    /// If there are more or fewer image tokens than image embeddings; [`Prompt`]s of the prompt stage never do that.
    #[must_use]
    pub fn hidden(&self, prompts: &[Arc<Prompt>], packed: &Packed) -> Tensor<2> {
        self.text.finish(self.states(prompts, packed))
    }

    /// As [`Qwen2Vl::hidden`], before the final norm.
    ///
    /// # Panics
    /// As [`Qwen2Vl::hidden`].
    #[must_use]
    pub fn states(&self, prompts: &[Arc<Prompt>], packed: &Packed) -> Tensor<2> {
        let rotary = self.rotary(&packed.positions);
        let mut hidden = self.embed(prompts, packed);
        for layer in self.text.layers() {
            hidden = layer.forward(hidden, &rotary, &self.config.text, |[q, k, v]| {
                attention(q, k, v, &packed.spans)
            });
        }
        hidden
    }

    /// The norm before the head, [n, D] -> [n, D].
    #[must_use]
    pub fn finish(&self, states: Tensor<2>) -> Tensor<2> {
        self.text.finish(states)
    }

    fn rotary(&self, positions: &[[u32; 3]]) -> Rotary {
        Rotary::text(positions, &self.config.text, &self.device)
    }

    /// Input embeddings [n, D]: tokens, with the rows of the prompts' image tokens taken from the vision tower.
    fn embed(&self, prompts: &[Arc<Prompt>], packed: &Packed) -> Tensor<2> {
        let tokens = self.text.embed(&packed.ids, &self.device);
        match self.image_embeddings(&pictures_of(prompts)) {
            Some(images) => self.mix(tokens, images, packed),
            None => tokens,
        }
    }

    /// Tokens [n, D] with the rows of the prompts' image tokens replaced by `images`, one after the other.
    fn mix(&self, tokens: Tensor<2>, images: Tensor<2>, packed: &Packed) -> Tensor<2> {
        // One table of token rows and image rows, and one gather: differentiable towards both.
        let mut next_image = number(packed.ids.len());
        let mut rows: Vec<u32> = (0..next_image).collect();
        for place in packed.image_places(self.config.image_token_id) {
            rows[place as usize] = next_image;
            next_image += 1;
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

/// The pictures of prompts in their order.
fn pictures_of(prompts: &[Arc<Prompt>]) -> Vec<Arc<ImagePatches>> {
    let pictures = prompts.iter().flat_map(|prompt| prompt.images.iter());
    pictures.map(Arc::clone).collect()
}
