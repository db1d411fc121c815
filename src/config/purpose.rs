//! What a configuration is read for, and which keys that looks at.

use super::error::{ConfigError, Origin};
use super::file::RawConfig;
use super::key::Key;
use super::{sections, table};

/// The command that a configuration is read for; some checks hold for training by GRPO only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `train`.
    Train,
    /// `sft`.
    Sft,
    /// `eval`.
    Eval,
    /// `teachers`, `harvest` and `reward-check`, which look at parts of a training run.
    Parts,
}

/// Keys of `sft` and of rewards, rollouts and their logs, whose sections other purposes use too.
const NOT_OF_SFT: &[&str] = &[
    "steps_per_generation",
    "generation_batch_size",
    "reward_funcs",
    "reward_weights",
    "soft_punish_cache",
    "score_compat",
    "log_completions",
    "num_completions_to_print",
    "dump_rollouts",
    "replay_rollouts",
    "watchdog_patience",
    "num_generations_eval",
    "eval_temperature",
];
const NOT_OF_EVAL: &[&str] = &[
    "freeze_vision_modules",
    "dataset_train_split",
    "shuffle_dataset",
    "sft_target",
    "logprob_temperature",
    "eval_strategy",
    "eval_steps",
    "eval_on_start",
    "eval_delay",
    "data_seed",
];

impl Purpose {
    /// The command, as messages name it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Sft => "sft",
            Self::Eval => "eval",
            Self::Parts => "this command",
        }
    }

    /// Whether the value of `key` can change anything of the command.
    pub(super) fn uses(self, key: &str) -> bool {
        let in_one_of = |tables: &[&[Key]]| {
            tables
                .iter()
                .any(|keys| keys.iter().any(|one| one.name == key))
        };
        match self {
            Self::Train => key != "sft_target",
            Self::Sft => {
                let tables = [sections::SAMPLING, sections::GROUP, sections::LOSS];
                key == "max_completion_length" || !(NOT_OF_SFT.contains(&key) || in_one_of(&tables))
            }
            Self::Eval => {
                let tables = [
                    sections::ADAPTER,
                    sections::BATCH,
                    sections::OPTIMIZER,
                    sections::GROUP,
                    sections::LOSS,
                    sections::OUTPUT,
                ];
                [
                    "num_generations",
                    "pass_threshold",
                    "output_dir",
                    "overwrite",
                ]
                .contains(&key)
                    || !(NOT_OF_EVAL.contains(&key) || in_one_of(&tables))
            }
            Self::Parts => true,
        }
    }
}

/// Keys that the command does not look at: a flag that asks it for something it cannot do is an error; lines of a file that
/// serves several commands are one note. A value that is the default asks for nothing.
pub(super) fn unused(raw: &RawConfig, purpose: Purpose) -> Result<Option<String>, ConfigError> {
    let asks = |key: &&Key| {
        let default = key.default_value().map(|value| key.kind.read(&value));
        let default = default.and_then(Result::ok);
        raw.value(key.name).is_some() && raw.value(key.name) != default.as_ref()
    };
    let keys: Vec<&Key> = table::all()
        .filter(|key| !purpose.uses(key.name))
        .filter(asks)
        .collect();
    let named = |of: &dyn Fn(&Origin) -> bool| -> Vec<String> {
        let keys = keys.iter().filter(|key| of(&raw.origin(key.name)));
        keys.map(|key| format!("`{}`", key.name)).collect()
    };
    let flags = named(&|origin| *origin == Origin::Flag);
    let command = purpose.name();
    if let [first, others @ ..] = flags.as_slice() {
        let also = match others {
            [] => String::new(),
            _ => format!(", nor have {}", others.join(", ")),
        };
        return Err(ConfigError::Value {
            origin: Origin::Flag,
            key: first.trim_matches('`').to_owned(),
            problem: format!("has no effect on `{command}`{also}"),
            hint: "leave it out; it is a key of `train`".to_owned(),
        });
    }
    let lines = named(&|origin| matches!(origin, Origin::File(_)));
    let note = format!("`{command}` does not use {}", lines.join(", "));
    Ok((!lines.is_empty()).then_some(note))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NEEDED, read};
    use super::*;

    #[test]
    fn keys_that_a_command_does_not_use_are_named() {
        let yaml = format!("{NEEDED}num_generations: 2\nreward_funcs: [accuracy]\nbeta: 0\n");
        let run = read(Purpose::Sft, &yaml, &[]).expect("a file for both commands");
        let note = "`sft` does not use `reward_funcs`, `num_generations`";
        assert_eq!(run.notes, [note], "beta asks for nothing");
        let flags = [
            ("temperature", "0.5"),
            ("learning_rate", "1e-4"),
            ("epsilon", "0.3"),
        ];
        let text = read(Purpose::Sft, &yaml, &flags)
            .expect_err("asked of sft")
            .to_string();
        assert!(
            text.starts_with(
                "command line: `temperature` has no effect on `sft`, nor have `epsilon`\nhint: "
            ),
            "{text}"
        );
        let tests = [
            ("eval_temperature", "0"),
            ("top_p", "0.9"),
            ("overwrite", "true"),
        ];
        assert!(read(Purpose::Eval, &yaml, &tests).is_ok());
        let text = read(Purpose::Eval, &yaml, &[("learning_rate", "1e-4")])
            .expect_err("asked of eval")
            .to_string();
        assert!(
            text.contains("`learning_rate` has no effect on `eval`\n"),
            "{text}"
        );
        let run = read(Purpose::Parts, &yaml, &[("learning_rate", "1e-4")]).expect("parts");
        assert!(run.notes.is_empty());
    }

    #[test]
    fn what_is_not_used_exists_and_what_every_command_needs_is_used() {
        for name in NOT_OF_SFT.iter().chain(NOT_OF_EVAL) {
            assert!(table::find(name).is_some(), "{name}");
        }
        for name in [
            "model_name_or_path",
            "dataset_name",
            "output_dir",
            "device",
            "seed",
        ] {
            for purpose in [Purpose::Train, Purpose::Sft, Purpose::Eval, Purpose::Parts] {
                assert!(purpose.uses(name), "{name}, {}", purpose.name());
            }
        }
        let of_training = [
            "save_strategy",
            "eval_strategy",
            "num_train_epochs",
            "warmup_ratio",
        ];
        assert!(of_training.iter().all(|name| Purpose::Sft.uses(name)));
        assert!(!of_training.iter().any(|name| Purpose::Eval.uses(name)));
    }
}
