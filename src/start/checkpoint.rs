//! A small Qwen2-VL checkpoint with random weights, in the files and forms of the published ones.
//!
//! Knows nothing of what it will be taught.

use std::path::Path;

use anyhow::{Context, Result};
use burn::tensor::Device;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::tokenizer::TokenizerIds;
use crate::model::parameters::Weights;
use crate::system::files::{self, Existing};

/// Sizes of a small model.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    /// Width of the language model.
    pub hidden: usize,
    /// Width of its MLP.
    pub intermediate: usize,
    /// Layers of the language model.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key/value heads.
    pub key_value_heads: usize,
    /// Width of the vision tower.
    pub vision_width: usize,
    /// Blocks of the vision tower.
    pub vision_depth: usize,
    /// Heads of the vision tower.
    pub vision_heads: usize,
    /// Cosines each way of which a filter of the vision tower is a random sum, 1 to 14.
    pub filter_waves: usize,
}

impl Sizes {
    /// The weights of the matrices with this many ids; biases and norms are a thousandth of them. The command line keeps
    /// every size far below what would overflow.
    #[must_use]
    pub const fn parameters(&self, vocabulary: usize) -> u64 {
        let (width, vision) = (self.hidden as u64, self.vision_width as u64);
        let keys = width / self.heads as u64 * self.key_value_heads as u64;
        let layer = 2 * width * (width + keys) + 3 * width * self.intermediate as u64;
        let block = 12 * vision * vision;
        let merger = 4 * vision * (4 * vision + width);
        let ids = vocabulary as u64 * width;
        ids + self.layers as u64 * layer + self.vision_depth as u64 * block + merger
    }
}

/// Writes `config.json` and `model.safetensors` beside the tokenizer's files.
///
/// # Errors
/// If a file cannot be written.
pub fn write_checkpoint(folder: &Path, ids: &TokenizerIds, sizes: &Sizes, seed: u64) -> Result<()> {
    let config = config_json(ids, sizes);
    let path = folder.join("config.json");
    files::write(&path, format!("{config:#}\n"), Existing::Replace)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    let mut weights = random_weights(ids.vocabulary, sizes, seed);
    weights.lay_out_as_one_file();
    Ok(weights.save(folder)?)
}

fn config_json(ids: &TokenizerIds, sizes: &Sizes) -> serde_json::Value {
    let half = sizes.hidden / sizes.heads / 2;
    let side = half * 3 / 8;
    json!({
        "architectures": ["Qwen2VLForConditionalGeneration"],
        "model_type": "qwen2_vl",
        "attention_dropout": 0.0,
        "bos_token_id": ids.end_of_text,
        "eos_token_id": ids.turn_end,
        "hidden_act": "silu",
        "hidden_size": sizes.hidden,
        "initializer_range": 0.02,
        "intermediate_size": sizes.intermediate,
        "max_position_embeddings": 2048,
        "max_window_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_hidden_layers": sizes.layers,
        "num_key_value_heads": sizes.key_value_heads,
        "rms_norm_eps": 1e-6,
        // Prompts are short: slow rotations could not tell the cells of a picture apart.
        "rope_theta": 5.0,
        "rope_scaling": {"type": "mrope", "mrope_section": [half - 2 * side, side, side]},
        "sliding_window": 2048,
        "tie_word_embeddings": true,
        "torch_dtype": "float32",
        "use_cache": true,
        "use_sliding_window": false,
        "vocab_size": ids.vocabulary,
        "vision_start_token_id": ids.vision_start,
        "vision_end_token_id": ids.vision_end,
        "vision_token_id": ids.vision_pad,
        "image_token_id": ids.image_pad,
        "video_token_id": ids.video_pad,
        "vision_config": {
            "depth": sizes.vision_depth,
            "embed_dim": sizes.vision_width,
            "hidden_size": sizes.hidden,
            "in_chans": 3,
            "mlp_ratio": 4,
            "num_heads": sizes.vision_heads,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "spatial_patch_size": 14,
            "temporal_patch_size": 2
        }
    })
}

/// Draws parameters: matrices with variance 1/in, so that signals keep their size through the layers; norms are 1.
struct Draw {
    generator: ChaCha8Rng,
    weights: Weights,
    device: Device,
}

impl Draw {
    fn normal(&mut self, name: &str, shape: &[usize], deviation: f32) {
        let count = shape.iter().product();
        let values = (0..count)
            .map(|_| deviation * standard_normal(&mut self.generator))
            .collect();
        self.weights
            .insert(name, values, shape.to_vec(), &self.device);
    }

