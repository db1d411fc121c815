//! Asking one question of one server until it is answered or lost: tries, waits, and what a status means. Knows nothing
//! of threads or of the record.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::answered::{Answered, RecordedUsage};
use super::chat::Question;
use super::dialect::{Change, Dialect};
use super::failure::{Failure, FailureReason};
use super::http::{Client, Response};
use super::options::EndpointOptions;
use super::reply::{Choice, Reply, Usage};
use super::retry;
use super::turnstile::{Outcome, Turnstile};
use super::verdict::{self, Asked, Verdict};
use crate::actions::teacher::TeacherReport;

/// Bytes of text per token, where the server does not count.
const BYTES_PER_TOKEN: usize = 4;

/// What one round of asking brought.
#[derive(Debug, Default)]
pub(super) struct Round {
    pub(super) answered: Vec<Answered>,
    /// Actions that the server left out, to be asked for one by one.
    pub(super) rest: Vec<usize>,
    /// What it means for the next requests.
    pub(super) outcome: Outcome,
}

/// How the tries of one round ended.
struct Tried {
    /// `None` if the server is to be asked one by one.
    reply: Option<Result<Reply, Failure>>,
    /// Time of the last request.
    latency: Duration,
    /// Tokens of answers that could not be used and were asked for again.
    wasted: Usage,
}

/// Asks one server.
pub(super) struct Asker {
    pub(super) options: EndpointOptions,
    pub(super) client: Client,
    pub(super) turnstile: Turnstile,
    tally: Mutex<TeacherReport>,
    dialect: Mutex<Dialect>,
    one_by_one: AtomicBool,
}

