//! External models: who they are ([`Teacher`]), how their text becomes actions of the policy's tokens ([`to_action`]),
//! and how all of them are asked ([`Roster`]); knows nothing of rewards, selection or how the policy samples.
//!
//! Method: section 1.5. A teacher returns text; white space, code fences, tokens and the end of turn are handled here,
//! once for all kinds.

mod column;
mod ending;
pub mod endpoint;
mod local;
mod reasoning;
mod recorded;
mod report;
mod roster;
mod token_texts;

pub use column::ColumnTeacher;
pub use ending::Ending;
pub use local::{LoadModel, LocalOptions, LocalTeacher};
pub use recorded::{RecordedOptions, RecordedTeacher};
pub use report::TeacherReport;
pub use roster::{NeededLogprobs, Roster, RosterAnswer, TeacherStatistics};
pub use token_texts::{TextLogprobs, TokenTexts};

use std::path::PathBuf;
use std::sync::Arc;

use crate::record::{Action, Example, FinishReason, Prompt, Source};

/// One open prompt, as a teacher sees it.
#[derive(Debug, Clone, Copy)]
pub struct TeacherRequest<'a> {
    /// The example.
    pub example: &'a Example,
    /// Its prompt, as the policy reads it.
    pub prompt: &'a Prompt,
    /// Actions wanted.
    pub num_actions: usize,
}

/// A teacher's own tokens and how probable they were to it.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// `[T]` ids up to and including the end token, in the teacher's vocabulary.
    pub token_ids: Vec<u32>,
    /// `[T]` log-probability of each.
    pub logprobs: Vec<f32>,
}

/// One completion of a teacher, as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct TeacherAnswer {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// What it was made of, where the teacher says so. Kept only if the policy's tokenizer finds the same tokens.
    pub token_logprobs: Option<TokenLogprobs>,
    /// The same from a source that shows its tokens as text.
    pub token_texts: Option<TokenTexts>,
}

/// A source of external actions. It can never be the live policy.
pub trait Teacher {
    /// The name in every log.
    fn name(&self) -> &str;

    /// Actions it gives per prompt.
    fn num_actions(&self) -> usize;

    /// Answers each request with at most its `num_actions` completions, in order of the requests. Fewer is no error:
    /// the group continues with what it has. The same seed gives the same answers where the source allows it.
    ///
    /// # Errors
    /// [`TeacherError`] where the run should stop rather than go on without this teacher.
    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError>;

    /// Says that these will likely be wanted soon, so that a slow source can begin; whatever it finds it says in
    /// [`Teacher::act`]. Sources that answer at once do nothing.
    fn prefetch(&mut self, _requests: &[TeacherRequest<'_>], _seed: u64) {}

    /// Gives back memory that is not needed before the next [`Teacher::act`].
    fn release(&mut self) {}

    /// What asking took since the last report.
    fn report(&mut self) -> TeacherReport {
        TeacherReport::default()
    }
}

/// The policy's tokenizer, as far as external text needs it.
pub trait TextCodec {
    /// Token ids of a text, `None` if the vocabulary lacks one of its bytes. Special tokens are **not** recognised: a
    /// literal `<|im_end|>` becomes ordinary tokens.
    fn encode(&self, text: &str) -> Option<Vec<u32>>;

    /// The text of ids, special tokens skipped.
    fn decode(&self, ids: &[u32]) -> String;

    /// The token that ends a turn.
    fn end_token(&self) -> u32;
}

/// Why an external action did not enter the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The teacher gave fewer actions than asked for.
    Missing,
    /// Nothing is left of the text.
    Empty,
    /// The teacher stopped at its own length limit.
    EndpointLength,
    /// Longer than `max_completion_length` in the policy's tokens, end token included.
    TooLong,
    /// The tokenizer made an end token out of the text itself.
    ControlToken,
    /// The tokenizer has no token for a byte of the text.
    Unencodable,
    /// The run needs to know how probable the text was to its teacher, and that is not known of this text.
    NoLogprobs,
}

impl DropReason {
    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Empty => "empty",
            Self::EndpointLength => "endpoint_length",
            Self::TooLong => "too_long",
            Self::ControlToken => "control_token",
            Self::Unencodable => "unencodable",
            Self::NoLogprobs => "no_logprobs",
        }
    }
}

