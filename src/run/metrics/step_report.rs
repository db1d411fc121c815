//! The numbers of a step under TRL's names, with `external/*` beside them.
//!
//! `reward`, `rewards/*` and `completions/*` describe the policy's own samples, whatever else trains, so that a run with
//! external actions can be laid over one without. Knows nothing of how anything was computed.

use std::collections::BTreeSet;

use crate::actions::external_ratio::ExternalRatioReport;
use crate::actions::teacher::{TeacherReport, TeacherStatistics};
use crate::learner::MicroBatchResult;
use crate::record::{FinishReason, Group, ScoredAction, Source, TokenBatch};
use crate::run::metrics::{
    StepMetrics, max_ignoring_nan, mean_ignoring_nan, min_ignoring_nan, std_ignoring_nan,
};

/// What sampling, scoring and selection gave.
#[must_use]
pub fn of_groups(groups: &[Group], reward_names: &[&str], external_names: &[&str]) -> StepMetrics {
    let mut metrics = StepMetrics::new();
    let own: Vec<&ScoredAction> = actions(groups, |source| *source == Source::Policy);
    describe_rewards(&mut metrics, groups, &own, reward_names);
    describe_completions(&mut metrics, &own);
    if !external_names.is_empty() {
        describe_external(&mut metrics, groups, external_names);
    }
    metrics
}

/// What became of the actions that teachers were asked for, and what asking took.
#[must_use]
pub fn of_teachers(statistics: &[TeacherStatistics]) -> StepMetrics {
    let mut metrics = StepMetrics::new();
    let mut totals = TeacherReport::default();
    for teacher in statistics {
        let name = &teacher.name;
        for (reason, count) in &teacher.dropped {
            metrics.insert(
                format!("external/{name}/dropped/{}", reason.name()),
                *count as f64,
            );
        }
        metrics.insert(format!("external/{name}/tokens"), teacher.tokens as f64);
        let report = &teacher.report;
        if *report == TeacherReport::default() {
            continue;
        }
        describe_report(&mut metrics, &format!("external/{name}"), report);
        for (reason, count) in &report.failures {
            metrics.insert(format!("external/{name}/failures/{reason}"), *count as f64);
        }
        totals.add(report);
    }
    if totals != TeacherReport::default() {
        describe_report(&mut metrics, "external", &totals);
        metrics.insert("timing_s/external_wait", totals.waited_s);
    }
    metrics
}

/// What asking took in all rollouts of a generation batch: counts, tokens, costs and waits add up, shares and means are
/// averaged.
#[must_use]
pub fn of_rollouts(asked: &[StepMetrics]) -> StepMetrics {
    if let [one] = asked {
        return one.clone();
    }
    let mut names = StepMetrics::new();
    asked.iter().for_each(|one| names.extend(one));
    let mut metrics = StepMetrics::new();
    for (name, _) in names.iter() {
        let values = || asked.iter().filter_map(|one| one.get(name));
        let adds_up = ["/dropped/", "/failures/"]
            .iter()
            .any(|part| name.contains(part))
            || ["/requests", "tokens", "/cost", "_wait"]
                .iter()
                .any(|end| name.ends_with(end));
        let value = if adds_up {
            values().sum()
        } else {
            mean_ignoring_nan(values())
        };
        metrics.insert(name, value);
    }
    metrics
}

fn describe_report(metrics: &mut StepMetrics, prefix: &str, report: &TeacherReport) {
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    let failed: usize = report.failures.values().sum();
    let asked = report.answered + report.cache_hits + failed;
    for (name, value) in [
        ("requests", report.requests as f64),
        ("request_failures", share(failed, asked)),
        ("cache_hit_ratio", share(report.cache_hits, asked)),
        (
            "latency_s",
            report.latency_s / report.requests.max(1) as f64,
        ),
        ("input_tokens", report.input_tokens as f64),
        ("output_tokens", report.output_tokens as f64),
        ("cost", report.cost),
    ] {
        metrics.insert(format!("{prefix}/{name}"), value);
    }
}

