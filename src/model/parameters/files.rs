//! Which files of a model folder hold its weights, and what the tensors in them are called.
//!
//! Chooses as transformers does (`_get_resolved_checkpoint_files`). The folder is not trusted: an index names plain files of
//! its own folder, or nothing. Knows nothing of values or devices.

use std::path::Path;

use serde_json::Value;

use super::WeightsError;

/// The embedding that a tied head repeats.
pub(super) const EMBEDDING: &str = "model.embed_tokens.weight";
/// The head: a tied one is no parameter of its own.
pub(super) const HEAD: &str = "lm_head.weight";
const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// Names of modules that wrapped a model while it was saved, wherever they stand in a name.
const WRAPPERS: [&str; 3] = [
    "_orig_mod.",
    "_fsdp_wrapped_module.",
    "_checkpoint_wrapped_module.",
];
/// The same, where they only ever stand in front.
const FRONTS: [&str; 2] = ["module.", "base_model.model."];
/// Parts of names that only adapters have.
const OF_ADAPTERS: [&str; 5] = [
    ".lora_",
    ".base_layer.",
    ".modules_to_save.",
    ".original_module.",
    ".ia3_",
];

/// The files that hold the weights.
#[derive(Debug)]
pub(super) struct WeightFiles {
    /// Plain names, in order.
    pub(super) names: Vec<String>,
    /// The index that named them, if there was one.
    pub(super) index: Option<Value>,
}

impl WeightFiles {
    /// `model.safetensors`, else the files of the index.
    ///
    /// # Errors
    /// If there is neither, or the index names what is not there or lies elsewhere.
    pub(super) fn find(folder: &Path) -> Result<Self, WeightsError> {
        let has = |name: &str| folder.join(name).is_file();
        if has(WHOLE) {
            if has(INDEX) {
                log::warn!(
                    "{}: {WHOLE} is read, as transformers does; {INDEX} and what it names are not\nhint: remove the set that you do not mean",
                    folder.display()
                );
            }
            return Ok(Self {
                names: vec![WHOLE.to_owned()],
                index: None,
            });
        }
        if !has(INDEX) {
            return Err(nothing_found(folder));
        }
        Self::of_index(folder)
    }

    fn of_index(folder: &Path) -> Result<Self, WeightsError> {
        let path = folder.join(INDEX);
        let shown = path.display().to_string();
        let text = std::fs::read_to_string(&path).map_err(|source| WeightsError::Io {
            path: shown.clone(),
            source,
        })?;
        let broken = |problem: String| WeightsError::Index {
            path: shown.clone(),
            problem,
        };
        let index: Value =
            serde_json::from_str(&text).map_err(|error| broken(error.to_string()))?;
        let map = index.get("weight_map").and_then(Value::as_object);
        let map = map
            .filter(|map| !map.is_empty())
            .ok_or_else(|| broken("it has no `weight_map`".to_owned()))?;
        let mut names = Vec::new();
        for (tensor, file) in map {
            let name = file.as_str().filter(|name| is_plain_name(name));
            let name = name.ok_or_else(|| WeightsError::Outside {
                path: shown.clone(),
                tensor: tensor.escape_debug().to_string(),
                found: file.to_string(),
            })?;
            names.push(name.to_owned());
        }
        names.sort();
        names.dedup();
        let absent: Vec<&String> = names
            .iter()
            .filter(|name| !folder.join(name).is_file())
            .collect();
        match absent.first() {
            None => Ok(Self {
                names,
                index: Some(index),
            }),
            Some(first) => Err(broken(format!(
                "it names {} files of which {} are not there, {first} first; there is no {WHOLE} either",
                names.len(),
                absent.len()
            ))),
        }
    }
}

/// Whether a name of a downloaded index is that of a weight file in the folder itself, on any system: it is read there, and
/// written there in every checkpoint.
fn is_plain_name(name: &str) -> bool {
    let stem = name.strip_suffix(".safetensors").unwrap_or_default();
    let is_ours = ["optimizer.safetensors", "reference.safetensors"].contains(&name);
    !stem.is_empty() && !stem.starts_with('.') && !is_ours && !name.contains(['/', '\\', ':', '\0'])
}

