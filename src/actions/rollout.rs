//! The policy's own actions: asks a [`Generate`] for completions and turns tokens into text.
//!
//! Knows nothing of how tokens are drawn, scored or learnt from.

use std::sync::Arc;

use crate::actions::generator::{Generate, GenerateError, SamplingParameters};
use crate::record::{Action, Prompt, Source};
use crate::seed::split_mix;

/// `count` actions of the policy for each prompt, in order.
///
/// Tokens go to the learner as they were drawn and are never tokenised again; `decode` (special tokens skipped) only
/// makes the text that is scored.
///
/// # Errors
/// If the model's output is not finite or a prompt does not fit.
pub fn sample(
    policy: &dyn Generate,
    prompts: &[Arc<Prompt>],
    count: usize,
    parameters: &SamplingParameters,
    decode: &dyn Fn(&[u32]) -> String,
) -> Result<Vec<Vec<Action>>, GenerateError> {
    let groups = policy.generate(prompts, count, parameters)?;
    let action = |sampled: crate::actions::generator::Sampled| Action {
        source: Source::Policy,
        text: decode(&sampled.token_ids),
        token_ids: sampled.token_ids,
        sampling_logprobs: Some(sampled.logprobs),
        external_logprobs: None,
        external_logprob_sum: None,
        old_logprobs: None,
        finish: sampled.finish,
    };
    Ok(groups
        .into_iter()
        .map(|group| group.into_iter().map(action).collect())
        .collect())
}

/// The seed of one step's draws: the run's seed and the step, mixed so that neighbours share nothing.
#[must_use]
pub const fn step_seed(seed: u64, step: u64) -> u64 {
    split_mix(seed, step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actions::generator::Sampled;
    use crate::record::FinishReason;

    /// Writes the prompt's last token and the sample's number.
    struct Echo;

    impl Generate for Echo {
        fn generate(
            &self,
            prompts: &[Arc<Prompt>],
            count: usize,
            _: &SamplingParameters,
        ) -> Result<Vec<Vec<Sampled>>, GenerateError> {
            let one = |prompt: &Arc<Prompt>, index: usize| Sampled {
                token_ids: vec![prompt.input_ids[0], index as u32],
                logprobs: vec![-1.0, -2.0],
                finish: FinishReason::Stop,
            };
            Ok(prompts
                .iter()
                .map(|prompt| (0..count).map(|index| one(prompt, index)).collect())
                .collect())
        }
    }

    #[test]
    fn actions_stay_with_their_prompts() {
        let prompt = |id: u32| {
            let (id, input_ids) = (id.to_string(), vec![id]);
            Arc::new(Prompt {
                id,
                rendered: String::new(),
                input_ids,
                positions: vec![[0; 3]],
                rope_delta: 0,
                images: vec![],
            })
        };
        let parameters = SamplingParameters {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            max_new_tokens: 2,
            logprob_temperature: 1.0,
            end_tokens: vec![],
            suppressed: None,
            generation_rows: None,
            seed: 1,
        };
        let actions = sample(&Echo, &[prompt(7), prompt(9)], 2, &parameters, &|ids| {
            format!("{ids:?}")
        })
        .expect("echo");
        assert_eq!(
            actions[1][1].token_ids,
            [9, 1],
            "second prompt, second sample"
        );
        assert_eq!(actions[0][1].text, "[7, 1]", "decoded from the same ids");
    }

    #[test]
    fn seeds_of_steps_differ() {
        assert_ne!(
            step_seed(1, 0),
            step_seed(0, 1),
            "seed and step do not stand for each other"
        );
        assert_eq!(step_seed(42, 3), step_seed(42, 3), "and they repeat");
    }
}
