//! A user's reward: a program that is kept running and answers each batch of completions with one line of JSON
//! (conventions: section 6). Knows nothing of what the program computes, nor of groups, models or devices.
//!
//! A request is one line, an object of TRL's reward arguments (`GRPOTrainer._calculate_rewards`): `prompts`,
//! `completions`, `completion_ids` and every column of the rows as lists of equal length, `prompt_pictures` once per
//! prompt, `trainer_state`, and `request_number`. The answer is one line, `[1.0, null, 0.5]` or `{"rewards": [...]}`;
//! null = not applicable.
//!
//! What can happen by accident (the program ends, or does not answer in time) starts it again, `max_restarts` times for a
//! batch; an answer that breaks the protocol is a mistake in the program and ends the run at once. Neither is ever
//! taken for a reward of 0.

mod answer;
mod error;
mod messages;
mod pictures;
mod program;
mod request;

pub use error::{ProcessError, ProcessFault};
pub use program::end_processes;

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::actions::secret::{Secret, without};
use crate::options::RewardPictures;
use crate::record::{Action, Example};
use program::Program;

/// A program that rewards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessOptions {
    /// The name in every log.
    pub name: String,
    /// The program, by path or as found on `PATH`, and its arguments. It starts in the working directory of the run.
    pub command: Vec<String>,
    /// Longest time to the answer of a batch; of the first one counted with the rest of the program's start.
    pub timeout: Duration,
    /// Times that it is started again for one batch.
    pub max_restarts: usize,
    /// Whether its value says how right the answer is, so that it can decide whether an action passes.
    pub measures_accuracy: bool,
    /// How the pictures of a prompt reach it.
    pub pictures: RewardPictures,
    /// Environment variables that it does not get, because they hold keys; whatever it prints of these is removed.
    pub hidden_variables: Vec<String>,
}

/// A program in conversation with us; it ends with this value.
#[derive(Debug)]
pub(super) struct RewardProcess {
    options: ProcessOptions,
    program: Option<Program>,
    requests: u64,
    /// The keys in the hidden variables.
    secrets: Vec<Secret>,
}

impl RewardProcess {
    /// Starts the program, so that one that is not there is found before any work.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(options: ProcessOptions) -> Result<Self, ProcessError> {
        let secrets = options.hidden_variables.iter();
        let secrets = secrets
            .filter_map(|name| Secret::read(name, |name| std::env::var_os(name)).ok())
            .filter(|secret| !secret.is_placeholder());
        let mut process = Self {
            secrets: secrets.collect(),
            options,
            program: None,
            requests: 0,
        };
        match process.launch() {
            Ok(program) => process.program = Some(program),
            Err(fault) => return Err(process.error(fault, 0)),
        }
        Ok(process)
    }

    /// What it was started with.
    pub(super) fn options(&self) -> &ProcessOptions {
        &self.options
    }

    /// One value per action; `step` counts optimizer steps from 0.
    ///
    /// # Errors
    /// If the answer breaks the protocol, or there is none after the last restart.
    pub(super) fn score(
        &mut self,
        pairs: &[(&Action, &Example)],
        step: usize,
    ) -> Result<Vec<Option<f32>>, ProcessError> {
        if pairs.is_empty() {
            return Ok(Vec::new());
        }
        self.requests += 1;
        let line: Arc<[u8]> = match request::line(self.requests, pairs, step, self.options.pictures)
        {
            Ok(line) => line.into(),
            Err(fault) => return Err(self.error(fault, 0)),
        };
        let mut restarts = 0;
        loop {
            let fault = match self.attempt(&line, pairs) {
                Ok(values) => return Ok(values),
                Err(fault) => fault,
            };
            program::stand_still_if_ending();
            if !fault.is_accident() || restarts == self.options.max_restarts {
                return Err(self.error(fault, restarts));
            }
            restarts += 1;
            log::warn!(
                "reward `{}`: {fault}; it is started again ({restarts} of at most {} times for this batch)",
                self.options.name,
                self.options.max_restarts
            );
            self.program.take().map(Program::kill);
        }
    }

    fn attempt(
        &mut self,
        line: &Arc<[u8]>,
        pairs: &[(&Action, &Example)],
    ) -> Result<Vec<Option<f32>>, ProcessFault> {
        let mut program = match self.program.take() {
            Some(program) => program,
            None => self.launch()?,
        };
        let answer = program.ask(line, self.options.timeout);
        self.program = Some(program);
        let answer = answer?;
        let ids = |index: usize| pairs[index].1.id.clone();
        answer::read(&answer, self.requests, pairs.len(), &ids)
    }

    /// The fault with everything that a person needs to find its cause; the program is done for.
    fn error(&mut self, fault: ProcessFault, restarts: usize) -> ProcessError {
        let messages = self.program.take().map(Program::kill).unwrap_or_default();
        ProcessError {
            name: self.options.name.clone(),
            command: without(&self.secrets, &self.options.command.join(" ")),
            fault: Box::new(fault),
            restarts,
            messages,
        }
    }

    /// Starts the program with its three streams in our hands and without the keys in its environment.
    fn launch(&self) -> Result<Program, ProcessFault> {
        let Some((file, arguments)) = self.options.command.split_first() else {
            return Err(ProcessFault::NoCommand);
        };
        let mut command = Command::new(file);
        command.args(arguments);
        for variable in &self.options.hidden_variables {
            command.env_remove(variable);
        }
        // The same key may stand under a second name.
        for (variable, value) in std::env::vars_os() {
            let value = value.to_string_lossy();
            if self.secrets.iter().any(|secret| secret.is_in(&value)) {
                command.env_remove(variable);
            }
        }
        Program::start(command, &self.options.name, self.secrets.clone())
    }
}

#[cfg(test)]
mod tests;
