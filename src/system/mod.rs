//! What must be asked of the operating system itself: files that are safe to write, children that end with us, signals,
//! memory.
//!
//! Knows nothing of models, rows or runs.

pub mod files;
pub mod guard;
pub mod memory;
pub mod signals;
