//! The parts in which logits exist: tiles of the vocabulary, and parts of the rows where there are very many.
//! It knows sizes only.

use std::ops::Range;

/// Most bytes of logits, and of the rows of the head that they are made of, that exist at a time: half of what every
/// adapter accepts as one storage binding (128 MiB).
pub const LOGITS_CHUNK_BYTES: usize = 64 << 20;

/// Tiles begin at multiples of it: whole words of four values, and parts of the head that need no copy to be bound.
const ALIGNMENT: usize = 64;
/// Columns of a tile for which rows are taken in parts.
const NARROWEST: usize = 1024;

/// How `[T, V]` logits are cut.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles {
    rows: usize,
    rows_at_once: usize,
    vocabulary: usize,
    columns_at_once: usize,
}

impl Tiles {
    /// Tiles of `[rows, vocabulary]` logits of hidden states of `width` values, of at most `bytes` each.
    pub(super) fn new([rows, width, vocabulary]: [usize; 3], bytes: usize) -> Self {
        let values = bytes / size_of::<f32>();
        let rows_at_once = rows.min(values / NARROWEST).max(1);
        let columns = values / rows_at_once.max(width);
        let columns_at_once = match columns {
            0 => 1,
            1..ALIGNMENT => columns,
            _ => columns / ALIGNMENT * ALIGNMENT,
        };
        Self {
            rows,
            rows_at_once,
            vocabulary,
            columns_at_once,
        }
    }

    /// Number of rows of all logits.
    pub(super) const fn row_count(&self) -> usize {
        self.rows
    }

    /// Number of columns of all logits.
    pub(super) const fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// The tiles of the vocabulary.
    pub(super) fn columns(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        parts(self.vocabulary, self.columns_at_once)
    }

    /// The parts of the rows; mostly one.
    pub(super) fn rows(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        parts(self.rows, self.rows_at_once)
    }
}

fn parts(count: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    (0..count)
        .step_by(size)
        .map(move |start| start..(start + size).min(count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_everything_and_stay_below_the_budget() {
        for (rows, width, vocabulary) in [
            (1, 1, 1),
            (7, 896, 151_936),
            (1024, 896, 151_936),
            (100_000, 64, 32_003),
            (3, 100_000, 5000),
        ] {
            let tiles = Tiles::new([rows, width, vocabulary], LOGITS_CHUNK_BYTES);
            let cover = |parts: Vec<Range<usize>>, count: usize| {
                let mut next = 0;
                for part in &parts {
                    assert!(part.start == next && part.end > next, "{part:?}");
                    next = part.end;
                }
                assert_eq!(next, count);
                parts.iter().map(ExactSizeIterator::len).max().unwrap_or(0)
            };
            let height = cover(tiles.rows().collect(), rows);
            let columns = cover(tiles.columns().collect(), vocabulary);
            for values in [height * columns, width * columns] {
                assert!(values * 4 <= LOGITS_CHUNK_BYTES, "{tiles:?}");
            }
            assert!(tiles.columns().all(|tile| tile.start % ALIGNMENT == 0));
        }
    }

    #[test]
    fn one_tile_where_everything_fits_and_narrow_ones_where_little_does() {
        let whole = Tiles::new([64, 64, 3000], LOGITS_CHUNK_BYTES);
        assert_eq!(whole.columns().collect::<Vec<_>>(), [0..3000]);
        let narrow = Tiles::new([3, 5, 29], 4 * 5 * 7);
        assert_eq!(
            narrow.columns().map(|tile| tile.end).collect::<Vec<_>>(),
            [7, 14, 21, 28, 29]
        );
        assert_eq!(narrow.rows().count(), 3, "and one row at a time");
        assert_eq!(Tiles::new([0, 5, 29], LOGITS_CHUNK_BYTES).rows().count(), 0);
    }
}
