//! The JSON files of a model folder that decide how prompts look, in the hub's layout and in transformers 5's.
//!
//! Knows nothing of weights, templates or pictures: it reads files and says which one is missing or broken.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::PromptError;

const RESTORE: &str = "restore the file from the model's original folder";

/// A model folder that exists.
#[derive(Debug)]
pub(super) struct ModelFolder {
    directory: PathBuf,
}

impl ModelFolder {
    /// # Errors
    /// [`PromptError::MissingFile`] if there is no such folder.
    pub(super) fn open(directory: &Path) -> Result<Self, PromptError> {
        if !directory.is_dir() {
            return Err(PromptError::MissingFile {
                path: directory.to_owned(),
                expected: "a model folder with config.json and tokenizer.json",
                hint: "check the path; a hub name is not looked up, download the model first",
            });
        }
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    /// The path of one of its files, which need not exist.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The file's text, or `None` if it is absent.
    ///
    /// # Errors
    /// [`PromptError::BrokenFile`] if it is there but is no readable text.
    pub(super) fn optional_text(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<String>, PromptError> {
        let path = self.path(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PromptError::BrokenFile {
                path,
                expected,
                found: error.to_string(),
                hint: "check the file's permissions and that it is whole",
            }),
        }
    }

    /// The file's contents, or `None` if it is absent.
    ///
    /// # Errors
    /// [`PromptError::BrokenFile`] if it is not the JSON expected.
    pub(super) fn optional_json<T: DeserializeOwned>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, PromptError> {
        let Some(text) = self.optional_text(name, expected)? else {
            return Ok(None);
        };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|error| PromptError::BrokenFile {
            path: self.path(name),
            expected,
            found: error.to_string(),
            hint: RESTORE,
        })
    }

    /// The file's contents.
    ///
    /// # Errors
    /// [`PromptError::MissingFile`] with `hint`, [`PromptError::BrokenFile`].
    pub(super) fn required_json<T: DeserializeOwned>(
        &self,
        name: &str,
        expected: &'static str,
        hint: &'static str,
    ) -> Result<T, PromptError> {
        self.optional_json(name, expected)?
            .ok_or_else(|| PromptError::MissingFile {
                path: self.path(name),
                expected,
                hint,
            })
    }
}

/// One id or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenIds {
    /// `"eos_token_id": 7`
    One(u32),
    /// `"eos_token_id": [7, 8]`
    Many(Vec<u32>),
}

impl TokenIds {
    /// The ids in the file's order.
    pub(super) fn to_vec(&self) -> Vec<u32> {
        match self {
            Self::One(id) => vec![*id],
            Self::Many(ids) => ids.clone(),
        }
    }
}

/// What prompts need of `config.json`; transformers 5 moves the text model's keys into `text_config`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ModelConfig {
    pub(super) image_token_id: Option<u32>,
    pub(super) video_token_id: Option<u32>,
    pub(super) vision_start_token_id: Option<u32>,
    pub(super) vision_end_token_id: Option<u32>,
    #[serde(default)]
    pub(super) text_config: TextConfig,
    #[serde(flatten)]
    flat: TextConfig,
    #[serde(default)]
    pub(super) vision_config: VisionConfig,
}

/// The text model's keys.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TextConfig {
    vocab_size: Option<usize>,
    eos_token_id: Option<TokenIds>,
    pad_token_id: Option<u32>,
}

/// The vision tower's keys.
#[derive(Debug, Default, Deserialize)]
pub(super) struct VisionConfig {
    pub(super) patch_size: Option<usize>,
    pub(super) spatial_merge_size: Option<usize>,
    pub(super) temporal_patch_size: Option<usize>,
}

impl ModelConfig {
    /// # Errors
    /// [`PromptError::MissingFile`], [`PromptError::BrokenFile`].
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let hint = "copy config.json from the model's original folder";
        folder.required_json("config.json", "a Qwen2-VL configuration", hint)
    }

    /// Rows of the embedding.
    pub(super) fn vocab_size(&self) -> Option<usize> {
        self.text_config.vocab_size.or(self.flat.vocab_size)
    }

    /// Ids that end a turn.
    pub(super) fn eos_token_id(&self) -> Option<&TokenIds> {
        let nested = self.text_config.eos_token_id.as_ref();
        nested.or(self.flat.eos_token_id.as_ref())
    }

    /// Id that fills batches.
    pub(super) fn pad_token_id(&self) -> Option<u32> {
        self.text_config.pad_token_id.or(self.flat.pad_token_id)
    }
}

