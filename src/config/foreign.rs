//! Keys of TRL and transformers that have no counterpart here, so that their files can be pasted.
//!
//! A key that changes nothing here is accepted with a note; a key that asks for a missing feature is accepted only at
//! the values that leave the feature off. Every group gives its reason. No key of this list reaches [`Run`](super::Run).

use serde_json::Value;

use super::error::shown;

/// What happens to a value other than the quiet ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// It has no effect, and a note says so.
    Note,
    /// It asks for something that does not exist here.
    Refuse,
}
use Otherwise::{Note, Refuse};

/// Keys that share their reason.
#[derive(Debug)]
struct Foreign {
    names: &'static [&'static str],
    /// Values, as JSON, that need no word.
    quiet: &'static [&'static str],
    otherwise: Otherwise,
    /// Completes "`key` has no effect: ..." or "`key` is ...: ...".
    reason: &'static str,
    /// What to do instead, for refused values.
    hint: &'static str,
}

const OFF: &[&str] = &["false", "null"];
const EMPTY: &[&str] = &["null", "\"\"", "[]", "{}", "false"];
const LEAVE_OUT: &str = "leave the key out";

const fn refused(
    names: &'static [&'static str],
    quiet: &'static [&'static str],
    reason: &'static str,
    hint: &'static str,
) -> Foreign {
    Foreign {
        names,
        quiet,
        otherwise: Refuse,
        reason,
        hint,
    }
}

const fn inert(
    names: &'static [&'static str],
    quiet: &'static [&'static str],
    reason: &'static str,
) -> Foreign {
    Foreign {
        names,
        quiet,
        otherwise: Note,
        reason,
        hint: "",
    }
}

