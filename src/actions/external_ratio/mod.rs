//! How the tokens of external actions are learnt from (`external_ratio`): stamps each row of a batch with what the learner
//! needs; the learner never learns which scheme it was.
//!
//! Method: sections 2.5 and 2.6. A scheme is data: the clipped surrogate with an advantage, or a likelihood term with a
//! shape and coefficients, in the policy's part of the loss or in a supervised part of its own. Knows nothing of tensors,
//! files or how actions were selected.

mod importance;
mod supervised;

pub use importance::{effective_sample_size, self_normalised, sequence_weight, token_weights};

use std::collections::BTreeMap;

pub use crate::options::{ExternalRatio, SupervisedShare, WeightLevel};
use crate::record::{Component, Group, Likelihood, LikelihoodShape, Source, TokenBatch, TokenRow};

/// How external tokens are learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct ExternalRatioOptions {
    /// The scheme.
    pub ratio: ExternalRatio,
    /// LUFFY's gamma; `None` = no shaping.
    pub gamma: Option<f32>,
    /// Level of the importance weights.
    pub weight_level: WeightLevel,
    /// Cap of the importance weights.
    pub weight_cap: f64,
    /// CHORD's mu.
    pub share: SupervisedShare,
    /// Whether CHORD weighs tokens by p (1 - p).
    pub uncertainty_weighted: bool,
    /// `external_coef`: factor of the external part of the loss.
    pub coefficient: f32,
    /// Further factor per external model; 1 where absent.
    pub model_weights: BTreeMap<String, f32>,
}

/// What stamping found, for the logs.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ExternalRatioReport {
    /// Mean effective sample size of the groups with external actions, where there are importance weights.
    pub effective_sample_size: Option<f64>,
    /// Mean importance weight of external actions before normalisation.
    pub weight_mean: Option<f64>,
    /// CHORD's mu at this step.
    pub supervised_share: Option<f64>,
}

/// External actions that the scheme cannot use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExternalRatioError {
    /// No log-probabilities of the external model.
    #[error(
        "prompt `{prompt}`: the action of `{name}` has no log-probabilities of its own{detail}, which `external_ratio: {ratio}` needs\nhint: use external_ratio same, luffy, rl_plus, unit or chord, or a source that gives them"
    )]
    NoLogprobs {
        /// The prompt.
        prompt: String,
        /// The external model.
        name: String,
        /// For which tokens.
        detail: &'static str,
        /// The scheme.
        ratio: &'static str,
    },
}

impl ExternalRatio {
    /// Whether it needs log-probabilities of the external model, and those of the policy at rollout time.
    #[must_use]
    pub const fn needs_external_logprobs(self) -> bool {
        matches!(self, Self::Is | Self::Snis)
    }

    /// Whether external actions form a supervised part of the loss.
    #[must_use]
    pub const fn is_supervised(self) -> bool {
        matches!(self, Self::Chord | Self::Hpt | Self::SftSelected)
    }
}

/// After selection, before advantages: drops the selected actions that the scheme does not train on.
pub fn admit(groups: &mut [Group], ratio: ExternalRatio) {
    let rule: fn(&mut Group) = match ratio {
        ExternalRatio::Chord => supervised::keep_passing,
        ExternalRatio::Hpt => supervised::switch_to_demonstration,
        ExternalRatio::SftSelected => supervised::keep_external,
        _ => return,
    };
    groups.iter_mut().for_each(rule);
}

/// Stamps the external rows of a packed generation batch. `step` counts from 0.
///
/// # Errors
/// [`ExternalRatioError`] names the prompt and the external model.
pub fn stamp(
    batch: &mut TokenBatch,
    options: &ExternalRatioOptions,
    step: u64,
) -> Result<ExternalRatioReport, ExternalRatioError> {
    let mut report = ExternalRatioReport::default();
    if options.ratio.needs_external_logprobs() {
        weigh(batch, options, &mut report)?;
    }
    let share = options.share.at(step) as f32;
    if options.ratio == ExternalRatio::Chord {
        report.supervised_share = Some(f64::from(share));
    }
    for row in &mut batch.rows {
        match &row.source {
            Source::Policy if options.ratio == ExternalRatio::Chord => row.scale *= 1.0 - share,
            Source::Policy => {}
            Source::External(name) => {
                let weight = options
                    .model_weights
                    .get(name.as_ref())
                    .copied()
                    .unwrap_or(1.0);
                row.scale *= options.coefficient * weight;
                stamp_external(row, options, share);
            }
        }
    }
    Ok(report)
}

