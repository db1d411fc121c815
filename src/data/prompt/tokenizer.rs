//! Text to token ids and back, with the policy's own tokenizer.json.
//!
//! Knows nothing of chat templates or of which tokens mean something to the model.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tokenizers::{AddedToken, Tokenizer};

use super::error::PromptError;
use super::model_files::TokenizerConfig;
use super::tokenizer_check::{check, missing_bytes};
use super::without_panic::without_panic;
use crate::data::model_folder::{ModelFileError, ModelFolder};

const NAME: &str = "tokenizer.json";
const EXPECTED: &str = "a byte-level BPE tokenizer";
/// Largest tokenizer.json, in bytes; published ones have up to 35 MB.
const LARGEST_FILE: u64 = 256 << 20;

/// A byte-level BPE tokenizer: any ids decode, and any text encodes whose bytes the vocabulary has.
#[derive(Debug)]
pub(super) struct PromptTokenizer {
    /// Reads `<|im_end|>` as a control token.
    prompts: Tokenizer,
    /// Reads `<|im_end|>` as ten ordinary characters.
    literal: Tokenizer,
    /// Whether each id up to the largest has a token.
    assigned: Vec<bool>,
    /// Bytes without a token, ascending.
    missing: Vec<u8>,
    /// Added tokens and their ids as the file has them.
    written_ids: Vec<(String, u64)>,
    path: PathBuf,
}

