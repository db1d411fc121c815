//! The policy loss with its k3 term: loss, statistics and gradient in one pass.
//! It does not know how tokens are weighted (grpo, bnpo, dr_grpo, dapo): the weights come in.

mod backends;
mod clip_metrics;
mod twin;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::Tensor;

use super::shape_check::ShapeCheck;

pub(crate) use backends::shaders;
pub use clip_metrics::{PolicyLossMetrics, policy_loss_metrics};

/// Planes of [`PolicyLoss::terms`].
pub const TERMS: usize = 5;
/// `exp` of a larger log-ratio overflows: the loss becomes NaN, and the step is refused.
const LARGEST_LOG_RATIO: f32 = 88.0;
/// The reference log-ratio is clamped to this before `exp`.
const LARGEST_LOG_REFERENCE_RATIO: f32 = 20.0;

/// What the ratio r and the advantage A of a token count; A log p where r is 1, in slope.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Surrogate {
    /// min(min(r, delta) A, clip(r, 1 - `epsilon_low`, 1 + `epsilon_high`) A): PPO's, GRPO's, DAPO's.
    #[default]
    Clipped,
    /// sg[min(r, `epsilon_high`)] A log p: CISPO (MiniMax-M1, arXiv 2506.13585; `epsilon_high` is ScaleRL's largest ratio).
    Cispo,
    /// 4 / tau sigmoid(tau (r - 1)) A: SAPO (arXiv 2511.20347).
    Sapo {
        /// tau where A > 0.
        positive: f32,
        /// tau everywhere else.
        negative: f32,
    },
}

/// The options of the loss, named as in TRL's `GRPOConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLossOptions {
    /// What ratio and advantage count.
    pub surrogate: Surrogate,
    /// The ratio is clipped below at 1 - `epsilon_low`; read by [`Surrogate::Clipped`].
    pub epsilon_low: f32,
    /// The ratio is clipped above at 1 + `epsilon_high`, or at `epsilon_high` by [`Surrogate::Cispo`].
    pub epsilon_high: f32,
    /// Cap of the unclipped ratio; read by [`Surrogate::Clipped`].
    pub delta: Option<f32>,
    /// Factor of the k3 term.
    pub beta: f32,
    /// One ratio per row, `exp` of the mean log-ratio over the mask (GSPO), instead of one per token.
    pub sequence_level: bool,
    /// k3 times the ratio (TRL's `use_bias_correction_kl`).
    pub bias_corrected_kl: bool,
}

impl Default for PolicyLossOptions {
    /// The defaults of TRL's `GRPOConfig`.
    fn default() -> Self {
        Self {
            surrogate: Surrogate::Clipped,
            epsilon_low: 0.2,
            epsilon_high: 0.2,
            delta: None,
            beta: 0.0,
            sequence_level: false,
            bias_corrected_kl: false,
        }
    }
}

/// What the loss is computed from; every tensor is [R, T], and only `logprobs` receives a gradient.
#[derive(Debug, Clone)]
pub struct PolicyLossInput {
    /// Log-probabilities under the policy that is trained.
    pub logprobs: Tensor<2>,
    /// Log-probabilities under the policy at rollout time; with one update per batch pass `logprobs.detach()`.
    pub old_logprobs: Tensor<2>,
    /// Log-probabilities under the reference model; needed if `beta` is not 0, and k3 is 0 without it.
    pub reference_logprobs: Option<Tensor<2>>,
    /// Advantage of every token.
    pub advantages: Tensor<2>,
    /// 1 where the token counts, 0 elsewhere; nothing is read where it is 0.
    pub mask: Tensor<2>,
    /// Weight of every token in the loss, with the denominators of the aggregation inside.
    pub weights: Tensor<2>,
    /// Factor of `beta` per token; 1 if absent.
    pub kl_weights: Option<Tensor<2>>,
    /// Factor of the surrogate per token, for example TRL's mask of the most uncertain tokens; 1 if absent.
    pub surrogate_weights: Option<Tensor<2>>,
}

