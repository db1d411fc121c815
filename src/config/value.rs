//! The types that a key can have, and how a written value becomes one of that type.
//!
//! A value comes from YAML (typed) or from a flag (text); both end as the same JSON value. Python's YAML reads `1e-6`
//! as text and `no` as false, so numbers in quotes and words for booleans are understood. Knows no key by name.

use serde_json::{Value, json};

use super::bounds::{Bounds, STEPS};
use super::error::{Fault, shown};
use super::{path, secret};

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number in this range, ends included.
    Count(u64, u64),
    /// -1 for "not set", or a whole number of at least 1.
    Limit,
    /// A number of steps, or below 1 a share of all steps.
    Interval,
    /// A number within bounds.
    Number(Bounds),
    /// Text.
    Text,
    /// A file or folder.
    Path,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of values of this kind.
    List(&'static Kind),
    /// A value of this kind, or null.
    Optional(&'static Kind),
    /// A value of this kind, whose parts may follow a flag one by one.
    Joined(&'static Kind),
    /// A value with a reader of its own.
    Custom {
        /// What it takes, for messages and help.
        description: &'static str,
        /// Its reader.
        read: Reader,
        /// The value as a file holds it, so that reading gives it again.
        write: Writer,
    },
}

/// Checks a value of [`Kind::Custom`] and brings it into its one form.
pub(crate) type Reader = fn(&Value) -> Result<Value, Fault>;

/// The inverse of a [`Reader`].
pub(crate) type Writer = fn(&Value) -> Value;

impl Kind {
    /// What this kind takes, in words.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Count(least, most) => format!("a whole number from {least} to {most}"),
            Self::Limit => format!("-1 or a whole number from 1 to {STEPS}"),
            Self::Interval => format!(
                "a whole number of steps from 1 to {STEPS}, or a share of all steps above 0 and below 1"
            ),
            Self::Number(bounds) => bounds.description(),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(item) => format!("a list, each item {}", item.description()),
            Self::Optional(kind) => format!("{}, or null", kind.description()),
            Self::Joined(kind) => kind.description(),
            Self::Custom { description, .. } => (*description).to_owned(),
        }
    }

    /// Whether the values are yes and no, so that a bare flag means yes.
    pub(crate) fn is_bool(&self) -> bool {
        match self {
            Self::Bool => true,
            Self::Optional(kind) => kind.is_bool(),
            _ => false,
        }
    }

    /// Whether it takes a number.
    #[cfg(test)]
    pub(super) fn takes_number(&self) -> bool {
        match self {
            Self::Count(..) | Self::Limit | Self::Interval | Self::Number(_) => true,
            Self::Optional(kind) => kind.takes_number(),
            _ => false,
        }
    }

    /// Whether a flag may be followed by several values.
    pub(crate) fn is_list(&self) -> bool {
        match self {
            Self::List(_) | Self::Joined(_) => true,
            Self::Optional(kind) => kind.is_list(),
            _ => false,
        }
    }

    /// The value in its one form.
    ///
    /// # Errors
    /// If the value is not of this kind.
    pub(super) fn read(&self, value: &Value) -> Result<Value, Fault> {
        let read = match self {
            Self::Bool => boolean(value).map(Value::Bool),
            Self::Count(least, most) => whole(value)
                .and_then(|number| u64::try_from(number).ok())
                .filter(|number| (least..=most).contains(&number))
                .map(|number| json!(number)),
            Self::Limit => whole(value)
                .filter(|number| *number == -1 || (1..=STEPS as i64).contains(number))
                .map(|number| json!(number)),
            Self::Interval => number(value)
                .filter(|number| is_interval(*number))
                .map(|number| json!(number)),
            Self::Number(bounds) => number(value)
                .filter(|number| bounds.hold(*number))
                .map(|number| json!(number + 0.0)), // -0 is 0
            Self::Text => return self.text(value).map(Value::from),
            Self::Path => return self.path(value),
            Self::Choice(words) => choice(words, value).map(|word| json!(word)),
            Self::List(item) => return self.list(item, value),
            Self::Optional(_) if value.is_null() => Some(Value::Null),
            Self::Optional(kind) => {
                return kind.read(value).map_err(|fault| {
                    if fault.within.is_empty() && fault.hint.is_none() {
                        Fault::expected(value, &self.description())
                    } else {
                        fault
                    }
                });
            }
            Self::Joined(kind) => return kind.read(value),
            Self::Custom { read, .. } => return read(value),
        };
        read.ok_or_else(|| Fault::expected(value, &self.description()))
    }

    fn text<'a>(&self, value: &'a Value) -> Result<&'a str, Fault> {
        let text = value.as_str().filter(|text| !text.trim().is_empty());
        let text = text.ok_or_else(|| Fault::expected(value, &self.description()))?;
        if secret::scrubbed(text) == text {
            return Ok(text);
        }
        Err(Fault {
            within: String::new(),
            problem: "holds what looks like the key of a service; it is not shown".to_owned(),
            hint: Some(
                "keep keys in the environment, and name the variable in `api_key_env` of an `external` entry"
                    .to_owned(),
            ),
        })
    }

    fn path(&self, value: &Value) -> Result<Value, Fault> {
        let text = self.text(value)?;
        path::expand(text).map(Value::from).map_err(|reason| {
            let (problem, hint) = reason
                .split_once("; ")
                .unwrap_or((&reason, "check the path"));
            Fault {
                within: String::new(),
                problem: format!("is {}: {problem}", shown(value)),
                hint: Some(hint.to_owned()),
            }
        })
    }

    /// The value as a file holds it; [`Self::read`] gives it again.
    pub(super) fn written(&self, value: &Value) -> Value {
        match (self, value) {
            (Self::Path, Value::String(path)) => json!(path::written(path)),
            (Self::Optional(kind) | Self::Joined(kind), value) => kind.written(value),
            (Self::List(item), Value::Array(items)) => {
                items.iter().map(|value| item.written(value)).collect()
            }
            (Self::Custom { write, .. }, value) => write(value),
            _ => value.clone(),
        }
    }

    fn list(&self, item: &Self, value: &Value) -> Result<Value, Fault> {
        // One path or word stands for a list of one.
        let one = [value.clone()];
        let items = match (value, item) {
            (Value::Array(items), _) => items.as_slice(),
            (Value::String(_), Self::Path | Self::Text | Self::Choice(_)) => &one,
            _ => return Err(Fault::expected(value, &self.description())),
        };
        let read = |(index, one)| {
            item.read(one)
                .map_err(|fault| fault.inside(&format!("[{index}]")))
        };
        items.iter().enumerate().map(read).collect()
    }

    /// The YAML value that a flag's text stands for.
    pub(super) fn of_flag(&self, text: &str) -> Value {
        match self {
            Self::Optional(_) if matches!(text, "null" | "none" | "None" | "~" | "") => Value::Null,
            Self::Optional(kind) | Self::Joined(kind) => kind.of_flag(text),
            Self::List(_) | Self::Custom { .. } if text.starts_with(['[', '{']) => {
                yaml_or_text(text)
            }
            Self::List(_) if text.is_empty() => json!([]),
            Self::List(item) => text
                .split(',')
                .map(|part| item.of_flag(part.trim()))
                .collect(),
            Self::Custom { .. } => yaml_or_text(text),
            _ => json!(text),
        }
    }
}

