//! What a server turned out to want: optional parameters that it refuses by name are left out from then on. Knows nothing
//! of sockets, of prompts or of what the parameters do.

use serde_json::Value;

/// A part of a request that servers may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parameter {
    Seed,
    Logprobs,
    TopP,
    Temperature,
    MaxTokens,
    /// Several answers at once; it is never left out but asked for one by one.
    N,
}

impl Parameter {
    const ALL: [Self; 6] = [
        Self::Seed,
        Self::Logprobs,
        Self::TopP,
        Self::Temperature,
        Self::MaxTokens,
        Self::N,
    ];

    /// The name in a request.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Seed => "seed",
            Self::Logprobs => "logprobs",
            Self::TopP => "top_p",
            Self::Temperature => "temperature",
            Self::MaxTokens => "max_tokens",
            Self::N => "n",
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// How a server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Dialect {
    /// Newer OpenAI models know the limit of tokens under this name only.
    pub(super) max_completion_tokens: bool,
    /// Parameters that are not sent, as bits.
    left_out: u8,
}

/// What to do differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// The limit is called `max_completion_tokens`.
    NewerName,
    /// This parameter stays away.
    Without(Parameter),
    /// One answer a request.
    OneByOne,
}

impl Dialect {
    /// Whether the parameter is sent, if the entry has a value for it.
    pub(super) const fn sends(self, parameter: Parameter) -> bool {
        self.left_out & parameter.bit() == 0
    }

    /// This dialect with one more thing known.
    #[must_use]
    pub(super) const fn with(mut self, change: Change) -> Self {
        match change {
            Change::NewerName => self.max_completion_tokens = true,
            Change::Without(parameter) => self.left_out |= parameter.bit(),
            Change::OneByOne => {}
        }
        self
    }

    /// Names of the parameters that the server refused.
    pub(super) fn left_out(self) -> Vec<&'static str> {
        let absent = Parameter::ALL
            .into_iter()
            .filter(|parameter| !self.sends(*parameter));
        absent.map(Parameter::name).collect()
    }

    /// What the words of a refused request ask to be changed; `None` where they name nothing that was sent.
    ///
    /// Servers name a parameter as OpenAI does (`error.param`), as pydantic does (a list `loc`), or in a sentence. Of
    /// several in a sentence the first counts; if the server minds another one, it says so at the next try.
    pub(super) fn objection(self, body: &str, sent: &[Parameter]) -> Option<Change> {
        let sent = |parameter: &Parameter| sent.contains(parameter) && self.sends(*parameter);
        if sent(&Parameter::MaxTokens)
            && !self.max_completion_tokens
            && body.contains("max_completion_tokens")
        {
            return Some(Change::NewerName);
        }
        let named = |name: &str| {
            let matches = |parameter: &Parameter| match parameter {
                Parameter::MaxTokens => ["max_tokens", "max_completion_tokens"].contains(&name),
                other => other.name() == name,
            };
            Parameter::ALL.into_iter().filter(sent).find(matches)
        };
        let exact = serde_json::from_str(body).ok().and_then(|value| {
            let mut names = Vec::new();
            pointed_at(&value, 0, &mut names);
            names.iter().find_map(|name| named(name))
        });
        let found = exact.or_else(|| words(body).find_map(|word| named_in_words(word, &named)))?;
        Some(match found {
            Parameter::N => Change::OneByOne,
            other => Change::Without(other),
        })
    }
}

/// Names in the places of an error that point at a part of the request: `param` and `loc`.
fn pointed_at<'a>(value: &'a Value, depth: usize, names: &mut Vec<&'a str>) {
    const DEEPEST: usize = 8;
    if depth == DEEPEST {
        return;
    }
    match value {
        Value::Object(fields) => {
            for (key, value) in fields {
                match (key.as_str(), value) {
                    ("param", Value::String(name)) => {
                        names.extend(name.rsplit('.').next());
                    }
                    ("loc", Value::Array(steps)) => {
                        names.extend(steps.iter().filter_map(Value::as_str));
                    }
                    _ => pointed_at(value, depth + 1, names),
                }
            }
        }
        Value::Array(items) => items
            .iter()
            .for_each(|item| pointed_at(item, depth + 1, names)),
        _ => {}
    }
}

/// A word of a sentence: the word itself, and the characters before and after it.
type Word<'a> = (&'a str, Option<char>, Option<char>);

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    let is_part = |letter: char| letter.is_alphanumeric() || letter == '_';
    let mut start = 0;
    std::iter::from_fn(move || {
        let from = start + text[start..].find(is_part)?;
        let length = text[from..].find(|letter| !is_part(letter));
        let end = length.map_or(text.len(), |length| from + length);
        start = end;
        let before = text[..from].chars().next_back();
        Some((&text[from..end], before, text[end..].chars().next()))
    })
}

