//! The vision towers of Qwen2-VL and Qwen2.5-VL: patches -> one embedding per 2 x 2 patches.
//!
//! Follows transformers' `Qwen2VisionTransformerPretrainedModel` and `Qwen2_5_VisionTransformerPretrainedModel`. The
//! latter permutes patches into windows and back; here they stay in place and a mask keeps windows apart, which gives the
//! same numbers because attention does not depend on the order. Knows nothing of files, prompts or text.

use burn::tensor::activation::{sigmoid, silu};
use burn::tensor::{Device, Tensor, TensorData};

use super::attention::{KeyBlock, MASKED, attend};
use super::config::{VisionConfig, VisionKind};
use super::layers::{LayerNorm, Linear, RmsNorm, Source, gelu};
use super::rotary::Rotary;
use super::weights::WeightsError;
use crate::record::ImagePatches;

/// Most attention scores computed at once; larger batches of pictures are cut.
const MAX_SCORES: usize = 1 << 25;

/// The vision tower's parameters.
#[derive(Debug, Clone)]
pub(crate) struct VisionTower {
    config: VisionConfig,
    patch_embedding: Linear,
    blocks: Vec<Block>,
    merger_norm: Norm,
    merger: [Linear; 2],
}

#[derive(Debug, Clone)]
struct Block {
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
    /// Takes the parameters out of the weights; `output` is the text model's width.
    pub fn new(
        config: &VisionConfig,
        output: usize,
        source: &Source<'_>,
    ) -> Result<Self, WeightsError> {
        let width = config.embed_dim;
        let edge = config.patch_size;
        let shape = [
            width,
            config.in_channels,
            config.temporal_patch_size,
            edge,
            edge,
        ];
        let patch_embedding = Linear {
            weight: source.matrix("visual.patch_embed.proj.weight", &shape)?,
            bias: None,
        };
        let merged = width * config.spatial_merge_size * config.spatial_merge_size;
        Ok(Self {
            config: config.clone(),
            patch_embedding,
            blocks: (0..config.depth)
                .map(|index| Block::new(index, config, source))
                .collect::<Result<_, _>>()?,
            merger_norm: Norm::new("visual.merger.ln_q", config, source)?,
            merger: [
                source.linear("visual.merger.mlp.0", [merged, merged], true)?,
                source.linear("visual.merger.mlp.2", [output, merged], true)?,
            ],
        })
    }

    /// Embeddings of all pictures one after the other, [sum of P/4, D]; pictures of one size run as one batch.
    pub fn forward(&self, pictures: &[&ImagePatches], device: &Device) -> Option<Tensor<2>> {
        let mut results: Vec<Option<Tensor<2>>> = vec![None; pictures.len()];
        let mut grids: Vec<[usize; 3]> = pictures.iter().map(|picture| picture.grid).collect();
        grids.sort_unstable();
        grids.dedup();
        for grid in grids {
            let places: Vec<usize> = (0..pictures.len())
                .filter(|index| pictures[*index].grid == grid)
                .collect();
            let patches: usize = grid.iter().product();
            let at_once = (MAX_SCORES / (patches * patches * self.config.num_heads)).max(1);
            for chunk in places.chunks(at_once) {
                let batch: Vec<&ImagePatches> =
                    chunk.iter().map(|index| pictures[*index]).collect();
                let embeddings = self.same_size(&batch, grid, device);
                let [_, tokens, width] = embeddings.dims();
                for (row, place) in chunk.iter().enumerate() {
                    results[*place] = Some(
                        embeddings
                            .clone()
                            .narrow(0, row, 1)
                            .reshape([tokens, width]),
                    );
                }
            }
        }
        let all: Vec<Tensor<2>> = results.into_iter().flatten().collect();
        (!all.is_empty()).then(|| Tensor::cat(all, 0))
    }

    /// [n, P/4, D] of n pictures of one grid.
    fn same_size(
        &self,
        pictures: &[&ImagePatches],
        grid: [usize; 3],
        device: &Device,
    ) -> Tensor<3> {
        let (count, patches) = (pictures.len(), grid.iter().product::<usize>());
        let values: Vec<f32> = pictures
            .iter()
            .flat_map(|picture| picture.pixel_values.iter().copied())
            .collect();
        let pixels = Tensor::<3>::from_data(
            TensorData::new(values, [count, patches, self.config.patch_values()]),
            device,
        );
        let places = patch_places(grid, self.config.spatial_merge_size);
        let rotary = Rotary::vision(
            &places,
            self.config.embed_dim / self.config.num_heads,
            device,
        );
        let windows = self.window_mask(&places, device);
        let mut hidden = self.patch_embedding.forward(pixels);
        for (index, block) in self.blocks.iter().enumerate() {
            let mask = windows
                .as_ref()
                .filter(|_| !self.attends_to_everything(index));
            hidden = block.forward(hidden, &rotary, mask, self.config.num_heads);
        }
        let merged = self.config.spatial_merge_size * self.config.spatial_merge_size;
        let rows = self.merger_norm.forward(hidden);
        let rows = rows.reshape([count, patches / merged, merged * self.config.embed_dim]);
        self.merger[1].forward(gelu(self.merger[0].forward(rows)))
    }

