//! The resolved configuration, and the arithmetic of its batches.
//!
//! Every value is of its final type and every pair of keys fits; this module knows nothing of how they were written.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::bounds::STEPS;
use super::error::ConfigError;
use super::sections::{
    AdapterKeys, BatchKeys, DataKeys, EvaluationKeys, GroupKeys, LossKeys, ModelKeys,
    OptimizerKeys, OutputKeys, RuntimeKeys, SamplingKeys,
};
use super::table::SECTIONS;
use crate::options::{LogprobTemperature, SchedulerType};

/// Everything a run is told. A field is named as its key; keys that follow others (`epsilon_high`, `data_seed`,
/// `group_size`, ...) hold the value that counts.
///
/// # Batches
/// As TRL counts them, on one device:
/// - a *micro-batch* is `per_device_train_batch_size` completions;
/// - an *optimizer step* is `gradient_accumulation_steps` micro-batches;
/// - a *generation batch* is `steps_per_generation` micro-batches, sampled at once: with `num_generations` completions
///   per prompt it takes `per_device_train_batch_size x steps_per_generation / num_generations` different prompts;
/// - each generation batch is learnt from `num_iterations` times before the next one is sampled;
/// - a *pass* over the data counts `rows / prompts per generation` whole generation batches, rounded down; its last
///   optimizer step may have fewer micro-batches.
///
/// Example: 10 rows, micro-batches of 4 completions, 2 micro-batches per step and per generation, 4 generations per
/// prompt: a generation batch is 8 completions of 2 prompts, a pass is 5 of them, hence 10 micro-batches and 5 steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// The policy's start.
    #[serde(flatten)]
    pub model: ModelKeys,
    /// LoRA.
    #[serde(flatten)]
    pub adapter: AdapterKeys,
    /// Rows, prompts, pictures, rewards.
    #[serde(flatten)]
    pub data: DataKeys,
    /// Batch sizes and length of training.
    #[serde(flatten)]
    pub batch: BatchKeys,
    /// AdamW and the learning rate.
    #[serde(flatten)]
    pub optimizer: OptimizerKeys,
    /// How completions are drawn.
    #[serde(flatten)]
    pub sampling: SamplingKeys,
    /// External actions, selection, advantage.
    #[serde(flatten)]
    pub group: GroupKeys,
    /// The policy loss.
    #[serde(flatten)]
    pub loss: LossKeys,
    /// What is written.
    #[serde(flatten)]
    pub output: OutputKeys,
    /// How held-out rows are scored.
    #[serde(flatten)]
    pub evaluation: EvaluationKeys,
    /// Device and seeds.
    #[serde(flatten)]
    pub runtime: RuntimeKeys,
    /// One line for each foreign spelling, each group of keys without effect and each surprising pair; to be logged once.
    #[serde(skip)]
    pub notes: Vec<String>,
    /// One line for each key whose wish is met in another way than it says; to be logged once.
    #[serde(skip)]
    pub warnings: Vec<String>,
}

