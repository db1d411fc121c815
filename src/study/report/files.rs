//! Files of a report: written whole, over those of an earlier report and nothing else. Knows nothing of what they say.
//!
//! A folder that a person names may hold things of theirs, and its links may lead anywhere.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::study::error::{StudyError, io_error};
use crate::system::files::{self, Existing};

/// Bytes in which a file of a report says that it is one.
const HEAD: u64 = 1024;

/// A file to write.
pub(super) struct ReportFile {
    pub path: PathBuf,
    pub text: String,
    /// What stands at the beginning of every file of its kind that a report has, whatever the results.
    pub mark: &'static str,
}

impl ReportFile {
    pub fn new(path: PathBuf, text: String, mark: &'static str) -> Self {
        Self { path, text, mark }
    }

    /// Whether there is nothing at its place that is not of an earlier report.
    pub fn check(&self) -> Result<(), StudyError> {
        match fs::symlink_metadata(&self.path) {
            Err(_) => Ok(()),
            Ok(_) if is_of_a_report(&self.path, self.mark) => Ok(()),
            Ok(_) => Err(StudyError::NotAReport {
                path: self.path.clone(),
            }),
        }
    }

    /// Writes beside the place and renames, so that no link is followed and no reader sees half a file.
    pub fn write(&self) -> Result<(), StudyError> {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let partial = self.path.with_file_name(format!(".{name}.partial"));
        // Of a report that was cut short.
        let _ = fs::remove_file(&partial);
        let written = files::write(&partial, &self.text, Existing::Refuse);
        written.map_err(io_error("write", &partial))?;
        fs::rename(&partial, &self.path).map_err(io_error("write", &self.path))
    }
}

/// Whether the file is a plain one with the mark near its beginning, or an empty one.
pub(super) fn is_of_a_report(path: &Path, mark: &str) -> bool {
    let is_plain = fs::symlink_metadata(path).is_ok_and(|found| found.is_file());
    let mut head = Vec::new();
    let read = is_plain
        && File::open(path)
            .and_then(|file| file.take(HEAD).read_to_end(&mut head))
            .is_ok();
    read && (head.is_empty() || String::from_utf8_lossy(&head).contains(mark))
}
