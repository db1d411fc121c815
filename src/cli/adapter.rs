//! Arguments of the commands that fold an adapter into its model and compare the result.

use std::path::PathBuf;

use clap::Args;

use super::DeviceArgument;
use super::values::ExpandedPath;

/// Arguments of `merge`.
#[derive(Debug, Args)]
pub struct MergeArguments {
    /// Folder of the model; without it the one that the adapter names.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub model: Option<PathBuf>,
    /// Folder of the adapter, as PEFT or a run with `use_peft` saves it.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub adapter: PathBuf,
    /// Folder for the merged model; it must not exist.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub out: PathBuf,
}

/// Arguments of `verify-export`.
#[derive(Debug, Args)]
pub struct VerifyExportArguments {
    /// Folder of the model; without it the one that the adapter names.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub model: Option<PathBuf>,
    /// Folder of the adapter.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub adapter: PathBuf,
    /// Folder of the merged model.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub merged: PathBuf,
    /// Fail if a logit differs by more than this.
    #[arg(long, value_name = "X")]
    pub tolerance: Option<f32>,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}
