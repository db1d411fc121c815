//! `reward_funcs` becomes the rewards of a run.

use std::time::Duration;

use anyhow::Result;

use crate::actions::reward::{ProcessOptions, RewardOptions, RewardSource, Rewards};
use crate::config::{External, ExternalSource, RewardEntry, Run};

/// The rewards of the run; programs among them are started.
///
/// # Errors
/// If rewards and weights do not fit, or a program cannot be started.
pub fn rewards(run: &Run) -> Result<Rewards> {
    let hidden = key_variables(run);
    Ok(Rewards::new(RewardOptions {
        sources: run
            .data
            .reward_funcs
            .iter()
            .map(|entry| reward_source(entry, &hidden))
            .collect(),
        weights: run
            .data
            .reward_weights
            .iter()
            .map(|weight| *weight as f32)
            .collect(),
        pass_threshold: run.group.pass_threshold as f32,
        soft_punish_cache: run.data.soft_punish_cache,
    })?)
}

/// The environment variables that hold the keys of endpoints: none of a reward program's business.
fn key_variables(run: &Run) -> Vec<String> {
    let variable = |external: &External| match &external.source {
        ExternalSource::Endpoint(endpoint) => endpoint.api_key_env.clone(),
        _ => None,
    };
    run.group.external.iter().filter_map(variable).collect()
}

fn reward_source(entry: &RewardEntry, hidden: &[String]) -> RewardSource {
    match entry {
        RewardEntry::BuiltIn(function) => RewardSource::BuiltIn(*function),
        RewardEntry::Program(program) => RewardSource::Process(ProcessOptions {
            name: program.name.clone(),
            command: program.command.clone(),
            // More seconds than a duration holds are no limit.
            timeout: Duration::try_from_secs_f64(program.timeout_s).unwrap_or(Duration::MAX),
            max_restarts: program.max_restarts,
            measures_accuracy: program.measures_accuracy,
            pictures: program.pictures,
            hidden_variables: hidden.to_vec(),
        }),
    }
}
