//! Task prompts and supervised targets, after Reason-RFT in our words. It knows no file, tokenizer or chat markup.

use std::fmt::Write as _;

use super::error::DatasetError;
use crate::record::{Example, Task};

/// The place of the question in a template.
pub const QUESTION: &str = "{Question}";

/// What the prompt asks the model to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PromptStyle {
    /// The thinking process and then the answer, each in its tags (training and its evaluation).
    #[default]
    Reasoning,
    /// The bare question (models fine-tuned on answers alone).
    Bare,
}

/// The changes of an object and the values each takes, in Reason-RFT's order.
const FUNCTIONS: [(&str, &str, &str); 5] = [
    (
        "change_size",
        "gives the object another size",
        "'small', 'medium', 'large'",
    ),
    (
        "change_color",
        "gives the object another color",
        "'yellow', 'gray', 'cyan', 'blue', 'brown', 'green', 'red', 'purple'",
    ),
    (
        "change_material",
        "gives the object another material",
        "'glass', 'metal', 'rubber'",
    ),
    (
        "change_shape",
        "gives the object another shape",
        "'cube', 'sphere', 'cylinder'",
    ),
    (
        "change_position",
        "moves the object in a direction as seen from where it first stood",
        "'front', 'behind', 'left', 'right', 'front_left', 'front_right', 'behind_left', 'behind_right'",
    ),
];

/// The template of a task for one question; `solution` decides between a choice and a number (method: 3.2).
#[must_use]
pub fn task_template(task: Task, style: PromptStyle, solution: &str) -> String {
    if task.is_transformation() {
        return transformation_template(task, style);
    }
    if style == PromptStyle::Bare {
        return QUESTION.into();
    }
    let is_choice = matches!(solution.trim(), "A" | "B" | "C" | "D");
    match task {
        Task::Structure if is_choice => {
            let request =
                "Answer with the letter (A, B, C or D) that stands before the right choice.";
            format!(
                "{QUESTION} {request}\n{}",
                reasoning_request(" (chosen letter)")
            )
        }
        Task::Structure => format!(
            "{QUESTION} {}",
            reasoning_request(" (float number or int number)")
        ),
        _ => format!("{QUESTION} {}", reasoning_request(" (number)")),
    }
}

fn reasoning_request(kind_of_answer: &str) -> String {
    format!(
        "First write the thinking process between <think> and </think>, \
         then the final answer{kind_of_answer} between <answer> and </answer>."
    )
}

fn transformation_template(task: Task, style: PromptStyle) -> String {
    let mut text = String::from(
        "You see a picture of the initial scene and a picture of the final scene, and you are told the attributes \
         of the initial objects. Find the transformation from the initial to the final scene: a sequence of 1 to 4 \
         functions, each written 'func(object_id, value)'.\n\
         Each initial object is a tuple ('object_id', 'shape', 'size', 'color', 'material').\n\n\
         The functions and their values:\n",
    );
    for (index, (name, effect, values)) in FUNCTIONS.into_iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}. '{name}(object_id, value)' {effect}: {values}",
            index + 1
        );
    }
    if style == PromptStyle::Bare {
        let _ = write!(text, "\nNow it is your turn.\n\n{QUESTION}\n");
        return text;
    }
    let captions = task == Task::TransformationFullCaption;
    text.push_str("\nWrite your output in this form:\n");
    if captions {
        text.push_str(
            "<summary>your plan</summary>\n<caption>what differs between the pictures</caption>\n",
        );
    }
    text.push_str("<think>your reasoning</think>\n<answer>the sequence of functions and nothing else</answer>\n");
    let request = if captions {
        "First write a summary between <summary> and </summary>, then a caption between <caption> and </caption>, \
         then the thinking process between <think> and </think>, then the final answer between <answer> and </answer>."
            .into()
    } else {
        reasoning_request("")
    };
    let _ = write!(text, "\nNow it is your turn.\n\n{QUESTION} {request}\n");
    text
}

/// The text before and after the question.
///
/// # Errors
/// The template does not hold `{Question}` exactly once.
pub(super) fn split_template(template: &str) -> Result<(&str, &str), DatasetError> {
    match template.matches(QUESTION).count() {
        1 => Ok(template
            .split_once(QUESTION)
            .expect("the placeholder was counted")),
        found => Err(DatasetError::Template { found }),
    }
}

