//! Thoughts that a server or a file gives apart from the answer (`reasoning_content`, `reasoning`, parts of type
//! `thinking`), and how the two become one text. Knows nothing of rewards.

use serde_json::Value;

use crate::options::Reasoning;

const OPENING: &str = "<think>";
const CLOSING: &str = "</think>";
/// Where a message keeps its thoughts: DeepSeek and vLLM; OpenRouter, Groq and newer vLLM; Ollama; OpenRouter again.
pub(super) const KEYS: [&str; 4] = [
    "reasoning_content",
    "reasoning",
    "thinking",
    "reasoning_details",
];
/// Types of parts that are thoughts: Mistral and Anthropic; OpenAI's and OpenRouter's.
const PART_TYPES: [&str; 6] = [
    "thinking",
    "reasoning",
    "reasoning_content",
    "reasoning.text",
    "reasoning.summary",
    "thought",
];

/// What a message says: its thoughts, if they stand apart, and its answer.
pub(super) fn split(message: &Value) -> (Option<String>, String) {
    let mut answer = String::new();
    let mut thoughts = String::new();
    match message.get("content") {
        Some(Value::Array(parts)) => {
            for part in parts {
                if is_thought(part) {
                    add_paragraph(&mut thoughts, &thought_text(part));
                } else if let Some(text) = part.get("text").and_then(Value::as_str) {
                    answer.push_str(text);
                }
            }
        }
        Some(Value::String(text)) => answer.push_str(text),
        _ => {}
    }
    let inside = unwrapped(&thoughts);
    let thoughts = (!inside.is_empty()).then(|| inside.to_owned());
    (thoughts.or_else(|| beside(|key| message.get(key))), answer)
}

/// The thoughts that stand beside a text, under one of the usual keys. A relay may say the same thing under several: the
/// first that says anything counts.
pub(super) fn beside<'a>(value_of: impl Fn(&str) -> Option<&'a Value>) -> Option<String> {
    let mut texts = KEYS
        .iter()
        .filter_map(|key| value_of(key))
        .map(thought_text);
    let text = texts.find(|text| !unwrapped(text).is_empty())?;
    Some(unwrapped(&text).to_owned())
}

/// The text that trains: `answer` as it came, or together with its thoughts.
///
/// [`Reasoning::Think`]: thoughts apart become `<think>…</think>` and a line feed before the answer, unless it opens with
/// such a block itself; an answer whose block was opened by the server's prompt template, so that only `</think>`
/// is left, gets its opening back. [`Reasoning::Drop`]: neither thoughts apart nor a block at the beginning are kept.
pub(super) fn told(thoughts: Option<&str>, answer: &str, reasoning: Reasoning) -> String {
    let body = answer.trim_start();
    match reasoning {
        Reasoning::AsIs => answer.to_owned(),
        Reasoning::Drop => without_block(body).unwrap_or(answer).to_owned(),
        Reasoning::Think => match thoughts {
            _ if body.starts_with(OPENING) => answer.to_owned(),
            _ if body.contains(CLOSING) && !body.contains(OPENING) => format!("{OPENING}{body}"),
            Some(thoughts) => format!("{OPENING}{thoughts}{CLOSING}\n{body}"),
            None => answer.to_owned(),
        },
    }
}

/// What follows a block of thoughts at the beginning, its opening written or not.
fn without_block(body: &str) -> Option<&str> {
    let (thoughts, rest) = body.split_once(CLOSING)?;
    let inside = thoughts.strip_prefix(OPENING).unwrap_or(thoughts);
    (!inside.contains(OPENING)).then(|| rest.trim_start())
}

/// Thoughts without the tags that some servers leave around them.
fn unwrapped(thoughts: &str) -> &str {
    let thoughts = thoughts.trim();
    let thoughts = thoughts.strip_prefix(OPENING).unwrap_or(thoughts);
    thoughts.strip_suffix(CLOSING).unwrap_or(thoughts).trim()
}

fn is_thought(part: &Value) -> bool {
    let kind = part.get("type").and_then(Value::as_str).unwrap_or_default();
    let marked = part.get("thought").and_then(Value::as_bool) == Some(true);
    marked || PART_TYPES.contains(&kind)
}

