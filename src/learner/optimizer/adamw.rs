//! AdamW with torch's semantics.
//!
//! `p ← p (1 − lr·wd)`, `m ← β₁ m + (1−β₁) g`, `v ← β₂ v + (1−β₂) g²`,
//! `p ← p − lr/(1−β₁ᵗ) · m / (sqrt(v)/sqrt(1−β₂ᵗ) + ε)`: `torch.optim.AdamW`, one tensor at a time.
//! State is by parameter name, so that it can be saved next to any checkpoint.

use std::collections::BTreeMap;

use burn::tensor::Tensor;

use super::Parameters;
use super::gradients::Gradients;
use crate::kernels::{AdamWState, AdamWStep, adamw};

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

impl Moments {
    const fn new(mean: Tensor<1>, mean_square: Tensor<1>) -> Self {
        Self { mean, mean_square }
    }
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
        self.begin_step();
        for (name, gradient) in gradients.iter() {
            self.update(parameters, name, gradient.clone(), learning_rate);
        }
    }

    /// Counts one more update; its parameters follow one by one through [`AdamW::update`], each at most once.
    pub const fn begin_step(&mut self) {
        self.step += 1;
    }

    /// Updates one parameter in the step that was begun, in the memory of its values and moments.
    ///
    /// Nothing happens if there is no parameter of this name. The moments are lost if the device fails meanwhile.
    pub fn update(
        &mut self,
        parameters: &mut impl Parameters,
        name: &str,
        gradient: Tensor<1>,
        learning_rate: f64,
    ) {
        let step = self.scalars(learning_rate, parameters.decays(name));
        let moments = &mut self.moments;
        parameters.change(name, |parameter| {
            let (name, Moments { mean, mean_square }) =
                moments.remove_entry(name).unwrap_or_else(|| {
                    let zeros = || gradient.zeros_like();
                    (name.to_owned(), Moments::new(zeros(), zeros()))
                });
            let state = AdamWState {
                parameter,
                exp_avg: mean,
                exp_avg_sq: mean_square,
            };
            let state = adamw(state, gradient, &step);
            moments.insert(name, Moments::new(state.exp_avg, state.exp_avg_sq));
            state.parameter
        });
    }

    fn scalars(&self, learning_rate: f64, decays: bool) -> AdamWStep {
        let options = &self.options;
        let exponent = i32::try_from(self.step).unwrap_or(i32::MAX);
        let decay = if options.decay_everything || decays {
            options.weight_decay
        } else {
            0.0
        };
        AdamWStep {
            decay: 1.0 - learning_rate * decay,
            beta1: options.beta1,
            beta2: options.beta2,
            rate: learning_rate / (1.0 - options.beta1.powi(exponent)),
            root_correction: (1.0 - options.beta2.powi(exponent)).sqrt(),
            epsilon: options.epsilon,
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
            .map(|(name, (mean, mean_square))| (name, Moments::new(mean, mean_square)))
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
        fn change(&mut self, name: &str, change: impl FnOnce(Tensor<1>) -> Tensor<1>) -> bool {
            let Some((name, value)) = self.0.remove_entry(name) else {
                return false;
            };
            self.0.insert(name, change(value));
            true
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

    /// Where the values lie in memory.
    fn address(tensor: &Tensor<1>) -> *const f32 {
        let tensor = tensor.clone().try_into_primitive::<burn::backend::Flex>();
        tensor.expect("on the CPU").storage::<f32>().as_ptr()
    }

    #[test]
    fn an_update_copies_nothing_and_leaves_what_others_hold() {
        let mut weights = Plain::new([1.0; 1000]);
        let mut optimizer = AdamW::new(TORCH);
        let gradient = || Tensor::from_floats([0.5f32; 1000], &Device::flex());
        let places = |weights: &Plain, optimizer: &AdamW| {
            let moments = optimizer.state().map(|(_, tensor)| address(tensor));
            let mut places: Vec<_> = moments.collect();
            places.push(address(&weights.0["w"]));
            places
        };
        optimizer.begin_step();
        optimizer.update(&mut weights, "w", gradient(), 0.1);
        let before = places(&weights, &optimizer);
        optimizer.begin_step();
        optimizer.update(&mut weights, "w", gradient(), 0.1);
        assert_eq!(places(&weights, &optimizer), before);
        let held = weights.clone();
        let values = held.values();
        optimizer.begin_step();
        optimizer.update(&mut weights, "w", gradient(), 0.1);
        assert_eq!(held.values(), values);
        assert_ne!(weights.values(), values);
        assert_eq!(optimizer.steps_taken(), 3);
    }

    #[test]
    fn a_gradient_without_a_parameter_changes_nothing() {
        let mut weights = Plain::new([1.0]);
        let mut optimizer = AdamW::new(TORCH);
        optimizer.begin_step();
        let gradient = Tensor::from_floats([0.5f32], &Device::flex());
        optimizer.update(&mut weights, "other", gradient, 0.1);
        assert_eq!(
            (weights.values(), optimizer.num_parameters()),
            (vec![1.0], 0)
        );
    }
}
