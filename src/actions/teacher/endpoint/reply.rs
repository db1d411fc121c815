//! A server's answer to a chat request: its choices, what they took, and what it says where it does not answer. A
//! server's text is data: checked, cleaned and freed of the key here, before anything else sees it.

use serde_json::Value;

use super::failure::{Failure, FailureReason};
use super::secret::Secret;
use super::text::{MAX_TEXT_BYTES, quoted, without_controls};
use crate::actions::teacher::TokenTexts;
use crate::record::FinishReason;

/// Tokens of a request as the server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Usage {
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Choice {
    pub(super) text: String,
    pub(super) finish_reason: FinishReason,
    pub(super) token_texts: Option<TokenTexts>,
}

/// A whole answer; by default one without choices.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Reply {
    /// In the server's order; a choice with nothing in it is a failure.
    pub(super) choices: Vec<Result<Choice, Failure>>,
    pub(super) usage: Option<Usage>,
}

/// What a body is, besides an answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fault {
    /// Not an answer at all.
    Unreadable(Failure),
    /// An error object under a status of success, with the status that it names.
    Error { status: u16, words: String },
}

/// Makes a server's text safe: no control characters, no key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cleaner<'a>(pub(super) Option<&'a Secret>);

impl Cleaner<'_> {
    /// For messages: everything that looks like the key goes.
    pub(super) fn words(self, text: &str) -> String {
        let text = without_controls(text);
        quoted(
            &self
                .0
                .map_or_else(|| text.clone(), |secret| secret.scrubbed(&text)),
        )
    }

    /// For answers: a place-holder key is an ordinary word and stays.
    fn answer(self, text: &str) -> String {
        let text = without_controls(text);
        match self.0 {
            Some(secret) if !secret.is_placeholder() => secret.scrubbed(&text),
            _ => text,
        }
    }
}

/// Reads the body of a success.
///
/// # Errors
/// [`Fault`] where it is no answer.
pub(super) fn parse(body: &[u8], cleaner: Cleaner<'_>) -> Result<Reply, Fault> {
    let unreadable = |reason, words: String| Fault::Unreadable(Failure::new(reason, words));
    let text = std::str::from_utf8(body).map_err(|error| {
        unreadable(
            FailureReason::NotUtf8,
            format!("the body is not UTF-8: {error}"),
        )
    })?;
    let value: Value = serde_json::from_str(text).map_err(|_| {
        // The parser's message may quote the body; the cleaned beginning says more.
        let start: String = text.chars().take(2000).collect();
        unreadable(
            FailureReason::BadJson,
            format!("expected JSON, found {}", shown(&cleaner.words(&start))),
        )
    })?;
    if let Some(error) = value.get("error").filter(|error| !error.is_null()) {
        let status = error
            .get("code")
            .and_then(Value::as_u64)
            .and_then(|code| u16::try_from(code).ok());
        let status = status
            .filter(|status| (400..600).contains(status))
            .unwrap_or(500);
        return Err(Fault::Error {
            status,
            words: cleaner.words(&message_of(&value)),
        });
    }
    let Some(choices) = value.get("choices").and_then(Value::as_array) else {
        let words = format!("expected `choices`, found {}", shown(&cleaner.words(text)));
        return Err(unreadable(FailureReason::BadJson, words));
    };
    let mut choices: Vec<&Value> = choices.iter().collect();
    choices.sort_by_key(|choice| choice.get("index").and_then(Value::as_u64).unwrap_or(0));
    Ok(Reply {
        choices: choices
            .into_iter()
            .map(|choice| read_choice(choice, cleaner))
            .collect(),
        usage: value.get("usage").and_then(read_usage),
    })
}

/// A server's own words about an error: the message inside the usual JSON, else the body as it is.
pub(super) fn words_of(body: &[u8], cleaner: Cleaner<'_>) -> String {
    let text = String::from_utf8_lossy(body);
    let words = match serde_json::from_str::<Value>(&text) {
        Ok(value) => message_of(&value),
        Err(_) => text.into_owned(),
    };
    shown(&cleaner.words(&words)).to_owned()
}

fn shown(words: &str) -> &str {
    if words.is_empty() { "nothing" } else { words }
}