/// The target of supervised fine-tuning: the answer alone, else the answer as the row writes it (TRL's prompt-completion
/// and conversation rows), else gold reasoning and answer in their tags (method: 3.1).
///
/// # Errors
/// The reasoning is asked for and the row has none; the text is meant as a rejection's reason.
pub fn supervised_target(example: &Example, answer_only: bool) -> Result<String, String> {
    let answer = &example.solution;
    match (&example.target, &example.cot) {
        _ if answer_only => Ok(answer.clone()),
        (Some(target), _) => Ok(target.clone()),
        (None, Some(cot)) => Ok(format!(
            "<think>\n{cot}\n</think>\n<answer>\n{answer}\n</answer>"
        )),
        (None, None) => {
            Err("no `cot`: supervised fine-tuning with reasoning needs one in every row".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reasoning(task: Task, solution: &str) -> String {
        task_template(task, PromptStyle::Reasoning, solution)
    }

    #[test]
    fn each_task_asks_for_its_kind_of_answer() {
        for (task, solution, expected) in [
            (
                Task::Counting,
                "3",
                "the final answer (number) between <answer> and </answer>.",
            ),
            (
                Task::Structure,
                "B",
                "the final answer (chosen letter) between <answer> and </answer>.",
            ),
            (
                Task::Structure,
                "2.5",
                "(float number or int number) between <answer> and </answer>.",
            ),
            (
                Task::Transformation,
                "change_size(1,'small')",
                "the final answer between <answer> and </answer>.\n",
            ),
        ] {
            let template = reasoning(task, solution);
            assert!(template.ends_with(expected), "{template}");
            assert!(split_template(&template).is_ok(), "{template}");
        }
        assert!(reasoning(Task::Counting, "3").starts_with("{Question} First write"));
        assert!(reasoning(Task::Structure, "A").contains("(A, B, C or D)"));
        assert!(!reasoning(Task::Structure, "AB").contains("(A, B, C or D)"));
    }

    #[test]
    fn transformation_lists_the_functions_in_order_and_the_question_after_a_blank_line() {
        let template = reasoning(Task::TransformationOnlyFull, "");
        let places: Vec<_> = FUNCTIONS
            .iter()
            .map(|(name, ..)| template.find(&format!("'{name}(")).unwrap())
            .collect();
        assert!(places.is_sorted(), "{template}");
        assert!(
            template.contains("Now it is your turn.\n\n{Question} "),
            "{template}"
        );
        assert!(
            template.contains("<think>your reasoning</think>"),
            "{template}"
        );
    }

    #[test]
    fn the_caption_variant_asks_for_four_tags() {
        let template = reasoning(Task::TransformationFullCaption, "");
        let places: Vec<_> = ["<summary>", "<caption>", "<think>", "<answer>"]
            .iter()
            .map(|tag| template.find(tag).unwrap())
            .collect();
        assert!(places.is_sorted(), "{template}");
    }

    #[test]
    fn the_bare_style_asks_for_no_tags() {
        assert_eq!(
            task_template(Task::Counting, PromptStyle::Bare, "3"),
            "{Question}"
        );
        assert_eq!(
            task_template(Task::Structure, PromptStyle::Bare, "A"),
            "{Question}"
        );
        let template = task_template(Task::Transformation, PromptStyle::Bare, "");
        assert!(
            template.ends_with("Now it is your turn.\n\n{Question}\n")
                && !template.contains("<answer>")
        );
    }

    #[test]
    fn a_template_has_one_place_for_the_question() {
        assert_eq!(split_template("a {Question} b").unwrap(), ("a ", " b"));
        assert!(matches!(
            split_template("a {question} b"),
            Err(DatasetError::Template { found: 0 })
        ));
        assert!(matches!(
            split_template("{Question}{Question}"),
            Err(DatasetError::Template { found: 2 })
        ));
    }

    #[test]
    fn supervised_targets() {
        let mut example = crate::data::dataset::row::tests::example("3");
        example.cot = Some("one two three".into());
        assert_eq!(
            supervised_target(&example, false).unwrap(),
            "<think>\none two three\n</think>\n<answer>\n3\n</answer>"
        );
        assert_eq!(supervised_target(&example, true).unwrap(), "3");
        example.target = Some("As written: 3.".into());
        assert_eq!(
            supervised_target(&example, false).unwrap(),
            "As written: 3."
        );
        assert_eq!(supervised_target(&example, true).unwrap(), "3");
        (example.cot, example.target) = (None, None);
        assert!(
            supervised_target(&example, false)
                .unwrap_err()
                .starts_with("no `cot`")
        );
    }
}
