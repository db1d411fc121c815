//! A teacher whose actions stand in a column of the data set (`external_completions`, LUFFY's `target`); knows nothing of
//! who wrote them.

use std::sync::Arc;

use serde_json::Value;

use super::reasoning::{beside, split, told};
use super::{Ending, Teacher, TeacherAnswer, TeacherError, TeacherRequest};
use crate::options::Reasoning;
use crate::record::{Example, FinishReason};

/// Actions read from each example's own row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnTeacher {
    name: String,
    column: String,
    num_actions: usize,
}

impl ColumnTeacher {
    /// A teacher of this name that reads `column`: text, a table with `text` (and `source`), a message with `content`
    /// as in LUFFY's `target`, or a list of these. Of a list with sources, those called like the teacher count.
    #[must_use]
    pub fn new(name: &str, column: &str, num_actions: usize) -> Self {
        Self {
            name: name.to_owned(),
            column: column.to_owned(),
            num_actions,
        }
    }

    /// Makes sure that there is an action for every example, before the first step.
    ///
    /// # Errors
    /// [`TeacherError::Column`] names the first example without one.
    pub fn check(&self, examples: &[Arc<Example>]) -> Result<(), TeacherError> {
        examples
            .iter()
            .try_for_each(|example| self.of(example).map(|_| ()))
    }

    /// The actions of a row; fewer than it holds where one did not end in an ordinary way.
    fn of(&self, example: &Example) -> Result<Vec<(String, FinishReason)>, TeacherError> {
        let fault = |fault: &str| TeacherError::Column {
            name: self.name.clone(),
            column: self.column.clone(),
            origin: example.origin.clone(),
            fault: fault.to_owned(),
        };
        let cell = example
            .columns
            .get(&self.column)
            .ok_or_else(|| fault("is absent"))?;
        let items: &[Value] = match cell {
            Value::Array(items) => items,
            one => std::slice::from_ref(one),
        };
        let mut texts = Vec::new();
        let mut is_known = false;
        for item in items {
            let source = item.get("source").and_then(Value::as_str);
            if source.is_some_and(|source| source != self.name) {
                continue;
            }
            let text = text_of(item).ok_or_else(|| fault("holds something without text"))?;
            is_known = true;
            let ending = Ending::of(item.get("finish_reason").and_then(Value::as_str));
            texts.extend(ending.finish_reason().map(|reason| (text, reason)));
        }
        if !is_known {
            return Err(fault("holds no action of this source"));
        }
        Ok(texts)
    }
}

/// The text of a cell, with thoughts that stand apart from it in `<think>` tags before it.
fn text_of(item: &Value) -> Option<String> {
    if let Some(text) = item.as_str() {
        return Some(text.to_owned());
    }
    let (thoughts, text) = match item.get("text").and_then(Value::as_str) {
        Some(text) => (beside(|key| item.get(key)), text.to_owned()),
        None => {
            let (thoughts, text) = split(item);
            (thoughts, (!text.is_empty()).then_some(text)?)
        }
    };
    Some(told(thoughts.as_deref(), &text, Reasoning::Think))
}

impl Teacher for ColumnTeacher {
    fn name(&self) -> &str {
        &self.name
    }

    fn num_actions(&self) -> usize {
        self.num_actions
    }

    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        _seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        let answer = |(text, finish_reason)| TeacherAnswer {
            text,
            finish_reason,
            token_logprobs: None,
            token_texts: None,
        };
        let of = |request: &TeacherRequest<'_>| {
            let texts = self.of(request.example)?.into_iter();
            Ok(texts.take(request.num_actions).map(answer).collect())
        };
        requests.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::{example, prompt};
    use super::*;

    fn texts(cell: Value) -> Result<Vec<String>, String> {
        let mut example = example("a");
        example.columns.insert("target".to_owned(), cell);
        let prompt = prompt("a");
        let request = TeacherRequest {
            example: &example,
            prompt: &prompt,
            num_actions: 2,
        };
        let mut teacher = ColumnTeacher::new("gpt", "target", 2);
        let answers = teacher
            .act(&[request], 0)
            .map_err(|error| error.to_string())?;
        Ok(answers[0]
            .iter()
            .map(|answer| answer.text.clone())
            .collect())
    }

    #[test]
    fn every_documented_form_is_read() {
        assert_eq!(texts(json!("one")).unwrap(), ["one"]);
        assert_eq!(
            texts(json!(["one", {"text": "two"}, "three"])).unwrap(),
            ["one", "two"]
        );
        assert_eq!(
            texts(json!([{"role": "assistant", "content": "trace"}])).unwrap(),
            ["trace"]
        );
        let apart =
            json!([{"content": "3", "reasoning_content": "t"}, {"text": "3", "reasoning": "t"}]);
        assert_eq!(texts(apart).unwrap(), ["<think>t</think>\n3"; 2]);
        let parts = json!({"content": [{"type": "thinking", "thinking": "t"}, {"type": "text", "text": "3"}]});
        assert_eq!(texts(parts).unwrap(), ["<think>t</think>\n3"]);
        let half = json!([{"text": "ha", "finish_reason": "abort"}, {"text": "b", "finish_reason": "end_turn"}]);
        assert_eq!(texts(half).unwrap(), ["b"]);
        let several = json!([{"text": "a", "source": "other"}, {"text": "b", "source": "gpt"}]);
        assert_eq!(texts(several).unwrap(), ["b"]);
    }

    #[test]
    fn a_row_without_an_action_is_named() {
        for (cell, part) in [
            (json!(3), "holds something without text"),
            (json!([]), "holds no action of this source"),
        ] {
            let text = texts(cell).unwrap_err();
            assert!(
                text.starts_with("rows.jsonl:1: column `target` of external source `gpt`")
                    && text.contains(part),
                "{text}"
            );
            assert!(text.contains("\nhint: "));
        }
        let missing = ColumnTeacher::new("gpt", "target", 1).check(&[Arc::new(example("a"))]);
        assert!(missing.unwrap_err().to_string().contains("is absent"));
    }
}
