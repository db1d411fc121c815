//! Whether a run that is continued is still the same run.
//!
//! Knows keys by what the configuration says of them, and nothing of checkpoints but where they lie.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};

use crate::config::{self, Change, Run};
use crate::record::Example;
use crate::seed::fnv1a;

/// The stored configuration, beside the checkpoints of a run.
const STORED: &str = "config.yaml";

/// Compares the stored configuration of the run that `checkpoint` belongs to with the one that it is told now: what its
/// results depend on must be equal or allowed by name, the rest is noted.
///
/// # Errors
/// The keys that differ, with both values; or the stored configuration cannot be read.
pub(crate) fn refuse_changes(run: &Run, checkpoint: &Path) -> Result<()> {
    let stored = checkpoint.parent().unwrap_or(Path::new("")).join(STORED);
    if !stored.is_file() {
        log::warn!(
            "{}: is not there, so nothing can be said of changes since the run began",
            stored.display()
        );
        return Ok(());
    }
    let allowed = |change: &Change| {
        let names = &run.output.resume_allow_changes;
        !change.matters || names.iter().any(|name| name == change.key)
    };
    let changes = config::changes(&stored, run)?;
    let (noted, refused): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(allowed);
    if refused.is_empty() {
        for change in noted {
            log::info!(
                "resuming with another value than before: {}",
                shown(&change)
            );
        }
        return Ok(());
    }
    let list: Vec<String> = refused.iter().map(shown).collect();
    let names: Vec<&str> = refused.iter().map(|change| change.key).collect();
    bail!(
        "{}: the run was made with other values of keys that its results depend on: {}\nhint: give them their old values, or allow the change with `--resume_allow_changes {}`",
        stored.display(),
        list.join("; "),
        names.join(",")
    )
}

/// Bytes of a column that are looked at: pictures in the rows themselves are told apart by their beginnings and lengths.
const LOOKED_AT: usize = 4096;

/// A number for what the rows say, in their order: ids, answers, and every column as it was read.
pub(crate) fn rows_digest(examples: &[Arc<Example>]) -> u64 {
    let mut all = Vec::new();
    for example in examples {
        let mut row = Vec::new();
        let texts = [&example.id, &example.solution];
        let columns = example.columns.iter();
        let columns = columns.map(|(name, value)| format!("{name}={value}"));
        for text in texts.into_iter().cloned().chain(columns) {
            row.extend_from_slice(&text.len().to_le_bytes());
            row.extend_from_slice(&text.as_bytes()[..text.len().min(LOOKED_AT)]);
        }
        all.extend_from_slice(&fnv1a(row).to_le_bytes());
    }
    fnv1a(all)
}

/// Makes sure that the rows of a continued run are those that it began with.
///
/// # Errors
/// If they say something else, unless the change of `dataset_name` is allowed.
pub(crate) fn refuse_other_rows(run: &Run, before: Option<u64>, now: u64) -> Result<()> {
    let names = &run.output.resume_allow_changes;
    let is_allowed = names.iter().any(|name| name == "dataset_name");
    if is_allowed || before.is_none_or(|before| before == now) {
        return Ok(());
    }
    bail!(
        "{}: the rows say something else than those that the run began with\nhint: give the run its old rows, or allow the change with `--resume_allow_changes dataset_name`",
        run.data.dataset_name.display()
    )
}

fn shown(change: &Change) -> String {
    format!("`{}` was {}, is {}", change.key, change.before, change.now)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn rows(rows: &[(&str, &str, Value)]) -> u64 {
        let example = |(id, solution, columns): &(&str, &str, Value)| {
            Arc::new(Example {
                id: (*id).to_owned(),
                task: None,
                messages: Vec::new(),
                images: Vec::new(),
                solution: (*solution).to_owned(),
                cot: None,
                target: None,
                columns: columns.as_object().cloned().unwrap_or_default(),
                origin: String::new(),
            })
        };
        rows_digest(&rows.iter().map(example).collect::<Vec<_>>())
    }

    #[test]
    fn other_rows_have_another_digest() {
        let (a, b) = (("a", "1", json!({"image": "a.png"})), ("b", "2", json!({})));
        let same = rows(&[a.clone(), b.clone()]);
        assert_eq!(same, rows(&[a.clone(), b.clone()]));
        for other in [
            vec![b.clone(), a.clone()],
            vec![a.clone()],
            vec![("a", "2", json!({"image": "a.png"})), b.clone()],
            vec![("a", "1", json!({"image": "b.png"})), b.clone()],
            vec![("a1", "", json!({"image": "a.png"})), b.clone()],
            vec![("a", "1", json!({"image": "a.png", "level": 1})), b],
        ] {
            assert_ne!(rows(&other), same, "{other:?}");
        }
    }
}
