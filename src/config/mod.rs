//! What a run is told: a flat YAML file with TRL's key names, flags of the same names, presets, and what they resolve to.
//!
//! [`load`] is the way in and [`Run`] what comes out. The parts, in the order of the flow: `sections/` declares every key
//! once; `key` says what a key is, `value` what it takes, `table` lists all; `aliases` and `foreign` know other trainers' keys;
//! `presets` published methods; `file` reads what was written, each value by itself; `resolve` completes it, `changes` compares it with a stored one, `checks`
//! judges pairs of keys, and `run` holds the result with the arithmetic of batches. Knows nothing of models, data
//! or devices, and opens no file but the one it is given.

mod aliases;
mod bounds;
mod changes;
mod checks;
mod error;
mod external;
mod external_when;
mod file;
mod foreign;
mod key;
mod path;
mod presets;
mod purpose;
mod ranges;
mod resolve;
mod reward_entry;
mod run;
mod secret;
mod sections;
mod sizes;
mod special_values;
mod table;
mod value;
mod weight_checks;
mod yaml;

use std::path::Path;

pub use crate::options::{
    AdvantageBaseline, DeviceChoice, Dtype, ExternalImagePaths, ExternalRatio, ExternalSchedule,
    ExternalWhen, Held, ImportanceSamplingLevel, IntervalStrategy, LogprobTemperature, LossType,
    OnTeacherFailure, Preset, RecordMode, RewardFunction, ScaleRewards, ScheduleShape,
    SchedulerType, ScoreCompat, Selection, SelectionTies, SftTarget, SupervisedShare,
    TargetModules, VerifyImages, WeightFormat, WeightLevel,
};
pub use changes::{Change, changes};
pub use error::{ConfigError, Origin};
pub use external::{Endpoint, External, ExternalSource, Local};
pub(crate) use key::nearest_of;
pub use path::expand as expand_path;
pub use purpose::Purpose;
pub use reward_entry::{RewardEntry, RewardProgram};
pub use run::Run;
pub use secret::scrubbed;
pub use sections::{
    AdapterKeys, BatchKeys, DataKeys, EvaluationKeys, GroupKeys, LossKeys, ModelKeys,
    OptimizerKeys, OutputKeys, RuntimeKeys, SamplingKeys,
};
pub use special_values::{Interval, Resume};
pub(crate) use table::SECTIONS;
pub use yaml::parse_yaml;
pub(crate) use {aliases::spellings as alias_spellings, foreign::names as foreign_names};

