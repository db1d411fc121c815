//! Whether two texts state the same number; knows nothing of tags or rewards.
//!
//! Stands in for the symbolic checker of Reason-RFT (`math_verify`): the same places of a text are searched for the
//! number, but only closed numeric expressions are evaluated; letters of a choice question, sets, intervals and
//! formulas with unknowns are never equivalent to anything. Upstream calls its checker with prediction and gold
//! swapped; here only the answer is searched.

use super::expression::{Value, evaluate};
use super::formula::{after_answer_phrase, boxed, first_number, formulas, last_number};
use super::spelling::text_form;

/// Beyond this relative distance two exact expressions differ (rounding of a few operations stays far below).
const EXACT: f64 = 1e-12;
/// A decimal fraction is read as rounded to six places, as `math_verify` does ...
const ROUNDED: f64 = 5e-7;
/// ... unless the numbers are so small that this would swallow them.
const ROUNDED_RELATIVE: f64 = 2e-6;

/// Whether two answers are spellings of one: the same number, however it is written (`4.0` and `4`, `1,234` and `1234`,
/// `\frac{1}{2}` and `0.5`, `30^{\circ}` and `30 degrees`, `50\%` and `0.5`), or the same text but for spaces and LaTeX's
/// delimiters. Both go through one normalisation.
///
/// A sum is no spelling of its value, units that both sides give have to be the same, and letters keep their case.
#[must_use]
pub fn same_answer(answer: &str, gold: &str) -> bool {
    if answer == gold {
        return true;
    }
    match (stated(answer), stated(gold)) {
        (Some(answer), Some(gold)) => same(&answer, &gold),
        (None, None) => text_form(answer) == text_form(gold),
        _ => false,
    }
}

/// The number that a text states, if that is all it does.
pub(super) fn stated(text: &str) -> Option<Value> {
    let boxed = || {
        let inside = text.trim().strip_prefix("\\boxed{")?;
        inside.strip_suffix('}')
    };
    let value = evaluate(text).or_else(|| boxed().and_then(evaluate));
    value.filter(|value| value.is_statement)
}

/// Whether an answer holds the number that the gold answer states.
///
/// The number of an answer is the first of these that can be evaluated: the whole text, the last `\boxed{}`, the first
/// number after the last "answer is", the last formula between `$` signs, the last number. The gold answer has to be
/// a number, a `\boxed{}` or a formula; numbers in running text do not make it one.
/// A percentage equals both its face value and its hundredth (as in `math_verify`).
#[must_use]
pub fn equivalent(answer: &str, gold: &str) -> bool {
    let Some(gold) = stated_number(gold).or_else(|| last_formula(gold)) else {
        return false;
    };
    let answer = stated_number(answer)
        .or_else(|| number_after_phrase(answer))
        .or_else(|| last_formula(answer))
        .or_else(|| last_number(answer).and_then(evaluate));
    answer.is_some_and(|answer| same(&answer, &gold))
}

/// Whether two values are equal: whole numbers to the last digit, others within rounding.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    if !left.unit.agrees(&right.unit) {
        return false;
    }
    let close = |a: f64, b: f64| {
        let size = a.abs().max(b.abs());
        let allowed = if left.decimal || right.decimal {
            ROUNDED.min(ROUNDED_RELATIVE * size)
        } else {
            EXACT * size
        };
        (a - b).abs() <= allowed
    };
    let as_written = match (&left.integer, &right.integer) {
        (Some(left), Some(right)) => left == right,
        _ => close(left.number, right.number),
    };
    as_written || (left.percent != right.percent && close(left.fraction(), right.fraction()))
}

fn stated_number(text: &str) -> Option<Value> {
    evaluate(text).or_else(|| boxed(text).and_then(evaluate))
}

fn number_after_phrase(text: &str) -> Option<Value> {
    let rest = after_answer_phrase(text)?;
    evaluate(rest)
        .or_else(|| formulas(rest).next().and_then(evaluate))
        .or_else(|| first_number(rest).and_then(evaluate))
}