/// A teacher that cannot be used or did not answer.
#[derive(Debug, thiserror::Error)]
pub enum TeacherError {
    /// A file of actions that cannot be read.
    #[error("{path}: cannot read the recorded actions of `{name}`: {error}\nhint: check `path` of this entry of `external`", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The teacher.
        name: String,
        /// What the system says.
        error: std::io::Error,
    },
    /// A line of a file of actions that is not one.
    #[error(
        "{path}:{line}: {fault}, expected an action such as {{\"id\": \"train-1\", \"source\": \"{name}\", \"text\": \"...\"}}\nhint: correct or remove the line",
        path = path.display()
    )]
    Line {
        /// The file.
        path: PathBuf,
        /// 1-based.
        line: usize,
        /// The teacher.
        name: String,
        /// What is wrong.
        fault: String,
    },
    /// Several sources in the file, none of them this teacher.
    #[error(
        "{path}: no action of source `{name}`, found {found}\nhint: name the entry of `external` after one of them",
        path = path.display()
    )]
    UnknownSource {
        /// The file.
        path: PathBuf,
        /// The teacher.
        name: String,
        /// The sources that the file holds.
        found: String,
    },
    /// An example without a recorded action.
    #[error(
        "{path}: no action of `{name}` for example `{id}`; the file holds actions for {ids} ids\nhint: record this example too, or remove it from the data set",
        path = path.display()
    )]
    MissingId {
        /// The file.
        path: PathBuf,
        /// The teacher.
        name: String,
        /// The example.
        id: String,
        /// Examples with an action of this teacher.
        ids: usize,
    },
    /// A row whose column holds no action.
    #[error(
        "{origin}: column `{column}` of external source `{name}` {fault}, expected text, a table with `text`, or a list of them\nhint: correct the row, or remove it from the data set"
    )]
    Column {
        /// The teacher.
        name: String,
        /// The column.
        column: String,
        /// `file:row`.
        origin: String,
        /// What is wrong.
        fault: String,
    },
    /// A name that logs could not tell from another.
    #[error(
        "`external` names a source `{name}`, {fault}\nhint: give every entry of `external` a name of its own"
    )]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// An entry that is never asked for anything.
    #[error(
        "external source `{0}` has `num_actions` 0\nhint: use 1 or more, or remove it from `external`"
    )]
    NoActions(String),
    /// More or fewer answers than were asked for.
    #[error(
        "external source `{name}` returned {found} {what}, expected {expected}\nhint: this is a fault of that source's implementation"
    )]
    AnswerCount {
        /// The teacher.
        name: String,
        /// What was counted.
        what: &'static str,
        /// How many came.
        found: usize,
        /// How many may come.
        expected: usize,
    },
    /// The run is being stopped while answers are awaited.
    #[error("external source `{name}`: the run is being stopped")]
    Stopped {
        /// The teacher.
        name: String,
    },
    /// Anything that goes wrong inside another kind of teacher.
    #[error("external source `{name}`: {error}")]
    Other {
        /// The teacher.
        name: String,
        /// What went wrong.
        error: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A text without outer white space and without one Markdown fence around the whole of it; nothing else changes.
///
/// A fence counts if its first closing line is the last line of the text (CommonMark), so text with several code
/// blocks stays as it is.
#[must_use]
pub fn clean_text(text: &str) -> &str {
    let text = text.trim();
    unfenced(text).map_or(text, str::trim)
}

fn unfenced(text: &str) -> Option<&str> {
    let mark = text
        .chars()
        .next()
        .filter(|mark| ['`', '~'].contains(mark))?;
    let width = text.bytes().take_while(|&byte| byte == mark as u8).count();
    let (opening, rest) = text.split_once('\n')?;
    // The word after a backtick fence (`json`) cannot hold backticks: that would be a code span.
    if width < 3 || (mark == '`' && opening[width..].contains('`')) {
        return None;
    }
    let closes = |line: &str| {
        let line = line.trim();
        line.len() >= width && line.chars().all(|character| character == mark)
    };
    let last_line = rest.rfind('\n').map_or(0, |newline| newline + 1);
    let inside = &rest[..last_line];
    (closes(&rest[last_line..]) && !inside.lines().any(closes)).then_some(inside)
}

/// An action of the policy's tokens from a teacher's answer: cleaned, encoded without special tokens, closed with the
/// end token, and decoded again, so that external and sampled text take one path to the reward.
///
/// # Errors
/// The [`DropReason`] of an answer that cannot be used. Nothing is ever truncated.
pub fn to_action(
    answer: TeacherAnswer,
    name: &Arc<str>,
    codec: &dyn TextCodec,
    max_completion_length: usize,
) -> Result<Action, DropReason> {
    let text = clean_text(&answer.text);
    if text.is_empty() {
        return Err(DropReason::Empty);
    }
    if answer.finish_reason == FinishReason::Length {
        return Err(DropReason::EndpointLength);
    }
    let mut token_ids = codec.encode(text).ok_or(DropReason::Unencodable)?;
    if token_ids.contains(&codec.end_token()) {
        return Err(DropReason::ControlToken);
    }
    token_ids.push(codec.end_token());
    if token_ids.len() > max_completion_length {
        return Err(DropReason::TooLong);
    }
    let logprobs = text_logprobs(&answer, text, &token_ids, codec);
    let (external_logprob_sum, external_logprobs) =
        logprobs.map_or((None, None), |own| (Some(own.sum), own.by_token));
    Ok(Action {
        source: Source::External(Arc::clone(name)),
        text: codec.decode(&token_ids),
        token_ids,
        sampling_logprobs: None,
        external_logprobs,
        external_logprob_sum,
        old_logprobs: None,
        finish: FinishReason::Stop,
    })
}

/// How probable the text was to the teacher; `None` if it does not say. Where cleaning has cut the text, the tokens of what
/// is left count, if the cuts lie between tokens: a token that is half cut has no probability of its own.
fn text_logprobs(
    answer: &TeacherAnswer,
    text: &str,
    token_ids: &[u32],
    codec: &dyn TextCodec,
) -> Option<TextLogprobs> {
    let kept = place_of(text, &answer.text);
    let own = |own: &TokenLogprobs| {
        let sum = own
            .logprobs
            .iter()
            .map(|logprob| f64::from(*logprob))
            .sum::<f64>() as f32;
        let is_same = own.token_ids == token_ids;
        (own.logprobs.len() == own.token_ids.len()).then(|| TextLogprobs {
            sum,
            by_token: is_same.then(|| own.logprobs.clone()),
        })
    };
    let shown = |texts: &TokenTexts| texts.of_text(&answer.text, kept, token_ids, codec);
    // A teacher that gives ids says for itself what a cut leaves of them.
    let ids = answer
        .token_logprobs
        .as_ref()
        .filter(|_| text == answer.text);
    ids.and_then(own)
        .or_else(|| answer.token_texts.as_ref().and_then(shown))
}

/// The bytes of `whole` that `part`, a slice of it, takes.
fn place_of(part: &str, whole: &str) -> std::ops::Range<usize> {
    let start = part.as_ptr() as usize - whole.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One token per character; 0 ends the turn.
    pub(super) struct Characters;

    impl TextCodec for Characters {
        fn encode(&self, text: &str) -> Option<Vec<u32>> {
            Some(text.chars().map(u32::from).collect())
        }

        fn decode(&self, ids: &[u32]) -> String {
            ids.iter()
                .filter(|&&id| id != 0)
                .filter_map(|&id| char::from_u32(id))
                .collect()
        }

        fn end_token(&self) -> u32 {
            0
        }
    }

    pub(super) fn answer(text: &str) -> TeacherAnswer {
        TeacherAnswer {
            text: text.to_owned(),
            finish_reason: FinishReason::Stop,
            token_logprobs: None,
            token_texts: None,
        }
    }

    pub(super) fn example(id: &str) -> Example {
        Example {
            id: id.to_owned(),
            task: None,
            messages: Vec::new(),
            images: Vec::new(),
            solution: String::new(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        }
    }

    pub(super) fn prompt(id: &str) -> Prompt {
        Prompt {
            id: id.to_owned(),
            rendered: String::new(),
            input_ids: vec![1],
            positions: vec![[0; 3]],
            rope_delta: 0,
            images: Vec::new(),
        }
    }

    fn action(answer: TeacherAnswer, max_completion_length: usize) -> Result<Action, DropReason> {
        to_action(
            answer,
            &Arc::from("expert"),
            &Characters,
            max_completion_length,
        )
    }

    #[test]
    fn white_space_and_one_wrapping_fence_are_removed() {
        for (text, cleaned) in [
            (
                "  <think>a</think>\n<answer>3</answer>\n",
                "<think>a</think>\n<answer>3</answer>",
            ),
            ("```\nabc\n```", "abc"),
            ("\n```xml\n  abc\n\n``` \n", "abc"),
            ("~~~~\nabc\n~~~~", "abc"),
            ("```\nabc\n`````", "abc"),
            ("````\n```\na\n```\n````", "```\na\n```"),
            ("```\r\nabc\r\n```\r\n", "abc"),
            ("```\n```", ""),
        ] {
            assert_eq!(clean_text(text), cleaned, "{text:?}");
        }
        for unchanged in [
            "abc",
            "```\na\n```\nand\n```\nb\n```",
            "```python\nabc",
            "abc\n```",
            "```abc```",
            "`abc`",
            "``\nabc\n``",
            "````\nabc\n```",
            "```\nabc\n~~~",
            "so:\n```\nabc\n```",
            "",
        ] {
            assert_eq!(clean_text(unchanged), unchanged);
        }
    }

    #[test]
    fn an_answer_is_closed_and_decoded_again() {
        let made = action(answer("\n```\n3 é\n```\n"), 4).expect("an action");
        assert_eq!(made.source.name(), "expert");
        assert_eq!(
            made.token_ids,
            [u32::from('3'), u32::from(' '), u32::from('é'), 0]
        );
        assert_eq!(
            (made.text.as_str(), made.finish),
            ("3 é", FinishReason::Stop)
        );
        assert_eq!(
            (made.sampling_logprobs, made.external_logprobs),
            (None, None)
        );
    }

    #[test]
    fn unusable_answers_have_a_reason() {
        assert_eq!(action(answer(" \n"), 9), Err(DropReason::Empty));
        assert_eq!(action(answer("```\n\n```"), 9), Err(DropReason::Empty));
        assert_eq!(
            action(answer("abc"), 4).map(|made| made.token_ids.len()),
            Ok(4)
        );
        assert_eq!(action(answer("abcd"), 4), Err(DropReason::TooLong));
        let cut = TeacherAnswer {
            finish_reason: FinishReason::Length,
            ..answer("abc")
        };
        assert_eq!(action(cut, 9), Err(DropReason::EndpointLength));
        assert_eq!(action(answer("a\0b"), 9), Err(DropReason::ControlToken));
    }

    #[test]
    fn logprobs_stay_only_with_the_tokens_they_belong_to() {
        let with = |text: &str, token_ids: Vec<u32>, count| TeacherAnswer {
            token_logprobs: Some(TokenLogprobs {
                token_ids,
                logprobs: vec![-0.5; count],
            }),
            ..answer(text)
        };
        let kept = |answer| {
            let action = action(answer, 9).expect("an action");
            (action.external_logprobs, action.external_logprob_sum)
        };
        assert_eq!(
            kept(with("a", vec![97, 0], 2)),
            (Some(vec![-0.5, -0.5]), Some(-1.0))
        );
        assert_eq!(kept(with("a", vec![98, 0], 2)), (None, Some(-1.0)));
        assert_eq!(kept(with("a", vec![97, 0], 1)), (None, None));
        let cut = with("a ", vec![97, 32, 0], 3);
        assert_eq!(kept(cut), (None, None), "ids of another text");
    }

    #[test]
    fn tokens_shown_as_text_are_matched() {
        let with = |text: &str, pieces: &[&str]| {
            let token_texts = Some(TokenTexts {
                pieces: pieces
                    .iter()
                    .map(|piece| piece.as_bytes().to_vec())
                    .collect(),
                logprobs: vec![-0.25; pieces.len()],
            });
            let answer = TeacherAnswer {
                token_texts,
                ..answer(text)
            };
            let action = action(answer, 9).expect("an action");
            (action.external_logprobs, action.external_logprob_sum)
        };
        let all = (Some(vec![-0.25, -0.25, -0.25]), Some(-0.75));
        assert_eq!(with("ab", &["a", "b", "<|im_end|>"]), all);
        assert_eq!(with("ab", &["ab"]), (None, Some(-0.25)));
        // What cleaning cut away is left out, and the end token is the one after the whole text.
        let two = (Some(vec![-0.25, -0.25, 0.0]), Some(-0.5));
        assert_eq!(with("ab\n", &["a", "b", "\n"]), two);
        assert_eq!(with(" ab", &[" ", "a", "b"]), two);
        assert_eq!(
            with("\n\n ab \n", &["\n\n", " ", "a", "b", " \n", "<|im_end|>"]),
            all
        );
        assert_eq!(
            with("```\nab\n```", &["```", "\n", "ab", "\n```", "</s>"]),
            (None, Some(-0.5))
        );
        // A token that is half cut has no probability of its own.
        assert_eq!(with(" ab", &[" a", "b"]), (None, None));
        assert_eq!(with("ab\n", &["a", "b\n"]), (None, None));
    }
}
