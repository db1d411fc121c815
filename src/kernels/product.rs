//! Matrix products of parts of slices: on one thread, for CPU twins that share out parts themselves, or on all threads.
//! It knows no operation and no tensor.

use std::marker::PhantomData;

use gemm::Parallelism;

/// A matrix inside a slice: value (r, c) is at `r * row_stride + c * column_stride`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` values that begin every `row_stride` values.
    pub fn rows(values: &'a [f32], [rows, columns]: [usize; 2], row_stride: usize) -> Self {
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// Rows and columns exchanged, nothing moved.
    pub fn transposed(self) -> Self {
        Self {
            values: self.values,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn check(&self) {
        if self.rows > 0 && self.columns > 0 {
            let last = (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride;
            assert!(last < self.values.len(), "a matrix ends within its slice");
        }
    }
}

/// `result [rows, columns] (+)= factor * left · right`, dense and row by row; adds if `add`.
///
/// # Panics
/// If the sizes disagree.
pub(crate) fn multiply(
    result: &mut [f32],
    left: Matrix<'_>,
    right: Matrix<'_>,
    factor: f32,
    add: Sum,
) {
    let shape = [left.rows, right.columns];
    assert!(
        result.len() == left.rows * right.columns,
        "{shape:?} into {} values",
        result.len()
    );
    let whole = ResultParts::new(result, shape).whole();
    multiply_into(whole, left, right, factor, add);
}

/// `result [rows, columns] (+)= left · right`, as [`multiply`], on all threads.
///
/// # Panics
/// If the sizes disagree.
pub(crate) fn multiply_on_all_threads(
    result: &mut [f32],
    left: Matrix<'_>,
    right: Matrix<'_>,
    add: Sum,
) {
    let whole = ResultParts::new(result, [left.rows, right.columns]).whole();
    multiply_into(whole.on_all_threads(), left, right, 1.0, add);
}

/// The same into a part of a larger result.
///
/// # Panics
/// If the sizes disagree.
pub(crate) fn multiply_into(
    mut result: ResultPart<'_>,
    left: Matrix<'_>,
    right: Matrix<'_>,
    factor: f32,
    add: Sum,
) {
    left.check();
    right.check();
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    assert!(
        inner == right.rows && result.shape == [rows, columns],
        "[{rows}, {inner}] x [{}, {columns}] into {:?}",
        right.rows,
        result.shape
    );
    if rows == 0 || columns == 0 || inner == 0 {
        if add == Sum::Replace {
            for row in 0..rows {
                result.row(row).fill(0.0);
            }
        }
        return;
    }
    // SAFETY: the factors lie within their slices (checked above); the part of the result belongs to this call alone and
    // lies within its slice by construction; strides are those of slices in memory, which fit isize.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            result.start,
            1,
            result.row_stride as isize,
            add == Sum::Add,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            factor,
            false,
            false,
            false,
            result.threads,
        );
    }
}

/// A row-major matrix that is to be cut into parts, each for one thread.
pub(crate) struct ResultParts<'a> {
    values: &'a mut [f32],
    shape: [usize; 2],
}

impl<'a> ResultParts<'a> {
    /// The matrix in `values`.
    ///
    /// # Panics
    /// If the sizes disagree.
    pub fn new(values: &'a mut [f32], shape: [usize; 2]) -> Self {
        assert!(
            values.len() == shape[0] * shape[1],
            "{shape:?} in {} values",
            values.len()
        );
        Self { values, shape }
    }

