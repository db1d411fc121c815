//! Keys that must fit together, each with the numbers and the remedy (conventions: section 8).
//!
//! Judges a resolved [`Run`]; changes nothing and looks at no file.

use std::collections::BTreeSet;

use super::error::ConfigError;
use super::external::{ExternalSource, Local};
use super::file::{RawConfig, wrong};
use super::path;
use super::purpose::{self, Purpose};
use super::run::Run;
use super::sizes;
use super::special_values::Resume;
use super::{table, weight_checks};
use crate::options::{
    AdvantageBaseline, ExternalRatio, ImportanceSamplingLevel, IntervalStrategy, LossType,
    ObjectiveAggregation, ScaleRewards, SchedulerType, Selection, WeightLevel,
};

type Check = Result<(), ConfigError>;

/// Checks a run for a purpose; returns notes on what is allowed but surprising.
///
/// # Errors
/// For the first pair of keys that contradict each other.
pub(super) fn check(
    run: &Run,
    raw: &RawConfig,
    purpose: Purpose,
) -> Result<Vec<String>, ConfigError> {
    pictures(run, raw)?;
    warmup(run, raw)?;
    output(run, raw)?;
    rewards(run, raw)?;
    external_models(run, raw)?;
    external_ratio(run, raw)?;
    greedy_evaluation(run, raw)?;
    sizes::check(run, raw, purpose)?;
    weight_checks::check(run, raw, purpose)?;
    let mut notes = notes(run, purpose);
    notes.extend(weight_checks::notes(run, raw, purpose));
    notes.extend(purpose::unused(raw, purpose)?);
    if purpose == Purpose::Train {
        generation_batch(run, raw)?;
        group_size(run, raw)?;
        evaluation_batch(run, raw)?;
        dynamic_sampling(run, raw)?;
        reference(run, raw)?;
    }
    Ok(notes)
}

/// Groups without a gradient are replaced only where their absence is what the loss wants.
fn dynamic_sampling(run: &Run, raw: &RawConfig) -> Check {
    let ratio = run.group.external_ratio;
    let supervised = matches!(
        ratio,
        ExternalRatio::Chord | ExternalRatio::Hpt | ExternalRatio::SftSelected
    );
    let (problem, hint) = if run.output.replay_rollouts.is_some() {
        (
            "is true, but `replay_rollouts` gives the rollouts, and none can be sampled in their place"
                .to_owned(),
            "leave one of them out",
        )
    } else if supervised {
        (
            format!(
                "is true, but `external_ratio: {}` learns from prompts whose rewards are all equal, too",
                ratio.name()
            ),
            "leave one of them out",
        )
    } else {
        return Ok(());
    };
    if !run.group.dynamic_sampling {
        return Ok(());
    }
    Err(wrong(raw, "dynamic_sampling", problem, hint.to_owned()))
}

fn reference(run: &Run, raw: &RawConfig) -> Check {
    if !run.loss.sync_ref_model || run.loss.beta > 0.0 {
        return Ok(());
    }
    let problem = "is true, but `beta` is 0, so there is no reference model to follow the policy";
    Err(wrong(
        raw,
        "sync_ref_model",
        problem.to_owned(),
        "set beta, for example 0.04, or leave sync_ref_model out".to_owned(),
    ))
}

/// The multiples of `step` next to `value`, as a message shows them.
pub(super) fn multiples_around(value: u64, step: u64) -> String {
    let below = value / step * step;
    if below == 0 {
        format!("{step}")
    } else {
        format!("{below} and {}", below + step)
    }
}

fn pictures(run: &Run, raw: &RawConfig) -> Check {
    // Where one is null, the model folder's is compared when it is read.
    match (run.data.min_pixels, run.data.max_pixels) {
        (Some(least), Some(most)) if least > most => Err(wrong(
            raw,
            "max_pixels",
            format!("is {most}, less than `min_pixels` {least}"),
            format!("raise it to at least {least}, or lower `min_pixels`"),
        )),
        _ => Ok(()),
    }
}

fn warmup(run: &Run, raw: &RawConfig) -> Check {
    let steps = run.optimizer.warmup_steps;
    if steps < 1.0 || steps.fract() == 0.0 {
        return Ok(());
    }
    let problem =
        format!("is {steps}; expected a whole number of steps, or a share of all steps below 1");
    Err(wrong(
        raw,
        "warmup_steps",
        problem,
        format!("use {}", steps.round()),
    ))
}