fn yaml_or_text(text: &str) -> Value {
    super::yaml::parse_yaml(text).unwrap_or_else(|_| json!(text))
}

/// A boolean, also as Python's YAML spells it.
pub(super) fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::String(text) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// A finite number, also in quotes.
pub(super) fn number(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    number.is_finite().then_some(number)
}

fn is_interval(number: f64) -> bool {
    let steps = (1.0..=STEPS as f64).contains(&number) && number.fract() == 0.0;
    steps || (number > 0.0 && number < 1.0)
}

/// A whole number, also in quotes or as `1e3`.
fn whole(value: &Value) -> Option<i64> {
    /// Above this not every whole number is an f64.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let direct = match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => return None,
    };
    let exact = |number: &f64| number.fract() == 0.0 && number.abs() <= EXACT;
    direct.or_else(|| number(value).filter(exact).map(|number| number as i64))
}

/// One of the words; false and null stand for `no` and `none`, as YAML and Python have them.
fn choice(words: &[&'static str], value: &Value) -> Option<&'static str> {
    let is = |wanted: &str| words.iter().copied().find(|word| *word == wanted);
    match value {
        Value::String(text) => is(text),
        Value::Bool(false) | Value::Null => is("no").or_else(|| is("none")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::ranges::AMOUNT;
    use super::*;

    fn read(kind: &Kind, value: Value) -> Option<Value> {
        kind.read(&value).ok()
    }

    #[test]
    fn numbers_come_as_numbers_or_text() {
        assert_eq!(read(&Kind::Count(1, 9999), json!("8")), Some(json!(8)));
        assert_eq!(read(&Kind::Count(1, 9999), json!(1e3)), Some(json!(1000)));
        for wrong in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("x"),
            json!(true),
            json!(null),
            json!(1e300),
        ] {
            assert_eq!(read(&Kind::Count(1, 9999), wrong.clone()), None, "{wrong}");
        }
        assert_eq!(read(&AMOUNT, json!("1e-6")), Some(json!(1e-6)));
        for wrong in [json!("nan"), json!("inf"), json!(-0.1), json!([1])] {
            assert_eq!(read(&AMOUNT, wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn intervals_are_whole_steps_or_a_share() {
        assert!(
            [json!(1), json!(500), json!(0.05)]
                .into_iter()
                .all(|value| Kind::Interval.read(&value).is_ok())
        );
        assert!(
            [json!(0), json!(1.5), json!(-1), json!(1e10)]
                .into_iter()
                .all(|value| Kind::Interval.read(&value).is_err())
        );
    }

    #[test]
    fn texts_and_paths_hold_no_keys() {
        for kind in [Kind::Text, Kind::Path, Kind::List(&Kind::Text)] {
            let fault = kind.read(&json!("sk-live-0123456789abcdef")).unwrap_err();
            assert!(fault.problem.contains("it is not shown") && !fault.problem.contains("sk-"));
        }
    }

    #[test]
    fn a_path_is_written_so_that_it_reads_the_same() {
        let kind = Kind::Optional(&Kind::List(&Kind::Path));
        let paths = json!(["a$$b", "./~x"]);
        assert_eq!(kind.written(&kind.read(&paths).unwrap()), paths);
        assert!(Kind::Path.read(&json!("$NO_SUCH_VARIABLE_HERE/a")).is_err());
    }

    #[test]
    fn false_and_null_are_the_word_for_off() {
        let words = Kind::Choice(&["no", "steps"]);
        assert_eq!(read(&words, json!(false)), Some(json!("no")));
        assert_eq!(read(&words, json!(null)), Some(json!("no")));
        assert_eq!(read(&words, json!(true)), None);
        assert_eq!(
            read(&Kind::Choice(&["token", "sequence"]), json!(false)),
            None
        );
    }

    #[test]
    fn a_list_names_the_item_that_is_wrong() {
        let fault = Kind::List(&AMOUNT).read(&json!([1, "a"])).unwrap_err();
        assert_eq!(
            (fault.within.as_str(), fault.problem.as_str()),
            ("[1]", "is \"a\"; expected a number from 0 to 1e6")
        );
        assert!(Kind::List(&AMOUNT).read(&json!(1)).is_err());
    }

    #[test]
    fn flags_are_text_lists_and_null() {
        let list = Kind::Optional(&Kind::List(&Kind::Text));
        assert_eq!(list.of_flag("a, b"), json!(["a", "b"]));
        assert_eq!(list.of_flag("[a, b]"), json!(["a", "b"]));
        assert_eq!(list.of_flag("none"), json!(null));
        assert_eq!(Kind::Text.of_flag("none"), json!("none"));
        assert_eq!(Kind::List(&Kind::Text).of_flag(""), json!([]));
    }
}
