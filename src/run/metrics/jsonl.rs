//! Append-only JSONL logs whose rows carry a `step`, and their repair when a run resumes.
//!
//! Does not know what a row holds besides `step`.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::{LoggedStep, MetricsError};
use crate::json_lines;
use crate::system::files::{self, Existing};

/// Name of the metrics log in `output_dir`.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// A file of one JSON object per line, each line handed to the operating system as soon as it is complete.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    file: File,
}

impl JsonLines {
    /// An empty file; `existing` says whether one that is there may go.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, MetricsError> {
        let file = files::create(path, existing).map_err(MetricsError::io("create", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
        })
    }

    /// The existing file (or a new one) without what lies beyond `last_step`: rows of later steps, the summary row that
    /// ends a run (`train_runtime`), and a last line that a kill left unfinished.
    ///
    /// # Errors
    /// The file cannot be read or cut, or a whole line is not an object with a `step`.
    pub fn resume(path: &Path, last_step: u64) -> Result<Self, MetricsError> {
        let file = files::open_or_create(path).map_err(MetricsError::io("open", path))?;
        let keep = kept_bytes(path, &file, last_step)?;
        file.set_len(keep).map_err(MetricsError::io("cut", path))?;
        drop(file);
        let file = files::open_to_append(path).map_err(MetricsError::io("open", path))?;
        Ok(Self {
            path: path.to_path_buf(),
            file,
        })
    }

    /// Writes one row as one line.
    ///
    /// # Errors
    /// The row is not JSON, or the disk is full or gone.
    pub fn append(&mut self, row: &impl Serialize) -> Result<(), MetricsError> {
        let encode = |source| MetricsError::Encode {
            path: self.path.clone(),
            source,
        };
        let mut line = serde_json::to_vec(row).map_err(encode)?;
        line.push(b'\n');
        self.file
            .write_all(&line)
            .map_err(MetricsError::io("write", &self.path))
    }

    /// Waits until all rows are on the disk; called before a checkpoint that counts on them.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.file
            .sync_data()
            .map_err(MetricsError::io("write", &self.path))
    }
}

/// Length of the leading lines that a run resumed after `last_step` keeps.
fn kept_bytes(path: &Path, mut file: &File, last_step: u64) -> Result<u64, MetricsError> {
    let mut content = Vec::new();
    file.read_to_end(&mut content)
        .map_err(MetricsError::io("read", path))?;
    let mut kept = 0;
    for line in json_lines::lines(&content) {
        // What a kill left is the beginning of a row, or comes after whole ones; anything else is somebody's file.
        if !line.is_whole && (line.number > 1 || begins_like_a_row(line.text)) {
            break;
        }
        let row: Option<Map<String, Value>> = json_lines::parse(line.text).ok();
        let step = row
            .as_ref()
            .and_then(|row| row.get("step"))
            .and_then(Value::as_u64);
        let (Some(row), Some(step)) = (row, step) else {
            let found = String::from_utf8_lossy(line.text)
                .chars()
                .take(60)
                .collect();
            return Err(MetricsError::Row {
                path: path.to_path_buf(),
                line: line.number,
                found,
            });
        };
        if step > last_step || row.contains_key("train_runtime") {
            break;
        }
        kept = line.end as u64;
    }
    Ok(kept)
}

fn begins_like_a_row(text: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"step\":";
    text.starts_with(BEGINNING) || BEGINNING.starts_with(text)
}

/// `metrics.jsonl`: one flat object per logged step, `{"step": 10, "loss": 0.02, ...}`.
#[derive(Debug)]
pub struct MetricsLog(JsonLines);

impl MetricsLog {
    /// Opens the log of a run that starts (`None`) or continues after step `resumed`.
    ///
    /// # Errors
    /// As [`JsonLines::create`] and [`JsonLines::resume`].
    pub fn open(output_dir: &Path, resumed: Option<u64>) -> Result<Self, MetricsError> {
        open(&output_dir.join(METRICS_FILE), resumed).map(Self)
    }

    /// Writes the metrics of a logged step.
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn write(&mut self, row: &LoggedStep) -> Result<(), MetricsError> {
        self.0.append(row)
    }

    /// As [`JsonLines::sync`].
    ///
    /// # Errors
    /// The disk is full or gone.
    pub fn sync(&self) -> Result<(), MetricsError> {
        self.0.sync()
    }
}

