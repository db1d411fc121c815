//! Which actions of a pool enter the loss; knows nothing of gates and advantages.

use rand::seq::SliceRandom;

use super::{Purpose, Selection, SelectionOptions, SelectionTies, StepKey};
use crate::record::{Group, Source};

/// Sets [`Group::selected`] of every group by the options' rule (method: sections 2.1 and 2.2).
///
/// A pool of at most `group_size` actions is taken whole and in its own order, whatever the rule: without external
/// actions and with N = G a step is plain GRPO, bit for bit. Actions without a reward rank below every other.
pub fn choose(groups: &mut [Group], options: &SelectionOptions, key: StepKey) {
    for group in groups {
        let ranked = ranked(group, options.ties, key);
        let allowed = without_surplus(group, options, &ranked);
        let fits = allowed.len() <= options.group_size;
        group.selected = match options.selection {
            Selection::ReplaceWorstIfAllWrong => {
                replace_worst_if_all_wrong(group, options, &allowed)
            }
            Selection::All => in_pool_order(allowed),
            _ if fits => in_pool_order(allowed),
            Selection::TopReward => allowed[..options.group_size].to_vec(),
            Selection::MaxVariance => max_variance(group, options, &allowed),
        };
    }
}

fn in_pool_order(mut indices: Vec<usize>) -> Vec<usize> {
    indices.sort_unstable();
    indices
}

/// `ranked` without the lowest external actions above `max_external_fraction` of what is selected.
#[expect(clippy::cast_precision_loss, reason = "groups are small")]
fn without_surplus(group: &Group, options: &SelectionOptions, ranked: &[usize]) -> Vec<usize> {
    let is_external = |index: usize| group.pool[index].action.source != Source::Policy;
    let external = ranked.iter().filter(|&&index| is_external(index)).count();
    let own = ranked.len() - external;
    let selected = |external: usize| match options.selection {
        Selection::All => own + external,
        _ => (own + external).min(options.group_size),
    };
    // A third of 9 is 3, whatever 1/3 is in binary.
    let fits = |external: &usize| {
        *external as f64 <= options.max_external_fraction * selected(*external) as f64 + 1e-9
    };
    let most = (0..=external).rev().find(fits).unwrap_or(0);
    let mut left = most;
    let keeps = |index: &usize| {
        if is_external(*index) && left == 0 {
            return false;
        }
        left -= usize::from(is_external(*index));
        true
    };
    ranked.iter().copied().filter(keeps).collect()
}

/// The largest variance of `size` rewards always belongs to some k best and `size` − k worst of them (PODS,
/// arXiv 2504.13818): every k is tried, and the larger one kept on equal variance.
fn max_variance(group: &Group, options: &SelectionOptions, ranked: &[usize]) -> Vec<usize> {
    let scored = ranked.partition_point(|&index| group.pool[index].reward.is_some());
    let size = options.group_size.min(scored);
    let best_and_worst = |best: usize| -> Vec<usize> {
        let worst = scored - (size - best);
        [&ranked[..best], &ranked[worst..scored]].concat()
    };
    let mut chosen = best_and_worst(size);
    let mut largest = spread(group, &chosen);
    for best in (0..size).rev() {
        let candidate = best_and_worst(best);
        let candidate_spread = spread(group, &candidate);
        if candidate_spread > largest {
            (chosen, largest) = (candidate, candidate_spread);
        }
    }
    // Where fewer actions have a reward than the group holds, those without one fill it up.
    chosen.extend(&ranked[scored..scored + options.group_size - size]);
    chosen
}

/// n² times the variance of the chosen rewards. Equal sets come in the same order, so equal variances are equal bits.
#[expect(clippy::cast_precision_loss, reason = "groups are small")]
fn spread(group: &Group, chosen: &[usize]) -> f64 {
    let rewards = || {
        chosen
            .iter()
            .filter_map(|&index| group.pool[index].reward)
            .map(f64::from)
    };
    let sum: f64 = rewards().sum();
    chosen.len() as f64 * rewards().map(|reward| reward * reward).sum::<f64>() - sum * sum
}

fn replace_worst_if_all_wrong(
    group: &Group,
    options: &SelectionOptions,
    ranked: &[usize],
) -> Vec<usize> {
    let own = |index: &usize| group.pool[*index].action.source == Source::Policy;
    let reward = |index: usize| group.pool[index].reward.unwrap_or(f32::NEG_INFINITY);
    let all_own: Vec<usize> = (0..group.pool.len()).filter(own).collect();
    let mut selected = all_own[..all_own.len().min(options.group_size)].to_vec();
    if all_own.iter().any(|&index| group.pool[index].passes) {
        return selected;
    }
    let best_own = all_own
        .iter()
        .map(|&index| reward(index))
        .fold(f32::NEG_INFINITY, f32::max);
    let better = ranked
        .iter()
        .copied()
        .filter(|index| !own(index) && reward(*index) > best_own);

    // Worst first, the last of equals first.
    let mut slots: Vec<usize> = (0..selected.len()).rev().collect();
    slots.sort_by(|&a, &b| reward(selected[a]).total_cmp(&reward(selected[b])));
    for (external, slot) in better.take(options.replace_max).zip(slots) {
        selected[slot] = external;
    }
    selected
}

