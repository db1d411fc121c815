//! JSON in which no key stands twice, and values as messages show them.
//!
//! A parser that keeps the last of two equal keys would train a model that the file's reader does not see. Knows no key.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Longest value that a message repeats, in characters.
const SHOWN: usize = 60;

/// A value whose objects have each key once.
struct UniqueKeys(Value);

impl<'de> Deserialize<'de> for UniqueKeys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueKeys(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if map.contains_key(&key) {
                let key = key.escape_debug();
                return Err(A::Error::custom(format!("the key `{key}` stands twice")));
            }
            let UniqueKeys(value) = entries.next_value()?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

/// Parses JSON.
///
/// # Errors
/// What the parser says, also of a key that stands twice in one object.
pub(super) fn parse(text: &str) -> Result<Value, serde_json::Error> {
    serde_json::from_str(text).map(|UniqueKeys(value)| value)
}

/// A value as a message shows it: whole if it is short.
pub(crate) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// The kind of a value, in JSON's words.
pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_ordinary_parser() {
        let text =
            r#"{"b": [1, -2, 2.5, "x\n", null, true, {}], "a": {"a": 18446744073709551615}}"#;
        let ordinary: Value = serde_json::from_str(text).expect("JSON");
        assert_eq!(parse(text).expect("JSON"), ordinary);
        assert_eq!(parse(text).expect("JSON").to_string(), ordinary.to_string());
    }

    #[test]
    fn a_key_twice_is_refused_at_every_depth() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"b": [{"a": 1, "c": 2, "a": 3}]}"#,
            r#"{"a": 1, "\u0061": 2}"#,
        ] {
            let error = parse(text).expect_err("twice").to_string();
            assert!(error.contains("the key `a` stands twice"), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
        parse(r#"{"a": {"a": 1}, "b": {"a": 1}}"#).expect("once per object");
        assert!(parse(&"[".repeat(100_000)).is_err(), "depth is limited");
    }

    #[test]
    fn long_values_are_cut() {
        assert_eq!(shown(&Value::from(3)), "3");
        let long = shown(&Value::from("é".repeat(1000)));
        assert_eq!(long.chars().count(), SHOWN + 3);
    }
}
