//! Rows, pictures and recorded actions as files. It draws nothing.

use std::fs;
use std::path::{Path, PathBuf};

use super::drawn::Drawn;
use super::error::SyntheticError;
use super::expert::{RecordedAction, Utterance};
use super::family::Split;
use super::options::SyntheticOptions;
use super::picture;
use super::row::{Images, Row};
use crate::system::files::{self as system, Existing};

fn cannot_write(path: &Path) -> impl FnOnce(std::io::Error) -> SyntheticError {
    let path = path.to_owned();
    |source| SyntheticError::Write { path, source }
}

/// Makes the folder for the pictures, and so that of the rows.
pub(crate) fn create_image_folder(out: &Path) -> Result<(), SyntheticError> {
    let images = out.join("images");
    fs::create_dir_all(&images).map_err(cannot_write(&images))
}

/// Writes the pictures of an example and returns its row.
pub(crate) fn write_example(
    options: &SyntheticOptions,
    index: usize,
    drawn: &dyn Drawn,
) -> Result<Row, SyntheticError> {
    let id = format!(
        "{}{}-{index}",
        options.family.id_prefix(),
        options.split.name()
    );
    let mut images = Vec::new();
    for (ending, canvas) in drawn.pictures(options.size) {
        let image = format!("images/{id}{ending}.png");
        let path = options.out.join(&image);
        let png = picture::encode(&canvas).map_err(|source| SyntheticError::Encode {
            path: path.clone(),
            source,
        })?;
        system::write(&path, png, Existing::Replace).map_err(cannot_write(&path))?;
        images.push(image);
    }
    let image = if images.len() == 1 {
        Images::One(images.remove(0))
    } else {
        Images::Several(images)
    };
    Ok(Row {
        id,
        image,
        problem: drawn.problem(),
        answer: drawn.answer(),
        solution: drawn.answer(),
        cot: (options.split == Split::Train).then(|| drawn.reasoning()),
        level: drawn.level(),
        kind: drawn.kind(),
    })
}

/// The files of rows and actions that these options write, and the pictures of such rows that are there.
#[must_use]
pub fn outputs(options: &SyntheticOptions) -> Vec<PathBuf> {
    let mut paths = vec![rows_path(options)];
    let experts = options.experts.iter();
    paths.extend(experts.map(|expert| actions_path(options, &expert.name)));
    let pictures = fs::read_dir(options.out.join("images"));
    let beginning = format!("{}{}-", options.family.id_prefix(), options.split.name());
    let is_of_rows = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(&beginning).unwrap_or_default();
        number.starts_with(|letter: char| letter.is_ascii_digit())
    };
    let pictures = pictures.into_iter().flatten().flatten();
    paths.extend(pictures.map(|entry| entry.path()).filter(is_of_rows));
    paths
}

fn rows_path(options: &SyntheticOptions) -> PathBuf {
    let (family, split) = (options.family.name(), options.split.name());
    options.out.join(format!("{family}-{split}.json"))
}

fn actions_path(options: &SyntheticOptions, source: &str) -> PathBuf {
    let (family, split) = (options.family.name(), options.split.name());
    options.out.join(format!("{family}-{split}-{source}.jsonl"))
}

/// Writes the rows as a JSON list and returns its path.
pub(crate) fn write_rows(
    options: &SyntheticOptions,
    rows: &[Row],
) -> Result<PathBuf, SyntheticError> {
    let text = serde_json::to_string_pretty(rows).map_err(SyntheticError::Json)?;
    write_whole(rows_path(options), text.as_bytes())
}

/// Writes an expert's actions as JSON lines `{"id", "source", "text"}` and returns their path.
pub(crate) fn write_actions(
    options: &SyntheticOptions,
    rows: &[Row],
    said: &[Vec<Utterance>],
    source: &str,
) -> Result<PathBuf, SyntheticError> {
    let mut lines = Vec::new();
    for (row, said) in rows.iter().zip(said) {
        for Utterance { text, .. } in said {
            let id = &row.id;
            let action = RecordedAction { id, source, text };
            serde_json::to_writer(&mut lines, &action).map_err(SyntheticError::Json)?;
            lines.push(b'\n');
        }
    }
    write_whole(actions_path(options, source), &lines)
}

/// Writes beside the file and renames, so that a run cut short leaves no half file under the real name.
pub(crate) fn write_whole(path: PathBuf, content: &[u8]) -> Result<PathBuf, SyntheticError> {
    system::write_whole(&path, content).map_err(cannot_write(&path))?;
    Ok(path)
}
