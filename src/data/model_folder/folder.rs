//! A model folder on disk: which of its files are there, and their text.
//!
//! Knows nothing of what the files mean.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::ModelFileError;
use super::json;

/// Largest file of settings, in bytes; published ones stay below 100 kB.
const LARGEST_SETTINGS: u64 = 16 << 20;
const ADAPTER: &str = "adapter_config.json";
const EXPECTED: &str = "a Hugging Face model folder with config.json and tokenizer.json";

/// A folder of settings that exists.
#[derive(Debug)]
pub struct ModelFolder {
    directory: PathBuf,
}

impl ModelFolder {
    /// # Errors
    /// [`ModelFileError::Missing`] if there is no such folder, [`ModelFileError::Adapter`] for one that PEFT wrote
    /// (transformers would load its base model, which may be anywhere).
    pub fn open(directory: &Path) -> Result<Self, ModelFileError> {
        let folder = Self::open_adapter(directory)?;
        folder.refuse_adapter()?;
        Ok(folder)
    }

    /// As [`Self::open`] where an adapter is welcome, too.
    ///
    /// # Errors
    /// [`ModelFileError::Missing`] if there is no such folder.
    pub fn open_adapter(directory: &Path) -> Result<Self, ModelFileError> {
        if directory.is_dir() {
            return Ok(Self {
                directory: directory.to_owned(),
            });
        }
        Err(ModelFileError::Missing {
            path: directory.to_owned(),
            expected: EXPECTED,
            hint: no_folder(directory),
        })
    }

    fn refuse_adapter(&self) -> Result<(), ModelFileError> {
        if !self.path(ADAPTER).is_file() {
            return Ok(());
        }
        let settings: Value = self
            .json(ADAPTER, "the settings of an adapter")?
            .unwrap_or_default();
        let word = |key: &str| settings.get(key).filter(|value| !value.is_null());
        Err(ModelFileError::Adapter {
            path: self.directory.clone(),
            kind: word("peft_type")
                .and_then(Value::as_str)
                .unwrap_or("PEFT")
                .escape_debug()
                .to_string(),
            base: word("base_model_name_or_path").map_or_else(
                || "not named".to_owned(),
                |name| format!("`{}`", name.as_str().unwrap_or_default().escape_debug()),
            ),
        })
    }

    /// The path of one of its files, which need not exist.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// A file of settings as text, or `None` if it is absent; a byte order mark is left out.
    ///
    /// # Errors
    /// [`ModelFileError::Broken`] if it is there but is no plain file, too large, or not UTF-8.
    pub fn text(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<String>, ModelFileError> {
        self.text_up_to(name, expected, LARGEST_SETTINGS)
    }

    /// As [`Self::text`] for a file of up to `limit` bytes.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn text_up_to(
        &self,
        name: &str,
        expected: &'static str,
        limit: u64,
    ) -> Result<Option<String>, ModelFileError> {
        let path = self.path(name);
        match read(&path, limit) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ModelFileError::Broken {
                path,
                expected,
                found: error.to_string(),
                hint: "check that it is a whole file that may be read",
            }),
        }
    }

    /// A JSON file, or `None` if it is absent. No object in it may have a key twice.
    ///
    /// # Errors
    /// [`ModelFileError::Broken`] if it is not the JSON expected.
    pub fn json<T: DeserializeOwned>(
        &self,
        name: &str,
        expected: &'static str,
    ) -> Result<Option<T>, ModelFileError> {
        let Some(text) = self.text(name, expected)? else {
            return Ok(None);
        };
        let value = self.parse(name, expected, &text)?;
        serde_json::from_value(value)
            .map(Some)
            .map_err(|error| ModelFileError::broken(&self.path(name), expected, error.to_string()))
    }

    /// The JSON in the text of one of its files. No object in it may have a key twice.
    ///
    /// # Errors
    /// [`ModelFileError::Broken`].
    pub fn parse(
        &self,
        name: &str,
        expected: &'static str,
        text: &str,
    ) -> Result<Value, ModelFileError> {
        json::parse(text).map_err(|error| match instead(text) {
            Some((found, hint)) => ModelFileError::Broken {
                path: self.path(name),
                expected,
                found: found.to_owned(),
                hint,
            },
            None => ModelFileError::broken(&self.path(name), expected, error.to_string()),
        })
    }

    /// `config.json` as it stands in the file.
    ///
    /// # Errors
    /// [`ModelFileError::Missing`] with what lies there instead, [`ModelFileError::Broken`].
    pub(super) fn config_json(&self) -> Result<Value, ModelFileError> {
        const NAME: &str = "config.json";
        const EXPECTED: &str = "the configuration of a Qwen2-VL model";
        let file = self.json(NAME, EXPECTED)?;
        file.ok_or_else(|| ModelFileError::Missing {
            path: self.path(NAME),
            expected: EXPECTED,
            hint: self.no_config(),
        })
    }

    /// The remedy for a folder without config.json, by what is there instead.
    fn no_config(&self) -> String {
        let inner = |name: &str| self.directory.join(name).join("config.json").is_file();
        let mut below: Vec<String> = std::fs::read_dir(&self.directory)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter(|name| inner(name))
            .collect();
        // checkpoint-900 before checkpoint-1000.
        below.sort_by_key(|name| (name.len(), name.clone()));
        match below.last() {
            Some(name) => format!(
                "the model may be one folder further down: {}",
                self.directory.join(name).display()
            ),
            None => "copy config.json from the model's original folder; single files (.gguf, .bin, .pt) are not read"
                .to_owned(),
        }
    }
}

