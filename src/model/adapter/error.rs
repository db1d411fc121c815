//! What can be wrong with an adapter, in words that name the file or the key, and the remedy.
//!
//! Knows nothing of how adapters are read.

use std::io;
use std::path::Path;

use crate::data::model_folder::ModelFileError;

/// Why an adapter cannot be laid on a model, read or written.
#[derive(Debug, thiserror::Error)]
pub enum AdapterError {
    /// `adapter_config.json` is absent, no JSON, or has a value of a wrong kind.
    #[error(transparent)]
    Settings(#[from] ModelFileError),
    /// A setting of PEFT's that would change the numbers and is not computed here.
    #[error("{path}: `{key}` is {found}: {problem}\nhint: {hint}")]
    NotHere {
        /// The file.
        path: String,
        /// The setting.
        key: String,
        /// Its value.
        found: String,
        /// What is lacking.
        problem: &'static str,
        /// The remedy.
        hint: &'static str,
    },
    /// `adapter_model.safetensors` is no whole file of LoRA tensors.
    #[error("{path}: {problem}\nhint: {hint}")]
    Tensors {
        /// The file.
        path: String,
        /// What is wrong.
        problem: String,
        /// The remedy.
        hint: &'static str,
    },
    /// Layers that a key names and that do not exist, or cannot have what it asks for.
    #[error("`{key}` {problem}\nhint: {hint}")]
    Targets {
        /// `lora_target_modules` or its like.
        key: &'static str,
        /// What is wrong.
        problem: String,
        /// The remedy.
        hint: String,
    },
    /// The tensors are not those of the layers that the settings name in this model.
    #[error("{place}: {problem}\nhint: {hint}")]
    Mismatch {
        /// The adapter.
        place: String,
        /// What is wrong.
        problem: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A file cannot be read or written.
    #[error(
        "{path}: {source}\nhint: check that the file exists, that it may be accessed, and that the disk is not full"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

/// For `map_err`: the file around an I/O error.
pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> AdapterError {
    move |source| AdapterError::Io {
        path: path.display().to_string(),
        source,
    }
}
