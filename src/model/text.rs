//! The Qwen2 language model: embedding, layers, final norm, head.
//!
//! Follows transformers' `Qwen2VLTextModel`. Tokens lie packed, [n, D]. Knows nothing of pictures (their embeddings arrive
//! mixed into the input), of caches (the caller answers the queries) or of sampling.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::TextConfig;
use super::layers::{Linear, RmsNorm, Source};
use super::parameters::WeightsError;
use super::rotary::Rotary;
use crate::kernels::{WeightMatrix, swiglu};

/// Hub name of the embedding.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Hub name of the head, where it is not the embedding.
pub(crate) const HEAD: &str = "lm_head.weight";
/// Hub name of the norm before the head.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";

/// The language model's parameters.
#[derive(Debug, Clone)]
pub(crate) struct TextModel {
    /// Sizes.
    pub config: TextConfig,
    /// [V, D]
    pub embedding: WeightMatrix,
    /// [V, D]; the embedding itself in a tied model.
    pub head: WeightMatrix,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

/// One layer.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    input_norm: RmsNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    post_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl TextModel {
    /// Takes the parameters out of the weights.
    pub fn new(config: &TextConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(index, config, source))
            .collect::<Result<_, _>>()?;
        let (embedding, head) = tables(config, source)?;
        let norm = RmsNorm {
            weight: source.vector(FINAL_NORM)?,
            eps: config.rms_norm_eps,
        };
        Ok(Self {
            config: config.clone(),
            embedding,
            head,
            layers,
            norm,
        })
    }

    /// Embeddings [n, D] of `ids`.
    pub fn embed(&self, ids: &[u32], device: &Device) -> Tensor<2> {
        self.embedding.gather(index_tensor(ids, device))
    }

    /// The hidden states before the head.
    ///
    /// `attend(layer, queries [n, H, E], keys [n, K, E], values [n, K, E])` gives [n, H, E].
    ///
    /// # Shapes
    /// x [n, D] -> [n, D]
    pub fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        mut attend: impl FnMut(usize, [Tensor<3>; 3]) -> Tensor<3>,
    ) -> Tensor<2> {
        let mut hidden = x;
        for (index, layer) in self.layers.iter().enumerate() {
            hidden = layer.forward(hidden, rotary, &self.config, |parts| attend(index, parts));
        }
        self.finish(hidden)
    }

    /// One layer after the other.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// The norm before the head, [n, D] -> [n, D].
    pub fn finish(&self, states: Tensor<2>) -> Tensor<2> {
        self.norm.forward(states)
    }
}

/// Embedding and head [V, D].
///
/// In a tied model the head is the embedding of the model itself: an adapter that trains a copy of one leaves the other
/// alone, as in PEFT.
fn tables(
    config: &TextConfig,
    source: &Source<'_>,
) -> Result<(WeightMatrix, WeightMatrix), WeightsError> {
    let embedding = source.matrix(EMBEDDING)?;
    let adapter = source.weights.adapter();
    let has_copy = |name: &str| adapter.is_some_and(|adapter| adapter.has(name));
    let tied = config.tie_word_embeddings && !source.weights.has_own_head();
    let head = if !tied || has_copy(HEAD) {
        source.matrix(HEAD)?
    } else if has_copy(EMBEDDING) {
        source.base_matrix(EMBEDDING)?
    } else {
        embedding.clone()
    };
    Ok((embedding, head))
}

impl Layer {
    /// Takes the parameters of layer `index`.
    pub fn new(
        index: usize,
        config: &TextConfig,
        source: &Source<'_>,
    ) -> Result<Self, WeightsError> {
        let name = |part: &str| format!("{}{part}", layer_prefix(index));
        let norm = |part: &str| -> Result<RmsNorm, WeightsError> {
            Ok(RmsNorm {
                weight: source.vector(&name(&format!("{part}.weight")))?,
                eps: config.rms_norm_eps,
            })
        };
        let linear = |part: &str| source.linear(&name(part));
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            query: linear("self_attn.q_proj")?,
            key: linear("self_attn.k_proj")?,
            value: linear("self_attn.v_proj")?,
            output: linear("self_attn.o_proj")?,
            post_norm: norm("post_attention_layernorm")?,
            gate: linear("mlp.gate_proj")?,
            up: linear("mlp.up_proj")?,
            down: linear("mlp.down_proj")?,
        })
    }

    /// # Shapes
    /// x [n, D] -> [n, D]
    pub fn forward(
        &self,
        x: Tensor<2>,
        rotary: &Rotary,
        config: &TextConfig,
        attend: impl FnOnce([Tensor<3>; 3]) -> Tensor<3>,
    ) -> Tensor<2> {
        let [count, _] = x.dims();
        let heads =
            |projected: Tensor<2>, heads: usize| projected.reshape([count, heads, config.head_dim]);
        let normed = self.input_norm.forward(x.clone());
        let queries = heads(
            self.query.forward(normed.clone()),
            config.num_attention_heads,
        );
        let keys = heads(self.key.forward(normed.clone()), config.num_key_value_heads);
        let values = heads(self.value.forward(normed), config.num_key_value_heads);
        let attended = attend([rotary.apply(queries), rotary.apply(keys), values]);
        let width = config.num_attention_heads * config.head_dim;
        let hidden = x + self.output.forward(attended.reshape([count, width]));
        let normed = self.post_norm.forward(hidden.clone());
        let gated = swiglu(self.gate.forward(normed.clone()), self.up.forward(normed));
        hidden + self.down.forward(gated)
    }
}

/// What the names of layer `index` begin with.
pub(crate) fn layer_prefix(index: usize) -> String {
    format!("model.layers.{index}.")
}

/// Ids or row numbers as an integer tensor.
///
/// # Panics
/// If one is 2^31 or more.
pub(crate) fn index_tensor(ids: &[u32], device: &Device) -> Tensor<1, Int> {
    let values: Vec<i32> = ids
        .iter()
        .map(|id| i32::try_from(*id).unwrap_or_else(|_| panic!("{id} is no row of a tensor")))
        .collect();
    Tensor::from_data(TensorData::new(values, [ids.len()]), device)
}

/// [V] flags as a tensor of 0 and 1.
pub(crate) fn flag_tensor(flags: &[bool], device: &Device) -> Tensor<1> {
    let values: Vec<f32> = flags
        .iter()
        .map(|flag| f32::from(u8::from(*flag)))
        .collect();
    Tensor::from_data(TensorData::new(values, [flags.len()]), device)
}
