//! Three procedural task families as Reason-RFT rows, PNG pictures and recorded answers of experts.
//! It knows nothing of models, tokens, rewards or training.

mod attributes;
mod camera;
mod contact_sheet;
mod counting;
mod drawn;
mod error;
mod expert;
mod family;
mod files;
mod fingerprint;
mod lesson;
mod options;
mod picture;
mod row;
mod solid;
mod structure;
mod text;
mod transformation;

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

pub use contact_sheet::contact_sheet;
pub use drawn::Wording;
pub use error::SyntheticError;
pub use expert::Expert;
pub use family::{Difficulty, Family, Renderer, Split};
pub use lesson::Lesson;
pub use options::SyntheticOptions;

pub use files::outputs;

use drawn::Drawn;
use expert::Utterance;
use row::Row;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntheticSummary {
    /// The rows, a JSON list.
    pub rows: PathBuf,
    /// Examples.
    pub count: usize,
    /// One entry per expert, in the order of the options.
    pub experts: Vec<ExpertSummary>,
}

/// What was written of an expert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpertSummary {
    /// Its actions, JSON lines.
    pub path: PathBuf,
    /// Actions.
    pub actions: usize,
    /// Those of them that are right.
    pub right: usize,
}

/// Draws and writes a split; `progress` is told the number of finished examples, from several threads.
///
/// # Errors
/// An option is out of range, or a file cannot be written.
pub fn generate(
    options: &SyntheticOptions,
    progress: &(dyn Fn(usize) + Sync),
) -> Result<SyntheticSummary, SyntheticError> {
    options.check()?;
    files::create_image_folder(&options.out)?;
    let finished = AtomicUsize::new(0);
    let examples: Vec<(Row, Vec<Vec<Utterance>>)> = (0..options.count)
        .into_par_iter()
        .map(|index| {
            let drawn = draw(options, index);
            let row = files::write_example(options, index, drawn.as_ref())?;
            progress(finished.fetch_add(1, Ordering::Relaxed) + 1);
            Ok((row, utterances(options, index, drawn.as_ref())))
        })
        .collect::<Result<_, SyntheticError>>()?;
    let (mut rows, said): (Vec<Row>, Vec<Vec<Vec<Utterance>>>) = examples.into_iter().unzip();
    options.lesson.apply(&mut rows, options.seed, &|index| {
        draw(options, index).naming()
    });
    let expert = |(index, expert): (usize, &Expert)| {
        let of_row = |said: &Vec<Vec<Utterance>>| said[index].clone();
        let said: Vec<Vec<Utterance>> = said.iter().map(of_row).collect();
        Ok(ExpertSummary {
            path: files::write_actions(options, &rows, &said, &expert.name)?,
            actions: said.iter().flatten().count(),
            right: said.iter().flatten().filter(|one| one.right).count(),
        })
    };
    Ok(SyntheticSummary {
        rows: files::write_rows(options, &rows)?,
        count: rows.len(),
        experts: options
            .experts
            .iter()
            .enumerate()
            .map(expert)
            .collect::<Result<_, SyntheticError>>()?,
    })
}

/// Draws one example. It depends on (family, difficulty, seed, split, index) alone, so that neither threads nor the
/// number of examples change it.
fn draw(options: &SyntheticOptions, index: usize) -> Box<dyn Drawn> {
    let (split, difficulty) = (options.split, options.difficulty);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    rng.set_stream(index as u64 * 8 + split.stream());
    match options.family {
        Family::Counting {
            renderer,
            max_objects,
        } => counting::draw(&mut rng, split, difficulty, (renderer, max_objects)),
        Family::Structure => structure::draw(&mut rng, split, difficulty),
        Family::Transformation => transformation::draw(&mut rng, split, difficulty),
    }
}

/// What each expert says about an example. Every expert has random numbers of its own, so that asking one more
/// changes neither a scene nor what the others say.
fn utterances(options: &SyntheticOptions, index: usize, drawn: &dyn Drawn) -> Vec<Vec<Utterance>> {
    let all = options.experts.iter().map(|expert| {
        let mut rng =
            ChaCha8Rng::seed_from_u64(options.seed ^ key_of(options.family, &expert.name));
        rng.set_stream(index as u64 * 8 + options.split.stream() + 4);
        let actions = 0..options.expert_actions;
        actions.map(|_| expert.speak(&mut rng, drawn)).collect()
    });
    all.collect()
}

