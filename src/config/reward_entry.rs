//! `reward_funcs`: each entry is the name of a built-in function, or a table for a program of the user's.
//!
//! Checks shape and range of one value; starts no program.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::error::Fault;
use super::key::{Key, REQUIRED, inner_key as key, read_table as table};
use super::path;
use super::ranges::SECONDS;
use super::value::Kind;
use crate::options::{RewardFunction, RewardPictures};

/// One entry of `reward_funcs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum RewardEntry {
    /// A built-in function, by its name.
    BuiltIn(RewardFunction),
    /// A program.
    Program(RewardProgram),
}

/// A reward computed by a program that is kept running (conventions: section 6).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RewardProgram {
    /// Its name in every log.
    pub name: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Seconds that the answer to one batch may take.
    pub timeout_s: f64,
    /// Times that it is started again for one batch.
    pub max_restarts: usize,
    /// Whether its value decides who passes, in place of the task's accuracy.
    pub measures_accuracy: bool,
    /// How the pictures of a prompt reach it.
    pub pictures: RewardPictures,
}

impl RewardEntry {
    /// The name in metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::BuiltIn(function) => function.name(),
            Self::Program(program) => &program.name,
        }
    }
}

/// Reads `reward_funcs`.
pub(crate) const LIST: Kind = Kind::List(&Kind::Custom {
    description: "one of accuracy, format, math_accuracy, trance, trance-only-full, trance-penalty, \
                  think_format_reward, soft_overlong_punishment, cosine, repetition_penalty, length, reason, or a \
                  table with `name` and `command`",
    read: read_entry,
    write: Value::clone,
});

#[rustfmt::skip] // One key a line: this is a table.
static PROGRAM: &[Key] = &[
    key("name", Kind::Text, REQUIRED, "Name of the reward in every log."),
    key("command", Kind::List(&Kind::Text), REQUIRED, "The program and its arguments."),
    key("timeout_s", SECONDS, "60", "Seconds that the answer to one batch may take."),
    key("max_restarts", Kind::Count(0, 1000), "3", "Times that it is started again for one batch."),
    key("measures_accuracy", Kind::Bool, "false", "Its value decides who passes, in place of the task's accuracy."),
    key("pictures", Kind::Choice(RewardPictures::NAMES), "pil", "How pictures reach it, once per prompt: pil, paths, none."),
];

/// What a row of the completions log holds besides rewards.
const COLUMNS: [&str; 8] = [
    "step",
    "id",
    "prompt",
    "completion",
    "source",
    "reward",
    "advantage",
    "selected",
];

fn read_entry(value: &Value) -> Result<Value, Fault> {
    let Some(written) = value.as_object() else {
        let expected = || match LIST {
            Kind::List(item) => item.description(),
            other => other.description(),
        };
        return Kind::Choice(RewardFunction::NAMES)
            .read(value)
            .map_err(|_| Fault::expected(value, &expected()));
    };
    if written
        .get("command")
        .is_some_and(|command| !is_command(command))
    {
        let expected = "the program and its arguments as a list";
        let mut fault = Fault::expected(&written["command"], expected).inside(".command");
        fault.hint = Some(
            "write it as a list of texts: [python3, reward_server.py, \"rewards.py:count\"]"
                .to_owned(),
        );
        return Err(fault);
    }
    let mut entry = table(written, &[PROGRAM])?;
    check_name(&entry)?;
    // Nobody else expands it: the program is started without a shell.
    for word in entry["command"].as_array_mut().into_iter().flatten() {
        let expanded = path::expand_home(word.as_str().unwrap_or_default());
        *word = expanded.map(Value::from).map_err(|reason| {
            Fault::expected(word, "the program and its arguments")
                .with_hint(reason)
                .inside(".command")
        })?;
    }
    Ok(Value::Object(entry))
}

fn is_command(value: &Value) -> bool {
    let words = value.as_array();
    words.is_some_and(|words| !words.is_empty() && words.iter().all(Value::is_string))
}

