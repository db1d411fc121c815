//! What a server's response means for the request: answered, lost, or worth another try. Knows nothing of waiting.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::dialect::{Change, Dialect, Parameter};
use super::failure::{Failure, FailureReason};
use super::http::Response;
use super::provider_error::status_of;
use super::reply::{self, Cleaner, Fault, Reply};
use super::retry;
use super::text::quoted;

/// What a response means for the request.
#[derive(Debug)]
pub(super) enum Verdict {
    /// With as many choices as the server cared to give.
    Answered(Reply),
    /// It may succeed later, after at least this time.
    Again(Failure, Option<Duration>),
    /// It will fail again.
    Lost(Failure),
    /// The server wants the same said in another way; these are its words.
    Otherwise(Change, String),
    /// The server may not take several answers at once.
    OneByOne,
}

/// What was asked for, as far as the server may object to it.
#[derive(Debug)]
pub(super) struct Asked {
    /// Answers wanted at once.
    pub(super) wanted: usize,
    /// Optional parameters that the request has.
    pub(super) parameters: Vec<Parameter>,
    /// How it was said.
    pub(super) dialect: Dialect,
}

/// Judges the response to a request.
pub(super) fn judge(response: &Response, asked: &Asked, cleaner: Cleaner<'_>) -> Verdict {
    let wait = response.retry_after.as_deref();
    let wait = wait.and_then(|header| retry::retry_after(header, SystemTime::now()));
    match response.status {
        200..=299 => match reply::parse(&response.body, cleaner) {
            Ok(reply) => Verdict::Answered(reply),
            Err(Fault::Unreadable(failure)) => Verdict::Lost(failure),
            Err(Fault::Error { status, words }) => {
                let said = Said {
                    shown: status,
                    status,
                    words,
                };
                refused(&response.body, said, asked, wait)
            }
        },
        status @ 300..=399 => {
            let place = cleaner.words(response.location.as_deref().unwrap_or("nowhere"));
            let words = format!(
                "status {status} points to {place}; redirects are not followed, so `base_url` must be the final address"
            );
            Verdict::Lost(Failure::new(FailureReason::Redirected, words))
        }
        shown => {
            let body: Option<Value> = serde_json::from_slice(&response.body).ok();
            let meant = body.as_ref().map(|body| {
                let body = body.get(0).unwrap_or(body);
                status_of(body.get("error").unwrap_or(body), Some(shown))
            });
            // A number inside the body may mean anything; only what stays counts more than the status.
            let status = meant
                .filter(|status| matches!(status, 401..=404))
                .unwrap_or(shown);
            let words = reply::words_of(&response.body, cleaner);
            refused(
                &response.body,
                Said {
                    shown,
                    status,
                    words,
                },
                asked,
                wait,
            )
        }
    }
}

/// What a server said in place of an answer.
struct Said {
    /// The status that a person would see.
    shown: u16,
    /// What it means.
    status: u16,
    words: String,
}

