//! The paper's claims, each answered for each proposed method by an interval over seeds.
//!
//! A claim about a difference holds if the whole interval is on the claimed side of the bound, does not hold if it is on the
//! other, and is open in between, with one seed, and while runs that it needs are missing. Knows no table and no chart.

mod evidence;
mod questions;

pub use evidence::{Claim, EXPECTED_GAIN, Verdict};

use super::collection::Study;
use super::result::Role;

/// Every claim about every proposed method.
#[must_use]
pub fn claims(study: &Study) -> Vec<Claim> {
    let mut claims = Vec::new();
    let families = study.families(&study.methods(&[Role::Reference, Role::Proposed]));
    for method in study.methods(&[Role::Proposed]) {
        let counterpart = study.counterpart(method);
        claims.push(questions::accuracy(study, method, counterpart, &families));
        let mut equal_budget = study.methods(&[Role::EqualBudget]);
        equal_budget.retain(|other| study.counterpart(other) == counterpart);
        for other in equal_budget {
            // A control that was run on fewer families is compared on those.
            let families = study.families(&[other]);
            claims.push(questions::accuracy(study, method, &other.key, &families));
        }
        claims.push(questions::convergence(
            study,
            method,
            counterpart,
            &families,
        ));
        claims.push(questions::pass_at_large_k(
            study,
            method,
            counterpart,
            &families,
        ));
        claims.push(questions::falling_share(study, method, &families));
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture::{method, missing, run};
    use crate::study::results::result::{Family, RunResult};

    /// Three seeds in which `ours` gets `gains` more rows of ten right than the baseline's five.
    fn results(gains: [i64; 3]) -> Vec<RunResult> {
        let mut results = Vec::new();
        for (seed, gain) in (1..).zip(gains) {
            let right = u32::try_from(5 + gain).expect("a count");
            results.push(run(
                method("base", Role::Reference),
                Family::Counting,
                seed,
                5,
            ));
            results.push(run(
                method("ours", Role::Proposed),
                Family::Counting,
                seed,
                right,
            ));
        }
        results
    }

    fn verdicts(results: &[RunResult]) -> Vec<(String, Verdict)> {
        let study = Study::new(results, &[], "base").expect("a study");
        let claims = claims(&study).into_iter();
        claims.map(|claim| (claim.title, claim.verdict)).collect()
    }

    /// Differences .1 .2 .1 have mean .133 and half width 4.303 * .0577 / 1.732 = .143; .2 .2 .3 have .233 and .143.
    #[test]
    fn the_interval_decides() {
        use Verdict::{DoesNotHold, Holds, Open};
        let of = |gains| verdicts(&results(gains))[0].clone();
        let title = "The ours is more accurate than The base".to_owned();
        assert_eq!(of([2, 2, 3]), (title, Holds));
        assert_eq!(of([1, 2, 1]).1, Open);
        assert_eq!(of([-2, -2, -3]).1, DoesNotHold);
    }

    /// With 9 against 5 the level 0.5 is reached by the window at steps 6 and 7 (.54, .63), and step 6 ends one of .495.
    #[test]
    fn every_claim_is_answered() {
        let found = verdicts(&results([4, 4, 4]));
        let words: Vec<&str> = found.iter().map(|(_, verdict)| verdict.word()).collect();
        assert_eq!(words, ["holds", "holds", "holds", "holds"], "{found:?}");
        assert!(found[1].0.contains("final reward") && found[2].0.contains("pass@4"));
        let found = verdicts(&results([0, 0, 0]));
        let words: Vec<&str> = found.iter().map(|(_, verdict)| verdict.word()).collect();
        assert_eq!(
            words,
            ["open", "does not hold", "open", "holds"],
            "{found:?}"
        );
    }

    #[test]
    fn a_claim_stays_open_while_runs_are_missing_or_there_is_one_seed() {
        let results = results([4, 4, 4]);
        let gap = [missing(
            method("ours", Role::Proposed),
            Family::Structure,
            1,
        )];
        let study = Study::new(&results, &gap, "base").expect("a study");
        let claims_with_gap = claims(&study);
        assert!(
            claims_with_gap
                .iter()
                .all(|claim| claim.verdict == Verdict::Open)
        );
        let sentence = &claims_with_gap[0].sentence;
        assert!(sentence.contains("cover counting only"), "{sentence}");
        let one = Study::new(&results[..2], &[], "base").expect("a study");
        let found = claims(&one);
        assert!(
            found[0].sentence.contains("one seed"),
            "{}",
            found[0].sentence
        );
        assert!(found.iter().all(|claim| claim.verdict == Verdict::Open));
        let nothing = Study::new(&results[1..2], &[], "base").expect("a study");
        assert_eq!(claims(&nothing)[0].verdict, Verdict::Open);
    }

    #[test]
    fn equal_budgets_are_compared_with_the_proposed_method_of_the_same_start() {
        let mut results = results([4, 4, 4]);
        results.push(run(
            method("more", Role::EqualBudget),
            Family::Counting,
            1,
            5,
        ));
        let of_other_start = |result: &mut RunResult| {
            result.method.key = "ours-2".to_owned();
            result.method.counterpart = Some("stage-2".to_owned());
        };
        let mut other = results[1].clone();
        of_other_start(&mut other);
        results.push(other);
        let titles: Vec<String> = verdicts(&results)
            .into_iter()
            .map(|(title, _)| title)
            .collect();
        let compared = titles.iter().filter(|title| title.contains("The more"));
        assert_eq!(compared.count(), 1, "{titles:?}");
    }
}
