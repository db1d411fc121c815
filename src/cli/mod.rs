//! The command line: subcommands, their arguments, and a flag for every configuration key.
//!
//! Takes the text apart and nothing more: words stay words until a command or the configuration reads them.

mod adapter;
mod data;
mod full_size;
mod init;
mod key_flags;
mod study;
mod unknown_flags;
mod values;
mod weights;

use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand};

pub use adapter::{MergeArguments, VerifyExportArguments};
pub use data::{CountingArguments, DataArguments, DataFamily};
pub use full_size::FullSizeArguments;
pub use init::InitArguments;
pub use key_flags::KeyFlags;
pub use study::StudyArguments;
pub use weights::WeightArguments;

use crate::config::{DeviceChoice, scrubbed};
use values::{ExpandedPath, SEED, cost, gibibytes, temperature, temperature_or_greedy, whole};

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
    /// Work out the memory of a run, phase by phase, and what would make it fit.
    Plan(Box<PlanArguments>),
    /// Measure accuracy per task and split, and pass@k.
    Eval(Box<EvalArguments>),
    /// Complete a prompt, or the rows of a file.
    Generate(GenerateArguments),
    /// Log-probability and entropy of each token of given completions.
    Score(ScoreArguments),
    /// Fold an adapter into its model.
    Merge(MergeArguments),
    /// Compare a merged model with the model and the adapter that it was made of.
    VerifyExport(VerifyExportArguments),
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
    /// Make a model folder of a published size with random weights, to measure memory and time.
    #[command(hide = true)]
    FullSize(FullSizeArguments),
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
    #[arg(value_parser = ExpandedPath)]
    pub config: PathBuf,
    /// Print the resolved configuration, the memory and the steps it takes, and stop.
    #[arg(long)]
    pub dry_run: bool,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// Configuration file; configuration keys given as flags override it.
    #[arg(value_parser = ExpandedPath)]
    pub config: PathBuf,
    /// Plan supervised fine-tuning in place of training.
    #[arg(long)]
    pub sft: bool,
    /// Hold the plan against this much memory in place of what the device has.
    #[arg(long, value_name = "N", value_parser = gibibytes)]
    pub memory_gib: Option<f64>,
    /// Print one JSON object instead of the table.
    #[arg(long)]
    pub json: bool,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `eval`.
#[derive(Debug, Args)]
pub struct EvalArguments {
    /// Configuration file; configuration keys given as flags override it.
    #[arg(value_parser = ExpandedPath)]
    pub config: PathBuf,
    /// Checkpoint folder to evaluate, in place of `model_name_or_path`.
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Write the result here as JSON, beside the table on the screen.
    #[arg(long, value_name = "FILE", value_parser = ExpandedPath)]
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
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub model: PathBuf,
    /// Text of one user message.
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// Picture of the message, before its text; may be repeated.
    #[arg(long, value_name = "FILE", requires = "prompt", value_parser = ExpandedPath)]
    pub image: Vec<PathBuf>,
    /// JSONL rows to complete.
    #[arg(long, value_name = "ROWS.jsonl", requires = "output", value_parser = ExpandedPath)]
    pub input: Option<PathBuf>,
    /// JSONL file for the completions.
    #[arg(long, value_name = "OUT.jsonl", requires = "input", value_parser = ExpandedPath)]
    pub output: Option<PathBuf>,
    /// Replace the file of --output if it exists.
    #[arg(long, requires = "output")]
    pub overwrite: bool,
    /// Tokens of a completion at most.
    #[arg(long, visible_alias = "max_completion_length", value_name = "N", default_value_t = 512, value_parser = whole::<usize>(1, 1_048_576))]
    pub max_new_tokens: usize,
    /// Divides the logits; 0 = the most probable token each time.
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = temperature_or_greedy)]
    pub temperature: f32,
    /// Seed of the draws.
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(0, SEED))]
    pub seed: u64,
    /// Never draw vision placeholders or unassigned tokens.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub suppress_vision_tokens: bool,
    /// Print one JSON object instead of the text.
    #[arg(long)]
    pub json: bool,
    /// How the weights are held.
    #[command(flatten)]
    pub weights: WeightArguments,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// Arguments of `score`.
