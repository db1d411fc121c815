//! Spellings of other trainers, read as ours with a note (conventions: section 1.6).
//!
//! Only other trainers' spellings stand here: a key of ours that is renamed leaves nothing behind. Knows nothing of the
//! types of keys; a value that cannot be translated passes through, and the key's own reader refuses it.

use serde_json::{Value, json};

/// One foreign spelling.
#[derive(Debug)]
pub(super) struct Alias {
    /// As the other trainer writes it.
    pub spelled: &'static str,
    /// Our key.
    pub key: &'static str,
    /// The other trainer, or the kind of spelling.
    pub owner: &'static str,
    /// From its values to ours.
    pub translate: fn(Value) -> Value,
}

const fn same(spelled: &'static str, key: &'static str, owner: &'static str) -> Alias {
    Alias {
        spelled,
        key,
        owner,
        translate: |value| value,
    }
}

static ALIASES: &[Alias] = &[
    same("rollout.n", "num_generations", "verl"),
    same("actor_rollout_ref.rollout.n", "num_generations", "verl"),
    same("worker.rollout.n", "num_generations", "EasyR1"),
    same(
        "data.max_response_length",
        "max_completion_length",
        "verl, EasyR1",
    ),
    same(
        "max_response_length",
        "max_completion_length",
        "verl, EasyR1",
    ),
    same(
        "data.max_prompt_length",
        "max_prompt_length",
        "verl, EasyR1",
    ),
    same("max_length", "max_prompt_length", "ms-swift"),
    same("max_seq_length", "max_prompt_length", "mlx-lm-lora"),
    same("kl_loss_coef", "beta", "verl"),
    same("algorithm.kl_coef", "beta", "EasyR1"),
    same("kl_coef", "beta", "EasyR1"),
    same("clip_ratio_low", "epsilon", "verl, EasyR1"),
    same("clip_ratio_high", "epsilon_high", "verl, EasyR1"),
    same("clip_ratio_c", "delta", "verl"),
    same("clip_ratio_dual", "delta", "EasyR1"),
    Alias {
        spelled: "loss_agg_mode",
        key: "loss_type",
        owner: "verl",
        translate: verl_aggregation,
    },
    same("grpo_loss_type", "loss_type", "mlx-lm-lora"),
    same("ppo_epochs", "num_iterations", "verl, EasyR1"),
    same("norm_adv_by_std_in_grpo", "scale_rewards", "verl"),
    same("filter_groups.enable", "dynamic_sampling", "verl"),
    same("online_filtering", "dynamic_sampling", "EasyR1"),
    same("dynamic_sample", "dynamic_sampling", "swift"),
    same("default_local_dir", "output_dir", "verl"),
    same("save_checkpoint_path", "output_dir", "EasyR1"),
    same("adapter_path", "output_dir", "mlx-lm-lora"),
    Alias {
        spelled: "resume_mode",
        key: "resume_from_checkpoint",
        owner: "verl",
        translate: verl_resume,
    },
    same("load_checkpoint_path", "resume_from_checkpoint", "EasyR1"),
    same("find_last_checkpoint", "resume_from_checkpoint", "EasyR1"),
    same(
        "resume_adapter_file",
        "resume_from_checkpoint",
        "mlx-lm-lora",
    ),
    same("grad_clip", "max_grad_norm", "verl"),
    same(
        "freeze_vision_tower",
        "freeze_vision_modules",
        "verl, EasyR1",
    ),
    same("freeze_vit", "freeze_vision_modules", "ms-swift"),
    Alias {
        spelled: "torch_dtype",
        key: "dtype",
        owner: "older TRL and transformers",
        translate: number_format,
    },
    same("activation_checkpointing", "gradient_checkpointing", "FSDP"),
    same(
        "enable_gradient_checkpointing",
        "gradient_checkpointing",
        "verl, EasyR1",
    ),
    same("grad_checkpoint", "gradient_checkpointing", "mlx-lm-lora"),
    Alias {
        spelled: "finetuning_type",
        key: "use_peft",
        owner: "LLaMA-Factory",
        translate: is_lora,
    },
    Alias {
        spelled: "tuner_type",
        key: "use_peft",
        owner: "ms-swift",
        translate: is_lora,
    },
    Alias {
        spelled: "train_type",
        key: "use_peft",
        owner: "ms-swift, mlx-lm-lora",
        translate: is_lora,
    },
    same("lora_rank", "lora_r", "LLaMA-Factory, ms-swift, verl"),
    Alias {
        spelled: "lora_target",
        key: "lora_target_modules",
        owner: "LLaMA-Factory",
        translate: all_linear,
    },
    same("target_modules", "lora_target_modules", "ms-swift, verl"),
    same("modules_to_save", "lora_modules_to_save", "ms-swift"),
    same("additional_target", "lora_modules_to_save", "LLaMA-Factory"),
    same("image_root", "image_dir", "Visual-RFT"),
    same("image_path", "image_dir", "Reason-RFT"),
    Alias {
        spelled: "mix_ratio",
        key: "external_when",
        owner: "CalibRL",
        translate: |value| json!({ "probability": value }),
    },
    same("chord_enable_phi_function", "external_phi", "ms-swift"),
    same("use_liger_loss", "use_liger_kernel", "older TRL"),
    same("evaluation_strategy", "eval_strategy", "older transformers"),
    same(
        "per_gpu_train_batch_size",
        "per_device_train_batch_size",
        "older transformers",
    ),
    same(
        "per_gpu_eval_batch_size",
        "per_device_eval_batch_size",
        "older transformers",
    ),
    same("data_file_paths", "dataset_name", "VLM-R1"),
    same("image_folders", "image_dir", "VLM-R1"),
    same("dataset", "dataset_name", "LLaMA-Factory"),
    same("eval_dataset", "eval_dataset_name", "LLaMA-Factory"),
    same("media_dir", "image_dir", "LLaMA-Factory"),
    same("cutoff_len", "max_prompt_length", "LLaMA-Factory"),
    same("image_max_pixels", "max_pixels", "LLaMA-Factory"),
    same("image_min_pixels", "min_pixels", "LLaMA-Factory"),
];

