//! Every number of a small step, worked out by hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::actions::teacher::DropReason;
use crate::kernels::{PolicyLossMetrics, Surrogate};
use crate::record::{Action, Example, Prompt, TokenRow};

fn near(metrics: &StepMetrics, name: &str, expected: f64) {
    let found = metrics.get(name).unwrap_or_else(|| panic!("no {name}"));
    let same = (found.is_nan() && expected.is_nan()) || (found - expected).abs() < 1e-9;
    assert!(same, "{name}: {found}, not {expected}");
}

fn source(name: &str) -> Source {
    match name {
        "policy" => Source::Policy,
        other => Source::External(other.into()),
    }
}

fn scored(name: &str, tokens: usize, reward: Option<f32>, finish: FinishReason) -> ScoredAction {
    ScoredAction {
        action: Action {
            source: source(name),
            token_ids: vec![1; tokens],
            text: String::new(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish,
        },
        rewards: vec![reward, None],
        reward,
        passes: false,
    }
}

fn group(pool: Vec<ScoredAction>, selected: &[usize], advantages: &[f32]) -> Group {
    let example = Example {
        id: "a".to_owned(),
        task: None,
        messages: Vec::new(),
        images: Vec::new(),
        solution: String::new(),
        cot: None,
        target: None,
        columns: serde_json::Map::new(),
        origin: String::new(),
    };
    let prompt = Prompt {
        id: "a".to_owned(),
        rendered: String::new(),
        input_ids: vec![1],
        positions: vec![[0; 3]],
        rope_delta: 0,
        images: Vec::new(),
    };
    Group {
        example: Arc::new(example),
        prompt: Arc::new(prompt),
        pool,
        selected: selected.to_vec(),
        advantages: advantages.to_vec(),
    }
}

/// Two groups: the expert is best in the first, and has no reward in the second, whose selected rewards are equal.
fn groups() -> Vec<Group> {
    use FinishReason::{Length, Stop};
    vec![
        group(
            vec![
                scored("policy", 2, Some(0.0), Stop),
                scored("policy", 8, Some(1.0), Length),
                scored("expert", 3, Some(2.0), Stop),
            ],
            &[2, 1],
            &[1.0, -1.0],
        ),
        group(
            vec![
                scored("policy", 4, Some(1.0), Stop),
                scored("policy", 6, Some(1.0), Stop),
                scored("expert", 5, None, Stop),
            ],
            &[0, 1],
            &[0.0, 0.0],
        ),
    ]
}

#[test]
fn rewards_and_lengths_are_those_of_the_policy() {
    let metrics = of_groups(&groups(), &["accuracy", "length"], &["expert"]);
    near(&metrics, "reward", 0.75);
    near(&metrics, "rewards/accuracy/mean", 0.75);
    near(&metrics, "reward_std", 0.5);
    near(&metrics, "rewards/length/mean", f64::NAN);
    near(&metrics, "reward_group_std", 0.5f64.sqrt() / 2.0);
    near(&metrics, "frac_reward_zero_std", 0.5);
    near(&metrics, "completions/mean_length", 5.0);
    near(&metrics, "completions/min_length", 2.0);
    near(&metrics, "completions/max_length", 8.0);
    near(&metrics, "completions/mean_terminated_length", 4.0);
    near(&metrics, "completions/max_terminated_length", 6.0);
    near(&metrics, "completions/clipped_ratio", 0.25);
}

#[test]
fn external_shares_are_of_the_selected() {
    let metrics = of_groups(&groups(), &["accuracy", "length"], &["expert", "other"]);
    near(&metrics, "external/reward_mean", 2.0);
    near(&metrics, "external/fraction", 0.25);
    near(&metrics, "external/advantage_mean", 1.0);
    near(&metrics, "external/groups_with_actions_frac", 1.0);
    near(&metrics, "external/best_in_group_frac", 0.5);
    near(&metrics, "external/tokens", 8.0);
    near(&metrics, "external/expert/fraction", 0.25);
    near(&metrics, "external/other/fraction", 0.0);
    near(&metrics, "external/other/reward_mean", f64::NAN);
    let alone = of_groups(&groups(), &["accuracy", "length"], &[]);
    assert!(alone.iter().all(|(name, _)| !name.starts_with("external")));
}

#[test]
fn without_any_completion_lengths_are_zero_as_in_trl() {
    let metrics = of_groups(&[], &[], &[]);
    near(&metrics, "completions/mean_length", 0.0);
    near(&metrics, "completions/clipped_ratio", 0.0);
    near(&metrics, "reward", f64::NAN);
    near(&metrics, "frac_reward_zero_std", 0.0);
}

fn report(requests: usize, answered: usize, failures: &[(&'static str, usize)]) -> TeacherReport {
    TeacherReport {
        requests,
        answered,
        failures: failures.iter().copied().collect(),
        latency_s: 3.0,
        input_tokens: 100,
        output_tokens: 10,
        cost: 0.5,
        ..TeacherReport::default()
    }
}

fn statistics(name: &str, report: TeacherReport) -> TeacherStatistics {
    TeacherStatistics {
        name: name.into(),
        asked: 4,
        answered: 2,
        tokens: 20,
        dropped: BTreeMap::from([(DropReason::Missing, 2)]),
        report,
    }
}

#[test]
fn teachers_failures_are_shares_of_what_was_asked_of_servers() {
    let metrics = of_teachers(&[
        statistics("recorded", TeacherReport::default()),
        statistics("server", report(4, 3, &[("timeout", 1)])),
    ]);
    near(&metrics, "external/recorded/dropped/missing", 2.0);
    assert_eq!(metrics.get("external/recorded/requests"), None);
    near(&metrics, "external/server/request_failures", 0.25);
    near(&metrics, "external/server/failures/timeout", 1.0);
    near(&metrics, "external/server/latency_s", 0.75);
    near(&metrics, "external/request_failures", 0.25);
    near(&metrics, "external/cost", 0.5);
}

/// A generation batch of two rollouts cost what both cost, and its gate was open as often as on average.
#[test]
fn rollouts_add_their_costs_and_average_their_shares() {
    let rollout = |cost: f64, open: f64, failures: Option<f64>| {
        let mut metrics = StepMetrics::new();
        metrics.insert("external/gate_open_frac", open);
        metrics.insert("external/server/cost", cost);
        metrics.insert("external/server/input_tokens", 100.0);
        metrics.insert("timing_s/external_wait", cost);
        if let Some(failures) = failures {
            metrics.insert("external/server/failures/timeout", failures);
        }
        metrics
    };
    let metrics = of_rollouts(&[rollout(1.0, 1.0, None), rollout(0.5, 0.0, Some(2.0))]);
    near(&metrics, "external/gate_open_frac", 0.5);
    near(&metrics, "external/server/cost", 1.5);
    near(&metrics, "external/server/input_tokens", 200.0);
    near(&metrics, "timing_s/external_wait", 1.5);
    near(&metrics, "external/server/failures/timeout", 2.0);
    let one = rollout(1.0, 1.0, None);
    assert_eq!(of_rollouts(std::slice::from_ref(&one)), one);
}

fn row(name: &str, sampling: Option<Vec<f32>>, mask: &[f32]) -> TokenRow {
    TokenRow {
        source: source(name),
        mask: mask.to_vec(),
        sampling_logprobs: sampling,
        ..TokenRow::plain(0, vec![1; mask.len()])
    }
}

fn result(loss: f32, clip: f64, logprobs: &[&[f32]]) -> MicroBatchResult {
    let like = |value: f32| -> Vec<Vec<f32>> {
        logprobs.iter().map(|row| vec![value; row.len()]).collect()
    };
    MicroBatchResult {
        loss,
        policy_loss: None,
        loss_terms: like(loss),
        ratios: like(1.5),
        clipped: like(1.0),
        clip: PolicyLossMetrics {
            surrogate: Surrogate::Clipped,
            clip_low_mean: clip,
            clip_low_min: clip,
            clip_high_mean: 0.0,
            clip_high_max: 0.0,
            clip_region_mean: clip,
            kl: 0.0,
        },
        logprobs: logprobs.iter().map(|row| row.to_vec()).collect(),
        entropies: like(loss),
    }
}

/// Two micro-batches; a masked token counts nowhere.
#[test]
fn an_update_is_the_sum_of_losses_and_the_mean_over_tokens() {
    let first = TokenBatch {
        prompts: Vec::new(),
        rows: vec![row("policy", Some(vec![-1.0, -2.0]), &[1.0, 0.0])],
    };
    let second = TokenBatch {
        prompts: Vec::new(),
        rows: vec![
            row("policy", Some(vec![-1.0, -0.5]), &[1.0, 1.0]),
            row("expert", None, &[1.0]),
        ],
    };
    let results = [
        result(0.25, 0.5, &[&[-1.0, -9.0]]),
        result(0.5, 0.0, &[&[-1.5, -0.25], &[-0.125]]),
    ];
    let learnt = [(&first, &results[0]), (&second, &results[1])];
    let metrics = of_update(&learnt);
    near(&metrics, "loss", 0.75);
    near(&metrics, "clip_ratio/low_mean", 0.25);
    near(&metrics, "entropy", (0.25 + 0.5 * 3.0) / 4.0);
    near(&metrics, "external/policy_prob_mean", (-0.125f64).exp());
    near(&metrics, "external/expert/ratio_mean", 1.5);
    near(&metrics, "external/loss", 0.5);
    near(&metrics, "onpolicy/loss", (0.25 + 0.5 + 0.5) / 3.0);
    // Differences of 0, -0.5 and +0.25; the expert's token was not drawn.
    let agreement = of_agreement(&learnt);
    near(&agreement, "sampling/sampling_logp_difference/mean", 0.25);
    near(&agreement, "sampling/sampling_logp_difference/max", 0.5);
    near(
        &agreement,
        "sampling/importance_sampling_ratio/min",
        (-0.5f64).exp(),
    );
    near(
        &agreement,
        "sampling/importance_sampling_ratio/max",
        0.25f64.exp(),
    );
    let error = (1.0 + 0.5f64.exp() + 0.25f64.exp()) / 3.0;
    near(&agreement, "token_mult_prob_error", error);
    near(&of_update(&[]), "loss", 0.0);
}
