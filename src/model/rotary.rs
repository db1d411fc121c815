//! Rotary position embedding: angles on the host, rotation on the device.
//!
//! Knows nothing of where positions come from: text brings M-RoPE triples, the vision tower rows and columns of patches.

use burn::tensor::{Device, Tensor, TensorData};

use super::config::{TextConfig, VisionConfig};
use super::rope_frequencies::{inverse_frequencies, text_frequencies};

/// Cosines and sines of a sequence of positions.
#[derive(Debug, Clone)]
pub(crate) struct Rotary {
    /// [n, 1, E]
    cos: Tensor<3>,
    /// [n, 1, E]
    sin: Tensor<3>,
    /// [E, E] such that x · R is x with its halves swapped and the new first half negated ("rotate_half").
    ///
    /// A product with a constant matrix is one kernel instead of five, exact because each sum has one term,
    /// and its backward is again one product.
    rotate_half: Tensor<2>,
}

impl Rotary {
    /// From the angles of the first half of a head: `angles` [n, E/2], repeated for the second half. `scale` multiplies
    /// cosines and sines.
    fn new(angles: &[f32], half: usize, scale: f32, device: &Device) -> Self {
        let count = angles.len() / half.max(1);
        let repeated = |function: fn(f32) -> f32| {
            let rows = angles.chunks_exact(half.max(1));
            let values: Vec<f32> = rows
                .flat_map(|row| row.iter().chain(row).map(|angle| function(*angle) * scale))
                .collect();
            Tensor::<3>::from_data(TensorData::new(values, [count, 1, 2 * half]), device)
        };
        let mut matrix = vec![0.0f32; 4 * half * half];
        for index in 0..half {
            matrix[(half + index) * 2 * half + index] = -1.0;
            matrix[index * 2 * half + half + index] = 1.0;
        }
        let rotate_half = Tensor::from_data(TensorData::new(matrix, [2 * half, 2 * half]), device);
        Self {
            cos: repeated(f32::cos),
            sin: repeated(f32::sin),
            rotate_half,
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

    /// # Shapes
    /// x [n, H, E] -> [n, H, E]
    pub fn apply(&self, x: Tensor<3>) -> Tensor<3> {
        let [count, heads, width] = x.dims();
        let rotated = x
            .clone()
            .reshape([count * heads, width])
            .matmul(self.rotate_half.clone());
        x * self.cos.clone() + rotated.reshape([count, heads, width]) * self.sin.clone()
    }
}
