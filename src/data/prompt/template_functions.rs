//! The functions and filters that transformers gives chat templates beside Jinja's own.
//!
//! Knows nothing of messages; it mimics Python's `json.dumps`, `strftime` and `raise`.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Serialize;
use serde_json::ser::Formatter;

/// Longest prompt as text, in bytes: no context holds as much.
pub(super) const LONGEST_TEXT: usize = 8 << 20;

/// Spaces per level of JSON.
const MOST_INDENT: usize = 64;

/// Adds `raise_exception`, `strftime_now` and the plain `tojson` (Jinja's own escapes HTML).
///
/// Source: `_cached_compile_jinja_template` of transformers' `chat_template_utils.py`.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
}

/// Python's methods of strings, lists and dictionaries. They are paid for before they are called: the engine only counts
/// what they give back.
pub(super) fn python_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Result<Value, Error> {
    const BYTES_PER_FUEL: u64 = 64;
    let bytes = |value: &Value| value.as_str().map_or(0, |text| text.len() as u64);
    let own = bytes(value);
    let made = match (method, arguments) {
        ("replace", [old, new, ..]) => {
            let (text, old) = (
                value.as_str().unwrap_or_default(),
                old.as_str().unwrap_or_default(),
            );
            (text.matches(old).count() as u64).saturating_mul(bytes(new))
        }
        ("join", [items, ..]) => joined(own, items),
        ("format", arguments) => {
            let text = value.as_str().unwrap_or_default();
            let widest: u64 = arguments.iter().map(|value| bytes(value).max(32)).sum();
            let places = text.matches('{').count() as u64;
            places.saturating_mul(widest).saturating_add(widths(text))
        }
        _ => 0,
    };
    state.consume_fuel(own.saturating_add(made) / BYTES_PER_FUEL)?;
    unknown_method_callback(state, value, method, arguments)
}

/// Bytes of the items with `between` bytes around each.
fn joined(between: u64, items: &Value) -> u64 {
    let Ok(items) = items.try_iter() else {
        return 0;
    };
    let mut sum: u64 = 0;
    for item in items {
        let length = item.as_str().map_or(16, |text| text.len() as u64);
        sum = sum.saturating_add(length).saturating_add(between);
        if sum > LONGEST_TEXT as u64 {
            break;
        }
    }
    sum
}

/// The sum of all numbers in a format string: its widths and precisions at most.
fn widths(text: &str) -> u64 {
    let numbers = text.split(|letter: char| !letter.is_ascii_digit());
    numbers
        .filter(|number| !number.is_empty())
        .fold(0, |sum: u64, number| {
            sum.saturating_add(number.parse().unwrap_or(u64::MAX))
        })
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message))
}

/// `json.dumps` with `ensure_ascii`, `indent`, `separators` and `sort_keys`.
fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    options.assert_all_used()?;
    let after_item = if indent.is_some() { "," } else { ", " };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        None => (after_item.to_owned(), ": ".to_owned()),
        Some(_) => {
            let detail = "tojson: `separators` takes two strings";
            return Err(Error::new(ErrorKind::InvalidOperation, detail));
        }
    };
    if indent.is_some_and(|indent| indent > MOST_INDENT) {
        let detail = format!("tojson: `indent` takes at most {MOST_INDENT}");
        return Err(Error::new(ErrorKind::InvalidOperation, detail));
    }
    let formatter = PythonFormatter {
        indent,
        item,
        key,
        depth: 0,
        has_entries: false,
    };
    let text = if sort_keys == Some(true) {
        let plain = written(&value, serde_json::ser::CompactFormatter)?;
        let mut sorted: serde_json::Value = serde_json::from_str(&plain).map_err(unusable)?;
        sorted.sort_all_objects();
        written(&sorted, formatter)?
    } else {
        written(&value, formatter)?
    };
    Ok(if ensure_ascii == Some(true) {
        escape_non_ascii(&text)
    } else {
        text
    })
}

fn unusable(error: serde_json::Error) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"))
}

/// A value as JSON, which ends with an error where it gets longer than any prompt.
fn written(value: &impl Serialize, formatter: impl Formatter) -> Result<String, Error> {
    let mut output = Limited(Vec::new());
    let mut serializer = serde_json::Serializer::with_formatter(&mut output, formatter);
    value.serialize(&mut serializer).map_err(unusable)?;
    Ok(String::from_utf8_lossy(&output.0).into_owned())
}