/// `error.message`, `error`, `message` or `detail`, whichever there is.
fn message_of(value: &Value) -> String {
    let places = ["/error/message", "/error", "/message", "/detail"];
    let found = places
        .iter()
        .filter_map(|place| value.pointer(place))
        .find(|value| !value.is_null());
    match found.unwrap_or(value) {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn read_choice(choice: &Value, cleaner: Cleaner<'_>) -> Result<Choice, Failure> {
    let message = choice.get("message");
    let content = message
        .and_then(|message| message.get("content"))
        .map(content_text)
        .unwrap_or_default();
    let finish = choice
        .get("finish_reason")
        .and_then(Value::as_str)
        .unwrap_or("stop");
    let refusal = message
        .and_then(|message| message.get("refusal"))
        .and_then(Value::as_str);
    if let Some(refusal) = refusal.filter(|refusal| !refusal.is_empty()) {
        return Err(Failure::new(FailureReason::Refused, cleaner.words(refusal)));
    }
    if finish == "content_filter" {
        return Err(Failure::new(
            FailureReason::Refused,
            "`finish_reason` is `content_filter`",
        ));
    }
    if content.len() > MAX_TEXT_BYTES {
        let words = format!(
            "a text of {} bytes, expected at most {MAX_TEXT_BYTES}",
            content.len()
        );
        return Err(Failure::new(FailureReason::TooLarge, words));
    }
    let text = cleaner.answer(&content);
    if text.trim().is_empty() {
        let words = format!("no text, `finish_reason` is `{}`", cleaner.words(finish));
        return Err(Failure::new(FailureReason::EmptyChoice, words));
    }
    let finish_reason = match finish {
        "length" | "max_tokens" | "MAX_TOKENS" => FinishReason::Length,
        _ => FinishReason::Stop,
    };
    // Tokens of a text that had to be changed would not belong to it, and could spell the key.
    let token_texts = (text == content).then(|| read_tokens(choice)).flatten();
    Ok(Choice {
        text,
        finish_reason,
        token_texts,
    })
}

/// Text of a content that is a string, null, or a list of parts.
fn content_text(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let text = |part: &Value| part.get("text").and_then(Value::as_str).map(str::to_owned);
            parts.iter().filter_map(text).collect()
        }
        _ => String::new(),
    }
}

fn read_tokens(choice: &Value) -> Option<TokenTexts> {
    let mut found = TokenTexts::default();
    for entry in choice.pointer("/logprobs/content")?.as_array()? {
        let bytes = entry.get("bytes").and_then(Value::as_array).map(|bytes| {
            let byte = |value: &Value| value.as_u64().and_then(|value| u8::try_from(value).ok());
            bytes.iter().map(byte).collect::<Option<Vec<u8>>>()
        });
        let piece = match bytes {
            Some(bytes) => bytes?,
            None => entry.get("token")?.as_str()?.as_bytes().to_vec(),
        };
        let logprob = entry.get("logprob")?.as_f64()? as f32;
        if !logprob.is_finite() || logprob > 0.0 {
            return None;
        }
        found.pieces.push(piece);
        found.logprobs.push(logprob);
    }
    Some(found)
}

