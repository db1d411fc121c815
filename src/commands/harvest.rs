//! `harvest`: fills the record of endpoint answers for a data set ahead of training.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

use super::teachers::score;
use crate::cli::HarvestArguments;
use crate::config::{self, Endpoint, External, ExternalSource, Purpose, Run};
use crate::dataset::Dataset;
use crate::metrics::{Progress, table};
use crate::record::{Example, ScoredAction};
use crate::reward::Rewards;
use crate::setup;
use crate::teacher::endpoint::{EndpointTeacher, Estimate, RecordFile};
use crate::teacher::{Teacher, TeacherReport};
use crate::trainer::STOP;

/// Examples whose answers are awaited together.
const EXAMPLES_AT_ONCE: usize = 16;
/// Parts of so many examples that are under way at a time; their pictures are in memory.
const PARTS_AHEAD: usize = 4;

/// `vision-ekipl harvest`.
pub(super) fn run(arguments: &HarvestArguments) -> Result<()> {
    let run = config::load(Purpose::Eval, &arguments.config, &arguments.keys.flags)?;
    run.notes.iter().for_each(|note| log::info!("{note}"));
    let endpoints: Vec<(&External, &Endpoint)> =
        run.group.external.iter().filter_map(endpoint_of).collect();
    if endpoints.is_empty() {
        bail!(
            "`external` has no entry with `base_url`, so there is nothing to harvest\nhint: add an OpenAI-compatible server; other sources need no record"
        );
    }
    let file = setup::data_file(&run.data.dataset_name, &run.data.dataset_train_split)?;
    let examples = Dataset::load(&setup::dataset_options(&run, &file)?, &|_| Ok(()))?.examples;
    let record = setup::record_file(&run)?;
    let place = record
        .path()
        .map_or_else(String::new, |path| path.display().to_string());
    if arguments.estimate {
        return estimate(&run, &endpoints, &examples, &record);
    }
    ctrlc::set_handler(|| STOP.store(true, Ordering::SeqCst)).context("Ctrl-C cannot be caught")?;
    let mut rewards = setup::rewards(&run)?;
    let mut left = arguments.max_cost;
    let mut rows = Vec::new();
    for (external, endpoint) in endpoints {
        let mut harvest = Harvest::open(&run, external, endpoint, &record, &examples, left)?;
        let ended = harvest.fill(&examples, &mut rewards);
        left = left.map(|left| (left - harvest.report.cost).max(0.0));
        rows.push(harvest.row());
        if let Err(error) = ended {
            print!("{}", table(&HEADERS, &rows));
            return Err(error.context(format!("what has come so far is in {place}")));
        }
    }
    print!("{}", table(&HEADERS, &rows));
    println!("\nrecord: {place}");
    Ok(())
}

fn endpoint_of(external: &External) -> Option<(&External, &Endpoint)> {
    match &external.source {
        ExternalSource::Endpoint(endpoint) => Some((external, endpoint)),
        _ => {
            log::info!("`{}` needs no record and is left out", external.name);
            None
        }
    }
}

const HEADERS: [&str; 9] = [
    "source", "answers", "of", "reward", "format", "accuracy", "tokens", "cost", "lost",
];

/// Counts tokens and price of what is missing; nothing is sent.
fn estimate(
    run: &Run,
    endpoints: &[(&External, &Endpoint)],
    examples: &[Arc<Example>],
    record: &Arc<RecordFile>,
) -> Result<()> {
    let mut rows = Vec::new();
    for (external, endpoint) in endpoints {
        let teacher = setup::endpoint_teacher(run, external, endpoint, Arc::clone(record), None)?;
        let Estimate {
            actions,
            recorded,
            requests,
            input_tokens,
            output_tokens,
            has_recorded_lengths,
            cost,
            spent,
            unreadable,
        } = teacher.estimate(examples);
        let bound = if has_recorded_lengths { "" } else { "at most " };
        rows.push(vec![
            external.name.clone(),
            actions.to_string(),
            recorded.to_string(),
            unreadable.to_string(),
            requests.to_string(),
            input_tokens.to_string(),
            format!("{bound}{output_tokens}"),
            format!("{bound}{cost:.4}"),
            format!("{spent:.4}"),
        ]);
    }
    let headers = [
        "source",
        "actions",
        "recorded",
        "unreadable",
        "requests",
        "input tokens",
        "output tokens",
        "cost",
        "spent before",
    ];
    print!("{}", table(&headers, &rows));
    Ok(())
}

