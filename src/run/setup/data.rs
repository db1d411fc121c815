//! `dataset_name` becomes rows that can be used.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::config::Run;
use crate::data::dataset::{
    Dataset, DatasetError, DatasetOptions, PromptStyle, Purpose, write_rejected,
};
use crate::data::prompt::{PromptEncoder, PromptError};
use crate::json_lines;
use crate::options::VerifyImages;
use crate::record::Example;
use crate::run::folder::REJECTED_FILE;

/// Endings of files of rows.
const ENDINGS: [&str; 4] = [".json", ".jsonl", ".json.gz", ".jsonl.gz"];
/// Endings of files that hold rows in a form that is not read.
const UNREAD_ENDINGS: [&str; 5] = [".parquet", ".arrow", ".csv", ".tsv", ".zip"];
/// How rows of other forms become rows that are read.
const CONVERT: &str = "with Python's `datasets`: `load_dataset(FOLDER)[\"train\"].to_json(\"rows.jsonl\")` \
                       (`load_from_disk` for what `save_to_disk` wrote)";

/// The data file of `dataset_name`: itself, or that of a split in a folder or its `data` folder (`<anything><split>.json[l]`,
/// also with `.gz`, also as the only shard).
///
/// # Errors
/// If there is no such file.
pub fn data_file(name: &Path, split: &str) -> Result<PathBuf> {
    if name.is_file() {
        return Ok(name.to_owned());
    }
    if !name.is_dir() {
        let shown = name.display();
        if looks_like_hub_id(name) {
            bail!(
                "{shown}: no such data file or folder; names on the Hugging Face hub are not downloaded\nhint: with Python's `datasets`: \
                 `load_dataset(\"{shown}\")[\"{split}\"].to_json(\"rows.jsonl\")`, then `dataset_name: rows.jsonl`"
            );
        }
        bail!("{shown}: no such data file or folder\nhint: check `dataset_name`");
    }
    let mut found = entries(name)?;
    found.extend(entries(&name.join("data")).unwrap_or_default());
    let mut files = found.clone();
    files.retain(|path| is_split(path, split));
    match files.as_slice() {
        [file] => Ok(file.clone()),
        [] => bail!("{}", no_split(name, split, &found)),
        several => bail!(
            "{}: {} files could be the split `{split}`: {}\nhint: name the file itself in `dataset_name`; shards are joined by `cat`",
            name.display(),
            several.len(),
            names(several)
        ),
    }
}

fn looks_like_hub_id(name: &Path) -> bool {
    let text = name.to_string_lossy();
    let is_name = |part: &str| {
        !part.is_empty()
            && !part.starts_with(['.', '~'])
            && part
                .chars()
                .all(|character| character.is_ascii_alphanumeric() || "-_.".contains(character))
    };
    let parts: Vec<&str> = text.split('/').collect();
    parts.len() <= 2
        && parts.into_iter().all(is_name)
        && !ENDINGS.iter().any(|ending| text.ends_with(ending))
}

/// Files of a folder, in order.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| {
        format!(
            "{}: cannot be read\nhint: check `dataset_name`",
            folder.display()
        )
    })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    Ok(files)
}

fn is_split(path: &Path, split: &str) -> bool {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let Some(stem) = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending)) else {
        return false;
    };
    // `train-00000-of-00001`, as the hub names shards.
    let whole = match stem.rsplit_once("-of-") {
        Some((rest, count)) if count.bytes().all(|byte| byte.is_ascii_digit()) => rest
            .trim_end_matches(|character: char| character.is_ascii_digit())
            .trim_end_matches('-'),
        _ => stem,
    };
    whole == split || whole.ends_with(&format!("-{split}")) || whole.ends_with(&format!("_{split}"))
}

/// What the folder holds in the place of the split.
fn no_split(folder: &Path, split: &str, found: &[PathBuf]) -> String {
    let ends = |path: &Path, endings: &[&str]| {
        let name = path.to_string_lossy();
        endings.iter().any(|ending| name.ends_with(ending))
    };
    let below: Vec<PathBuf> = found
        .iter()
        .filter(|path| path.is_dir())
        .flat_map(|folder| entries(folder).unwrap_or_default())
        .collect();
    let all = || found.iter().chain(&below);
    let missing = format!(
        "{}: no file of the split `{split}` (`{split}.json` or `*-{split}.json[l]`)",
        folder.display()
    );
    if let Some(file) = all().find(|path| ends(path, &UNREAD_ENDINGS)) {
        let kind = match file.extension().and_then(|ending| ending.to_str()) {
            Some("parquet") => "Parquet",
            Some("arrow") => "Arrow",
            Some("zip") => "an archive",
            _ => "a table in text",
        };
        return format!(
            "{missing}; the folder holds {kind}, which is not read: {}\nhint: {}",
            file.display(),
            CONVERT.replace("FOLDER", &format!("{:?}", folder.display().to_string()))
        );
    }
    let rows: Vec<PathBuf> = all().filter(|path| ends(path, &ENDINGS)).cloned().collect();
    let present = if rows.is_empty() {
        String::new()
    } else {
        format!(", only {}", names(&rows))
    };
    format!("{missing}{present}\nhint: name the file itself in `dataset_name`")
}

