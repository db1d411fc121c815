//! Launches the two shaders of the operation on logits that are on the GPU.
//! It knows buffers and variants; chunks and gradients to the head are elsewhere.

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite, WriteOnly};
use burn::tensor::{DType, IntDType, Shape};

use super::{PerRow, Settings};
use crate::kernels::assemble::Shader;
use crate::kernels::launch::{contiguous, empty, launch};

/// Invocations per workgroup of both shaders.
const WORKGROUP: u32 = 256;
/// Words, of one or four values, that one workgroup of the backward shader handles.
const WORDS: usize = 2048;

const INDEX: &str = include_str!("../../../shaders/shared/index.wgsl");
const ONLINE_SOFTMAX: &str = include_str!("../../../shaders/shared/online_softmax.wgsl");
const WORDS_OF_ONE: &str = include_str!("../../../shaders/shared/words_of_one.wgsl");
const WORDS_OF_FOUR: &str = include_str!("../../../shaders/shared/words_of_four.wgsl");

/// Every variant of both shaders.
pub(crate) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for width in [1, 4] {
        for (a, b) in [(false, false), (false, true), (true, false), (true, true)] {
            shaders.push(forward_shader(width, a, b));
            shaders.extend([false, true].map(|entropy| backward_shader(width, a, b, entropy)));
        }
    }
    shaders
}

fn forward_shader(width: usize, suppresses: bool, with_entropy: bool) -> Shader {
    Shader {
        name: "token_logprob",
        source: include_str!("../../../shaders/token_logprob.wgsl"),
        shared: match width {
            4 => &[INDEX, ONLINE_SOFTMAX, WORDS_OF_FOUR],
            _ => &[INDEX, ONLINE_SOFTMAX, WORDS_OF_ONE],
        },
        tunables: vec![
            ("SUPPRESS", suppresses.to_string()),
            ("ENTROPY", with_entropy.to_string()),
        ],
        workgroup: WORKGROUP,
    }
}

fn backward_shader(width: usize, suppresses: bool, in_place: bool, entropy: bool) -> Shader {
    Shader {
        name: "token_logprob_backward",
        source: include_str!("../../../shaders/token_logprob_backward.wgsl"),
        shared: match width {
            4 => &[INDEX, WORDS_OF_FOUR],
            _ => &[INDEX, WORDS_OF_ONE],
        },
        tunables: vec![
            ("SUPPRESS", suppresses.to_string()),
            ("IN_PLACE", in_place.to_string()),
            ("ENTROPY", entropy.to_string()),
            ("WORDS", format!("{WORDS}u")),
        ],
        workgroup: WORKGROUP,
    }
}

/// Values per memory access: rows start at a whole word only if the vocabulary is a multiple of four.
fn width(vocabulary: usize) -> usize {
    if vocabulary.is_multiple_of(4) { 4 } else { 1 }
}

/// Log-probabilities, entropies and log-sum-exp `[T]` of logits `[T, V]`.
pub(super) fn statistics(
    logits: CubeTensor,
    targets: CubeTensor,
    mask: Option<CubeTensor>,
    settings: Settings,
) -> (CubeTensor, CubeTensor, CubeTensor) {
    let logits = contiguous(logits);
    let targets = words(targets);
    let [rows, vocabulary] = logits.shape().dims();
    let shader = forward_shader(width(vocabulary), mask.is_some(), settings.with_entropy);
    let mask = mask.map_or_else(|| unread(&logits), contiguous);
    let result = || empty(&logits, [rows], DType::F32);
    let (logprobs, entropies, logsumexp) = (result(), result(), result());
    launch(
        shader,
        &[
            (&logits, ReadOnly),
            (&targets, ReadOnly),
            (&mask, ReadOnly),
            (&logprobs, WriteOnly),
            (&entropies, WriteOnly),
            (&logsumexp, WriteOnly),
        ],
        &params(rows, vocabulary, settings),
        rows as u32,
    );
    (logprobs, entropies, logsumexp)
}

/// Gradient `[T, V]` to the logits; overwrites logits that nobody else holds.
pub(super) fn gradient(
    logits: CubeTensor,
    per_row: PerRow<CubeBackend>,
    mask: Option<CubeTensor>,
    settings: Settings,
) -> CubeTensor {
    let logits = contiguous(logits);
    let targets = words(per_row.targets);
    let entropy = settings.entropy_gradient;
    let logsumexp = contiguous(per_row.logsumexp);
    let upstream = if entropy {
        rows_of_three([
            per_row.upstream,
            per_row.entropies,
            per_row.entropy_upstream,
        ])
    } else {
        contiguous(per_row.upstream)
    };
    let [rows, vocabulary] = logits.shape().dims();
    let in_place = logits.handle.can_mut();
    let shader = backward_shader(width(vocabulary), mask.is_some(), in_place, entropy);
    let mask = mask.map_or_else(|| unread(&targets), contiguous);
    let (logits, gradient) = if in_place {
        (unread(&targets), logits)
    } else {
        let gradient = empty(&logits, [rows, vocabulary], DType::F32);
        (logits, gradient)
    };
    launch(
        shader,
        &[
            (&logits, ReadOnly),
            (&targets, ReadOnly),
            (&mask, ReadOnly),
            (&logsumexp, ReadOnly),
            (&upstream, ReadOnly),
            (&gradient, ReadWrite),
        ],
        &params(rows, vocabulary, settings),
        (rows * (vocabulary / width(vocabulary)).div_ceil(WORDS)) as u32,
    );
    gradient
}

/// Three tensors [T] as one [3, T]: separate ones would need more bindings than every adapter has.
fn rows_of_three(rows: [CubeTensor; 3]) -> CubeTensor {
    let row = |values: CubeTensor| {
        let length = values.meta.num_elements();
        CubeBackend::float_reshape(values, Shape::new([1, length]))
    };
    contiguous(CubeBackend::float_cat(rows.map(row).to_vec(), 0))
}

fn params(rows: usize, vocabulary: usize, settings: Settings) -> [u32; 3] {
    [
        rows as u32,
        vocabulary as u32,
        settings.inverse_temperature.to_bits(),
    ]
}

/// Token ids as the i32 that the shaders read.
fn words(targets: CubeTensor) -> CubeTensor {
    let targets = if targets.dtype() == DType::I32 {
        targets
    } else {
        CubeBackend::int_cast(targets, IntDType::I32)
    };
    contiguous(targets)
}

/// A buffer for a binding that the variant declares but never accesses. It must be a buffer of its own:
/// WebGPU forbids that two writable bindings overlap. It holds one word of the widest kind.
fn unread(like: &CubeTensor) -> CubeTensor {
    empty(like, [4], DType::F32)
}
