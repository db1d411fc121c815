//! What a run that goes on is told now, against what it was told when it was stored.
//!
//! Compares values by key; refuses nothing and knows nothing of checkpoints.

use std::path::Path;

use serde_json::{Map, Value};

use super::Run;
use super::error::ConfigError;
use super::file;
use super::key::Key;
use super::table::{SECTIONS, Section};
use super::value::Kind;
use crate::system::files;

/// A key with another value than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its name.
    pub key: &'static str,
    /// As it was stored, as JSON.
    pub before: String,
    /// As it is now, as JSON.
    pub now: String,
    /// Whether what the run learns depends on it.
    pub matters: bool,
}

/// Sections whose keys decide nothing of what is learnt; those of every other section do.
const HARMLESS_SECTIONS: [&str; 3] = ["Output", "Evaluation", "Run"];
/// Keys of the other sections that do not either: how long the run is, where answers are kept, what is evaluated, memory.
const HARMLESS: [&str; 11] = [
    "preset",
    "num_train_epochs",
    "max_steps",
    "dataset_test_split",
    "max_rejected_fraction",
    "score_compat",
    "external_cache",
    "external_cache_mode",
    "unload_between_phases",
    "gradient_checkpointing",
    "generation_rows",
];
/// Keys of harmless sections that do.
const DECISIVE: [&str; 3] = ["seed", "data_seed", "replay_rollouts"];
/// Keys that say what is to be done now.
const OF_THE_MOMENT: [&str; 4] = [
    "resume_from_checkpoint",
    "resume_allow_changes",
    "overwrite_output_dir",
    "overwrite",
];
/// Parts of the entries of `external` and `reward_funcs` that decide how a source is reached, not what it says.
const REACHING: [&str; 12] = [
    "api_key_env",
    "base_url",
    "max_concurrency",
    "max_consecutive_failures",
    "max_cost",
    "max_restarts",
    "max_retries",
    "on_teacher_failure",
    "price_per_million_input_tokens",
    "price_per_million_output_tokens",
    "requests_per_minute",
    "timeout_s",
];

/// The keys whose values differ from those of a stored configuration, in the order of the table. A key that the stored one
/// does not have, because it is older than the key, had its default.
///
/// # Errors
/// If the stored configuration cannot be read.
pub fn changes(stored: &Path, run: &Run) -> Result<Vec<Change>, ConfigError> {
    let text = std::fs::read_to_string(stored).map_err(|error| ConfigError::Unreadable {
        path: stored.to_owned(),
        reason: error.to_string(),
    })?;
    let before = file::mapping(stored, &text)?;
    let now = match serde_json::to_value(run) {
        Ok(Value::Object(now)) => now,
        _ => Map::new(),
    };
    let mut changes = Vec::new();
    for section in SECTIONS {
        for key in section.keys {
            changes.extend(change(section, key, &before, &now));
        }
    }
    Ok(changes)
}

fn change(
    section: &Section,
    key: &Key,
    before: &Map<String, Value>,
    now: &Map<String, Value>,
) -> Option<Change> {
    if OF_THE_MOMENT.contains(&key.name) {
        return None;
    }
    let now = now.get(key.name)?;
    // A default of null stands for the value of another key, which is not known any more.
    let default = || key.default_value().filter(|default| !default.is_null());
    let before = before.get(key.name).cloned().or_else(default)?;
    if is_same(&before, now, key) {
        return None;
    }
    let in_section = !HARMLESS_SECTIONS.contains(&section.title) && !HARMLESS.contains(&key.name);
    let decisive = in_section || DECISIVE.contains(&key.name);
    let matters = decisive && !is_same(&without_reaching(&before), &without_reaching(now), key);
    Some(Change {
        key: key.name,
        before: before.to_string(),
        now: now.to_string(),
        matters,
    })
}

/// Whether two values say the same: 1 and 1.0, one folder under two names.
fn is_same(a: &Value, b: &Value, key: &Key) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::String(a), Value::String(b)) => {
            a == b || (names_places(&key.kind) && files::is_same(Path::new(a), Path::new(b)))
        }
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b, key))
        }
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys());
            let part =
                |of: &Map<String, Value>, name: &str| of.get(name).cloned().unwrap_or_default();
            names
                .into_iter()
                .all(|name| is_same(&part(a, name), &part(b, name), key))
        }
        _ => a == b,
    }
}

fn names_places(kind: &Kind) -> bool {
    match kind {
        Kind::Path => true,
        Kind::List(kind) | Kind::Optional(kind) => names_places(kind),
        _ => false,
    }
}

