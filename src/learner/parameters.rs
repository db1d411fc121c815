//! What the optimizer asks of a model's parameters.
//!
//! Knows nothing of how they are updated.

use burn::tensor::Tensor;

use super::optimizer::Parameters;
use crate::model::parameters::{Weights, spec};

impl Parameters for Weights {
    fn change(&mut self, name: &str, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> bool {
        let Some(values) = self.take(name) else {
            return false;
        };
        self.replace(name, change(values));
        true
    }

    fn decays(&self, name: &str) -> bool {
        spec::decays(name)
    }
}
