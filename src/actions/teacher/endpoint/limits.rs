//! Pace, money and the breaker of one endpoint, each a small state machine. They are told the time and never wait.

use std::time::{Duration, Instant};

use super::options::Budget;

/// When the next request may begin.
#[derive(Debug)]
pub(super) struct Pacer {
    interval: Duration,
    next: Option<Instant>,
}

impl Pacer {
    pub(super) fn new(requests_per_minute: Option<f64>) -> Self {
        let interval =
            requests_per_minute.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(60.0 / rate));
        Self {
            interval,
            next: None,
        }
    }

    /// Takes the next free place in time.
    pub(super) fn reserve(&mut self, now: Instant) -> Instant {
        let start = self.next.map_or(now, |next| next.max(now));
        self.next = Some(start + self.interval);
        start
    }

    /// No request before `until`: the server has too many.
    pub(super) fn hold(&mut self, until: Instant) {
        self.next = Some(self.next.map_or(until, |next| next.max(until)));
    }
}

/// Refuses requests while a server fails, and lets one through from time to time to see whether it is back.
#[derive(Debug)]
pub(super) struct Breaker {
    /// Failures in a row that open it; 0 = never.
    limit: usize,
    first_pause: Duration,
    failures: usize,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    until: Instant,
    pause: Duration,
    is_trying: bool,
}

impl Breaker {
    pub(super) const fn new(limit: usize, first_pause: Duration) -> Self {
        Self {
            limit,
            first_pause,
            failures: 0,
            open: None,
        }
    }

    /// Whether a request may be sent.
    pub(super) fn admits(&mut self, now: Instant) -> bool {
        match &mut self.open {
            None => true,
            Some(open) if now < open.until => false,
            Some(open) => {
                // The others wait for what becomes of this one.
                open.until = now + open.pause;
                open.is_trying = true;
                true
            }
        }
    }

    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.open = None;
    }

    /// Returns whether this failure has just opened it.
    pub(super) fn failed(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.limit == 0 || self.failures < self.limit {
            return false;
        }
        match &mut self.open {
            None => {
                let pause = self.first_pause;
                self.open = Some(Open {
                    until: now + pause,
                    pause,
                    is_trying: false,
                });
                true
            }
            Some(open) => {
                if open.is_trying {
                    open.is_trying = false;
                    open.pause = (open.pause * 2).min(self.first_pause * 10);
                    open.until = now + open.pause;
                }
                false
            }
        }
    }
}

/// Whether a request may begin as far as money goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Allowance {
    /// It may.
    Granted,
    /// It depends on what the requests under way will cost.
    Undecided,
    /// All is spent.
    Spent,
}

/// What was spent and what the requests under way may cost at most.
#[derive(Debug)]
pub(super) struct Purse {
    limit: Option<f64>,
    spent: f64,
    reserved: f64,
}

impl Purse {
    pub(super) const fn new(budget: &Budget, spent: f64) -> Self {
        Self {
            limit: budget.max_cost,
            spent,
            reserved: 0.0,
        }
    }

    /// Reserves `most`, so that only one request can go beyond the limit.
    pub(super) fn ask(&mut self, most: f64) -> Allowance {
        let limit = self.limit.unwrap_or(f64::INFINITY);
        if self.spent >= limit {
            return Allowance::Spent;
        }
        if self.spent + self.reserved >= limit {
            return Allowance::Undecided;
        }
        self.reserved += most;
        Allowance::Granted
    }

    /// Replaces what was reserved by what was paid.
    pub(super) fn pay(&mut self, reserved: f64, paid: f64) {
        self.reserved = (self.reserved - reserved).max(0.0);
        self.spent += paid;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn requests_are_spread_over_the_minute() {
        let now = Instant::now();
        let mut pacer = Pacer::new(Some(30.0));
        assert_eq!(
            [0; 3].map(|_| pacer.reserve(now) - now),
            [0, 2, 4].map(|n| n * SECOND)
        );
        assert_eq!(
            pacer.reserve(now + 20 * SECOND) - now,
            20 * SECOND,
            "no burst after a pause"
        );
        let mut free = Pacer::new(None);
        assert_eq!([0; 3].map(|_| free.reserve(now) - now), [Duration::ZERO; 3]);
        free.hold(now + 5 * SECOND);
        assert_eq!(free.reserve(now) - now, 5 * SECOND);
    }

    #[test]
    fn the_breaker_opens_tries_and_closes() {
        let now = Instant::now();
        let mut breaker = Breaker::new(3, 10 * SECOND);
        assert_eq!([0; 3].map(|_| breaker.failed(now)), [false, false, true]);
        assert!(!breaker.admits(now + 9 * SECOND));
        assert!(breaker.admits(now + 10 * SECOND), "one request tries");
        assert!(!breaker.admits(now + 11 * SECOND), "the others wait for it");
        assert!(!breaker.failed(now + 12 * SECOND));
        assert!(!breaker.admits(now + 31 * SECOND), "the pause has doubled");
        assert!(breaker.admits(now + 32 * SECOND));
        breaker.succeeded();
        assert!(breaker.admits(now + 32 * SECOND) && breaker.admits(now + 32 * SECOND));
        assert_eq!(
            [0; 2].map(|_| breaker.failed(now)),
            [false, false],
            "it counts anew"
        );
    }

    #[test]
    fn requests_under_way_do_not_lengthen_the_pause_and_a_success_between_counts() {
        let now = Instant::now();
        let mut breaker = Breaker::new(2, 10 * SECOND);
        breaker.failed(now);
        breaker.succeeded();
        assert!(!breaker.failed(now));
        assert!(breaker.failed(now));
        (0..5).for_each(|_| assert!(!breaker.failed(now + SECOND)));
        assert!(breaker.admits(now + 10 * SECOND));
        let mut never = Breaker::new(0, SECOND);
        assert!((0..100).all(|_| !never.failed(now)) && never.admits(now));
    }

    #[test]
    fn money_is_reserved_then_paid() {
        let budget = Budget {
            max_cost: Some(1.0),
            ..Budget::default()
        };
        let mut purse = Purse::new(&budget, 0.25);
        assert_eq!(purse.ask(0.5), Allowance::Granted);
        assert_eq!(
            purse.ask(0.5),
            Allowance::Granted,
            "0.75 may be gone, not all"
        );
        assert_eq!(purse.ask(0.5), Allowance::Undecided);
        purse.pay(0.5, 0.25);
        assert_eq!(
            purse.ask(0.5),
            Allowance::Undecided,
            "0.5 paid and 0.5 under way"
        );
        purse.pay(0.5, 0.25);
        assert_eq!(purse.ask(0.5), Allowance::Granted);
        purse.pay(0.5, 0.25);
        assert_eq!(purse.ask(0.0), Allowance::Spent);
        let mut free = Purse::new(&Budget::default(), 1e9);
        assert_eq!(free.ask(1e9), Allowance::Granted);
    }
}
