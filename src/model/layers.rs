//! The small layers of the model as functions of their parameters, and how they are taken out of [`Weights`].
//!
//! Weights keep the layout of the files, [out, in]: a matrix product reads the transpose as it lies.

use std::cell::RefCell;
use std::collections::BTreeSet;

use burn::tensor::Tensor;

use super::weights::{Weights, WeightsError};
use crate::kernels::rms_norm;

/// Takes parameters out of [`Weights`] and checks their shapes.
pub(crate) struct Source<'a> {
    /// The parameters.
    pub weights: &'a Weights,
    /// The checkpoint's folder, for messages.
    pub folder: &'a str,
    /// Names that were asked for.
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Source<'a> {
    /// All parameters, none taken yet.
    pub fn new(weights: &'a Weights, folder: &'a str) -> Self {
        Self {
            weights,
            folder,
            used: RefCell::default(),
        }
    }

    /// Parameters that nobody has asked for, but buffers that follow from the configuration.
    pub fn unused(&self) -> Vec<&'a str> {
        let used = self.used.borrow();
        let names = self.weights.iter().map(|(name, _)| name.as_str());
        names
            .filter(|name| !used.contains(*name) && !name.ends_with(".inv_freq"))
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

    fn flat(&self, name: &str, expected: &[usize]) -> Result<Tensor<1>, WeightsError> {
        let folder = self.folder.to_owned();
        self.used.borrow_mut().insert(name.to_owned());
        let Some(parameter) = self.weights.get(name) else {
            return Err(WeightsError::Missing {
                folder,
                name: name.to_owned(),
                hint: self.remedy(name),
            });
        };
        if parameter.shape != expected {
            let (expected, found) = (expected.to_vec(), parameter.shape.clone());
            return Err(WeightsError::Shape {
                folder,
                name: name.to_owned(),
                expected,
                found,
            });
        }
        Ok(parameter.value.clone())
    }

    /// The vector `name` of `size` values.
    pub fn vector(&self, name: &str, size: usize) -> Result<Tensor<1>, WeightsError> {
        self.flat(name, &[size])
    }

    /// The matrix `name`, whose file shape may have more than two axes; all but the first are flattened.
    pub fn matrix(&self, name: &str, shape: &[usize]) -> Result<Tensor<2>, WeightsError> {
        let columns = shape[1..].iter().product::<usize>();
        Ok(self.flat(name, shape)?.reshape([shape[0], columns]))
    }

    /// `<name>.weight` [out, in] and, where there is one, `<name>.bias` [out].
    pub fn linear(
        &self,
        name: &str,
        [output, input]: [usize; 2],
        bias: bool,
    ) -> Result<Linear, WeightsError> {
        let weight = self.matrix(&format!("{name}.weight"), &[output, input])?;
        let bias = if bias {
            Some(self.vector(&format!("{name}.bias"), output)?)
        } else {
            None
        };
        Ok(Linear { weight, bias })
    }
}

/// y = x Wᵀ + b.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    /// [out, in]
    pub weight: Tensor<2>,
    /// [out]
    pub bias: Option<Tensor<1>>,
}

impl Linear {
    /// # Shapes
    /// x [.., in] -> [.., out]
    pub fn forward<const N: usize>(&self, x: Tensor<N>) -> Tensor<N> {
        let mut shape = x.dims();
        let [output, input] = self.weight.dims();
        let rows = shape.iter().product::<usize>() / input;
        let mut y = x
            .reshape([rows, input])
            .matmul(self.weight.clone().transpose());
        if let Some(bias) = &self.bias {
            y = y + bias.clone().unsqueeze::<2>();
        }
        shape[N - 1] = output;
        y.reshape(shape)
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
