//! The tokens with a meaning of their own: picture markers, ends of turn, padding.
//!
//! Knows nothing of text; it reconciles what tokenizer.json, config.json and generation_config.json say.

use std::path::PathBuf;

use super::error::PromptError;
use super::model_files::{GenerationConfig, TokenizerConfig, TurnTokens};
use super::tokenizer::PromptTokenizer;
use crate::data::model_folder::{ImageTokenIds, ModelConfig, ModelFileError, ModelFolder};

const IMAGE_PAD: &str = "<|image_pad|>";
const VIDEO_PAD: &str = "<|video_pad|>";
const VISION_START: &str = "<|vision_start|>";
const VISION_END: &str = "<|vision_end|>";
const VISION_PAD: &str = "<|vision_pad|>";

/// Ids of tokens with a meaning of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecialTokens {
    /// Stands for one merged patch of a picture.
    pub image_pad: u32,
    /// Stands for one merged patch of a video; never used here, and never sampled.
    pub video_pad: u32,
    /// Opens a picture.
    pub vision_start: u32,
    /// Closes a picture.
    pub vision_end: u32,
    /// Every id that ends a completion; the first is the one to append to text that lacks it. Never empty.
    pub end_tokens: Vec<u32>,
    /// Fills batches.
    pub pad: u32,
    /// `<|vision_pad|>`, where the tokenizer has it; never sampled either.
    pub vision_pad: Option<u32>,
}

impl SpecialTokens {
    /// Finds them, and checks that the files agree.
    ///
    /// # Errors
    /// [`PromptError::MissingToken`] for a text-only tokenizer, [`PromptError::TokenIdMismatch`],
    /// [`PromptError::File`] if no token ends a turn.
    pub(super) fn open(
        folder: &ModelFolder,
        tokenizer: &PromptTokenizer,
        config: &ModelConfig,
        settings: &TokenizerConfig,
    ) -> Result<Self, PromptError> {
        let path = folder.path("config.json");
        let marker = |token, key, configured| marker(tokenizer, &path, token, key, configured);
        let ids = ImageTokenIds::read(folder, config)?;
        let image_pad = marker(IMAGE_PAD, "image_token_id", Some(ids.image))?;
        let video_pad = marker(VIDEO_PAD, "video_token_id", ids.video)?;
        let vision_start = marker(VISION_START, "vision_start_token_id", ids.vision_start)?;
        let vision_end = marker(VISION_END, "vision_end_token_id", ids.vision_end)?;
        let generation = GenerationConfig::open(folder)?;
        let turns = TurnTokens::open(folder)?;
        let end_tokens = end_tokens(folder, tokenizer, settings, &turns, &generation)?;
        let pad = (settings.pad_token.as_ref())
            .and_then(|token| tokenizer.token_id(token.as_str()))
            .or(generation.pad_token_id)
            .or(turns.pad_token_id())
            .filter(|&id| tokenizer.knows(id as usize))
            .unwrap_or(end_tokens[0]);
        Ok(Self {
            image_pad,
            video_pad,
            vision_start,
            vision_end,
            end_tokens,
            pad,
            vision_pad: tokenizer.token_id(VISION_PAD),
        })
    }

    /// Tokens that only ever stand in prompts: a completion with one of them could not be trained on.
    pub(super) fn vision_tokens(&self) -> impl Iterator<Item = u32> {
        let always = [
            self.image_pad,
            self.video_pad,
            self.vision_start,
            self.vision_end,
        ];
        always.into_iter().chain(self.vision_pad)
    }
}

/// The id of a picture marker; config.json need not name it, but must not contradict the tokenizer.
fn marker(
    tokenizer: &PromptTokenizer,
    config_path: &std::path::Path,
    token: &'static str,
    key: &'static str,
    configured: Option<u32>,
) -> Result<u32, PromptError> {
    let id = tokenizer.token_id(token);
    let id = id.ok_or_else(|| PromptError::MissingToken {
        path: tokenizer.path().to_owned(),
        token,
    })?;
    match configured {
        Some(found) if found != id => Err(PromptError::TokenIdMismatch {
            path: config_path.to_owned(),
            key: key.to_owned(),
            found: found.to_string(),
            expected: format!("{token} at {id}"),
        }),
        _ => Ok(id),
    }
}

