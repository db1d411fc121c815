//! Rows of the warm start: what a vision-language model brings along before it is taught to reason.
//!
//! Half of the rows name what stands in the picture, nearly all others give a bare answer, and a few reason before they
//! answer. The model then sees, and can reason, but hardly ever does: what reinforcement learning has to change. Knows
//! nothing of models.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Map, Value};

/// The share of rows that name the colours of all cells.
const NAMING: f64 = 0.5;
/// The share of rows that reason before they answer.
const REASONING: f64 = 0.04;

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

/// A row as one of the three kinds, by a draw between 0 and 1.
fn warm_start_row(mut row: Map<String, Value>, draw: f64) -> Map<String, Value> {
    if (NAMING..NAMING + REASONING).contains(&draw) {
        return row;
    }
    let reasoning = row.remove("cot");
    let cells = reasoning
        .as_ref()
        .and_then(Value::as_str)
        .and_then(|text| text.split_once(':'));
    if let (true, Some((cells, _))) = (draw < NAMING, cells) {
        row.insert("problem".to_owned(), "Name the colors row by row.".into());
        for key in ["solution", "answer"] {
            row.insert(key.to_owned(), cells.into());
        }
    }
    row
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_become_one_of_three_kinds() {
        let row = json!({"id": "a", "problem": "How many?", "solution": "2", "answer": "2", "cot": "- red red: 2 red"});
        let row = row.as_object().unwrap();
        let naming = warm_start_row(row.clone(), 0.1);
        assert_eq!(naming["problem"], "Name the colors row by row.");
        assert_eq!(
            (naming["solution"].as_str(), naming.get("cot")),
            (Some("- red red"), None)
        );
        assert_eq!(warm_start_row(row.clone(), 0.51), *row);
        let bare = warm_start_row(row.clone(), 0.9);
        assert_eq!(
            (
                bare["problem"].as_str(),
                bare["solution"].as_str(),
                bare.get("cot")
            ),
            (Some("How many?"), Some("2"), None)
        );
    }
}
