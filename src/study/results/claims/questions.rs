//! What is claimed: accuracy, convergence, pass@k, and an external share that falls by itself.
//!
//! Each question gathers its evidence and words the answer; `super` judges.

use std::collections::BTreeMap;

use super::evidence::{Claim, EXPECTED_GAIN, Evidence, Side, Verdict, mean_over_families};
use crate::study::results::collection::{Measure, Study};
use crate::study::results::convergence::{Race, races};
use crate::study::results::result::{Family, Method, RunResult};
use crate::study::results::statistics;
use crate::study::results::text::{Unit, counted, percent};

/// Share of the counterpart's steps in which its final reward is to be reached.
const EXPECTED_SHARE_OF_STEPS: f64 = 0.5;

fn unanswered(title: String, sentence: &str) -> Claim {
    Claim {
        title,
        verdict: Verdict::Open,
        sentence: sentence.to_owned(),
    }
}

/// Evidence for a difference of two methods.
fn difference(
    study: &Study,
    pair: (&str, &str),
    measure: Measure,
    families: &[Family],
) -> Option<Evidence> {
    let over = |families: &[Family]| study.difference(pair, measure, &Study::cells(families));
    Evidence::gather(families, |family| over(&[family]).is_some(), over)
}

/// The ceiling rises: more accurate than `other`, averaged over families and domains.
pub(super) fn accuracy(study: &Study, method: &Method, other: &str, families: &[Family]) -> Claim {
    let pair = (method.key.as_str(), other);
    let title = format!(
        "{} is more accurate than {}",
        method.title,
        study.title(other)
    );
    let Some(evidence) = difference(study, pair, Measure::Accuracy, families) else {
        return unanswered(title, "No seed has results of both methods in any family.");
    };
    let unit = Unit::Percent;
    let mut sentence = evidence.points();
    if evidence.families.len() > 1
        && let Some(strata) =
            study.stratified_difference(pair, Measure::Accuracy, &evidence.families)
        && let Some((low, high)) = strata.interval
    {
        let (low, high) = (unit.signed(low), unit.signed(high));
        sentence.push_str(&format!(
            " With the runs of each family taken as independent, the interval is {low} to {high}."
        ));
    }
    let verb = if evidence.estimate.mean >= EXPECTED_GAIN {
        "reaches"
    } else {
        "is below"
    };
    let gain = unit.number(EXPECTED_GAIN);
    sentence.push_str(&format!(" The mean {verb} the expected {gain} points."));
    evidence.answer(title, &Side::Above(0.0), sentence)
}

/// Convergence is faster: the final reward of `other` comes early.
pub(super) fn convergence(
    study: &Study,
    method: &Method,
    other: &str,
    families: &[Family],
) -> Claim {
    let pair = (method.key.as_str(), other);
    let other = study.title(other);
    let title = format!(
        "{} reaches the final reward of {other} in at most {:.0}\u{a0}% of its steps",
        method.title,
        100.0 * EXPECTED_SHARE_OF_STEPS
    );
    let all = |families: &[Family]| -> Vec<BTreeMap<u64, Race>> {
        let races = |family: &Family| races(study, pair, *family);
        families.iter().map(races).collect()
    };
    let over = |families: &[Family]| mean_over_families(&all(families), Race::share_of_steps);
    let Some(evidence) = Evidence::gather(families, |family| over(&[family]).is_some(), over)
    else {
        return unanswered(
            title,
            "No seed has rewards of both methods during training.",
        );
    };
    let covered = all(&evidence.families);
    let interval = match evidence.estimate.interval {
        Some((low, high)) => format!(
            "95\u{a0}% interval {} to {}, {}",
            percent(low.max(0.0)),
            percent(high),
            counted(evidence.estimate.count, "seed")
        ),
        None => "one seed, so there is no interval".to_owned(),
    };
    let mean = percent(evidence.estimate.mean);
    let mut sentence = format!("After {mean} of its steps ({interval}).");
    let runs: Vec<&Race> = covered.iter().flat_map(BTreeMap::values).collect();
    let unreached = runs.iter().filter(|race| race.ours.is_none()).count();
    if unreached > 0 {
        sentence.push_str(&format!(
            " {unreached} of {} did not reach it and count as the whole course, so the mean is at least this.",
            counted(runs.len(), "run")
        ));
    }
    let own = |race: &Race| race.theirs.map_or(1.0, |reached| reached.of_steps);
    if let Some(own) = mean_over_families(&covered, own) {
        let own = percent(own.mean);
        sentence.push_str(&format!(
            " {other} itself first reaches its final reward after {own}."
        ));
    }
    evidence.answer(title, &Side::Below(EXPECTED_SHARE_OF_STEPS), sentence)
}

/// The reachable answers grow: higher pass@k at the largest k that both have.
pub(super) fn pass_at_large_k(
    study: &Study,
    method: &Method,
    other: &str,
    families: &[Family],
) -> Claim {
    let pair = (method.key.as_str(), other);
    let name = |k: &str| {
        let other = study.title(other);
        format!("{} has a higher pass@{k} than {other}", method.title)
    };
    let none = "No seed has pass@k of both methods in any family.";
    let Some(k) = study.largest_k(&[pair.0, pair.1]) else {
        return unanswered(name("k"), none);
    };
    let title = name(&k.to_string());
    match difference(study, pair, Measure::PassAt(k), families) {
        Some(evidence) => evidence.answer(title, &Side::Above(0.0), evidence.points()),
        None => unanswered(title, none),
    }
}

/// External share of the first and the last tenth of the steps; `None` without external actions.
fn share_at_ends(run: &RunResult) -> Option<(f64, f64)> {
    let steps = run.steps.iter();
    let shares: Vec<f64> = steps
        .map(|step| step.external_share.values().sum())
        .collect();
    let window = statistics::tenth(shares.len());
    let external = run.steps.iter().any(|step| !step.external_share.is_empty());
    let first = statistics::mean(shares.get(..window)?)?;
    let last = statistics::mean(&shares[shares.len() - window..])?;
    external.then_some((first, last))
}

/// The policy outgrows the external models: their share of the selected actions falls.
pub(super) fn falling_share(study: &Study, method: &Method, families: &[Family]) -> Claim {
    let title = format!("{}: the external share falls during training", method.title);
    let ends = |family: &Family| -> BTreeMap<u64, (f64, f64)> {
        let ends = |run: &RunResult| Some((run.seed, share_at_ends(run)?));
        study
            .runs(&method.key, *family)
            .into_iter()
            .filter_map(ends)
            .collect()
    };
    let all = |families: &[Family]| families.iter().map(ends).collect::<Vec<_>>();
    let fall =
        |families: &[Family]| mean_over_families(&all(families), |(first, last)| last - first);
    let Some(evidence) = Evidence::gather(families, |family| fall(&[family]).is_some(), fall)
    else {
        return unanswered(title, "No run has selected actions by source.");
    };
    let covered = all(&evidence.families);
    let mean = |value: fn(&(f64, f64)) -> f64| {
        let estimate = mean_over_families(&covered, value);
        estimate.map_or_else(String::new, |estimate| percent(estimate.mean))
    };
    let sentence = format!(
        "From {} of the selected actions in the first tenth of the steps to {} in the last: {} points ({}).",
        mean(|(first, _)| *first),
        mean(|(_, last)| *last),
        Unit::Percent.signed(evidence.estimate.mean),
        evidence.interval()
    );
    evidence.answer(title, &Side::Below(0.0), sentence)
}
