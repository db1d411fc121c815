//! What training rows teach: to reason, to answer, to name what is seen, or to explain. It draws nothing.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::row::Row;

/// Shares of the training rows, 0 to 1; the rows that remain give a bare answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lesson {
    /// Rows that ask for what is in the picture and nothing more.
    pub naming: f64,
    /// Rows that ask for the reasoning and nothing more, without tags: the skill, but not the habit.
    pub explaining: f64,
    /// Rows that reason before they answer.
    pub reasoning: f64,
}

impl Default for Lesson {
    /// Every row reasons.
    fn default() -> Self {
        Self {
            naming: 0.0,
            explaining: 0.0,
            reasoning: 1.0,
        }
    }
}

impl Lesson {
    /// Makes each row one of the kinds, by a draw of its own; `naming` gives the task of a row that names.
    pub(crate) fn apply(
        self,
        rows: &mut [Row],
        seed: u64,
        naming: &dyn Fn(usize) -> (String, String),
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for (index, row) in rows.iter_mut().enumerate() {
            let draw: f64 = rng.random();
            if draw < self.naming {
                row.name_instead(naming(index));
            } else if draw >= self.naming + self.reasoning + self.explaining {
                row.answer_only();
            } else if draw >= self.naming + self.reasoning {
                row.explain_instead();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::super::{Family, Renderer, Split, SyntheticOptions, generate};
    use super::*;

    fn rows(family: Family, lesson: Lesson) -> Vec<Value> {
        let folder = tempfile::tempdir().unwrap();
        let mut options = SyntheticOptions::new(family, Split::Train, 60, 3, folder.path());
        options.lesson = lesson;
        let summary = generate(&options, &|_| ()).unwrap();
        serde_json::from_slice(&std::fs::read(summary.rows).unwrap()).unwrap()
    }

    #[test]
    fn each_row_is_of_one_kind_and_keeps_its_scene() {
        let lesson = Lesson {
            naming: 0.3,
            explaining: 0.3,
            reasoning: 0.2,
        };
        let solid = Family::Counting {
            renderer: Renderer::Solid,
            max_objects: 4,
        };
        for family in [
            Family::GRID_COUNTING,
            solid,
            Family::Structure,
            Family::Transformation,
        ] {
            let mut kinds = [0; 4];
            for (row, whole) in rows(family, lesson)
                .iter()
                .zip(rows(family, Lesson::default()))
            {
                assert_eq!((&row["id"], &row["image"]), (&whole["id"], &whole["image"]));
                assert_eq!(row["answer"], row["solution"]);
                let problem = row["problem"].as_str().unwrap();
                let (kind, expected) = match (row.get("cot"), problem) {
                    (Some(_), _) => (0, whole["answer"].clone()),
                    (None, text) if text.starts_with("Explain: ") => (1, whole["cot"].clone()),
                    (None, text) if text.starts_with("Name ") => (2, row["answer"].clone()),
                    (None, _) => (3, whole["answer"].clone()),
                };
                assert_eq!(row["answer"], expected, "{row}");
                assert!(!expected.as_str().unwrap().is_empty());
                kinds[kind] += 1;
            }
            assert!(
                kinds.iter().all(|count| *count > 4),
                "{kinds:?} of {}",
                family.name()
            );
        }
    }

    #[test]
    fn shares_that_cannot_be_are_refused() {
        let mut options = SyntheticOptions::new(Family::Structure, Split::Train, 1, 1, "unused");
        options.lesson.naming = 0.5;
        let text = generate(&options, &|_| ()).unwrap_err().to_string();
        assert!(
            text.contains("naming") && text.contains("at most 1"),
            "{text}"
        );
        options.lesson.reasoning = 0.5;
        options.split = Split::Test;
        let text = generate(&options, &|_| ()).unwrap_err().to_string();
        assert!(text.contains("split test"), "{text}");
    }
}