/// Tells the experts' random numbers apart, also those of one name in several families; 0 for the default name in
/// counting.
fn key_of(family: Family, name: &str) -> u64 {
    let print = |name: &str| fingerprint::fingerprint(fingerprint::letters(name));
    print(&format!("{}{name}", family.id_prefix())) ^ print("expert")
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use serde_json::Value;

    use super::*;

    const SOLID_COUNTING: Family = Family::Counting {
        renderer: Renderer::Solid,
        max_objects: 6,
    };
    const FAMILIES: [Family; 4] = [
        Family::FLAT_COUNTING,
        SOLID_COUNTING,
        Family::Structure,
        Family::Transformation,
    ];

    fn options(family: Family, split: Split, seed: u64) -> (tempfile::TempDir, SyntheticOptions) {
        let folder = tempfile::tempdir().unwrap();
        let mut options = SyntheticOptions::new(family, split, 12, seed, folder.path());
        options.experts = ["a=0.5:terse", "b=0.5:verbose"]
            .map(|text| Expert::parse(text).unwrap())
            .to_vec();
        options.expert_actions = 2;
        (folder, options)
    }

    fn written(options: &SyntheticOptions) -> Vec<(String, Vec<u8>)> {
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

    fn rows(path: &Path) -> Vec<Value> {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn the_same_seed_gives_the_same_files() {
        for family in FAMILIES {
            for split in family.splits() {
                let ((_a, first), (_b, second), (_c, other)) = (
                    options(family, *split, 3),
                    options(family, *split, 3),
                    options(family, *split, 4),
                );
                let files = written(&first);
                let pictures = if family == Family::Transformation {
                    24
                } else {
                    12
                };
                assert_eq!(files.len(), pictures + 3);
                assert_eq!(files, written(&second));
                assert_ne!(files, written(&other));
            }
        }
    }

    #[test]
    fn experts_and_the_count_change_no_scene_and_no_other_expert() {
        for family in FAMILIES {
            let (split, seed) = (Split::Train, 3);
            let ((_a, first), (_b, mut second)) =
                (options(family, split, seed), options(family, split, seed));
            second.experts.remove(0);
            second.count = 20;
            let (first, second) = (written(&first), written(&second));
            for file in first.iter().filter(|(name, _)| name.ends_with("png")) {
                assert!(second.contains(file), "{}", file.0);
            }
            let said = |files: &[(String, Vec<u8>)]| {
                let file = files.iter().find(|(name, _)| name.ends_with("-b.jsonl"));
                file.map(|(_, content)| content.clone()).unwrap()
            };
            assert!(said(&second).starts_with(&said(&first)));
        }
    }

    #[test]
    fn rows_and_actions_have_their_columns() {
        for family in FAMILIES {
            let (_folder, options) = options(family, Split::Train, 3);
            let summary = generate(&options, &|_| ()).unwrap();
            let rows = rows(&summary.rows);
            assert_eq!((summary.count, rows.len()), (12, 12));
            assert_eq!(rows[11]["id"], format!("{}train-11", family.id_prefix()));
            for row in &rows {
                let images = match &row["image"] {
                    Value::Array(images) => images.clone(),
                    one => vec![one.clone()],
                };
                assert_eq!(
                    images.len(),
                    1 + usize::from(family == Family::Transformation)
                );
                for image in images {
                    assert!(options.out.join(image.as_str().unwrap()).is_file());
                }
                assert_eq!(row["answer"], row["solution"]);
                assert!(!row["cot"].as_str().unwrap().is_empty());
                assert!(row["level"].is_u64() && row["type"].is_string());
            }
            for (expert, name) in summary.experts.iter().zip(["a", "b"]) {
                assert_eq!(expert.actions, 24);
                let lines = fs::read_to_string(&expert.path).unwrap();
                let actions: Vec<Value> = lines
                    .lines()
                    .map(|line| serde_json::from_str(line).unwrap())
                    .collect();
                assert_eq!((actions.len(), &actions[23]["id"]), (24, &rows[11]["id"]));
                assert!(actions.iter().all(|action| action["source"] == name));
            }
        }
    }

    #[test]
    fn test_rows_have_no_reasoning_and_no_expert_unless_asked() {
        let (_folder, mut options) = options(Family::Structure, Split::TestOod, 3);
        options.experts.clear();
        let finished = AtomicUsize::new(0);
        let count = |done: usize| {
            finished.fetch_max(done, Ordering::Relaxed);
        };
        let summary = generate(&options, &count).unwrap();
        assert!(
            rows(&summary.rows)
                .iter()
                .all(|row| row.get("cot").is_none())
        );
        assert_eq!((summary.experts, finished.into_inner()), (vec![], 12));
    }

    #[test]
    fn training_and_test_share_no_scene_whatever_the_seeds() {
        for family in FAMILIES {
            for difficulty in Difficulty::ALL {
                let prints = |split: Split, seed| {
                    let mut options = SyntheticOptions::new(family, split, 1, seed, "unused");
                    options.difficulty = difficulty;
                    (0..400).map(move |index| draw(&options, index).fingerprint())
                };
                let of = |split: Split| -> HashSet<u64> {
                    (0..3).flat_map(|seed| prints(split, seed)).collect()
                };
                let train = of(Split::Train);
                assert!(train.len() > 1000, "{}: scenes vary", family.name());
                for split in family.splits().iter().filter(|split| split.is_test()) {
                    assert!(
                        train.is_disjoint(&of(*split)),
                        "{} {}",
                        family.name(),
                        split.name()
                    );
                }
            }
        }
    }

    #[test]
    fn easy_reasoning_is_short() {
        for family in FAMILIES {
            let options = SyntheticOptions::new(family, Split::Train, 1, 1, "unused");
            for index in 0..300 {
                let drawn = draw(&options, index);
                let words = drawn.reasoning().split_whitespace().count();
                assert!(words <= 36, "{}", drawn.reasoning());
                assert!(
                    drawn.problem().split_whitespace().count() <= 24,
                    "{}",
                    drawn.problem()
                );
            }
        }
    }

    #[test]
    fn what_the_demo_learns_from_has_not_changed() {
        let mut options =
            SyntheticOptions::new(Family::FLAT_COUNTING, Split::Train, 1, 42, "unused");
        options.experts = vec![Expert::new("expert", 0.7)];
        let told = |index: usize| {
            let drawn = draw(&options, index);
            let said = utterances(&options, index, drawn.as_ref());
            let texts = [
                drawn.problem(),
                drawn.answer(),
                drawn.reasoning(),
                said[0][0].text.clone(),
            ];
            texts.join("\n") + &drawn.fingerprint().to_string()
        };
        let all: String = (0..200).map(told).collect();
        assert_eq!(
            fingerprint::fingerprint(fingerprint::letters(&all)),
            13_454_427_840_483_739_966
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        let options = SyntheticOptions::new(Family::Structure, Split::Train, 1, 0, &file);
        let text = generate(&options, &|_| ()).unwrap_err().to_string();
        assert!(
            text.contains("cannot write") && text.contains("file"),
            "{text}"
        );
    }
}
