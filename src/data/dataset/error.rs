//! What can go wrong with a data set as a whole; a single bad row is a [`RejectedRow`], not an error.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

/// How many rejected rows an error message or a log line spells out.
pub(super) const ROWS_SHOWN: usize = 5;

/// A row that cannot be used, and why.
///
/// `{file: "train.jsonl", row: 7, id: Some("train-6"), reason: "no `solution` or `answer`"}`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedRow {
    /// The data file.
    pub file: PathBuf,
    /// 1-based: the position in a JSON list, the line number in JSONL.
    pub row: usize,
    /// The row's own id, if it could be read.
    pub id: Option<String>,
    /// What was expected and what was found.
    pub reason: String,
}

impl fmt::Display for RejectedRow {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.file.display(), self.row)?;
        if let Some(id) = &self.id {
            write!(formatter, " (id `{id}`)")?;
        }
        write!(formatter, ": {}", self.reason)
    }
}

/// Why a data set cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// A data file cannot be opened or read.
    #[error(
        "{}: cannot read the data file: {source}\nhint: check `dataset_name`; it names JSON or JSONL files",
        path.display()
    )]
    Read {
        /// The data file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The list of rejected rows cannot be written.
    #[error("{}: cannot write the rejected rows: {source}\nhint: check that the folder exists and has space", path.display())]
    Write {
        /// The file to be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A JSON list that does not end, or whose brackets and quotes do not pair up, so that no row of it can be trusted.
    #[error("{}:{line}: not a valid JSON list: {message}\nhint: mend the file there, or write it again", path.display())]
    Parse {
        /// The data file.
        path: PathBuf,
        /// 1-based line of the file.
        line: usize,
        /// What the parser expected, with the column.
        message: String,
    },
    /// The file holds something other than rows.
    #[error(
        "{}: expected a JSON list of rows or one JSON object a line, found {found}\n\
         hint: with Python's `datasets`, `load_dataset(...)[\"train\"].to_json(\"rows.jsonl\")` converts most formats",
        path.display()
    )]
    NotRows {
        /// The data file.
        path: PathBuf,
        /// What stands there instead.
        found: String,
    },
    /// No row has the columns of a known layout.
    #[error(
        "{}: unknown row layout: no row has `prompt`, `messages`, `conversations` or `problem`; \
         the first has the columns {columns}\nhint: rename the column that holds the question to `problem`",
        path.display()
    )]
    UnknownLayout {
        /// The data file.
        path: PathBuf,
        /// The first row's column names.
        columns: String,
    },
    /// No usable row at all.
    #[error(
        "the data set is empty: no usable row in {files}\nhint: check `dataset_name` and the split"
    )]
    Empty {
        /// The data files.
        files: String,
    },
    /// Rows that are all needed, and some cannot be used.
    #[error("{} of {total} rows cannot be used:{}\nhint: mend the rows or remove them", rejected.len(), excerpt(rejected))]
    Unusable {
        /// The rows, with reasons.
        rejected: Vec<RejectedRow>,
        /// Rows in all.
        total: usize,
    },
    /// More rows than allowed cannot be used.
    #[error(
        "{} of {total} rows cannot be used, `max_rejected_fraction` is {allowed}:{}\n\
         hint: correct or remove these rows, or raise `max_rejected_fraction`",
        rejected.len(),
        excerpt(rejected)
    )]
    TooManyRejected {
        /// Every rejected row, in file order.
        rejected: Vec<RejectedRow>,
        /// Rows in all files.
        total: usize,
        /// The configured fraction.
        allowed: f64,
    },
    /// A prompt template without exactly one place for the question.
    #[error(
        "the prompt template has {found} places for the question, expected exactly one\n\
         hint: write `{{Question}}` once in `prompt_template`"
    )]
    Template {
        /// How often `{Question}` occurs.
        found: usize,
    },
    /// A saved data position belongs to a data set of another size.
    #[error(
        "the saved data position belongs to a data set of {saved} rows, this one has {found}\n\
         hint: resume with the data files that the run was started with"
    )]
    PositionMismatch {
        /// Rows when the position was saved.
        saved: usize,
        /// Rows now.
        found: usize,
    },
}

/// The first rejected rows, one indented line each, and how many are left.
pub(super) fn excerpt(rejected: &[RejectedRow]) -> String {
    let mut text = String::new();
    for row in rejected.iter().take(ROWS_SHOWN) {
        text.push_str(&format!("\n  {row}"));
    }
    if rejected.len() > ROWS_SHOWN {
        text.push_str(&format!("\n  and {} more", rejected.len() - ROWS_SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(row: usize) -> RejectedRow {
        RejectedRow {
            file: "rows.json".into(),
            row,
            id: Some(format!("train-{row}")),
            reason: "no picture".into(),
        }
    }

    #[test]
    fn names_five_rows_and_counts_the_rest() {
        let error = DatasetError::TooManyRejected {
            rejected: (1..=7).map(rejected).collect(),
            total: 40,
            allowed: 0.1,
        };
        let text = error.to_string();
        assert!(
            text.starts_with("7 of 40 rows cannot be used, `max_rejected_fraction` is 0.1:"),
            "{text}"
        );
        assert!(
            text.contains("\n  rows.json:5 (id `train-5`): no picture\n  and 2 more\nhint: "),
            "{text}"
        );
        assert!(!text.contains("rows.json:6"), "{text}");
    }

    #[test]
    fn the_template_message_shows_the_placeholder() {
        let text = DatasetError::Template { found: 0 }.to_string();
        assert!(text.contains("`{Question}`"), "{text}");
    }
}
