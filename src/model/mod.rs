//! The policy: a Qwen2-VL (or Qwen2.5-VL) model on one device.
//!
//! [`Qwen2Vl`] is cheap to build: it holds handles to the tensors of [`Weights`]. The same two functions serve training
//! and decoding: [`Qwen2Vl::encode_prompts`] reads pictures and prompts once per group, [`Qwen2Vl::forward_completions`]
//! continues every prompt with its group's completions. Knows nothing of losses, optimizers, rewards or files other than
//! the weights' own.

mod attention;
pub mod config;
pub mod generate;
mod kv_cache;
mod layers;
mod rotary;
mod text;
mod vision;
pub mod weights;

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use crate::record::{ImagePatches, Prompt};
use attention::{KeyBlock, MASKED};
use config::ModelConfig;
use layers::Source;
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

/// Prompts that were read: what their completions need of them.
#[derive(Debug, Clone)]
pub struct EncodedPrompts {
    /// [Q, P, D] final hidden states; rows are padded on the right.
    pub hidden: Tensor<3>,
    /// [Q, D] those of each prompt's last token, which predict the first completion token.
    pub last_hidden: Tensor<2>,
    /// Tokens of each prompt.
    pub lengths: Vec<usize>,
    /// Per layer: keys and values [Q, K, P, E].
    keys: Vec<(Tensor<4>, Tensor<4>)>,
    /// [Q, 1, 1, P]: hides padding; `None` if all prompts are equally long.
    mask: Option<Tensor<4>>,
    /// The position of each prompt's first completion token.
    next_positions: Vec<u32>,
}

