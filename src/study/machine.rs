//! The machine and the program in words, for results that are compared over machines.

use std::process::Command;

use crate::system::memory;

/// Cores that this process may use.
#[must_use]
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Memory of the machine in GiB, where the system tells.
#[must_use]
pub fn memory_gib() -> Option<f64> {
    memory::machine_bytes().map(|bytes| bytes as f64 / f64::from(1 << 30))
}

/// `2 cores (AMD EPYC 7B13), 24 GiB, linux x86_64`.
#[must_use]
pub fn describe() -> String {
    let system = format!("{} {}", std::env::consts::OS, std::env::consts::ARCH);
    let processor = processor().map_or_else(String::new, |name| format!(" ({name})"));
    let memory = memory_gib().map_or_else(String::new, |gib| format!("{gib:.0} GiB, "));
    format!("{} cores{processor}, {memory}{system}", cores())
}

fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The commit of the working folder with `-dirty` if tracked files differ from it; without one the program's version.
#[must_use]
pub fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=10", "HEAD"]) else {
        return format!("version {}", env!("CARGO_PKG_VERSION"));
    };
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if changes.is_empty() => commit,
        _ => format!("{commit}-dirty"),
    }
}
