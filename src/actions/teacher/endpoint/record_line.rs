//! One line of the record of external answers. Knows nothing of files.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answered::{Answered, RecordedUsage};
use super::chat::{self, Question};
use super::failure::FailureReason;
use super::options::EndpointOptions;
use super::text::without_controls;
use crate::actions::teacher::reasoning::told;
use crate::actions::teacher::{TeacherAnswer, TokenTexts};
use crate::options::Reasoning;
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
    /// The text of the answer itself; empty if there is none.
    pub text: String,
    /// Thoughts that the server gave apart from it; how they join it is decided when the line is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
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
        let mut parameters = chat::parameters(options);
        if !answered.left_out.is_empty() {
            parameters["left_out"] = answered.left_out.into();
        }
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
            parameters,
            prompt_id: question.id.clone(),
            sample_index: answered.sample,
            logprobs: tokens.map(RecordedTokens::from),
            finish_reason: choice
                .as_ref()
                .map_or(FinishReason::Stop, |choice| choice.finish_reason),
            reasoning: choice.as_ref().and_then(|choice| choice.thoughts.clone()),
            text: choice.map(|choice| choice.text).unwrap_or_default(),
            failure,
            usage: answered.usage,
            price: answered.price,
            latency_s: answered.latency.as_secs_f64(),
            created: created.as_secs(),
        }
    }

    /// The answer of a line without failure. The file may be anybody's, so its text is cleaned again. Its tokens spell
    /// the answer alone, so they go where thoughts join it.
    pub(super) fn answer(&self, reasoning: Reasoning) -> TeacherAnswer {
        let text = told(self.reasoning.as_deref(), &self.text, reasoning);
        let tokens = self.logprobs.as_ref().filter(|_| text == self.text);
        TeacherAnswer {
            text: without_controls(&text),
            finish_reason: self.finish_reason,
            token_logprobs: None,
            token_texts: tokens.map(TokenTexts::from),
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
            reasoning: None,
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
        assert_eq!(read.answer(Reasoning::Think).token_texts, Some(texts));
        written.reasoning = Some("t".to_owned());
        let joined = written.answer(Reasoning::Think);
        assert_eq!(
            (joined.text.as_str(), joined.token_texts),
            ("<think>t</think>\na €\n\"b\"", None)
        );
        assert_eq!(written.answer(Reasoning::Drop).text, "a €\n\"b\"");
    }

    #[test]
    fn a_text_of_a_strange_file_is_cleaned() {
        assert_eq!(
            line("k", "a\u{0}b\tc\n").answer(Reasoning::Think).text,
            "ab\tc\n"
        );
    }
}