/// What stamping the external rows found.
#[must_use]
pub fn of_ratio(report: &ExternalRatioReport) -> StepMetrics {
    let mut metrics = StepMetrics::new();
    for (name, value) in [
        ("external/ess", report.effective_sample_size),
        ("external/importance_weight_mean", report.weight_mean),
        ("external/mu", report.supervised_share),
    ] {
        if let Some(value) = value {
            metrics.insert(name, value);
        }
    }
    metrics
}

fn actions(groups: &[Group], wanted: impl Fn(&Source) -> bool) -> Vec<&ScoredAction> {
    groups
        .iter()
        .flat_map(|group| &group.pool)
        .filter(|scored| wanted(&scored.action.source))
        .collect()
}

fn rewards_of(actions: &[&ScoredAction]) -> Vec<f64> {
    actions
        .iter()
        .map(|scored| scored.reward.map_or(f64::NAN, f64::from))
        .collect()
}

fn describe_rewards(
    metrics: &mut StepMetrics,
    groups: &[Group],
    own: &[&ScoredAction],
    reward_names: &[&str],
) {
    for (index, name) in reward_names.iter().enumerate() {
        let values = || {
            own.iter()
                .map(|scored| scored.rewards[index].map_or(f64::NAN, f64::from))
        };
        metrics.insert(format!("rewards/{name}/mean"), mean_ignoring_nan(values()));
        metrics.insert(format!("rewards/{name}/std"), std_ignoring_nan(values()));
    }
    metrics.insert("reward", mean_ignoring_nan(rewards_of(own)));
    metrics.insert("reward_std", std_ignoring_nan(rewards_of(own)));
    let spreads = groups.iter().map(|group| {
        let own: Vec<&ScoredAction> = group
            .pool
            .iter()
            .filter(|scored| scored.action.source == Source::Policy)
            .collect();
        std_ignoring_nan(rewards_of(&own))
    });
    metrics.insert("reward_group_std", mean_ignoring_nan(spreads));
    // Equal rewards are found by comparing them, not by a standard deviation that rounds.
    let flat = groups.iter().filter(|group| {
        let mut rewards = group
            .selected
            .iter()
            .filter_map(|index| group.pool[*index].reward);
        let first = rewards.next();
        rewards.all(|reward| Some(reward) == first)
    });
    metrics.insert(
        "frac_reward_zero_std",
        flat.count() as f64 / groups.len().max(1) as f64,
    );
}

fn describe_completions(metrics: &mut StepMetrics, own: &[&ScoredAction]) {
    let lengths = |terminated: bool| {
        let wanted = own
            .iter()
            .filter(move |scored| !terminated || scored.action.finish == FinishReason::Stop);
        wanted
            .map(|scored| scored.action.token_ids.len() as f64)
            .collect::<Vec<f64>>()
    };
    for (prefix, lengths) in [("", lengths(false)), ("terminated_", lengths(true))] {
        // As TRL: without any finished completion the lengths are 0.
        let lengths = if lengths.is_empty() {
            vec![0.0]
        } else {
            lengths
        };
        metrics.insert(
            format!("completions/mean_{prefix}length"),
            mean_ignoring_nan(lengths.clone()),
        );
        metrics.insert(
            format!("completions/min_{prefix}length"),
            min_ignoring_nan(lengths.clone()),
        );
        metrics.insert(
            format!("completions/max_{prefix}length"),
            max_ignoring_nan(lengths),
        );
    }
    let clipped = own
        .iter()
        .filter(|scored| scored.action.finish == FinishReason::Length)
        .count();
    metrics.insert(
        "completions/clipped_ratio",
        clipped as f64 / own.len().max(1) as f64,
    );
}