fn output(run: &Run, raw: &RawConfig) -> Check {
    let output = &run.output;
    if output.overwrite_output_dir && output.resume_from_checkpoint != Resume::No {
        let problem =
            "is true, and `resume_from_checkpoint` is set; one starts afresh, the other continues";
        return Err(wrong(
            raw,
            "overwrite_output_dir",
            problem.to_owned(),
            "keep one of them".to_owned(),
        ));
    }
    if output.replay_rollouts.is_some()
        && run.group.multi_objective_aggregation == ObjectiveAggregation::NormalizeThenSum
    {
        let problem = "is normalize_then_sum, which needs every reward by itself, and `replay_rollouts` holds their sum";
        return Err(wrong(
            raw,
            "multi_objective_aggregation",
            problem.to_owned(),
            "use sum_then_normalize for a replay".to_owned(),
        ));
    }
    let unknown = |name: &&String| table::find(name).is_none();
    if let Some(name) = output.resume_allow_changes.iter().find(unknown) {
        return Err(wrong(
            raw,
            "resume_allow_changes",
            format!("names `{name}`, which is no key"),
            format!("the nearest is `{}`", table::nearest(name)),
        ));
    }
    Ok(())
}

fn rewards(run: &Run, raw: &RawConfig) -> Check {
    let (functions, weights) = (&run.data.reward_funcs, &run.data.reward_weights);
    if functions.is_empty() {
        let problem = "is empty; without a reward there is nothing to learn from".to_owned();
        return Err(wrong(
            raw,
            "reward_funcs",
            problem,
            "use [accuracy, format]".to_owned(),
        ));
    }
    let distinct: BTreeSet<&str> = functions.iter().map(|function| function.name()).collect();
    if distinct.len() != functions.len() {
        let problem = "names a reward function twice".to_owned();
        return Err(wrong(
            raw,
            "reward_funcs",
            problem,
            "name it once and raise its weight".to_owned(),
        ));
    }
    if weights.len() != functions.len() {
        let problem = format!(
            "has {} weights for {} reward functions",
            weights.len(),
            functions.len()
        );
        return Err(wrong(
            raw,
            "reward_weights",
            problem,
            "give one weight per entry of `reward_funcs`".to_owned(),
        ));
    }
    Ok(())
}

fn external_models(run: &Run, raw: &RawConfig) -> Check {
    let mut names = BTreeSet::new();
    for external in &run.group.external {
        if !names.insert(external.name.as_str()) {
            let problem = format!("has two models named \"{}\"", external.name);
            return Err(wrong(
                raw,
                "external",
                problem,
                "give each its own name: logs tell them apart by it".to_owned(),
            ));
        }
        if let ExternalSource::Local(Local {
            model_name_or_path, ..
        }) = &external.source
            && path::plain(model_name_or_path).starts_with(path::plain(&run.output.output_dir))
        {
            let problem = format!(
                "names {} as \"{}\", a folder of `output_dir`: an external model cannot be the policy in training",
                model_name_or_path.display(),
                external.name
            );
            return Err(wrong(
                raw,
                "external",
                problem,
                "copy the checkpoint elsewhere, or use another model".to_owned(),
            ));
        }
    }
    Ok(())
}

/// What a way of learning needs from the sources and the other keys.
fn external_ratio(run: &Run, raw: &RawConfig) -> Check {
    let group = &run.group;
    let ratio = group.external_ratio;
    let says = format!("is {}", ratio.name());
    let weighted = matches!(ratio, ExternalRatio::Is | ExternalRatio::Snis);
    for external in &group.external {
        let lacking = match &external.source {
            ExternalSource::Endpoint(endpoint) if !endpoint.logprobs => {
                "an endpoint that is asked for text only"
            }
            ExternalSource::Recorded { .. } => "a file of texts",
            ExternalSource::Column { .. } => "a column of texts",
            ExternalSource::Endpoint(_) | ExternalSource::Local(_) => continue,
        };
        if weighted {
            let problem = format!(
                "{says}, which needs the log-probabilities of every external action, but \"{}\" is {lacking}",
                external.name
            );
            let hint = "take a local model, or an endpoint with `logprobs: true`, or use external_ratio same, luffy, rl_plus, \
                        unit or chord";
            return Err(wrong(raw, "external_ratio", problem, hint.to_owned()));
        }
    }
    if ratio == ExternalRatio::Snis && group.external_is_level == WeightLevel::Token {
        let problem =
            format!("{says}, whose weights are per action, and `external_is_level` is token");
        return Err(wrong(
            raw,
            "external_ratio",
            problem,
            "use external_ratio: is, or leave `external_is_level` out".to_owned(),
        ));
    }
    let own_baseline = matches!(ratio, ExternalRatio::Chord | ExternalRatio::Hpt);
    if own_baseline && group.advantage_baseline != AdvantageBaseline::PolicyOnly {
        let problem = format!(
            "{says}: its policy loss holds the policy's own actions only, but `advantage_baseline` is {}",
            group.advantage_baseline.name()
        );
        return Err(wrong(
            raw,
            "external_ratio",
            problem,
            "set advantage_baseline: policy_only".to_owned(),
        ));
    }
    if ratio == ExternalRatio::SftSelected && group.external.is_empty() {
        let problem =
            format!("{says}, which trains on external actions alone, but `external` is []");
        return Err(wrong(
            raw,
            "external_ratio",
            problem,
            "add an external model, or use external_ratio: same".to_owned(),
        ));
    }
    Ok(())
}

