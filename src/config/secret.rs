//! What must not be shown: values that look like the keys of services, wherever somebody put them.
//!
//! Goes by form alone and knows no real key; it errs towards hiding.

use serde_json::{Map, Value};

/// What stands in a message where such a value stood.
const HIDDEN: &str = "<hidden>";
/// How the keys of well-known services begin.
const PREFIXES: [&str; 22] = [
    "sk-",
    "sk_",
    "pk-",
    "pk_",
    "rk_",
    "hf_",
    "gsk_",
    "xai-",
    "ghp_",
    "gho_",
    "ghs_",
    "github_pat_",
    "glpat-",
    "AIza",
    "AKIA",
    "ya29.",
    "eyJ",
    "nvapi-",
    "r8_",
    "pplx-",
    "fw_",
    "tgp_",
];
/// Last words of the names of keys and variables that hold secrets.
const SECRET_WORDS: [&str; 7] = [
    "key",
    "apikey",
    "token",
    "secret",
    "password",
    "passwd",
    "authorization",
];

/// Whether a word has the form of a key of a service: a known beginning, and letters and digits as nobody chooses them.
pub(crate) fn is_key(word: &str) -> bool {
    let known = PREFIXES.iter().any(|prefix| word.starts_with(prefix));
    let mut parts = word.split(|letter: char| !letter.is_ascii_alphanumeric());
    let random = |part: &str| {
        let digits = part.chars().filter(char::is_ascii_digit).count();
        part.len() >= 20 || (part.len() >= 8 && digits >= 2)
    };
    known && word.len() >= 12 && parts.any(random)
}

/// Whether a word is too random for a name: for values that should be one.
pub(super) fn is_random(word: &str) -> bool {
    let random = |part: &str| {
        let digits = part.chars().filter(char::is_ascii_digit).count();
        part.len() >= 16 && digits >= 3
    };
    is_key(word)
        || word
            .split(|letter: char| !letter.is_ascii_alphanumeric())
            .any(random)
}

/// Whether a key or a variable of this name holds a secret.
pub(super) fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let mut words = name.split(|letter: char| !letter.is_ascii_alphabetic());
    let last = words.rfind(|word| !word.is_empty());
    last.is_some_and(|last| SECRET_WORDS.contains(&last))
}

/// A text without the words that look like keys.
#[must_use]
pub fn scrubbed(text: &str) -> String {
    let belongs =
        |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    let (mut clean, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(start) = rest.find(belongs) {
        let end = rest[start..]
            .find(|letter| !belongs(letter))
            .map_or(rest.len(), |length| start + length);
        let word = &rest[start..end];
        clean.push_str(&rest[..start]);
        clean.push_str(if is_key(word.trim_start_matches('-')) {
            HIDDEN
        } else {
            word
        });
        rest = &rest[end..];
    }
    clean.push_str(rest);
    clean
}

/// A value as messages may show it.
pub(super) fn hidden(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(scrubbed(text)),
        Value::Array(items) => items.iter().map(hidden).collect(),
        Value::Object(map) => Value::Object(map.iter().map(hidden_entry).collect::<Map<_, _>>()),
        other => other.clone(),
    }
}

fn hidden_entry((name, value): (&String, &Value)) -> (String, Value) {
    let shown = match value {
        Value::String(_) if names_a_secret(name) => Value::from(HIDDEN),
        other => hidden(other),
    };
    (scrubbed(name), shown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_told_from_names() {
        for key in [
            "sk-live-0123456789abcdef",
            "sk-proj-1234567890",
            "hf_AbCdEfGhIjKlMnOpQrStUvWxYz",
            "gsk_0a1b2c3d4e5f",
            "AIzaSyA1234567890abcdefghijk",
            "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.e30.abc",
        ] {
            assert!(is_key(key) && is_random(key), "{key}");
        }
        for name in [
            "sk-learn-experiment-1",
            "hf_model",
            "gpt-4o-mini-2024-07-18",
            "OPENAI_API_KEY",
            "Qwen2.5-VL-7B-Instruct",
            "clevr-math-train-35000",
            "MY_KEY_2",
        ] {
            assert!(!is_key(name) && !is_random(name), "{name}");
        }
        assert!(is_random("a3f1c09be77d4e21aa8812cd9f001122"));
    }

    #[test]
    fn texts_and_tables_lose_keys_and_nothing_else() {
        let text = "at http://127.0.0.1:9/sk-live-0123456789abcdef/v1, model gpt-4o: no answer";
        assert_eq!(
            scrubbed(text),
            "at http://127.0.0.1:9/<hidden>/v1, model gpt-4o: no answer"
        );
        let table = json!({"name": "e", "api_key": "abc", "max_tokens": 5, "model": "sk-live-0123456789abcdef"});
        let shown =
            json!({"name": "e", "api_key": "<hidden>", "max_tokens": 5, "model": "<hidden>"});
        assert_eq!(hidden(&table), shown);
    }
}
