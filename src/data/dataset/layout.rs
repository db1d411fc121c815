//! Which known row layout a file has, and the conversation of one of its rows (conventions: section 5).

use serde_json::{Map, Value};

use super::container::{RawRow, kind};
use super::turns::{Part, Turn, read_turns};

/// The layouts of rows that are accepted as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Reason-RFT, R1-V: `problem` without marks, all pictures before it.
    Problem,
    /// EasyR1: `problem` with an `<image>` where each picture stands.
    ProblemWithTags,
    /// TRL: `prompt`, a list of turns or plain text.
    Prompt,
    /// verl: `prompt` and `reward_model.ground_truth`.
    Verl,
    /// TRL, swift, LLaMA-Factory: `messages`.
    Messages,
    /// VLM-R1: `conversations` of `from` and `value`.
    Conversations,
}

impl Layout {
    /// The layout of a file: that of its first row with a known column. A row that has several of the columns
    /// is read as its trainer reads it (TRL takes `prompt` even where `problem` is kept beside it).
    pub(super) fn detect(rows: &[RawRow]) -> Option<Self> {
        let columns = || rows.iter().filter_map(|row| row.columns.as_ref().ok());
        let first = columns().find_map(Self::of_row)?;
        let tagged = |row: &Map<String, Value>| {
            row.get("problem")
                .and_then(Value::as_str)
                .is_some_and(has_tag)
        };
        if first == Self::Problem && columns().any(tagged) {
            Some(Self::ProblemWithTags)
        } else {
            Some(first)
        }
    }

    fn of_row(columns: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| columns.get(name).is_some_and(|value| !value.is_null());
        if has("prompt") && has("reward_model") {
            Some(Self::Verl)
        } else if has("prompt") {
            Some(Self::Prompt)
        } else if has("messages") {
            Some(Self::Messages)
        } else if has("conversations") {
            Some(Self::Conversations)
        } else if has("problem") {
            Some(Self::Problem)
        } else {
            None
        }
    }

    /// The column that holds the question.
    pub(super) const fn column(self) -> &'static str {
        match self {
            Self::Problem | Self::ProblemWithTags => "problem",
            Self::Prompt | Self::Verl => "prompt",
            Self::Messages => "messages",
            Self::Conversations => "conversations",
        }
    }

    /// Whether the conversation is the prompt alone, which the model does not end.
    pub(super) const fn is_prompt(self) -> bool {
        matches!(self, Self::Prompt | Self::Verl)
    }

    /// Name for the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Problem => "Reason-RFT / R1-V (`problem`, pictures first)",
            Self::ProblemWithTags => "EasyR1 (`problem` with <image> marks)",
            Self::Prompt => "TRL (`prompt`)",
            Self::Verl => "verl (`prompt`, `reward_model.ground_truth`)",
            Self::Messages => "TRL / swift (`messages`)",
            Self::Conversations => "VLM-R1 (`conversations`)",
        }
    }

    /// The turns of a row, the model's own last turn included where the row has one.
    ///
    /// # Errors
    /// The row does not fit the layout of its file.
    pub(super) fn turns(self, columns: &Map<String, Value>) -> Result<Vec<Turn>, String> {
        let column = self.column();
        match (columns.get(column), self) {
            (None | Some(Value::Null), _) => Err(format!(
                "no `{column}`, which the other rows of the file have"
            )),
            (Some(Value::String(text)), Self::Problem) => Ok(vec![Turn {
                parts: vec![Part::Text(text.clone())],
                ..Turn::plain("user", "")
            }]),
            (Some(other), Self::Problem | Self::ProblemWithTags) if !other.is_string() => {
                Err(format!("`problem` must be text, found {}", kind(other)))
            }
            (Some(value), _) => read_turns(column, value),
        }
    }
}

fn has_tag(text: &str) -> bool {
    text.contains("<image>")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn detect(rows: Value) -> Option<Layout> {
        let rows = rows.as_array().unwrap().iter().enumerate();
        let raw = |(index, row): (usize, &Value)| RawRow {
            row: index + 1,
            columns: row
                .as_object()
                .cloned()
                .ok_or_else(|| "no object".to_owned()),
        };
        Layout::detect(&rows.map(raw).collect::<Vec<_>>())
    }

    #[test]
    fn layouts_are_detected() {
        let turns = json!([{"role": "user", "content": "?"}]);
        for (rows, expected) in [
            (json!([{"problem": "?"}]), Some(Layout::Problem)),
            (
                json!([{"problem": "?"}, {"problem": "<image>?"}]),
                Some(Layout::ProblemWithTags),
            ),
            (
                json!([{"prompt": turns, "problem": "?"}]),
                Some(Layout::Prompt),
            ),
            (
                json!([{"prompt": turns, "reward_model": {"ground_truth": "3"}}]),
                Some(Layout::Verl),
            ),
            (
                json!([{"messages": turns, "images": []}]),
                Some(Layout::Messages),
            ),
            (
                json!([{"conversations": [], "image": "a.png"}]),
                Some(Layout::Conversations),
            ),
            (
                json!([3, {"id": 1}, {"prompt": null, "problem": "?"}]),
                Some(Layout::Problem),
            ),
            (json!([{"question": "?"}]), None),
            (json!([]), None),
        ] {
            assert_eq!(detect(rows.clone()), expected, "{rows}");
        }
    }

    #[test]
    fn a_row_of_another_shape_is_refused() {
        let row = json!({"question": "?"});
        let reason = Layout::Problem.turns(row.as_object().unwrap()).unwrap_err();
        assert_eq!(
            reason,
            "no `problem`, which the other rows of the file have"
        );
        let row = json!({"problem": ["?"]});
        for layout in [Layout::Problem, Layout::ProblemWithTags] {
            let reason = layout.turns(row.as_object().unwrap()).unwrap_err();
            assert_eq!(reason, "`problem` must be text, found a list");
        }
    }
}
