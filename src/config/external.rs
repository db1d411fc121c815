//! `external`: the list of external models.
//!
//! Checks shape and range of one value; pairs of keys are checked elsewhere, and no file is opened.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::error::{Fault, shown};
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::ranges::{
    AMOUNT, NUCLEUS, SECONDS, SEED, STEPS, TEMPERATURE_OR_GREEDY, TOKENS, from_to,
};
use super::value::Kind;
use super::{path, secret};
use crate::options::{Dtype, OnTeacherFailure, Reasoning, WeightFormat};

/// One entry of `external`: a named source of actions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct External {
    /// Its name in every log.
    pub name: String,
    /// Actions per prompt (n_m in the paper's notation).
    pub num_actions: usize,
    /// Factor of its actions' part of the loss.
    pub weight: f64,
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
    Local(Local),
    /// An OpenAI-compatible server.
    Endpoint(Box<Endpoint>),
    /// A column of the data set.
    Column {
        /// Its name: text, a list of texts, or a list of tables with `text`.
        column: String,
    },
}

/// A frozen checkpoint on the training device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Local {
    /// Folder of a Qwen2-VL checkpoint.
    pub model_name_or_path: PathBuf,
    /// Divides its logits.
    pub temperature: f64,
    /// Keep the most probable tokens that together reach this probability.
    pub top_p: f64,
    /// Keep this many of the most probable tokens; 0 = all.
    pub top_k: usize,
    /// Tokens of one action at most.
    pub max_tokens: usize,
    /// How its weights are held.
    #[serde(flatten)]
    pub format: WeightFormat,
}

/// A model behind an OpenAI-compatible `/v1/chat/completions` (conventions: sections 1.5 and 7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Address of the server, with or without `/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// Environment variable that holds the key.
    pub api_key_env: Option<String>,
    /// Sampling temperature.
    pub temperature: f64,
    /// Keep the most probable tokens that together reach this probability.
    pub top_p: f64,
    /// Tokens of one action at most.
    pub max_tokens: usize,
    /// Seconds that one request may take.
    pub timeout_s: f64,
    /// Attempts after the first one.
    pub max_retries: usize,
    /// Requests at a time.
    pub max_concurrency: usize,
    /// Ask for the log-probability of each token.
    pub logprobs: bool,
    /// What becomes of thoughts that the server gives apart from the answer.
    pub reasoning: Reasoning,
    /// File with a prompt template of its own; none = the prompt that the policy gets.
    pub prompt_template: Option<PathBuf>,
    /// Sampling seed; none = the run's.
    pub seed: Option<u64>,
    /// Requests a minute at most.
    pub requests_per_minute: Option<f64>,
    /// Price of a million input tokens.
    pub price_per_million_input_tokens: f64,
    /// Price of a million output tokens.
    pub price_per_million_output_tokens: f64,
    /// No further request once this much is spent, in the price's currency.
    pub max_cost: Option<f64>,
    /// What a failure beyond all retries does.
    pub on_teacher_failure: OnTeacherFailure,
    /// Failures in a row after which the model is left alone.
    pub max_consecutive_failures: usize,
}

/// Reads `external`.
pub(crate) const LIST: Kind = Kind::List(&Kind::Custom {
    description: "a table with `name`, one of `path`, `model_name_or_path`, `base_url` and `column`, and options",
    read: read_entry,
    write: write_entry,
});

#[rustfmt::skip] // One key a line: this is a table.
static ENTRY: &[Key] = &[
    key("name", Kind::Text, REQUIRED, "Name of the external model in every log."),
    key("num_actions", Kind::Count(1, 1024), "1", "Actions per prompt."),
    key("weight", AMOUNT, "1", "Factor of its actions' part of the loss."),
];

#[rustfmt::skip] // One key a line: this is a table.
static RECORDED: &[Key] = &[key("path", Kind::Path, REQUIRED, "JSONL file of recorded actions.")];

#[rustfmt::skip] // One key a line: this is a table.
static COLUMN: &[Key] = &[key("column", Kind::Text, REQUIRED, "Column of the data set that holds actions.")];

#[rustfmt::skip] // One key a line: this is a table.
static LOCAL: &[Key] = &[
    key("model_name_or_path", Kind::Path, REQUIRED, "Checkpoint folder of a local model."),
    key("top_k", Kind::Count(0, STEPS), "0", "Keep this many tokens; 0 = all."),
    key("dtype", Kind::Choice(Dtype::NAMES), "auto", "How its weights are held; auto = as in the file."),
    key("load_in_4bit", Kind::Bool, "false", "Hold its matrices in 4 bits."),
    key("load_in_8bit", Kind::Bool, "false", "Hold its matrices in 8 bits."),
    key("quantize_embeddings", Kind::Bool, "false", "Hold its embedding table and output head in 8 bits."),
];