/// What prompts need of `generation_config.json`; the file is optional.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GenerationConfig {
    pub(super) eos_token_id: Option<TokenIds>,
    pub(super) pad_token_id: Option<u32>,
}

impl GenerationConfig {
    /// # Errors
    /// [`PromptError::BrokenFile`].
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let expected = "generation settings";
        let file = folder.optional_json("generation_config.json", expected)?;
        Ok(file.unwrap_or_default())
    }
}

/// What prompts need of `tokenizer_config.json`; the file is optional.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerConfig {
    pub(super) bos_token: Option<TokenText>,
    pub(super) eos_token: Option<TokenText>,
    pub(super) pad_token: Option<TokenText>,
    pub(super) unk_token: Option<TokenText>,
    pub(super) chat_template: Option<TemplateText>,
}

impl TokenizerConfig {
    /// The file's name.
    pub(super) const NAME: &'static str = "tokenizer_config.json";

    /// # Errors
    /// [`PromptError::BrokenFile`].
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let file = folder.optional_json(Self::NAME, "tokenizer settings")?;
        Ok(file.unwrap_or_default())
    }
}

/// A token as a string or as an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum TokenText {
    /// `"eos_token": "<|im_end|>"`
    Plain(String),
    /// `"eos_token": {"content": "<|im_end|>", ...}`
    Described {
        /// The token's text.
        content: String,
    },
}

impl TokenText {
    /// The token's text.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Plain(content) | Self::Described { content } => content,
        }
    }
}

/// A chat template, or several by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum TemplateText {
    /// `"chat_template": "{% ... %}"`
    One(String),
    /// `"chat_template": [{"name": "default", "template": "{% ... %}"}]`
    Named(Vec<NamedTemplate>),
}

/// One of several chat templates.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct NamedTemplate {
    name: String,
    template: String,
}

impl TemplateText {
    /// The template for ordinary conversations.
    pub(super) fn default_template(self) -> Option<String> {
        match self {
            Self::One(template) => Some(template),
            Self::Named(templates) => templates
                .into_iter()
                .find(|entry| entry.name == "default")
                .map(|entry| entry.template),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed<T: DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect("valid")
    }

    #[test]
    fn flat_and_nested_configurations_read_alike() {
        let flat: ModelConfig =
            parsed(r#"{"vocab_size": 9, "eos_token_id": 3, "image_token_id": 5}"#);
        let nested: ModelConfig = parsed(
            r#"{"text_config": {"vocab_size": 9, "eos_token_id": [3, 4], "pad_token_id": null}}"#,
        );
        assert_eq!(flat.vocab_size(), Some(9));
        assert_eq!(nested.vocab_size(), Some(9));
        assert_eq!(flat.eos_token_id().expect("one").to_vec(), [3]);
        assert_eq!(nested.eos_token_id().expect("two").to_vec(), [3, 4]);
        assert_eq!(nested.pad_token_id(), None);
    }

    #[test]
    fn tokens_and_templates_come_in_two_forms() {
        let config: TokenizerConfig = parsed(
            r#"{"eos_token": {"content": "<e>", "special": true}, "pad_token": "<p>",
                "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]}"#,
        );
        assert_eq!(config.eos_token.expect("an object").as_str(), "<e>");
        assert_eq!(config.pad_token.expect("a string").as_str(), "<p>");
        let template = config.chat_template.expect("a list").default_template();
        assert_eq!(template.as_deref(), Some("d"));
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = ModelFolder::open(Path::new("no/such/model")).expect_err("absent");
        let text = error.to_string();
        assert!(
            text.starts_with("no/such/model: not found; expected a model folder"),
            "{text}"
        );
        assert!(text.contains("hint: check the path"), "{text}");
    }
}