    fn attends_to_everything(&self, block: usize) -> bool {
        match &self.config.kind {
            VisionKind::Qwen2 => true,
            VisionKind::Qwen25 {
                full_attention_blocks,
                ..
            } => full_attention_blocks.contains(&block),
        }
    }

    /// [1, 1, P, P]: hides patches of other windows; windows start at the picture's corner and are cut at its border.
    fn window_mask(&self, places: &[[u32; 2]], device: &Device) -> Option<Tensor<4>> {
        let VisionKind::Qwen25 { window_size, .. } = self.config.kind else {
            return None;
        };
        let merge = self.config.spatial_merge_size;
        let edge = u32::try_from(window_size / merge / self.config.patch_size * merge)
            .unwrap_or(u32::MAX)
            .max(1);
        let window = |place: &[u32; 2]| [place[0] / edge, place[1] / edge];
        let values: Vec<f32> = places
            .iter()
            .flat_map(|query| {
                places.iter().map(move |key| {
                    if window(query) == window(key) {
                        0.0
                    } else {
                        MASKED
                    }
                })
            })
            .collect();
        Some(Tensor::from_data(
            TensorData::new(values, [1, 1, places.len(), places.len()]),
            device,
        ))
    }
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
        let weight = source.vector(&format!("{name}.weight"), config.embed_dim)?;
        Ok(match config.kind {
            VisionKind::Qwen2 => Self::Layer(LayerNorm {
                weight,
                bias: source.vector(&format!("{name}.bias"), config.embed_dim)?,
                eps: 1e-6,
            }),
            VisionKind::Qwen25 { .. } => Self::Rms(RmsNorm { weight, eps: 1e-6 }),
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

impl Mlp {
    fn new(name: &str, config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let (width, inner) = (config.embed_dim, config.intermediate_size);
        let linear = |part: &str, shape| source.linear(&format!("{name}.{part}"), shape, true);
        Ok(match config.kind {
            VisionKind::Qwen2 => Self::QuickGelu {
                first: linear("fc1", [inner, width])?,
                second: linear("fc2", [width, inner])?,
            },
            VisionKind::Qwen25 { .. } => Self::Gated {
                gate: linear("gate_proj", [inner, width])?,
                up: linear("up_proj", [inner, width])?,
                down: linear("down_proj", [width, inner])?,
            },
        })
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        match self {
            Self::QuickGelu { first, second } => {
                let inner = first.forward(x);
                second.forward(inner.clone() * sigmoid(inner.mul_scalar(1.702)))
            }
            Self::Gated { gate, up, down } => {
                down.forward(silu(gate.forward(x.clone())) * up.forward(x))
            }
        }
    }
}

impl Block {
    fn new(index: usize, config: &VisionConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let name = |part: &str| format!("visual.blocks.{index}.{part}");
        let width = config.embed_dim;
        Ok(Self {
            norm1: Norm::new(&name("norm1"), config, source)?,
            qkv: source.linear(&name("attn.qkv"), [3 * width, width], true)?,
            projection: source.linear(&name("attn.proj"), [width, width], true)?,
            norm2: Norm::new(&name("norm2"), config, source)?,
            mlp: Mlp::new(&name("mlp"), config, source)?,
        })
    }

    fn forward(
        &self,
        x: Tensor<3>,
        rotary: &Rotary,
        mask: Option<&Tensor<4>>,
        heads: usize,
    ) -> Tensor<3> {
        let [count, patches, width] = x.dims();
        let projected = self.qkv.forward(self.norm1.forward(x.clone()));
        let part = |index: usize| {
            let part = projected.clone().narrow(2, index * width, width);
            part.reshape([count, patches, heads, width / heads])
                .swap_dims(1, 2)
        };
        let block = KeyBlock {
            keys: rotary.apply(part(1)),
            values: part(2),
            mask: mask.cloned(),
            share: 1,
        };
        let attended = attend(rotary.apply(part(0)), &[block])
            .swap_dims(1, 2)
            .reshape([count, patches, width]);
        let hidden = x + self.projection.forward(attended);
        let normed = self.norm2.forward(hidden.clone());
        hidden + self.mlp.forward(normed)
    }
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