/// `n` is also a letter: only in quotes, or before a sign of comparison, does it name the parameter.
fn named_in_words(
    (word, before, after): Word<'_>,
    named: &dyn Fn(&str) -> Option<Parameter>,
) -> Option<Parameter> {
    let quote = |letter: Option<char>| letter.is_some_and(|letter| "`'\"".contains(letter));
    let compared = before.is_none_or(|letter| letter == ' ')
        && after.is_some_and(|letter| " =><:".contains(letter));
    if word == "n" && !(quote(before) && quote(after)) && !compared {
        return None;
    }
    named(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [Parameter; 6] = Parameter::ALL;

    fn objection(body: &str) -> Option<Change> {
        Dialect::default().objection(body, &SENT)
    }

    #[test]
    fn parameters_are_found_in_the_words_of_many_servers() {
        let without = |parameter| Some(Change::Without(parameter));
        for (body, expected) in [
            // Mistral.
            (
                r#"{"object": "error", "message": {"detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "unknown input", "input": 3}]}}"#,
                without(Parameter::Seed),
            ),
            // Gemini's compatible address.
            (
                r#"[{"error": {"code": 400, "message": "Invalid JSON payload received. Unknown name \"seed\": Cannot find field."}}]"#,
                without(Parameter::Seed),
            ),
            // OpenAI, new and old.
            (
                r#"{"error": {"message": "Unsupported parameter: 'temperature' is not supported with this model.", "param": "temperature", "code": "unsupported_parameter"}}"#,
                without(Parameter::Temperature),
            ),
            (
                r#"{"error": {"message": "Unsupported value: 'temperature' does not support 0.2 with this model. Only the default (1) value is supported.", "param": "temperature"}}"#,
                without(Parameter::Temperature),
            ),
            (
                r#"{"error": {"message": "Unrecognized request argument supplied: seed", "param": null}}"#,
                without(Parameter::Seed),
            ),
            (
                r#"{"error": {"message": "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "param": "max_tokens"}}"#,
                Some(Change::NewerName),
            ),
            // Groq, DeepSeek, Azure.
            (
                r#"{"error": {"message": "property 'logprobs' is unsupported"}}"#,
                without(Parameter::Logprobs),
            ),
            (
                "The parameter logprobs is not supported for this model",
                without(Parameter::Logprobs),
            ),
            // Anthropic's compatible address.
            (
                r#"{"type": "error", "error": {"type": "invalid_request_error", "message": "top_p: cannot be set when thinking is enabled"}}"#,
                without(Parameter::TopP),
            ),
            (
                "max_tokens must not be given",
                without(Parameter::MaxTokens),
            ),
            ("'n' must be 1", Some(Change::OneByOne)),
            ("n > 1 is not supported", Some(Change::OneByOne)),
            ("only n=1 is allowed", Some(Change::OneByOne)),
            (
                r#"{"detail": [{"loc": ["body", "n"], "msg": "extra"}]}"#,
                Some(Change::OneByOne),
            ),
            (
                r#"{"error": {"param": "messages.0.content", "message": "bad"}}"#,
                None,
            ),
            ("the seeded model is loading", None),
            ("max_tokens_per_minute", None),
            ("an n-gram", None),
            ("not a model", None),
            ("", None),
        ] {
            assert_eq!(objection(body), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_sent_cannot_be_the_fault() {
        let body = "`seed` and `temperature` are unknown";
        let first = objection(body).expect("the first");
        assert_eq!(first, Change::Without(Parameter::Seed));
        let next = Dialect::default().with(first);
        assert_eq!(
            next.objection(body, &SENT),
            Some(Change::Without(Parameter::Temperature))
        );
        let last = next.with(Change::Without(Parameter::Temperature));
        assert_eq!(last.objection(body, &SENT), None);
        assert_eq!(last.left_out(), ["seed", "temperature"]);
        let unsent = [Parameter::MaxTokens];
        assert_eq!(Dialect::default().objection(body, &unsent), None);
    }

    #[test]
    fn a_name_that_is_known_is_left_out_where_it_is_refused_too() {
        let newer = Dialect::default().with(Change::NewerName);
        let found = newer.objection("`max_completion_tokens` is too large", &SENT);
        assert_eq!(found, Some(Change::Without(Parameter::MaxTokens)));
    }
}
