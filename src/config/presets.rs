//! Published methods as sets of keys (method: sections 2.7 and 3.6).
//!
//! A preset is data: it lies below the file and the flags, and every key it sets can be set otherwise there.

use crate::options::Preset;

/// One layer of a preset: keys with their values as YAML text.
type Layer = &'static [(&'static str, &'static str)];

/// Reason-RFT's reinforcement stage: 14 prompts of 8 completions per step, KL to the start, scored on raw logits.
const REASON_RFT: Layer = &[
    ("loss_type", "grpo"),
    ("beta", "0.04"),
    ("use_bias_correction_kl", "false"),
    ("num_generations", "8"),
    ("per_device_train_batch_size", "8"),
    ("gradient_accumulation_steps", "14"),
    ("num_iterations", "1"),
    ("scale_rewards", "group"),
    ("reward_funcs", "[accuracy, format]"),
    ("temperature", "0.9"),
    ("top_p", "0.9"),
    ("top_k", "50"),
    ("logprob_temperature", "raw"),
    ("max_completion_length", "512"),
    ("max_prompt_length", "4096"),
    ("min_pixels", "3136"),
    ("max_pixels", "480000"),
    ("learning_rate", "1e-6"),
    ("lr_scheduler_type", "linear"),
    ("weight_decay", "0"),
    ("max_grad_norm", "1"),
    ("num_train_epochs", "1"),
];

/// Reason-RFT's supervised stage: 16 rows per step, vision tower and projector frozen.
const REASON_RFT_SFT: Layer = &[
    ("freeze_vision_modules", "true"),
    ("sft_target", "cot"),
    ("per_device_train_batch_size", "1"),
    ("gradient_accumulation_steps", "16"),
    ("max_prompt_length", "4096"),
    ("min_pixels", "3136"),
    ("max_pixels", "262144"),
    ("learning_rate", "1e-5"),
    ("lr_scheduler_type", "cosine"),
    ("warmup_steps", "100"),
    ("weight_decay", "0.1"),
    ("max_grad_norm", "1"),
    ("num_train_epochs", "1"),
];

/// What Vision-EKIPL adds to Reason-RFT.
const EKIPL: Layer = &[
    ("group_size", "8"),
    ("selection", "top_reward"),
    ("selection_ties", "policy"),
    ("advantage_baseline", "selected"),
    ("external_when", "always"),
    ("external_kl", "true"),
    ("external_coef", "1"),
];

const MAX_VARIANCE: Layer = &[("selection", "max_variance")];

const ON_FAILURE: Layer = &[
    ("selection", "replace_worst_if_all_wrong"),
    ("external_when", "all_wrong"),
];

/// DAPO (arXiv 2503.14476) with what TRL has of it: token-level loss, higher upper clip, no KL, truncated ones left out.
const TRL_DAPO: Layer = &[
    ("loss_type", "dapo"),
    ("beta", "0"),
    ("epsilon", "0.2"),
    ("epsilon_high", "0.28"),
    ("scale_rewards", "group"),
    ("mask_truncated_completions", "true"),
    ("temperature", "1"),
    ("top_p", "1"),
    ("top_k", "0"),
    ("logprob_temperature", "sampling"),
];

/// Dr. GRPO (arXiv 2503.20783).
const DR_GRPO: Layer = &[
    ("loss_type", "dr_grpo"),
    ("beta", "0"),
    ("scale_rewards", "none"),
    ("temperature", "1"),
    ("top_p", "1"),
    ("top_k", "0"),
    ("logprob_temperature", "sampling"),
];

/// LUFFY (arXiv 2504.14945) on top of Reason-RFT's prompts and rewards: 7 own samples and 1 trace, all of them trained
/// on, statistics of the policy's samples, no division by their deviation, no KL, sum over the longest length. The
/// policy's clip is inert at one update per batch; LUFFY's entropy bonus of 0.001 is left out.
const LUFFY: Layer = &[
    ("num_generations", "7"),
    ("per_device_train_batch_size", "7"),
    ("selection", "all"),
    ("advantage_baseline", "policy_only"),
    ("scale_rewards", "none"),
    ("external_ratio", "luffy"),
    ("external_gamma", "0.1"),
    ("external_when", "always"),
    ("loss_type", "dr_grpo"),
    ("beta", "0"),
    ("temperature", "1"),
    ("top_p", "1"),
    ("top_k", "0"),
];

const RL_PLUS: Layer = &[("external_ratio", "rl_plus")];

/// CHORD (arXiv 2508.11408): the right external actions in a supervised part weighted p (1 - p).
const CHORD: Layer = &[
    ("selection", "all"),
    ("advantage_baseline", "policy_only"),
    ("external_ratio", "chord"),
    ("external_phi", "true"),
    ("external_mu", "0.1"),
];

/// HPT (Unify-Post-Training): one right demonstration where no sample passes.
const HPT: Layer = &[
    ("selection", "all"),
    ("advantage_baseline", "policy_only"),
    ("external_when", "all_wrong"),
    ("external_ratio", "hpt"),
];

/// The control for Vision-EKIPL: maximum likelihood of the external actions that it would select.
const SFT_SELECTED: Layer = &[("external_ratio", "sft_selected"), ("beta", "0")];

/// The keys of a preset, later entries over earlier ones.
pub(super) fn keys(preset: Preset) -> impl Iterator<Item = (&'static str, &'static str)> {
    let layers: &'static [Layer] = match preset {
        Preset::ReasonRft => &[REASON_RFT],
        Preset::ReasonRftSft => &[REASON_RFT_SFT],
        Preset::Ekipl => &[REASON_RFT, EKIPL],
        Preset::EkiplMaxVariance => &[REASON_RFT, EKIPL, MAX_VARIANCE],
        Preset::OnFailure => &[REASON_RFT, EKIPL, ON_FAILURE],
        Preset::Luffy => &[REASON_RFT, LUFFY],
        Preset::RlPlus => &[REASON_RFT, LUFFY, RL_PLUS],
        Preset::Chord => &[REASON_RFT, CHORD],
        Preset::Hpt => &[REASON_RFT, HPT],
        Preset::SftSelected => &[REASON_RFT, EKIPL, SFT_SELECTED],
        Preset::TrlDapo => &[TRL_DAPO],
        Preset::DrGrpo => &[DR_GRPO],
    };
    layers.iter().copied().flatten().copied()
}

/// What a known method needs that this version lacks.
pub(super) fn lacking(name: &str) -> Option<&'static str> {
    (name == "calibrl-standard").then_some("CalibRL's dual clip")
}
