//! The draw on each backend: the WGSL kernel, the CPU twin, and autodiff, which it leaves.
//! It knows no formula.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::tensor::FloatTensor;
use burn::backend::wgpu::{CubeBackend, CubeTensor};
use burn::backend::{Autodiff, AutodiffBackend, Flex};
use burn::cubecl::prelude::BufferIOAttr;
use burn::tensor::DType;
use burn_flex::FlexTensor;

use super::super::assemble::Shader;
use super::super::flex_slices::{floats, from_floats};
use super::super::launch::{contiguous, empty, launch};
use super::{SampleOptions, SampleTokenOps, twin};

impl SampleTokenOps for CubeBackend {
    fn sample_token(
        logits: CubeTensor,
        uniforms: CubeTensor,
        suppressed: CubeTensor,
        options: SampleOptions,
    ) -> CubeTensor {
        launch_sample_token(logits, uniforms, suppressed, &options)
    }
}

impl SampleTokenOps for Flex {
    fn sample_token(
        logits: FlexTensor,
        uniforms: FlexTensor,
        suppressed: FlexTensor,
        options: SampleOptions,
    ) -> FlexTensor {
        let uniforms = floats(&uniforms);
        let chosen = twin::sample(&floats(&logits), &uniforms, &floats(&suppressed), &options);
        from_floats(chosen, [uniforms.len(), 2])
    }
}

impl<B: SampleTokenOps, C: CheckpointStrategy> SampleTokenOps for Autodiff<B, C> {
    fn sample_token(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        suppressed: FloatTensor<Self>,
        options: SampleOptions,
    ) -> FloatTensor<Self> {
        // A draw has no gradient.
        Self::from_inner(B::sample_token(
            logits.into_primitive(),
            uniforms.into_primitive(),
            suppressed.into_primitive(),
            options,
        ))
    }
}

/// Every variant of the kernel.
pub(crate) fn shaders() -> Vec<Shader> {
    let mut shaders = Vec::new();
    for width in [1, WIDE] {
        for workgroup in [SMALL_WORKGROUP, LARGE_WORKGROUP] {
            shaders.extend([true, false].map(|masked| shader(width, workgroup, masked)));
        }
    }
    shaders
}

/// Logits read at a time where the vocabulary is a multiple of it.
const WIDE: usize = 4;
/// Invocations per row of a small vocabulary: software adapters pay for every invocation at every barrier.
const SMALL_WORKGROUP: u32 = 64;
/// Invocations per row of a large vocabulary.
const LARGE_WORKGROUP: u32 = 256;
/// Largest small vocabulary.
const SMALL_VOCABULARY: usize = 4096;

const INDEX: &str = include_str!("../../../shaders/shared/index.wgsl");
const WORDS_OF_ONE: &str = include_str!("../../../shaders/shared/words_of_one.wgsl");
const WORDS_OF_FOUR: &str = include_str!("../../../shaders/shared/words_of_four.wgsl");
const ONLINE_SOFTMAX: &str = include_str!("../../../shaders/shared/online_softmax.wgsl");
const FLOAT_KEY: &str = include_str!("../../../shaders/shared/float_key.wgsl");
const LANE_SUMS: &str = include_str!("../../../shaders/shared/lane_sums.wgsl");
const SHORT_SEARCH: &str = include_str!("../../../shaders/shared/short_search.wgsl");
const LONG_SEARCH: &str = include_str!("../../../shaders/shared/long_search.wgsl");

fn shader(width: usize, workgroup: u32, masked: bool) -> Shader {
    Shader {
        name: "sample_token",
        source: include_str!("../../../shaders/sample_token.wgsl"),
        shared: if width == WIDE {
            &[
                INDEX,
                WORDS_OF_FOUR,
                ONLINE_SOFTMAX,
                FLOAT_KEY,
                LANE_SUMS,
                SHORT_SEARCH,
                LONG_SEARCH,
            ]
        } else {
            &[
                INDEX,
                WORDS_OF_ONE,
                ONLINE_SOFTMAX,
                FLOAT_KEY,
                LANE_SUMS,
                SHORT_SEARCH,
                LONG_SEARCH,
            ]
        },
        tunables: vec![
            ("WIDTH", format!("{width}u")),
            ("WORKGROUP", format!("{workgroup}u")),
            ("MASKED", masked.to_string()),
        ],
        workgroup,
    }
}

/// Runs the WGSL kernel: one workgroup per row.
fn launch_sample_token(
    logits: CubeTensor,
    uniforms: CubeTensor,
    suppressed: CubeTensor,
    options: &SampleOptions,
) -> CubeTensor {
    let (logits, uniforms, suppressed) = (
        contiguous(logits),
        contiguous(uniforms),
        contiguous(suppressed),
    );
    let [rows, vocabulary] = logits.meta.shape().dims();
    assert!(
        rows * vocabulary <= u32::MAX as usize,
        "sample_token: logits [{rows}, {vocabulary}] have more than 2^32 elements"
    );
    let chosen = empty(&logits, [rows, 2], DType::F32);
    let params = [
        rows as u32,
        vocabulary as u32,
        u32::try_from(options.top_k).unwrap_or(u32::MAX),
        options.temperature.to_bits(),
        options.drop_share().to_bits(),
        options.min_p.to_bits(),
        options.logprob_temperature.to_bits(),
    ];
    let buffers = [
        (&logits, BufferIOAttr::ReadOnly),
        (&uniforms, BufferIOAttr::ReadOnly),
        (&suppressed, BufferIOAttr::ReadOnly),
        (&chosen, BufferIOAttr::WriteOnly),
    ];
    let workgroup = if vocabulary <= SMALL_VOCABULARY {
        SMALL_WORKGROUP
    } else {
        LARGE_WORKGROUP
    };
    let width = if vocabulary.is_multiple_of(WIDE) {
        WIDE
    } else {
        1
    };
    let masked = suppressed.meta.num_elements() == vocabulary;
    launch(
        shader(width, workgroup, masked),
        &buffers,
        &params,
        rows as u32,
    );
    chosen
}
