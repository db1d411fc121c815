//! A family with a seed: its folder, the flags of its commands, and digests of what they depend on.
//!
//! Starts nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::settings::{Base, FamilySettings, Stage, StageCommand};
use crate::config;
use crate::json_lines::read_text;
use crate::study::error::StudyError;
use crate::study::results::result::Family;

/// Where a study keeps its things, and what all commands share.
#[derive(Debug, Clone)]
pub struct Places {
    /// Data, models and logs.
    pub output: PathBuf,
    /// One result per run.
    pub results: PathBuf,
    /// `--device` of every command.
    pub device: String,
}

/// A file and what it says, which digests take in: of YAML the values, without comments.
pub(super) struct ConfigFile {
    pub path: PathBuf,
    pub text: String,
}

impl ConfigFile {
    fn open(path: &Path) -> Result<Self, StudyError> {
        let unreadable = |reason: std::io::Error| StudyError::Settings {
            path: path.to_path_buf(),
            message: format!("cannot be read: {reason}"),
        };
        let mut text = read_text(path).map_err(unreadable)?;
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let values = config::parse_yaml(&text).map_err(|message| StudyError::Settings {
                path: path.to_path_buf(),
                message,
            })?;
            text = values.to_string();
        }
        Ok(Self {
            path: path.to_path_buf(),
            text,
        })
    }
}

/// A family with a seed: its folder and what is the same for all methods there.
pub(super) struct Site<'a> {
    pub base: &'a Base,
    pub family: &'a FamilySettings,
    pub family_name: Family,
    pub seed: u64,
    pub places: &'a Places,
    pub name: String,
    pub here: String,
    pub shared: PathBuf,
    pub folder: PathBuf,
    pub digest: String,
    pub sft: ConfigFile,
    pub train: ConfigFile,
}

impl<'a> Site<'a> {
    pub fn new(
        base: &'a Base,
        family: &'a FamilySettings,
        (family_name, seed): (Family, u64),
        places: &'a Places,
    ) -> Result<Self, StudyError> {
        let here = base.path.parent().unwrap_or_else(|| Path::new(""));
        let here = here.display().to_string();
        let text_of = |lines: &[String]| with_files(lines, &here);
        let shared = digest_of(&[&text_of(&family.shared)?]);
        let model = [&family.model_name_or_path, &family.dataset_name];
        let digest = digest_of(&[&shared, &text_of(&family.prepare)?, model[0], model[1]]);
        let name = format!("{} seed {seed}", family_name.name());
        let folder = format!("{}-seed-{seed}-{digest}", family_name.name());
        let shared = format!("{}-{shared}", family_name.name());
        Ok(Self {
            here: here.clone(),
            base,
            family,
            family_name,
            seed,
            places,
            name,
            shared: places.output.join(shared),
            folder: places.output.join(folder),
            digest,
            sft: ConfigFile::open(&base.sft)?,
            train: ConfigFile::open(&base.train)?,
        })
    }

    pub const fn config(&self, command: StageCommand) -> &ConfigFile {
        match command {
            StageCommand::Sft => &self.sft,
            StageCommand::Train => &self.train,
        }
    }

    pub fn fill(&self, text: &str) -> String {
        text.replace("{folder}", &self.folder.display().to_string())
            .replace("{shared}", &self.shared.display().to_string())
            .replace("{here}", &self.here)
            .replace("{seed}", &self.seed.to_string())
    }

    pub fn test_files(&self) -> String {
        let files = self.family.tests.iter().map(|test| self.fill(&test.rows));
        files.collect::<Vec<_>>().join(",")
    }

    /// The family's keys, those of the stage over them, and what the method needs at this scale over both, as flags.
    pub fn keys(
        &self,
        (stage, index): (&Stage, usize),
        method: &str,
    ) -> Result<BTreeMap<String, String>, StudyError> {
        let mut keys: Map<String, Value> = self.family.keys.clone();
        keys.extend(stage.keys.clone());
        let own = self
            .base
            .methods
            .get(method)
            .and_then(|stages| stages.get(index));
        keys.extend(own.cloned().unwrap_or_default());
        let wanted = keys.get("external").and_then(Value::as_str);
        let count = match wanted {
            Some("experts") => Some(usize::MAX),
            Some("first-expert") => Some(1),
            _ => None,
        };
        if let Some(count) = count {
            if self.family.external.is_empty() {
                let family = self.family_name.name();
                return Err(StudyError::Settings {
                    path: self.base.path.clone(),
                    message: format!(
                        "`families.{family}.external`: expected external models, which `{method}` learns from, found none"
                    ),
                });
            }
            let experts = self.family.external.iter().take(count).cloned();
            let experts = experts.map(Value::Object);
            keys.insert("external".to_owned(), experts.collect());
        }
        let flags = keys
            .iter()
            .map(|(key, value)| (key.clone(), flag_text(value)));
        Ok(flags.collect())
    }

    /// Data and checkpoints from nothing need no device.
    pub fn with_device(&self, mut words: Vec<String>) -> Vec<String> {
        if ["sft", "train", "eval"].contains(&words[0].as_str()) {
            words.extend(["--device".to_owned(), self.places.device.clone()]);
        }
        words
    }
}

/// The lines, and the text of every file that they name beside the base file.
pub(super) fn with_files(lines: &[String], here: &str) -> Result<String, StudyError> {
    let mut text = lines.join("\n");
    for word in lines.iter().flat_map(|line| line.split_whitespace()) {
        let path = word.replace("{here}", here);
        if Path::new(&path)
            .extension()
            .is_some_and(|ending| ending == "yaml")
        {
            text.push_str(&ConfigFile::open(Path::new(&path))?.text);
        }
    }
    Ok(text)
}

