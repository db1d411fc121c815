//! All results of a study, found by method, family and seed, and averaged over families and domains.
//!
//! Knows no table and no chart.

use std::collections::{BTreeMap, BTreeSet};

use super::result::{Domain, Family, Method, MissingKind, MissingRun, Role, RunResult};
use super::statistics::{self, Estimate};
use crate::study::error::StudyError;

/// A column of the paper's table.
pub type Cell = (Family, Domain);

/// A number that a trained model is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Mean score.
    Accuracy,
    /// Share of completions that are right in every part.
    ExactMatch,
    /// pass@k for this k.
    PassAt(u32),
}

impl Measure {
    /// The value of one run, the mean over the splits of `domain`; `None` if it has none or one of them lacks the measure.
    #[must_use]
    pub fn of(self, run: &RunResult, domain: Domain) -> Option<f64> {
        let splits = run.final_evaluations.iter();
        let values = splits
            .filter(|evaluation| evaluation.domain == domain)
            .map(|evaluation| match self {
                Self::Accuracy => Some(evaluation.accuracy),
                Self::ExactMatch => Some(evaluation.exact_match),
                Self::PassAt(k) => {
                    let pass = evaluation.pass_at_k.as_ref()?;
                    statistics::mean_pass_at_k(pass.samples_per_row, &pass.correct_counts, k)
                }
            });
        statistics::mean(&values.collect::<Option<Vec<f64>>>()?)
    }
}

/// Results and gaps of one study.
#[derive(Debug)]
pub struct Study<'a> {
    /// Every result.
    pub results: &'a [RunResult],
    /// Every planned run without a result.
    pub missing: &'a [MissingRun],
    /// Key of the method that the others are compared with.
    pub baseline: &'a str,
    methods: Vec<&'a Method>,
}

impl<'a> Study<'a> {
    /// Puts results and gaps together.
    ///
    /// # Errors
    /// Two results of one run, or one key with two descriptions.
    pub fn new(
        results: &'a [RunResult],
        missing: &'a [MissingRun],
        baseline: &'a str,
    ) -> Result<Self, StudyError> {
        let mut runs = BTreeSet::new();
        let mut methods: Vec<&Method> = Vec::new();
        let described = results
            .iter()
            .map(|result| (&result.method, result.file_name()));
        let planned = missing.iter().map(|run| {
            let (family, seed) = (run.family.name(), run.seed);
            (
                &run.method,
                format!("{}-{family}-seed-{seed}.json", run.method.key),
            )
        });
        for (method, run) in described.chain(planned) {
            match methods.iter().find(|known| known.key == method.key) {
                Some(known) if *known != method => {
                    let key = method.key.clone();
                    return Err(StudyError::Method { key, run });
                }
                Some(_) => {}
                None => methods.push(method),
            }
            if !runs.insert(run.clone()) {
                return Err(StudyError::Duplicate { run });
            }
        }
        methods.sort_by_key(|method| (method.order, &method.key));
        Ok(Self {
            results,
            missing,
            baseline,
            methods,
        })
    }

