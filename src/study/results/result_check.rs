//! What a result must fulfil to be believed: finite numbers in their ranges, lists of equal length in order, and stored means
//! that follow from the stored values.
//!
//! Knows no file; the caller says which place to name.

use std::collections::BTreeSet;
use std::fmt::Display;

use super::result::{Evaluation, FinalEvaluation, PassAtK, RunResult, Step};
use super::statistics;
use crate::printable::excerpt;
use crate::study::error::StudyError;

/// Largest number of seconds of a run that is believed: thirty years. Charts and sums of more mean nothing.
const SECONDS: f64 = 1e9;
/// Largest reward, either side of zero.
const REWARD: f64 = 1e9;
/// Most steps and samples.
const COUNT: u64 = 1 << 50;
/// Most completions per row; pass@k takes time in proportion.
const SAMPLES_PER_ROW: u32 = 1 << 16;
/// Characters of a text in tables and charts.
const TEXT: usize = 2000;

/// How far a stored mean may be from the mean of the stored values, which are rounded to seven digits.
const TOLERANCE: f64 = 1e-5;

/// Checks a result.
///
/// # Errors
/// The first value that cannot be, with `place` and its key.
pub fn check(result: &RunResult, place: &str) -> Result<(), StudyError> {
    let at = |key: &str| Key {
        place,
        key: key.to_owned(),
    };
    let key = &result.method.key;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let is_key = !key.is_empty() && key.chars().all(plain);
    at("method.key").require(is_key, "characters of `a-z 0-9 . _ -`", key)?;
    at("commands").require(!result.commands.is_empty(), "at least one command", "none")?;
    at("wall_seconds").within(result.wall_seconds, SECONDS)?;
    check_texts(result, place)?;
    for (phase, seconds) in &result.timing_s {
        at(&format!("timing_s.{phase}")).within(*seconds, SECONDS)?;
    }
    check_steps(&result.steps, place)?;
    check_evaluations(&result.evaluations, place)?;
    let mut splits = BTreeSet::new();
    for (index, evaluation) in result.final_evaluations.iter().enumerate() {
        let prefix = format!("final[{index}]");
        let new = splits.insert(evaluation.split.as_str());
        at(&format!("{prefix}.split")).require(new, "each split once", &evaluation.split)?;
        check_final(evaluation, place, &prefix)?;
    }
    Ok(())
}

/// Texts stand in cells, labels and captions.
fn check_texts(result: &RunResult, place: &str) -> Result<(), StudyError> {
    let texts = [
        ("method.title", &result.method.title),
        ("commit", &result.commit),
        ("machine", &result.machine),
        ("device", &result.device),
        ("model.description", &result.model.description),
        ("start", &result.start),
        ("config_digest", &result.config_digest),
    ];
    let finals = result.final_evaluations.iter();
    let splits = finals.map(|one| ("final.split", &one.split));
    let phases = result.timing_s.keys().map(|phase| ("timing_s", phase));
    let steps = result.steps.iter();
    let sources = steps.flat_map(|step| step.external_share.keys());
    let sources = sources.map(|source| ("external_share", source));
    for (key, text) in texts.into_iter().chain(splits).chain(phases).chain(sources) {
        let key = Key {
            place,
            key: key.to_owned(),
        };
        let length = text.chars().count();
        let expected = format!("at most {TEXT} characters");
        key.require(length <= TEXT, expected, format!("{length}"))?;
    }
    Ok(())
}

/// A key of a result, for messages.
struct Key<'a> {
    place: &'a str,
    key: String,
}

impl Key<'_> {
    fn require(
        &self,
        holds: bool,
        expected: impl Display,
        found: impl Display,
    ) -> Result<(), StudyError> {
        if holds {
            return Ok(());
        }
        Err(StudyError::Value {
            place: self.place.to_owned(),
            key: excerpt(&self.key).to_string(),
            expected: expected.to_string(),
            found: excerpt(&found.to_string()).to_string(),
        })
    }

    fn at_most(&self, value: u64, largest: u64) -> Result<(), StudyError> {
        self.require(value <= largest, format!("at most {largest}"), value)
    }

    /// NaN is in no range.
    fn within(&self, value: f64, largest: f64) -> Result<(), StudyError> {
        let expected = if largest == f64::MAX {
            "a finite number of 0 or more".to_owned()
        } else {
            format!("a number from 0 to {largest}")
        };
        self.require((0.0..=largest).contains(&value), expected, value)
    }

    fn share(&self, value: f64) -> Result<(), StudyError> {
        self.within(value, 1.0)
    }
}