/// A new file, or the existing one cut to the step of the checkpoint.
pub(super) fn open(path: &Path, resumed: Option<u64>) -> Result<JsonLines, MetricsError> {
    match resumed {
        None => JsonLines::create(path, Existing::Replace),
        Some(last_step) => JsonLines::resume(path, last_step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::metrics::StepMetrics;

    fn row(step: u64, name: &str, value: f64) -> LoggedStep {
        let mut metrics = StepMetrics::new();
        metrics.insert(name, value);
        LoggedStep { step, metrics }
    }

    fn run(directory: &Path, resumed: Option<u64>, steps: std::ops::RangeInclusive<u64>) {
        let mut log = MetricsLog::open(directory, resumed).unwrap();
        for step in steps {
            log.write(&row(step, "loss", step as f64 / 3.0)).unwrap();
        }
        log.sync().unwrap();
    }

    fn text(directory: &Path) -> String {
        std::fs::read_to_string(directory.join(METRICS_FILE)).unwrap()
    }

    #[test]
    fn a_row_is_flat_and_starts_with_its_step() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), None, 3..=3);
        assert_eq!(text(directory.path()), "{\"step\":3,\"loss\":1.0}\n");
    }

    #[test]
    fn a_resumed_log_equals_an_uninterrupted_one() {
        let (whole, resumed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        run(whole.path(), None, 1..=8);
        run(resumed.path(), None, 1..=6);
        let path = resumed.path().join(METRICS_FILE);
        let mut torn = files::open_to_append(&path).unwrap();
        torn.write_all(b"{\"step\":7,\"lo").unwrap();
        run(resumed.path(), Some(4), 5..=8);
        assert_eq!(text(resumed.path()), text(whole.path()));
    }

    #[test]
    fn the_summary_row_of_a_finished_run_goes_when_it_is_continued() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), None, 1..=2);
        let before = text(directory.path());
        let summary = row(2, "train_runtime", 1.0);
        MetricsLog::open(directory.path(), Some(2))
            .unwrap()
            .write(&summary)
            .unwrap();
        assert_ne!(text(directory.path()), before);
        drop(MetricsLog::open(directory.path(), Some(2)).unwrap());
        assert_eq!(text(directory.path()), before);
    }

    #[test]
    fn resuming_without_a_log_starts_one() {
        let directory = tempfile::tempdir().unwrap();
        run(directory.path(), Some(1), 2..=2);
        assert_eq!(text(directory.path()).lines().count(), 1);
    }

    #[test]
    fn a_foreign_line_is_an_error_that_names_it_and_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(METRICS_FILE);
        let content = "{\"step\":1}\nnot a row\n{\"step\":2}\n";
        std::fs::write(&path, content).unwrap();
        let error = JsonLines::resume(&path, 5).unwrap_err().to_string();
        assert!(
            error.contains("metrics.jsonl:2: expected a JSON object")
                && error.contains("found not a row"),
            "{error}"
        );
        assert!(error.contains("\nhint: "), "{error}");
        assert_eq!(std::fs::read_to_string(path).unwrap(), content);
    }

    /// As `json.dump` writes a data set: one line without an end. A kill leaves the beginning of a row.
    #[test]
    fn somebodys_file_of_one_line_keeps_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rows.json");
        for content in ["[{\"id\": 1}]", "{\"id\":", "text", "{\"st\"", "[[\n1]]"] {
            std::fs::write(&path, content).unwrap();
            let error = JsonLines::resume(&path, 5).unwrap_err().to_string();
            assert!(error.contains("expected a JSON object with"), "{error}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
        for content in ["{", "{\"ste", "{\"step\":1,\"loss"] {
            std::fs::write(&path, content).unwrap();
            JsonLines::resume(&path, 5).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), "", "{content}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_log_that_is_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (
            directory.path().join(METRICS_FILE),
            directory.path().join("x"),
        );
        std::fs::write(&other, "precious").unwrap();
        std::os::unix::fs::symlink("x", &path).unwrap();
        for opened in [
            JsonLines::create(&path, Existing::Replace),
            JsonLines::resume(&path, 1),
        ] {
            let error = opened.unwrap_err().to_string();
            assert!(error.contains("it is a symbolic link"), "{error}");
        }
        assert_eq!(std::fs::read_to_string(other).unwrap(), "precious");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_is_an_error_that_says_so() {
        let error = JsonLines::create(Path::new("/dev/full"), Existing::Refuse)
            .unwrap()
            .append(&row(1, "loss", 1.0))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("/dev/full: cannot write: No space left on device"),
            "{error}"
        );
    }
}
