//! What can be wrong with a reward program, said with its name, its command, its own last words and the remedy.

use std::fmt;

/// A reward program that gave no usable rewards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ProcessError {
    /// The reward's name.
    pub name: String,
    /// The command as it was given.
    pub command: String,
    /// What went wrong last.
    pub fault: Box<ProcessFault>,
    /// How often the program was started again for this batch.
    pub restarts: usize,
    /// Its last lines on standard error.
    pub messages: Vec<String>,
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessFault {
    /// Nothing to start.
    #[error("`command` is empty")]
    NoCommand,
    /// There is no such program.
    #[error("the program `{0}` was not found")]
    NotFound(String),
    /// The system refused to start it.
    #[error("the program cannot be started: {0}")]
    Start(String),
    /// It ended instead of answering.
    #[error("it ended ({0}) without an answer")]
    Ended(String),
    /// It can no longer answer.
    #[error("it closed its standard output and goes on running")]
    Closed,
    /// It did not answer in time.
    #[error("no answer within {0} s")]
    TimedOut(String),
    /// It printed something before it was asked.
    #[error("it printed {0} before it was asked")]
    Unasked(String),
    /// A line without end.
    #[error("expected an answer of at most {most} bytes, found a longer line that begins {line}")]
    TooLong {
        /// Most bytes.
        most: usize,
        /// Its beginning.
        line: String,
    },
    /// A line that is not an answer.
    #[error("expected a JSON list of numbers or null, one per completion, found {line} ({reason})")]
    NotAnAnswer {
        /// The line, cut.
        line: String,
        /// Why not.
        reason: String,
    },
    /// The answer to another request.
    #[error("expected the answer to request {expected}, found that to request {found}")]
    OtherRequest {
        /// The request at hand.
        expected: u64,
        /// What the answer names.
        found: String,
    },
    /// Too many rewards or too few.
    #[error("expected {expected} rewards, one per completion, found {found} in {line}")]
    Count {
        /// Completions of the batch.
        expected: usize,
        /// Rewards in the answer.
        found: usize,
        /// The line, cut.
        line: String,
    },
    /// A value that no mean can take.
    #[error(
        "expected a finite number or null as reward {place} of {count} (example `{example}`), found {found}"
    )]
    Value {
        /// Which, from 1.
        place: usize,
        /// Rewards in the answer.
        count: usize,
        /// The example's id.
        example: String,
        /// The value.
        found: String,
    },
    /// A column with a name that the protocol uses itself.
    #[error(
        "the data set has a column `{column}`, which is an argument of every reward function (example `{example}`)"
    )]
    Column {
        /// The column.
        column: &'static str,
        /// The first example that has it.
        example: String,
    },
}

impl ProcessFault {
    /// Whether another attempt may go well.
    pub(super) const fn is_accident(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Closed | Self::TimedOut(_))
    }

    const fn hint(&self) -> &'static str {
        match self {
            Self::NoCommand => {
                "give the program and its arguments as a list: [python3, rewards.py]"
            }
            Self::NotFound(_) => {
                "check the first word of `command`: a path that starts in the working directory, or a program on PATH"
            }
            Self::Start(_) => {
                "check that the file may be executed and that its first line names an interpreter"
            }
            Self::Ended(_) | Self::Closed => {
                "run the command by hand and give it one request line; it must answer each line and end only with its input"
            }
            Self::TimedOut(_) => {
                "raise `timeout_s`, or make the program faster; it must write one line per request and flush it"
            }
            Self::Unasked(_) | Self::NotAnAnswer { .. } => {
                "standard output is for answers only: print everything else to standard error"
            }
            Self::TooLong { .. } => "end each answer with a newline, and flush it",
            Self::OtherRequest { .. } | Self::Count { .. } => {
                "answer each request line with exactly one line, one reward for each of `completions`"
            }
            Self::Value { .. } => "return null where the reward does not apply",
            Self::Column { .. } => "rename the column",
        }
    }
}

impl fmt::Display for ProcessError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            command,
            fault,
            ..
        } = self;
        write!(formatter, "reward `{name}` (`{command}`): {fault}")?;
        match self.restarts {
            0 => {}
            1 => write!(formatter, ", also after it was started again")?,
            times => write!(formatter, ", also after it was started again {times} times")?,
        }
        if !self.messages.is_empty() {
            write!(formatter, "\nits last lines on standard error:")?;
        }
        for line in &self.messages {
            write!(formatter, "\n  {line}")?;
        }
        write!(formatter, "\nhint: {}", fault.hint())
    }
}

/// The beginning of what a program wrote, fit for one line of a message.
pub(super) fn shown(bytes: &[u8]) -> String {
    format!("`{}`", one_line(bytes, 200))
}

/// At most `most` characters, control characters replaced by spaces, with a mark where something is cut.
pub(super) fn one_line(bytes: &[u8], most: usize) -> String {
    // Four bytes hold any character, so more of the line need not be looked at.
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * most + 4)]);
    let text = head.trim_end();
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let mut cut: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        cut.push_str("...");
    }
    cut
}
