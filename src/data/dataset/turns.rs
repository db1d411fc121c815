//! The turns of a conversation as rows write them -> roles and parts. It opens no picture and knows no layout.

use serde_json::{Map, Value};

use super::container::kind;

/// The mark that stands for a picture in plain text.
const IMAGE_TAG: &str = "<image>";

/// Marks of what is not read; other trainers put it in their place.
const UNREAD_TAGS: [&str; 4] = ["<video>", "<audio>", "<|video|>", "<|audio|>"];
/// Keys of a turn that change what it says and are not read.
const UNREAD_TURN_KEYS: [&str; 7] = [
    "tool_calls",
    "function_call",
    "audio",
    "audios",
    "video",
    "videos",
    "images",
];
/// Keys beside the content under which servers give the reasoning.
const REASONING_KEYS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];
/// Keys by which `qwen_vl_utils` sets the size of a single picture.
const PICTURE_LIMITS: [&str; 5] = [
    "min_pixels",
    "max_pixels",
    "resized_height",
    "resized_width",
    "total_pixels",
];

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
    /// Reasoning that stands beside the content, as servers give it.
    pub reasoning: Option<String>,
}

impl Turn {
    /// A turn of plain text, in which `<image>` marks places.
    pub(super) fn plain(role: &'static str, text: &str) -> Self {
        Self {
            role,
            parts: split_tags(text),
            plain: true,
            reasoning: None,
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

    /// The model's turn as it would write it: reasoning in its tags, then the text.
    ///
    /// # Errors
    /// It holds a picture, which the model cannot write.
    pub(super) fn written(&self) -> Result<String, String> {
        if self.image_places() > 0 {
            return Err("the model's turn holds a picture; only text can be taught".into());
        }
        let text = self.text();
        Ok(match &self.reasoning {
            Some(reasoning) => format!("<think>\n{}\n</think>\n{text}", reasoning.trim()),
            None => text,
        })
    }

    /// Refuses a mark of what is not read: it would reach the model as letters.
    ///
    /// # Errors
    /// The mark's name.
    pub(super) fn refuse_marks(&self) -> Result<(), String> {
        let is_read = !self.plain || self.role == "assistant";
        let text = self.text();
        match UNREAD_TAGS
            .iter()
            .find(|tag| !is_read && text.contains(**tag))
        {
            Some(tag) => Err(format!(
                "the text has the mark `{tag}`: only pictures are read"
            )),
            None => Ok(()),
        }
    }
}

/// Reads a list of turns (`role`/`content` or `from`/`value`), or plain text as one user turn.
///
/// # Errors
/// What was expected and what was found, with the turn's number.
pub(super) fn read_turns(column: &str, value: &Value) -> Result<Vec<Turn>, String> {
    match value {
        Value::String(text) => Ok(vec![Turn::plain("user", text)]),
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
    let present = |name: &str| fields.get(name).filter(|value| !is_nothing(value));
    if let Some(key) = UNREAD_TURN_KEYS
        .into_iter()
        .find(|key| present(key).is_some())
    {
        return Err(format!("the turn has `{key}`, which is not read"));
    }
    let role = match present("role")
        .or_else(|| present("from"))
        .and_then(Value::as_str)
    {
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
    let reasoning = REASONING_KEYS.into_iter().find_map(present);
    let turn = match fields.get("content").or_else(|| fields.get("value")) {
        Some(Value::String(text)) => Turn::plain(role, text),
        Some(Value::Array(parts)) => Turn {
            role,
            parts: parts.iter().map(read_part).collect::<Result<_, _>>()?,
            plain: false,
            reasoning: None,
        },
        Some(other) => {
            return Err(format!(
                "`content` must be text or a list of parts, found {}",
                kind(other)
            ));
        }
        None => return Err("a turn must have `content`".into()),
    };
    match reasoning {
        None => Ok(turn),
        Some(Value::String(text)) if role == "assistant" => Ok(Turn {
            reasoning: Some(text.clone()),
            ..turn
        }),
        Some(_) => Err("reasoning beside the content must be text of the assistant".into()),
    }
}

fn read_part(part: &Value) -> Result<Part, String> {
    if let Value::String(text) = part {
        return Ok(Part::Text(text.clone()));
    }
    let fields = part
        .as_object()
        .ok_or_else(|| format!("a content part must be an object, found {}", kind(part)))?;
    if let Some(key) = PICTURE_LIMITS
        .into_iter()
        .find(|key| fields.get(*key).is_some_and(|value| !value.is_null()))
    {
        return Err(format!(
            "the content part has `{key}`, which is not read; `min_pixels` and `max_pixels` are keys of the run"
        ));
    }
    let (picture, text) = (
        own_picture(fields),
        fields.get("text").filter(|text| !is_nothing(text)),
    );
    let named = fields.get("type").and_then(Value::as_str);
    // Qwen's lists leave the type to the one key that is there.
    let guessed = match (&picture, text) {
        (Some(_), None) => Some("image"),
        (None, Some(_)) => Some("text"),
        _ => None,
    };
    match named.or(guessed) {
        Some("text" | "input_text" | "output_text") => match (fields.get("text"), picture) {
            (Some(Value::String(text)), None) => Ok(Part::Text(text.clone())),
            (_, Some(_)) => {
                Err("a content part of type text has a picture; give it a part of its own".into())
            }
            _ => Err("a content part of type text must have `text`".into()),
        },
        Some("image" | "image_url" | "input_image") => match text {
            None => Ok(Part::Image(picture)),
            Some(_) => {
                Err("a content part of type image has `text`; give it a part of its own".into())
            }
        },
        Some(other) => Err(format!(
            "content part of type `{other}`, expected text or image"
        )),
        None => Err("a content part must have a `type`".into()),
    }
}

/// The picture inside a part, where chat messages carry it themselves.
fn own_picture(fields: &Map<String, Value>) -> Option<Value> {
    let keys = ["image", "image_url", "url", "path", "bytes", "base64"];
    let key = keys
        .into_iter()
        .find(|key| fields.get(*key).is_some_and(|value| !value.is_null()))?;
    match key {
        // Beside `path` it is one cell of both.
        "path" | "bytes" => Some(Value::Object(fields.clone())),
        _ => fields.get(key).cloned(),
    }
}

/// Null and empty text or lists, as tables write absent keys.
fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    }
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
                {"image": "c.png"},
                {"text": "typeless", "image": null},
                {"type": "input_text", "text": "x"},
            ]}]),
        )
        .unwrap();
        let expected = [
            Part::Image(None),
            Part::Image(Some(json!("a.png"))),
            Part::Image(Some(json!({"url": "b.png"}))),
            text("a literal <image>"),
            text("plain"),
            Part::Image(Some(json!("c.png"))),
            text("typeless"),
            text("x"),
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
                json!([{"role": "user", "content": [{"type": "image", "image": "a.png", "max_pixels": 50176}]}]),
                "`max_pixels`, which is not read",
            ),
            (
                json!([{"role": "user", "content": [{"type": "text", "text": "?", "image": "a.png"}]}]),
                "type text has a picture",
            ),
            (
                json!([{"role": "user", "content": [{"type": "image", "text": "?"}]}]),
                "type image has `text`",
            ),
            (
                json!([{"role": "assistant", "content": "", "tool_calls": [{"id": "1"}]}]),
                "the turn has `tool_calls`",
            ),
            (
                json!([{"role": "user", "content": "x", "reasoning_content": "y"}]),
                "reasoning beside the content",
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
