//! Backward one block at a time: a forward pass without a graph keeps what each block was given, and the backward pass
//! computes a block again with a graph of its own, last block first.
//!
//! So the activations of one block exist at a time, and the gradients of a block are whole before the next block begins: an
//! optimizer may take them at once. Knows nothing of losses or optimizers.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use super::config::ModelConfig;
use super::layers::Source;
use super::packing::Packed;
use super::parameters::spec::is_vision;
use super::parameters::{Weights, WeightsError};
use super::rotary::Rotary;
use super::text::{self, EMBEDDING, Layer};
use super::vision::{self, Merger, PatchBatch};
use super::{Qwen2Vl, index_tensor, pictures_of};
use crate::kernels::attention;
use crate::record::{ImagePatches, Prompt};

/// The gradient of one parameter.
#[derive(Debug)]
pub enum BlockGradient {
    /// [elements] of the parameter.
    Whole(Tensor<1>),
    /// Of some rows of a table [V, D]: `values[i]` adds to row `ids[i]`.
    Rows {
        /// [n], rows may repeat.
        ids: Vec<u32>,
        /// [n, D]
        values: Tensor<2>,
    },
}

/// One piece of the forward pass, and what it was given.
enum Piece {
    /// Pixels of chunk `usize` into the tower.
    Patches(usize),
    /// A block of the tower.
    TowerBlock(usize, usize, Tensor<2>),
    /// Out of the tower.
    Merger(usize, Tensor<2>),
    /// Tokens and pictures into one sequence.
    Embedding,
    /// A layer of the language model.
    Layer(usize, Tensor<2>),
}

impl Piece {
    /// What the names of its parameters begin with.
    fn prefix(&self) -> String {
        match self {
            Self::Patches(_) => vision::PATCH_EMBEDDING.to_owned(),
            Self::TowerBlock(_, index, _) => vision::block_prefix(*index),
            Self::Merger(..) => vision::MERGER_PREFIX.to_owned(),
            Self::Embedding => EMBEDDING.to_owned(),
            Self::Layer(index, _) => text::layer_prefix(*index),
        }
    }
}

/// A forward pass whose backward pass computes every block again.
pub struct Recomputation {
    config: ModelConfig,
    folder: String,
    device: Device,
    packed: Packed,
    rotary: Rotary,
    /// Pictures that were computed together, if the tower trains.
    chunks: Vec<PatchBatch>,
    pieces: Vec<Piece>,
    dropout_seed: u64,
    /// dLoss/dOutput of the last piece, [n, width].
    upstream: Option<Tensor<2>>,
    /// dLoss/dEmbeddings of all pictures, [sum of P/4, D].
    image_upstream: Option<Tensor<2>>,
}

impl Recomputation {
    /// The forward pass of a model that was built [`Qwen2Vl::in_training`] with the same `dropout_seed`, and its states
    /// [n, D] before the final norm. Nothing of it is in a graph.
    ///
    /// `trains` says of a parameter whether somebody wants its gradient.
    pub fn forward(
        model: &Qwen2Vl,
        prompts: &[Arc<Prompt>],
        packed: Packed,
        (trains, dropout_seed): (&dyn Fn(&str) -> bool, u64),
        (weights, folder): (&Weights, &str),
    ) -> (Self, Tensor<2>) {
        let mut pass = Self {
            config: model.config.clone(),
            folder: folder.to_owned(),
            device: model.device.clone(),
            rotary: model.rotary(&packed.positions),
            chunks: Vec::new(),
            pieces: Vec::new(),
            packed,
            dropout_seed,
            upstream: None,
            image_upstream: None,
        };
        let trained = || weights.iter().map(|(name, _)| name).filter(|n| trains(n));
        let mut hidden = if trained().any(|name| is_vision(name)) {
            pass.embed_keeping(model, prompts)
        } else {
            model.embed(prompts, &pass.packed)
        };
        if trained().any(|name| is_vision(name) || name == EMBEDDING) {
            pass.pieces.push(Piece::Embedding);
        }
        for (index, layer) in model.text.layers().iter().enumerate() {
            pass.pieces.push(Piece::Layer(index, hidden.clone()));
            hidden = pass.layer(layer, hidden);
        }
        // Nothing is to be computed below the first piece that trains.
        let trains_some = |piece: &Piece| {
            let prefix = piece.prefix();
            trained().any(|name| name.starts_with(&prefix)) || matches!(piece, Piece::Embedding)
        };
        let first = pass.pieces.iter().position(trains_some);
        let first = first.unwrap_or(pass.pieces.len());
        pass.pieces.drain(..first);
        (pass, hidden)
    }

