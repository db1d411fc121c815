//! How soon a run reaches the reward at which another one ends.
//!
//! Knows rewards per step only. The level is the mean reward of the other run's last tenth; it counts as reached at the first
//! step where the mean of a tenth of the steps, ending there, is at least the level. A noisy curve meets a level early by
//! chance, so the other run's own first reaching stands beside it.

use std::collections::BTreeMap;

use super::collection::Study;
use super::result::{Family, RunResult, Step};
use super::statistics::{first_reaching, mean, tenth};

/// Where a level was reached; the shares are of the other run's totals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reached {
    /// Optimizer steps.
    pub step: u64,
    /// Steps as a share.
    pub of_steps: f64,
    /// Scored completions as a share.
    pub of_samples: f64,
    /// Time as a share.
    pub of_seconds: f64,
}

/// A run against the run whose final reward it is to reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Race {
    /// The other run's final reward.
    pub level: f64,
    /// Where this run reached it.
    pub ours: Option<Reached>,
    /// Where the other run itself first reached it.
    pub theirs: Option<Reached>,
    /// Share of the other run's steps that counts where the level was not reached: at least all of them.
    pub at_least: f64,
}

impl Race {
    /// Steps as a share of the other run's; of a level that was not reached, the share that it takes at least.
    #[must_use]
    pub fn share_of_steps(&self) -> f64 {
        self.ours.map_or(self.at_least, |reached| reached.of_steps)
    }
}

/// `None` if one of the two has no rewards.
#[must_use]
pub fn race(ours: &RunResult, theirs: &RunResult) -> Option<Race> {
    let (our_rewards, our_steps) = rewarded(ours);
    let (their_rewards, their_steps) = rewarded(theirs);
    let end = *their_steps.last()?;
    let last = our_steps.last()?.step as f64;
    let window = tenth(their_rewards.len());
    let level = mean(&their_rewards[their_rewards.len() - window..])?;
    let reached = |rewards: &[f64], steps: &[&Step]| {
        let at = steps[first_reaching(rewards, tenth(rewards.len()), level)?];
        Some(Reached {
            step: at.step,
            of_steps: at.step as f64 / (end.step as f64).max(1.0),
            of_samples: at.samples as f64 / (end.samples as f64).max(1.0),
            of_seconds: at.wall_seconds / end.wall_seconds.max(1e-9),
        })
    };
    Some(Race {
        level,
        ours: reached(&our_rewards, &our_steps),
        theirs: reached(&their_rewards, &their_steps),
        at_least: (last / (end.step as f64).max(1.0)).max(1.0),
    })
}

fn rewarded(run: &RunResult) -> (Vec<f64>, Vec<&Step>) {
    let pairs = run
        .steps
        .iter()
        .filter_map(|step| Some((step.reward?, step)));
    pairs.unzip()
}

/// The races of a method against another one in a family, by seed.
#[must_use]
pub fn races(study: &Study, methods: (&str, &str), family: Family) -> BTreeMap<u64, Race> {
    let theirs = study.runs(methods.1, family);
    let pair = |ours: &RunResult| {
        let theirs = theirs.iter().find(|run| run.seed == ours.seed)?;
        Some((ours.seed, race(ours, theirs)?))
    };
    let ours = study.runs(methods.0, family);
    ours.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture;
    use crate::study::results::result::Role;

    /// Rewards rise linearly to `right / 10` at step 10 of 20; the window is two steps. The level of a run with 6 is 0.6:
    /// that run's windows reach it at step 11. A run with 9 is at 0.63 at step 7 and at 0.54 at step 6, 0.585 over both;
    /// one step later its window is above.
    #[test]
    fn the_level_is_reached_by_the_window_worked_out_by_hand() {
        let run = |key, right| {
            let method = fixture::method(key, Role::Reference);
            fixture::run(method, Family::Counting, 1, right)
        };
        let (slow, fast) = (run("slow", 6), run("fast", 9));
        let race_of = |ours, theirs| race(ours, theirs).expect("both have rewards");
        let found = race_of(&fast, &slow);
        assert!((found.level - 0.6).abs() < 1e-12, "{found:?}");
        let (ours, theirs) = (found.ours.expect("reached"), found.theirs.expect("reached"));
        assert_eq!((ours.step, theirs.step), (8, 11));
        assert_eq!(
            (ours.of_steps, ours.of_samples, ours.of_seconds),
            (0.4, 0.4, 0.4)
        );
        let lost = race_of(&slow, &fast);
        assert_eq!(lost.ours, None);
        assert_eq!(lost.share_of_steps(), 1.0, "at least the whole course");
        let mut silent = run("silent", 5);
        silent.steps.iter_mut().for_each(|step| step.reward = None);
        assert_eq!(race(&silent, &slow), None);
        assert_eq!(race(&slow, &silent), None);
    }
}