impl PromptTokenizer {
    /// Reads tokenizer.json; truncation and padding that it may ask for are switched off, for a prompt is never cut.
    ///
    /// # Errors
    /// [`PromptError::File`], also for tokenizers of another kind and such as lose text.
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let path = folder.path(NAME);
        let broken = |found: String| ModelFileError::broken(&path, EXPECTED, found);
        let text = folder.text_up_to(NAME, EXPECTED, LARGEST_FILE)?;
        let text = text.ok_or_else(|| ModelFileError::Missing {
            path: path.clone(),
            expected: EXPECTED,
            hint: "copy tokenizer.json from the model's original folder; vocab.json and merges.txt alone are not read"
                .to_owned(),
        })?;
        let file = folder.parse(NAME, EXPECTED, &text)?;
        check(&file).map_err(broken)?;
        let built = without_panic(|| Tokenizer::from_bytes(text.as_bytes()));
        let mut prompts = built
            .map_err(broken)?
            .map_err(|error| broken(error.to_string()))?;
        prompts
            .with_truncation(None)
            .map_err(|error| broken(error.to_string()))?
            .with_padding(None);
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
            written_ids: written_ids(&file),
            missing: missing_bytes(|letter| prompts.token_to_id(letter).is_some()),
            prompts,
            literal,
            assigned,
            path,
        })
    }

    /// Refuses ids of added tokens that the file only claims, and tokens that tokenizer_config.json adds or changes:
    /// transformers would encode other ids.
    ///
    /// # Errors
    /// [`PromptError::File`], [`PromptError::TokenIdMismatch`].
    pub(super) fn agree(
        &self,
        folder: &ModelFolder,
        settings: &TokenizerConfig,
    ) -> Result<(), PromptError> {
        let mismatch =
            |key: String, found: String, expected: String| PromptError::TokenIdMismatch {
                path: folder.path(TokenizerConfig::NAME),
                key,
                found,
                expected,
            };
        // The crate counts added tokens from the end of the vocabulary, whatever id the file gives them.
        for (token, written) in &self.written_ids {
            let counted = self.token_id(token);
            if counted.map(u64::from) != Some(*written) {
                let token = token.escape_debug();
                let found = format!(
                    "token `{token}` at id {written}, where its vocabulary counts {}",
                    counted.map_or_else(|| "none".to_owned(), |id| id.to_string())
                );
                return Err(ModelFileError::broken(&self.path, EXPECTED, found).into());
            }
        }
        let added = self.prompts.get_added_tokens_decoder();
        for (id, token) in settings.added_tokens_decoder.iter().flatten() {
            let own = id.parse().ok().and_then(|id: u32| added.get(&id));
            if let Some((found, expected)) = difference(token, own) {
                let key = format!("added_tokens_decoder.{}", id.escape_debug());
                return Err(mismatch(key, found, expected));
            }
        }
        for (key, token) in settings.extra_special_tokens() {
            if self.token_id(token).is_none() {
                let found = format!("`{}`", token.escape_debug());
                return Err(mismatch(key.to_owned(), found, "no such token".to_owned()));
            }
        }
        Ok(())
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
    ///
    /// # Errors
    /// [`PromptError::Unencodable`].
    pub(super) fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.encode(&self.prompts, text)
    }

    /// Ids of text that somebody else wrote: a control token spelled out in it stays plain characters.
    ///
    /// # Errors
    /// [`PromptError::Unencodable`].
    pub(super) fn encode_literal(&self, text: &str) -> Result<Vec<u32>, PromptError> {
        self.encode(&self.literal, text)
    }

    fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, PromptError> {
        let fail = |reason: String| PromptError::Unencodable {
            path: self.path.clone(),
            reason,
        };
        let encoding = without_panic(|| tokenizer.encode_fast(text, false));
        let encoding = encoding
            .map_err(fail)?
            .map_err(|error| fail(error.to_string()))?;
        let ids = encoding.get_ids().to_vec();
        match self.lost_byte(text, &ids) {
            None => Ok(ids),
            Some(byte) => Err(fail(format!(
                "its vocabulary has no token for the byte 0x{byte:02X}, which this text needs"
            ))),
        }
    }

    /// A byte of the text that the ids do not give back. The tokenizers crate drops what a vocabulary lacks.
    fn lost_byte(&self, text: &str, ids: &[u32]) -> Option<u8> {
        if self.missing.is_empty() {
            return None;
        }
        let normalised = self.normalised(text);
        let needed = normalised
            .bytes()
            .find(|byte| self.missing.binary_search(byte).is_ok())?;
        // A control token may hold the byte and stand for it whole.
        (self.decode(ids, false) != normalised).then_some(needed)
    }

    fn normalised(&self, text: &str) -> String {
        let mut normalised = tokenizers::NormalizedString::from(text);
        if let Some(normalizer) = self.prompts.get_normalizer() {
            // Normal forms cannot fail; if one does, the comparison does.
            let _ = tokenizers::Normalizer::normalize(normalizer, &mut normalised);
        }
        normalised.get().to_owned()
    }

    /// Text of the ids; unassigned ids give nothing, broken UTF-8 gives U+FFFD.
    pub(super) fn decode(&self, ids: &[u32], skip_special_tokens: bool) -> String {
        let text = self.prompts.decode(ids, skip_special_tokens);
        text.expect("the byte-level decoder takes any tokens")
    }
}

/// Added tokens of the file with their ids.
fn written_ids(file: &Value) -> Vec<(String, u64)> {
    let added = file.get("added_tokens").and_then(Value::as_array);
    let token = |token: &Value| {
        let content = token.get("content")?.as_str()?.to_owned();
        Some((content, token.get("id")?.as_u64()?))
    };
    added.into_iter().flatten().filter_map(token).collect()
}

