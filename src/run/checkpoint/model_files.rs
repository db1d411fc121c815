//! The files of a model folder besides its weights: which there are, and copies of them.
//!
//! A model folder may hold anything, from a run's predictions to links into somebody's home: only what readers of models
//! look for is copied. Knows nothing of what the files say.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Once;

use super::error::{CheckpointError, io_error};
use crate::system::files::{self, Existing};

/// Files that transformers and others read beside the weights.
const NAMES: [&str; 19] = [
    "config.json",
    "configuration.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
    "chat_template.json",
    "chat_template.jinja",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "NOTICE",
];
/// Beginnings of the names of texts about a model, in small letters.
const TEXTS: [&str; 4] = ["readme", "license", "licence", "notice"];

/// Files without which a folder is that of an adapter: readers then look for its model elsewhere.
const OF_WHOLE_MODELS: [&str; 3] = [
    "config.json",
    "configuration.json",
    "generation_config.json",
];

/// What lies beside the copied files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Contents {
    /// The weights of a whole model.
    Model,
    /// An adapter.
    Adapter,
}

/// The notes on what is left out are given once, not at every checkpoint.
static NOTED: Once = Once::new();

/// What to do with the entries of a model folder.
#[derive(Debug, Default, PartialEq, Eq)]
struct ModelFiles {
    /// Belong to the model.
    copied: Vec<PathBuf>,
    /// Would, but are links to somewhere else.
    links: Vec<PathBuf>,
    /// Are nothing of a model's.
    others: Vec<PathBuf>,
}

/// Copies the files of the model in `base`, weights left out, into `folder`; what is left out is noted once.
///
/// # Errors
/// If a file cannot be read or written.
pub(super) fn copy(base: &Path, folder: &Path, contents: Contents) -> Result<(), CheckpointError> {
    let sorted = sort(base).map_err(io_error(base))?;
    for path in &sorted.copied {
        let Some(name) = path.file_name() else {
            continue;
        };
        let is_of_model = OF_WHOLE_MODELS.iter().any(|of_model| name == *of_model);
        if contents == Contents::Adapter && is_of_model {
            continue;
        }
        copy_content(path, &folder.join(name)).map_err(io_error(path))?;
    }
    NOTED.call_once(|| {
        for link in &sorted.links {
            log::warn!(
                "{link:?} is a link that leaves the model's folder: checkpoints are without it\nhint: put the file itself there if they should have it"
            );
        }
        if !sorted.others.is_empty() {
            let named: Vec<String> = sorted.others.iter().take(3).map(|path| format!("{:?}", path.file_name().unwrap_or_default())).collect();
            let more = if sorted.others.len() > 3 { ", ..." } else { "" };
            log::info!(
                "{}: {} files are none that a model folder has, and checkpoints are without them: {}{more}",
                base.display(), sorted.others.len(), named.join(", ")
            );
        }
    });
    Ok(())
}

/// Bytes of what [`copy`] copies; what cannot be looked at counts nothing.
pub(super) fn bytes(base: &Path) -> u64 {
    let copied = sort(base).unwrap_or_default().copied;
    let sizes = copied.iter().filter_map(|path| fs::metadata(path).ok());
    sizes.map(|data| data.len()).sum()
}

/// The content under the mode that a new file has; permissions of the original are not taken over, and nothing that exists
/// is written to.
fn copy_content(from: &Path, to: &Path) -> io::Result<()> {
    let mut target = files::create(to, Existing::Refuse)?;
    io::copy(&mut File::open(from)?, &mut target).map(drop)
}

/// Sorts the entries of a model folder; folders and what is neither a file nor a link to one are left unmentioned.
fn sort(base: &Path) -> io::Result<ModelFiles> {
    let homes = homes(base);
    let mut sorted = ModelFiles::default();
    for entry in fs::read_dir(base)? {
        let path = entry?.path();
        if !path.is_file() || is_ours_or_weights(&path) {
            continue;
        }
        let is_at_home = || {
            let target = path.canonicalize().ok();
            target.is_some_and(|target| homes.iter().any(|home| target.parent() == Some(home)))
        };
        if !path.file_name().is_some_and(belongs) {
            sorted.others.push(path);
        } else if is_at_home() {
            sorted.copied.push(path);
        } else {
            sorted.links.push(path);
        }
    }
    for list in [&mut sorted.copied, &mut sorted.links, &mut sorted.others] {
        list.sort();
    }
    Ok(sorted)
}

/// The folder itself, and the one that its configuration is a link into: the blobs of a hub cache, or a model folder that
/// somebody mirrors by links.
fn homes(base: &Path) -> Vec<PathBuf> {
    let configuration = base.join("config.json").canonicalize().ok();
    let mirrored = configuration.and_then(|path| Some(path.parent()?.to_owned()));
    base.canonicalize()
        .ok()
        .into_iter()
        .chain(mirrored)
        .collect()
}

