//! Does the program do what it says, run as a person runs it: commands, messages, servers, kills and resumes?

#[path = "../support/mod.rs"]
mod support;

mod adapters;
mod commands;
mod ends_by_rule;
mod external_runs;
mod files_of_others;
mod interruptions;
mod memory;
mod messages;
mod model_folders;
mod optimizer_steps;
mod outputs;
mod real_servers;
mod replayed_rollouts;
mod resume_is_seamless;
mod study_runs;
mod supervised_runs;
