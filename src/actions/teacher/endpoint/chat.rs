//! An example as a question: what is asked of which model, and the key that names its answers in the record. Knows nothing of
//! how a request is written, of sockets or of answers.

use std::sync::Arc;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::failure::Failure;
use super::options::EndpointOptions;
use super::picture;
use super::retry::mixed;
use crate::record::{ContentPart, Example};

/// Changes when the same example is asked in another way, so that no old answer is taken for a new one.
const KEY_FORMAT: u32 = 1;
/// Bytes of text per token, for estimates.
const BYTES_PER_TOKEN: u64 = 4;
/// Tokens that a turn's markup takes, for estimates.
const TOKENS_PER_TURN: u64 = 4;

/// A part of a turn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Part {
    Text(String),
    /// Index into [`Question::pictures`].
    Picture(usize),
}

/// What is asked about one example.
#[derive(Debug)]
pub(super) struct Question {
    /// [`Example::id`].
    pub(super) id: String,
    /// Role and parts of each turn.
    pub(super) turns: Vec<(String, Vec<Part>)>,
    /// Encoded, as they stand in the data set.
    pub(super) pictures: Vec<Arc<[u8]>>,
    /// One per action: the name of its answer in the record.
    pub(super) keys: Vec<String>,
}

impl Question {
    /// The question for `num_actions` actions of an example: its conversation, in which the last user turn stands in
    /// the template. Within a turn the pictures come first and the text after them; a turn with pictures between
    /// texts keeps its order.
    ///
    /// # Errors
    /// A picture that cannot be read.
    pub(super) fn new(
        options: &EndpointOptions,
        example: &Example,
        num_actions: usize,
    ) -> Result<Self, Failure> {
        let pictures = example
            .images
            .iter()
            .map(|image| picture::read(image, options.image_folder.as_deref()))
            .collect::<Result<Vec<_>, _>>()?;
        let mut next_picture = 0;
        let mut turns: Vec<(String, Vec<Part>)> = Vec::new();
        for message in &example.messages {
            let parts = message.content.iter().map(|part| match part {
                ContentPart::Text { text } => Part::Text(text.clone()),
                ContentPart::Image => {
                    next_picture += 1;
                    Part::Picture(next_picture - 1)
                }
            });
            turns.push((message.role.clone(), parts.collect()));
        }
        if let Some((_, parts)) = turns.iter_mut().rfind(|(role, _)| role == "user") {
            apply_template(parts, options.template());
        }
        for (_, parts) in &mut turns {
            let texts = parts
                .iter()
                .filter(|part| matches!(part, Part::Text(_)))
                .count();
            if texts == 1 {
                parts.sort_by_key(|part| matches!(part, Part::Text(_)));
            }
        }
        let mut question = Self {
            id: example.id.clone(),
            turns,
            pictures,
            keys: Vec::new(),
        };
        question.keys = question.keys_of(options, num_actions);
        Ok(question)
    }

    /// Hash over everything that decides the answer. The pictures count as they stand in the data set, with the limit
    /// they are scaled to, so that a cached answer needs no decoding.
    fn keys_of(&self, options: &EndpointOptions, num_actions: usize) -> Vec<String> {
        let digests: Vec<String> = self
            .pictures
            .iter()
            .map(|bytes| hex(&Sha256::digest(bytes)))
            .collect();
        let part = |part: &Part| match part {
            Part::Text(text) => json!({ "text": text }),
            Part::Picture(index) => json!({ "picture": digests.get(*index) }),
        };
        let turns: Vec<Value> = self
            .turns
            .iter()
            .map(|(role, parts)| json!([role, parts.iter().map(part).collect::<Vec<_>>()]))
            .collect();
        let common = json!({
            "format": KEY_FORMAT,
            "name": options.name,
            "base_url": options.base_url,
            "turns": turns,
            "max_pixels": options.max_pixels,
            "parameters": parameters(options),
        });
        let state = Sha256::new_with_prefix(common.to_string());
        let key =
            |sample: usize| hex(&state.clone().chain_update(format!("\n{sample}")).finalize());
        (0..num_actions).map(key).collect()
    }

    /// Spreads the retries of different questions.
    pub(super) fn jitter_seed(&self) -> u64 {
        let key = self.keys.first().map_or("", String::as_str);
        key.bytes()
            .fold(0, |seed, byte| mixed(seed ^ u64::from(byte)))
    }

    /// About how many tokens the prompt has.
    pub(super) fn estimated_tokens(&self, max_pixels: usize) -> u64 {
        let text = |part: &Part| match part {
            Part::Text(text) => (text.len() as u64).div_ceil(BYTES_PER_TOKEN),
            Part::Picture(index) => {
                let bytes = self.pictures.get(*index);
                bytes.map_or(0, |bytes| picture::estimated_tokens(bytes, max_pixels))
            }
        };
        let turn = |(_, parts): &(String, Vec<Part>)| {
            TOKENS_PER_TURN + parts.iter().map(text).sum::<u64>()
        };
        self.turns.iter().map(turn).sum()
    }
}

/// What the record keeps of a request besides the prompt.
pub(super) fn parameters(options: &EndpointOptions) -> Value {
    json!({
        "model": options.model,
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
        "seed": options.seed,
        "logprobs": options.logprobs,
    })
}

