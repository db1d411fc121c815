//! Whether a run that is continued is still the same run.
//!
//! Knows keys by what the configuration says of them, and nothing of checkpoints but where they lie.

use std::path::Path;

use anyhow::{Result, bail};

use crate::config::{self, Change, Run};

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

fn shown(change: &Change) -> String {
    format!("`{}` was {}, is {}", change.key, change.before, change.now)
}
