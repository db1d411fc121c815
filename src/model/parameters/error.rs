//! What can be wrong with weight files, in words that name the file, the tensor and a remedy.
//!
//! Knows nothing of how they are read.

/// Why weights cannot be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The device has no room for them, or gave up.
    #[error(transparent)]
    Device(#[from] crate::device::DeviceFailure),
    /// Neither `model.safetensors` nor an index in the folder.
    #[error(
        "{folder}: no model.safetensors and no model.safetensors.index.json{found}\nhint: {hint}"
    )]
    NoFile {
        /// The folder.
        folder: String,
        /// What is there instead: `, but pytorch_model.bin`.
        found: String,
        /// The remedy.
        hint: &'static str,
    },
    /// An index that cannot be followed.
    #[error(
        "{path}: {problem}\nhint: download the missing files; if the weights were merged into one file, call it model.safetensors and remove the index"
    )]
    Index {
        /// The index.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two tensors that are one parameter.
    #[error(
        "tensor `{name}` stands twice: in {first} and in {second}\nhint: two sets of weights are mixed; keep the files of one"
    )]
    Twice {
        /// Hub name.
        name: String,
        /// The file read first.
        first: String,
        /// The other one.
        second: String,
    },
    /// A tensor of an adapter.
    #[error(
        "{path}: tensor `{name}` belongs to an adapter that was not merged\nhint: merge it first: merge_and_unload(), then save_pretrained(folder)"
    )]
    Adapter {
        /// The file.
        path: String,
        /// Name in the file.
        name: String,
    },
    /// A file cannot be read or written.
    #[error(
        "{path}: {source}\nhint: check that the file exists, that it may be accessed, and that the disk is not full"
    )]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Not a whole safetensors file.
    #[error(
        "{path}: not a whole safetensors file: {problem}; {bytes} bytes are there\nhint: copy or download it again"
    )]
    Broken {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
        /// Its size.
        bytes: u64,
    },
    /// A name in the index that is not that of a weight file of the folder.
    #[error(
        "{path}: \"weight_map\" names a file outside the folder, or none of weights: {found} for `{tensor}`; nothing is read or written there\nhint: expected a plain name such as \"model-00001-of-00002.safetensors\"; download the model again, and do not trust where it came from"
    )]
    Outside {
        /// The index.
        path: String,
        /// The first tensor with such a name.
        tensor: String,
        /// The name, as JSON.
        found: String,
    },
    /// A tensor that the model needs is in none of the files.
    #[error("{folder}: tensor `{name}` is missing\nhint: {hint}")]
    Missing {
        /// The folder.
        folder: String,
        /// Hub name.
        name: String,
        /// The remedy.
        hint: String,
    },
    /// A tensor of another shape than the configuration says.
    #[error(
        "{folder}: tensor `{name}` must have shape {expected:?}, found {found:?}\nhint: config.json belongs to another model"
    )]
    Shape {
        /// The folder.
        folder: String,
        /// Hub name.
        name: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        found: Vec<usize>,
    },
    /// A number format other than f32, f16, bf16.
    #[error(
        "{path}: tensor `{name}` is {found}; weights must be F32, F16 or BF16\nhint: quantised checkpoints are not supported, take the original one"
    )]
    Format {
        /// The file.
        path: String,
        /// Name in the file.
        name: String,
        /// What it is.
        found: String,
    },
    /// NaN or infinity.
    #[error(
        "{path}: tensor `{name}` holds {found} at index {index}\nhint: the checkpoint is damaged or comes from a diverged run; take an earlier one"
    )]
    NotFinite {
        /// The file.
        path: String,
        /// Name in the file.
        name: String,
        /// The value.
        found: f32,
        /// Where.
        index: usize,
    },
    /// A tensor larger than one buffer of the device may be.
    #[error(
        "tensor `{name}` needs a buffer of {needed} bytes, the device allows {allowed}\nhint: run on --device cpu or on an adapter with larger buffers (`vision-ekipl doctor` lists them)"
    )]
    TooLarge {
        /// Hub name.
        name: String,
        /// Bytes needed.
        needed: u64,
        /// Bytes the device allows.
        allowed: u64,
    },
}