fn describe_external(metrics: &mut StepMetrics, groups: &[Group], names: &[&str]) {
    let selected: usize = groups.iter().map(|group| group.selected.len()).sum();
    let is_external = |source: &Source| *source != Source::Policy;
    let external = actions(groups, is_external);
    metrics.insert(
        "external/reward_mean",
        mean_ignoring_nan(rewards_of(&external)),
    );
    metrics.insert(
        "external/fraction",
        selected_of(groups, is_external).len() as f64 / selected.max(1) as f64,
    );
    metrics.insert(
        "external/advantage_mean",
        mean_ignoring_nan(selected_of(groups, is_external)),
    );
    let asked = groups.iter().filter(|group| {
        group
            .pool
            .iter()
            .any(|scored| is_external(&scored.action.source))
    });
    metrics.insert(
        "external/groups_with_actions_frac",
        asked.count() as f64 / groups.len().max(1) as f64,
    );
    metrics.insert(
        "external/best_in_group_frac",
        best_share(groups, is_external),
    );
    let tokens: usize = external
        .iter()
        .map(|scored| scored.action.token_ids.len())
        .sum();
    metrics.insert("external/tokens", tokens as f64);
    for name in names {
        let is_this = |source: &Source| is_external(source) && source.name() == *name;
        let chosen = selected_of(groups, is_this);
        metrics.insert(
            format!("external/{name}/fraction"),
            chosen.len() as f64 / selected.max(1) as f64,
        );
        metrics.insert(
            format!("external/{name}/advantage_mean"),
            mean_ignoring_nan(chosen),
        );
        metrics.insert(
            format!("external/{name}/best_in_group_frac"),
            best_share(groups, is_this),
        );
        let all = actions(groups, is_this);
        metrics.insert(
            format!("external/{name}/reward_mean"),
            mean_ignoring_nan(rewards_of(&all)),
        );
    }
}

/// Advantages of the selected actions of some sources.
fn selected_of(groups: &[Group], wanted: impl Fn(&Source) -> bool) -> Vec<f64> {
    let pairs = groups.iter().flat_map(|group| {
        group
            .selected
            .iter()
            .zip(&group.advantages)
            .map(move |pair| (group, pair))
    });
    pairs
        .filter(|(group, (index, _))| wanted(&group.pool[**index].action.source))
        .map(|(_, (_, advantage))| f64::from(*advantage))
        .collect()
}

/// The share of groups where an action of these sources has a higher reward than every action of all others.
fn best_share(groups: &[Group], wanted: impl Fn(&Source) -> bool) -> f64 {
    let best = |group: &Group, among: bool| {
        let rewards = group
            .pool
            .iter()
            .filter(|scored| wanted(&scored.action.source) == among);
        rewards
            .filter_map(|scored| scored.reward)
            .fold(f32::NEG_INFINITY, f32::max)
    };
    let count = groups
        .iter()
        .filter(|group| best(group, true) > best(group, false))
        .count();
    count as f64 / groups.len().max(1) as f64
}

/// A micro-batch and what forward and backward made of it.
pub type Learnt<'a> = (&'a TokenBatch, &'a MicroBatchResult);