    /// Whether there is anything to compute again.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Input embeddings [n, D]; what the blocks of the tower were given is kept.
    fn embed_keeping(&mut self, model: &Qwen2Vl, prompts: &[Arc<Prompt>]) -> Tensor<2> {
        let tokens = model.text.embed(&self.packed.ids, &self.device);
        let pictures = pictures_of(prompts);
        let pictures: Vec<&ImagePatches> = pictures.iter().map(Arc::as_ref).collect();
        let mut embeddings = Vec::new();
        for chunk in vision::in_chunks(&pictures) {
            let batch = PatchBatch::new(chunk, &self.config.vision, &self.device);
            let number = self.chunks.len();
            self.pieces.push(Piece::Patches(number));
            let mut hidden = model.vision.embed(&batch);
            for index in 0..model.vision.depth() {
                let piece = Piece::TowerBlock(number, index, hidden.clone());
                self.pieces.push(piece);
                hidden = model.vision.block(index, hidden, &batch);
            }
            self.pieces.push(Piece::Merger(number, hidden.clone()));
            embeddings.push(model.vision.merge(hidden, &batch));
            self.chunks.push(batch);
        }
        if embeddings.is_empty() {
            return tokens;
        }
        model.mix(tokens, Tensor::cat(embeddings, 0), &self.packed)
    }

    fn layer(&self, layer: &Layer, hidden: Tensor<2>) -> Tensor<2> {
        layer.forward(hidden, &self.rotary, &self.config.text, |[q, k, v]| {
            attention(q, k, v, &self.packed.spans)
        })
    }

    /// Says what the loss thinks of the states: dLoss/dStates [n, D].
    pub fn seed(&mut self, upstream: Tensor<2>) {
        self.upstream = Some(upstream);
    }

    /// Gradients of the next block, last block first: those of the parameters that `trains` accepts, with the weights
    /// still as they were in the forward pass. `None` when there is no further block.
    ///
    /// # Errors
    /// If a parameter is missing or has another shape than the configuration says.
    pub fn next_block(
        &mut self,
        weights: &Weights,
        trains: &dyn Fn(&str) -> bool,
    ) -> Result<Option<Vec<(String, BlockGradient)>>, WeightsError> {
        let Some(piece) = self.pieces.pop() else {
            return Ok(None);
        };
        if matches!(piece, Piece::Embedding) {
            return Ok(Some(self.embedding(trains(EMBEDDING))));
        }
        let prefix = piece.prefix();
        let tracked = weights.tracked(&|name| name.starts_with(&prefix) && trains(name));
        let source = Source::new(&self.config, &tracked, &self.folder);
        let source = source.with_dropout(Some(self.dropout_seed));
        let seed = match &piece {
            Piece::Merger(chunk, _) => self.image_gradient(*chunk),
            _ => self.upstream.take().expect("the pass was seeded"),
        };
        let wants_input = !self.pieces.is_empty();
        let vision = &self.config.vision;
        let run = Differentiation {
            wants_input,
            upstream: seed,
            tracked: &tracked,
        };
        let (input, gradients) = match piece {
            Piece::Embedding => (None, Vec::new()),
            Piece::Layer(index, input) => {
                let layer = Layer::new(index, &self.config.text, &source)?;
                run.of(input, |x| self.layer(&layer, x))
            }
            Piece::Merger(chunk, input) => {
                let merger = Merger::new(vision, &source)?;
                run.of(input, |x| merger.forward(x, &self.chunks[chunk]))
            }
            Piece::TowerBlock(chunk, index, input) => {
                let block = vision::Block::new(index, vision, &source)?;
                run.of(input, |x| block.forward(x, vision, &self.chunks[chunk]))
            }
            Piece::Patches(chunk) => {
                let linear = vision::patch_embedding(&source)?;
                let pixels = self.chunks[chunk].pixels();
                // Pixels have no gradient.
                let run = Differentiation {
                    wants_input: false,
                    ..run
                };
                run.of(pixels, |x| linear.forward(x))
            }
        };
        self.upstream = input;
        Ok(Some(gradients))
    }

