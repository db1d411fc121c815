//! Gradients by parameter name: accumulation, the global norm, clipping, and the check that they are finite.

use std::collections::BTreeMap;

use burn::tensor::{IndexingUpdateOp, Tensor, TensorData};

use crate::device::{DeviceFailure, read_back};

/// Flat gradients by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor<1>>,
}

/// The global norm, or the first tensor that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub enum GradientNorm {
    /// All values are finite.
    Finite {
        /// Square root of the sum of all squares.
        norm: f64,
        /// The tensor that adds most to it; empty without any.
        largest: String,
    },
    /// A NaN or infinity was found.
    NotFinite {
        /// The first tensor that has one, in the order of the names.
        tensor: String,
    },
}

impl Gradients {
    /// Adds `gradient` to what is already there under `name`.
    pub fn add(&mut self, name: &str, gradient: Tensor<1>) {
        let sum = match self.tensors.remove(name) {
            Some(sum) => sum + gradient,
            None => gradient,
        };
        self.tensors.insert(name.to_owned(), sum);
    }

    /// Adds rows of the gradient of a table [rows, D]: `values[i]` to row `ids[i]`. No second table is made.
    pub fn add_rows(&mut self, name: &str, rows: usize, ids: &[u32], values: Tensor<2>) {
        let ([_, width], device) = (values.dims(), values.device());
        let sum = match self.tensors.remove(name) {
            Some(sum) => sum,
            None => Tensor::zeros([rows * width], &device),
        };
        let indices: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
        let indices = Tensor::from_data(TensorData::new(indices, [ids.len()]), &device);
        let table = sum.reshape([rows, width]);
        let table = table.select_assign(0, indices, values, IndexingUpdateOp::Add);
        self.tensors
            .insert(name.to_owned(), table.reshape([rows * width]));
    }

    /// Names and gradients in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Tensor<1>)> {
        self.tensors.iter()
    }

    /// Takes everything out.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The global norm over all tensors; one readback, and a second one where squares overflow f32.
    ///
    /// # Errors
    /// If the device fails.
    pub fn norm(&self) -> Result<GradientNorm, DeviceFailure> {
        let mut squares = self.read(self.tensors.values().map(sum_of_squares).collect())?;
        // A sum that is not finite may be that of large finite values: those are squared again relative to the largest.
        let overflown: Vec<usize> = (0..squares.len())
            .filter(|index| !squares[*index].is_finite())
            .collect();
        if !overflown.is_empty() {
            let tensors: Vec<&Tensor<1>> = self.tensors.values().collect();
            let parts = overflown
                .iter()
                .flat_map(|index| scaled_squares(tensors[*index]));
            let parts = self.read(parts.collect())?;
            for (index, part) in overflown.into_iter().zip(parts.chunks_exact(2)) {
                squares[index] = part[0] * part[0] * part[1];
            }
        }
        let named = || self.tensors.keys().zip(&squares);
        if let Some((tensor, _)) = named().find(|(_, square)| !square.is_finite()) {
            return Ok(GradientNorm::NotFinite {
                tensor: tensor.clone(),
            });
        }
        let largest = named().max_by(|a, b| a.1.total_cmp(b.1));
        Ok(GradientNorm::Finite {
            norm: squares.iter().sum::<f64>().sqrt(),
            largest: largest.map_or_else(String::new, |(tensor, _)| tensor.clone()),
        })
    }

    /// Numbers [1] each, in one readback.
    fn read(&self, numbers: Vec<Tensor<1>>) -> Result<Vec<f64>, DeviceFailure> {
        if numbers.is_empty() {
            return Ok(Vec::new());
        }
        let values = read_back(&Tensor::cat(numbers, 0))?;
        Ok(values.into_iter().map(f64::from).collect())
    }

    /// Scales all gradients so that the global norm is at most `max_norm`, as torch's `clip_grad_norm_`.
    pub fn clip(&mut self, norm: f64, max_norm: f64) {
        let factor = max_norm / (norm + 1e-6);
        if factor < 1.0 {
            for gradient in self.tensors.values_mut() {
                *gradient = gradient.clone().mul_scalar(factor);
            }
        }
    }
}

