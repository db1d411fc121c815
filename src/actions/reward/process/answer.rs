//! The line that a reward program answered: as many values as there are completions, or what is wrong with it.

use serde_json::Value;

use super::error::{ProcessFault, shown};

/// What Python and others write for numbers that JSON does not have; the longer word first.
const NOT_NUMBERS: [(&str, &str); 3] = [
    ("-Infinity", "\"-inf\""),
    ("Infinity", "\"inf\""),
    ("NaN", "\"NaN\""),
];

/// Reads `[1.0, null]`, or `{"rewards": [1.0, null]}`, which may name the request it answers; other keys are not read.
/// `example` gives the id that belongs to a completion.
///
/// # Errors
/// If it is anything else, has another number of values, or one that is not finite as an `f32`.
pub(super) fn read(
    line: &[u8],
    request: u64,
    count: usize,
    example: &dyn Fn(usize) -> String,
) -> Result<Vec<Option<f32>>, ProcessFault> {
    let not_an_answer = |reason: String| ProcessFault::NotAnAnswer {
        line: shown(line),
        reason,
    };
    let parsed = parse(line).map_err(not_an_answer)?;
    if let Some(found) = parsed
        .get("request_number")
        .filter(|found| **found != request)
    {
        let found = found.to_string();
        let expected = request;
        return Err(ProcessFault::OtherRequest { expected, found });
    }
    let values = parsed
        .as_array()
        .or_else(|| parsed.get("rewards")?.as_array());
    let values = values.ok_or_else(|| not_an_answer(kind(&parsed).to_owned()))?;
    if values.len() != count {
        return Err(ProcessFault::Count {
            expected: count,
            found: values.len(),
            line: shown(line),
        });
    }
    let checked = |(index, value): (usize, &Value)| {
        reward(value).map_err(|found| ProcessFault::Value {
            place: index + 1,
            count,
            example: example(index),
            found,
        })
    };
    values.iter().enumerate().map(checked).collect()
}

/// JSON, or a list with `NaN` and infinities in it, which then stand there as text.
fn parse(line: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(line).or_else(|error| {
        let mut text = String::from_utf8_lossy(line).into_owned();
        for (word, quoted) in NOT_NUMBERS {
            text = text.replace(word, quoted);
        }
        serde_json::from_str(&text).map_err(|_| error.to_string())
    })
}

/// A reward, or what stands in its place.
fn reward(value: &Value) -> Result<Option<f32>, String> {
    if value.is_null() {
        return Ok(None);
    }
    let number = value.as_f64().map(|number| number as f32);
    number
        .filter(|number| number.is_finite())
        .map(Some)
        .ok_or_else(|| match value.as_str() {
            Some(text @ ("NaN" | "inf" | "-inf")) => text.to_owned(),
            _ => shown(value.to_string().as_bytes()),
        })
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "an object without a list `rewards`",
        Value::String(_) => "text",
        Value::Number(_) => "a single number",
        Value::Null => "null",
        _ => "neither a list nor an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(line: &str, count: usize) -> Result<Vec<Option<f32>>, String> {
        let id = |index| format!("train-{index}");
        read(line.as_bytes(), 4, count, &id).map_err(|fault| fault.to_string())
    }

    #[test]
    fn a_list_or_an_object_with_a_list() {
        let expected = Ok(vec![Some(1.0), None, Some(-0.5)]);
        assert_eq!(answer("[1, null, -0.5]\n", 3), expected);
        assert_eq!(answer("{\"rewards\": [1.0, null, -5e-1]}\r\n", 3), expected);
        let named = "{\"rewards\": [1, null, -0.5], \"request_number\": 4, \"seconds\": 2}";
        assert_eq!(answer(named, 3), expected);
    }

    #[test]
    fn anything_else_is_quoted_with_what_was_expected() {
        for (line, words) in [
            ("scoring...", "found `scoring...` (expected value at line 1"),
            ("[1, 2", "found `[1, 2` (EOF while parsing"),
            ("[1, 2] 3", "trailing characters"),
            ("3", "found `3` (a single number)"),
            ("\"ok\"", "(text)"),
            ("true", "(neither a list nor an object)"),
            (
                "{\"reward\": [1, 2]}",
                "(an object without a list `rewards`)",
            ),
            (
                "[1]",
                "expected 2 rewards, one per completion, found 1 in `[1]`",
            ),
            ("[1, 2, 3]", "found 3 in `[1, 2, 3]`"),
            ("[]", "found 0 in `[]`"),
            (
                "[1, NaN]",
                "as reward 2 of 2 (example `train-1`), found NaN",
            ),
            (
                "[-Infinity, 1]",
                "as reward 1 of 2 (example `train-0`), found -inf",
            ),
            ("[Infinity, 1]", "found inf"),
            ("[1e39, 1]", "found `1e+39`"),
            ("[true, 1]", "found `true`"),
            ("[\"1\", 1]", "found `\"1\"`"),
            ("[[1], [2]]", "found `[1]`"),
            (
                "{\"rewards\": [1, 2], \"request_number\": 3}",
                "expected the answer to request 4, found that to request 3",
            ),
        ] {
            let text = answer(line, 2).expect_err(line);
            assert!(text.contains(words), "{line}: {text}");
        }
        let text = answer("\u{0}x\u{7f}", 1).expect_err("junk");
        assert!(
            text.contains("found ` x `"),
            "control characters stay out: {text}"
        );
    }
}