/// End tokens of generation_config.json, else of config.json; the tokenizer's own comes first.
fn end_tokens(
    folder: &ModelFolder,
    tokenizer: &PromptTokenizer,
    settings: &TokenizerConfig,
    turns: &TurnTokens,
    generation: &GenerationConfig,
) -> Result<Vec<u32>, PromptError> {
    let (name, listed) = match &generation.eos_token_id {
        Some(ids) => ("generation_config.json", Some(ids)),
        None => ("config.json", turns.eos_token_id()),
    };
    let listed = listed.map(|ids| ids.to_vec()).unwrap_or_default();
    if let Some(id) = listed.iter().find(|&&id| !tokenizer.knows(id as usize)) {
        return Err(PromptError::TokenIdMismatch {
            path: folder.path(name),
            key: "eos_token_id".to_owned(),
            found: id.to_string(),
            expected: format!("no such token, only ids below {}", tokenizer.size()),
        });
    }
    let own = settings.eos();
    let mut ids: Vec<u32> = own
        .and_then(|token| tokenizer.token_id(token))
        .into_iter()
        .collect();
    // transformers would add it to the vocabulary, where the model has no row for it.
    if ids.is_empty() && settings.eos_token.is_some() && own.is_some() {
        return Err(no_end_token(folder.path(TokenizerConfig::NAME), own));
    }
    for id in listed {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if ids.is_empty() {
        return Err(no_end_token(folder.path(TokenizerConfig::NAME), own));
    }
    Ok(ids)
}

fn no_end_token(path: PathBuf, own: Option<&str>) -> PromptError {
    PromptError::File(ModelFileError::Broken {
        path,
        expected: "`eos_token`, the token that ends a turn",
        found: own.map_or_else(
            || "none in any file".to_owned(),
            |own| format!("`{}`, which the tokenizer lacks", own.escape_debug()),
        ),
        hint: "restore tokenizer_config.json and generation_config.json from the model's original folder",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;

    fn opened(folder: &std::path::Path) -> Result<SpecialTokens, PromptError> {
        let folder = ModelFolder::open(folder)?;
        let tokenizer = PromptTokenizer::open(&folder)?;
        let config = ModelConfig::read(&folder)?;
        let settings = TokenizerConfig::open(&folder)?;
        SpecialTokens::open(&folder, &tokenizer, &config, &settings)
    }

    #[test]
    fn every_layout_gives_the_same_tokens() {
        for model in [
            "qwen2vl-tiny",
            "qwen2vl-tiny-v5-sharded-bf16",
            "qwen25vl-tiny",
        ] {
            let special = opened(&golden::path(model)).expect("special tokens");
            let expected = SpecialTokens {
                image_pad: 908,
                video_pad: 909,
                vision_start: 905,
                vision_end: 906,
                end_tokens: vec![898, 896],
                pad: 896,
                vision_pad: Some(907),
            };
            assert_eq!(special, expected, "{model}");
        }
    }

    #[test]
    fn the_tokenizer_s_end_token_is_appended_whatever_the_order() {
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "generation_config.json", |file| {
            file["eos_token_id"] = serde_json::json!([896, 898]);
        });
        assert_eq!(
            opened(folder.path()).expect("tokens").end_tokens,
            [898, 896]
        );
        std::fs::remove_file(folder.path().join("generation_config.json")).expect("removed");
        assert_eq!(opened(folder.path()).expect("tokens").end_tokens, [898]);
    }

    /// Source: `Qwen2Tokenizer.__init__` of transformers.
    #[test]
    fn an_absent_end_token_is_that_of_the_tokenizer_s_class() {
        for (eos, expected) in [
            (None, vec![896, 898]),
            (Some(serde_json::Value::Null), vec![898, 896]),
            (Some("<|im_start|>".into()), vec![897, 898, 896]),
        ] {
            let folder = golden::copy_of("qwen2vl-tiny");
            golden::edit(&folder, "tokenizer_config.json", |file| {
                file.as_object_mut()
                    .expect("an object")
                    .shift_remove("eos_token");
                if let Some(eos) = eos {
                    file["eos_token"] = eos;
                }
            });
            assert_eq!(opened(folder.path()).expect("tokens").end_tokens, expected);
        }
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "tokenizer_config.json", |file| {
            file["eos_token"] = "<eos>".into()
        });
        let text = opened(folder.path())
            .expect_err("no such token")
            .to_string();
        assert!(
            text.contains("found `<eos>`, which the tokenizer lacks"),
            "{text}"
        );
    }

    #[test]
    fn a_tokenizer_without_vision_tokens_is_refused_by_name() {
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "tokenizer.json", |file| {
            let tokens = file["added_tokens"].as_array_mut().expect("tokens");
            tokens.retain(|token| token["content"] != "<|image_pad|>");
        });
        let text = opened(folder.path())
            .expect_err("no image token")
            .to_string();
        assert!(
            text.contains("tokenizer.json: the tokenizer has no token `<|image_pad|>`"),
            "{text}"
        );
        assert!(
            text.contains("hint: take tokenizer.json from a Qwen2-VL"),
            "{text}"
        );
    }

    #[test]
    fn contradicting_files_are_named() {
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "config.json", |file| {
            file["image_token_id"] = 7.into()
        });
        let text = opened(folder.path()).expect_err("two ids").to_string();
        let expected = "config.json: `image_token_id` is 7, but the tokenizer has <|image_pad|> at 908\nhint: ";
        assert!(text.contains(expected), "{text}");
        let folder = golden::copy_of("qwen2vl-tiny");
        golden::edit(&folder, "generation_config.json", |file| {
            file["eos_token_id"] = 5000.into()
        });
        let text = opened(folder.path()).expect_err("unknown id").to_string();
        assert!(
            text.contains("generation_config.json: `eos_token_id` is 5000"),
            "{text}"
        );
    }
}
