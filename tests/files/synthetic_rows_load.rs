//! Drawn data sets load as Reason-RFT rows, their own answers earn every reward, and their experts are right as often
//! as they were asked to be.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

use vision_ekipl::actions::reward::{
    Credit, ScoreCompat, accuracy_reward, eval_score, format_reward, function_sequence_reward,
};
use vision_ekipl::data::dataset::{Dataset, DatasetOptions, supervised_target};
use vision_ekipl::record::{ContentPart, Example, ImageSource, Task};
use vision_ekipl::synthetic::{
    Difficulty, Expert, Family, Renderer, Split, SyntheticOptions, SyntheticSummary, generate,
};

const SOLID_COUNTING: Family = Family::Counting {
    renderer: Renderer::Solid,
    max_objects: 6,
};
const FAMILIES: [(Family, Task); 4] = [
    (Family::FLAT_COUNTING, Task::Counting),
    (SOLID_COUNTING, Task::Counting),
    (Family::Structure, Task::Structure),
    (Family::Transformation, Task::TransformationOnlyFull),
];

fn options(
    folder: &Path,
    family: Family,
    split: Split,
    difficulty: Difficulty,
) -> SyntheticOptions {
    let mut options = SyntheticOptions::new(family, split, 40, 7, folder);
    options.difficulty = difficulty;
    if difficulty == Difficulty::Full {
        options.size = 112;
    }
    options
}

fn opens(example: &Example) -> Result<(), String> {
    example.images.iter().try_for_each(|image| match image {
        ImageSource::Path(path) => image::open(path)
            .map(|_| ())
            .map_err(|error| error.to_string()),
        ImageSource::Bytes(_) => Err("expected a file".into()),
    })
}

fn load(summary: &SyntheticSummary, task: Task) -> Vec<Arc<Example>> {
    let data = DatasetOptions {
        files: vec![summary.rows.clone()],
        task: Some(task),
        ..DatasetOptions::default()
    };
    let dataset = Dataset::load(&data, &opens).unwrap();
    assert_eq!(dataset.rejected.len(), 0, "{:?}", dataset.rejected);
    dataset.examples
}

/// Accuracy in training.
fn accuracy(text: &str, example: &Example) -> f32 {
    if example.task.is_some_and(Task::is_transformation) {
        let answer = text.split_once("<answer>").map_or(text, |(_, rest)| rest);
        function_sequence_reward(answer, &example.solution, Credit::ONLY_FULL)
    } else {
        accuracy_reward(text, &example.solution)
    }
}

#[test]
fn rows_of_every_family_load_and_their_own_answers_earn_every_reward() {
    for (family, task) in FAMILIES {
        for difficulty in Difficulty::ALL {
            let folder = tempfile::tempdir().unwrap();
            let options = options(folder.path(), family, Split::Train, difficulty);
            let examples = load(&generate(&options, &|_| ()).unwrap(), task);
            assert_eq!(examples.len(), 40);
            for example in &examples {
                let content = &example.messages[0].content;
                let pictures = 1 + usize::from(family == Family::Transformation);
                assert_eq!(content.len(), pictures + 1, "{content:?}");
                assert!(
                    content[..pictures]
                        .iter()
                        .all(|part| *part == ContentPart::Image)
                );
                let ContentPart::Text { text } = &content[pictures] else {
                    panic!("{content:?}");
                };
                assert!(
                    text.trim_end().ends_with("between <answer> and </answer>."),
                    "{text}"
                );
                let is_choice = "ABCD".contains(&example.solution);
                assert_eq!(
                    text.contains("(chosen letter)"),
                    task == Task::Structure && is_choice
                );
                let target = supervised_target(example, false).unwrap();
                assert_eq!(
                    (accuracy(&target, example), format_reward(&target)),
                    (1.0, 1.0),
                    "{target}"
                );
                let score = eval_score(example, &target, ScoreCompat::default());
                assert_eq!((score.score, score.exact), (1.0, true), "{target}");
            }
        }
    }
}

