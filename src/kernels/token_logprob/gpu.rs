//! Launches the two shaders of the operation on logits that are on the GPU.
//! It knows buffers and variants; where the logits come from and gradients to the head are elsewhere.

use std::ops::Range;

use burn::backend::TensorMetadata;
use burn::backend::ops::{FloatTensorOps, IntTensorOps};
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::cubecl::prelude::BufferIOAttr::{ReadOnly, ReadWrite};
use burn::tensor::{DType, IntDType, Shape};

use super::{PerRow, Settings, Statistics};
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

/// What both shaders need of a call besides the logits.
pub(super) struct Call {
    /// i32 `[T]`
    targets: CubeTensor,
    mask: Option<CubeTensor>,
    /// V
    vocabulary: usize,
    settings: Settings,
}

impl Call {
    pub(super) fn new(
        targets: CubeTensor,
        mask: Option<CubeTensor>,
        vocabulary: usize,
        settings: Settings,
    ) -> Self {
        Self {
            targets: words(targets),
            mask: mask.map(contiguous),
            vocabulary,
            settings,
        }
    }

    /// The mask, or a buffer in its place.
    fn mask(&self) -> CubeTensor {
        let mask = self.mask.clone();
        mask.unwrap_or_else(|| unread(&self.targets))
    }

    /// Values per memory access: rows, tiles and the mask consist of whole words only if the vocabulary and the tile are
    /// multiples of four. Tiles begin at multiples of four where they end there.
    fn width(&self, columns: &Range<usize>) -> usize {
        let whole = [self.vocabulary, columns.start, columns.len()];
        if whole.iter().all(|size| size.is_multiple_of(4)) {
            4
        } else {
            1
        }
    }
}

/// Results `[T]` that grow tile by tile.
pub(super) struct Running {
    call: Call,
    logprobs: CubeTensor,
    entropies: CubeTensor,
    logsumexp: CubeTensor,
    totals: CubeTensor,
}

impl Running {
    /// Before the first tile.
    pub(super) fn new(call: Call) -> Self {
        let [rows] = call.targets.shape().dims();
        let result = || empty(&call.targets, [rows], DType::F32);
        Self {
            logprobs: result(),
            entropies: result(),
            logsumexp: result(),
            totals: result(),
            call,
        }
    }

    /// Adds the logits of some rows and of a tile of the vocabulary; for each row the tiles come in their order.
    pub(super) fn add(&self, logits: CubeTensor, rows: &Range<usize>, columns: &Range<usize>) {
        /// As in the shader.
        const FIRST: u32 = 1;
        const LAST: u32 = 2;
        let call = &self.call;
        let logits = contiguous(logits);
        let mask = call.mask();
        let with_entropy = call.settings.with_entropy;
        let shader = forward_shader(call.width(columns), call.mask.is_some(), with_entropy);
        let mut place = 0;
        if columns.start == 0 {
            place |= FIRST;
        }
        if columns.end == call.vocabulary {
            place |= LAST;
        }
        launch(
            shader,
            &[
                (&logits, ReadOnly),
                (&call.targets, ReadOnly),
                (&mask, ReadOnly),
                (&self.logprobs, ReadWrite),
                (&self.entropies, ReadWrite),
                (&self.logsumexp, ReadWrite),
                (&self.totals, ReadWrite),
            ],
            &[
                rows.len() as u32,
                columns.len() as u32,
                call.settings.inverse_temperature.to_bits(),
                rows.start as u32,
                columns.start as u32,
                place,
            ],
            rows.len() as u32,
        );
    }

    /// Log-probabilities, entropies and log-sum-exp after the last tile.
    pub(super) fn results(self) -> Statistics<CubeBackend> {
        (self.logprobs, self.entropies, self.logsumexp)
    }
}

/// What turns logits into their gradient.
pub(super) struct Gradient {
    call: Call,
    logsumexp: CubeTensor,
    /// `[T]`, or `[3, T]` with an entropy gradient.
    upstream: CubeTensor,
}

impl Gradient {
    pub(super) fn new(
        per_row: PerRow<CubeBackend>,
        mask: Option<CubeTensor>,
        vocabulary: usize,
        settings: Settings,
    ) -> Self {
        let upstream = if settings.entropy_gradient {
            rows_of_three([
                per_row.upstream,
                per_row.entropies,
                per_row.entropy_upstream,
            ])
        } else {
            contiguous(per_row.upstream)
        };
        Self {
            call: Call::new(per_row.targets, mask, vocabulary, settings),
            logsumexp: contiguous(per_row.logsumexp),
            upstream,
        }
    }

    /// Gradient `[rows, columns]` to the logits of some rows and of a tile; overwrites logits that nobody else holds.
    pub(super) fn of(
        &self,
        logits: CubeTensor,
        rows: &Range<usize>,
        columns: &Range<usize>,
    ) -> CubeTensor {
        let call = &self.call;
        let logits = contiguous(logits);
        let in_place = logits.handle.can_mut();
        let width = call.width(columns);
        let entropy = call.settings.entropy_gradient;
        let shader = backward_shader(width, call.mask.is_some(), in_place, entropy);
        let mask = call.mask();
        let (logits, gradient) = if in_place {
            (unread(&logits), logits)
        } else {
            let gradient = empty(&logits, [rows.len(), columns.len()], DType::F32);
            (logits, gradient)
        };
        let [all_rows] = call.targets.shape().dims();
        launch(
            shader,
            &[
                (&logits, ReadOnly),
                (&call.targets, ReadOnly),
                (&mask, ReadOnly),
                (&self.logsumexp, ReadOnly),
                (&self.upstream, ReadOnly),
                (&gradient, ReadWrite),
            ],
            &[
                rows.len() as u32,
                columns.len() as u32,
                call.settings.inverse_temperature.to_bits(),
                rows.start as u32,
                columns.start as u32,
                all_rows as u32,
                call.vocabulary as u32,
            ],
            (rows.len() * (columns.len() / width).div_ceil(WORDS)) as u32,
        );
        gradient
    }
}

/// Three tensors [T] as one [3, T]: separate ones would need more bindings than every adapter has.
fn rows_of_three(rows: [CubeTensor; 3]) -> CubeTensor {
    let row = |values: CubeTensor| {
        let length = values.meta.num_elements();
        CubeBackend::float_reshape(values, Shape::new([1, length]))
    };
    contiguous(CubeBackend::float_cat(rows.map(row).to_vec(), 0))
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
