//! Rewards of a group -> one advantage per selected action; knows nothing of how actions were chosen or what the
//! advantages weigh.
//!
//! A = (r − μ) / (σ + 1e-4), with μ and σ from the baseline set of the group (method: sections 2.3 and 1.7).
//! [`gather`] flattens groups, [`group_advantage`] is the reference that the kernel of the same name agrees with, and
//! [`assign`] puts the values back.

use std::collections::BTreeMap;

pub use crate::options::{AdvantageBaseline, ObjectiveAggregation, ScaleRewards};
use crate::record::{Group, Source};
use crate::statistics;

/// Added to a standard deviation before it divides.
pub const EPSILON: f64 = 1e-4;

/// How rewards become advantages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AdvantageOptions {
    /// Whose rewards are the baseline.
    pub baseline: AdvantageBaseline,
    /// What divides.
    pub scale_rewards: ScaleRewards,
    /// What becomes of several rewards.
    pub aggregation: ObjectiveAggregation,
}

/// The actions of some groups, one row each, in any order.
///
/// `{rewards: [2, 1, 0, NaN], groups: [0, 0, 1, 1], in_baseline: [true; 4], wanted: [true; 4], scale_rewards: Group}`
#[derive(Debug, Clone, PartialEq)]
pub struct AdvantageInput {
    /// `[R]` rewards; NaN where an action has none.
    pub rewards: Vec<f32>,
    /// `[R]` group of each row; any numbers, rows of a group need not be adjacent.
    pub groups: Vec<u32>,
    /// `[R]` whether the row's reward counts in the mean and the standard deviation of its group.
    pub in_baseline: Vec<bool>,
    /// `[R]` whether the row needs an advantage; all others get 0. With [`ScaleRewards::Batch`] these rows give the
    /// standard deviation.
    pub wanted: Vec<bool>,
    /// What divides.
    pub scale_rewards: ScaleRewards,
}

/// What the rewards of a set say together.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct RewardStatistics {
    /// Rewards that are present.
    pub count: usize,
    /// Their mean; exactly the common value where all are equal, 0 without any.
    pub mean: f64,
    /// Their standard deviation with divisor n − 1; 0 where [`zero_spread`](Self::zero_spread).
    pub standard_deviation: f64,
    /// Whether all rewards are equal, bit for bit up to the sign of zero (also true of one reward, and of none).
    pub zero_spread: bool,
}

impl RewardStatistics {
    /// The statistics of the rewards that are not NaN.
    #[must_use]
    pub fn of(rewards: &[f32]) -> Self {
        let present = || rewards.iter().copied().filter(|reward| !reward.is_nan());
        let Some(first) = present().next() else {
            return Self {
                zero_spread: true,
                ..Self::default()
            };
        };
        let count = present().count();
        if present().all(|reward| reward == first) {
            return Self {
                count,
                mean: f64::from(first),
                standard_deviation: 0.0,
                zero_spread: true,
            };
        }
        let values: Vec<f64> = present().map(f64::from).collect();
        let (mean, variance) = (statistics::mean(&values), statistics::variance(&values));
        Self {
            count,
            mean: mean.unwrap_or(0.0),
            standard_deviation: variance.map_or(0.0, f64::sqrt),
            zero_spread: false,
        }
    }

    /// σ + 1e-4, or 1 where there is no spread: such a group has A = r − μ, which is 0 for the members of the set and
    /// keeps a lone external success beside an all-wrong policy (`policy_only`) from an advantage of 10,000.
    fn divisor(&self) -> f64 {
        if self.zero_spread {
            1.0
        } else {
            self.standard_deviation + EPSILON
        }
    }
}

/// All pools as rows: group after group, each in pool order, the group's index as its id.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a step has far fewer than 2^32 groups"
)]
pub fn gather(groups: &[Group], options: AdvantageOptions) -> AdvantageInput {
    let mut input = AdvantageInput {
        rewards: Vec::new(),
        groups: Vec::new(),
        in_baseline: Vec::new(),
        wanted: Vec::new(),
        scale_rewards: options.scale_rewards,
    };
    for (index, group) in groups.iter().enumerate() {
        for (row, scored) in group.pool.iter().enumerate() {
            let selected = group.selected.contains(&row);
            input.rewards.push(scored.reward.unwrap_or(f32::NAN));
            input.groups.push(index as u32);
            input.wanted.push(selected);
            input.in_baseline.push(match options.baseline {
                AdvantageBaseline::Selected => selected,
                AdvantageBaseline::Pool => true,
                AdvantageBaseline::PolicyOnly => scored.action.source == Source::Policy,
            });
        }
    }
    input
}

