//! Scores of a held-out answer, as the tables of Reason-RFT are computed (method: section 3.7).

use super::answer::{answer_or_text, single_line_tagged_answer, tagged_answer};
use super::function_sequence::{function_sequence_score, same_functions};
use super::math_equivalence::{equivalent, same_answer};
use crate::options::ScoreCompat;
use crate::record::{Example, Task};

/// The score of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EvalScore {
    /// 0 to 1; the mean over a split, times 100, is the accuracy of the published tables.
    pub score: f64,
    /// Whether the answer is entirely right: equal strings, or the same set of functions.
    pub exact: bool,
}

/// Scores the text of a completion against the example's gold answer.
///
/// Transformation tasks: partial credit for partly right functions, no penalty on repeats. All others: 1 if the answer
/// (the whole text if it has no tags) equals the gold answer or is mathematically equivalent to it.
#[must_use]
pub fn eval_score(example: &Example, text: &str, compat: ScoreCompat) -> EvalScore {
    let gold = answer_or_text(&example.solution);
    if example.task.is_some_and(Task::is_transformation) {
        let tagged = match compat {
            ScoreCompat::Fixed => tagged_answer(text),
            ScoreCompat::ReasonRft => single_line_tagged_answer(text),
        };
        let answer = tagged.unwrap_or(text);
        return EvalScore {
            score: function_sequence_score(answer, gold),
            exact: same_functions(answer, gold),
        };
    }
    let answer = answer_or_text(text);
    let exact = answer == gold;
    EvalScore {
        score: f64::from(u8::from(
            same_answer(answer, gold) || equivalent(answer, gold),
        )),
        exact,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    fn scored(task: Task, solution: &str, text: &str, compat: ScoreCompat) -> (f64, bool) {
        let score = eval_score(&example(Some(task), solution), text, compat);
        (score.score, score.exact)
    }

    #[test]
    fn short_answers_are_equal_or_equivalent() {
        let fixed = |solution, text| scored(Task::Structure, solution, text, ScoreCompat::Fixed);
        assert_eq!(
            fixed("3", "<think>t</think><answer>3</answer>"),
            (1.0, true)
        );
        assert_eq!(
            fixed("3", "<think>t</think><answer>3.0 cm</answer>"),
            (1.0, false)
        );
        assert_eq!(fixed("3", "<answer>4</answer> or rather 3"), (0.0, false));
        assert_eq!(fixed("3", "I see 3"), (1.0, false));
        assert_eq!(fixed("B", "<answer>B</answer>"), (1.0, true));
        assert_eq!(fixed("B", "the answer is B"), (0.0, false));
        assert_eq!(fixed("0.5", "<answer>\\frac{1}{2}</answer>"), (1.0, false));
    }

    #[test]
    fn a_multi_line_answer_is_overlooked_only_in_compatibility() {
        let text =
            "<think>change_color(9,'red')</think>\n<answer>\nchange_size(1,'small')\n</answer>";
        let score = |compat| {
            scored(
                Task::TransformationOnlyFull,
                "change_size(1,'small')",
                text,
                compat,
            )
        };
        assert_eq!(score(ScoreCompat::Fixed), (1.0, true));
        assert_eq!(score(ScoreCompat::ReasonRft), (0.5, false));
    }

    #[test]
    fn partial_credit_is_not_an_exact_match() {
        let text = "<answer>change_size(1,'large')</answer>";
        let gold = "change_size(1,'small')";
        assert_eq!(
            scored(Task::Transformation, gold, text, ScoreCompat::Fixed),
            (0.5, false)
        );
        let repeated = "<answer>change_size(1,'small'), change_size(1,'small')</answer>";
        assert_eq!(
            scored(
                Task::TransformationPenalty,
                gold,
                repeated,
                ScoreCompat::Fixed
            ),
            (1.0, true)
        );
    }
}
