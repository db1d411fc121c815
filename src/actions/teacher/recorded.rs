//! A teacher whose actions stand in a JSONL file; knows nothing of who wrote them or how.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::reasoning::{beside, told};
use super::{Ending, Teacher, TeacherAnswer, TeacherError, TeacherRequest};
use crate::json_lines::{self, RowId};
use crate::options::Reasoning;
use crate::record::Example;

/// An entry of `external` with a `path`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedOptions {
    /// The name in every log.
    pub name: String,
    /// The file: one `{"id", "source"?, "text", "finish_reason"?, "reasoning_content"?}` per line; other keys are not read.
    pub path: PathBuf,
    /// Actions per prompt: the first of each id.
    pub num_actions: usize,
}

/// Actions read from a file, by example id.
///
/// Of a file with several sources, those called like the teacher count (and lines without a source, which belong to
/// all). Of a file with one source, every line counts whatever that source is called.
#[derive(Debug)]
pub struct RecordedTeacher {
    options: RecordedOptions,
    actions: HashMap<String, Vec<TeacherAnswer>>,
}

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    id: RowId,
    source: Option<String>,
    text: String,
    #[serde(default)]
    finish_reason: Option<String>,
    /// Thoughts beside the text, under the keys of several servers.
    reasoning_content: Option<Value>,
    reasoning: Option<Value>,
    thinking: Option<Value>,
}

impl Line {
    /// The text with its thoughts in `<think>` tags before it.
    fn told(&self) -> String {
        let thoughts = beside(|key| match key {
            "reasoning_content" => self.reasoning_content.as_ref(),
            "reasoning" => self.reasoning.as_ref(),
            "thinking" => self.thinking.as_ref(),
            _ => None,
        });
        told(thoughts.as_deref(), &self.text, Reasoning::Think)
    }
}

impl RecordedTeacher {
    /// Reads the whole file.
    ///
    /// # Errors
    /// [`TeacherError`] names the file, and the line where one is malformed.
    pub fn open(options: RecordedOptions) -> Result<Self, TeacherError> {
        let RecordedOptions { name, path, .. } = &options;
        let content = json_lines::read(path).map_err(|error| TeacherError::Read {
            path: path.clone(),
            name: name.clone(),
            error,
        })?;
        let lines = parse(&content, name, path)?;
        let sources: BTreeSet<&str> = lines
            .iter()
            .filter_map(|line| line.source.as_deref())
            .collect();
        let filters = sources.len() > 1;
        if filters && !sources.contains(name.as_str()) {
            let found = sources
                .iter()
                .map(|source| format!("`{source}`"))
                .collect::<Vec<_>>()
                .join(", ");
            return Err(TeacherError::UnknownSource {
                path: path.clone(),
                name: name.clone(),
                found,
            });
        }
        let mut actions: HashMap<String, Vec<TeacherAnswer>> = HashMap::new();
        let mut unfinished: BTreeMap<String, usize> = BTreeMap::new();
        for line in lines {
            if filters && line.source.as_ref().is_some_and(|source| source != name) {
                continue;
            }
            let text = line.told();
            let known = actions.entry(line.id.0).or_default();
            let ending = Ending::of(line.finish_reason.as_deref());
            let Some(finish_reason) = ending.finish_reason() else {
                let word = line.finish_reason.unwrap_or_default();
                *unfinished.entry(word).or_insert(0) += 1;
                continue;
            };
            let answer = TeacherAnswer {
                text,
                finish_reason,
                token_logprobs: None,
                token_texts: None,
            };
            known.push(answer);
        }
        warn_of_unfinished(&options, &unfinished);
        Ok(Self { options, actions })
    }

    /// Examples for which the file holds an action of this teacher.
    #[must_use]
    pub fn num_ids(&self) -> usize {
        self.actions.len()
    }

    /// Makes sure that there is an action for every example, before the first step.
    ///
    /// # Errors
    /// [`TeacherError::MissingId`] names the first example without one.
    pub fn check(&self, examples: &[Arc<Example>]) -> Result<(), TeacherError> {
        examples
            .iter()
            .try_for_each(|example| self.of(&example.id).map(|_| ()))
    }

    fn of(&self, id: &str) -> Result<&[TeacherAnswer], TeacherError> {
        let found = self.actions.get(id).map(Vec::as_slice);
        found.ok_or_else(|| TeacherError::MissingId {
            path: self.options.path.clone(),
            name: self.options.name.clone(),
            id: id.to_owned(),
            ids: self.num_ids(),
        })
    }
}

