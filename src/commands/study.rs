//! `study`: every method on every family with every seed, each run once, and the report of all results.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::interrupts;
use super::say::{say, say_line};
use super::train::AFTER_STEP;
use crate::cli::StudyArguments;
use crate::study::plan::{LAST_CHECKPOINT, Plan, command_line};
use crate::study::report;
use crate::study::results::result::{Family, MissingKind, MissingRun};
use crate::study::results::result_file;
use crate::study::session::Session;
use crate::study::settings::{self, Base, MethodSettings, PartSettings};
use crate::study::site::Places;

/// `vision-ekipl study`.
pub(super) fn run(arguments: &StudyArguments) -> Result<()> {
    let base = settings::read_base(&base_file(arguments))?;
    let part = part(&base, arguments)?;
    let methods = methods(arguments, &part)?;
    let families = part
        .families
        .unwrap_or_else(|| base.families.keys().copied().collect());
    let count = part.seeds.unwrap_or(3);
    let last = arguments.first_seed.checked_add(count - 1).with_context(|| {
        format!(
            "--first-seed {} --seeds {count}: expected the last seed to be at most {}\nhint: take a smaller first seed",
            arguments.first_seed,
            u64::MAX
        )
    })?;
    let seeds: Vec<u64> = (arguments.first_seed..=last).collect();
    let results = arguments.results.clone();
    let places = Places {
        results: results.unwrap_or_else(|| arguments.output.join("results")),
        output: arguments.output.clone(),
        device: arguments.device.to_string(),
    };
    let plan = Plan::new(&base, &methods, (&families, &seeds), &places)?;
    if arguments.dry_run {
        return say(&plan_text(&plan));
    }
    std::fs::create_dir_all(&places.results)
        .with_context(|| format!("{}: cannot be created", places.results.display()))?;
    let mut session = Session::new(&base, &plan)?;
    if !arguments.report_only {
        interrupts::catch(AFTER_STEP)?;
        session.run(&arguments.device, arguments.jobs)?;
    }
    let missing = session.missing();
    let results = result_file::read_folder(&places.results)?;
    let out = arguments.report.clone();
    let out = out.unwrap_or_else(|| arguments.output.join("report"));
    let files = report::write_report(&results, &missing, &base.baseline, &out)?;
    say_line(&format!(
        "{}\n{}",
        files.markdown.display(),
        files.html.display()
    ))?;
    let failed: Vec<&MissingRun> = missing
        .iter()
        .filter(|run| run.kind == MissingKind::Failed)
        .collect();
    if let Some(first) = failed.first() {
        bail!(
            "{} of {} runs failed, the first: {}\nhint: correct the cause and run the same command again; what is done is kept",
            failed.len(),
            plan.runs.len(),
            first.reason
        );
    }
    Ok(())
}

fn base_file(arguments: &StudyArguments) -> PathBuf {
    let beside = || {
        let first = arguments.methods.first().and_then(|path| path.parent());
        first
            .map_or_else(PathBuf::new, PathBuf::from)
            .join("base/laptop.yaml")
    };
    arguments.base.clone().unwrap_or_else(beside)
}

/// What is asked for: the preset, with the flags over it.
fn part(base: &Base, arguments: &StudyArguments) -> Result<PartSettings> {
    let mut part = match &arguments.preset {
        None => PartSettings::default(),
        Some(name) => base.presets.get(name).cloned().with_context(|| {
            let known: Vec<&str> = base.presets.keys().map(String::as_str).collect();
            format!(
                "--preset {name}: expected one of {}\nhint: {} lists them",
                known.join(", "),
                base.path.display()
            )
        })?,
    };
    if !arguments.only.is_empty() {
        part.methods = Some(arguments.only.clone());
    }
    if !arguments.family.is_empty() {
        let named = |family: &Family| arguments.family.iter().any(|name| name == family.name());
        part.families = Some(Family::ALL.into_iter().filter(named).collect());
    }
    part.seeds = arguments.seeds.or(part.seeds);
    Ok(part)
}

fn methods(arguments: &StudyArguments, part: &PartSettings) -> Result<Vec<MethodSettings>> {
    let mut all = Vec::new();
    for path in &arguments.methods {
        all.push(settings::read_method(path)?);
    }
    let known: BTreeSet<String> = all.iter().map(|one| one.method.key.clone()).collect();
    if known.len() < all.len() {
        bail!(
            "two method files have the same name\nhint: the name is the method's key; rename one"
        );
    }
    if let Some(wanted) = &part.methods {
        if let Some(unknown) = wanted.iter().find(|key| !known.contains(*key)) {
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            bail!(
                "method `{unknown}`: expected one of the given files: {}\nhint: name its file too",
                known.join(", ")
            );
        }
        all.retain(|one| wanted.contains(&one.method.key));
    }
    all.sort_by_key(|one| one.method.order);
    Ok(all)
}

fn plan_text(plan: &Plan) -> String {
    let tasks = plan.tasks.iter();
    let mut text: String = tasks
        .map(|task| format!("# {}\n{}\n", task.label, command_line(&task.words)))
        .collect();
    text.push_str(&format!(
        "# {} runs, {} commands; {LAST_CHECKPOINT}FOLDER}} stands for the newest checkpoint of the folder\n",
        plan.runs.len(),
        plan.tasks.len()
    ));
    text
}
