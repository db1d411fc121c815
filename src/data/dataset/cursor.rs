//! Which rows come next: a seeded shuffle per epoch that can be saved and continued. It knows no row's content.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};
use serde::{Deserialize, Serialize};

use super::error::DatasetError;

/// A place in an endless sequence of epochs over `rows` rows.
///
/// The order depends on (`seed`, `epoch`, `rows`) alone and is the same on every platform; what is saved is
/// `{rows: 4, seed: 42, shuffle: true, epoch: 1, position: 2}`, the order itself is computed again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Cursor {
    rows: usize,
    seed: u64,
    shuffle: bool,
    epoch: u64,
    position: usize,
    /// The order of the current epoch, empty until it is first needed.
    #[serde(skip)]
    order: Vec<usize>,
}

impl Cursor {
    /// A cursor at the start of epoch 0; without `shuffle` every epoch has the order of the files.
    #[must_use]
    pub const fn new(rows: usize, seed: u64, shuffle: bool) -> Self {
        Self {
            rows,
            seed,
            shuffle,
            epoch: 0,
            position: 0,
            order: Vec::new(),
        }
    }

    /// The next `count` row indices, going on into the next epoch where one ends. Empty if there are no rows.
    pub fn next(&mut self, count: usize) -> Vec<usize> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count && self.rows > 0 {
            if self.position == self.rows {
                self.epoch += 1;
                self.position = 0;
                self.order.clear();
            }
            if self.order.len() != self.rows {
                self.order = epoch_order(self.rows, self.seed, self.epoch, self.shuffle);
            }
            taken.push(self.order[self.position]);
            self.position += 1;
        }
        taken
    }

    /// The next `count` row indices of one pass over the data: fewer where it ends. Empty if there are no rows.
    pub fn next_of_pass(&mut self, count: usize) -> Vec<usize> {
        let left = self.rows - self.position;
        let of_pass = if left == 0 { self.rows } else { left };
        self.next(count.min(of_pass))
    }

    /// Completed passes over the data.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Rows taken of the current epoch; equal to the number of rows at its end.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// Passes over the data including the current one's share (the metric `epoch`).
    #[must_use]
    pub fn progress(&self) -> f64 {
        self.epoch as f64 + self.position as f64 / self.rows.max(1) as f64
    }

    /// Checks a saved cursor against the data set it is to continue in.
    ///
    /// # Errors
    /// The data set has another number of rows.
    pub fn check(&self, rows: usize) -> Result<(), DatasetError> {
        if self.rows == rows && self.position <= rows {
            Ok(())
        } else {
            Err(DatasetError::PositionMismatch {
                saved: self.rows,
                found: rows,
            })
        }
    }
}

/// Fisher-Yates over ChaCha8, one stream of the generator per epoch. The draw is written out because a random
/// library may change its own between versions, and a resumed run must see the same order.
fn epoch_order(rows: usize, seed: u64, epoch: u64, shuffle: bool) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    if shuffle {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(epoch);
        for last in (1..rows).rev() {
            let product = u128::from(generator.next_u64()) * (last as u128 + 1);
            order.swap(last, (product >> 64) as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_is_another_permutation() {
        let mut cursor = Cursor::new(50, 42, true);
        let first = cursor.next(50);
        let second = cursor.next(50);
        assert_ne!(first, second);
        for epoch in [first, second] {
            let mut sorted = epoch;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_order_is_fixed_for_ever() {
        // A change of these numbers would reorder the rest of every saved run.
        assert_eq!(
            Cursor::new(8, 42, true).next(16),
            [4, 7, 0, 1, 3, 2, 6, 5, 6, 3, 7, 0, 4, 2, 1, 5]
        );
        assert_ne!(
            Cursor::new(8, 43, true).next(8),
            Cursor::new(8, 42, true).next(8)
        );
    }

    #[test]
    fn batches_run_over_the_end_of_an_epoch() {
        let mut cursor = Cursor::new(3, 0, false);
        assert_eq!(cursor.next(2), [0, 1]);
        assert_eq!(cursor.next(5), [2, 0, 1, 2, 0]);
        assert_eq!((cursor.epoch(), cursor.position()), (2, 1));
        assert!((cursor.progress() - 7.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn batches_of_a_pass_end_with_it() {
        let mut cursor = Cursor::new(5, 0, false);
        assert_eq!(cursor.next_of_pass(3), [0, 1, 2]);
        assert_eq!(cursor.next_of_pass(3), [3, 4]);
        assert!((cursor.progress() - 1.0).abs() < 1e-12);
        assert_eq!(cursor.next_of_pass(9), [0, 1, 2, 3, 4]);
        assert_eq!(cursor.next_of_pass(2), [0, 1]);
        assert!(Cursor::new(0, 0, false).next_of_pass(2).is_empty());
    }

    #[test]
    fn a_saved_cursor_continues_where_it_stood() {
        for taken in [0, 3, 7, 10] {
            let mut whole = Cursor::new(7, 5, true);
            let expected = whole.next(30);
            let mut first = Cursor::new(7, 5, true);
            let before = first.next(taken);
            let text = serde_json::to_string(&first).unwrap();
            let mut restored: Cursor = serde_json::from_str(&text).unwrap();
            let after = restored.next(30 - taken);
            assert_eq!([before, after].concat(), expected);
        }
    }

    #[test]
    fn a_cursor_of_another_data_set_is_refused() {
        assert!(Cursor::new(7, 5, true).check(7).is_ok());
        let text = Cursor::new(7, 5, true).check(8).unwrap_err().to_string();
        assert!(text.contains("of 7 rows, this one has 8"), "{text}");
    }

    #[test]
    fn no_rows_give_no_indices() {
        assert!(Cursor::new(0, 1, true).next(4).is_empty());
    }
}
