//! What can be wrong with a file of a model folder, in words that name the file, the key and a remedy.
//!
//! Knows nothing of how the files are read.

use std::path::{Path, PathBuf};

/// A model folder, or a file in it, that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelFileError {
    /// The folder or the file is absent.
    #[error("{}: not found; expected {expected}\nhint: {hint}", path.display())]
    Missing {
        /// What was looked for.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// The remedy.
        hint: String,
    },
    /// The file is there but cannot be used.
    #[error("{}: expected {expected}, found {found}\nhint: {hint}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        expected: &'static str,
        /// What it holds, or the reader's own words.
        found: String,
        /// The remedy.
        hint: &'static str,
    },
    /// A key's value makes no sense, contradicts another one, or asks for what this program does not compute.
    #[error("{}: `{key}` is {found}; expected {expected}\nhint: {hint}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The key, with the objects around it: `vision_config.depth`.
        key: String,
        /// Its value; where the file leaves it out, transformers' default and that it is one.
        found: String,
        /// Values that work.
        expected: String,
        /// The remedy.
        hint: String,
    },
    /// Another architecture.
    #[error(
        "{}: `model_type` is {found}; this program runs `qwen2_vl` and `qwen2_5_vl`\nhint: choose a Qwen2-VL or Qwen2.5-VL checkpoint",
        path.display()
    )]
    Architecture {
        /// config.json.
        path: PathBuf,
        /// The value found.
        found: String,
    },
    /// A folder of PEFT's, which is no model by itself.
    #[error(
        "{}: holds a {kind} adapter (adapter_config.json), which is no model by itself; its base model is {base}\n\
         hint: merge it into its base model first (`vision-ekipl merge`, or merge_and_unload of PEFT), then give that folder",
        path.display()
    )]
    Adapter {
        /// The folder.
        path: PathBuf,
        /// `LORA` or another of PEFT's words.
        kind: String,
        /// What the adapter names as its base.
        base: String,
    },
}

impl ModelFileError {
    /// A file that is there but holds something else.
    pub(crate) fn broken(path: &Path, expected: &'static str, found: String) -> Self {
        Self::Broken {
            path: path.to_owned(),
            expected,
            found,
            hint: "restore the file from the model's original folder",
        }
    }
}