/// What a download often leaves in a file's place, with its remedy.
fn instead(text: &str) -> Option<(&'static str, &'static str)> {
    let start = text.trim_start();
    if start.starts_with("version https://git-lfs") {
        return Some((
            "a Git LFS pointer in the file's place",
            "run `git lfs pull` in the folder, or `hf download` the model again",
        ));
    }
    start.starts_with('<').then_some((
        "a web page in the file's place",
        "download the file itself, not the page that shows it",
    ))
}

/// The whole text of a plain file. Pipes and devices would never end.
fn read(path: &Path, limit: u64) -> std::io::Result<String> {
    let mut file = open_plain(path)?;
    let size = file.metadata()?.len();
    if size > limit {
        let found = format!("a file of {size} bytes, more than any such file has ({limit})");
        return Err(std::io::Error::other(found));
    }
    let mut text = String::new();
    file.by_ref().take(limit).read_to_string(&mut text)?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(rest) => rest.to_owned(),
        None => text,
    })
}

fn open_plain(path: &Path) -> std::io::Result<std::fs::File> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        let found = if metadata.is_dir() {
            "a folder"
        } else {
            "no plain file"
        };
        return Err(std::io::Error::other(found));
    }
    std::fs::File::open(path)
}

/// The remedy for a folder that is not there.
fn no_folder(path: &Path) -> String {
    if path.exists() {
        return "give the folder that holds config.json and the weights, not a single file"
            .to_owned();
    }
    match hub_name(path) {
        Some(name) => {
            let folder = name.rsplit('/').next().unwrap_or(name);
            format!(
                "names on the hub are not downloaded; `hf download {name} --local-dir {folder}` fetches {name}, then give that folder"
            )
        }
        None => "check the path; names on the hub are not downloaded, `hf download NAME --local-dir FOLDER` fetches one"
            .to_owned(),
    }
}