/// What forward and backward of the micro-batches of a step gave.
#[must_use]
pub fn of_update(learnt: &[Learnt<'_>]) -> StepMetrics {
    let mut metrics = StepMetrics::new();
    let losses = learnt.iter().map(|(_, result)| f64::from(result.loss));
    metrics.insert("loss", losses.sum::<f64>());
    // TRL's name for the loss before the entropy bonus.
    let policy = learnt.iter().map(|(_, result)| result.policy_loss);
    if let Some(sum) = policy.map(|loss| loss.map(f64::from)).sum::<Option<f64>>()
        && !learnt.is_empty()
    {
        metrics.insert("policy_loss", sum);
    }
    // As TRL: means over micro-batches, whatever their sizes.
    let clips: Vec<_> = learnt
        .iter()
        .map(|(_, result)| result.clip.named())
        .collect();
    let names = clips
        .first()
        .map(|named| named.iter().map(|(name, _)| *name));
    for (index, name) in names.into_iter().flatten().enumerate() {
        let sum: f64 = clips.iter().map(|named| named[index].1).sum();
        metrics.insert(name, sum / clips.len() as f64);
    }
    metrics.insert(
        "entropy",
        mean_ignoring_nan(tokens(learnt).map(|token| token.entropy)),
    );
    describe_external_tokens(&mut metrics, learnt);
    metrics
}

/// How far decoding and training agree on the probabilities of tokens that were drawn with the weights that training now
/// has: differences of log-probabilities, and TRL's importance-sampling ratio p of training / p of decoding.
#[must_use]
pub fn of_agreement(learnt: &[Learnt<'_>]) -> StepMetrics {
    let mut metrics = StepMetrics::new();
    let drawn = || tokens(learnt).filter_map(|token| Some(token.logprob - token.sampling_logprob?));
    let differences = || drawn().map(f64::abs);
    let ratios = || drawn().map(f64::exp);
    for (name, value) in [
        (
            "sampling/sampling_logp_difference/mean",
            mean_ignoring_nan(differences()),
        ),
        (
            "sampling/sampling_logp_difference/max",
            max_ignoring_nan(differences()),
        ),
        (
            "sampling/importance_sampling_ratio/min",
            min_ignoring_nan(ratios()),
        ),
        (
            "sampling/importance_sampling_ratio/mean",
            mean_ignoring_nan(ratios()),
        ),
        (
            "sampling/importance_sampling_ratio/max",
            max_ignoring_nan(ratios()),
        ),
        (
            "token_mult_prob_error",
            mean_ignoring_nan(differences().map(f64::exp)),
        ),
    ] {
        metrics.insert(name, value);
    }
    metrics
}

/// How the policy sees external tokens: all of them, and those of each external model.
fn describe_external_tokens(metrics: &mut StepMetrics, learnt: &[Learnt<'_>]) {
    let all = || tokens(learnt);
    let names: BTreeSet<&str> = all().filter_map(|token| token.external).collect();
    if names.is_empty() {
        return;
    }
    let mut describe = |prefix: &str, wanted: &dyn Fn(&Token<'_>) -> bool| {
        let tokens: Vec<Token<'_>> = all().filter(|token| wanted(token)).collect();
        let mut insert = |name: &str, value: fn(&Token<'_>) -> f64| {
            metrics.insert(
                format!("{prefix}/{name}"),
                mean_ignoring_nan(tokens.iter().map(value)),
            );
        };
        insert("policy_prob_mean", |token| token.logprob.exp());
        insert("ratio_mean", |token| token.ratio);
        insert("ratio_clip_frac", |token| token.clipped);
        insert("loss", |token| token.loss);
    };
    describe("external", &|token| token.external.is_some());
    for name in names {
        describe(&format!("external/{name}"), &|token| {
            token.external == Some(name)
        });
    }
    let own = all().filter(|token| token.external.is_none());
    let loss = mean_ignoring_nan(own.map(|token| token.loss));
    metrics.insert("onpolicy/loss", loss);
}

/// One token that counts.
struct Token<'a> {
    external: Option<&'a str>,
    logprob: f64,
    sampling_logprob: Option<f64>,
    entropy: f64,
    ratio: f64,
    clipped: f64,
    loss: f64,
}

fn tokens<'a>(learnt: &'a [Learnt<'a>]) -> impl Iterator<Item = Token<'a>> + 'a {
    learnt.iter().copied().flat_map(|(batch, result)| {
        batch
            .rows
            .iter()
            .enumerate()
            .flat_map(move |(row, content)| {
                let counts =
                    (0..content.token_ids.len()).filter(|index| content.mask[*index] > 0.0);
                counts.map(move |index| Token {
                    external: match &content.source {
                        Source::Policy => None,
                        Source::External(name) => Some(name.as_ref()),
                    },
                    logprob: f64::from(result.logprobs[row][index]),
                    sampling_logprob: content
                        .sampling_logprobs
                        .as_ref()
                        .map(|drawn| f64::from(drawn[index])),
                    entropy: f64::from(result.entropies[row][index]),
                    ratio: f64::from(result.ratios[row][index]),
                    clipped: f64::from(result.clipped[row][index]),
                    loss: f64::from(result.loss_terms[row][index]),
                })
            })
    })
}

#[cfg(test)]
mod tests;
