//! What a server's response means for the request: answered, lost, or worth another try. Knows nothing of waiting.

use std::time::{Duration, SystemTime};

use super::chat::Dialect;
use super::failure::{Failure, FailureReason};
use super::http::Response;
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
    /// The server wants the limit under its newer name.
    NewerName,
    /// The server does not take several answers at once.
    OneByOne {
        /// It said so; otherwise it is a guess.
        for_good: bool,
    },
}

/// Judges the response to a request for so many answers.
pub(super) fn judge(
    response: &Response,
    wanted: usize,
    dialect: Dialect,
    cleaner: Cleaner<'_>,
) -> Verdict {
    let asked_for = response.retry_after.as_deref();
    let asked_for = asked_for.and_then(|header| retry::retry_after(header, SystemTime::now()));
    match response.status {
        200..=299 => match reply::parse(&response.body, cleaner) {
            Ok(reply) => Verdict::Answered(reply),
            Err(Fault::Unreadable(failure)) => Verdict::Lost(failure),
            Err(Fault::Error { status, words }) => by_status(status, &words, asked_for),
        },
        status @ 300..=399 => {
            let place = cleaner.words(response.location.as_deref().unwrap_or("nowhere"));
            let words = format!(
                "status {status} points to {place}; redirects are not followed, so `base_url` must be the final address"
            );
            Verdict::Lost(Failure::new(FailureReason::Redirected, words))
        }
        status => {
            let words = reply::words_of(&response.body, cleaner);
            about_request(status, &words, wanted, dialect)
                .unwrap_or_else(|| by_status(status, &words, asked_for))
        }
    }
}

/// The two things that servers refuse and that can be said in another way.
fn about_request(status: u16, words: &str, wanted: usize, dialect: Dialect) -> Option<Verdict> {
    if !matches!(status, 400 | 422 | 501) {
        return None;
    }
    if words.contains("max_completion_tokens") && !dialect.max_completion_tokens {
        return Some(Verdict::NewerName);
    }
    // Nothing is lost by asking one by one; if `n` was not the fault, the words come again.
    let spellings = ["`n`", "'n'", "\"n\"", " n ", "n=", "n >"];
    let for_good = spellings.iter().any(|name| words.contains(name));
    (wanted > 1).then_some(Verdict::OneByOne { for_good })
}

fn by_status(status: u16, words: &str, asked_for: Option<Duration>) -> Verdict {
    let reason = match status {
        408 => FailureReason::Timeout,
        429 => FailureReason::RateLimited,
        500..=599 => FailureReason::ServerError,
        _ => FailureReason::Rejected,
    };
    let failure = Failure::new(reason, quoted(&format!("status {status}: {words}")));
    if retry::is_transient(status) {
        Verdict::Again(failure, asked_for)
    } else {
        Verdict::Lost(failure)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(status: u16, body: &str, wanted: usize) -> Verdict {
        let body = body.as_bytes().to_vec();
        let response = Response {
            status,
            retry_after: Some("2".to_owned()),
            location: None,
            body,
        };
        judge(
            &response,
            wanted,
            Dialect {
                max_completion_tokens: false,
            },
            Cleaner(None),
        )
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
        for status in [400, 401, 403, 404, 413, 422, 100] {
            let found = verdict(status, "no", 1);
            let Verdict::Lost(failure) = found else {
                panic!("{status}: {found:?}")
            };
            assert_eq!(failure.reason, FailureReason::Rejected);
        }
    }

    #[test]
    fn what_can_be_said_in_another_way_is() {
        assert!(matches!(
            verdict(400, "use max_completion_tokens", 1),
            Verdict::NewerName
        ));
        assert!(matches!(
            verdict(400, "'n' must be 1", 3),
            Verdict::OneByOne { for_good: true }
        ));
        assert!(matches!(
            verdict(422, "unexpected", 3),
            Verdict::OneByOne { for_good: false }
        ));
        assert!(matches!(verdict(400, "'n' must be 1", 1), Verdict::Lost(_)));
        assert!(matches!(verdict(401, "'n' must be 1", 3), Verdict::Lost(_)));
    }
}
