//! Puts what was found for each action back into the order of the examples, and says what was lost. Knows nothing of how
//! it was found.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::chat::Question;
use super::failure::{Failure, FailureReason};
use crate::actions::teacher::TeacherAnswer;
use crate::record::Example;

/// An action as it was found.
pub(super) type Found = Result<TeacherAnswer, Failure>;

/// Actions of one example that were lost for one reason.
#[derive(Debug)]
pub(super) struct Loss<'a> {
    /// The example.
    pub(super) id: &'a str,
    pub(super) failure: &'a Failure,
    pub(super) count: usize,
}

/// Answers by example, in order of their numbers, and the losses between them.
pub(super) fn gather<'a>(
    examples: &[(&'a Example, usize)],
    questions: &'a [Result<Arc<Question>, Failure>],
    found: &'a HashMap<&str, Found>,
) -> (Vec<Vec<TeacherAnswer>>, Vec<Loss<'a>>) {
    let mut losses = Vec::new();
    let mut answers = Vec::with_capacity(examples.len());
    for ((example, num_actions), question) in examples.iter().zip(questions) {
        let id = example.id.as_str();
        let mut list = Vec::new();
        match question {
            Err(failure) => losses.push(Loss {
                id,
                failure,
                count: *num_actions,
            }),
            Ok(question) => {
                for key in &question.keys {
                    match &found[key.as_str()] {
                        Ok(answer) => list.push(answer.clone()),
                        Err(failure) => losses.push(Loss {
                            id,
                            failure,
                            count: 1,
                        }),
                    }
                }
            }
        }
        answers.push(list);
    }
    (answers, losses)
}

/// Lost actions by reason, and the words of the first of each.
pub(super) fn by_reason<'a>(losses: &[Loss<'a>]) -> BTreeMap<FailureReason, (usize, &'a str)> {
    let mut reasons = BTreeMap::new();
    for Loss { failure, count, .. } in losses {
        reasons
            .entry(failure.reason)
            .or_insert((0, failure.words.as_str()))
            .0 += count;
    }
    reasons
}
