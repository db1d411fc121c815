//! The study: runs of every method on every family, planned, made and judged.
//!
//! Knows no model and no tensor: a run is the program itself, started with arguments that a person could type.

pub mod error;
pub mod gather;
pub mod machine;
pub mod plan;
pub mod report;
pub mod results;
pub mod runner;
pub mod session;
pub mod settings;
pub mod site;
