//! From rows to scored pools: the examples of a step, the policy's own actions (drawn or replayed), the teachers'.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::Result;

use super::{GenerationBatch, SeenAhead, Trainer};
use crate::actions::generator::SamplingParameters;
use crate::actions::reward::{CharacterRange, ScoreContext};
use crate::actions::rollout;
use crate::actions::selection::{self, StepKey};
use crate::actions::teacher::TeacherError;
use crate::record::{Action, Example, Group, Prompt, Source};
use crate::run::metrics::step_report;
use crate::run::metrics::{Phase, PhaseTimer, StepMetrics};
use crate::run::rollout_file::RolloutRow;
use crate::run::setup::{self, PolicyCodec};

/// Sets the draws of external models apart from the policy's.
const TEACHERS: u64 = 0x7465_6163_6865_7273;

impl Trainer {
    /// The examples of the next generation batch, [Q], and their prompts.
    ///
    /// # Errors
    /// If a picture can no longer be read.
    pub fn next_prompts(&mut self) -> Result<(Vec<Arc<Example>>, Vec<Arc<Prompt>>)> {
        if let Some(seen) = self.seen_ahead.take() {
            self.state.position.data.cursor = seen.cursor;
            return Ok((seen.examples, seen.prompts));
        }
        let examples: Vec<Arc<Example>> = match self.replay.as_ref().and_then(VecDeque::front) {
            None => {
                let wanted = self.run.prompts_per_generation();
                let rows = self.state.position.data.cursor.next(wanted);
                rows.into_iter()
                    .map(|row| Arc::clone(&self.examples[row]))
                    .collect()
            }
            Some(groups) => self.replayed_examples(groups),
        };
        let prompts = setup::encode_all(&self.encoder, &examples)?;
        Ok((examples, prompts))
    }

    /// Reads the prompts of the next generation batch and tells the teachers of them, so that a slow one answers while the
    /// device learns. Does nothing where the gate waits for the policy's own actions.
    ///
    /// # Errors
    /// If a picture can no longer be read.
    pub fn look_ahead(&mut self, batch: &GenerationBatch) -> Result<()> {
        let next = self.next_step() + batch.cut.steps(batch.generation);
        let gate = &self.selection.external_when;
        let known = !self.teachers.is_empty() && self.replay.is_none() && !gate.waits_for_policy();
        if !known || next > self.state.position.state.max_steps {
            return Ok(());
        }
        let mut cursor = self.state.position.data.cursor.clone();
        let rows = cursor.next(self.run.prompts_per_generation());
        let examples: Vec<Arc<Example>> = rows
            .into_iter()
            .map(|row| Arc::clone(&self.examples[row]))
            .collect();
        let prompts = setup::encode_all(&self.encoder, &examples)?;
        let groups = empty_groups(&examples, &prompts);
        let key = StepKey {
            step: next - 1,
            ..self.key()
        };
        let open = selection::gate(&groups, gate, key);
        let seed = rollout::step_seed(self.run.runtime.seed ^ TEACHERS, next);
        self.teachers.prefetch(&asked(&groups, &open), seed);
        self.seen_ahead = Some(SeenAhead {
            cursor,
            examples,
            prompts,
        });
        Ok(())
    }

