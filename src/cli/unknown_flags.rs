//! Flags that do not exist, all of a line in one message: a line that is pasted from another trainer has many.
//!
//! Knows flags by their spelling only.

use std::collections::BTreeSet;
use std::ffi::OsString;

use clap::Command;
use clap::error::ErrorKind;

use crate::config;

/// An error that names every unknown flag of the command with its nearest, if there are several.
pub(super) fn error(command: &Command, words: &[OsString]) -> Option<clap::Error> {
    let mut words = words
        .iter()
        .skip(1)
        .map(|word| word.to_string_lossy().into_owned());
    let called = words.next()?;
    let called = command.find_subcommand(&called)?;
    let known = flags(called);
    let unknown: BTreeSet<String> = words
        .take_while(|word| word != "--")
        .filter_map(|word| Some(word.strip_prefix("--")?.split('=').next()?.to_owned()))
        .filter(|name| !known.contains(name))
        .collect();
    if unknown.len() < 2 {
        return None;
    }
    let named: Vec<String> = unknown
        .iter()
        .map(|name| {
            let nearest = config::nearest_of(name, known.iter().map(String::as_str));
            format!("--{} (nearest: --{nearest})", config::scrubbed(name))
        })
        .collect();
    let message = format!(
        "{} unknown flags: {}\nhint: correct or remove them; `vision-ekipl {} --help` lists all\n",
        unknown.len(),
        named.join(", "),
        called.get_name()
    );
    Some(clap::Error::raw(ErrorKind::UnknownArgument, message))
}

/// Every spelling of every flag, hidden ones too, with dashes and with underscores.
fn flags(command: &Command) -> BTreeSet<String> {
    let mut known: BTreeSet<String> = ["help", "version"].map(str::to_owned).into();
    for argument in command.get_arguments() {
        let aliases = argument.get_all_aliases().unwrap_or_default();
        for name in argument.get_long().into_iter().chain(aliases) {
            known.insert(name.to_owned());
        }
    }
    for family in command.get_subcommands() {
        known.extend(flags(family));
    }
    known
}
