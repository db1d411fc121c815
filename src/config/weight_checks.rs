//! Keys that say which weights train and how the others are held, and what is wrong with a pair of them.
//!
//! Judges a resolved [`Run`]; knows no layer of a model: names that match nothing are found when the model is read.

use serde_json::Value;

use super::error::ConfigError;
use super::file::{RawConfig, wrong};
use super::purpose::Purpose;
use super::run::Run;
use super::sections;
use crate::options::{Dtype, TargetModules};

type Check = Result<(), ConfigError>;

/// Tables that are looked up and not multiplied by: no place for a low-rank adapter here.
const TABLES: [&str; 2] = ["embed_tokens", "lm_head"];

/// Checks the keys of weights and adapters.
///
/// # Errors
/// For the first pair of keys that contradict each other.
pub(super) fn check(run: &Run, raw: &RawConfig, purpose: Purpose) -> Check {
    if run.model.load_in_4bit && run.model.load_in_8bit {
        return Err(wrong(
            raw,
            "load_in_8bit",
            "is true, and `load_in_4bit` is true; matrices are held in one way".to_owned(),
            "keep one of them".to_owned(),
        ));
    }
    if !trains(purpose) {
        return Ok(());
    }
    if run.adapter.use_peft {
        targets(run, raw)?;
        return reference(run, raw);
    }
    quantised(run, raw)
}

fn trains(purpose: Purpose) -> bool {
    matches!(purpose, Purpose::Train | Purpose::Sft)
}

/// Quantised weights cannot train, so something must be frozen.
fn quantised(run: &Run, raw: &RawConfig) -> Check {
    let model = &run.model;
    let refused = |key: &str, problem: &str, hint: &str| {
        let problem = format!("is true, but {problem}");
        Err(wrong(raw, key, problem, hint.to_owned()))
    };
    if model.quantize_embeddings {
        return refused(
            "quantize_embeddings",
            "embedding table and output head train, and only what does not train can be quantised",
            "set use_peft: true, or leave it out",
        );
    }
    let key = match (model.load_in_4bit, model.load_in_8bit) {
        (true, _) => "load_in_4bit",
        (_, true) => "load_in_8bit",
        _ => return Ok(()),
    };
    if model.freeze_vision_modules {
        return Ok(());
    }
    refused(
        key,
        "every weight trains, and only what does not train can be quantised",
        "set use_peft: true to train adapters, or freeze_vision_modules: true to hold the vision tower so",
    )
}

/// Tables train whole or not at all.
fn targets(run: &Run, raw: &RawConfig) -> Check {
    let TargetModules::Names(names) = run.adapter.target_modules() else {
        return Ok(());
    };
    let is_table = |name: &&String| {
        let last = name.rsplit('.').next();
        last.is_some_and(|last| TABLES.contains(&last))
    };
    match names.iter().find(is_table) {
        None => Ok(()),
        Some(name) => Err(wrong(
            raw,
            "lora_target_modules",
            format!("names `{name}`, which gets no adapter in this version"),
            "train it whole: lora_modules_to_save: [embed_tokens, lm_head]".to_owned(),
        )),
    }
}

/// The reference of an adapter is the model without it.
fn reference(run: &Run, raw: &RawConfig) -> Check {
    if !run.loss.sync_ref_model {
        return Ok(());
    }
    let problem = "is true, but with `use_peft` the reference is the model without its adapters, which does not move";
    Err(wrong(
        raw,
        "sync_ref_model",
        problem.to_owned(),
        "leave one of them out".to_owned(),
    ))
}

