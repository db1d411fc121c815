//! Keys of TRL, transformers and the trainers built on them (open-r1, R1-V, VLM-R1, Reason-RFT with its LLaMA-Factory)
//! that have no counterpart here, so that their files can be pasted.
//!
//! A key that asks for nothing is accepted, with one note for its group; one whose wish is met in another way gets a
//! warning that says how; one that asks for what does not exist is refused at all values but those that leave it off.
//! Every group gives its reason. No key of this list reaches [`Run`](super::Run).

use serde_json::Value;

use super::error::shown;

/// What happens to a value other than the quiet ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Otherwise {
    /// It has no effect, and a note says so.
    Note,
    /// What it asks for happens in another way, and a warning says how.
    Warn,
    /// It asks for something that does not exist here.
    Refuse,
}
use Otherwise::{Note, Refuse, Warn};

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

const fn warned(
    names: &'static [&'static str],
    quiet: &'static [&'static str],
    reason: &'static str,
) -> Foreign {
    Foreign {
        names,
        quiet,
        otherwise: Warn,
        reason,
        hint: "",
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

#[rustfmt::skip] // One group after the other: this is a table.
static FOREIGN: &[Foreign] = &[
    refused(&["use_dora"], OFF, "weight-decomposed adapters (DoRA) are not in this version", "leave it out for LoRA, or use_rslora: true"),
    refused(&["lora_target_parameters"], EMPTY,
        "the model has no fused experts", "name layers in lora_target_modules"),
    refused(&["quantization_bit", "quant_bits"], &["null", "0"],
        "the number of bits has keys of its own", "set load_in_4bit: true or load_in_8bit: true"),
    refused(&["adapter_name_or_path", "adapters"], EMPTY,
        "a run starts from one folder", "give the adapter's folder as model_name_or_path: it names its model"),
    refused(&["auto_find_batch_size"], OFF,
        "groups must stay whole, so a batch cannot be halved", "lower per_device_train_batch_size instead"),
    refused(&["push_to_hub", "push_to_hub_revision", "hub_always_push"], OFF,
        "nothing is uploaded", "upload the checkpoint folder after training"),
    refused(&["external_is_proposal"], &["\"own\"", "null"],
        "`mixture` needs external models that score given text", "set it to own"),
    refused(&["teacher_model_server"], EMPTY,
        "an endpoint is an entry of `external` here", "external: [{name: ..., base_url: ..., model: ...}]"),
    refused(&["use_adaptive_entropy", "off_policy_mask_threshold", "load_best_model_at_end", "ignore_data_skip"], OFF,
        "this feature is not in this version", LEAVE_OUT),
    refused(&["use_cpu", "no_cuda"], OFF, "the device has a key of its own", "set device: cpu"),
    refused(&["optim"], &["\"adamw\"", "\"adamw_torch\"", "\"adamw_torch_fused\"", "\"adamw_hf\"", "null"],
        "AdamW is the only optimizer", "set optim: adamw_torch"),
    refused(&["adafactor"], OFF, "AdamW is the only optimizer", LEAVE_OUT),
    refused(&["model_revision", "base_model_revision", "model_code_revision"], &["\"main\"", "null"],
        "models are local folders", "download that revision to a folder"),
    refused(&["logging_strategy"], &["\"steps\"", "null"], "metrics are logged by steps", "set logging_strategy: steps"),
    refused(&["train_sampling_strategy"], &["\"random\"", "null"], "rows are shuffled or in order", "use shuffle_dataset"),
    refused(&["group_by_length"], OFF, "rows are shuffled or in order", "use shuffle_dataset"),
    refused(&["label_smoothing_factor", "val_size", "val_split_ratio", "test_split_size"],
        &["0", "0.0", "null"], "this feature is not in this version",
        "set it to 0; held-out rows are a file of their own: eval_dataset_name"),
    refused(&["neftune_noise_alpha", "generation_kwargs", "chat_template_kwargs", "model_init_kwargs",
        "optim_args", "optim_target_modules", "lr_scheduler_kwargs", "vllm_structured_outputs_regex",
        "vllm_guided_decoding_regex", "debug", "log_completions_hub_repo", "env"], EMPTY,
        "this feature is not in this version", LEAVE_OUT),

    // Data and prompts.
    refused(&["packing", "eval_packing", "neat_packing"], OFF,
        "several rows are never packed into one sequence; each is a sequence of its own",
        "set it to false; per_device_train_batch_size counts rows"),
    refused(&["dataset_mixture", "dataset_mixer", "datasets", "data_files", "data_dir"], EMPTY,
        "the rows are one file, or a folder with a file per split", "dataset_name: rows.jsonl"),
    refused(&["dataset_streaming", "streaming"], OFF, "rows are read before the first step", LEAVE_OUT),
    refused(&["chat_template", "chat_template_path"], EMPTY,
        "prompts follow the model folder's own chat template", "put it into the model's folder as chat_template.jinja"),
    refused(&["system_prompt"], EMPTY,
        "a system turn comes from the rows", "put it into the rows, or its text into a file: prompt_template"),
    refused(&["use_system_prompt"], OFF,
        "a system turn comes from the rows", "put it into the rows, or its text into a file: prompt_template"),
    refused(&["task_type"], EMPTY, "the question of a task comes from the rows", "use prompt_template or task_name"),
    refused(&["dataset_prompt_column"], &["\"prompt\"", "\"problem\"", "null"],
        "the columns of rows have fixed names", "rename the column to `problem`"),
    refused(&["completion_only_loss"], &["true", "null"],
        "the tokens of a prompt are never learnt", "set completion_only_loss: true"),
    refused(&["train_on_prompt"], OFF, "the tokens of a prompt are never learnt", LEAVE_OUT),
    refused(&["stage"], &["\"sft\"", "null"], "the command says what runs", "use `vision-ekipl sft` or `vision-ekipl train`"),
    refused(&["freeze_language_model"], OFF, "the language model trains", LEAVE_OUT),
    inert(&["dataset_config", "dataset_configs", "dataset_num_proc", "dataset_kwargs", "dataset_text_field",
        "dataset_dir", "preprocessing_num_workers", "preprocessing_batch_size", "overwrite_cache", "arrow_cache_dir",
        "dataloader_drop_last", "dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "dataloader_multiprocessing_context", "dataloader_in_order",
        "remove_unused_columns", "label_names", "length_column_name"], &["false", "null", "0"],
        "`dataset_name` is a file or folder of rows, read by this program, every column of them"),
    inert(&["assistant_only_loss"], OFF, "`sft` learns the target, which is the assistant's turn"),
    inert(&["packing_strategy", "padding_free", "truncation_mode", "pad_token", "max_anyres_num"], OFF,
        "each row is a sequence of its own, never cut, and its padding counts for nothing"),
    inert(&["eos_token", "template"], EMPTY, "end token and chat template are those of the model's folder"),
    inert(&["freeze_multi_modal_projector"], OFF, "the projector follows freeze_vision_modules"),

    // Rewards of open-r1, R1-V and VLM-R1, at the values that the built-in ones have.
    refused(&["cosine_min_value_wrong"], &["-1", "-1.0", "null"], "the reward `cosine` has fixed ends", "leave it out, or use a program"),
    refused(&["cosine_max_value_wrong"], &["-0.5", "null"], "the reward `cosine` has fixed ends", "leave it out, or use a program"),
    refused(&["cosine_min_value_correct"], &["0.5", "null"], "the reward `cosine` has fixed ends", "leave it out, or use a program"),
    refused(&["cosine_max_value_correct"], &["1", "1.0", "null"], "the reward `cosine` has fixed ends", "leave it out, or use a program"),
    refused(&["repetition_n_grams"], &["3", "null"], "the reward `repetition_penalty` counts three tokens", "leave it out, or use a program"),
    refused(&["repetition_max_penalty"], &["-1", "-1.0", "null"], "the reward `repetition_penalty` is at least -1", "leave it out, or use a program"),
    refused(&["reward_method"], &["\"default\"", "null"], "each task has one accuracy reward", "use a program in reward_funcs"),
    refused(&["is_reward_customized_from_vlm_module"], OFF, "each task has one accuracy reward", "use a program in reward_funcs"),
    inert(&["cosine_max_len", "code_language", "code_eval_test_batch_size", "parallel_code_exec_per_proc", "e2b_router_url",
        "morph_router_url", "code_provider", "ioi_provider"], EMPTY, "no built-in reward runs code, and lengths count to max_completion_length"),

    // Where and how it is computed.
    warned(&["bf16", "fp16", "bf16_full_eval", "fp16_full_eval", "pure_bf16"], OFF,
        "everything is computed in float32; `dtype` says how weights that do not train are held"),
    warned(&["activation_offloading"], OFF,
        "activations stay on the device until the backward pass; gradient_checkpointing: true keeps few of them"),
    warned(&["use_vllm", "use_vllm_for_gen", "use_transformers_paged", "use_transformers_continuous_batching"], OFF,
        "completions are sampled by this program on the training device; no server and no second GPU takes part"),
    warned(&["deepspeed", "fsdp", "parallelism_config"], EMPTY,
        "training runs on one device, which holds all weights, gradients and optimizer state"),
    warned(&["report_to"], &["\"none\"", "null", "[]", "[\"none\"]"],
        "no tracker is called; metrics are in output_dir/metrics.jsonl and on the screen"),
    warned(&["benchmarks", "callbacks"], EMPTY, "nothing runs after training; `vision-ekipl eval` measures a checkpoint"),
    inert(&["tf32", "cast_lm_head_to_fp32", "half_precision_backend", "fp16_backend", "fp16_opt_level"], OFF,
        "everything is computed in float32"),
    inert(&["attn_implementation", "flash_attn", "use_flash_attention_2", "use_liger_kernel", "liger_kernel_config",
        "gradient_checkpointing_kwargs", "gradient_checkpointing_use_reentrant", "activation_checkpointing_kwargs",
        "torch_compile", "torch_compile_backend", "torch_compile_mode", "torchdynamo", "torch_empty_cache_steps",
        "use_cache", "cache_implementation", "pad_to_multiple_of", "use_ipex", "jit_mode_eval", "past_index"], OFF,
        "it tunes PyTorch's speed and memory, not results"),
    inert(&["vllm_mode", "vllm_model_impl", "vllm_enable_sleep_mode", "vllm_server_base_url", "vllm_device", "vllm_dtype",
        "vllm_enable_prefix_caching", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port",
        "vllm_gpu_memory_utilization", "vllm_max_model_len", "vllm_max_model_length", "vllm_tensor_parallel_size",
        "transformers_continuous_batching_config"], OFF, "completions are sampled in this program"),
    inert(&["vllm_importance_sampling_correction", "vllm_importance_sampling_mode", "vllm_importance_sampling_cap",
        "vllm_importance_sampling_clip_max", "vllm_importance_sampling_clip_min"], OFF,
        "sampling and training use one model, so there is nothing to correct"),
    inert(&["lora_task_type"], &["null", "\"CAUSAL_LM\""], "an adapter is that of a causal language model"),
    inert(&["bnb_4bit_quant_type", "bnb_4bit_quant_storage", "bnb_4bit_compute_dtype", "bnb_4bit_use_double_quant",
        "use_bnb_nested_quant", "quantization_method", "quant_method", "double_quantization", "quantization_type"], OFF,
        "quantised weights have one format here: blocks of 32 numbers with a scale each"),
    inert(&["local_rank", "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph",
        "ddp_backend", "ddp_timeout", "fsdp_config", "fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap",
        "accelerator_config", "average_tokens_across_devices", "ds3_gather_for_generation", "log_on_each_node",
        "save_on_each_node", "ignore_bias_buffers", "tpu_num_cores", "tpu_metrics_debug", "mp_parameters", "ray_scope",
        "use_mps_device"], EMPTY, "training runs on one device"),
    inert(&["log_level", "log_level_replica", "disable_tqdm", "logging_dir", "logging_nan_inf_filter", "plot_loss",
        "include_num_input_tokens_seen", "include_tokens_per_second", "project", "trackio_space_id", "trackio_bucket_id",
        "trackio_static_space_id", "log_unique_prompts", "log_multimodal", "skip_memory_metrics", "wandb_entity",
        "wandb_project", "wandb_run_group", "wandb_log_unique_prompts"], OFF, "logs have one form here"),
    inert(&["hub_token", "hub_private_repo", "hub_model_id", "hub_model_revision", "hub_strategy", "hub_revision",
        "overwrite_hub_revision", "push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token"], EMPTY,
        "push_to_hub is off"),
    inert(&["metric_for_best_model", "greater_is_better"], OFF, "load_best_model_at_end is off"),
    inert(&["vespo_k_pos", "vespo_lambda_pos", "vespo_k_neg",
        "vespo_lambda_neg"], &["null"], "its loss_type is not in this version"),
    inert(&["entropy_coef_min", "entropy_coef_max", "entropy_coef_delta", "entropy_target",
        "max_tool_calling_iterations", "router_aux_loss_coef"], &["null"],
        "the feature it tunes is off"),
    inert(&["save_safetensors"], &["true", "null"], "weights are saved as safetensors"),
    inert(&["disable_dropout"], OFF, "Qwen2-VL has no dropout"),
    inert(&["trust_remote_code", "trainer_cls"], OFF, "no code is loaded from a model folder or a configuration"),
    inert(&["do_train", "do_eval", "do_predict"], OFF, "the command says what runs"),
    inert(&["full_determinism", "enable_jit_checkpoint", "restore_callback_states_from_checkpoint"], OFF,
        "a seed fixes a run on a device, and a checkpoint holds everything"),
    inert(&["prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps",
        "include_for_metrics", "include_inputs_for_metrics", "batch_eval_metrics", "use_legacy_prediction_loop",
        "predict_with_generate"], EMPTY, "evaluation samples completions and scores them"),
];

/// What becomes of a value of a foreign key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to say.
    Quiet,
    /// It has no effect, for this reason.
    WithoutEffect(&'static str),
    /// What it asks for happens in another way: the warning.
    Warned(String),
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
    Some(match foreign.otherwise {
        _ if foreign.quiet.iter().any(is_quiet) => Verdict::Quiet,
        Note => Verdict::WithoutEffect(foreign.reason),
        Warn => Verdict::Warned(format!("`{name}` is {}: {}", shown(value), foreign.reason)),
        Refuse => {
            let problem = format!("is {}: {}", shown(value), foreign.reason);
            Verdict::Refused(problem, foreign.hint.to_owned())
        }
    })
}

/// Whether a key of ours is set to another trainer's word for the only way there is: TRL's SFTConfig has
/// `loss_type: nll`.
pub(super) fn is_the_only_way(name: &str, value: &Value) -> bool {
    name == "loss_type" && value == "nll"
}

/// Every foreign key.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    FOREIGN
        .iter()
        .flat_map(|foreign| foreign.names.iter().copied())
}
