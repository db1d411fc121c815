//! A downloaded model folder's own words: its files as text and JSON, and the shape that config.json describes.
//!
//! What prompts and the model both need to know stands here once. The folder is not trusted: only plain files of a sane
//! size are read, and numbers outside sane ranges are refused by key. Knows nothing of weights, templates or pictures.

mod error;
mod folder;
mod json;
mod rope;
mod section;
mod shape;
mod text_shape;
mod vision_shape;

pub use error::ModelFileError;
pub use folder::ModelFolder;
pub(crate) use json::{kind_of, shown};
pub use rope::{Rope, RopeScaling};
pub(crate) use section::Section;
pub use shape::{ImageTokenIds, ModelConfig};
pub use text_shape::TextConfig;
pub use vision_shape::{VisionConfig, VisionKind};
