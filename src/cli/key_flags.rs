//! `--key value` for every configuration key, made from the key table.
//!
//! Values stay text; the configuration reads them.

use std::sync::LazyLock;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config;

/// `--key value` for every configuration key, as text; `--key-with-dashes` too, and a bare `--key` for true.
#[derive(Debug, Clone, Default)]
pub struct KeyFlags {
    /// Key and value, in the order of the key table.
    pub flags: Vec<(String, String)>,
}

/// A flag of a configuration key.
struct KeyFlag {
    name: &'static str,
    dashed: String,
    heading: String,
    /// Empty for another trainer's key: accepted, not listed.
    help: String,
    is_bool: bool,
    is_list: bool,
}

static KEY_FLAGS: LazyLock<Vec<KeyFlag>> = LazyLock::new(|| {
    let flag = |name: &'static str| KeyFlag {
        name,
        dashed: name.replace('_', "-"),
        heading: String::new(),
        help: String::new(),
        is_bool: true,
        is_list: true,
    };
    let own = config::SECTIONS.iter().flat_map(|section| {
        section.keys.iter().map(move |key| KeyFlag {
            heading: format!("Configuration keys: {}", section.title),
            help: key.help(),
            is_bool: key.kind.is_bool(),
            is_list: key.kind.is_list(),
            ..flag(key.name)
        })
    });
    own.chain(
        config::foreign_names()
            .chain(config::alias_spellings())
            .map(flag),
    )
    .collect()
});

impl KeyFlag {
    fn argument(&'static self) -> Arg {
        let least = usize::from(!self.is_bool);
        let most = if self.is_list { usize::MAX } else { 1 };
        let argument = Arg::new(self.name)
            .long(self.name)
            .value_name("VALUE")
            .num_args(least..=most)
            .action(ArgAction::Append)
            .allow_negative_numbers(true)
            .default_missing_value("true")
            .hide_short_help(true)
            .help_heading(self.heading.as_str())
            .help(self.help.as_str())
            .hide(self.help.is_empty());
        if self.dashed == self.name {
            argument
        } else {
            argument.alias(self.dashed.as_str())
        }
    }
}

impl Args for KeyFlags {
    fn augment_args(command: Command) -> Command {
        command.args(KEY_FLAGS.iter().map(KeyFlag::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for KeyFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Vec::new();
        for flag in KEY_FLAGS.iter() {
            let Some(mut occurrences) = matches.get_occurrences::<String>(flag.name) else {
                continue;
            };
            // A flag given twice: the last one counts. Several values make a list.
            let last = occurrences
                .by_ref()
                .last()
                .map(|values| values.cloned().collect::<Vec<_>>());
            flags.extend(last.map(|values| (flag.name.to_owned(), values.join(","))));
        }
        Ok(Self { flags })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
