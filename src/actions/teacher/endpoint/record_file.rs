//! The record of external answers: an append-only JSONL file and what it holds, shared by the teachers of a run. Knows
//! nothing of who writes the answers.

use std::collections::HashMap;
use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::RecordError;
use super::record_line::RecordLine;
use crate::json_lines;
pub use crate::options::RecordMode;
use crate::system::files;

/// Totals of one teacher's lines.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Totals {
    /// What all of them cost.
    pub(super) cost: f64,
    /// Answers with a text.
    pub(super) answers: usize,
    /// Tokens of these.
    pub(super) input_tokens: u64,
    /// Tokens of these.
    pub(super) output_tokens: u64,
}

/// The record of a run. Without a file it lasts as long as the run.
///
/// A file is locked while a run may write it, so that no second run can mix its lines in. A line without its end, as a
/// killed run leaves it, is cut off with a warning. Of several lines with one key the last counts.
#[derive(Debug)]
pub struct RecordFile {
    path: Option<PathBuf>,
    mode: RecordMode,
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    file: Option<File>,
    /// Bytes that are whole lines.
    length: u64,
    lines: HashMap<String, Arc<RecordLine>>,
    totals: HashMap<String, Totals>,
}

impl RecordFile {
    /// Opens the file, or begins it. Replay needs one that exists and never writes to it.
    ///
    /// # Errors
    /// [`RecordError`] names the file, and the line that is no entry.
    pub fn open(path: Option<&Path>, mode: RecordMode) -> Result<Self, RecordError> {
        let mut content = Content::default();
        match (path, mode) {
            (None, RecordMode::Replay) => return Err(RecordError::NoFile),
            (None, _) => {}
            (Some(path), RecordMode::Replay) => {
                let bytes = std::fs::read(path).map_err(|error| system(path, "read", error))?;
                content.load(path, &bytes, mode)?;
            }
            (Some(path), _) => content.open(path, mode)?,
        }
        Ok(Self {
            path: path.map(Path::to_owned),
            mode,
            content: Mutex::new(content),
        })
    }

