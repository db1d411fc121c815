//! Many runs: what a study compares, the commands that it takes, and the processes that run them.
//!
//! Knows no model and no tensor: a run is the program itself, started with arguments that a person could type.

pub mod gather;
pub mod machine;
pub mod plan;
pub mod runner;
pub mod session;
pub mod settings;
mod site;