    /// Methods of these roles, in their order.
    #[must_use]
    pub fn methods(&self, roles: &[Role]) -> Vec<&'a Method> {
        let mut methods = self.methods.clone();
        methods.retain(|method| roles.contains(&method.role));
        methods
    }

    /// Seeds of all runs, planned ones included.
    #[must_use]
    pub fn seeds(&self) -> BTreeSet<u64> {
        let results = self.results.iter().map(|run| run.seed);
        let missing = self.missing.iter().map(|run| run.seed);
        results.chain(missing).collect()
    }

    /// The method of this key.
    #[must_use]
    pub fn method(&self, key: &str) -> Option<&'a Method> {
        self.methods
            .iter()
            .find(|method| method.key == key)
            .copied()
    }

    /// Title of the method of this key, or the key itself.
    #[must_use]
    pub fn title<'s>(&'s self, key: &'s str) -> &'s str {
        self.method(key).map_or(key, |method| &method.title)
    }

    /// The method that `method` is judged against.
    #[must_use]
    pub fn counterpart(&self, method: &'a Method) -> &'a str {
        method.counterpart.as_deref().unwrap_or(self.baseline)
    }

    /// Families in which one of the methods has or should have a run.
    #[must_use]
    pub fn families(&self, methods: &[&Method]) -> Vec<Family> {
        let named = |key: &str| methods.iter().any(|method| method.key == key);
        let planned = |family: &Family| {
            let mut results = self.results.iter();
            let mut missing = self.missing.iter();
            results.any(|run| run.family == *family && named(&run.method.key))
                || missing.any(|run| run.family == *family && named(&run.method.key))
        };
        Family::ALL.into_iter().filter(planned).collect()
    }

    /// Both domains of the families.
    #[must_use]
    pub fn cells(families: &[Family]) -> Vec<Cell> {
        let both = |family: &Family| Domain::ALL.map(|domain| (*family, domain));
        families.iter().flat_map(both).collect()
    }

    /// Results of a method in a family, by seed.
    #[must_use]
    pub fn runs(&self, method: &str, family: Family) -> Vec<&'a RunResult> {
        let mut runs: Vec<&RunResult> = self
            .results
            .iter()
            .filter(|run| run.method.key == method && run.family == family)
            .collect();
        runs.sort_by_key(|run| run.seed);
        runs
    }

    /// The mean over `cells` for each seed that has all of them.
    #[must_use]
    pub fn per_seed(&self, method: &str, measure: Measure, cells: &[Cell]) -> BTreeMap<u64, f64> {
        let runs = self.results.iter().filter(|run| run.method.key == method);
        let seeds: BTreeSet<u64> = runs.map(|run| run.seed).collect();
        let value = |seed: u64, (family, domain): &Cell| {
            let runs = self.runs(method, *family);
            let run = runs.into_iter().find(|run| run.seed == seed)?;
            measure.of(run, *domain)
        };
        let average = |seed: u64| {
            let values: Option<Vec<f64>> = cells.iter().map(|cell| value(seed, cell)).collect();
            Some((seed, statistics::mean(&values?)?))
        };
        seeds.into_iter().filter_map(average).collect()
    }

    /// Difference of two methods over the seeds that both have, each the mean over `cells`.
    #[must_use]
    pub fn difference(
        &self,
        methods: (&str, &str),
        measure: Measure,
        cells: &[Cell],
    ) -> Option<Estimate> {
        let ours = self.per_seed(methods.0, measure, cells);
        let theirs = self.per_seed(methods.1, measure, cells);
        statistics::estimate(&statistics::paired_differences(&ours, &theirs))
    }

    /// As [`Study::difference`] with each family a stratum of its own: the runs of different families are independent even if
    /// their seeds have the same number.
    #[must_use]
    pub fn stratified_difference(
        &self,
        methods: (&str, &str),
        measure: Measure,
        families: &[Family],
    ) -> Option<Estimate> {
        let stratum = |family: &Family| {
            let cells = Self::cells(&[*family]);
            let ours = self.per_seed(methods.0, measure, &cells);
            let theirs = self.per_seed(methods.1, measure, &cells);
            statistics::paired_differences(&ours, &theirs)
        };
        let strata: Vec<Vec<f64>> = families.iter().map(stratum).collect();
        statistics::stratified_estimate(&strata)
    }

    /// The largest k that every pass@k measurement of these methods allows.
    #[must_use]
    pub fn largest_k(&self, methods: &[&str]) -> Option<u32> {
        let runs = self.results.iter();
        runs.filter(|run| methods.contains(&run.method.key.as_str()))
            .flat_map(|run| &run.final_evaluations)
            .filter_map(|evaluation| evaluation.pass_at_k.as_ref())
            .map(|pass| pass.samples_per_row)
            .min()
    }

    /// What keeps a method from having every planned seed in a family; `None` if nothing does.
    #[must_use]
    pub fn gap(&self, method: &str, family: Family) -> Option<String> {
        let missing = self
            .missing
            .iter()
            .filter(|run| run.method.key == method && run.family == family);
        let mut parts: Vec<String> = missing.map(describe).collect();
        let runs = self.runs(method, family);
        if runs.is_empty() && parts.is_empty() {
            return Some("not part of this study".to_owned());
        }
        for run in runs {
            for domain in Domain::ALL {
                if Measure::Accuracy.of(run, domain).is_none() {
                    parts.push(format!("seed {} has no split {}", run.seed, domain.title()));
                }
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn describe(run: &MissingRun) -> String {
    let what = match run.kind {
        MissingKind::NotRun => "not run",
        MissingKind::Failed => "failed",
    };
    let reason = run.reason.lines().next().unwrap_or("").trim();
    if reason.is_empty() {
        format!("seed {} {what}", run.seed)
    } else {
        format!("seed {} {what} ({reason})", run.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture::{method, missing, run};

    /// Two methods, two seeds, two families; the second seed of `ours` lacks structure.
    fn results() -> Vec<RunResult> {
        let base = || method("base", Role::Reference);
        let ours = || method("ours", Role::Proposed);
        vec![
            run(ours(), Family::Counting, 2, 9),
            run(ours(), Family::Counting, 1, 8),
            run(ours(), Family::Structure, 1, 6),
            run(base(), Family::Counting, 1, 5),
            run(base(), Family::Counting, 2, 7),
            run(base(), Family::Structure, 1, 5),
            run(base(), Family::Structure, 2, 5),
        ]
    }

    #[test]
    fn averages_take_whole_seeds_and_differences_equal_ones() {
        let results = results();
        let gap = [missing(
            method("ours", Role::Proposed),
            Family::Structure,
            2,
        )];
        let study = Study::new(&results, &gap, "base").expect("a study");
        let both = Study::cells(&[Family::Counting, Family::Structure]);
        let ours = study.per_seed("ours", Measure::Accuracy, &both);
        assert_eq!(
            ours.keys().collect::<Vec<_>>(),
            [&1],
            "seed 2 lacks structure"
        );
        assert!((ours[&1] - 0.65).abs() < 1e-12, "mean of .8 .7 .6 .5");
        let counting = Study::cells(&[Family::Counting]);
        let pair = ("ours", "base");
        let found = study
            .difference(pair, Measure::Accuracy, &counting)
            .expect("two seeds");
        assert!((found.mean - 0.25).abs() < 1e-12, "mean of .3 and .2");
        assert_eq!(found.count, 2);
        assert_eq!(study.gap("base", Family::Structure), None);
        let gap = study.gap("ours", Family::Structure).expect("a gap");
        assert_eq!(gap, "seed 2 failed (loss is | not finite)");
        let gap = study.gap("ours", Family::Transformation).expect("a gap");
        assert_eq!(gap, "not part of this study");
    }

    #[test]
    fn contradictions_between_results_are_refused() {
        let mut twice = results();
        twice.push(twice[0].clone());
        let error = Study::new(&twice, &[], "base")
            .expect_err("refused")
            .to_string();
        assert!(error.contains("ours-counting-seed-2"), "{error}");
        let mut renamed = results();
        renamed[1].method.title = "Other".to_owned();
        let error = Study::new(&renamed, &[], "base")
            .expect_err("refused")
            .to_string();
        assert!(error.contains("ours-counting-seed-1"), "{error}");
    }

    #[test]
    fn a_domain_is_the_mean_of_its_splits() {
        let mut run = run(
            method("base", Role::Reference),
            Family::Transformation,
            1,
            6,
        );
        let mut right = run.final_evaluations[1].clone();
        right.split = "test-right".to_owned();
        right.accuracy = 0.9;
        run.final_evaluations.push(right);
        let out = Measure::Accuracy.of(&run, Domain::Out).expect("two splits");
        assert!((out - 0.7).abs() < 1e-12, "mean of .5 and .9");
        run.final_evaluations[2].pass_at_k = None;
        assert_eq!(
            Measure::PassAt(1).of(&run, Domain::Out),
            None,
            "one split lacks it"
        );
        assert_eq!(
            Measure::PassAt(5).of(&run, Domain::In),
            None,
            "four samples"
        );
    }
}
