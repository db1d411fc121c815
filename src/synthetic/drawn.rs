//! What every family can tell of an example that it drew. It knows no family.

use rand_chacha::ChaCha8Rng;
use tiny_skia::Pixmap;

/// How an expert writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wording {
    /// As the rows' own chains of thought.
    Row,
    /// The result with hardly a word.
    Terse,
    /// Whole sentences that name everything.
    Verbose,
}

/// Reasoning and the answer that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Statement {
    pub reasoning: String,
    pub answer: String,
}

/// One drawn example of a family.
pub(crate) trait Drawn: Send {
    /// The question, as the row holds it.
    fn problem(&self) -> String;
    /// The gold answer.
    fn answer(&self) -> String;
    /// The row's chain of thought.
    fn reasoning(&self) -> String;
    /// A task that only takes seeing, and its answer: what is in the picture, in the words of the reasoning.
    fn naming(&self) -> (String, String);
    /// Steps that the answer takes.
    fn level(&self) -> usize;
    /// Which kind of problem it is.
    fn kind(&self) -> String;
    /// A number for everything that can be seen; it decides between training and test.
    fn fingerprint(&self) -> u64;
    /// The pictures in order, each with what its file's name ends in.
    fn pictures(&self, size: u32) -> Vec<(&'static str, Pixmap)>;
    /// What an expert says who is right or surely wrong.
    fn statement(&self, rng: &mut ChaCha8Rng, right: bool, wording: Wording) -> Statement;
}

impl Wording {
    /// Every wording.
    pub const ALL: [Self; 3] = [Self::Row, Self::Terse, Self::Verbose];

    /// The name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Terse => "terse",
            Self::Verbose => "verbose",
        }
    }
}
