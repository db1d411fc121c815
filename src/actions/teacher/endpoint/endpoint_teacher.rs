//! The teacher itself: from examples to answers, by way of the record, the threads and the server.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http::Uri;

use super::answered::RecordedUsage;
use super::chat::Question;
use super::collect::{self, Found, Loss};
use super::error::EndpointError;
use super::estimate::Estimate;
use super::exchange::Asker;
use super::failure::Failure;
use super::http::Client;
use super::options::{EndpointOptions, OnTeacherFailure, is_loopback};
use super::pool::{Pool, Taken};
use super::record_file::{RecordFile, RecordMode};
use super::turnstile::{Halt, Turnstile};
use crate::actions::secret::Secret;
use crate::actions::teacher::reasoning::told;
use crate::actions::teacher::{
    Teacher, TeacherAnswer, TeacherError, TeacherReport, TeacherRequest,
};
use crate::record::Example;

/// A model behind an OpenAI-compatible server.
pub struct EndpointTeacher {
    options: EndpointOptions,
    record: Arc<RecordFile>,
    /// `None` while replaying: then nothing can be sent.
    pool: Option<Pool>,
    report: TeacherReport,
}

/// One example sent and answered, for a look at an endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundTrip {
    /// Time of the request.
    pub latency: Duration,
    /// The answer, or why there is none.
    pub answer: Result<TeacherAnswer, Failure>,
    /// Tokens, where there is an answer.
    pub usage: Option<RecordedUsage>,
    /// What it cost.
    pub price: f64,
}

impl EndpointTeacher {
    /// Prepares the teacher; the key is read from the environment unless the run replays. Nothing is sent yet.
    ///
    /// # Errors
    /// [`TeacherError::Other`] with the [`EndpointError`] of a value that cannot be used or a key that is not there.
    pub fn open(options: EndpointOptions, record: Arc<RecordFile>) -> Result<Self, TeacherError> {
        Self::open_with(options, record, |variable| std::env::var_os(variable))
    }