#[rustfmt::skip] // One group a block, names side by side: this is a table.
static FOREIGN: &[Foreign] = &[
    refused(&["use_peft", "load_in_4bit", "load_in_8bit", "use_rslora", "use_dora", "use_bnb_nested_quant"], OFF,
        "adapters and quantised weights are not in this version", "all weights train; freeze_vision_modules: true saves memory"),
    refused(&["auto_find_batch_size"], OFF,
        "groups must stay whole, so a batch cannot be halved", "lower per_device_train_batch_size instead"),
    refused(&["push_to_hub"], OFF, "nothing is uploaded", "upload the checkpoint folder after training"),
    refused(&["report_to"], &["\"none\"", "null", "[]", "[\"none\"]"],
        "trackers are not in this version", "set report_to: none; metrics are in output_dir/metrics.jsonl"),
    refused(&["external_is_proposal"], &["\"own\"", "null"],
        "`mixture` needs external models that score given text", "set it to own"),
    refused(&["teacher_model_server"], EMPTY,
        "an endpoint is an entry of `external` here", "external: [{name: ..., base_url: ..., model: ...}]"),
    refused(&["multi_objective_aggregation"], &["\"sum_then_normalize\"", "null"],
        "only `sum_then_normalize` is in this version", LEAVE_OUT),
    refused(&["top_entropy_quantile"], &["1", "1.0", "null"], "the entropy mask is not in this version", "set it to 1.0"),
    refused(&["entropy_coef"], &["0", "0.0", "null"], "the entropy bonus is not in this version", "set it to 0"),
    refused(&["use_adaptive_entropy", "sync_ref_model", "dynamic_sampling", "off_policy_mask_threshold",
        "dataset_streaming", "load_best_model_at_end", "ignore_data_skip", "logging_first_step", "eval_on_start"], OFF,
        "this feature is not in this version", LEAVE_OUT),
    refused(&["repetition_penalty"], &["1", "1.0", "null"], "the repetition penalty is not in this version", "set it to 1.0"),
    refused(&["use_cpu"], OFF, "the device has a key of its own", "set device: cpu"),
    refused(&["optim"], &["\"adamw\"", "\"adamw_torch\"", "\"adamw_torch_fused\"", "\"adamw_hf\"", "null"],
        "AdamW is the only optimizer", "set optim: adamw_torch"),
    refused(&["model_revision"], &["\"main\"", "null"], "models are local folders", "download that revision to a folder"),
    refused(&["logging_strategy"], &["\"steps\"", "null"], "metrics are logged by steps", "set logging_strategy: steps"),
    refused(&["train_sampling_strategy"], &["\"random\"", "null"], "rows are shuffled or in order", "use shuffle_dataset"),
    refused(&["label_smoothing_factor", "eval_delay"], &["0", "0.0", "null"], "this feature is not in this version", "set it to 0"),
    refused(&["dataset_config", "neftune_noise_alpha", "generation_kwargs", "chat_template_kwargs", "model_init_kwargs",
        "optim_args", "optim_target_modules", "lr_scheduler_kwargs", "vllm_structured_outputs_regex", "deepspeed",
        "fsdp", "parallelism_config", "debug", "log_completions_hub_repo"], EMPTY,
        "this feature is not in this version", LEAVE_OUT),

    inert(&["dtype"], &["\"float32\"", "\"auto\""], "weights of any type are read, everything is computed in float32, and saved in the type that was read"),
    inert(&["bf16", "fp16", "tf32", "bf16_full_eval", "fp16_full_eval", "cast_lm_head_to_fp32"], OFF,
        "everything is computed in float32"),
    inert(&["attn_implementation", "use_liger_kernel", "liger_kernel_config", "gradient_checkpointing",
        "gradient_checkpointing_kwargs", "activation_checkpointing", "activation_checkpointing_kwargs", "torch_compile",
        "torch_compile_backend", "torch_compile_mode", "torch_empty_cache_steps", "use_cache", "cache_implementation",
        "pad_to_multiple_of"], OFF, "it tunes PyTorch's speed and memory, not results"),
    inert(&["use_vllm", "vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode", "vllm_server_base_url",
        "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port", "vllm_gpu_memory_utilization",
        "vllm_max_model_length", "vllm_tensor_parallel_size", "use_transformers_paged",
        "use_transformers_continuous_batching", "transformers_continuous_batching_config"], OFF,
        "completions are sampled in this program"),
    inert(&["vllm_importance_sampling_correction", "vllm_importance_sampling_mode", "vllm_importance_sampling_cap",
        "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"], OFF,
        "sampling and training use one model, so there is nothing to correct"),
    inert(&["lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "lora_target_parameters",
        "lora_modules_to_save", "lora_task_type", "bnb_4bit_quant_type", "bnb_4bit_quant_storage"], EMPTY, "use_peft is off"),
    inert(&["dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order",
        "remove_unused_columns", "label_names", "length_column_name"], &["false", "null", "0"],
        "rows are read by this program, every column of them"),
    inert(&["local_rank", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph",
        "ddp_backend", "ddp_timeout", "fsdp_config", "accelerator_config", "average_tokens_across_devices",
        "ds3_gather_for_generation", "log_on_each_node", "save_on_each_node", "ignore_bias_buffers"], EMPTY,
        "training runs on one device"),
    inert(&["log_level", "log_level_replica", "disable_tqdm", "logging_dir", "logging_nan_inf_filter",
        "include_num_input_tokens_seen", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
        "log_unique_prompts", "log_multimodal", "skip_memory_metrics"], OFF, "logs have one form here"),
    inert(&["hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push", "hub_revision"], EMPTY,
        "push_to_hub is off"),
    inert(&["metric_for_best_model", "greater_is_better"], OFF, "load_best_model_at_end is off"),
    inert(&["sapo_temperature_neg", "sapo_temperature_pos", "vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg",
        "vespo_lambda_neg"], &["null"], "its loss_type is not in this version"),
    inert(&["entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target", "ref_model_mixup_alpha",
        "ref_model_sync_steps", "max_resample_times", "max_tool_calling_iterations", "router_aux_loss_coef"], &["null"],
        "the feature it tunes is off"),
    inert(&["disable_dropout"], OFF, "Qwen2-VL has no dropout"),
    inert(&["trust_remote_code"], OFF, "no code is loaded from a model folder"),
    inert(&["do_train", "do_eval", "do_predict"], OFF, "the command says what runs"),
    inert(&["full_determinism", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"], OFF,
        "a seed fixes a run on a device, and a checkpoint holds everything"),
    inert(&["prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps",
        "include_for_metrics", "batch_eval_metrics"], EMPTY, "evaluation samples completions and scores them"),
];

/// What becomes of a value of a foreign key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to say.
    Quiet,
    /// It has no effect; the note says why.
    Noted(String),
    /// It asks for something that does not exist here: problem and hint.
    Refused(String, String),
}

/// Judges a value; `None` if the key is not foreign.
pub(super) fn judge(name: &str, value: &Value) -> Option<Verdict> {
    let foreign = FOREIGN
        .iter()
        .find(|foreign| foreign.names.contains(&name))?;
    let text = value.to_string();
    let unquoted = value.as_str().map(str::to_ascii_lowercase);
    // A flag arrives as text: `false` and `"false"` are the same here.
    let is_quiet = |quiet: &&str| **quiet == text || unquoted.as_deref() == Some(*quiet);
    Some(if foreign.quiet.iter().any(is_quiet) {
        Verdict::Quiet
    } else if foreign.otherwise == Note {
        Verdict::Noted(format!("`{name}` has no effect: {}", foreign.reason))
    } else {
        let problem = format!("is {}: {}", shown(value), foreign.reason);
        Verdict::Refused(problem, foreign.hint.to_owned())
    })
}

/// Every foreign key.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FOREIGN
        .iter()
        .flat_map(|foreign| foreign.names.iter().copied())
}