/// Advantages of all pool actions in the order of [`gather`]: of the weighted sum of the rewards, or with
/// [`ObjectiveAggregation::NormalizeThenSum`] of the sum of what [`group_advantage`] makes of each reward by itself, compared
/// within the whole batch (TRL `GRPOTrainer`, `normalize_then_sum`; GDPO, arXiv 2601.05242; `scale_rewards` has no say).
///
/// `weights` are those of the rewards, in the order of [`crate::record::ScoredAction::rewards`]; an absent reward adds
/// nothing, and an action without any has none. `compute` is [`group_advantage`], here or on a device. What TRL takes over
/// all rows is taken over the baseline set.
///
/// # Errors
/// What `compute` fails with.
pub fn of_groups<E>(
    groups: &[Group],
    options: AdvantageOptions,
    weights: &[f64],
    compute: &dyn Fn(&AdvantageInput) -> Result<Vec<f32>, E>,
) -> Result<Vec<f32>, E> {
    let summed = gather(groups, options);
    if options.aggregation == ObjectiveAggregation::SumThenNormalize {
        return compute(&summed);
    }
    let marks = || summed.in_baseline.iter().zip(&summed.wanted);
    let needed: Vec<bool> = marks().map(|(a, b)| *a || *b).collect();
    let mut sums: Vec<Option<f64>> = vec![None; summed.rewards.len()];
    for (objective, weight) in weights.iter().enumerate() {
        let pool = groups.iter().flat_map(|group| &group.pool);
        let rewards = pool.map(|scored| scored.rewards[objective].unwrap_or(f32::NAN));
        let single = AdvantageInput {
            rewards: rewards.collect(),
            wanted: needed.clone(),
            scale_rewards: ScaleRewards::Group,
            ..summed.clone()
        };
        let values = compute(&single)?;
        for ((sum, value), reward) in sums.iter_mut().zip(values).zip(&single.rewards) {
            if !reward.is_nan() {
                *sum = Some(sum.unwrap_or(0.0) + weight * f64::from(value));
            }
        }
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rewards are f32 everywhere else"
    )]
    let whole = AdvantageInput {
        rewards: sums
            .iter()
            .map(|sum| sum.map_or(f32::NAN, |sum| sum as f32))
            .collect(),
        groups: vec![0; sums.len()],
        scale_rewards: ScaleRewards::Group,
        ..summed
    };
    compute(&whole)
}

/// `[R]` advantages: (r − μ) / divisor for the wanted rows that have a reward and whose group has a baseline, else 0.
///
/// μ and σ are over the group's baseline rewards; σ is unbiased (divisor n − 1) and taken over all wanted rewards with
/// [`ScaleRewards::Batch`]. The divisor is σ + 1e-4, or 1 with [`ScaleRewards::None`] and wherever all rewards that
/// give σ are equal — tested on the rewards, because a computed σ of equal rewards need not be 0. Sums are in f64.
/// (TRL `GRPOTrainer`, `sum_then_normalize`.)
///
/// # Panics
/// If the columns of `input` differ in length.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "advantages are f32 everywhere else"
)]
pub fn group_advantage(input: &AdvantageInput) -> Vec<f32> {
    let statistics = group_statistics(input);
    let batch_divisor = RewardStatistics::of(&masked(&input.rewards, &input.wanted)).divisor();
    let rows = input.rewards.iter().zip(&input.groups).zip(&input.wanted);
    rows.map(|((&reward, group), &wanted)| {
        let baseline = &statistics[group];
        if !wanted || reward.is_nan() || baseline.count == 0 {
            return 0.0;
        }
        let divisor = match input.scale_rewards {
            ScaleRewards::Group => baseline.divisor(),
            ScaleRewards::Batch => batch_divisor,
            ScaleRewards::None => 1.0,
        };
        ((f64::from(reward) - baseline.mean) / divisor) as f32
    })
    .collect()
}