/// Text up to the longest prompt.
pub(super) struct LimitedText(pub(super) String);

impl std::fmt::Write for LimitedText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > LONGEST_TEXT {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// Bytes up to the longest prompt.
struct Limited(Vec<u8>);

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LONGEST_TEXT {
            return Err(io::Error::other("longer than any prompt"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `\uXXXX` for everything beyond ASCII; in JSON that can only stand inside strings.
fn escape_non_ascii(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_ascii() {
            escaped.push(character);
            continue;
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            escaped.push_str(&format!("\\u{unit:04x}"));
        }
    }
    escaped
}

/// Python's spacing: `", "` and `": "`, or lines when indented.
struct PythonFormatter {
    indent: Option<usize>,
    item: String,
    key: String,
    depth: usize,
    has_entries: bool,
}

impl PythonFormatter {
    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_entries = false;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if self.has_entries {
            self.new_line(writer)?;
        }
        self.has_entries = true;
        writer.write_all(bracket)
    }

    fn entry<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.has_entries = true;
        self.new_line(writer)
    }

    fn new_line<W: ?Sized + Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => write!(writer, "\n{:1$}", "", indent * self.depth),
            None => Ok(()),
        }
    }
}

impl Formatter for PythonFormatter {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.entry(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
}

fn strftime_now(format: String) -> Result<String, Error> {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = elapsed.map_or(0, |elapsed| elapsed.as_secs());
    strftime(&format, seconds).map_err(|detail| Error::new(ErrorKind::InvalidOperation, detail))
}

/// Python's `strftime` in UTC.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    let moment = jiff::Timestamp::from_second(seconds).map_err(|error| error.to_string())?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &moment).map_err(|error| format!("strftime_now: {error}"))
}

#[cfg(test)]
mod tests {
    use minijinja::value::Serde;

    use super::*;

    fn rendered(template: &str) -> Result<String, Error> {
        let mut environment = Environment::new();
        register(&mut environment);
        let value = serde_json::json!({"b": [1, "<é🙂>"], "a": {}, "c": 2.5});
        environment.render_str(template, minijinja::context! { value => Serde(value) })
    }

    #[test]
    fn json_has_python_s_spacing_and_no_html_escapes() {
        let text = rendered("{{ value|tojson }}").expect("JSON");
        assert_eq!(text, r#"{"b": [1, "<é🙂>"], "a": {}, "c": 2.5}"#);
        let text = rendered("{{ value|tojson(sort_keys=true, ensure_ascii=true) }}").expect("JSON");
        assert_eq!(
            text,
            r#"{"a": {}, "b": [1, "<\u00e9\ud83d\ude42>"], "c": 2.5}"#
        );
        let text = rendered("{{ value|tojson(separators=(',', ':')) }}").expect("JSON");
        assert_eq!(text, r#"{"b":[1,"<é🙂>"],"a":{},"c":2.5}"#);
    }

    #[test]
    fn indented_json_breaks_lines_like_python() {
        let text = rendered("{{ value|tojson(indent=2) }}").expect("JSON");
        let expected = "{\n  \"b\": [\n    1,\n    \"<é🙂>\"\n  ],\n  \"a\": {},\n  \"c\": 2.5\n}";
        assert_eq!(text, expected);
    }

    #[test]
    fn templates_can_refuse() {
        let error = rendered("{{ raise_exception('roles must alternate') }}").expect_err("raised");
        assert!(
            error.to_string().contains("roles must alternate"),
            "{error}"
        );
        let error = rendered("{{ value|tojson(colour=1) }}").expect_err("unknown option");
        assert!(error.to_string().contains("colour"), "{error}");
    }

    #[test]
    fn dates_are_civil() {
        // date -u -d @1709210096: Thu Feb 29 12:34:56 2024
        let text = strftime("%d %B %Y|%a %b|%H:%M:%S|%y%%", 1_709_210_096).expect("a date");
        assert_eq!(text, "29 February 2024|Thu Feb|12:34:56|24%");
        assert_eq!(
            strftime("%A %Y-%m-%d", 0).expect("a date"),
            "Thursday 1970-01-01"
        );
        assert_eq!(
            strftime("%Y-%m-%d", 4_107_542_399).expect("a date"),
            "2100-02-28"
        );
        let error = strftime("%!", 0).expect_err("unknown");
        assert!(error.contains("strftime_now: "), "{error}");
    }
}