#[test]
fn experts_are_right_as_often_as_asked_and_speak_about_every_row() {
    for (family, task) in FAMILIES {
        for difficulty in Difficulty::ALL {
            let folder = tempfile::tempdir().unwrap();
            let mut options = options(folder.path(), family, Split::Train, difficulty);
            options.expert_actions = 10;
            let asked = [
                "a=0.68:terse",
                "b=0.26:verbose",
                "c=0.5",
                "d=1:terse",
                "e=0:verbose",
            ];
            options.experts = asked.map(|text| Expert::parse(text).unwrap()).to_vec();
            let summary = generate(&options, &|_| ()).unwrap();
            let examples = load(&summary, task);
            let by_id: HashMap<&str, &Example> = examples
                .iter()
                .map(|example| (example.id.as_str(), &**example))
                .collect();
            for (expert, written) in options.experts.iter().zip(&summary.experts) {
                let lines = std::fs::read_to_string(&written.path).unwrap();
                let (mut right, mut tagged, mut spoken) = (0, 0, HashSet::new());
                for line in lines.lines() {
                    let action: serde_json::Value = serde_json::from_str(line).unwrap();
                    let (id, text) = (
                        action["id"].as_str().unwrap(),
                        action["text"].as_str().unwrap(),
                    );
                    right += usize::from(accuracy(text, by_id[id]) == 1.0);
                    tagged += usize::from(format_reward(text) == 1.0);
                    spoken.insert(id.to_owned());
                }
                assert_eq!(
                    (right, spoken.len()),
                    (written.right, 40),
                    "{} {}",
                    family.name(),
                    expert.name
                );
                // Four standard deviations of 400 draws.
                let deviation = (expert.accuracy * (1.0 - expert.accuracy) / 400.0).sqrt();
                let measured = right as f64 / 400.0;
                assert!(
                    (measured - expert.accuracy).abs() <= 4.0 * deviation,
                    "{}: {measured}",
                    expert.name
                );
                assert!(
                    (370..400).contains(&tagged),
                    "{}: {tagged} with tags",
                    expert.name
                );
            }
        }
    }
}

#[test]
fn the_papers_experts_are_recorded_for_every_split() {
    for (family, _) in FAMILIES {
        for split in family.splits() {
            let folder = tempfile::tempdir().unwrap();
            let mut options = options(folder.path(), family, *split, Difficulty::Easy);
            options.experts = Expert::of_the_paper(family, *split).to_vec();
            let summary = generate(&options, &|_| ()).unwrap();
            let names: Vec<_> = summary
                .experts
                .iter()
                .map(|expert| expert.path.file_name().unwrap())
                .collect();
            let name = |expert: &str| format!("{}-{}-{expert}.jsonl", family.name(), split.name());
            assert_eq!(
                names,
                [name("expert-a").as_str(), name("expert-b").as_str()]
            );
            assert!(summary.experts.iter().all(|expert| expert.actions == 40));
        }
    }
}

#[test]
fn no_picture_of_a_test_split_is_a_training_picture() {
    for (family, _) in FAMILIES {
        let pictures = |split: Split, seed: u64| -> HashSet<Vec<Vec<u8>>> {
            let folder = tempfile::tempdir().unwrap();
            let mut options = options(folder.path(), family, split, Difficulty::Easy);
            (options.seed, options.count) = (seed, 150);
            let summary = generate(&options, &|_| ()).unwrap();
            let rows: Vec<serde_json::Value> =
                serde_json::from_slice(&std::fs::read(summary.rows).unwrap()).unwrap();
            let read = |image: &serde_json::Value| {
                std::fs::read(folder.path().join(image.as_str().unwrap())).unwrap()
            };
            let of = |row: &serde_json::Value| match &row["image"] {
                serde_json::Value::Array(images) => images.iter().map(read).collect(),
                image => vec![read(image)],
            };
            rows.iter().map(of).collect()
        };
        let train: HashSet<_> = [1, 2]
            .into_iter()
            .flat_map(|seed| pictures(Split::Train, seed))
            .collect();
        assert!(
            train.len() > 280,
            "{}: {} different scenes of 300",
            family.name(),
            train.len()
        );
        for split in family.splits().iter().filter(|split| split.is_test()) {
            assert!(
                train.is_disjoint(&pictures(*split, 1)),
                "{} {}",
                family.name(),
                split.name()
            );
        }
    }
}
