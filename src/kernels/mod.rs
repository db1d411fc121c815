//! The operations that run as our own WGSL on a GPU and as their vectorised twins on the CPU.
//! It knows tensors and nothing of models, rollouts or losses.

mod adamw;
mod assemble;
mod attention;
mod dropout;
mod flex_slices;
mod frozen_matrix;
mod group_advantage;
mod launch;
mod policy_loss;
mod product;
mod rms_norm;
mod rotary;
mod sample_token;
mod self_test;
mod shape_check;
mod swiglu;
mod temperature;
mod token_logprob;
mod vector_math;
mod write_rows;

pub use adamw::{AdamWState, AdamWStep, adamw};
pub use assemble::{AssembleError, Shader, assemble};
pub use attention::{Spans, Visible, attention};
pub use dropout::dropout;
pub use frozen_matrix::{FrozenMatrix, SharedBytes, Storage, WeightMatrix};
pub use group_advantage::{AdvantageRows, group_advantage};
pub use policy_loss::{
    PolicyLoss, PolicyLossInput, PolicyLossMetrics, PolicyLossOptions, Surrogate, policy_loss,
    policy_loss_metrics,
};
pub use rms_norm::rms_norm;
pub use rotary::rotary;
pub use sample_token::{
    NO_TOKEN, NOT_FINITE_TOKEN, SampleOptions, SampleOptionsError, sample_token, sample_weights,
};
pub use self_test::{SelfTest, self_test};
pub use swiglu::swiglu;
pub use temperature::TEMPERATURES;
pub use token_logprob::LOGITS_CHUNK_BYTES;
pub use token_logprob::{
    SUPPRESSED_LOGPROB, TokenLogprob, TokenLogprobOptions, logits_logprob, token_logprob,
};
pub use write_rows::{Places, write_rows};

/// Every variant of every kernel, as it may be launched; the soundness test validates each without a GPU.
pub fn shaders() -> Vec<Shader> {
    [
        attention::shaders(),
        write_rows::shaders(),
        rms_norm::shaders(),
        rotary::shaders(),
        swiglu::shaders(),
        token_logprob::shaders(),
        sample_token::shaders(),
        dropout::shaders(),
        frozen_matrix::shaders(),
        group_advantage::shaders(),
        policy_loss::shaders(),
        adamw::shaders(),
    ]
    .concat()
}