/// Keys of everything that samples.
#[rustfmt::skip] // One key a line: this is a table.
static SAMPLING: &[Key] = &[
    key("temperature", Kind::Optional(&TEMPERATURE_OR_GREEDY), "null", "1 if several actions, else 0.2; 0 = greedy."),
    key("top_p", NUCLEUS, "1", "Keep the most probable tokens up to this probability."),
    key("max_tokens", Kind::Count(1, TOKENS), "1024", "Tokens of one action at most."),
];

#[rustfmt::skip] // One key a line: this is a table.
static ENDPOINT: &[Key] = &[
    key("base_url", ADDRESS, REQUIRED, "Address of an OpenAI-compatible server, with or without /v1."),
    key("model", Kind::Text, REQUIRED, "The model's name on that server."),
    key("api_key_env", Kind::Optional(&VARIABLE), "null", "Environment variable that holds the key."),
    key("timeout_s", SECONDS, "120", "Seconds that one request may take."),
    key("max_retries", Kind::Count(0, 1000), "5", "Attempts after the first one."),
    key("max_concurrency", Kind::Count(1, 1024), "8", "Requests at a time."),
    key("logprobs", Kind::Bool, "false", "Ask for the log-probability of each token."),
    key("reasoning", Kind::Choice(Reasoning::NAMES), "think", "Thoughts that the server gives apart: think = in <think> tags before the answer, drop, as_is."),
    key("prompt_template", Kind::Optional(&Kind::Path), "null", "File with a prompt template of its own."),
    key("seed", Kind::Optional(&Kind::Count(0, SEED)), "null", "Sampling seed; null = the run's."),
    key("requests_per_minute", Kind::Optional(&from_to(1e-3, 1e6)), "null", "Requests a minute at most."),
    key("price_per_million_input_tokens", AMOUNT, "0", "Price of a million input tokens."),
    key("price_per_million_output_tokens", AMOUNT, "0", "Price of a million output tokens."),
    key("max_cost", Kind::Optional(&from_to(0.0, 1e9)), "null", "No further request once this much is spent."),
    key("on_teacher_failure", Kind::Choice(OnTeacherFailure::NAMES), "skip", "What a failure beyond all retries does."),
    key("max_consecutive_failures", Kind::Count(1, STEPS), "10", "Failures in a row after which the model is left alone."),
];

/// The keys that say what kind of source an entry is, with the keys that such an entry has besides [`ENTRY`].
static KINDS: [(&str, &[&[Key]]); 4] = [
    ("path", &[RECORDED]),
    ("model_name_or_path", &[LOCAL, SAMPLING]),
    ("base_url", &[ENDPOINT, SAMPLING]),
    ("column", &[COLUMN]),
];

/// The address of a server, without a key in it: addresses are printed and saved.
const ADDRESS: Kind = Kind::Custom {
    description: "the address of a server, such as http://localhost:8000",
    read: read_address,
    write: Value::clone,
};

/// The name of an environment variable, and not what it holds.
const VARIABLE: Kind = Kind::Custom {
    description: "the name of an environment variable, such as OPENAI_API_KEY",
    read: read_variable,
    write: Value::clone,
};

fn read_address(value: &Value) -> Result<Value, Fault> {
    let text = value.as_str().filter(|text| !text.trim().is_empty());
    let text = text.ok_or_else(|| Fault::expected(value, &ADDRESS.description()))?;
    let after_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let host = after_scheme
        .split(['/', '?', '#'])
        .next()
        .unwrap_or_default();
    let problem = if host.contains('@') {
        "holds a user name or a password before the host"
    } else if secret::scrubbed(text) != text {
        "holds what looks like a key"
    } else {
        return Ok(value.clone());
    };
    Err(Fault {
        within: String::new(),
        problem: format!("{problem}; it is not shown"),
        hint: Some(
            "leave it out, and name the variable that holds the key in `api_key_env`".to_owned(),
        ),
    })
}

fn read_variable(value: &Value) -> Result<Value, Fault> {
    let text = value.as_str().unwrap_or_default();
    if path::is_name(text) && !secret::is_random(text) {
        return Ok(value.clone());
    }
    Err(Fault {
        within: String::new(),
        problem: "is no name of an environment variable; what was found is not shown".to_owned(),
        hint: Some(
            "export the key under a name, and give the name without `$`: api_key_env: OPENAI_API_KEY".to_owned(),
        ),
    })
}