/// Indices into the pool: highest reward first, equals in the order of `ties`, actions without a reward last.
fn ranked(group: &Group, ties: SelectionTies, key: StepKey) -> Vec<usize> {
    let mut order: Vec<usize> = (0..group.pool.len()).collect();
    let is_external = |index: usize| group.pool[index].action.source != Source::Policy;
    match ties {
        SelectionTies::Policy => order.sort_by_key(|&index| is_external(index)),
        SelectionTies::External => order.sort_by_key(|&index| !is_external(index)),
        SelectionTies::Random => {
            order.shuffle(&mut key.generator(&group.example.id, Purpose::Ties))
        }
    }
    // The sort is stable, so equals stay in the order of ties. `+ 0.0` makes the two zeros equal.
    let rank = |index: usize| {
        group.pool[index]
            .reward
            .map_or(f32::NEG_INFINITY, |reward| reward + 0.0)
    };
    order.sort_by(|&a, &b| {
        let with_reward = |index: usize| group.pool[index].reward.is_some();
        with_reward(b)
            .cmp(&with_reward(a))
            .then(rank(b).total_cmp(&rank(a)))
    });
    order
}

#[cfg(test)]
mod tests {
    use super::super::tests::{KEY, group, options};
    use super::*;

    const NONE: f32 = f32::NAN;

    fn chosen(policy: &[f32], external: &[f32], options: &SelectionOptions) -> Vec<usize> {
        let mut groups = [group("a", policy, external)];
        choose(&mut groups, options, KEY);
        groups[0].selected.clone()
    }

    fn with(selection: Selection, ties: SelectionTies) -> SelectionOptions {
        SelectionOptions {
            selection,
            ties,
            ..options()
        }
    }

    const CASE_A: ([f32; 8], [f32; 2]) = ([1.0, 1.0, 2.0, 1.0, 0.0, 1.0, 1.0, 1.0], [2.0, 1.0]);

