//! Turns an [`Action`] into a [`ScoredAction`]: every reward function by itself, then their weighted sum; knows
//! nothing of groups, models or tokens beyond their ids.
//!
//! The functions are those of Reason-RFT (method: sections 3.3 and 3.4) and TRL; each lives in its own file as a pure
//! function of text. What Reason-RFT does differently, and why we do not follow, stands at each function.

mod accuracy;
mod answer;
mod evaluation;
mod expression;
mod expression_tokens;
mod format;
mod function;
mod function_sequence;
mod length;
mod math_equivalence;
mod reason;

pub use accuracy::{accuracy_reward, is_correct, math_accuracy_reward};
pub use answer::{answer_or_text, tagged_answer};
pub use evaluation::{EvalScore, ScoreCompat, eval_score};
pub use format::{format_reward, full_caption_format_reward, think_format_reward};
pub use function::RewardFunction;
pub use function_sequence::{
    Credit, function_sequence_reward, function_sequence_score, same_functions,
};
pub use length::{
    CharacterRange, cosine_reward, length_reward, repetition_penalty, soft_overlong_punishment,
};
pub use math_equivalence::equivalent;
pub use reason::reason_reward;

use crate::record::{Action, Example, ScoredAction, Task};

/// What to reward.
#[derive(Debug, Clone, PartialEq)]
pub struct RewardOptions {
    /// Functions, in the order in which their values are reported.
    pub functions: Vec<RewardFunction>,
    /// One weight per function.
    pub weights: Vec<f32>,
    /// Accuracy from which an action passes.
    pub pass_threshold: f32,
    /// Tokens before `max_completion_length` at which [`soft_overlong_punishment`] sets in; `None`: a fifth of it, as
    /// in the DAPO paper (4096 of 20,480).
    pub soft_punish_cache: Option<usize>,
}

impl RewardOptions {
    /// These functions with weight 1 and `pass_threshold` 1.
    #[must_use]
    pub fn new(functions: Vec<RewardFunction>) -> Self {
        let weights = vec![1.0; functions.len()];
        Self {
            functions,
            weights,
            pass_threshold: 1.0,
            soft_punish_cache: None,
        }
    }
}

/// What a score depends on besides the completion and its example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScoreContext {
    /// Optimizer step, from 0.
    pub step: usize,
    /// Most tokens a completion may have.
    pub max_completion_length: usize,
    /// Shortest and longest completion of the batch, for the `length` reward; `None` makes it not applicable.
    pub characters: Option<CharacterRange>,
}

/// Rewards that cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RewardError {
    /// Nothing to reward.
    #[error("`reward_funcs` is empty\nhint: name at least one, for example [accuracy, format]")]
    NoFunctions,
    /// A weight too many or too few.
    #[error(
        "`reward_weights` has {weights} values for {functions} `reward_funcs`\nhint: give one weight per function, or leave `reward_weights` out"
    )]
    WeightCount {
        /// Weights given.
        weights: usize,
        /// Functions given.
        functions: usize,
    },
    /// A weight that makes every sum meaningless.
    #[error("`reward_weights` holds {weight} for `{function}`\nhint: use finite numbers")]
    Weight {
        /// The weight.
        weight: f32,
        /// Its function.
        function: &'static str,
    },
    /// The same function twice.
    #[error("`reward_funcs` names `{0}` twice\nhint: name it once and raise its weight")]
    Duplicate(&'static str),
    /// A threshold that no comparison can use.
    #[error("`pass_threshold` is {0}\nhint: use a number, 1.0 for an entirely right answer")]
    Threshold(f32),
}

/// Scores actions with a checked set of reward functions.
#[derive(Debug, Clone, PartialEq)]
pub struct Rewards {
    options: RewardOptions,
}

impl Rewards {
    /// Checks the options.
    ///
    /// # Errors
    /// [`RewardError`] where they contradict themselves.
    pub fn new(options: RewardOptions) -> Result<Self, RewardError> {
        let RewardOptions {
            functions,
            weights,
            pass_threshold,
            ..
        } = &options;
        if functions.is_empty() {
            return Err(RewardError::NoFunctions);
        }
        if functions.len() != weights.len() {
            return Err(RewardError::WeightCount {
                weights: weights.len(),
                functions: functions.len(),
            });
        }
        for (index, (function, &weight)) in functions.iter().zip(weights).enumerate() {
            if !weight.is_finite() {
                return Err(RewardError::Weight {
                    weight,
                    function: function.name(),
                });
            }
            if functions[..index].contains(function) {
                return Err(RewardError::Duplicate(function.name()));
            }
        }
        if !pass_threshold.is_finite() {
            return Err(RewardError::Threshold(*pass_threshold));
        }
        Ok(Self { options })
    }

    /// The functions, in the order of [`ScoredAction::rewards`].
    #[must_use]
    pub fn functions(&self) -> &[RewardFunction] {
        &self.options.functions
    }

