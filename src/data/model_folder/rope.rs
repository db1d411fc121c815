//! The rotary positions that config.json asks for: base, sections, and scaling for long contexts.
//!
//! Follows `convert_rope_params_to_dict` of transformers' `configuration_qwen2_vl.py` and `modeling_rope_utils.py`. What is
//! not computed here is refused by name. Knows nothing of angles or tensors.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::error::ModelFileError;
use super::json::shown;
use super::section::{Section, same};

/// What a context length may be, in tokens.
pub(super) const POSITIONS: RangeInclusive<usize> = 1..=1 << 24;

/// How the text model's rotary frequencies come about.
#[derive(Debug, Clone, PartialEq)]
pub struct Rope {
    /// Base of the frequencies.
    pub theta: f64,
    /// How many of the E/2 frequencies turn with the temporal, height and width position.
    pub section: [usize; 3],
    /// How they are stretched.
    pub scaling: RopeScaling,
}

/// How rotary frequencies are stretched for contexts longer than those of the pretraining.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    Plain,
    /// All by one factor.
    Linear {
        /// How much longer contexts become.
        factor: f64,
    },
    /// YaRN (arXiv 2309.00071): slow frequencies by the factor, fast ones not at all.
    Yarn {
        /// How much longer contexts become.
        factor: f64,
        /// Multiplies cosines and sines.
        attention_factor: f64,
        /// Turns over the original context from which on a frequency is fast.
        beta_fast: f64,
        /// Turns up to which it is slow.
        beta_slow: f64,
        /// Tokens of the original context.
        original: f64,
        /// Whether the bounds between slow and fast are rounded to whole frequencies.
        truncate: bool,
    },
}

/// Keys of the object that are read here; transformers warns of others and ignores them.
const KNOWN: [&str; 16] = [
    "rope_theta",
    "rope_type",
    "type",
    "mrope_section",
    "factor",
    "original_max_position_embeddings",
    "attention_factor",
    "beta_fast",
    "beta_slow",
    "mscale",
    "mscale_all_dim",
    "truncate",
    "partial_rotary_factor",
    "mrope_interleaved",
    "low_freq_factor",
    "high_freq_factor",
];

impl Rope {
    /// Reads `rope_scaling` or `rope_parameters` of the text model's keys, and its `rope_theta`.
    ///
    /// # Errors
    /// [`ModelFileError::Key`] for a kind that is not computed here, numbers that make no sense, and two keys that
    /// disagree.
    pub(super) fn read(text: &Section<'_>) -> Result<Self, ModelFileError> {
        let scaling = object(text, "rope_scaling")?;
        let parameters = object(text, "rope_parameters")?;
        // transformers: `rope_scaling or rope_parameters`.
        let (name, map) = match (scaling, parameters) {
            (Some(map), _) => ("rope_scaling", Some(map)),
            (None, map) => ("rope_parameters", map),
        };
        let empty = Map::new();
        let rope = Self::of_object(text, name, map.unwrap_or(&empty))?;
        if let (Some(_), Some(other)) = (scaling, parameters)
            && Self::of_object(text, "rope_parameters", other)? != rope
        {
            let expected = "the same as `rope_scaling`".to_owned();
            return Err(text.refused("rope_parameters", expected, "remove the one that is wrong"));
        }
        Ok(rope)
    }

    fn of_object(
        text: &Section<'_>,
        name: &str,
        map: &Map<String, Value>,
    ) -> Result<Self, ModelFileError> {
        let defaults = Map::new();
        let rope = Section {
            path: text.path,
            prefix: format!("{}{name}.", text.prefix),
            map,
            defaults: &defaults,
        };
        let unknown: Vec<&str> = map
            .keys()
            .map(String::as_str)
            .filter(|key| !KNOWN.contains(key))
            .collect();
        if !unknown.is_empty() {
            log::warn!(
                "{}: `{}{name}` has keys that no rotary embedding of Qwen2-VL reads: {}",
                text.path.display(),
                text.prefix,
                unknown.join(", ").escape_debug()
            );
        }
        for section in [text, &rope] {
            refuse_other_rotations(section)?;
        }
        Ok(Self {
            theta: theta(text, &rope)?,
            section: mrope_section(&rope)?,
            scaling: scaling(text, &rope)?,
        })
    }
}