fn last_formula(text: &str) -> Option<Value> {
    formulas(text).last().and_then(evaluate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_numbers_in_many_spellings() {
        for (left, right) in [
            ("3", "3"),
            ("3.0", "3"),
            ("+3", "3"),
            ("3.", "3"),
            ("1,234", "1234"),
            ("1{,}234", "1234"),
            ("1/2", "0.5"),
            ("\\frac{1}{2}", "0.5"),
            ("$\\dfrac{1}{2}$", "1/2"),
            ("1\\frac{1}{2}", "1.5"),
            ("0.333333", "1/3"),
            ("50%", "0.5"),
            ("50\\%", "1/2"),
            ("50%", "50"),
            ("50%", "50%"),
            ("3\\sqrt{2}", "\\sqrt{18}"),
            ("4.242641", "3\\sqrt{2}"),
            ("2\\pi", "6.283185"),
            ("2^3", "8"),
            ("30°", "30"),
            ("30^\\circ", "30"),
            ("30^{\\circ}", "30 degrees"),
            ("12 cm", "12"),
            ("12", "12\\text{ cm}^2"),
            ("x = 5", "5"),
            ("5 + 1 = 6", "6"),
            ("(3+4)*2", "14"),
            ("−3", "-3"),
        ] {
            assert!(equivalent(left, right), "{left:?} and {right:?}");
            assert!(equivalent(right, left), "{right:?} and {left:?}");
        }
    }

    #[test]
    fn different_or_unreadable_numbers() {
        for (left, right) in [
            ("3", "4"),
            ("-3", "3"),
            ("0.33", "1/3"),
            ("3.00001", "3"),
            ("0.0000001", "0"),
            ("1000000001", "1000000000"),
            ("50%", "5"),
            ("50%", "0.5%"),
            ("A", "A"),
            ("three", "3"),
            ("", ""),
            ("1/0", "1/0"),
            ("nan", "nan"),
        ] {
            assert!(!equivalent(left, right), "{left:?} and {right:?}");
        }
    }

    #[test]
    fn the_number_is_found_in_running_text() {
        for (text, number) in [
            ("There are 3 red and 2 blue cubes.", "2"),
            ("The answer is 4, although 5 was close.", "4"),
            ("Answer: $\\frac{3}{4}$ of 8", "0.75"),
            ("So 4. Then \\boxed{\\frac{14}{2}} or 9", "7"),
            ("<think>2</think> 3", "3"),
            ("It costs $5.", "5"),
            ("The area is $3 \\cdot 4$ square units", "12"),
            ("We get \\(2^{3}\\) of them", "8"),
            ("a total of 1,234 sheep", "1234"),
            ("3 cubes", "3"),
            ("It has\n- 3 cubes", "3"),
            ("it fell by -3 degrees today", "-3"),
        ] {
            assert!(equivalent(text, number), "{text:?} holds {number}");
        }
        assert!(!equivalent("no number at all", "3"));
        assert!(!equivalent("object x3 remains", "3"));
        assert!(!equivalent("<b>3</b>", "3"));
        assert!(!equivalent("change_size(1, 'small')", "1"));
        assert!(!equivalent("2", "There are 3 red and 2 blue cubes."));
        assert!(equivalent("2", "It is $2$."));
    }

    #[test]
    fn hostile_text_neither_panics_nor_takes_long() {
        for hostile in [
            "(".repeat(100_000),
            "\\frac{".repeat(100_000),
            "\\sqrt".repeat(100_000),
            "-".repeat(100_000) + "1",
            "2^".repeat(100_000) + "2",
            "1,".repeat(100_000),
            "\\boxed{".repeat(100_000),
            "9".repeat(100_000),
            "$".repeat(99_999),
            "=é\\".repeat(50_000),
            "\\($1$".repeat(50_000) + "3.5",
            "$$1$".repeat(50_000) + "x",
            "^".repeat(100_000),
            "1 ".repeat(100_000) + "y",
            "\\text{1".repeat(50_000),
            "\\".to_owned(),
            "^".to_owned(),
        ] {
            assert!(!equivalent(&hostile, "3"), "{}…", &hostile[..1]);
            assert!(!same_answer(&hostile, "3"), "{}…", &hostile[..1]);
        }
    }
}
