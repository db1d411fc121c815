//! The demo: one small model taught with and without external actions.

mod report;
pub mod run;