/// Puts the template around the texts of a turn.
fn apply_template(parts: &mut Vec<Part>, (before, after): (&str, &str)) {
    let first = parts.iter().position(|part| matches!(part, Part::Text(_)));
    match first.map(|index| &mut parts[index]) {
        Some(Part::Text(text)) => text.insert_str(0, before),
        _ => parts.push(Part::Text(before.to_owned())),
    }
    match parts.last_mut() {
        Some(Part::Text(text)) => text.push_str(after),
        _ if after.is_empty() => {}
        _ => parts.push(Part::Text(after.to_owned())),
    }
    parts.retain(|part| !matches!(part, Part::Text(text) if text.is_empty()));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use image::ImageFormat;

    use super::super::dialect::Dialect;
    use super::super::picture::tests::picture;
    use super::*;
    use crate::actions::teacher::tests::example;
    use crate::record::{ImageSource, Message};

    pub(in super::super) fn text(text: &str) -> ContentPart {
        ContentPart::Text {
            text: text.to_owned(),
        }
    }

    pub(in super::super) fn row(turns: Vec<(&str, Vec<ContentPart>)>) -> Example {
        let message = |(role, content): (&str, Vec<ContentPart>)| Message {
            role: role.to_owned(),
            content,
        };
        let mut row = example("row-1");
        row.messages = turns.into_iter().map(message).collect();
        let places = row.messages.iter().flat_map(|message| &message.content);
        let places = places.filter(|part| **part == ContentPart::Image).count();
        row.images = (0..places)
            .map(|index| ImageSource::Bytes(picture(10 + index as u32, 10, ImageFormat::Png)))
            .collect();
        row
    }

    pub(in super::super) fn options() -> EndpointOptions {
        EndpointOptions::new("strong", "http://localhost:1", "model-1")
    }

    pub(in super::super) fn body(
        options: &EndpointOptions,
        row: &Example,
        samples: &[usize],
    ) -> Value {
        let question = Question::new(options, row, 8).expect("a question");
        let body = question
            .body(options, samples, Dialect::default())
            .expect("a body");
        serde_json::from_slice(&body).expect("JSON")
    }

    #[test]
    fn pictures_between_texts_stay_there() {
        let parts = vec![
            text("First:"),
            ContentPart::Image,
            text("then:"),
            ContentPart::Image,
            text("What changed?"),
        ];
        let found = body(&options(), &row(vec![("user", parts)]), &[0]);
        let kinds: Vec<_> = found["messages"][0]["content"]
            .as_array()
            .expect("parts")
            .iter()
            .map(|part| &part["type"])
            .collect();
        assert_eq!(kinds, ["text", "image_url", "text", "image_url", "text"]);
    }

    #[test]
    fn the_template_goes_around_the_last_question() {
        let mut options = options();
        options.prompt_template = Some("Look. {Question} Think.".to_owned());
        let found = body(
            &options,
            &row(vec![
                ("user", vec![text("a")]),
                ("assistant", vec![text("b")]),
                ("user", vec![ContentPart::Image, text("c")]),
            ]),
            &[0],
        );
        let turns = &found["messages"];
        assert_eq!(
            (&turns[0]["content"], &turns[1]["content"]),
            (&json!("a"), &json!("b"))
        );
        assert_eq!(turns[2]["content"][1]["text"], "Look. c Think.");
        let found = body(
            &options,
            &row(vec![("user", vec![ContentPart::Image])]),
            &[0],
        );
        assert_eq!(found["messages"][0]["content"][1]["text"], "Look.  Think.");
    }

    #[test]
    fn every_part_of_a_request_is_in_its_key() {
        let row_of = |question: &str| row(vec![("user", vec![ContentPart::Image, text(question)])]);
        let keys = |options: &EndpointOptions, row: &Example| {
            Question::new(options, row, 2).expect("a question").keys
        };
        let base = keys(&options(), &row_of("x"));
        assert_eq!(base, keys(&options(), &row_of("x")), "stable");
        assert_ne!(base[0], base[1], "actions differ");
        assert_eq!(base[0].len(), 64);
        let mut others = vec![keys(&options(), &row_of("y"))];
        let mut turned = row_of("x");
        turned.messages[0].role = "system".to_owned();
        others.push(keys(&options(), &turned));
        let mut other_picture = row_of("x");
        other_picture.images = vec![ImageSource::Bytes(picture(9, 9, ImageFormat::Png))];
        others.push(keys(&options(), &other_picture));
        type Change = fn(&mut EndpointOptions);
        let changes: [Change; 10] = [
            |options| options.name.push('2'),
            |options| options.base_url.push('2'),
            |options| options.model.push('2'),
            |options| options.temperature = None,
            |options| options.top_p = Some(0.9),
            |options| options.max_tokens += 1,
            |options| options.seed = Some(1),
            |options| options.logprobs = true,
            |options| options.prompt_template = Some("{Question}!".to_owned()),
            |options| options.max_pixels -= 1,
        ];
        for change in changes {
            let mut options = options();
            change(&mut options);
            others.push(keys(&options, &row_of("x")));
        }
        let distinct: std::collections::BTreeSet<_> =
            others.iter().chain([&base]).flatten().collect();
        assert_eq!(distinct.len(), 2 * (others.len() + 1));
    }

    #[test]
    fn the_order_of_actions_asked_for_changes_no_key() {
        let row = row(vec![("user", vec![text("x")])]);
        let few = Question::new(&options(), &row, 1).expect("a question").keys;
        let many = Question::new(&options(), &row, 3).expect("a question").keys;
        assert_eq!(few[0], many[0]);
    }

    #[test]
    fn prompt_tokens_are_estimated() {
        let row = row(vec![("user", vec![ContentPart::Image, text("12345678")])]);
        let question = Question::new(&options(), &row, 1).expect("a question");
        // 4 of the turn, 1 of the 10 x 10 picture, 2 of eight bytes.
        assert_eq!(question.estimated_tokens(401_408), 7);
    }
}
