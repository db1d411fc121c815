//! The pictures of a batch for a reward program: once per prompt, not once per completion. Knows nothing of what is in them.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use crate::options::RewardPictures;
use crate::record::{Action, Example, ImageSource};

/// Columns of a row that hold its pictures.
const COLUMNS: [&str; 2] = ["image", "images"];

/// `{"as": "pil" | "paths", "of": [prompt of each completion], "prompts": [{column: picture or list of pictures}]}`, a picture
/// being `{"path"}` or `{"bytes"}` in base64; `None` where nobody wants pictures or there are none.
///
/// A column is there in the form that the row has (`image`: one or a list; `images`: a list); pictures that stand inside
/// a conversation are `images`.
pub(super) fn of_prompts(pairs: &[(&Action, &Example)], as_what: RewardPictures) -> Option<Value> {
    let has_pictures = pairs.iter().any(|(_, example)| !example.images.is_empty());
    if as_what == RewardPictures::None || !has_pictures {
        return None;
    }
    let mut places: HashMap<&str, usize> = HashMap::new();
    let mut prompts = Vec::new();
    let mut of = Vec::with_capacity(pairs.len());
    for (_, example) in pairs {
        let place = *places.entry(&example.id).or_insert_with(|| {
            prompts.push(of_one(example));
            prompts.len() - 1
        });
        of.push(place);
    }
    Some(json!({"as": as_what.name(), "of": of, "prompts": prompts}))
}

fn of_one(example: &Example) -> Value {
    if example.images.is_empty() {
        return json!({});
    }
    let cells: Vec<Value> = example.images.iter().map(cell).collect();
    let mut columns = Map::new();
    for name in COLUMNS {
        let written = example.columns.get(name).filter(|cell| !cell.is_null());
        let value = match written {
            Some(Value::Array(_)) => json!(cells),
            Some(_) if name == "image" && cells.len() == 1 => cells[0].clone(),
            Some(_) => json!(cells),
            None => continue,
        };
        columns.insert(name.to_owned(), value);
    }
    if columns.is_empty() {
        columns.insert("images".to_owned(), json!(cells));
    }
    Value::Object(columns)
}

fn cell(source: &ImageSource) -> Value {
    match source {
        // A program need not work in our folder.
        ImageSource::Path(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            json!({"path": path.to_string_lossy()})
        }
        ImageSource::Bytes(bytes) => json!({"bytes": STANDARD.encode(bytes)}),
    }
}

/// A column without the bytes of pictures inside it: they would be repeated for each completion.
pub(super) fn without(value: &Value) -> Value {
    match value {
        Value::String(text) if text.starts_with("data:image/") => Value::Null,
        Value::Array(items) => items.iter().map(without).collect(),
        Value::Object(fields) => {
            let is_picture = fields.contains_key("path")
                || fields.get("type").is_some_and(|kind| kind == "image");
            let kept = fields
                .iter()
                .filter(|(name, _)| !(is_picture && ["bytes", "base64"].contains(&name.as_str())));
            let kept = kept.map(|(name, value)| (name.clone(), without(value)));
            Value::Object(kept.collect())
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{action, example};
    use super::*;

    #[test]
    fn pictures_come_once_per_prompt_in_the_form_of_their_row() {
        let row = |id: &str, columns: Value, count: usize| {
            let mut row = example(None, "3");
            row.id = id.to_owned();
            row.columns = columns.as_object().expect("an object").clone();
            row.images = (0..count)
                .map(|index| match index {
                    0 => ImageSource::Bytes(vec![1, 2, 3].into()),
                    _ => ImageSource::Path("/b.png".into()),
                })
                .collect();
            row
        };
        let (bytes, path) = (json!({"bytes": "AQID"}), json!({"path": "/b.png"}));
        let rows = [
            row("one", json!({"image": {"bytes": "AQID"}}), 1),
            row("pair", json!({"image": ["a.png", "b.png"]}), 2),
            row("list", json!({"images": ["a.png"]}), 1),
            row("single", json!({"images": "a.png"}), 1),
            row("inside", json!({"messages": []}), 1),
            row("none", json!({"image": null}), 0),
        ];
        let answer = action("x");
        let pairs: Vec<(&Action, &Example)> = rows
            .iter()
            .flat_map(|row| std::iter::repeat_n((&answer, row), 8))
            .collect();
        let found = of_prompts(&pairs, RewardPictures::Paths).expect("pictures");
        assert_eq!(found["as"], "paths");
        assert_eq!(found["of"].as_array().map(Vec::len), Some(48));
        assert_eq!((&found["of"][7], &found["of"][8]), (&json!(0), &json!(1)));
        let expected = json!([
            {"image": bytes}, {"image": [bytes, path]}, {"images": [bytes]},
            {"images": [bytes]}, {"images": [bytes]}, {},
        ]);
        assert_eq!(found["prompts"], expected);
        assert_eq!(of_prompts(&pairs, RewardPictures::None), None);
        assert_eq!(of_prompts(&pairs[40..], RewardPictures::Pil), None);
    }

    #[test]
    fn bytes_inside_other_columns_are_left_out() {
        let cell = json!({"a": ["data:image/png;base64,AAAA", {"type": "image", "bytes": "AAAA", "path": "x"}],
            "bytes": 3, "text": "data:"});
        let expected =
            json!({"a": [null, {"type": "image", "path": "x"}], "bytes": 3, "text": "data:"});
        assert_eq!(without(&cell), expected);
    }
}