    /// A seed for the draws of one rollout: that of its step, and another one for every further rollout of the same step.
    const fn rollout_seed(&self, purpose: u64) -> u64 {
        let further = self.rollouts.wrapping_mul(0x2545_f491_4f6c_dd1d);
        rollout::step_seed(self.run.runtime.seed ^ purpose ^ further, self.next_step())
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
    /// If the policy's output is not finite or a reward cannot be had.
    pub fn sample(
        &mut self,
        examples: &[Arc<Example>],
        prompts: &[Arc<Prompt>],
        timer: &mut PhaseTimer,
    ) -> Result<Vec<Group>> {
        let mut groups = empty_groups(examples, prompts);
        if let Some(replayed) = self.replay.as_mut().and_then(VecDeque::pop_front) {
            self.state.position.data.replayed += 1;
            self.replay_into(&mut groups, replayed)?;
            timer.lap(Phase::Reward);
            return Ok(groups);
        }
        let parameters = SamplingParameters {
            seed: self.rollout_seed(0),
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
        timer.lap(Phase::Gen);
        let context = self.context_of(texts_of(&actions));
        self.score_into(&context, &mut groups, actions)?;
        timer.lap(Phase::Reward);
        Ok(groups)
    }

    /// Fills the pools with given tokens; a given reward stands, an absent one is scored.
    fn replay_into(&mut self, groups: &mut [Group], replayed: Vec<Vec<RolloutRow>>) -> Result<()> {
        let given: Vec<Vec<Option<f32>>> = replayed
            .iter()
            .map(|rows| rows.iter().map(|row| row.reward).collect())
            .collect();
        let actions = replayed.into_iter().map(|rows| {
            let actions = rows.into_iter().map(|row| self.replayed_action(row));
            actions.collect()
        });
        let actions: Vec<Vec<Action>> = actions.collect();
        let context = self.context_of(texts_of(&actions));
        self.score_into(&context, groups, actions)?;
        for (group, given) in groups.iter_mut().zip(given) {
            for (scored, given) in group.pool.iter_mut().zip(given) {
                scored.reward = given.or(scored.reward);
            }
        }
        Ok(())
    }

    fn replayed_action(&self, row: RolloutRow) -> Action {
        let source = if row.source == "policy" {
            Source::Policy
        } else {
            Source::External(row.source.as_str().into())
        };
        Action {
            source,
            text: self.encoder.decode(&row.completion_ids, true),
            finish: setup::finish_of(&row.completion_ids, &self.encoder.special().end_tokens),
            token_ids: row.completion_ids,
            sampling_logprobs: row.sampling_logprobs,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: row.old_logprobs,
        }
    }

    /// What an action's score depends on; the lengths of all completions of the batch, for the `length` reward.
    fn context_of<'a>(&self, texts: impl Iterator<Item = &'a str>) -> ScoreContext {
        ScoreContext {
            step: self.state.step() as usize,
            max_completion_length: self.run.sampling.max_completion_length,
            characters: CharacterRange::of(texts),
        }
    }

    /// Scores a batch of actions, [Q] lists, and adds them to the pools.
    fn score_into(
        &mut self,
        context: &ScoreContext,
        groups: &mut [Group],
        actions: Vec<Vec<Action>>,
    ) -> Result<()> {
        let examples: Vec<Arc<Example>> = groups
            .iter()
            .map(|group| Arc::clone(&group.example))
            .collect();
        let batch = actions.into_iter().zip(&examples);
        let batch = batch.map(|(actions, example)| (actions, example.as_ref()));
        let scored = self.rewards.score_batch(batch.collect(), context)?;
        for (group, scored) in groups.iter_mut().zip(scored) {
            group.pool.extend(scored);
        }
        Ok(())
    }

    /// Adds the external actions of the prompts whose gate is open; `None` if somebody asked to stop while they were
    /// awaited: the step is then not taken, and its rows come first when the run goes on.
    ///
    /// # Errors
    /// If a teacher fails or a reward cannot be had.
    pub fn ask_teachers(
        &mut self,
        groups: &mut [Group],
        open: &[bool],
        timer: &mut PhaseTimer,
    ) -> Result<Option<StepMetrics>> {
        let mut metrics = StepMetrics::new();
        if self.teachers.is_empty() || self.run.output.replay_rollouts.is_some() {
            timer.lap(Phase::External);
            return Ok(Some(metrics));
        }
        let limit = self.run.sampling.max_completion_length;
        let seed = self.rollout_seed(TEACHERS);
        let prompts = asked(groups, open);
        let answer = self
            .teachers
            .act(&prompts, seed, &PolicyCodec(&self.encoder), limit);
        if matches!(answer, Err(TeacherError::Stopped { .. })) {
            self.state.position.data = self.before.clone();
            return Ok(None);
        }
        let answer = answer?;
        self.teachers.release();
        timer.lap(Phase::External);
        metrics.insert(
            "external/gate_open_frac",
            prompts.len() as f64 / groups.len().max(1) as f64,
        );
        metrics.extend(&step_report::of_teachers(&answer.statistics));
        let asked = (0..groups.len()).filter(|index| open[*index]);
        let mut actions: Vec<Vec<Action>> = vec![Vec::new(); groups.len()];
        for (index, group) in asked.zip(answer.actions) {
            actions[index] = group;
        }
        let own = groups.iter().flat_map(|group| &group.pool);
        let own = own.map(|scored| scored.action.text.as_str());
        let context = self.context_of(own.chain(texts_of(&actions)));
        for group in groups.iter_mut() {
            for scored in &mut group.pool {
                self.rewards
                    .measure_length_again(scored, &group.example, &context);
            }
        }
        self.score_into(&context, groups, actions)?;
        timer.lap(Phase::Reward);
        Ok(Some(metrics))
    }
}

fn texts_of(actions: &[Vec<Action>]) -> impl Iterator<Item = &str> {
    actions.iter().flatten().map(|action| action.text.as_str())
}

/// A group per prompt, without actions.
fn empty_groups(examples: &[Arc<Example>], prompts: &[Arc<Prompt>]) -> Vec<Group> {
    let group = |(example, prompt): (&Arc<Example>, &Arc<Prompt>)| Group {
        example: Arc::clone(example),
        prompt: Arc::clone(prompt),
        pool: Vec::new(),
        selected: Vec::new(),
        advantages: Vec::new(),
    };
    examples.iter().zip(prompts).map(group).collect()
}

/// What the teachers are asked: the prompts whose gate is open.
fn asked<'a>(groups: &'a [Group], open: &[bool]) -> Vec<(&'a Example, &'a Prompt)> {
    let pairs = groups.iter().zip(open).filter(|(_, open)| **open);
    pairs
        .map(|(group, _)| (group.example.as_ref(), group.prompt.as_ref()))
        .collect()
}
