//! Looks at each step's metrics for the known ways in which training goes wrong.
//!
//! Ranges are those of axolotl's documentation; what to do about them is ours. Does not know how a metric was computed
//! and never changes the training: it warns once per finding, or ends the run with an explanation.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::StepMetrics;

/// Steps a reward has to rise above [`LOW_REWARD`], and an entropy to settle.
const SETTLING_STEPS: u64 = 20;
const LOW_REWARD: f64 = 0.15;

/// Training that must not go on.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum WatchdogError {
    /// Sampling and training compute different probabilities for the same tokens.
    #[error(
        "step {step}: sampling and training disagree: `{name}` is {value}, expected below {limit}\nhint: run `vision-ekipl doctor`; if its self-test passes, try `--device cpu` and report both outputs"
    )]
    Disagreement {
        /// Optimizer step.
        step: u64,
        /// The metric.
        name: &'static str,
        /// Its value.
        value: f64,
        /// What it must stay below.
        limit: f64,
    },
    /// No group had two different rewards for a long time.
    #[error(
        "step {step}: in the last {steps} steps all actions of every group had the same reward, so there is no gradient\nhint: if the reward is high the task is solved; otherwise use other data, reward functions or a longer `max_completion_length`; `watchdog_patience: null` goes on"
    )]
    NoSignal {
        /// Optimizer step.
        step: u64,
        /// Steps without a signal.
        steps: u64,
    },
}

/// Values of a metric that are worth a warning.
enum Range {
    Above(f64),
    /// Also exactly the bound.
    AtMost(f64),
}

struct Rule {
    name: &'static str,
    range: Range,
    /// First step at which the rule counts.
    from_step: u64,
    /// What it means.
    meaning: &'static str,
    hint: &'static str,
}

const fn rule(name: &'static str, range: Range, meaning: &'static str, hint: &'static str) -> Rule {
    Rule {
        name,
        range,
        from_step: 0,
        meaning,
        hint,
    }
}

const RULES: [Rule; 11] = [
    rule(
        "reward_std",
        Range::AtMost(0.0),
        "all actions have the same reward",
        "see the rewards in completions.jsonl",
    ),
    rule(
        "frac_reward_zero_std",
        Range::Above(0.8),
        "most groups give no gradient",
        "use harder or easier examples, or more `num_generations`",
    ),
    rule(
        "grad_norm",
        Range::Above(10.0),
        "training is unstable",
        "lower `learning_rate` or `max_grad_norm`",
    ),
    rule(
        "entropy",
        Range::AtMost(0.01),
        "the policy has collapsed",
        "raise `temperature`, or lower `learning_rate`",
    ),
    Rule {
        from_step: SETTLING_STEPS,
        ..rule(
            "entropy",
            Range::Above(1.0),
            "the policy is not converging",
            "raise `learning_rate`, or warm-start it",
        )
    },
    rule(
        "kl",
        Range::Above(2.0),
        "the policy has left its start",
        "raise `beta`, or lower `learning_rate`",
    ),
    rule(
        "sampling/sampling_logp_difference/mean",
        Range::Above(1e-3),
        "sampling and training disagree",
        "run `vision-ekipl doctor`",
    ),
    rule(
        "sampling/importance_sampling_ratio/min",
        Range::AtMost(0.1),
        "sampling and training disagree",
        "run `vision-ekipl doctor`",
    ),
    rule(
        "clip_ratio/region_mean",
        Range::Above(0.3),
        "updates are too large",
        "lower `learning_rate` or `num_iterations`",
    ),
    rule(
        "completions/clipped_ratio",
        Range::Above(0.8),
        "most completions are cut off",
        "raise `max_completion_length`",
    ),
    rule(
        "external/request_failures",
        Range::Above(0.05),
        "external actions fail; their groups go on without them",
        "check the `external` entries, their `max_cost`, and external/*/failures/* in metrics.jsonl",
    ),
];

/// What must hold in the first batch of a run: `(metric, limit)`.
const FIRST_BATCH: [(&str, f64); 2] = [
    ("sampling/sampling_logp_difference/mean", 1e-3),
    ("token_mult_prob_error", 1.01),
];

/// Remembers what it has seen in the steps of one run; a checkpoint keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Watchdog {
    /// Steps without a signal that end the run; `None` never ends it.
    #[serde(skip)]
    patience: Option<u64>,
    /// Whether the first batch was looked at; a resumed run may compute elsewhere, and its first batch counts again.
    #[serde(skip)]
    agreed: bool,
    steps: u64,
    warned: BTreeSet<String>,
    best_rewards: BTreeMap<String, f64>,
    steps_without_signal: u64,
}

impl Watchdog {
    /// `patience`: consecutive steps without any reward difference after which the run ends; `None` lets it go on.
    #[must_use]
    pub fn new(patience: Option<u64>) -> Self {
        Self {
            patience,
            agreed: false,
            steps: 0,
            warned: BTreeSet::new(),
            best_rewards: BTreeMap::new(),
            steps_without_signal: 0,
        }
    }

