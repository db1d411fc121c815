//! A server's answer to a chat request: its choices, what they took, and what it says where it does not answer. A
//! server's text is data: checked, cleaned and freed of the key here, before anything else sees it.

use serde_json::Value;

use super::failure::{Failure, FailureReason};
use super::provider_error::{message_of, status_of};
use super::text::{MAX_TEXT_BYTES, quoted, without_controls};
use crate::actions::secret::Secret;
use crate::actions::teacher::{Ending, TokenTexts, reasoning};
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
    /// The answer itself.
    pub(super) text: String,
    /// Thoughts that the server gave apart from it.
    pub(super) thoughts: Option<String>,
    pub(super) finish_reason: FinishReason,
    pub(super) token_texts: Option<TokenTexts>,
}

impl Choice {
    /// Bytes of everything that the model wrote.
    pub(super) fn bytes(&self) -> usize {
        self.text.len() + self.thoughts.as_ref().map_or(0, String::len)
    }
}

impl Usage {
    /// Adds the tokens of another request.
    pub(super) const fn add(&mut self, other: Self) {
        self.input_tokens = self.input_tokens.saturating_add(other.input_tokens);
        self.output_tokens = self.output_tokens.saturating_add(other.output_tokens);
    }
}

/// A whole answer; by default one without choices.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Reply {
    /// In the server's order; a choice with nothing in it is a failure.
    pub(super) choices: Vec<Result<Choice, Failure>>,
    pub(super) usage: Option<Usage>,
}

impl Reply {
    /// Why there is nothing in it for now: no choice at all, or only choices whose fault passes.
    pub(super) fn passing_failure(&self) -> Option<Failure> {
        let no_choice = || Failure::new(FailureReason::Unfinished, "an answer without choices");
        let passes = |choice: &Result<Choice, Failure>| match choice {
            Err(failure) if failure.reason.may_pass_inside() => Some(failure.clone()),
            _ => None,
        };
        let failures: Option<Vec<Failure>> = self.choices.iter().map(passes).collect();
        failures.map(|failures| failures.into_iter().next().unwrap_or_else(no_choice))
    }
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
    let is_error = value.get("object").is_some_and(|kind| kind == "error");
    let error = value.get("error").filter(|error| !error.is_null());
    if let Some(error) = error.or(is_error.then_some(&value)) {
        return Err(Fault::Error {
            status: status_of(error, None),
            words: cleaner.words(&message_of(&value)),
        });
    }
    let choices: &[Value] = match value.get("choices") {
        Some(Value::Array(choices)) => choices,
        // Relays write this too where the model behind them gave nothing.
        Some(Value::Null) => &[],
        _ => {
            let words = format!("expected `choices`, found {}", shown(&cleaner.words(text)));
            return Err(unreadable(FailureReason::BadJson, words));
        }
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

fn read_choice(choice: &Value, cleaner: Cleaner<'_>) -> Result<Choice, Failure> {
    if let Some(error) = choice.get("error").filter(|error| !error.is_null()) {
        return Err(inner_error(error, cleaner));
    }
    let message = choice.get("message").unwrap_or(&Value::Null);
    let refusal = message.get("refusal").and_then(Value::as_str);
    if let Some(refusal) = refusal.filter(|refusal| !refusal.is_empty()) {
        return Err(Failure::new(FailureReason::Refused, cleaner.words(refusal)));
    }
    let finish_reason = ordinary_end(choice, cleaner)?;
    let (thoughts, content) = reasoning::split(message);
    let length = content.len() + thoughts.as_ref().map_or(0, String::len);
    if length > MAX_TEXT_BYTES {
        let words = format!("a text of {length} bytes, expected at most {MAX_TEXT_BYTES}");
        return Err(Failure::new(FailureReason::TooLarge, words));
    }
    let text = cleaner.answer(&content);
    if text.trim().is_empty() {
        let spent = match (thoughts, finish_reason) {
            (Some(_), FinishReason::Length) => {
                "; all of `max_tokens` went into the reasoning, so raise it"
            }
            _ => "",
        };
        let words = format!("no text, {}{spent}", shown_end(choice, cleaner));
        return Err(Failure::new(FailureReason::EmptyChoice, words));
    }
    // Tokens of a text that had to be changed would not belong to it, and could spell the key.
    let token_texts = (text == content).then(|| read_tokens(choice)).flatten();
    Ok(Choice {
        text,
        thoughts: thoughts.map(|thoughts| cleaner.answer(&thoughts)),
        finish_reason,
        token_texts,
    })
}

/// A relay's way to say under a success that the model behind it failed.
fn inner_error(error: &Value, cleaner: Cleaner<'_>) -> Failure {
    let status = status_of(error, None);
    let words = cleaner.words(&message_of(&serde_json::json!({ "error": error })));
    let words = quoted(&format!("status {status} inside the answer: {words}"));
    Failure::new(FailureReason::of_status(status), words)
}

/// The word for the end, for messages.
fn shown_end(choice: &Value, cleaner: Cleaner<'_>) -> String {
    match choice.get("finish_reason") {
        None | Some(Value::Null) => "without a `finish_reason`".to_owned(),
        Some(Value::String(word)) => format!("`finish_reason` is `{}`", cleaner.words(word)),
        Some(other) => format!("`finish_reason` is {}", cleaner.words(&other.to_string())),
    }
}

/// Why the text ended, where it is a whole one or one cut at a limit.
fn ordinary_end(choice: &Value, cleaner: Cleaner<'_>) -> Result<FinishReason, Failure> {
    let ending = match choice.get("finish_reason") {
        None | Some(Value::Null) => Ending::of(None),
        Some(Value::String(word)) => Ending::of(Some(word)),
        Some(_) => Ending::Unknown,
    };
    let reason = match ending {
        Ending::Refused => FailureReason::Refused,
        Ending::ToolCall => FailureReason::EmptyChoice,
        Ending::BrokenOff => FailureReason::Unfinished,
        Ending::Whole | Ending::CutOff | Ending::Unknown => FailureReason::UnknownEnd,
    };
    let words = || match ending {
        Ending::ToolCall => ": the model called a tool in place of an answer",
        Ending::BrokenOff => ": the server broke off",
        Ending::Unknown => ", which is no ordinary end that is known here",
        _ => "",
    };
    ending.finish_reason().ok_or_else(|| {
        let words = format!("{}{}", shown_end(choice, cleaner), words());
        Failure::new(reason, words)
    })
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
        for empty in [
            json!({"choices": [], "usage": null}),
            json!({"choices": null}),
        ] {
            let found = read(&empty);
            assert_eq!(found, Reply::default());
            let failure = found.passing_failure().expect("it passes");
            assert_eq!(failure.reason, FailureReason::Unfinished);
        }
    }

    #[test]
    fn choices_without_text_have_a_reason() {
        for empty in [
            json!({}),
            json!(null),
            json!({"message": {"content": null}, "finish_reason": "tool_calls"}),
            json!({"message": {"content": "I look it up."}, "finish_reason": "tool_calls"}),
            json!({"message": {"content": null, "reasoning_content": "I count"}, "finish_reason": "length"}),
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
            error(json!({"object": "error", "message": "no such model", "code": 404})),
            Fault::Error {
                status: 404,
                words: "no such model".to_owned()
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