/// The request may be said in another way, come back later, or be lost.
fn refused(body: &[u8], said: Said, asked: &Asked, wait: Option<Duration>) -> Verdict {
    let failure = || {
        let words = quoted(&format!("status {}: {}", said.shown, said.words));
        Failure::new(FailureReason::of_status(said.status), words)
    };
    if matches!(said.status, 400 | 422 | 501) {
        let text = String::from_utf8_lossy(body);
        if let Some(change) = asked.dialect.objection(&text, &asked.parameters) {
            return Verdict::Otherwise(change, failure().words);
        }
        // Nothing is lost by asking one by one; if `n` was not the fault, the words come again.
        if asked.wanted > 1 {
            return Verdict::OneByOne;
        }
    }
    if retry::is_transient(said.status) {
        Verdict::Again(failure(), wait)
    } else {
        Verdict::Lost(failure())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str, wanted: usize) -> Verdict {
        verdict_with(status, body, wanted, Some("2"))
    }

    fn verdict_with(status: u16, body: &str, wanted: usize, wait: Option<&str>) -> Verdict {
        let response = Response {
            status,
            retry_after: wait.map(str::to_owned),
            location: None,
            body: body.as_bytes().to_vec(),
        };
        let mut parameters = vec![Parameter::MaxTokens, Parameter::Seed];
        parameters.extend((wanted > 1).then_some(Parameter::N));
        let asked = Asked {
            wanted,
            parameters,
            dialect: Dialect::default(),
        };
        judge(&response, &asked, Cleaner(None))
    }

    #[test]
    fn what_passes_is_tried_again_and_what_stays_is_lost() {
        for (status, reason) in [
            (408, FailureReason::Timeout),
            (409, FailureReason::Rejected),
            (429, FailureReason::RateLimited),
            (500, FailureReason::ServerError),
            (529, FailureReason::ServerError),
        ] {
            let found = verdict(status, "busy", 1);
            let Verdict::Again(failure, asked_for) = found else {
                panic!("{status}: {found:?}")
            };
            assert_eq!(
                failure,
                Failure::new(reason, format!("status {status}: busy"))
            );
            assert_eq!(asked_for, Some(Duration::from_secs(2)));
        }
        for status in [400, 401, 402, 403, 404, 413, 422, 100] {
            let found = verdict(status, "no", 1);
            let Verdict::Lost(failure) = found else {
                panic!("{status}: {found:?}")
            };
            assert_eq!(failure.reason, FailureReason::Rejected);
        }
    }

    #[test]
    fn spent_money_a_refused_key_and_an_unknown_model_stay_under_any_status() {
        for (status, body) in [
            (
                429,
                r#"{"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}"#,
            ),
            (
                200,
                r#"{"error": {"code": "insufficient_quota", "message": "You exceeded your current quota"}}"#,
            ),
            (
                200,
                r#"{"error": {"code": 402, "message": "Insufficient credits"}}"#,
            ),
            (
                200,
                r#"{"error": {"code": "invalid_api_key", "message": "Incorrect API key"}}"#,
            ),
            (
                500,
                r#"{"error": {"type": "authentication_error", "message": "no"}}"#,
            ),
            (
                503,
                r#"{"error": {"code": "model_not_found", "message": "no such model"}}"#,
            ),
            (
                200,
                r#"{"error": {"code": 404, "message": "no such model"}}"#,
            ),
        ] {
            let found = verdict_with(status, body, 1, None);
            let Verdict::Lost(failure) = found else {
                panic!("{body}: {found:?}")
            };
            assert_eq!(failure.reason, FailureReason::Rejected, "{body}");
        }
        for (status, body) in [
            (200, r#"{"error": {"message": "the provider is gone"}}"#),
            (
                200,
                r#"{"error": {"code": 502, "message": "the provider is gone"}}"#,
            ),
            (
                200,
                r#"{"error": {"type": "overloaded_error", "message": "busy"}}"#,
            ),
            (
                429,
                r#"{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "You exceeded your current quota. Please retry in 3s."}}"#,
            ),
            (503, r#"{"error": {"code": 1, "message": "loading"}}"#),
        ] {
            let found = verdict_with(status, body, 1, None);
            assert!(matches!(found, Verdict::Again(..)), "{body}: {found:?}");
        }
    }

    #[test]
    fn what_can_be_said_in_another_way_is() {
        let change = |found| match found {
            Verdict::Otherwise(change, _) => Some(change),
            _ => None,
        };
        assert_eq!(
            change(verdict(400, "use max_completion_tokens", 1)),
            Some(Change::NewerName)
        );
        assert_eq!(
            change(verdict(422, "'seed' is unknown", 1)),
            Some(Change::Without(Parameter::Seed))
        );
        let inside = r#"{"error": {"code": 400, "message": "Unrecognized request argument supplied: seed"}}"#;
        assert_eq!(
            change(verdict(200, inside, 1)),
            Some(Change::Without(Parameter::Seed))
        );
        assert_eq!(
            change(verdict(400, "'n' must be 1", 3)),
            Some(Change::OneByOne)
        );
        assert!(matches!(verdict(422, "unexpected", 3), Verdict::OneByOne));
        assert!(matches!(verdict(400, "'n' must be 1", 1), Verdict::Lost(_)));
        assert!(matches!(verdict(401, "'n' must be 1", 3), Verdict::Lost(_)));
        assert!(matches!(verdict(401, "'seed'", 3), Verdict::Lost(_)));
    }
}