fn check_steps(steps: &[Step], place: &str) -> Result<(), StudyError> {
    for (index, step) in steps.iter().enumerate() {
        let at = |key: &str| Key {
            place,
            key: format!("steps[{index}].{key}"),
        };
        at("wall_seconds").within(step.wall_seconds, SECONDS)?;
        at("step").at_most(step.step, COUNT)?;
        at("samples").at_most(step.samples, COUNT)?;
        if let Some(reward) = step.reward {
            let possible = (-REWARD..=REWARD).contains(&reward);
            at("reward").require(
                possible,
                format!("a number from -{REWARD} to {REWARD}"),
                reward,
            )?;
        }
        if let Some(accuracy) = step.accuracy {
            at("accuracy").share(accuracy)?;
        }
        for (source, share) in &step.external_share {
            at(&format!("external_share.{source}")).share(*share)?;
        }
        let external: f64 = step.external_share.values().sum();
        let key = at("external_share");
        key.require(external <= 1.0 + TOLERANCE, "a sum of at most 1", external)?;
        let Some(before) = index.checked_sub(1).map(|index| &steps[index]) else {
            continue;
        };
        let (later, former) = (step.step, before.step);
        at("step").require(later > former, format!("more than {former}"), later)?;
        let (later, former) = (step.samples, before.samples);
        at("samples").require(later >= former, format!("at least {former}"), later)?;
        let (later, former) = (step.wall_seconds, before.wall_seconds);
        at("wall_seconds").require(later >= former, format!("at least {former}"), later)?;
    }
    Ok(())
}

fn check_evaluations(evaluations: &[Evaluation], place: &str) -> Result<(), StudyError> {
    let mut seen = BTreeSet::new();
    for (index, evaluation) in evaluations.iter().enumerate() {
        let at = |key: &str| Key {
            place,
            key: format!("evaluations[{index}].{key}"),
        };
        at("wall_seconds").within(evaluation.wall_seconds, SECONDS)?;
        at("step").at_most(evaluation.step, COUNT)?;
        at("samples").at_most(evaluation.samples, COUNT)?;
        at("accuracy").share(evaluation.accuracy)?;
        at("rows").require(evaluation.rows > 0, "at least 1", evaluation.rows)?;
        let new = seen.insert((evaluation.step, evaluation.split.as_str()));
        let found = format!("`{}` twice at step {}", evaluation.split, evaluation.step);
        at("split").require(new, "each split once per step", found)?;
    }
    Ok(())
}

fn check_final(evaluation: &FinalEvaluation, place: &str, prefix: &str) -> Result<(), StudyError> {
    let at = |key: &str| Key {
        place,
        key: format!("{prefix}.{key}"),
    };
    let (rows, scores) = (evaluation.rows, &evaluation.scores);
    at("rows").require(rows > 0, "at least 1", rows)?;
    at("temperature").within(evaluation.temperature, f64::MAX)?;
    at("exact_match").share(evaluation.exact_match)?;
    let same = scores.len() as u64 == rows;
    at("scores").require(same, format!("{rows} values, one per row"), scores.len())?;
    for (row, score) in scores.iter().enumerate() {
        at(&format!("scores[{row}]")).share(*score)?;
    }
    let mean = scores.iter().sum::<f64>() / rows as f64;
    let accuracy = evaluation.accuracy;
    let same = (accuracy - mean).abs() <= TOLERANCE;
    at("accuracy").require(same, format!("{mean}, the mean of `scores`"), accuracy)?;
    match &evaluation.pass_at_k {
        Some(pass) => check_pass_at_k(pass, rows, place, &format!("{prefix}.pass_at_k")),
        None => Ok(()),
    }
}

fn check_pass_at_k(pass: &PassAtK, rows: u64, place: &str, prefix: &str) -> Result<(), StudyError> {
    let at = |key: &str| Key {
        place,
        key: format!("{prefix}.{key}"),
    };
    let (samples, counts) = (pass.samples_per_row, &pass.correct_counts);
    let possible = (1..=SAMPLES_PER_ROW).contains(&samples);
    at("samples_per_row").require(possible, format!("1 to {SAMPLES_PER_ROW}"), samples)?;
    at("temperature").within(pass.temperature, f64::MAX)?;
    at("top_p").share(pass.top_p)?;
    // pass@k may be measured on the first rows only.
    let some = (1..=rows).contains(&(counts.len() as u64));
    at("correct_counts").require(
        some,
        format!("1 to {rows} values, one per row"),
        counts.len(),
    )?;
    for (row, correct) in counts.iter().enumerate() {
        let key = at(&format!("correct_counts[{row}]"));
        key.require(*correct <= samples, format!("at most {samples}"), correct)?;
    }
    for (k, value) in &pass.values {
        let key = at(&format!("values.{k}"));
        let Some(expected) = statistics::mean_pass_at_k(samples, counts, *k) else {
            let wanted = format!("k from 1 to `samples_per_row`, {samples}");
            return key.require(false, wanted, k);
        };
        let same = (value - expected).abs() <= TOLERANCE;
        let wanted = format!("{expected}, which follows from `correct_counts`");
        key.require(same, wanted, value)?;
    }
    Ok(())
}
