//! What a configuration key is: its name, kind, default and documentation. Knows no key by name, nor files or flags.

use serde_json::{Map, Value};

use super::error::Fault;
use super::secret::scrubbed;
use super::value::Kind;

/// One key of the configuration.
#[derive(Debug)]
pub(crate) struct Key {
    /// Its name in YAML; the flag is `--name`.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// The default as YAML text; [`REQUIRED`] where there is none.
    pub default: &'static str,
    /// One line of documentation.
    pub doc: &'static str,
}

/// Stands in [`Key::default`] for a key that must be given.
pub(crate) const REQUIRED: &str = "required";

/// Declares a section: the struct that holds its resolved values, and its table of keys. One field is one key.
macro_rules! section {
    (
        $(#[$meta:meta])* $table:ident: $name:ident {
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $kind:expr, $default:literal;)+
        }
        $(unresolved { $($(#[doc = $other_doc:literal])+ $other:ident = $other_kind:expr, $other_default:literal;)+ })?
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct $name { $($(#[doc = $doc])+ pub $field: $type,)+ }

        pub(crate) static $table: &[Key] = &[
            $(Key { name: stringify!($field), kind: $kind, default: $default, doc: concat!($($doc),+) },)+
            $($(Key {
                name: stringify!($other), kind: $other_kind, default: $other_default, doc: concat!($($other_doc),+)
            },)+)?
        ];
    };
}
pub(super) use section;

impl Key {
    /// The default as a value; `None` for a key that must be given.
    pub(super) fn default_value(&self) -> Option<Value> {
        let value = || super::yaml::parse_yaml(self.default).expect("a test reads every default");
        (self.default != REQUIRED).then(value)
    }

    /// The documentation with the default, as `--help` and hints show it.
    pub(crate) fn help(&self) -> String {
        let doc = self.doc.trim();
        format!(
            "{} ({}; default {})",
            doc.trim_end_matches('.'),
            self.kind.description(),
            self.default
        )
        .replace("; default required", "; required")
    }
}

/// A key of an inner table.
pub(super) const fn inner_key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
    }
}

/// The candidate with the fewest edits; among equals the one that shares the longer beginning.
pub(crate) fn nearest_of<'a>(unknown: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let likeness = |name: &str| {
        let edits = strsim::normalized_damerau_levenshtein(unknown, name);
        edits + 0.01 * strsim::jaro_winkler(unknown, name)
    };
    candidates
        .max_by(|left, right| likeness(left).total_cmp(&likeness(right)))
        .unwrap_or_default()
        .to_owned()
}

/// An inner table: every key known and of its kind, what is missing filled in.
pub(super) fn read_table(
    written: &Map<String, Value>,
    keys: &[&[Key]],
) -> Result<Map<String, Value>, Fault> {
    let known = || keys.iter().copied().flatten();
    let unknown: Vec<&String> = written
        .keys()
        .filter(|name| !known().any(|key| key.name == name.as_str()))
        .collect();
    if !unknown.is_empty() {
        return Err(unknown_keys(&unknown, &|name| {
            nearest_of(name, known().map(|key| key.name))
        }));
    }
    let mut read = Map::new();
    for key in known() {
        let place = format!(".{}", key.name);
        let value = match written.get(key.name) {
            Some(value) => key.kind.read(value).map_err(|fault| fault.inside(&place))?,
            None => key.default_value().ok_or_else(|| Fault {
                within: place,
                problem: "is missing".to_owned(),
                hint: Some(key.help()),
            })?,
        };
        read.insert(key.name.to_owned(), value);
    }
    Ok(read)
}

fn unknown_keys(unknown: &[&String], nearest: &dyn Fn(&str) -> String) -> Fault {
    if let [name] = unknown {
        let hint = format!("the nearest known key is `{}`", nearest(name));
        return Fault {
            within: format!(".{}", scrubbed(name)),
            problem: "is not a known key".to_owned(),
            hint: Some(hint),
        };
    }
    let named: Vec<String> = unknown
        .iter()
        .map(|name| format!("`{}` (nearest: `{}`)", scrubbed(name), nearest(name)))
        .collect();
    Fault {
        within: String::new(),
        problem: format!("has {} unknown keys: {}", unknown.len(), named.join(", ")),
        hint: Some("correct or remove them".to_owned()),
    }
}