/// `owner/name`, where nothing on this disk has that beginning.
fn hub_name(path: &Path) -> Option<&str> {
    let name = path.to_str()?;
    let (owner, model) = name.split_once('/')?;
    let word = |text: &str| {
        !text.is_empty()
            && !text.starts_with(['.', '~', '-', '$'])
            && text
                .chars()
                .all(|letter| letter.is_ascii_alphanumeric() || "-_.".contains(letter))
    };
    (word(owner) && word(model) && !Path::new(owner).exists()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(path: &Path) -> String {
        ModelFolder::open(path).expect_err("no model").to_string()
    }

    #[test]
    fn names_on_the_hub_come_with_the_command_that_fetches_them() {
        for (name, fetched) in [
            (
                "Qwen/Qwen2-VL-2B-Instruct",
                "hf download Qwen/Qwen2-VL-2B-Instruct --local-dir Qwen2-VL-2B-Instruct",
            ),
            ("a.b/c-d_e", "hf download a.b/c-d_e --local-dir c-d_e"),
            ("no/such/model", "hf download NAME"),
            ("./models/x", "hf download NAME"),
            ("/no/such", "hf download NAME"),
            // A folder that is there: the name is a path with a slip of the pen.
            ("tests/modle", "hf download NAME"),
            ("gpt2", "hf download NAME"),
        ] {
            let text = message(Path::new(name));
            assert!(text.contains(fetched), "{name}: {text}");
            assert!(text.contains("not downloaded"), "{name}: {text}");
            assert!(
                text.starts_with(&format!(
                    "{name}: not found; expected a Hugging Face model folder"
                )),
                "{text}"
            );
        }
        assert!(message(Path::new("Cargo.toml")).contains("not a single file"));
    }

    #[test]
    fn adapters_are_named_with_their_base() {
        for (settings, words) in [
            (
                r#"{"peft_type": "LORA", "base_model_name_or_path": "models/base"}"#,
                ["LORA adapter", "`models/base`"],
            ),
            (
                r#"{"peft_type": "IA3", "base_model_name_or_path": null}"#,
                ["IA3 adapter", "not named"],
            ),
            ("{}", ["PEFT adapter", "not named"]),
            (
                r#"{"base_model_name_or_path": "\u001b[2J"}"#,
                ["merge_and_unload", "`\\u{1b}[2J`"],
            ),
        ] {
            let folder = tempfile::tempdir().expect("a folder");
            std::fs::write(folder.path().join(ADAPTER), settings).expect("written");
            // Whole weights beside it do not help: transformers would load the base model.
            std::fs::write(folder.path().join("config.json"), "{}").expect("written");
            let text = message(folder.path());
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }

    #[test]
    fn a_folder_above_the_model_names_the_one_below() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["checkpoint-900", "checkpoint-1000", "logs"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
            if name != "logs" {
                std::fs::write(folder.path().join(name).join("config.json"), "{}")
                    .expect("written");
            }
        }
        let opened = ModelFolder::open(folder.path()).expect("a folder");
        let text = opened.config_json().expect_err("no config").to_string();
        assert!(text.contains("config.json: not found"), "{text}");
        assert!(text.ends_with("checkpoint-1000"), "{text}");
    }

    #[test]
    fn only_plain_files_of_a_sane_size_are_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let opened = ModelFolder::open(folder.path()).expect("a folder");
        std::fs::write(opened.path("marked"), "\u{feff}{\"a\": 1}\r\n").expect("written");
        let value: Value = opened
            .json("marked", "numbers")
            .expect("JSON")
            .expect("there");
        assert_eq!(value["a"], 1);
        std::fs::create_dir(opened.path("inner")).expect("a folder");
        let text = opened
            .text("inner", "settings")
            .expect_err("a folder")
            .to_string();
        assert!(
            text.contains("inner: expected settings, found a folder"),
            "{text}"
        );
        let large = std::fs::File::create(opened.path("large")).expect("a file");
        large.set_len(1 << 40).expect("a sparse file");
        let text = opened
            .text("large", "settings")
            .expect_err("too large")
            .to_string();
        assert!(text.contains("1099511627776 bytes, more than"), "{text}");
        std::fs::write(opened.path("latin"), b"\xe9").expect("written");
        assert!(opened.text("latin", "settings").is_err());
        assert!(
            opened
                .text("absent", "settings")
                .expect("no error")
                .is_none()
        );
        for (text, found) in [
            (
                "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
                "a Git LFS pointer",
            ),
            ("\n<!DOCTYPE html><html>", "a web page"),
        ] {
            std::fs::write(opened.path("config.json"), text).expect("written");
            let text = opened.config_json().expect_err("no JSON").to_string();
            assert!(text.contains(found), "{text}");
        }
    }
}
