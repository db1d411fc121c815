//! The Qwen2 language model: embedding, layers, final norm, head.
//!
//! Follows transformers' `Qwen2VLTextModel`. Tokens lie packed, [n, D]. Knows nothing of pictures (their embeddings arrive
//! mixed into the input), of caches (the caller answers the queries) or of sampling.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::config::TextConfig;
use super::layers::{Linear, RmsNorm, Source};
use super::rotary::Rotary;
use super::weights::WeightsError;
use crate::kernels::swiglu;

/// The language model's parameters.
#[derive(Debug, Clone)]
pub(crate) struct TextModel {
    /// Sizes.
    pub config: TextConfig,
    /// [V, D]
    pub embedding: Tensor<2>,
    /// [V, D]; the embedding itself in a tied model.
    pub head: Tensor<2>,
    layers: Vec<Layer>,
    norm: RmsNorm,
}

#[derive(Debug, Clone)]
struct Layer {
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
        let table = [config.vocab_size, config.hidden_size];
        let embedding = source.matrix("model.embed_tokens.weight", &table)?;
        let tied = config.tie_word_embeddings && !source.weights.has_own_head();
        let head = if tied {
            embedding.clone()
        } else {
            source.matrix("lm_head.weight", &table)?
        };
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::new(index, config, source))
            .collect::<Result<_, _>>()?;
        let norm = RmsNorm {
            weight: source.vector("model.norm.weight", config.hidden_size)?,
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
        self.embedding.clone().select(0, index_tensor(ids, device))
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
        self.norm.forward(hidden)
    }
}

impl Layer {
    fn new(index: usize, config: &TextConfig, source: &Source<'_>) -> Result<Self, WeightsError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let (queries, keys) = (
            config.num_attention_heads * config.head_dim,
            config.num_key_value_heads * config.head_dim,
        );
        let norm = |part: &str| -> Result<RmsNorm, WeightsError> {
            Ok(RmsNorm {
                weight: source.vector(&name(&format!("{part}.weight")), width)?,
                eps: config.rms_norm_eps,
            })
        };
        Ok(Self {
            input_norm: norm("input_layernorm")?,
            query: source.linear(&name("self_attn.q_proj"), [queries, width], true)?,
            key: source.linear(&name("self_attn.k_proj"), [keys, width], true)?,
            value: source.linear(&name("self_attn.v_proj"), [keys, width], true)?,
            output: source.linear(&name("self_attn.o_proj"), [width, queries], false)?,
            post_norm: norm("post_attention_layernorm")?,
            gate: source.linear(&name("mlp.gate_proj"), [inner, width], false)?,
            up: source.linear(&name("mlp.up_proj"), [inner, width], false)?,
            down: source.linear(&name("mlp.down_proj"), [width, inner], false)?,
        })
    }

    fn forward(
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
