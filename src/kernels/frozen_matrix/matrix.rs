//! A weight matrix that never changes, in the bits in which it is stored. It knows no tensor and no product.

use std::ops::Range;

use rayon::prelude::*;

use super::decode::Row;
use super::encode::encode_row;
use super::storage::{SharedBytes, Storage, Stored};
use super::upload::Uploads;
use crate::kernels::vector_math::{rows_per_task, run};

/// An immutable matrix `[rows, columns]` = `[out, in]`; it lives in an `Arc`.
///
/// On the CPU device its bytes are read where they are. On a GPU they are uploaded once.
pub struct FrozenMatrix {
    shape: [usize; 2],
    storage: Storage,
    bytes: SharedBytes,
    pub(super) uploads: Uploads,
}

impl FrozenMatrix {
    /// Bytes of a matrix of this shape.
    #[must_use]
    pub fn byte_count([rows, columns]: [usize; 2], storage: Storage) -> usize {
        rows * storage.row_bytes(columns)
    }

    /// A matrix whose values are in `bytes`, which need not be aligned.
    ///
    /// # Panics
    /// If the number of bytes is not [`Self::byte_count`].
    #[must_use]
    pub fn new(shape: [usize; 2], storage: Storage, bytes: SharedBytes) -> Self {
        let expected = Self::byte_count(shape, storage);
        assert!(
            bytes.len() == expected,
            "a matrix {shape:?} in {storage:?} has {expected} bytes, found {}",
            bytes.len()
        );
        Self {
            shape,
            storage,
            bytes,
            uploads: Uploads::default(),
        }
    }

    /// `[rows, columns]`
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Its number format.
    #[must_use]
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// The stored bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same matrix in another storage, rounded to it; no copy of all values as f32 exists on the way.
    #[must_use]
    pub fn stored_as(&self, storage: Storage) -> Self {
        if storage == self.storage {
            return Self::new(self.shape, storage, self.bytes.clone());
        }
        let [_, columns] = self.shape;
        let mut bytes = vec![0; Self::byte_count(self.shape, storage)];
        bytes
            .par_chunks_exact_mut(storage.row_bytes(columns).max(1))
            .enumerate()
            .with_min_len(rows_per_task(columns))
            .for_each_init(
                || vec![0.0; columns],
                |values, (row, bytes)| {
                    self.copy_row(row, 0..columns, values);
                    encode_row(storage, values, bytes);
                },
            );
        Self::new(self.shape, storage, bytes.into())
    }

    /// The values of some rows, row by row.
    ///
    /// # Panics
    /// If the rows are outside of the matrix, or `out` has not the length of so many rows.
    pub fn copy_rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let [_, columns] = self.shape;
        self.check_rows(&rows);
        assert!(
            out.len() == rows.len() * columns,
            "{} rows of {columns} values into {} values",
            rows.len(),
            out.len()
        );
        out.par_chunks_exact_mut(columns.max(1))
            .enumerate()
            .with_min_len(rows_per_task(columns))
            .for_each(|(index, values)| {
                self.copy_row(rows.start + index, 0..columns, values);
            });
    }

    /// Values of one row; `columns` begins at a multiple of the block size.
    pub(super) fn copy_row(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        run(Row::new(self.stored(), row, columns, out));
    }

    /// Its values as they lie in memory.
    #[inline(always)]
    pub(super) fn stored(&self) -> Stored<'_> {
        Stored {
            storage: self.storage,
            shape: self.shape,
            bytes: &self.bytes,
        }
    }

    /// # Panics
    /// If the rows are outside of the matrix.
    pub(super) fn check_rows(&self, rows: &Range<usize>) {
        assert!(
            rows.start <= rows.end && rows.end <= self.shape[0],
            "rows {rows:?} of a matrix {:?}",
            self.shape
        );
    }
}

impl std::fmt::Debug for FrozenMatrix {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "FrozenMatrix {:?} {:?}",
            self.shape, self.storage
        )
    }
}