fn read_usage(usage: &Value) -> Option<Usage> {
    Some(Usage {
        input_tokens: usage.get("prompt_tokens")?.as_u64()?,
        output_tokens: usage.get("completion_tokens")?.as_u64()?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(value: &Value) -> Reply {
        parse(value.to_string().as_bytes(), Cleaner(None)).expect("an answer")
    }

    fn one(choice: Value) -> Result<Choice, Failure> {
        let mut choices = read(&json!({"choices": [choice]})).choices;
        assert_eq!(choices.len(), 1);
        choices.remove(0)
    }

    fn reason(choice: Value) -> FailureReason {
        one(choice).expect_err("a failure").reason
    }

    #[test]
    fn an_answer_is_read() {
        let reply = read(&json!({
            "choices": [
                {"index": 1, "message": {"role": "assistant", "content": "b"}, "finish_reason": "length"},
                {"index": 0, "message": {"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "A"}]}, "finish_reason": null},
            ],
            "usage": {"prompt_tokens": 53, "completion_tokens": 8, "total_tokens": 61},
        }));
        let choices: Vec<_> = reply
            .choices
            .into_iter()
            .map(|choice| choice.expect("text"))
            .collect();
        assert_eq!(
            (choices[0].text.as_str(), choices[0].finish_reason),
            ("aA", FinishReason::Stop)
        );
        assert_eq!(
            (choices[1].text.as_str(), choices[1].finish_reason),
            ("b", FinishReason::Length)
        );
        assert_eq!(
            reply.usage,
            Some(Usage {
                input_tokens: 53,
                output_tokens: 8
            })
        );
        assert_eq!(
            read(&json!({"choices": [], "usage": null})),
            Reply {
                choices: vec![],
                usage: None
            }
        );
    }

    #[test]
    fn choices_without_text_have_a_reason() {
        for empty in [
            json!({}),
            json!(null),
            json!({"message": {"content": null}, "finish_reason": "tool_calls"}),
            json!({"message": {"content": " \u{0}\n"}}),
            json!({"message": {"content": []}}),
        ] {
            assert_eq!(reason(empty), FailureReason::EmptyChoice);
        }
        assert_eq!(
            reason(json!({"message": {"content": null, "refusal": "No."}})),
            FailureReason::Refused
        );
        assert_eq!(
            reason(json!({"message": {"content": "half"}, "finish_reason": "content_filter"})),
            FailureReason::Refused
        );
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert_eq!(
            reason(json!({"message": {"content": long}})),
            FailureReason::TooLarge
        );
    }

    #[test]
    fn text_is_cleaned_and_its_tokens_dropped_with_it() {
        let tokens = json!({"content": [{"token": "a\u{1b}b", "logprob": -0.5}]});
        let choice =
            one(json!({"message": {"content": "a\u{1b}b"}, "logprobs": tokens})).expect("text");
        assert_eq!((choice.text.as_str(), choice.token_texts), ("ab", None));
        let secret = Secret::new("sk-planted-1").expect("a key");
        let body =
            json!({"choices": [{"message": {"content": "it is sk-\u{0}planted-1"}}]}).to_string();
        let reply = parse(body.as_bytes(), Cleaner(Some(&secret))).expect("an answer");
        assert_eq!(
            reply.choices[0].as_ref().expect("text").text,
            "it is [key removed]"
        );
        let placeholder = Secret::new("EMPTY").expect("a key");
        let body = json!({"choices": [{"message": {"content": "Empty."}}]}).to_string();
        let reply = parse(body.as_bytes(), Cleaner(Some(&placeholder))).expect("an answer");
        assert_eq!(reply.choices[0].as_ref().expect("text").text, "Empty.");
    }

    #[test]
    fn tokens_are_kept_as_bytes() {
        let tokens = json!({"content": [
            {"token": "é", "logprob": -0.25, "bytes": null},
            {"token": "\u{fffd}", "logprob": -1, "bytes": [0xe2, 0x82]},
        ]});
        let found = one(json!({"message": {"content": "x"}, "logprobs": tokens}))
            .expect("text")
            .token_texts
            .expect("tokens");
        assert_eq!(
            (found.pieces, found.logprobs),
            (vec![vec![0xc3, 0xa9], vec![0xe2, 0x82]], vec![-0.25, -1.0])
        );
        for broken in [
            json!({"content": [{"token": "x"}]}),
            json!({"content": [{"token": "x", "logprob": 0.5}]}),
            json!({"content": [{"token": "x", "logprob": -1, "bytes": [256]}]}),
            json!({"content": null}),
            json!(null),
        ] {
            let choice =
                one(json!({"message": {"content": "x"}, "logprobs": broken})).expect("text");
            assert_eq!(choice.token_texts, None);
        }
    }

    #[test]
    fn bodies_that_are_no_answer_have_a_reason() {
        let fault = |body: &[u8]| match parse(body, Cleaner(None)) {
            Err(Fault::Unreadable(failure)) => (failure.reason, failure.words),
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(b"{\"choices\": [\xff]}").0, FailureReason::NotUtf8);
        assert_eq!(fault(b"{\"choices\": [{\"mess").0, FailureReason::BadJson);
        assert_eq!(fault(b"").1, "expected JSON, found nothing");
        assert_eq!(
            fault(b"<html>\n <b>Login</b>").1,
            "expected JSON, found <html> <b>Login</b>"
        );
        assert_eq!(fault(b"[1]").1, "expected `choices`, found [1]");
        assert_eq!(
            fault(br#"{"choices": [{"message": {"content": "\ud800"}}]}"#).0,
            FailureReason::BadJson
        );
    }

    #[test]
    fn an_error_under_a_success_is_an_error() {
        let error = |value: Value| {
            parse(value.to_string().as_bytes(), Cleaner(None)).expect_err("an error")
        };
        let limited = json!({"error": {"code": 429, "message": "slow down"}, "choices": null});
        assert_eq!(
            error(limited),
            Fault::Error {
                status: 429,
                words: "slow down".to_owned()
            }
        );
        assert_eq!(
            error(json!({"error": "bad"})),
            Fault::Error {
                status: 500,
                words: "bad".to_owned()
            }
        );
    }

    #[test]
    fn an_error_is_quoted_in_its_own_words_without_the_key() {
        let secret = Secret::new("sk-planted-1").expect("a key");
        let words = |body: &str| words_of(body.as_bytes(), Cleaner(Some(&secret)));
        assert_eq!(
            words(r#"{"error": {"message": "no such\nmodel"}}"#),
            "no such model"
        );
        assert_eq!(words(r#"{"detail": ["x"]}"#), "[\"x\"]");
        assert_eq!(
            words(r#"{"error": {"message": "bad key \u0073k-planted-1"}}"#),
            "bad key [key removed]"
        );
        assert_eq!(
            words(&format!("{}sk-planted-1", "a".repeat(295))),
            format!("{}[key ... (308 characters)", "a".repeat(295))
        );
        assert_eq!(words(""), "nothing");
    }
}
