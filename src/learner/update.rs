//! From gradients to an update: gathered over the micro-batches of a step, checked, clipped, applied; or each applied as it
//! comes, where no global norm is asked and a step is one micro-batch.
//!
//! Knows nothing of losses.

use super::error::LearnError;
use super::policy::Learner;
use super::report::{MicroBatchResult, UpdateReport};
use super::streaming::Streaming;
use crate::device::guard;
use crate::learner::optimizer::gradients::{GradientNorm, Gradients};
use crate::model::BlockGradient;
use crate::record::TokenBatch;

/// The optimizer squares gradients in f32.
const LARGEST_NORM: f64 = 1.8e19;

impl Learner {
    /// The gradients gathered so far, by parameter name.
    #[must_use]
    pub const fn gradients(&self) -> &Gradients {
        &self.gradients
    }

    /// Forward and backward of one micro-batch of the policy loss; gradients add up until [`Learner::apply`].
    ///
    /// `token_weights` [row][token] are the shares of each token in the step's loss. Rows without `old_logprobs` use
    /// the current ones, detached: the first update after a rollout.
    ///
    /// # Errors
    /// If the loss is not finite, or the device fails.
    pub fn accumulate(
        &mut self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
    ) -> Result<MicroBatchResult, LearnError> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        guard(&during, || {
            let found = self.policy_forward(batch, token_weights);
            let (forward, result) = found.inspect_err(|_| self.forget())?;
            self.backward(forward)?;
            Ok(result)
        })?
    }

    /// Forward and backward of supervised fine-tuning: −Σ weight · log p over the tokens of every row.
    ///
    /// # Errors
    /// If the loss is not finite, or the device fails.
    pub fn accumulate_supervised(
        &mut self,
        batch: &TokenBatch,
        token_weight: f32,
    ) -> Result<f32, LearnError> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        guard(&during, || {
            let found = self.supervised_forward(batch, token_weight);
            let forward = found.inspect_err(|_| self.forget())?;
            let loss = forward.value;
            self.backward(forward)?;
            Ok(loss)
        })?
    }

    /// Takes gradients of one block: into the sums of the step, or at once into the weights.
    pub(super) fn take_gradients(
        &mut self,
        found: Vec<(String, BlockGradient)>,
    ) -> Result<(), LearnError> {
        let mut now = Gradients::default();
        for (name, gradient) in found {
            // Parameters of a layer have one gradient a pass; a tied table and the tower have several.
            let whole_now = self.streaming.is_some() && name.starts_with("model.layers.");
            let sums = if whole_now {
                &mut now
            } else {
                &mut self.gradients
            };
            match gradient {
                BlockGradient::Whole(gradient) => sums.add(&name, gradient),
                BlockGradient::Rows { ids, values } => {
                    let rows = self.weights.get(&name).map_or(0, |table| table.shape[0]);
                    sums.add_rows(&name, rows, &ids, values);
                }
            }
        }
        self.apply_now(now)
    }

    /// Applies whole gradients within a streaming update.
    fn apply_now(&mut self, gradients: Gradients) -> Result<(), LearnError> {
        let Some(mut streaming) = self.streaming.take() else {
            return Ok(());
        };
        let norm = finite_norm(&gradients)?;
        streaming.squares += norm * norm;
        for (name, gradient) in gradients {
            self.optimizer
                .update(&mut self.weights, &name, gradient, streaming.rate);
            streaming.updated.push(name);
        }
        self.streaming = Some(streaming);
        Ok(())
    }

    /// As [`Learner::accumulate`] and [`Learner::apply`] for a step of one micro-batch; `check` may refuse it between
    /// forward and backward. Without a global norm (`max_grad_norm` 0) and with gradient checkpointing each gradient is
    /// used and dropped as it comes, so that the gradients of the whole model never exist together.
    ///
    /// # Errors
    /// As both. A gradient that is not finite may be found when others have been applied: [`LearnError::PartlyApplied`].
    pub fn step_of_one<E: From<LearnError>>(
        &mut self,
        batch: &TokenBatch,
        token_weights: &[Vec<f32>],
        learning_rate: f64,
        check: impl FnOnce(&MicroBatchResult) -> Result<(), E>,
    ) -> Result<(MicroBatchResult, UpdateReport), E> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        let device = |failure| E::from(LearnError::Device(failure));
        let forward = guard(&during, || self.policy_forward(batch, token_weights));
        let (forward, result) = forward.map_err(device)??;
        check(&result)?;
        self.begin(learning_rate);
        guard(&during, || self.backward(forward)).map_err(device)??;
        Ok((result, self.finish(learning_rate)?))
    }

    /// As [`Learner::step_of_one`] for supervised fine-tuning: the loss and the update.
    ///
    /// # Errors
    /// As [`Learner::step_of_one`].
    pub fn supervised_step_of_one(
        &mut self,
        batch: &TokenBatch,
        token_weight: f32,
        learning_rate: f64,
    ) -> Result<(f32, UpdateReport), LearnError> {
        let during = format!("forward and backward of {} rows", batch.rows.len());
        let forward = guard(&during, || self.supervised_forward(batch, token_weight))??;
        let loss = forward.value;
        self.begin(learning_rate);
        guard(&during, || self.backward(forward))??;
        Ok((loss, self.finish(learning_rate)?))
    }

    /// Begins a streaming update where the options allow one.
    fn begin(&mut self, rate: f64) {
        let options = &self.options;
        let alone = self.micro_batches == 0 && self.gradients.is_empty();
        if options.max_grad_norm == 0.0 && options.gradient_checkpointing && alone {
            self.optimizer.begin_step();
            self.streaming = Some(Streaming {
                rate,
                squares: 0.0,
                updated: Vec::new(),
            });
        }
    }

    /// Ends the update that was begun, or makes one of the gathered gradients.
    fn finish(&mut self, rate: f64) -> Result<UpdateReport, LearnError> {
        if self.streaming.is_none() {
            return self.apply(rate);
        }
        let rest = self.gradients.take();
        guard("the update of the weights", || self.apply_now(rest))??;
        let done = self.streaming.take();
        self.forget();
        let Some(done) = done else {
            return Ok(UpdateReport { grad_norm: 0.0 });
        };
        match self.weights.first_unusable(done.updated.iter()) {
            Some(fault) => Err(LearnError::Update(fault)),
            None => Ok(UpdateReport {
                grad_norm: done.squares.sqrt(),
            }),
        }
    }

    /// Clips, checks and applies the gathered gradients, then forgets them.
    ///
    /// # Errors
    /// [`LearnError::Gradient`] if a gradient is not finite; the weights and the optimizer are then as before.
    /// [`LearnError::Update`] if a new weight cannot be kept, and whatever the device says; the learner is then spoilt and
    /// must not be saved. (Holding the old weights until the new ones are known would take their memory twice.)
    pub fn apply(&mut self, learning_rate: f64) -> Result<UpdateReport, LearnError> {
        let gradients = self.gradients.take();
        self.forget();
        guard("the update of the weights", || {
            self.update(gradients, learning_rate)
        })?
    }

    fn update(&mut self, mut gradients: Gradients, rate: f64) -> Result<UpdateReport, LearnError> {
        match gradients.norm()? {
            GradientNorm::NotFinite { tensor } => Err(LearnError::Gradient { tensor }),
            GradientNorm::Finite { norm, largest } => {
                let limit = self.options.max_grad_norm;
                if limit > 0.0 {
                    gradients.clip(norm, limit);
                }
                let kept = if limit > 0.0 { norm.min(limit) } else { norm };
                if kept > LARGEST_NORM {
                    return Err(LearnError::Overflow {
                        tensor: largest,
                        norm: kept,
                    });
                }
                self.optimizer.step(&mut self.weights, &gradients, rate);
                let names = gradients.iter().map(|(name, _)| name);
                match self.weights.first_unusable(names) {
                    Some(fault) => Err(LearnError::Update(fault)),
                    None => Ok(UpdateReport { grad_norm: norm }),
                }
            }
        }
    }
}

/// The norm of gradients of which some may have been applied before.
fn finite_norm(gradients: &Gradients) -> Result<f64, LearnError> {
    match gradients.norm()? {
        GradientNorm::Finite { norm, .. } if norm <= LARGEST_NORM => Ok(norm),
        GradientNorm::Finite { largest, .. } => Err(LearnError::PartlyApplied { tensor: largest }),
        GradientNorm::NotFinite { tensor } => Err(LearnError::PartlyApplied { tensor }),
    }
}