    /// One part.
    pub fn whole(self) -> ResultPart<'a> {
        ResultPart {
            start: self.values.as_mut_ptr(),
            shape: self.shape,
            row_stride: self.shape[1],
            threads: Parallelism::None,
            slice: PhantomData,
        }
    }

    /// Parts of at most `rows` rows and `columns` columns; those of the same rows follow each other.
    pub fn tiles(self, [rows, columns]: [usize; 2]) -> Vec<ResultPart<'a>> {
        let [all_rows, all_columns] = self.shape;
        let start = self.values.as_mut_ptr();
        let mut parts = Vec::new();
        for row in (0..all_rows).step_by(rows) {
            for column in (0..all_columns).step_by(columns) {
                parts.push(ResultPart {
                    // SAFETY: row and column are within the matrix, which fills its slice.
                    start: unsafe { start.add(row * all_columns + column) },
                    shape: [rows.min(all_rows - row), columns.min(all_columns - column)],
                    row_stride: all_columns,
                    threads: Parallelism::None,
                    slice: PhantomData,
                });
            }
        }
        parts
    }
}

/// A rectangle of a row-major matrix, disjoint from all other parts of it.
pub(crate) struct ResultPart<'a> {
    start: *mut f32,
    shape: [usize; 2],
    row_stride: usize,
    threads: Parallelism,
    slice: PhantomData<&'a mut [f32]>,
}

// SAFETY: a part is an exclusive borrow of its rectangle, as `&mut [f32]` is of its values.
unsafe impl Send for ResultPart<'_> {}

impl ResultPart<'_> {
    /// Rows and columns.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// All threads share the work of its product.
    pub fn on_all_threads(self) -> Self {
        Self {
            threads: Parallelism::Rayon(0),
            ..self
        }
    }

    /// The values of one row.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn row(&mut self, row: usize) -> &mut [f32] {
        assert!(row < self.shape[0], "row {row} of {:?}", self.shape);
        // SAFETY: the row lies within the rectangle, which this part borrows exclusively.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.shape[1])
        }
    }
}

/// What becomes of the values that the result held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sum {
    /// They are added to.
    Add,
    /// They are replaced.
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strided_parts_are_multiplied_and_added() {
        let values: Vec<f32> = (0..24u8).map(f32::from).collect();
        // Columns 1..3 of rows 0..2 of a [4, 6] matrix, and columns 2..5 of its rows 2..4.
        let left = Matrix::rows(&values[1..], [2, 2], 6);
        let right = Matrix::rows(&values[14..], [2, 3], 6);
        let mut result = vec![1.0; 6];
        multiply(&mut result, left, right, 0.5, Sum::Add);
        assert_eq!(result, [28.0, 29.5, 31.0, 130.0, 137.5, 145.0]);
        let mut transposed = vec![f32::NAN; 9];
        multiply(
            &mut transposed,
            right.transposed(),
            right,
            1.0,
            Sum::Replace,
        );
        assert_eq!(transposed[..3], [596.0, 630.0, 664.0]);
    }

    #[test]
    fn parts_of_a_result_are_disjoint_and_cover_it() {
        let mut values = vec![0.0; 5 * 7];
        let parts = ResultParts::new(&mut values, [5, 7]).tiles([2, 3]);
        let one = [1.0];
        assert_eq!(parts.len(), 9);
        for (index, part) in parts.into_iter().enumerate() {
            let [rows, columns] = part.shape();
            let constant = |shape, row_stride, column_stride| Matrix {
                row_stride,
                column_stride,
                ..Matrix::rows(&one, shape, 1)
            };
            let left = constant([rows, 1], 0, 0);
            let right = constant([1, columns], 0, 0);
            multiply_into(part, left, right, index as f32 + 1.0, Sum::Add);
        }
        let rows: Vec<&[f32]> = values.chunks(7).collect();
        assert_eq!(rows[1], [1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 3.0]);
        assert_eq!(rows[4], [7.0, 7.0, 7.0, 8.0, 8.0, 8.0, 9.0]);
    }

    #[test]
    #[should_panic(expected = "a matrix ends within its slice")]
    fn a_matrix_that_leaves_its_slice_is_refused() {
        let values = [0.0; 5];
        let matrix = Matrix::rows(&values, [2, 3], 3);
        multiply(
            &mut [0.0; 4],
            matrix,
            matrix.transposed(),
            1.0,
            Sum::Replace,
        );
    }
}