/// Weights of any framework, a run's own files and hidden ones: never copied, and nobody expects them to be.
fn is_ours_or_weights(path: &Path) -> bool {
    const WEIGHTS: [&str; 9] = [
        ".safetensors",
        ".safetensors.index.json",
        ".bin",
        ".bin.index.json",
        ".pt",
        ".pth",
        ".h5",
        ".msgpack",
        ".gguf",
    ];
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with('.')
        || name == crate::run::metrics::TRAINER_STATE_FILE
        || WEIGHTS.iter().any(|suffix| name.ends_with(suffix))
}

/// Whether readers of models look for a file of this name.
fn belongs(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let small = name.to_lowercase();
    NAMES.contains(&name)
        || TEXTS.iter().any(|text| small.starts_with(text))
        || name.ends_with(".py")
        || name.ends_with(".jinja")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(paths: &[PathBuf]) -> Vec<String> {
        let name = |path: &PathBuf| format!("{:?}", path.file_name().expect("a name"));
        paths.iter().map(name).collect()
    }

    #[test]
    fn only_what_a_model_folder_has_belongs() {
        for name in [
            "config.json",
            "tokenizer.json",
            "merges.txt",
            "README.md",
            "LICENSE",
            "LICENSE-APACHE.txt",
            "Notice.txt",
            "modeling_qwen2_vl.py",
            "chat_template.jinja",
        ] {
            assert!(belongs(name.as_ref()), "{name}");
        }
        for name in [
            "eval_predictions.json",
            "notes.txt",
            "rows.jsonl",
            ".netrc",
            "id_rsa",
            "config.json.bak",
            "myconfig.json",
            "metrics.jsonl",
            "events.out.tfevents.1",
        ] {
            assert!(!belongs(name.as_ref()), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn odd_names_are_left_out_and_links_are_followed_inside_the_model_only() {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().expect("a folder");
        let folder = |name: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(&path).expect("a folder");
            path
        };
        let write = |path: PathBuf| fs::write(path, "x").expect("written");
        let (home, base) = (folder("home"), folder("model"));
        write(home.join("netrc"));
        for name in [
            "config.json",
            "tokenizer.json",
            "preds.json",
            "model.safetensors",
        ] {
            write(base.join(name));
        }
        write(base.join(OsStr::from_bytes(b"no\xfftes.txt")));
        symlink(home.join("netrc"), base.join("README.md")).expect("a link");
        symlink(home.join("nothing"), base.join("vocab.json")).expect("a link");
        symlink("tokenizer.json", base.join("added_tokens.json")).expect("a link");
        fs::create_dir(base.join("LICENSES")).expect("a folder");
        let found = sort(&base).expect("readable");
        assert_eq!(
            names(&found.copied),
            [
                r#""added_tokens.json""#,
                r#""config.json""#,
                r#""tokenizer.json""#
            ]
        );
        assert_eq!(names(&found.links), [r#""README.md""#]);
        assert_eq!(
            names(&found.others),
            [r#""no\xFFtes.txt""#, r#""preds.json""#]
        );

        // A hub cache: every file of a snapshot is a link into the blobs.
        let (blobs, snapshot) = (
            folder("models--a--b/blobs"),
            folder("models--a--b/snapshots/1"),
        );
        for name in ["config.json", "tokenizer.json"] {
            write(blobs.join(name));
            symlink(format!("../../blobs/{name}"), snapshot.join(name)).expect("a link");
        }
        symlink(home.join("netrc"), snapshot.join("LICENSE")).expect("a link");
        let found = sort(&snapshot).expect("readable");
        assert_eq!(
            names(&found.copied),
            [r#""config.json""#, r#""tokenizer.json""#]
        );
        assert_eq!(names(&found.links), [r#""LICENSE""#]);
    }

    #[cfg(unix)]
    #[test]
    fn a_copy_has_the_mode_of_a_new_file_and_replaces_none() {
        use std::os::unix::fs::PermissionsExt;
        let root = tempfile::tempdir().expect("a folder");
        let [secret, usual, copied] =
            ["config.json", "usual", "copied"].map(|name| root.path().join(name));
        fs::write(&secret, "content").expect("written");
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).expect("set");
        fs::write(&usual, "").expect("written");
        copy_content(&secret, &copied).expect("copied");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode();
        assert_eq!(mode(&copied), mode(&usual));
        assert_eq!(fs::read_to_string(&copied).expect("readable"), "content");
        let again = copy_content(&secret, &copied).expect_err("it exists");
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
    }
}