/// One endpoint being asked.
struct Harvest {
    name: String,
    teacher: EndpointTeacher,
    num_actions: usize,
    estimate: Estimate,
    report: TeacherReport,
    answers: usize,
    rewards: Vec<f64>,
    formats: Vec<f64>,
    right: usize,
}

impl Harvest {
    fn open(
        run: &Run,
        external: &External,
        endpoint: &Endpoint,
        record: &Arc<RecordFile>,
        examples: &[Arc<Example>],
        left: Option<f64>,
    ) -> Result<Self> {
        let open = |max_cost| {
            setup::endpoint_teacher(run, external, endpoint, Arc::clone(record), max_cost)
        };
        let estimate = open(None)?.estimate(examples);
        // The limit of a teacher counts what the record holds of it; the one of this command counts from now.
        let priced =
            endpoint.price_per_million_input_tokens + endpoint.price_per_million_output_tokens;
        let limit = left
            .filter(|_| priced > 0.0)
            .map(|left| estimate.spent + left);
        let limit = match (limit, endpoint.max_cost) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (limit, own) => limit.or(own),
        };
        Ok(Self {
            name: external.name.clone(),
            teacher: open(limit)?,
            num_actions: external.num_actions,
            estimate,
            report: TeacherReport::default(),
            answers: 0,
            rewards: Vec::new(),
            formats: Vec::new(),
            right: 0,
        })
    }

    /// Asks about all examples; the next ones are under way while the answers of these are awaited.
    fn fill(&mut self, examples: &[Arc<Example>], rewards: &mut Rewards) -> Result<()> {
        let format = rewards.names().position(|name| name == "format");
        let mut progress =
            Progress::start(&format!("harvest {}", self.name), examples.len() as u64, 0);
        let parts: Vec<Vec<&Example>> = examples
            .chunks(EXAMPLES_AT_ONCE)
            .map(|part| part.iter().map(AsRef::as_ref).collect())
            .collect();
        parts
            .iter()
            .take(PARTS_AHEAD)
            .for_each(|part| self.teacher.start(part));
        for (index, part) in parts.iter().enumerate() {
            if let Some(next) = parts.get(index + PARTS_AHEAD) {
                self.teacher.start(next);
            }
            let asked: Vec<_> = part
                .iter()
                .map(|example| (*example, self.num_actions))
                .collect();
            let answers = self.teacher.answer(&asked)?;
            self.report.add(&Teacher::report(&mut self.teacher));
            let to_come = (self.estimate.cost - self.report.cost).max(0.0);
            let cost = format!("cost {:.4}, about {to_come:.4} to come", self.report.cost);
            for (example, answers) in part.iter().zip(answers) {
                for answer in answers {
                    self.count(&score(&self.name, &answer, example, rewards)?, format);
                }
                progress.advance(&cost);
            }
        }
        progress.finish();
        Ok(())
    }

    fn count(&mut self, scored: &ScoredAction, format: Option<usize>) {
        self.answers += 1;
        self.rewards.extend(scored.reward.map(f64::from));
        let format = format.and_then(|index| scored.rewards[index]);
        self.formats.extend(format.map(f64::from));
        self.right += usize::from(scored.passes);
    }

    fn row(&self) -> Vec<String> {
        let mean = |values: &[f64]| {
            if values.is_empty() {
                return "-".to_owned();
            }
            format!("{:.3}", values.iter().sum::<f64>() / values.len() as f64)
        };
        let lost: Vec<String> = self
            .report
            .failures
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        let tokens = self.report.output_tokens as f64 / self.report.answered.max(1) as f64;
        vec![
            self.name.clone(),
            self.answers.to_string(),
            self.estimate.actions.to_string(),
            mean(&self.rewards),
            mean(&self.formats),
            format!(
                "{:.1} %",
                100.0 * self.right as f64 / self.answers.max(1) as f64
            ),
            if self.report.answered == 0 {
                "-".to_owned()
            } else {
                format!("{tokens:.1}")
            },
            format!("{:.4}", self.report.cost),
            if lost.is_empty() {
                "-".to_owned()
            } else {
                lost.join(", ")
            },
        ]
    }
}
