//! The types that a key can have, and how a written value becomes one of that type.
//!
//! A value comes from YAML (typed) or from a flag (text); both end as the same JSON value. Python's YAML reads `1e-6`
//! as text and `no` as false, so numbers in quotes and words for booleans are understood. Knows no key by name.

use serde_json::{Value, json};

use super::error::Fault;

/// What a key takes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number of at least this.
    Count(u64),
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
    /// A value with a reader of its own.
    Custom {
        /// What it takes, for messages and help.
        description: &'static str,
        /// Its reader.
        read: Reader,
    },
}

/// Checks a value of [`Kind::Custom`] and brings it into its one form.
pub(crate) type Reader = fn(&Value) -> Result<Value, Fault>;

/// The range of a number; an infinite end is no bound.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    low: f64,
    low_included: bool,
    high: f64,
    high_included: bool,
}

/// Any number from 0.
pub(crate) const FROM_ZERO: Kind = between(0.0, true, f64::INFINITY, true);
/// Any number above 0.
pub(crate) const ABOVE_ZERO: Kind = between(0.0, false, f64::INFINITY, true);
/// From 0 to 1.
pub(crate) const SHARE: Kind = between(0.0, true, 1.0, true);
/// Above 0, up to 1.
pub(crate) const SHARE_ABOVE_ZERO: Kind = between(0.0, false, 1.0, true);
/// From 0, below 1.
pub(crate) const BELOW_ONE: Kind = between(0.0, true, 1.0, false);
/// Any finite number.
pub(crate) const ANY_NUMBER: Kind = between(f64::NEG_INFINITY, true, f64::INFINITY, true);

const fn between(low: f64, low_included: bool, high: f64, high_included: bool) -> Kind {
    Kind::Number(Bounds {
        low,
        low_included,
        high,
        high_included,
    })
}

impl Bounds {
    fn hold(self, number: f64) -> bool {
        let above = number > self.low || (self.low_included && number == self.low);
        let below = number < self.high || (self.high_included && number == self.high);
        above && below
    }

    fn description(self) -> String {
        let low = match (self.low.is_finite(), self.low_included) {
            (false, _) => return "a number".to_owned(),
            (true, true) => format!("a number of at least {}", self.low),
            (true, false) => format!("a number above {}", self.low),
        };
        match (self.high.is_finite(), self.high_included) {
            (false, _) => low,
            (true, true) => format!("{low} and at most {}", self.high),
            (true, false) => format!("{low} and below {}", self.high),
        }
    }
}

impl Kind {
    /// What this kind takes, in words.
    pub(crate) fn description(&self) -> String {
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Count(least) => format!("a whole number of at least {least}"),
            Self::Limit => "-1 or a whole number of at least 1".to_owned(),
            Self::Interval => {
                "a whole number of steps, or a share of all steps between 0 and 1".to_owned()
            }
            Self::Number(bounds) => bounds.description(),
            Self::Text => "text".to_owned(),
            Self::Path => "a path".to_owned(),
            Self::Choice(words) => format!("one of {}", words.join(", ")),
            Self::List(item) => format!("a list, each item {}", item.description()),
            Self::Optional(kind) => format!("{}, or null", kind.description()),
            Self::Custom { description, .. } => (*description).to_owned(),
        }
    }

    /// Whether the values are yes and no, so that a bare flag means yes.
    pub(crate) fn is_bool(&self) -> bool {
        matches!(self, Self::Bool)
    }

    /// Whether a flag may be followed by several values.
    pub(crate) fn is_list(&self) -> bool {
        match self {
            Self::List(_) => true,
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
            Self::Count(least) => whole(value)
                .and_then(|number| u64::try_from(number).ok())
                .filter(|number| number >= least)
                .map(|number| json!(number)),
            Self::Limit => whole(value)
                .filter(|number| *number == -1 || *number >= 1)
                .map(|number| json!(number)),
            Self::Interval => number(value)
                .filter(|number| {
                    (*number > 0.0 && *number < 1.0) || (*number >= 1.0 && number.fract() == 0.0)
                })
                .map(|number| json!(number)),
            Self::Number(bounds) => number(value)
                .filter(|number| bounds.hold(*number))
                .map(|number| json!(number)),
            Self::Text | Self::Path => value
                .as_str()
                .filter(|text| !text.trim().is_empty())
                .map(|text| json!(text)),
            Self::Choice(words) => choice(words, value).map(|word| json!(word)),
            Self::List(item) => return self.list(item, value),
            Self::Optional(_) if value.is_null() => Some(Value::Null),
            Self::Optional(kind) => {
                return kind.read(value).map_err(|fault| {
                    if fault.within.is_empty() {
                        Fault::expected(value, &self.description())
                    } else {
                        fault
                    }
                });
            }
            Self::Custom { read, .. } => return read(value),
        };
        read.ok_or_else(|| Fault::expected(value, &self.description()))
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
            Self::Optional(kind) => kind.of_flag(text),
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
    use super::*;

    fn read(kind: &Kind, value: Value) -> Option<Value> {
        kind.read(&value).ok()
    }

    #[test]
    fn numbers_come_as_numbers_or_text() {
        assert_eq!(read(&Kind::Count(1), json!("8")), Some(json!(8)));
        assert_eq!(read(&Kind::Count(1), json!(1e3)), Some(json!(1000)));
        for wrong in [
            json!(0),
            json!(-1),
            json!(1.5),
            json!("x"),
            json!(true),
            json!(null),
            json!(1e300),
        ] {
            assert_eq!(read(&Kind::Count(1), wrong.clone()), None, "{wrong}");
        }
        assert_eq!(read(&FROM_ZERO, json!("1e-6")), Some(json!(1e-6)));
        for wrong in [json!("nan"), json!("inf"), json!(-0.1), json!([1])] {
            assert_eq!(read(&FROM_ZERO, wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn bounds_say_which_ends_belong() {
        for (kind, inside, outside) in [
            (SHARE, [0.0, 1.0], [-0.1, 1.1]),
            (SHARE_ABOVE_ZERO, [0.1, 1.0], [0.0, 1.1]),
            (BELOW_ONE, [0.0, 0.99], [-0.1, 1.0]),
            (ABOVE_ZERO, [1e-9, 1e9], [0.0, -1.0]),
        ] {
            assert!(
                inside
                    .iter()
                    .all(|number| kind.read(&json!(number)).is_ok()),
                "{}",
                kind.description()
            );
            assert!(
                outside
                    .iter()
                    .all(|number| kind.read(&json!(number)).is_err()),
                "{}",
                kind.description()
            );
        }
        assert_eq!(
            BELOW_ONE.description(),
            "a number of at least 0 and below 1"
        );
        assert_eq!(ANY_NUMBER.description(), "a number");
    }

    #[test]
    fn intervals_are_whole_steps_or_a_share() {
        assert!(
            [json!(1), json!(500), json!(0.05)]
                .into_iter()
                .all(|value| Kind::Interval.read(&value).is_ok())
        );
        assert!(
            [json!(0), json!(1.5), json!(-1)]
                .into_iter()
                .all(|value| Kind::Interval.read(&value).is_err())
        );
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
        let fault = Kind::List(&FROM_ZERO).read(&json!([1, "a"])).unwrap_err();
        assert_eq!(
            (fault.within.as_str(), fault.problem.as_str()),
            ("[1]", "is \"a\"; expected a number of at least 0")
        );
        assert!(Kind::List(&FROM_ZERO).read(&json!(1)).is_err());
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
