//! Files of rows -> [`Example`]s, with every unusable row named. It knows nothing of tokens, pixels or devices:
//! whether a picture can be used is asked of the caller.

mod columns;
mod container;
mod cursor;
mod error;
mod image_cell;
mod layout;
mod options;
mod row;
mod template;
mod turns;

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

pub use cursor::Cursor;
pub use error::{DatasetError, RejectedRow};
pub use options::{DatasetOptions, Purpose};
pub use template::{PromptStyle, QUESTION, supervised_target, task_template};

use crate::record::{Example, ImageSource};
use crate::system::files::{self, Existing};
use container::RawRow;
use layout::Layout;
use row::RowReader;

/// Whether an example can be used (its pictures open, its prompt is short enough), or the reason why not.
/// Called from several threads, once per row.
pub type Verify<'a> = &'a (dyn Fn(&Example) -> Result<(), String> + Sync);

/// The usable rows, and the others with their reasons.
#[derive(Debug, Clone)]
pub struct Dataset {
    /// Usable rows in file order, ids unique.
    pub examples: Vec<Arc<Example>>,
    /// Unusable rows in file order.
    pub rejected: Vec<RejectedRow>,
}

impl Dataset {
    /// Reads all files. A row is rejected if it does not fit its layout, if its numbers of image placeholders and
    /// images differ, if an image file is absent, if its id was used by an earlier row, or if `verify` refuses it.
    ///
    /// # Errors
    /// A file is no row file, the template has no place for the question, no row is usable, or a larger share than
    /// `max_rejected_fraction` is rejected.
    pub fn load(options: &DatasetOptions, verify: Verify<'_>) -> Result<Self, DatasetError> {
        if let Some(template) = &options.prompt_template {
            template::split_template(template)?;
        }
        let mut dataset = Self {
            examples: Vec::new(),
            rejected: Vec::new(),
        };
        let mut origins = HashMap::new();
        for file in &options.files {
            let outcomes = read_file(file, options, verify)?;
            note_outside(file, options, &outcomes);
            for outcome in outcomes {
                dataset.add(outcome, file, &mut origins);
            }
        }
        dataset.check(options)
    }

    /// Writes the rejected rows as JSON lines `{"file", "row", "id", "reason"}`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_rejected(&self, path: &Path) -> Result<(), DatasetError> {
        write_rejected(&self.rejected, path)
    }

    /// Takes one row in, unless an earlier one has its id.
    fn add(&mut self, outcome: RowOutcome, file: &Path, origins: &mut HashMap<String, String>) {
        match outcome.result {
            Err(rejected) => self.rejected.push(rejected),
            Ok(example) => match origins.get(&example.id) {
                None => {
                    origins.insert(example.id.clone(), example.origin.clone());
                    self.examples.push(Arc::new(example));
                }
                Some(first) => {
                    let reason = format!("the id is already used by {first}");
                    self.rejected.push(RejectedRow {
                        file: file.into(),
                        row: outcome.row,
                        id: Some(example.id),
                        reason,
                    });
                }
            },
        }
    }

    fn check(self, options: &DatasetOptions) -> Result<Self, DatasetError> {
        let total = self.examples.len() + self.rejected.len();
        let allowed = options.max_rejected_fraction;
        let fraction = self.rejected.len() as f64 / total.max(1) as f64;
        // Written so that a fraction that is not a number allows nothing.
        if !self.rejected.is_empty()
            && !matches!(fraction.partial_cmp(&allowed), Some(order) if order.is_le())
        {
            return Err(DatasetError::TooManyRejected {
                rejected: self.rejected,
                total,
                allowed,
            });
        }
        if self.examples.is_empty() {
            let files: Vec<_> = options
                .files
                .iter()
                .map(|file| file.display().to_string())
                .collect();
            return Err(DatasetError::Empty {
                files: files.join(", "),
            });
        }
        if !self.rejected.is_empty() {
            log::warn!(
                "{} of {total} rows are left out:{}",
                self.rejected.len(),
                error::excerpt(&self.rejected)
            );
        }
        Ok(self)
    }
}

