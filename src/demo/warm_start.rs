//! Rows of the warm start: what a vision-language model brings along before it is taught to reason.
//!
//! Some rows name what stands in the picture, most of the others ask for an explanation and get one, and the others ask as the
//! task does and get a bare answer. The model then sees, and can reason when it is told to, but hardly ever does so by
//! itself: what reinforcement learning has to change. Knows nothing of models.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

/// The share of rows that name the colours of all cells.
const NAMING: f64 = 0.25;
/// The share of rows that ask for an explanation and get it.
const EXPLAINED: f64 = 0.63;
/// The share of rows that reason without being asked to.
const REASONING: f64 = 0.003;

/// Writes `warm-start.json` beside the rendered rows and returns its path.
///
/// # Errors
/// If the rows cannot be read or written.
pub fn write_rows(rendered: &Path, seed: u64) -> Result<PathBuf> {
    let text = std::fs::read_to_string(rendered)
        .with_context(|| format!("{}: cannot be read", rendered.display()))?;
    let rows: Vec<Map<String, Value>> = serde_json::from_str(&text)
        .with_context(|| format!("{}: holds no rows", rendered.display()))?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let rows: Vec<Map<String, Value>> = rows
        .into_iter()
        .map(|row| warm_start_row(row, rng.random()))
        .collect();
    let path = rendered.with_file_name("warm-start.json");
    std::fs::write(&path, serde_json::to_string_pretty(&rows)?)
        .with_context(|| format!("{}: cannot be written", path.display()))?;
    Ok(path)
}

/// A row as one of the four kinds, by a draw between 0 and 1.
fn warm_start_row(mut row: Map<String, Value>, draw: f64) -> Map<String, Value> {
    let text = |row: &Map<String, Value>, key: &str| {
        row.get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if draw < NAMING {
        let cells = text(&row, "cot")
            .split(':')
            .next()
            .unwrap_or_default()
            .to_owned();
        row.insert("problem".to_owned(), "Name the colors row by row.".into());
        row.insert("solution".to_owned(), cells.clone().into());
        row.insert("answer".to_owned(), cells.into());
    } else if draw < NAMING + EXPLAINED {
        let problem = format!("{} Explain your answer.", text(&row, "problem"));
        row.insert("problem".to_owned(), problem.into());
        return row;
    } else if draw < NAMING + EXPLAINED + REASONING {
        return row;
    }
    row.remove("cot");
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_one_of_four_kinds() {
        let row = json!({"id": "a", "problem": "How many?", "solution": "2", "answer": "2", "cot": "- red red: 2 red"});
        let row = row.as_object().unwrap();
        let seen = |draw: f64| {
            let row = warm_start_row(row.clone(), draw);
            let text = |key: &str| {
                row.get(key)
                    .and_then(Value::as_str)
                    .unwrap_or("-")
                    .to_owned()
            };
            [text("problem"), text("solution"), text("cot")]
        };
        assert_eq!(seen(0.1), ["Name the colors row by row.", "- red red", "-"]);
        assert_eq!(
            seen(0.3),
            ["How many? Explain your answer.", "2", "- red red: 2 red"]
        );
        assert_eq!(seen(0.881), ["How many?", "2", "- red red: 2 red"]);
        assert_eq!(seen(0.9), ["How many?", "2", "-"]);
    }
}
