//! Why an action of an endpoint was lost. Knows nothing of what is done about it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The reason, as metrics and records name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureReason {
    /// No whole answer within `timeout_s`.
    Timeout,
    /// No connection, or one that broke.
    Connection,
    /// The server's certificate or encryption cannot be trusted.
    Tls,
    /// Status 429.
    RateLimited,
    /// Status 5xx.
    ServerError,
    /// Any other status that is no success.
    Rejected,
    /// The server points to another address; it is never followed, so that the key stays where it belongs.
    Redirected,
    /// Something that is not HTTP.
    BadHttp,
    /// A body that is not the JSON of an answer.
    BadJson,
    /// A body that is not UTF-8.
    NotUtf8,
    /// A body or a text beyond the limit.
    TooLarge,
    /// An answer without text, or one that calls a tool instead.
    EmptyChoice,
    /// An answer that broke off on the server's side: no choices, or a finish reason such as `abort`.
    Unfinished,
    /// An answer with a finish reason that nobody here has heard of, so that it may be half of one.
    UnknownEnd,
    /// The model or the server's filter declined.
    Refused,
    /// A picture of the example cannot be sent.
    BadImage,
    /// A picture lies outside the folder whose pictures may be sent.
    ImageOutside,
    /// Not sent: the last requests all failed.
    RefusedByBreaker,
    /// Not sent: `max_cost` is spent.
    CostLimit,
    /// A fault of this program.
    Internal,
}

impl FailureReason {
    /// Every reason.
    pub const ALL: [Self; 20] = [
        Self::Timeout,
        Self::Connection,
        Self::Tls,
        Self::RateLimited,
        Self::ServerError,
        Self::Rejected,
        Self::Redirected,
        Self::BadHttp,
        Self::BadJson,
        Self::NotUtf8,
        Self::TooLarge,
        Self::EmptyChoice,
        Self::Unfinished,
        Self::UnknownEnd,
        Self::Refused,
        Self::BadImage,
        Self::ImageOutside,
        Self::RefusedByBreaker,
        Self::CostLimit,
        Self::Internal,
    ];

    /// The name in metrics: `external/<teacher>/failures/<name>`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connection => "connection",
            Self::Tls => "tls",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Rejected => "rejected",
            Self::Redirected => "redirected",
            Self::BadHttp => "bad_http",
            Self::BadJson => "bad_json",
            Self::NotUtf8 => "not_utf8",
            Self::TooLarge => "too_large",
            Self::EmptyChoice => "empty_choice",
            Self::Unfinished => "unfinished",
            Self::UnknownEnd => "unknown_end",
            Self::Refused => "refused",
            Self::BadImage => "bad_image",
            Self::ImageOutside => "image_outside",
            Self::RefusedByBreaker => "refused_by_breaker",
            Self::CostLimit => "cost_limit",
            Self::Internal => "internal",
        }
    }

    /// The reason that an HTTP status stands for.
    pub(super) const fn of_status(status: u16) -> Self {
        match status {
            408 => Self::Timeout,
            429 => Self::RateLimited,
            500..=599 => Self::ServerError,
            _ => Self::Rejected,
        }
    }

    /// Whether the model did answer, only with nothing to learn from. Asking again would cost again.
    pub(super) const fn is_answer(self) -> bool {
        matches!(self, Self::EmptyChoice | Self::Refused)
    }

    /// Whether asking again may help, where nothing came back at all.
    pub(super) const fn may_pass(self) -> bool {
        matches!(self, Self::Timeout | Self::Connection)
    }

    /// Whether asking again may help, where an answer came with this fault inside.
    pub(super) const fn may_pass_inside(self) -> bool {
        matches!(
            self,
            Self::Unfinished | Self::ServerError | Self::RateLimited | Self::Timeout
        )
    }

    /// Whether the server is at fault, so that the next request will likely fail too.
    pub(super) const fn blames_server(self) -> bool {
        !self.is_answer()
            && !matches!(
                self,
                Self::UnknownEnd
                    | Self::BadImage
                    | Self::ImageOutside
                    | Self::RefusedByBreaker
                    | Self::CostLimit
                    | Self::Internal
            )
    }

    /// Whether `on_teacher_failure: stop` ends the run for it: not for an empty answer, and not for spent money.
    pub(super) const fn may_stop(self) -> bool {
        !self.is_answer() && !matches!(self, Self::CostLimit)
    }
}

/// A lost action: the reason and what was said about it, made safe for logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: FailureReason,
    /// The server's words or the system's.
    pub words: String,
}

impl Failure {
    pub(super) fn new(reason: FailureReason, words: impl Into<String>) -> Self {
        Self {
            reason,
            words: words.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.reason.name(), self.words)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_distinct_and_the_ones_in_records() {
        let names: BTreeSet<_> = FailureReason::ALL
            .iter()
            .map(|reason| reason.name())
            .collect();
        assert_eq!(names.len(), FailureReason::ALL.len());
        for reason in FailureReason::ALL {
            let written = serde_json::to_value(reason).expect("a name");
            assert_eq!(written, reason.name());
        }
    }

    #[test]
    fn an_empty_answer_is_nobodys_fault() {
        for reason in [FailureReason::EmptyChoice, FailureReason::Refused] {
            assert!(!reason.blames_server() && !reason.may_stop());
        }
        assert!(FailureReason::Rejected.blames_server() && FailureReason::Rejected.may_stop());
        assert!(!FailureReason::CostLimit.may_stop());
    }
}
