//! How much room the checkpoints of a run take on the disk. Knows nothing of how much there is.

use std::path::Path;

use super::model_files;
use crate::config::Run;
use crate::learner::Learner;

/// Headers of the tensors' files and the trainer state.
const BESIDES: u64 = 1 << 17;

/// Which checkpoints are to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// Steps that are behind.
    pub done: u64,
    /// Steps of the whole run.
    pub total: u64,
    /// Steps between two checkpoints; `None` = the last one only.
    pub every: Option<u64>,
    /// Checkpoints that are in the folder already.
    pub existing: u64,
    /// The newest that are kept.
    pub limit: Option<u64>,
}

impl Course {
    /// How many more checkpoints than now the folder holds at its fullest: one is written before an old one goes.
    #[must_use]
    pub fn most_at_once(&self) -> u64 {
        let last = u64::from(self.total > self.done);
        let coming = self.every.map_or(last, |every| {
            let every = every.max(1);
            let regular = self.total / every - (self.done / every).min(self.total / every);
            regular + last.min(u64::from(!self.total.is_multiple_of(every)))
        });
        let room = self.limit.map_or(coming, |limit| {
            (limit.max(1) + 1).saturating_sub(self.existing).max(1)
        });
        coming.min(room)
    }
}

/// Bytes that the checkpoints to come take at their fullest, each with the weights in their own formats, both moments of
/// every parameter that is trained as f32, all parameters as f32 where the model's files round them, and the small files
/// of the model in `base`.
#[must_use]
pub fn planned_bytes(learner: &Learner, run: &Run, base: &Path, course: &Course) -> u64 {
    let weights = &learner.weights;
    let adapter = weights.adapter().map(|adapter| {
        let values = adapter.iter().map(|(_, parameter)| parameter.count());
        4 * values.sum::<usize>() as u64
    });
    let stored = adapter.unwrap_or_else(|| weights.stored_bytes());
    let mut bytes = stored + model_files::bytes(base) + BESIDES;
    if !run.output.save_only_model {
        let trained = weights
            .iter()
            .filter(|(name, _)| learner.is_trainable(name));
        let values = trained.map(|(_, parameter)| parameter.shape.iter().product::<usize>());
        bytes += 8 * values.sum::<usize>() as u64;
        if !weights.stored_exactly() {
            let rounded = weights.rounded().filter(|name| learner.is_trainable(name));
            let values = rounded.filter_map(|name| Some(weights.get(name)?.count()));
            bytes += 4 * values.sum::<usize>() as u64;
        }
    }
    bytes.saturating_mul(course.most_at_once())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (done, total, every, existing, limit) -> how many more at once, counted by hand.
    #[test]
    fn the_fullest_moment_is_counted() {
        for (done, total, every, existing, limit, expected) in [
            (0, 10, None, 0, None, 1),          // the last one only
            (0, 10, Some(5), 0, None, 2),       // 5, 10
            (0, 11, Some(5), 0, None, 3),       // 5, 10, 11
            (0, 3, Some(5), 0, None, 1),        // 3
            (5, 11, Some(5), 1, None, 2),       // 10, 11
            (10, 10, Some(5), 2, None, 0),      // nothing is left to do
            (0, 100, Some(1), 0, Some(2), 3),   // two are kept while the third is written
            (0, 2, Some(1), 0, Some(5), 2),     // never five
            (50, 100, Some(10), 2, Some(2), 1), // the third while two are there
            (50, 100, Some(10), 9, Some(2), 1), // more than the limit are there
            (0, 10, Some(5), 0, Some(0), 2),    // at least one is kept
        ] {
            let course = Course {
                done,
                total,
                every,
                existing,
                limit,
            };
            assert_eq!(course.most_at_once(), expected, "{course:?}");
        }
    }
}
