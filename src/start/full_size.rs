//! A model folder of a published size with random weights, in shards of bf16: to measure memory and time where no published
//! checkpoint is at hand. What it says means nothing.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;
use safetensors::{Dtype, View};
use serde_json::{Map, Value, json};

use crate::model::config::ModelConfig;
use crate::model::parameters::spec::{ParameterSpec, Role, specs};
use crate::model::tensor_file::write_tensors;
use crate::seed::{fnv1a, split_mix};
use crate::system::files::{self, Existing};

/// Bytes of a shard at most, unless one tensor is larger.
const SHARD: usize = 2_000_000_000;
/// Deviation of the weights (transformers: `initializer_range`).
const DEVIATION: f32 = 0.02;

/// A published size of Qwen2-VL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FullSize {
    /// Qwen2-VL-2B: 2.2 billion parameters, 4.4 GB.
    B2,
    /// Qwen2-VL-7B: 8.3 billion parameters, 16.6 GB.
    B7,
}

impl FullSize {
    /// Keys of config.json that differ between the sizes.
    fn config(self) -> Value {
        let (hidden, inner, heads, keys, vocabulary) = match self {
            Self::B2 => (1536, 8960, 12, 2, 151_936),
            Self::B7 => (3584, 18_944, 28, 4, 152_064),
        };
        json!({
            "architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl", "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": 28, "num_attention_heads": heads,
            "num_key_value_heads": keys, "vocab_size": vocabulary, "max_position_embeddings": 32768,
            "rms_norm_eps": 1e-6, "rope_theta": 1e6, "hidden_act": "silu", "torch_dtype": "bfloat16",
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]},
            "tie_word_embeddings": self == Self::B2,
            "vision_config": {
                "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3, "hidden_size": hidden,
                "patch_size": 14, "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2
            }
        })
    }
}

/// Keys that name tokens: they come with the tokenizer.
const TOKENS: [&str; 7] = [
    "image_token_id",
    "video_token_id",
    "vision_start_token_id",
    "vision_end_token_id",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
];

/// Writes config.json and the shards into `folder`, which holds the tokenizer's files and a config.json that names its
/// special tokens. The vocabulary keeps its full size; ids above the tokenizer's are never used.
///
/// # Errors
/// If that config.json is absent, or a file cannot be written.
pub fn write(folder: &Path, size: FullSize, seed: u64) -> Result<()> {
    let path = folder.join("config.json");
    let place = || path.display().to_string();
    let text = std::fs::read_to_string(&path).with_context(place)?;
    let small: Map<String, Value> = serde_json::from_str(&text).with_context(place)?;
    let mut config = size.config();
    for key in TOKENS {
        if let Some(value) = small.get(key) {
            config[key] = value.clone();
        }
    }
    files::write(&path, format!("{config:#}\n"), Existing::Replace).with_context(place)?;
    shards(folder, &specs(&ModelConfig::open(folder)?), seed)
}

fn shards(folder: &Path, specs: &[ParameterSpec], seed: u64) -> Result<()> {
    let mut shards: Vec<Vec<Random>> = Vec::new();
    let mut bytes = SHARD;
    for spec in specs {
        let tensor = Random::new(spec, seed);
        if bytes + tensor.data_len() > SHARD {
            shards.push(Vec::new());
            bytes = 0;
        }
        bytes += tensor.data_len();
        if let Some(shard) = shards.last_mut() {
            shard.push(tensor);
        }
    }
    let (mut map, mut total) = (Map::new(), 0);
    let count = shards.len();
    for (number, shard) in shards.into_iter().enumerate() {
        let file = format!("model-{:05}-of-{count:05}.safetensors", number + 1);
        for tensor in &shard {
            map.insert(tensor.name.clone(), json!(file));
            total += tensor.data_len();
        }
        let views = shard
            .into_iter()
            .map(|tensor| (tensor.name.clone(), tensor));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let path = folder.join(&file);
        write_tensors(&path, views, metadata).with_context(|| path.display().to_string())?;
    }
    let index = json!({"metadata": {"total_size": total}, "weight_map": map});
    let path = folder.join("model.safetensors.index.json");
    files::write(&path, format!("{index:#}\n"), Existing::Replace)
        .with_context(|| path.display().to_string())
}

/// A tensor that is drawn when it is written.
#[derive(Debug, Clone)]
struct Random {
    name: String,
    shape: Vec<usize>,
    /// Mean and deviation.
    numbers: (f32, f32),
    seed: u64,
}

impl Random {
    fn new(spec: &ParameterSpec, seed: u64) -> Self {
        let of_norm = spec.name.contains("norm") || spec.name.contains("ln_q");
        Self {
            name: spec.name.clone(),
            shape: spec.shape.clone(),
            numbers: match spec.role {
                Role::Norm => (1.0, 0.0),
                Role::Bias if of_norm => (0.0, 0.0),
                _ => (0.0, DEVIATION),
            },
            seed: split_mix(seed, fnv1a(spec.name.bytes())),
        }
    }

    /// A number near the normal distribution: the sum of four uniform ones, which has the deviation 65536 / sqrt(3).
    fn number(&self, index: usize) -> bf16 {
        let (mean, deviation) = self.numbers;
        let bits = split_mix(self.seed, index as u64);
        let sum: u64 = (0..4).map(|part| (bits >> (16 * part)) & 0xffff).sum();
        let standard = (sum as f32 - 131_070.0) * (3.0_f32.sqrt() / 65_536.0);
        bf16::from_f32(mean + deviation * standard)
    }
}

impl View for Random {
    fn dtype(&self) -> Dtype {
        Dtype::BF16
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let count: usize = self.shape.iter().product();
        let numbers: Vec<bf16> = (0..count).into_par_iter().map(|i| self.number(i)).collect();
        bytemuck::cast_slice(numbers.reinterpret_cast())
            .to_vec()
            .into()
    }

    fn data_len(&self) -> usize {
        2 * self.shape.iter().product::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_deviation_of_new_models() {
        let spec = ParameterSpec {
            name: "model.layers.0.mlp.up_proj.weight".to_owned(),
            shape: vec![100, 200],
            role: Role::Matrix,
            part: crate::model::parameters::spec::Part::Text,
        };
        let tensor = Random::new(&spec, 1);
        let numbers: Vec<f64> = (0..20_000).map(|i| tensor.number(i).to_f64()).collect();
        let mean = numbers.iter().sum::<f64>() / 20_000.0;
        let square = numbers.iter().map(|x| x * x).sum::<f64>() / 20_000.0;
        assert!(mean.abs() < 1e-3, "{mean}");
        assert!(
            (square.sqrt() / 0.02 - 1.0).abs() < 0.03,
            "{}",
            square.sqrt()
        );
        assert_eq!(tensor.data().len(), tensor.data_len());
    }
}
