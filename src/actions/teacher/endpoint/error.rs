//! What goes wrong at an endpoint beyond a lost action. Knows nothing of the teacher's name, which its caller adds.

use std::path::PathBuf;

use super::failure::Failure;

/// An endpoint that cannot be used, or whose failure ends the run.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// A key of the entry with a value that cannot be used.
    #[error("`{key}` {problem}\nhint: {hint}")]
    Option {
        /// The key.
        key: &'static str,
        /// What is wrong; never the value, which may hold a secret.
        problem: String,
        /// The remedy.
        hint: &'static str,
    },
    /// No key in the environment.
    #[error(
        "`api_key_env` names the environment variable `{variable}`, but {fault}\nhint: export it in the shell that starts the run, or remove `api_key_env` for a server without keys"
    )]
    Key {
        /// The variable.
        variable: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The record file cannot be opened, read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Replay of an answer that nobody recorded.
    #[error(
        "{path}: no recorded answer of `{name}` for action {action} of example `{id}`\nhint: fill the record with `external_cache_mode: auto`; it must come from the same model, address, prompt, pictures and sampling parameters",
        path = path.display()
    )]
    NotRecorded {
        /// The record file.
        path: PathBuf,
        /// The teacher.
        name: String,
        /// The example.
        id: String,
        /// The action, from 1.
        action: usize,
    },
    /// A lost action under `on_teacher_failure: stop`.
    #[error(
        "no answer for example `{id}`: {failure}\nhint: `on_teacher_failure: stop` ends the run here; with `skip` the group goes on without this action"
    )]
    Lost {
        /// The example.
        id: String,
        /// The reason and the server's words.
        failure: Failure,
    },
    /// Nothing is asked while replaying.
    #[error("`external_cache_mode: replay` asks no server\nhint: use `auto`")]
    Replay,
    /// The system gives no thread or no connection at all.
    #[error("cannot start asking: {0}\nhint: lower `max_concurrency`")]
    Start(String),
}

/// A record file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Replay without a file.
    #[error("`external_cache_mode: replay` without `external_cache`\nhint: name the record file")]
    NoFile,
    /// The system refuses.
    #[error("{path}: cannot {action} the record of external answers: {error}\nhint: check `external_cache` and the disk", path = path.display())]
    System {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What the system says.
        error: std::io::Error,
    },
    /// Another run writes the file.
    #[error("{path}: another run writes this record\nhint: wait for it, give this run an `external_cache` of its own, or use `external_cache_mode: replay`", path = path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A line that is no entry.
    #[error("{path}:{line}: not an entry of a record of external answers: {fault}\nhint: remove the line, or name another file as `external_cache`", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// What is wrong.
        fault: String,
    },
}