fn stamp_external(row: &mut TokenRow, options: &ExternalRatioOptions, share: f32) {
    let shape = match options.ratio {
        ExternalRatio::Same | ExternalRatio::Is | ExternalRatio::Snis => return,
        ExternalRatio::Luffy => options.gamma.map_or(LikelihoodShape::Probability, |gamma| {
            LikelihoodShape::Shaped { gamma }
        }),
        ExternalRatio::RlPlus => LikelihoodShape::ExplorationWeighted,
        ExternalRatio::Chord if options.uncertainty_weighted => {
            LikelihoodShape::UncertaintyWeighted
        }
        ExternalRatio::Unit
        | ExternalRatio::Chord
        | ExternalRatio::Hpt
        | ExternalRatio::SftSelected => LikelihoodShape::LogLikelihood,
    };
    // The clipped surrogate of these tokens is switched off by an advantage of 0; what it was becomes the coefficient.
    let tokens = row.advantages.len();
    let mut coefficients = std::mem::replace(&mut row.advantages, vec![0.0; tokens]);
    if options.ratio.is_supervised() {
        coefficients.fill(1.0);
        row.component = Component::Supervised;
        row.kl_weight = 0.0;
    }
    if options.ratio == ExternalRatio::Chord {
        row.scale *= share;
    }
    row.likelihood = Some(Likelihood {
        shape,
        coefficients,
    });
}

/// Importance weights on the advantages: w min(ρA, clip(ρ)A) = min(ρ wA, clip(ρ) wA) for w ≥ 0.
fn weigh(
    batch: &mut TokenBatch,
    options: &ExternalRatioOptions,
    report: &mut ExternalRatioReport,
) -> Result<(), ExternalRatioError> {
    let (mut sizes, mut weights_seen) = (Vec::new(), Vec::new());
    let prompts: Vec<String> = batch
        .prompts
        .iter()
        .map(|prompt| prompt.id.clone())
        .collect();
    for rows in batch.rows.chunk_by_mut(|a, b| a.prompt == b.prompt) {
        if rows.iter().all(|row| row.source == Source::Policy) {
            continue;
        }
        let mut weights = Vec::with_capacity(rows.len());
        for row in rows.iter_mut() {
            weights.push(row_weight(row, options, &prompts)?);
        }
        let external = rows
            .iter()
            .zip(&weights)
            .filter(|(row, _)| row.source != Source::Policy);
        weights_seen.extend(external.map(|(_, weight)| *weight));
        sizes.push(effective_sample_size(&weights));
        if options.ratio == ExternalRatio::Snis {
            weights = self_normalised(&weights);
        } else if options.weight_level == WeightLevel::Token {
            continue; // each token has been weighed
        }
        for (row, weight) in rows.iter_mut().zip(weights) {
            row.advantages
                .iter_mut()
                .for_each(|advantage| *advantage *= weight as f32);
        }
    }
    let mean = |values: &[f64]| {
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    };
    report.effective_sample_size = mean(&sizes);
    report.weight_mean = mean(&weights_seen);
    Ok(())
}

/// The weight of a whole row; at token level its tokens are weighed here and the mean is what logs see.
fn row_weight(
    row: &mut TokenRow,
    options: &ExternalRatioOptions,
    prompts: &[String],
) -> Result<f64, ExternalRatioError> {
    if row.source == Source::Policy {
        return Ok(1.0);
    }
    let missing = |detail| ExternalRatioError::NoLogprobs {
        prompt: prompts[row.prompt].clone(),
        name: row.source.name().to_owned(),
        detail,
        ratio: options.ratio.name(),
    };
    let sum = |values: &[f32]| values.iter().copied().map(f64::from).sum::<f64>();
    let old = row
        .old_logprobs
        .as_deref()
        .expect("the trainer fills them where the scheme needs them");
    if options.weight_level == WeightLevel::Token && options.ratio == ExternalRatio::Is {
        let external = row
            .external_logprobs
            .as_deref()
            .ok_or_else(|| missing(" for the policy's tokens"))?;
        let weights = token_weights(old, external, options.weight_cap);
        for (advantage, weight) in row.advantages.iter_mut().zip(&weights) {
            *advantage *= *weight as f32;
        }
        return Ok(weights.iter().sum::<f64>() / weights.len() as f64);
    }
    let external = row
        .external_logprobs
        .as_deref()
        .map(sum)
        .or(row.external_logprob_sum.map(f64::from));
    let external = external.ok_or_else(|| missing(""))?;
    Ok(sequence_weight(sum(old), external, options.weight_cap))
}

#[cfg(test)]
mod tests;
