//! One row of a known layout -> [`Example`]: id, task, gold answer, conversation, pictures. It opens no picture.

use std::path::Path;

use serde_json::{Map, Value};

use super::columns::{self, text_column};
use super::error::RejectedRow;
use super::image_cell::read_cell;
use super::layout::Layout;
use super::options::{DatasetOptions, Purpose};
use super::template::{split_template, task_template};
use super::turns::{Part, Turn};
use crate::record::{ContentPart, Example, ImageSource, Message, Task};

/// A picture column's text longer than this is picture data, not a path, and is not kept twice in memory.
const LONGEST_PATH: usize = 4096;

/// What all rows of a file share.
pub(super) struct RowReader<'a> {
    /// The data file.
    pub file: &'a Path,
    /// Its layout.
    pub layout: Layout,
    /// Where its relative picture paths begin.
    pub image_folder: &'a Path,
    /// The data set's options.
    pub options: &'a DatasetOptions,
}

impl RowReader<'_> {
    /// Reads one row.
    ///
    /// # Errors
    /// The row cannot be used; the reason says why.
    pub(super) fn read(
        &self,
        row: usize,
        columns: Map<String, Value>,
    ) -> Result<Example, RejectedRow> {
        let id = text_column(&columns, "id");
        let known_id = id.clone().ok().flatten();
        let reject = |reason| self.reject(row, known_id.clone(), reason);
        let stem = self.file.file_stem().unwrap_or_default().to_string_lossy();
        let id = id
            .map_err(reject)?
            .unwrap_or_else(|| format!("{stem}-{row}"));
        self.example(row, id, columns).map_err(reject)
    }

    /// A rejection of one of this file's rows.
    pub(super) fn reject(&self, row: usize, id: Option<String>, reason: String) -> RejectedRow {
        RejectedRow {
            file: self.file.into(),
            row,
            id,
            reason,
        }
    }

    fn example(
        &self,
        row: usize,
        id: String,
        mut columns: Map<String, Value>,
    ) -> Result<Example, String> {
        columns::refuse_unread(&columns)?;
        let mut turns = self.layout.turns(&columns)?;
        columns::add_system(&columns, &mut turns)?;
        let written = self.written(&columns, &mut turns)?;
        let images = self.place_pictures(&columns, &mut turns)?;
        let task = self.task(&columns)?;
        let solution = match columns::solution(&columns, written.as_deref()) {
            Err(_) if self.options.purpose == Purpose::Conversation => String::new(),
            solution => solution?,
        };
        let cot = columns::cot(&columns, written.as_deref())?;
        if self.options.purpose == Purpose::Answered {
            if let Some(task) = task.filter(|_| images.is_empty()) {
                return Err(format!(
                    "task `{}` needs a picture, the row has none",
                    task.name()
                ));
            }
            self.apply_template(&mut turns, task, &solution)?;
        } else if turns.last().is_none_or(|turn| turn.role != "user") {
            return Err("the conversation has no user turn".into());
        }
        for name in columns::IMAGE_COLUMNS {
            if let Some(column) = columns.get_mut(name) {
                shorten(column);
            }
        }
        Ok(Example {
            id,
            task,
            messages: turns.into_iter().map(message).collect(),
            images,
            solution,
            cot,
            // A column of reasoning stands above what a turn says.
            target: written.filter(|_| columns.get("cot").is_none_or(Value::is_null)),
            columns,
            origin: format!("{}:{row}", self.file.display()),
        })
    }

    /// The answer as the row writes it, a completion or the model's own last turn, which leaves the conversation.
    fn written(
        &self,
        columns: &Map<String, Value>,
        turns: &mut Vec<Turn>,
    ) -> Result<Option<String>, String> {
        let completion = columns::completion(columns)?;
        let last = turns.pop_if(|turn| turn.role == "assistant");
        for turn in turns.iter() {
            turn.refuse_marks()?;
            if turn.reasoning.is_some() {
                return Err(
                    "a turn before the last has reasoning beside its content, which is not read"
                        .into(),
                );
            }
        }
        match (completion, last) {
            (completion, None) => Ok(completion),
            (None, Some(turn)) if !self.layout.is_prompt() => turn.written().map(Some),
            (None, Some(_)) => Err("the `prompt` ends with a turn of the assistant; continuing one is not supported".into()),
            (Some(_), Some(_)) => Err("the row has a `completion`, and its conversation ends with a turn of the assistant".into()),
        }
    }

    /// Pairs places and pictures and reads the cells, in the order of their places.
    fn place_pictures(
        &self,
        columns: &Map<String, Value>,
        turns: &mut [Turn],
    ) -> Result<Vec<ImageSource>, String> {
        let image_cells = columns::picture_cells(columns)?;
        columns::place_pictures(turns, image_cells.len())?;
        self.pictures(turns, &image_cells)
    }

    /// The row's own `task_name`, else the configured one.
    fn task(&self, columns: &Map<String, Value>) -> Result<Option<Task>, String> {
        let Some(name) = text_column(columns, "task_name")? else {
            return Ok(self.options.task);
        };
        Task::from_name(&name).map(Some).ok_or_else(|| {
            let known: Vec<_> = Task::ALL.iter().map(|task| task.name()).collect();
            format!(
                "unknown `task_name` `{name}`, expected one of {}",
                known.join(", ")
            )
        })
    }

    /// The pictures in the order of their places; a place without its own takes the next cell of the column.
    fn pictures(&self, turns: &[Turn], image_cells: &[&Value]) -> Result<Vec<ImageSource>, String> {
        let mut remaining = image_cells.iter();
        let mut images = Vec::new();
        for part in turns.iter().flat_map(|turn| &turn.parts) {
            if let Part::Image(own) = part {
                let cell = own.as_ref().or_else(|| remaining.next().copied());
                images.push(read_cell(
                    cell.expect("places and cells were counted"),
                    self.image_folder,
                )?);
            }
        }
        Ok(images)
    }

    /// Puts the question of the last turn into the configured template or that of the task. A question that
    /// already asks for `<answer>` carries its own prompt and stays as it is.
    fn apply_template(
        &self,
        turns: &mut [Turn],
        task: Option<Task>,
        solution: &str,
    ) -> Result<(), String> {
        let question = turns
            .last_mut()
            .filter(|turn| turn.role == "user")
            .ok_or("the conversation has no user turn")?;
        let template = match (&self.options.prompt_template, task) {
            (Some(template), _) => template.clone(),
            (None, Some(task)) if !question.text().contains("<answer>") => {
                task_template(task, self.options.prompt_style, solution)
            }
            (None, _) => return Ok(()),
        };
        let (before, after) = split_template(&template).map_err(|error| error.to_string())?;
        let first_text = question
            .parts
            .iter()
            .position(|part| matches!(part, Part::Text(_)));
        question.parts.insert(
            first_text.unwrap_or(question.parts.len()),
            Part::Text(before.into()),
        );
        question.parts.push(Part::Text(after.into()));
        Ok(())
    }
}

