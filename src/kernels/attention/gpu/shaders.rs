//! The shaders of the operation and their variants by head size.

use crate::kernels::assemble::Shader;

const WORKGROUP: u32 = 128;
/// Invocations per workgroup of the merging shader.
pub(super) const MERGE_WORKGROUP: u32 = 64;
/// Head sizes up to this are rounded up to a multiple of 16; larger ones to [`LARGEST_HEAD`].
const LARGEST_COMMON_HEAD: usize = 128;
/// Largest head that the shaders hold in their registers and their workgroup's memory.
const LARGEST_HEAD: usize = 256;

const INDEX: &str = include_str!("../../../../shaders/shared/index.wgsl");
const ATTENTION: &str = include_str!("../../../../shaders/shared/attention.wgsl");
const SOFTMAX: &str = include_str!("../../../../shaders/shared/attention_softmax.wgsl");
const BACKWARD: &str = include_str!("../../../../shaders/shared/attention_backward.wgsl");

/// The passes with a head size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// A tile of queries over all that it sees.
    Forward,
    /// Few queries over a part of what they see.
    Split,
    BackwardQueries,
    BackwardKeys,
}

const PASSES: [Pass; 4] = [
    Pass::Forward,
    Pass::Split,
    Pass::BackwardQueries,
    Pass::BackwardKeys,
];

/// Every variant of every shader.
pub(crate) fn shaders() -> Vec<Shader> {
    let heads = (16..=LARGEST_COMMON_HEAD).step_by(16).chain([LARGEST_HEAD]);
    heads
        .flat_map(|head| PASSES.map(|pass| shader(pass, head)))
        .chain([merge()])
        .collect()
}

/// The shader of a pass for heads of `width` values.
pub(super) fn shader(pass: Pass, width: usize) -> Shader {
    let head = padded_head(width);
    let (name, source) = match pass {
        Pass::Forward => (
            "attention",
            include_str!("../../../../shaders/attention.wgsl"),
        ),
        Pass::Split => (
            "attention_split",
            include_str!("../../../../shaders/attention_split.wgsl"),
        ),
        Pass::BackwardQueries => (
            "attention_backward_queries",
            include_str!("../../../../shaders/attention_backward_queries.wgsl"),
        ),
        Pass::BackwardKeys => (
            "attention_backward_keys",
            include_str!("../../../../shaders/attention_backward_keys.wgsl"),
        ),
    };
    let forward = matches!(pass, Pass::Forward | Pass::Split);
    // Blocks of two tensors and the parts of their products fit 16 KiB of workgroup memory.
    let block = if forward && head <= LARGEST_COMMON_HEAD {
        8
    } else {
        4
    };
    Shader {
        name,
        source,
        shared: if forward {
            &[INDEX, ATTENTION, SOFTMAX]
        } else {
            &[INDEX, ATTENTION, BACKWARD]
        },
        tunables: vec![("HEAD", format!("{head}u")), ("BLOCK", format!("{block}u"))],
        workgroup: WORKGROUP,
    }
}

/// Puts the parts of [`Pass::Split`] together.
pub(super) fn merge() -> Shader {
    Shader {
        name: "attention_merge",
        source: include_str!("../../../../shaders/attention_merge.wgsl"),
        shared: &[INDEX],
        tunables: vec![],
        workgroup: MERGE_WORKGROUP,
    }
}

/// Size of a head in the shaders.
fn padded_head(width: usize) -> usize {
    assert!(
        width <= LARGEST_HEAD,
        "attention: heads have at most {LARGEST_HEAD} values, found {width}"
    );
    if width <= LARGEST_COMMON_HEAD {
        width.next_multiple_of(16)
    } else {
        LARGEST_HEAD
    }
}
