//! Renders a conversation with the model's own Jinja template, as transformers does.
//!
//! The template is not trusted: what it may compute, nest and write is limited. Knows nothing of tokens, pictures or what
//! the template should say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, mpsc};
use std::time::Duration;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, ValueKind};
use minijinja::{Environment, Error, ErrorKind, Output, State, Value};
use regex::Regex;
use serde::Deserialize;

use super::error::PromptError;
use super::model_files::{TemplateText, TokenizerConfig};
use super::template_functions::{self, LONGEST_TEXT, LimitedText};
use crate::data::model_folder::{ModelFileError, ModelFolder};
use crate::record::Message;

const NAME: &str = "chat_template";
/// Work of one conversation: an instruction is 1, and so are 64 bytes of what is made. Qwen's templates take some 20
/// instructions per message.
const FUEL: u64 = 500_000;
/// Nested statements, calls and includes.
const DEPTH: usize = 100;
/// Stack for the deepest values that the fuel pays for.
const STACK: usize = 128 << 20;
/// A conversation takes a millisecond.
const LONGEST_TIME: Duration = Duration::from_secs(10);
const ENDLESS: &str = "it computes without end, or writes more than any prompt holds";
/// Largest template, in bytes; published ones stay below 30 kB.
const LARGEST_TEMPLATE: usize = 1 << 20;

/// A compiled chat template.
#[derive(Debug)]
pub(super) struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    path: PathBuf,
    /// Whether a conversation has taken too long: then none is tried any more.
    endless: AtomicBool,
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
    /// [`PromptError::File`], [`PromptError::BrokenTemplate`].
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
        environment.set_unknown_method_callback(template_functions::python_method);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(DEPTH);
        environment.set_formatter(format_value);
        template_functions::register(&mut environment);
        let special = [
            ("bos_token", &settings.bos_token),
            ("eos_token", &settings.eos_token.clone().flatten()),
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
        let compiled = environment.add_template_owned(NAME, without_generation_tags(&source));
        compiled.map_err(|error| PromptError::BrokenTemplate {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let template = Self {
            environment: Arc::new(environment),
            path,
            endless: AtomicBool::new(false),
        };
        template.refuse_endless()?;
        Ok(template)
    }

    /// Tries the template on a question. One that refuses it may want a picture, or other roles; one that does not end, or
    /// nests too deep, does so with every row.
    fn refuse_endless(&self) -> Result<(), PromptError> {
        let question =
            serde_json::json!([{"role": "user", "content": [{"type": "text", "text": "?"}]}]);
        let variables = minijinja::context! {
            messages => Serde(question),
            add_generation_prompt => true,
        };
        match self.render_with(variables) {
            Err(PromptError::TemplateFailed { path, reason })
                if [ENDLESS, "recursion limit", "tojson: "]
                    .iter()
                    .any(|words| reason.contains(words)) =>
            {
                Err(PromptError::TemplateFailed { path, reason })
            }
            _ => Ok(()),
        }
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
        let fail = |reason: String| PromptError::TemplateFailed {
            path: self.path.clone(),
            reason,
        };
        if self.endless.load(Ordering::Relaxed) {
            return Err(fail(ENDLESS.to_owned()));
        }
        let environment = Arc::clone(&self.environment);
        let render = move || environment.get_template(NAME)?.render(variables);
        let text = in_time(LONGEST_TIME, render);
        let text = text.map_err(|error| fail(error.to_string()))?;
        match text {
            None => {
                self.endless.store(true, Ordering::Relaxed);
                Err(fail(ENDLESS.to_owned()))
            }
            Some(Ok(text)) if text.len() > LONGEST_TEXT => {
                Err(fail(format!("{ENDLESS} ({} bytes)", text.len())))
            }
            Some(Ok(text)) => Ok(text),
            Some(Err(error)) if error.kind() == ErrorKind::OutOfFuel => {
                Err(fail(format!("{ENDLESS} ({error})")))
            }
            Some(Err(error)) => Err(fail(with_cause(&error))),
        }
    }
}

/// An error's words, and those of what caused it: an include only says that it failed.
fn with_cause(error: &Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let (said, root) = (error.to_string(), cause.to_string());
    if said == root {
        said
    } else {
        format!("{said}: {root}")
    }
}

/// Runs `work` on a stack of its own, because values nest as deep as the fuel allows and letting go of them recurses.
/// `None` if it has not ended in time: fuel does not pay for everything that the engine does. It is then left alone, and
/// ends with the program.
fn in_time<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> std::io::Result<Option<T>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            // Nobody listens any more if it took too long.
            let _ = sender.send(work());
        })?;
    Ok(receiver.recv_timeout(time).ok())
}