impl EncodedPrompts {
    /// The keys of one layer for `share` completions of every prompt.
    fn block(&self, layer: usize, share: usize) -> KeyBlock {
        let (keys, values) = self.keys[layer].clone();
        KeyBlock {
            keys,
            values,
            mask: self.mask.clone(),
            share,
        }
    }
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
        let source = Source { weights, folder };
        Ok(Self {
            config: config.clone(),
            text: TextModel::new(&config.text, &source)?,
            vision: VisionTower::new(&config.vision, config.text.hidden_size, &source)?,
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

    /// Reads prompts and their pictures, each once.
    ///
    /// # Panics
    /// If a prompt has more image tokens than its pictures have embeddings; [`Prompt`]s of the prompt stage never do.
    #[must_use]
    pub fn encode_prompts(&self, prompts: &[Arc<Prompt>]) -> EncodedPrompts {
        let lengths: Vec<usize> = prompts
            .iter()
            .map(|prompt| prompt.input_ids.len())
            .collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let embedded = self.embed_prompts(prompts, longest);
        let positions: Vec<[u32; 3]> = prompts
            .iter()
            .flat_map(|prompt| {
                let padding = longest - prompt.positions.len();
                prompt
                    .positions
                    .iter()
                    .copied()
                    .chain(std::iter::repeat_n([0; 3], padding))
            })
            .collect();
        let rotary = Rotary::text(&positions, prompts.len(), &self.config.text, &self.device);
        let causal = causal_mask(longest, &self.device);
        let mut keys = Vec::with_capacity(self.config.text.num_hidden_layers);
        let hidden = self.text.forward(embedded, &rotary, |_, key, value| {
            keys.push((key.clone(), value.clone()));
            vec![KeyBlock {
                keys: key,
                values: value,
                mask: causal.clone(),
                share: 1,
            }]
        });
        let [count, _, width] = hidden.dims();
        let last: Vec<u32> = lengths
            .iter()
            .enumerate()
            .map(|(row, length)| row_number(row * longest + length - 1))
            .collect();
        let flat = hidden.clone().reshape([count * longest, width]);
        EncodedPrompts {
            last_hidden: flat.select(0, index_tensor(&last, &self.device)),
            hidden,
            mask: padding_mask(&lengths, longest, &self.device),
            keys,
            next_positions: prompts.iter().map(|prompt| next_position(prompt)).collect(),
            lengths,
        }
    }

    /// Input embeddings [Q, P, D]: tokens, with the image tokens' rows taken from the vision tower.
    fn embed_prompts(&self, prompts: &[Arc<Prompt>], longest: usize) -> Tensor<3> {
        let image_token = self.config.image_token_id;
        let mut ids = Vec::with_capacity(prompts.len() * longest);
        for prompt in prompts {
            ids.extend_from_slice(&prompt.input_ids);
            ids.resize(ids.len() + longest - prompt.input_ids.len(), 0);
        }
        let width = self.config.text.hidden_size;
        let tokens = self.text.embed(&ids, &self.device);
        let pictures: Vec<&ImagePatches> = prompts
            .iter()
            .flat_map(|prompt| prompt.images.iter().map(Arc::as_ref))
            .collect();
        let Some(images) = self.image_embeddings(&pictures) else {
            return tokens.reshape([prompts.len(), longest, width]);
        };
        // One table of token rows and image rows, and one gather: differentiable towards both.
        let mut next_image = ids.len();
        let mut rows: Vec<u32> = (0..ids.len()).map(row_number).collect();
        for (row, prompt) in prompts.iter().enumerate() {
            for (place, id) in prompt.input_ids.iter().enumerate() {
                if *id == image_token {
                    rows[row * longest + place] = row_number(next_image);
                    next_image += 1;
                }
            }
        }
        let table = Tensor::cat(vec![tokens, images], 0);
        assert_eq!(
            next_image,
            table.dims()[0],
            "one image token per image embedding"
        );
        table
            .select(0, index_tensor(&rows, &self.device))
            .reshape([prompts.len(), longest, width])
    }

    /// Final hidden states [Q · share, T, D] of completions, `share` consecutive rows per prompt.
    ///
    /// `token_ids` are padded on the right with any id. Row states predict the token after each given one.
    #[must_use]
    pub fn forward_completions(
        &self,
        prompts: &EncodedPrompts,
        share: usize,
        token_ids: &[Vec<u32>],
    ) -> Tensor<3> {
        let tokens = token_ids.first().map_or(0, Vec::len);
        let causal = causal_mask(tokens, &self.device);
        self.continue_prompts(prompts, share, token_ids, 0, |layer, keys, values| {
            vec![
                prompts.block(layer, share),
                KeyBlock {
                    keys,
                    values,
                    mask: causal.clone(),
                    share: 1,
                },
            ]
        })
    }

    /// Shared by training and decoding: tokens at `first..` of each completion.
    fn continue_prompts(
        &self,
        prompts: &EncodedPrompts,
        share: usize,
        token_ids: &[Vec<u32>],
        first: usize,
        see: impl FnMut(usize, Tensor<4>, Tensor<4>) -> Vec<KeyBlock>,
    ) -> Tensor<3> {
        let (rows, tokens) = (token_ids.len(), token_ids.first().map_or(0, Vec::len));
        let flat: Vec<u32> = token_ids.iter().flatten().copied().collect();
        let embedded = self.text.embed(&flat, &self.device).reshape([
            rows,
            tokens,
            self.config.text.hidden_size,
        ]);
        let start = |row: usize| prompts.next_positions[row / share.max(1)] + row_number(first);
        let positions: Vec<[u32; 3]> = (0..rows)
            .flat_map(|row| (0..tokens).map(move |token| [start(row) + row_number(token); 3]))
            .collect();
        let rotary = Rotary::text(&positions, rows, &self.config.text, &self.device);
        self.text.forward(embedded, &rotary, see)
    }
}

/// Position of the first completion token: prompt length + `rope_delta`.
fn next_position(prompt: &Prompt) -> u32 {
    let position = i64::try_from(prompt.input_ids.len()).unwrap_or(i64::MAX) + prompt.rope_delta;
    u32::try_from(position).unwrap_or(0)
}

fn row_number(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 tokens")
}

/// [1, 1, T, T] with everything after a token's own place hidden; `None` for a single token.
fn causal_mask(tokens: usize, device: &Device) -> Option<Tensor<4>> {
    (tokens > 1).then(|| Tensor::<4>::full([1, 1, tokens, tokens], MASKED, device).triu(1))
}

/// [Q, 1, 1, P] that hides what lies past each prompt's end.
fn padding_mask(lengths: &[usize], longest: usize, device: &Device) -> Option<Tensor<4>> {
    if lengths.iter().all(|length| *length == longest) {
        return None;
    }
    let values: Vec<f32> = lengths
        .iter()
        .flat_map(|length| {
            (0..longest).map(move |place| if place < *length { 0.0 } else { MASKED })
        })
        .collect();
    Some(Tensor::from_data(
        TensorData::new(values, [lengths.len(), 1, 1, longest]),
        device,
    ))
}
