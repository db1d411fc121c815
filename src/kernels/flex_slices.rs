//! Slices of the CPU backend's tensors and tensors from vectors, for the CPU twins.
//! It knows no operation.

use std::borrow::Cow;

use burn::tensor::{DType, Shape, TensorData};
use burn_flex::FlexTensor;

/// The elements of a f32 tensor in row-major order, borrowed unless the tensor is a strided view.
///
/// # Panics
/// If the tensor is not f32: the public functions cast before they dispatch.
pub(crate) fn floats(tensor: &FlexTensor) -> Cow<'_, [f32]> {
    assert!(
        tensor.dtype() == DType::F32,
        "expected an f32 tensor, found {:?}",
        tensor.dtype()
    );
    match tensor.as_slice::<f32>() {
        Some(slice) => Cow::Borrowed(slice),
        None => Cow::Owned(
            tensor
                .to_contiguous()
                .as_slice::<f32>()
                .expect("contiguous now")
                .to_vec(),
        ),
    }
}

/// The elements of an i64 or i32 tensor in row-major order.
///
/// # Panics
/// On other integer types, which no part of the program creates.
pub(crate) fn integers(tensor: &FlexTensor) -> Vec<i64> {
    let tensor = tensor.to_contiguous();
    match tensor.dtype() {
        DType::I64 => tensor.as_slice::<i64>().expect("contiguous i64").to_vec(),
        DType::I32 => tensor
            .as_slice::<i32>()
            .expect("contiguous i32")
            .iter()
            .map(|&v| i64::from(v))
            .collect(),
        other => panic!("expected an i64 or i32 tensor, found {other:?}"),
    }
}

/// A f32 tensor of the given shape that takes over `values`.
pub(crate) fn from_floats(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}
