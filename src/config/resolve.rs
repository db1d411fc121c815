//! From what was written to a [`Run`]: defaults, keys that follow other keys, then the checks.
//!
//! Knows the keys by name but neither YAML nor flags.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::error::ConfigError;
use super::file::{RawConfig, wrong};
use super::purpose::Purpose;
use super::run::Run;
use super::{checks, table, weight_checks};

/// Keys that take another key's value where nobody wrote them.
const FOLLOWERS: &[(&str, &str)] = &[
    ("epsilon_high", "epsilon"),
    ("data_seed", "seed"),
    ("eval_steps", "logging_steps"),
    ("eval_temperature", "temperature"),
    ("group_size", "num_generations"),
    ("gradient_checkpointing", "use_peft"),
];

/// Keys for which TRL and transformers write null where they mean 0.
const ZERO_IF_NULL: &[&str] = &["top_k", "warmup_ratio"];

/// Fills in what was not written and checks what fits together.
///
/// # Errors
/// If a required key is missing or keys contradict each other.
pub(super) fn resolve(raw: RawConfig, path: &Path, purpose: Purpose) -> Result<Run, ConfigError> {
    let mut values = complete(&raw, path)?;
    for (follower, leader) in FOLLOWERS {
        if values[*follower].is_null() {
            values.insert((*follower).to_owned(), values[*leader].clone());
        }
    }
    for name in ZERO_IF_NULL {
        if values[*name].is_null() {
            values.insert((*name).to_owned(), json!(0));
        }
    }
    if values["lora_modules_to_save"].is_null() {
        values.insert("lora_modules_to_save".to_owned(), json!([]));
    }
    if values["num_generations_eval"].is_null() {
        // Greedy completions of one prompt are all the same.
        let greedy = values["eval_temperature"] == json!(0.0);
        let count = if greedy {
            json!(1)
        } else {
            values["num_generations"].clone()
        };
        values.insert("num_generations_eval".to_owned(), count);
    }
    if values["reward_weights"].is_null() {
        let count = values["reward_funcs"].as_array().map_or(0, Vec::len);
        values.insert("reward_weights".to_owned(), json!(vec![1.0; count]));
    }
    let steps = steps_per_generation(&values, &raw)?;
    values.insert("steps_per_generation".to_owned(), json!(steps));
    values.remove("generation_batch_size");

    let mut run: Run =
        serde_json::from_value(Value::Object(values)).map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
    let mut notes = checks::check(&run, &raw, purpose)?;
    run.notes = raw.notes;
    run.warnings = raw.warnings;
    run.warnings.extend(weight_checks::warning(&run, purpose));
    run.notes.append(&mut notes);
    Ok(run)
}

/// Every key with what was written or its default.
fn complete(raw: &RawConfig, path: &Path) -> Result<Map<String, Value>, ConfigError> {
    let mut values = Map::new();
    for key in table::all() {
        let missing = || ConfigError::Missing {
            path: path.to_owned(),
            key: key.name,
            meaning: key.help(),
        };
        let value = match raw.value(key.name) {
            Some(value) => value.clone(),
            None => key.default_value().ok_or_else(missing)?,
        };
        values.insert(key.name.to_owned(), value);
    }
    Ok(values)
}

/// Micro-batches per generation: written so, or as a number of completions, or one optimizer step's
/// (TRL: `GRPOConfig.__post_init__`).
fn steps_per_generation(values: &Map<String, Value>, raw: &RawConfig) -> Result<u64, ConfigError> {
    let number = |name: &str| values[name].as_u64();
    let batch = number("per_device_train_batch_size").unwrap_or(1);
    let wrong = |problem, hint| Err(wrong(raw, "generation_batch_size", problem, hint));
    match (
        number("generation_batch_size"),
        number("steps_per_generation"),
    ) {
        (Some(completions), Some(steps)) => wrong(
            format!(
                "is {completions}, and `steps_per_generation` is {steps}; they say the same in two ways"
            ),
            "keep one of them".to_owned(),
        ),
        (Some(completions), None) if completions % batch != 0 => wrong(
            format!(
                "is {completions}, which `per_device_train_batch_size` {batch} does not divide"
            ),
            format!(
                "the nearest valid values are {}",
                checks::multiples_around(completions, batch)
            ),
        ),
        (Some(completions), None) => Ok(completions / batch),
        (None, Some(steps)) => Ok(steps),
        (None, None) => Ok(number("gradient_accumulation_steps").unwrap_or(1)),
    }
}
