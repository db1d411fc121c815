//! Which prompts ask for external actions, from how the policy's own actions fared; knows nothing of who will act.

use std::f64::consts::PI;

use rand::Rng;

use super::{Purpose, SelectionError, StepKey};
use crate::options::{ExternalSchedule, ExternalWhen, ScheduleShape};
use crate::record::{Group, Source};

impl ExternalWhen {
    /// Whether the gate depends on how the policy's own actions fare, so that it cannot be known before them.
    #[must_use]
    pub const fn waits_for_policy(&self) -> bool {
        matches!(self, Self::AllWrong | Self::PassRate { .. })
    }

    pub(super) fn check(&self) -> Result<(), SelectionError> {
        let share = |key, value: f64| {
            let error = SelectionError::Gate {
                key,
                value,
                expected: "a number from 0 to 1",
                hint: "1 always opens the gate, 0 never",
            };
            if (0.0..=1.0).contains(&value) {
                Ok(())
            } else {
                Err(error)
            }
        };
        match *self {
            Self::Always | Self::AllWrong => Ok(()),
            Self::PassRate { max, min } => {
                share("pass_rate_max", max)?;
                share("pass_rate_min", min)?;
                if min <= max {
                    return Ok(());
                }
                let expected = "at most `pass_rate_max`";
                let hint = "swap the two, or leave `pass_rate_min` out";
                Err(SelectionError::Gate {
                    key: "pass_rate_min",
                    value: min,
                    expected,
                    hint,
                })
            }
            Self::Probability(probability) => share("probability", probability),
            Self::Schedule(schedule) => {
                share("schedule.from", schedule.from)?;
                share("schedule.to", schedule.to)?;
                if schedule.steps > 0 {
                    return Ok(());
                }
                let hint = "give the number of optimizer steps from `from` to `to`";
                Err(SelectionError::Gate {
                    key: "schedule.steps",
                    value: 0.0,
                    expected: "1 or more",
                    hint,
                })
            }
        }
    }
}

impl ExternalSchedule {
    /// The probability at an optimizer step.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "steps are far below 2^53")]
    pub fn probability(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.from * step as f64 / self.warmup as f64;
        }
        let progress = ((step - self.warmup) as f64 / self.steps as f64).min(1.0);
        match self.shape {
            ScheduleShape::Cosine => {
                self.to + (self.from - self.to) * 0.5 * (1.0 + (PI * progress).cos())
            }
            ScheduleShape::Linear => self.from + (self.to - self.from) * progress,
        }
    }
}

/// One answer per group: whether it asks for external actions. Only policy actions of the pools are looked at.
#[must_use]
pub fn gate(groups: &[Group], when: &ExternalWhen, key: StepKey) -> Vec<bool> {
    groups
        .iter()
        .map(|group| is_open(group, when, key))
        .collect()
}

fn is_open(group: &Group, when: &ExternalWhen, key: StepKey) -> bool {
    let probability = match *when {
        ExternalWhen::Always => return true,
        ExternalWhen::AllWrong => return pass_rate(group) == 0.0,
        ExternalWhen::PassRate { max, min } => return (min..=max).contains(&pass_rate(group)),
        ExternalWhen::Probability(probability) => probability,
        ExternalWhen::Schedule(schedule) => schedule.probability(key.step),
    };
    // A draw from [0, 1) is below 1 always and below 0 never.
    key.generator(&group.example.id, Purpose::Gate)
        .random::<f64>()
        < probability
}

