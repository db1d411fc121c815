//! One line of the record of external answers. Knows nothing of files.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::chat::{self, Question};
use super::exchange::Answered;
use super::failure::FailureReason;
use super::options::EndpointOptions;
use super::reply::Usage;
use super::text::without_controls;
use crate::actions::teacher::{TeacherAnswer, TokenTexts};
use crate::record::FinishReason;

/// An answer as it is kept, or the reason why there is none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordLine {
    /// SHA-256 over the whole request and the number of the action.
    pub key: String,
    /// The teacher.
    pub name: String,
    /// The server's name of the model.
    pub model: String,
    /// Where it was asked.
    pub base_url: String,
    /// The sampling parameters.
    pub parameters: Value,
    /// The example.
    pub prompt_id: String,
    /// The action, from 0.
    pub sample_index: usize,
    /// The text; empty if there is none.
    pub text: String,
    /// Why the text ended.
    pub finish_reason: FinishReason,
    /// Why there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<FailureReason>,
    /// The model's tokens and how probable they were to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logprobs: Option<RecordedTokens>,
    /// This action's share of the request's tokens; the shares of a request add up to its tokens.
    #[serde(default)]
    pub usage: Option<RecordedUsage>,
    /// What it cost, in the currency of the entry's prices.
    pub price: f64,
    /// Time of the request.
    pub latency_s: f64,
    /// Seconds since 1970.
    pub created: u64,
}

/// Tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedUsage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// Of the answer.
    pub completion_tokens: u64,
    /// Whether the server did not say, and text was counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

/// Tokens as text, or as bytes where one is not whole characters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecordedTokens {
    tokens: Vec<Piece>,
    logprobs: Vec<f32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Piece {
    Text(String),
    Bytes(Vec<u8>),
}

impl RecordedUsage {
    /// Share `index` of `count` equal parts; the first takes what is left over.
    pub(super) fn share(usage: Usage, estimated: bool, index: usize, count: usize) -> Self {
        let part = |tokens: u64| {
            let count = count.max(1) as u64;
            tokens / count + if index == 0 { tokens % count } else { 0 }
        };
        Self {
            prompt_tokens: part(usage.input_tokens),
            completion_tokens: part(usage.output_tokens),
            estimated,
        }
    }
}

impl From<&TokenTexts> for RecordedTokens {
    fn from(texts: &TokenTexts) -> Self {
        let piece = |bytes: &Vec<u8>| match String::from_utf8(bytes.clone()) {
            Ok(text) => Piece::Text(text),
            Err(error) => Piece::Bytes(error.into_bytes()),
        };
        Self {
            tokens: texts.pieces.iter().map(piece).collect(),
            logprobs: texts.logprobs.clone(),
        }
    }
}

impl From<&RecordedTokens> for TokenTexts {
    fn from(recorded: &RecordedTokens) -> Self {
        let bytes = |piece: &Piece| match piece {
            Piece::Text(text) => text.clone().into_bytes(),
            Piece::Bytes(bytes) => bytes.clone(),
        };
        Self {
            pieces: recorded.tokens.iter().map(bytes).collect(),
            logprobs: recorded.logprobs.clone(),
        }
    }
}

impl RecordLine {
    /// The line of an action that has just come, or was lost.
    pub(super) fn of(options: &EndpointOptions, question: &Question, answered: Answered) -> Self {
        let created = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let (choice, failure) = match answered.choice {
            Ok(choice) => (Some(choice), None),
            Err(failure) => (None, Some(failure.reason)),
        };
        let tokens = choice
            .as_ref()
            .and_then(|choice| choice.token_texts.as_ref());
        Self {
            key: question.keys[answered.sample].clone(),
            name: options.name.clone(),
            model: options.model.clone(),
            base_url: options.base_url.clone(),
            parameters: chat::parameters(options),
            prompt_id: question.id.clone(),
            sample_index: answered.sample,
            logprobs: tokens.map(RecordedTokens::from),
            finish_reason: choice
                .as_ref()
                .map_or(FinishReason::Stop, |choice| choice.finish_reason),
            text: choice.map(|choice| choice.text).unwrap_or_default(),
            failure,
            usage: answered.usage,
            price: answered.price,
            latency_s: answered.latency.as_secs_f64(),
            created: created.as_secs(),
        }
    }

    /// The answer of a line without failure. The file may be anybody's, so its text is cleaned again.
    pub(super) fn answer(&self) -> TeacherAnswer {
        TeacherAnswer {
            text: without_controls(&self.text),
            finish_reason: self.finish_reason,
            token_logprobs: None,
            token_texts: self.logprobs.as_ref().map(TokenTexts::from),
        }
    }

    /// Whether the request need not be sent again: there is a text, or the model had nothing to say.
    pub(super) fn is_settled(&self) -> bool {
        self.failure.is_none_or(FailureReason::is_answer)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn line(key: &str, text: &str) -> RecordLine {
        RecordLine {
            key: key.to_owned(),
            name: "strong".to_owned(),
            model: "model-1".to_owned(),
            base_url: "http://localhost:1/v1/chat/completions".to_owned(),
            parameters: serde_json::json!({"temperature": 0.2}),
            prompt_id: "row-1".to_owned(),
            sample_index: 0,
            text: text.to_owned(),
            finish_reason: FinishReason::Stop,
            failure: None,
            logprobs: None,
            usage: None,
            price: 0.5,
            latency_s: 1.5,
            created: 1_790_000_000,
        }
    }

    #[test]
    fn a_line_reads_back_as_it_was_written() {
        let texts = TokenTexts {
            pieces: vec![b"a ".to_vec(), vec![0xe2, 0x82], vec![0xac]],
            logprobs: vec![-0.1, -2.5e-7, 0.0],
        };
        let mut written = line("k", "a €\n\"b\"");
        written.logprobs = Some(RecordedTokens::from(&texts));
        written.usage = Some(RecordedUsage {
            prompt_tokens: 5,
            completion_tokens: 3,
            estimated: true,
        });
        let text = serde_json::to_string(&written).expect("JSON");
        assert!(
            !text.contains('\n') && text.contains("[\"a \",[226,130],[172]]"),
            "{text}"
        );
        let read: RecordLine = serde_json::from_str(&text).expect("a line");
        assert_eq!(read, written);
        assert_eq!(read.answer().token_texts, Some(texts));
    }

    #[test]
    fn a_text_of_a_strange_file_is_cleaned() {
        assert_eq!(line("k", "a\u{0}b\tc\n").answer().text, "ab\tc\n");
    }

    #[test]
    fn shares_add_up() {
        let usage = Usage {
            input_tokens: 11,
            output_tokens: 7,
        };
        let shares: Vec<_> = (0..3)
            .map(|index| RecordedUsage::share(usage, false, index, 3))
            .collect();
        assert_eq!(
            shares
                .iter()
                .map(|share| share.prompt_tokens)
                .collect::<Vec<_>>(),
            [5, 3, 3]
        );
        assert_eq!(
            shares
                .iter()
                .map(|share| share.completion_tokens)
                .sum::<u64>(),
            7
        );
    }
}