/// The result of [`policy_loss`].
#[derive(Debug, Clone)]
pub struct PolicyLoss {
    /// [1] sum over R and T of weight * mask * l, tracked. NaN if a number was not finite or a ratio overflowed.
    pub loss: Tensor<1>,
    /// [5, R, T] without gradient: l, ratio, k3 (corrected if asked for), clipped below, clipped above.
    pub terms: Tensor<3>,
}

/// The policy loss of TRL's `GRPOTrainer._compute_loss` for the loss types grpo, bnpo, dr_grpo, dapo, cispo and sapo.
///
/// `l = -surrogate_weight s + beta kl_weight k3` with the [`Surrogate`] s,
/// `k3 = exp(d) - d - 1` with `d = reference - logprob`, clamped to 20 before `exp` (which TRL does not do, and which
/// never acts in a healthy run). The gradient comes from the same pass and is kept for the backward one.
///
/// # Panics
/// On shapes that disagree, or if `beta` is not 0 and there are no reference log-probabilities.
#[must_use]
pub fn policy_loss(input: PolicyLossInput, options: &PolicyLossOptions) -> PolicyLoss {
    check_shapes(&input);
    assert!(
        options.beta == 0.0 || input.reference_logprobs.is_some(),
        "policy_loss: beta is {}, which needs reference log-probabilities",
        options.beta
    );
    let settings = Settings {
        options: options.clone(),
        has_reference: input.reference_logprobs.is_some(),
    };
    let logprobs = input.logprobs.clone();
    let [rows, tokens] = logprobs.dims();
    if rows * tokens == 0 {
        return PolicyLoss {
            loss: logprobs.sum(),
            terms: Tensor::zeros([TERMS, rows, tokens], &input.mask.device()),
        };
    }
    let constant = |tensor: Tensor<2>| tensor.detach().into_dispatch();
    let old = constant(input.old_logprobs);
    let mask = constant(input.mask);
    let streams = Streams {
        // Without a reference nothing of it is used, and the mask, which is 1 where a token counts, is what absent
        // weights would be.
        reference: input
            .reference_logprobs
            .map_or_else(|| old.clone(), constant),
        kl_weights: input.kl_weights.map_or_else(|| mask.clone(), constant),
        surrogate_weights: input
            .surrogate_weights
            .map_or_else(|| mask.clone(), constant),
        advantages: constant(input.advantages),
        weights: constant(input.weights),
        old,
        mask,
    };
    let (loss, terms, _) = Dispatch::policy_loss(logprobs.into_dispatch(), streams, settings);
    PolicyLoss {
        loss: Tensor::from_dispatch(loss),
        terms: Tensor::from_dispatch(terms),
    }
}

fn check_shapes(input: &PolicyLossInput) {
    let mut check = ShapeCheck::new("policy_loss")
        .tensor("logprobs", "RT", &input.logprobs.dims())
        .tensor("old_logprobs", "RT", &input.old_logprobs.dims())
        .tensor("advantages", "RT", &input.advantages.dims())
        .tensor("mask", "RT", &input.mask.dims())
        .tensor("weights", "RT", &input.weights.dims());
    for (name, tensor) in [
        ("reference_logprobs", &input.reference_logprobs),
        ("kl_weights", &input.kl_weights),
        ("surrogate_weights", &input.surrogate_weights),
    ] {
        if let Some(tensor) = tensor {
            check = check.tensor(name, "RT", &tensor.dims());
        }
    }
}

/// The constants of the loss, [R, T] each.
#[derive(Debug, Clone, ExtensionType)]
pub struct Streams<B: Backend> {
    old: FloatTensor<B>,
    reference: FloatTensor<B>,
    advantages: FloatTensor<B>,
    mask: FloatTensor<B>,
    weights: FloatTensor<B>,
    kl_weights: FloatTensor<B>,
    surrogate_weights: FloatTensor<B>,
}

/// The options, and whether the reference stream holds anything.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    options: PolicyLossOptions,
    has_reference: bool,
}

/// The operation on each backend.
#[backend_extension(Cube, Flex, Autodiff)]
pub trait PolicyLossOps: Backend {
    /// `logprobs` [R, T] and constants -> loss [1], terms [5, R, T], d(loss) / d(logprobs) [R, T].
    fn policy_loss(
        logprobs: FloatTensor<Self>,
        #[extension_type] streams: Streams<Self>,
        settings: Settings,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}