/// The statistics of each group's baseline rewards, by group id.
///
/// # Panics
/// If the columns of `input` differ in length.
#[must_use]
pub fn group_statistics(input: &AdvantageInput) -> BTreeMap<u32, RewardStatistics> {
    let AdvantageInput {
        rewards,
        groups,
        in_baseline,
        wanted,
        ..
    } = input;
    assert!(
        [groups.len(), in_baseline.len(), wanted.len()] == [rewards.len(); 3],
        "{} rewards, {} groups, {} baseline marks, {} wanted marks",
        rewards.len(),
        groups.len(),
        in_baseline.len(),
        wanted.len(),
    );
    let mut by_group: BTreeMap<u32, Vec<f32>> = BTreeMap::new();
    for (&group, reward) in groups.iter().zip(masked(rewards, in_baseline)) {
        by_group.entry(group).or_default().push(reward);
    }
    by_group
        .into_iter()
        .map(|(group, rewards)| (group, RewardStatistics::of(&rewards)))
        .collect()
}

/// Rewards with NaN wherever the mark is false.
fn masked(rewards: &[f32], marks: &[bool]) -> Vec<f32> {
    rewards
        .iter()
        .zip(marks)
        .map(|(&reward, &mark)| if mark { reward } else { f32::NAN })
        .collect()
}

