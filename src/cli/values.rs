//! What the values of flags must be: whole numbers and numbers within ranges that an error names, and paths in which `~`
//! and environment variables expand.

use std::ffi::OsStr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::builder::TypedValueParser;
use clap::error::ErrorKind;
use clap::{Arg, Command};

use crate::config;

/// The largest seed: a configuration takes no larger one either.
pub(super) const SEED: u64 = i64::MAX as u64;

/// A whole number from `low` to `high`.
pub(super) fn whole<T: TryFrom<u64>>(
    low: u64,
    high: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static {
    move |text: &str| {
        let number = text
            .parse()
            .ok()
            .filter(|number| (low..=high).contains(number));
        number
            .and_then(|number| T::try_from(number).ok())
            .ok_or_else(|| format!("expected a whole number from {low} to {high}"))
    }
}

/// A whole number from `of` to `high` that `of` divides.
pub(super) fn multiple(
    of: usize,
    high: usize,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync + 'static {
    move |text: &str| {
        let fits = |number: &usize| (of..=high).contains(number) && number.is_multiple_of(of);
        text.parse()
            .ok()
            .filter(fits)
            .ok_or_else(|| format!("expected a multiple of {of} from {of} to {high}"))
    }
}

/// A number from 0 to 1.
pub(super) fn share(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1.0, "a number from 0 to 1")
}

/// What may be spent.
pub(super) fn cost(text: &str) -> Result<f64, String> {
    number(text, 0.0..=1e9, "an amount from 0 to 1e9")
}

/// Memory of a machine or an adapter.
pub(super) fn gibibytes(text: &str) -> Result<f64, String> {
    number(text, 0.01..=1e6, "a number of GiB from 0.01 to 1e6")
}

/// Divides logits; as the configuration's `temperature`.
pub(super) fn temperature(text: &str) -> Result<f32, String> {
    number(text, 1e-3..=1e3, "a number from 0.001 to 1000").map(|number| number as f32)
}

/// Divides logits, or 0 for the most probable token each time.
pub(super) fn temperature_or_greedy(text: &str) -> Result<f32, String> {
    if text.parse().is_ok_and(|number: f64| number == 0.0) {
        return Ok(0.0);
    }
    temperature(text).map_err(|_| "expected 0 or a number from 0.001 to 1000".to_owned())
}

fn number(text: &str, range: RangeInclusive<f64>, expected: &str) -> Result<f64, String> {
    let found = text.parse().ok().filter(|number| range.contains(number));
    found.ok_or_else(|| format!("expected {expected}"))
}

/// A path in which `~` and environment variables expand.
#[derive(Debug, Clone, Copy)]
pub(super) struct ExpandedPath;

impl TypedValueParser for ExpandedPath {
    type Value = PathBuf;

    fn parse_ref(
        &self,
        command: &Command,
        argument: Option<&Arg>,
        value: &OsStr,
    ) -> Result<PathBuf, clap::Error> {
        // A name that is no Unicode has nothing to expand that could be written down.
        let Some(text) = value.to_str() else {
            return Ok(value.into());
        };
        let expanded = if text.trim().is_empty() {
            Err("a path is empty".to_owned())
        } else {
            config::expand_path(text)
        };
        expanded.map(PathBuf::from).map_err(|reason| {
            let name = argument.map_or_else(String::new, ToString::to_string);
            let (problem, hint) = reason
                .split_once("; ")
                .unwrap_or((&reason, "check the path"));
            let message = format!("`{text}` for {name}: {problem}\nhint: {hint}\n");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values that have brought programs down, for each kind of number.
    #[test]
    fn extreme_numbers_are_refused_with_their_range() {
        for text in [
            "-1",
            "1e39",
            "4611686018427387904",
            "9223372036854775808",
            "18446744073709551615",
            "NaN",
            "inf",
            "-inf",
            "340282366920938463463374607431768211456",
            "",
        ] {
            for message in [
                whole::<usize>(1, 100)(text).unwrap_err(),
                multiple(48, 96)(text).unwrap_err(),
                share(text).unwrap_err(),
                temperature(text).unwrap_err(),
                temperature_or_greedy(text).unwrap_err(),
            ] {
                assert!(
                    message.starts_with("expected ") && message.contains(" from "),
                    "{text}: {message}"
                );
            }
        }
        assert!(temperature("1e-46").is_err() && temperature_or_greedy("1e-46").is_err());
        assert_eq!(
            (temperature_or_greedy("0"), temperature("0.7")),
            (Ok(0.0), Ok(0.7))
        );
        assert_eq!(
            (whole::<u32>(1, 100)("100"), multiple(48, 96)("96")),
            (Ok(100), Ok(96))
        );
        assert!(multiple(48, 96)("0").is_err() && multiple(48, 96)("50").is_err());
    }
}