/// Every row of a file as a conversation without template ([`Purpose::Conversation`]), in the forms that training reads;
/// several rows may have one id.
///
/// # Errors
/// The file is no row file, or a row cannot be used.
pub fn read_conversations(file: &Path) -> Result<Vec<Example>, DatasetError> {
    let options = DatasetOptions {
        purpose: Purpose::Conversation,
        ..DatasetOptions::default()
    };
    let outcomes = read_file(file, &options, &|_| Ok(()))?;
    note_outside(file, &options, &outcomes);
    let total = outcomes.len();
    let (mut examples, mut rejected) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome.result {
            Ok(example) => examples.push(example),
            Err(row) => rejected.push(row),
        }
    }
    if rejected.is_empty() {
        Ok(examples)
    } else {
        Err(DatasetError::Unusable { rejected, total })
    }
}

/// Says how many pictures of the rows lie elsewhere than the data set's: rows may name any file of the machine.
fn note_outside(file: &Path, options: &DatasetOptions, outcomes: &[RowOutcome]) {
    let outside: usize = outcomes.iter().map(|outcome| outcome.outside).sum();
    if outside > 0 {
        log::info!(
            "{}: {outside} pictures lie outside {}",
            file.display(),
            image_folder(file, options).display()
        );
    }
}

fn image_folder<'a>(file: &'a Path, options: &'a DatasetOptions) -> &'a Path {
    let beside = file.parent().unwrap_or(Path::new(""));
    options.image_dir.as_deref().unwrap_or(beside)
}

/// Writes rejected rows as JSON lines `{"file", "row", "id", "reason"}`; those of an error too. Where there are none, an
/// earlier list is removed.
///
/// # Errors
/// The file cannot be written.
pub fn write_rejected(rejected: &[RejectedRow], path: &Path) -> Result<(), DatasetError> {
    let write = || -> std::io::Result<()> {
        if rejected.is_empty() {
            return match std::fs::remove_file(path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        }
        let mut file = BufWriter::new(files::create(path, Existing::Replace)?);
        for row in rejected {
            serde_json::to_writer(&mut file, row)?;
            file.write_all(b"\n")?;
        }
        file.flush()
    };
    write().map_err(|source| DatasetError::Write {
        path: path.into(),
        source,
    })
}

struct RowOutcome {
    row: usize,
    result: Result<Example, RejectedRow>,
    /// Picture files that do not lie below the image folder.
    outside: usize,
}

/// All rows of one file, read and verified in parallel, in file order.
fn read_file(
    file: &Path,
    options: &DatasetOptions,
    verify: Verify<'_>,
) -> Result<Vec<RowOutcome>, DatasetError> {
    let rows = container::read_rows(file)?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let image_folder = image_folder(file, options);
    let home = real_path(image_folder);
    let layout = Layout::detect(&rows).ok_or_else(|| DatasetError::UnknownLayout {
        path: file.into(),
        columns: first_columns(&rows),
    })?;
    log::info!(
        "{}: {} rows, layout {}",
        file.display(),
        rows.len(),
        layout.name()
    );
    let reader = RowReader {
        file,
        layout,
        image_folder,
        options,
    };
    let read = |raw: RawRow| {
        let mut outside = 0;
        let result = raw
            .columns
            .map_err(|reason| reader.reject(raw.row, None, reason))
            .and_then(|columns| {
                let example = reader.read(raw.row, columns)?;
                let images = example.images.iter();
                outside = images
                    .filter(|image| is_outside(image, home.as_deref()))
                    .count();
                let usable = absent_picture(&example).map_or_else(|| verify(&example), Err);
                usable
                    .map_err(|reason| reader.reject(raw.row, Some(example.id.clone()), reason))?;
                Ok(example)
            });
        RowOutcome {
            row: raw.row,
            result,
            outside,
        }
    };
    Ok(rows.into_par_iter().map(read).collect())
}

/// The path without links and `..`.
fn real_path(path: &Path) -> Option<PathBuf> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    path.canonicalize().ok()
}

fn is_outside(image: &ImageSource, home: Option<&Path>) -> bool {
    match (image, home) {
        (ImageSource::Path(path), Some(home)) => {
            real_path(path).is_some_and(|path| !path.starts_with(home))
        }
        _ => false,
    }
}

