//! Whether somebody asked the run to stop; knows nothing of signals, steps or files.

use std::sync::atomic::{AtomicBool, Ordering};

/// Set by Ctrl-C: the run saves a checkpoint at the next whole step and ends.
pub static STOP: AtomicBool = AtomicBool::new(false);

/// Whether somebody asked.
#[must_use]
pub fn is_requested() -> bool {
    STOP.load(Ordering::SeqCst)
}