/// What lies there instead of weights, with the remedy for it.
fn nothing_found(folder: &Path) -> WeightsError {
    let mut there: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    there.sort();
    let ending = |kinds: &[&str]| {
        let named = |name: &&String| {
            kinds.iter().any(|kind| name.ends_with(kind))
                && !name.starts_with("optimizer")
                && !name.starts_with("training_args")
        };
        there.iter().find(named).cloned()
    };
    let (found, hint) = if let Some(name) = ending(&[".safetensors"]) {
        let hint = "weights must be called model.safetensors, or be named by model.safetensors.index.json: copy the index, or rename the file if it holds the whole model";
        (Some(name), hint)
    } else if let Some(name) = ending(&[".bin", ".pt", ".pth", ".ckpt"]) {
        let hint = "pickled weights are not read: load the folder with transformers and save_pretrained(folder) writes model.safetensors";
        (Some(name), hint)
    } else if let Some(name) = ending(&[".gguf", ".ggml", ".h5", ".msgpack"]) {
        (
            Some(name),
            "take the original checkpoint in safetensors, not a converted one",
        )
    } else {
        (
            None,
            "pass the folder of a downloaded Hugging Face model, with its weights",
        )
    };
    WeightsError::NoFile {
        folder: folder.display().to_string(),
        found: found.map_or_else(String::new, |name| format!(", but {}", name.escape_debug())),
        hint,
    }
}

/// A tensor's name without what wrapped the model when it was saved: torch.compile, DDP, FSDP, PEFT.
///
/// `None` for a tensor that only an unmerged adapter has.
pub(super) fn unwrapped(name: &str) -> Option<String> {
    if OF_ADAPTERS.iter().any(|part| name.contains(part)) {
        return None;
    }
    let mut rest = name;
    while let Some(inner) = FRONTS
        .iter()
        .chain(&WRAPPERS)
        .find_map(|front| rest.strip_prefix(front))
    {
        rest = inner;
    }
    let mut own = rest.to_owned();
    for wrapper in WRAPPERS {
        own = own.replace(&format!(".{wrapper}"), ".");
    }
    Some(own)
}

