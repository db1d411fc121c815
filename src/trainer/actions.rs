//! From rows to scored pools: the examples of a step, the policy's own actions (drawn or replayed), the teachers'.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;

use super::Trainer;
use crate::generator::SamplingParameters;
use crate::metrics::StepMetrics;
use crate::record::{Action, Example, Group, Prompt, Source};
use crate::reward::{CharacterRange, ScoreContext};
use crate::rollout;
use crate::rollout_file::RolloutRow;
use crate::setup::{self, PolicyCodec};

impl Trainer {
    /// The examples of the next generation batch, [Q], and their prompts.
    ///
    /// # Errors
    /// If a picture can no longer be read.
    pub fn next_prompts(&mut self) -> Result<(Vec<Arc<Example>>, Vec<Arc<Prompt>>)> {
        let examples: Vec<Arc<Example>> = match self.replay.as_ref().and_then(VecDeque::front) {
            None => {
                let rows = self.position.cursor.next(self.run.prompts_per_generation());
                rows.into_iter()
                    .map(|row| Arc::clone(&self.examples[row]))
                    .collect()
            }
            Some(groups) => self.replayed_examples(groups),
        };
        let prompts = setup::encode_all(&self.encoder, &examples)?;
        Ok((examples, prompts))
    }

    fn replayed_examples(&self, groups: &[Vec<RolloutRow>]) -> Vec<Arc<Example>> {
        let find = |rows: &Vec<RolloutRow>| {
            let found = self
                .examples
                .iter()
                .find(|example| example.id == rows[0].id);
            Arc::clone(found.expect("the reader of the file accepts no other id"))
        };
        groups.iter().map(find).collect()
    }

    /// The pool of each prompt with the policy's own actions in it: [Q] groups of N.
    ///
    /// # Errors
    /// If the policy's output is not finite.
    pub fn sample(
        &mut self,
        step: u64,
        examples: &[Arc<Example>],
        prompts: &[Arc<Prompt>],
    ) -> Result<Vec<Group>> {
        let group = |(example, prompt): (&Arc<Example>, &Arc<Prompt>)| Group {
            example: Arc::clone(example),
            prompt: Arc::clone(prompt),
            pool: Vec::new(),
            selected: Vec::new(),
            advantages: Vec::new(),
        };
        let mut groups: Vec<Group> = examples.iter().zip(prompts).map(group).collect();
        if let Some(replayed) = self.replay.as_mut().and_then(VecDeque::pop_front) {
            self.position.replayed += 1;
            for (group, rows) in groups.iter_mut().zip(replayed) {
                self.replay_into(group, rows, step);
            }
            return Ok(groups);
        }
        let seed = rollout::step_seed(self.run.runtime.seed, step);
        let parameters = SamplingParameters {
            seed,
            ..self.sampling.clone()
        };
        let policy = self.learner.policy()?;
        let decode = |ids: &[u32]| self.encoder.decode(ids, true);
        let actions = rollout::sample(
            &policy,
            prompts,
            self.run.group.num_generations,
            &parameters,
            &decode,
        )?;
        self.score_into(step, &mut groups, actions);
        Ok(groups)
    }

    /// Fills a pool with given tokens; a given reward stands, an absent one is scored.
    fn replay_into(&self, group: &mut Group, rows: Vec<RolloutRow>, step: u64) {
        for row in rows {
            let source = if row.source == "policy" {
                Source::Policy
            } else {
                Source::External(row.source.as_str().into())
            };
            let action = Action {
                source,
                text: self.encoder.decode(&row.completion_ids, true),
                finish: setup::finish_of(&row.completion_ids, &self.encoder.special().end_tokens),
                token_ids: row.completion_ids,
                sampling_logprobs: row.sampling_logprobs,
                external_logprobs: None,
                old_logprobs: row.old_logprobs,
            };
            let mut scored = self
                .rewards
                .score(action, &group.example, &self.context(step));
            scored.reward = row.reward.or(scored.reward);
            group.pool.push(scored);
        }
    }

    const fn context(&self, step: u64) -> ScoreContext {
        ScoreContext {
            step: (step - 1) as usize,
            max_completion_length: self.run.sampling.max_completion_length,
            characters: None,
        }
    }

    fn score_into(&self, step: u64, groups: &mut [Group], actions: Vec<Vec<Action>>) {
        let context = ScoreContext {
            characters: CharacterRange::of(
                actions.iter().flatten().map(|action| action.text.as_str()),
            ),
            ..self.context(step)
        };
        for (group, actions) in groups.iter_mut().zip(actions) {
            let score = |action| self.rewards.score(action, &group.example, &context);
            let scored: Vec<_> = actions.into_iter().map(score).collect();
            group.pool.extend(scored);
        }
    }

    /// Adds the external actions of the prompts whose gate is open.
    ///
    /// # Errors
    /// If a teacher fails.
    pub fn ask_teachers(
        &mut self,
        step: u64,
        groups: &mut [Group],
        open: &[bool],
    ) -> Result<StepMetrics> {
        let mut metrics = StepMetrics::new();
        if self.teachers.is_empty() || self.run.output.replay_rollouts.is_some() {
            return Ok(metrics);
        }
        let asked: Vec<usize> = (0..groups.len()).filter(|index| open[*index]).collect();
        let prompts: Vec<(&Example, &Prompt)> = asked
            .iter()
            .map(|index| {
                (
                    groups[*index].example.as_ref(),
                    groups[*index].prompt.as_ref(),
                )
            })
            .collect();
        let seed = rollout::step_seed(self.run.runtime.seed ^ 0x7465_6163_6865_7273, step);
        let limit = self.run.sampling.max_completion_length;
        let answer = self
            .teachers
            .act(&prompts, seed, &PolicyCodec(&self.encoder), limit)?;
        metrics.insert(
            "external/gate_open_frac",
            asked.len() as f64 / groups.len().max(1) as f64,
        );
        for teacher in &answer.statistics {
            for (reason, count) in &teacher.dropped {
                metrics.insert(
                    format!("external/{}/dropped/{}", teacher.name, reason.name()),
                    *count as f64,
                );
            }
            metrics.insert(
                format!("external/{}/tokens", teacher.name),
                teacher.tokens as f64,
            );
        }
        let mut actions: Vec<Vec<Action>> = vec![Vec::new(); groups.len()];
        for (index, group) in asked.into_iter().zip(answer.actions) {
            actions[index] = group;
        }
        self.score_into(step, groups, actions);
        Ok(metrics)
    }
}
