//! `adamw`: values against the formula in double precision, and who owns which memory.

use burn::tensor::{Device, Tensor, TensorData};
use vision_ekipl::kernels::{AdamWState, AdamWStep, adamw};

use crate::devices::{assert_close, devices, uniform, values};

const STEP: AdamWStep = AdamWStep {
    decay: 0.998,
    beta1: 0.9,
    beta2: 0.999,
    rate: 0.02,
    root_correction: 0.054,
    epsilon: 1e-3,
};

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

/// Parameter, moments and gradient; one value of the gradient is 0, one is large.
fn inputs(count: usize) -> [Vec<f32>; 4] {
    let mut gradient = uniform(4, count, -2.0, 2.0);
    gradient[0] = 0.0;
    gradient[count / 2] = 1e6;
    [
        uniform(1, count, -1.0, 1.0),
        uniform(2, count, -1.0, 1.0),
        uniform(3, count, 0.0, 1.0),
        gradient,
    ]
}

fn state(inputs: &[Vec<f32>; 4], device: &Device) -> AdamWState {
    AdamWState {
        parameter: vector(&inputs[0], device),
        exp_avg: vector(&inputs[1], device),
        exp_avg_sq: vector(&inputs[2], device),
    }
}

/// Parameter, mean and mean square after the update, by definition.
fn expected(inputs: &[Vec<f32>; 4]) -> [Vec<f64>; 3] {
    let mut results = [vec![], vec![], vec![]];
    for index in 0..inputs[0].len() {
        let [p, m, v, g] = inputs.each_ref().map(|values| f64::from(values[index]));
        let m = STEP.beta1 * m + (1.0 - STEP.beta1) * g;
        let v = STEP.beta2 * v + (1.0 - STEP.beta2) * g * g;
        let denominator = v.sqrt() / STEP.root_correction + STEP.epsilon;
        results[0].push(STEP.decay * p - STEP.rate * m / denominator);
        results[1].push(m);
        results[2].push(v);
    }
    results
}

fn assert_matches(case: &str, found: AdamWState, expected: &[Vec<f64>; 3]) {
    let found = [found.parameter, found.exp_avg, found.exp_avg_sq].map(values);
    for (name, (found, expected)) in ["parameter", "exp_avg", "exp_avg_sq"]
        .iter()
        .zip(found.iter().zip(expected))
    {
        assert_close(&format!("{case} {name}"), found, expected, 2e-7, 1e-6);
    }
}

#[test]
fn updates_of_awkward_sizes() {
    for count in [1, 7, 255, 257, 8193, 70_001] {
        let inputs = inputs(count);
        for device in devices() {
            let gradient = vector(&inputs[3], &device);
            let found = adamw(state(&inputs, &device), gradient, &STEP);
            assert_matches(&format!("{count} {device:?}"), found, &expected(&inputs));
        }
    }
}

/// A part of a longer tensor, and one read backwards.
#[test]
fn views_are_updated_like_tensors_and_what_they_look_at_stays() {
    let inputs = inputs(100);
    let expected = expected(&inputs);
    for device in devices() {
        let long = Tensor::cat(vec![vector(&inputs[0], &device); 3], 0);
        let mut state = state(&inputs, &device);
        state.parameter = long.clone().slice([100..200]);
        let backwards: Vec<f32> = inputs[3].iter().rev().copied().collect();
        let gradient = vector(&backwards, &device).flip([0]);
        assert_matches(
            &format!("{device:?}"),
            adamw(state, gradient, &STEP),
            &expected,
        );
        assert_eq!(values(long), inputs[0].repeat(3), "{device:?}");
    }
}

#[test]
fn what_somebody_else_holds_stays() {
    let inputs = inputs(1000);
    for device in devices() {
        let before = state(&inputs, &device);
        let gradient = vector(&inputs[3], &device);
        let after = adamw(before.clone(), gradient.clone(), &STEP);
        assert_matches(&format!("{device:?}"), after, &expected(&inputs));
        let held = [
            before.parameter,
            before.exp_avg,
            before.exp_avg_sq,
            gradient,
        ];
        assert_eq!(held.map(values), inputs, "{device:?}");
    }
}

#[test]
fn nothing_is_updated_to_nothing() {
    for device in devices() {
        let empty = || Tensor::<1>::zeros([0], &device);
        let state = AdamWState {
            parameter: empty(),
            exp_avg: empty(),
            exp_avg_sq: empty(),
        };
        assert_eq!(adamw(state, empty(), &STEP).parameter.dims(), [0]);
    }
}