    /// Scores one action: each function's value (`None` = not applicable) and their weighted sum over the values that
    /// are present (TRL). An action passes if the first accuracy among its values, or else the accuracy of its task,
    /// reaches `pass_threshold`.
    #[must_use]
    pub fn score(&self, action: Action, example: &Example, context: &ScoreContext) -> ScoredAction {
        let value = |function| self.value(function, &action, example, context);
        let functions = &self.options.functions;
        let rewards: Vec<Option<f32>> = functions.iter().map(|&function| value(function)).collect();
        let reward = weighted_sum(&rewards, &self.options.weights);
        if reward.is_none() {
            log::warn!(
                "{}: no reward function applies to example `{}`; the action leaves the statistics",
                example.origin,
                example.id
            );
        }
        let measured = functions
            .iter()
            .zip(&rewards)
            .find_map(|(function, &value)| {
                if function.measures_accuracy() {
                    value
                } else {
                    None
                }
            });
        let accuracy = measured.or_else(|| value(RewardFunction::Accuracy));
        let passes = accuracy.is_some_and(|accuracy| accuracy >= self.options.pass_threshold);
        ScoredAction {
            action,
            rewards,
            reward,
            passes,
        }
    }

    fn value(
        &self,
        function: RewardFunction,
        action: &Action,
        example: &Example,
        context: &ScoreContext,
    ) -> Option<f32> {
        let (text, solution, tokens) = (
            action.text.as_str(),
            example.solution.as_str(),
            action.token_ids.len(),
        );
        let limit = context.max_completion_length;
        let correct = || task_is_correct(text, example);
        Some(match function {
            RewardFunction::Accuracy => task_accuracy(text, example),
            RewardFunction::Format => task_format(text, example.task),
            RewardFunction::MathAccuracy if is_transformation(example) == Some(true) => {
                return None;
            }
            RewardFunction::MathAccuracy => math_accuracy_reward(text, solution),
            RewardFunction::Trance => return functions_of(example, text, Credit::PARTIAL),
            RewardFunction::TranceOnlyFull => {
                return functions_of(example, text, Credit::ONLY_FULL);
            }
            RewardFunction::TrancePenalty => return functions_of(example, text, Credit::PENALTY),
            RewardFunction::ThinkFormat => think_format_reward(text),
            RewardFunction::SoftOverlongPunishment => soft_overlong_punishment(
                tokens,
                limit,
                self.options.soft_punish_cache.unwrap_or(limit / 5),
            ),
            RewardFunction::Cosine => cosine_reward(tokens, correct(), limit),
            RewardFunction::RepetitionPenalty => repetition_penalty(&action.token_ids),
            RewardFunction::Length => {
                length_reward(text, correct(), context.characters?, context.step)
            }
            RewardFunction::Reason => reason_reward(text),
        })
    }
}

