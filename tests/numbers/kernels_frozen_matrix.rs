//! `WeightMatrix` and `FrozenMatrix`: stored bits, rounding, products, gradients and gathered rows against their
//! definitions in double precision.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use half::{bf16, f16};
use vision_ekipl::kernels::{FrozenMatrix, SharedBytes, Storage, WeightMatrix};

use crate::devices::{assert_close, devices, integers, uniform, values};

fn single(shape: [usize; 2], values: &[f32]) -> FrozenMatrix {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    FrozenMatrix::new(shape, Storage::F32, bytes.into())
}

fn stored(matrix: &FrozenMatrix) -> Vec<f32> {
    let [rows, columns] = matrix.shape();
    let mut values = vec![f32::NAN; rows * columns];
    matrix.copy_rows(0..rows, &mut values);
    values
}

fn tensor(values: &[f32], shape: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

/// `left [n, k] · right [k, m]` in double precision; values by (row, column).
fn product(
    [rows, inner, columns]: [usize; 3],
    left: impl Fn(usize, usize) -> f32,
    right: impl Fn(usize, usize) -> f32,
) -> Vec<f64> {
    let value = |row, column| {
        let terms = (0..inner).map(|k| f64::from(left(row, k)) * f64::from(right(k, column)));
        terms.sum::<f64>()
    };
    (0..rows * columns)
        .map(|place| value(place / columns, place % columns))
        .collect()
}

/// n, in, out, and the rows that are asked for: odd ones, one of each, rows shorter than a block and many.
const SIZES: [([usize; 3], std::ops::Range<usize>); 8] = [
    ([1, 33, 7], 0..7),
    ([17, 33, 7], 2..5),
    ([1, 1, 1], 0..1),
    ([2, 5, 3], 0..3),
    ([16, 64, 130], 0..130),
    ([5, 130, 67], 1..66),
    ([70, 97, 83], 3..83),
    ([3, 2100, 6], 0..6),
];

#[test]
fn products_equal_their_definition_in_every_storage() {
    for ([count, width, all], rows) in SIZES {
        let source = single([all, width], &uniform(1, all * width, -0.5, 0.7));
        let x = uniform(2, count * width, -2.0, 2.0);
        let upstream = uniform(3, count * rows.len(), -2.0, 2.0);
        for storage in Storage::ALL {
            let matrix = Arc::new(source.stored_as(storage));
            let w = stored(&matrix);
            let value = |row: usize, column: usize| w[(rows.start + row) * width + column];
            let y = product(
                [count, width, rows.len()],
                |row, k| x[row * width + k],
                |k, row| value(row, k),
            );
            let to_x = product(
                [count, rows.len(), width],
                |row, k| upstream[row * rows.len() + k],
                value,
            );
            for device in devices() {
                let what =
                    format!("{storage:?} [{count}, {width}] x {rows:?} of {all} on {device:?}");
                let frozen = WeightMatrix::Frozen(Arc::clone(&matrix));
                let dense = WeightMatrix::Dense(tensor(&w, [all, width], &device));
                let input = tensor(&x, [count, width], &device.clone().autodiff()).require_grad();
                let above = tensor(&upstream, [count, rows.len()], &device);
                let found = frozen.linear_rows(input.clone(), rows.clone());
                let factors = Tensor::from_inner(above.clone());
                let mut graph = (found.clone() * factors).sum().backward();
                let gradient = input.grad_remove(&mut graph).expect("tracked");
                let back = frozen.linear_rows_backward(above.clone(), rows.clone());
                assert_close(&what, &values(found.inner()), &y, 5e-5, 1e-5);
                assert_close(&what, &values(gradient), &to_x, 5e-5, 1e-5);
                assert_close(&what, &values(back), &to_x, 5e-5, 1e-5);
                let dense_y = dense.linear_rows(input.clone().inner(), rows.clone());
                let dense_back = dense.linear_rows_backward(above, rows.clone());
                assert_close(&what, &values(dense_y), &y, 5e-5, 1e-5);
                assert_close(&what, &values(dense_back), &to_x, 5e-5, 1e-5);
                if rows.len() == all {
                    assert_close(&what, &values(frozen.linear(input.inner())), &y, 5e-5, 1e-5);
                }
            }
        }
    }
}

#[test]
fn the_gradient_to_x_is_that_of_finite_differences() {
    let ([count, width, all], step) = ([3, 33, 7], 1.0 / 64.0);
    let source = single([all, width], &uniform(1, all * width, -1.0, 1.0));
    let x = uniform(2, count * width, -1.0, 1.0);
    let factors = uniform(3, count * all, -1.0, 1.0);
    for storage in Storage::ALL {
        let weight = WeightMatrix::Frozen(Arc::new(source.stored_as(storage)));
        for device in devices() {
            let loss = |x: Tensor<2>, factors: Tensor<2>| (weight.linear(x) * factors).sum();
            let input = tensor(&x, [count, width], &device.clone().autodiff()).require_grad();
            let above = tensor(&factors, [count, all], &device);
            let mut graph = loss(input.clone(), Tensor::from_inner(above.clone())).backward();
            let gradient = values(input.grad_remove(&mut graph).expect("tracked"));
            for place in (0..x.len()).step_by(7) {
                let at = |change: f32| {
                    let mut moved = x.clone();
                    moved[place] += change;
                    loss(tensor(&moved, [count, width], &device), above.clone())
                        .into_scalar::<f32>()
                };
                let difference = f64::from(at(step) - at(-step)) / f64::from(2.0 * step);
                let what = format!("{storage:?} {place} on {device:?}");
                assert_close(&what, &[gradient[place]], &[difference], 1e-3, 1e-3);
            }
        }
    }
}

#[test]
fn rows_are_gathered_by_number_from_every_storage() {
    for (count, width, all) in [(1, 33, 7), (9, 5, 3), (17, 64, 130)] {
        let source = single([all, width], &uniform(1, all * width, -0.5, 0.7));
        let ids = integers(2, count, all);
        for storage in Storage::ALL {
            let matrix = Arc::new(source.stored_as(storage));
            let w = stored(&matrix);
            let row = |id: &i64| &w[*id as usize * width..][..width];
            let expected: Vec<f64> = ids
                .iter()
                .flat_map(row)
                .map(|&value| value.into())
                .collect();
            let weight = WeightMatrix::Frozen(matrix);
            for device in devices() {
                let what = format!("{storage:?} [{all}, {width}] on {device:?}");
                let ids =
                    Tensor::<1, Int>::from_data(TensorData::new(ids.clone(), [count]), &device);
                assert_close(&what, &values(weight.gather(ids)), &expected, 0.0, 0.0);
                let outside = [-1, all as i64, i64::from(i32::MAX)];
                let ids =
                    Tensor::<1, Int>::from_data(TensorData::new(outside.to_vec(), [3]), &device);
                let none = values(weight.gather(ids));
                assert!(none.iter().all(|value| value.is_nan()), "{what}: {none:?}");
            }
        }
    }
}

/// The bits of a file, at an odd address, also those of numbers that are no numbers.
#[test]
fn floats_are_what_their_bits_say_at_any_address() {
    let shape = [5, 33];
    let bits = integers(1, 165, 1 << 32);
    let cases: [(Storage, Vec<u8>, Vec<f32>); 3] = [
        (
            Storage::F32,
            bits.iter()
                .flat_map(|&bits| (bits as u32).to_le_bytes())
                .collect(),
            bits.iter()
                .map(|&bits| f32::from_bits(bits as u32))
                .collect(),
        ),
        (
            Storage::Bf16,
            bits.iter()
                .flat_map(|&bits| (bits as u16).to_le_bytes())
                .collect(),
            bits.iter()
                .map(|&bits| bf16::from_bits(bits as u16).to_f32())
                .collect(),
        ),
        (
            Storage::F16,
            bits.iter()
                .flat_map(|&bits| (bits as u16).to_le_bytes())
                .collect(),
            bits.iter()
                .map(|&bits| f16::from_bits(bits as u16).to_f32())
                .collect(),
        ),
    ];
    for (storage, bytes, expected) in cases {
        for offset in 0..4 {
            let moved = [vec![0xab; offset], bytes.clone()].concat();
            let end = moved.len();
            let matrix = FrozenMatrix::new(
                shape,
                storage,
                SharedBytes::new(Arc::new(moved), offset..end),
            );
            let found = stored(&matrix);
            let same =
                |(a, b): (&f32, &f32)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
            assert!(
                found.iter().zip(&expected).all(same),
                "{storage:?} at {offset}"
            );
        }
    }
}

/// Misaligned bytes go through the same products.
#[test]
fn a_product_does_not_depend_on_the_address_of_the_bytes() {
    let shape = [40, 33];
    let w = uniform(1, 40 * 33, -1.0, 1.0);
    let aligned = single(shape, &w);
    let bytes: Vec<u8> = w.iter().flat_map(|value| value.to_le_bytes()).collect();
    let moved = [vec![0xab; 3], bytes].concat();
    let end = moved.len();
    let moved = FrozenMatrix::new(
        shape,
        Storage::F32,
        SharedBytes::new(Arc::new(moved), 3..end),
    );
    for device in devices() {
        for count in [1, 20] {
            let x = tensor(&uniform(2, count * 33, -1.0, 1.0), [count, 33], &device);
            let of = |matrix: &FrozenMatrix| {
                let matrix = Arc::new(matrix.stored_as(Storage::F32));
                values(WeightMatrix::Frozen(matrix).linear(x.clone()))
            };
            assert_eq!(of(&aligned), of(&moved), "{count} rows on {device:?}");
        }
    }
}

/// Root of the mean square of the differences, as a part of that of the values.
fn relative_error(found: &[f32], exact: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>();
    let differences = found
        .iter()
        .zip(exact)
        .map(|(a, b)| f64::from(*a) - f64::from(*b));
    let values = exact.iter().map(|x| f64::from(*x));
    (square(&mut { differences }) / square(&mut { values })).sqrt()
}

/// Values spread like those of a layer, the sum of twelve uniform ones, here and there a large one.
fn weights(count: usize) -> Vec<f32> {
    let parts = uniform(7, count * 12, -0.01, 0.01);
    let large = uniform(8, count, 0.0, 1.0);
    let sums = parts.chunks(12).map(|parts| parts.iter().sum::<f32>());
    sums.zip(large)
        .map(|(sum, large)| if large < 0.005 { sum * 8.0 } else { sum })
        .collect()
}

#[test]
fn rounding_to_fewer_bits_costs_what_it_must() {
    let shape = [64, 32 * 9 + 5];
    let exact = weights(shape[0] * shape[1]);
    let source = single(shape, &exact);
    let error = |storage| relative_error(&stored(&source.stored_as(storage)), &exact);
    assert_eq!(error(Storage::F32), 0.0);
    assert!(
        (1e-4..2.5e-3).contains(&error(Storage::Bf16)),
        "{}",
        error(Storage::Bf16)
    );
    assert!(
        (1e-5..3e-4).contains(&error(Storage::F16)),
        "{}",
        error(Storage::F16)
    );
    assert!(
        (1e-3..8e-3).contains(&error(Storage::Q8)),
        "{}",
        error(Storage::Q8)
    );
    assert!(
        (3e-2..9e-2).contains(&error(Storage::Q4)),
        "{}",
        error(Storage::Q4)
    );
}

/// Storing what is stored already changes nothing, whatever storage it came through.
#[test]
fn stored_values_store_as_themselves() {
    let source = single([6, 70], &weights(420));
    for storage in [Storage::Bf16, Storage::F16, Storage::Q8] {
        let once = source.stored_as(storage);
        let again = once.stored_as(Storage::F32).stored_as(storage);
        assert_eq!(stored(&once), stored(&again), "{storage:?}");
    }
}

#[test]
fn blocks_of_equal_values_and_of_zeros_have_codes() {
    let mut w = vec![0.0; 32];
    w.extend([0.25; 32]);
    w.extend([-3.0; 32]);
    for storage in Storage::ALL {
        let found = stored(&single([1, 96], &w).stored_as(storage));
        let wide: Vec<f64> = w.iter().map(|&value| value.into()).collect();
        assert_close(&format!("{storage:?}"), &found, &wide, 0.0, 1e-3);
    }
}

#[test]
#[should_panic(expected = "a matrix [2, 33] in Q4 has 80 bytes, found 79")]
fn bytes_of_another_length_are_refused() {
    let _ = FrozenMatrix::new([2, 33], Storage::Q4, vec![0; 79].into());
}

#[test]
#[should_panic(expected = "rows 3..8 of a matrix [7, 4]")]
fn rows_outside_of_the_matrix_are_refused() {
    let weight = WeightMatrix::Frozen(Arc::new(single([7, 4], &[0.0; 28])));
    let _ = weight.linear_rows(Tensor::zeros([1, 4], &Device::flex()), 3..8);
}
