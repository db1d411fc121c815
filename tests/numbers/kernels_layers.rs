//! `rms_norm`, `swiglu`, `rotary`: values and gradients against their definitions in double precision.

use burn::tensor::{Device, Tensor, TensorData};
use vision_ekipl::kernels::{rms_norm, rotary, swiglu};

use crate::devices::{assert_close, devices, uniform, values};

/// Values of `function` of some inputs, all f64, and the gradients of Σ upstream · values by central differences.
fn expected(
    inputs: &[Vec<f32>],
    upstream: &[f32],
    function: &dyn Fn(&[Vec<f64>]) -> Vec<f64>,
) -> Vec<Vec<f64>> {
    const STEP: f64 = 1e-5;
    let wide = |values: &Vec<f32>| values.iter().map(|&value| f64::from(value)).collect();
    let mut inputs: Vec<Vec<f64>> = inputs.iter().map(wide).collect();
    let mut results = vec![function(&inputs)];
    let loss = |inputs: &[Vec<f64>]| -> f64 {
        let found = function(inputs);
        found
            .iter()
            .zip(upstream)
            .map(|(a, &b)| a * f64::from(b))
            .sum()
    };
    for which in 0..inputs.len() {
        let mut gradient = Vec::new();
        for index in 0..inputs[which].len() {
            let value = inputs[which][index];
            inputs[which][index] = value + STEP;
            let above = loss(&inputs);
            inputs[which][index] = value - STEP;
            let below = loss(&inputs);
            inputs[which][index] = value;
            gradient.push((above - below) / (2.0 * STEP));
        }
        results.push(gradient);
    }
    results
}

fn tracked<const D: usize>(values: &[f32], shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::from_data(
        TensorData::new(values.to_vec(), shape),
        &device.clone().autodiff(),
    )
    .require_grad()
}

/// Odd sizes: a row, rows shorter and longer than a workgroup, one value.
const SIZES: [[usize; 2]; 4] = [[1, 1], [3, 7], [5, 64], [2, 131]];

#[test]
fn the_norm_equals_its_definition() {
    for [count, width] in SIZES {
        let inputs = [
            uniform(1, count * width, -3.0, 3.0),
            uniform(2, width, -2.0, 2.0),
        ];
        let upstream = uniform(3, count * width, -1.0, 1.0);
        let expected = expected(&inputs, &upstream, &|inputs| {
            let rows = inputs[0].chunks(width);
            rows.flat_map(|row| {
                let square = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
                let scale = 1.0 / (square + 1e-3).sqrt();
                row.iter().zip(&inputs[1]).map(move |(x, w)| x * scale * w)
            })
            .collect()
        });
        for device in devices() {
            let x = tracked(&inputs[0], [count, width], &device);
            let weight = tracked(&inputs[1], [width], &device);
            let y = rms_norm(x.clone(), weight.clone(), 1e-3);
            let above = tracked(&upstream, [count, width], &device).detach();
            let mut gradients = (y.clone() * above).sum().backward();
            let found = [
                values(y.inner()),
                values(x.grad_remove(&mut gradients).expect("tracked")),
                values(weight.grad_remove(&mut gradients).expect("tracked")),
            ];
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("rms_norm [{count}, {width}] {index} on {device:?}");
                assert_close(&what, found, expected, 1e-5, 1e-5);
            }
        }
    }
}

#[test]
fn the_gated_unit_equals_its_definition_also_at_the_ends() {
    for [count, width] in SIZES {
        let mut gate = uniform(1, count * width, -6.0, 6.0);
        gate[0] = -200.0;
        let last = gate.len() - 1;
        gate[last] = 90.0;
        let inputs = [gate, uniform(2, count * width, -2.0, 2.0)];
        let upstream = uniform(3, count * width, -1.0, 1.0);
        let expected = expected(&inputs, &upstream, &|inputs| {
            let pairs = inputs[0].iter().zip(&inputs[1]);
            pairs
                .map(|(gate, up)| gate / (1.0 + (-gate).exp()) * up)
                .collect()
        });
        for device in devices() {
            let gate = tracked(&inputs[0], [count, width], &device);
            let up = tracked(&inputs[1], [count, width], &device);
            let y = swiglu(gate.clone(), up.clone());
            let above = tracked(&upstream, [count, width], &device).detach();
            let mut gradients = (y.clone() * above).sum().backward();
            let found = [
                values(y.inner()),
                values(gate.grad_remove(&mut gradients).expect("tracked")),
                values(up.grad_remove(&mut gradients).expect("tracked")),
            ];
            for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let what = format!("swiglu [{count}, {width}] {index} on {device:?}");
                assert_close(&what, found, expected, 1e-5, 1e-5);
            }
        }
    }
}

#[test]
fn the_rotation_equals_its_definition() {
    for [count, heads, half] in [[1, 1, 1], [3, 2, 5], [7, 3, 16]] {
        let size = count * heads * 2 * half;
        let inputs = [uniform(1, size, -2.0, 2.0)];
        let angles = uniform(2, count * half, -9.0, 9.0);
        let upstream = uniform(3, size, -1.0, 1.0);
        let [cosines, sines] = [f32::cos, f32::sin].map(|function| {
            angles
                .iter()
                .map(|angle| function(*angle))
                .collect::<Vec<f32>>()
        });
        let expected = expected(&inputs, &upstream, &|inputs| {
            let x = &inputs[0];
            let value = |place: usize| {
                let (token, e) = (place / (heads * 2 * half), place % (2 * half));
                let angle = token * half + e % half;
                let (cosine, sine) = (f64::from(cosines[angle]), f64::from(sines[angle]));
                let partner = if e < half {
                    -x[place + half]
                } else {
                    x[place - half]
                };
                x[place] * cosine + partner * sine
            };
            (0..size).map(value).collect()
        });
        for device in devices() {
            let x = tracked(&inputs[0], [count, heads, 2 * half], &device);
            let plain = |values: &[f32]| {
                Tensor::<2>::from_data(TensorData::new(values.to_vec(), [count, half]), &device)
            };
            let y = rotary(x.clone(), plain(&cosines), plain(&sines));
            let above = tracked(&upstream, [count, heads, 2 * half], &device).detach();
            let mut gradients = (y.clone() * above).sum().backward();
            let gradient = x.grad_remove(&mut gradients).expect("tracked");
            let what = format!("rotary [{count}, {heads}, {half}] on {device:?}");
            assert_close(&what, &values(y.inner()), &expected[0], 1e-6, 1e-6);
            assert_close(&what, &values(gradient), &expected[1], 1e-6, 1e-6);
        }
    }
}