impl Run {
    /// The resolved configuration as YAML; loading it gives an equal run.
    ///
    /// # Panics
    /// Never: plain numbers, words and lists have a YAML form.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let values = serde_json::to_value(self).expect("plain data has a JSON form");
        let mut text =
            String::from("# The resolved configuration: every key with the value that counts.\n");
        for section in SECTIONS {
            let present = section.keys.iter().filter_map(|key| {
                let value = key.kind.written(values.get(key.name)?);
                Some((key.name.to_owned(), value))
            });
            let map = Value::Object(present.collect());
            let body = super::yaml::yaml_text(&map).expect("plain data has a YAML form");
            text.push_str(&format!("\n# {}\n{}\n", section.title, body.trim_end()));
        }
        text
    }

    /// Completions that the policy samples at once.
    #[must_use]
    pub fn completions_per_generation(&self) -> usize {
        self.batch.per_device_train_batch_size * self.batch.steps_per_generation
    }

    /// Different prompts of one generation batch (Q), at least 1.
    #[must_use]
    pub fn prompts_per_generation(&self) -> usize {
        (self.completions_per_generation() / self.group.num_generations).max(1)
    }

    /// Micro-batches of one pass over `rows` rows (TRL: `len(RepeatSampler) / generation_batch_size`).
    #[must_use]
    pub fn micro_batches_per_epoch(&self, rows: usize) -> usize {
        rows / self.prompts_per_generation()
            * self.batch.steps_per_generation
            * self.loss.num_iterations
    }

    /// Optimizer steps of one pass over `rows` rows.
    #[must_use]
    pub fn steps_per_epoch(&self, rows: usize) -> u64 {
        self.micro_batches_per_epoch(rows)
            .div_ceil(self.batch.gradient_accumulation_steps) as u64
    }

    /// Optimizer steps of the whole run: `max_steps`, or as many as `num_train_epochs` passes make, rounded up
    /// (transformers: `Trainer.set_initial_training_values`).
    ///
    /// # Errors
    /// If there are fewer rows than prompts in one generation batch, or the passes make more steps than can be counted.
    pub fn steps(&self, rows: usize) -> Result<u64, ConfigError> {
        let needed = self.prompts_per_generation();
        if rows < needed {
            return Err(ConfigError::TooFewRows { rows, needed });
        }
        self.limit_or_epochs(self.steps_per_epoch(rows))
    }

    /// Optimizer steps of supervised fine-tuning on `rows` rows.
    ///
    /// # Errors
    /// If there are no rows, or the passes make more steps than can be counted.
    pub fn sft_steps(&self, rows: usize) -> Result<u64, ConfigError> {
        if rows == 0 {
            return Err(ConfigError::TooFewRows { rows, needed: 1 });
        }
        self.limit_or_epochs(self.sft_steps_per_epoch(rows))
    }

    /// Optimizer steps of one pass of supervised fine-tuning over `rows` rows: the last micro-batch of a pass may have fewer
    /// rows and its last step fewer micro-batches (transformers: `drop_last` false).
    #[must_use]
    pub fn sft_steps_per_epoch(&self, rows: usize) -> u64 {
        let micro_batches = rows.div_ceil(self.batch.per_device_train_batch_size);
        micro_batches.div_ceil(self.batch.gradient_accumulation_steps) as u64
    }

    fn limit_or_epochs(&self, steps_per_epoch: u64) -> Result<u64, ConfigError> {
        if let Ok(limit) = u64::try_from(self.batch.max_steps) {
            return Ok(limit);
        }
        let epochs = self.batch.num_train_epochs;
        let steps = (epochs * steps_per_epoch as f64).ceil();
        if steps > STEPS as f64 {
            return Err(ConfigError::TooManySteps {
                epochs,
                steps_per_epoch,
                most: STEPS,
            });
        }
        Ok(steps as u64)
    }

    /// Logs what there is to say about the keys, once.
    pub fn log_remarks(&self) {
        self.notes.iter().for_each(|note| log::info!("{note}"));
        self.warnings
            .iter()
            .for_each(|warning| log::warn!("{warning}"));
    }

    /// Warm-up steps of a run of `total` optimizer steps (transformers: `TrainingArguments.get_warmup_steps`); none
    /// for the constant schedule.
    #[must_use]
    pub fn warmup_steps(&self, total: u64) -> u64 {
        let optimizer = &self.optimizer;
        if optimizer.lr_scheduler_type == SchedulerType::Constant {
            return 0;
        }
        if optimizer.warmup_steps >= 1.0 {
            return optimizer.warmup_steps as u64;
        }
        let share = if optimizer.warmup_steps > 0.0 {
            optimizer.warmup_steps
        } else {
            optimizer.warmup_ratio
        };
        (total as f64 * share).ceil() as u64
    }

    /// What divides the logits where training takes log-probabilities.
    #[must_use]
    pub fn training_temperature(&self) -> f64 {
        match self.sampling.logprob_temperature {
            LogprobTemperature::Sampling => self.sampling.temperature,
            LogprobTemperature::Raw => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::train;

    #[test]
    fn the_documented_example_counts_as_trl_does() {
        let run = train(
            "per_device_train_batch_size: 4\ngradient_accumulation_steps: 2\nnum_generations: 4",
        );
        assert_eq!(
            (
                run.completions_per_generation(),
                run.prompts_per_generation()
            ),
            (8, 2)
        );
        assert_eq!(
            (run.micro_batches_per_epoch(10), run.steps_per_epoch(10)),
            (10, 5)
        );
        assert_eq!(run.steps(10), Ok(15)); // 3 epochs
    }

    #[test]
    fn iterations_and_longer_generations_multiply_the_steps() {
        // 2 completions x 8 = 16 per generation, 4 prompts; 11 rows make 2 generations of 8 micro-batches, twice each.
        let run = train(
            "per_device_train_batch_size: 2\nsteps_per_generation: 8\nnum_generations: 4\nnum_iterations: 2\n\
             gradient_accumulation_steps: 3\nnum_train_epochs: 1.5",
        );
        assert_eq!(
            (
                run.prompts_per_generation(),
                run.micro_batches_per_epoch(11)
            ),
            (4, 32)
        );
        assert_eq!(run.steps_per_epoch(11), 11); // ceil(32 / 3)
        assert_eq!(run.steps(11), Ok(17)); // ceil(1.5 x 11)
    }

    #[test]
    fn a_step_limit_beats_the_epochs() {
        assert_eq!(train("max_steps: 7").steps(1000), Ok(7));
        assert_eq!(train("max_steps: 7").sft_steps(5), Ok(7));
    }

    #[test]
    fn too_few_rows_are_an_error() {
        let message = train("per_device_train_batch_size: 32")
            .steps(3)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with("the data set has 3 usable rows, but one generation batch takes 4 different prompts\nhint: "));
        assert!(train("").sft_steps(0).is_err());
        let message = train("num_train_epochs: 1e6")
            .sft_steps(100_000)
            .unwrap_err()
            .to_string();
        assert!(
            message.contains("12500 steps each make more than 1000000000"),
            "{message}"
        );
    }

    #[test]
    fn supervised_steps_keep_the_last_small_batch() {
        let run = train("gradient_accumulation_steps: 2\nnum_train_epochs: 1");
        assert_eq!(run.sft_steps(33), Ok(3)); // 5 micro-batches of 8, 2 per step
    }

    #[test]
    fn warm_up_is_steps_or_a_share() {
        assert_eq!(train("warmup_steps: 10").warmup_steps(100), 10);
        assert_eq!(train("warmup_steps: 0.1").warmup_steps(101), 11);
        assert_eq!(train("warmup_ratio: 0.1").warmup_steps(101), 11);
        assert_eq!(
            train("warmup_steps: 5\nwarmup_ratio: 0.5").warmup_steps(100),
            5
        );
        assert_eq!(
            train("warmup_steps: 5\nlr_scheduler_type: constant").warmup_steps(100),
            0
        );
        assert_eq!(train("").warmup_steps(100), 0);
    }

    #[test]
    fn the_training_temperature_follows_its_key() {
        assert_eq!(train("temperature: 0.7").training_temperature(), 0.7);
        assert_eq!(
            train("temperature: 0.7\nlogprob_temperature: raw").training_temperature(),
            1.0
        );
    }
}
