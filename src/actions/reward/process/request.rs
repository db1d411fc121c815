//! A batch of completions as one line of JSON: the arguments with which TRL calls a reward function
//! (`GRPOTrainer._calculate_rewards`). Knows nothing of who reads it.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::error::ProcessFault;
use super::pictures;
use crate::options::RewardPictures;
use crate::record::{Action, ContentPart, Example, Message};

/// Columns that TRL keeps to itself, because the arguments hold them; pictures come once per prompt.
const LEFT_OUT: [&str; 5] = ["prompt", "completion", "completion_ids", "image", "images"];
/// Arguments that a column cannot be.
const ARGUMENTS: [&str; 5] = [
    "prompts",
    "completions",
    "prompt_pictures",
    "trainer_state",
    "request_number",
];

/// The request, newline included. Columns of a prompt are repeated for each of its completions; a row without a column
/// that others have gives null, without `id` or `solution` those of its [`Example`]. Pictures are never repeated.
///
/// Where the `prompt` of a row is plain text, so are its prompt and its completions, as in TRL; elsewhere they are lists
/// of turns.
///
/// # Errors
/// If a column has the name of another argument.
pub(super) fn line(
    number: u64,
    pairs: &[(&Action, &Example)],
    step: usize,
    as_what: RewardPictures,
) -> Result<Vec<u8>, ProcessFault> {
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| drop(request.insert(name.to_owned(), value));
    put("request_number", json!(number));
    put("prompts", of_each(pairs, |_, example| prompt(example)));
    put(
        "completions",
        of_each(pairs, |action, example| match plain_prompt(example) {
            Some(_) => json!(action.text),
            None => json!([{"role": "assistant", "content": action.text}]),
        }),
    );
    put(
        "completion_ids",
        of_each(pairs, |action, _| json!(action.token_ids)),
    );
    for name in columns(pairs)? {
        put(name, of_each(pairs, |_, example| column(example, name)));
    }
    if let Some(pictures) = pictures::of_prompts(pairs, as_what) {
        put("prompt_pictures", pictures);
    }
    put("trainer_state", json!({"global_step": step}));
    let mut line = Value::Object(request).to_string().into_bytes();
    line.push(b'\n');
    Ok(line)
}

fn of_each(pairs: &[(&Action, &Example)], value: impl Fn(&Action, &Example) -> Value) -> Value {
    pairs
        .iter()
        .map(|(action, example)| value(action, example))
        .collect()
}

/// The names of all columns, in order of appearance.
fn columns<'a>(pairs: &[(&Action, &'a Example)]) -> Result<Vec<&'a str>, ProcessFault> {
    let mut names = vec!["id", "solution"];
    let mut known: HashSet<&str> = names.iter().chain(&LEFT_OUT).copied().collect();
    for (_, example) in pairs {
        if let Some(column) = ARGUMENTS
            .into_iter()
            .find(|name| example.columns.contains_key(*name))
        {
            let example = example.id.clone();
            return Err(ProcessFault::Column { column, example });
        }
        names.extend(
            example
                .columns
                .keys()
                .map(String::as_str)
                .filter(|name| known.insert(name)),
        );
    }
    Ok(names)
}

fn column(example: &Example, name: &str) -> Value {
    match (example.columns.get(name), name) {
        (Some(value), _) if !value.is_null() => pictures::without(value),
        (_, "id") => json!(example.id),
        (_, "solution") => json!(example.solution),
        _ => Value::Null,
    }
}

/// The `prompt` column of TRL's standard format.
fn plain_prompt(example: &Example) -> Option<&str> {
    example.columns.get("prompt")?.as_str()
}

/// The prompt as TRL has it: plain text, or a conversation whose content is in parts where there are pictures.
fn prompt(example: &Example) -> Value {
    if let Some(text) = plain_prompt(example) {
        return json!(text);
    }
    if !example.images.is_empty() {
        return json!(example.messages);
    }
    example
        .messages
        .iter()
        .map(|message| json!({"role": message.role, "content": text(message)}))
        .collect()
}

