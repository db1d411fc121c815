//! Are the files of this project and of others read as their makers mean them?

#[path = "../support/mod.rs"]
mod support;

mod configs;
mod mutations;
mod prompt_matches_golden;
mod reason_rft_rows_load;
mod synthetic_rows_load;