/// Sum of weight · value over the values that are present, in f32 and in order; `None` if none is. (TRL `nansum`.)
fn weighted_sum(rewards: &[Option<f32>], weights: &[f32]) -> Option<f32> {
    let present = rewards
        .iter()
        .zip(weights)
        .filter_map(|(value, weight)| value.map(|value| value * weight));
    present.reduce(|total, value| total + value)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FinishReason, Source};

    pub(super) fn example(task: Option<Task>, solution: &str) -> Example {
        Example {
            id: "train-1".to_owned(),
            task,
            messages: Vec::new(),
            images: Vec::new(),
            solution: solution.to_owned(),
            cot: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        }
    }

    fn action(text: &str) -> Action {
        Action {
            source: Source::Policy,
            token_ids: vec![1, 2, 3, 1, 2, 3, 1],
            text: text.to_owned(),
            sampling_logprobs: None,
            external_logprobs: None,
            old_logprobs: None,
            finish: FinishReason::Stop,
        }
    }

    const CONTEXT: ScoreContext = ScoreContext {
        step: 0,
        max_completion_length: 10,
        characters: None,
    };

    fn rewards(functions: &[RewardFunction]) -> Rewards {
        Rewards::new(RewardOptions::new(functions.to_vec())).expect("valid options")
    }

    #[test]
    fn the_reward_of_reason_rft_is_accuracy_plus_format() {
        let rewards = rewards(&[RewardFunction::Accuracy, RewardFunction::Format]);
        let counting = example(Some(Task::Counting), "3");
        let score = |text| {
            let scored = rewards.score(action(text), &counting, &CONTEXT);
            (scored.reward, scored.passes)
        };
        assert_eq!(
            score("<think>t</think>\n<answer>3</answer>"),
            (Some(2.0), true)
        );
        assert_eq!(
            score("<think>t</think>\n<answer>4</answer>"),
            (Some(1.0), false)
        );
        assert_eq!(score("3"), (Some(1.0), true));
        assert_eq!(score("no"), (Some(0.0), false));
    }

    #[test]
    fn accuracy_and_format_follow_the_task() {
        let text =
            "<think>t</think>\n<answer>change_color(1,'blue'), change_size(2,'small')</answer>";
        let rewards = rewards(&[RewardFunction::Accuracy, RewardFunction::Format]);
        for (task, accuracy, format) in [
            (Task::Transformation, 0.75, 1.0),
            (Task::TransformationOnlyFull, 0.5, 1.0),
            (Task::TransformationPenalty, 0.375, 1.0),
            (Task::TransformationFullCaption, 0.5, 0.0),
            (Task::Structure, 0.0, 1.0),
        ] {
            let gold = example(Some(task), "change_color(1,'red'), change_size(2,'small')");
            let scored = rewards.score(action(text), &gold, &CONTEXT);
            assert_eq!(
                scored.rewards,
                [Some(accuracy), Some(format)],
                "{}",
                task.name()
            );
            assert!(!scored.passes);
        }
    }

    #[test]
    fn functions_that_do_not_apply_are_null_and_leave_the_sum() {
        let counting = example(Some(Task::Counting), "3");
        let mixed = rewards(&[
            RewardFunction::Trance,
            RewardFunction::Length,
            RewardFunction::MathAccuracy,
        ]);
        let scored = mixed.score(action("<answer>3.0</answer>"), &counting, &CONTEXT);
        assert_eq!(scored.rewards, [None, None, Some(1.0)]);
        assert_eq!((scored.reward, scored.passes), (Some(1.0), true));

        let only_null = rewards(&[RewardFunction::TranceOnlyFull]);
        let scored = only_null.score(action("<answer>3</answer>"), &counting, &CONTEXT);
        assert_eq!((scored.reward, scored.passes), (None, true));

        let transformation = example(Some(Task::Transformation), "f(1,a)");
        let scored = mixed.score(action("f(1,a)"), &transformation, &CONTEXT);
        assert_eq!(scored.rewards, [Some(1.0), None, None]);
    }

    #[test]
    fn an_example_without_task_may_have_any_kind_of_answer() {
        let rewards = rewards(&[RewardFunction::Trance, RewardFunction::MathAccuracy]);
        let scored = rewards.score(action("f(1,a)"), &example(None, "f(1,a)"), &CONTEXT);
        assert_eq!(scored.rewards, [Some(1.0), Some(1.0)]);
    }

    #[test]
    fn weights_apply_and_the_threshold_decides() {
        let mut options = RewardOptions::new(vec![RewardFunction::Trance, RewardFunction::Reason]);
        options.weights = vec![2.0, 0.5];
        options.pass_threshold = 0.5;
        let rewards = Rewards::new(options).expect("valid options");
        let gold = example(Some(Task::Transformation), "f(1,a)");
        let scored = rewards.score(action("f(1,b)\n- x\n- y\n- z"), &gold, &CONTEXT);
        assert_eq!(scored.rewards, [Some(0.5), Some(1.0)]);
        assert_eq!((scored.reward, scored.passes), (Some(1.5), true));
    }

    #[test]
    fn shaping_rewards_see_tokens_characters_and_step() {
        let all = rewards(&[
            RewardFunction::SoftOverlongPunishment,
            RewardFunction::RepetitionPenalty,
            RewardFunction::Length,
            RewardFunction::Cosine,
            RewardFunction::ThinkFormat,
        ]);
        let characters = CharacterRange::of(["3", "12345"]);
        let context = ScoreContext {
            step: 800,
            max_completion_length: 7,
            characters,
        };
        let scored = all.score(action("3"), &example(None, "3"), &context);
        assert_eq!(
            scored.rewards[0],
            Some(-1.0),
            "a fifth of 7 tokens is 1, and all 7 are used"
        );
        assert!((scored.rewards[1].expect("applies") + 0.4).abs() < 1e-6);
        assert_eq!(scored.rewards[2], Some(0.025));
        assert!((scored.rewards[3].expect("applies") - 0.5).abs() < 1e-6);
        assert_eq!(scored.rewards[4], Some(0.0));
        assert!(
            scored.passes,
            "without an accuracy among the functions, that of the task decides"
        );
    }

    #[test]
    fn impossible_options_are_refused_with_a_remedy() {
        let refused = |change: fn(&mut RewardOptions)| {
            let mut options =
                RewardOptions::new(vec![RewardFunction::Accuracy, RewardFunction::Format]);
            change(&mut options);
            Rewards::new(options).expect_err("refused").to_string()
        };
        assert!(
            refused(|options| options.weights.push(1.0)).contains("3 values for 2 `reward_funcs`")
        );
        assert!(refused(|options| options.weights[1] = f32::NAN).contains("NaN for `format`"));
        assert!(
            refused(|options| options.functions[1] = RewardFunction::Accuracy)
                .contains("`accuracy` twice")
        );
        assert!(
            refused(|options| options.pass_threshold = f32::INFINITY)
                .contains("`pass_threshold` is inf")
        );
        let empty = |options: &mut RewardOptions| *options = RewardOptions::new(Vec::new());
        assert!(refused(empty).contains("hint: name at least one"));
    }
}
