//! The demo: data, warm start, plain GRPO and Vision-EKIPL from the same start with the same budget, scores.
//!
//! Composes stages as a person would on the command line; computes nothing itself.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::report;
use crate::config::{self, Purpose, Run};
use crate::options::DeviceChoice;
use crate::record::Task;
use crate::run::evaluation::{self, EvaluationResult};
use crate::run::metrics::Progress;
use crate::run::{sft, train};
use crate::start::{Sizes, Start};
use crate::synthetic::{self, Expert, Family, Lesson, Split, SyntheticOptions, SyntheticSummary};
use crate::system::files::{self, Existing};

/// The demo's configurations, as they stand in `configs/demo/`.
const CONFIGS: [(&str, &str); 3] = [
    ("sft", include_str!("../../configs/demo/sft.yaml")),
    ("grpo", include_str!("../../configs/demo/grpo.yaml")),
    ("ekipl", include_str!("../../configs/demo/ekipl.yaml")),
];

const SIZES: Sizes = Sizes {
    hidden: 96,
    intermediate: 256,
    layers: 3,
    heads: 4,
    key_value_heads: 2,
    vision_width: 64,
    vision_depth: 2,
    filter_waves: 3,
    vision_heads: 4,
};
const VOCABULARY: usize = 512;
const SFT_ROWS: usize = 3000;
const TRAIN_ROWS: usize = 1600;
const EXPERT_ACCURACY: f64 = 0.7;
/// The warm start: half of the rows name what is seen, nearly all others give a bare answer, a few reason first. The model
/// then sees, and can reason, but hardly ever does: what reinforcement learning has to change.
const WARM_START: Lesson = Lesson {
    naming: 0.5,
    explaining: 0.0,
    reasoning: 0.04,
};

/// How long the demo trains.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Steps of the warm start.
    pub sft_steps: u64,
    /// Steps of GRPO, and of Vision-EKIPL.
    pub train_steps: u64,
    /// Rows of each test split.
    pub test_rows: usize,
}

impl Effort {
    /// At most 12 minutes on two cores.
    pub const FULL: Self = Self {
        sft_steps: 1000,
        train_steps: 100,
        test_rows: 300,
    };
    /// For a Vulkan driver that computes on the CPU.
    pub const SOFTWARE_VULKAN: Self = Self {
        sft_steps: 20,
        train_steps: 10,
        test_rows: 20,
    };
}

/// One seed of the demo.
#[derive(Debug, Clone)]
pub struct Demo {
    /// Where everything goes.
    pub folder: PathBuf,
    /// Seed of data, weights and draws.
    pub seed: u64,
    /// `--device`.
    pub device: DeviceChoice,
    /// How long it trains.
    pub effort: Effort,
}

/// Files of the data sets.
struct Data {
    /// Rows of the warm start.
    sft: PathBuf,
    train: SyntheticSummary,
    tests: Vec<PathBuf>,
}

impl Demo {
    /// Runs everything and returns the closing tables.
    ///
    /// # Errors
    /// Whatever a stage finds wrong.
    pub fn run(&self) -> Result<String> {
        let data = self.render()?;
        let start = self.write_start(&data)?;
        let warm = last_checkpoint(&sft::fine_tune(self.load("sft", &data, &start)?)?)?;
        let mut models = vec![start, warm.clone()];
        let mut runs = Vec::new();
        for name in ["grpo", "ekipl"] {
            if crate::run::stop::STOP.load(Ordering::SeqCst) {
                return Ok(format!(
                    "stopped; what there is lies in {}",
                    self.folder.display()
                ));
            }
            let run = train::train(self.load(name, &data, &warm)?)?;
            models.push(last_checkpoint(&run)?);
            runs.push(run);
        }
        let scores = models
            .iter()
            .map(|model| self.evaluate(&data, model))
            .collect::<Result<Vec<_>>>()?;
        let rewards = report::rewards(&[("GRPO", &runs[0]), ("EKIPL", &runs[1])])?;
        Ok(format!(
            "seed {}: {} rows per split, greedy decoding\n\n{}\nmean reward of the policy's own samples in each tenth of training\n\n{rewards}\nruns: {}\n      {}\n",
            self.seed,
            self.effort.test_rows,
            report::accuracy(&scores),
            runs[0].display(),
            runs[1].display()
        ))
    }