/// The hub's name of a tensor that transformers 5 calls `model.visual.*` or `model.language_model.*`, or
/// `language_model.*` in a model without head.
pub(super) fn hub_name(name: &str) -> String {
    let renames = [
        ("model.visual.", "visual."),
        ("model.language_model.", "model."),
        ("language_model.model.", "model."),
        ("language_model.lm_head.", "lm_head."),
        ("language_model.", "model."),
    ];
    for (from, to) in renames {
        if let Some(rest) = name.strip_prefix(from) {
            return format!("{to}{rest}");
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder_with(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn message(files: &[(&str, &str)]) -> String {
        let folder = folder_with(files);
        WeightFiles::find(folder.path())
            .expect_err("none")
            .to_string()
    }

    #[test]
    fn the_whole_file_wins_over_any_index() {
        for index in [
            r#"{"weight_map": {"a": "gone.safetensors"}}"#,
            r#"{"weight_map": {"a": "b.safetensors"}}"#,
            "{",
        ] {
            let folder = folder_with(&[(WHOLE, "x"), (INDEX, index), ("b.safetensors", "x")]);
            let files = WeightFiles::find(folder.path()).expect("the whole file");
            assert_eq!((files.names, files.index), (vec![WHOLE.to_owned()], None));
        }
        let folder = folder_with(&[
            (
                INDEX,
                r#"{"weight_map": {"a": "b.safetensors", "c": "b.safetensors"}}"#,
            ),
            ("b.safetensors", "x"),
        ]);
        let files = WeightFiles::find(folder.path()).expect("the shard");
        assert_eq!(files.names, ["b.safetensors"]);
    }

    #[test]
    fn names_of_an_index_are_files_of_its_folder() {
        for name in [
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "weights with spaces ü.safetensors",
            "a..b.safetensors",
        ] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in [
            "/home/me/x.safetensors",
            "../x.safetensors",
            "a/../../x.safetensors",
            "part/x.safetensors",
            "..\\x.safetensors",
            "C:x.safetensors",
            "x.safetensors:stream.safetensors",
            "x\0.safetensors",
            ".safetensors",
            "..safetensors",
            ".hidden.safetensors",
            "config.json",
            "pytorch_model.bin",
            "optimizer.safetensors",
            "reference.safetensors",
            "",
            "..",
        ] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }

    #[test]
    fn an_index_says_what_is_wrong_with_it() {
        for file in [
            "\"/etc/passwd\"",
            "\"../up.safetensors\"",
            "\"model.bin\"",
            "3",
            "null",
        ] {
            let text = message(&[(INDEX, &format!(r#"{{"weight_map": {{"t": {file}}}}}"#))]);
            assert!(
                text.contains("index.json: \"weight_map\" names a file outside"),
                "{file}: {text}"
            );
        }
        let text = message(&[
            (
                INDEX,
                r#"{"weight_map": {"t": "a.safetensors", "u": "b.safetensors"}}"#,
            ),
            ("b.safetensors", "x"),
        ]);
        assert!(
            text.contains("it names 2 files of which 1 are not there, a.safetensors first; there is no model.safetensors"),
            "{text}"
        );
        assert!(message(&[(INDEX, "{}")]).contains("no `weight_map`"));
        assert!(message(&[(INDEX, "{\"weight_map\": {}}")]).contains("no `weight_map`"));
        assert!(message(&[(INDEX, "[")]).contains("EOF"));
    }

    #[test]
    fn what_lies_there_instead_is_named_with_its_remedy() {
        for (file, words) in [
            (
                "pytorch_model.bin",
                ["but pytorch_model.bin", "save_pretrained"],
            ),
            (
                "model-00001-of-00002.safetensors",
                ["but model-00001-of-00002.safetensors", "copy the index"],
            ),
            (
                "model.fp16.safetensors",
                ["but model.fp16.safetensors", "rename"],
            ),
            ("weights.gguf", ["but weights.gguf", "original checkpoint"]),
            (
                "readme.txt",
                [
                    "no model.safetensors and no model.safetensors.index.json\n",
                    "hint: pass the folder",
                ],
            ),
        ] {
            let text = message(&[
                (file, "x"),
                ("optimizer.pt", "x"),
                ("training_args.bin", "x"),
            ]);
            assert!(
                words.iter().all(|word| text.contains(word)),
                "{file}: {text}"
            );
        }
    }

    #[test]
    fn names_lose_their_wrappers() {
        for (name, own) in [
            ("_orig_mod.model.norm.weight", "model.norm.weight"),
            ("module.model.norm.weight", "model.norm.weight"),
            ("module._orig_mod.model.norm.weight", "model.norm.weight"),
            ("_orig_mod.module.model.norm.weight", "model.norm.weight"),
            ("base_model.model.model.norm.weight", "model.norm.weight"),
            (
                "_fsdp_wrapped_module.model.layers.0._fsdp_wrapped_module._checkpoint_wrapped_module.mlp.x",
                "model.layers.0.mlp.x",
            ),
            (
                "model.layers.3._orig_mod.input_layernorm.weight",
                "model.layers.3.input_layernorm.weight",
            ),
            ("visual.merger.ln_q.weight", "visual.merger.ln_q.weight"),
        ] {
            assert_eq!(unwrapped(name).as_deref(), Some(own), "{name}");
        }
        for name in [
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight",
            "x.q_proj.base_layer.weight",
            "x.modules_to_save.default.weight",
        ] {
            assert_eq!(unwrapped(name), None, "{name}");
        }
    }

    #[test]
    fn every_generation_of_names_is_the_hub_s() {
        for (name, hub) in [
            (
                "model.visual.blocks.0.norm1.weight",
                "visual.blocks.0.norm1.weight",
            ),
            (
                "visual.blocks.0.norm1.weight",
                "visual.blocks.0.norm1.weight",
            ),
            ("model.language_model.norm.weight", "model.norm.weight"),
            ("language_model.model.norm.weight", "model.norm.weight"),
            ("language_model.norm.weight", "model.norm.weight"),
            ("language_model.lm_head.weight", "lm_head.weight"),
            ("lm_head.weight", "lm_head.weight"),
            ("model.norm.weight", "model.norm.weight"),
        ] {
            assert_eq!(hub_name(name), hub, "{name}");
        }
    }
}