/// The object under a key; null and an empty one count as absent, as in Python.
fn object<'a>(
    text: &Section<'a>,
    key: &str,
) -> Result<Option<&'a Map<String, Value>>, ModelFileError> {
    match text.written(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map).filter(|map| !map.is_empty())),
        Some(_) => Err(text.wrong(key, "an object".to_owned())),
    }
}

fn refuse_other_rotations(section: &Section<'_>) -> Result<(), ModelFileError> {
    match section.written("partial_rotary_factor") {
        None | Some(Value::Null) => {}
        Some(value) if value.as_f64() == Some(1.0) => {}
        Some(_) => {
            return Err(section.wrong("partial_rotary_factor", "1: whole heads turn".to_owned()));
        }
    }
    if section.flag("mrope_interleaved")? {
        let expected = "false: Qwen2-VL's sections are contiguous".to_owned();
        return Err(section.wrong("mrope_interleaved", expected));
    }
    Ok(())
}

fn theta(text: &Section<'_>, rope: &Section<'_>) -> Result<f64, ModelFileError> {
    match (rope.written("rope_theta"), text.written("rope_theta")) {
        (Some(inner), Some(outer)) if !same(inner, outer) => {
            let expected = format!("{}, as `{}rope_theta` says", shown(outer), text.prefix);
            Err(rope.refused("rope_theta", expected, "remove the one that is wrong"))
        }
        (Some(_), _) => rope.number_above("rope_theta", 1.0, 1e15),
        (None, _) => text.number_above("rope_theta", 1.0, 1e15),
    }
}

/// Source: `Qwen2VLRotaryEmbedding.__init__`, with its default.
fn mrope_section(rope: &Section<'_>) -> Result<[usize; 3], ModelFileError> {
    let Some(value) = rope.written("mrope_section") else {
        return Ok([16, 24, 24]);
    };
    let sizes: Option<Vec<usize>> = value
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
        .iter()
        .map(|size| {
            size.as_u64()
                .filter(|size| *size <= 1 << 16)?
                .try_into()
                .ok()
        })
        .collect();
    let sizes = sizes.and_then(|sizes| sizes.try_into().ok());
    sizes.ok_or_else(|| rope.wrong("mrope_section", "a list of three whole numbers".to_owned()))
}

fn scaling(text: &Section<'_>, rope: &Section<'_>) -> Result<RopeScaling, ModelFileError> {
    let key = if rope.written("rope_type").is_some() {
        "rope_type"
    } else {
        "type"
    };
    let plain = Value::from("default");
    let word = |key: &str| rope.written(key).unwrap_or(&plain);
    // `mrope` is an old word for `default`.
    let kind = |value: &Value| {
        value
            .as_str()
            .map(|word| if word == "mrope" { "default" } else { word }.to_owned())
    };
    if key == "rope_type" && rope.written("type").is_some() && kind(word("type")) != kind(word(key))
    {
        let expected = format!("{}, as `{}rope_type` says", shown(word(key)), rope.prefix);
        return Err(rope.refused("type", expected, "remove the one that is wrong"));
    }
    match kind(word(key)).as_deref() {
        Some("default") => Ok(RopeScaling::Plain),
        // Its frequencies change beyond `max_position_embeddings` only, which no prompt with its completion exceeds here.
        Some("dynamic") => rope
            .number_above("factor", 0.0, 1e6)
            .map(|_| RopeScaling::Plain),
        Some("linear") => Ok(RopeScaling::Linear {
            factor: rope.number_above("factor", 0.0, 1e6)?,
        }),
        Some("yarn") => yarn(text, rope),
        _ => {
            let expected = "`default`, `mrope`, `linear`, `dynamic` or `yarn`".to_owned();
            let hint = "this program computes no other rotary scaling; train with the model's original config.json";
            Err(rope.refused(key, expected, hint))
        }
    }
}

