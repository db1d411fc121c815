//! Rotary position embedding: angles on the host, rotation on the device.
//!
//! Knows nothing of where positions come from: text brings M-RoPE triples, the vision tower rows and columns of patches.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::{TextConfig, VisionConfig};
use super::rope_frequencies::{inverse_frequencies, text_frequencies};
use crate::kernels::rotary;

/// Cosines and sines of a sequence of positions.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    /// [n, E/2]
    cosines: Tensor<2>,
    /// [n, E/2]
    sines: Tensor<2>,
}

impl Rotary {
    /// From angles [n, E/2]; both halves of a head turn by the same ones. `scale` multiplies cosines and sines.
    fn new(angles: &[f32], half: usize, scale: f32, device: &Device) -> Self {
        let count = angles.len() / half.max(1);
        let tensor = |function: fn(f32) -> f32| {
            let values: Vec<f32> = angles
                .iter()
                .map(|angle| function(*angle) * scale)
                .collect();
            Tensor::<2>::from_data(TensorData::new(values, [count, half]), device)
        };
        Self {
            cosines: tensor(f32::cos),
            sines: tensor(f32::sin),
        }
    }

    /// M-RoPE of the text model: frequency i turns with the axis whose section holds i.
    ///
    /// `positions` [n] triples (temporal, height, width). Follows transformers' `Qwen2VLRotaryEmbedding` and
    /// `apply_multimodal_rotary_pos_emb`.
    pub fn text(positions: &[[u32; 3]], config: &TextConfig, device: &Device) -> Self {
        let half = config.head_dim / 2;
        let (frequencies, scale) = text_frequencies(&config.rope, half);
        let [temporal, height, _] = config.rope.section;
        let axis =
            |index: usize| usize::from(index >= temporal) + usize::from(index >= temporal + height);
        let angle =
            |position: &[u32; 3], index: usize| position[axis(index)] as f32 * frequencies[index];
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|position| (0..half).map(move |index| (position, index)))
            .map(|(p, i)| angle(p, i))
            .collect();
        Self::new(&angles, half, scale, device)
    }

    /// The vision tower's: a quarter of a head turns with the row, a quarter with the column, then both again.
    ///
    /// `positions` [n] (row, column) of patches.
    pub fn vision(positions: &[[u32; 2]], config: &VisionConfig, device: &Device) -> Self {
        let quarter = config.embed_dim / config.num_heads / 4;
        let frequencies = inverse_frequencies(config.rope_theta, quarter);
        let angles: Vec<f32> = positions
            .iter()
            .flat_map(|position| {
                position
                    .iter()
                    .flat_map(|place| frequencies.iter().map(move |f| *place as f32 * f))
            })
            .collect();
        Self::new(&angles, 2 * quarter, 1.0, device)
    }

    /// Of the positions with these numbers [r], in their order.
    pub fn at(&self, numbers: Tensor<1, Int>) -> Self {
        Self {
            cosines: self.cosines.clone().select(0, numbers.clone()),
            sines: self.sines.clone().select(0, numbers),
        }
    }

    /// # Shapes
    /// x [n, H, E] -> [n, H, E]
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        rotary(x, self.cosines.clone(), self.sines.clone())
    }
}
