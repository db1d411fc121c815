//! Renders a conversation with the model's own Jinja template, as transformers does.
//!
//! Knows nothing of tokens, pictures or what the template should say.

use std::path::PathBuf;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value};
use minijinja_contrib::pycompat::unknown_method_callback;
use serde::Deserialize;

use super::error::PromptError;
use super::model_files::{ModelFolder, TemplateText, TokenizerConfig};
use super::template_functions;
use crate::record::Message;

const NAME: &str = "chat_template";

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Environment<'static>,
    path: PathBuf,
}

/// `chat_template.json`.
#[derive(Debug, Deserialize)]
struct TemplateFile {
    chat_template: TemplateText,
}

impl ChatTemplate {
    /// Compiles chat_template.jinja, else chat_template.json, else the one inside tokenizer_config.json.
    ///
    /// # Errors
    /// [`PromptError::MissingFile`], [`PromptError::BrokenFile`], [`PromptError::BrokenTemplate`].
    pub(super) fn open(
        folder: &ModelFolder,
        settings: &TokenizerConfig,
    ) -> Result<Self, PromptError> {
        let (path, source) = find_source(folder, settings)?;
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build();
        let mut environment = Environment::new();
        environment.set_syntax(syntax.expect("the default delimiters are valid"));
        environment.set_unknown_method_callback(unknown_method_callback);
        template_functions::register(&mut environment);
        let special = [
            ("bos_token", &settings.bos_token),
            ("eos_token", &settings.eos_token),
            ("pad_token", &settings.pad_token),
            ("unk_token", &settings.unk_token),
        ];
        for (name, token) in special {
            if let Some(token) = token {
                environment.add_global(name, token.as_str());
            }
        }
        // transformers passes both as None where a conversation has none.
        environment.add_global("tools", Value::from(()));
        environment.add_global("documents", Value::from(()));
        let compiled = environment.add_template_owned(NAME, source);
        compiled.map_err(|error| PromptError::BrokenTemplate {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        Ok(Self { environment, path })
    }

    /// The prompt's text, ending where the model's turn begins.
    ///
    /// # Errors
    /// [`PromptError::TemplateFailed`] if the template refuses the conversation.
    pub(super) fn render(&self, messages: &[Message]) -> Result<String, PromptError> {
        self.render_with(minijinja::context! {
            messages => Serde(messages),
            add_generation_prompt => true,
        })
    }

    fn render_with(&self, variables: Value) -> Result<String, PromptError> {
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render(variables))
            .map_err(|error| PromptError::TemplateFailed {
                path: self.path.clone(),
                reason: error.to_string(),
            })
    }
}

/// The template's source and the file it is in.
fn find_source(
    folder: &ModelFolder,
    settings: &TokenizerConfig,
) -> Result<(PathBuf, String), PromptError> {
    const EXPECTED: &str = "a chat template";
    const HINT: &str = "copy chat_template.json or chat_template.jinja from the model's original folder; base models have none";
    let jinja = "chat_template.jinja";
    if let Some(source) = folder.optional_text(jinja, EXPECTED)? {
        return Ok((folder.path(jinja), source));
    }
    let json = "chat_template.json";
    let (name, template) = match folder.optional_json::<TemplateFile>(json, EXPECTED)? {
        Some(file) => (json, Some(file.chat_template)),
        None => (TokenizerConfig::NAME, settings.chat_template.clone()),
    };
    let path = folder.path(name);
    match template.map(TemplateText::default_template) {
        Some(Some(source)) => Ok((path, source)),
        Some(None) => Err(PromptError::BrokenFile {
            path,
            expected: EXPECTED,
            found: "named templates, none of them `default`".to_owned(),
            hint: HINT,
        }),
        None => Err(PromptError::MissingFile {
            path: folder.path(json),
            expected: EXPECTED,
            hint: HINT,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::prompt::golden;
    use crate::record::ContentPart;

    fn opened(folder: &std::path::Path) -> Result<ChatTemplate, PromptError> {
        let folder = ModelFolder::open(folder)?;
        ChatTemplate::open(&folder, &TokenizerConfig::open(&folder)?)
    }

    fn with_template(source: &str) -> Result<ChatTemplate, PromptError> {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("chat_template.jinja"), source).expect("a file");
        opened(folder.path())
    }

    fn user(text: &str) -> Message {
        Message {
            role: "user".to_owned(),
            content: vec![ContentPart::Text {
                text: text.to_owned(),
            }],
        }
    }

    #[test]
    fn recorded_conversations_render_exactly() {
        let recorded = golden::json("golden-tokenizer-qwen2vl-tiny.json");
        let cases = recorded["chat"].as_array().expect("cases");
        assert_eq!(cases.len(), 7);
        for model in [
            "qwen2vl-tiny",
            "qwen2vl-tiny-v5-sharded-bf16",
            "qwen25vl-tiny",
        ] {
            let template = opened(&golden::path(model)).expect("a template");
            for case in cases {
                let mut variables = case.as_object().expect("an object").clone();
                let rendered = variables.remove("rendered").expect("the result");
                let text = template.render_with(Value::from(Serde(variables)));
                assert_eq!(
                    text.expect("text"),
                    rendered,
                    "{model}: {}",
                    case["messages"]
                );
            }
        }
    }

    #[test]
    fn message_records_render_like_the_recorded_messages() {
        let template = opened(&golden::path("qwen2vl-tiny")).expect("a template");
        let mut message = user("How many circles?");
        message.content.insert(0, ContentPart::Image);
        let text = template.render(&[message]).expect("text");
        let recorded = golden::json("golden-tokenizer-qwen2vl-tiny.json");
        assert_eq!(text, recorded["chat"][1]["rendered"]);
    }

    #[test]
    fn the_template_inside_the_tokenizer_settings_is_the_last_resort() {
        let folder = golden::copy_of("qwen2vl-tiny");
        let from_json = opened(folder.path())
            .expect("a template")
            .render(&[user("hi")]);
        std::fs::remove_file(folder.path().join("chat_template.json")).expect("removed");
        let from_settings = opened(folder.path())
            .expect("a template")
            .render(&[user("hi")]);
        assert_eq!(from_json.expect("text"), from_settings.expect("text"));
        golden::edit(&folder, "tokenizer_config.json", |file| {
            file["chat_template"] = serde_json::Value::Null;
        });
        let text = opened(folder.path()).expect_err("none left").to_string();
        assert!(
            text.contains("chat_template.json: not found; expected a chat template\nhint: copy"),
            "{text}"
        );
    }

    #[test]
    fn blocks_are_trimmed_and_values_print_like_python() {
        let source = "{% for m in messages %}\n  {% if true %}\n{{ m.role.upper() }} {{ none }} {{ true }}\n  {% endif %}\n{% endfor %}\n{{ tools is none }}\n";
        let text = with_template(source)
            .expect("a template")
            .render(&[user("x")]);
        assert_eq!(text.expect("text"), "USER None True\nTrue");
    }

    #[test]
    fn broken_and_refusing_templates_are_named() {
        let text = with_template("{% if x %}")
            .expect_err("unclosed")
            .to_string();
        assert!(
            text.contains("chat_template.jinja: the chat template is not valid Jinja: "),
            "{text}"
        );
        assert!(text.contains("hint: restore"), "{text}");
        let template = with_template("{{ raise_exception('no system role') }}").expect("valid");
        let text = template
            .render(&[user("x")])
            .expect_err("refused")
            .to_string();
        assert!(text.contains("the chat template failed: "), "{text}");
        assert!(
            text.contains("no system role") && text.contains("hint: check the roles"),
            "{text}"
        );
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("chat_template.json"), "{\"chat\": 1}").expect("a file");
        let text = opened(folder.path()).expect_err("no key").to_string();
        assert!(
            text.contains("chat_template.json: expected a chat template, found missing field"),
            "{text}"
        );
    }
}
