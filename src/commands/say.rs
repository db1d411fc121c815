//! Standard output and standard error, for results and last words.
//!
//! `println!` and `eprintln!` end the program with a panic where nobody reads any more or the disk is full: nothing else
//! here uses them.

use std::io::{self, ErrorKind, Write};

use anyhow::{Context, Result};

/// Prints a result. A reader such as `head` may close the pipe early, which is no error.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn say(text: &str) -> Result<()> {
    match to(&mut io::stdout().lock(), text) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written\nhint: check where it goes, and that the disk is not full; results that go into files are there")
        }
        _ => Ok(()),
    }
}

/// As [`say`], with a line end.
///
/// # Errors
/// Standard output cannot be written.
pub(super) fn say_line(text: &str) -> Result<()> {
    say(&format!("{text}\n"))
}

/// Prints last words on standard error, if it can be written; there is nowhere else to say that it cannot.
pub fn complain(text: &str) {
    let _ = to(&mut io::stderr().lock(), &format!("{text}\n"));
}

fn to(output: &mut impl Write, text: &str) -> io::Result<()> {
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
}
