//! `demo`: renders counting data, warm-starts a small policy, trains it with and without an external expert from the
//! same start with the same budget, and compares.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use super::data;
use super::train::catch_interrupts;
use crate::cli::DemoArguments;
use crate::config::{self, Purpose, Run};
use crate::counting::{CountingOptions, CountingSummary, Split};
use crate::dataset::{Dataset, DatasetOptions, supervised_target};
use crate::demo::checkpoint::{Sizes, write_checkpoint};
use crate::demo::tokenizer::write_tokenizer;
use crate::evaluation::{self, EvaluationResult};
use crate::metrics::{Progress, mean_ignoring_nan, table};
use crate::model::Qwen2Vl;
use crate::model::config::ModelConfig;
use crate::model::weights::Weights;
use crate::record::ContentPart;
use crate::{setup, sft, train};

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
    vision_heads: 4,
};
const VOCABULARY: usize = 512;
const SFT_ROWS: usize = 3000;
const RL_ROWS: usize = 1200;
const TEST_ROWS: usize = 200;
const EXPERT_ACCURACY: f64 = 0.7;

/// `vision-ekipl demo`.
pub(super) fn run(arguments: &DemoArguments) -> Result<()> {
    catch_interrupts()?;
    for seed in arguments.seed..arguments.seed + arguments.seeds {
        let folder = arguments.output.join(format!("seed-{seed}"));
        let demo = Demo {
            folder,
            seed,
            device: arguments.device.device.clone(),
        };
        let report = demo.run()?;
        println!("\n{report}");
    }
    Ok(())
}

/// One seed of the demo.
struct Demo {
    folder: PathBuf,
    seed: u64,
    device: String,
}

/// Files of the data sets.
struct Data {
    sft: CountingSummary,
    rl: CountingSummary,
    tests: Vec<PathBuf>,
}

impl Demo {
    fn run(&self) -> Result<String> {
        let data = self.render()?;
        let start = self.write_start(&data)?;
        let warm = last_checkpoint(&sft::fine_tune(self.load("sft", &data, &start)?)?)?;
        if crate::trainer::STOP.load(std::sync::atomic::Ordering::SeqCst) {
            return Ok(format!(
                "stopped; what there is lies in {}",
                self.folder.display()
            ));
        }
        let grpo = train::train(self.load("grpo", &data, &warm)?)?;
        let ekipl = train::train(self.load("ekipl", &data, &warm)?)?;
        let models = [
            start,
            warm,
            last_checkpoint(&grpo)?,
            last_checkpoint(&ekipl)?,
        ];
        let scores: Vec<Vec<EvaluationResult>> = models
            .iter()
            .map(|model| self.evaluate(&data, model))
            .collect::<Result<_>>()?;
        self.report(&scores, &grpo, &ekipl)
    }

    fn render(&self) -> Result<Data> {
        let split = |split: Split, count: usize, seed: u64, folder: &str, expert: Option<f64>| {
            let mut options = CountingOptions::new(split, count, seed, self.folder.join(folder));
            options.expert_accuracy = expert;
            data::render(&options)
        };
        let sft = split(Split::Train, SFT_ROWS, self.seed, "data/sft", None)?;
        let rl = split(
            Split::Train,
            RL_ROWS,
            self.seed + 1_000_000,
            "data/rl",
            Some(EXPERT_ACCURACY),
        )?;
        let test = split(Split::Test, TEST_ROWS, self.seed, "data/test", None)?;
        let ood = split(Split::TestOod, TEST_ROWS, self.seed, "data/test", None)?;
        Ok(Data {
            sft,
            rl,
            tests: vec![test.rows, ood.rows],
        })
    }

    /// A tokenizer trained on the prompts and targets, and random weights.
    fn write_start(&self, data: &Data) -> Result<PathBuf> {
        let folder = self.folder.join("start");
        std::fs::create_dir_all(&folder)
            .with_context(|| format!("{}: cannot be created", folder.display()))?;
        let options = DatasetOptions {
            files: vec![data.sft.rows.clone()],
            task: Some(crate::record::Task::Counting),
            ..DatasetOptions::default()
        };
        let rows = Dataset::load(&options, &|_| Ok(()))?;
        let mut texts = Vec::new();
        for example in &rows.examples {
            for part in example.messages.iter().flat_map(|message| &message.content) {
                if let ContentPart::Text { text } = part {
                    texts.push(text.clone());
                }
            }
            texts.push(supervised_target(example, false).map_err(anyhow::Error::msg)?);
        }
        let ids = write_tokenizer(&folder, VOCABULARY, &texts)?;
        write_checkpoint(&folder, &ids, &SIZES, self.seed)?;
        Ok(folder)
    }

