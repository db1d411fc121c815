//! JSON text files as people write them -> lines and values, for every reader of rows: byte order marks, UTF-16, CRLF and
//! gzip are read; other containers, and what Python writes but JSON does not allow, are named with the remedy.
//!
//! It knows nothing of what a line means.

mod content;
mod fault;

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};

use content::UTF8_MARK;
pub use content::{read, read_text};
pub use fault::Fault;

/// A line that is not blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// 1-based; blank lines count.
    pub number: usize,
    /// Without its end, surrounding space and a byte order mark (files that were joined have several).
    pub text: &'a [u8],
    /// Bytes of the content up to the end of this line, its end included.
    pub end: usize,
    /// Whether its end is there; a killed writer leaves a line without.
    pub is_whole: bool,
}

/// The lines that are not blank. A content without any line feed may end its lines with carriage returns: JSON holds neither
/// inside a value.
pub fn lines(content: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let feed = if content.contains(&b'\n') {
        b'\n'
    } else {
        b'\r'
    };
    let mut end = 0;
    let pieces = content
        .split_inclusive(move |byte| *byte == feed)
        .enumerate();
    pieces.filter_map(move |(index, piece)| {
        end += piece.len();
        let trimmed = piece.trim_ascii();
        let text = trimmed
            .strip_prefix(UTF8_MARK)
            .unwrap_or(trimmed)
            .trim_ascii();
        let line = Line {
            number: index + 1,
            text,
            end,
            is_whole: piece.last() == Some(&feed),
        };
        (!text.is_empty()).then_some(line)
    })
}

/// An element of a JSON list, not yet parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Element<'a> {
    /// 1-based line of the content on which it begins.
    pub line: usize,
    /// Its text.
    pub text: &'a [u8],
}

/// Cuts a JSON list into its elements, so that a bad one spoils only itself.
///
/// # Errors
/// The content is no list, does not end, or goes on after its end.
pub fn elements(content: &[u8]) -> Result<Vec<Element<'_>>, Fault> {
    match cut_list(content) {
        Some(elements) => Ok(elements),
        // The parser says best where the structure breaks.
        None => Err(parse::<Value>(content)
            .err()
            .unwrap_or_else(|| Fault::new(1, "expected a JSON list".to_owned()))),
    }
}

/// The elements, if the brackets and quotes of the content pair up as those of a list do.
fn cut_list(content: &[u8]) -> Option<Vec<Element<'_>>> {
    let open = content
        .iter()
        .position(|byte| !byte.is_ascii_whitespace())?;
    let inside = content[open..].strip_prefix(b"[")?;
    let mut cut = ListCut {
        elements: Vec::new(),
        line: 1 + count_lines(&content[..=open]),
    };
    let (mut depth, mut start) = (0_usize, 0);
    let mut bytes = inside.iter().enumerate();
    while let Some((place, byte)) = bytes.next() {
        match byte {
            // The rest of a string; an escaped character is skipped whole.
            b'"' => loop {
                match bytes.next()?.1 {
                    b'"' => break,
                    b'\\' => {
                        bytes.next()?;
                    }
                    _ => {}
                }
            },
            b'[' | b'{' => depth += 1,
            b']' if depth == 0 => {
                let is_alone =
                    cut.elements.is_empty() && inside[start..place].trim_ascii().is_empty();
                if !is_alone {
                    cut.take(&inside[start..place])?;
                }
                let ends = inside[place + 1..].trim_ascii().is_empty();
                return ends.then_some(cut.elements);
            }
            b']' | b'}' => depth = depth.checked_sub(1)?,
            b',' if depth == 0 => {
                cut.take(&inside[start..place])?;
                start = place + 1;
            }
            _ => {}
        }
    }
    None
}

/// The elements found so far.
struct ListCut<'a> {
    elements: Vec<Element<'a>>,
    /// Line of the byte after the last comma.
    line: usize,
}

impl<'a> ListCut<'a> {
    /// Takes what stands between two commas, unless nothing does.
    fn take(&mut self, piece: &'a [u8]) -> Option<()> {
        let text = piece.trim_ascii();
        let space = piece.len() - piece.trim_ascii_start().len();
        let line = self.line + count_lines(&piece[..space]);
        self.elements.push(Element { line, text });
        self.line += count_lines(piece);
        (!text.is_empty()).then_some(())
    }
}

fn count_lines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// Reads one value.
///
/// # Errors
/// What is wrong, in words that name the cause where Python or another program wrote what JSON does not allow.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Fault> {
    serde_json::from_slice(text).map_err(|error| fault::explain(text, &error))
}

