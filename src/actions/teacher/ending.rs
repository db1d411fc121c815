//! What a server or a file calls the end of an answer, and what that means. One table for every reader of answers; knows
//! nothing of who asked.

use crate::record::FinishReason;

/// Ordinary ends: the model had said what it wanted to say.
const WHOLE: &[&str] = &[
    "stop",
    "eos",
    "eos_token",
    "eos_found",
    "end_turn",
    "end_of_turn",
    "stop_sequence",
    "stop_token",
    "stop_str",
    "complete",
    "completed",
    "finished",
    "end",
    "finish_reason_stop",
];
/// A limit of tokens was reached: vLLM, Anthropic, Gemini, Mistral, Cohere, and the names of their libraries.
const CUT_OFF: &[&str] = &[
    "length",
    "max_tokens",
    "max_token",
    "max_length",
    "max_output_tokens",
    "max_completion_tokens",
    "max_new_tokens",
    "model_length",
    "token_limit",
    "context_length",
    "context_length_exceeded",
    "model_context_window_exceeded",
    "finish_reason_max_tokens",
];
/// The server's filter, or the model, declined.
const REFUSED: &[&str] = &[
    "content_filter",
    "content_filtered",
    "refusal",
    "safety",
    "recitation",
    "blocklist",
    "prohibited_content",
    "spii",
    "image_safety",
    "sensitive",
    "guardrail_intervened",
    "error_toxic",
    "moderation",
];
/// The model called a tool in place of an answer.
const TOOL_CALL: &[&str] = &[
    "tool_calls",
    "tool_call",
    "tool_use",
    "function_call",
    "function_calls",
];
/// The server broke off; another try may go well: vLLM, DeepSeek, OpenRouter, Cohere, Gemini, Ollama.
const BROKEN_OFF: &[&str] = &[
    "abort",
    "aborted",
    "error",
    "insufficient_system_resource",
    "cancel",
    "cancelled",
    "canceled",
    "user_cancel",
    "timeout",
    "time_limit",
    "network_error",
    "server_error",
    "internal_error",
    "overloaded",
    "load",
    "unload",
    "malformed_function_call",
    "malformed_response",
];

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As the model wanted.
    Whole,
    /// At a limit of tokens.
    CutOff,
    /// The model or a filter declined.
    Refused,
    /// The model called a tool in place of an answer.
    ToolCall,
    /// The server broke off; asking again may help.
    BrokenOff,
    /// In a way that nobody here has heard of, so it is not taken for an ordinary end.
    Unknown,
}

impl Ending {
    /// The end that this word names, in any case and with any of `_`, `-` and space between its parts; no word at all
    /// is an ordinary end, because many servers and most recorded files give none.
    #[must_use]
    pub fn of(word: Option<&str>) -> Self {
        let word = word.unwrap_or_default().trim().to_ascii_lowercase();
        let word = word.replace(['-', ' '], "_");
        let named = |words: &[&str]| words.contains(&word.as_str());
        if word.is_empty() || named(WHOLE) {
            Self::Whole
        } else if named(CUT_OFF) {
            Self::CutOff
        } else if named(REFUSED) {
            Self::Refused
        } else if named(TOOL_CALL) {
            Self::ToolCall
        } else if named(BROKEN_OFF) {
            Self::BrokenOff
        } else {
            Self::Unknown
        }
    }

    /// The record's word for it; `None` where the text is no answer.
    #[must_use]
    pub const fn finish_reason(self) -> Option<FinishReason> {
        match self {
            Self::Whole => Some(FinishReason::Stop),
            Self::CutOff => Some(FinishReason::Length),
            Self::Refused | Self::ToolCall | Self::BrokenOff | Self::Unknown => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_many_servers_are_known() {
        for (word, ending) in [
            ("stop", Ending::Whole),
            ("STOP", Ending::Whole),
            ("end_turn", Ending::Whole),
            ("endoftext", Ending::Unknown),
            ("eos", Ending::Whole),
            ("eos_token", Ending::Whole),
            ("stop_sequence", Ending::Whole),
            ("COMPLETE", Ending::Whole),
            ("FINISH_REASON_STOP", Ending::Whole),
            ("", Ending::Whole),
            ("length", Ending::CutOff),
            ("max_tokens", Ending::CutOff),
            ("MAX_TOKENS", Ending::CutOff),
            ("max-tokens", Ending::CutOff),
            ("model_length", Ending::CutOff),
            ("model_context_window_exceeded", Ending::CutOff),
            ("content_filter", Ending::Refused),
            ("SAFETY", Ending::Refused),
            ("RECITATION", Ending::Refused),
            ("tool_calls", Ending::ToolCall),
            ("tool_use", Ending::ToolCall),
            ("abort", Ending::BrokenOff),
            ("error", Ending::BrokenOff),
            ("ERROR", Ending::BrokenOff),
            ("insufficient_system_resource", Ending::BrokenOff),
            ("cancelled", Ending::BrokenOff),
            ("MALFORMED_FUNCTION_CALL", Ending::BrokenOff),
            ("bored", Ending::Unknown),
            ("stopped early", Ending::Unknown),
            ("pause_turn", Ending::Unknown),
        ] {
            assert_eq!(Ending::of(Some(word)), ending, "{word}");
        }
        assert_eq!(Ending::of(None), Ending::Whole);
    }

    #[test]
    fn no_word_stands_twice_and_each_is_written_as_it_is_looked_up() {
        let all = [WHOLE, CUT_OFF, REFUSED, TOOL_CALL, BROKEN_OFF].concat();
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert!(
            all.iter()
                .all(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
        );
    }

    #[test]
    fn only_whole_and_cut_off_texts_are_answers() {
        for (ending, reason) in [
            (Ending::Whole, Some(FinishReason::Stop)),
            (Ending::CutOff, Some(FinishReason::Length)),
            (Ending::Refused, None),
            (Ending::ToolCall, None),
            (Ending::BrokenOff, None),
            (Ending::Unknown, None),
        ] {
            assert_eq!(ending.finish_reason(), reason);
        }
    }
}
