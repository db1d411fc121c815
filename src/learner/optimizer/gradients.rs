//! Gradients by parameter name: accumulation, the global norm, clipping, and the check that they are finite.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

/// Flat gradients by parameter name.
#[derive(Debug, Clone, Default)]
pub struct Gradients {
    tensors: BTreeMap<String, Tensor<1>>,
}

/// The global norm, or the first tensor that is not finite.
#[derive(Debug, Clone, PartialEq)]
pub enum GradientNorm {
    /// Square root of the sum of all squares.
    Finite(f64),
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

    /// The global norm over all tensors; one readback.
    #[must_use]
    pub fn norm(&self) -> GradientNorm {
        if self.tensors.is_empty() {
            return GradientNorm::Finite(0.0);
        }
        let squares = self
            .tensors
            .values()
            .map(|gradient| (gradient.clone() * gradient.clone()).sum())
            .collect();
        let squares = Tensor::<1>::cat(squares, 0)
            .try_into_vec_as::<f32>()
            .expect("the device answers");
        match self
            .tensors
            .keys()
            .zip(&squares)
            .find(|(_, square)| !square.is_finite())
        {
            Some((tensor, _)) => GradientNorm::NotFinite {
                tensor: tensor.clone(),
            },
            None => GradientNorm::Finite(
                squares
                    .iter()
                    .map(|square| f64::from(*square))
                    .sum::<f64>()
                    .sqrt(),
            ),
        }
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

    #[test]
    fn the_norm_is_global_and_clipping_keeps_the_direction() {
        let mut all = gradients(&[("a", [3.0, 0.0]), ("b", [0.0, 4.0])]);
        assert_eq!(
            all.norm(),
            GradientNorm::Finite(5.0),
            "3-4-5 over two tensors"
        );
        all.clip(5.0, 1.0);
        let GradientNorm::Finite(norm) = all.norm() else {
            panic!("finite")
        };
        assert!((norm - 1.0).abs() < 1e-5, "clipped to 1, found {norm}");
        let before = all.clone();
        all.clip(norm, 2.0);
        assert_eq!(all.norm(), before.norm(), "a small norm is left alone");
    }

    #[test]
    fn a_tensor_with_nan_is_named() {
        let all = gradients(&[("a", [1.0, 1.0]), ("b", [f32::NAN, 0.0])]);
        assert_eq!(
            all.norm(),
            GradientNorm::NotFinite {
                tensor: "b".to_owned()
            },
            "b holds the NaN"
        );
    }

    #[test]
    fn gradients_add_up() {
        let all = gradients(&[("a", [1.0, 2.0]), ("a", [2.0, 2.0])]);
        assert_eq!(all.norm(), GradientNorm::Finite(5.0), "[3, 4]");
    }
}
