//! YAML text and values, one into the other: the only place that knows YAML.

use std::fmt;
use std::io::Read;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Longest file: a configuration is read by people.
const LONGEST: u64 = 1 << 20;

/// The text of a file that a person wrote; pipes and devices are refused, because they may never end.
///
/// # Errors
/// What the file is instead, or the system's words.
pub fn read_text(path: &Path) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let found = std::fs::metadata(path).map_err(said)?;
    if found.is_dir() {
        return Err("it is a folder".to_owned());
    }
    if !found.is_file() {
        return Err("it is a pipe or a device; save the text to a file first".to_owned());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(said)?;
    file.take(LONGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(said)?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!(
            "it is longer than {LONGEST} bytes, too long for a text that people write"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is no UTF-8 text".to_owned())?;
    Ok(text
        .strip_prefix('\u{feff}')
        .map_or(text.clone(), str::to_owned))
}

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
        .map_err(|error| error.to_string())
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

    #[test]
    fn what_is_no_file_of_a_person_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        std::fs::write(&path, b"\xef\xbb\xbfbeta: 1\r\n").unwrap();
        assert_eq!(read_text(&path).unwrap(), "beta: 1\r\n");
        std::fs::write(&path, vec![b'a'; (1 << 20) + 1]).unwrap();
        assert!(
            read_text(&path)
                .unwrap_err()
                .contains("longer than 1048576 bytes")
        );
        std::fs::write(&path, b"\xff\xfeb").unwrap();
        assert!(read_text(&path).unwrap_err().contains("no UTF-8"));
        assert!(read_text(folder.path()).unwrap_err().contains("a folder"));
        #[cfg(unix)]
        assert!(
            read_text(Path::new("/dev/zero"))
                .unwrap_err()
                .contains("a device")
        );
    }
}
