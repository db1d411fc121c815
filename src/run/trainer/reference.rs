//! The model that the KL term holds the policy to: the frozen start of the run, or one that follows the policy.

use std::path::Path;

use anyhow::{Context, Result};

use super::Trainer;
use crate::config::Run;
use crate::model::parameters::Weights;
use crate::run::checkpoint;
use crate::run::setup::{Opening, policy_place, policy_weights};

/// The reference, if there is a KL term: handles to the policy's own tensors on a fresh run; on a resumed one the start is
/// loaded again, and what the checkpoint kept of one that follows.
pub(super) fn open(run: &Run, opening: &Opening) -> Result<Option<Weights>> {
    if run.loss.beta == 0.0 {
        return Ok(None);
    }
    if run.adapter.use_peft {
        // The model under the adapter: no second copy of anything.
        return Ok(Some(opening.learner.weights.without_adapter()));
    }
    let Some(found) = &opening.checkpoint else {
        return Ok(Some(opening.learner.weights.clone()));
    };
    let device = &opening.device;
    let start = &run.model.model_name_or_path;
    // Held as the policy is, so that it rounds as the start did.
    let weights =
        policy_place(run, None).and_then(|place| Ok(policy_weights(run, &place, device)?.1));
    let mut weights = weights.with_context(|| {
        format!(
            "the KL term needs the start of the run, {}",
            start.display()
        )
    })?;
    if run.loss.sync_ref_model {
        checkpoint::restore_reference(&mut weights, &found.path, &device.device)?;
    }
    Ok(Some(weights))
}

impl Trainer {
    /// After a step: every `ref_model_sync_steps` of them the reference moves towards the policy
    /// (TRL `SyncRefModelCallback`; arXiv 2404.09656).
    pub(super) fn sync_reference(&mut self) {
        let keys = &self.run.loss;
        let due = keys.sync_ref_model
            && self
                .state
                .step()
                .is_multiple_of(keys.ref_model_sync_steps as u64);
        if let (true, Some(reference)) = (due, &mut self.reference) {
            mix(
                reference,
                &self.learner.weights,
                keys.ref_model_mixup_alpha as f32,
            );
        }
    }
}

/// Writes a reference that follows into a checkpoint.
pub(super) fn save(run: &Run, reference: Option<&Weights>, folder: &Path) -> Result<()> {
    let follows = run.loss.sync_ref_model && !run.output.save_only_model;
    if let (true, Some(reference)) = (follows, reference) {
        checkpoint::save_reference(reference, folder)?;
    }
    Ok(())
}

/// reference = alpha · policy + (1 - alpha) · reference, parameter by parameter.
fn mix(reference: &mut Weights, policy: &Weights, alpha: f32) {
    for (name, parameter) in policy.iter() {
        let Some(kept) = reference.get(name) else {
            continue;
        };
        // What is frozen is the same in both.
        if let (Some(policy), Some(kept)) = (parameter.dense(), kept.dense()) {
            let moved = policy.clone().mul_scalar(alpha);
            let mixed = kept.clone().mul_scalar(1.0 - alpha) + moved;
            reference.replace(name, mixed);
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::model::parameters::{Holding, host_values};

    #[test]
    fn the_reference_is_the_weighted_mean_of_both() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/public/qwen2vl-tiny");
        let policy =
            Weights::load(&folder, &Holding::trained(u64::MAX), &Device::flex()).expect("weights");
        let name = "model.norm.weight";
        let at = |weights: &Weights| host_values(weights.values(name).expect("a norm"));
        let start = at(&policy);
        let mut reference = policy.clone();
        let shifted = policy.values(name).expect("a norm").clone() + 1.0;
        reference.replace(name, shifted);
        mix(&mut reference, &policy, 0.75);
        for (found, start) in at(&reference).iter().zip(&start) {
            // 0.75 x + 0.25 (x + 1)
            assert!((found - start - 0.25).abs() < 1e-6, "{found} from {start}");
        }
        assert_eq!(at(&policy), start, "the policy stays");
        mix(&mut reference, &policy, 1.0);
        assert_eq!(at(&reference), start);
    }
}