#[derive(Debug, Args)]
pub struct ScoreArguments {
    /// Checkpoint folder.
    #[arg(long, value_name = "DIR", value_parser = ExpandedPath)]
    pub model: PathBuf,
    /// JSONL rows with `completion` or `completion_ids`.
    #[arg(long, value_name = "ROWS.jsonl", value_parser = ExpandedPath)]
    pub input: PathBuf,
    /// JSONL file for the results.
    #[arg(long, value_name = "OUT.jsonl", value_parser = ExpandedPath)]
    pub output: PathBuf,
    /// Replace the file of --output if it exists.
    #[arg(long)]
    pub overwrite: bool,
    /// Divides the logits.
    #[arg(long, value_name = "T", default_value_t = 1.0, value_parser = temperature)]
    pub temperature: f32,
    /// Leave vision placeholders and unassigned tokens out of the softmax.
    #[arg(long, value_name = "BOOL", default_value_t = false, action = ArgAction::Set)]
    pub suppress_vision_tokens: bool,
    /// How the weights are held.
    #[command(flatten)]
    pub weights: WeightArguments,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// Arguments of `reward-check`.
#[derive(Debug, Args)]
pub struct RewardCheckArguments {
    /// Configuration file; configuration keys given as flags override it.
    #[arg(value_parser = ExpandedPath)]
    pub config: PathBuf,
    /// JSONL rows with `id` and `completion` or `text`: a run's completions.jsonl, recorded actions, or your own.
    #[arg(long, value_name = "FILE", value_parser = ExpandedPath)]
    pub completions: PathBuf,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
    /// Rows to score at most, from the top.
    #[arg(long, value_name = "N", value_parser = whole::<usize>(1, 1_000_000_000))]
    pub limit: Option<usize>,
    /// Configuration keys given as flags.
    #[command(flatten)]
    pub keys: KeyFlags,
}

/// Arguments of `harvest`.
#[derive(Debug, Args)]
pub struct HarvestArguments {
    /// Configuration file; configuration keys given as flags override it.
    #[arg(value_parser = ExpandedPath)]
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
    #[arg(value_parser = ExpandedPath)]
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
    #[arg(long, value_name = "S", default_value_t = 42, value_parser = whole::<u64>(0, SEED))]
    pub seed: u64,
    /// Runs with this many seeds, one after the other.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = whole::<u64>(1, 1000))]
    pub seeds: u64,
    /// Folder for data, checkpoints and tables.
    #[arg(long, value_name = "DIR", default_value = "runs/demo", value_parser = ExpandedPath)]
    pub output: PathBuf,
    /// Where to compute.
    #[command(flatten)]
    pub device: DeviceArgument,
}

/// `--device` of the commands without a configuration.
#[derive(Debug, Args)]
pub struct DeviceArgument {
    /// Where to compute: auto (a hardware GPU if there is one, else the CPU), gpu (hardware only), vulkan (software too),
    /// metal, dx12 or cpu; one of several adapters by number or by a part of its name, as in vulkan:1 or gpu:radeon.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,
}

/// The command line of this program; where it cannot be read, or asks for help, the program says so and ends.
#[must_use]
pub fn parse() -> Cli {
    try_parse(std::env::args_os()).unwrap_or_else(|error| error.exit())
}

/// Takes a command line apart. A number that begins with a dash is a value and no flag.
///
/// # Errors
/// What is wrong with the line; of several unknown flags each is named with its nearest.
pub fn try_parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let words: Vec<OsString> = words.into_iter().filter_map(configuration_file).collect();
    let mut command = takes_negative_numbers(Cli::command());
    let parsed = command
        .try_get_matches_from_mut(&words)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| {
        let unknown = error.kind() == ErrorKind::UnknownArgument;
        let several = unknown
            .then(|| unknown_flags::error(&command, &words))
            .flatten();
        without_keys(several.unwrap_or(error))
    })
}

/// The error without what looks like the key of a service, which may stand in a line by mistake.
fn without_keys(error: clap::Error) -> clap::Error {
    let said = error.render().to_string();
    let clean = scrubbed(&said);
    if clean == said {
        return error;
    }
    let text = clean.strip_prefix("error: ").unwrap_or(&clean);
    clap::Error::raw(error.kind(), text)
}

/// `--config FILE`, as the scripts of TRL take it, is FILE.
fn configuration_file(word: OsString) -> Option<OsString> {
    if word == "--config" {
        return None;
    }
    let file = word
        .to_str()
        .and_then(|word| word.strip_prefix("--config="));
    Some(file.map(OsString::from).unwrap_or(word))
}