fn greedy_evaluation(run: &Run, raw: &RawConfig) -> Check {
    let count = run.evaluation.num_generations_eval;
    if run.evaluation.eval_temperature > 0.0 || count == 1 {
        return Ok(());
    }
    let problem =
        format!("is {count}, but `eval_temperature` 0 makes all completions of a row equal");
    Err(wrong(
        raw,
        "num_generations_eval",
        problem,
        "set it to 1, or raise `eval_temperature`".to_owned(),
    ))
}

fn generation_batch(run: &Run, raw: &RawConfig) -> Check {
    let generations = run.group.num_generations;
    if generations < 2 {
        let problem = format!("is {generations}; group-relative advantages need at least 2");
        return Err(wrong(
            raw,
            "num_generations",
            problem,
            "raise it; 8 is the default".to_owned(),
        ));
    }
    let completions = run.completions_per_generation();
    if completions.is_multiple_of(generations) {
        return Ok(());
    }
    let problem = format!(
        "is {generations}, which does not divide the generation batch of {completions} completions \
         (`per_device_train_batch_size` {} x `steps_per_generation` {})",
        run.batch.per_device_train_batch_size, run.batch.steps_per_generation
    );
    let products =
        multiples_around(completions as u64, generations as u64).replace(" and ", " or ");
    let mut hint = format!("make that product {products}");
    if let Some(divisors) = divisors_around(completions, generations) {
        hint.push_str(&format!(", or `num_generations` {divisors}"));
    }
    Err(wrong(raw, "num_generations", problem, hint))
}

/// The divisors of `total` next to `value`, at least 2, if there are any.
fn divisors_around(total: usize, value: usize) -> Option<String> {
    let divides = |candidate: &usize| total.is_multiple_of(*candidate);
    let below = (2..value).rev().find(divides);
    let above = (value + 1..=total).find(divides);
    let shown: Vec<String> = [below, above]
        .into_iter()
        .flatten()
        .map(|divisor| divisor.to_string())
        .collect();
    (!shown.is_empty()).then(|| shown.join(" or "))
}

fn group_size(run: &Run, raw: &RawConfig) -> Check {
    let group = &run.group;
    let (size, own) = (group.group_size, group.num_generations);
    let given: usize = group
        .external
        .iter()
        .map(|external| external.num_actions)
        .sum();
    if group.selection == Selection::All {
        return Ok(());
    }
    if size > own + given {
        let problem = format!(
            "is {size}, but a pool holds at most {} actions (`num_generations` {own} + {given} of external models)",
            own + given
        );
        return Err(wrong(
            raw,
            "group_size",
            problem,
            format!("lower it to at most {}", own + given),
        ));
    }
    if group.selection == Selection::ReplaceWorstIfAllWrong && size > own {
        let problem = format!(
            "is {size}, but `replace_worst_if_all_wrong` starts from the {own} policy actions"
        );
        return Err(wrong(
            raw,
            "group_size",
            problem,
            format!("lower it to at most {own}"),
        ));
    }
    if size < 2 {
        let problem = format!("is {size}; a group needs at least 2 actions to compare");
        return Err(wrong(
            raw,
            "group_size",
            problem,
            "raise it, or leave it out for `num_generations`".to_owned(),
        ));
    }
    Ok(())
}

fn evaluation_batch(run: &Run, raw: &RawConfig) -> Check {
    let (batch, count) = (
        run.evaluation.per_device_eval_batch_size,
        run.evaluation.num_generations_eval,
    );
    if run.evaluation.eval_strategy == IntervalStrategy::No || batch.is_multiple_of(count) {
        return Ok(());
    }
    let problem = format!("is {batch}, which `num_generations_eval` {count} does not divide");
    let hint = format!(
        "the nearest valid values are {}",
        multiples_around(batch as u64, count as u64)
    );
    Err(wrong(raw, "per_device_eval_batch_size", problem, hint))
}