    /// Splits dLoss/dInput into that of token rows, which is returned if the table trains, and that of pictures.
    fn embedding(&mut self, table_trains: bool) -> Vec<(String, BlockGradient)> {
        let Some(upstream) = self.upstream.take() else {
            return Vec::new();
        };
        let images: Vec<u32> = self
            .packed
            .image_places(self.config.image_token_id)
            .collect();
        if !images.is_empty() {
            let rows = index_tensor(&images, &self.device);
            self.image_upstream = Some(upstream.clone().select(0, rows));
        }
        if !table_trains {
            return Vec::new();
        }
        let mut is_image = vec![false; self.packed.ids.len()];
        for place in images {
            is_image[place as usize] = true;
        }
        let places: Vec<u32> = (0..super::number(is_image.len()))
            .filter(|place| !is_image[*place as usize])
            .collect();
        let ids = places
            .iter()
            .map(|place| self.packed.ids[*place as usize])
            .collect();
        let values = upstream.select(0, index_tensor(&places, &self.device));
        let gradient = BlockGradient::Rows { ids, values };
        vec![(EMBEDDING.to_owned(), gradient)]
    }

    /// dLoss/dEmbeddings of the pictures of one chunk.
    fn image_gradient(&self, chunk: usize) -> Tensor<2> {
        let count = |batch: &PatchBatch| batch.embeddings(&self.config.vision);
        let start = self.chunks[..chunk].iter().map(count).sum();
        let all = self.image_upstream.clone();
        let all = all.expect("chunks of pictures have embeddings");
        all.narrow(0, start, count(&self.chunks[chunk]))
    }
}

/// One block's backward pass.
struct Differentiation<'a> {
    /// Whether the gradient towards the input is wanted.
    wants_input: bool,
    /// dLoss/dOutput
    upstream: Tensor<2>,
    /// The block's parameters, those that train in a graph.
    tracked: &'a Weights,
}

impl Differentiation<'_> {
    /// Gradients towards the input, if that is wanted, and towards the tracked parameters that the block reads.
    fn of(
        self,
        input: Tensor<2>,
        forward: impl FnOnce(Tensor<2>) -> Tensor<2>,
    ) -> (Option<Tensor<2>>, Vec<(String, BlockGradient)>) {
        let leaf = input.autodiff();
        let leaf = if self.wants_input {
            leaf.require_grad()
        } else {
            leaf
        };
        // The sum's gradient is the vector-Jacobian product; its value is not read.
        let product = forward(leaf.clone()) * self.upstream.autodiff();
        let mut graph = product.sum().backward();
        let mut gradients = Vec::new();
        for (name, parameter) in self.tracked.iter() {
            let gradient = parameter
                .dense()
                .and_then(|values| values.grad_remove(&mut graph));
            if let Some(gradient) = gradient {
                gradients.push((name.clone(), BlockGradient::Whole(gradient)));
            }
        }
        let input = self.wants_input.then(|| leaf.grad_remove(&mut graph));
        (input.flatten(), gradients)
    }
}