/// The name becomes part of metric names and a column of the completions log.
fn check_name(entry: &Map<String, Value>) -> Result<(), Fault> {
    let name = entry["name"].as_str().unwrap_or_default();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    if !name.chars().all(plain) {
        let expected = "letters, digits, `-`, `_` and `.`";
        return Err(Fault::expected(&entry["name"], expected).inside(".name"));
    }
    let taken = RewardFunction::NAMES.contains(&name) || COLUMNS.contains(&name);
    if taken {
        let expected = "a name that is no built-in reward and no column of the completions log";
        return Err(Fault::expected(&entry["name"], expected).inside(".name"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{message, read, train};
    use super::super::{Purpose, Run};
    use super::*;

    fn program(entry: &str) -> RewardProgram {
        match &train(&format!("reward_funcs: [format, {entry}]"))
            .data
            .reward_funcs[1]
        {
            RewardEntry::Program(program) => program.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_and_programs_stand_beside_each_other() {
        let expected = RewardProgram {
            name: "judge".into(),
            command: vec!["python3".into(), "judge.py".into()],
            timeout_s: 60.0,
            max_restarts: 3,
            measures_accuracy: false,
            pictures: RewardPictures::Pil,
        };
        assert_eq!(
            program("{name: judge, command: [python3, judge.py]}"),
            expected
        );
        let given = "{name: judge, command: [./judge, '8'], timeout_s: 0.5, max_restarts: 0, measures_accuracy: true}";
        let expected = RewardProgram {
            command: vec!["./judge".into(), "8".into()],
            timeout_s: 0.5,
            max_restarts: 0,
            measures_accuracy: true,
            ..expected
        };
        assert_eq!(program(given), expected);
    }

    #[test]
    fn the_saved_file_and_a_flag_give_an_equal_run() {
        let run = train("reward_funcs: [accuracy, {name: judge, command: [judge, -x]}]");
        assert_eq!(run.data.reward_weights, [1.0, 1.0]);
        let again = read(Purpose::Train, &run.to_yaml(), &[]).expect("readable");
        assert_eq!(again.data, run.data);
        let flag = "[accuracy, {\"name\": \"judge\", \"command\": [\"judge\", \"-x\"]}]";
        let needed = super::super::tests::NEEDED;
        let flagged: Run =
            read(Purpose::Train, needed, &[("reward_funcs", flag)]).expect("readable");
        assert_eq!(flagged.data.reward_funcs, run.data.reward_funcs);
    }

    #[test]
    fn entries_that_cannot_be_are_refused_with_their_place() {
        for (entry, part) in [
            (
                "acuracy",
                "`reward_funcs[0]` is \"acuracy\"; expected one of accuracy, format",
            ),
            ("3", "or a table with `name` and `command`"),
            ("{command: [a]}", "`reward_funcs[0].name` is missing"),
            ("{name: judge}", "`reward_funcs[0].command` is missing"),
            (
                "{name: judge, command: []}",
                "`reward_funcs[0].command` is []; expected the program",
            ),
            (
                "{name: judge, command: python3 judge.py}",
                "is \"python3 judge.py\"; expected the program and its arguments as a list\nhint: write it as a list of texts",
            ),
            ("{name: judge, command: [a, 8]}", "is [\"a\",8]; expected"),
            (
                "{name: judge, command: [a], timeout: 3}",
                "the nearest known key is `timeout_s`",
            ),
            (
                "{name: judge, command: [a], timeout_s: 0}",
                "`reward_funcs[0].timeout_s` is 0; expected a number from 0.001 to 1e6",
            ),
            ("{name: a/b, command: [a]}", "expected letters, digits"),
            (
                "{name: accuracy, command: [a]}",
                "expected a name that is no built-in reward",
            ),
            (
                "{name: reward, command: [a]}",
                "no column of the completions log",
            ),
        ] {
            let text = message(&format!("reward_funcs: [{entry}]"));
            assert!(text.contains(part), "{entry}: {text}");
        }
        let twice = message("reward_funcs: [{name: a, command: [x]}, {name: a, command: [y]}]");
        assert!(twice.contains("names a reward function twice"), "{twice}");
    }

    #[test]
    fn the_description_lists_every_built_in() {
        for name in RewardFunction::NAMES {
            assert!(LIST.description().contains(name), "{name}");
        }
    }
}
