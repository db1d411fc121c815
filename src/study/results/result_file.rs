//! Result files: reading, checking, writing whole.
//!
//! Does not know what the numbers mean, only what cannot be.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use super::result::{FORMAT_VERSION, RunResult};
use super::result_check;
use crate::printable::excerpt;
use crate::study::error::{StudyError, io_error, read_text};
use crate::system::files::{self, Existing};

/// Digits that a number keeps in a file; losses and rewards are f32.
const SIGNIFICANT_DIGITS: usize = 7;

/// Reads and checks one result.
///
/// # Errors
/// The file cannot be read, is of another version, lacks a key or has an unknown one, holds NaN or a value that another
/// value contradicts; the message names file and key.
pub fn read(path: &Path) -> Result<RunResult, StudyError> {
    let text = read_text(path)?;
    check_version(&text, path)?;
    let mut deserializer = serde_json::Deserializer::from_str(&text);
    let format_error = |key: String, error: &serde_json::Error| StudyError::Format {
        path: path.to_path_buf(),
        key: excerpt(&key).to_string(),
        message: excerpt(&error.to_string()).to_string(),
    };
    let result: RunResult = serde_path_to_error::deserialize(&mut deserializer)
        .map_err(|error| format_error(error.path().to_string(), error.inner()))?;
    deserializer
        .end()
        .map_err(|error| format_error(".".to_owned(), &error))?;
    result_check::check(&result, &path.display().to_string())?;
    Ok(result)
}

/// A newer file may differ in any key, so its version is looked at alone; what is not JSON is left to the full reading.
fn check_version(text: &str, path: &Path) -> Result<(), StudyError> {
    #[derive(Deserialize)]
    struct Version {
        format_version: Option<Value>,
    }
    let Ok(version) = serde_json::from_str::<Version>(text) else {
        return Ok(());
    };
    match version.format_version {
        Some(found) if found != FORMAT_VERSION => Err(StudyError::Version {
            path: path.to_path_buf(),
            expected: FORMAT_VERSION,
            found: excerpt(&found.to_string()).to_string(),
        }),
        _ => Ok(()),
    }
}

/// Reads every `*.json` of a folder, in order of method, family and seed.
///
/// # Errors
/// As [`read`], or two files hold the same run.
pub fn read_folder(folder: &Path) -> Result<Vec<RunResult>, StudyError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let path = entry.map_err(io_error("read", folder))?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    let mut results = paths
        .iter()
        .map(|path| read(path))
        .collect::<Result<Vec<_>, _>>()?;
    results.sort_by(|a, b| sort_key(a).cmp(&sort_key(b)));
    let mut seen = BTreeSet::new();
    for result in &results {
        if !seen.insert(result.file_name()) {
            return Err(StudyError::Duplicate {
                run: result.file_name(),
            });
        }
    }
    Ok(results)
}

fn sort_key(result: &RunResult) -> (u32, &str, super::result::Family, u64) {
    let method = &result.method;
    (method.order, &method.key, result.family, result.seed)
}

/// Checks a result and writes it so that `path` is either absent (or as before) or whole, also after a kill. Numbers keep
/// seven significant digits; each step and each evaluation has a line of its own, so that changes can be read.
///
/// # Errors
/// The result has NaN or contradicts itself, or the file cannot be written.
pub fn write(result: &RunResult, path: &Path) -> Result<(), StudyError> {
    result_check::check(result, &path.display().to_string())?;
    let mut value = serde_json::to_value(result).map_err(|error| StudyError::Format {
        path: path.to_path_buf(),
        key: ".".to_owned(),
        message: error.to_string(),
    })?;
    round(&mut value);
    let unfinished = path.with_extension("json.unfinished");
    let mut file =
        files::create(&unfinished, Existing::Replace).map_err(io_error("write", &unfinished))?;
    file.write_all(lines(&value).as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &unfinished))?;
    drop(file);
    fs::rename(&unfinished, path).map_err(io_error("write", path))
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) if number.is_f64() => {
            let text = number
                .as_f64()
                .map(|exact| format!("{exact:.*e}", SIGNIFICANT_DIGITS - 1));
            let rounded = text.and_then(|text| text.parse::<f64>().ok());
            if let Some(rounded) = rounded.and_then(serde_json::Number::from_f64) {
                *number = rounded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(round),
        Value::Object(entries) => entries.values_mut().for_each(round),
        _ => {}
    }
}

