//! The turns of a conversation as rows write them -> roles and parts. It opens no picture and knows no layout.

use serde_json::{Map, Value};

use super::container::kind;

/// The mark that stands for a picture in plain text.
const IMAGE_TAG: &str = "<image>";

/// One part of a turn; a picture may bring its own cell, else it takes the next one of the picture column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    /// Literal text.
    Text(String),
    /// The place of a picture.
    Image(Option<Value>),
}

/// One turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Turn {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// Parts in reading order.
    pub parts: Vec<Part>,
    /// Whether the content was plain text, which may leave the place of its pictures open.
    pub plain: bool,
}

impl Turn {
    /// A user's turn of plain text.
    pub(super) fn user(text: &str) -> Self {
        Self {
            role: "user",
            parts: split_tags(text),
            plain: true,
        }
    }

    /// Places of pictures in this turn.
    pub(super) fn image_places(&self) -> usize {
        self.parts
            .iter()
            .filter(|part| matches!(part, Part::Image(_)))
            .count()
    }

    /// The text parts, joined.
    pub(super) fn text(&self) -> String {
        self.parts
            .iter()
            .map(|part| {
                if let Part::Text(text) = part {
                    text.as_str()
                } else {
                    ""
                }
            })
            .collect()
    }
}

/// Reads a list of turns (`role`/`content` or `from`/`value`), or plain text as one user turn.
///
/// # Errors
/// What was expected and what was found, with the turn's number.
pub(super) fn read_turns(column: &str, value: &Value) -> Result<Vec<Turn>, String> {
    match value {
        Value::String(text) => Ok(vec![Turn::user(text)]),
        Value::Array(turns) => {
            let read = |(index, turn)| {
                read_turn(turn).map_err(|reason| format!("`{column}`[{index}]: {reason}"))
            };
            turns.iter().enumerate().map(read).collect()
        }
        other => Err(format!(
            "`{column}` must be text or a list of turns, found {}",
            kind(other)
        )),
    }
}

fn read_turn(turn: &Value) -> Result<Turn, String> {
    let fields = turn
        .as_object()
        .ok_or_else(|| format!("a turn must be an object, found {}", kind(turn)))?;
    let field = |names: [&str; 2]| names.into_iter().find_map(|name| fields.get(name));
    let role = match field(["role", "from"]).and_then(Value::as_str) {
        Some("system") => "system",
        Some("user" | "human") => "user",
        Some("assistant" | "gpt") => "assistant",
        Some(other) => {
            return Err(format!(
                "role `{other}`, expected system, user or assistant"
            ));
        }
        None => return Err("a turn must have a `role`".into()),
    };
    match field(["content", "value"]) {
        Some(Value::String(text)) => Ok(Turn {
            role,
            parts: split_tags(text),
            plain: true,
        }),
        Some(Value::Array(parts)) => {
            let parts = parts.iter().map(read_part).collect::<Result<_, _>>()?;
            Ok(Turn {
                role,
                parts,
                plain: false,
            })
        }
        Some(other) => Err(format!(
            "`content` must be text or a list of parts, found {}",
            kind(other)
        )),
        None => Err("a turn must have `content`".into()),
    }
}

fn read_part(part: &Value) -> Result<Part, String> {
    if let Value::String(text) = part {
        return Ok(Part::Text(text.clone()));
    }
    let fields = part
        .as_object()
        .ok_or_else(|| format!("a content part must be an object, found {}", kind(part)))?;
    match fields.get("type").and_then(Value::as_str) {
        Some("text") => match fields.get("text") {
            Some(Value::String(text)) => Ok(Part::Text(text.clone())),
            _ => Err("a content part of type text must have `text`".into()),
        },
        Some("image" | "image_url") => Ok(Part::Image(own_picture(fields))),
        Some(other) => Err(format!(
            "content part of type `{other}`, expected text or image"
        )),
        None => Err("a content part must have a `type`".into()),
    }
}

/// The picture inside a part, where chat messages carry it themselves.
fn own_picture(fields: &Map<String, Value>) -> Option<Value> {
    let keys = ["image", "image_url", "url", "path"];
    keys.into_iter()
        .filter_map(|key| fields.get(key))
        .find(|value| !value.is_null())
        .cloned()
}

/// Plain text, cut at each `<image>`.
fn split_tags(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    for (index, piece) in text.split(IMAGE_TAG).enumerate() {
        if index > 0 {
            parts.push(Part::Image(None));
        }
        if !piece.is_empty() {
            parts.push(Part::Text(piece.into()));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn text(text: &str) -> Part {
        Part::Text(text.into())
    }

    #[test]
    fn tags_in_plain_text_are_places() {
        let turns = read_turns("problem", &json!("<image>\nfirst <image> second")).unwrap();
        assert_eq!(
            turns[0].parts,
            [
                Part::Image(None),
                text("\nfirst "),
                Part::Image(None),
                text(" second")
            ]
        );
        assert_eq!((turns[0].image_places(), turns[0].plain), (2, true));
        assert_eq!(turns[0].text(), "\nfirst  second");
    }

    #[test]
    fn both_spellings_of_a_turn_are_read() {
        let turns = read_turns(
            "conversations",
            &json!([{"from": "human", "value": "a"}, {"role": "assistant", "content": [{"type": "text", "text": "b"}]}]),
        )
        .unwrap();
        assert_eq!(
            turns.iter().map(|turn| turn.role).collect::<Vec<_>>(),
            ["user", "assistant"]
        );
        assert_eq!(turns[1].parts, [text("b")]);
    }

    #[test]
    fn parts_keep_literal_tags_and_their_own_pictures() {
        let turns = read_turns(
            "prompt",
            &json!([{"role": "user", "content": [
                {"type": "image", "image": null},
                {"type": "image", "image": "a.png", "text": null},
                {"type": "image_url", "image_url": {"url": "b.png"}},
                {"type": "text", "text": "a literal <image>"},
                "plain",
            ]}]),
        )
        .unwrap();
        let expected = [
            Part::Image(None),
            Part::Image(Some(json!("a.png"))),
            Part::Image(Some(json!({"url": "b.png"}))),
            text("a literal <image>"),
            text("plain"),
        ];
        assert_eq!(turns[0].parts, expected);
        assert!(!turns[0].plain);
    }

    #[test]
    fn says_which_turn_is_wrong_and_why() {
        for (value, expected) in [
            (
                json!([{"role": "tool", "content": "x"}]),
                "`prompt`[0]: role `tool`, expected system, user or assistant",
            ),
            (
                json!([{"role": "user", "content": "x"}, 3]),
                "`prompt`[1]: a turn must be an object, found a number",
            ),
            (json!([{"role": "user"}]), "a turn must have `content`"),
            (
                json!([{"role": "user", "content": [{"type": "video"}]}]),
                "content part of type `video`",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text"}]}]),
                "must have `text`",
            ),
            (
                json!({"role": "user"}),
                "`prompt` must be text or a list of turns, found an object",
            ),
        ] {
            let reason = read_turns("prompt", &value).unwrap_err();
            assert!(reason.contains(expected), "{reason}");
        }
    }
}
