//! Lets requests of one endpoint through when pace, money and the breaker allow it. Every wait ends when the teacher
//! halts. Knows nothing of what is sent.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::failure::{Failure, FailureReason};
use super::limits::{Allowance, Breaker, Pacer, Purse};
use super::options::EndpointOptions;

/// How often a wait looks whether the run is being stopped.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// Whether a teacher is to end: it was dropped, or the run is being stopped.
#[derive(Debug, Clone)]
pub(super) struct Halt {
    closed: Arc<AtomicBool>,
    stop: Option<&'static AtomicBool>,
}

impl Halt {
    pub(super) fn new(stop: Option<&'static AtomicBool>) -> Self {
        Self {
            closed: Arc::default(),
            stop,
        }
    }

    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_set(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
            || self.stop.is_some_and(|stop| stop.load(Ordering::SeqCst))
    }
}

/// What a request reserved; given back with [`Turnstile::leave`].
#[derive(Debug)]
pub(super) struct Ticket {
    reserved: f64,
}

/// How a request ended, as far as the next ones are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Outcome {
    /// What it cost.
    pub(super) paid: f64,
    /// `None` if it says nothing about the server.
    pub(super) served: Option<bool>,
}

/// The limits of one endpoint, shared by its threads.
#[derive(Debug)]
pub(super) struct Turnstile {
    name: String,
    limits: Mutex<Limits>,
    changed: Condvar,
    halt: Halt,
}

#[derive(Debug)]
struct Limits {
    pacer: Pacer,
    breaker: Breaker,
    purse: Purse,
    is_spent: bool,
}

impl Turnstile {
    pub(super) fn new(options: &EndpointOptions, spent: f64, halt: Halt) -> Self {
        let limits = Limits {
            pacer: Pacer::new(options.budget.requests_per_minute),
            breaker: Breaker::new(
                options.patience.max_consecutive_failures,
                options.patience.breaker_pause,
            ),
            purse: Purse::new(&options.budget, spent),
            is_spent: false,
        };
        Self {
            name: options.name.clone(),
            limits: Mutex::new(limits),
            changed: Condvar::new(),
            halt,
        }
    }

    /// Whether the teacher is to end.
    pub(super) fn is_halted(&self) -> bool {
        self.halt.is_set()
    }

    /// Waits until a request that may cost `most` can be begun; `None` if the teacher halts first.
    pub(super) fn enter(&self, most: f64) -> Option<Result<Ticket, Failure>> {
        let mut limits = self.locked();
        loop {
            if self.halt.is_set() {
                return None;
            }
            match limits.purse.ask(most) {
                Allowance::Granted => break,
                Allowance::Undecided => limits = self.look_again(limits, LOOK),
                Allowance::Spent => return Some(Err(self.spent(&mut limits))),
            }
        }
        if limits.breaker.admits(Instant::now()) {
            return Some(Ok(Ticket { reserved: most }));
        }
        limits.purse.pay(most, 0.0);
        let words = "not sent, because the requests before it failed";
        Some(Err(Failure::new(FailureReason::RefusedByBreaker, words)))
    }

    /// Waits for the request's place in time; false if the teacher halts first.
    pub(super) fn pace(&self) -> bool {
        let start = self.locked().pacer.reserve(Instant::now());
        self.wait_until(start)
    }

    /// No request of this endpoint begins within `time`.
    pub(super) fn hold(&self, time: Duration) {
        self.locked().pacer.hold(Instant::now() + time);
    }

    /// Waits; false if the teacher halts first.
    pub(super) fn wait_until(&self, end: Instant) -> bool {
        let mut limits = self.locked();
        while !self.halt.is_set() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            limits = self.look_again(limits, left.min(LOOK));
        }
        false
    }

    /// Settles what [`Self::enter`] reserved.
    pub(super) fn leave(&self, ticket: &Ticket, outcome: Outcome) {
        let mut limits = self.locked();
        limits.purse.pay(ticket.reserved, outcome.paid);
        match outcome.served {
            Some(true) => limits.breaker.succeeded(),
            Some(false) if limits.breaker.failed(Instant::now()) => log::warn!(
                "external source `{}`: too many requests failed in a row, none is sent for a while",
                self.name
            ),
            Some(false) | None => {}
        }
        drop(limits);
        self.changed.notify_all();
    }

    fn spent(&self, limits: &mut Limits) -> Failure {
        if !limits.is_spent {
            limits.is_spent = true;
            log::warn!(
                "external source `{}`: `max_cost` is spent, no further request is sent",
                self.name
            );
        }
        Failure::new(
            FailureReason::CostLimit,
            "not sent, because `max_cost` is spent",
        )
    }

    fn locked(&self) -> MutexGuard<'_, Limits> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_again<'a>(
        &self,
        limits: MutexGuard<'a, Limits>,
        time: Duration,
    ) -> MutexGuard<'a, Limits> {
        let waited = self.changed.wait_timeout(limits, time);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
