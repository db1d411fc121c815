//! Keys of batches, optimizer, sampling and loss.
//!
//! Declares names, types and defaults; computes nothing.

use serde::{Deserialize, Serialize};

use super::super::key::{Key, section};
use super::super::ranges::{NUCLEUS, ROWS, SHARE, STEPS, TEMPERATURE, TOKENS, from_to, zero_or};
use super::super::value::Kind;
use crate::options::{ImportanceSamplingLevel, LogprobTemperature, LossType, SchedulerType};

section! {
    /// How many completions are sampled and learnt from at a time. [`Run`](crate::config::Run) has the arithmetic.
    BATCH: BatchKeys {
        /// Completions (not prompts) of one micro-batch; for `sft` rows.
        per_device_train_batch_size: usize = Kind::Count(1, ROWS), "8";
        /// Micro-batches per optimizer step.
        gradient_accumulation_steps: usize = Kind::Count(1, ROWS), "1";
        /// Micro-batches sampled at once; null = `gradient_accumulation_steps`; excludes `generation_batch_size`.
        steps_per_generation: usize = Kind::Optional(&Kind::Count(1, ROWS)), "null";
        /// Passes over the data.
        num_train_epochs: f64 = from_to(1e-6, 1e6), "3";
        /// Optimizer steps; -1 = as many as `num_train_epochs` makes.
        max_steps: i64 = Kind::Limit, "-1";
    }
    unresolved {
        /// Completions sampled at once, another way to say `steps_per_generation`.
        generation_batch_size = Kind::Optional(&Kind::Count(1, ROWS)), "null";
    }
}

section! {
    /// AdamW and the course of its learning rate.
    OPTIMIZER: OptimizerKeys {
        /// Peak learning rate.
        learning_rate: f64 = from_to(0.0, 1.0), "1e-6";
        /// Course of the learning rate after the warm-up.
        lr_scheduler_type: SchedulerType = Kind::Choice(SchedulerType::NAMES), "linear";
        /// Share of all steps that warm up; used where `warmup_steps` is 0.
        warmup_ratio: f64 = Kind::Optional(&SHARE), "0";
        /// Steps that warm up; below 1 a share of all steps.
        warmup_steps: f64 = from_to(0.0, STEPS as f64), "0";
        /// Decoupled weight decay.
        weight_decay: f64 = from_to(0.0, 100.0), "0";
        /// Gradients of a larger global norm are scaled down to it; 0 = never.
        max_grad_norm: f64 = zero_or(1e-9, 1e9), "1";
        /// Decay of AdamW's first moment.
        adam_beta1: f64 = from_to(0.0, 0.999_999), "0.9";
        /// Decay of AdamW's second moment.
        adam_beta2: f64 = from_to(0.0, 0.999_999), "0.999";
        /// AdamW's addend to the denominator.
        adam_epsilon: f64 = from_to(1e-30, 1.0), "1e-8";
        /// Keep the inputs of blocks only and compute each again on the way back; null = with `use_peft`.
        gradient_checkpointing: bool = Kind::Optional(&Kind::Bool), "null";
    }
}

section! {
    /// How the policy's completions are drawn.
    SAMPLING: SamplingKeys {
        /// Tokens of a completion, end token included.
        max_completion_length: usize = Kind::Count(1, TOKENS), "512";
        /// Divides the logits in sampling.
        temperature: f64 = TEMPERATURE, "1";
        /// Keep the most probable tokens that together reach this probability.
        top_p: f64 = NUCLEUS, "1";
        /// Keep this many of the most probable tokens; 0 = all.
        top_k: usize = Kind::Optional(&Kind::Count(0, STEPS)), "0";
        /// Keep tokens of at least this share of the largest probability; null = all.
        min_p: Option<f64> = Kind::Optional(&SHARE), "null";
        /// Divides the positive and multiplies the negative logits of tokens that prompt or completion already hold.
        repetition_penalty: f64 = from_to(1e-2, 1e2), "1";
        /// What divides the logits where training takes log-probabilities: the sampling temperature (TRL) or nothing (Reason-RFT).
        logprob_temperature: LogprobTemperature = Kind::Choice(LogprobTemperature::NAMES), "sampling";
        /// Completions decoded at a time, a waiting one for each that ends; null = as many as memory holds.
        generation_rows: Option<usize> = Kind::Optional(&Kind::Count(1, ROWS)), "null";
    }
}

section! {
    /// The policy loss.
    LOSS: LossKeys {
        /// Loss of a token and aggregation, TRL's names; luspo and vespo are not in this version.
        loss_type: LossType = Kind::Choice(LossType::NAMES), "dapo";
        /// Weight of the KL term against the frozen start; 0 = no reference model in memory.
        beta: f64 = from_to(0.0, 1e3), "0";
        /// The ratio is clipped below 1 - epsilon.
        epsilon: f64 = SHARE, "0.2";
        /// The ratio is clipped above 1 + epsilon_high, in cispo above epsilon_high; null = epsilon.
        epsilon_high: f64 = Kind::Optional(&from_to(0.0, 1e6)), "null";
        /// Cap of the ratio before it meets the advantage (two-sided clip); null = none.
        delta: Option<f64> = Kind::Optional(&from_to(1e-6, 1e6)), "null";
        /// Sharpness of sapo's gate where the advantage is above 0.
        sapo_temperature_pos: f64 = from_to(1e-3, 1e3), "1";
        /// Sharpness of sapo's gate everywhere else.
        sapo_temperature_neg: f64 = from_to(1e-3, 1e3), "1.05";
        /// Factor of the mean entropy that is added to what the loss rewards; 0 = no bonus.
        entropy_coef: f64 = from_to(-1e3, 1e3), "0";
        /// Share of the most uncertain tokens that have a policy loss; the KL term keeps all.
        top_entropy_quantile: f64 = SHARE, "1";
        /// Optimizer passes over each generation batch.
        num_iterations: usize = Kind::Count(1, 1000), "1";
        /// One ratio per token, or one per sequence (GSPO).
        importance_sampling_level: ImportanceSamplingLevel = Kind::Choice(ImportanceSamplingLevel::NAMES), "token";
        /// Leave completions without an end token out of the loss.
        mask_truncated_completions: bool = Kind::Bool, "false";
        /// Let the reference model of the KL term follow the policy.
        sync_ref_model: bool = Kind::Bool, "false";
        /// The policy's share when it does: alpha x policy + (1 - alpha) x reference.
        ref_model_mixup_alpha: f64 = SHARE, "0.6";
        /// Optimizer steps between two such moves.
        ref_model_sync_steps: usize = Kind::Count(1, 1_000_000_000), "512";
        /// Multiply the KL term by the ratio.
        use_bias_correction_kl: bool = Kind::Bool, "false";
    }
}
