//! A model's parameters by name: what they are ([`spec`]), how they are held ([`Values`]), loaded from and saved to Hugging
//! Face safetensors files.
//!
//! A parameter that trains is a flat f32 tensor on one device; a frozen matrix keeps the bits of its file, or fewer. Names are
//! the hub's (`visual.*`, `model.layers.*`), whatever the file calls them. Values are immutable handles: a clone of
//! [`Weights`] shares all memory, an optimizer step replaces values one by one.

mod error;
mod files;
mod load;
mod merge;
mod save;
pub mod spec;

use std::collections::BTreeMap;
use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};
use safetensors::Dtype;
use serde_json::Value;

use files::HEAD;

pub use error::WeightsError;
pub use load::{Holding, Quantization};
pub use merge::{Head, MergeError};
pub use save::UnusableValues;

use crate::kernels::FrozenMatrix;
use crate::model::adapter::AdapterConfig;

/// The values of a parameter.
#[derive(Debug, Clone)]
pub enum Values {
    /// [elements] row-major f32 on the device: whatever trains, and every vector.
    Dense(Tensor<1>),
    /// A matrix that does not train; axes after the first are flattened.
    Frozen(Arc<FrozenMatrix>),
}

/// One parameter: its values and the shape they have in files.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Where the values lie.
    pub values: Values,
    /// The shape in the file.
    pub shape: Vec<usize>,
}

impl Parameter {
    /// Number of values.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shape.iter().product()
    }

    /// The values as a tensor, if they are held as one.
    #[must_use]
    pub const fn dense(&self) -> Option<&Tensor<1>> {
        match &self.values {
            Values::Dense(values) => Some(values),
            Values::Frozen(_) => None,
        }
    }
}

/// Where one tensor of a file comes from and goes to.
#[derive(Debug, Clone, PartialEq)]
struct StoredTensor {
    name: String,
    hub_name: String,
    dtype: Dtype,
}

/// How the checkpoint was laid out on disk, so that saving writes the same files.
#[derive(Debug, Clone, Default, PartialEq)]
struct Layout {
    /// File name and its tensors in their order.
    files: Vec<(String, Vec<StoredTensor>)>,
    /// `model.safetensors.index.json`, if there was one.
    index: Option<Value>,
}

/// What training an adapter adds to a frozen model.
#[derive(Debug, Clone)]
pub struct Adapter {
    /// Rank, scale and where it sits.
    pub config: Arc<AdapterConfig>,
    /// `<module>.lora_A.weight`, `<module>.lora_B.weight`, and under its own name every parameter of `modules_to_save`.
    parameters: BTreeMap<String, Parameter>,
}

/// All parameters of a model by hub name.
#[derive(Debug, Clone, Default)]
pub struct Weights {
    parameters: BTreeMap<String, Parameter>,
    adapter: Option<Adapter>,
    layout: Layout,
    /// Whether the files hold a head that is another table than the embedding.
    own_head: bool,
}

impl Weights {
    /// Puts a parameter under `name`, replacing the one that was there.
    pub fn insert(&mut self, name: &str, values: Vec<f32>, shape: Vec<usize>, device: &Device) {
        let parameter = dense(values, shape, device);
        self.parameters.insert(name.to_owned(), parameter);
    }

    /// Lays a model that was not loaded from files out as one f32 `model.safetensors`.
    pub fn lay_out_as_one_file(&mut self) {
        let stored = |name: &String| StoredTensor {
            name: name.clone(),
            hub_name: name.clone(),
            dtype: Dtype::F32,
        };
        let tensors = self.parameters.keys().map(stored).collect();
        self.layout = Layout {
            files: vec![("model.safetensors".to_owned(), tensors)],
            index: None,
        };
    }

    /// Lays an adapter of `(name, shape, values)` over the model.
    pub fn attach(
        &mut self,
        config: Arc<AdapterConfig>,
        tensors: impl IntoIterator<Item = (String, Vec<usize>, Vec<f32>)>,
        device: &Device,
    ) {
        let tensors = tensors.into_iter();
        let parameters = tensors.map(|(name, shape, values)| (name, dense(values, shape, device)));
        self.adapter = Some(Adapter {
            config,
            parameters: parameters.collect(),
        });
    }

    /// The adapter that lies over the model, if there is one.
    #[must_use]
    pub const fn adapter(&self) -> Option<&Adapter> {
        self.adapter.as_ref()
    }

    /// The same model with the adapter off.
    #[must_use]
    pub fn without_adapter(&self) -> Self {
        Self {
            adapter: None,
            ..self.clone()
        }
    }

