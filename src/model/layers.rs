//! The small layers of the model as functions of their parameters, and how they are taken out of [`Weights`].
//!
//! Weights keep the layout of the files, [out, in]: a matrix product reads the transpose as it lies.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use burn::tensor::Tensor;

use super::config::ModelConfig;
use super::parameters::spec::{self, ParameterSpec};
use super::parameters::{Parameter, Values, Weights, WeightsError};
use crate::kernels::{WeightMatrix, dropout, rms_norm};

/// Takes parameters out of [`Weights`] and checks their shapes.
pub(crate) struct Source<'a> {
    /// The parameters.
    pub weights: &'a Weights,
    /// The checkpoint's folder, for messages.
    folder: &'a str,
    specs: BTreeMap<String, ParameterSpec>,
    /// What the masks of an adapter's dropout are drawn from; `None` outside of training.
    dropout_seed: Option<u64>,
    /// Names that were asked for.
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Source<'a> {
    /// All parameters of a model of these sizes, none taken yet.
    pub fn new(config: &ModelConfig, weights: &'a Weights, folder: &'a str) -> Self {
        let specs = spec::specs(config).into_iter();
        Self {
            weights,
            folder,
            specs: specs.map(|spec| (spec.name.clone(), spec)).collect(),
            dropout_seed: None,
            used: RefCell::default(),
        }
    }

    /// With the dropout of an adapter in training.
    pub const fn with_dropout(mut self, seed: Option<u64>) -> Self {
        self.dropout_seed = seed;
        self
    }

    /// Parameters that nobody has asked for, but buffers that follow from the configuration.
    pub fn unused(&self) -> Vec<&'a str> {
        let used = self.used.borrow();
        let names = self.weights.iter().map(|(name, _)| name.as_str());
        let is_adapter = |name: &str| name.contains(".lora_");
        names
            .filter(|name| !used.contains(*name) && !name.ends_with(".inv_freq"))
            .filter(|name| !is_adapter(name))
            .collect()
    }

    /// What to do about a tensor that is in none of the files.
    fn remedy(&self, name: &str) -> String {
        if name == "lm_head.weight" {
            return "config.json does not tie the head to the embedding: copy all weight files, or set `tie_word_embeddings` to true if the model has no head of its own".to_owned();
        }
        let ending = format!(".{name}");
        match self
            .weights
            .iter()
            .find(|(found, _)| found.ends_with(&ending))
        {
            Some((found, _)) => format!(
                "the files call it `{}`: save the model without what wraps it, so that names begin with `model.` or `visual.`",
                found.escape_debug()
            ),
            None => "the shards are incomplete, or config.json belongs to another model".to_owned(),
        }
    }

    fn missing(&self, name: &str) -> WeightsError {
        WeightsError::Missing {
            folder: self.folder.to_owned(),
            name: name.to_owned(),
            hint: self.remedy(name),
        }
    }

    fn checked(
        &self,
        name: &str,
        found: Option<&'a Parameter>,
    ) -> Result<&'a Parameter, WeightsError> {
        self.used.borrow_mut().insert(name.to_owned());
        let parameter = found.ok_or_else(|| self.missing(name))?;
        // A head that config.json ties but the files hold has the shape of the embedding.
        let listed = self.specs.get(name);
        let listed = listed.or_else(|| self.specs.get("model.embed_tokens.weight"));
        let expected = listed.map(|spec| spec.shape.as_slice()).unwrap_or_default();
        if parameter.shape == expected {
            return Ok(parameter);
        }
        Err(WeightsError::Shape {
            folder: self.folder.to_owned(),
            name: name.to_owned(),
            expected: expected.to_vec(),
            found: parameter.shape.clone(),
        })
    }

    /// The vector `name`.
    pub fn vector(&self, name: &str) -> Result<Tensor<1>, WeightsError> {
        let parameter = self.checked(name, self.weights.get(name))?;
        let values = parameter.dense().expect("vectors are held as tensors");
        Ok(values.clone())
    }

    /// The matrix `name`, whose file shape may have more than two axes; all but the first are flattened.
    pub fn matrix(&self, name: &str) -> Result<WeightMatrix, WeightsError> {
        let parameter = self.checked(name, self.weights.get(name))?;
        Ok(as_matrix(parameter))
    }

    /// The matrix of the model itself, whatever an adapter has in its place.
    pub fn base_matrix(&self, name: &str) -> Result<WeightMatrix, WeightsError> {
        let parameter = self.checked(name, self.weights.base(name))?;
        Ok(as_matrix(parameter))
    }

    /// `<name>.weight` [out, in], `<name>.bias` [out] where the model has one, and the adapter where there is one.
    pub fn linear(&self, name: &str) -> Result<Linear, WeightsError> {
        let weight = self.matrix(&format!("{name}.weight"))?;
        let bias = format!("{name}.bias");
        let bias = match self.specs.contains_key(&bias) {
            true => Some(self.vector(&bias)?),
            false => None,
        };
        Ok(Linear {
            weight,
            bias,
            adapter: self.adapter(name),
        })
    }

    fn adapter(&self, module: &str) -> Option<LowRank> {
        let adapter = self.weights.adapter()?;
        let factor = |letter: char| {
            let name = format!("{module}.lora_{letter}.weight");
            let parameter = self.weights.get(&name).filter(|_| adapter.has(&name))?;
            let [rows, columns] = parameter.shape[..].try_into().ok()?;
            Some(parameter.dense()?.clone().reshape([rows, columns]))
        };
        let rate = adapter.config.lora_dropout as f32;
        let seed = self.dropout_seed.filter(|_| rate > 0.0);
        Some(LowRank {
            down: factor('A')?,
            up: factor('B')?,
            scale: adapter.config.scale() as f32,
            dropout: seed.map(|seed| {
                let of_module = crate::seed::fnv1a(module.bytes());
                (rate, seed ^ of_module)
            }),
        })
    }
}

