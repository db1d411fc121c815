//! The procedural visual-counting data set: Reason-RFT rows, PNG pictures and an expert's recorded actions.
//! It knows nothing of models, tokens or training.

mod error;
mod expert;
mod options;
mod question;
mod render;
mod scene;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::Serialize;

pub use error::CountingError;
pub use options::{CountingOptions, Difficulty, Split};

use expert::Statement;
use question::Question;
use scene::{Scene, Vocabulary};

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountingSummary {
    /// The rows, a JSON list.
    pub rows: PathBuf,
    /// The expert's actions, JSON lines, if an expert was asked for.
    pub expert: Option<PathBuf>,
    /// Examples.
    pub count: usize,
    /// The expert's actions.
    pub expert_actions: usize,
    /// Those of them that are right.
    pub expert_right: usize,
}

/// A Reason-RFT row. Test rows have no `cot`, as in the original.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    id: String,
    image: String,
    problem: String,
    solution: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cot: Option<String>,
}

/// A recorded action.
#[derive(Debug, Serialize)]
struct RecordedAction<'a> {
    id: &'a str,
    source: &'a str,
    text: &'a str,
}

/// Renders a split; `progress` is told the number of finished examples, from several threads.
///
/// # Errors
/// An option is out of range, or a file cannot be written.
pub fn generate(
    options: &CountingOptions,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<CountingSummary, CountingError> {
    options.check()?;
    let images = options.out.join("images");
    fs::create_dir_all(&images).map_err(|source| CountingError::Write {
        path: images.clone(),
        source,
    })?;
    let finished = AtomicUsize::new(0);
    let examples: Vec<(Row, Vec<Statement>)> = (0..options.count)
        .into_par_iter()
        .map(|index| {
            let example = make_example(options, index)?;
            progress(finished.fetch_add(1, Ordering::Relaxed) + 1);
            Ok(example)
        })
        .collect::<Result<_, CountingError>>()?;

    let name = options.split.name();
    let (rows, statements): (Vec<Row>, Vec<Vec<Statement>>) = examples.into_iter().unzip();
    let rows_path = options.out.join(format!("counting-{name}.json"));
    let text = serde_json::to_string_pretty(&rows).map_err(CountingError::Json)?;
    write_whole(&rows_path, text.as_bytes())?;
    let expert = options.expert_accuracy.map(|_| {
        options
            .out
            .join(format!("counting-{name}-{}.jsonl", options.expert_name))
    });
    if let Some(path) = &expert {
        write_whole(
            path,
            &recorded_actions(&rows, &statements, &options.expert_name)?,
        )?;
    }
    let all = || statements.iter().flatten();
    let expert_right = all().filter(|statement| statement.right).count();
    Ok(CountingSummary {
        rows: rows_path,
        expert,
        count: rows.len(),
        expert_actions: all().count(),
        expert_right,
    })
}

/// Draws, renders and writes one example. It depends on (seed, split, index) alone, so that neither threads nor
/// the number of examples change it; the expert has a stream of its own, so that asking it changes no scene.
fn make_example(
    options: &CountingOptions,
    index: usize,
) -> Result<(Row, Vec<Statement>), CountingError> {
    let (split, difficulty) = (options.split, options.difficulty);
    let stream = index as u64 * 8 + split as u64;
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    rng.set_stream(stream);
    let vocabulary = Vocabulary::of(split, difficulty);
    let scene = Scene::draw(&mut rng, split, vocabulary, options.max_objects);
    let question = Question::draw(&mut rng, &scene.objects, vocabulary, difficulty);

    let id = format!("{}-{index}", split.name());
    let image = format!("images/{id}.png");
    let path = options.out.join(&image);
    let png =
        render::render(&scene, split, options.size).map_err(|source| CountingError::Encode {
            path: path.clone(),
            source,
        })?;
    fs::write(&path, png).map_err(|source| CountingError::Write { path, source })?;

    let cot = (split == Split::Train).then(|| question.reasoning(&scene.objects, difficulty));
    let solution = question.answer(&scene.objects).to_string();
    let row = Row {
        id,
        image,
        problem: question.text(),
        solution,
        cot,
    };
    let mut expert_rng = ChaCha8Rng::seed_from_u64(options.seed);
    expert_rng.set_stream(stream + 4);
    let asked = (&question, scene.objects.as_slice());
    let one = |accuracy| expert::state(&mut expert_rng, asked, (vocabulary, difficulty), accuracy);
    let accuracies = options
        .expert_accuracy
        .into_iter()
        .flat_map(|p| std::iter::repeat_n(p, options.expert_actions));
    Ok((row, accuracies.map(one).collect()))
}

/// JSON lines `{"id", "source", "text"}`.
fn recorded_actions(
    rows: &[Row],
    statements: &[Vec<Statement>],
    source: &str,
) -> Result<Vec<u8>, CountingError> {
    let mut lines = Vec::new();
    for (row, statements) in rows.iter().zip(statements) {
        for statement in statements {
            let action = RecordedAction {
                id: &row.id,
                source,
                text: &statement.text,
            };
            serde_json::to_writer(&mut lines, &action).map_err(CountingError::Json)?;
            lines.push(b'\n');
        }
    }
    Ok(lines)
}

/// Writes beside the file and renames, so that a run cut short leaves no half file under the real name.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), CountingError> {
    let partial = path.with_extension("partial");
    fs::write(&partial, content)
        .and_then(|()| fs::rename(&partial, path))
        .map_err(|source| CountingError::Write {
            path: path.into(),
            source,
        })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn options(split: Split, seed: u64) -> (tempfile::TempDir, CountingOptions) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = CountingOptions::new(split, 12, seed, folder.path());
        options.expert_accuracy = Some(0.5);
        options.expert_actions = 2;
        (folder, options)
    }

    fn written(options: &CountingOptions) -> Vec<(String, Vec<u8>)> {
        generate(options, &|_| ()).unwrap();
        let files = |folder: PathBuf| {
            fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
        };
        let paths = files(options.out.clone())
            .chain(files(options.out.join("images")))
            .filter(|path| path.is_file());
        let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
        let mut all: Vec<_> = paths
            .map(|path| (name(&path), fs::read(&path).unwrap()))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        for split in Split::ALL {
            let ((_a, first), (_b, second), (_c, other)) =
                (options(split, 3), options(split, 3), options(split, 4));
            let files = written(&first);
            assert_eq!(files.len(), 14);
            assert_eq!(files, written(&second));
            assert_ne!(files, written(&other));
        }
    }

    #[test]
    fn the_expert_and_the_count_change_no_scene() {
        let ((_a, first), (_b, mut second)) = (options(Split::Train, 3), options(Split::Train, 3));
        second.expert_accuracy = None;
        second.count = 20;
        let (first, second) = (written(&first), written(&second));
        for file in first.iter().filter(|(name, _)| name.ends_with("png")) {
            assert!(second.contains(file), "{}", file.0);
        }
    }

    #[test]
    fn rows_and_actions_have_their_columns() {
        let (_folder, options) = options(Split::Train, 3);
        let summary = generate(&options, &|_| ()).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&fs::read(&summary.rows).unwrap()).unwrap();
        assert_eq!(
            (summary.count, rows.len(), summary.expert_actions),
            (12, 12, 24)
        );
        assert_eq!(rows[11]["id"], "train-11");
        for row in &rows {
            assert!(options.out.join(row["image"].as_str().unwrap()).is_file());
            assert!(
                row["cot"]
                    .as_str()
                    .unwrap()
                    .contains(row["solution"].as_str().unwrap())
            );
        }
        let lines = fs::read_to_string(summary.expert.unwrap()).unwrap();
        let actions: Vec<Value> = lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(
            (actions.len(), &actions[23]["id"], &actions[0]["source"]),
            (24, &rows[11]["id"], &"expert".into())
        );
        assert!(
            actions[0]["text"]
                .as_str()
                .unwrap()
                .starts_with("<think>\n")
        );
    }

    #[test]
    fn test_rows_have_no_reasoning_and_no_expert_unless_asked() {
        let (_folder, mut options) = options(Split::TestOod, 3);
        options.expert_accuracy = None;
        let finished = AtomicUsize::new(0);
        let count = |done: usize| {
            finished.fetch_max(done, Ordering::Relaxed);
        };
        let summary = generate(&options, &count).unwrap();
        let rows: Vec<Value> = serde_json::from_slice(&fs::read(&summary.rows).unwrap()).unwrap();
        assert!(rows.iter().all(|row| row.get("cot").is_none()));
        assert_eq!(
            (
                summary.expert,
                summary.expert_actions,
                finished.into_inner()
            ),
            (None, 0, 12)
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let text = generate(&CountingOptions::new(Split::Train, 1, 0, &file), &|_| ())
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("cannot write") && text.contains("file"),
            "{text}"
        );
    }
}