    /// The parameter under a hub name: that of the adapter where it has one.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Parameter> {
        let adapted = self.adapter.as_ref();
        let adapted = adapted.and_then(|adapter| adapter.parameters.get(name));
        adapted.or_else(|| self.parameters.get(name))
    }

    /// The values under a hub name, if they are held as a tensor.
    #[must_use]
    pub fn values(&self, name: &str) -> Option<&Tensor<1>> {
        self.get(name)?.dense()
    }

    /// The parameter of the model itself, whatever lies over it.
    #[must_use]
    pub fn base(&self, name: &str) -> Option<&Parameter> {
        self.parameters.get(name)
    }

    fn get_mut(&mut self, name: &str) -> Option<&mut Parameter> {
        let adapted = self.adapter.as_mut();
        let adapted = adapted.and_then(|adapter| adapter.parameters.get_mut(name));
        adapted.or_else(|| self.parameters.get_mut(name))
    }

    /// Replaces a parameter's values, keeping its shape; used by the optimizer.
    pub fn replace(&mut self, name: &str, value: Tensor<1>) {
        if let Some(parameter) = self.get_mut(name) {
            parameter.values = Values::Dense(value);
        }
    }

    /// Takes the values out, so that nobody else holds them, until [`Weights::replace`] puts others there.
    pub fn take(&mut self, name: &str) -> Option<Tensor<1>> {
        let parameter = self.get_mut(name)?;
        let placeholder = Tensor::zeros([1], &parameter.dense()?.device());
        match std::mem::replace(&mut parameter.values, Values::Dense(placeholder)) {
            Values::Dense(values) => Some(values),
            Values::Frozen(_) => None,
        }
    }

    /// Names and parameters of the model in the order of the names, then those of the adapter.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.parameters.iter().chain(self.adapted())
    }

    fn adapted(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.adapter
            .iter()
            .flat_map(|adapter| adapter.parameters.iter())
    }

    /// Lets go of a head that the embedding serves as: it is no parameter, and files that repeat it get the embedding.
    pub fn tie_head(&mut self) {
        self.remove(HEAD);
    }

    /// Whether the files hold a head that is another table than the embedding; then it is the head, whatever config.json
    /// says of tying, as in transformers 5.
    #[must_use]
    pub const fn has_own_head(&self) -> bool {
        self.own_head
    }

    /// Takes a parameter out; the file layout is kept.
    pub fn remove(&mut self, name: &str) -> Option<Parameter> {
        self.parameters.remove(name)
    }

    /// Number of values in all parameters of the model, without an adapter's.
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters.values().map(Parameter::count).sum()
    }

    /// Bytes of all values of the model and its adapter as they are held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let bytes = |parameter: &Parameter| match &parameter.values {
            Values::Dense(_) => parameter.count() * 4,
            Values::Frozen(matrix) => FrozenMatrix::byte_count(matrix.shape(), matrix.storage()),
        };
        self.iter()
            .map(|(_, parameter)| bytes(parameter) as u64)
            .sum()
    }

    /// Whether every tensor that is held as f32 is stored as f32, so that a saved folder holds the values exactly.
    #[must_use]
    pub fn stored_exactly(&self) -> bool {
        self.adapter.is_some() || self.rounded().next().is_none()
    }

    /// Hub names of the parameters whose values the files round: f32 here, fewer bits there.
    pub fn rounded(&self) -> impl Iterator<Item = &String> {
        let stored = self.layout.files.iter().flat_map(|(_, tensors)| tensors);
        let rounded = stored.filter(|tensor| tensor.dtype != Dtype::F32);
        rounded.filter_map(|tensor| {
            let (name, parameter) = self.parameters.get_key_value(&tensor.hub_name)?;
            parameter.dense().map(|_| name)
        })
    }

    /// The same weights with gradients switched on for those that `trainable` accepts.
    #[must_use]
    pub fn tracked(&self, trainable: &dyn Fn(&str) -> bool) -> Self {
        let track = |(name, parameter): (&String, &Parameter)| {
            let values = match &parameter.values {
                Values::Dense(values) if trainable(name) => {
                    Values::Dense(values.clone().autodiff().require_grad())
                }
                values => values.clone(),
            };
            let shape = parameter.shape.clone();
            (name.clone(), Parameter { values, shape })
        };
        Self {
            parameters: self.parameters.iter().map(track).collect(),
            adapter: self.adapter.as_ref().map(|adapter| Adapter {
                config: Arc::clone(&adapter.config),
                parameters: adapter.parameters.iter().map(track).collect(),
            }),
            layout: Layout::default(),
            own_head: self.own_head,
        }
    }
}

impl Adapter {
    /// Whether it has a parameter of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.parameters.contains_key(name)
    }

    /// Names and parameters in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Parameter)> {
        self.parameters.iter()
    }
}

fn dense(values: Vec<f32>, shape: Vec<usize>, device: &Device) -> Parameter {
    let count = shape.iter().product::<usize>();
    Parameter {
        values: Values::Dense(Tensor::from_data(TensorData::new(values, [count]), device)),
        shape,
    }
}

/// Reads a tensor back as f32 values, where nothing can be done about a device that fails: inside of
/// [`crate::device::guard`], and in tests. Everything else uses [`crate::device::read_back`].
///
/// # Panics
/// With a [`crate::device::DeviceFailure`] if the device fails.
#[must_use]
pub fn host_values<const D: usize>(tensor: &Tensor<D>) -> Vec<f32> {
    crate::device::read_back(tensor).unwrap_or_else(|failure| std::panic::panic_any(failure))
}