/// Paths as [`path::written`] writes them; every other value reads back as it is.
fn write_entry(value: &Value) -> Value {
    let mut written = value.clone();
    for key in [RECORDED, LOCAL, ENDPOINT].into_iter().flatten() {
        if let Some(value) = written.get_mut(key.name) {
            *value = key.kind.written(value);
        }
    }
    written
}

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
    written.retain(|name, value| !(value.is_null() && KINDS.iter().any(|(kind, _)| kind == name)));
    let present: Vec<_> = KINDS
        .iter()
        .filter(|(kind, _)| written.contains_key(*kind))
        .collect();
    let [(kind, keys)] = present[..] else {
        return Err(not_one_kind(
            value,
            &present.iter().map(|(kind, _)| *kind).collect::<Vec<_>>(),
        ));
    };
    sampling_of_a_file(&written, kind)?;
    let tables: Vec<&[Key]> = [ENTRY].into_iter().chain(keys.iter().copied()).collect();
    let mut entry = table(&written, &tables)?;
    check_name(&entry)?;
    let is_on = |name: &str| entry.get(name) == Some(&Value::Bool(true));
    if is_on("load_in_4bit") && is_on("load_in_8bit") {
        return Err(Fault {
            within: ".load_in_8bit".to_owned(),
            problem: "is true, and `load_in_4bit` is true; matrices are held in one way".to_owned(),
            hint: Some("keep one of them".to_owned()),
        });
    }
    if entry.get("temperature").is_some_and(Value::is_null) {
        let several = entry["num_actions"].as_u64() > Some(1);
        entry.insert(
            "temperature".to_owned(),
            json!(if several { 1.0 } else { 0.2 }),
        );
    }
    Ok(Value::Object(entry))
}

fn not_one_kind(value: &Value, present: &[&str]) -> Fault {
    let found = if present.is_empty() {
        "none".to_owned()
    } else {
        present.join(" and ")
    };
    let problem = format!(
        "is {}; expected one of `path`, `model_name_or_path`, `base_url` and `column`, found {found}",
        shown(value)
    );
    let hint = "`path` is a JSONL file of recorded actions, `model_name_or_path` a local checkpoint folder, `base_url` \
                an OpenAI-compatible server, `column` a column of the data set";
    Fault {
        within: String::new(),
        problem,
        hint: Some(hint.to_owned()),
    }
}

