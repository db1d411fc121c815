//! One row of a known layout -> [`Example`]: id, task, gold answer, conversation, pictures. It opens no picture.

use std::path::Path;

use serde_json::{Map, Value};

use super::DatasetOptions;
use super::container::kind;
use super::error::RejectedRow;
use super::image_cell::{cells, read_cell};
use super::layout::Layout;
use super::template::{split_template, task_template};
use super::turns::{Part, Turn};
use crate::record::{ContentPart, Example, ImageSource, Message, Task};

/// Where a gold answer may stand, first found first taken; then `reward_model.ground_truth`, then the model's turn.
const SOLUTION_COLUMNS: [&str; 3] = ["solution", "answer", "ground_truth"];

/// Where pictures may stand, first found first taken.
const IMAGE_COLUMNS: [&str; 2] = ["images", "image"];

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
        let task = self.task(&columns)?;
        let mut turns = self.layout.turns(&columns)?;
        let written = take_model_turn(&mut turns);
        let solution = solution(&columns, written.as_deref())?;
        let cot = cot(&columns, written.as_deref())?;
        let image_cells = cells(
            IMAGE_COLUMNS
                .iter()
                .find_map(|name| columns.get(*name).filter(|cell| !cell.is_null())),
        );
        place_pictures(&mut turns, image_cells.len())?;
        let images = self.pictures(&turns, &image_cells)?;
        if let Some(task) = task.filter(|_| images.is_empty()) {
            return Err(format!(
                "task `{}` needs a picture, the row has none",
                task.name()
            ));
        }
        self.apply_template(&mut turns, task, &solution)?;
        for name in IMAGE_COLUMNS {
            if let Some(column) = columns.get_mut(name) {
                shorten(column);
            }
        }
        let messages = turns.into_iter().map(message).collect();
        let origin = format!("{}:{row}", self.file.display());
        Ok(Example {
            id,
            task,
            messages,
            images,
            solution,
            cot,
            columns,
            origin,
        })
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

/// Removes the model's own last turn and returns its text.
fn take_model_turn(turns: &mut Vec<Turn>) -> Option<String> {
    turns
        .pop_if(|turn| turn.role == "assistant")
        .map(|turn| turn.text())
}

/// Checks the number of pictures. Turns of plain text without any mark leave the place open: then all pictures
/// stand at the beginning of the first user turn, as TRL and Reason-RFT put them.
fn place_pictures(turns: &mut [Turn], pictures: usize) -> Result<(), String> {
    let places: usize = turns.iter().map(Turn::image_places).sum();
    let is_open = places == 0 && turns.iter().all(|turn| turn.plain);
    if let Some(first) = turns.iter_mut().find(|turn| turn.role == "user" && is_open) {
        first.parts.splice(0..0, vec![Part::Image(None); pictures]);
        return Ok(());
    }
    let filled = |part: &&Part| matches!(part, Part::Image(Some(_)));
    let own = turns
        .iter()
        .flat_map(|turn| &turn.parts)
        .filter(filled)
        .count();
    if places - own == pictures {
        Ok(())
    } else {
        Err(format!(
            "the messages have {} image placeholders, the row has {pictures} images",
            places - own
        ))
    }
}

fn solution(columns: &Map<String, Value>, written: Option<&str>) -> Result<String, String> {
    let mut found = None;
    for name in SOLUTION_COLUMNS {
        found = found.or(text_column(columns, name)?);
    }
    if let (None, Some(Value::Object(reward_model))) = (&found, columns.get("reward_model")) {
        found = text_column(reward_model, "ground_truth")?;
    }
    let text = found
        .or_else(|| written.map(str::to_owned))
        .ok_or("no `solution` or `answer`")?;
    let answer = tagged(&text, "answer").unwrap_or(&text).trim();
    if answer.is_empty() {
        Err("the gold answer is empty".into())
    } else {
        Ok(answer.into())
    }
}

fn cot(columns: &Map<String, Value>, written: Option<&str>) -> Result<Option<String>, String> {
    let column = text_column(columns, "cot")?;
    let text = match &column {
        Some(text) => Some(tagged(text, "think").unwrap_or(text)),
        None => written.and_then(|text| tagged(text, "think")),
    };
    Ok(text
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty()))
}

/// The content of the first `<name>...</name>`.
fn tagged<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
        .map(|(content, _)| content)
}

/// A column that is text, or a number or boolean written as text; `None` if absent or null.
fn text_column(columns: &Map<String, Value>, name: &str) -> Result<Option<String>, String> {
    match columns.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(Some(value.to_string())),
        Some(other) => Err(format!(
            "`{name}` must be text or a number, found {}",
            kind(other)
        )),
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