/// Reads a configuration file, lays the flags (`--key value` without the dashes) over it, the preset and the defaults
/// below it, and checks that everything fits.
///
/// # Errors
/// Names file or flag, key, value and remedy; see [`ConfigError`].
pub fn load(purpose: Purpose, path: &Path, flags: &[(String, String)]) -> Result<Run, ConfigError> {
    let raw = file::RawConfig::load(path, flags)?;
    resolve::resolve(raw, path, purpose)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::*;

    /// The keys that every configuration needs.
    pub(super) const NEEDED: &str =
        "model_name_or_path: start\ndataset_name: rows.json\noutput_dir: out\n";

    /// Loads YAML text and flags as `run.yaml` of a folder of its own.
    pub(super) fn read(
        purpose: Purpose,
        yaml: &str,
        flags: &[(&str, &str)],
    ) -> Result<Run, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.yaml");
        std::fs::write(&path, yaml).unwrap();
        let flags: Vec<_> = flags
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        load(purpose, &path, &flags)
    }

    /// A training run from the needed keys and these lines.
    /// A training run of these lines, with the needed ones that they leave out.
    pub(super) fn train(lines: &str) -> Run {
        let named = |line: &&str| {
            let key = line.split(':').next().unwrap_or(line);
            lines.lines().any(|own| own.split(':').next() == Some(key))
        };
        let needed: Vec<&str> = NEEDED.lines().filter(|line| !named(line)).collect();
        let text = format!("{}\n{lines}", needed.join("\n"));
        read(Purpose::Train, &text, &[]).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The message for these lines, from the file's name on.
    pub(super) fn message(lines: &str) -> String {
        let error = read(Purpose::Train, &format!("{NEEDED}{lines}"), &[])
            .expect_err(lines)
            .to_string();
        error
            .split_once("run.yaml")
            .map_or(error.clone(), |(_, rest)| format!("run.yaml{rest}"))
    }

    #[test]
    fn defaults_are_those_of_trl() {
        let run = serde_json::to_value(train("")).unwrap();
        let trl = json!({
            "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "num_train_epochs": 3.0,
            "max_steps": -1, "learning_rate": 1e-6, "lr_scheduler_type": "linear", "warmup_steps": 0.0,
            "weight_decay": 0.0, "adam_beta1": 0.9, "adam_beta2": 0.999, "adam_epsilon": 1e-8, "max_grad_norm": 1.0,
            "logging_steps": 10, "save_strategy": "steps", "save_steps": 500, "save_total_limit": null,
            "eval_strategy": "no", "per_device_eval_batch_size": 8, "seed": 42, "num_generations": 8,
            "max_completion_length": 512, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": null, "beta": 0.0,
            "epsilon": 0.2, "delta": null, "num_iterations": 1, "importance_sampling_level": "token",
            "scale_rewards": "group", "loss_type": "dapo", "mask_truncated_completions": false,
            "shuffle_dataset": true, "log_completions": false, "dataset_train_split": "train",
            "dataset_test_split": "test", "resume_from_checkpoint": null,
        });
        let losses = json!({
            "use_peft": false, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": null,
            "use_rslora": false, "load_in_4bit": false, "load_in_8bit": false,
            "entropy_coef": 0.0, "top_entropy_quantile": 1.0, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
            "repetition_penalty": 1.0, "multi_objective_aggregation": "sum_then_normalize",
        });
        for (key, value) in trl
            .as_object()
            .unwrap()
            .iter()
            .chain(losses.as_object().unwrap())
        {
            assert_eq!(&run[key], value, "{key}");
        }
    }

    #[test]
    fn keys_that_follow_others_hold_the_value_that_counts() {
        let run =
            train("epsilon: 0.1\nseed: 7\nnum_generations: 4\nlogging_steps: 5\ntemperature: 0.9");
        assert_eq!(
            (
                run.loss.epsilon_high,
                run.runtime.data_seed,
                run.group.group_size
            ),
            (0.1, 7, 4)
        );
        assert_eq!(
            (
                run.evaluation.num_generations_eval,
                run.evaluation.eval_steps
            ),
            (4, Interval(5.0))
        );
        assert_eq!(run.evaluation.eval_temperature, 0.9);
        assert_eq!(run.data.reward_weights, [1.0, 1.0]);
        let nulls = train("top_k: null\nwarmup_ratio: null\nmin_p: null");
        assert_eq!(
            (nulls.sampling.top_k, nulls.optimizer.warmup_ratio),
            (0, 0.0)
        );
        let greedy = train("eval_temperature: 0");
        assert_eq!(greedy.evaluation.num_generations_eval, 1);
    }

    #[test]
    fn a_flag_beats_the_file_the_file_the_preset_and_the_preset_the_default() {
        let yaml = format!("{NEEDED}preset: ekipl\nbeta: 0.1\ntop_k: 20\n");
        let run = read(
            Purpose::Train,
            &yaml,
            &[("top_k", "30"), ("learning-rate", "2e-6")],
        )
        .unwrap();
        assert_eq!(run.sampling.top_k, 30);
        assert_eq!(run.optimizer.learning_rate, 2e-6);
        assert_eq!(run.loss.beta, 0.1);
        assert_eq!(
            (run.loss.loss_type, run.sampling.top_p),
            (LossType::Grpo, 0.9)
        );
        assert_eq!(run.sampling.min_p, None);
        let other = read(Purpose::Train, &yaml, &[("preset", "trl-dapo")]).unwrap();
        assert_eq!(
            (
                other.loss.loss_type,
                other.loss.epsilon_high,
                other.loss.beta
            ),
            (LossType::Dapo, 0.28, 0.1)
        );
    }

    #[test]
    fn the_resolved_configuration_reloads_equal() {
        let lines = "preset: ekipl-maxvar\nexternal: [{name: a, path: a.jsonl}, {name: b, model_name_or_path: b}]\n\
                     external_when: {schedule: {from: 1, to: 0.25, steps: 100}}\ngeneration_batch_size: 16\n\
                     resume_from_checkpoint: true\ntask_name: trance-only-full\nrun_name: 'no'\nmin_p: 0.1\n\
                     eval_strategy: epoch\nsave_strategy: no\nreward_funcs: [accuracy]\nreward_weights: [0.3]\n\
                     image_dir: a folder/with '\"quotes\"': and # signs\n";
        let lines = lines.replace(
            "a folder/with '\"quotes\"': and # signs",
            "\"a folder/with 'quotes': and # signs\"",
        );
        for lines in [
            String::new(),
            lines,
            "external_when: {pass_rate_max: 0.5}".into(),
            "delta: 3\nseed: 1".into(),
            "use_peft: true\nlora_target_modules: '.*q_proj'\nload_in_4bit: true".into(),
            "use_peft: true\nlora_target_modules: all-linear\nlora_modules_to_save: [lm_head]"
                .into(),
        ] {
            let run = train(&lines);
            let again =
                read(Purpose::Train, &run.to_yaml(), &[]).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                again,
                Run {
                    notes: Vec::new(),
                    warnings: Vec::new(),
                    ..run
                }
            );
        }
    }

    #[test]
    fn every_key_is_a_field_and_every_field_a_key() {
        let run = serde_json::to_value(train("")).unwrap();
        let fields: BTreeSet<&str> = run
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let keys: BTreeSet<&str> = table::all()
            .map(|key| key.name)
            .filter(|name| *name != "generation_batch_size")
            .collect();
        assert_eq!(fields, keys);
    }

    #[test]
    fn spellings_are_unique_and_lead_somewhere() {
        let own = table::all().map(|key| key.name);
        let mut seen = BTreeSet::new();
        for name in own.chain(foreign_names()).chain(alias_spellings()) {
            assert!(seen.insert(name), "{name} stands twice");
        }
        for key in table::all() {
            if let Some(value) = key.default_value() {
                let read = key
                    .kind
                    .read(&value)
                    .unwrap_or_else(|fault| panic!("{}: {fault:?}", key.name));
                assert_eq!(read.is_null(), value.is_null(), "{}", key.name);
            }
        }
    }

    #[test]
    fn every_preset_loads_for_its_command() {
        for name in Preset::NAMES {
            let purpose = if *name == "reason-rft-sft" {
                Purpose::Sft
            } else {
                Purpose::Train
            };
            let external = if *name == "sft-selected" {
                "\nexternal: [{name: expert, path: e.jsonl}]"
            } else {
                ""
            };
            let run = read(purpose, &format!("{NEEDED}preset: {name}{external}"), &[])
                .unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(run.model.preset.map(Preset::name), Some(*name));
            assert!(run.notes.is_empty(), "{:?}", run.notes);
        }
    }

    #[test]
    fn the_paper_s_preset_has_the_paper_s_values() {
        let run = train("preset: ekipl");
        assert_eq!((run.group.num_generations, run.group.group_size), (8, 8));
        assert_eq!(
            (
                run.sampling.temperature,
                run.sampling.top_p,
                run.sampling.top_k
            ),
            (0.9, 0.9, 50)
        );
        assert_eq!((run.loss.beta, run.training_temperature()), (0.04, 1.0));
        assert_eq!(
            (run.data.min_pixels, run.data.max_pixels),
            (Some(3136), Some(480_000))
        );
        assert_eq!(
            (
                run.prompts_per_generation(),
                run.completions_per_generation()
            ),
            (14, 112)
        );
        assert_eq!(run.group.selection, Selection::TopReward);
    }

    #[test]
    fn presets_of_later_versions_are_refused_by_name() {
        let text = message("preset: calibrl-standard");
        assert!(
            text.contains("`preset` is \"calibrl-standard\", which needs CalibRL's dual clip"),
            "{text}"
        );
        assert!(text.contains("hint: the presets are reason-rft"), "{text}");
    }

    #[test]
    fn values_keep_their_meaning_in_every_dialect_of_yaml() {
        let run = train(
            "eval_strategy: no\nsave_strategy: 'no'\nscale_rewards: false\nlearning_rate: '1e-5'\nlog_completions: yes",
        );
        assert_eq!(
            (run.evaluation.eval_strategy, run.output.save_strategy),
            (IntervalStrategy::No, IntervalStrategy::No)
        );
        assert_eq!(
            (run.group.scale_rewards, run.optimizer.learning_rate),
            (ScaleRewards::None, 1e-5)
        );
        assert!(run.output.log_completions);
        assert_eq!(
            train("eval_strategy: false\nscale_rewards: true")
                .group
                .scale_rewards,
            ScaleRewards::Group
        );
    }

    #[test]
    fn flags_take_lists_tables_and_null() {
        let flags = [
            ("reward_funcs", "accuracy,math_accuracy"),
            ("reward_weights", "[1, 0.5]"),
            ("external", "[{name: expert, path: e.jsonl}]"),
            ("external_when", "all_wrong"),
            ("min_p", "none"),
            ("resume_from_checkpoint", "true"),
            ("max_steps", "20"),
        ];
        let run = read(Purpose::Train, &format!("{NEEDED}min_p: 0.2"), &flags).unwrap();
        assert_eq!(
            run.data.reward_funcs,
            [RewardFunction::Accuracy, RewardFunction::MathAccuracy].map(RewardEntry::BuiltIn)
        );
        assert_eq!(
            (run.data.reward_weights.as_slice(), run.sampling.min_p),
            ([1.0, 0.5].as_slice(), None)
        );
        assert_eq!(
            (run.group.external[0].name.as_str(), run.group.external_when),
            ("expert", ExternalWhen::AllWrong)
        );
        assert_eq!(
            (run.output.resume_from_checkpoint, run.batch.max_steps),
            (Resume::Last, 20)
        );
    }

    #[test]
    fn a_flag_of_one_key_replaces_the_file_s_line_of_its_other_form() {
        let yaml = format!("{NEEDED}steps_per_generation: 4\n");
        let run = read(Purpose::Train, &yaml, &[("generation_batch_size", "16")]).unwrap();
        assert_eq!(run.batch.steps_per_generation, 2);
    }

    #[test]
    fn an_unknown_key_names_the_nearest() {
        let text = message("num_generation: 8");
        assert!(text.starts_with("run.yaml: unknown key `num_generation`\nhint: the nearest known key is `num_generations`"), "{text}");
        assert!(message("lerning_rate: 1").contains("`learning_rate`"));
        assert!(message("use_pef: true").contains("`use_peft`"));
        let flag = read(Purpose::Train, NEEDED, &[("betta", "1")])
            .unwrap_err()
            .to_string();
        assert!(
            flag.starts_with(
                "command line: unknown key `betta`\nhint: the nearest known key is `beta`"
            ),
            "{flag}"
        );
    }

    #[test]
    fn a_wrong_type_names_key_value_and_what_was_expected() {
        let text = message("beta: high");
        assert!(text.starts_with("run.yaml: `beta` is \"high\"; expected a number from 0 to 1000\nhint: `beta`: Weight of the KL term"), "{text}");
        assert!(text.ends_with("default 0)"), "{text}");
        assert!(message("loss_type: luspo").contains(
            "`loss_type` is \"luspo\"; expected one of grpo, bnpo, dr_grpo, dapo, cispo, sapo\nhint"
        ));
        assert!(message("loss_type: luspo").contains("luspo and vespo are not in this version"));
        assert!(
            message("reward_funcs: [accuracy, acuracy]")
                .contains("`reward_funcs[1]` is \"acuracy\"")
        );
        assert!(message("run_name: 2024").contains("expected text"));
        assert!(message("max_steps: 0").contains("-1 or a whole number from 1 to 1000000000"));
        assert!(message("num_generations: 2.5").contains("a whole number"));
        let preset = read(Purpose::Train, NEEDED, &[("top_p", "1.5")])
            .unwrap_err()
            .to_string();
        assert!(
            preset.contains("command line: `top_p` is \"1.5\"; expected a number from 1e-6 to 1"),
            "{preset}"
        );
    }

    #[test]
    fn a_missing_key_an_unreadable_file_and_broken_yaml_are_named() {
        let missing = read(Purpose::Train, "output_dir: out\ndataset_name: d", &[])
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains(
                "run.yaml: `model_name_or_path` is missing\nhint: add `model_name_or_path: ...`"
            ),
            "{missing}"
        );
        assert!(missing.ends_with("; required)"), "{missing}");
        let absent = load(Purpose::Train, Path::new("no/such/file.yaml"), &[])
            .unwrap_err()
            .to_string();
        assert!(
            absent.contains("cannot read the configuration no/such/file.yaml")
                && absent.contains("hint:"),
            "{absent}"
        );
        for broken in ["beta: [1", "- a\n- b", "beta: 1\nbeta: 2", "just text"] {
            let text = read(Purpose::Train, broken, &[]).unwrap_err().to_string();
            assert!(
                text.contains("run.yaml: ")
                    && text.contains("hint: a configuration is one flat YAML mapping"),
                "{text}"
            );
        }
        assert!(matches!(
            read(Purpose::Train, "", &[]),
            Err(ConfigError::Missing { .. })
        ));
    }

    #[test]
    fn other_trainers_spellings_are_read_with_a_note() {
        let run = train(
            "clip_ratio_high: 0.28\nrollout.n: 4\nnorm_adv_by_std_in_grpo: false\nloss_agg_mode: seq-mean-token-mean\nresume_mode: auto\nmix_ratio: 0.5",
        );
        assert_eq!(
            (run.loss.epsilon_high, run.group.num_generations),
            (0.28, 4)
        );
        assert_eq!(
            (run.group.scale_rewards, run.loss.loss_type),
            (ScaleRewards::None, LossType::Grpo)
        );
        assert_eq!(
            (run.output.resume_from_checkpoint, run.group.external_when),
            (Resume::Last, ExternalWhen::Probability(0.5))
        );
        assert!(
            run.notes
                .contains(&"`rollout.n` (verl) is read as `num_generations`".to_owned()),
            "{:?}",
            run.notes
        );
        assert_eq!(run.notes.len(), 6);
        let twice = message("clip_ratio_low: 0.1\nepsilon: 0.2");
        assert!(
            twice.contains(
                "`clip_ratio_low` and `epsilon` are the same key `epsilon`\nhint: keep `epsilon`"
            ),
            "{twice}"
        );
    }

    #[test]
    fn foreign_keys_are_quiet_noted_or_refused() {
        let run = train(
            "use_peft: false\nbf16: true\ntorch_dtype: bfloat16\noptim: adamw_torch_fused\nreport_to: wandb\n\
             lora_r: 8\nlora_alpha: 32\nattn_implementation: flash_attention_2\ngradient_checkpointing: true",
        );
        let notes = [
            "`torch_dtype` (older TRL and transformers) is read as `dtype`",
            "`attn_implementation` has no effect: it tunes PyTorch's speed and memory, not results",
            "`lora_r` has no effect: `use_peft` is off",
        ];
        assert_eq!(run.notes, notes);
        assert!(run.optimizer.gradient_checkpointing);
        let of = |key: &str| {
            run.warnings
                .iter()
                .find(|warning| warning.starts_with(&format!("`{key}` is ")))
        };
        for (key, part) in [
            (
                "bf16",
                "`dtype` says how weights that do not train are held",
            ),
            ("dtype", "weights are saved in the type that was read"),
            ("report_to", "metrics are in output_dir/metrics.jsonl"),
        ] {
            let warning = of(key).unwrap_or_else(|| panic!("{key}: {:?}", run.warnings));
            assert!(warning.contains(part), "{warning}");
        }
        assert_eq!(run.warnings.len(), 3);
        for (line, part) in [
            ("use_dora: true", "(DoRA) are not in this version"),
            ("quantization_bit: 4", "hint: set load_in_4bit: true"),
            (
                "adapter_name_or_path: runs/a",
                "give the adapter's folder as model_name_or_path",
            ),
            (
                "auto_find_batch_size: true",
                "hint: lower per_device_train_batch_size instead",
            ),
            ("push_to_hub: true", "nothing is uploaded"),
            ("packing: true", "several rows are never packed"),
            ("system_prompt: Think first.", "put it into the rows"),
            ("chat_template: x", "chat_template.jinja"),
            (
                "completion_only_loss: false",
                "the tokens of a prompt are never learnt",
            ),
            ("external_is_proposal: mixture", "score given text"),
            (
                "use_adaptive_entropy: true",
                "`use_adaptive_entropy` is true: this feature",
            ),
            ("optim: adafactor", "AdamW is the only optimizer"),
        ] {
            let text = message(line);
            assert!(text.contains(part) && text.contains("\nhint: "), "{text}");
        }
        let flags = [
            ("use_peft", "false"),
            ("auto_find_batch_size", "false"),
            ("optim", "adamw_torch"),
        ];
        assert!(
            read(Purpose::Train, NEEDED, &flags)
                .unwrap()
                .notes
                .is_empty()
        );
    }

    /// A recipe of another trainer is corrected in one go.
    #[test]
    fn one_message_lists_everything_that_is_wrong() {
        let text = message("num_generation: 8\nlerning_rate: 1\npackin: true\n");
        assert!(text.starts_with("run.yaml: 3 unknown keys: "), "{text}");
        for part in [
            "`num_generation` (nearest: `num_generations`)",
            "`lerning_rate` (nearest: `learning_rate`)",
            "`packin` (nearest: `packing`)",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let yaml =
            format!("{NEEDED}packing: true\nbetta: 1\ntop_p: 7\nsk-live-0123456789abcdef: x\n");
        let text = read(Purpose::Sft, &yaml, &[("epsilonn", "1")])
            .unwrap_err()
            .to_string();
        for part in [
            "4 things in the configuration:",
            "`packing` is true: several rows are never packed",
            "2 unknown keys: `betta` (nearest: `beta`), `<hidden>`",
            "`top_p` is 7; expected a number from 1e-6 to 1",
            "command line: unknown key `epsilonn`",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains("sk-live"), "{text}");
    }

    #[test]
    fn a_supervised_recipe_of_trl_is_read() {
        let yaml = format!(
            "{NEEDED}dataset_configs: [all]\ndataset_kwargs: {{skip_prepare_dataset: true}}\ndataset_num_proc: 4\n\
             dataset_text_field: text\npreprocessing_num_workers: 8\npacking: false\neval_packing: null\n\
             padding_free: false\ncompletion_only_loss: true\nassistant_only_loss: false\neos_token: null\n\
             activation_offloading: false\ngradient_checkpointing: true\nreport_to: none\nloss_type: nll\n"
        );
        let run = read(Purpose::Sft, &yaml, &[]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(run.notes.len(), 1, "{:?}", run.notes);
        assert!(
            run.notes[0].starts_with("`dataset_configs`, `dataset_kwargs`, `dataset_num_proc`")
        );
        assert!(run.warnings.is_empty(), "{:?}", run.warnings);
    }

    /// What LLaMA-Factory, ms-swift and verl call LoRA.
    #[test]
    fn adapters_of_other_trainers_are_read() {
        for lines in [
            "finetuning_type: lora\nlora_rank: 8\nlora_target: all\nadditional_target: lm_head",
            "tuner_type: lora\nlora_rank: 8\ntarget_modules: [all-linear]\nmodules_to_save: [lm_head]",
            "use_peft: true\nlora_r: 8\nlora_target_modules: all-linear\nlora_modules_to_save: [lm_head]",
        ] {
            let adapter = train(lines).adapter;
            assert!(adapter.use_peft, "{lines}");
            assert_eq!(
                (adapter.lora_r, adapter.lora_alpha, adapter.lora_dropout),
                (8, 32, 0.05)
            );
            assert_eq!(adapter.target_modules(), TargetModules::AllLinear);
            assert_eq!(adapter.lora_modules_to_save, ["lm_head"]);
        }
        assert!(!train("finetuning_type: full").adapter.use_peft);
        assert!(message("finetuning_type: freeze").contains("expected true or false"));
    }

    #[test]
    fn paths_are_expanded_and_saved_so_that_they_read_the_same() {
        // The variable is set for every test, by cargo.
        let here = env!("CARGO_MANIFEST_DIR");
        let lines = "image_dir: $CARGO_MANIFEST_DIR/a b\ndump_rollouts: ${CARGO_MANIFEST_DIR}/$$x\n\
                     external: [{name: e, path: $CARGO_MANIFEST_DIR/e.jsonl}]\nresume_from_checkpoint: ./~x";
        let run = train(lines);
        let path = |end: &str| Some(std::path::PathBuf::from(format!("{here}/{end}")));
        assert_eq!(run.data.image_dir, path("a b"));
        assert_eq!(run.output.dump_rollouts, path("$x"));
        assert!(run.to_yaml().contains("/$$x\n"), "{}", run.to_yaml());
        let again = read(Purpose::Train, &run.to_yaml(), &[]).unwrap();
        assert_eq!(again, run);
        let text = message("replay_rollouts: ~nobody/x");
        assert!(
            text.contains("`~nobody` is not expanded\nhint: write the whole path"),
            "{text}"
        );
        for key in [
            "image_dir",
            "prompt_template",
            "external_cache",
            "eval_dataset_name",
        ] {
            let text = message(&format!("{key}: $NO_SUCH_VARIABLE_HERE/x"));
            assert!(
                text.contains(key)
                    && text.contains("`NO_SUCH_VARIABLE_HERE` is not set\nhint: set it"),
                "{text}"
            );
        }
    }

    /// Every key that takes a number, with values that have brought programs down: read or refused with its range, at
    /// once, and what is read can be counted with.
    #[test]
    fn no_number_of_any_key_brings_the_program_down() {
        let values = [
            "0",
            "-1",
            "1",
            "1e-46",
            "1e39",
            "1e300",
            "2147483648",
            "4611686018427387904",
            "9223372036854775807",
            "9223372036854775808",
            "18446744073709551615",
            "340282366920938463463374607431768211456",
            "-9223372036854775808",
            ".nan",
            ".inf",
            "-.inf",
            "nan",
            "inf",
            "1e400",
            "0.5",
            "-0",
            "99999999999999999999999999999999999999999999",
        ];
        let endpoint = "name: e, base_url: 'http://x', model: m";
        let mut forms: Vec<(String, String)> = Vec::new();
        for key in table::all().filter(|key| key.kind.takes_number()) {
            forms.push((key.name.to_owned(), format!("{}: VALUE", key.name)));
        }
        for (place, form) in [
            (
                "num_actions",
                format!("external: [{{{endpoint}, num_actions: VALUE}}]"),
            ),
            (
                "weight",
                format!("external: [{{{endpoint}, weight: VALUE}}]"),
            ),
            (
                "timeout_s",
                format!("external: [{{{endpoint}, timeout_s: VALUE}}]"),
            ),
            (
                "max_retries",
                format!("external: [{{{endpoint}, max_retries: VALUE}}]"),
            ),
            (
                "max_concurrency",
                format!("external: [{{{endpoint}, max_concurrency: VALUE}}]"),
            ),
            (
                "requests_per_minute",
                format!("external: [{{{endpoint}, requests_per_minute: VALUE}}]"),
            ),
            (
                "max_cost",
                format!("external: [{{{endpoint}, max_cost: VALUE}}]"),
            ),
            (
                "top_k",
                "external: [{name: l, model_name_or_path: m, top_k: VALUE}]".to_owned(),
            ),
            (
                "temperature",
                format!("external: [{{{endpoint}, temperature: VALUE}}]"),
            ),
            (
                "max_tokens",
                format!("external: [{{{endpoint}, max_tokens: VALUE}}]"),
            ),
            ("seed", format!("external: [{{{endpoint}, seed: VALUE}}]")),
            (
                "timeout_s",
                "reward_funcs: [{name: j, command: [j], timeout_s: VALUE}]".to_owned(),
            ),
            (
                "max_restarts",
                "reward_funcs: [{name: j, command: [j], max_restarts: VALUE}]".to_owned(),
            ),
            ("reward_weights", "reward_weights: [VALUE, 1]".to_owned()),
            (
                "probability",
                "external_when: {probability: VALUE}".to_owned(),
            ),
            (
                "steps",
                "external_when: {schedule: {from: 1, to: 0, steps: VALUE}}".to_owned(),
            ),
            ("external_mu", "external_mu: VALUE".to_owned()),
            (
                "decay_steps",
                "external_mu: {peak: 1, valley: 0, decay_steps: VALUE}".to_owned(),
            ),
        ] {
            forms.push((place.to_owned(), form));
        }
        assert!(forms.len() > 60, "only {} forms", forms.len());
        let start = std::time::Instant::now();
        for (place, form) in &forms {
            for value in values {
                let lines = form.replace("VALUE", value);
                for purpose in [Purpose::Train, Purpose::Sft, Purpose::Eval] {
                    match read(purpose, &format!("{NEEDED}{lines}\n"), &[]) {
                        Ok(run) => {
                            for rows in [0, 1, 1000, 1_000_000_000] {
                                let _ = (run.steps(rows), run.sft_steps(rows));
                            }
                            assert!(run.warmup_steps(1_000_000_000) <= 1_000_000_000);
                            assert!(read(purpose, &run.to_yaml(), &[]).is_ok(), "{lines}");
                        }
                        Err(error) => {
                            let text = error.to_string();
                            let ranged = [
                                " from ",
                                "expected",
                                "at least",
                                "divide",
                                "which",
                                "makes",
                                "less than",
                            ];
                            assert!(
                                text.contains("hint: ")
                                    && ranged.iter().any(|word| text.contains(word)),
                                "{place}: {value}: {text}"
                            );
                        }
                    }
                }
            }
        }
        assert!(
            start.elapsed() < std::time::Duration::from_secs(60),
            "{:?}",
            start.elapsed()
        );
    }

    #[test]
    fn supervised_and_evaluation_runs_need_no_groups() {
        let yaml = format!("{NEEDED}per_device_train_batch_size: 3\n");
        assert!(read(Purpose::Train, &yaml, &[]).is_err());
        assert!(read(Purpose::Sft, &yaml, &[]).is_ok());
        assert!(read(Purpose::Eval, &yaml, &[]).is_ok());
    }

    #[test]
    fn the_saved_file_is_readable() {
        let text = train("preset: ekipl\nexternal: [{name: expert, path: e.jsonl}]").to_yaml();
        assert!(text.contains("\n# Loss\nloss_type: grpo\n"), "{text}");
        assert!(
            text.contains("preset: ekipl\n") && text.contains("- name: expert\n"),
            "{text}"
        );
        let value: Value = yaml::parse_yaml(&text).unwrap();
        assert_eq!(
            value["external"][0],
            json!({"name": "expert", "num_actions": 1, "weight": 1.0, "path": "e.jsonl"})
        );
    }
}
