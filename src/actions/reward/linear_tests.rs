//! Every reward and answer check on texts made to be slow: four times the text may take about four times as long, never
//! sixteen times.

use std::time::{Duration, Instant};

use super::tests::{action, example};
use super::{CharacterRange, RewardFunction, ScoreCompat, ScoreContext, built_in, eval_score};
use crate::record::{Example, Task};

/// Bytes of the longer text.
const LONG: usize = 64 << 10;
/// Times that the longer text is as long.
const TIMES: usize = 4;
/// Less than this is noise; a check that is quadratic takes far longer.
const FLOOR: Duration = Duration::from_millis(20);

/// Beginnings, what is repeated, and ends.
const TEXTS: [(&str, &str, &str); 36] = [
    ("", "<answer>", ""),
    ("", "<answer>", "\n</answer>"),
    ("", "<answer>\n", "</answer>"),
    ("", "</answer>", "<answer>"),
    ("<think>", "</think><answer>", ""),
    ("<think>", "</think> <answer>a</answer>", "x"),
    ("<summary>", "</summary><caption></caption><think>", ""),
    ("", "<think></think>", ""),
    ("", "\\($1$", ""),
    ("", "\\[\\(", "$1$"),
    ("", "$$1$", ""),
    ("", "$", "x"),
    ("", "\\boxed{", ""),
    ("", "answer ", "is 3"),
    ("answer", " ", "x"),
    ("", "answer is ", ""),
    ("", "1 ", "x"),
    ("1", " ", "x"),
    ("", "1,111", ""),
    ("", "1+", ""),
    ("", "^", "1"),
    ("1", "^{\\circ}", ""),
    ("", "^ ", ""),
    ("", "\\frac", ""),
    ("", "\\text{1", ""),
    ("", "{}", ""),
    ("12", " cm", ""),
    ("12", "/cm", ""),
    ("", "=", "3"),
    ("", "####", "3"),
    ("", "９", ""),
    ("", "f(1,", ""),
    ("", "f(a,b)", ""),
    ("", "a", "(1,b)"),
    ("", "\n-", ""),
    ("", "&deg;\\degree", ""),
];

fn text((start, middle, end): (&str, &str, &str), bytes: usize) -> String {
    format!("{start}{}{end}", middle.repeat(bytes / middle.len()))
}

/// Everything that looks at a text, once.
fn check(text: &str, gold: &Example) {
    let context = ScoreContext {
        step: 900,
        max_completion_length: 10,
        characters: CharacterRange::of([text, ""]),
    };
    for function in RewardFunction::ALL.iter().copied() {
        built_in::value(function, &action(text), gold, &context, None);
    }
    for compat in [ScoreCompat::Fixed, ScoreCompat::ReasonRft] {
        assert!(eval_score(gold, text, compat).score <= 1.0);
    }
}

fn time(text: &str, gold: &Example) -> Duration {
    let started = Instant::now();
    check(text, gold);
    started.elapsed()
}

/// How many times as long the longer text takes.
fn growth([short, long]: [(&str, &Example); 2]) -> f64 {
    let (few, many) = (time(short.0, short.1), time(long.0, long.1));
    many.as_secs_f64() / few.max(FLOOR).as_secs_f64()
}

#[test]
fn every_check_is_linear_in_the_text() {
    let mut slow = Vec::new();
    for parts in TEXTS {
        let [short, long] = [LONG / TIMES, LONG].map(|bytes| text(parts, bytes));
        for task in [None, Some(Task::Transformation)] {
            let simple = example(task, if task.is_some() { "f(1,a)" } else { "3" });
            // The text is the gold answer too, but for a letter: a downloaded row is no more trusted than an answer.
            let own = [&short, &long].map(|text| example(task, &format!("{text}z")));
            for golds in [[&simple; 2], [&own[0], &own[1]]] {
                // Other programs may have had the machine; the same thing twice more is no accident.
                let growths = (0..3).map(|_| growth([(&short, golds[0]), (&long, golds[1])]));
                let is_slow = |growth: f64| growth > 2.5 * TIMES as f64;
                if growths.into_iter().all(is_slow) {
                    slow.push(format!("{parts:?} {task:?}"));
                }
            }
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}
