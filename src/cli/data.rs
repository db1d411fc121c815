//! Arguments of `data`: the families and what all of them share.
//!
//! Words stay words; the command reads them.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{ExpandedPath, SEED, share, whole};

/// The families of `data`.
#[derive(Debug, Subcommand)]
pub enum DataFamily {
    /// Scenes of objects with questions that count, add and subtract; out of domain another look and other objects.
    Counting(CountingArguments),
    /// Geometric diagrams with a number or a choice as answer; out of domain another style and other problems.
    Structure(DataArguments),
    /// Two pictures of a scene and what changed between them; out of domain its end from the left and the right.
    Transformation(DataArguments),
}

/// Arguments of `data counting`.
#[derive(Debug, Args)]
pub struct CountingArguments {
    /// What all families share.
    #[command(flatten)]
    pub data: DataArguments,
    /// Most objects in a scene.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = whole::<usize>(1, 64))]
    pub max_objects: usize,
    /// Flat shapes; flat shapes with questions about colours and reasoning cell by cell (grid); or lit solids of rubber
    /// and metal, out of domain outlined vehicles (solid).
    #[arg(long, default_value = "flat", value_parser = ["flat", "grid", "solid"])]
    pub renderer: String,
}

/// Arguments that the families share.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// Which split; no two share a scene (transformation: test-ood-left and test-ood-right instead of test-ood).
    #[arg(long, value_parser = ["train", "test", "test-ood", "test-ood-left", "test-ood-right"])]
    pub split: String,
    /// Rows.
    #[arg(long, value_name = "N", required_unless_present = "contact_sheet", value_parser = whole::<usize>(1, 1_000_000))]
    pub count: Option<usize>,
    /// Seed of the scenes.
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(0, SEED))]
    pub seed: u64,
    /// Folder for the rows and `images/`.
    #[arg(long, value_name = "DIR", required_unless_present = "contact_sheet", value_parser = ExpandedPath)]
    pub out: Option<PathBuf>,
    /// Replace files that are there.
    #[arg(long)]
    pub overwrite: bool,
    /// Pixels per side of a picture [default: 84; structure and transformation in full: 224].
    #[arg(long, value_name = "PIXELS", value_parser = whole::<u32>(28, 4096))]
    pub size: Option<u32>,
    /// How rich scenes and questions are; easy is for a model of a million parameters (its diagrams are not to scale).
    #[arg(long, default_value = "easy", value_parser = ["easy", "full"])]
    pub difficulty: String,
    /// Record the answers of an expert that is right in this share of them, in the style terse, verbose or row (as the
    /// rows); may be repeated. `paper` stands for two that are right as often as the paper's, `none` for no expert.
    /// [default: paper for the train split, except of flat counting; else none]
    #[arg(long, value_name = "NAME=ACCURACY[:STYLE]|paper|none")]
    pub expert: Vec<String>,
    /// The share of those experts' answers that lack tags.
    #[arg(long, value_name = "P", default_value_t = 0.02, value_parser = share)]
    pub expert_format_errors: f64,
    /// Also record answers of an expert that is right in this share of them, writes as the rows and forgets no tag.
    #[arg(long, value_name = "P", value_parser = share)]
    pub expert_accuracy: Option<f64>,
    /// That expert's name in the recorded actions.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "expert",
        requires = "expert_accuracy"
    )]
    pub expert_name: String,
    /// Every expert's actions per row.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<usize>(1, 1000))]
    pub expert_actions: usize,
    /// The share of training rows that ask only for what is in the picture; with --reasoning it makes what a small model is
    /// taught before anything else.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub naming: f64,
    /// The share of training rows that ask only for the reasoning, and give it without tags or answer.
    #[arg(long, value_name = "SHARE", default_value_t = 0.0, value_parser = share)]
    pub explaining: f64,
    /// The share of training rows that reason before they answer; those that remain give a bare answer
    /// [default: all others].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub reasoning: Option<f64>,
    /// Write no data set but this PNG of twelve examples with their questions and answers.
    #[arg(long, value_name = "FILE", value_parser = ExpandedPath)]
    pub contact_sheet: Option<PathBuf>,
}