/// Half an answer is none: its example is known, and has an action less.
fn warn_of_unfinished(options: &RecordedOptions, unfinished: &BTreeMap<String, usize>) {
    if unfinished.is_empty() {
        return;
    }
    let words: Vec<String> = unfinished
        .iter()
        .map(|(word, count)| format!("{count} `{word}`"))
        .collect();
    log::warn!(
        "{}: actions of `{}` that did not end in the ordinary way are left out, by their `finish_reason`: {}",
        options.path.display(),
        options.name,
        words.join(", ")
    );
}

fn parse(content: &[u8], name: &str, path: &Path) -> Result<Vec<Line>, TeacherError> {
    let line = |line: json_lines::Line<'_>| {
        json_lines::parse(line.text).map_err(|fault| TeacherError::Line {
            path: path.to_owned(),
            line: line.number,
            name: name.to_owned(),
            fault: fault.to_string(),
        })
    };
    json_lines::lines(content).map(line).collect()
}

impl Teacher for RecordedTeacher {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn num_actions(&self) -> usize {
        self.options.num_actions
    }

    /// The first actions of each example. The seed changes nothing.
    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        _seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        let answers = |request: &TeacherRequest<'_>| {
            let found = self.of(&request.example.id)?;
            Ok(found.iter().take(request.num_actions).cloned().collect())
        };
        requests.iter().map(answers).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tempfile::NamedTempFile;

    use super::super::tests::{example, prompt};
    use super::*;
    use crate::record::FinishReason;

    fn file(content: &[u8]) -> NamedTempFile {
        let mut file = NamedTempFile::new().expect("a temporary file");
        file.write_all(content).expect("written");
        file
    }

    fn open(
        content: &str,
        name: &str,
        num_actions: usize,
    ) -> Result<RecordedTeacher, TeacherError> {
        let file = file(content.as_bytes());
        RecordedTeacher::open(RecordedOptions {
            name: name.to_owned(),
            path: file.path().to_owned(),
            num_actions,
        })
    }

    fn texts(teacher: &mut RecordedTeacher, id: &str) -> Result<Vec<String>, TeacherError> {
        let (example, prompt) = (example(id), prompt(id));
        let num_actions = teacher.num_actions();
        let request = TeacherRequest {
            example: &example,
            prompt: &prompt,
            num_actions,
        };
        let answers = teacher.act(&[request, request], 1)?;
        assert_eq!(answers[0], answers[1], "asked twice, answered alike");
        Ok(answers[0]
            .iter()
            .map(|answer| answer.text.clone())
            .collect())
    }

    const TWO_SOURCES: &str = r#"
{"id": "a", "source": "strong", "text": "s1"}
{"id": "a", "source": "weak", "text": "w1"}

