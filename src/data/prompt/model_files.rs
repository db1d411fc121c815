//! The JSON files of a model folder that decide how prompts look, in the hub's layout and in transformers 5's.
//!
//! Knows nothing of weights, templates or pictures: it says what the files hold, and refuses settings of the tokenizer that
//! would change ids and that nobody here computes.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::PromptError;
use crate::data::model_folder::{ModelFileError, ModelFolder, shown};

/// One id or several.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "a token id, or a list of token ids")]
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

/// Tokens that end a turn or fill batches by `config.json`; transformers 5 moves them into `text_config`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TurnTokens {
    text_config: Option<TurnTokenIds>,
    #[serde(flatten)]
    flat: TurnTokenIds,
}

#[derive(Debug, Default, Deserialize)]
struct TurnTokenIds {
    eos_token_id: Option<TokenIds>,
    pad_token_id: Option<u32>,
}

impl TurnTokens {
    /// # Errors
    /// [`PromptError::File`].
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let file = folder.json("config.json", "a configuration with token ids")?;
        Ok(file.unwrap_or_default())
    }

    /// Ids that end a turn.
    pub(super) fn eos_token_id(&self) -> Option<&TokenIds> {
        let nested = self
            .text_config
            .as_ref()
            .and_then(|text| text.eos_token_id.as_ref());
        nested.or(self.flat.eos_token_id.as_ref())
    }

    /// Id that fills batches.
    pub(super) fn pad_token_id(&self) -> Option<u32> {
        let nested = self.text_config.as_ref().and_then(|text| text.pad_token_id);
        nested.or(self.flat.pad_token_id)
    }
}

/// What prompts need of `generation_config.json`; the file is optional.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GenerationConfig {
    pub(super) eos_token_id: Option<TokenIds>,
    pub(super) pad_token_id: Option<u32>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// Keys that change what transformers' `generate` writes and that are no keys of a run here, with the values that change
/// nothing.
const DRAWING: [(&str, &[f64]); 19] = [
    ("repetition_penalty", &[1.0]),
    ("encoder_repetition_penalty", &[1.0]),
    ("no_repeat_ngram_size", &[0.0]),
    ("min_length", &[0.0]),
    ("min_new_tokens", &[0.0]),
    ("num_beams", &[1.0]),
    ("typical_p", &[1.0]),
    ("epsilon_cutoff", &[0.0]),
    ("eta_cutoff", &[0.0]),
    ("guidance_scale", &[1.0]),
    ("penalty_alpha", &[0.0]),
    ("bad_words_ids", &[]),
    ("suppress_tokens", &[]),
    ("begin_suppress_tokens", &[]),
    ("forced_bos_token_id", &[]),
    ("forced_eos_token_id", &[]),
    ("sequence_bias", &[]),
    ("exponential_decay_length_penalty", &[]),
    ("stop_strings", &[]),
];

impl GenerationConfig {
    const NAME: &'static str = "generation_config.json";

    /// Notes settings that are not applied: completions are drawn by the keys of the run.
    ///
    /// # Errors
    /// [`PromptError::File`].
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let file = folder.json(Self::NAME, "generation settings")?;
        let file: Self = file.unwrap_or_default();
        let unused = file.unused();
        if !unused.is_empty() {
            log::info!(
                "{}: {} not applied; the run's own keys say how completions are drawn",
                folder.path(Self::NAME).display(),
                unused.join(", ")
            );
        }
        Ok(file)
    }

    /// Settings that would change completions.
    fn unused(&self) -> Vec<String> {
        let asks = |(key, neutral): &(&str, &[f64])| {
            let value = self.rest.get(*key).filter(|value| !value.is_null())?;
            let number = value.as_f64();
            let nothing = number.is_some_and(|number| neutral.contains(&number))
                || value.as_array().is_some_and(Vec::is_empty);
            (!nothing).then(|| format!("{key} {}", shown(value)))
        };
        DRAWING.iter().filter_map(asks).collect()
    }
}

/// What prompts need of `tokenizer_config.json`; the file is optional.
#[derive(Debug, Default, Deserialize)]
pub(super) struct TokenizerConfig {
    pub(super) bos_token: Option<TokenText>,
    /// Absent where the key is; null is a tokenizer without one.
    #[serde(default, deserialize_with = "written")]
    pub(super) eos_token: Option<Option<TokenText>>,
    pub(super) pad_token: Option<TokenText>,
    pub(super) unk_token: Option<TokenText>,
    pub(super) chat_template: Option<TemplateText>,
    /// Id to token, beside those of tokenizer.json.
    pub(super) added_tokens_decoder: Option<Map<String, Value>>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A key that is there, also with null.
fn written<'de, D: serde::Deserializer<'de>>(
    value: D,
) -> Result<Option<Option<TokenText>>, D::Error> {
    Option::deserialize(value).map(Some)
}

/// Settings under which transformers makes other ids of the same text, and why they are refused.
const OTHER_IDS: [(&str, &str); 5] = [
    ("add_prefix_space", "a space before every text"),
    ("split_special_tokens", "control tokens read as plain text"),
    ("add_eos_token", "an end token behind every prompt"),
    ("add_bos_token", "a token before every prompt"),
    (
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
        "spaces taken out of completions",
    ),
];

impl TokenizerConfig {
    /// The file's name.
    pub(super) const NAME: &'static str = "tokenizer_config.json";

