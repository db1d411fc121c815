//! An OpenAI-compatible server as a teacher: questions go out in the background, every answer is recorded at once, and
//! what cannot be had costs an action, never the run. Knows nothing of the policy or of rewards.
//!
//! The draws of a run's steps do not enter a request: an example is asked the same at every step, so that a record
//! filled ahead of training, or by an earlier run, answers it. Actions of one example differ by their number.

mod answered;
mod body;
mod chat;
mod collect;
mod dialect;
mod endpoint_teacher;
mod error;
mod estimate;
mod exchange;
mod failure;
#[cfg(test)]
mod fault_server;
mod http;
mod limits;
mod log_filter;
mod options;
mod picture;
mod pool;
mod provider_error;
mod record_file;
mod record_line;
mod reply;
mod retry;
#[cfg(test)]
mod tests;
mod text;
mod turnstile;
mod verdict;

pub use answered::RecordedUsage;
pub use endpoint_teacher::{EndpointTeacher, RoundTrip};
pub use error::{EndpointError, RecordError};
pub use estimate::Estimate;
pub use failure::{Failure, FailureReason};
pub use log_filter::WithoutTraffic;
pub use options::{Budget, EndpointOptions, OnTeacherFailure, Patience};
pub use record_file::{RecordFile, RecordMode};
pub use record_line::{RecordLine, RecordedTokens};
