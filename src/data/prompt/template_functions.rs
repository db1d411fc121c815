//! The functions and filters that transformers gives chat templates beside Jinja's own.
//!
//! Knows nothing of messages; it mimics Python's `json.dumps`, `strftime` and `raise`.

use std::io::{self, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::Formatter;

/// Adds `raise_exception`, `strftime_now` and the plain `tojson` (Jinja's own escapes HTML).
///
/// Source: `_cached_compile_jinja_template` of transformers' `chat_template_utils.py`.
pub(super) fn register(environment: &mut Environment<'_>) {
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_filter("tojson", tojson);
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
    let unusable = |error: serde_json::Error| {
        Error::new(ErrorKind::BadSerialization, format!("tojson: {error}"))
    };
    let mut value = serde_json::to_value(&value).map_err(unusable)?;
    if sort_keys == Some(true) {
        value.sort_all_objects();
    }
    let formatter = PythonFormatter {
        indent,
        item,
        key,
        depth: 0,
        has_entries: false,
    };
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(unusable)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok(if ensure_ascii == Some(true) {
        escape_non_ascii(&text)
    } else {
        text
    })
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
            Some(indent) => write!(writer, "\n{}", " ".repeat(indent * self.depth)),
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

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Python's `strftime` in UTC, for the directives that dates in prompts use.
fn strftime(format: &str, seconds: u64) -> Result<String, String> {
    let days = seconds / 86_400;
    let (year, month, day) = civil_date(days);
    let weekday = WEEKDAYS[(days as usize + 3) % 7];
    let month_name = MONTHS[month as usize - 1];
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let mut text = String::new();
    let mut characters = format.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            text.push(character);
            continue;
        }
        match characters.next() {
            Some('Y') => text.push_str(&format!("{year:04}")),
            Some('y') => text.push_str(&format!("{:02}", year % 100)),
            Some('m') => text.push_str(&format!("{month:02}")),
            Some('d') => text.push_str(&format!("{day:02}")),
            Some('H') => text.push_str(&format!("{hour:02}")),
            Some('M') => text.push_str(&format!("{minute:02}")),
            Some('S') => text.push_str(&format!("{second:02}")),
            Some('B') => text.push_str(month_name),
            Some('b') => text.push_str(&month_name[..3]),
            Some('A') => text.push_str(weekday),
            Some('a') => text.push_str(&weekday[..3]),
            Some('%') => text.push('%'),
            other => {
                let directive = other.map(String::from).unwrap_or_default();
                return Err(format!(
                    "strftime_now: %{directive} is not one of %Y %y %m %d %H %M %S %B %b %A %a %%"
                ));
            }
        }
    }
    Ok(text)
}

/// Year, month and day of a day since 1970-01-01, by counting in 400-year cycles from March.
fn civil_date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let cycle = shifted / 146_097;
    let day_of_cycle = shifted % 146_097;
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year =
        day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = (month_from_march + 2) % 12 + 1;
    let year = cycle * 400 + year_of_cycle + u64::from(month <= 2);
    (year, month, day)
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
        let error = strftime("%Q", 0).expect_err("unknown");
        assert!(error.contains("%Q is not one of"), "{error}");
    }
}
