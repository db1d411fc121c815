//! A file of rows, JSON list or JSONL, told apart by content. It knows nothing of what the columns mean.

use std::io;
use std::path::Path;

use rayon::prelude::*;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::error::DatasetError;
use crate::json_lines::{self, Element, Line};

/// One row before its columns are understood.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RawRow {
    /// 1-based position in the list, or line number.
    pub row: usize,
    /// The columns, or why the row has none.
    pub columns: Result<Map<String, Value>, String>,
}

/// Reads every row of a file.
///
/// # Errors
/// The file cannot be read, or is neither a JSON list nor JSONL.
pub(super) fn read_rows(path: &Path) -> Result<Vec<RawRow>, DatasetError> {
    let not_rows = |found: String| DatasetError::NotRows {
        path: path.into(),
        found,
    };
    let content = json_lines::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidData => not_rows(source.to_string()),
        _ => DatasetError::Read {
            path: path.into(),
            source,
        },
    })?;
    match content.iter().find(|byte| !byte.is_ascii_whitespace()) {
        None => Ok(Vec::new()),
        Some(b'[') => read_list(path, &content),
        Some(b'{') if is_single_object(&content) => {
            Err(not_rows("one JSON object over several lines".into()))
        }
        Some(b'{') => Ok(read_lines(&content)),
        Some(_) => Err(not_rows(format!(
            "text that begins with `{}`",
            beginning(&content)
        ))),
    }
}

/// The rows of a JSON list; a bad one spoils only itself.
fn read_list(path: &Path, content: &[u8]) -> Result<Vec<RawRow>, DatasetError> {
    let elements = json_lines::elements(content).map_err(|fault| DatasetError::Parse {
        path: path.into(),
        line: fault.line,
        message: fault.to_string(),
    })?;
    let row = |(index, element): (usize, &Element<'_>)| RawRow {
        row: index + 1,
        columns: json_lines::parse(element.text)
            .map_err(|fault| format!("line {}: {fault}", element.line + fault.line - 1))
            .and_then(as_object),
    };
    Ok(elements.par_iter().enumerate().map(row).collect())
}

/// The rows of JSONL; a bad line spoils only itself, blank lines are no rows.
fn read_lines(content: &[u8]) -> Vec<RawRow> {
    let lines: Vec<_> = json_lines::lines(content).collect();
    let row = |line: &Line<'_>| RawRow {
        row: line.number,
        columns: json_lines::parse(line.text)
            .map_err(|fault| format!("the line is not valid JSON: {fault}"))
            .and_then(as_object),
    };
    lines.par_iter().map(row).collect()
}

/// Whether the content is one pretty-printed object, which is not a row file in either form.
fn is_single_object(content: &[u8]) -> bool {
    let first = json_lines::lines(content).next();
    first.is_some_and(|line| json_lines::parse::<IgnoredAny>(line.text).is_err())
        && json_lines::parse::<IgnoredAny>(content).is_ok()
}

fn as_object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(columns) => Ok(columns),
        other => Err(format!("expected a JSON object, found {}", kind(&other))),
    }
}

/// What a JSON value is, for messages.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// The first characters of the file's first line, for messages.
fn beginning(content: &[u8]) -> String {
    let text = String::from_utf8_lossy(&content[..content.len().min(200)]);
    text.trim_start()
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|character| !character.is_control())
        .take(30)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(name: &str, content: &[u8]) -> Result<Vec<RawRow>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        read_rows(&path)
    }

    #[test]
    fn content_decides_not_the_extension() {
        let list = read("rows.jsonl", b"\xef\xbb\xbf [{\"id\": 1},\n {\"id\": 2}]").unwrap();
        assert_eq!(list.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 2]);
        let lines = read("rows.json", b"{\"id\": 1}\r\n\r\n{\"id\": 2}\r\n").unwrap();
        assert_eq!(lines.iter().map(|row| row.row).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(lines[1].columns.as_ref().unwrap()["id"], 2);
    }

    #[test]
    fn a_bad_line_spoils_only_itself() {
        let rows = read("rows.jsonl", b"{\"id\": 1}\n{\"id\": \n[3]\n{\"id\": 4}\n").unwrap();
        assert_eq!(rows.len(), 4);
        assert!(
            rows[1]
                .columns
                .as_ref()
                .unwrap_err()
                .starts_with("the line is not valid JSON: EOF")
        );
        assert_eq!(
            rows[2].columns.as_ref().unwrap_err(),
            "expected a JSON object, found a list"
        );
        assert!(rows[3].columns.is_ok());
    }

    #[test]
    fn a_bad_element_of_a_list_spoils_only_itself_and_says_its_line() {
        let content = "[\n {\"id\": 1},\n {\"id\": 2,\n  \"score\": NaN},\n {\"id\": \"\\ud83d\"}, 3, {\"id\": 4}\n]";
        let rows = read("rows.json", content.as_bytes()).unwrap();
        let reasons: Vec<_> = rows.iter().map(|row| row.columns.as_ref().err()).collect();
        assert!(reasons[0].is_none() && reasons[4].is_none());
        for (index, words) in [
            (1, "line 4: `NaN` (after `score`) is not JSON; write null"),
            (2, "line 5: `\\ud83d` is a lone surrogate"),
            (3, "expected a JSON object, found a number"),
        ] {
            let reason = reasons[index].unwrap();
            assert!(reason.starts_with(words), "{reason}");
        }
    }

    #[test]
    fn a_first_line_that_is_cut_off_is_a_bad_row() {
        let rows = read("rows.jsonl", b"{\"id\": \n{\"id\": 2}\n").unwrap();
        assert!(rows[0].columns.is_err() && rows[1].columns.is_ok());
    }

    #[test]
    fn what_is_not_a_row_file_says_what_it_is() {
        let cases: [(&[u8], &str); 4] = [
            (b"PAR1\x15\x04", "a Parquet file"),
            (
                b"id,image,problem\n1,a.png,?\n",
                "text that begins with `id,image,problem`",
            ),
            (
                b"{\n \"train\": []\n}",
                "one JSON object over several lines",
            ),
            (
                b"[{\"id\": 1}, {\"id\": ",
                "rows:1: not a valid JSON list: EOF while parsing a value at column 19",
            ),
        ];
        for (content, expected) in cases {
            let text = read("rows", content).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
            assert!(text.contains("\nhint: "), "{text}");
        }
        assert!(read("rows", b" \n").unwrap().is_empty());
    }

    #[test]
    fn an_absent_file_is_named() {
        let text = read_rows(Path::new("no-such-rows.json"))
            .unwrap_err()
            .to_string();
        assert!(
            text.starts_with("no-such-rows.json: cannot read the data file: "),
            "{text}"
        );
    }
}
