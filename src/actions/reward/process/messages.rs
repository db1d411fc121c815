//! What a reward program writes to standard error: into our log, a part of it, and the last lines kept for errors.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Mutex, PoisonError};

use super::error::one_line;
use crate::actions::secret::{Secret, without};

/// Lines of one batch that reach the log; the rest are counted.
const LOGGED_LINES: usize = 50;
/// Last lines kept for an error.
const KEPT_LINES: usize = 20;
/// Characters of a line.
const LINE_LENGTH: usize = 400;
/// Bytes after which a line without end is taken as one.
const LONGEST_LINE: u64 = 1 << 16;

/// The messages of one program, from its reader thread to ours.
#[derive(Debug)]
pub(super) struct Messages {
    name: String,
    /// Keys that must not be shown, however the program came by them.
    secrets: Vec<Secret>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: VecDeque<String>,
    logged: usize,
    hidden: usize,
}

impl Messages {
    pub(super) fn new(name: &str, secrets: Vec<Secret>) -> Self {
        Self {
            name: name.to_owned(),
            secrets,
            kept: Mutex::default(),
        }
    }

    /// Reads to the end, so that the program never waits for us.
    pub(super) fn read(&self, stream: impl Read) {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader
                .by_ref()
                .take(LONGEST_LINE)
                .read_until(b'\n', &mut line);
            if !matches!(read, Ok(1..)) {
                return;
            }
            self.add(&line);
        }
    }

    /// What the program wrote, without keys.
    pub(super) fn scrubbed(&self, bytes: Vec<u8>) -> Vec<u8> {
        if self.secrets.is_empty() {
            return bytes;
        }
        without(&self.secrets, &String::from_utf8_lossy(&bytes)).into_bytes()
    }

    fn add(&self, line: &[u8]) {
        let line = one_line(&self.scrubbed(line.to_vec()), LINE_LENGTH);
        if line.trim().is_empty() {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.logged < LOGGED_LINES {
            kept.logged += 1;
            log::info!("reward `{}`: {line}", self.name);
        } else {
            kept.hidden += 1;
        }
        if kept.last.len() == KEPT_LINES {
            kept.last.pop_front();
        }
        kept.last.push_back(line);
    }

    /// Says how many lines the log left out since the last call, and lets new ones in.
    pub(super) fn next_batch(&self) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.logged = 0;
        let hidden = std::mem::take(&mut kept.hidden);
        if hidden > 0 {
            log::info!("reward `{}`: {hidden} more lines not shown", self.name);
        }
    }

    /// The last lines.
    pub(super) fn last(&self) -> Vec<String> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.last.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_and_long_ones_are_cut() {
        let messages = Messages::new("judge", Vec::new());
        let mut text: Vec<u8> = (0..100)
            .flat_map(|n| format!("line {n}\n\n").into_bytes())
            .collect();
        text.extend_from_slice(b"\x1b[31mred\xff\n");
        text.extend(std::iter::repeat_n(b'x', 1000));
        messages.read(text.as_slice());
        let last = messages.last();
        assert_eq!(last.len(), 20);
        assert_eq!(last[0], "line 82");
        assert_eq!(last[18], " [31mred\u{fffd}");
        assert_eq!(last[19], format!("{}...", "x".repeat(400)));
        assert_eq!(messages.kept.lock().expect("not poisoned").hidden, 52);
        messages.next_batch();
        assert_eq!(messages.kept.lock().expect("not poisoned").hidden, 0);
    }

    #[test]
    fn keys_are_removed_before_a_line_is_cut() {
        let secret = Secret::new("sk-planted-0123456789").expect("a key");
        let messages = Messages::new("judge", vec![secret]);
        let text = format!(
            "key SK-PLANTED-0123456789\n{}sk-planted-0123456789\n",
            "x".repeat(390)
        );
        messages.read(text.as_bytes());
        let last = messages.last();
        assert_eq!(last[0], "key [key removed]");
        assert!(last[1].ends_with("x[key remov..."), "{}", last[1]);
    }

    #[test]
    fn a_line_without_end_takes_no_memory() {
        let messages = Messages::new("judge", Vec::new());
        messages.read(std::io::repeat(b'y').take(1 << 20));
        assert_eq!(messages.last().len(), 16, "cut every 64 KiB");
    }
}