/// What is allowed but has less effect than it seems.
pub(super) fn notes(run: &Run, raw: &RawConfig, purpose: Purpose) -> Vec<String> {
    let mut notes = Vec::new();
    if !trains(purpose) || run.adapter.use_peft {
        return notes;
    }
    let asks = |value: &Value, default: &Value| {
        !value.is_null() && value != &Value::Array(Vec::new()) && value != default
    };
    let without_effect = sections::ADAPTER.iter().filter(|key| {
        let default = key
            .default_value()
            .and_then(|value| key.kind.read(&value).ok())
            .unwrap_or_default();
        key.name != "use_peft"
            && raw
                .value(key.name)
                .is_some_and(|value| asks(value, &default))
    });
    let names: Vec<_> = without_effect
        .map(|key| format!("`{}`", key.name))
        .collect();
    if !names.is_empty() {
        let verb = if names.len() == 1 { "has" } else { "have" };
        notes.push(format!(
            "{} {verb} no effect: `use_peft` is off",
            names.join(", ")
        ));
    }
    if run.model.load_in_4bit || run.model.load_in_8bit {
        notes.push(
            "without `use_peft` the vision tower alone is quantised: the language model trains in float32"
                .to_owned(),
        );
    }
    notes
}

/// A number format of 16 bits that would save no memory.
pub(super) fn warning(run: &Run, purpose: Purpose) -> Option<String> {
    let dtype = run.model.dtype;
    let short = matches!(dtype, Dtype::Bfloat16 | Dtype::Float16);
    let all_train = trains(purpose) && !run.adapter.use_peft && !run.model.freeze_vision_modules;
    (short && all_train).then(|| {
        format!(
            "`dtype` is \"{}\": every weight trains and is held in float32, which takes twice the memory of 16 bits; \
             weights are saved in the type that was read",
            dtype.name()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, read, train};
    use super::*;

    #[test]
    fn pairs_that_do_not_fit_are_explained() {
        for (lines, part) in [
            (
                "load_in_4bit: true\nload_in_8bit: true",
                "`load_in_8bit` is true, and `load_in_4bit` is true; matrices are held in one way\nhint: keep one",
            ),
            (
                "load_in_4bit: true",
                "`load_in_4bit` is true, but every weight trains, and only what does not train can be quantised\nhint: set use_peft: true",
            ),
            ("load_in_8bit: true", "hint: set use_peft: true"),
            (
                "quantize_embeddings: true\nfreeze_vision_modules: true",
                "embedding table and output head train",
            ),
            (
                "use_peft: true\nlora_target_modules: [q_proj, model.embed_tokens]",
                "names `model.embed_tokens`, which gets no adapter in this version\nhint: train it whole: lora_modules_to_save",
            ),
            (
                "use_peft: true\nbeta: 0.1\nsync_ref_model: true",
                "the reference is the model without its adapters",
            ),
        ] {
            let text = message(lines);
            assert!(text.contains(part), "{lines}: {text}");
        }
    }

    #[test]
    fn what_is_held_in_few_bits_is_frozen_or_said_to_be_little() {
        let adapter = train(
            "use_peft: true\nload_in_4bit: true\nquantize_embeddings: true\ndtype: bfloat16\nlora_r: 8",
        );
        assert!(adapter.notes.is_empty() && adapter.warnings.is_empty());
        assert!(adapter.optimizer.gradient_checkpointing);
        let tower = train("freeze_vision_modules: true\nload_in_8bit: true\ndtype: float16");
        assert!(tower.warnings.is_empty());
        assert!(tower.notes[0].contains("the vision tower alone is quantised"));
        assert!(!tower.optimizer.gradient_checkpointing);
        let whole = train("dtype: bfloat16");
        assert!(
            whole.warnings[0].contains("every weight trains and is held in float32"),
            "{:?}",
            whole.warnings
        );
        let yaml = format!(
            "{}load_in_4bit: true\ndtype: float16\n",
            super::super::tests::NEEDED
        );
        let evaluated = read(Purpose::Eval, &yaml, &[]).expect("everything is frozen");
        assert!(evaluated.notes.is_empty() && evaluated.warnings.is_empty());
    }

    #[test]
    fn keys_of_adapters_without_adapters_leave_a_note() {
        let note = "`lora_r`, `lora_target_modules` have no effect: `use_peft` is off";
        let run = train(
            "lora_r: 8\nlora_alpha: 32\nlora_target_modules: all-linear\nlora_modules_to_save: []",
        );
        assert_eq!(run.notes, [note]);
    }
}
