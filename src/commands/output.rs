//! Where the results of `generate` and `score` go. Knows nothing of what they are.

use std::path::Path;

use anyhow::Result;

use super::rows::Row;
use crate::run::metrics::JsonLines;
use crate::system::files::{Existing, Named};

/// Where results go.
pub(super) struct Output<'a> {
    /// The file.
    pub path: &'a Path,
    /// What becomes of one that is there.
    pub existing: Existing,
}

impl Output<'_> {
    /// Makes sure that nothing is lost: neither the rows, nor their pictures, nor the model, nor anything else that exists.
    ///
    /// # Errors
    /// [`OutputError`](crate::system::files::OutputError) names what would be.
    pub(super) fn check(&self, input: &Path, model: &Path, rows: &[Row]) -> Result<()> {
        let mut inputs = vec![Named::new("--input", input)];
        for file in std::fs::read_dir(model).into_iter().flatten().flatten() {
            inputs.push(Named::new("--model", &file.path()));
        }
        let pictures = rows.iter().flat_map(Row::pictures);
        inputs.extend(pictures.map(|image| Named::new("a picture", image)));
        let named = Named::new("--output", self.path);
        named.is_none_of(&inputs)?;
        Ok(named.may_be_written(self.existing)?)
    }

    /// The empty file.
    ///
    /// # Errors
    /// It cannot be created.
    pub(super) fn create(&self) -> Result<JsonLines> {
        Ok(JsonLines::create(self.path, self.existing)?)
    }
}
