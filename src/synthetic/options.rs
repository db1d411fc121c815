//! What is to be drawn, and which values are possible. It draws and writes nothing.

use std::path::PathBuf;

use super::counting::smallest_side;
use super::error::SyntheticError;
use super::expert::Expert;
use super::family::{Difficulty, Family, Split};
use super::lesson::Lesson;

/// What to draw.
#[derive(Debug, Clone, PartialEq)]
pub struct SyntheticOptions {
    /// The family.
    pub family: Family,
    /// The split.
    pub split: Split,
    /// Number of examples.
    pub count: usize,
    /// Seed of everything random; the same seed gives the same files.
    pub seed: u64,
    /// Folder that takes `<family>-<split>.json`, `images/` and `<family>-<split>-<expert>.jsonl`.
    pub out: PathBuf,
    /// Pixels per side of a picture.
    pub size: u32,
    /// Scenes and questions.
    pub difficulty: Difficulty,
    /// Whose answers are recorded.
    pub experts: Vec<Expert>,
    /// Answers of each expert per example.
    pub expert_actions: usize,
    /// What the training rows teach.
    pub lesson: Lesson,
}

impl SyntheticOptions {
    /// Options with the defaults of the commands: 84 pixels, easy, no expert.
    #[must_use]
    pub fn new(
        family: Family,
        split: Split,
        count: usize,
        seed: u64,
        out: impl Into<PathBuf>,
    ) -> Self {
        Self {
            family,
            split,
            count,
            seed,
            out: out.into(),
            size: 84,
            difficulty: Difficulty::Easy,
            experts: Vec::new(),
            expert_actions: 1,
            lesson: Lesson::default(),
        }
    }

    /// Checks every option before anything is written.
    pub(crate) fn check(&self) -> Result<(), SyntheticError> {
        let splits = self.family.splits();
        let names: Vec<_> = splits.iter().map(|split| split.name()).collect();
        let smallest = smallest_size(self.family, self.difficulty);
        let objects = match self.family {
            Family::Counting { max_objects, .. } => max_objects,
            Family::Structure | Family::Transformation => 1,
        };
        let checks = [
            (
                splits.contains(&self.split),
                "split",
                self.split.name().into(),
                names.join(", "),
            ),
            (
                self.count > 0,
                "count",
                self.count.to_string(),
                "at least 1".into(),
            ),
            (
                (1..=64).contains(&objects),
                "max-objects",
                objects.to_string(),
                "1 to 64".into(),
            ),
            (
                (smallest..=4096).contains(&self.size),
                "size",
                self.size.to_string(),
                format!("{smallest} to 4096 pixels"),
            ),
            (
                self.expert_actions > 0,
                "expert-actions",
                self.expert_actions.to_string(),
                "at least 1".into(),
            ),
        ];
        let checks = checks.into_iter().chain(self.lesson_checks());
        let checks = checks.chain(self.expert_checks());
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, found, expected)) => Err(SyntheticError::Option {
                key,
                found,
                expected,
            }),
            None => Ok(()),
        }
    }

    fn lesson_checks(&self) -> Vec<(bool, &'static str, String, String)> {
        let Lesson {
            naming,
            explaining,
            reasoning,
        } = self.lesson;
        let all_reason = self.lesson == Lesson::default();
        let found = format!("{naming}, {explaining} and {reasoning}");
        let in_range = [
            naming,
            explaining,
            reasoning,
            naming + explaining + reasoning,
        ];
        let shares = in_range.iter().all(|share| (0.0..=1.0).contains(share));
        let expected = "shares from 0 to 1 whose sum is at most 1".to_owned();
        let split = self.split.name().to_owned();
        vec![
            (shares, "naming, explaining and reasoning", found, expected),
            (
                all_reason || self.split == Split::Train,
                "naming, explaining and reasoning",
                format!("split {split}"),
                "split train: only what is taught has other targets".into(),
            ),
        ]
    }

    fn expert_checks(&self) -> Vec<(bool, &'static str, String, String)> {
        let share = |value: f64| (0.0..=1.0).contains(&value);
        let check = |(index, expert): (usize, &Expert)| {
            let (name, earlier) = (&expert.name, &self.experts[..index]);
            let is_file_part = !name.is_empty() && !name.contains(['/', '\\']);
            let is_new = earlier.iter().all(|other| other.name != *name);
            let accuracy = format!("{name}={}", expert.accuracy);
            let rate = expert.format_errors.to_string();
            [
                (
                    is_file_part,
                    "expert",
                    format!("`{name}`"),
                    "a name without slashes".into(),
                ),
                (
                    is_new,
                    "expert",
                    format!("`{name}` twice"),
                    "different names".into(),
                ),
                (
                    share(expert.accuracy),
                    "expert",
                    accuracy,
                    "0 to 1, a share of right answers".into(),
                ),
                (
                    share(expert.format_errors),
                    "expert-format-errors",
                    rate,
                    "0 to 1, a share of answers".into(),
                ),
            ]
        };
        self.experts.iter().enumerate().flat_map(check).collect()
    }
}

