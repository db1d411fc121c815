//! Do the numbers agree with those of others: twins, finite differences, transformers, TRL, formulas?

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod adapters_match_peft;
mod decoding_agrees_with_training;
mod devices;
mod external_ratios_match_formulas;
mod gradients_match_finite_difference;
mod kernels_adamw;
mod kernels_attention;
mod kernels_dropout;
mod kernels_frozen_matrix;
mod kernels_group_advantage;
mod kernels_layers;
mod kernels_match_reference;
mod kernels_policy_loss;
mod kernels_sample_token;
mod learner_matches_golden;
mod model_matches_golden;
mod one_block_at_a_time;
mod plain_grpo_is_the_special_case;
mod saved_folders_load_back;
mod shaders_are_sound;
mod training_learns_toy_task;