/// Why a picture file cannot be there, if one is missing.
fn absent_picture(example: &Example) -> Option<String> {
    example.images.iter().find_map(|image| match image {
        ImageSource::Path(path) if !path.is_file() => {
            let shown = path.display().to_string();
            let hint = if shown.contains('\\') {
                "; its path holds `\\`, write `/`"
            } else {
                ""
            };
            Some(format!(
                "the image `{shown}` does not exist; `image_dir` sets where relative paths begin{hint}"
            ))
        }
        _ => None,
    })
}

fn first_columns(rows: &[RawRow]) -> String {
    let first = rows.iter().find_map(|row| row.columns.as_ref().ok());
    let names = first.map(|columns| {
        columns
            .keys()
            .map(|name| format!("`{name}`"))
            .collect::<Vec<_>>()
            .join(", ")
    });
    names
        .filter(|names| !names.is_empty())
        .unwrap_or_else(|| "none".into())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};
    use tempfile::TempDir;

    use super::*;

    /// A folder with `a.png` (no real picture: nothing here opens it) and the given rows.
    fn folder(rows: &Value) -> (TempDir, DatasetOptions) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"x").unwrap();
        let file = folder.path().join("rows.json");
        fs::write(&file, rows.to_string()).unwrap();
        let options = DatasetOptions {
            files: vec![file],
            ..DatasetOptions::default()
        };
        (folder, options)
    }

    fn row(id: usize) -> Value {
        json!({"id": format!("train-{id}"), "image": "a.png", "problem": "?", "solution": "3"})
    }

    fn accept(_: &Example) -> Result<(), String> {
        Ok(())
    }

    #[test]
    fn loads_rows_in_file_order() {
        let (_folder, options) = folder(&(0..40).map(row).collect());
        let dataset = Dataset::load(&options, &accept).unwrap();
        let ids: Vec<_> = dataset
            .examples
            .iter()
            .map(|example| example.id.clone())
            .collect();
        assert_eq!(
            ids,
            (0..40).map(|id| format!("train-{id}")).collect::<Vec<_>>()
        );
        assert!(dataset.rejected.is_empty());
    }

    #[test]
    fn several_files_and_an_image_folder() {
        let (first, mut options) = folder(&json!([row(1)]));
        let second = tempfile::tempdir().unwrap();
        let file = second.path().join("more.jsonl");
        fs::write(
            &file,
            format!(
                "{}\n",
                json!({"prompt": "<image>?", "images": ["a.png"], "answer": "1"})
            ),
        )
        .unwrap();
        options.files.push(file);
        options.image_dir = Some(first.path().into());
        let dataset = Dataset::load(&options, &accept).unwrap();
        assert_eq!(dataset.examples[1].id, "more-1");
        assert_eq!(dataset.examples[1].images, dataset.examples[0].images);
    }

    #[test]
    fn unusable_rows_stop_the_run_and_are_named() {
        let absent = json!({"id": "gone", "image": "b.png", "problem": "?", "solution": "3"});
        let rows = json!([row(0), absent, 5, row(0), {"id": "bare", "problem": "?", "solution": "3", "image": "a.png"}]);
        let (folder, options) = folder(&rows);
        let verify = |example: &Example| {
            if example.id == "bare" {
                Err("the prompt is 900 tokens long, at most 512".into())
            } else {
                Ok(())
            }
        };
        let error = Dataset::load(&options, &verify).unwrap_err();
        let text = error.to_string();
        let file = options.files[0].display();
        for line in [
            format!(
                "4 of 5 rows cannot be used, `max_rejected_fraction` is 0:\n  {file}:2 (id `gone`): the image `"
            ),
            format!("{file}:3: expected a JSON object, found a number"),
            format!("{file}:4 (id `train-0`): the id is already used by {file}:1"),
            format!("{file}:5 (id `bare`): the prompt is 900 tokens long, at most 512"),
        ] {
            assert!(text.contains(&line), "{line}\n---\n{text}");
        }
        let DatasetError::TooManyRejected { rejected, .. } = error else {
            panic!("{error}")
        };
        let path = folder.path().join("rejected_rows.jsonl");
        write_rejected(&rejected, &path).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        let first: Value = serde_json::from_str(written.lines().next().unwrap()).unwrap();
        assert_eq!(
            (written.lines().count(), &first["row"], &first["id"]),
            (4, &json!(2), &json!("gone"))
        );
    }

    #[test]
    fn an_allowed_fraction_keeps_the_rest() {
        let (_folder, mut options) = folder(&json!([row(0), row(1), row(2), 5]));
        options.max_rejected_fraction = 0.25;
        let dataset = Dataset::load(&options, &accept).unwrap();
        assert_eq!((dataset.examples.len(), dataset.rejected.len()), (3, 1));
        for fraction in [0.24, f64::NAN] {
            options.max_rejected_fraction = fraction;
            assert!(matches!(
                Dataset::load(&options, &accept),
                Err(DatasetError::TooManyRejected { .. })
            ));
        }
    }

    #[test]
    fn a_data_set_without_rows_is_an_error() {
        for rows in [json!([]), json!([5])] {
            let (_folder, mut options) = folder(&rows);
            options.max_rejected_fraction = 1.0;
            let text = Dataset::load(&options, &accept).unwrap_err().to_string();
            let expected = if rows == json!([]) {
                "the data set is empty"
            } else {
                "unknown row layout"
            };
            assert!(text.contains(expected), "{text}");
        }
        let (_folder, mut options) = folder(&json!([{"problem": "?"}]));
        options.max_rejected_fraction = 1.0;
        let text = Dataset::load(&options, &accept).unwrap_err().to_string();
        assert!(
            text.starts_with("the data set is empty: no usable row in "),
            "{text}"
        );
    }

    #[test]
    fn an_unknown_layout_lists_the_columns() {
        let (_folder, options) = folder(&json!([{"question": "?", "picture": "a.png"}]));
        let text = Dataset::load(&options, &accept).unwrap_err().to_string();
        assert!(
            text.contains("the first has the columns `question`, `picture`"),
            "{text}"
        );
    }

    #[test]
    fn a_template_without_a_question_is_refused_before_reading() {
        let options = DatasetOptions {
            prompt_template: Some("Count.".into()),
            ..DatasetOptions::default()
        };
        assert!(matches!(
            Dataset::load(&options, &accept),
            Err(DatasetError::Template { found: 0 })
        ));
    }

    /// Rows of every form with bytes changed, cut, doubled: each is used, rejected with a reason, or the file is refused with
    /// a remedy; nothing panics and no row is lost.
    #[test]
    fn mutated_rows_are_used_or_rejected() {
        let turns = json!([{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "?"}]}]);
        let rows = [
            json!({"id": 1, "image": "a.png", "problem": "?", "solution": 4.0, "cot": null}),
            json!({"prompt": turns, "images": [{"path": "a.png", "bytes": null}], "completion": "\u{1F600} 3"}),
            json!({"conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "3"}], "image": "a.png"}),
            json!({"prompt": turns, "images": [{"image": "a.png"}], "reward_model": {"ground_truth": "3"}, "system": "s"}),
        ];
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        for round in 0..600 {
            let row = &rows[round % rows.len()];
            let whole = if round % 8 < 4 {
                format!("{row}\n{row}\n{row}\n")
            } else {
                json!([row, row, row]).to_string()
            };
            let mut bytes = whole.into_bytes();
            for _ in 0..=random(3) {
                let place = random(bytes.len());
                match random(4) {
                    0 => bytes[place] = random(256) as u8,
                    1 => bytes.truncate(place),
                    2 => bytes.extend_from_within(place..),
                    _ => bytes[place] = b"\"\\{}[],:x0"[random(10)],
                }
                if bytes.is_empty() {
                    bytes.push(b' ');
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("rows.jsonl");
            fs::write(&file, &bytes).unwrap();
            let options = DatasetOptions {
                max_rejected_fraction: 1.0,
                files: vec![file.clone()],
                ..DatasetOptions::default()
            };
            for error in [
                Dataset::load(&options, &accept).err(),
                read_conversations(&file).err(),
            ] {
                let text = error.map(|error| error.to_string());
                assert!(
                    text.is_none_or(|text| text.contains("\nhint: ")),
                    "{bytes:?}"
                );
            }
        }
    }
}