fn takes_negative_numbers(command: clap::Command) -> clap::Command {
    let flag = |argument: clap::Arg| {
        let takes_values = argument.get_action().takes_values() && argument.get_long().is_some();
        if takes_values {
            argument.allow_negative_numbers(true)
        } else {
            argument
        }
    };
    command
        .mut_args(flag)
        .mut_subcommands(takes_negative_numbers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        try_parse(
            std::iter::once("vision-ekipl")
                .chain(line.split_whitespace())
                .map(OsString::from),
        )
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
    fn a_configuration_may_be_named_as_trl_does() {
        for line in [
            "train --config run.yaml --beta 1",
            "train --beta 1 --config=run.yaml",
        ] {
            let Command::Train(arguments) = parse(line).unwrap().command else {
                panic!("expected train");
            };
            assert_eq!(arguments.config, PathBuf::from("run.yaml"));
        }
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
    fn a_key_in_the_line_is_not_printed() {
        let key = "sk-live-0123456789abcdef";
        for line in [
            format!("train run.yaml {key}"),
            format!("train run.yaml --{key} 1 --betta 2"),
            format!("train run.yaml --{key}"),
            format!("doctor --device {key}"),
            format!("generate --model m --prompt x --seed {key}"),
            key.to_owned(),
        ] {
            let message = parse(&line).expect_err("refused").to_string();
            assert!(!message.contains("0123456789"), "{message}");
        }
    }

    #[test]
    fn all_unknown_flags_are_named_in_one_message() {
        let line = "train run.yaml --learning_rte 1e-5 --betta=1 --use_peft false --dry-run --data_setname x";
        let message = parse(line).unwrap_err().to_string();
        for part in [
            "3 unknown flags: ",
            "--betta (nearest: --beta)",
            "--learning_rte (nearest: --learning_rate)",
            "--data_setname (nearest: --dataset_name)",
            "hint: ",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert!(!message.contains("use_peft"), "{message}");
    }

    /// Every number flag of every command, with values that have brought programs down.
    #[test]
    fn extreme_numbers_are_refused_at_once_with_their_range() {
        let lines = [
            (
                "generate --model m --prompt x",
                "max-new-tokens temperature seed",
            ),
            ("score --model m --input i --output o", "temperature"),
            (
                "data counting --split train --contact-sheet s",
                "count max-objects size expert-actions seed expert-accuracy naming reasoning explaining \
                 expert-format-errors",
            ),
            (
                "init --rows r --out d",
                "vocabulary hidden layers vision-width vision-depth filter-waves seed",
            ),
            ("study a.yaml", "seeds first-seed jobs"),
            ("demo", "seed seeds"),
            ("harvest run.yaml", "max-cost"),
            ("reward-check run.yaml --completions c", "limit"),
        ];
        for (line, flags) in lines {
            for flag in flags.split_whitespace() {
                for value in [
                    "-1",
                    "1e39",
                    "1e-46x",
                    "18446744073709551615",
                    "340282366920938463463374607431768211456",
                    "nan",
                ] {
                    let stated = format!("{line} --{flag}={value}");
                    let message = parse(&stated).expect_err(&stated).to_string();
                    assert!(message.contains(" from "), "{stated}: {message}");
                    let message = parse(&format!("{line} --{flag} {value}"))
                        .unwrap_err()
                        .to_string();
                    assert!(message.contains(" from "), "{stated}: {message}");
                }
            }
        }
    }

    #[test]
    fn paths_expand_in_every_flag() {
        let home = std::env::var("HOME").expect("tests have a home");
        let Command::Generate(arguments) = parse("generate --model ~/m --input ~/i --output=~/o")
            .unwrap()
            .command
        else {
            panic!("expected generate");
        };
        assert_eq!(
            arguments.model,
            PathBuf::from(format!("{}/m", home.trim_end_matches('/')))
        );
        assert!(arguments.output.expect("given").ends_with("o"));
        for line in [
            "train $NO_SUCH_VARIABLE_HERE",
            "generate --model $NO_SUCH_VARIABLE_HERE/m --prompt x",
            "data counting --split train --count 1 --out ${NO_SUCH_VARIABLE_HERE}",
            "init --rows $NO_SUCH_VARIABLE_HERE --out d",
            "study $NO_SUCH_VARIABLE_HERE",
            "eval run.yaml --model m --output ~nobody/x",
            "demo --output $NO_SUCH_VARIABLE_HERE",
            "reward-check run.yaml --completions $NO_SUCH_VARIABLE_HERE",
        ] {
            let message = parse(line).expect_err(line).to_string();
            assert!(message.contains("hint: "), "{line}: {message}");
        }
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
            "plan run.yaml --memory-gib 8 --json --sft --learning_rate 1e-5",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
        for line in [
            "data counting --split val --count 5 --out d",
            "data structure --split train --count 5",
            "data structure --split train --count 5 --out d --max-objects 3",
            "doctor --device tpu",
            "plan run.yaml --memory-gib 0",
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
