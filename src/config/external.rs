//! `external`: the list of external models.
//!
//! Checks shape and range of one value; pairs of keys are checked elsewhere, and no file is opened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{Fault, shown};
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::value::{FROM_ZERO, Kind, SHARE_ABOVE_ZERO};

/// One entry of `external`: a named source of actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct External {
    /// Its name in every log.
    pub name: String,
    /// Actions per prompt (n_m in the paper's notation).
    pub num_actions: usize,
    /// What kind of source it is; in YAML the key that is present says it.
    #[serde(flatten)]
    pub source: ExternalSource,
}

/// Where an external model's actions come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExternalSource {
    /// Actions recorded earlier.
    Recorded {
        /// JSONL file: example id, source name, text.
        path: PathBuf,
    },
    /// A frozen checkpoint on the training device.
    Local {
        /// Folder of a Qwen2-VL checkpoint.
        model_name_or_path: PathBuf,
        /// Divides its logits.
        temperature: f64,
        /// Keep the most probable tokens that together reach this probability.
        top_p: f64,
        /// Keep this many of the most probable tokens; 0 = all.
        top_k: usize,
        /// Tokens of one action at most.
        max_tokens: usize,
    },
}

/// Reads `external`.
pub(crate) const LIST: Kind = Kind::List(&Kind::Custom {
    description: "a table with `name`, either `path` or `model_name_or_path`, and options",
    read: read_entry,
});

#[rustfmt::skip] // One key a line: this is a table.
static ENTRY: &[Key] = &[
    key("name", Kind::Text, REQUIRED, "Name of the external model in every log."),
    key("num_actions", Kind::Count(1), "1", "Actions per prompt."),
    key("path", Kind::Optional(&Kind::Path), "null", "JSONL file of recorded actions."),
    key("model_name_or_path", Kind::Optional(&Kind::Path), "null", "Checkpoint folder of a local model."),
];

/// Further keys of an entry with `model_name_or_path`.
#[rustfmt::skip] // One key a line: this is a table.
static LOCAL: &[Key] = &[
    key("temperature", Kind::Optional(&FROM_ZERO), "null", "1 if several actions, else 0.2; 0 = greedy."),
    key("top_p", SHARE_ABOVE_ZERO, "1", "Keep the most probable tokens up to this probability."),
    key("top_k", Kind::Count(0), "0", "Keep this many tokens; 0 = all."),
    key("max_tokens", Kind::Count(1), "1024", "Tokens of one action at most."),
];

/// Keys of an entry that this version does not have.
static LATER: &[&str] = &[
    "base_url",
    "model",
    "api_key_env",
    "column",
    "timeout_s",
    "max_retries",
    "max_concurrency",
    "logprobs",
    "prompt_template",
    "seed",
];

fn read_entry(value: &Value) -> Result<Value, Fault> {
    let mut written = value
        .as_object()
        .ok_or_else(|| Fault::expected(value, "a table"))?
        .clone();
    for spelled in ["n_prefix", "pref_n"] {
        if let Some(count) = written.remove(spelled) {
            written.insert("num_actions".to_owned(), count);
        }
    }
    if let Some(name) = LATER.iter().find(|name| written.contains_key(**name)) {
        let problem =
            "belongs to an endpoint or another source that comes in a later version".to_owned();
        let hint = "record the model's actions in a JSONL file and give `path`, or give a local checkpoint \
                    folder as `model_name_or_path`";
        return Err(Fault {
            within: format!(".{name}"),
            problem,
            hint: Some(hint.to_owned()),
        });
    }
    let is_local = written
        .get("model_name_or_path")
        .is_some_and(|path| !path.is_null());
    let is_recorded = written.get("path").is_some_and(|path| !path.is_null());
    if is_local == is_recorded {
        let found = if is_local { "both" } else { "none" };
        let problem = format!(
            "is {}; expected one of `path` and `model_name_or_path`, found {found}",
            shown(value)
        );
        let hint = "`path` is a JSONL file of recorded actions, `model_name_or_path` a local checkpoint folder";
        return Err(Fault {
            within: String::new(),
            problem,
            hint: Some(hint.to_owned()),
        });
    }
    let mut entry = if is_local {
        table(&written, &[ENTRY, LOCAL])?
    } else {
        sampling_of_a_file(&written)?;
        table(&written, &[ENTRY])?
    };
    check_name(&entry)?;
    entry.retain(|_, value| !value.is_null());
    if is_local && !entry.contains_key("temperature") {
        let several = entry["num_actions"].as_u64() > Some(1);
        entry.insert(
            "temperature".to_owned(),
            json!(if several { 1.0 } else { 0.2 }),
        );
    }
    Ok(Value::Object(entry))
}

