//! From settings to the commands of a study: what each run takes, which commands runs share, and where results go.
//!
//! Starts nothing. A command has a folder or a marker of its own, so that what is done is found again; its name carries
//! a digest of everything that it depends on, so that what was done otherwise is not mistaken for it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::settings::{Base, MethodSettings, StageCommand};
use super::site::{Places, Site, digest_of, flag_text, with_files, words};
use crate::study::error::StudyError;
use crate::study::results::result::{Family, Method};

/// Stands for the newest checkpoint of the folder that follows, until `}`.
pub const LAST_CHECKPOINT: &str = "{last:";

/// The test of a finished run: greedy, on every row, whatever the evaluations during training take.
const ALL_ROWS: [(&str, &str); 2] = [("eval_temperature", "0"), ("max_eval_samples", "null")];

/// One command, run once.
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// What a person reads about it.
    pub label: String,
    /// Arguments of the program; a word may hold [`LAST_CHECKPOINT`].
    pub words: Vec<String>,
    /// Written when it is done.
    pub marker: PathBuf,
    /// Tasks that come first.
    pub after: Vec<usize>,
}

/// One method on one family with one seed.
#[derive(Debug, Clone)]
pub struct PlannedRun {
    /// The method.
    pub method: Method,
    /// The family.
    pub family: Family,
    /// The seed.
    pub seed: u64,
    /// Its result.
    pub result: PathBuf,
    /// Digest of everything that it depends on.
    pub digest: String,
    /// What the last stage starts from, in words.
    pub start: String,
    /// Every command, in order.
    pub tasks: Vec<usize>,
    /// The stages among them.
    pub stages: Vec<usize>,
    /// Output folder and command of the last stage; nothing without stages.
    pub trained: Option<(PathBuf, StageCommand)>,
    /// Where the evaluations lie: greedy, and many samples per row.
    pub evaluations: (PathBuf, Option<PathBuf>),
}

/// Everything that a study does.
#[derive(Debug, Default)]
pub struct Plan {
    /// Commands; each comes after those that it needs.
    pub tasks: Vec<Task>,
    /// Runs, seed by seed.
    pub runs: Vec<PlannedRun>,
    known: BTreeMap<PathBuf, usize>,
}

/// The line that a person types.
#[must_use]
pub fn command_line(words: &[String]) -> String {
    let quoted = words.iter().map(|word| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-/,=:+".contains(c);
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    });
    let words: Vec<String> = quoted.collect();
    format!("vision-ekipl {}", words.join(" "))
}

impl Plan {
    /// Plans every method on every family with every seed.
    ///
    /// # Errors
    /// A configuration file cannot be read, a method names an unknown counterpart, or external models are asked for
    /// where the family has none.
    pub fn new(
        base: &Base,
        methods: &[MethodSettings],
        (families, seeds): (&[Family], &[u64]),
        places: &Places,
    ) -> Result<Self, StudyError> {
        let mut plan = Self::default();
        for seed in seeds {
            for family in families {
                let Some(settings) = base.families.get(family) else {
                    return Err(StudyError::Settings {
                        path: base.path.clone(),
                        message: format!("`families.{}`: expected, not found", family.name()),
                    });
                };
                let site = Site::new(base, settings, (*family, *seed), places)?;
                let prepared = plan.prepare(&site);
                for method in methods {
                    plan.add_run(&site, method, &prepared)?;
                }
            }
        }
        Ok(plan)
    }

    fn prepare(&mut self, site: &Site) -> Vec<usize> {
        let family = site.family_name.name();
        let mut tasks = self.add_lines(site, (family, &site.shared), &site.family.shared, &[]);
        tasks.extend(self.add_lines(
            site,
            (&site.name, &site.folder),
            &site.family.prepare,
            &tasks,
        ));
        tasks
    }

    /// Commands that are written out, one after the other.
    fn add_lines(
        &mut self,
        site: &Site,
        (name, folder): (&str, &Path),
        lines: &[String],
        before: &[usize],
    ) -> Vec<usize> {
        let mut tasks: Vec<usize> = Vec::new();
        for (index, line) in lines.iter().enumerate() {
            let words: Vec<String> = line
                .split_whitespace()
                .map(|word| site.fill(word))
                .collect();
            let task = Task {
                label: format!("{name}: prepare {}", words[0]),
                words: site.with_device(words),
                marker: folder.join(format!("prepare-{}.json", index + 1)),
                after: tasks
                    .last()
                    .or_else(|| before.last())
                    .copied()
                    .into_iter()
                    .collect(),
            };
            tasks.push(self.add(task));
        }
        tasks
    }

    fn add(&mut self, task: Task) -> usize {
        *self.known.entry(task.marker.clone()).or_insert_with(|| {
            self.tasks.push(task);
            self.tasks.len() - 1
        })
    }

