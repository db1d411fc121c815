//! Text to token ids and back, with the policy's own tokenizer.json.
//!
//! Knows nothing of chat templates or of which tokens mean something to the model.

use std::path::{Path, PathBuf};

use tokenizers::models::ModelWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{DecoderWrapper, Tokenizer};

use super::error::PromptError;

const EXPECTED: &str = "a byte-level BPE tokenizer";
const ENCODES: &str = "every byte has a token, so any text can be encoded";

/// A byte-level BPE tokenizer: any text encodes, and any ids decode.
#[derive(Debug)]
pub(super) struct PromptTokenizer {
    /// Reads `<|im_end|>` as a control token.
    prompts: Tokenizer,
    /// Reads `<|im_end|>` as ten ordinary characters.
    literal: Tokenizer,
    /// Whether each id up to the largest has a token.
    assigned: Vec<bool>,
    path: PathBuf,
}

impl PromptTokenizer {
    /// Reads tokenizer.json; truncation and padding that it may ask for are switched off, for a prompt is never cut.
    ///
    /// # Errors
    /// [`PromptError::MissingFile`], [`PromptError::BrokenFile`] also for tokenizers of another kind.
    pub(super) fn open(path: PathBuf) -> Result<Self, PromptError> {
        let bytes = std::fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let mut prompts =
            Tokenizer::from_bytes(&bytes).map_err(|error| broken(&path, error.to_string()))?;
        prompts
            .with_truncation(None)
            .map_err(|error| broken(&path, error.to_string()))?
            .with_padding(None);
        check_byte_level(&path, &prompts)?;
        let mut literal = prompts.clone();
        literal.set_encode_special_tokens(true);
        let ids = prompts.get_vocab(true).into_values();
        let mut assigned = Vec::new();
        for id in ids.map(|id| id as usize) {
            if assigned.len() <= id {
                assigned.resize(id + 1, false);
            }
            assigned[id] = true;
        }
        Ok(Self {
            prompts,
            literal,
            assigned,
            path,
        })
    }

    /// tokenizer.json, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The id of exactly this token.
    pub(super) fn token_id(&self, token: &str) -> Option<u32> {
        self.prompts.token_to_id(token)
    }

    /// Whether the id has a token.
    pub(super) fn knows(&self, id: usize) -> bool {
        self.assigned.get(id).copied().unwrap_or(false)
    }

    /// Largest id + 1.
    pub(super) fn size(&self) -> usize {
        self.assigned.len()
    }

    /// Ids of a rendered prompt; control tokens in the text are recognised, none is added.
    pub(super) fn encode_prompt(&self, text: &str) -> Vec<u32> {
        let encoding = self.prompts.encode_fast(text, false).expect(ENCODES);
        encoding.get_ids().to_vec()
    }

    /// Ids of text that somebody else wrote: a control token spelled out in it stays plain characters.
    pub(super) fn encode_literal(&self, text: &str) -> Vec<u32> {
        let encoding = self.literal.encode_fast(text, false).expect(ENCODES);
        encoding.get_ids().to_vec()
    }

    /// Text of the ids; unassigned ids give nothing, broken UTF-8 gives U+FFFD.
    pub(super) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let text = self.prompts.decode(ids, skip_special_tokens);
        text.expect("the byte-level decoder takes any tokens")
    }
}

/// Encoding and decoding cannot fail, and lose nothing, exactly if the tokenizer works on bytes and has all of them.
fn check_byte_level(path: &Path, tokenizer: &Tokenizer) -> Result<(), PromptError> {
    if !matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) {
        return Err(broken(path, "a model that is not BPE".to_owned()));
    }
    if !matches!(tokenizer.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
        return Err(broken(path, "a decoder that is not ByteLevel".to_owned()));
    }
    let alphabet = ByteLevel::alphabet();
    let absent = alphabet
        .iter()
        .filter(|&&byte| tokenizer.token_to_id(&byte.to_string()).is_none())
        .count();
    if absent > 0 {
        let found = format!("a vocabulary without {absent} of the 256 bytes");
        return Err(broken(path, found));
    }
    Ok(())
}

fn unreadable(path: &Path, error: &std::io::Error) -> PromptError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return PromptError::MissingFile {
            path: path.to_owned(),
            expected: EXPECTED,
            hint: "copy tokenizer.json from the model's original folder; vocab.json and merges.txt alone are not read",
        };
    }
    broken(path, error.to_string())
}