/// Text of a thought: text itself, a part under any of its names, or a list of these. Encrypted ones have none.
fn thought_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let mut text = String::new();
            for item in items {
                add_paragraph(&mut text, &thought_text(item));
            }
            text
        }
        Value::Object(part) => {
            let names = ["thinking", "text", "reasoning", "summary", "content"];
            let found = names.iter().filter_map(|name| part.get(*name));
            let mut texts = found.map(thought_text);
            texts.find(|text| !text.is_empty()).unwrap_or_default()
        }
        _ => String::new(),
    }
}

fn add_paragraph(text: &mut String, next: &str) {
    if !text.is_empty() && !next.is_empty() {
        text.push('\n');
    }
    text.push_str(next);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const THOUGHT: &str = "I count one shape.";
    const ANSWER: &str = "<answer>1</answer>";

    #[test]
    fn thoughts_are_found_where_servers_put_them() {
        for message in [
            json!({"content": ANSWER, "reasoning_content": THOUGHT}),
            json!({"content": ANSWER, "reasoning": THOUGHT}),
            json!({"content": ANSWER, "thinking": THOUGHT}),
            json!({"content": ANSWER, "reasoning": THOUGHT, "reasoning_content": THOUGHT}),
            json!({"content": ANSWER, "reasoning_content": null, "reasoning": THOUGHT}),
            json!({"content": ANSWER, "reasoning_content": format!("<think>\n{THOUGHT}\n</think>\n")}),
            json!({"content": ANSWER, "reasoning": {"content": THOUGHT}}),
            json!({"content": ANSWER, "reasoning": null,
                "reasoning_details": [{"type": "reasoning.text", "text": THOUGHT}, {"type": "reasoning.encrypted", "data": "x"}]}),
            json!({"content": [{"type": "thinking", "thinking": THOUGHT}, {"type": "text", "text": ANSWER}]}),
            json!({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}, {"type": "text", "text": ANSWER}]}),
            json!({"content": [{"type": "reasoning", "text": THOUGHT}, {"type": "output_text", "text": ANSWER}]}),
            json!({"content": [{"type": "reasoning", "summary": [{"type": "summary_text", "text": THOUGHT}]}, {"type": "text", "text": ANSWER}]}),
            json!({"content": [{"text": THOUGHT, "thought": true}, {"text": ANSWER}]}),
            json!({"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": ANSWER}], "reasoning": THOUGHT}),
        ] {
            let found = split(&message);
            assert_eq!(
                found,
                (Some(THOUGHT.to_owned()), ANSWER.to_owned()),
                "{message}"
            );
        }
        for message in [
            json!({"content": ANSWER}),
            json!({"content": ANSWER, "reasoning_content": "", "reasoning": null}),
            json!({"content": ANSWER, "reasoning_content": " \n"}),
            json!({"content": [{"type": "text", "text": ANSWER}]}),
        ] {
            assert_eq!(split(&message), (None, ANSWER.to_owned()), "{message}");
        }
        assert_eq!(split(&json!(null)), (None, String::new()));
        let only_thoughts = json!({"content": null, "reasoning_content": THOUGHT});
        assert_eq!(
            split(&only_thoughts),
            (Some(THOUGHT.to_owned()), String::new())
        );
    }

    #[test]
    fn thoughts_and_answer_become_one_text() {
        let whole = format!("{OPENING}{THOUGHT}{CLOSING}\n{ANSWER}");
        for (thoughts, answer, think, drop) in [
            (Some(THOUGHT), ANSWER, whole.as_str(), ANSWER),
            (
                Some(THOUGHT),
                "\n\n<answer>1</answer>",
                &whole,
                "\n\n<answer>1</answer>",
            ),
            (None, ANSWER, ANSWER, ANSWER),
            (None, &whole, &whole, ANSWER),
            (Some(THOUGHT), &whole, &whole, ANSWER),
            (
                None,
                "I count one shape.</think>\n<answer>1</answer>",
                &whole,
                ANSWER,
            ),
        ] {
            assert_eq!(told(thoughts, answer, Reasoning::Think), think, "{answer}");
            assert_eq!(told(thoughts, answer, Reasoning::Drop), drop, "{answer}");
            assert_eq!(told(thoughts, answer, Reasoning::AsIs), answer);
        }
        let nested = "<think>a<think>b</think>c";
        assert_eq!(
            told(None, nested, Reasoning::Drop),
            nested,
            "no clear block"
        );
    }
}
