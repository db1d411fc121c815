//! Accuracy of a short answer: a string, or a number that may be a little off; knows nothing of function sequences.

use std::f64::consts::PI;

use super::answer::{answer_or_text, tagged_answer};
use super::expression::Value;
use super::math_equivalence::{equivalent, same_answer, stated};

/// Relative error below which a number counts as right.
const FULL_CREDIT: f64 = 0.05;
/// Relative error above which a number counts as wrong.
const NO_CREDIT: f64 = 0.20;

/// 1 if the answer is a spelling of the gold answer ([`same_answer`]), or if the completion has no answer tag and its text
/// is mathematically equivalent to the gold answer; else 0. (Reason-RFT `accuracy_reward`.)
///
/// Differs from upstream: an answer of several lines counts as tagged; a tagged answer need not be the gold answer's very
/// characters (there `4` earns nothing where a data set says `4.0` or `4^{\circ}`); the symbolic check is [`equivalent`],
/// which evaluates numbers only.
#[must_use]
pub fn accuracy_reward(text: &str, solution: &str) -> f32 {
    if same_answer(answer_or_text(text), answer_or_text(solution))
        || untagged_equivalent(text, solution)
    {
        1.0
    } else {
        0.0
    }
}

/// Credit that falls with the relative error d of a number: 1 below 5 %, 0 above 20 %, half a cosine wave between.
/// Answers that are not numbers need to be the same text. (Reason-RFT `math_accuracy_reward`.)
///
/// Differs from upstream: a number may be written in any of the ways of [`same_answer`] (there: Python's `float`), gold 0
/// with answer 0 is 1 (there: division by zero, then 0), a non-finite answer is 0 (there: `nan` gives NaN), and Python's
/// `1_000` is not a number.
#[must_use]
pub fn math_accuracy_reward(text: &str, solution: &str) -> f32 {
    let (answer, gold) = (answer_or_text(text), answer_or_text(solution));
    let credit = match (stated(answer), stated(gold)) {
        (Some(answer), Some(gold)) => value_credit(&answer, &gold),
        _ if is_non_finite(answer) => 0.0,
        _ if same_answer(answer, gold) => 1.0,
        _ => 0.0,
    };
    if credit == 0.0 && untagged_equivalent(text, solution) {
        1.0
    } else {
        credit
    }
}

/// Whether an answer is right to the eye of the `length` and `cosine` rewards. (Reason-RFT `len_reward`.)
#[must_use]
pub fn is_correct(text: &str, solution: &str) -> bool {
    accuracy_reward(text, solution) == 1.0
}

/// Words that `f64` and Python read as numbers, and that are none.
fn is_non_finite(text: &str) -> bool {
    text.parse::<f64>().is_ok_and(|number| !number.is_finite())
}

/// The better of the credits at face value and, where one side is a percentage, as a fraction.
fn value_credit(answer: &Value, gold: &Value) -> f32 {
    if !answer.unit.agrees(&gold.unit) {
        return 0.0;
    }
    let face = number_credit(answer.number, gold.number);
    if answer.percent == gold.percent {
        return face;
    }
    face.max(number_credit(answer.fraction(), gold.fraction()))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a credit between 0 and 1 needs no more than f32"
)]
fn number_credit(answer: f64, gold: f64) -> f32 {
    if !answer.is_finite() || !gold.is_finite() {
        return 0.0;
    }
    let (difference, size) = ((answer - gold).abs(), gold.abs());
    if difference == 0.0 || difference < FULL_CREDIT * size {
        return 1.0;
    }
    if difference > NO_CREDIT * size {
        return 0.0;
    }
    let position = (difference - FULL_CREDIT * size) / ((NO_CREDIT - FULL_CREDIT) * size);
    (0.5 * (1.0 + (PI * position).cos())) as f32
}

fn untagged_equivalent(text: &str, solution: &str) -> bool {
    tagged_answer(text).is_none() && equivalent(text, answer_or_text(solution))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(answer: &str) -> String {
        format!("<think>t</think>\n<answer>{answer}</answer>")
    }

    #[test]
    fn accuracy_edge_cases() {
        for right in [
            "<answer> 3 </answer>",
            "<answer>\n3\n</answer>",
            "3",
            " 3\n",
        ] {
            assert_eq!(accuracy_reward(right, "3"), 1.0, "{right:?}");
        }
        assert_eq!(accuracy_reward(&tagged("3.0"), "3"), 1.0);
        assert_eq!(accuracy_reward(&tagged("3"), "3.0"), 1.0);
        assert_eq!(accuracy_reward(&tagged("3.1"), "3"), 0.0);
        assert_eq!(accuracy_reward(&tagged("a"), "A"), 0.0);
        assert_eq!(accuracy_reward("a", "A"), 0.0);
        assert_eq!(
            accuracy_reward("<answer>1</answer><answer>2</answer>", "2"),
            0.0
        );
        assert_eq!(accuracy_reward(&tagged(""), "3"), 0.0);
        assert_eq!(accuracy_reward("", "3"), 0.0);
    }

    #[test]
    fn only_untagged_text_reaches_the_mathematical_check() {
        assert_eq!(accuracy_reward("3.0", "3"), 1.0);
        assert_eq!(accuracy_reward("There are 3.", "3"), 1.0);
        assert_eq!(accuracy_reward("5 + 1 = 6", "6"), 1.0);
        assert_eq!(accuracy_reward(&tagged("5 + 1 = 6"), "6"), 0.0);
        assert_eq!(accuracy_reward(&tagged("There are 3."), "3"), 0.0);
    }

    #[test]
    fn a_tagged_solution_is_unwrapped() {
        assert_eq!(
            accuracy_reward("<answer>B</answer>", "<think>x</think><answer> B </answer>"),
            1.0
        );
        assert_eq!(accuracy_reward("4", "<answer>4.0</answer>"), 1.0);
    }

    #[test]
    fn math_accuracy_edge_cases() {
        let near = |answer: &str, gold: &str, expected: f32| {
            let credit = math_accuracy_reward(&tagged(answer), gold);
            assert!(
                (credit - expected).abs() < 1e-6,
                "{answer} against {gold}: {credit}, not {expected}"
            );
        };
        for (answer, credit) in [
            ("104.9", 1.0),
            ("105", 1.0),
            ("1e2", 1.0),
            ("110", 0.75),
            ("112.5", 0.5),
            ("120", 0.0),
            ("121", 0.0),
            ("-100", 0.0),
            ("nan", 0.0),
            ("inf", 0.0),
            ("", 0.0),
            ("one hundred", 0.0),
            ("5 + 95 = 100", 0.0),
        ] {
            near(answer, "100", credit);
        }
        near("0", "0", 1.0);
        near("0.0", "0", 1.0);
        near("0.001", "0", 0.0);
        near("B", "B", 1.0);
        near("nan", "nan", 0.0);
        near("-95.1", "-100", 1.0);
        assert_eq!(
            math_accuracy_reward("about 7 in all, so \\boxed{100}", "100"),
            1.0
        );
    }

    #[test]
    fn correctness_also_accepts_equal_numbers_in_tags() {
        assert!(is_correct(&tagged("3.0"), "3"));
        assert!(is_correct("3", "3"));
        assert!(!is_correct(&tagged("4"), "3"));
        assert!(!is_correct(&tagged("nan"), "nan is not a number"));
    }
}
