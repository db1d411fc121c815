//! How a model that only answers holds its weights: the configuration's keys as flags.

use clap::Args;

use crate::options::{Dtype, WeightFormat};

/// How the weights are held; computing is in float32.
#[derive(Debug, Clone, Copy, Args)]
pub struct WeightArguments {
    /// Number format in which weights are held: auto (as in the file), float32, bfloat16 or float16; computing is in
    /// float32.
    #[arg(long, value_name = "FORMAT", default_value = "auto", value_parser = dtype)]
    pub dtype: Dtype,
    /// Hold matrices in 4 bits, blocks of 32 numbers with a scale each.
    #[arg(
        long = "load-in-4bit",
        alias = "load_in_4bit",
        conflicts_with = "load_in_8bit"
    )]
    pub load_in_4bit: bool,
    /// Hold matrices in 8 bits, blocks of 32 numbers with a scale each.
    #[arg(long = "load-in-8bit", alias = "load_in_8bit")]
    pub load_in_8bit: bool,
    /// Hold embedding table and output head in 8 bits.
    #[arg(long)]
    pub quantize_embeddings: bool,
}

impl WeightArguments {
    /// The same as the configuration has it.
    #[must_use]
    pub const fn format(&self) -> WeightFormat {
        WeightFormat {
            dtype: self.dtype,
            load_in_4bit: self.load_in_4bit,
            load_in_8bit: self.load_in_8bit,
            quantize_embeddings: self.quantize_embeddings,
        }
    }
}

fn dtype(word: &str) -> Result<Dtype, String> {
    Dtype::from_name(word).ok_or_else(|| format!("expected one of {}", Dtype::NAMES.join(", ")))
}
