//! Turns each [`Action`] of a batch into a [`ScoredAction`]: every reward by itself, then their weighted sum; knows
//! nothing of groups, models or tokens beyond their ids.
//!
//! The built-in functions are those of Reason-RFT (method: sections 3.3 and 3.4) and TRL; each lives in its own file as a
//! pure function of text. What Reason-RFT does differently, and why we do not follow, stands at each function. A user's
//! own reward is a program ([`ProcessOptions`]).

mod accuracy;
mod answer;
mod built_in;
mod evaluation;
mod expression;
mod expression_tokens;
mod format;
mod formula;
mod function;
mod function_sequence;
mod length;
#[cfg(test)]
mod linear_tests;
mod math_equivalence;
mod options;
mod process;
mod reason;
mod spelling;
#[cfg(test)]
mod spelling_tests;
mod unit;

pub use accuracy::{accuracy_reward, is_correct, math_accuracy_reward};
pub use answer::{answer_or_text, tagged_answer};
pub use evaluation::{EvalScore, eval_score};
pub use format::{format_reward, full_caption_format_reward, think_format_reward};
pub use function_sequence::{
    Credit, function_sequence_reward, function_sequence_score, same_functions,
};
pub use length::{
    CharacterRange, cosine_reward, length_reward, repetition_penalty, soft_overlong_punishment,
};
pub use math_equivalence::{equivalent, same_answer};
pub use options::{RewardError, RewardOptions, RewardSource, ScoreContext};
pub use process::{ProcessError, ProcessFault, ProcessOptions, end_processes};
pub use reason::reason_reward;

pub use crate::options::{RewardFunction, ScoreCompat};
use crate::record::{Action, Example, ScoredAction};
use process::RewardProcess;

/// Scores actions with a checked set of rewards. Programs run as long as this value lives.
#[derive(Debug)]
pub struct Rewards {
    scorers: Vec<Scorer>,
    weights: Vec<f32>,
    pass_threshold: f32,
    soft_punish_cache: Option<usize>,
}

#[derive(Debug)]
enum Scorer {
    BuiltIn(RewardFunction),
    Process(RewardProcess),
}

impl Scorer {
    fn start(source: RewardSource) -> Result<Self, ProcessError> {
        Ok(match source {
            RewardSource::BuiltIn(function) => Self::BuiltIn(function),
            RewardSource::Process(options) => Self::Process(RewardProcess::start(options)?),
        })
    }

    fn name(&self) -> &str {
        match self {
            Self::BuiltIn(function) => function.name(),
            Self::Process(process) => &process.options().name,
        }
    }

    fn measures_accuracy(&self) -> bool {
        match self {
            Self::BuiltIn(function) => function.measures_accuracy(),
            Self::Process(process) => process.options().measures_accuracy,
        }
    }
}

impl Rewards {
    /// Checks the options, and starts the programs among the rewards.
    ///
    /// # Errors
    /// [`RewardError`] where they contradict themselves or a program cannot be started.
    pub fn new(options: RewardOptions) -> Result<Self, RewardError> {
        let RewardOptions {
            sources,
            weights,
            pass_threshold,
            soft_punish_cache,
        } = options;
        options::check(&sources, &weights)?;
        if !pass_threshold.is_finite() {
            return Err(RewardError::Threshold(pass_threshold));
        }
        let scorers = sources.into_iter().map(Scorer::start);
        Ok(Self {
            scorers: scorers.collect::<Result<_, _>>()?,
            weights,
            pass_threshold,
            soft_punish_cache,
        })
    }

