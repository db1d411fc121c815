//! Draws the next token of every row: temperature, top-k, top-p, min-p, the draw and the log-probability in one pass.
//! It knows neither the model nor what a token means; the random numbers come from the caller.

mod backends;
mod twin;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, Dispatch, backend_extension};
use burn::tensor::Tensor;

use super::shape_check::ShapeCheck;
use super::temperature::TEMPERATURES;

pub(crate) use backends::shaders;
pub use twin::sample_weights;

/// Id of a row in which some logit is NaN or +infinity.
pub const NOT_FINITE_TOKEN: f32 = -1.0;
/// Id of a row in which every token is suppressed or -infinity.
pub const NO_TOKEN: f32 = -2.0;
/// Largest vocabulary: ids above it are not exact as f32.
const MAX_VOCABULARY: usize = 1 << 24;

/// How the next token is drawn; names and meanings are those of transformers' `GenerationConfig`.
#[derive(Debug, Clone, PartialEq)]
pub struct SampleOptions {
    /// Logits are divided by it; 0 takes the most likely token, the lowest id among equals.
    pub temperature: f32,
    /// Keeps the k most likely tokens and all equal to the last of them; 0 = off.
    pub top_k: usize,
    /// Keeps the most likely tokens up to this share of the probability, in (0, 1]; 1 = off.
    pub top_p: f32,
    /// Keeps tokens at least this fraction as likely as the most likely one, in [0, 1]; 0 = off.
    pub min_p: f32,
    /// The returned log-probability is of logits divided by this, without suppressed tokens and without the filters.
    pub logprob_temperature: f32,
}

impl Default for SampleOptions {
    /// Draws from the plain distribution.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            logprob_temperature: 1.0,
        }
    }
}

/// An option outside of its range.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("`{name}` is {value}; expected {expected}\nhint: {hint}")]
pub struct SampleOptionsError {
    name: &'static str,
    value: f32,
    expected: &'static str,
    hint: &'static str,
}

impl SampleOptions {
    /// Checks every range.
    ///
    /// # Errors
    /// The first option that is outside of its range.
    pub fn check(&self) -> Result<(), SampleOptionsError> {
        let rules = [
            (
                "temperature",
                self.temperature,
                self.temperature == 0.0 || TEMPERATURES.contains(&self.temperature),
                "0, or 1e-6 to 1e6",
                "0 is greedy, 1 is unscaled",
            ),
            (
                "top_p",
                self.top_p,
                self.top_p > 0.0 && self.top_p <= 1.0,
                "more than 0, at most 1",
                "1 is off",
            ),
            (
                "min_p",
                self.min_p,
                (0.0..=1.0).contains(&self.min_p),
                "0 to 1",
                "0 is off",
            ),
            (
                "logprob_temperature",
                self.logprob_temperature,
                TEMPERATURES.contains(&self.logprob_temperature),
                "1e-6 to 1e6",
                "use 1 with greedy decoding",
            ),
        ];
        match rules
            .into_iter()
            .find(|&(_, value, holds, ..)| !holds || !value.is_finite())
        {
            Some((name, value, _, expected, hint)) => Err(SampleOptionsError {
                name,
                value,
                expected,
                hint,
            }),
            None => Ok(()),
        }
    }

    /// The share of probability that top-p may drop, in f32: 1 - 0.9 is that of the decimal number that was written,
    /// as in Python, not of the f32 nearest to it.
    fn drop_share(&self) -> f32 {
        let written = self
            .top_p
            .to_string()
            .parse::<f64>()
            .unwrap_or(f64::from(self.top_p));
        (1.0 - written) as f32
    }
}

/// Draws one token per row.
///
/// # Shapes
/// - `logits` [B, V], `uniforms` [B] in [0, 1), `suppressed` [V] (1 = never drawn, and outside of the softmax)
/// - result [B, 2]: the id, exact as f32, and its log-probability under `logprob_temperature`
///
/// The id is [`NOT_FINITE_TOKEN`] where a logit that is not suppressed is NaN or +infinity and [`NO_TOKEN`] where no
/// token may be drawn; the caller must turn both into errors. A logit of -infinity counts as suppressed.
///
/// Filters follow transformers' `TopKLogitsWarper`, `TopPLogitsWarper` and `MinPLogitsWarper` in this order, equal
/// logits included. The draw is the inverse CDF over the survivors in id order, so a seed gives the same tokens.
///
/// # Errors
/// If an option is outside of its range ([`SampleOptions::check`]).
///
/// # Panics
/// On shapes that disagree, or a vocabulary of 2^24 or more.
pub fn sample_token(
    logits: Tensor<2>,
    uniforms: Tensor<1>,
    suppressed: Option<Tensor<1>>,
    options: &SampleOptions,
) -> Result<Tensor<2>, SampleOptionsError> {
    let check = ShapeCheck::new("sample_token")
        .tensor("logits", "BV", &logits.dims())
        .tensor("uniforms", "B", &uniforms.dims());
    if let Some(suppressed) = &suppressed {
        check.tensor("suppressed", "V", &suppressed.dims());
    }
    let [rows, vocabulary] = logits.dims();
    assert!(
        vocabulary < MAX_VOCABULARY,
        "sample_token: V is {vocabulary}, expected less than {MAX_VOCABULARY}"
    );
    options.check()?;
    if rows == 0 || vocabulary == 0 {
        return Ok(Tensor::full([rows, 2], NO_TOKEN, &logits.device()));
    }
    // A kernel needs a buffer for every binding; four zeros, one word of it, mean that nothing is suppressed.
    let suppressed = suppressed.unwrap_or_else(|| Tensor::zeros([4], &logits.device()));
    Ok(Tensor::from_dispatch(Dispatch::sample_token(
        logits.into_dispatch(),
        uniforms.into_dispatch(),
        suppressed.into_dispatch(),
        options.clone(),
    )))
}

/// The operation on each backend.
#[backend_extension(Cube, Flex, Autodiff)]
pub trait SampleTokenOps: Backend {
    /// [`sample_token`] on checked inputs; `suppressed` is [V], or [4] zeros for none.
    fn sample_token(
        logits: FloatTensor<Self>,
        uniforms: FloatTensor<Self>,
        suppressed: FloatTensor<Self>,
        options: SampleOptions,
    ) -> FloatTensor<Self>;
}
