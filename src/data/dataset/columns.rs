//! What the columns of a row say besides its conversation: gold answer, reasoning, pictures, the answer as written; and the
//! columns that would change what the row means and are not read. It opens no picture.

use serde_json::{Map, Value};

use super::container::kind;
use super::image_cell::cells;
use super::turns::{Part, Turn, read_turns};
use crate::json_lines::number_text;

/// Where a gold answer may stand, first found first taken; then `reward_model.ground_truth`, then the answer as written.
const SOLUTION_COLUMNS: [&str; 3] = ["solution", "answer", "ground_truth"];

/// Where pictures may stand. Only one of the first two may hold any; the others count where those hold none.
pub(super) const IMAGE_COLUMNS: [&str; 6] = [
    "images",
    "image",
    "image_path",
    "image_paths",
    "image_file",
    "image_url",
];

/// Columns of what no policy here sees or does, and what to do about them. A row without them would be another row.
const UNREAD_COLUMNS: [(&str, &str); 10] = [
    ("videos", "videos are not read; give frames as images"),
    ("video", "videos are not read; give frames as images"),
    ("video_url", "videos are not read; give frames as images"),
    ("video_path", "videos are not read; give frames as images"),
    ("audios", "sound is not read"),
    ("audio", "sound is not read"),
    ("audio_url", "sound is not read"),
    ("audio_path", "sound is not read"),
    ("tools", "tools are not offered to the model"),
    ("history", "earlier turns are read from `messages` only"),
];

/// Refuses a row with a column whose content would be lost.
///
/// # Errors
/// The column's name and why.
pub(super) fn refuse_unread(columns: &Map<String, Value>) -> Result<(), String> {
    let filled =
        |(name, _): &&(&str, &str)| columns.get(*name).is_some_and(|value| !is_empty(value));
    match UNREAD_COLUMNS.iter().find(filled) {
        Some((name, why)) => Err(format!("the row has `{name}`: {why}")),
        None => Ok(()),
    }
}

/// Whether a value says nothing: null, nothing between quotes or brackets, or a list of such.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "[]" | "{}" | "null"),
        Value::Array(list) => list.iter().all(is_empty),
        Value::Object(fields) => fields.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Puts the text of a `system` column (swift, LLaMA-Factory) before the first turn.
///
/// # Errors
/// It is no text, or the conversation begins with another system turn.
pub(super) fn add_system(
    columns: &Map<String, Value>,
    turns: &mut Vec<Turn>,
) -> Result<(), String> {
    let text = text_column(columns, "system")?.unwrap_or_default();
    match turns.iter().find(|turn| turn.role == "system") {
        _ if text.trim().is_empty() => Ok(()),
        Some(turn) if turn.text() == text => Ok(()),
        Some(_) => Err("the row has `system` and a system turn of another text".into()),
        None => {
            turns.insert(0, Turn::plain("system", &text));
            Ok(())
        }
    }
}

/// TRL's `completion`: text, or the model's turn.
///
/// # Errors
/// It is anything else.
pub(super) fn completion(columns: &Map<String, Value>) -> Result<Option<String>, String> {
    match columns.get("completion") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(turn @ Value::Object(_)) => one_turn(&Value::Array(vec![turn.clone()])).map(Some),
        Some(turns) => one_turn(turns).map(Some),
    }
}

fn one_turn(turns: &Value) -> Result<String, String> {
    let mut turns = read_turns("completion", turns)?;
    match (turns.pop(), turns.len()) {
        (Some(turn), 0) if turn.role == "assistant" => turn.written(),
        _ => Err("`completion` must be text or one turn of the assistant".into()),
    }
}

/// The cells of the picture columns.
///
/// # Errors
/// Both `images` and `image` hold pictures, and not the same.
pub(super) fn picture_cells(columns: &Map<String, Value>) -> Result<Vec<&Value>, String> {
    let of = |name: &str| cells(columns.get(name).filter(|value| !is_empty(value)));
    let (several, one) = (of("images"), of("image"));
    if !several.is_empty() && !one.is_empty() && several != one {
        return Err(
            "the row has `images` and `image`, which differ; keep the one that counts".into(),
        );
    }
    let filled = IMAGE_COLUMNS
        .iter()
        .map(|name| of(name))
        .find(|cells| !cells.is_empty());
    Ok(filled.unwrap_or_default())
}

/// The gold answer; `written` is the answer as the row's completion or its model's turn has it.
///
/// # Errors
/// There is none.
pub(super) fn solution(
    columns: &Map<String, Value>,
    written: Option<&str>,
) -> Result<String, String> {
    let mut found = None;
    for name in SOLUTION_COLUMNS {
        found = found.or(text_column(columns, name)?);
    }
    if let (None, Some(Value::Object(reward_model))) = (&found, columns.get("reward_model")) {
        found = text_column(reward_model, "ground_truth")?;
    }
    let text = found
        .or_else(|| written.map(str::to_owned))
        .ok_or("no `solution` or `answer`")?;
    let answer = tagged(&text, "answer").unwrap_or(&text).trim();
    if answer.is_empty() {
        Err("the gold answer is empty".into())
    } else {
        Ok(answer.into())
    }
}

/// The chain of thought of the column, or of the answer as written.
///
/// # Errors
/// The column is no text.
pub(super) fn cot(
    columns: &Map<String, Value>,
    written: Option<&str>,
) -> Result<Option<String>, String> {
    let column = text_column(columns, "cot")?;
    let text = match &column {
        Some(text) => Some(tagged(text, "think").unwrap_or(text)),
        None => written.and_then(|text| tagged(text, "think")),
    };
    Ok(text
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty()))
}

/// The content of the first `<name>...</name>`.
fn tagged<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
        .map(|(content, _)| content)
}

/// A column that is text, or a number or boolean written as text (4.0 is `4`); `None` if absent or null.
///
/// # Errors
/// It is anything else.
pub(super) fn text_column(
    columns: &Map<String, Value>,
    name: &str,
) -> Result<Option<String>, String> {
    match columns.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(Value::Number(number)) => Ok(Some(number_text(number))),
        Some(Value::Bool(value)) => Ok(Some(value.to_string())),
        Some(other) => Err(format!(
            "`{name}` must be text or a number, found {}",
            kind(other)
        )),
    }
}

/// Checks the number of pictures, and says whether the columns' cells count. Turns of plain text without any mark leave the
/// place open: then all pictures stand at the beginning of the first user turn, as TRL and Reason-RFT put them.
///
/// # Errors
/// Places and pictures do not pair up.
pub(super) fn place_pictures(turns: &mut [Turn], pictures: usize) -> Result<(), String> {
    let places: usize = turns.iter().map(Turn::image_places).sum();
    let is_open = places == 0 && turns.iter().all(|turn| turn.plain);
    if let Some(first) = turns.iter_mut().find(|turn| turn.role == "user" && is_open) {
        first.parts.splice(0..0, vec![Part::Image(None); pictures]);
        return Ok(());
    }
    let filled = |part: &&Part| matches!(part, Part::Image(Some(_)));
    let own = turns
        .iter()
        .flat_map(|turn| &turn.parts)
        .filter(filled)
        .count();
    if places - own == pictures {
        return Ok(());
    }
    if own == places && places == pictures {
        // Each part holds a copy of its picture's name; the columns count.
        for part in turns.iter_mut().flat_map(|turn| &mut turn.parts) {
            if let Part::Image(cell) = part {
                *cell = None;
            }
        }
        return Ok(());
    }
    Err(format!(
        "the messages have {} image placeholders, the row has {pictures} images",
        places - own
    ))
}
