//! AdamW with torch's semantics.
//!
//! `p ← p (1 − lr·wd)`, `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`,
//! `p ← p − lr/(1−β₁ᵗ) · m / (sqrt(v)/sqrt(1−β₂ᵗ) + ε)`: `torch.optim.AdamW`, one tensor at a time.
//! State is by parameter name, so that it can be saved next to any checkpoint.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::Parameters;
use super::gradients::Gradients;

/// The constants.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWOptions {
    /// β₁, decay of the mean.
    pub beta1: f64,
    /// β₂, decay of the mean square.
    pub beta2: f64,
    /// ε, added to the root.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Whether biases and norms decay too; transformers' Trainer leaves them out, plain torch does not.
    pub decay_everything: bool,
}

impl Default for AdamWOptions {
    /// transformers' `TrainingArguments`: no decay.
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decay_everything: false,
        }
    }
}

#[derive(Debug, Clone)]
struct Moments {
    mean: Tensor<1>,
    mean_square: Tensor<1>,
}

/// The optimizer and its state.
#[derive(Debug, Clone)]
pub struct AdamW {
    options: AdamWOptions,
    step: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// A fresh optimizer.
    #[must_use]
    pub const fn new(options: AdamWOptions) -> Self {
        Self {
            options,
            step: 0,
            moments: BTreeMap::new(),
        }
    }

    /// Updates taken so far.
    #[must_use]
    pub const fn steps_taken(&self) -> u64 {
        self.step
    }

    /// One update of every parameter that has a gradient.
    pub fn step(
        &mut self,
        parameters: &mut impl Parameters,
        gradients: &Gradients,
        learning_rate: f64,
    ) {
        self.step += 1;
        let AdamWOptions {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            decay_everything,
        } = self.options;
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let rate = learning_rate / (1.0 - beta1.powi(exponent));
        let root_correction = (1.0 - beta2.powi(exponent)).sqrt();
        for (name, gradient) in gradients.iter() {
            let Some(value) = parameters.value(name) else {
                continue;
            };
            let moments = self.moments.remove(name).unwrap_or_else(|| Moments {
                mean: gradient.zeros_like(),
                mean_square: gradient.zeros_like(),
            });
            let mean = moments.mean.mul_scalar(beta1) + gradient.clone().mul_scalar(1.0 - beta1);
            let square = gradient.clone() * gradient.clone();
            let mean_square =
                moments.mean_square.mul_scalar(beta2) + square.mul_scalar(1.0 - beta2);
            let denominator = mean_square
                .clone()
                .sqrt()
                .div_scalar(root_correction)
                .add_scalar(epsilon);
            let decay = if decay_everything || parameters.decays(name) {
                1.0 - learning_rate * weight_decay
            } else {
                1.0
            };
            let value = value.mul_scalar(decay) - (mean.clone() / denominator).mul_scalar(rate);
            parameters.replace(name, value);
            self.moments
                .insert(name.clone(), Moments { mean, mean_square });
        }
    }

    /// The state as named flat tensors: `exp_avg.<parameter>` and `exp_avg_sq.<parameter>` (torch's words).
    pub fn state(&self) -> impl Iterator<Item = (String, &Tensor<1>)> {
        self.moments.iter().flat_map(|(name, moments)| {
            [
                (format!("exp_avg.{name}"), &moments.mean),
                (format!("exp_avg_sq.{name}"), &moments.mean_square),
            ]
        })
    }

    /// Takes up a saved state: the updates taken, and (mean, mean square) by parameter name.
    pub fn restore(&mut self, step: u64, moments: BTreeMap<String, (Tensor<1>, Tensor<1>)>) {
        self.step = step;
        let moments = moments.into_iter();
        self.moments = moments
            .map(|(name, (mean, mean_square))| (name, Moments { mean, mean_square }))
            .collect();
    }

    /// Number of parameters that have been updated.
    #[must_use]
    pub fn num_parameters(&self) -> usize {
        self.moments.len()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    /// Parameters of which every one decays.
    #[derive(Clone)]
    struct Plain(BTreeMap<String, Tensor<1>>);

    impl Parameters for Plain {
        fn value(&self, name: &str) -> Option<Tensor<1>> {
            self.0.get(name).cloned()
        }

        fn replace(&mut self, name: &str, value: Tensor<1>) {
            self.0.insert(name.to_owned(), value);
        }

        fn decays(&self, _: &str) -> bool {
            true
        }
    }

    impl Plain {
        fn new<const N: usize>(values: [f32; N]) -> Self {
            let value = Tensor::from_floats(values, &Device::flex());
            Self([("w".to_owned(), value)].into())
        }

        fn values(&self) -> Vec<f32> {
            let value = self.0["w"].clone().into_data();
            value.try_into_vec().expect("f32")
        }
    }

    const TORCH: AdamWOptions = AdamWOptions {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
        decay_everything: true,
    };

    /// Two steps on one value, worked out by hand from the formula.
    #[test]
    fn two_steps_match_hand_numbers() {
        let mut weights = Plain::new([1.0]);
        let mut optimizer = AdamW::new(TORCH);
        for gradient in [0.5f32, -0.25] {
            let mut gradients = Gradients::default();
            gradients.add("w", Tensor::from_floats([gradient], &Device::flex()));
            optimizer.step(&mut weights, &gradients, 0.1);
        }
        // Step 1: 1·0.999 − 0.1·0.5/0.5 = 0.899. Step 2: m = 0.9·0.05 − 0.025 = 0.02, v = 0.999·0.00025 + 0.0000625
        // = 0.00031225; 0.899·0.999 − 0.1/0.19·0.02/(sqrt(0.00031225)/sqrt(0.001999)) = 0.898101 − 0.026634 = 0.871467.
        let value = weights.values()[0];
        assert!((value - 0.871_467).abs() < 2e-6, "found {value}");
    }

    /// Ten steps at once, and five that another optimizer goes on from.
    #[test]
    fn a_restored_optimizer_goes_on_where_it_was() {
        let mut weights = Plain::new([1.0, -2.0]);
        let step = |optimizer: &mut AdamW, weights: &mut Plain, index: usize| {
            let mut gradients = Gradients::default();
            let gradient = [0.3 * index as f32, 1.0 / (1.0 + index as f32)];
            gradients.add("w", Tensor::from_floats(gradient, &Device::flex()));
            optimizer.step(weights, &gradients, 0.1);
        };
        let (mut whole, mut first) = (AdamW::new(TORCH), AdamW::new(TORCH));
        let mut resumed = weights.clone();
        (0..10).for_each(|index| step(&mut whole, &mut weights, index));
        (0..5).for_each(|index| step(&mut first, &mut resumed, index));
        let state: BTreeMap<String, Tensor<1>> = first
            .state()
            .map(|(name, tensor)| (name, tensor.clone()))
            .collect();
        let moments = (state["exp_avg.w"].clone(), state["exp_avg_sq.w"].clone());
        let mut second = AdamW::new(TORCH);
        second.restore(first.steps_taken(), [("w".to_owned(), moments)].into());
        (5..10).for_each(|index| step(&mut second, &mut resumed, index));
        assert_eq!(resumed.values(), weights.values());
        assert_eq!((second.steps_taken(), second.num_parameters()), (10, 1));
    }
}
