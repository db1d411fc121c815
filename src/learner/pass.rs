//! One differentiable pass over a micro-batch: forward to the states before the head, and backward from a loss on them to
//! gradients by parameter name, as one graph or one block at a time.
//!
//! Knows nothing of which loss it is.

use burn::tensor::Tensor;

use super::error::LearnError;
use super::policy::Learner;
use super::score::packed;
use crate::device::read_back;
use crate::model::parameters::Weights;
use crate::model::{BlockGradient, EMBEDDING, FINAL_NORM, HEAD, Qwen2Vl, Recomputation};
use crate::record::TokenBatch;

/// A forward pass that waits for its loss.
pub(super) struct Pass {
    /// The parameters in the loss's own graph: all that train, or those behind the blocks.
    tracked: Weights,
    /// The model of these.
    pub model: Qwen2Vl,
    /// [n, D] before the final norm: the end of the graph, or a leaf of its own.
    pub states: Tensor<2>,
    /// Per completion token the row of `states` that predicts it.
    pub predictors: Vec<u32>,
    /// What computes the blocks again, if the graph begins behind them.
    blocks: Option<Recomputation>,
}

/// A forward pass with its loss, which is finite.
pub(super) struct Forward {
    loss: Tensor<1>,
    pass: Pass,
    /// Of the loss.
    pub value: f32,
}

impl Forward {
    pub fn new(loss: Tensor<1>, pass: Pass) -> Result<Self, LearnError> {
        let value = read_back(&loss)?[0];
        if value.is_finite() {
            Ok(Self { loss, pass, value })
        } else {
            Err(LearnError::Loss { found: value })
        }
    }
}

impl Learner {
    pub(super) fn pass(&self, batch: &TokenBatch) -> Result<Pass, LearnError> {
        let packed = packed(batch);
        let predictors = packed.predictors.clone();
        let seed = self.dropout_seed();
        let trains = |name: &str| self.is_trainable(name);
        let model_of = |weights: &Weights| {
            let config = &self.config;
            let model = Qwen2Vl::in_training(config, weights, &self.folder, &self.device, seed);
            model.map(|model| model.remembering(self.features.clone()))
        };
        if !self.options.gradient_checkpointing {
            let tracked = self.weights.tracked(&trains);
            let model = model_of(&tracked)?;
            return Ok(Pass {
                states: model.states(&batch.prompts, &packed),
                tracked,
                model,
                predictors,
                blocks: None,
            });
        }
        let model = model_of(&self.weights)?;
        let named = (&self.weights, self.folder.as_str());
        let (blocks, states) =
            Recomputation::forward(&model, &batch.prompts, packed, (&trains, seed), named);
        let behind = |name: &str| [EMBEDDING, HEAD, FINAL_NORM].contains(&name) && trains(name);
        let tracked = self.weights.tracked(&behind);
        Ok(Pass {
            model: model_of(&tracked)?,
            tracked,
            states: states.autodiff().require_grad(),
            predictors,
            blocks: Some(blocks),
        })
    }

    /// Masks of an adapter's dropout differ in every micro-batch and repeat themselves in a resumed run.
    fn dropout_seed(&self) -> u64 {
        let step = self.optimizer.steps_taken();
        let place = step.wrapping_shl(20) | self.micro_batches;
        crate::seed::fnv1a((self.options.dropout_seed ^ place).to_le_bytes())
    }

    /// Adds the gradients of a loss to those of the step.
    pub(super) fn backward(&mut self, forward: Forward) -> Result<(), LearnError> {
        let Forward { loss, pass, .. } = forward;
        let Pass {
            tracked,
            model,
            states,
            blocks,
            ..
        } = pass;
        let mut graph = loss.backward();
        let upstream = states.grad_remove(&mut graph);
        let mut found = Vec::new();
        for (name, parameter) in tracked.iter() {
            let gradient = parameter.dense();
            let gradient = gradient.and_then(|values| values.grad_remove(&mut graph));
            found.extend(gradient.map(|gradient| (name.clone(), BlockGradient::Whole(gradient))));
        }
        // Nothing may hold the weights that an update is about to change.
        drop((graph, tracked, model, states));
        self.take_gradients(found)?;
        if let (Some(mut blocks), Some(upstream)) = (blocks, upstream) {
            blocks.seed(upstream);
            loop {
                let trains = |name: &str| self.is_trainable(name);
                let Some(found) = blocks.next_block(&self.weights, &trains)? else {
                    break;
                };
                self.take_gradients(found)?;
            }
        }
        self.micro_batches += 1;
        Ok(())
    }
}