/// Share of the policy's actions that pass; 0 without any.
#[expect(clippy::cast_precision_loss, reason = "groups are small")]
fn pass_rate(group: &Group) -> f64 {
    let own = group
        .pool
        .iter()
        .filter(|scored| scored.action.source == Source::Policy);
    let (passes, count) = own.fold((0, 0_usize), |(passes, count), scored| {
        (passes + usize::from(scored.passes), count + 1)
    });
    passes as f64 / count.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, group};
    use super::*;

    fn open(policy: &[f32], when: ExternalWhen) -> bool {
        gate(&[group("a", policy, &[])], &when, KEY)[0]
    }

    #[test]
    fn the_pass_rate_of_the_policy_decides() {
        let (wrong, half, right) = ([0.0, 1.0], [2.0, 1.0], [2.0, 2.0]);
        for policy in [wrong, half, right] {
            assert!(open(&policy, ExternalWhen::Always));
        }
        assert!(open(&wrong, ExternalWhen::AllWrong));
        assert!(!open(&half, ExternalWhen::AllWrong));
        let between = ExternalWhen::PassRate {
            max: 0.5,
            min: 0.25,
        };
        assert!(!open(&wrong, between));
        assert!(open(&half, between));
        assert!(!open(&right, between));
    }

    #[test]
    fn external_actions_do_not_count_as_passes() {
        let with_expert = group("a", &[0.0, 1.0], &[2.0]);
        assert_eq!(gate(&[with_expert], &ExternalWhen::AllWrong, KEY), [true]);
    }

    #[test]
    fn draws_repeat_and_follow_the_probability() {
        let groups: Vec<_> = (0..2000)
            .map(|index| group(&format!("train-{index}"), &[0.0], &[]))
            .collect();
        let draws = gate(&groups, &ExternalWhen::Probability(0.3), KEY);
        assert_eq!(draws, gate(&groups, &ExternalWhen::Probability(0.3), KEY));
        let later = StepKey {
            step: KEY.step + 1,
            ..KEY
        };
        assert_ne!(draws, gate(&groups, &ExternalWhen::Probability(0.3), later));
        let opened = draws.iter().filter(|&&open| open).count();
        assert!(
            (530..670).contains(&opened),
            "{opened} of 2000 open with probability 0.3"
        );
        assert!(
            gate(&groups, &ExternalWhen::Probability(1.0), KEY)
                .iter()
                .all(|&open| open)
        );
        assert!(
            gate(&groups, &ExternalWhen::Probability(0.0), KEY)
                .iter()
                .all(|&open| !open)
        );
    }

    #[test]
    fn schedules_warm_up_and_then_move_to_their_end() {
        let mut schedule = ExternalSchedule {
            from: 0.8,
            to: 0.2,
            steps: 100,
            shape: ScheduleShape::Cosine,
            warmup: 10,
        };
        let near = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-12, "{found}, not {expected}")
        };
        near(schedule.probability(0), 0.0);
        near(schedule.probability(5), 0.4);
        near(schedule.probability(10), 0.8);
        near(schedule.probability(60), 0.5);
        near(
            schedule.probability(35),
            0.2 + 0.6 * 0.5 * (1.0 + 0.5_f64.sqrt()),
        );
        near(schedule.probability(110), 0.2);
        near(schedule.probability(9999), 0.2);
        schedule.shape = ScheduleShape::Linear;
        near(schedule.probability(35), 0.65);
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let schedule = ExternalSchedule {
            from: 0.5,
            to: 0.1,
            steps: 0,
            shape: ScheduleShape::Cosine,
            warmup: 0,
        };
        for (when, key) in [
            (
                ExternalWhen::Probability(1.5),
                "external_when.probability` is 1.5",
            ),
            (
                ExternalWhen::Probability(f64::NAN),
                "external_when.probability` is NaN",
            ),
            (
                ExternalWhen::PassRate {
                    max: -0.1,
                    min: 0.0,
                },
                "external_when.pass_rate_max` is -0.1",
            ),
            (
                ExternalWhen::PassRate { max: 0.1, min: 0.2 },
                "expected at most `pass_rate_max`",
            ),
            (
                ExternalWhen::Schedule(schedule),
                "external_when.schedule.steps` is 0",
            ),
            (
                ExternalWhen::Schedule(ExternalSchedule {
                    to: 2.0,
                    ..schedule
                }),
                "external_when.schedule.to` is 2",
            ),
        ] {
            let message = when.check().expect_err("refused").to_string();
            assert!(message.contains(key), "{message}");
        }
    }
}
