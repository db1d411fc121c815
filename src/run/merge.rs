//! A model folder and an adapter become one model folder, as transformers loads it.
//!
//! Knows nothing of training.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::Device;
use serde_json::{Value, json};

use crate::model::open::ModelPlace;
use crate::model::parameters::{Head, Holding};
use crate::run::checkpoint::copy_model_files;
use crate::system::files::{self, Existing};

const CONFIG: &str = "config.json";
const TIED: &str = "tie_word_embeddings";

/// The model in `folder`, or the one that the adapter names, with the adapter over it.
///
/// # Errors
/// If the adapter is none, or names a model that is not there.
pub fn place(model: Option<&Path>, adapter: &Path) -> Result<ModelPlace> {
    match model {
        Some(model) => {
            let base = ModelPlace::of(model)?;
            if let Some(found) = base.adapter {
                bail!(
                    "{}: an adapter, not a model\nhint: give the folder of its model, {}",
                    found.display(),
                    base.base.display()
                );
            }
            Ok(ModelPlace {
                adapter: Some(adapter.to_owned()),
                ..base
            })
        }
        None => {
            let place = ModelPlace::of(adapter)?;
            if place.adapter.is_none() {
                bail!(
                    "{}: no adapter_config.json\nhint: give a folder that PEFT or a run with `use_peft` saved",
                    adapter.display()
                );
            }
            Ok(place)
        }
    }
}

/// Writes the merged model to `out`, which must not exist: names, files and number formats are those of the model. The
/// folder appears when it is whole.
///
/// # Errors
/// If `out` exists, a file of either is absent or broken, the adapter is of another model, or a file cannot be written.
pub fn merge(place: &ModelPlace, out: &Path) -> Result<()> {
    if out.symlink_metadata().is_ok() {
        bail!(
            "{}: exists, and nothing is overwritten\nhint: name another folder, or remove this one",
            out.display()
        );
    }
    let partial = partial(out)?;
    fs::create_dir_all(partial.parent().unwrap_or(Path::new(".")))
        .and_then(|()| fs::create_dir(&partial))
        .with_context(|| format!("{}: cannot be made\nhint: a merge that was interrupted may have left it; remove it then", partial.display()))?;
    let written = fill(place, &partial).and_then(|()| {
        fs::rename(&partial, out).with_context(|| format!("{}: cannot be made", out.display()))
    });
    if written.is_err()
        && let Err(error) = fs::remove_dir_all(&partial)
    {
        log::warn!("{}: cannot be removed: {error}", partial.display());
    }
    written
}

fn partial(out: &Path) -> Result<PathBuf> {
    let Some(name) = out.file_name() else {
        bail!("{}: no name of a folder", out.display());
    };
    let mut name = name.to_owned();
    name.push(".partial");
    Ok(out.with_file_name(name))
}

fn fill(place: &ModelPlace, folder: &Path) -> Result<()> {
    // On the CPU device frozen weights are the mapped files: nothing of the model is copied into memory.
    let (_, weights) = place.open(&Holding::frozen(u64::MAX), &Device::flex())?;
    copy_model_files(&place.base, folder)?;
    let head = weights.save_merged(folder)?;
    if head == Head::Untied {
        untie(&folder.join(CONFIG))?;
    }
    Ok(())
}

/// Says in config.json that the head is a table of its own.
fn untie(path: &Path) -> Result<()> {
    let place = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(place)?;
    let mut config: Value = serde_json::from_str(&text).with_context(place)?;
    config[TIED] = json!(false);
    if let Some(text) = config.get_mut("text_config").and_then(Value::as_object_mut)
        && text.contains_key(TIED)
    {
        text.insert(TIED.to_owned(), json!(false));
    }
    files::write(path, format!("{config:#}\n"), Existing::Replace).with_context(place)
}