impl IntoIterator for Gradients {
    type Item = (String, Tensor<1>);
    type IntoIter = std::collections::btree_map::IntoIter<String, Tensor<1>>;

    fn into_iter(self) -> Self::IntoIter {
        self.tensors.into_iter()
    }
}

fn sum_of_squares(gradient: &Tensor<1>) -> Tensor<1> {
    (gradient.clone() * gradient.clone()).sum()
}

/// The largest magnitude m and the sum of the squares of all values / m. A NaN or an infinity makes the sum NaN.
fn scaled_squares(gradient: &Tensor<1>) -> [Tensor<1>; 2] {
    let largest = gradient.clone().abs().max();
    let scaled = gradient.clone() / largest.clone();
    [largest, sum_of_squares(&scaled)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::Device;

    fn gradients(values: &[(&str, [f32; 2])]) -> Gradients {
        let mut gradients = Gradients::default();
        for (name, value) in values {
            gradients.add(name, Tensor::from_floats(*value, &Device::flex()));
        }
        gradients
    }

    fn norm(gradients: &Gradients) -> f64 {
        match gradients.norm().expect("the CPU answers") {
            GradientNorm::Finite { norm, .. } => norm,
            GradientNorm::NotFinite { tensor } => panic!("{tensor} is not finite"),
        }
    }

    #[test]
    fn the_norm_is_global_and_clipping_keeps_the_direction() {
        let mut all = gradients(&[("a", [3.0, 0.0]), ("b", [0.0, 4.0])]);
        assert_eq!(norm(&all), 5.0, "3-4-5 over two tensors");
        all.clip(5.0, 1.0);
        let clipped = norm(&all);
        assert!(
            (clipped - 1.0).abs() < 1e-5,
            "clipped to 1, found {clipped}"
        );
        let before = all.clone();
        all.clip(clipped, 2.0);
        assert_eq!(norm(&all), norm(&before), "a small norm is left alone");
        assert_eq!(norm(&Gradients::default()), 0.0);
    }

    /// 3e25 and 4e25: their squares are no f32, their norm is.
    #[test]
    fn large_gradients_are_finite() {
        let all = gradients(&[("a", [3e25, 0.0]), ("b", [0.0, -4e25]), ("c", [1.0, 2.0])]);
        let GradientNorm::Finite { norm, largest } = all.norm().expect("the CPU answers") else {
            panic!("all are finite")
        };
        assert!((norm / 5e25 - 1.0).abs() < 1e-6, "{norm}");
        assert_eq!(largest, "b");
        let mut clipped = all;
        clipped.clip(norm, 1.0);
        assert!((self::norm(&clipped) - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_tensor_with_nan_or_infinity_is_named() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let all = gradients(&[("a", [1e30, 1.0]), ("b", [bad, 0.0])]);
            let expected = GradientNorm::NotFinite {
                tensor: "b".to_owned(),
            };
            assert_eq!(all.norm(), Ok(expected), "b holds the {bad}");
        }
    }

    #[test]
    fn rows_of_a_table_add_up() {
        let device = Device::flex();
        let values = Tensor::<2>::from_floats([[1.0, 2.0], [10.0, 20.0], [0.5, 0.0]], &device);
        let mut all = Gradients::default();
        all.add_rows("t", 4, &[3, 1, 3], values.clone());
        all.add_rows("t", 4, &[0, 0, 0], values);
        let (_, sum) = all.into_iter().next().expect("one table");
        let sum: Vec<f32> = sum.into_data().try_into_vec().expect("f32");
        assert_eq!(sum, [11.5, 22.0, 10.0, 20.0, 0.0, 0.0, 1.5, 2.0]);
    }

    #[test]
    fn gradients_add_up() {
        let all = gradients(&[("a", [1.0, 2.0]), ("a", [2.0, 2.0])]);
        assert_eq!(norm(&all), 5.0, "[3, 4]");
    }
}
