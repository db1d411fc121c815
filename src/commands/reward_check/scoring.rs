//! Completions of a file -> actions with rewards, in batches as training has them.

use anyhow::{Context, Result};

use super::completion_rows::CompletionRow;
use crate::actions::reward::{CharacterRange, Rewards, ScoreContext};
use crate::config::{RewardEntry, RewardFunction, Run};
use crate::data::prompt::{PromptEncoder, PromptOptions};
use crate::record::{Action, Example, FinishReason, ScoredAction, Source};
use crate::run::metrics::Progress;

/// The tokenizer of the configured model, if a reward looks at tokens and the model's folder is at hand.
pub(super) fn tokenizer(run: &Run) -> Option<PromptEncoder> {
    let looks_at_tokens = |entry: &RewardEntry| match entry {
        RewardEntry::Program(_) => true,
        RewardEntry::BuiltIn(function) => matches!(
            function,
            RewardFunction::SoftOverlongPunishment
                | RewardFunction::Cosine
                | RewardFunction::RepetitionPenalty
        ),
    };
    if !run.data.reward_funcs.iter().any(looks_at_tokens) {
        return None;
    }
    let opened = PromptEncoder::open(&run.model.model_name_or_path, &PromptOptions::default());
    if let Err(error) = &opened {
        let error = error.to_string().replace("\nhint: ", "; ");
        log::warn!(
            "without a tokenizer, rewards of tokens are null and `completion_ids` empty: {error}"
        );
    }
    opened.ok()
}

/// Scores the rows in order: those of one training step together, others in batches as large as a generation batch.
pub(super) fn score(
    rows: &[(&CompletionRow, &Example)],
    rewards: &mut Rewards,
    run: &Run,
    tokenizer: Option<&PromptEncoder>,
) -> Result<Vec<ScoredAction>> {
    let mut progress = Progress::start("reward-check", rows.len() as u64, 0);
    let mut scored = Vec::with_capacity(rows.len());
    for step in rows.chunk_by(|(row, _), (next, _)| row.step == next.step) {
        let number = step[0].0.step;
        let most = number.map_or(run.completions_per_generation(), |_| step.len());
        for part in step.chunks(most) {
            let context = ScoreContext {
                step: number.map_or(0, |number| number.saturating_sub(1) as usize),
                max_completion_length: run.sampling.max_completion_length,
                characters: CharacterRange::of(part.iter().map(|(row, _)| row.text.as_str())),
            };
            let batch = part
                .iter()
                .map(|(row, example)| Ok((vec![action(row, tokenizer)?], *example)))
                .collect::<Result<_>>()?;
            let groups = rewards.score_batch(batch, &context)?;
            scored.extend(groups.into_iter().flatten());
            part.iter().for_each(|_| progress.advance(""));
        }
    }
    progress.finish();
    Ok(scored)
}

fn action(row: &CompletionRow, tokenizer: Option<&PromptEncoder>) -> Result<Action> {
    let tokenise = |encoder: &PromptEncoder| {
        let place = || format!("{}: completion `{}`", row.origin, row.id);
        let mut ids = encoder.encode_completion(&row.text).with_context(place)?;
        let end = encoder.special().end_tokens.first();
        ids.extend(end.filter(|_| row.finish == FinishReason::Stop));
        anyhow::Ok(ids)
    };
    let token_ids = match (&row.token_ids, tokenizer) {
        (Some(ids), _) => ids.clone(),
        (None, Some(encoder)) => tokenise(encoder)?,
        (None, None) => Vec::new(),
    };
    Ok(Action {
        source: match row.source.as_deref() {
            None | Some("policy") => Source::Policy,
            Some(name) => Source::External(name.into()),
        },
        token_ids,
        text: row.text.clone(),
        sampling_logprobs: None,
        external_logprobs: None,
        external_logprob_sum: None,
        old_logprobs: None,
        finish: row.finish,
    })
}
