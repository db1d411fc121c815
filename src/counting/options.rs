//! What is to be rendered, and which values are possible. It draws and writes nothing.

use std::path::PathBuf;

use super::error::CountingError;
use super::scene::grid_for;

/// A cell of the grid needs this many pixels for its shapes to be told apart.
const SMALLEST_CELL: u32 = 14;

/// Which part of the data set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Split {
    /// Circles, squares and triangles in clear colours on a plain light background.
    Train,
    /// The same look; no scene of it is ever a training scene, whatever the seeds.
    Test,
    /// Muted shades, striped background, turned shapes, and stars among them.
    TestOod,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Test, Self::TestOod];

    /// The name in commands, files and ids.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::TestOod => "test-ood",
        }
    }

    /// The split of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|split| split.name() == name)
    }
}

/// How rich scenes and questions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Difficulty {
    /// Four colours; counts of all objects, of a colour or of a shape; the shortest reasoning.
    #[default]
    Easy,
    /// Six colours; also combined attributes, objects taken away or added; reasoning names every object whole.
    Full,
}

impl Difficulty {
    /// Every difficulty.
    pub const ALL: [Self; 2] = [Self::Easy, Self::Full];

    /// The name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Easy => "easy",
            Self::Full => "full",
        }
    }

    /// The difficulty of this name, if there is one.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|difficulty| difficulty.name() == name)
    }
}

/// What to render.
#[derive(Debug, Clone, PartialEq)]
pub struct CountingOptions {
    /// The split.
    pub split: Split,
    /// Number of examples.
    pub count: usize,
    /// Seed of everything random; the same seed gives the same files.
    pub seed: u64,
    /// Folder that takes `counting-<split>.json`, `images/` and `counting-<split>-<expert>.jsonl`.
    pub out: PathBuf,
    /// Pixels per side of a picture.
    pub size: u32,
    /// Most objects in a scene.
    pub max_objects: usize,
    /// Scenes and questions.
    pub difficulty: Difficulty,
    /// Probability that an action of the expert is right; `None` = no expert.
    pub expert_accuracy: Option<f64>,
    /// Actions of the expert per example.
    pub expert_actions: usize,
    /// The expert's source name.
    pub expert_name: String,
}

impl CountingOptions {
    /// Options with the defaults of the command: 84 pixels, at most 6 objects, easy, no expert.
    #[must_use]
    pub fn new(split: Split, count: usize, seed: u64, out: impl Into<PathBuf>) -> Self {
        Self {
            split,
            count,
            seed,
            out: out.into(),
            size: 84,
            max_objects: 6,
            difficulty: Difficulty::Easy,
            expert_accuracy: None,
            expert_actions: 1,
            expert_name: "expert".into(),
        }
    }

    /// Checks every option before anything is written.
    pub(super) fn check(&self) -> Result<(), CountingError> {
        let smallest = u32::try_from(grid_for(self.max_objects.min(64)))
            .unwrap_or(u32::MAX)
            .saturating_mul(SMALLEST_CELL);
        let accuracy_is_share = self
            .expert_accuracy
            .is_none_or(|accuracy| (0.0..=1.0).contains(&accuracy));
        let name_is_file_part =
            !self.expert_name.is_empty() && !self.expert_name.contains(['/', '\\']);
        let checks = [
            (
                self.count > 0,
                "count",
                self.count.to_string(),
                "at least 1".into(),
            ),
            (
                (1..=64).contains(&self.max_objects),
                "max-objects",
                self.max_objects.to_string(),
                "1 to 64".into(),
            ),
            (
                (smallest..=4096).contains(&self.size),
                "size",
                self.size.to_string(),
                format!("{smallest} to 4096 pixels for {} objects", self.max_objects),
            ),
            (
                accuracy_is_share,
                "expert-accuracy",
                self.expert_accuracy.unwrap_or_default().to_string(),
                "0 to 1, a share of right answers".into(),
            ),
            (
                self.expert_actions > 0,
                "expert-actions",
                self.expert_actions.to_string(),
                "at least 1".into(),
            ),
            (
                name_is_file_part,
                "expert-name",
                self.expert_name.clone(),
                "a name without slashes".into(),
            ),
        ];
        match checks.into_iter().find(|(holds, ..)| !holds) {
            Some((_, key, found, expected)) => Err(CountingError::Option {
                key,
                found,
                expected,
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_out_of_range_are_named() {
        let change: [(fn(&mut CountingOptions), &str); 6] = [
            (
                |options| options.count = 0,
                "`count` is 0, expected at least 1",
            ),
            (
                |options| options.max_objects = 0,
                "`max-objects` is 0, expected 1 to 64",
            ),
            (
                |options| options.size = 20,
                "`size` is 20, expected 42 to 4096 pixels for 6 objects",
            ),
            (
                |options| options.expert_accuracy = Some(70.0),
                "`expert-accuracy` is 70, expected 0 to 1",
            ),
            (
                |options| options.expert_actions = 0,
                "`expert-actions` is 0",
            ),
            (
                |options| options.expert_name = "a/b".into(),
                "`expert-name` is a/b",
            ),
        ];
        for (change, expected) in change {
            let mut options = CountingOptions::new(Split::Train, 12, 3, "unused");
            change(&mut options);
            let text = options.check().unwrap_err().to_string();
            assert!(
                text.contains(expected) && text.contains("\nhint: "),
                "{text}"
            );
        }
    }
}