fn broken(path: &Path, found: String) -> PromptError {
    PromptError::BrokenFile {
        path: path.to_owned(),
        expected: EXPECTED,
        found,
        hint: "restore tokenizer.json from the model's original folder",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    const LAYOUTS: [&str; 3] = [
        "qwen2vl-tiny",
        "qwen2vl-tiny-v5-sharded-bf16",
        "qwen25vl-tiny",
    ];

    fn opened(model: &str) -> PromptTokenizer {
        PromptTokenizer::open(golden::path(model).join("tokenizer.json")).expect("a tokenizer")
    }

    fn ids(value: &serde_json::Value) -> Vec<u32> {
        serde_json::from_value(value.clone()).expect("ids")
    }

    #[test]
    fn recorded_strings_encode_and_decode_exactly() {
        let recorded = golden::json("golden-tokenizer-qwen2vl-tiny.json");
        for model in LAYOUTS {
            let tokenizer = opened(model);
            for case in recorded["cases"].as_array().expect("cases") {
                let text = case["text"].as_str().expect("text");
                let encoded = tokenizer.encode_prompt(text);
                assert_eq!(encoded, ids(&case["ids"]), "{model}: {text:?}");
                assert_eq!(
                    tokenizer.decode(&encoded, false),
                    case["decoded"],
                    "{model}: {text:?}"
                );
                let skipped = tokenizer.decode(&encoded, true);
                assert_eq!(skipped, case["decoded_skip_special"], "{model}: {text:?}");
            }
            for case in recorded["decode_only"].as_array().expect("cases") {
                let decoded = tokenizer.decode(&ids(&case["ids"]), false);
                assert_eq!(decoded, case["decoded"], "{model}: {}", case["ids"]);
            }
            assert_eq!(tokenizer.size(), 910);
        }
    }

    #[test]
    fn control_tokens_spelled_out_stay_characters() {
        let tokenizer = opened("qwen2vl-tiny");
        let text = "a<|im_end|>b<|image_pad|>";
        let literal = tokenizer.encode_literal(text);
        assert!(literal.iter().all(|&id| id < 896), "{literal:?}");
        assert_eq!(tokenizer.decode(&literal, true), text);
        assert!(tokenizer.encode_prompt(text).contains(&898));
        assert_eq!(
            tokenizer.encode_literal("count 3"),
            tokenizer.encode_prompt("count 3")
        );
    }

    #[test]
    fn long_runs_lose_nothing() {
        let tokenizer = opened("qwen2vl-tiny");
        for text in [
            " ".repeat(300_000) + "x",
            "x".repeat(100_000),
            "\n".repeat(100_000),
        ] {
            let encoded = tokenizer.encode_literal(&text);
            assert!(
                tokenizer.decode(&encoded, true) == text,
                "{} bytes",
                text.len()
            );
        }
    }

    #[test]
    fn truncation_in_the_file_is_not_applied() {
        let mut file = golden::json("qwen2vl-tiny/tokenizer.json");
        file["truncation"] = serde_json::json!(
            {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
        );
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, file.to_string()).expect("a file");
        let tokenizer = PromptTokenizer::open(path).expect("a tokenizer");
        assert_eq!(tokenizer.encode_prompt("0123456789").len(), 10);
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tokenizer.json");
        let text = PromptTokenizer::open(path.clone())
            .expect_err("absent")
            .to_string();
        assert!(
            text.contains(
                "tokenizer.json: not found; expected a byte-level BPE tokenizer\nhint: copy"
            ),
            "{text}"
        );
        std::fs::write(&path, "{\"version\": \"1.0\"").expect("a file");
        let text = PromptTokenizer::open(path.clone())
            .expect_err("broken")
            .to_string();
        assert!(
            text.contains("tokenizer.json: expected a byte-level BPE tokenizer, found "),
            "{text}"
        );
        assert!(text.contains("hint: restore"), "{text}");
        let mut file = golden::json("qwen2vl-tiny/tokenizer.json");
        let vocabulary = file["model"]["vocab"]
            .as_object_mut()
            .expect("a vocabulary");
        vocabulary.shift_remove("Ā");
        std::fs::write(&path, file.to_string()).expect("a file");
        let text = PromptTokenizer::open(path)
            .expect_err("a byte less")
            .to_string();
        assert!(text.contains("without 1 of the 256 bytes"), "{text}");
    }
}
