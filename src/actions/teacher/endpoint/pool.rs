//! The threads that ask: a queue of questions, the answers that are on their way, and what becomes of them. Knows
//! nothing of what an answer means.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::chat::Question;
use super::error::{EndpointError, RecordError};
use super::exchange::{Asker, Round, lost};
use super::failure::{Failure, FailureReason};
use super::record_file::RecordFile;
use super::record_line::RecordLine;
use super::turnstile::{Halt, LOOK};

/// How long a teacher that ends waits for its threads; what is still connecting then ends by itself.
const FAREWELL: Duration = Duration::from_secs(2);

/// Asks in the background.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    halt: Halt,
}

struct Shared {
    asker: Asker,
    record: Arc<RecordFile>,
    halt: Halt,
    state: Mutex<State>,
    /// There is a question, or the end.
    work: Condvar,
    /// An answer came, or a thread ended.
    done: Condvar,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    /// Keys in the queue or being asked for.
    pending: HashSet<String>,
    /// Keys answered by the server and not yet taken.
    fresh: HashSet<String>,
    lost: HashMap<String, Failure>,
    fault: Option<RecordError>,
    threads: usize,
    idle: usize,
}

struct Job {
    question: Arc<Question>,
    samples: Vec<usize>,
}

/// What became of one action.
pub(super) enum Taken {
    /// It is in the record; `true` if the server wrote it since it was last asked for.
    Recorded(Arc<RecordLine>, bool),
    /// It is not.
    Lost(Failure),
}

impl Pool {
    pub(super) fn new(asker: Asker, record: Arc<RecordFile>, halt: Halt) -> Self {
        let shared = Shared {
            asker,
            record,
            halt: halt.clone(),
            state: Mutex::default(),
            work: Condvar::new(),
            done: Condvar::new(),
        };
        Self {
            shared: Arc::new(shared),
            threads: Mutex::default(),
            halt,
        }
    }

    pub(super) fn asker(&self) -> &Asker {
        &self.shared.asker
    }

    /// Puts the actions of a question that are neither recorded nor on their way into the queue.
    pub(super) fn submit(&self, question: &Arc<Question>) {
        let mut state = self.shared.locked();
        let is_missing = |key: &String| {
            !state.pending.contains(key)
                && !state.lost.contains_key(key)
                && self.shared.record.find(key).is_none()
        };
        let samples: Vec<usize> = (0..question.keys.len())
            .filter(|sample| is_missing(&question.keys[*sample]))
            .collect();
        if samples.is_empty() {
            return;
        }
        state
            .pending
            .extend(samples.iter().map(|sample| question.keys[*sample].clone()));
        let groups: Vec<Vec<usize>> = if self.shared.asker.is_one_by_one() {
            samples.into_iter().map(|sample| vec![sample]).collect()
        } else {
            vec![samples]
        };
        for samples in groups {
            state.queue.push_back(Job {
                question: Arc::clone(question),
                samples,
            });
        }
        drop(state);
        self.shared.work.notify_all();
    }