    /// One of the demo's configurations with this run's paths; the file is kept beside the run.
    fn load(&self, name: &str, data: &Data, model: &Path) -> Result<Run> {
        let (_, text) = CONFIGS
            .iter()
            .find(|(known, _)| *known == name)
            .context("a demo configuration")?;
        let path = self.folder.join(format!("{name}.yaml"));
        std::fs::write(&path, text)
            .with_context(|| format!("{}: cannot be written", path.display()))?;
        let rows = if name == "sft" {
            &data.sft.rows
        } else {
            &data.rl.rows
        };
        let mut flags = vec![
            ("model_name_or_path", model.display().to_string()),
            ("dataset_name", rows.display().to_string()),
            ("output_dir", self.folder.join(name).display().to_string()),
            ("overwrite_output_dir", "true".to_owned()),
            ("seed", self.seed.to_string()),
            ("device", self.device.clone()),
            ("run_name", name.to_owned()),
        ];
        if let (true, Some(expert)) = (name == "ekipl", &data.rl.expert) {
            let entry =
                serde_json::json!([{"name": "expert", "path": expert.display().to_string()}]);
            flags.push(("external", entry.to_string()));
        }
        let flags: Vec<(String, String)> = flags
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect();
        let purpose = if name == "sft" {
            Purpose::Sft
        } else {
            Purpose::Train
        };
        Ok(config::load(purpose, &path, &flags)?)
    }

    fn evaluate(&self, data: &Data, folder: &Path) -> Result<Vec<EvaluationResult>> {
        let run = self.load("grpo", data, folder)?;
        let open = setup::open_device(run.runtime.device)?;
        let config = ModelConfig::open(folder)?;
        let encoder = setup::open_encoder(&run, folder, config.text.max_position_embeddings)?;
        let weights = Weights::load(folder, &open.device, open.max_buffer_bytes)?;
        let model = Qwen2Vl::new(
            &config,
            &weights,
            &folder.display().to_string(),
            &open.device,
        )?;
        let suppressed = setup::suppressed(&run, &encoder, &config);
        let parameters = evaluation::parameters(
            &run,
            &setup::sampling(&run, &encoder, suppressed.as_deref()),
        );
        let rewards = setup::rewards(&run)?;
        let mut progress = Progress::start("evaluate", (TEST_ROWS * data.tests.len()) as u64, 0);
        let mut results = Vec::new();
        for file in &data.tests {
            let set = evaluation::open_set(&run, &encoder, file)?;
            let mut advance = |rows: usize| (0..rows).for_each(|_| progress.advance(""));
            results.push(evaluation::evaluate(
                &model,
                &set,
                &run,
                &encoder,
                &rewards,
                &parameters,
                &mut advance,
            )?);
        }
        progress.finish();
        Ok(results)
    }

    fn report(
        &self,
        scores: &[Vec<EvaluationResult>],
        grpo: &Path,
        ekipl: &Path,
    ) -> Result<String> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let rows: Vec<Vec<String>> = ["in domain", "out of domain"]
            .iter()
            .enumerate()
            .map(|(index, name)| {
                let cells = scores
                    .iter()
                    .map(|results| percent(results[index].accuracy));
                std::iter::once((*name).to_owned()).chain(cells).collect()
            })
            .collect();
        let accuracy = table(
            &["accuracy", "before", "warm start", "GRPO", "EKIPL"],
            &rows,
        );
        let (own, mixed) = (tenths(grpo)?, tenths(ekipl)?);
        let tenth = |name: &str, values: &[f64]| {
            std::iter::once(name.to_owned())
                .chain(values.iter().map(|value| format!("{value:.2}")))
                .collect()
        };
        let headers: Vec<String> = (1..=own.len()).map(|part| format!("{}0 %", part)).collect();
        let headers: Vec<&str> = std::iter::once("reward")
            .chain(headers.iter().map(String::as_str))
            .collect();
        let rewards = table(&headers, &[tenth("GRPO", &own), tenth("EKIPL", &mixed)]);
        Ok(format!(
            "seed {}: {TEST_ROWS} rows per split, greedy decoding\n\n{accuracy}\nmean reward of the policy's own samples in each tenth of training\n\n{rewards}\nruns: {}\n      {}\n",
            self.seed,
            grpo.display(),
            ekipl.display()
        ))
    }
}

/// The checkpoint with the highest step.
fn last_checkpoint(run: &Path) -> Result<PathBuf> {
    let entries =
        std::fs::read_dir(run).with_context(|| format!("{}: cannot be read", run.display()))?;
    let step = |path: &PathBuf| {
        path.file_name()?
            .to_str()?
            .strip_prefix("checkpoint-")?
            .parse::<u64>()
            .ok()
    };
    let newest = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| step(path).is_some())
        .max_by_key(step);
    newest.with_context(|| format!("{}: no checkpoint", run.display()))
}

/// Mean `reward` of each tenth of the logged steps.
fn tenths(run: &Path) -> Result<Vec<f64>> {
    let path = run.join(crate::metrics::METRICS_FILE);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("{}: cannot be read", path.display()))?;
    let rewards: Vec<f64> = text
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<Value>(line)
                .ok()?
                .get("reward")?
                .as_f64()
        })
        .collect();
    let part = |index: usize| {
        let (from, to) = (index * rewards.len() / 10, (index + 1) * rewards.len() / 10);
        mean_ignoring_nan(rewards[from..to.max(from)].iter().copied())
    };
    Ok((0..10).map(part).collect())
}
