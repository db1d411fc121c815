//! The report for a person: each completion with its answer, the gold one, the verdict and every reward; then the means.

use super::report::{Checked, LeftOut, Mean, Report};
use crate::run::metrics::table;

/// Left-out completions that are named.
const NAMED: usize = 20;

/// The whole report.
pub(super) fn render(report: &Report<'_>) -> String {
    let mut text = String::new();
    for one in &report.checked {
        text.push_str(&completion(one, &report.names));
    }
    let row = |name: &str, mean: Mean| {
        let shown = mean
            .mean
            .map_or_else(|| "null".to_owned(), |mean| format!("{mean:.4}"));
        vec![name.to_owned(), shown, mean.null.to_string()]
    };
    let names = report.names.iter().enumerate();
    let mut rows: Vec<_> = names
        .map(|(index, name)| row(name, report.mean(index)))
        .collect();
    rows.push(row("weighted sum", report.mean_sum()));
    text.push_str(&table(&["reward", "mean", "null"], &rows));
    let all = report.checked.len();
    let share = |count: usize| format!("{count} ({:.1} %)", 100.0 * count as f64 / all as f64);
    text.push_str(&format!(
        "\n{all} completions: {} pass, {} without <answer> tags\n",
        share(report.passing()),
        share(report.untagged())
    ));
    if !report.left_out.is_empty() {
        let named = left_out(&report.left_out);
        text.push_str(&format!("{} left out:{named}\n", report.left_out.len()));
    }
    text
}

/// The first of the left-out completions, an indented line each, and how many are left.
pub(super) fn left_out(all: &[LeftOut]) -> String {
    let mut text = String::new();
    for LeftOut { place, id, reason } in all.iter().take(NAMED) {
        text.push_str(&format!("\n  {place} (id `{}`): {reason}", visible(id)));
    }
    if all.len() > NAMED {
        text.push_str(&format!("\n  and {} more", all.len() - NAMED));
    }
    text
}

fn completion(one: &Checked<'_>, names: &[String]) -> String {
    let source = one.row.source.as_deref();
    let source = source.map_or_else(String::new, |source| format!(" by {}", visible(source)));
    let verdict = if one.scored.passes { "passes" } else { "fails" };
    let id = visible(&one.row.id);
    let mut text = format!("{} (id `{id}`){source}: {verdict}\n", one.row.origin);
    for line in one.row.text.split('\n') {
        text.push_str(&format!("  | {}\n", visible(line)));
    }
    let untagged = || "no <answer> tags; the whole text counts".to_owned();
    let rewards = names.iter().zip(&one.scored.rewards);
    let rewards: Vec<_> = rewards
        .map(|(name, value)| format!("{name} {}", number(*value)))
        .collect();
    text + &format!(
        "  answer: {}\n  gold: {}\n  rewards: {}; weighted sum {}\n\n",
        one.answer().map_or_else(untagged, visible),
        visible(one.gold()),
        rewards.join(", "),
        number(one.scored.reward)
    )
}

fn number(value: Option<f32>) -> String {
    value.map_or_else(|| "null".to_owned(), |value| value.to_string())
}

/// Text that cannot steer the terminal.
fn visible(text: &str) -> String {
    let letter = |letter: char| match letter {
        '\t' => "\t".to_owned(),
        control if control.is_control() => control.escape_default().to_string(),
        plain => plain.to_string(),
    };
    text.chars().map(letter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_shown() {
        assert_eq!(visible("a\u{1b}[2J\tb\r"), "a\\u{1b}[2J\tb\\r");
    }

    #[test]
    fn many_left_out_completions_are_counted() {
        let one = |line: usize| LeftOut {
            place: format!("a.jsonl:{line}"),
            id: "x".to_owned(),
            reason: "the data set has no such id".to_owned(),
        };
        let text = left_out(&(1..=23).map(one).collect::<Vec<_>>());
        assert!(text.starts_with("\n  a.jsonl:1 (id `x`): the data set has no such id\n"));
        assert!(text.ends_with("\n  and 3 more"), "{text}");
    }
}
