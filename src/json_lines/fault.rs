//! What is wrong with a JSON text, in words that name the cause. It knows nothing of files.

use std::fmt;

/// Why a text is not the value that was expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// 1-based line of the text.
    pub line: usize,
    words: String,
}

impl Fault {
    pub(super) fn new(line: usize, words: String) -> Self {
        Self { line, words }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.words)
    }
}

/// The parser's error with its cause, where one of the usual ones is found.
pub(super) fn explain(text: &[u8], error: &serde_json::Error) -> Fault {
    let cause = (!error.is_data()).then(|| cause(text)).flatten();
    cause.unwrap_or_else(|| {
        let message = error.to_string();
        // The line is kept apart: of one text it is 1, of a list's element it counts from there.
        let words = match message.rsplit_once(" at line ") {
            Some((words, _)) => format!("{words} at column {}", error.column()),
            None => message,
        };
        Fault::new(error.line().max(1), words)
    })
}

/// The first thing that other programs write and JSON does not allow.
fn cause(text: &[u8]) -> Option<Fault> {
    if let Err(error) = std::str::from_utf8(text) {
        let place = error.valid_up_to();
        let words = format!(
            "not UTF-8: byte 0x{:02X} after {place} bytes; save the file as UTF-8 (it may be Latin-1 or Windows-1252)",
            text[place]
        );
        return Some(Fault::new(line_of(text, place), words));
    }
    let mut key: &[u8] = &[];
    let mut place = 0;
    while let Some(&byte) = text.get(place) {
        let rest = &text[place..];
        let length = match byte {
            b'"' => {
                let length = string_length(rest);
                if let Some(escape) = lone_surrogate(&rest[..length]) {
                    let words = format!(
                        "{escape} is a lone surrogate, half of a character that was cut in two; \
                         write the text again with `errors=\"replace\"`"
                    );
                    return Some(Fault::new(line_of(text, place), words));
                }
                key = &rest[1..length.max(2) - 1];
                length
            }
            b'\'' => {
                let words = "text in single quotes is Python, not JSON; write rows with json.dumps";
                return Some(Fault::new(line_of(text, place), words.to_owned()));
            }
            _ if byte.is_ascii_alphabetic() => {
                let word = word_at(rest);
                if let Some(words) = foreign_word(word, key) {
                    return Some(Fault::new(line_of(text, place), words));
                }
                word.len()
            }
            // The exponent of a number is no word.
            _ if byte.is_ascii_digit() => rest
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric())
                .count(),
            _ => 1,
        };
        place += length;
    }
    None
}

fn line_of(text: &[u8], place: usize) -> usize {
    1 + text[..place].iter().filter(|byte| **byte == b'\n').count()
}

/// Bytes of the string that begins here, its quotes included, or up to the end of the text.
fn string_length(text: &[u8]) -> usize {
    let mut escaped = false;
    let end = text.iter().skip(1).position(|byte| {
        let ends = *byte == b'"' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |end| end + 2)
}

fn word_at(text: &[u8]) -> &str {
    let length = text
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_')
        .count();
    std::str::from_utf8(&text[..length]).unwrap_or_default()
}

fn foreign_word(word: &str, key: &[u8]) -> Option<String> {
    let of_key = match std::str::from_utf8(key) {
        Ok(key) if !key.is_empty() && key.len() <= 60 => format!(" (after `{key}`)"),
        _ => String::new(),
    };
    match word {
        "true" | "false" | "null" => None,
        "NaN" | "nan" | "Infinity" | "inf" => Some(format!(
            "`{word}`{of_key} is not JSON; write null, or leave the key out"
        )),
        "None" | "True" | "False" => Some(format!(
            "`{word}`{of_key} is Python, not JSON; write rows with json.dumps"
        )),
        _ => None,
    }
}

/// The first `\uXXXX` of a string that is half of a pair.
fn lone_surrogate(string: &[u8]) -> Option<String> {
    let mut place = 0;
    while place < string.len() {
        if string[place] != b'\\' {
            place += 1;
            continue;
        }
        match code_unit(&string[place..]) {
            Some(0xd800..=0xdbff) => {
                let next = string.get(place + 6..).and_then(code_unit);
                if !matches!(next, Some(0xdc00..=0xdfff)) {
                    return shown(&string[place..]);
                }
                place += 12;
            }
            Some(0xdc00..=0xdfff) => return shown(&string[place..]),
            _ => place += 2,
        }
    }
    None
}

/// The number of the escape `\uXXXX` that begins here.
fn code_unit(text: &[u8]) -> Option<u32> {
    let digits = text.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

fn shown(text: &[u8]) -> Option<String> {
    Some(format!("`{}`", std::str::from_utf8(text.get(..6)?).ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::json_lines::parse;

    fn fault(text: &[u8]) -> (usize, String) {
        let fault = parse::<Value>(text).expect_err("no JSON");
        (fault.line, fault.to_string())
    }

    #[test]
    fn what_others_write_is_named() {
        for (text, line, words) in [
            (
                &br#"{"id": "a", "score": NaN}"#[..],
                1,
                "`NaN` (after `score`) is not JSON; write null",
            ),
            (
                b"{\"id\": 1,\n\"score\": -Infinity}",
                2,
                "`Infinity` (after `score`) is not JSON",
            ),
            (br#"[1e5, inf]"#, 1, "`inf` is not JSON"),
            (
                br#"{"NaN": "NaN \" NaN", "b": None}"#,
                1,
                "`None` (after `b`) is Python",
            ),
            (br#"{"a": True}"#, 1, "`True` (after `a`) is Python"),
            (br#"{'a': 1}"#, 1, "single quotes is Python"),
            (
                b"{\"a\":\n\n\"x \\ud83d y\"}",
                3,
                r"`\ud83d` is a lone surrogate",
            ),
            (br#"{"a": "\uDE00"}"#, 1, r"`\uDE00` is a lone surrogate"),
            (
                br#"{"a": "\ud83d\u0041"}"#,
                1,
                r"`\ud83d` is a lone surrogate",
            ),
            (
                b"{\"a\": \"caf\xe9\"}",
                1,
                "not UTF-8: byte 0xE9 after 10 bytes",
            ),
            (b"{\"a\": ", 1, "EOF while parsing a value at column 6"),
            (b"{\"a\": \"x", 1, "EOF while parsing a string"),
            (b"\"", 1, "EOF while parsing a string"),
            (b"{\"a\": 1} {}", 1, "trailing characters"),
            (b"abc", 1, "expected value at column 1"),
        ] {
            let (found_line, found) = fault(text);
            assert!(found.contains(words), "{found}");
            assert_eq!(found_line, line, "{found}");
        }
    }

    #[test]
    fn whole_pairs_and_escapes_are_text() {
        let text = br#"{"a": "\ud83d\ude00 \\ud83d \u00e9 NaN 'x' None"}"#;
        let value: Value = parse(text).expect("JSON");
        assert_eq!(value["a"], "😀 \\ud83d é NaN 'x' None");
    }

    #[test]
    fn a_wrong_field_is_no_fault_of_the_writer() {
        let fault = parse::<Vec<u8>>(br#"["NaN"]"#)
            .expect_err("a string")
            .to_string();
        assert_eq!(
            fault,
            "invalid type: string \"NaN\", expected u8 at column 6"
        );
    }
}