    /// # Errors
    /// [`PromptError::File`], also for settings that change ids and are not computed here.
    pub(super) fn open(folder: &ModelFolder) -> Result<Self, PromptError> {
        let file = folder.json(Self::NAME, "tokenizer settings")?;
        let file: Self = file.unwrap_or_default();
        for (key, what) in OTHER_IDS {
            // transformers adds no token that there is none of.
            let idle = key == "add_bos_token" && file.bos_token.is_none();
            if !idle && file.rest.get(key) == Some(&Value::Bool(true)) {
                return Err(PromptError::File(ModelFileError::Key {
                    path: folder.path(Self::NAME),
                    key: key.to_owned(),
                    found: "true".to_owned(),
                    expected: "false".to_owned(),
                    hint: format!("{what} is not computed; published Qwen2-VL folders have false"),
                }));
            }
        }
        Ok(file)
    }

    /// Tokens that are to be special, with the key that says so.
    pub(super) fn extra_special_tokens(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let keys = ["additional_special_tokens", "extra_special_tokens"].into_iter();
        let lists = keys.filter_map(|key| Some((key, self.rest.get(key)?.as_array()?)));
        lists.flat_map(|(key, tokens)| {
            tokens.iter().filter_map(move |token| {
                let text = token.as_str().or_else(|| token.get("content")?.as_str());
                text.map(|text| (key, text))
            })
        })
    }

    /// The token that ends a turn, by the file or by the default of `Qwen2Tokenizer`; `None` if the file says null.
    pub(super) fn eos(&self) -> Option<&str> {
        match &self.eos_token {
            Some(written) => written.as_ref().map(TokenText::as_str),
            None => Some("<|endoftext|>"),
        }
    }
}

/// A token as a string or as an object.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "a token, as a string or as an object with `content`"
)]
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
#[serde(
    untagged,
    expecting = "a template, or a list of templates with `name` and `template`"
)]
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
    use serde::de::DeserializeOwned;

    use super::*;

    fn parsed<T: DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).expect("valid")
    }

    fn opened(name: &str, text: &str) -> (tempfile::TempDir, ModelFolder) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(name), text).expect("written");
        let opened = ModelFolder::open(folder.path()).expect("a folder");
        (folder, opened)
    }

    #[test]
    fn flat_and_nested_configurations_read_alike() {
        let flat: TurnTokens =
            parsed(r#"{"vocab_size": 9, "eos_token_id": 3, "text_config": null}"#);
        let nested: TurnTokens =
            parsed(r#"{"text_config": {"eos_token_id": [3, 4], "pad_token_id": null}}"#);
        assert_eq!(flat.eos_token_id().expect("one").to_vec(), [3]);
        assert_eq!(nested.eos_token_id().expect("two").to_vec(), [3, 4]);
        assert_eq!(nested.pad_token_id(), None);
        let error = serde_json::from_str::<TurnTokens>(r#"{"eos_token_id": -1}"#);
        let text = error.expect_err("negative").to_string();
        assert!(text.contains("a token id, or a list"), "{text}");
    }

    #[test]
    fn tokens_and_templates_come_in_two_forms() {
        let config: TokenizerConfig = parsed(
            r#"{"eos_token": {"content": "<e>", "special": true}, "pad_token": "<p>",
                "chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}],
                "additional_special_tokens": ["<a>", {"content": "<b>"}]}"#,
        );
        assert_eq!(config.eos(), Some("<e>"));
        let extra: Vec<_> = config
            .extra_special_tokens()
            .map(|(_, token)| token)
            .collect();
        assert_eq!(extra, ["<a>", "<b>"]);
        assert_eq!(config.pad_token.expect("a string").as_str(), "<p>");
        let template = config.chat_template.expect("a list").default_template();
        assert_eq!(template.as_deref(), Some("d"));
        assert_eq!(parsed::<TokenizerConfig>("{}").eos(), Some("<|endoftext|>"));
        assert_eq!(
            parsed::<TokenizerConfig>(r#"{"eos_token": null}"#).eos(),
            None
        );
    }

    #[test]
    fn settings_that_change_ids_are_refused_by_name() {
        for (key, _) in OTHER_IDS {
            let text = format!(r#"{{"{key}": true, "bos_token": "<b>"}}"#);
            let (_kept, folder) = opened(TokenizerConfig::NAME, &text);
            let text = TokenizerConfig::open(&folder)
                .expect_err("refused")
                .to_string();
            assert!(
                text.contains(&format!(
                    "tokenizer_config.json: `{key}` is true; expected false\nhint: "
                )),
                "{text}"
            );
            let (_kept, folder) = opened(TokenizerConfig::NAME, &text.replace("true", "false"));
            assert!(TokenizerConfig::open(&folder).is_err(), "not JSON");
        }
        let harmless = r#"{"add_bos_token": true, "bos_token": null, "add_prefix_space": null,
                           "clean_up_tokenization_spaces": true, "padding_side": "left"}"#;
        let (_kept, folder) = opened(TokenizerConfig::NAME, harmless);
        TokenizerConfig::open(&folder).expect("nothing changes");
    }

    #[test]
    fn settings_of_drawing_are_listed_only_where_they_would_draw_otherwise() {
        let published: GenerationConfig = parsed(
            r#"{"do_sample": true, "repetition_penalty": 1.05, "temperature": 0.000001, "top_k": 1}"#,
        );
        assert_eq!(published.unused(), ["repetition_penalty 1.05"]);
        let neutral: GenerationConfig = parsed(
            r#"{"repetition_penalty": 1, "num_beams": 1, "bad_words_ids": [], "min_length": null}"#,
        );
        assert!(neutral.unused().is_empty());
        let listed: GenerationConfig = parsed(r#"{"suppress_tokens": [3], "stop_strings": ["x"]}"#);
        assert_eq!(
            listed.unused(),
            ["suppress_tokens [3]", "stop_strings [\"x\"]"]
        );
    }
}
