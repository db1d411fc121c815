//! The vision towers of Qwen2-VL and Qwen2.5-VL: patches -> one embedding per 2 x 2 patches.
//!
//! Follows transformers' `Qwen2VisionTransformerPretrainedModel` and `Qwen2_5_VisionTransformerPretrainedModel`. Patches
//! of all pictures lie packed, [n, D], and see their own frame or, in most blocks of the latter, their own window; for that
//! the latter's patches are laid in the order of the windows. Knows nothing of files, prompts or text.

use std::ops::Range;
use std::sync::Arc;

use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Tensor, TensorData};

use super::config::{VisionConfig, VisionKind};
use super::layers::{LayerNorm, Linear, RmsNorm, Source, gelu};
use super::packing::number;
use super::parameters::WeightsError;
use super::rotary::Rotary;
use super::text::index_tensor;
use crate::kernels::{Spans, Visible, attention, swiglu};
use crate::record::ImagePatches;

/// Hub name of the filters that patches meet first.
pub(crate) const PATCH_EMBEDDING: &str = "visual.patch_embed.proj.weight";

/// What the names of the merger begin with.
pub(crate) const MERGER_PREFIX: &str = "visual.merger.";

/// Patches computed at once, unless one picture has more: their activations are what a batch of pictures costs.
pub const PATCHES_AT_ONCE: usize = 4096;

/// The vision tower's parameters.
#[derive(Debug, Clone)]
pub(crate) struct VisionTower {
    config: VisionConfig,
    patch_embedding: Linear,
    blocks: Vec<Block>,
    merger: Merger,
}

/// One block of the tower.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    index: usize,
    norm1: Norm,
    qkv: Linear,
    projection: Linear,
    norm2: Norm,
    mlp: Mlp,
}

#[derive(Debug, Clone)]
enum Norm {
    Layer(LayerNorm),
    Rms(RmsNorm),
}

#[derive(Debug, Clone)]
enum Mlp {
    QuickGelu {
        first: Linear,
        second: Linear,
    },
    Gated {
        gate: Linear,
        up: Linear,
        down: Linear,
    },
}

impl VisionTower {
    /// Takes the parameters out of the weights.
    pub fn new(config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        Ok(Self {
            config: config.clone(),
            patch_embedding: patch_embedding(source)?,
            blocks: (0..config.depth)
                .map(|index| Block::new(index, config, source))
                .collect::<Result<_, _>>()?,
            merger: Merger::new(config, source)?,
        })
    }

    /// Embeddings of all pictures one after the other, [sum of P/4, D]; `None` without pictures.
    pub fn forward(&self, pictures: &[&ImagePatches], device: &Device) -> Option<Tensor<2>> {
        let parts: Vec<Tensor<2>> = in_chunks(pictures)
            .into_iter()
            .map(|chunk| {
                let batch = PatchBatch::new(chunk, &self.config, device);
                let mut hidden = self.embed(&batch);
                for index in 0..self.blocks.len() {
                    hidden = self.block(index, hidden, &batch);
                }
                self.merge(hidden, &batch)
            })
            .collect();
        (!parts.is_empty()).then(|| Tensor::cat(parts, 0))
    }

    /// Number of blocks.
    pub const fn depth(&self) -> usize {
        self.blocks.len()
    }

    /// Patches into the tower: [n, embed_dim].
    pub fn embed(&self, batch: &PatchBatch) -> Tensor<2> {
        self.patch_embedding.forward(batch.pixels.clone())
    }

    /// Block `index`, [n, embed_dim] -> [n, embed_dim].
    pub fn block(&self, index: usize, hidden: Tensor<2>, batch: &PatchBatch) -> Tensor<2> {
        self.blocks[index].forward(hidden, &self.config, batch)
    }

    /// Out of the tower: one embedding for each square of patches, in the processor's order, [n / 4, D].
    pub fn merge(&self, hidden: Tensor<2>, batch: &PatchBatch) -> Tensor<2> {
        self.merger.forward(hidden, batch)
    }
}

/// The filters that patches meet first.
pub(crate) fn patch_embedding(source: &Source<'_>) -> Result<Linear, WeightsError> {
    Ok(Linear {
        weight: source.matrix(PATCH_EMBEDDING)?,
        bias: None,
        adapter: None,
    })
}

/// Pictures that are computed together, one slice after the other.
pub(crate) fn in_chunks<'a, 'b>(pictures: &'b [&'a ImagePatches]) -> Vec<&'b [&'a ImagePatches]> {
    let mut chunks = Vec::new();
    let mut rest = pictures;
    while !rest.is_empty() {
        let mut patches = 0;
        let fits = rest.iter().take_while(|picture| {
            patches += picture.grid.iter().product::<usize>();
            patches <= PATCHES_AT_ONCE
        });
        let count = fits.count().max(1);
        let (now, later) = rest.split_at(count);
        chunks.push(now);
        rest = later;
    }
    chunks
}