/// A number as text. Those of tables that had a gap come as floats: 4.0 is `4`. Never with an exponent.
#[must_use]
pub fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(value) if number.is_f64() => (value + 0.0).to_string(),
        _ => number.to_string(),
    }
}

/// The `id` of a row: text, or a whole number, since some data sets number their rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowId(pub String);

impl<'de> Deserialize<'de> for RowId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text)),
            Value::Number(number) if number.as_f64().is_some_and(|value| value.fract() == 0.0) => {
                Ok(Self(number_text(&number)))
            }
            _ => Err(D::Error::custom(
                "expected an `id` that is a string or a whole number",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(content: &[u8]) -> Vec<(usize, String)> {
        let text = |line: Line| (line.number, String::from_utf8_lossy(line.text).into_owned());
        lines(content).map(text).collect()
    }

    #[test]
    fn every_end_of_a_line_and_every_mark_is_read() {
        let expected = [(1, "1".to_owned()), (3, "2".to_owned())];
        for content in [
            &b"1\n\n2"[..],
            b"1\n\n2\n",
            b"1\r\n\r\n2\r\n",
            b"1\r\r2\r",
            b"\xef\xbb\xbf1\n \t\n\xef\xbb\xbf2",
            b" 1 \n\xef\xbb\xbf\n2",
        ] {
            assert_eq!(numbered(content), expected, "{content:?}");
        }
        assert!(numbered(b"").is_empty() && numbered(b" \r\n\n").is_empty());
    }

    #[test]
    fn a_line_knows_where_it_ends_and_whether_it_does() {
        let found: Vec<_> = lines(b"11\r\n\n22")
            .map(|line| (line.end, line.is_whole))
            .collect();
        assert_eq!(found, [(4, true), (7, false)]);
    }

    fn cut(content: &str) -> Result<Vec<(usize, &str)>, String> {
        let elements = elements(content.as_bytes()).map_err(|fault| fault.to_string())?;
        Ok(elements
            .iter()
            .map(|element| {
                (
                    element.line,
                    std::str::from_utf8(element.text).expect("text"),
                )
            })
            .collect())
    }

    #[test]
    fn a_list_is_cut_at_its_own_commas() {
        assert_eq!(cut("[]"), Ok(vec![]));
        assert_eq!(cut(" [ \n ] \n"), Ok(vec![]));
        assert_eq!(
            cut("\n[1,\n {\"a\": [1, 2], \"b\": \"],\\\"\"} ,\n\nNaN\n]\n"),
            Ok(vec![
                (2, "1"),
                (3, "{\"a\": [1, 2], \"b\": \"],\\\"\"}"),
                (5, "NaN")
            ])
        );
    }

    #[test]
    fn a_list_that_breaks_says_where() {
        for (content, words) in [
            ("[{\"id\": 1}, {\"id\": ", "EOF while parsing a value"),
            ("[1, 2", "EOF while parsing a list"),
            ("[1, \"2]", "EOF while parsing a string"),
            ("[1, 2,]", "trailing comma"),
            ("[1,, 2]", "expected value"),
            ("[1] 2", "trailing characters"),
            ("{\"a\": 1}", "expected a JSON list"),
        ] {
            let found = cut(content).expect_err(content);
            assert!(found.contains(words), "{content}: {found}");
        }
    }

    #[test]
    fn numbers_are_written_as_a_person_would() {
        for (json, text) in [
            ("4", "4"),
            ("4.0", "4"),
            ("-4.0", "-4"),
            ("-0.0", "0"),
            ("0.5", "0.5"),
            ("1e20", "100000000000000000000"),
            ("2.5e-7", "0.00000025"),
            ("18446744073709551615", "18446744073709551615"),
        ] {
            let number: Number = serde_json::from_str(json).expect("a number");
            assert_eq!(number_text(&number), text);
        }
    }

    #[test]
    fn an_id_is_text_or_a_whole_number() {
        for (json, id) in [("\"a\"", "a"), ("7", "7"), ("7.0", "7"), ("-1", "-1")] {
            assert_eq!(parse::<RowId>(json.as_bytes()).expect("an id").0, id);
        }
        for json in ["1.5", "[]", "null", "true"] {
            let text = parse::<RowId>(json.as_bytes()).expect_err(json).to_string();
            assert!(
                text.contains("an `id` that is a string or a whole number"),
                "{text}"
            );
        }
    }
}
