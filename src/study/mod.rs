//! The study: runs of every method on every family, and the report that judges them.

pub mod charts;
pub mod claims;
pub mod collection;
pub mod convergence;
pub mod error;
#[cfg(test)]
mod fixture;
pub mod report;
pub mod result;
pub mod result_check;
pub mod result_file;
pub mod statistics;
pub mod text;