/// Source: `_compute_yarn_parameters` of transformers.
fn yarn(text: &Section<'_>, rope: &Section<'_>) -> Result<RopeScaling, ModelFileError> {
    const ORIGINAL: &str = "original_max_position_embeddings";
    let longest = text.size("max_position_embeddings", POSITIONS)? as f64;
    let original = match (text.written(ORIGINAL), rope.written(ORIGINAL)) {
        (Some(outer), Some(inner)) if !same(outer, inner) => {
            let expected = format!("{}, as `{}{ORIGINAL}` says", shown(outer), text.prefix);
            return Err(rope.refused(ORIGINAL, expected, "remove the one that is wrong"));
        }
        (Some(_), _) => text.number_above(ORIGINAL, 0.0, 1e9)?,
        (None, Some(_)) => rope.number_above(ORIGINAL, 0.0, 1e9)?,
        (None, None) => longest,
    };
    let factor = match rope.written("factor") {
        Some(Value::Null) => longest / original,
        _ => rope.number_above("factor", 0.0, 1e6)?,
    };
    // Python's `or`: null and 0 mean the default.
    let or = |key: &str, default: f64| match rope.written(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) if value.as_f64() == Some(0.0) => Ok(default),
        Some(_) => rope.number_above(key, 0.0, 1e6),
    };
    let scale = |of: f64| {
        if factor <= 1.0 {
            1.0
        } else {
            0.1 * of * factor.ln() + 1.0
        }
    };
    let (numerator, denominator) = (or("mscale", 0.0)?, or("mscale_all_dim", 0.0)?);
    let recommended = if numerator > 0.0 && denominator > 0.0 {
        scale(numerator) / scale(denominator)
    } else {
        scale(1.0)
    };
    Ok(RopeScaling::Yarn {
        factor,
        attention_factor: match rope.written("attention_factor") {
            None | Some(Value::Null) => recommended,
            Some(_) => rope.number_above("attention_factor", 0.0, 1e6)?,
        },
        beta_fast: or("beta_fast", 32.0)?,
        beta_slow: or("beta_slow", 1.0)?,
        original,
        truncate: rope.written("truncate").is_none() || rope.flag("truncate")?,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;

    fn read(keys: Value) -> Result<Rope, String> {
        let map = keys.as_object().expect("an object");
        let text = Section {
            path: Path::new("config.json"),
            prefix: String::new(),
            map,
            defaults: super::super::text_shape::defaults(),
        };
        Rope::read(&text).map_err(|error| error.to_string())
    }

    fn yarn_with(extra: Value) -> RopeScaling {
        let mut rope = json!({"type": "yarn", "factor": 4, "mrope_section": [2, 3, 3]});
        let keys = rope.as_object_mut().expect("an object");
        keys.extend(extra.as_object().expect("an object").clone());
        read(json!({"rope_scaling": rope})).expect("yarn").scaling
    }

    #[test]
    fn absent_keys_take_the_defaults() {
        let plain = Rope {
            theta: 1e6,
            section: [16, 24, 24],
            scaling: RopeScaling::Plain,
        };
        for keys in [
            json!({}),
            json!({"rope_scaling": null, "rope_parameters": {}}),
            json!({"rope_scaling": {"type": "mrope"}}),
            json!({"rope_scaling": {"type": "mrope", "rope_type": "default"}}),
            json!({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}),
            json!({"rope_scaling": {"rope_theta": 1e6, "partial_rotary_factor": 1.0}, "rope_theta": 1_000_000}),
            json!({"rope_scaling": {"type": "mrope"}, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
        ] {
            assert_eq!(read(keys.clone()), Ok(plain.clone()), "{keys}");
        }
        let keys = json!({"rope_theta": 5.0, "rope_parameters": {"mrope_section": [2, 3, 3]}});
        assert_eq!(
            read(keys),
            Ok(Rope {
                theta: 5.0,
                section: [2, 3, 3],
                scaling: RopeScaling::Plain
            })
        );
    }

    #[test]
    fn yarn_takes_the_defaults_of_transformers() {
        let RopeScaling::Yarn {
            factor,
            attention_factor,
            beta_fast,
            beta_slow,
            original,
            truncate,
        } = yarn_with(json!({}))
        else {
            panic!("yarn")
        };
        assert_eq!(
            (factor, beta_fast, beta_slow, original, truncate),
            (4.0, 32.0, 1.0, 32_768.0, true)
        );
        // 0.1 ln 4 + 1
        assert!(
            (attention_factor - 1.138_629_436_111_989).abs() < 1e-15,
            "{attention_factor}"
        );
        let given = yarn_with(json!({
            "attention_factor": 1.5, "beta_fast": 16, "beta_slow": null, "truncate": false,
            "original_max_position_embeddings": 1024, "factor": null
        }));
        let expected = RopeScaling::Yarn {
            factor: 32.0,
            attention_factor: 1.5,
            beta_fast: 16.0,
            beta_slow: 1.0,
            original: 1024.0,
            truncate: false,
        };
        assert_eq!(given, expected);
        let RopeScaling::Yarn {
            attention_factor, ..
        } = yarn_with(json!({"mscale": 2.0, "mscale_all_dim": 1.0}))
        else {
            panic!("yarn")
        };
        // (0.2 ln 4 + 1) / (0.1 ln 4 + 1)
        assert!(
            (attention_factor - 1.121_751_143_713_058).abs() < 1e-12,
            "{attention_factor}"
        );
    }

    #[test]
    fn what_is_not_computed_or_contradicts_itself_is_named() {
        for (keys, words) in [
            (
                json!({"rope_scaling": {"type": "longrope"}}),
                "`rope_scaling.type` is \"longrope\"; expected `default`",
            ),
            (
                json!({"rope_parameters": {"rope_type": "llama3"}}),
                "`rope_parameters.rope_type` is \"llama3\"",
            ),
            (
                json!({"rope_scaling": {"type": "yarn"}}),
                "`rope_scaling.factor` is left out",
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": -1}}),
                "`rope_scaling.factor` is -1; expected a number above 0",
            ),
            (
                json!({"rope_scaling": {"type": "yarn", "rope_type": "default"}}),
                "`rope_scaling.type` is \"yarn\"; expected \"default\", as",
            ),
            (
                json!({"rope_scaling": {"rope_theta": 2}, "rope_theta": 3}),
                "`rope_scaling.rope_theta` is 2; expected 3, as `rope_theta` says",
            ),
            (
                json!({"rope_scaling": {"type": "linear", "factor": 2}, "rope_parameters": {"rope_type": "default"}}),
                "`rope_parameters` is",
            ),
            (
                json!({"rope_theta": 0}),
                "`rope_theta` is 0; expected a number above 1",
            ),
            (json!({"rope_theta": "1e6"}), "`rope_theta` is \"1e6\""),
            (
                json!({"rope_scaling": {"mrope_section": [16, 24]}}),
                "`rope_scaling.mrope_section` is [16,24]; expected a list of three",
            ),
            (
                json!({"rope_scaling": {"mrope_section": [1, 2, -3]}}),
                "`rope_scaling.mrope_section`",
            ),
            (
                json!({"rope_scaling": {"mrope_section": [1, 2, 9_223_372_036_854_775_808_u64]}}),
                "`rope_scaling.mrope_section`",
            ),
            (
                json!({"rope_scaling": {"mrope_interleaved": true}}),
                "`rope_scaling.mrope_interleaved` is true",
            ),
            (
                json!({"partial_rotary_factor": 0.5}),
                "`partial_rotary_factor` is 0.5; expected 1",
            ),
            (
                json!({"rope_scaling": "yarn"}),
                "`rope_scaling` is \"yarn\"; expected an object",
            ),
            (
                json!({"rope_scaling": {"type": "yarn", "factor": 2, "original_max_position_embeddings": 5}, "original_max_position_embeddings": 6}),
                "expected 6, as `original_max",
            ),
        ] {
            let text = read(keys.clone()).expect_err("refused");
            assert!(text.contains(words), "{keys}: {text}");
            assert!(
                text.contains("config.json: ") && text.contains("\nhint: "),
                "{text}"
            );
        }
    }
}