/// The value without what only decides how a source is reached.
fn without_reaching(value: &Value) -> Value {
    match value {
        Value::Array(entries) => entries.iter().map(without_reaching).collect(),
        Value::Object(entry) => {
            let kept = entry
                .iter()
                .filter(|(name, _)| !REACHING.contains(&name.as_str()));
            Value::Object(
                kept.map(|(name, value)| (name.clone(), value.clone()))
                    .collect(),
            )
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::train;
    use super::*;

    /// The changes from one configuration to another, as `key before -> now`, with `!` where they matter.
    fn changed(before: &str, now: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, train(before).to_yaml()).unwrap();
        let shown = |change: Change| {
            let mark = if change.matters { "! " } else { "" };
            format!("{mark}{} {} -> {}", change.key, change.before, change.now)
        };
        let found = changes(&path, &train(now)).unwrap();
        found.into_iter().map(shown).collect()
    }

    #[test]
    fn a_stored_configuration_equals_itself() {
        for lines in [
            "",
            "preset: ekipl",
            "external: [{name: a, base_url: 'http://x', model: m, max_cost: 3}]\nbeta: 1",
            "reward_funcs: [accuracy, {name: mine, command: [python3, x.py]}]",
            "temperature: 1\nwarmup_steps: 0.1\neval_dataset_name: [a.json, b.json]",
        ] {
            assert_eq!(changed(lines, lines), Vec::<String>::new(), "{lines}");
        }
        assert_eq!(changed("beta: 1", "beta: 1.0"), Vec::<String>::new());
    }

    #[test]
    fn what_decides_the_result_is_told_from_what_does_not() {
        for (before, now, expected) in [
            ("seed: 7", "seed: 8\ndata_seed: 7", "! seed 7 -> 8"),
            ("", "data_seed: 3", "! data_seed 42 -> 3"),
            ("", "beta: 0.5", "! beta 0.0 -> 0.5"),
            ("", "learning_rate: 1e-5", "! learning_rate 1e-6 -> 0.00001"),
            (
                "",
                "dataset_name: other.json",
                "! dataset_name \"rows.json\" -> \"other.json\"",
            ),
            (
                "",
                "model_name_or_path: b",
                "! model_name_or_path \"start\" -> \"b\"",
            ),
            ("", "loss_type: grpo", "! loss_type \"dapo\" -> \"grpo\""),
            (
                "",
                "reward_weights: [1, 2]",
                "! reward_weights [1.0,1.0] -> [1.0,2.0]",
            ),
            (
                "",
                "replay_rollouts: r.jsonl",
                "! replay_rollouts null -> \"r.jsonl\"",
            ),
            ("", "max_steps: 9", "max_steps -1 -> 9"),
            ("", "num_train_epochs: 4", "num_train_epochs 3.0 -> 4.0"),
            ("", "save_steps: 9", "save_steps 500 -> 9"),
            ("", "device: cpu", "device \"auto\" -> \"cpu\""),
            (
                "",
                "external_cache: a.jsonl",
                "external_cache null -> \"a.jsonl\"",
            ),
            ("", "max_eval_samples: 5", "max_eval_samples null -> 5"),
            ("", "generation_rows: 4", "generation_rows null -> 4"),
            ("", "dtype: bfloat16", "! dtype \"auto\" -> \"bfloat16\""),
            (
                "use_peft: true",
                "use_peft: true\nlora_r: 8",
                "! lora_r 16 -> 8",
            ),
            (
                "use_peft: true",
                "use_peft: true\nload_in_4bit: true",
                "! load_in_4bit false -> true",
            ),
            (
                "use_peft: true",
                "use_peft: true\ngradient_checkpointing: false",
                "gradient_checkpointing true -> false",
            ),
        ] {
            assert_eq!(changed(before, now), [expected], "{now}");
        }
        let spelt = "dataset_name: ./rows.json\nmodel_name_or_path: ./start\noutput_dir: out/.";
        assert_eq!(
            changed("", spelt),
            Vec::<String>::new(),
            "other spellings of the same places"
        );
    }

    #[test]
    fn how_a_source_is_reached_may_change() {
        let entry = |options: &str| {
            format!("external: [{{name: a, base_url: 'http://x', model: m{options}}}]")
        };
        let matters = |now: &str| {
            let found = changed(&entry(""), now);
            assert_eq!(found.len(), 1, "{found:?}");
            found[0].starts_with("! ")
        };
        for harmless in [
            ", max_cost: 9",
            ", timeout_s: 5",
            ", api_key_env: K",
            ", max_retries: 1",
        ] {
            assert!(!matters(&entry(harmless)), "{harmless}");
        }
        assert!(
            !matters(&entry("").replace("//x", "//y")),
            "another address"
        );
        for decisive in [", temperature: 0.9", ", num_actions: 2", ", max_tokens: 5"] {
            assert!(matters(&entry(decisive)), "{decisive}");
        }
        assert!(matters("external: []"), "no source");
    }

    #[test]
    fn a_key_that_is_younger_than_the_file_had_its_default() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.yaml");
        let stored = train("").to_yaml();
        let older = |line: &&str| !line.starts_with("beta:") && !line.starts_with("data_seed:");
        let older: Vec<&str> = stored.lines().filter(older).collect();
        std::fs::write(&path, older.join("\n")).unwrap();
        assert_eq!(changes(&path, &train("")).unwrap(), []);
        let found = changes(&path, &train("beta: 0.5")).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].matters && found[0].before == "0", "{found:?}");
    }

    #[test]
    fn every_key_that_is_named_here_exists() {
        let named = HARMLESS.iter().chain(&DECISIVE).chain(&OF_THE_MOMENT);
        for name in named {
            assert!(super::super::table::find(name).is_some(), "{name}");
        }
        for title in HARMLESS_SECTIONS {
            assert!(
                SECTIONS.iter().any(|section| section.title == title),
                "{title}"
            );
        }
    }
}