    fn add_run(
        &mut self,
        site: &Site,
        method: &MethodSettings,
        prepared: &[usize],
    ) -> Result<(), StudyError> {
        let mut tasks = prepared.to_vec();
        let mut stages = Vec::new();
        let mut model = site.fill(&site.family.model_name_or_path);
        let mut digest = site.digest.clone();
        let mut trained = None;
        for (index, stage) in method.stages.iter().enumerate() {
            let config = site.config(stage.command);
            let keys = site.keys((stage, index), &method.method.key)?;
            let lines: Vec<String> = keys
                .iter()
                .map(|(key, value)| format!("{key} {value}"))
                .collect();
            digest = digest_of(&[&digest, &config.text, &with_files(&lines, &site.here)?]);
            let folder = site
                .folder
                .join(format!("{}-{digest}", stage.command.name()));
            let mut flags = vec![
                ("model_name_or_path", model),
                ("dataset_name", site.fill(&site.family.dataset_name)),
                ("eval_dataset_name", site.test_files()),
                ("output_dir", folder.display().to_string()),
                ("seed", site.seed.to_string()),
            ];
            flags.extend(
                keys.iter()
                    .map(|(key, value)| (key.as_str(), site.fill(value))),
            );
            let task = self.add(Task {
                label: format!(
                    "{}: {} of {}",
                    site.name,
                    stage.command.name(),
                    method.method.title
                ),
                words: site.with_device(words(stage.command.name(), &config.path, &flags)),
                marker: folder.join("study-task.json"),
                after: tasks.last().copied().into_iter().collect(),
            });
            tasks.push(task);
            stages.push(task);
            model = format!("{LAST_CHECKPOINT}{}}}", folder.display());
            trained = Some((folder, stage.command));
        }
        let folder = trained.as_ref().map_or_else(
            || site.folder.join("start-evaluation"),
            |(folder, _)| folder.clone(),
        );
        let evaluations = self.evaluate(site, method, (&model, &folder), &mut tasks);
        let key = &method.method.key;
        let file = format!("{key}-{}-seed-{}.json", site.family_name.name(), site.seed);
        let tested = format!(
            "{:?}{:?}{ALL_ROWS:?}",
            site.family.tests, site.base.pass_at_k
        );
        let tested = format!("{tested}{}", method.pass_at_k);
        self.runs.push(PlannedRun {
            method: method.method.clone(),
            family: site.family_name,
            seed: site.seed,
            result: site.places.results.join(file),
            digest: digest_of(&[&digest, &tested, &site.train.text]),
            start: match stages.len() {
                0 | 1 => "the family's model".to_owned(),
                count => format!("the family's model after {} stage before", count - 1),
            },
            tasks,
            stages,
            trained,
            evaluations,
        });
        Ok(())
    }

    /// One after the other: greedy on all rows, then many samples of some.
    fn evaluate(
        &mut self,
        site: &Site,
        method: &MethodSettings,
        (model, folder): (&str, &Path),
        tasks: &mut Vec<usize>,
    ) -> (PathBuf, Option<PathBuf>) {
        let pass = &site.base.pass_at_k;
        let many = vec![
            ("max_eval_samples", pass.rows.to_string()),
            ("num_generations_eval", pass.samples.to_string()),
            ("eval_temperature", pass.temperature.to_string()),
            ("top_p", pass.top_p.to_string()),
        ];
        let greedy = ALL_ROWS
            .map(|(key, value)| (key, value.to_owned()))
            .to_vec();
        let kinds = [("evaluation", greedy), ("pass-at-k", many)];
        let count = 1 + usize::from(method.pass_at_k);
        let mut files = Vec::new();
        for (name, own) in kinds.into_iter().take(count) {
            let file = folder.join(format!("{name}.json"));
            let mut flags = vec![
                ("model", model.to_owned()),
                ("output", file.display().to_string()),
                ("overwrite", "true".to_owned()),
                ("dataset_name", site.fill(&site.family.dataset_name)),
                ("eval_dataset_name", site.test_files()),
                ("output_dir", folder.display().to_string()),
                ("seed", site.seed.to_string()),
            ];
            let shared = site.family.keys.iter();
            let shared = shared.map(|(key, value)| (key.as_str(), site.fill(&flag_text(value))));
            flags.extend(shared.filter(|(key, _)| own.iter().all(|(taken, _)| taken != key)));
            flags.extend(own);
            let task = self.add(Task {
                label: format!("{}: {name} of {}", site.name, method.method.title),
                words: site.with_device(words("eval", &site.train.path, &flags)),
                marker: folder.join(format!("{name}-task.json")),
                after: tasks.last().copied().into_iter().collect(),
            });
            tasks.push(task);
            files.push(file);
        }
        let mut files = files.into_iter();
        (files.next().unwrap_or_default(), files.next())
    }
}
