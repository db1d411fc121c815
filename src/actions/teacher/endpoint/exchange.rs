//! Asking one question of one server until it is answered or lost: tries, waits, and what a status means. Knows nothing
//! of threads or of the record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::chat::{Dialect, Question};
use super::failure::{Failure, FailureReason};
use super::http::{Client, Response};
use super::options::EndpointOptions;
use super::record_line::RecordedUsage;
use super::reply::{Choice, Reply, Usage};
use super::retry;
use super::turnstile::{Outcome, Turnstile};
use super::verdict::{self, Verdict};
use crate::actions::teacher::TeacherReport;

/// Bytes of text per token, where the server does not count.
const BYTES_PER_TOKEN: usize = 4;

/// One action of a question, answered or lost.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answered {
    /// Which action.
    pub(super) sample: usize,
    pub(super) choice: Result<Choice, Failure>,
    pub(super) usage: Option<RecordedUsage>,
    pub(super) price: f64,
    pub(super) latency: Duration,
}

/// What one round of asking brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) answered: Vec<Answered>,
    /// Actions that the server left out, to be asked for one by one.
    pub(super) rest: Vec<usize>,
    /// What it means for the next requests.
    pub(super) outcome: Outcome,
}

/// Asks one server.
pub(super) struct Asker {
    pub(super) options: EndpointOptions,
    pub(super) client: Client,
    pub(super) turnstile: Turnstile,
    tally: Mutex<TeacherReport>,
    newer_name: AtomicBool,
    one_by_one: AtomicBool,
}

impl Asker {
    pub(super) fn new(options: EndpointOptions, client: Client, turnstile: Turnstile) -> Self {
        Self {
            options,
            client,
            turnstile,
            tally: Mutex::default(),
            newer_name: AtomicBool::new(false),
            one_by_one: AtomicBool::new(false),
        }
    }

    /// Whether the server gives one answer a request, as far as is known.
    pub(super) fn is_one_by_one(&self) -> bool {
        self.one_by_one.load(Ordering::Relaxed)
    }

    /// What was counted so far, for adding and for taking.
    pub(super) fn tally(&self) -> MutexGuard<'_, TeacherReport> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for these actions in one request, as often as patience allows; `None` if the teacher halts first.
    pub(super) fn ask(&self, question: &Question, samples: &[usize]) -> Option<Round> {
        let input = question.estimated_tokens(self.options.max_pixels);
        let output = (self.options.max_tokens * samples.len()) as u64;
        let ticket = match self
            .turnstile
            .enter(self.options.budget.price(input, output))?
        {
            Ok(ticket) => ticket,
            Err(failure) => return Some(lost(samples, &failure)),
        };
        let tried = self.tries(question, samples);
        let round = tried.map(|(tried, latency)| match tried {
            Ok(reply) => self.share(question, samples, reply, latency),
            Err(failure) => lost(samples, &failure),
        });
        self.turnstile.leave(
            &ticket,
            round
                .as_ref()
                .map(|round| round.outcome)
                .unwrap_or_default(),
        );
        round
    }

    /// One request for one action, without retries, limits or the record.
    pub(super) fn ask_once(&self, question: &Question) -> Answered {
        let started = Instant::now();
        loop {
            let dialect = self.dialect();
            let sent = question
                .body(&self.options, &[0], dialect)
                .and_then(|body| self.send(&body));
            let latency = started.elapsed();
            let answered = match self.judge(sent, 1, dialect) {
                Verdict::NewerName => {
                    self.newer_name.store(true, Ordering::Relaxed);
                    continue;
                }
                Verdict::Answered(reply) => {
                    self.share(question, &[0], reply, latency).answered.pop()
                }
                Verdict::Again(failure, _) | Verdict::Lost(failure) => {
                    lost(&[0], &failure).answered.pop()
                }
                Verdict::OneByOne { .. } => self
                    .share(question, &[0], Reply::default(), latency)
                    .answered
                    .pop(),
            };
            let answered =
                answered.expect("one action was asked for, and each is answered or lost");
            return Answered {
                latency,
                ..answered
            };
        }
    }

    /// Sends the request until there is an answer, a fault that stays, or no try left; `None` if the teacher halts.
    fn tries(
        &self,
        question: &Question,
        samples: &[usize],
    ) -> Option<(Result<Reply, Failure>, Duration)> {
        let mut attempt = 0;
        loop {
            let dialect = self.dialect();
            let body = match question.body(&self.options, samples, dialect) {
                Ok(body) => body,
                Err(failure) => return Some((Err(failure), Duration::ZERO)),
            };
            if !self.turnstile.pace() {
                return None;
            }
            let started = Instant::now();
            let sent = self.send(&body);
            let latency = started.elapsed();
            let (failure, asked_for) = match self.judge(sent, samples.len(), dialect) {
                Verdict::Answered(reply) => return Some((Ok(reply), latency)),
                // A connection that was broken off on purpose says nothing.
                _ if self.turnstile.is_halted() => return None,
                Verdict::Lost(failure) => return Some((Err(failure), latency)),
                Verdict::OneByOne { for_good } => {
                    self.one_by_one.fetch_or(for_good, Ordering::Relaxed);
                    return Some((Ok(Reply::default()), latency));
                }
                Verdict::NewerName => {
                    self.newer_name.store(true, Ordering::Relaxed);
                    continue;
                }
                Verdict::Again(failure, asked_for) => (failure, asked_for),
            };
            if attempt == self.options.patience.max_retries {
                return Some((Err(failure), latency));
            }
            let wait = retry::wait(
                &self.options.patience,
                attempt,
                asked_for,
                question.jitter_seed(),
            );
            log::debug!(
                "external source `{}`: {failure}; asked again in {wait:?}",
                self.options.name
            );
            if failure.reason == FailureReason::RateLimited {
                self.turnstile.hold(wait);
            }
            if !self.turnstile.wait_until(Instant::now() + wait) {
                return None;
            }
            attempt += 1;
        }
    }

