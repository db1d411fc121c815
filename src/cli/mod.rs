//! The command line: subcommands, their arguments, and a flag for every configuration key.
//!
//! Takes the text apart and nothing more: words stay words until a command or the configuration reads them.

mod data;
mod init;
mod key_flags;
mod study;

use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand};

pub use data::{CountingArguments, DataArguments, DataFamily};
pub use init::InitArguments;
pub use key_flags::KeyFlags;
pub use study::StudyArguments;

use crate::config::DeviceChoice;

/// Reinforcement learning of vision-language models with external actions.
#[derive(Debug, Parser)]
#[command(name = "vision-ekipl", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Train a policy by GRPO, with or without external actions.
    Train(Box<TrainArguments>),
    /// Fine-tune a policy on given chains of thought or answers.
    Sft(Box<TrainArguments>),
    /// Measure accuracy per task and split, and pass@k.
    Eval(Box<EvalArguments>),
    /// Complete a prompt, or the rows of a file.
    Generate(GenerateArguments),
    /// Log-probability and entropy of each token of given completions.
    Score(ScoreArguments),
    /// Score given completions with the configured rewards, without a model.
    RewardCheck(Box<RewardCheckArguments>),
    /// Fill the record of endpoint answers for a data set, ahead of training.
    Harvest(Box<HarvestArguments>),
    /// Send one example to every external model and show what comes back.
    Teachers(Box<TeachersArguments>),
    /// Make data.
    Data {
        /// Which family.
        #[command(subcommand)]
        family: DataFamily,
    },
    /// Make a small checkpoint with random weights and a tokenizer learnt from rows.
    Init(InitArguments),
    /// Compare methods over families of tasks and seeds, and write the report.
    Study(Box<StudyArguments>),
    /// Show adapters, limits and the device that `auto` takes, and test every kernel against its reference.
    Doctor(DoctorArguments),
    /// Render data, warm-start a small policy, train it with and without external actions, and compare.
    Demo(DemoArguments),
}

/// Arguments of `train` and `sft`.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// Configuration file; configuration keys given as flags override it.
    pub config: PathBuf,
    /// Print the resolved configuration, the memory and the steps it takes, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// Configuration file; configuration keys given as flags override it.
    pub config: PathBuf,
    /// Checkpoint folder to evaluate, in place of `model_name_or_path`.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Write the result here as JSON, beside the table on the screen.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

impl EvalArguments {
    /// The configuration flags with `--model` as `model_name_or_path`, which wins over the key's own flag.
    #[must_use]
    pub fn flags(&self) -> Vec<(String, String)> {
        let mut flags = self.keys.flags.clone();
        flags.push((
            "model_name_or_path".to_owned(),
            self.model.display().to_string(),
        ));
        flags
    }
}

/// Arguments of `generate`.
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["prompt", "input"])))]
pub struct GenerateArguments {
    /// Checkpoint folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Text of one user message.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Picture of the message, before its text; may be repeated.
    #[arg(long, value_name = "FILE", requires = "prompt")]
    pub image: Vec<PathBuf>,
    /// JSONL rows to complete.
    #[arg(long, value_name = "ROWS.jsonl", requires = "output")]
    pub input: Option<PathBuf>,
    /// JSONL file for the completions.
    #[arg(long, value_name = "OUT.jsonl", requires = "input")]
    pub output: Option<PathBuf>,
    /// Tokens of a completion at most.
    #[arg(long, visible_alias = "max_completion_length", value_name = "N", default_value_t = 512, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub max_new_tokens: usize,
    /// Divides the logits; 0 = the most probable token each time.
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = from_zero)]
    pub temperature: f32,
    /// Seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// Never draw vision placeholders or unassigned tokens.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub suppress_vision_tokens: bool,
    /// Print one JSON object instead of the text.
    #[arg(long)]
    pub json: bool,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// Arguments of `score`.
