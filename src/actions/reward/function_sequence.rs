//! Credit for a sequence of transformation functions (TRANCE); knows nothing of tags or tasks.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::LazyLock;

use regex::Regex;

/// `func(object, value)`; the value may stand in single quotes.
static CALL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(\w+)\((\w+),\s*'?(\w+)'?\)").expect("a constant pattern"));

/// What a pair of functions earns, by how far they agree; passes are made in this order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Credit {
    /// Function, object and value are equal.
    pub full: f64,
    /// Function and object are equal.
    pub object: f64,
    /// Function and value are equal.
    pub value: f64,
    /// Only the function is equal.
    pub function: f64,
}

impl Credit {
    /// `trance-only-full`: whole functions only (all published scripts).
    pub const ONLY_FULL: Self = Self {
        full: 1.0,
        object: 0.0,
        value: 0.0,
        function: 0.0,
    };
    /// `trance`: partial credit.
    pub const PARTIAL: Self = Self {
        full: 1.0,
        object: 0.5,
        value: 0.5,
        function: 0.25,
    };
    /// `trance-penalty`: wrong parts subtract.
    pub const PENALTY: Self = Self {
        full: 1.0,
        object: -0.25,
        value: -0.25,
        function: -0.5,
    };
}

/// One call: function, object, value.
type Call<'a> = [&'a str; 3];

/// Which parts of a call have to agree, in the order of [`Credit`]'s fields.
const PASSES: [[bool; 3]; 4] = [
    [true, true, true],
    [true, true, false],
    [true, false, true],
    [true, false, false],
];

/// The calls of a text, repeats removed (the first stays), and how many there were.
struct Sequence<'a> {
    calls: Vec<Call<'a>>,
    written: usize,
}

fn parse(text: &str) -> Sequence<'_> {
    let mut seen = HashSet::new();
    let all = CALL.captures_iter(text).map(|call| call.extract::<3>().1);
    let mut written = 0;
    let calls = all
        .inspect(|_| written += 1)
        .filter(|call| seen.insert(*call))
        .collect();
    Sequence { calls, written }
}

/// Reward of an answer in training: Σ credit of the pairs · ρ / max(|D|, |T|), where D and T are the distinct
/// predicted and gold calls and ρ = |D| / number of predicted calls; 0 if either side has no call.
/// (Reason-RFT `func_accuracy_reward`, `only_full_func_accuracy_reward`, `penalty_func_accuracy_reward`.)
///
/// Differs from upstream: there D is an unordered set, so ties between partial pairs vary from run to run.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "small counts"
)]
pub fn function_sequence_reward(answer: &str, solution: &str, credit: Credit) -> f32 {
    let (predicted, gold) = (parse(answer), parse(solution));
    if predicted.calls.is_empty() || gold.calls.is_empty() {
        return 0.0;
    }
    let units = predicted.written * predicted.calls.len().max(gold.calls.len());
    (pair_credit(&predicted.calls, &gold.calls, credit) * predicted.calls.len() as f64
        / units as f64) as f32
}

/// Score of an answer in evaluation: partial credit without the penalty on repeats.
/// (Reason-RFT `get_score_trance`; method: section 3.7.)
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "small counts")]
pub fn function_sequence_score(answer: &str, solution: &str) -> f64 {
    let (predicted, gold) = (parse(answer), parse(solution));
    if predicted.calls.is_empty() || gold.calls.is_empty() {
        return 0.0;
    }
    let units = predicted.calls.len().max(gold.calls.len());
    pair_credit(&predicted.calls, &gold.calls, Credit::PARTIAL) / units as f64
}

/// Whether the distinct calls of both sides are the same, in any order; false where the gold answer has none.
#[must_use]
pub fn same_functions(answer: &str, solution: &str) -> bool {
    let distinct = |text| -> HashSet<Call<'_>> { parse(text).calls.into_iter().collect() };
    let gold = distinct(solution);
    !gold.is_empty() && distinct(answer) == gold
}

/// The parts of a call that have to agree.
fn agreeing<'a>(call: &Call<'a>, parts: [bool; 3]) -> Call<'a> {
    [0, 1, 2].map(|part| if parts[part] { call[part] } else { "" })
}