pub(super) fn words(command: &str, config: &Path, flags: &[(&str, String)]) -> Vec<String> {
    let mut words = vec![command.to_owned(), config.display().to_string()];
    for (key, value) in flags {
        words.push(format!("--{key}"));
        words.push(value.clone());
    }
    words
}

/// A value as the command line takes it.
pub(super) fn flag_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let items = items.iter().filter_map(Value::as_str);
            items.collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

/// Eight hexadecimal digits for these texts in this order.
pub(super) fn digest_of(parts: &[&str]) -> String {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let hash = hasher.finalize();
    hash.iter().take(4).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::settings::{PassSettings, TestSettings};
    use serde_json::json;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().expect("an object").clone()
    }

    fn family(external: &[Value]) -> FamilySettings {
        FamilySettings {
            shared: Vec::new(),
            prepare: vec!["data counting --out {folder}".to_owned()],
            model_name_or_path: "{shared}/model".to_owned(),
            dataset_name: "{folder}/rows.json".to_owned(),
            external: external.iter().map(object).collect(),
            tests: vec![TestSettings {
                split: "test".to_owned(),
                domain: crate::study::results::result::Domain::In,
                rows: "{folder}/test-{seed}.json".to_owned(),
            }],
            keys: object(&json!({"beta": 0.1, "top_p": 0.9, "max_steps": 100})),
        }
    }

    /// A base in a folder with a space in its name.
    fn base(folder: &Path) -> Base {
        let file = |name: &str| {
            let path = folder.join(name);
            std::fs::write(&path, "seed: 1 # a comment\n").expect("written");
            path
        };
        Base {
            model: "m".to_owned(),
            baseline: "a".to_owned(),
            sft: file("sft.yaml"),
            train: file("train.yaml"),
            process_gib: 1.0,
            pass_at_k: PassSettings {
                rows: 1,
                samples: 2,
                temperature: 1.0,
                top_p: 1.0,
            },
            methods: BTreeMap::from([("ours".to_owned(), vec![object(&json!({"beta": 0.3}))])]),
            families: BTreeMap::new(),
            presets: BTreeMap::new(),
            path: folder.join("base.yaml"),
        }
    }

    fn stage(keys: &Value) -> Stage {
        Stage {
            command: StageCommand::Train,
            keys: object(keys),
        }
    }

    #[test]
    fn keys_of_the_method_stand_over_those_of_the_stage_and_of_the_family() {
        let folder = tempfile::Builder::new()
            .prefix("a folder")
            .tempdir()
            .expect("a folder");
        let base = base(folder.path());
        let places = Places {
            output: PathBuf::from("out"),
            results: PathBuf::from("results"),
            device: "cpu".to_owned(),
        };
        let experts = [json!({"name": "a"}), json!({"name": "b"})];
        let family = family(&experts);
        let site = Site::new(&base, &family, (Family::Counting, 7), &places).expect("a site");
        let stage_of =
            |external: &str| stage(&json!({"beta": 0.2, "top_p": 0.8, "external": external}));
        let keys = site.keys((&stage_of("experts"), 0), "ours").expect("keys");
        assert_eq!(
            (keys["beta"].as_str(), keys["top_p"].as_str()),
            ("0.3", "0.8")
        );
        assert_eq!(keys["max_steps"], "100");
        assert_eq!(keys["external"], r#"[{"name":"a"},{"name":"b"}]"#);
        let keys = site
            .keys((&stage_of("first-expert"), 1), "ours")
            .expect("keys");
        assert_eq!(
            (keys["beta"].as_str(), keys["external"].as_str()),
            ("0.2", r#"[{"name":"a"}]"#)
        );
        assert!(
            site.test_files().ends_with("/test-7.json"),
            "{}",
            site.test_files()
        );
        assert!(site.folder.starts_with("out") && site.here.contains("a folder"));
        assert_eq!(site.with_device(vec!["data".to_owned()]), ["data"]);
        assert_eq!(
            site.with_device(vec!["eval".to_owned()]),
            ["eval", "--device", "cpu"]
        );
        let none = self::family(&[]);
        let site = Site::new(&base, &none, (Family::Counting, 7), &places).expect("a site");
        let error = site
            .keys((&stage_of("experts"), 0), "ours")
            .expect_err("none")
            .to_string();
        assert!(error.contains("`families.counting.external`"), "{error}");
    }

    #[test]
    fn a_digest_knows_texts_and_their_borders_and_no_comments() {
        assert_ne!(digest_of(&["ab", "c"]), digest_of(&["a", "bc"]));
        assert_ne!(digest_of(&["a", "b"]), digest_of(&["b", "a"]));
        assert_eq!(digest_of(&["a"]).len(), 8);
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.yaml");
        let line = [format!("sft {}", path.display())];
        let text = |content: &str| {
            std::fs::write(&path, content).expect("written");
            with_files(&line, "").expect("read")
        };
        assert_eq!(text("seed: 1\n"), text("# why\nseed:   1\n"));
        assert_ne!(text("seed: 1\n"), text("seed: 2\n"));
    }

    #[test]
    fn flags_are_written_as_the_command_line_takes_them() {
        let cases = [
            (json!("a b"), "a b"),
            (json!(["a", "b"]), "a,b"),
            (json!([1, 2]), "[1,2]"),
            (json!(null), "null"),
            (json!(0.5), "0.5"),
        ];
        for (value, expected) in cases {
            assert_eq!(flag_text(&value), expected);
        }
    }
}
