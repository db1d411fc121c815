//! How long to wait before asking again. Pure: knows no clock, no socket and no server.

use std::time::{Duration, SystemTime};

use super::options::Patience;

/// Statuses of faults that pass: time-out, conflict, too many requests, and whatever the server does wrong.
pub(super) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..=599)
}

/// The wait before try `attempt` + 2, counted from 0: what the server asks for, else `first_wait` · 2^attempt. Up to a
/// quarter is added, drawn from `seed`, so that requests that failed together do not come back together. Never longer
/// than `longest_wait`.
///
/// Source: method.md 3.7, which waits 3 · 2^k seconds with jitter.
pub(super) fn wait(
    patience: &Patience,
    attempt: usize,
    asked_for: Option<Duration>,
    seed: u64,
) -> Duration {
    let doublings = u32::try_from(attempt).unwrap_or(u32::MAX).min(20);
    let backoff = patience.first_wait.saturating_mul(1 << doublings);
    let least = asked_for.filter(|wait| !wait.is_zero()).unwrap_or(backoff);
    let share = (mixed(seed.wrapping_add(attempt as u64)) >> 11) as f64 / (1_u64 << 53) as f64;
    let least = least.min(patience.longest_wait);
    least
        .saturating_add(least.mul_f64(share / 4.0))
        .min(patience.longest_wait)
}

/// The time that a `Retry-After` header asks for: seconds, or an HTTP date as seen from `now`.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// Neighbouring numbers become unrelated ones.
pub(super) const fn mixed(value: u64) -> u64 {
    crate::seed::split_mix(value, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_and_end_at_the_longest() {
        let patience = Patience::default();
        let mut jitters = Vec::new();
        for (attempt, seconds) in [(0, 3.0), (1, 6.0), (2, 12.0), (3, 24.0), (4, 48.0)] {
            let wait = wait(&patience, attempt, None, 7).as_secs_f64();
            assert!(
                wait >= seconds && wait < seconds * 1.25,
                "{attempt}: {wait}"
            );
            jitters.push(wait / seconds);
        }
        jitters.dedup_by(|a, b| (*a - *b).abs() < 1e-9);
        assert_eq!(jitters.len(), 5, "each wait has a jitter of its own");
        assert_eq!(wait(&patience, 4, None, 7), wait(&patience, 4, None, 7));
        assert_ne!(wait(&patience, 4, None, 7), wait(&patience, 4, None, 8));
        assert_eq!(wait(&patience, usize::MAX, None, 7), patience.longest_wait);
    }

    #[test]
    fn the_server_is_obeyed_within_the_limit() {
        let patience = Patience::default();
        let asked =
            |seconds| wait(&patience, 0, Some(Duration::from_secs(seconds)), 1).as_secs_f64();
        assert!((20.0..25.0).contains(&asked(20)));
        assert!((1.0..1.25).contains(&asked(1)), "sooner than the own wait");
        assert!((3.0..3.75).contains(&asked(0)), "zero asks for nothing");
        assert!((asked(86_400) - 300.0).abs() < 1e-9);
    }

    #[test]
    fn the_header_is_seconds_or_a_date() {
        let now = httpdate::parse_http_date("Wed, 21 Oct 2026 07:28:00 GMT").expect("a date");
        let seconds = |header| retry_after(header, now).map(|wait| wait.as_secs_f64());
        assert_eq!(seconds(" 7 "), Some(7.0));
        assert_eq!(seconds("0.5"), Some(0.5));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:29:30 GMT"), Some(90.0));
        assert_eq!(seconds("Wed, 21 Oct 2026 07:00:00 GMT"), Some(0.0));
        for nonsense in ["", "-1", "soon", "NaN", "inf", "1e300"] {
            assert_eq!(seconds(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_faults_that_pass_are_tried_again() {
        for status in [408, 409, 429, 500, 502, 503, 504, 529] {
            assert!(is_transient(status), "{status}");
        }
        for status in [301, 400, 401, 403, 404, 413, 422] {
            assert!(!is_transient(status), "{status}");
        }
    }
}
