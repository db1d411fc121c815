//! YAML text and values, one into the other: the only place that knows YAML.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses YAML text, with YAML 1.2's booleans (`no` stays text) and no duplicate keys. Numbers that JSON lacks (`.nan`,
/// `.inf`, more than 64 bits) become text, which no key takes for a number. The parser limits depth, nodes and aliases.
///
/// # Errors
/// What the parser says, with line and column.
pub fn parse_yaml(text: &str) -> Result<Value, String> {
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::AsString,
    };
    let value: Result<Yaml, _> = serde_saphyr::from_str_with_options(text, options);
    value
        .map(|value| value.0)
        .map_err(|error| in_our_words(&error.to_string()))
}

/// The parser's message without advice for programmers.
fn in_our_words(message: &str) -> String {
    const WORDS: [(&str, &str); 5] = [
        (", set DuplicateKeyPolicy in Options if acceptable", ""),
        (
            "multiple YAML documents detected; use from_str_multiple or from_str_multiple_with_options",
            "several YAML documents (`---`), expected one",
        ),
        (
            "recursive references require weak recursion types",
            "an alias that refers to itself",
        ),
        (
            "recursion limit exceeded",
            "lists or tables that are nested too deep",
        ),
        ("budget breached: ", "more than any configuration needs: "),
    ];
    WORDS
        .iter()
        .fold(message.to_owned(), |text, (theirs, ours)| {
            text.replace(theirs, ours)
        })
}

/// A value as YAML text.
pub(super) fn yaml_text(value: &Value) -> Result<String, String> {
    serde_saphyr::to_string(value).map_err(|error| error.to_string())
}

struct Yaml(Value);

impl<'de> Deserialize<'de> for Yaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i128<E>(self, value: i128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_u128<E>(self, value: u128) -> Result<Value, E> {
        Ok(value.to_string().into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        let number = serde_json::Number::from_f64(value);
        Ok(number.map_or_else(|| value.to_string().into(), Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Yaml(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((key, Yaml(value))) = entries.next_entry::<String, Yaml>()? {
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_that_json_lacks_stay_visible() {
        let value =
            parse_yaml("a: .nan\nb: -.inf\nc: 18446744073709551615\nd: 1.5\ne: null\nf: ~\ng: no")
                .unwrap();
        assert!(value["a"].is_string() && value["b"].is_string(), "{value}");
        assert_eq!(
            (&value["d"], &value["e"], &value["f"]),
            (&json!(1.5), &Value::Null, &Value::Null)
        );
        assert_eq!(value["g"], json!("no"));
    }

    /// Bombs of aliases, of depth, of nodes; a file that names itself; two documents; a key twice.
    #[test]
    fn hostile_texts_are_refused_at_once() {
        let laughs: String =
            (1..12).fold("a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned(), |text, index| {
                let again = vec![format!("*a{}", index - 1); 9].join(",");
                text + &format!("a{index}: &a{index} [{again}]\n")
            });
        let deep: String = (0..5000)
            .map(|depth| format!("{}a:\n", "  ".repeat(depth)))
            .collect();
        for text in [
            laughs,
            format!("a: {}", "[".repeat(100_000)),
            format!("a: {}", "{a: ".repeat(50_000)),
            deep,
            "x: &x [*x]".to_owned(),
            "a: 1\na: 2".to_owned(),
            "a: 1\n---\nb: 2\n".to_owned(),
            "a: [1".to_owned(),
        ] {
            let start = Instant::now();
            assert!(
                parse_yaml(&text).is_err(),
                "{}",
                &text[..text.len().min(60)]
            );
            assert!(start.elapsed() < Duration::from_secs(5));
        }
    }
}
