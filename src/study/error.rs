//! What can be wrong with the results of a study, with its remedy.

use std::io;
use std::path::{Path, PathBuf};

use crate::json_lines;

/// Why results cannot be read or a report cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum StudyError {
    /// A file or folder cannot be read or written.
    #[error("{}: cannot {action}: {source}\nhint: check the path, the permissions and the free space", path.display())]
    Io {
        /// `read`, `write`, `create the folder`.
        action: &'static str,
        /// File or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The text is not a result: a syntax error, an absent or unknown key, a value of another type, or NaN.
    #[error("{}: key `{key}`: {message}\nhint: a result file is written by `study`; remove it and run the study again to make it anew", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Where in the file, as `steps[3].reward`; `.` is the top.
        key: String,
        /// What was expected and found.
        message: String,
    },
    /// The layout is older or newer than this program.
    #[error("{}: key `format_version`: expected {expected}, found {found}\nhint: use the version of the program that wrote the file, or run the study again", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What this program reads.
        expected: u32,
        /// What the file says.
        found: String,
    },
    /// A value that contradicts another one or cannot be.
    #[error(
        "{place}: key `{key}`: expected {expected}, found {found}\nhint: the file was changed by hand or written by a faulty run; remove it and run the study again to make it anew"
    )]
    Value {
        /// The file, or the run.
        place: String,
        /// Where in the result.
        key: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A method file or a base file that cannot be used.
    #[error("{}: {message}\nhint: the files in `configs/study` show every key", path.display())]
    Settings {
        /// The file.
        path: PathBuf,
        /// What was expected and found.
        message: String,
    },
    /// A result of the same name, made in another way.
    #[error(
        "{}: made with another configuration (digest {found}, now {expected})\nhint: move it away, or give another folder with --results", path.display()
    )]
    OtherConfiguration {
        /// The result.
        path: PathBuf,
        /// The digest of what is planned.
        expected: String,
        /// Its digest.
        found: String,
    },
    /// Something at the place of a file of the report that is none.
    #[error(
        "{}: expected nothing or a file of an earlier report, found something else\nhint: move it away, or give another folder with --report", path.display()
    )]
    NotAReport {
        /// The file.
        path: PathBuf,
    },
    /// Two results of the same run.
    #[error(
        "expected one result per method, family and seed, found two of `{run}`\nhint: keep one of the two files"
    )]
    Duplicate {
        /// The file name of the run.
        run: String,
    },
    /// One key, several methods.
    #[error(
        "method `{key}`: expected the same title, role, order and counterpart in every result, found two kinds (`{run}` differs)\nhint: give the methods different keys, or run the older ones again"
    )]
    Method {
        /// The key.
        key: String,
        /// The file name of the first run that differs.
        run: String,
    },
}

/// For `map_err`: the failed action and the path around an I/O error.
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StudyError {
    move |source| StudyError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// The text of a file that a person names: UTF-8 without a byte order mark; no pipe or device, which may have no end.
pub(crate) fn read_text(path: &Path) -> Result<String, StudyError> {
    let bytes = json_lines::read(path).map_err(io_error("read", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let error = io::Error::new(io::ErrorKind::InvalidData, error.utf8_error());
        io_error("read", path)(error)
    })
}