/// Fewest pixels per side on which everything can be told apart.
const fn smallest_size(family: Family, difficulty: Difficulty) -> u32 {
    match (family, difficulty) {
        (Family::Counting { max_objects, .. }, _) => smallest_side(max_objects),
        (_, Difficulty::Easy) => 56,
        (_, Difficulty::Full) => 112,
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::Renderer;
    use super::*;

    fn expert(name: &str, accuracy: f64, format_errors: f64) -> Expert {
        Expert {
            format_errors,
            ..Expert::parse(&format!("{name}={accuracy}")).unwrap()
        }
    }

    #[test]
    fn options_out_of_range_are_named() {
        let change: [(fn(&mut SyntheticOptions), &str); 11] = [
            (
                |options| options.count = 0,
                "`count` is 0, expected at least 1",
            ),
            (
                |options| {
                    options.family = Family::Counting {
                        renderer: Renderer::Solid,
                        max_objects: 0,
                    }
                },
                "`max-objects` is 0, expected 1 to 64",
            ),
            (
                |options| options.size = 20,
                "`size` is 20, expected 42 to 4096 pixels",
            ),
            (
                |options| {
                    options.family = Family::Structure;
                    options.difficulty = Difficulty::Full
                },
                "`size` is 84, expected 112 to 4096 pixels",
            ),
            (
                |options| options.split = Split::TestOodLeft,
                "`split` is test-ood-left, expected train, test, test-ood",
            ),
            (
                |options| {
                    options.family = Family::Transformation;
                    options.split = Split::TestOod
                },
                "`split` is test-ood, expected train, test, test-ood-left, test-ood-right",
            ),
            (
                |options| options.expert_actions = 0,
                "`expert-actions` is 0",
            ),
            (
                |options| options.experts = vec![expert("a", 70.0, 0.0)],
                "`expert` is a=70, expected 0 to 1",
            ),
            (
                |options| options.experts = vec![expert("a/b", 0.5, 0.0)],
                "`expert` is `a/b`, expected a name",
            ),
            (
                |options| options.experts = vec![expert("a", 0.5, 0.0); 2],
                "`expert` is `a` twice",
            ),
            (
                |options| options.experts = vec![expert("a", 0.5, 2.0)],
                "`expert-format-errors` is 2",
            ),
        ];
        for (change, expected) in change {
            let mut options =
                SyntheticOptions::new(Family::FLAT_COUNTING, Split::Train, 12, 3, "unused");
            assert!(options.check().is_ok());
            change(&mut options);
            let text = options.check().unwrap_err().to_string();
            assert!(
                text.contains(expected) && text.contains("\nhint: "),
                "{text}"
            );
        }
    }
}