/// Greedy pairing with removal: each pass takes, for each predicted call left, the first gold call left that agrees. Looked
/// up by the parts that have to agree, so that the work is linear in the calls.
fn pair_credit(predicted: &[Call<'_>], gold: &[Call<'_>], credit: Credit) -> f64 {
    let mut predicted = predicted.to_vec();
    let mut is_taken = vec![false; gold.len()];
    let mut total = 0.0;
    for (parts, points) in
        PASSES
            .iter()
            .zip([credit.full, credit.object, credit.value, credit.function])
    {
        let mut partners: HashMap<[&str; 3], VecDeque<usize>> = HashMap::new();
        for (index, call) in gold
            .iter()
            .enumerate()
            .filter(|(index, _)| !is_taken[*index])
        {
            partners
                .entry(agreeing(call, *parts))
                .or_default()
                .push_back(index);
        }
        predicted.retain(|call| {
            let partner = partners
                .get_mut(&agreeing(call, *parts))
                .and_then(VecDeque::pop_front);
            if let Some(partner) = partner {
                is_taken[partner] = true;
                total += points;
            }
            partner.is_none()
        });
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOLD: &str = "change_color(1,'red'), change_size(2,'small')";

    /// trance, only-full, penalty, evaluation.
    fn scores(answer: &str) -> [f64; 4] {
        let reward = |credit| f64::from(function_sequence_reward(answer, GOLD, credit));
        [
            reward(Credit::PARTIAL),
            reward(Credit::ONLY_FULL),
            reward(Credit::PENALTY),
            function_sequence_score(answer, GOLD),
        ]
    }

    #[test]
    fn edge_cases_of_the_method() {
        let third = 2.0 / 3.0;
        for (answer, expected) in [
            (GOLD, [1.0, 1.0, 1.0, 1.0]),
            ("change_color(1, red)", [0.5, 0.5, 0.5, 0.5]),
            (
                "change_color(1,'blue'), change_size(2,'small')",
                [0.75, 0.5, 0.375, 0.75],
            ),
            ("change_color(3,'red')", [0.25, 0.0, -0.125, 0.25]),
            ("change_color(3,'blue')", [0.125, 0.0, -0.25, 0.125]),
            (
                "change_color(1,'red'), change_color(1,'red')",
                [0.25, 0.25, 0.25, 0.5],
            ),
            (
                "change_color(1,'red'), change_color(1,'red'), change_size(2,'small')",
                [third, third, third, 1.0],
            ),
            (
                "change_color(1,'red'), change_size(2,'small'), change_shape(3,'cube')",
                [third, third, third, third],
            ),
            ("change_color('1','red')", [0.0; 4]),
            ("change_color(1,\"red\")", [0.0; 4]),
            ("change_color( 1,'red')", [0.0; 4]),
            ("change_color(1 ,'red')", [0.0; 4]),
            ("", [0.0; 4]),
        ] {
            for (found, expected) in scores(answer).into_iter().zip(expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "{answer}: {:?}, not {expected:?}",
                    scores(answer)
                );
            }
        }
    }

    #[test]
    fn a_perfect_answer_is_exactly_one() {
        for count in 1..50 {
            let calls: Vec<String> = (0..count)
                .map(|object| format!("change_size({object},'small')"))
                .collect();
            let gold = calls.join(", ");
            for credit in [Credit::ONLY_FULL, Credit::PARTIAL, Credit::PENALTY] {
                assert_eq!(
                    function_sequence_reward(&gold, &gold, credit),
                    1.0,
                    "{count} calls"
                );
            }
        }
    }

    #[test]
    fn a_gold_answer_without_calls_earns_nothing() {
        assert_eq!(function_sequence_reward(GOLD, "none", Credit::PARTIAL), 0.0);
        assert_eq!(function_sequence_score(GOLD, "none"), 0.0);
        assert!(!same_functions("none", "none"));
    }

    #[test]
    fn order_and_repeats_do_not_matter_to_the_exact_match() {
        assert!(same_functions(
            "change_size(2, small) change_color(1,red), change_color(1,red)",
            GOLD
        ));
        assert!(!same_functions("change_color(1,'red')", GOLD));
        assert!(!same_functions(
            &format!("{GOLD}, change_shape(1,'cube')"),
            GOLD
        ));
    }

    #[test]
    fn partners_are_removed_once_paired() {
        // Both predictions share only the function with the one gold call: one of them is paired.
        let found = function_sequence_reward("f(1,a), f(2,b)", "f(3,c)", Credit::PARTIAL);
        assert_eq!(found, 0.125);
    }
}