    /// The names of the rewards, in the order of [`ScoredAction::rewards`].
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.scorers.iter().map(Scorer::name)
    }

    /// Scores a batch: the actions of each example, in and out in the same order. Each action gets the value of every
    /// reward (`None` = not applicable) and their weighted sum over the values that are present (TRL). It passes if the
    /// first accuracy among its values, or else the accuracy of its task, reaches `pass_threshold`.
    ///
    /// A program is asked once for the whole batch.
    ///
    /// # Errors
    /// [`RewardError::Process`] if a program gives no usable rewards.
    pub fn score_batch(
        &mut self,
        batch: Vec<(Vec<Action>, &Example)>,
        context: &ScoreContext,
    ) -> Result<Vec<Vec<ScoredAction>>, RewardError> {
        let groups = batch.iter();
        let pairs: Vec<(&Action, &Example)> = groups
            .flat_map(|(actions, example)| actions.iter().map(move |action| (action, *example)))
            .collect();
        let values = self.values(&pairs, context)?;
        let mut rows = 0..;
        let mut scored = Vec::with_capacity(batch.len());
        for (actions, example) in batch {
            let one = |(action, row): (Action, usize)| {
                let rewards = values.iter().map(|column| column[row]).collect();
                self.scored(action, example, rewards, context)
            };
            scored.push(actions.into_iter().zip(&mut rows).map(one).collect());
        }
        Ok(scored)
    }

    /// Gives a scored action its `length` reward again, if that is among the rewards, and the sum that follows from it: the
    /// range of a batch is known only when all of its completions are, and some come later than others.
    pub fn measure_length_again(
        &self,
        scored: &mut ScoredAction,
        example: &Example,
        context: &ScoreContext,
    ) {
        let length = |scorer: &Scorer| matches!(scorer, Scorer::BuiltIn(RewardFunction::Length));
        let Some(index) = self.scorers.iter().position(length) else {
            return;
        };
        let value = built_in::value(
            RewardFunction::Length,
            &scored.action,
            example,
            context,
            self.soft_punish_cache,
        );
        scored.rewards[index] = value;
        scored.reward = weighted_sum(&scored.rewards, &self.weights);
    }

    /// [reward][action] values.
    fn values(
        &mut self,
        pairs: &[(&Action, &Example)],
        context: &ScoreContext,
    ) -> Result<Vec<Vec<Option<f32>>>, ProcessError> {
        let cache = self.soft_punish_cache;
        let column = |scorer: &mut Scorer| match scorer {
            Scorer::BuiltIn(function) => {
                let values = pairs.iter().map(|(action, example)| {
                    built_in::value(*function, action, example, context, cache)
                });
                Ok(values.collect())
            }
            Scorer::Process(process) => process.score(pairs, context.step),
        };
        self.scorers.iter_mut().map(column).collect()
    }

    fn scored(
        &self,
        action: Action,
        example: &Example,
        rewards: Vec<Option<f32>>,
        context: &ScoreContext,
    ) -> ScoredAction {
        let reward = weighted_sum(&rewards, &self.weights);
        if reward.is_none() {
            log::warn!(
                "{}: no reward function applies to example `{}`; the action leaves the statistics",
                example.origin,
                example.id
            );
        }
        let mut values = self.scorers.iter().zip(&rewards);
        let measured =
            values.find_map(|(scorer, value)| value.filter(|_| scorer.measures_accuracy()));
        let accuracy = measured
            .or_else(|| built_in::value(RewardFunction::Accuracy, &action, example, context, None));
        let passes = accuracy.is_some_and(|accuracy| accuracy >= self.pass_threshold);
        ScoredAction {
            action,
            rewards,
            reward,
            passes,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FinishReason, Source, Task};

    pub(super) fn example(task: Option<Task>, solution: &str) -> Example {
        Example {
            id: "train-1".to_owned(),
            task,
            messages: Vec::new(),
            images: Vec::new(),
            solution: solution.to_owned(),
            cot: None,
            target: None,
            columns: serde_json::Map::new(),
            origin: "rows.jsonl:1".to_owned(),
        }
    }

    pub(super) fn action(text: &str) -> Action {
        Action {
            source: Source::Policy,
            token_ids: vec![1, 2, 3, 1, 2, 3, 1],
            text: text.to_owned(),
            sampling_logprobs: None,
            external_logprobs: None,
            external_logprob_sum: None,
            old_logprobs: None,
            finish: FinishReason::Stop,
        }
    }

    const CONTEXT: ScoreContext = ScoreContext {
        step: 0,
        max_completion_length: 10,
        characters: None,
    };

    fn options(functions: &[RewardFunction]) -> RewardOptions {
        RewardOptions::new(
            functions
                .iter()
                .copied()
                .map(RewardSource::BuiltIn)
                .collect(),
        )
    }

    fn rewards(functions: &[RewardFunction]) -> Rewards {
        Rewards::new(options(functions)).expect("valid options")
    }

    fn score(
        rewards: &mut Rewards,
        action: Action,
        example: &Example,
        context: &ScoreContext,
    ) -> ScoredAction {
        let scored = rewards.score_batch(vec![(vec![action], example)], context);
        scored.expect("no program can fail").remove(0).remove(0)
    }

    #[test]
    fn the_reward_of_reason_rft_is_accuracy_plus_format() {
        let mut rewards = rewards(&[RewardFunction::Accuracy, RewardFunction::Format]);
        let counting = example(Some(Task::Counting), "3");
        let mut score = |text| {
            let scored = score(&mut rewards, action(text), &counting, &CONTEXT);
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
        let mut rewards = rewards(&[RewardFunction::Accuracy, RewardFunction::Format]);
        for (task, accuracy, format) in [
            (Task::Transformation, 0.75, 1.0),
            (Task::TransformationOnlyFull, 0.5, 1.0),
            (Task::TransformationPenalty, 0.375, 1.0),
            (Task::TransformationFullCaption, 0.5, 0.0),
            (Task::Structure, 0.0, 1.0),
        ] {
            let gold = example(Some(task), "change_color(1,'red'), change_size(2,'small')");
            let scored = score(&mut rewards, action(text), &gold, &CONTEXT);
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
        let mut mixed = rewards(&[
            RewardFunction::Trance,
            RewardFunction::Length,
            RewardFunction::MathAccuracy,
        ]);
        let scored = score(
            &mut mixed,
            action("<answer>3.0</answer>"),
            &counting,
            &CONTEXT,
        );
        assert_eq!(scored.rewards, [None, None, Some(1.0)]);
        assert_eq!((scored.reward, scored.passes), (Some(1.0), true));

        let mut only_null = rewards(&[RewardFunction::TranceOnlyFull]);
        let scored = score(
            &mut only_null,
            action("<answer>3</answer>"),
            &counting,
            &CONTEXT,
        );
        assert_eq!((scored.reward, scored.passes), (None, true));

        let transformation = example(Some(Task::Transformation), "f(1,a)");
        let scored = score(&mut mixed, action("f(1,a)"), &transformation, &CONTEXT);
        assert_eq!(scored.rewards, [Some(1.0), None, None]);
    }

    #[test]
    fn an_example_without_task_may_have_any_kind_of_answer() {
        let mut rewards = rewards(&[RewardFunction::Trance, RewardFunction::MathAccuracy]);
        let scored = score(
            &mut rewards,
            action("f(1,a)"),
            &example(None, "f(1,a)"),
            &CONTEXT,
        );
        assert_eq!(scored.rewards, [Some(1.0), Some(1.0)]);
    }

    #[test]
    fn weights_apply_and_the_threshold_decides() {
        let mut options = options(&[RewardFunction::Trance, RewardFunction::Reason]);
        options.weights = vec![2.0, 0.5];
        options.pass_threshold = 0.5;
        let mut rewards = Rewards::new(options).expect("valid options");
        let gold = example(Some(Task::Transformation), "f(1,a)");
        let scored = score(
            &mut rewards,
            action("f(1,b)\n- x\n- y\n- z"),
            &gold,
            &CONTEXT,
        );
        assert_eq!(scored.rewards, [Some(0.5), Some(1.0)]);
        assert_eq!((scored.reward, scored.passes), (Some(1.5), true));
    }

    /// Policy texts of 1 and 5 characters come first, an external one of 9 later: all are measured from 1 to 9.
    #[test]
    fn lengths_are_measured_again_when_the_rest_of_the_batch_has_come() {
        let mut both = rewards(&[RewardFunction::Accuracy, RewardFunction::Length]);
        let gold = example(None, "3");
        let context = |texts: &[&str]| ScoreContext {
            step: 800,
            characters: CharacterRange::of(texts.iter().copied()),
            ..CONTEXT
        };
        let early = context(&["3", "3    "]);
        let mut scored = score(&mut both, action("3    "), &gold, &early);
        assert_eq!(scored.reward, Some(1.0 - 0.025));
        let whole = context(&["3", "3    ", "3        "]);
        both.measure_length_again(&mut scored, &gold, &whole);
        assert_eq!(
            scored.rewards,
            [Some(1.0), Some(0.0)],
            "half way from 1 to 9"
        );
        assert_eq!((scored.reward, scored.passes), (Some(1.0), true));
        let same = score(&mut both, action("3    "), &gold, &whole);
        assert_eq!(same, scored, "as if all had been scored at once");
        let mut other = rewards(&[RewardFunction::Accuracy]);
        let before = score(&mut other, action("3"), &gold, &early);
        let mut after = before.clone();
        other.measure_length_again(&mut after, &gold, &whole);
        assert_eq!(after, before);
    }

    #[test]
    fn shaping_rewards_see_tokens_characters_and_step() {
        let mut all = rewards(&[
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
        let scored = score(&mut all, action("3"), &example(None, "3"), &context);
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
    fn functions_of_tokens_do_not_apply_to_unknown_tokens() {
        let mut rewards = rewards(&[
            RewardFunction::SoftOverlongPunishment,
            RewardFunction::Cosine,
            RewardFunction::RepetitionPenalty,
            RewardFunction::Accuracy,
        ]);
        let untokenised = Action {
            token_ids: Vec::new(),
            ..action("3")
        };
        let scored = score(&mut rewards, untokenised, &example(None, "3"), &CONTEXT);
        assert_eq!(scored.rewards, [None, None, None, Some(1.0)]);
    }

    #[cfg(unix)]
    fn program(script: &str) -> ProcessOptions {
        ProcessOptions {
            name: "judge".to_owned(),
            command: ["sh", "-c", script].map(str::to_owned).to_vec(),
            timeout: std::time::Duration::from_secs(20),
            max_restarts: 0,
            measures_accuracy: false,
            pictures: crate::options::RewardPictures::Pil,
            hidden_variables: Vec::new(),
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_program_is_asked_once_for_a_whole_batch() {
        let script = "while read -r line; do echo '[0.5, null, -1]'; done";
        let mut wanted = options(&[RewardFunction::Accuracy]);
        wanted.sources.push(RewardSource::Process(program(script)));
        wanted.weights = vec![1.0, 2.0];
        let mut rewards = Rewards::new(wanted).expect("valid options");
        assert_eq!(rewards.names().collect::<Vec<_>>(), ["accuracy", "judge"]);
        let (first, second) = (example(None, "3"), example(None, "4"));
        for _ in 0..2 {
            let batch = vec![
                (vec![action("3"), action("4")], &first),
                (Vec::new(), &first),
                (vec![action("4")], &second),
            ];
            let scored = rewards.score_batch(batch, &CONTEXT).expect("answered");
            let found: Vec<Vec<_>> = scored
                .iter()
                .map(|group| {
                    group
                        .iter()
                        .map(|one| (one.action.text.as_str(), one.reward, one.passes))
                        .collect()
                })
                .collect();
            let expected = [
                vec![("3", Some(2.0), true), ("4", Some(0.0), false)],
                vec![],
                vec![("4", Some(-1.0), true)],
            ];
            assert_eq!(found, expected);
        }
        assert_eq!(rewards.score_batch(Vec::new(), &CONTEXT), Ok(Vec::new()));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_measures_accuracy_decides_who_passes() {
        let source = |measures_accuracy| {
            RewardSource::Process(ProcessOptions {
                measures_accuracy,
                ..program("while read -r line; do echo '[1, 0.9, null]'; done")
            })
        };
        let passes = |measures_accuracy| {
            let mut rewards = Rewards::new(RewardOptions::new(vec![source(measures_accuracy)]));
            let gold = example(None, "3");
            let batch = vec![(vec![action("no"), action("3"), action("3")], &gold)];
            let scored = rewards
                .as_mut()
                .expect("valid options")
                .score_batch(batch, &CONTEXT);
            let scored = scored.expect("answered");
            scored[0].iter().map(|one| one.passes).collect::<Vec<_>>()
        };
        assert_eq!(
            passes(true),
            [true, false, true],
            "null leaves it to the task's accuracy"
        );
        assert_eq!(passes(false), [false, true, true]);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_fails_fails_the_batch() {
        let source = RewardSource::Process(program("exit 2"));
        let mut rewards = Rewards::new(RewardOptions::new(vec![source])).expect("valid options");
        let gold = example(None, "3");
        let failed = rewards.score_batch(vec![(vec![action("3")], &gold)], &CONTEXT);
        let text = failed.expect_err("no rewards").to_string();
        assert!(
            text.starts_with("reward `judge` (`sh -c exit 2`): it ended (exit status: 2)"),
            "{text}"
        );
        let absent = ProcessOptions {
            command: vec!["no-such-program-here".to_owned()],
            ..program("")
        };
        let refused = Rewards::new(RewardOptions::new(vec![RewardSource::Process(absent)]));
        assert!(
            refused
                .expect_err("found at the start")
                .to_string()
                .contains("was not found")
        );
    }

    #[test]
    fn impossible_options_are_refused_with_a_remedy() {
        let refused = |change: fn(&mut RewardOptions)| {
            let mut options = options(&[RewardFunction::Accuracy, RewardFunction::Format]);
            change(&mut options);
            Rewards::new(options).expect_err("refused").to_string()
        };
        assert!(
            refused(|options| options.weights.push(1.0)).contains("3 values for 2 `reward_funcs`")
        );
        assert!(refused(|options| options.weights[1] = f32::NAN).contains("NaN for `format`"));
        assert!(
            refused(|options| options.sources[1] = options.sources[0].clone())
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