    /// What an earlier run of it had seen, under this run's patience.
    #[must_use]
    pub fn resumed(self, patience: Option<u64>) -> Self {
        Self { patience, ..self }
    }

    /// Looks at the first batch of the run, before it is learnt from: sampling and the training forward must give the same
    /// probabilities, because they are the same weights. Later batches only warn ([`Self::check`]).
    ///
    /// # Errors
    /// [`WatchdogError::Disagreement`].
    pub fn check_agreement(
        &mut self,
        step: u64,
        metrics: &StepMetrics,
    ) -> Result<(), WatchdogError> {
        if std::mem::replace(&mut self.agreed, true) {
            return Ok(());
        }
        for (name, limit) in FIRST_BATCH {
            if let Some(value) = metrics.get(name)
                && value >= limit
            {
                return Err(WatchdogError::Disagreement {
                    step,
                    name,
                    value,
                    limit,
                });
            }
        }
        Ok(())
    }

    /// Looks at the metrics of one step (not of a window) and logs each new finding as a warning.
    ///
    /// # Errors
    /// [`WatchdogError::NoSignal`]: there was none for too long. Everything that was found is logged all the same.
    pub fn check(&mut self, step: u64, metrics: &StepMetrics) -> Result<(), WatchdogError> {
        for warning in self.findings(step, metrics) {
            log::warn!("{warning}");
        }
        self.starvation(step, metrics)
    }

    fn findings(&mut self, step: u64, metrics: &StepMetrics) -> Vec<String> {
        self.steps += 1;
        let mut findings = Vec::new();
        for rule in &RULES {
            let Some(value) = metrics.get(rule.name) else {
                continue;
            };
            let (outside, wanted) = match rule.range {
                Range::Above(bound) => (value > bound, format!("at most {bound}")),
                Range::AtMost(bound) => (value <= bound, format!("above {bound}")),
            };
            if outside
                && self.steps >= rule.from_step
                && self.warned.insert(format!("{} {wanted}", rule.name))
            {
                let Rule {
                    name,
                    meaning,
                    hint,
                    ..
                } = rule;
                findings.push(format!(
                    "step {step}: {meaning}: `{name}` is {value}, expected {wanted}\nhint: {hint}"
                ));
            }
        }
        findings.extend(self.low_rewards(step, metrics));
        findings
    }

    /// The one condition that ends a run when it lasts, if the run says how long.
    fn starvation(&mut self, step: u64, metrics: &StepMetrics) -> Result<(), WatchdogError> {
        let flat = metrics.get("frac_reward_zero_std");
        self.steps_without_signal = if flat.is_some_and(|share| share >= 1.0) {
            self.steps_without_signal + 1
        } else {
            0
        };
        let steps = self.steps_without_signal;
        if self.patience.is_some_and(|patience| steps >= patience) {
            return Err(WatchdogError::NoSignal { step, steps });
        }
        Ok(())
    }