/// Sets [`Group::advantages`] from one value per pool action, in the order of [`gather`].
///
/// # Panics
/// If `values` has another number of rows than the pools together.
pub fn assign(groups: &mut [Group], values: &[f32]) {
    let rows: usize = groups.iter().map(|group| group.pool.len()).sum();
    assert!(
        rows == values.len(),
        "{} advantages for {rows} actions",
        values.len()
    );
    let mut rest = values;
    for group in groups {
        let (own, others) = rest.split_at(group.pool.len());
        group.advantages = group.selected.iter().map(|&row| own[row]).collect();
        rest = others;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: &[f32], expected: &[f32], tolerance: f32) {
        assert_eq!(found.len(), expected.len());
        for (row, (found, expected)) in found.iter().zip(expected).enumerate() {
            assert!(
                (found - expected).abs() <= tolerance,
                "row {row}: {found}, not {expected}"
            );
        }
    }

    /// One group: policy rewards, then external ones, of which `selected` train.
    fn input(
        policy: &[f32],
        external: &[f32],
        selected: &[usize],
        (baseline, scale_rewards): (AdvantageBaseline, ScaleRewards),
    ) -> AdvantageInput {
        let rewards = [policy, external].concat();
        let wanted: Vec<bool> = (0..rewards.len())
            .map(|row| selected.contains(&row))
            .collect();
        let in_baseline = match baseline {
            AdvantageBaseline::Selected => wanted.clone(),
            AdvantageBaseline::Pool => vec![true; rewards.len()],
            AdvantageBaseline::PolicyOnly => {
                (0..rewards.len()).map(|row| row < policy.len()).collect()
            }
        };
        AdvantageInput {
            groups: vec![0; rewards.len()],
            in_baseline,
            wanted,
            scale_rewards,
            rewards,
        }
    }

    const CASE_A: [f32; 8] = [1.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0];
    const TOP: [usize; 8] = [2, 8, 0, 1, 3, 5, 6, 7];

    #[test]
    fn golden_vectors_of_the_method() {
        use AdvantageBaseline::{PolicyOnly, Pool, Selected};
        for (baseline, best, rest) in [
            (Selected, 1.6198, -0.5399),
            (Pool, 1.5852, -0.1761),
            (PolicyOnly, 1.8705, 0.0),
        ] {
            let found = group_advantage(&input(
                &CASE_A,
                &[2.0, 1.0],
                &TOP,
                (baseline, ScaleRewards::Group),
            ));
            let expected = [rest, rest, best, rest, 0.0, rest, rest, rest, best, 0.0];
            near(&found, &expected, 5e-5);
        }
        let max_variance = input(
            &CASE_A,
            &[2.0, 1.0],
            &[2, 8, 0, 1, 3, 5, 6, 4],
            (Selected, ScaleRewards::Group),
        );
        let found = group_advantage(&max_variance);
        near(
            &found,
            &[
                -0.1950, -0.1950, 1.3651, -0.1950, -1.7552, -0.1950, -0.1950, 0.0, 1.3651, 0.0,
            ],
            5e-5,
        );

        let all_wrong = input(
            &[1.0; 8],
            &[2.0, 1.0],
            &[8, 0, 1, 2, 3, 4, 5, 6],
            (Selected, ScaleRewards::Group),
        );
        let found = group_advantage(&all_wrong);
        near(
            &found[..8],
            &[
                -0.3535, -0.3535, -0.3535, -0.3535, -0.3535, -0.3535, -0.3535, 0.0,
            ],
            5e-5,
        );
        near(&found[8..], &[2.4742, 0.0], 5e-5);

        let all_right = input(
            &[2.0; 8],
            &[2.0, 2.0],
            &[0, 1, 2, 3, 4, 5, 6, 7],
            (Selected, ScaleRewards::Group),
        );
        assert_eq!(group_advantage(&all_right), [0.0; 10]);
    }

    #[test]
    fn statistics_of_the_golden_cases() {
        let case = |rewards: &[f32], mean: f64, standard_deviation: f64| {
            let found = RewardStatistics::of(rewards);
            assert!((found.mean - mean).abs() < 1e-9, "{found:?}");
            assert!(
                (found.standard_deviation - standard_deviation).abs() < 5e-6,
                "{found:?}"
            );
        };
        case(&[2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], 1.25, 0.46291);
        case(
            &[1.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0, 2.0, 1.0],
            1.1,
            0.56765,
        );
        case(&CASE_A, 1.0, 0.53452);
        case(&[2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0], 1.125, 0.64087);
    }

    #[test]
    fn a_lone_external_success_beside_an_all_wrong_policy_stays_small() {
        for scale in [ScaleRewards::Group, ScaleRewards::Batch, ScaleRewards::None] {
            // Batch takes the spread of the selected actions, which include the success.
            let expected = if scale == ScaleRewards::Batch {
                1.0 / (1.0 / 3.0_f32.sqrt() + 1e-4)
            } else {
                1.0
            };
            let lone = input(
                &[1.0, 1.0],
                &[2.0],
                &[0, 1, 2],
                (AdvantageBaseline::PolicyOnly, scale),
            );
            near(&group_advantage(&lone), &[0.0, 0.0, expected], 1e-6);
        }
        let equal_selection = input(
            &[1.0, 1.0],
            &[2.0, 2.0],
            &[2, 3],
            (AdvantageBaseline::PolicyOnly, ScaleRewards::Batch),
        );
        assert_eq!(group_advantage(&equal_selection), [0.0, 0.0, 1.0, 1.0]);
    }

    #[test]
    fn zero_spread_is_tested_on_the_rewards() {
        // The mean of 100 times 0.1 in f32 is not 0.1, so a computed spread would not be 0.
        let equal = input(
            &[0.1; 100],
            &[],
            &(0..100).collect::<Vec<_>>(),
            Default::default(),
        );
        assert_eq!(group_advantage(&equal), [0.0; 100]);
        assert!(group_statistics(&equal)[&0].zero_spread);
        let nearly = input(&[0.1, 0.100_000_01], &[], &[0, 1], Default::default());
        assert!(!group_statistics(&nearly)[&0].zero_spread);
        assert!(group_advantage(&nearly)[1] > 0.0);
        assert!(RewardStatistics::of(&[0.0, -0.0]).zero_spread);
    }

    #[test]
    fn missing_rewards_leave_the_statistics_and_get_nothing() {
        let holes = input(&[1.0, f32::NAN, 0.0], &[], &[0, 1, 2], Default::default());
        near(
            &group_advantage(&holes),
            &[0.707_006_8, 0.0, -0.707_006_8],
            1e-6,
        );
        let lone = input(&[1.0, f32::NAN], &[], &[0, 1], Default::default());
        assert_eq!(group_advantage(&lone), [0.0, 0.0]);
        let no_baseline = input(
            &[f32::NAN],
            &[2.0],
            &[0, 1],
            (AdvantageBaseline::PolicyOnly, ScaleRewards::Group),
        );
        assert_eq!(group_advantage(&no_baseline), [0.0, 0.0]);
        assert_eq!(
            group_advantage(&input(&[], &[], &[], Default::default())),
            [0.0; 0]
        );
    }

    #[test]
    fn group_ids_may_be_scattered() {
        let scattered = AdvantageInput {
            rewards: vec![1.0, 5.0, 0.0, 7.0],
            groups: vec![u32::MAX, 3, u32::MAX, 3],
            in_baseline: vec![true; 4],
            wanted: vec![true, true, true, false],
            scale_rewards: ScaleRewards::None,
        };
        assert_eq!(group_advantage(&scattered), [0.5, -1.0, -0.5, 0.0]);
    }

    /// Numbers of TRL's formula in plain Python (tests/golden/losses.py), with absent rewards.
    #[test]
    fn objectives_are_normalised_before_they_are_summed() {
        let golden = include_str!("../../tests/golden/losses.json");
        let golden: serde_json::Value = serde_json::from_str(golden).expect("JSON");
        for case in golden["normalize_then_sum"].as_array().expect("cases") {
            let list = |value: &serde_json::Value| -> Vec<Option<f64>> {
                let items = value.as_array().expect("a list").iter();
                items.map(serde_json::Value::as_f64).collect()
            };
            let weights: Vec<f64> = list(&case["reward_weights"])
                .into_iter()
                .flatten()
                .collect();
            let rows = case["rewards"].as_array().expect("rows");
            let groups: Vec<Group> = rows
                .chunks(4)
                .map(|rows| group_of(rows.iter().map(list).collect()))
                .collect();
            let options = AdvantageOptions {
                aggregation: ObjectiveAggregation::NormalizeThenSum,
                ..AdvantageOptions::default()
            };
            let compute = |input: &AdvantageInput| Ok::<_, ()>(group_advantage(input));
            let found = of_groups(&groups, options, &weights, &compute).expect("computed");
            #[expect(clippy::cast_possible_truncation, reason = "compared as f32")]
            let expected: Vec<f32> = list(&case["advantages"])
                .into_iter()
                .map(|value| value.expect("a number") as f32)
                .collect();
            near(&found, &expected, 2e-5);
            let sums = of_groups(&groups, AdvantageOptions::default(), &weights, &compute);
            assert_eq!(
                sums,
                Ok(group_advantage(&gather(
                    &groups,
                    AdvantageOptions::default()
                )))
            );
        }
    }

    /// A group of policy actions, all selected, whose reward is the sum of the given ones.
    #[expect(clippy::cast_possible_truncation, reason = "rewards are f32")]
    fn group_of(rewards: Vec<Vec<Option<f64>>>) -> Group {
        use crate::record::{Action, Example, FinishReason, Prompt, ScoredAction};
        let example = Example {
            id: "a".to_owned(),
            task: None,
            messages: Vec::new(),
            images: Vec::new(),
            solution: String::new(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        };
        let prompt = Prompt {
            id: "a".to_owned(),
            rendered: String::new(),
            input_ids: vec![1],
            positions: vec![[0; 3]],
            rope_delta: 0,
            images: Vec::new(),
        };
        let scored = |rewards: Vec<Option<f64>>| ScoredAction {
            action: Action {
                source: Source::Policy,
                token_ids: vec![7],
                text: String::new(),
                sampling_logprobs: None,
                external_logprobs: None,
                external_logprob_sum: None,
                old_logprobs: None,
                finish: FinishReason::Stop,
            },
            reward: rewards
                .iter()
                .flatten()
                .copied()
                .reduce(|a, b| a + b)
                .map(|sum| sum as f32),
            rewards: rewards
                .iter()
                .map(|reward| reward.map(|reward| reward as f32))
                .collect(),
            passes: false,
        };
        Group {
            example: std::sync::Arc::new(example),
            prompt: std::sync::Arc::new(prompt),
            selected: (0..rewards.len()).collect(),
            advantages: Vec::new(),
            pool: rewards.into_iter().map(scored).collect(),
        }
    }

    #[test]
    fn advantages_of_trl() {
        let golden = include_str!("../../tests/golden/public/golden-advantages.json");
        let golden: serde_json::Value = serde_json::from_str(golden).expect("JSON");
        let cases = golden["cases"].as_array().expect("cases");
        assert_eq!(cases.len(), 9);
        #[expect(clippy::cast_possible_truncation, reason = "the goldens are f32")]
        let column = |case: &serde_json::Value, key: &str| -> Vec<f32> {
            let values = case[key].as_array().expect("a column");
            values
                .iter()
                .map(|value| value.as_f64().map_or(f32::NAN, |value| value as f32))
                .collect()
        };
        for case in cases {
            let rewards = column(case, "rewards");
            let rows = rewards.len();
            let input = AdvantageInput {
                groups: (0..rows)
                    .map(|row| u32::try_from(row / 4).expect("small"))
                    .collect(),
                in_baseline: vec![true; rows],
                wanted: vec![true; rows],
                scale_rewards: serde_json::from_value(case["scale_rewards"].clone())
                    .expect("a known scale"),
                rewards,
            };
            near(&group_advantage(&input), &column(case, "advantages"), 1e-6);
            for (group, statistics) in group_statistics(&input) {
                #[expect(clippy::cast_possible_truncation, reason = "compared as f32")]
                let mean = statistics.mean as f32;
                near(
                    &[mean],
                    &[column(case, "group_mean")[group as usize * 4]],
                    1e-6,
                );
            }
        }
    }
}