{"id": "a", "text": "anyone's"}
{"id": "a", "source": "strong", "text": "s2", "tokens": 3}
{"id": 7, "source": "weak", "text": "w7"}
"#;

    #[test]
    fn the_first_actions_of_the_teachers_source_are_given() {
        let mut strong = open(TWO_SOURCES, "strong", 3).expect("reads");
        assert_eq!(
            texts(&mut strong, "a").expect("known"),
            ["s1", "anyone's", "s2"]
        );
        let mut weak = open(TWO_SOURCES, "weak", 1).expect("reads");
        assert_eq!(texts(&mut weak, "a").expect("known"), ["w1"]);
        assert_eq!(texts(&mut weak, "7").expect("known"), ["w7"]);
        assert_eq!((strong.num_ids(), weak.num_ids()), (1, 2));
    }

    #[test]
    fn a_lone_source_may_have_any_name() {
        let content = "{\"id\": \"a\", \"source\": \"gpt\", \"text\": \"x\"}\n{\"id\": \"a\", \"text\": \"y\"}";
        assert_eq!(
            texts(&mut open(content, "expert", 2).expect("reads"), "a").expect("known"),
            ["x", "y"]
        );
    }

    #[test]
    fn several_sources_without_the_teachers_are_refused() {
        let message = open(TWO_SOURCES, "expert", 1)
            .expect_err("refused")
            .to_string();
        assert!(
            message.contains("no action of source `expert`, found `strong`, `weak`"),
            "{message}"
        );
    }

    #[test]
    fn a_missing_id_is_named_with_the_file_and_its_size() {
        let mut weak = open(TWO_SOURCES, "weak", 1).expect("reads");
        let message = texts(&mut weak, "train-9")
            .expect_err("missing")
            .to_string();
        assert!(
            message.contains("no action of `weak` for example `train-9`"),
            "{message}"
        );
        assert!(message.contains("holds actions for 2 ids"), "{message}");
        assert!(
            message.contains(&weak.options.path.display().to_string()),
            "{message}"
        );
        let message = texts(&mut open("", "weak", 1).expect("an empty file reads"), "a")
            .expect_err("missing")
            .to_string();
        assert!(message.contains("holds actions for 0 ids"), "{message}");
    }

    #[test]
    fn malformed_lines_are_named() {
        for (content, place, fault) in [
            (
                "{\"id\": \"a\", \"text\": \"x\"}\n\nnot json",
                ":3: ",
                "expected",
            ),
            ("{\"id\": \"a\"}", ":1: ", "missing field `text`"),
            ("{\"text\": \"x\"}", ":1: ", "missing field `id`"),
            (
                "{\"id\": 1.5, \"text\": \"x\"}",
                ":1: ",
                "an `id` that is a string or a whole number",
            ),
            (
                "{\"id\": \"a\", \"text\": null}",
                ":1: ",
                "invalid type: null",
            ),
            (
                "{\"id\": \"a\", \"text\": \"x\"} {}",
                ":1: ",
                "trailing characters",
            ),
            (
                "{\"id\": \"a\", \"text\": \"x\", \"finish_reason\": 3}",
                ":1: ",
                "invalid type: integer",
            ),
            ("[1]", ":1: ", "invalid"),
        ] {
            let message = open(content, "expert", 1).expect_err("refused").to_string();
            assert!(
                message.contains(place) && message.contains(fault),
                "{message}"
            );
            assert!(message.contains("\nhint: "), "{message}");
        }
        let invalid = file(b"{\"id\": \"a\", \"text\": \"\xff\"}");
        let options = RecordedOptions {
            name: "expert".to_owned(),
            path: invalid.path().to_owned(),
            num_actions: 1,
        };
        assert!(
            RecordedTeacher::open(options)
                .expect_err("refused")
                .to_string()
                .contains(":1: ")
        );
    }

    #[test]
    fn a_missing_file_is_named() {
        let path = PathBuf::from("no/such/actions.jsonl");
        let options = RecordedOptions {
            name: "expert".to_owned(),
            path,
            num_actions: 1,
        };
        let message = RecordedTeacher::open(options)
            .expect_err("refused")
            .to_string();
        assert!(
            message
                .starts_with("no/such/actions.jsonl: cannot read the recorded actions of `expert`"),
            "{message}"
        );
    }

    #[test]
    fn thoughts_beside_a_recorded_text_are_used() {
        for (beside, expected) in [
            (
                r#""reasoning_content": "I count.""#,
                "<think>I count.</think>\n3",
            ),
            (
                r#""reasoning": "I count.", "thinking": null"#,
                "<think>I count.</think>\n3",
            ),
            (r#""reasoning": """#, "3"),
            (r#""effort": "high""#, "3"),
        ] {
            let content = format!("{{\"id\": \"a\", \"text\": \"3\", {beside}}}");
            let mut teacher = open(&content, "expert", 1).expect("reads");
            assert_eq!(
                texts(&mut teacher, "a").expect("known"),
                [expected],
                "{beside}"
            );
        }
    }

    #[test]
    fn the_finish_reason_is_read_in_the_words_of_many_servers() {
        for (word, expected) in [
            ("null", Some(FinishReason::Stop)),
            ("\"stop\"", Some(FinishReason::Stop)),
            ("\"end_turn\"", Some(FinishReason::Stop)),
            ("\"STOP\"", Some(FinishReason::Stop)),
            ("\"eos\"", Some(FinishReason::Stop)),
            ("\"length\"", Some(FinishReason::Length)),
            ("\"max_tokens\"", Some(FinishReason::Length)),
            ("\"abort\"", None),
            ("\"content_filter\"", None),
            ("\"bored\"", None),
        ] {
            let content = format!("{{\"id\": \"a\", \"text\": \"x\", \"finish_reason\": {word}}}");
            let mut teacher = open(&content, "expert", 1).expect("reads");
            let found = teacher.actions["a"].first();
            assert_eq!(found.map(|answer| answer.finish_reason), expected, "{word}");
            let texts = texts(&mut teacher, "a").expect("the example is known");
            assert_eq!(texts.len(), usize::from(expected.is_some()), "{word}");
        }
    }
}