    fn send(&self, body: &[u8]) -> Result<Response, Failure> {
        let started = Instant::now();
        let sent = self.client.post(body);
        let mut tally = self.tally();
        tally.requests += 1;
        tally.latency_s += started.elapsed().as_secs_f64();
        sent
    }

    fn dialect(&self) -> Dialect {
        Dialect {
            max_completion_tokens: self.newer_name.load(Ordering::Relaxed),
        }
    }

    fn judge(&self, sent: Result<Response, Failure>, wanted: usize, dialect: Dialect) -> Verdict {
        let judge = |response| verdict::judge(response, wanted, dialect, self.client.cleaner());
        match sent {
            Ok(response) => judge(&response),
            Err(failure) if failure.reason.may_pass() => Verdict::Again(failure, None),
            Err(failure) => Verdict::Lost(failure),
        }
    }

    /// Gives each action its choice and its share of the tokens.
    fn share(
        &self,
        question: &Question,
        samples: &[usize],
        reply: Reply,
        latency: Duration,
    ) -> Round {
        if reply == Reply::default() && samples.len() > 1 {
            // Nothing was written, so nothing is paid.
            let rest = samples.to_vec();
            return Round {
                rest,
                ..Round::default()
            };
        }
        let is_counted = reply.usage.is_some();
        let usage = reply
            .usage
            .unwrap_or_else(|| self.estimated_usage(question, &reply.choices));
        let budget = &self.options.budget;
        let paid = budget.price(usage.input_tokens, usage.output_tokens);
        let mut tally = self.tally();
        tally.input_tokens += usage.input_tokens;
        tally.output_tokens += usage.output_tokens;
        tally.cost += paid;
        drop(tally);
        let choices = self.choices(reply.choices, samples.len());
        let count = choices.len();
        let answered = |(index, (choice, sample)): (usize, (Result<Choice, Failure>, &usize))| {
            let usage = RecordedUsage::share(usage, !is_counted, index, count);
            Answered {
                sample: *sample,
                choice,
                usage: Some(usage),
                price: budget.price(usage.prompt_tokens, usage.completion_tokens),
                latency,
            }
        };
        Round {
            answered: choices
                .into_iter()
                .zip(samples)
                .enumerate()
                .map(answered)
                .collect(),
            rest: samples[count..].to_vec(),
            outcome: Outcome {
                paid,
                served: Some(true),
            },
        }
    }

    /// At most as many choices as were asked for; for one action always one.
    fn choices(
        &self,
        mut choices: Vec<Result<Choice, Failure>>,
        wanted: usize,
    ) -> Vec<Result<Choice, Failure>> {
        if choices.is_empty() && wanted == 1 {
            let words = "an answer without choices";
            choices.push(Err(Failure::new(FailureReason::EmptyChoice, words)));
        }
        choices.truncate(wanted);
        let is_short = !choices.is_empty() && choices.len() < wanted;
        if is_short && !self.one_by_one.swap(true, Ordering::Relaxed) {
            log::info!(
                "external source `{}`: the server gives one answer a request, so its actions are asked for one by one",
                self.options.name
            );
        }
        choices
    }

    /// For servers that do not count.
    fn estimated_usage(&self, question: &Question, choices: &[Result<Choice, Failure>]) -> Usage {
        let bytes = choices.iter().flatten().map(|choice| choice.text.len());
        Usage {
            input_tokens: question.estimated_tokens(self.options.max_pixels),
            output_tokens: bytes
                .map(|bytes| bytes.div_ceil(BYTES_PER_TOKEN) as u64)
                .sum(),
        }
    }
}

/// A round in which these actions all failed alike.
pub(super) fn lost(samples: &[usize], failure: &Failure) -> Round {
    let answered = |sample: &usize| Answered {
        sample: *sample,
        choice: Err(failure.clone()),
        usage: None,
        price: 0.0,
        latency: Duration::ZERO,
    };
    Round {
        answered: samples.iter().map(answered).collect(),
        rest: Vec::new(),
        outcome: Outcome {
            paid: 0.0,
            served: failure.reason.blames_server().then_some(false),
        },
    }
}
