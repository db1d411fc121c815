//! One endpoint being harvested: asked, counted, summed up. Knows nothing of other endpoints.

use std::sync::Arc;

use anyhow::Result;

use super::super::teachers::score;
use crate::actions::reward::Rewards;
use crate::actions::teacher::endpoint::{EndpointTeacher, Estimate, RecordFile};
use crate::actions::teacher::{Teacher, TeacherReport};
use crate::config::{Endpoint, External, Run};
use crate::record::{Example, ScoredAction};
use crate::run::metrics::Progress;
use crate::run::setup;

/// Examples whose answers are awaited together.
const EXAMPLES_AT_ONCE: usize = 16;
/// Parts of so many examples that are under way at a time; their pictures are in memory.
const PARTS_AHEAD: usize = 4;

/// One endpoint being asked.
pub(super) struct Harvest {
    name: String,
    teacher: EndpointTeacher,
    num_actions: usize,
    estimate: Estimate,
    /// What asking took so far.
    pub report: TeacherReport,
    answers: usize,
    rewards: Vec<f64>,
    formats: Vec<f64>,
    right: usize,
}

impl Harvest {
    /// Prepares one endpoint; `left` is what may still be spent.
    pub(super) fn open(
        run: &Run,
        (external, endpoint): (&External, &Endpoint),
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
    pub(super) fn fill(&mut self, examples: &[Arc<Example>], rewards: &mut Rewards) -> Result<()> {
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

    /// The endpoint's row of the closing table.
    pub(super) fn row(&self) -> Vec<String> {
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