fn as_matrix(parameter: &Parameter) -> WeightMatrix {
    match &parameter.values {
        Values::Frozen(matrix) => WeightMatrix::Frozen(Arc::clone(matrix)),
        Values::Dense(values) => {
            let rows = parameter.shape[0];
            let columns = parameter.count() / rows.max(1);
            WeightMatrix::Dense(values.clone().reshape([rows, columns]))
        }
    }
}

/// y = x Wᵀ + b, and s·B(A x) where an adapter sits on it.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// [out, in]
    pub weight: WeightMatrix,
    /// [out]
    pub bias: Option<Tensor<1>>,
    /// What training adds.
    pub adapter: Option<LowRank>,
}

/// A low-rank adapter (LoRA, arXiv 2106.09685; PEFT's `lora.Linear`).
#[derive(Debug, Clone)]
pub(crate) struct LowRank {
    /// A: [r, in]
    down: Tensor<2>,
    /// B: [out, r]
    up: Tensor<2>,
    scale: f32,
    /// Rate and seed of the dropout before A.
    dropout: Option<(f32, u64)>,
}

impl Linear {
    /// # Shapes
    /// x [n, in] -> [n, out]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let added = self.adapter.as_ref().map(|adapter| adapter.of(x.clone()));
        let mut y = self.weight.linear(x);
        if let Some(bias) = &self.bias {
            y = y + bias.clone().unsqueeze::<2>();
        }
        match added {
            Some(added) => y + added,
            None => y,
        }
    }
}

impl LowRank {
    /// [n, in] -> [n, out]
    fn of(&self, x: Tensor<2>) -> Tensor<2> {
        let x = match self.dropout {
            Some((rate, seed)) => dropout(x, rate, seed),
            None => x,
        };
        let inner = x.matmul(self.down.clone().transpose());
        inner
            .mul_scalar(self.scale)
            .matmul(self.up.clone().transpose())
    }
}

/// Root-mean-square norm: x / sqrt(mean(x²) + eps) · w.
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm {
    /// [D]
    pub weight: Tensor<1>,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// # Shapes
    /// x [n, D] -> [n, D]
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        rms_norm(x, self.weight.clone(), self.eps)
    }
}

/// Layer norm with weight and bias: (x − mean) / sqrt(var + eps) · w + b, biased variance.
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm {
    /// [D]
    pub weight: Tensor<1>,
    /// [D]
    pub bias: Tensor<1>,
    /// Added to the variance.
    pub eps: f64,
}

impl LayerNorm {
    /// # Shapes
    /// x [.., D] -> [.., D]
    pub fn forward<const N: usize>(&self, x: Tensor<N>) -> Tensor<N> {
        let centered = x.clone() - x.mean_dim(N - 1);
        let scale = (centered.clone() * centered.clone())
            .mean_dim(N - 1)
            .add_scalar(self.eps)
            .sqrt()
            .recip();
        centered * scale * self.weight.clone().unsqueeze::<N>() + self.bias.clone().unsqueeze::<N>()
    }
}

/// Exact GELU, x · ½ (1 + erf(x/√2)), out of single operations: Burn's own has a backward that follows the tanh
/// approximation on GPUs, which puts an error of 3e-4 into every gradient behind it.
pub(crate) fn gelu<const N: usize>(x: Tensor<N>) -> Tensor<N> {
    let half_cumulative = x
        .clone()
        .mul_scalar(std::f64::consts::FRAC_1_SQRT_2)
        .erf()
        .add_scalar(1.0)
        .mul_scalar(0.5);
    x * half_cumulative
}