#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// Checkpoint folder.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// JSONL rows with `completion` or `completion_ids`.
    #[arg(long, value_name = "ROWS.jsonl")]
    pub input: PathBuf,
    /// JSONL file for the results.
    #[arg(long, value_name = "OUT.jsonl")]
    pub output: PathBuf,
    /// Divides the logits.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = above_zero)]
    pub temperature: f32,
    /// Leave vision placeholders and unassigned tokens out of the softmax.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub suppress_vision_tokens: bool,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// Arguments of `reward-check`.
#[derive(Debug, Args)]
pub struct RewardCheckArguments {
    /// Configuration file; configuration keys given as flags override it.
    pub config: PathBuf,
    /// JSONL rows with `id` and `completion` or `text`: a run's completions.jsonl, recorded actions, or your own.
    #[arg(long, value_name = "FILE")]
    pub completions: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Rows to score at most, from the top.
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..))]
    pub limit: Option<usize>,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `harvest`.
#[derive(Debug, Args)]
pub struct HarvestArguments {
    /// Configuration file; configuration keys given as flags override it.
    pub config: PathBuf,
    /// Send nothing more once this much is spent, all endpoints together.
    #[arg(long, value_name = "COST", value_parser = cost)]
    pub max_cost: Option<f64>,
    /// Count requests, tokens and price, and send nothing.
    #[arg(long)]
    pub estimate: bool,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `teachers`.
#[derive(Debug, Args)]
pub struct TeachersArguments {
    /// Configuration file; configuration keys given as flags override it.
    pub config: PathBuf,
    /// Row of the data set to ask about; the first one without it.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// First seed.
    #[arg(long, value_name = "S", default_value_t = 42)]
    pub seed: u64,
    /// Runs with this many seeds, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub seeds: u64,
    /// Folder for data, checkpoints and tables.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub output: PathBuf,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// `--device` of the commands without a configuration.
#[derive(Debug, Args)]
pub struct DeviceArgument {
    /// Where to compute: auto takes a hardware GPU if there is one, else the faster of software Vulkan and CPU.
    #[arg(long, default_value = "auto", value_parser = clap::builder::PossibleValuesParser::new(DeviceChoice::NAMES))]
    pub device: String,
}

fn share(text: &str) -> Result<f64, String> {
    number(
        text,
        |number: f64| (0.0..=1.0).contains(&number),
        "a number from 0 to 1",
    )
}

fn cost(text: &str) -> Result<f64, String> {
    number(
        text,
        |number: f64| number >= 0.0 && number.is_finite(),
        "an amount of at least 0",
    )
}

fn from_zero(text: &str) -> Result<f32, String> {
    number(
        text,
        |number: f32| number >= 0.0 && number.is_finite(),
        "a number of at least 0",
    )
}

fn above_zero(text: &str) -> Result<f32, String> {
    number(
        text,
        |number: f32| number > 0.0 && number.is_finite(),
        "a number above 0",
    )
}

fn number<T: std::str::FromStr + Copy>(
    text: &str,
    holds: impl Fn(T) -> bool,
    expected: &str,
) -> Result<T, String> {
    text.parse()
        .ok()
        .filter(|number| holds(*number))
        .ok_or_else(|| format!("expected {expected}"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::config;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("vision-ekipl").chain(line.split_whitespace()))
    }

    fn train_flags(line: &str) -> Vec<(String, String)> {
        match parse(line).unwrap().command {
            Command::Train(arguments) => arguments.keys.flags,
            other => panic!("expected train, found {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn keys_are_flags_with_underscores_or_dashes() {
        let flags = train_flags(
            "train run.yaml --learning_rate 1e-5 --max-steps -1 --dry-run --log-completions --device cpu",
        );
        let expected = [
            ("learning_rate", "1e-5"),
            ("max_steps", "-1"),
            ("log_completions", "true"),
            ("device", "cpu"),
        ];
        for (key, value) in expected {
            assert!(
                flags.contains(&(key.to_owned(), value.to_owned())),
                "{key} in {flags:?}"
            );
        }
        assert_eq!(flags.len(), expected.len());
    }

    #[test]
    fn lists_take_several_values_and_the_last_flag_counts() {
        let flags = train_flags(
            "train run.yaml --reward_funcs accuracy format --beta 0.1 --beta 0.2 --log_completions false",
        );
        assert!(flags.contains(&("reward_funcs".to_owned(), "accuracy,format".to_owned())));
        assert!(flags.contains(&("beta".to_owned(), "0.2".to_owned())));
        assert!(flags.contains(&("log_completions".to_owned(), "false".to_owned())));
    }

    #[test]
    fn other_trainers_keys_are_flags_too() {
        let flags = train_flags("train run.yaml --use_vllm --clip_ratio_low 0.1 --rollout.n 4");
        assert_eq!(flags.len(), 3);
        assert!(flags.contains(&("use_vllm".to_owned(), "true".to_owned())));
        assert!(flags.contains(&("rollout.n".to_owned(), "4".to_owned())));
    }

    #[test]
    fn an_unknown_flag_names_the_nearest() {
        let message = parse("train run.yaml --learning_rte 1e-5")
            .unwrap_err()
            .to_string();
        assert!(message.contains("--learning_rate"), "{message}");
    }

    #[test]
    fn help_lists_every_key_with_its_default() {
        let mut command = Cli::command();
        let help = command
            .find_subcommand_mut("train")
            .unwrap()
            .render_long_help()
            .to_string();
        for key in config::SECTIONS.iter().flat_map(|section| section.keys) {
            assert!(help.contains(&format!("--{}", key.name)), "{}", key.name);
        }
        assert!(
            help.contains("Configuration keys: Loss") && help.contains("default 1e-6"),
            "{help}"
        );
        assert!(!help.contains("--use_vllm"));
    }

    #[test]
    fn generate_takes_a_prompt_or_rows() {
        assert!(parse("generate --model m --prompt hello --image a.png --image b.png").is_ok());
        assert!(parse("generate --model m --input rows.jsonl --output out.jsonl --suppress-vision-tokens false").is_ok());
        assert!(parse("generate --model m").is_err());
        assert!(parse("generate --model m --input rows.jsonl").is_err());
        assert!(parse("generate --model m --prompt hi --temperature -1").is_err());
    }

    #[test]
    fn the_other_commands_parse() {
        for line in [
            "score --model m --input rows.jsonl --output out.jsonl --temperature 0.7",
            "data counting --split test-ood --count 5 --seed 1 --out d --expert-accuracy 0.7",
            "data counting --split train --renderer solid --contact-sheet sheet.png",
            "data structure --split train --count 5 --out d --expert a=0.5:terse --expert b=0.4",
            "data transformation --split test-ood-left --count 5 --out d --expert paper --size 112",
            "data structure --split train --count 5 --out d --naming 0.5 --reasoning 0.1",
            "init --rows a.json --rows b.json --out d --task_name clevr-math --seed 3 --hidden 144",
            "study a.yaml b.yaml --seeds 3 --preset smoke --only a --family counting --jobs 2 --device cpu",
            "study a.yaml --base base.yaml --output o --results r --report p --report-only",
            "doctor --json --device vulkan",
            "harvest run.yaml --estimate --max-cost 2.5",
            "teachers run.yaml --id train-3",
            "reward-check run.yaml --completions a.jsonl --json --limit 3 --reward_funcs accuracy",
            "demo --device cpu --seed 1 --seeds 3 --output runs/x",
            "sft run.yaml --dry-run",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "data counting --split val --count 5 --out d",
            "data structure --split train --count 5",
            "data structure --split train --count 5 --out d --max-objects 3",
            "doctor --device tpu",
            "init --out d",
            "study",
            "study a.yaml --seeds 0",
            "study a.yaml --family spatial",
            "demo --seeds 0",
            "reward-check run.yaml",
            "reward-check run.yaml --completions a.jsonl --limit 0",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn the_evaluated_model_replaces_the_configured_one() {
        let Command::Eval(arguments) = parse("eval run.yaml --model ckpt --eval_temperature 0")
            .unwrap()
            .command
        else {
            panic!("expected eval");
        };
        assert_eq!(
            arguments.flags().last().unwrap(),
            &("model_name_or_path".to_owned(), "ckpt".to_owned())
        );
    }
}
