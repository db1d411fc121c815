//! A key: read from the environment, sent to its server, and removed from everything that is shown. Knows nothing of whose
//! server it is, or of who writes what is shown.

use std::ffi::OsString;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// What stands where a key stood.
const REMOVED: &str = "[key removed]";
/// Shorter keys are place-holders such as `EMPTY`, and ordinary words: they are not removed from answers.
const SHORTEST_REAL_KEY: usize = 8;

/// A key. It can be sent, and removed from texts; it cannot be printed.
#[derive(Clone)]
pub(crate) struct Secret {
    value: String,
    /// The spellings in which a server may repeat it, longest first.
    spellings: Vec<String>,
}

impl Secret {
    /// The key in this environment variable.
    ///
    /// # Errors
    /// What is wrong with it, never what it is.
    pub(crate) fn read(
        variable: &str,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, &'static str> {
        let value = environment(variable).ok_or("it is not set")?;
        let value = value.into_string().map_err(|_| "it is not UTF-8")?;
        Self::new(value.trim())
    }

    /// # Errors
    /// See [`Self::read`].
    pub(crate) fn new(value: &str) -> Result<Self, &'static str> {
        if value.is_empty() {
            return Err("it is empty");
        }
        if !value.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it holds a character that no HTTP header can carry");
        }
        let json = serde_json::Value::from(value).to_string();
        let mut spellings = vec![
            value.to_owned(),
            percent_encoded(value),
            json[1..json.len() - 1].to_owned(),
            value.replace('/', "\\/"),
            STANDARD.encode(value),
        ];
        spellings.sort_by_key(|spelling| std::cmp::Reverse(spelling.len()));
        spellings.dedup();
        Ok(Self {
            value: value.to_owned(),
            spellings,
        })
    }

    /// Whether it is too short to be a key that anybody gave out.
    pub(crate) const fn is_placeholder(&self) -> bool {
        self.value.len() < SHORTEST_REAL_KEY
    }

    /// Whether the text holds the key as it is.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        text.contains(&self.value)
    }

    /// The value of the `Authorization` header.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.value)
    }

    /// The text without the key, in whatever case it is written.
    pub(crate) fn scrubbed(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for spelling in &self.spellings {
            // The key is ASCII, so lower case moves no byte of it; other letters keep their bytes too.
            let haystack = text.to_ascii_lowercase();
            let needle = spelling.to_ascii_lowercase();
            if !haystack.contains(&needle) {
                continue;
            }
            let mut clean = String::with_capacity(text.len());
            let mut end = 0;
            for (start, found) in haystack.match_indices(&needle) {
                clean.push_str(&text[end..start]);
                clean.push_str(REMOVED);
                end = start + found.len();
            }
            clean.push_str(&text[end..]);
            text = clean;
        }
        text
    }
}

/// The text without any of the keys.
pub(crate) fn without(secrets: &[Secret], text: &str) -> String {
    let scrub = |text: String, secret: &Secret| secret.scrubbed(&text);
    secrets.iter().fold(text.to_owned(), scrub)
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret(not shown)")
    }
}

fn percent_encoded(value: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    value.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_and_checked() {
        let environment = |name: &str| match name {
            "GOOD" => Some(OsString::from(" sk-1234567890\n")),
            "EMPTY" => Some(OsString::from(" ")),
            "SPACED" => Some(OsString::from("sk 12345678")),
            _ => None,
        };
        let read = |name| Secret::read(name, environment);
        assert_eq!(
            read("GOOD").map(|key| key.bearer()).ok().as_deref(),
            Some("Bearer sk-1234567890")
        );
        assert_eq!(read("ABSENT").err(), Some("it is not set"));
        assert_eq!(read("EMPTY").err(), Some("it is empty"));
        assert!(read("SPACED").is_err_and(|fault| fault.contains("no HTTP header")));
    }

    #[test]
    fn every_spelling_of_the_key_is_removed() {
        let key = Secret::new("sk-a/b+\"c\"-12345").expect("a key");
        for text in [
            "no sk-a/b+\"c\"-12345!",
            "no SK-A/B+\"C\"-12345!",
            "no sk-a%2Fb%2B%22c%22-12345!",
            "no sk-a%2fb%2b%22c%22-12345!",
            "no sk-a/b+\\\"c\\\"-12345!",
            "no sk-a\\/b+\"c\"-12345!",
            "no c2stYS9iKyJjIi0xMjM0NQ==!",
        ] {
            assert_eq!(key.scrubbed(text), "no [key removed]!", "{text}");
        }
        let twice = key.scrubbed("é sk-a/b+\"c\"-12345 ß sk-a/b+\"c\"-12345");
        assert_eq!(twice, "é [key removed] ß [key removed]");
        assert_eq!(key.scrubbed("sk-a/b"), "sk-a/b");
        assert!(!format!("{key:?}").contains("sk-a"));
    }
}
