//! Matrix products of parts of slices, on one thread: what the CPU twins share out among threads themselves.
//! It knows no operation and no tensor.

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
    left.check();
    right.check();
    let (rows, columns, inner) = (left.rows, right.columns, left.columns);
    assert!(
        inner == right.rows && result.len() == rows * columns,
        "[{rows}, {inner}] x [{}, {columns}] into {} values",
        right.rows,
        result.len()
    );
    if rows == 0 || columns == 0 || inner == 0 {
        if add == Sum::Replace {
            result.fill(0.0);
        }
        return;
    }
    // SAFETY: all three matrices lie within their slices (checked above), `result` is borrowed exclusively, and strides
    // are those of slices in memory, which fit isize.
    unsafe {
        gemm::gemm(
            rows,
            columns,
            inner,
            result.as_mut_ptr(),
            1,
            columns as isize,
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
            gemm::Parallelism::None,
        );
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