/// One line per key, and per element of a list of objects.
fn lines(value: &Value) -> String {
    let Value::Object(entries) = value else {
        return format!("{value}\n");
    };
    let entry = |(key, value): (&String, &Value)| match value {
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let items: Vec<String> = items.iter().map(|item| format!("  {item}")).collect();
            format!(
                " {}: [\n{}\n ]",
                Value::from(key.as_str()),
                items.join(",\n")
            )
        }
        _ => format!(" {}: {value}", Value::from(key.as_str())),
    };
    let entries: Vec<String> = entries.iter().map(entry).collect();
    format!("{{\n{}\n}}\n", entries.join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::results::fixture;
    use crate::study::results::result::{Family, Role};

    fn example() -> RunResult {
        fixture::run(
            fixture::method("grpo", Role::Reference),
            Family::Counting,
            1,
            6,
        )
    }

    /// The message of reading the example's text after `change`.
    fn message(change: impl Fn(String) -> String) -> String {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("one.json");
        write(&example(), &path).expect("written");
        let text = fs::read_to_string(&path).expect("readable");
        let changed = change(text.clone());
        assert_ne!(text, changed, "the change must change something");
        fs::write(&path, changed).expect("written");
        let error = read(&path).expect_err("refused").to_string();
        assert!(
            error.contains("one.json") && error.contains("hint: "),
            "{error}"
        );
        error
    }

    #[test]
    fn what_is_written_reads_back_and_can_be_read_by_people() {
        let folder = tempfile::tempdir().expect("a folder");
        let result = example();
        let path = folder.path().join(result.file_name());
        write(&result, &path).expect("written");
        assert_eq!(read(&path).expect("read"), result);
        assert_eq!(read_folder(folder.path()).expect("read"), [result]);
        let text = fs::read_to_string(&path).expect("readable");
        let step = "\n  {\"step\":3,\"samples\":24,\"wall_seconds\":6.0,\"reward\":0.18,";
        assert!(text.contains(step), "a line per step:\n{text}");
        let names = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(names, 1, "nothing unfinished is left");
    }

    #[test]
    fn numbers_keep_seven_digits() {
        let mut value = serde_json::json!({"a": [0.123_456_789, 1e-9, 12], "b": 298.003_123});
        round(&mut value);
        assert_eq!(
            value,
            serde_json::json!({"a": [0.123_456_8, 1e-9, 12], "b": 298.003_1})
        );
    }

    #[test]
    fn a_file_of_another_version_or_with_other_keys_is_refused_by_name() {
        let newer = message(|text| text.replace("\"format_version\": 1", "\"format_version\": 2"));
        assert!(newer.contains("expected 1, found 2"), "{newer}");
        let absent = message(|text| text.replace(" \"seed\": 1,\n", ""));
        assert!(absent.contains("missing field `seed`"), "{absent}");
        let absent = message(|text| text.replacen("\"reward\":0.06,", "", 1));
        assert!(
            absent.contains("`steps[0]") && absent.contains("`reward`"),
            "{absent}"
        );
        let absent = message(|text| text.replace(",\"counterpart\":null", ""));
        assert!(
            absent.contains("`method") && absent.contains("`counterpart`"),
            "{absent}"
        );
        let unknown = message(|text| text.replacen("\"samples\":8", "\"samples\":8,\"loss\":1", 1));
        assert!(
            unknown.contains("`steps[0]") && unknown.contains("`loss`"),
            "{unknown}"
        );
        let cut = message(|text| text[..text.len() / 2].to_owned());
        assert!(cut.contains("EOF"), "{cut}");
    }

    #[test]
    fn what_is_no_number_is_refused_by_its_key() {
        for nan in ["NaN", "null", "1e999"] {
            let changed = message(|text| {
                text.replacen(
                    "\"wall_seconds\":4.0",
                    &format!("\"wall_seconds\":{nan}"),
                    1,
                )
            });
            assert!(
                changed.contains("steps[1].wall_seconds"),
                "{nan}: {changed}"
            );
        }
        let mut result = example();
        result.final_evaluations[1].accuracy = f64::NAN;
        let error = write(&result, Path::new("never.json")).expect_err("refused");
        assert!(error.to_string().contains("final[1].accuracy"), "{error}");
        assert!(!Path::new("never.json").exists());
    }

    #[test]
    fn means_that_do_not_follow_from_the_values_are_refused() {
        let better = message(|text| {
            text.replacen("\"accuracy\":0.6,\"exact", "\"accuracy\":0.7,\"exact", 1)
        });
        assert!(
            better.contains("final[0].accuracy") && better.contains("found 0.7"),
            "{better}"
        );
        let better = message(|text| text.replacen("\"1\":0.45", "\"1\":0.55", 1));
        assert!(better.contains("final[0].pass_at_k.values.1"), "{better}");
        let back = message(|text| text.replacen("\"step\":2,", "\"step\":1,", 1));
        assert!(back.contains("steps[1].step"), "{back}");
        let more = message(|text| {
            text.replacen(
                "\"rows\":10,\"temperature\"",
                "\"rows\":11,\"temperature\"",
                1,
            )
        });
        assert!(more.contains("final[0].scores"), "{more}");
    }

    #[test]
    fn two_files_of_one_run_are_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["a.json", "b.json"] {
            write(&example(), &folder.path().join(name)).expect("written");
        }
        let error = read_folder(folder.path()).expect_err("refused").to_string();
        assert!(error.contains("grpo-counting-seed-1"), "{error}");
    }
}
