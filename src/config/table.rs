//! The table of every configuration key.
//!
//! The sections under `sections/` declare each key once, as a field: its documentation, type, reader and default are the
//! source of parsing, flags, `--help`, defaults and of the fields of [`Run`](super::Run). Knows nothing of files or flags.

use super::key::{Key, nearest_of};
use super::{aliases, foreign, sections};

/// Keys that belong together.
#[derive(Debug)]
pub(crate) struct Section {
    /// Heading in `--help` and in the saved configuration.
    pub title: &'static str,
    /// The keys in reading order.
    pub keys: &'static [Key],
}

/// Every section in reading order.
pub(crate) static SECTIONS: &[Section] = &[
    Section {
        title: "Model",
        keys: sections::MODEL,
    },
    Section {
        title: "Adapter",
        keys: sections::ADAPTER,
    },
    Section {
        title: "Data and rewards",
        keys: sections::DATA,
    },
    Section {
        title: "Batches",
        keys: sections::BATCH,
    },
    Section {
        title: "Optimizer",
        keys: sections::OPTIMIZER,
    },
    Section {
        title: "Sampling",
        keys: sections::SAMPLING,
    },
    Section {
        title: "External actions, selection and advantage",
        keys: sections::GROUP,
    },
    Section {
        title: "Loss",
        keys: sections::LOSS,
    },
    Section {
        title: "Output",
        keys: sections::OUTPUT,
    },
    Section {
        title: "Evaluation",
        keys: sections::EVALUATION,
    },
    Section {
        title: "Run",
        keys: sections::RUNTIME,
    },
];

/// Every key that does something.
pub(crate) fn all() -> impl Iterator<Item = &'static Key> {
    SECTIONS.iter().flat_map(|section| section.keys)
}

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

/// The known spelling that looks most like an unknown one.
pub(super) fn nearest(unknown: &str) -> String {
    let own = all().map(|key| key.name);
    nearest_of(
        unknown,
        own.chain(foreign::names()).chain(aliases::spellings()),
    )
}
