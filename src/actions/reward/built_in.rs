//! The value of a built-in function for one action; knows nothing of weights or of the user's own programs.

use super::{
    Credit, RewardFunction, ScoreContext, accuracy_reward, answer_or_text, cosine_reward,
    format_reward, full_caption_format_reward, function_sequence_reward, is_correct, length_reward,
    math_accuracy_reward, reason_reward, repetition_penalty, same_functions,
    soft_overlong_punishment, think_format_reward,
};
use crate::record::{Action, Example, Task};

/// The function's value; `None` = not applicable. Functions of the tokens do not apply to an action whose tokens are not
/// known. `soft_punish_cache`: as in [`super::RewardOptions`].
pub(super) fn value(
    function: RewardFunction,
    action: &Action,
    example: &Example,
    context: &ScoreContext,
    soft_punish_cache: Option<usize>,
) -> Option<f32> {
    let (text, solution, tokens) = (
        action.text.as_str(),
        example.solution.as_str(),
        action.token_ids.len(),
    );
    let limit = context.max_completion_length;
    let correct = || task_is_correct(text, example);
    Some(match function {
        RewardFunction::SoftOverlongPunishment
        | RewardFunction::Cosine
        | RewardFunction::RepetitionPenalty
            if tokens == 0 =>
        {
            return None;
        }
        RewardFunction::Accuracy => task_accuracy(text, example),
        RewardFunction::Format => task_format(text, example.task),
        RewardFunction::MathAccuracy if is_transformation(example) == Some(true) => return None,
        RewardFunction::MathAccuracy => math_accuracy_reward(text, solution),
        RewardFunction::Trance => return functions_of(example, text, Credit::PARTIAL),
        RewardFunction::TranceOnlyFull => return functions_of(example, text, Credit::ONLY_FULL),
        RewardFunction::TrancePenalty => return functions_of(example, text, Credit::PENALTY),
        RewardFunction::ThinkFormat => think_format_reward(text),
        RewardFunction::SoftOverlongPunishment => {
            soft_overlong_punishment(tokens, limit, soft_punish_cache.unwrap_or(limit / 5))
        }
        RewardFunction::Cosine => cosine_reward(tokens, correct(), limit),
        RewardFunction::RepetitionPenalty => repetition_penalty(&action.token_ids),
        RewardFunction::Length => length_reward(text, correct(), context.characters?, context.step),
        RewardFunction::Reason => reason_reward(text),
    })
}

fn is_transformation(example: &Example) -> Option<bool> {
    example.task.map(Task::is_transformation)
}

/// The function-sequence reward, unless the example says that it has another kind of answer.
fn functions_of(example: &Example, text: &str, credit: Credit) -> Option<f32> {
    (is_transformation(example) != Some(false)).then(|| {
        function_sequence_reward(
            answer_or_text(text),
            answer_or_text(&example.solution),
            credit,
        )
    })
}

/// The accuracy reward of the example's task.
fn task_accuracy(text: &str, example: &Example) -> f32 {
    let credit = match example.task {
        Some(Task::Transformation) => Credit::PARTIAL,
        Some(Task::TransformationOnlyFull | Task::TransformationFullCaption) => Credit::ONLY_FULL,
        Some(Task::TransformationPenalty) => Credit::PENALTY,
        Some(Task::Counting | Task::Structure) | None => {
            return accuracy_reward(text, &example.solution);
        }
    };
    function_sequence_reward(
        answer_or_text(text),
        answer_or_text(&example.solution),
        credit,
    )
}

fn task_format(text: &str, task: Option<Task>) -> f32 {
    if task == Some(Task::TransformationFullCaption) {
        full_caption_format_reward(text)
    } else {
        format_reward(text)
    }
}

/// Upstream compares strings here for every task; for functions we ask for the same set instead.
fn task_is_correct(text: &str, example: &Example) -> bool {
    if is_transformation(example) == Some(true) {
        same_functions(answer_or_text(text), answer_or_text(&example.solution))
    } else {
        is_correct(text, &example.solution)
    }
}