fn notes(run: &Run, purpose: Purpose) -> Vec<String> {
    let mut notes = Vec::new();
    let (optimizer, loss) = (&run.optimizer, &run.loss);
    let warms_up = optimizer.warmup_steps > 0.0 || optimizer.warmup_ratio > 0.0;
    if optimizer.lr_scheduler_type == SchedulerType::Constant && warms_up {
        notes.push(
            "`lr_scheduler_type: constant` has no warm-up; constant_with_warmup has".to_owned(),
        );
    }
    if purpose != Purpose::Train {
        return notes;
    }
    let sequence = loss.importance_sampling_level == ImportanceSamplingLevel::Sequence;
    if sequence && !matches!(loss.loss_type, LossType::Grpo | LossType::Sapo) {
        notes.push(format!(
            "`importance_sampling_level: sequence` with `loss_type: {}`, which sums over tokens: long completions \
             weigh more; GSPO uses loss_type grpo",
            loss.loss_type.name()
        ));
    }
    if let Some(delta) = loss.delta.filter(|delta| *delta <= 1.0 + loss.epsilon_high) {
        notes.push(format!(
            "`delta` {delta} is not above 1 + `epsilon_high` {}: it clips before the ordinary clip does",
            loss.epsilon_high
        ));
    }
    surrogate_notes(run, &mut notes);
    notes
}