fn text(message: &Message) -> String {
    let texts = message.content.iter().map(|part| match part {
        ContentPart::Text { text } => text.as_str(),
        ContentPart::Image => "",
    });
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::tests::{action, example};
    use super::*;
    use crate::record::ImageSource;

    fn request(pairs: &[(&Action, &Example)]) -> Value {
        let line = line(7, pairs, 3, RewardPictures::Pil).expect("a request");
        assert_eq!(
            line.iter().filter(|byte| **byte == b'\n').count(),
            1,
            "one line"
        );
        serde_json::from_slice(&line).expect("JSON")
    }

    #[test]
    fn arguments_are_those_of_trl_and_columns_repeat() {
        let mut first = example(None, "3");
        first.messages = vec![Message {
            role: "user".into(),
            content: vec![
                ContentPart::Image,
                ContentPart::Text {
                    text: "How\nmany?".into(),
                },
            ],
        }];
        first.images = vec![ImageSource::Path("a.png".into())];
        first.columns = json!({"id": 5, "problem": "How many?", "image": "a.png", "solution": "<answer>3</answer>"})
            .as_object()
            .expect("an object")
            .clone();
        let mut second = example(None, "4");
        second.id = "train-2".to_owned();
        second.messages = vec![Message {
            role: "user".into(),
            content: vec![ContentPart::Text {
                text: "And now?".into(),
            }],
        }];
        second.columns = json!({"level": "hard", "solution": null})
            .as_object()
            .expect("an object")
            .clone();
        let (a, b) = (action("a"), action("b \"\n"));
        let found = request(&[(&a, &first), (&b, &first), (&a, &second)]);
        let parts = json!([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "How\nmany?"}]}]);
        let expected = json!({
            "request_number": 7,
            "prompts": [parts, parts, [{"role": "user", "content": "And now?"}]],
            "completions": [
                [{"role": "assistant", "content": "a"}],
                [{"role": "assistant", "content": "b \"\n"}],
                [{"role": "assistant", "content": "a"}],
            ],
            "completion_ids": [a.token_ids, b.token_ids, a.token_ids],
            "id": [5, 5, "train-2"],
            "solution": ["<answer>3</answer>", "<answer>3</answer>", "4"],
            "problem": ["How many?", "How many?", null],
            "level": [null, null, "hard"],
            "prompt_pictures": {"as": "pil", "of": [0, 0, 1], "prompts": [
                {"image": {"path": std::path::absolute("a.png").expect("a path")}}, {}]},
            "trainer_state": {"global_step": 3},
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn plain_prompts_and_their_completions_are_text() {
        let mut plain = example(None, "8");
        plain.messages = vec![Message {
            role: "user".into(),
            content: vec![ContentPart::Text {
                text: "How many legs?".into(),
            }],
        }];
        let mut turns = plain.clone();
        turns.id = "train-2".to_owned();
        plain
            .columns
            .insert("prompt".into(), json!("How many legs?"));
        let chat = json!([{"role": "user", "content": "How many legs?"}]);
        turns.columns.insert("prompt".into(), chat.clone());
        let answer = action("eight");
        let found = request(&[(&answer, &plain), (&answer, &turns)]);
        assert_eq!(found["prompts"], json!(["How many legs?", chat]));
        let turn = json!([{"role": "assistant", "content": "eight"}]);
        assert_eq!(found["completions"], json!(["eight", turn]));
        assert!(found.get("prompt_pictures").is_none());
    }

    #[test]
    fn a_column_cannot_take_the_place_of_an_argument() {
        let mut row = example(None, "3");
        row.columns.insert("completions".into(), json!(["x"]));
        let fault = line(1, &[(&action("a"), &row)], 0, RewardPictures::None).expect_err("refused");
        assert_eq!(
            fault.to_string(),
            "the data set has a column `completions`, which is an argument of every reward function (example `train-1`)"
        );
    }
}