/// What a token of tokenizer_config.json is, and what tokenizer.json has at that id, if they differ.
fn difference(token: &Value, own: Option<&AddedToken>) -> Option<(String, String)> {
    let content = token
        .get("content")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let found = format!("`{}`", content.escape_debug());
    let Some(own) = own else {
        return Some((found, "no added token there".to_owned()));
    };
    if own.content != content {
        return Some((found, format!("`{}`", own.content.escape_debug())));
    }
    let flags = [
        ("special", own.special),
        ("lstrip", own.lstrip),
        ("rstrip", own.rstrip),
        ("single_word", own.single_word),
        ("normalized", own.normalized),
    ];
    let written = |key: &str| token.get(key).and_then(Value::as_bool);
    let differs = flags
        .into_iter()
        .find(|(key, flag)| written(key).is_some_and(|written| written != *flag));
    let (key, flag) = differs?;
    Some((
        format!("{found} with {key} {}", !flag),
        format!("{key} {flag}"),
    ))
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

    fn in_folder(folder: &Path) -> Result<PromptTokenizer, PromptError> {
        PromptTokenizer::open(&ModelFolder::open(folder)?)
    }

    fn opened(model: &str) -> PromptTokenizer {
        in_folder(&golden::path(model)).expect("a tokenizer")
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
                let encoded = tokenizer.encode_prompt(text).expect("ids");
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
        let literal = tokenizer.encode_literal(text).expect("ids");
        assert!(literal.iter().all(|&id| id < 896), "{literal:?}");
        assert_eq!(tokenizer.decode(&literal, true), text);
        assert!(tokenizer.encode_prompt(text).expect("ids").contains(&898));
        assert_eq!(
            tokenizer.encode_literal("count 3").expect("ids"),
            tokenizer.encode_prompt("count 3").expect("ids")
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
            let encoded = tokenizer.encode_literal(&text).expect("ids");
            assert!(
                tokenizer.decode(&encoded, true) == text,
                "{} bytes",
                text.len()
            );
        }
    }

    /// A copy of the recorded folder whose tokenizer.json is changed.
    fn changed(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, NAME, change);
        folder
    }

    #[test]
    fn truncation_in_the_file_is_not_applied() {
        let folder = changed(|file| {
            file["truncation"] = serde_json::json!(
                {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
            );
        });
        let tokenizer = in_folder(folder.path()).expect("a tokenizer");
        assert_eq!(
            tokenizer.encode_prompt("0123456789").expect("ids").len(),
            10
        );
    }

    #[test]
    fn missing_and_broken_files_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let message = |text: &str| {
            std::fs::write(folder.path().join(NAME), text).expect("a file");
            in_folder(folder.path()).expect_err("unusable").to_string()
        };
        let text = in_folder(folder.path()).expect_err("absent").to_string();
        assert!(
            text.contains(
                "tokenizer.json: not found; expected a byte-level BPE tokenizer\nhint: copy"
            ),
            "{text}"
        );
        for broken in [
            "{\"version\": \"1.0\"",
            "[]",
            "{}",
            "{\"model\": 3}",
            "{\"a\": 1, \"a\": 1}",
        ] {
            let text = message(broken);
            assert!(
                text.contains("tokenizer.json: expected a byte-level BPE tokenizer, found "),
                "{text}"
            );
            assert!(text.contains("hint: restore"), "{text}");
        }
        // Merges of tokens that there are none of: the crate's own words, not its panic.
        let folder = changed(|file| file["model"]["merges"] = serde_json::json!([["Q!", "Q?"]]));
        let text = in_folder(folder.path())
            .expect_err("no such tokens")
            .to_string();
        assert!(
            text.contains("expected a byte-level BPE tokenizer, found "),
            "{text}"
        );
    }

    /// SmolLM2's vocabulary lacks 21 bytes that its training text never held. Here two go: one that no UTF-8 holds, and `z`.
    #[test]
    fn a_text_that_needs_a_missing_byte_is_refused_and_every_other_one_is_not() {
        let folder = changed(|file| {
            let vocabulary = file["model"]["vocab"]
                .as_object_mut()
                .expect("a vocabulary");
            let gone: Vec<String> = vocabulary
                .keys()
                .filter(|token| token.contains(['z', 'À']))
                .cloned()
                .collect();
            // Their ids stay taken: added tokens are counted from the end of the vocabulary.
            for token in &gone {
                let id = vocabulary.shift_remove(token).expect("there");
                vocabulary.insert(format!("<gone {id}>"), id);
            }
            assert!(
                gone.contains(&"z".to_owned()) && gone.contains(&"À".to_owned()),
                "{gone:?}"
            );
            let merges = file["model"]["merges"].as_array_mut().expect("merges");
            merges.retain(|merge| !merge.to_string().contains(['z', 'À']));
            file["added_tokens"][2]["content"] = "<|zz|>".into();
        });
        let tokenizer = in_folder(folder.path()).expect("accepted");
        assert_eq!(tokenizer.missing, [b'z', 0xC0]);
        let whole = opened("qwen2vl-tiny");
        for text in ["How many?", "", "é 你好 🙂\n\t", "<|im_start|>user"] {
            assert_eq!(
                tokenizer.encode_prompt(text).expect("ids"),
                whole.encode_prompt(text).expect("ids")
            );
        }
        let text = tokenizer
            .encode_prompt("a zebra")
            .expect_err("no z")
            .to_string();
        assert!(
            text.contains("tokenizer.json: a text cannot be encoded: its vocabulary has no token for the byte 0x7A"),
            "{text}"
        );
        // Whole tokens with the byte in them stand for it.
        assert!(
            tokenizer
                .encode_prompt("a<|zz|>b")
                .expect("one token")
                .contains(&898)
        );
        assert!(tokenizer.encode_literal("a<|zz|>b").is_err());
    }

    #[test]
    fn tokens_that_only_the_settings_have_are_named() {
        type Change = fn(&mut Value);
        let cases: [(Change, &str); 5] = [
            (
                |f| f["added_tokens_decoder"]["898"]["content"] = "<|end|>".into(),
                "`added_tokens_decoder.898` is `<|end|>`, but the tokenizer has `<|im_end|>`",
            ),
            (
                |f| f["added_tokens_decoder"]["910"] = serde_json::json!({"content": "<x>"}),
                "`added_tokens_decoder.910` is `<x>`, but the tokenizer has no added token there",
            ),
            (
                |f| f["added_tokens_decoder"]["898"]["special"] = false.into(),
                "`added_tokens_decoder.898` is `<|im_end|>` with special false, but the tokenizer has special true",
            ),
            (
                |f| f["added_tokens_decoder"]["898"]["lstrip"] = true.into(),
                "with lstrip true",
            ),
            (
                |f| f["extra_special_tokens"] = serde_json::json!(["<think>"]),
                "`extra_special_tokens` is `<think>`, but the tokenizer has no such token",
            ),
        ];
        for (change, words) in cases {
            let folder = golden::copy_of("qwen2vl-tiny");
            golden::edit(&folder, TokenizerConfig::NAME, change);
            let opened = ModelFolder::open(folder.path()).expect("a folder");
            let settings = TokenizerConfig::open(&opened).expect("settings");
            let tokenizer = PromptTokenizer::open(&opened).expect("a tokenizer");
            let text = tokenizer
                .agree(&opened, &settings)
                .expect_err(words)
                .to_string();
            assert!(text.contains(words), "{words}: {text}");
        }
        let folder = changed(|file| {
            let vocabulary = file["model"]["vocab"]
                .as_object_mut()
                .expect("a vocabulary");
            let last = vocabulary.keys().next_back().cloned().expect("a token");
            vocabulary.shift_remove(&last);
            file["model"]["merges"] = serde_json::json!([]);
        });
        let opened = ModelFolder::open(folder.path()).expect("a folder");
        let tokenizer = PromptTokenizer::open(&opened).expect("a tokenizer");
        let text = tokenizer
            .agree(&opened, &TokenizerConfig::default())
            .expect_err("one id is free")
            .to_string();
        assert!(
            text.contains("token `<|endoftext|>` at id 896, where its vocabulary counts 895"),
            "{text}"
        );
        for model in LAYOUTS {
            let opened = ModelFolder::open(&golden::path(model)).expect("a folder");
            let settings = TokenizerConfig::open(&opened).expect("settings");
            let tokenizer = PromptTokenizer::open(&opened).expect("a tokenizer");
            tokenizer
                .agree(&opened, &settings)
                .expect("recorded folders agree");
        }
    }
}