/// Keys that the chosen loss or aggregation does not read, or reads in its own way.
fn surrogate_notes(run: &Run, notes: &mut Vec<String>) {
    let loss = &run.loss;
    let name = loss.loss_type.name();
    let unclipped = matches!(loss.loss_type, LossType::Cispo | LossType::Sapo);
    if unclipped && loss.delta.is_some() {
        notes.push(format!("`delta` has no effect with `loss_type: {name}`"));
    }
    if loss.loss_type == LossType::Cispo && loss.epsilon_high < 1.0 {
        notes.push(format!(
            "`loss_type: cispo` caps the ratio at `epsilon_high` itself, {}: the gradient of every token is scaled down; \
             ScaleRL uses epsilon_high 5",
            loss.epsilon_high
        ));
    }
    let by_objective = ObjectiveAggregation::NormalizeThenSum;
    let group = &run.group;
    if group.multi_objective_aggregation == by_objective
        && group.scale_rewards != ScaleRewards::Group
    {
        notes.push(format!(
            "`scale_rewards: {}` has no effect with `multi_objective_aggregation: normalize_then_sum`",
            group.scale_rewards.name()
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};

    /// Each message names the numbers and ends in a remedy.
    #[test]
    fn ways_of_learning_that_a_source_cannot_serve_are_refused() {
        for (lines, part) in [
            (
                "external_ratio: exact\nexternal: [{name: a, path: p}]",
                "\"a\" is a file of texts",
            ),
            (
                "external_ratio: snis\nexternal: [{name: a, base_url: 'http://x', model: m}]",
                "an endpoint that is asked for text only\nhint: take a local model",
            ),
            (
                "external_ratio: snis\nexternal_is_level: token",
                "whose weights are per action",
            ),
            (
                "external_ratio: chord",
                "hint: set advantage_baseline: policy_only",
            ),
            ("external_ratio: sft_selected", "but `external` is []"),
            (
                "dynamic_sampling: true\nexternal_ratio: hpt\nadvantage_baseline: policy_only",
                "`external_ratio: hpt` learns from prompts whose rewards are all equal, too",
            ),
            (
                "dynamic_sampling: true\nreplay_rollouts: r.jsonl",
                "none can be sampled in their place",
            ),
            ("sync_ref_model: true", "but `beta` is 0"),
        ] {
            let text = message(lines);
            assert!(
                text.contains(part) && text.contains("\nhint: "),
                "{lines}: {text}"
            );
        }
        train("external_ratio: is\nexternal: [{name: a, model_name_or_path: m}]");
        train(
            "external_ratio: is\nexternal: [{name: a, base_url: 'http://x', model: m, logprobs: true}]",
        );
    }

    #[test]
    fn pairs_that_do_not_fit_are_explained() {
        for (lines, message_parts) in [
            (
                "num_generations: 1",
                [
                    "`num_generations` is 1; group-relative advantages need at least 2",
                    "hint: raise it; 8 is the default",
                ],
            ),
            (
                "per_device_train_batch_size: 4\ngradient_accumulation_steps: 3",
                [
                    "`num_generations` is 8, which does not divide the generation batch of 12 completions",
                    "hint: make that product 8 or 16, or `num_generations` 6 or 12",
                ],
            ),
            (
                "generation_batch_size: 16\nsteps_per_generation: 2",
                [
                    "`generation_batch_size` is 16, and `steps_per_generation` is 2",
                    "hint: keep one of them",
                ],
            ),
            (
                "generation_batch_size: 20",
                [
                    "`generation_batch_size` is 20, which `per_device_train_batch_size` 8 does not divide",
                    "16 and 24",
                ],
            ),
            (
                "group_size: 10\nexternal: [{name: a, path: p}]",
                [
                    "`group_size` is 10, but a pool holds at most 9 actions (`num_generations` 8 + 1",
                    "lower it to at most 9",
                ],
            ),
            (
                "group_size: 1",
                [
                    "`group_size` is 1; a group needs at least 2 actions",
                    "hint: raise it",
                ],
            ),
            (
                "group_size: 9\nselection: replace_worst_if_all_wrong\nexternal: [{name: a, path: p}]",
                ["starts from the 8 policy actions", "at most 8"],
            ),
            (
                "external: [{name: a, path: p}, {name: a, path: q}]",
                ["two models named \"a\"", "hint: give each its own name"],
            ),
            (
                "external: [{name: a, model_name_or_path: ./x/../out//checkpoint-5}]",
                [
                    "cannot be the policy in training",
                    "hint: copy the checkpoint",
                ],
            ),
            (
                "eval_strategy: steps\nper_device_eval_batch_size: 12",
                [
                    "`per_device_eval_batch_size` is 12, which `num_generations_eval` 8 does not divide",
                    "8 and 16",
                ],
            ),
            (
                "eval_temperature: 0\nnum_generations_eval: 4",
                [
                    "`num_generations_eval` is 4, but `eval_temperature` 0",
                    "hint: set it to 1",
                ],
            ),
            (
                "multi_objective_aggregation: normalize_then_sum\nreplay_rollouts: r.jsonl",
                [
                    "needs every reward by itself",
                    "hint: use sum_then_normalize",
                ],
            ),
            (
                "reward_funcs: []",
                ["`reward_funcs` is empty", "hint: use [accuracy, format]"],
            ),
            (
                "reward_funcs: [format, format]",
                ["names a reward function twice", "hint: name it once"],
            ),
            (
                "reward_weights: [1]",
                [
                    "`reward_weights` has 1 weights for 2 reward functions",
                    "hint: give one weight",
                ],
            ),
            (
                "min_pixels: 500000\nmax_pixels: 401408",
                [
                    "`max_pixels` is 401408, less than `min_pixels` 500000",
                    "hint: raise it",
                ],
            ),
            (
                "warmup_steps: 2.5",
                ["`warmup_steps` is 2.5", "hint: use 3"],
            ),
            (
                "overwrite_output_dir: true\nresume_from_checkpoint: true",
                ["one starts afresh, the other continues", "hint: keep one"],
            ),
            (
                "resume_allow_changes: [seed, betta]",
                [
                    "`resume_allow_changes` names `betta`, which is no key",
                    "hint: the nearest is `beta`",
                ],
            ),
        ] {
            let text = message(lines);
            for part in message_parts {
                assert!(text.contains(part), "{lines}\n{text}");
            }
        }
    }

    #[test]
    fn an_error_says_who_wrote_the_value() {
        assert!(
            message("preset: ekipl\nper_device_train_batch_size: 3")
                .starts_with("preset `ekipl`: `num_generations` is 8")
        );
        assert!(
            message("generation_batch_size: 20").starts_with("run.yaml: `generation_batch_size`")
        );
    }

    #[test]
    fn surprising_pairs_leave_a_note() {
        for (lines, part) in [
            (
                "importance_sampling_level: sequence",
                "GSPO uses loss_type grpo",
            ),
            ("delta: 1.1", "clips before the ordinary clip does"),
            (
                "lr_scheduler_type: constant\nwarmup_steps: 5",
                "has no warm-up",
            ),
            ("loss_type: cispo", "ScaleRL uses epsilon_high 5"),
            (
                "loss_type: sapo\ndelta: 4",
                "`delta` has no effect with `loss_type: sapo`",
            ),
            (
                "multi_objective_aggregation: normalize_then_sum\nscale_rewards: none",
                "`scale_rewards: none` has no effect",
            ),
        ] {
            let notes = train(lines).notes;
            assert!(notes.len() == 1 && notes[0].contains(part), "{notes:?}");
        }
        assert!(
            train("importance_sampling_level: sequence\nloss_type: grpo\ndelta: 4")
                .notes
                .is_empty()
        );
    }

    #[test]
    fn the_whole_pool_ignores_the_group_size() {
        assert_eq!(train("selection: all\ngroup_size: 99").group.group_size, 99);
    }
}