    /// Waits until none of these actions is on its way; their questions go first.
    ///
    /// # Errors
    /// No thread can be started, the record cannot be written, or `None`: the teacher halts.
    pub(super) fn wait(&self, keys: &HashSet<&str>) -> Result<(), Option<EndpointError>> {
        let mut state = self.shared.locked();
        let is_wanted = |job: &Job| {
            job.samples
                .iter()
                .any(|sample| keys.contains(job.question.keys[*sample].as_str()))
        };
        let (wanted, others): (Vec<Job>, Vec<Job>) = state.queue.drain(..).partition(is_wanted);
        state.queue.extend(wanted.into_iter().chain(others));
        loop {
            if self.halt.is_set() {
                return Err(None);
            }
            if let Some(fault) = state.fault.take() {
                return Err(Some(fault.into()));
            }
            if !keys.iter().any(|key| state.pending.contains(*key)) {
                return Ok(());
            }
            state = self.start_threads(state).map_err(Some)?;
            state = self
                .shared
                .done
                .wait_timeout(state, LOOK)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Starts what is in the queue without waiting for it.
    pub(super) fn start(&self) {
        if let Err(error) = self.start_threads(self.shared.locked()) {
            log::warn!("external source `{}`: {error}", self.asker().options.name);
        }
    }

    /// What became of an action after [`Self::wait`].
    pub(super) fn take(&self, key: &str) -> Taken {
        let mut state = self.shared.locked();
        let is_fresh = state.fresh.remove(key);
        if let Some(failure) = state.lost.remove(key) {
            return Taken::Lost(failure);
        }
        match self.shared.record.find(key) {
            Some(line) => Taken::Recorded(line, is_fresh),
            None => Taken::Lost(Failure::new(
                FailureReason::Internal,
                "an answer went missing",
            )),
        }
    }

    fn start_threads<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
    ) -> Result<MutexGuard<'a, State>, EndpointError> {
        let most = self.asker().options.budget.max_concurrency;
        while state.threads < most && state.idle < state.queue.len() {
            let shared = Arc::clone(&self.shared);
            let name = format!("ask {}", self.asker().options.name);
            let started = thread::Builder::new()
                .name(name)
                .spawn(move || shared.work());
            match started {
                Ok(handle) => {
                    self.threads
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(handle);
                    state.threads += 1;
                    state.idle += 1;
                }
                Err(error) if state.threads == 0 => {
                    return Err(EndpointError::Start(error.to_string()));
                }
                // Those that run do all the work.
                Err(_) => break,
            }
        }
        Ok(state)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.halt.close();
        self.asker().client.shut_down();
        self.shared.work.notify_all();
        let end = Instant::now() + FAREWELL;
        let mut state = self.shared.locked();
        while state.threads > 0 && Instant::now() < end {
            let waited = self.shared.done.wait_timeout(state, LOOK);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let all_end = state.threads == 0;
        drop(state);
        if all_end {
            // Only then is the record free for whoever opens it next.
            for thread in self
                .threads
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner)
                .drain(..)
            {
                if thread.join().is_err() {
                    log::error!(
                        "external source `{}`: a thread panicked",
                        self.shared.asker.options.name
                    );
                }
            }
        }
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread's life; it begins as an idle one.
    fn work(&self) {
        while let Some(job) = self.next() {
            // Nothing may leave an action on its way for ever.
            let asked = catch_unwind(AssertUnwindSafe(|| {
                self.asker.ask(&job.question, &job.samples)
            }));
            let round = asked.unwrap_or_else(|_| {
                let failure = Failure::new(FailureReason::Internal, "asking panicked");
                Some(lost(&job.samples, &failure))
            });
            if let Some(round) = round {
                self.settle(&job.question, round);
            }
            self.locked().idle += 1;
        }
        let mut state = self.locked();
        state.idle -= 1;
        state.threads -= 1;
        drop(state);
        self.done.notify_all();
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.locked();
        loop {
            if self.halt.is_set() {
                return None;
            }
            if let Some(job) = state.queue.pop_front() {
                state.idle -= 1;
                return Some(job);
            }
            state = self
                .work
                .wait_timeout(state, LOOK * 10)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Records what came, then says so.
    fn settle(&self, question: &Arc<Question>, round: Round) {
        let mut answers = Vec::new();
        for answered in round.answered {
            let key = question.keys[answered.sample].clone();
            let failure = answered.choice.as_ref().err().cloned();
            let fault = self
                .record
                .append(RecordLine::of(&self.asker.options, question, answered))
                .err();
            answers.push((key, failure, fault));
        }
        let mut state = self.locked();
        for (key, failure, fault) in answers {
            state.pending.remove(&key);
            state.fault = state.fault.take().or(fault);
            match failure {
                Some(failure) => drop(state.lost.insert(key, failure)),
                None => drop(state.fresh.insert(key)),
            }
        }
        for sample in round.rest.into_iter().rev() {
            state.queue.push_front(Job {
                question: Arc::clone(question),
                samples: vec![sample],
            });
        }
        drop(state);
        self.done.notify_all();
        self.work.notify_all();
    }
}
