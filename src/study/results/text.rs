//! Numbers and lists as the report's sentences, cells and notes write them; what belongs together is joined by no-break spaces.

use super::result::Family;
use super::statistics::{Estimate, Summary};

/// What stands in a cell that has no value.
pub const EMPTY: &str = "—";

/// A space at which no line is broken.
const NO_BREAK: char = '\u{a0}';

/// How a number is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A share as percent, differences as points; one decimal.
    Percent,
    /// As it is, two decimals.
    Plain,
    /// As it is, no decimal.
    Whole,
}

impl Unit {
    fn scaled(self, value: f64) -> f64 {
        match self {
            Self::Percent => 100.0 * value,
            Self::Plain | Self::Whole => value,
        }
    }

    const fn decimals(self) -> usize {
        match self {
            Self::Percent => 1,
            Self::Plain => 2,
            Self::Whole => 0,
        }
    }

    /// The number alone.
    #[must_use]
    pub fn number(self, value: f64) -> String {
        let text = format!("{:.*}", self.decimals(), self.scaled(value));
        // -0.04 is no negative number at one decimal.
        if text.starts_with('-') && !text.contains(|c: char| ('1'..='9').contains(&c)) {
            text[1..].to_owned()
        } else {
            text.replace('-', "−")
        }
    }

    /// The number with its sign.
    #[must_use]
    pub fn signed(self, value: f64) -> String {
        let text = self.number(value);
        if text.starts_with('−') {
            text
        } else {
            format!("+{text}")
        }
    }

    /// `71.3 ± 1.2`, and the number of seeds where it is not `expected`.
    #[must_use]
    pub fn summary(self, summary: Option<Summary>, expected: usize) -> String {
        let Some(summary) = summary else {
            return EMPTY.to_owned();
        };
        let mut text = self.number(summary.mean);
        if let Some(deviation) = summary.deviation {
            text.push_str(&format!("{NO_BREAK}±{NO_BREAK}{}", self.number(deviation)));
        }
        if summary.count != expected {
            text.push_str(&format!(" (n{NO_BREAK}={NO_BREAK}{})", summary.count));
        }
        text
    }

    /// `+3.1 (+0.4 to +5.8)`.
    #[must_use]
    pub fn difference(self, estimate: Option<Estimate>) -> String {
        let Some(estimate) = estimate else {
            return EMPTY.to_owned();
        };
        let mean = self.signed(estimate.mean);
        match estimate.interval {
            Some((low, high)) => {
                let (low, high) = (self.signed(low), self.signed(high));
                format!("{mean} ({low}{NO_BREAK}to{NO_BREAK}{high})")
            }
            None => format!("{mean} (one{NO_BREAK}seed)"),
        }
    }
}

/// A share as `41.0 %`.
#[must_use]
pub fn percent(share: f64) -> String {
    format!("{}{NO_BREAK}%", Unit::Percent.number(share))
}

/// `a`, `a and b`, `a, b and c`.
#[must_use]
pub fn listed<T: AsRef<str>>(items: &[T]) -> String {
    match items {
        [] => String::new(),
        [one] => one.as_ref().to_owned(),
        [first @ .., last] => {
            let first: Vec<&str> = first.iter().map(AsRef::as_ref).collect();
            format!("{} and {}", first.join(", "), last.as_ref())
        }
    }
}

/// `counting and structure`.
#[must_use]
pub fn family_list(families: &[Family]) -> String {
    let names: Vec<&str> = families.iter().map(|family| family.name()).collect();
    listed(&names)
}

/// `1 seed`, `3 seeds`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

/// Seconds as `42 s`, `12.3 min` or `4.1 h`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0}{NO_BREAK}s")
    } else if seconds < 7200.0 {
        format!("{:.1}{NO_BREAK}min", seconds / 60.0)
    } else {
        format!("{:.1}{NO_BREAK}h", seconds / 3600.0)
    }
}

/// The items once each, in order of first appearance.
#[must_use]
pub fn distinct<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut kept = Vec::new();
    for item in items {
        if !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!(Unit::Percent.number(-0.0004), "0.0", "no minus zero");
        assert_eq!(Unit::Percent.signed(-0.031), "−3.1");
        assert_eq!(Unit::Plain.signed(0.5), "+0.50");
        let summary = Summary {
            count: 2,
            mean: 0.713,
            deviation: Some(0.012),
        };
        let plain = |text: String| text.replace('\u{a0}', " ");
        assert_eq!(plain(Unit::Percent.summary(Some(summary), 2)), "71.3 ± 1.2");
        assert_eq!(
            plain(Unit::Percent.summary(Some(summary), 3)),
            "71.3 ± 1.2 (n = 2)"
        );
        assert_eq!(Unit::Whole.summary(None, 3), "—");
        let estimate = Estimate {
            count: 3,
            mean: 0.031,
            interval: Some((-0.004, 0.066)),
        };
        let text = Unit::Percent.difference(Some(estimate));
        assert_eq!(plain(text), "+3.1 (−0.4 to +6.6)");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(plain(percent(0.41)), "41.0 %");
        assert_eq!(plain(duration(90.0)), "90 s");
        assert_eq!(plain(duration(240.0)), "4.0 min");
        assert_eq!(distinct([3, 1, 3, 2, 1]), [3, 1, 2]);
    }
}