/// Replaces picture data in a picture column by its length.
fn shorten(value: &mut Value) {
    match value {
        Value::String(text) if text.len() > LONGEST_PATH => {
            *text = format!("<{} characters>", text.len())
        }
        Value::Array(list) => list.iter_mut().for_each(shorten),
        Value::Object(fields) => fields.values_mut().for_each(shorten),
        _ => {}
    }
}

/// Joins neighbouring texts and drops empty ones.
fn message(turn: Turn) -> Message {
    let mut content: Vec<ContentPart> = Vec::new();
    for part in turn.parts {
        match (part, content.last_mut()) {
            (Part::Image(_), _) => content.push(ContentPart::Image),
            (Part::Text(more), _) if more.is_empty() => {}
            (Part::Text(more), Some(ContentPart::Text { text })) => text.push_str(&more),
            (Part::Text(text), _) => content.push(ContentPart::Text { text }),
        }
    }
    Message {
        role: turn.role.into(),
        content,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;

    /// A small example for tests of neighbouring modules.
    pub(in crate::data::dataset) fn example(solution: &str) -> Example {
        read(
            Layout::Problem,
            &DatasetOptions::default(),
            json!({"problem": "?", "solution": solution}),
        )
        .unwrap()
    }

    fn read(layout: Layout, options: &DatasetOptions, row: Value) -> Result<Example, RejectedRow> {
        let reader = RowReader {
            file: Path::new("d/rows.json"),
            layout,
            image_folder: Path::new("d"),
            options,
        };
        reader.read(4, row.as_object().unwrap().clone())
    }

    fn accept(layout: Layout, row: Value) -> Example {
        read(layout, &DatasetOptions::default(), row).unwrap()
    }

    fn reason(layout: Layout, row: Value) -> String {
        let options = DatasetOptions {
            task: Some(Task::Counting),
            ..DatasetOptions::default()
        };
        read(layout, &options, row).unwrap_err().reason
    }

    fn text(text: &str) -> ContentPart {
        ContentPart::Text { text: text.into() }
    }

    const IMAGE: ContentPart = ContentPart::Image;

    #[test]
    fn reason_rft_rows_put_all_pictures_first() {
        let row = json!({"id": "train-1", "image": ["a.png", "b.png"], "problem": "How <image>?", "answer": 3,
                         "cot": " one, two ", "level": 2});
        let example = accept(Layout::Problem, row);
        assert_eq!(example.id, "train-1");
        assert_eq!(example.messages.len(), 1);
        assert_eq!(
            example.messages[0].content,
            [IMAGE, IMAGE, text("How <image>?")]
        );
        assert_eq!(
            example.images,
            ["d/a.png", "d/b.png"].map(|path| ImageSource::Path(path.into()))
        );
        assert_eq!(
            (example.solution.as_str(), example.cot.as_deref()),
            ("3", Some("one, two"))
        );
        assert_eq!(example.columns["level"], 2);
        assert_eq!(example.origin, "d/rows.json:4");
    }

    #[test]
    fn r1_v_gold_tags_are_taken_off_and_a_missing_id_is_made() {
        let example = accept(
            Layout::Problem,
            json!({"image": "a.png", "problem": "?", "solution": "<answer> 3 </answer>"}),
        );
        assert_eq!(
            (example.solution.as_str(), example.id.as_str()),
            ("3", "rows-4")
        );
    }

    #[test]
    fn easyr1_pictures_stand_at_their_marks() {
        let row = json!({"problem": "<image>left <image>right", "images": ["a.png", {"path": "b.png"}], "answer": "A"});
        let content = accept(Layout::ProblemWithTags, row)
            .messages
            .remove(0)
            .content;
        assert_eq!(content, [IMAGE, text("left "), IMAGE, text("right")]);
    }

    #[test]
    fn trl_rows_with_parts_plain_text_and_own_pictures() {
        let parts = json!([{"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]);
        let example = accept(
            Layout::Prompt,
            json!({"prompt": parts, "image": "a.png", "solution": "3"}),
        );
        assert_eq!(example.messages[0].content, [text("Be brief.")]);
        assert_eq!(example.messages[1].content, [IMAGE, text("?")]);
        // As TRL does: plain turns get their pictures at the start of the first user turn.
        let plain = json!([{"role": "system", "content": "s"}, {"role": "user", "content": "?"}]);
        let example = accept(
            Layout::Messages,
            json!({"messages": plain, "images": ["a.png", "b.png"], "solution": "3"}),
        );
        assert_eq!(example.messages[1].content, [IMAGE, IMAGE, text("?")]);
        let own = json!([{"role": "user", "content": [{"type": "image", "image": "o.png"}, {"type": "image"}]}]);
        let example = accept(
            Layout::Prompt,
            json!({"prompt": own, "image": "a.png", "solution": "3"}),
        );
        assert_eq!(
            example.images,
            ["d/o.png", "d/a.png"].map(|path| ImageSource::Path(path.into()))
        );
        let example = accept(
            Layout::Prompt,
            json!({"prompt": "text only?", "solution": "3"}),
        );
        assert_eq!(
            (example.messages[0].content.as_slice(), example.images.len()),
            ([text("text only?")].as_slice(), 0)
        );
    }

    #[test]
    fn the_models_turn_is_the_target() {
        let row = json!({"id": 7, "image": "a.png", "conversations": [
            {"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "3"}]});
        let example = accept(Layout::Conversations, row);
        assert_eq!(
            (example.id.as_str(), example.solution.as_str(), &example.cot),
            ("7", "3", &None)
        );
        assert_eq!(example.messages.len(), 1);
        let row = json!({"messages": [{"role": "user", "content": "<image>?"},
            {"role": "assistant", "content": "<think>\none two\n</think>\n<answer>\n2\n</answer>"}], "images": ["a.png"]});
        let example = accept(Layout::Messages, row);
        assert_eq!(
            (example.solution.as_str(), example.cot.as_deref()),
            ("2", Some("one two"))
        );
    }

    #[test]
    fn the_answer_as_the_row_writes_it_is_the_target() {
        let parts = |text: &str| json!([{"type": "text", "text": text}]);
        let user =
            json!({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]});
        let turn = json!({"role": "assistant", "content": parts("There are 2.")});
        let rows = [
            json!({"prompt": [user], "completion": [turn], "images": ["a.png"]}),
            json!({"prompt": [user], "completion": turn, "images": ["a.png"]}),
            json!({"prompt": [user], "completion": "There are 2.", "images": ["a.png"], "answer": null}),
            json!({"prompt": "?", "completion": "There are 2."}),
        ];
        for row in rows {
            let example = accept(Layout::Prompt, row);
            assert_eq!(example.target.as_deref(), Some("There are 2."));
            assert_eq!(
                (example.solution.as_str(), example.messages.len()),
                ("There are 2.", 1)
            );
        }
        let row = json!({"messages": [user, {"role": "assistant", "content": "2", "reasoning_content": " one, two\n"}],
                         "images": ["a.png"], "solution": "2.0"});
        let example = accept(Layout::Messages, row);
        assert_eq!(
            example.target.as_deref(),
            Some("<think>\none, two\n</think>\n2")
        );
        assert_eq!(
            (example.solution.as_str(), example.cot.as_deref()),
            ("2.0", Some("one, two"))
        );
        let row = json!({"problem": "?", "solution": "3", "cot": "one", "completion": "x"});
        let example = accept(Layout::Problem, row);
        assert_eq!(
            (example.target, example.cot.as_deref()),
            (None, Some("one"))
        );
    }

    #[test]
    fn numbers_of_tables_with_gaps_are_whole_again() {
        for (value, text) in [
            (json!(4.0), "4"),
            (json!(4), "4"),
            (json!(2.5), "2.5"),
            (json!("4.0"), "4.0"),
            (json!(-0.0), "0"),
        ] {
            let verl = json!({"prompt": "?", "reward_model": {"ground_truth": value}});
            assert_eq!(accept(Layout::Verl, verl).solution, text);
            for name in ["solution", "answer", "ground_truth"] {
                let row = json!({"id": 7.0, "problem": "?", name: value});
                let example = accept(Layout::Problem, row);
                assert_eq!(
                    (example.solution.as_str(), example.id.as_str()),
                    (text, "7"),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_system_column_is_the_first_turn() {
        let row = json!({"problem": "?", "solution": "3", "system": "Be brief.", "image": "a.png"});
        let messages = accept(Layout::Problem, row).messages;
        assert_eq!(
            (messages[0].role.as_str(), messages[0].content.as_slice()),
            ("system", &[text("Be brief.")][..])
        );
        assert_eq!(messages[1].content, [IMAGE, text("?")]);
        let turns =
            json!([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "?"}]);
        for system in [json!("Be brief."), json!(""), json!(null)] {
            let row = json!({"messages": turns, "solution": "3", "system": system});
            assert_eq!(accept(Layout::Messages, row).messages.len(), 2);
        }
    }

    #[test]
    fn columns_and_marks_that_would_be_lost_reject_the_row_by_name() {
        let turns = json!([{"role": "user", "content": "?"}]);
        for (name, value) in [
            ("videos", json!(["a.mp4"])),
            ("video", json!("a.mp4")),
            ("audios", json!([{"path": "a.wav"}])),
            ("audio", json!({"path": "a.wav"})),
            ("tools", json!([{"type": "function"}])),
            ("tools", json!("[{\"name\": \"zoom\"}]")),
            ("history", json!([["a", "b"]])),
        ] {
            for layout in [Layout::Problem, Layout::Messages, Layout::Prompt] {
                let mut row =
                    json!({"problem": "?", "prompt": turns, "messages": turns, "solution": "3"});
                row[name] = value.clone();
                let found = read(layout, &DatasetOptions::default(), row.clone())
                    .unwrap_err()
                    .reason;
                assert!(found.contains(&format!("`{name}`")), "{found}");
                for empty in [
                    json!(null),
                    json!([]),
                    json!(""),
                    json!("[]"),
                    json!([null]),
                    json!({"path": null}),
                ] {
                    row[name] = empty;
                    accept(layout, row.clone());
                }
            }
        }
        for mark in ["<video>", "<audio>"] {
            let asked = format!("{mark}What is it?");
            for row in [
                json!({"problem": asked, "solution": "3"}),
                json!({"prompt": asked, "solution": "3"}),
                json!({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "3"}]}),
                json!({"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": "3"}]}),
            ] {
                let column = row.as_object().unwrap().keys().next().unwrap().clone();
                let layout = [
                    Layout::Problem,
                    Layout::Prompt,
                    Layout::Messages,
                    Layout::Conversations,
                ]
                .into_iter()
                .find(|layout| layout.column() == column)
                .unwrap();
                let found = read(layout, &DatasetOptions::default(), row)
                    .unwrap_err()
                    .reason;
                assert!(found.contains(&format!("`{mark}`")), "{found}");
            }
        }
    }

    #[test]
    fn rows_that_say_two_things_are_refused() {
        let user = json!({"role": "user", "content": "?"});
        let model = json!({"role": "assistant", "content": "3"});
        for (layout, row, words) in [
            (
                Layout::Prompt,
                json!({"prompt": [user, model], "solution": "3"}),
                "`prompt` ends with a turn of the assistant",
            ),
            (
                Layout::Messages,
                json!({"messages": [user, model], "completion": "4"}),
                "`completion`",
            ),
            (
                Layout::Prompt,
                json!({"prompt": "?", "completion": [user]}),
                "`completion` must be",
            ),
            (
                Layout::Prompt,
                json!({"prompt": "?", "completion": [model, user, model]}),
                "`completion` must be",
            ),
            (
                Layout::Prompt,
                json!({"prompt": "?", "completion": 3}),
                "`completion` must be",
            ),
            (
                Layout::Problem,
                json!({"problem": "?", "solution": "3", "images": ["a.png"], "image": "b.png"}),
                "`images` and `image`",
            ),
            (
                Layout::Messages,
                json!({"messages": [user, {"role": "assistant", "content": "<image>3"}]}),
                "holds a picture",
            ),
            (
                Layout::Messages,
                json!({"messages": [{"role": "system", "content": "a"}, user], "solution": "3", "system": "b"}),
                "`system`",
            ),
        ] {
            let found = read(layout, &DatasetOptions::default(), row)
                .unwrap_err()
                .reason;
            assert!(found.contains(words), "{found}");
        }
        for row in [
            json!({"problem": "?", "solution": "3", "images": [], "image": "a.png"}),
            json!({"problem": "?", "solution": "3", "images": ["a.png"], "image": "a.png"}),
            json!({"problem": "?", "solution": "3", "image_path": "a.png"}),
        ] {
            assert_eq!(
                accept(Layout::Problem, row).images,
                [ImageSource::Path("d/a.png".into())]
            );
        }
    }

    #[test]
    fn a_conversation_needs_no_answer_and_gets_no_template() {
        let options = DatasetOptions {
            purpose: Purpose::Conversation,
            task: Some(Task::Counting),
            ..DatasetOptions::default()
        };
        let example = read(Layout::Problem, &options, json!({"problem": "?"})).unwrap();
        assert_eq!(
            (
                example.messages[0].content.as_slice(),
                example.solution.as_str()
            ),
            (&[text("?")][..], "")
        );
        let row = json!({"messages": [{"role": "user", "content": [{"type": "image", "image": "circles"}]}], "images": ["b/circles.png"]});
        let example = read(Layout::Messages, &options, row).unwrap();
        assert_eq!(
            example.images,
            [ImageSource::Path("d/b/circles.png".into())]
        );
        let row = json!({"messages": [{"role": "assistant", "content": "x"}]});
        let found = read(Layout::Messages, &options, row).unwrap_err().reason;
        assert_eq!(found, "the conversation has no user turn");
    }

    #[test]
    fn verl_rows_have_their_gold_in_the_reward_model() {
        let row = json!({"prompt": [{"role": "user", "content": "<image>?"}], "images": ["a.png"],
                         "reward_model": {"ground_truth": 4}, "data_source": "x"});
        assert_eq!(accept(Layout::Verl, row).solution, "4");
    }

    #[test]
    fn templates_wrap_the_last_question_once() {
        let wrapped = |options: &DatasetOptions, problem: &str| {
            let row = json!({"problem": problem, "image": "a.png", "solution": "3"});
            let content = read(Layout::Problem, options, row)
                .unwrap()
                .messages
                .remove(0)
                .content;
            let [ContentPart::Image, ContentPart::Text { text }] = content.as_slice() else {
                panic!("{content:?}")
            };
            text.clone()
        };
        let task = DatasetOptions {
            task: Some(Task::Counting),
            ..DatasetOptions::default()
        };
        assert!(
            wrapped(&task, "How many?").starts_with("How many? First write the thinking process")
        );
        assert_eq!(
            wrapped(&task, "How many? Use <answer> tags."),
            "How many? Use <answer> tags."
        );
        let own = DatasetOptions {
            prompt_template: Some("Q: {Question}\nA:".into()),
            ..task
        };
        assert_eq!(wrapped(&own, "How many?"), "Q: How many?\nA:");
        let row = json!({"problem": "left <image> right", "image": "a.png", "solution": "3"});
        let content = read(Layout::ProblemWithTags, &own, row)
            .unwrap()
            .messages
            .remove(0)
            .content;
        assert_eq!(content, [text("Q: left "), IMAGE, text(" right\nA:")]);
    }

    #[test]
    fn a_rows_own_task_name_wins() {
        let options = DatasetOptions {
            task: Some(Task::Counting),
            ..DatasetOptions::default()
        };
        let row =
            json!({"problem": "?", "image": "a.png", "solution": "A", "task_name": "geomath"});
        assert_eq!(
            read(Layout::Problem, &options, row).unwrap().task,
            Some(Task::Structure)
        );
    }

    #[test]
    fn picture_data_is_not_kept_in_the_columns() {
        let data = format!("data:image/png;base64,{}", "AAAA".repeat(2000));
        let example = accept(
            Layout::Problem,
            json!({"problem": "?", "image": [data], "solution": "3"}),
        );
        assert_eq!(example.columns["image"], json!(["<8022 characters>"]));
        assert!(matches!(&example.images[0], ImageSource::Bytes(bytes) if bytes.len() == 6000));
    }

    #[test]
    fn bad_rows_say_why() {
        use Layout::{Messages, Problem, ProblemWithTags, Prompt};
        let two_places =
            json!([{"role": "user", "content": [{"type": "image"}, {"type": "image"}]}]);
        let no_place = json!([{"role": "user", "content": [{"type": "text", "text": "?"}]}]);
        let only_model = json!([{"role": "assistant", "content": "3"}]);
        for (layout, row, expected) in [
            (
                Problem,
                json!({"problem": "?", "image": "a.png"}),
                "no `solution` or `answer`",
            ),
            (
                Problem,
                json!({"problem": "?", "image": "a.png", "solution": " "}),
                "the gold answer is empty",
            ),
            (
                Problem,
                json!({"problem": "?", "image": "a.png", "solution": ["3"]}),
                "`solution` must be text or a number",
            ),
            (
                Problem,
                json!({"problem": "?", "solution": "3"}),
                "task `clevr-math` needs a picture, the row has none",
            ),
            (
                Problem,
                json!({"problem": "?", "image": 3, "solution": "3"}),
                "found a number",
            ),
            (
                Problem,
                json!({"problem": "?", "solution": "3", "task_name": "clever"}),
                "unknown `task_name` `clever`",
            ),
            (
                Problem,
                json!({"id": [1], "problem": "?"}),
                "`id` must be text or a number, found a list",
            ),
            (
                ProblemWithTags,
                json!({"problem": "<image><image>?", "images": ["a.png"], "answer": "3"}),
                "the messages have 2 image placeholders, the row has 1 images",
            ),
            (
                Prompt,
                json!({"prompt": two_places, "images": ["a.png", "b.png", "c.png"], "solution": "3"}),
                "the messages have 2 image placeholders, the row has 3 images",
            ),
            (
                Prompt,
                json!({"prompt": no_place, "image": "a.png", "solution": "3"}),
                "the messages have 0 image placeholders, the row has 1 images",
            ),
            (
                Messages,
                json!({"messages": only_model, "image": "a.png"}),
                "the messages have 0 image placeholders",
            ),
            (
                Messages,
                json!({"messages": [], "solution": "3"}),
                "task `clevr-math` needs a picture",
            ),
        ] {
            let found = reason(layout, row.clone());
            assert!(found.contains(expected), "{row}: {found}");
        }
    }

    #[test]
    fn a_rejection_names_file_row_and_id() {
        let rejected = read(
            Layout::Problem,
            &DatasetOptions::default(),
            json!({"id": "x", "problem": "?"}),
        )
        .unwrap_err();
        assert_eq!(
            rejected.to_string(),
            "d/rows.json:4 (id `x`): no `solution` or `answer`"
        );
    }
}