/// Lists and objects as text, up to the longest prompt: the engine pays for what it has written only afterwards.
fn format_value(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Result<(), Error> {
    use std::fmt::Write;
    match value.kind() {
        ValueKind::Seq | ValueKind::Map | ValueKind::Iterable => {
            let mut text = LimitedText(String::new());
            match write!(text, "{value}") {
                Ok(()) => Ok(output.write_str(&text.0)?),
                Err(_) => Err(Error::from(ErrorKind::OutOfFuel)),
            }
        }
        _ => minijinja::escape_formatter(output, state, value),
    }
}

/// transformers' own tag around what an assistant says, for masks of its training: it writes nothing.
///
/// Source: `AssistantTracker` of transformers' `chat_template_utils.py`.
fn without_generation_tags(source: &str) -> String {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)(\s*)(end)?generation(\s*)([-+]?)%\}").expect("a constant pattern")
    });
    let neutral = |tag: &regex::Captures<'_>| {
        let word = if tag.get(3).is_some() {
            "endif"
        } else {
            "if true"
        };
        // The signs and lines around the word stay, and so do the line numbers of messages.
        format!(
            "{{%{}{}{word}{}{}%}}",
            &tag[1],
            padded(&tag[2]),
            padded(&tag[4]),
            &tag[5]
        )
    };
    TAG.replace_all(source, neutral).into_owned()
}

/// White space with at least one character.
fn padded(space: &str) -> &str {
    if space.is_empty() { " " } else { space }
}

