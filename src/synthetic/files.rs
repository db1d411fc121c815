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
        fs::write(&path, png).map_err(cannot_write(&path))?;
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

/// Writes the rows as a JSON list and returns its path.
pub(crate) fn write_rows(
    options: &SyntheticOptions,
    rows: &[Row],
) -> Result<PathBuf, SyntheticError> {
    let text = serde_json::to_string_pretty(rows).map_err(SyntheticError::Json)?;
    let (family, split) = (options.family.name(), options.split.name());
    write_whole(
        options.out.join(format!("{family}-{split}.json")),
        text.as_bytes(),
    )
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
    let (family, split) = (options.family.name(), options.split.name());
    let name = format!("{family}-{split}-{source}.jsonl");
    write_whole(options.out.join(name), &lines)
}

/// Writes beside the file and renames, so that a run cut short leaves no half file under the real name.
pub(crate) fn write_whole(path: PathBuf, content: &[u8]) -> Result<PathBuf, SyntheticError> {
    let partial = path.with_extension("partial");
    let written = fs::write(&partial, content).and_then(|()| fs::rename(&partial, &path));
    written.map_err(cannot_write(&path))?;
    Ok(path)
}
