//! Reads the recorded reference data for this stage's unit tests.
//!
//! Knows nothing of what the numbers mean.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::TempDir;

use super::PromptOptions;
use super::image_settings::ImageSettings;
use crate::data::model_folder::{ModelConfig, ModelFolder};
use crate::picture::{RgbImage, decode};
use crate::record::ImageSource;

/// A file or folder of the reference data.
pub(super) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden/public")
        .join(name)
}

/// A JSON file.
pub(super) fn json(name: &str) -> Value {
    let text = std::fs::read_to_string(path(name)).expect("the reference data is there");
    serde_json::from_str(&text).expect("the reference data is valid")
}

/// The decoded pixels of a file under images/.
pub(super) fn decoded(file: &str) -> RgbImage {
    decode(&ImageSource::Path(path("images").join(file))).expect("a picture")
}

/// The image settings of a recorded model.
pub(super) fn image_settings(model: &str) -> ImageSettings {
    let folder = ModelFolder::open(&path(model)).expect("a folder");
    let config = ModelConfig::read(&folder).expect("a configuration");
    ImageSettings::open(&folder, &config, &PromptOptions::default()).expect("settings")
}

/// A copy of a recorded model's small files, for a test to damage.
pub(super) fn copy_of(model: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(path(model)).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry
            .path()
            .extension()
            .is_none_or(|kind| kind != "safetensors")
        {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("a copy");
        }
    }
    folder
}

/// Changes one JSON file of such a copy.
pub(super) fn edit(folder: &TempDir, name: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.path().join(name);
    let text = std::fs::read_to_string(&path).expect("a file");
    let mut value = serde_json::from_str(&text).expect("JSON");
    change(&mut value);
    std::fs::write(path, value.to_string()).expect("written");
}

/// A safetensors file.
pub(super) struct Tensors {
    bytes: Vec<u8>,
}

impl Tensors {
    /// Reads it.
    pub(super) fn open(name: &str) -> Self {
        Self {
            bytes: std::fs::read(path(name)).expect("the reference data is there"),
        }
    }

    /// Shape and values of a uint8 tensor.
    pub(super) fn bytes(&self, name: &str) -> (Vec<usize>, Vec<u8>) {
        let tensors = SafeTensors::deserialize(&self.bytes).expect("safetensors");
        let tensor = tensors.tensor(name).expect("a recorded tensor");
        (tensor.shape().to_vec(), tensor.data().to_vec())
    }
}