    fn matrix(&mut self, name: &str, [output, input]: [usize; 2], bias: bool) {
        self.normal(
            &format!("{name}.weight"),
            &[output, input],
            1.0 / (input as f32).sqrt(),
        );
        if bias {
            self.constant(&format!("{name}.bias"), output, 0.0);
        }
    }

    /// [V, 3, 2, 14, 14] filters that vary slowly over the patch, as pictures do: random sums of the first cosines each way,
    /// alike in both frames. Filters of white noise would have to learn that first; too few cosines do not show thin lines.
    fn patch_filters(&mut self, name: &str, count: usize, waves: usize) {
        const SIDE: usize = 14;
        let deviation = 1.0 / ((3 * 2 * SIDE * SIDE) as f32).sqrt();
        let wave = |frequency: usize, place: usize| {
            (std::f32::consts::PI * frequency as f32 * (place as f32 + 0.5) / SIDE as f32).cos()
                * if frequency == 0 {
                    1.0
                } else {
                    std::f32::consts::SQRT_2
                }
        };
        let mut values = Vec::with_capacity(count * 3 * 2 * SIDE * SIDE);
        for _ in 0..count * 3 {
            let sums: Vec<f32> = (0..waves * waves)
                .map(|_| deviation / waves as f32 * standard_normal(&mut self.generator))
                .collect();
            let pixel = |place: usize| {
                let (y, x) = (place / SIDE, place % SIDE);
                let terms = sums.iter().enumerate();
                terms
                    .map(|(term, sum)| sum * wave(term / waves, y) * wave(term % waves, x))
                    .sum::<f32>()
            };
            let frame: Vec<f32> = (0..SIDE * SIDE).map(pixel).collect();
            values.extend(frame.iter().chain(&frame));
        }
        self.weights
            .insert(name, values, vec![count, 3, 2, SIDE, SIDE], &self.device);
    }

    fn constant(&mut self, name: &str, count: usize, value: f32) {
        self.weights
            .insert(name, vec![value; count], vec![count], &self.device);
    }

    fn layer_norm(&mut self, name: &str, width: usize) {
        self.constant(&format!("{name}.weight"), width, 1.0);
        self.constant(&format!("{name}.bias"), width, 0.0);
    }
}

/// Box-Muller.
fn standard_normal(generator: &mut ChaCha8Rng) -> f32 {
    use rand::Rng;
    let radius = (-2.0 * (1.0 - generator.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * generator.random::<f64>()).cos()) as f32
}

fn random_weights(vocabulary: usize, sizes: &Sizes, seed: u64) -> Weights {
    let generator = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = Draw {
        generator,
        weights: Weights::default(),
        device: Device::flex(),
    };
    let (width, vision) = (sizes.hidden, sizes.vision_width);
    draw.normal("model.embed_tokens.weight", &[vocabulary, width], 0.05);
    for layer in 0..sizes.layers {
        let name = |part: &str| format!("model.layers.{layer}.{part}");
        let keys = width / sizes.heads * sizes.key_value_heads;
        draw.matrix(&name("self_attn.q_proj"), [width, width], true);
        draw.matrix(&name("self_attn.k_proj"), [keys, width], true);
        draw.matrix(&name("self_attn.v_proj"), [keys, width], true);
        draw.matrix(&name("self_attn.o_proj"), [width, width], false);
        draw.matrix(&name("mlp.gate_proj"), [sizes.intermediate, width], false);
        draw.matrix(&name("mlp.up_proj"), [sizes.intermediate, width], false);
        draw.matrix(&name("mlp.down_proj"), [width, sizes.intermediate], false);
        draw.constant(&name("input_layernorm.weight"), width, 1.0);
        draw.constant(&name("post_attention_layernorm.weight"), width, 1.0);
    }
    draw.constant("model.norm.weight", width, 1.0);
    draw.patch_filters("visual.patch_embed.proj.weight", vision, sizes.filter_waves);
    for block in 0..sizes.vision_depth {
        let name = |part: &str| format!("visual.blocks.{block}.{part}");
        draw.layer_norm(&name("norm1"), vision);
        draw.matrix(&name("attn.qkv"), [3 * vision, vision], true);
        draw.matrix(&name("attn.proj"), [vision, vision], true);
        draw.layer_norm(&name("norm2"), vision);
        draw.matrix(&name("mlp.fc1"), [4 * vision, vision], true);
        draw.matrix(&name("mlp.fc2"), [vision, 4 * vision], true);
    }
    draw.layer_norm("visual.merger.ln_q", vision);
    draw.matrix("visual.merger.mlp.0", [4 * vision, 4 * vision], true);
    draw.matrix("visual.merger.mlp.2", [width, 4 * vision], true);
    draw.weights
}