/// The alias of this spelling.
pub(super) fn find(spelled: &str) -> Option<&'static Alias> {
    ALIASES.iter().find(|alias| alias.spelled == spelled)
}

/// Every foreign spelling.
pub(crate) fn spellings() -> impl Iterator<Item = &'static str> {
    ALIASES.iter().map(|alias| alias.spelled)
}

fn verl_aggregation(value: Value) -> Value {
    match value.as_str() {
        Some("token-mean") => json!("dapo"),
        Some("seq-mean-token-mean") => json!("grpo"),
        Some("seq-mean-token-sum-norm") => json!("dr_grpo"),
        _ => value,
    }
}

fn verl_resume(value: Value) -> Value {
    match value.as_str() {
        Some("auto") => json!(true),
        Some("disable") => Value::Null,
        _ => value,
    }
}

/// `torch.bfloat16` and `bf16` as `bfloat16`.
fn number_format(value: Value) -> Value {
    match value.as_str().map(|word| word.trim_start_matches("torch.")) {
        Some("bf16" | "bfloat16") => json!("bfloat16"),
        Some("fp16" | "half" | "float16") => json!("float16"),
        Some("fp32" | "float" | "float32") => json!("float32"),
        _ if value.is_null() => json!("auto"),
        _ => value,
    }
}

fn is_lora(value: Value) -> Value {
    match value.as_str() {
        Some("lora") => json!(true),
        Some("full") => json!(false),
        _ if value.is_null() => json!(false),
        _ => value,
    }
}

fn all_linear(value: Value) -> Value {
    if value == "all" {
        json!("all-linear")
    } else {
        value
    }
}

#[cfg(test)]
mod tests {
    use super::super::{foreign, table};
    use super::*;

    #[test]
    fn every_spelling_leads_to_a_key() {
        for alias in ALIASES {
            let foreign = foreign::names().any(|name| name == alias.key);
            assert!(
                foreign || table::find(alias.key).is_some(),
                "{} -> {}",
                alias.spelled,
                alias.key
            );
        }
    }
}