    fn render(&self) -> Result<Data> {
        let render = |split: Split, count: usize, seed: u64, folder: &str, expert: Option<f64>| {
            let (family, folder) = (Family::GRID_COUNTING, self.folder.join(folder));
            let mut options = SyntheticOptions::new(family, split, count, seed, folder);
            options.experts = expert
                .map(|p| Expert::new("expert", p))
                .into_iter()
                .collect();
            render(&options)
        };
        let rows = self.effort.test_rows;
        Ok(Data {
            sft: self.render_warm_start()?,
            train: render(
                Split::Train,
                TRAIN_ROWS,
                self.seed + 1_000_000,
                "data/train",
                Some(EXPERT_ACCURACY),
            )?,
            tests: vec![
                render(Split::Test, rows, self.seed, "data/test", None)?.rows,
                render(Split::TestOod, rows, self.seed, "data/test", None)?.rows,
            ],
        })
    }

    fn render_warm_start(&self) -> Result<PathBuf> {
        let folder = self.folder.join("data/sft");
        let (family, split) = (Family::GRID_COUNTING, Split::Train);
        let mut options = SyntheticOptions::new(family, split, SFT_ROWS, self.seed, folder);
        options.lesson = WARM_START;
        Ok(render(&options)?.rows)
    }

    /// A tokenizer trained on the prompts and targets, and random weights.
    fn write_start(&self, data: &Data) -> Result<PathBuf> {
        let folder = self.folder.join("start");
        let start = Start {
            rows: vec![data.sft.clone()],
            task: Some(Task::Counting),
            prompt_template: None,
            system_turn: "You count objects.".to_owned(),
            vocabulary: VOCABULARY,
            sizes: SIZES,
            seed: self.seed,
        };
        start.write(&folder)?;
        Ok(folder)
    }

    /// One of the demo's configurations with this run's paths; the file is kept beside the run.
    fn load(&self, name: &str, data: &Data, model: &Path) -> Result<Run> {
        let (_, text) = CONFIGS
            .iter()
            .find(|(known, _)| *known == name)
            .context("a demo configuration")?;
        let path = self.folder.join(format!("{name}.yaml"));
        files::write(&path, text, Existing::Replace)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
        let is_sft = name == "sft";
        let rows = if is_sft { &data.sft } else { &data.train.rows };
        let steps = if is_sft {
            self.effort.sft_steps
        } else {
            self.effort.train_steps
        };
        let mut flags = vec![
            ("model_name_or_path", model.display().to_string()),
            ("dataset_name", rows.display().to_string()),
            ("output_dir", self.folder.join(name).display().to_string()),
            ("overwrite_output_dir", "true".to_owned()),
            ("max_steps", steps.to_string()),
            ("seed", self.seed.to_string()),
            ("device", self.device.to_string()),
            ("run_name", name.to_owned()),
        ];
        if let (true, Some(expert)) = (name == "ekipl", data.train.experts.first()) {
            let entry =
                serde_json::json!([{"name": "expert", "path": expert.path.display().to_string()}]);
            flags.push(("external", entry.to_string()));
        }
        let flags: Vec<(String, String)> = flags
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let purpose = if is_sft { Purpose::Sft } else { Purpose::Train };
        Ok(config::load(purpose, &path, &flags)?)
    }

    fn evaluate(&self, data: &Data, folder: &Path) -> Result<Vec<EvaluationResult>> {
        let run = self.load("grpo", data, folder)?;
        let open = crate::device::open(&self.device)?;
        let mut subject = evaluation::Subject::open(&run, &open)?;
        let mut progress = Progress::start(
            "evaluate",
            (self.effort.test_rows * data.tests.len()) as u64,
            0,
        );
        let mut results = Vec::new();
        for file in &data.tests {
            for set in evaluation::open_file(&run, &subject.encoder, file)? {
                let mut advance = |rows: usize| (0..rows).for_each(|_| progress.advance(""));
                results.push(subject.evaluator(&run).evaluate(&set, &mut advance)?);
            }
        }
        progress.finish();
        Ok(results)
    }
}

/// Renders a split with a progress bar.
///
/// # Errors
/// If an option is out of range or a file cannot be written.
pub fn render(options: &SyntheticOptions) -> Result<SyntheticSummary> {
    let progress = Mutex::new(Progress::start(
        &format!("{} {}", options.family.name(), options.split.name()),
        options.count as u64,
        0,
    ));
    let advance = |_: usize| {
        progress
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .advance("")
    };
    let summary = synthetic::generate(options, &advance)?;
    progress
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .finish();
    Ok(summary)
}

fn last_checkpoint(run: &Path) -> Result<PathBuf> {
    let newest = crate::run::folder::newest_checkpoint(run);
    newest.with_context(|| format!("{}: no checkpoint", run.display()))
}