/// Patches of some pictures on the device, and how they lie.
#[derive(Debug)]
pub(crate) struct PatchBatch {
    /// [n, channels · frames · rows · columns] in the order of the tower.
    pixels: Tensor<2>,
    rotary: Rotary,
    layout: Layout,
}

impl PatchBatch {
    pub fn new(pictures: &[&ImagePatches], config: &VisionConfig, device: &Device) -> Self {
        let layout = Layout::new(pictures, config);
        let (count, size) = (layout.places.len(), config.patch_values());
        let values: Vec<f32> = pictures
            .iter()
            .flat_map(|picture| picture.pixel_values.iter().copied())
            .collect();
        let mut pixels = Tensor::<2>::from_data(TensorData::new(values, [count, size]), device);
        let unit = config.spatial_merge_size * config.spatial_merge_size;
        if let Some(order) = &layout.order {
            pixels = pixels
                .reshape([count / unit, unit * size])
                .select(0, index_tensor(order, device))
                .reshape([count, size]);
        }
        Self {
            rotary: Rotary::vision(&layout.places, config, device),
            pixels,
            layout,
        }
    }

    /// [n, channels · frames · rows · columns] in the order of the tower.
    pub fn pixels(&self) -> Tensor<2> {
        self.pixels.clone()
    }

    /// Embeddings that come out: n / 4.
    pub fn embeddings(&self, config: &VisionConfig) -> usize {
        self.layout.places.len() / (config.spatial_merge_size * config.spatial_merge_size)
    }
}

/// What makes text embeddings of the tower's output.
#[derive(Debug, Clone)]
pub(crate) struct Merger {
    norm: Norm,
    first: Linear,
    second: Linear,
    /// Patches of a square.
    unit: usize,
}

impl Merger {
    pub fn new(config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        Ok(Self {
            norm: Norm::new("visual.merger.ln_q", config, source)?,
            first: source.linear("visual.merger.mlp.0")?,
            second: source.linear("visual.merger.mlp.2")?,
            unit: config.spatial_merge_size * config.spatial_merge_size,
        })
    }

    /// [n, embed_dim] -> [n / 4, D] in the processor's order.
    pub fn forward(&self, hidden: Tensor<2>, batch: &PatchBatch) -> Tensor<2> {
        let [count, width] = hidden.dims();
        let rows = self.norm.forward(hidden);
        let rows = rows.reshape([count / self.unit, self.unit * width]);
        let merged = self.second.forward(gelu(self.first.forward(rows)));
        match &batch.layout.order {
            None => merged,
            Some(order) => {
                let mut back = vec![0; order.len()];
                for (place, original) in order.iter().enumerate() {
                    back[*original as usize] = number(place);
                }
                let device = merged.device();
                merged.select(0, index_tensor(&back, &device))
            }
        }
    }
}

/// Whether block `index` sees whole frames, not windows.
fn attends_to_everything(config: &VisionConfig, index: usize) -> bool {
    match &config.kind {
        VisionKind::Qwen2 => true,
        VisionKind::Qwen25 {
            full_attention_blocks,
            ..
        } => full_attention_blocks.contains(&index),
    }
}

/// How the patches of some pictures lie.
#[derive(Debug)]
struct Layout {
    /// [n] row and column of each patch in its frame, in the order of the tower.
    places: Vec<[u32; 2]>,
    /// [n / unit] which merge unit of the processor's order stands at each place; `None` where that order is kept.
    order: Option<Vec<u32>>,
    /// Every patch sees its frame.
    frames: Arc<Spans>,
    /// Every patch sees its window; the frames again where there are none.
    windows: Arc<Spans>,
}

impl Layout {
    fn new(pictures: &[&ImagePatches], config: &VisionConfig) -> Self {
        let merge = config.spatial_merge_size;
        let (mut places, mut frames) = (Vec::new(), Vec::new());
        for picture in pictures {
            let [count, rows, columns] = picture.grid;
            places.extend(patch_places(picture.grid, merge));
            frames.extend(std::iter::repeat_n(rows * columns, count));
        }
        let whole = see_runs(&frames);
        let VisionKind::Qwen25 { window_size, .. } = config.kind else {
            return Self {
                places,
                order: None,
                windows: Arc::clone(&whole),
                frames: whole,
            };
        };
        // Windows start at the frame's corner and are cut at its border.
        let edge = (window_size / merge / config.patch_size * merge).max(1);
        let edge = u32::try_from(edge).unwrap_or(u32::MAX);
        let unit = merge * merge;
        let mut order = Vec::with_capacity(places.len() / unit);
        let mut windows = Vec::new();
        let mut start = 0;
        for size in frames {
            let window = |item: usize| places[item * unit].map(|place| place / edge);
            let mut units: Vec<usize> = (start / unit..(start + size) / unit).collect();
            units.sort_by_key(|item| window(*item));
            windows.extend(
                units
                    .chunk_by(|a, b| window(*a) == window(*b))
                    .map(|window| window.len() * unit),
            );
            order.extend(units.into_iter().map(number));
            start += size;
        }
        let ordered = order
            .iter()
            .flat_map(|item| (0..unit).map(move |part| *item as usize * unit + part));
        Self {
            places: ordered.map(|patch| places[patch]).collect(),
            windows: see_runs(&windows),
            frames: whole,
            order: Some(order),
        }
    }
}