/// Sampling keys say nothing about actions that exist already.
fn sampling_of_a_file(written: &Map<String, Value>, kind: &str) -> Result<(), Fault> {
    let sampling = || SAMPLING.iter().chain(LOCAL).chain(ENDPOINT);
    let found = sampling().find(|key| written.contains_key(key.name));
    match found {
        Some(key) if ["path", "column"].contains(&kind) => Err(Fault {
            within: format!(".{}", key.name),
            problem: "has no meaning for actions that are recorded already".to_owned(),
            hint: Some("remove it".to_owned()),
        }),
        _ => Ok(()),
    }
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
                weight: 1.0,
                source: recorded
            }
        );
        let local = ExternalSource::Local(Local {
            model_name_or_path: "m".into(),
            temperature: 1.0,
            top_p: 1.0,
            top_k: 5,
            max_tokens: 1024,
            format: WeightFormat::default(),
        });
        assert_eq!(
            run.group.external[1],
            External {
                name: "local".into(),
                num_actions: 2,
                weight: 1.0,
                source: local
            }
        );
    }

    #[test]
    fn a_local_model_holds_its_weights_in_its_own_way() {
        let entry = "external: [{name: big, model_name_or_path: m";
        let run = train(&format!(
            "{entry}, load_in_4bit: true, dtype: bfloat16, quantize_embeddings: true}}]"
        ));
        let ExternalSource::Local(local) = &run.group.external[0].source else {
            panic!("{:?}", run.group.external)
        };
        assert_eq!(local.format.matrices(), crate::options::Held::FourBit);
        assert_eq!(local.format.plain(), crate::options::Held::Bfloat16);
        assert_eq!(run.model.weight_format(), WeightFormat::default());
        for (options, part) in [
            (
                "load_in_4bit: true, load_in_8bit: true",
                "`external[0].load_in_8bit` is true, and `load_in_4bit` is true",
            ),
            ("dtype: int8", "expected one of auto, float32"),
        ] {
            let text = message(&format!("{entry}, {options}}}]"));
            assert!(text.contains(part) && text.contains("\nhint: "), "{text}");
        }
        let text = message("external: [{name: a, path: p, load_in_4bit: true}]");
        assert!(
            text.contains("has no meaning for actions that are recorded"),
            "{text}"
        );
    }

    #[test]
    fn one_action_of_a_local_model_is_drawn_cold() {
        let run = train("external: [{name: a, model_name_or_path: m}]");
        assert!(matches!(
            run.group.external[0].source,
            ExternalSource::Local(Local {
                temperature: 0.2,
                ..
            })
        ));
    }

    #[test]
    fn an_endpoint_has_the_documented_defaults() {
        let run = train(
            "external: [{name: gpt, base_url: 'http://localhost:8000', model: m, weight: 0.5}]",
        );
        let ExternalSource::Endpoint(endpoint) = &run.group.external[0].source else {
            panic!("{:?}", run.group.external)
        };
        assert_eq!(
            (
                endpoint.temperature,
                endpoint.max_tokens,
                endpoint.max_retries
            ),
            (0.2, 1024, 5)
        );
        assert_eq!((endpoint.timeout_s, endpoint.max_concurrency), (120.0, 8));
        assert_eq!(
            (endpoint.on_teacher_failure, endpoint.max_cost),
            (OnTeacherFailure::Skip, None)
        );
        assert_eq!(run.group.external[0].weight, 0.5);
        let column = train("external: [{name: trace, column: target}]");
        let source = ExternalSource::Column {
            column: "target".into(),
        };
        assert_eq!(column.group.external[0].source, source);
    }

    #[test]
    fn entries_that_cannot_be_are_refused_with_their_place() {
        for (entry, part) in [
            (
                "{name: a, base_url: http://x}",
                "`external[0].model` is missing",
            ),
            (
                "{name: a, model: gpt, base_url: http://x, api_key: sk-1}",
                "`external[0].api_key` is not a known key\nhint: the nearest known key is `api_key_env`",
            ),
            ("{name: a, column: c, path: p}", "found path and column"),
            (
                "{name: a, path: p, timeout_s: 3}",
                "has no meaning for actions that are recorded",
            ),
            ("{name: a}", "found none\nhint: `path` is a JSONL file"),
            (
                "{name: a, path: p, model_name_or_path: m}",
                "found path and model_name_or_path",
            ),
            (
                "{name: a, path: p, top_p: 0.9}",
                "`external[0].top_p` has no meaning for actions that are recorded",
            ),
            (
                "{name: a, path: p, num_action: 2}",
                "`external[0].num_action` is not a known key\nhint: the nearest known key is `num_actions`",
            ),
            ("{path: p}", "`external[0].name` is missing"),
            (
                "{name: a, path: p, num_action: 2, wight: 1}",
                "`external[0]` has 2 unknown keys: `num_action` (nearest: `num_actions`), `wight` (nearest: `weight`)",
            ),
            ("{name: policy, path: p}", "and not `policy`"),
            ("{name: a/b, path: p}", "expected letters"),
            (
                "{name: a, path: p, num_actions: 0}",
                "`external[0].num_actions` is 0; expected a whole number from 1 to 1024",
            ),
            ("gpt-4o", "is \"gpt-4o\"; expected a table"),
            (
                "{name: a, model: m, base_url: 'http://x', api_key_env: sk-live-0123456789abcdef}",
                "`external[0].api_key_env` is no name of an environment variable",
            ),
            (
                "{name: a, model: m, base_url: 'http://x', api_key_env: $OPENAI_API_KEY}",
                "give the name without `$`",
            ),
            (
                "{name: a, model: m, base_url: 'http://u:sk-live-0123456789abcdef@x'}",
                "`external[0].base_url` holds a user name or a password",
            ),
            (
                "{name: a, model: m, base_url: 'http://x/sk-live-0123456789abcdef/v1'}",
                "`external[0].base_url` holds what looks like a key",
            ),
            (
                "{name: a, api_key: 0123456789, base-url: 'http://x', model: m}",
                "found none",
            ),
            (
                "{name: sk-live-0123456789abcdef, path: p}",
                "`external[0].name` holds what looks like the key of a service",
            ),
        ] {
            let text = message(&format!("external: [{entry}]"));
            assert!(text.contains(part), "{entry}: {text}");
            assert!(!text.contains("0123456789"), "{entry}: {text}");
        }
    }
}