/// The template's source and the file it is in.
fn find_source(
    folder: &ModelFolder,
    settings: &TokenizerConfig,
) -> Result<(PathBuf, String), PromptError> {
    const EXPECTED: &str = "a chat template";
    const HINT: &str = "copy chat_template.json or chat_template.jinja from the model's original folder; base models have none";
    let jinja = "chat_template.jinja";
    let limited = |path: PathBuf, source: String| match source.len() {
        size if size > LARGEST_TEMPLATE => Err(PromptError::File(ModelFileError::broken(
            &path,
            EXPECTED,
            format!("{size} bytes, more than any template has"),
        ))),
        _ => Ok((path, source)),
    };
    if let Some(source) = folder.text(jinja, EXPECTED)? {
        return limited(folder.path(jinja), source);
    }
    let json = "chat_template.json";
    let (name, template) = match folder.json::<TemplateFile>(json, EXPECTED)? {
        Some(file) => (json, Some(file.chat_template)),
        None => (TokenizerConfig::NAME, settings.chat_template.clone()),
    };
    if let (Some(used), Some(other)) = (&template, &settings.chat_template)
        && name != TokenizerConfig::NAME
        && used.clone().default_template() != other.clone().default_template()
    {
        log::info!(
            "{}: {name} holds another chat template than {}; {name} is used, as transformers' processor does",
            folder.path(name).display(),
            TokenizerConfig::NAME
        );
    }
    let path = folder.path(name);
    match template.map(TemplateText::default_template) {
        Some(Some(source)) => limited(path, source),
        Some(None) => Err(PromptError::File(ModelFileError::Broken {
            path,
            expected: EXPECTED,
            found: "named templates, none of them `default`".to_owned(),
            hint: HINT,
        })),
        None => Err(PromptError::File(ModelFileError::Missing {
            path: folder.path(json),
            expected: EXPECTED,
            hint: HINT.to_owned(),
        })),
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

    /// Rendered by transformers 5 with the same conversation: as without the tags.
    #[test]
    fn generation_tags_write_nothing() {
        let with = |open: &str, close: &str| {
            let source = format!(
                "{{% for m in messages %}}\n<{{{{ m.role }}}}>\n{open}\nsaid\n{close}\n{{% endfor %}}"
            );
            with_template(&source)
                .and_then(|template| template.render(&[user("x")]))
                .expect("text")
        };
        let plain = with("{% if true %}", "{% endif %}");
        assert_eq!(plain, "<user>\nsaid\n");
        for (open, close) in [
            ("{% generation %}", "{% endgeneration %}"),
            ("{%generation%}", "{%endgeneration%}"),
            ("  {%  generation\n %}", "  {% endgeneration %}"),
        ] {
            assert_eq!(with(open, close), plain, "{open}");
        }
        assert_eq!(
            with("{%- generation -%}", "{%- endgeneration -%}"),
            with("{%- if true -%}", "{%- endif -%}")
        );
        assert!(with_template("{% generation %}").is_err(), "never closed");
    }

    /// Each would take gigabytes, hours or the stack.
    #[test]
    fn bombs_end_at_once_and_are_named() {
        for source in [
            "{{ messages|tojson(indent=9223372036854775807) }}",
            "{{ messages|tojson(indent=3000000000) }}",
            "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s + n.s %}{% endfor %}{{ n.s }}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s.replace('a', n.s) %}{% endfor %}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s|replace('a', n.s) %}{% endfor %}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = n.s.join([n.s] * 1000) %}{% endfor %}",
            "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(40) %}{% set n.s = '{0}{0}{0}{0}'.format(n.s) %}{% endfor %}",
            "{% set n = namespace(s=[]) %}{% for i in range(100000) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s }}",
            "{% set n = namespace(s=[]) %}{% for i in range(100000) %}{% set n.s = [n.s] %}{% endfor %}{{ n.s|tojson }}",
            "{% set n = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s|tojson }}",
            "{% set n = namespace(s=[1, 2]) %}{% for i in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}{{ n.s }}",
            "{{ ([range(100000)] * 100000)|tojson }}",
            "{{ [1] * 10000000000 }}",
            "{{ 'a' * 10000000000 }}",
            "{{ messages|tojson(separators=('x' * 1000000, 'y' * 1000000)) }}{{ (range(100000)|list)|tojson(separators=('x' * 100000, 'y')) }}",
            "{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}",
            "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}",
            "{% include 'chat_template' %}",
            "{{ '{:999999999}'.format(1) }}",
            "{{ '{:99999.99999999999f}'.format(1.0) }}",
            "{{ '%999999999d'|format(1) }}",
            "{{ strftime_now('%Y' * 1000000) }}{{ strftime_now('%999999999Y') }}",
            "{{ messages|string|center(1000000000000) }}",
            "{{ 'x'|indent(1000000000000) }}",
        ] {
            let started = std::time::Instant::now();
            let rendered = with_template(source).and_then(|template| template.render(&[user("x")]));
            let text = rendered.expect_err(source).to_string();
            assert!(
                text.contains("chat_template.jinja: the chat template "),
                "{source}: {text}"
            );
            assert!(
                text.contains("\nhint: ") && text.len() < 2000,
                "{source}: {} bytes",
                text.len()
            );
            assert!(
                started.elapsed().as_secs() < 5,
                "{source}: {:?}",
                started.elapsed()
            );
        }
        let deep = format!("{{{{ {}1{} }}}}", "(".repeat(100_000), ")".repeat(100_000));
        assert!(with_template(&deep).is_err(), "the parser's own limit");
        assert!(with_template(&"x".repeat(LARGEST_TEMPLATE + 1)).is_err());
    }

    #[test]
    fn what_fails_with_every_row_is_refused_at_once() {
        for source in [
            "{% include 'chat_template' %}",
            "{{ messages|tojson(indent=3000000000) }}",
            "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        ] {
            let text = with_template(source).expect_err("at once").to_string();
            assert!(
                text.contains("chat_template.jinja: the chat template failed: "),
                "{text}"
            );
        }
        // One that wants a picture first is asked again with each row.
        with_template("{{ raise_exception('a picture first') }}").expect("valid");
    }

    /// What the engine does without paying for it ends by the clock; a template that does it is not tried again.
    #[test]
    fn the_time_is_the_last_limit() {
        let slow = || std::thread::sleep(Duration::from_millis(200));
        let late = in_time(Duration::from_millis(1), slow).expect("a thread");
        assert!(late.is_none());
        let done = in_time(LONGEST_TIME, || 3).expect("a thread");
        assert_eq!(done, Some(3));
        let template = with_template("{{ messages[0].role }}").expect("valid");
        template.endless.store(true, Ordering::Relaxed);
        let text = template
            .render(&[user("x")])
            .expect_err("endless")
            .to_string();
        assert!(text.contains("computes without end"), "{text}");
    }

    #[test]
    fn long_conversations_have_fuel_enough() {
        let template = opened(&golden::path("qwen2vl-tiny")).expect("a template");
        let turns: Vec<Message> = (0..1000).map(|_| user(&"words ".repeat(500))).collect();
        assert!(template.render(&turns).expect("3 MB of text").len() > 3_000_000);
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