/// Runs of patches that see all of their own run.
fn see_runs(sizes: &[usize]) -> Arc<Spans> {
    let mut visible: Vec<Visible> = Vec::new();
    for size in sizes {
        let run: Range<u32> = number(visible.len())..number(visible.len() + size);
        visible.extend(std::iter::repeat_n(
            Visible {
                prefix: 0..0,
                own: run,
            },
            *size,
        ));
    }
    let count = visible.len();
    Arc::new(Spans::new(visible, count))
}

/// Row and column of each patch in the processor's order: squares of `merge` x `merge` patches in raster order.
fn patch_places([frames, rows, columns]: [usize; 3], merge: usize) -> Vec<[u32; 2]> {
    let place = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
    let mut places = Vec::with_capacity(frames * rows * columns);
    for _ in 0..frames {
        for (block_row, block_column) in
            (0..rows / merge).flat_map(|row| (0..columns / merge).map(move |column| (row, column)))
        {
            for (row, column) in
                (0..merge).flat_map(|row| (0..merge).map(move |column| (row, column)))
            {
                places.push([
                    place(block_row * merge + row),
                    place(block_column * merge + column),
                ]);
            }
        }
    }
    places
}

impl Norm {
    /// The vision norms' epsilon is 1e-6 whatever the configuration says.
    fn new(name: &str, config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let weight = source.vector(&format!("{name}.weight"))?;
        Ok(match config.kind {
            VisionKind::Qwen2 => Self::Layer(LayerNorm {
                weight,
                bias: source.vector(&format!("{name}.bias"))?,
                eps: 1e-6,
            }),
            VisionKind::Qwen25 { .. } => Self::Rms(RmsNorm { weight, eps: 1e-6 }),
        })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

impl Mlp {
    fn new(name: &str, config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let linear = |part: &str| source.linear(&format!("{name}.{part}"));
        Ok(match config.kind {
            VisionKind::Qwen2 => Self::QuickGelu {
                first: linear("fc1")?,
                second: linear("fc2")?,
            },
            VisionKind::Qwen25 { .. } => Self::Gated {
                gate: linear("gate_proj")?,
                up: linear("up_proj")?,
                down: linear("down_proj")?,
            },
        })
    }

    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::QuickGelu { first, second } => {
                let inner = first.forward(x);
                second.forward(inner.clone() * sigmoid(inner.mul_scalar(1.702)))
            }
            Self::Gated { gate, up, down } => {
                down.forward(swiglu(gate.forward(x.clone()), up.forward(x)))
            }
        }
    }
}

impl Block {
    /// Takes the parameters of block `index`.
    pub fn new(
        index: usize,
        config: &VisionConfig,
        source: &Source<'_>,
    ) -> Result<Self, WeightsError> {
        let name = |part: &str| format!("{}{part}", block_prefix(index));
        Ok(Self {
            index,
            norm1: Norm::new(&name("norm1"), config, source)?,
            qkv: source.linear(&name("attn.qkv"))?,
            projection: source.linear(&name("attn.proj"))?,
            norm2: Norm::new(&name("norm2"), config, source)?,
            mlp: Mlp::new(&name("mlp"), config, source)?,
        })
    }

    /// [n, embed_dim] -> [n, embed_dim].
    pub fn forward(&self, x: Tensor<2>, config: &VisionConfig, batch: &PatchBatch) -> Tensor<2> {
        let ([count, width], heads) = (x.dims(), config.num_heads);
        let spans = if attends_to_everything(config, self.index) {
            &batch.layout.frames
        } else {
            &batch.layout.windows
        };
        let rotary = &batch.rotary;
        let projected = self.qkv.forward(self.norm1.forward(x.clone()));
        let part = |index: usize| {
            let part = projected.clone().narrow(1, index * width, width);
            part.reshape([count, heads, width / heads])
        };
        let attended = attention(rotary.apply(part(0)), rotary.apply(part(1)), part(2), spans);
        let hidden = x + self.projection.forward(attended.reshape([count, width]));
        let normed = self.norm2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
}

/// What the names of block `index` begin with.
pub(crate) fn block_prefix(index: usize) -> String {
    format!("visual.blocks.{index}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_come_in_squares() {
        let places = patch_places([1, 2, 4], 2);
        assert_eq!(
            places[..4],
            [[0, 0], [0, 1], [1, 0], [1, 1]],
            "the first square"
        );
        assert_eq!(places[4], [0, 2], "the second square starts right of it");
    }
}