    pub(super) fn open_with(
        mut options: EndpointOptions,
        record: Arc<RecordFile>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, TeacherError> {
        let name = options.name.clone();
        let fault = |error: EndpointError| other(&name, error);
        let url = options.checked_url().map_err(fault)?;
        options.base_url = url.to_string();
        let report = TeacherReport::default();
        if record.mode() == RecordMode::Replay {
            return Ok(Self {
                options,
                record,
                pool: None,
                report,
            });
        }
        let secret = read_secret(&options, &url, environment).map_err(fault)?;
        let halt = Halt::new(options.stop);
        let spent = record.totals(&name).cost;
        let turnstile = Turnstile::new(&options, spent, halt.clone());
        let client = Client::new(url, secret, options.patience.timeout).map_err(fault)?;
        let asker = Asker::new(options.clone(), client, turnstile);
        let pool = Pool::new(asker, Arc::clone(&record), halt);
        Ok(Self {
            options,
            record,
            pool: Some(pool),
            report,
        })
    }

    /// The entry, its address completed.
    #[must_use]
    pub const fn options(&self) -> &EndpointOptions {
        &self.options
    }

    /// Asks about these examples in the background, unless they are recorded or asked about already. Pictures wait in
    /// memory, so a whole data set is better handed over a few hundred examples at a time.
    pub fn start(&mut self, examples: &[&Example]) {
        let Some(pool) = &self.pool else {
            return;
        };
        for example in examples {
            // A picture that cannot be read is reported when the answer is wanted.
            if let Ok(question) = Question::new(&self.options, example, self.options.num_actions) {
                pool.submit(&Arc::new(question));
            }
        }
        pool.start();
    }

    /// Up to `num_actions` answers for each example, from the record or the server; waits for those that are not there
    /// yet. What is lost is counted.
    ///
    /// # Errors
    /// [`TeacherError::Stopped`], and [`TeacherError::Other`] for a record that cannot be written, for an answer that a
    /// replay lacks, and for any lost one under `on_teacher_failure: stop`.
    pub fn answer(
        &mut self,
        examples: &[(&Example, usize)],
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        let questions: Vec<Result<Arc<Question>, Failure>> = examples
            .iter()
            .map(|(example, num_actions)| {
                Question::new(&self.options, example, *num_actions).map(Arc::new)
            })
            .collect();
        let keys: HashSet<&str> = questions
            .iter()
            .flatten()
            .flat_map(|question| question.keys.iter().map(String::as_str))
            .collect();
        if let Some(pool) = &self.pool {
            let started = Instant::now();
            questions
                .iter()
                .flatten()
                .for_each(|question| pool.submit(question));
            let waited = pool.wait(&keys);
            self.report.waited_s += started.elapsed().as_secs_f64();
            waited.map_err(|error| match error {
                Some(error) => other(&self.options.name, error),
                None => TeacherError::Stopped {
                    name: self.options.name.clone(),
                },
            })?;
        }
        let mut found: HashMap<&str, Found> = HashMap::new();
        for question in questions.iter().flatten() {
            for (sample, key) in question.keys.iter().enumerate() {
                if !found.contains_key(key.as_str()) {
                    found.insert(key, self.take(question, sample)?);
                }
            }
        }
        let (answers, losses) = collect::gather(examples, &questions, &found);
        self.account(&losses)?;
        Ok(answers)
    }

    /// One action of one example, sent at once, without retries; the record neither answers nor keeps it.
    ///
    /// # Errors
    /// [`TeacherError::Other`] while replaying.
    pub fn ask(&self, example: &Example) -> Result<RoundTrip, TeacherError> {
        let pool = self
            .pool
            .as_ref()
            .ok_or_else(|| other(&self.options.name, EndpointError::Replay))?;
        let question = match Question::new(&self.options, example, 1) {
            Ok(question) => question,
            Err(failure) => {
                return Ok(RoundTrip {
                    latency: Duration::ZERO,
                    answer: Err(failure),
                    usage: None,
                    price: 0.0,
                });
            }
        };
        let answered = pool.asker().ask_once(&question);
        let answer = answered.choice.map(|choice| TeacherAnswer {
            text: told(
                choice.thoughts.as_deref(),
                &choice.text,
                self.options.reasoning,
            ),
            finish_reason: choice.finish_reason,
            token_logprobs: None,
            token_texts: choice.token_texts,
        });
        Ok(RoundTrip {
            latency: answered.latency,
            answer,
            usage: answered.usage,
            price: answered.price,
        })
    }

    /// What it would take to fill the record for these examples. Nothing is sent.
    #[must_use]
    pub fn estimate(&self, examples: &[Arc<Example>]) -> Estimate {
        let one_by_one = self
            .pool
            .as_ref()
            .is_some_and(|pool| pool.asker().is_one_by_one());
        let questions = examples
            .iter()
            .map(|example| Question::new(&self.options, example, self.options.num_actions));
        Estimate::of(&self.options, &self.record, one_by_one, questions)
    }

    /// What became of one action.
    fn take(&mut self, question: &Question, sample: usize) -> Result<Found, TeacherError> {
        let key = &question.keys[sample];
        let taken = match &self.pool {
            Some(pool) => pool.take(key),
            None => match self.record.find(key) {
                Some(line) => Taken::Recorded(line, false),
                None => return Err(self.not_recorded(&question.id, sample)),
            },
        };
        Ok(match taken {
            Taken::Lost(failure) => Err(failure),
            Taken::Recorded(line, is_fresh) => {
                let count = if is_fresh {
                    &mut self.report.answered
                } else {
                    &mut self.report.cache_hits
                };
                match line.failure {
                    Some(reason) => Err(Failure::new(reason, "as recorded")),
                    None => {
                        *count += 1;
                        Ok(line.answer(self.options.reasoning))
                    }
                }
            }
        })
    }

    fn not_recorded(&self, id: &str, sample: usize) -> TeacherError {
        let error = EndpointError::NotRecorded {
            path: self.record.path().unwrap_or_else(|| "".as_ref()).to_owned(),
            name: self.options.name.clone(),
            id: id.to_owned(),
            action: sample + 1,
        };
        other(&self.options.name, error)
    }

    /// Counts every lost action and says each reason once.
    fn account(&mut self, losses: &[Loss<'_>]) -> Result<(), TeacherError> {
        for (reason, (count, words)) in collect::by_reason(losses) {
            *self.report.failures.entry(reason.name()).or_default() += count;
            log::warn!(
                "external source `{}`: {count} actions lost: {}: {words}",
                self.options.name,
                reason.name()
            );
        }
        let stops = |loss: &&Loss<'_>| loss.failure.reason.may_stop();
        match losses.iter().find(stops) {
            Some(loss) if self.options.on_teacher_failure == OnTeacherFailure::Stop => {
                let error = EndpointError::Lost {
                    id: loss.id.to_owned(),
                    failure: loss.failure.clone(),
                };
                Err(other(&self.options.name, error))
            }
            _ => Ok(()),
        }
    }
}

impl Teacher for EndpointTeacher {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn num_actions(&self) -> usize {
        self.options.num_actions
    }

    fn prefetch(&mut self, requests: &[TeacherRequest<'_>], _seed: u64) {
        let examples: Vec<&Example> = requests.iter().map(|request| request.example).collect();
        self.start(&examples);
    }

    /// The seed changes nothing: see the module.
    fn act(
        &mut self,
        requests: &[TeacherRequest<'_>],
        _seed: u64,
    ) -> Result<Vec<Vec<TeacherAnswer>>, TeacherError> {
        let examples: Vec<_> = requests
            .iter()
            .map(|request| (request.example, request.num_actions))
            .collect();
        self.answer(&examples)
    }

    fn report(&mut self) -> TeacherReport {
        let own = std::mem::take(&mut self.report);
        let Some(pool) = &self.pool else {
            return own;
        };
        let sent = std::mem::take(&mut *pool.asker().tally());
        TeacherReport {
            answered: own.answered,
            cache_hits: own.cache_hits,
            failures: own.failures,
            waited_s: own.waited_s,
            ..sent
        }
    }
}

/// The key, if the entry names one; says so where it would travel for everybody to read.
fn read_secret(
    options: &EndpointOptions,
    url: &Uri,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<Secret>, EndpointError> {
    let Some(variable) = &options.api_key_env else {
        return Ok(None);
    };
    let fault = |fault| EndpointError::Key {
        variable: shown_variable(variable),
        fault,
    };
    let secret = Secret::read(variable, environment).map_err(fault)?;
    if url.scheme_str() == Some("http") && !is_loopback(url) && !secret.is_placeholder() {
        log::warn!(
            "external source `{}`: the key travels unencrypted, because `base_url` is http",
            options.name
        );
    }
    Ok(Some(secret))
}

/// A variable's name for a message. Some people write the key itself there, so only what looks like a name is shown.
fn shown_variable(variable: &str) -> String {
    let is_name =
        |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_';
    let plain = variable.chars().all(is_name) && (variable.contains('_') || variable.len() <= 12);
    if plain {
        variable.to_owned()
    } else {
        "(not shown: it does not look like the name of one)".to_owned()
    }
}

fn other(name: &str, error: EndpointError) -> TeacherError {
    TeacherError::Other {
        name: name.to_owned(),
        error: Box::new(error),
    }
}
