//! Launches an assembled WGSL kernel on Burn's GPU tensors and allocates its outputs.
//! It does not know what a kernel computes; shapes by letter are checked in `shape_check`.

use burn::backend::wgpu::{
    CubeDim, CubeTensor, KernelSource, SourceKernel, SourceTemplate, into_contiguous,
};
use burn::cubecl::CubeCount;
use burn::cubecl::prelude::{BufferIOAttr, KernelId};
use burn::cubecl::server::{KernelArguments, MetadataBindingInfo};
use burn::tensor::{DType, Shape};

use super::assemble::{Shader, assemble};
use crate::device::{DeviceError, WGSL_CLIENT};

/// Most workgroups per dimension that every graphics API accepts.
const MAX_GROUPS: u32 = 65_535;
/// Most storage buffers per kernel that every graphics API accepts, the parameters included.
const MAX_BUFFERS: usize = 8;
/// Makes a GPU tensor readable by our kernels: row-major, without gaps.
pub(crate) fn contiguous(tensor: CubeTensor) -> CubeTensor {
    into_contiguous(tensor)
}

/// A row-major tensor that a kernel may write to: the tensor itself, or a copy if somebody else holds it.
pub(crate) fn owned(tensor: CubeTensor) -> CubeTensor {
    let tensor = contiguous(tensor);
    if tensor.handle.can_mut() {
        tensor
    } else {
        tensor.copy()
    }
}

/// A new row-major tensor with undefined contents, on the device of `like`.
pub(crate) fn empty(like: &CubeTensor, shape: impl Into<Shape>, dtype: DType) -> CubeTensor {
    let shape = shape.into();
    let handle = like
        .client
        .empty(shape.num_elements().max(1) * dtype.size());
    CubeTensor::new_contiguous(
        like.client.clone(),
        like.device.clone(),
        shape,
        handle,
        dtype,
    )
}

/// Runs a kernel: binding `i` is `buffers[i]`, the last binding holds `params` (u32 words, read-only storage).
///
/// More than 65,535 workgroups are folded into two dimensions, possibly with a few too many: a shader takes its
/// index from `flat_group` in `shaders/shared/index.wgsl` and returns where it is past the end.
/// Nothing is launched for zero workgroups.
///
/// # Panics
/// On our own mistakes: a device that does not run WGSL, a tensor with gaps or of an element size other than
/// 4 bytes, more than eight bindings, a tunable that the shader lacks.
pub(crate) fn launch(
    shader: Shader,
    buffers: &[(&CubeTensor, BufferIOAttr)],
    params: &[u32],
    workgroups: u32,
) {
    if workgroups == 0 {
        return;
    }
    check_buffers(shader.name, buffers);
    let client = buffers[0].0.client.clone();
    let mut arguments = KernelArguments::new();
    for (tensor, io) in buffers {
        arguments = arguments.with_buffer_io(tensor.handle.clone().binding(), *io);
    }
    arguments = arguments.with_info(MetadataBindingInfo::custom(words(params)));
    let dimension = CubeDim::new_1d(shader.workgroup);
    let (x, y) = fold(workgroups);
    log::trace!(
        "launch {} {:?} on {x} x {y} workgroups",
        shader.name,
        shader.tunables
    );
    client.launch(
        Box::new(SourceKernel::new(Assembled(shader), dimension)),
        CubeCount::Static(x, y, 1),
        arguments,
    );
}

/// A shader as Burn's kernel source.
struct Assembled(Shader);

impl KernelSource for Assembled {
    fn source(&self) -> SourceTemplate {
        let text = assemble(&self.0).expect("the soundness test assembles every variant");
        SourceTemplate::new(text)
    }

    fn id(&self) -> KernelId {
        // The address of a constant text stands for the text.
        let shared: Vec<usize> = self
            .0
            .shared
            .iter()
            .map(|text| text.as_ptr() as usize)
            .collect();
        KernelId::new::<Self>().info((self.0.name, shared, self.0.tunables.clone()))
    }

    fn lang(&self) -> &'static str {
        "wgsl"
    }
}

/// Panics unless every binding can be read by a shader as a plain array of 4-byte elements.
fn check_buffers(name: &str, buffers: &[(&CubeTensor, BufferIOAttr)]) {
    assert!(
        !buffers.is_empty() && buffers.len() < MAX_BUFFERS,
        "{name}: expected 1 to {} buffers beside the parameters, found {}",
        MAX_BUFFERS - 1,
        buffers.len()
    );
    for (index, (tensor, _)) in buffers.iter().enumerate() {
        assert!(
            tensor.client.name() == WGSL_CLIENT,
            "{name}: {}",
            DeviceError::Language(tensor.client.name().to_owned())
        );
        assert!(
            tensor.device == buffers[0].0.device,
            "{name}: binding {index} is on {:?}, binding 0 on {:?}",
            tensor.device,
            buffers[0].0.device
        );
        assert!(
            tensor.is_contiguous() && tensor.dtype.size() == 4,
            "{name}: binding {index} must be row-major with 4-byte elements, found {tensor:?}"
        );
    }
}

/// Pairs of u32 parameters as the u64 words of the info buffer; an odd last one is padded with zero.
fn words(params: &[u32]) -> Vec<u64> {
    let pair =
        |pair: &[u32]| u64::from(pair[0]) | (u64::from(pair.get(1).copied().unwrap_or(0)) << 32);
    params.chunks(2).map(pair).collect()
}

/// `(x, y)` with `x * y >= workgroups`, each within the limit, with as few superfluous groups as one fold allows.
fn fold(workgroups: u32) -> (u32, u32) {
    let y = workgroups.div_ceil(MAX_GROUPS);
    (workgroups.div_ceil(y), y)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dispatch_folds_above_the_limit() {
        assert_eq!(fold(1), (1, 1));
        assert_eq!(fold(65_535), (65_535, 1));
        for workgroups in [65_536, 65_537, 131_071, 1_000_003, 4_000_000_007] {
            let (x, y) = fold(workgroups);
            assert!(
                x <= MAX_GROUPS && u64::from(x) * u64::from(y) >= u64::from(workgroups),
                "{x} x {y}"
            );
            assert!(
                u64::from(x) * u64::from(y) - u64::from(workgroups) < u64::from(y),
                "{x} x {y}"
            );
        }
    }

    #[test]
    fn parameters_keep_their_order_in_words() {
        assert_eq!(words(&[1, 2, 3]), vec![1 | (2 << 32), 3]);
    }
}
