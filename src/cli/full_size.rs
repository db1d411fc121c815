//! Arguments of `full-size`.

use std::path::PathBuf;

use clap::Args;

use super::values::{ExpandedPath, SEED, whole};

/// Arguments of `full-size`.
#[derive(Debug, Args)]
pub struct FullSizeArguments {
    /// Published size: 2b (4.4 GB) or 7b (16.6 GB).
    #[arg(long, value_parser = ["2b", "7b"])]
    pub size: String,
    /// Model folder whose tokenizer, template and processor files are copied.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub tokenizer: PathBuf,
    /// Folder for the model; it must not exist.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub out: PathBuf,
    /// Seed of the weights.
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(0, SEED))]
    pub seed: u64,
}