/// Sampling keys say nothing about a file that exists already.
fn sampling_of_a_file(written: &Map<String, Value>) -> Result<(), Fault> {
    let Some(key) = LOCAL.iter().find(|key| written.contains_key(key.name)) else {
        return Ok(());
    };
    let problem = "has no meaning for actions that are recorded already".to_owned();
    Err(Fault {
        within: format!(".{}", key.name),
        problem,
        hint: Some("remove it".to_owned()),
    })
}

/// The name becomes part of metric names, and must not be taken for the policy.
fn check_name(entry: &Map<String, Value>) -> Result<(), Fault> {
    let name = entry["name"].as_str().unwrap_or_default();
    let plain = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if plain && name != "policy" {
        return Ok(());
    }
    let expected =
        "letters, digits, `-`, `_` and `.`, and not `policy`, which names the model in training";
    Err(Fault::expected(&entry["name"], expected).inside(".name"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};
    use super::*;

    #[test]
    fn a_recorded_and_a_local_model_resolve() {
        let run = train(
            "external:\n  - {name: gpt-4o, path: a.jsonl}\n  - name: local\n    model_name_or_path: m\n    pref_n: 2\n    top_k: 5\n",
        );
        let recorded = ExternalSource::Recorded {
            path: "a.jsonl".into(),
        };
        assert_eq!(
            run.group.external[0],
            External {
                name: "gpt-4o".into(),
                num_actions: 1,
                source: recorded
            }
        );
        let local = ExternalSource::Local {
            model_name_or_path: "m".into(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 5,
            max_tokens: 1024,
        };
        assert_eq!(
            run.group.external[1],
            External {
                name: "local".into(),
                num_actions: 2,
                source: local
            }
        );
    }

    #[test]
    fn one_action_of_a_local_model_is_drawn_cold() {
        let run = train("external: [{name: a, model_name_or_path: m}]");
        assert!(matches!(
            run.group.external[0].source,
            ExternalSource::Local {
                temperature: 0.2,
                ..
            }
        ));
    }

    #[test]
    fn entries_that_cannot_be_are_refused_with_their_place() {
        for (entry, part) in [
            (
                "{name: a, base_url: http://x}",
                "`external[0].base_url` belongs to an endpoint",
            ),
            (
                "{name: a, model: gpt, base_url: http://x}",
                "comes in a later version\nhint: record the model's actions",
            ),
            ("{name: a}", "found none\nhint: `path` is a JSONL file"),
            ("{name: a, path: p, model_name_or_path: m}", "found both"),
            (
                "{name: a, path: p, top_p: 0.9}",
                "`external[0].top_p` has no meaning for actions that are recorded",
            ),
            (
                "{name: a, path: p, num_action: 2}",
                "`external[0].num_action` is not a known key\nhint: the nearest known key is `num_actions`",
            ),
            ("{path: p}", "`external[0].name` is missing"),
            ("{name: policy, path: p}", "and not `policy`"),
            ("{name: a/b, path: p}", "expected letters"),
            (
                "{name: a, path: p, num_actions: 0}",
                "`external[0].num_actions` is 0; expected a whole number of at least 1",
            ),
            ("gpt-4o", "is \"gpt-4o\"; expected a table"),
        ] {
            let text = message(&format!("external: [{entry}]"));
            assert!(text.contains(part), "{entry}: {text}");
        }
    }
}
