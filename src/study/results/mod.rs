//! Results of runs: their files, checks and statistics, and what they say about the paper's claims.

pub mod claims;
pub mod collection;
pub mod convergence;
#[cfg(test)]
pub(in crate::study) mod fixture;
pub mod result;
pub mod result_check;
pub mod result_file;
pub mod statistics;
pub mod text;