    #[test]
    fn top_reward_takes_the_best_in_order_of_ties() {
        let (policy, external) = CASE_A;
        let chosen_with = |ties| chosen(&policy, &external, &with(Selection::TopReward, ties));
        assert_eq!(chosen_with(SelectionTies::Policy), [2, 8, 0, 1, 3, 5, 6, 7]);
        assert_eq!(
            chosen_with(SelectionTies::External),
            [8, 2, 9, 0, 1, 3, 5, 6]
        );
        let all_wrong = chosen(&[1.0; 8], &[2.0, 1.0], &options());
        assert_eq!(all_wrong, [8, 0, 1, 2, 3, 4, 5, 6]);
        let all_right = chosen(&[2.0; 8], &[2.0, 2.0], &options());
        assert_eq!(all_right, [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn random_ties_repeat_and_keep_the_ranking() {
        let (policy, external) = CASE_A;
        let random = with(Selection::TopReward, SelectionTies::Random);
        let mut orders = std::collections::HashSet::new();
        for step in 0..20 {
            let run = || {
                let mut groups = [group("a", &policy, &external)];
                choose(&mut groups, &random, StepKey { seed: 42, step });
                groups[0].selected.clone()
            };
            let selected = run();
            assert_eq!(selected, run());
            assert!(
                [[2, 8], [8, 2]].contains(&[selected[0], selected[1]]),
                "the two best come first"
            );
            assert!(
                !selected.contains(&4),
                "the worst of ten is never among eight"
            );
            orders.insert(selected);
        }
        assert!(
            orders.len() > 10,
            "{} different orders in 20 steps",
            orders.len()
        );
    }

    #[test]
    fn max_variance_takes_both_ends() {
        let (policy, external) = CASE_A;
        let max_variance = with(Selection::MaxVariance, SelectionTies::Policy);
        assert_eq!(
            chosen(&policy, &external, &max_variance),
            [2, 8, 0, 1, 3, 5, 6, 4]
        );
        // Three of 3 2 1 0: {3, 1, 0} and {3, 2, 0} spread equally, and the larger k wins.
        let three = SelectionOptions {
            group_size: 3,
            ..max_variance.clone()
        };
        assert_eq!(chosen(&[3.0, 2.0, 1.0, 0.0], &[], &three), [0, 1, 3]);
        assert_eq!(
            chosen(&[1.0; 8], &[1.0, 1.0], &max_variance),
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
    }

    /// 8 own and 4 external actions, the external ones best: at most a quarter of the 8 selected, or of all, is 2.
    #[test]
    fn the_external_share_has_a_limit() {
        let limited = |selection, max_external_fraction| {
            let options = SelectionOptions {
                max_external_fraction,
                ..with(selection, SelectionTies::Policy)
            };
            let selected = chosen(&[1.0; 8], &[2.0, 5.0, 4.0, 3.0], &options);
            selected
                .iter()
                .filter(|&&index| index >= 8)
                .copied()
                .collect::<Vec<_>>()
        };
        assert_eq!(limited(Selection::TopReward, 1.0), [9, 10, 11, 8]);
        assert_eq!(limited(Selection::TopReward, 0.25), [9, 10]);
        assert_eq!(limited(Selection::All, 0.25), [9, 10]);
        assert_eq!(limited(Selection::MaxVariance, 0.125), [9]);
        assert_eq!(
            limited(Selection::ReplaceWorstIfAllWrong, 0.0),
            [0_usize; 0]
        );
    }

    #[test]
    fn max_variance_finds_the_best_of_all_subsets() {
        let rewards = [0.1, 0.9, 0.4, 0.45, 0.8, 0.75, 0.2];
        let pool = group("a", &rewards, &[]);
        for size in 2..rewards.len() {
            let options = SelectionOptions {
                group_size: size,
                ..with(Selection::MaxVariance, SelectionTies::Policy)
            };
            let found = spread(&pool, &chosen(&rewards, &[], &options));
            let subsets =
                (0_u32..1 << rewards.len()).filter(|subset| subset.count_ones() as usize == size);
            let best = subsets
                .map(|subset| {
                    let members: Vec<usize> = (0..rewards.len())
                        .filter(|index| subset >> index & 1 == 1)
                        .collect();
                    spread(&pool, &members)
                })
                .fold(0.0, f64::max);
            assert!(
                (found - best).abs() < 1e-9,
                "size {size}: {found}, not {best}"
            );
        }
    }

    #[test]
    fn a_small_pool_is_taken_whole_and_in_order() {
        for selection in [
            Selection::TopReward,
            Selection::MaxVariance,
            Selection::All,
            Selection::ReplaceWorstIfAllWrong,
        ] {
            for ties in [
                SelectionTies::Policy,
                SelectionTies::External,
                SelectionTies::Random,
            ] {
                let plain = chosen(
                    &[0.0, 2.0, 1.0, NONE, 0.0, 2.0, 1.0, 1.0],
                    &[],
                    &with(selection, ties),
                );
                assert_eq!(plain, [0, 1, 2, 3, 4, 5, 6, 7], "{selection:?} {ties:?}");
            }
        }
        assert_eq!(
            chosen(&[0.0, 1.0], &[2.0], &options()),
            [0, 1, 2],
            "fewer than group_size"
        );
    }

    #[test]
    fn all_ignores_the_group_size() {
        let all = SelectionOptions {
            group_size: 2,
            ..with(Selection::All, SelectionTies::External)
        };
        assert_eq!(chosen(&[0.0, 1.0], &[2.0], &all), [0, 1, 2]);
    }

    #[test]
    fn actions_without_a_reward_are_the_last_resort() {
        let three = SelectionOptions {
            group_size: 3,
            ..options()
        };
        assert_eq!(chosen(&[NONE, -1.0, 0.0, NONE], &[1.0], &three), [4, 2, 1]);
        assert_eq!(chosen(&[NONE, -1.0, NONE, NONE], &[1.0], &three), [4, 1, 0]);
        let max_variance = SelectionOptions {
            selection: Selection::MaxVariance,
            ..three
        };
        assert_eq!(
            chosen(&[NONE, -1.0, 0.0, 0.5], &[1.0], &max_variance),
            [4, 3, 1]
        );
        assert_eq!(
            chosen(&[NONE, -1.0, NONE, NONE], &[1.0], &max_variance),
            [4, 1, 0]
        );
    }

    #[test]
    fn externals_replace_the_worst_only_where_the_policy_fails() {
        let replace = |replace_max| SelectionOptions {
            replace_max,
            group_size: 4,
            ..with(Selection::ReplaceWorstIfAllWrong, SelectionTies::Policy)
        };
        // A policy sample passes (reward 2): nothing changes, although an external action is there.
        assert_eq!(
            chosen(&[0.0, 2.0, 0.0, 0.0], &[2.0], &replace(1)),
            [0, 1, 2, 3]
        );
        // None passes: the last of the worst gives way.
        assert_eq!(
            chosen(&[0.0, 1.0, 0.0, 1.0], &[2.0], &replace(1)),
            [0, 1, 4, 3]
        );
        // No external action is better than the best of the policy.
        assert_eq!(
            chosen(&[0.0, 1.0, 0.0, 1.0], &[1.0, 0.5], &replace(4)),
            [0, 1, 2, 3]
        );
        // At most `replace_max`, the best external actions first, worst slots first.
        assert_eq!(
            chosen(&[0.0, 1.0, 0.0, 1.0], &[1.5, 2.0, 1.8], &replace(2)),
            [6, 1, 5, 3]
        );
        assert_eq!(
            chosen(&[0.0, 1.0, 0.0, 1.0], &[1.5, 2.0], &replace(9)),
            [4, 1, 5, 3]
        );
        // The first group_size policy samples, but all of them decide whether one passes.
        assert_eq!(
            chosen(&[0.0, 1.0, 0.0, 1.0, 2.0], &[3.0], &replace(1)),
            [0, 1, 2, 3]
        );
        assert_eq!(
            chosen(&[NONE, NONE, NONE, NONE], &[0.0], &replace(1)),
            [0, 1, 2, 4]
        );
    }
}
