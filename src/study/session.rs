//! One sitting of a study: runs that have no result yet are made, and each result is written as soon as it is whole.
//!
//! Composes plan, runner and results; trains nothing itself.

use std::collections::BTreeSet;

use anyhow::{Context, Result};

use super::gather::{self, Origin};
use super::machine;
use super::plan::{Plan, PlannedRun};
use super::runner::{Done, Outcome, Runner};
use super::settings::Base;
use crate::options::{DeviceApi, DeviceChoice};
use crate::run::metrics::Progress;
use crate::run::stop::STOP;
use crate::study::error::StudyError;
use crate::study::results::result::{MissingKind, MissingRun, RunResult};
use crate::study::results::result_file;

/// A sitting.
pub struct Session<'a> {
    base: &'a Base,
    plan: &'a Plan,
    /// Runs without a result.
    open: Vec<&'a PlannedRun>,
    outcomes: Vec<Outcome>,
}

impl<'a> Session<'a> {
    /// Looks which results there are; one that was made in another way is never overwritten.
    ///
    /// # Errors
    /// A result cannot be read, or is of another configuration.
    pub fn new(base: &'a Base, plan: &'a Plan) -> Result<Self, StudyError> {
        let mut open = Vec::new();
        for run in &plan.runs {
            if !run.result.exists() {
                open.push(run);
                continue;
            }
            let found = result_file::read(&run.result)?.config_digest;
            if found != run.digest {
                return Err(StudyError::OtherConfiguration {
                    path: run.result.clone(),
                    expected: run.digest.clone(),
                    found,
                });
            }
        }
        Ok(Self {
            base,
            plan,
            open,
            outcomes: vec![Outcome::NotRun; plan.tasks.len()],
        })
    }

    /// Makes the runs that are open, until all are done or somebody asks to stop.
    ///
    /// # Errors
    /// A process cannot be started, or a result cannot be written.
    pub fn run(&mut self, device: &DeviceChoice, jobs: Option<usize>) -> Result<()> {
        let cores = machine::cores();
        let jobs = jobs.unwrap_or_else(|| self.jobs(device, cores));
        let runner = Runner {
            program: std::env::current_exe().context("the program cannot be found")?,
            jobs,
            threads: (cores / jobs).max(1),
        };
        let origin = Origin {
            commit: machine::commit(),
            machine: machine::describe(),
        };
        log::info!(
            "{} of {} runs have no result yet; {jobs} processes of {} threads at a time, on {}",
            self.open.len(),
            self.plan.runs.len(),
            runner.threads,
            origin.machine
        );
        let (base, plan) = (self.base, self.plan);
        let tasks = self.open.iter().flat_map(|run| run.tasks.clone());
        let wanted: BTreeSet<usize> = tasks.collect();
        let mut waiting = self.open.clone();
        let mut progress = Progress::start("study", wanted.len() as u64, 0);
        let mut on_end = |task: Option<usize>, outcomes: &[Outcome]| {
            if let Some(task) = task {
                progress.advance(&plan.tasks[task].label);
                if let Outcome::Failed(reason) = &outcomes[task] {
                    log::error!("{}: {reason}", plan.tasks[task].label);
                }
            }
            let mut still = Vec::new();
            for run in std::mem::take(&mut waiting) {
                match done_of(run, outcomes) {
                    Some(done) => {
                        let result = gather::result((base, &origin), run, (&plan.tasks, &done))?;
                        result_file::write(&result, &run.result)?;
                        log::info!("{}", summary(&result));
                    }
                    None => still.push(run),
                }
            }
            waiting = still;
            Ok(())
        };
        self.outcomes = runner.run(&plan.tasks, &wanted, &STOP, &mut on_end)?;
        progress.finish();
        Ok(())
    }

    /// On the CPU, one process per core as long as the memory suffices; a GPU takes one.
    fn jobs(&self, device: &DeviceChoice, cores: usize) -> usize {
        let on_cpu = match device.api {
            DeviceApi::Cpu => true,
            DeviceApi::Auto => crate::device::adapters()
                .unwrap_or_default()
                .iter()
                .all(|adapter| crate::device::is_software(&adapter.get_info())),
            _ => false,
        };
        if !on_cpu {
            return 1;
        }
        let fitting = |gib: f64| (gib / self.base.process_gib) as usize;
        let fitting = machine::memory_gib().map_or(cores, fitting);
        cores.min(fitting).max(1)
    }

    /// Planned runs that still have no result, and why.
    #[must_use]
    pub fn missing(&self) -> Vec<MissingRun> {
        let runs = self.open.iter().filter(|run| !run.result.exists());
        runs.map(|run| {
            let failed = run
                .tasks
                .iter()
                .find_map(|task| match &self.outcomes[*task] {
                    Outcome::Failed(reason) => {
                        Some(format!("{}: {reason}", self.plan.tasks[*task].label))
                    }
                    _ => None,
                });
            let kind = match &failed {
                Some(_) => MissingKind::Failed,
                None => MissingKind::NotRun,
            };
            MissingRun {
                method: run.method.clone(),
                family: run.family,
                seed: run.seed,
                kind,
                reason: failed.unwrap_or_else(|| "not run yet".to_owned()),
            }
        })
        .collect()
    }
}

fn done_of<'a>(run: &PlannedRun, outcomes: &'a [Outcome]) -> Option<Vec<&'a Done>> {
    let done = run.tasks.iter().map(|task| match &outcomes[*task] {
        Outcome::Done(done) => Some(done),
        _ => None,
    });
    done.collect()
}

fn summary(result: &RunResult) -> String {
    let scores: Vec<String> = result
        .final_evaluations
        .iter()
        .map(|one| format!("{} {:.1} %", one.split, 100.0 * one.accuracy))
        .collect();
    let (title, family) = (&result.method.title, result.family.name());
    format!(
        "{title}, {family}, seed {}: {}",
        result.seed,
        scores.join(", ")
    )
}
