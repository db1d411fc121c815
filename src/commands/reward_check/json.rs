//! The report for a program: one JSON object.

use serde_json::{Map, Value, json};

use super::report::{Checked, LeftOut, Mean, Report};

/// The whole report.
pub(super) fn render(report: &Report<'_>) -> String {
    let names = report.names.iter().cloned();
    let means = names
        .enumerate()
        .map(|(index, name)| (name, mean(&report.mean(index))));
    let completions = report
        .checked
        .iter()
        .map(|one| completion(one, &report.names));
    let value = json!({
        "completions": completions.collect::<Vec<_>>(),
        "left_out": report.left_out.iter().map(left_out).collect::<Vec<_>>(),
        "summary": {
            "completions": report.checked.len(),
            "rewards": means.collect::<Map<_, _>>(),
            "reward": mean(&report.mean_sum()),
            "pass_rate": report.passing() as f64 / report.checked.len() as f64,
            "without_answer_tags": report.untagged(),
            "left_out": report.left_out.len(),
        },
    });
    format!("{value:#}\n")
}

fn completion(one: &Checked<'_>, names: &[String]) -> Value {
    let values = one.scored.rewards.iter().map(|value| json!(value));
    json!({
        "place": one.row.origin,
        "id": one.row.id,
        "source": one.row.source,
        "step": one.row.step,
        "text": one.row.text,
        "answer": one.answer(),
        "gold": one.gold(),
        "passes": one.scored.passes,
        "rewards": names.iter().cloned().zip(values).collect::<Map<_, _>>(),
        "reward": one.scored.reward,
    })
}

fn left_out(one: &LeftOut) -> Value {
    json!({"place": one.place, "id": one.id, "reason": one.reason})
}

fn mean(mean: &Mean) -> Value {
    json!({"mean": mean.mean, "null": mean.null})
}