    /// Reward functions that stayed low for all of the first steps.
    fn low_rewards(&mut self, step: u64, metrics: &StepMetrics) -> Vec<String> {
        for (name, value) in metrics.iter() {
            if name.starts_with("rewards/") && name.ends_with("/mean") && !value.is_nan() {
                let best = self.best_rewards.entry(name.to_owned()).or_insert(value);
                *best = best.max(value);
            }
        }
        if self.steps != SETTLING_STEPS {
            return Vec::new();
        }
        let low = self
            .best_rewards
            .iter()
            .filter(|(_, best)| **best <= LOW_REWARD);
        let finding = |(name, best): (&String, &f64)| {
            format!(
                "step {step}: a reward does not rise: `{name}` was at most {best} in {SETTLING_STEPS} steps, expected above \
                 {LOW_REWARD}\nhint: compare completions.jsonl with what the reward function asks for; the policy may need a \
                 warm start (`vision-ekipl sft`)"
            )
        };
        low.map(finding).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(entries: &[(&str, f64)]) -> StepMetrics {
        let mut metrics = StepMetrics::new();
        for (name, value) in entries {
            metrics.insert(*name, *value);
        }
        metrics
    }

    fn healthy() -> StepMetrics {
        metrics(&[
            ("rewards/accuracy/mean", 0.4),
            ("reward_std", 0.3),
            ("frac_reward_zero_std", 0.2),
            ("grad_norm", 0.5),
            ("entropy", 0.3),
            ("kl", 0.01),
            ("sampling/sampling_logp_difference/mean", 1e-6),
            ("token_mult_prob_error", 1.000_001),
            ("completions/clipped_ratio", 0.1),
            ("external/request_failures", 0.0),
        ])
    }

    #[test]
    fn a_healthy_run_is_left_alone() {
        let mut watchdog = Watchdog::new(Some(20));
        for step in 1..=50 {
            assert_eq!(watchdog.findings(step, &healthy()), Vec::<String>::new());
        }
    }

    #[test]
    fn each_finding_is_told_once_with_value_range_and_hint() {
        let mut watchdog = Watchdog::new(None);
        let bad = metrics(&[("grad_norm", 12.5)]);
        let expected = "step 7: training is unstable: `grad_norm` is 12.5, expected at most 10\nhint: lower `learning_rate` or `max_grad_norm`";
        assert_eq!(watchdog.findings(7, &bad), [expected]);
        assert_eq!(watchdog.findings(8, &bad), Vec::<String>::new());
    }

    #[test]
    fn entropy_may_be_high_at_first_but_not_for_ever_and_never_collapsed() {
        let mut watchdog = Watchdog::new(None);
        let high = metrics(&[("entropy", 1.5)]);
        let warned: Vec<u64> = (1..=30)
            .filter(|&step| !watchdog.findings(step, &high).is_empty())
            .collect();
        assert_eq!(warned, [20]);
        assert!(watchdog.findings(31, &metrics(&[("entropy", 0.005)]))[0].contains("collapsed"));
    }

    #[test]
    fn disagreement_in_the_first_batch_ends_the_run_and_later_warns() {
        let bad = metrics(&[("sampling/sampling_logp_difference/mean", 0.02)]);
        let refused = |bad: &StepMetrics| Watchdog::new(None).check_agreement(1, bad);
        let error = refused(&bad).unwrap_err().to_string();
        assert!(
            error
                .contains("`sampling/sampling_logp_difference/mean` is 0.02, expected below 0.001"),
            "{error}"
        );
        assert!(
            error.contains("\nhint: run `vision-ekipl doctor`"),
            "{error}"
        );
        assert!(refused(&metrics(&[("token_mult_prob_error", 1.5)])).is_err());

        let mut watchdog = Watchdog::new(None);
        watchdog.check_agreement(1, &healthy()).unwrap();
        watchdog.check_agreement(2, &bad).unwrap();
        assert_eq!(watchdog.findings(2, &bad).len(), 1);
    }

    #[test]
    fn a_run_without_reward_differences_ends_after_patience_and_a_signal_resets_it() {
        let flat = metrics(&[("frac_reward_zero_std", 1.0)]);
        let mut watchdog = Watchdog::new(Some(3));
        for step in 1..=2 {
            watchdog.check(step, &flat).unwrap();
        }
        watchdog.check(3, &healthy()).unwrap();
        for step in 4..=5 {
            watchdog.check(step, &flat).unwrap();
        }
        assert_eq!(
            watchdog.check(6, &flat),
            Err(WatchdogError::NoSignal { step: 6, steps: 3 })
        );
    }

    /// A spent budget, a dead server and every other failure that `on_teacher_failure` forgives.
    #[test]
    fn external_models_that_never_answer_are_told_of_once_and_never_end_the_run() {
        let dead = metrics(&[
            ("external/request_failures", 1.0),
            ("frac_reward_zero_std", 0.5),
        ]);
        let mut watchdog = Watchdog::new(Some(3));
        let told: Vec<String> = (1..=100)
            .flat_map(|step| watchdog.findings(step, &dead))
            .collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("external actions fail"), "{told:?}");
        assert!((1..=100).all(|step| watchdog.check(step, &dead).is_ok()));
    }

    #[test]
    fn a_resumed_watchdog_remembers() {
        let flat = metrics(&[("frac_reward_zero_std", 1.0)]);
        let mut watchdog = Watchdog::new(Some(3));
        (1..=2).for_each(|step| watchdog.check(step, &flat).unwrap());
        let kept = serde_json::to_string(&watchdog).unwrap();
        let resumed: Watchdog = serde_json::from_str(&kept).unwrap();
        let mut resumed = resumed.resumed(Some(3));
        assert_eq!(
            resumed.findings(3, &flat),
            Vec::<String>::new(),
            "told before"
        );
        assert!(resumed.check(3, &flat).is_err(), "the third step in a row");
        let bad = metrics(&[("token_mult_prob_error", 1.5)]);
        assert!(
            resumed.check_agreement(3, &bad).is_err(),
            "its device may be another"
        );
    }

    #[test]
    fn a_reward_that_stays_low_is_named_at_step_twenty_only() {
        let mut watchdog = Watchdog::new(None);
        let low = metrics(&[("rewards/format/mean", 0.1), ("rewards/accuracy/mean", 0.3)]);
        let warned: Vec<(u64, String)> = (1..=40)
            .flat_map(|step| {
                watchdog
                    .findings(step, &low)
                    .into_iter()
                    .map(move |text| (step, text))
            })
            .collect();
        assert_eq!(warned.len(), 1);
        assert_eq!(warned[0].0, 20);
        assert!(
            warned[0]
                .1
                .contains("`rewards/format/mean` was at most 0.1"),
            "{}",
            warned[0].1
        );
    }
}