    /// What the record is used for.
    #[must_use]
    pub const fn mode(&self) -> RecordMode {
        self.mode
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Requests that it knows, lost ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.locked().lines.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The line that settles a request: an answer, or while replaying also a recorded failure.
    pub(super) fn find(&self, key: &str) -> Option<Arc<RecordLine>> {
        let content = self.locked();
        let line = content.lines.get(key)?;
        (line.is_settled() || self.mode == RecordMode::Replay).then(|| Arc::clone(line))
    }

    /// Totals of a teacher's lines, those of earlier runs included.
    pub(super) fn totals(&self, name: &str) -> Totals {
        self.locked().totals.get(name).copied().unwrap_or_default()
    }

    /// Adds a line; it is in the file when this returns.
    ///
    /// # Errors
    /// [`RecordError::System`]; the file then holds whole lines only.
    pub(super) fn append(&self, line: RecordLine) -> Result<(), RecordError> {
        let mut content = self.locked();
        if let Some(path) = &self.path {
            let mut text = serde_json::to_string(&line)
                .map_err(|error| system(path, "write", std::io::Error::other(error)))?;
            text.push('\n');
            content
                .write(text.as_bytes())
                .map_err(|error| system(path, "write", error))?;
        }
        content.take(line);
        Ok(())
    }

    fn locked(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn open(&mut self, path: &Path, mode: RecordMode) -> Result<(), RecordError> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| system(path, "create", error))?;
        }
        let mut file = files::open_or_create(path).map_err(|error| system(path, "open", error))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                return Err(RecordError::InUse {
                    path: path.to_owned(),
                });
            }
            // Some network file systems cannot lock.
            Err(TryLockError::Error(error)) => {
                log::warn!(
                    "{}: cannot be locked, so no second run must write it: {error}",
                    path.display()
                );
            }
            Ok(()) => {}
        }
        // Through the locked handle: elsewhere than on Unix a lock keeps every other one out.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| system(path, "read", error))?;
        let whole = self.load(path, &bytes, mode)?;
        self.length = whole as u64;
        cut(&mut file, self.length).map_err(|error| system(path, "shorten", error))?;
        self.file = Some(file);
        if bytes[..whole].last().is_some_and(|last| *last != b'\n') {
            self.write(b"\n")
                .map_err(|error| system(path, "write", error))?;
        }
        Ok(())
    }

    /// Reads the lines and returns how many bytes are whole entries.
    fn load(&mut self, path: &Path, bytes: &[u8], mode: RecordMode) -> Result<usize, RecordError> {
        let mut whole = 0;
        for line in json_lines::lines(bytes) {
            match json_lines::parse::<RecordLine>(line.text) {
                Ok(entry) if mode == RecordMode::Record => self.count(&entry),
                Ok(entry) => self.take(entry),
                // What a kill left is the beginning of an entry, or comes after whole ones; anything else is somebody's file.
                Err(_) if !line.is_whole && (whole > 0 || begins_like_an_entry(line.text)) => {
                    log::warn!(
                        "{}:{}: the last line has no end ({} bytes), as a killed run leaves it; it is left out",
                        path.display(),
                        line.number,
                        line.text.len()
                    );
                    return Ok(whole);
                }
                Err(fault) => {
                    return Err(RecordError::Line {
                        path: path.to_owned(),
                        line: line.number,
                        fault: fault.to_string(),
                    });
                }
            }
            whole = line.end;
        }
        Ok(bytes.len())
    }

    fn take(&mut self, line: RecordLine) {
        self.count(&line);
        // A failure never hides an answer that was paid for.
        let has_answer = self
            .lines
            .get(&line.key)
            .is_some_and(|known| known.is_settled());
        if line.is_settled() || !has_answer {
            self.lines.insert(line.key.clone(), Arc::new(line));
        }
    }

    fn count(&mut self, line: &RecordLine) {
        let totals = self.totals.entry(line.name.clone()).or_default();
        totals.cost += line.price;
        if let (None, Some(usage)) = (line.failure, line.usage) {
            totals.answers += 1;
            totals.input_tokens += usage.prompt_tokens;
            totals.output_tokens += usage.completion_tokens;
        }
    }

    /// Appends whole lines, or nothing.
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        if let Err(error) = file.write_all(bytes) {
            cut(file, self.length)?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

fn begins_like_an_entry(text: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"{\"key\":";
    text.starts_with(BEGINNING) || BEGINNING.starts_with(text)
}

/// Leaves the first `length` bytes, and writes after them.
fn cut(file: &mut File, length: u64) -> std::io::Result<()> {
    file.set_len(length)?;
    file.seek(SeekFrom::Start(length)).map(drop)
}

fn system(path: &Path, action: &'static str, error: std::io::Error) -> RecordError {
    RecordError::System {
        path: path.to_owned(),
        action,
        error,
    }
}

#[cfg(test)]
mod tests {
    use super::super::failure::FailureReason;
    use super::super::record_line::tests::line;
    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("deeper/record.jsonl");
        (folder, path)
    }

    fn open(path: &Path, mode: RecordMode) -> RecordFile {
        RecordFile::open(Some(path), mode).expect("a record")
    }

    fn text(record: &RecordFile, key: &str) -> Option<String> {
        record.find(key).map(|line| line.text.clone())
    }

    #[test]
    fn answers_are_there_for_the_next_run() {
        let (_folder, path) = folder();
        let record = open(&path, RecordMode::Auto);
        record.append(line("a", "1")).expect("written");
        record.append(line("b", "2")).expect("written");
        assert_eq!(text(&record, "a").as_deref(), Some("1"));
        drop(record);
        let record = open(&path, RecordMode::Auto);
        assert_eq!(
            (
                text(&record, "a").as_deref(),
                text(&record, "c"),
                record.len()
            ),
            (Some("1"), None, 2)
        );
        assert_eq!(record.totals("strong").cost, 1.0);
        record.append(line("a", "3")).expect("written");
        assert_eq!(
            text(&record, "a").as_deref(),
            Some("3"),
            "the last line counts"
        );
        drop(record);
        assert_eq!(
            text(&open(&path, RecordMode::Replay), "a").as_deref(),
            Some("3")
        );
    }

    #[test]
    fn a_half_written_line_is_cut_off_and_the_rest_stays() {
        let (_folder, path) = folder();
        open(&path, RecordMode::Auto)
            .append(line("a", "1"))
            .expect("written");
        let whole = std::fs::read(&path).expect("a file");
        let half = serde_json::to_string(&line("b", "2")).expect("JSON");
        for cut in [1, half.len() / 2, half.len() - 1] {
            std::fs::write(&path, [&whole, &half.as_bytes()[..cut]].concat()).expect("written");
            assert_eq!(open(&path, RecordMode::Replay).len(), 1);
            assert_eq!(
                std::fs::read(&path).expect("a file").len(),
                whole.len() + cut,
                "replay writes nothing"
            );
            let record = open(&path, RecordMode::Auto);
            record.append(line("c", "3")).expect("written");
            drop(record);
            let record = open(&path, RecordMode::Auto);
            assert_eq!(
                (
                    text(&record, "a").as_deref(),
                    text(&record, "c").as_deref(),
                    record.len()
                ),
                (Some("1"), Some("3"), 2)
            );
        }
        // A line that only lacks its line feed is whole.
        std::fs::write(&path, [&whole, half.as_bytes()].concat()).expect("written");
        open(&path, RecordMode::Auto)
            .append(line("c", "3"))
            .expect("written");
        assert_eq!(open(&path, RecordMode::Replay).len(), 3);
    }

    /// `external_cache` by mistake at a data set, as `json.dump` writes it.
    #[test]
    fn somebodys_file_of_one_line_keeps_its_bytes() {
        let (_folder, path) = folder();
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        for content in ["[{\"id\": \"a\"}]", "{\"id\": \"a\"}", "text", "{\"ke\""] {
            std::fs::write(&path, content).expect("written");
            for mode in [RecordMode::Auto, RecordMode::Record, RecordMode::Replay] {
                let error = RecordFile::open(Some(&path), mode).expect_err(content);
                let error = error.to_string();
                assert!(
                    error.contains("record.jsonl:1: not an entry of a record of external answers"),
                    "{error}"
                );
                assert_eq!(std::fs::read(&path).expect("a file"), content.as_bytes());
            }
        }
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named_and_nothing_is_lost() {
        let (_folder, path) = folder();
        open(&path, RecordMode::Auto)
            .append(line("a", "1"))
            .expect("written");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes.extend_from_slice(b"{\"key\": 3}\n");
        std::fs::write(&path, &bytes).expect("written");
        for mode in [RecordMode::Auto, RecordMode::Record, RecordMode::Replay] {
            let message = RecordFile::open(Some(&path), mode)
                .expect_err("refused")
                .to_string();
            assert!(
                message.contains("record.jsonl:2: not an entry") && message.contains("\nhint: "),
                "{message}"
            );
        }
        assert_eq!(std::fs::read(&path).expect("a file"), bytes);
    }

    #[test]
    fn two_runs_cannot_write_one_file() {
        let (_folder, path) = folder();
        let first = open(&path, RecordMode::Auto);
        let message = RecordFile::open(Some(&path), RecordMode::Record)
            .expect_err("refused")
            .to_string();
        assert!(
            message.contains("another run writes this record"),
            "{message}"
        );
        open(&path, RecordMode::Replay);
        drop(first);
        open(&path, RecordMode::Record);
    }

    #[test]
    fn recording_anew_takes_only_what_it_added() {
        let (_folder, path) = folder();
        open(&path, RecordMode::Auto)
            .append(line("a", "1"))
            .expect("written");
        let record = open(&path, RecordMode::Record);
        assert_eq!(
            (text(&record, "a"), record.totals("strong").cost),
            (None, 0.5)
        );
        record.append(line("a", "2")).expect("written");
        assert_eq!(text(&record, "a").as_deref(), Some("2"));
    }

    #[test]
    fn failures_are_known_to_replay_only_and_never_hide_an_answer() {
        let (_folder, path) = folder();
        let record = open(&path, RecordMode::Auto);
        let failed = |key, reason| RecordLine {
            failure: Some(reason),
            ..line(key, "")
        };
        record
            .append(failed("lost", FailureReason::Timeout))
            .expect("written");
        record
            .append(failed("empty", FailureReason::EmptyChoice))
            .expect("written");
        record.append(line("kept", "1")).expect("written");
        record
            .append(failed("kept", FailureReason::Timeout))
            .expect("written");
        assert!(record.find("lost").is_none(), "it is asked for again");
        assert!(record.find("empty").is_some(), "it would be empty again");
        assert_eq!(text(&record, "kept").as_deref(), Some("1"));
        drop(record);
        let replay = open(&path, RecordMode::Replay);
        let reason = |key: &str| replay.find(key).and_then(|line| line.failure);
        assert_eq!(
            (reason("lost"), reason("kept")),
            (Some(FailureReason::Timeout), None)
        );
    }

    #[test]
    fn a_record_without_a_file_lasts_as_long_as_the_run() {
        let record = RecordFile::open(None, RecordMode::Auto).expect("a record");
        record.append(line("a", "1")).expect("kept");
        assert_eq!(text(&record, "a").as_deref(), Some("1"));
        let message = RecordFile::open(None, RecordMode::Replay)
            .expect_err("refused")
            .to_string();
        assert!(message.contains("without `external_cache`"), "{message}");
        let (_folder, path) = folder();
        let message = RecordFile::open(Some(&path), RecordMode::Replay)
            .expect_err("refused")
            .to_string();
        assert!(
            message.contains("record.jsonl: cannot read the record"),
            "{message}"
        );
    }

    #[test]
    fn writers_side_by_side_lose_nothing() {
        let (_folder, path) = folder();
        let record = open(&path, RecordMode::Auto);
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let record = &record;
                scope.spawn(move || {
                    for index in 0..50 {
                        let text = format!("{writer}-{index} {}", "x".repeat(index * 40));
                        record
                            .append(line(&format!("{writer}-{index}"), &text))
                            .expect("written");
                    }
                });
            }
        });
        drop(record);
        let record = open(&path, RecordMode::Replay);
        assert_eq!(record.len(), 400);
        assert!(text(&record, "7-49").is_some_and(|text| text.starts_with("7-49 xxx")));
    }
}