impl Asker {
    pub(super) fn new(options: EndpointOptions, client: Client, turnstile: Turnstile) -> Self {
        Self {
            options,
            client,
            turnstile,
            tally: Mutex::default(),
            dialect: Mutex::default(),
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
        let round = tried.map(|tried| self.round(question, samples, tried));
        self.turnstile.leave(
            &ticket,
            round
                .as_ref()
                .map(|round| round.outcome)
                .unwrap_or_default(),
        );
        round
    }

    /// What the end of the tries means for each action.
    fn round(&self, question: &Question, samples: &[usize], tried: Tried) -> Round {
        let took = (tried.latency, tried.wasted);
        match tried.reply {
            Some(Ok(reply)) => self.share(question, samples, reply, took),
            Some(Err(failure)) => self.lost_after(samples, &failure, tried.wasted),
            None => Round {
                rest: samples.to_vec(),
                ..Round::default()
            },
        }
    }

    /// One request for one action, without retries, limits or the record; said in another way where the server asks for
    /// that.
    pub(super) fn ask_once(&self, question: &Question) -> Answered {
        let started = Instant::now();
        loop {
            let (verdict, _) = self.request(question, &[0]);
            let latency = started.elapsed();
            let reply = match verdict {
                Verdict::Otherwise(change, words) => {
                    self.learn(change, &words);
                    continue;
                }
                Verdict::Answered(reply) => Ok(reply),
                Verdict::Again(failure, _) | Verdict::Lost(failure) => Err(failure),
                Verdict::OneByOne => Ok(Reply::default()),
            };
            let tried = Tried {
                reply: Some(reply),
                latency,
                wasted: Usage::default(),
            };
            let answered = self.round(question, &[0], tried).answered.pop();
            let answered =
                answered.expect("one action was asked for, and each is answered or lost");
            return Answered {
                latency,
                ..answered
            };
        }
    }

    /// Sends the request until there is an answer, a fault that stays, or no try left; `None` if the teacher halts.
    fn tries(&self, question: &Question, samples: &[usize]) -> Option<Tried> {
        let mut attempt = 0;
        let mut wasted = Usage::default();
        loop {
            if !self.turnstile.pace() {
                return None;
            }
            let (verdict, latency) = self.request(question, samples);
            let ended = |reply, wasted| {
                Some(Tried {
                    reply,
                    latency,
                    wasted,
                })
            };
            let (failure, asked_for) = match verdict {
                Verdict::Answered(reply) => match reply.passing_failure() {
                    None => return ended(Some(Ok(reply)), wasted),
                    Some(failure) => {
                        let usage = reply.usage.unwrap_or_default();
                        self.pay(usage);
                        wasted.add(usage);
                        (failure, None)
                    }
                },
                // A connection that was broken off on purpose says nothing.
                _ if self.turnstile.is_halted() => return None,
                Verdict::Lost(failure) => return ended(Some(Err(failure)), wasted),
                Verdict::OneByOne => return ended(None, wasted),
                Verdict::Otherwise(change, words) => {
                    self.learn(change, &words);
                    if change == Change::OneByOne {
                        return ended(None, wasted);
                    }
                    continue;
                }
                Verdict::Again(failure, asked_for) => (failure, asked_for),
            };
            if attempt == self.options.patience.max_retries {
                return ended(Some(Err(failure)), wasted);
            }
            if !self.wait(&failure, attempt, asked_for, question) {
                return None;
            }
            attempt += 1;
        }
    }

    /// Waits before the next try; false if the teacher halts.
    fn wait(
        &self,
        failure: &Failure,
        attempt: usize,
        asked_for: Option<Duration>,
        question: &Question,
    ) -> bool {
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
        self.turnstile.wait_until(Instant::now() + wait)
    }

    /// One request, and what its response means.
    fn request(&self, question: &Question, samples: &[usize]) -> (Verdict, Duration) {
        let asked = Asked {
            wanted: samples.len(),
            parameters: question.optional_parameters(&self.options, samples),
            dialect: self.dialect(),
        };
        let body = match question.body(&self.options, samples, asked.dialect) {
            Ok(body) => body,
            Err(failure) => return (Verdict::Lost(failure), Duration::ZERO),
        };
        let started = Instant::now();
        let sent = self.send(&body);
        let latency = started.elapsed();
        let verdict = match sent {
            Ok(response) => verdict::judge(&response, &asked, self.client.cleaner()),
            Err(failure) if failure.reason.may_pass() => Verdict::Again(failure, None),
            Err(failure) => Verdict::Lost(failure),
        };
        (verdict, latency)
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
        *self.dialect.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps in mind what the server wants, and says so once.
    fn learn(&self, change: Change, words: &str) {
        let mut dialect = self.dialect.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = *dialect == dialect.with(change);
        *dialect = dialect.with(change);
        drop(dialect);
        let name = &self.options.name;
        match change {
            Change::OneByOne => self.one_by_one.store(true, Ordering::Relaxed),
            _ if is_known => {}
            Change::NewerName => log::debug!(
                "external source `{name}`: the limit of tokens is called `max_completion_tokens`"
            ),
            Change::Without(parameter) => log::warn!(
                "external source `{name}`: the server refuses `{}`, so it is left out from now on ({words})",
                parameter.name()
            ),
        }
    }

    /// Adds tokens to the tally, and gives their price.
    fn pay(&self, usage: Usage) -> f64 {
        let budget = &self.options.budget;
        let paid = budget.price(usage.input_tokens, usage.output_tokens);
        let mut tally = self.tally();
        tally.input_tokens = tally.input_tokens.saturating_add(usage.input_tokens);
        tally.output_tokens = tally.output_tokens.saturating_add(usage.output_tokens);
        tally.cost += paid;
        paid
    }

    /// Gives each action its choice and its share of the tokens; a choice that broke off among whole ones is asked for
    /// again by itself.
    fn share(
        &self,
        question: &Question,
        samples: &[usize],
        reply: Reply,
        (latency, wasted): (Duration, Usage),
    ) -> Round {
        let is_counted = reply.usage.is_some();
        let mut usage = reply
            .usage
            .unwrap_or_else(|| self.estimated_usage(question, &reply.choices));
        let budget = &self.options.budget;
        let paid = self.pay(usage) + budget.price(wasted.input_tokens, wasted.output_tokens);
        usage.add(wasted);
        let choices = self.choices(reply.choices, samples.len());
        let mut rest = samples[choices.len()..].to_vec();
        let passes = |choice: &Result<Choice, Failure>| {
            let passing = |failure: &Failure| failure.reason.may_pass_inside();
            samples.len() > 1 && choice.as_ref().is_err_and(passing)
        };
        let (broken, kept): (Vec<_>, Vec<_>) = choices
            .into_iter()
            .zip(samples)
            .partition(|(choice, _)| passes(choice));
        rest.extend(broken.into_iter().map(|(_, sample)| *sample));
        let count = kept.len();
        let left_out = self.dialect().left_out();
        let answered = |(index, (choice, sample)): (usize, (Result<Choice, Failure>, &usize))| {
            let usage = RecordedUsage::share(usage, !is_counted, index, count);
            Answered {
                sample: *sample,
                choice,
                usage: Some(usage),
                price: budget.price(usage.prompt_tokens, usage.completion_tokens),
                latency,
                left_out: left_out.clone(),
            }
        };
        Round {
            answered: kept.into_iter().enumerate().map(answered).collect(),
            rest,
            outcome: Outcome {
                paid,
                served: Some(true),
            },
        }
    }

    /// As [`lost`], where answers that could not be used were paid for.
    fn lost_after(&self, samples: &[usize], failure: &Failure, wasted: Usage) -> Round {
        let mut round = lost(samples, failure);
        if wasted == Usage::default() {
            return round;
        }
        let price = self
            .options
            .budget
            .price(wasted.input_tokens, wasted.output_tokens);
        round.outcome.paid = price;
        if let Some(first) = round.answered.first_mut() {
            first.price = price;
            first.usage = Some(RecordedUsage::share(wasted, false, 0, 1));
        }
        round
    }

    /// At most as many choices as were asked for; for one action always one.
    fn choices(
        &self,
        mut choices: Vec<Result<Choice, Failure>>,
        wanted: usize,
    ) -> Vec<Result<Choice, Failure>> {
        if choices.is_empty() && wanted == 1 {
            let words = "an answer without choices";
            choices.push(Err(Failure::new(FailureReason::Unfinished, words)));
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
        let bytes = choices.iter().flatten().map(Choice::bytes);
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
        left_out: Vec::new(),
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
