//! What training rows teach: to reason, to answer, to name what is seen, or to explain. It draws nothing.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::files::Row;

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
