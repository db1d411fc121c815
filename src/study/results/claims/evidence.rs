//! The numbers behind a claim, and the answer that they allow. Knows no question.

use std::collections::BTreeMap;

use crate::study::results::result::Family;
use crate::study::results::statistics::{self, Estimate};
use crate::study::results::text::{Unit, counted, family_list};

/// Gain in accuracy that the paper reports at best, as a share.
pub const EXPECTED_GAIN: f64 = 0.05;

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The interval is on the claimed side.
    Holds,
    /// The interval is on the other side.
    DoesNotHold,
    /// The interval includes the bound, or there is none.
    Open,
}

impl Verdict {
    /// The word in the report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::DoesNotHold => "does not hold",
            Self::Open => "open",
        }
    }
}

/// A claim and its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What is claimed, of which method.
    pub title: String,
    /// The answer.
    pub verdict: Verdict,
    /// The numbers behind it.
    pub sentence: String,
}

/// On which side of a bound the claim wants the mean.
pub(super) enum Side {
    Above(f64),
    Below(f64),
}

/// An estimate over all planned families, or else over those that have what it takes.
pub(super) struct Evidence {
    pub estimate: Estimate,
    pub families: Vec<Family>,
    pub whole: bool,
}

impl Evidence {
    pub fn gather(
        planned: &[Family],
        usable: impl Fn(Family) -> bool,
        estimate: impl Fn(&[Family]) -> Option<Estimate>,
    ) -> Option<Self> {
        let usable: Vec<Family> = planned
            .iter()
            .copied()
            .filter(|family| usable(*family))
            .collect();
        let over = |families: &[Family], whole| {
            let estimate = (!families.is_empty()).then(|| estimate(families))??;
            let families = families.to_vec();
            Some(Self {
                estimate,
                families,
                whole,
            })
        };
        over(planned, true).or_else(|| over(&usable, false))
    }

    pub fn verdict(&self, side: &Side) -> Verdict {
        let Some((low, high)) = self.estimate.interval.filter(|_| self.whole) else {
            return Verdict::Open;
        };
        let (holds, fails) = match *side {
            Side::Above(bound) => (low > bound, high < bound),
            Side::Below(bound) => (high < bound, low > bound),
        };
        match (holds, fails) {
            (true, _) => Verdict::Holds,
            (_, true) => Verdict::DoesNotHold,
            _ => Verdict::Open,
        }
    }

    /// `+3.1 points, averaged over counting and structure in and out of domain (95 % interval ..., 3 seeds).`
    pub fn points(&self) -> String {
        let mean = Unit::Percent.signed(self.estimate.mean);
        let families = family_list(&self.families);
        let interval = self.interval();
        format!("{mean} points, averaged over {families} in and out of domain ({interval}).")
    }

    pub fn interval(&self) -> String {
        let unit = Unit::Percent;
        match self.estimate.interval {
            Some((low, high)) => format!(
                "95\u{a0}% interval {} to {}, {}",
                unit.signed(low),
                unit.signed(high),
                counted(self.estimate.count, "seed")
            ),
            None => "one seed, so there is no interval".to_owned(),
        }
    }

    /// Which part of the study the numbers cover, if not all of it.
    pub fn coverage(&self) -> String {
        if self.whole {
            return String::new();
        }
        let families = family_list(&self.families);
        format!(" Runs are missing: these numbers cover {families} only, so the claim stays open.")
    }

    pub fn answer(&self, title: String, side: &Side, mut sentence: String) -> Claim {
        sentence.push_str(&self.coverage());
        Claim {
            title,
            verdict: self.verdict(side),
            sentence,
        }
    }
}

/// For each seed that has all the families, the mean of `value` over them.
pub(super) fn mean_over_families<T>(
    by_family: &[BTreeMap<u64, T>],
    value: impl Fn(&T) -> f64,
) -> Option<Estimate> {
    let first = by_family.first()?;
    let seed_mean = |seed: &u64| {
        let values = by_family.iter().map(|family| family.get(seed).map(&value));
        statistics::mean(&values.collect::<Option<Vec<f64>>>()?)
    };
    let means: Vec<f64> = first.keys().filter_map(seed_mean).collect();
    statistics::estimate(&means)
}
