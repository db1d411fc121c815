//! What can go wrong while a data set is drawn and written.

use std::io;
use std::path::PathBuf;

/// Why a data set was not written.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// An option is out of range.
    #[error("`{key}` is {found}, expected {expected}\nhint: change `--{key}`")]
    Option {
        /// The option's name.
        key: &'static str,
        /// Its value.
        found: String,
        /// What it may be.
        expected: String,
    },
    /// A file or folder cannot be written.
    #[error("{}: cannot write: {source}\nhint: check that the folder is writable and the disk not full", path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A picture cannot be encoded.
    #[error("{}: cannot encode the picture: {source}\nhint: choose a smaller `--size`", path.display())]
    Encode {
        /// The picture's file.
        path: PathBuf,
        /// What the encoder said.
        source: image::ImageError,
    },
    /// Rows cannot be turned into JSON, which plain text and numbers always can.
    #[error(
        "cannot write the rows as JSON: {0}\nhint: this is a fault of the program; please report it"
    )]
    Json(serde_json::Error),
}
