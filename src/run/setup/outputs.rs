//! What a run reads and what it writes, so that no file is both, and nothing of somebody else's is written over.
//!
//! Compares places, however they are spelt; opens and creates nothing.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use super::data_file;
use crate::config::{ExternalSource, RecordMode, Resume, Run};
use crate::run::folder::{EXTERNAL_CACHE_FILE, REJECTED_FILE, RUN_FILES};
use crate::system::files::{self, Existing, Named};

/// Every file that a run reads, with the key that names it; `config`: the configuration file.
#[must_use]
pub fn inputs(run: &Run, config: &Path) -> Vec<Named> {
    let mut inputs = vec![Named::new("the configuration", config)];
    let data = &run.data.dataset_name;
    for split in [&run.data.dataset_train_split, &run.data.dataset_test_split] {
        let file = data_file(data, split).unwrap_or_else(|_| data.clone());
        inputs.push(Named::new("`dataset_name`", &file));
    }
    let mut add = |what: &str, path: &Path| inputs.push(Named::new(what, path));
    for path in &run.evaluation.eval_dataset_name {
        add("`eval_dataset_name`", path);
    }
    if let Some(path) = &run.data.prompt_template {
        add("`prompt_template`", path);
    }
    if let Some(path) = &run.output.replay_rollouts {
        add("`replay_rollouts`", path);
    }
    model_files(&run.model.model_name_or_path).for_each(|file| add("`model_name_or_path`", &file));
    for external in &run.group.external {
        match &external.source {
            ExternalSource::Recorded { path } => add("`external`", path),
            ExternalSource::Local(local) => {
                model_files(&local.model_name_or_path).for_each(|file| add("`external`", &file));
            }
            ExternalSource::Endpoint(endpoint) => {
                let template = endpoint.prompt_template.iter();
                template.for_each(|path| add("`external`", path));
            }
            ExternalSource::Column { .. } => {}
        }
    }
    inputs
}

fn model_files(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

/// The record of endpoint answers: `external_cache`, or `external_cache.jsonl` in `output_dir`.
#[must_use]
pub fn external_cache(run: &Run) -> PathBuf {
    let default = || run.output.output_dir.join(EXTERNAL_CACHE_FILE);
    run.group.external_cache.clone().unwrap_or_else(default)
}

/// Makes sure that what a run writes is nothing that it reads, and that a dump is nobody else's file.
///
/// # Errors
/// The first output that would destroy something, with the keys of both.
pub fn check_outputs(run: &Run, config: &Path) -> Result<()> {
    let inputs = inputs(run, config);
    let folder = &run.output.output_dir;
    let mut outputs: Vec<Named> = RUN_FILES
        .iter()
        .chain(&[REJECTED_FILE])
        .map(|name| Named::new(&format!("`output_dir` ({name})"), &folder.join(name)))
        .collect();
    if run.group.external_cache_mode != RecordMode::Replay {
        outputs.push(Named::new("`external_cache`", &external_cache(run)));
    }
    if let Some(path) = &run.output.dump_rollouts {
        let dump = Named::new("`dump_rollouts`", path);
        dump.is_none_of(&outputs)?;
        outputs.push(dump);
    }
    for output in &outputs {
        // A run may be told by the configuration that it stored itself, which is read before it is written again.
        let own =
            |input: &&Named| input.path == config && output.path == folder.join("config.yaml");
        let read: Vec<Named> = inputs.iter().filter(|input| !own(input)).cloned().collect();
        output.is_none_of(&read)?;
    }
    if let (Some(path), Resume::No) = (
        &run.output.dump_rollouts,
        &run.output.resume_from_checkpoint,
    ) {
        Named::new("`dump_rollouts`", path).may_be_written(existing_dump(run))?;
    }
    policy_is_no_teacher(run)
}

/// What becomes of a dump that is there: it goes with the run that wrote it, or if its owner says so.
#[must_use]
pub fn existing_dump(run: &Run) -> Existing {
    let output = &run.output;
    let in_folder = |path: &PathBuf| files::is_within(path, &output.output_dir);
    let goes_with_run =
        output.overwrite_output_dir && output.dump_rollouts.as_ref().is_some_and(in_folder);
    Existing::from(output.overwrite || goes_with_run)
}

/// A folder of `output_dir` as an external model would be the policy itself, whatever way it is spelt.
fn policy_is_no_teacher(run: &Run) -> Result<()> {
    for external in &run.group.external {
        if let ExternalSource::Local(local) = &external.source
            && files::is_within(&local.model_name_or_path, &run.output.output_dir)
        {
            bail!(
                "`external` names {} as \"{}\", a folder of `output_dir`: an external model cannot be the policy in training\nhint: copy the checkpoint elsewhere, or use another model",
                local.model_name_or_path.display(),
                external.name
            );
        }
    }
    Ok(())
}
