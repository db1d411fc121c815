//! `external_when`: the gate that lets external actions in.
//!
//! Checks the shape and range of the value; the gate itself is opened elsewhere.

use serde_json::{Map, Value, json};

use super::error::Fault;
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::ranges::{SHARE, STEPS};
use super::value::Kind;
use crate::options::ScheduleShape;

/// Reads `external_when`.
pub(crate) const WHEN: Kind = Kind::Custom {
    description: "always, all_wrong, {pass_rate_max: x, pass_rate_min: y}, {probability: p} or \
                  {schedule: {from: p, to: q, steps: n}}",
    read: read_when,
    write: Value::clone,
};

#[rustfmt::skip] // One key a line: this is a table.
static SCHEDULE: &[Key] = &[
    key("from", SHARE, REQUIRED, "Probability at the end of the warm-up."),
    key("to", SHARE, REQUIRED, "Probability at the end."),
    key("steps", Kind::Count(1, STEPS), REQUIRED, "Optimizer steps between them."),
    key("shape", Kind::Choice(ScheduleShape::NAMES), "cosine", "The way between them."),
    key("warmup", Kind::Count(0, STEPS), "0", "Optimizer steps from 0 to `from`."),
];

#[rustfmt::skip] // One key a line: this is a table.
static PASS_RATE: &[Key] = &[
    key("pass_rate_min", SHARE, "0", "Lower end of the share of passing policy actions."),
    key("pass_rate_max", SHARE, REQUIRED, "Upper end of the share of passing policy actions."),
];

fn read_when(value: &Value) -> Result<Value, Fault> {
    let wrong = || Fault::expected(value, &WHEN.description());
    match value {
        Value::String(word) if word == "always" || word == "all_wrong" => Ok(value.clone()),
        Value::Object(written) => match (written.get("probability"), written.get("schedule")) {
            (Some(share), None) if written.len() == 1 => {
                let share = SHARE
                    .read(share)
                    .map_err(|fault| fault.inside(".probability"))?;
                Ok(json!({ "probability": share }))
            }
            (None, Some(Value::Object(inner))) if written.len() == 1 => {
                let schedule =
                    table(inner, &[SCHEDULE]).map_err(|fault| fault.inside(".schedule"))?;
                Ok(json!({ "schedule": schedule }))
            }
            (None, None) => pass_rate(written),
            _ => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn pass_rate(written: &Map<String, Value>) -> Result<Value, Fault> {
    let range = table(written, &[PASS_RATE])?;
    if range["pass_rate_min"].as_f64() > range["pass_rate_max"].as_f64() {
        let expected = format!("at most `pass_rate_max` {}", range["pass_rate_max"]);
        return Err(Fault::expected(&range["pass_rate_min"], &expected).inside(".pass_rate_min"));
    }
    Ok(Value::Object(range))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, train};
    use super::*;
    use crate::options::{ExternalSchedule, ExternalWhen};

    #[test]
    fn every_form_of_the_gate_is_read() {
        let when = |text: &str| train(&format!("external_when: {text}")).group.external_when;
        assert_eq!(when("always"), ExternalWhen::Always);
        assert_eq!(when("all_wrong"), ExternalWhen::AllWrong);
        assert_eq!(when("{probability: 0.5}"), ExternalWhen::Probability(0.5));
        assert_eq!(
            when("{pass_rate_max: 0.5}"),
            ExternalWhen::PassRate { min: 0.0, max: 0.5 }
        );
        let schedule = ExternalSchedule {
            from: 0.9,
            to: 0.1,
            steps: 200,
            shape: ScheduleShape::Linear,
            warmup: 10,
        };
        assert_eq!(
            when("{schedule: {from: 0.9, to: 0.1, steps: 200, shape: linear, warmup: 10}}"),
            ExternalWhen::Schedule(schedule)
        );
    }

    #[test]
    fn a_gate_that_cannot_be_is_refused() {
        for (text, part) in [
            ("sometimes", "expected always, all_wrong"),
            ("{probability: 2}", "`external_when.probability` is 2"),
            ("{probability: 1, schedule: {}}", "expected always"),
            (
                "{schedule: {from: 1, to: 0}}",
                "`external_when.schedule.steps` is missing",
            ),
            (
                "{pass_rate_min: 0.5, pass_rate_max: 0.2}",
                "expected at most `pass_rate_max` 0.2",
            ),
            ("{pass_rate: 0.5}", "the nearest known key is `pass_rate_m"),
        ] {
            let message = message(&format!("external_when: {text}"));
            assert!(message.contains(part), "{text}: {message}");
        }
    }
}