/// The first names, and how many more there are.
fn names(files: &[PathBuf]) -> String {
    let shown: Vec<String> = files
        .iter()
        .take(5)
        .map(|file| file.display().to_string())
        .collect();
    match files.len().saturating_sub(5) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The folder whose pictures belong to the data set: `image_dir`, else that of the data file.
///
/// # Errors
/// If there is no data file.
pub fn picture_folder(run: &Run) -> Result<PathBuf> {
    if let Some(folder) = &run.data.image_dir {
        return Ok(folder.clone());
    }
    let file = data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    Ok(file.parent().map(Path::to_owned).unwrap_or_default())
}

/// How the rows of a data file are read.
///
/// # Errors
/// If the prompt template cannot be read.
pub fn dataset_options(run: &Run, file: &Path) -> Result<DatasetOptions> {
    let template = run.data.prompt_template.as_ref().map(|path| {
        json_lines::read_text(path).with_context(|| {
            format!(
                "{}: cannot be read\nhint: check `prompt_template`",
                path.display()
            )
        })
    });
    Ok(DatasetOptions {
        files: vec![file.to_owned()],
        image_dir: run.data.image_dir.clone(),
        task: run.data.task_name,
        prompt_template: template.transpose()?,
        prompt_style: PromptStyle::Reasoning,
        purpose: Purpose::Answered,
        max_rejected_fraction: run.data.max_rejected_fraction,
    })
}

/// Reads rows and makes sure that each can be encoded; rejected rows are written into `rejected_into`.
///
/// # Errors
/// If too many rows are unusable, or none is left.
pub fn load_dataset(
    run: &Run,
    file: &Path,
    encoder: &PromptEncoder,
    rejected_into: Option<&Path>,
) -> Result<Dataset> {
    let options = dataset_options(run, file)?;
    // The row is named beside the reason already, and lists of rows hold a line for each.
    let usable = |example: &Example| {
        let one_line = |error: PromptError| {
            let text = error.to_string().replace("\nhint: ", "; ");
            let named = format!("example `{}`: ", example.id);
            text.strip_prefix(&named).unwrap_or(&text).to_owned()
        };
        let checked = match run.data.verify_images {
            VerifyImages::Header => encoder.check(example).map(drop),
            VerifyImages::Full => encoder.encode(example).map(drop),
        };
        checked.map_err(one_line)
    };
    let loaded = Dataset::load(&options, &usable);
    if let Some(folder) = rejected_into {
        let rejected = match &loaded {
            Ok(dataset) => dataset.rejected.as_slice(),
            Err(DatasetError::TooManyRejected { rejected, .. }) => rejected.as_slice(),
            Err(_) => &[],
        };
        write_rejected(rejected, &folder.join(REJECTED_FILE))?;
    }
    let dataset = loaded?;
    log::info!(
        "{}: {} rows, {} rejected",
        file.display(),
        dataset.examples.len(),
        dataset.rejected.len()
    );
    Ok(dataset)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for file in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("created");
            std::fs::write(path, "").expect("written");
        }
        folder
    }

    #[test]
    fn the_file_of_a_split_is_found() {
        for (files, found) in [
            (&["train.json", "test.json"][..], "train.json"),
            (
                &["counting-train.jsonl", "retrain.json"],
                "counting-train.jsonl",
            ),
            (&["a_train.jsonl.gz"], "a_train.jsonl.gz"),
            (&["data/train.jsonl", "README.md"], "data/train.jsonl"),
            (
                &[
                    "data/train-00000-of-00001.jsonl",
                    "data/test-00000-of-00001.jsonl",
                ],
                "data/train-00000-of-00001.jsonl",
            ),
            (&["größe mit raum/train.json", "train.json"], "train.json"),
        ] {
            let folder = folder(files);
            assert_eq!(
                data_file(folder.path(), "train").expect(found),
                folder.path().join(found)
            );
        }
    }

    #[test]
    fn what_is_there_instead_is_named() {
        for (files, words) in [
            (
                &["data/train-00000-of-00001.parquet"][..],
                "holds Parquet, which is not read: ",
            ),
            (
                &["train/data-00000-of-00001.arrow", "dataset_dict.json"],
                "holds Arrow",
            ),
            (&["train.csv"], "a table in text"),
            (&["validation.jsonl"], "validation.jsonl"),
            (
                &["train.json", "x-train.json"],
                "2 files could be the split `train`",
            ),
            (
                &[
                    "data/train-00000-of-00002.json",
                    "data/train-00001-of-00002.json",
                ],
                "joined by `cat`",
            ),
            (&[], "no file of the split `train`"),
        ] {
            let folder = folder(files);
            let text = data_file(folder.path(), "train")
                .expect_err(words)
                .to_string();
            assert!(text.contains(words) && text.contains("\nhint: "), "{text}");
        }
    }

    #[test]
    fn names_on_the_hub_are_told_from_mistyped_paths() {
        for (name, is_hub) in [
            ("lmms-lab/multimodal-open-r1-8k-verified", true),
            ("gsm8k", true),
            ("./data/rows", false),
            ("/data/rows", false),
            ("data/rows.jsonl", false),
            ("a/b/c", false),
        ] {
            let text = data_file(Path::new(name), "train")
                .expect_err(name)
                .to_string();
            assert_eq!(text.contains("not downloaded"), is_hub, "{text}");
        }
    }
}
