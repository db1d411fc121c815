//! Checks shapes by letter: the same letter is the same size in every tensor of one operation.
//! It knows neither devices nor what an operation computes.

use std::collections::BTreeMap;

/// Sizes of the letters of one operation, filled tensor by tensor.
#[derive(Debug)]
pub(crate) struct ShapeCheck {
    operation: &'static str,
    sizes: BTreeMap<char, (usize, &'static str)>,
}

impl ShapeCheck {
    /// Starts the check of one call of `operation`.
    pub(crate) fn new(operation: &'static str) -> Self {
        Self {
            operation,
            sizes: BTreeMap::new(),
        }
    }

    /// Adds a tensor: one letter of `letters` per dimension.
    ///
    /// # Panics
    /// If the number of dimensions or a size disagrees, with both tensors and sizes.
    pub(crate) fn tensor(mut self, name: &'static str, letters: &str, shape: &[usize]) -> Self {
        let operation = self.operation;
        assert!(
            letters.chars().count() == shape.len(),
            "{operation}: `{name}` must have dimensions [{letters}], found {shape:?}"
        );
        for (letter, &size) in letters.chars().zip(shape) {
            let &mut (expected, first) = self.sizes.entry(letter).or_insert((size, name));
            assert!(
                expected == size,
                "{operation}: {letter} is {expected} in `{first}` and {size} in `{name}` {shape:?}"
            );
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_letters_have_equal_sizes() {
        ShapeCheck::new("product")
            .tensor("hidden", "TD", &[3, 8])
            .tensor("weight", "VD", &[5, 8]);
    }

    #[test]
    #[should_panic(expected = "product: D is 8 in `hidden` and 7 in `weight` [5, 7]")]
    fn a_different_size_names_both_tensors() {
        ShapeCheck::new("product")
            .tensor("hidden", "TD", &[3, 8])
            .tensor("weight", "VD", &[5, 7]);
    }

    #[test]
    #[should_panic(expected = "`hidden` must have dimensions [TD], found [3]")]
    fn a_missing_dimension_is_named() {
        ShapeCheck::new("product").tensor("hidden", "TD", &[3]);
    }
}
