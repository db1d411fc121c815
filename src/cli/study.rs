//! Arguments of `study`.

use std::path::PathBuf;

use clap::Args;

use super::values::{ExpandedPath, SEED, whole};
use crate::config::DeviceChoice;

/// Arguments of `study`.
#[derive(Debug, Args)]
pub struct StudyArguments {
    /// One file per method; its name is the method's key.
    #[arg(required = true, value_name = "METHOD.yaml", value_parser = ExpandedPath)]
    pub methods: Vec<PathBuf>,
    /// Families, model, tests [default: base/laptop.yaml beside the first method].
    #[arg(long, value_name = "FILE", value_parser = ExpandedPath)]
    pub base: Option<PathBuf>,
    /// A named part of the study, as the base file lists them.
    #[arg(long, value_name = "NAME")]
    pub preset: Option<String>,
    /// Number of seeds [default: 3, or the preset's].
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1, 1000))]
    pub seeds: Option<u64>,
    /// The first seed.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = whole::<u64>(0, SEED - 1000))]
    pub first_seed: u64,
    /// Keys of the methods to run; may be repeated [default: the preset's, or all].
    #[arg(long, value_name = "KEY")]
    pub only: Vec<String>,
    /// Families to run; may be repeated [default: the preset's, or all].
    #[arg(long, value_name = "FAMILY", value_parser = ["counting", "structure", "transformation"])]
    pub family: Vec<String>,
    /// Processes at a time [default: on the CPU as many as cores and memory allow, else 1].
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 1024))]
    pub jobs: Option<usize>,
    /// Folder for data, models and logs.
    #[arg(long, value_name = "DIR", default_value = "runs/study", value_parser = ExpandedPath)]
    pub output: PathBuf,
    /// Folder of the results, one small JSON file per run; runs that have one are skipped [default: results in --output].
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub results: Option<PathBuf>,
    /// Folder of the report [default: report in --output].
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub report: Option<PathBuf>,
    /// Print what would be run, and stop.
    #[arg(long, conflicts_with = "report_only")]
    pub dry_run: bool,
    /// Run nothing; write the report of the results that there are.
    #[arg(long)]
    pub report_only: bool,
    /// Where to compute: auto takes a hardware GPU if there is one, else the CPU; `doctor` lists the names of adapters.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}
