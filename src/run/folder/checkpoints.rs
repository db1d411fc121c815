//! Checkpoints as folders that are whole or do not count: `checkpoint-{step}` is only ever given to a complete one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::checkpoint::Checkpoint;
use super::disk;
use super::error::{RunFolderError, io_error};

/// A checkpoint under construction, or about to be removed.
const PARTIAL: &str = ".partial";
/// A checkpoint that a newer one of the same step is taking the place of.
const REPLACED: &str = ".replaced";

impl Checkpoint {
    /// The checkpoint at `path`, if its name says that it is one.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let step = step_of(&file_name(path))?;
        path.is_dir().then(|| Self {
            step,
            path: path.to_path_buf(),
        })
    }

    /// Removes it so that a kill in between does not leave half of it under its name.
    pub(super) fn remove(&self) -> Result<(), RunFolderError> {
        let doomed = with_suffix(&self.path, PARTIAL);
        fs::rename(&self.path, &doomed).map_err(io_error("remove", &self.path))?;
        fs::remove_dir_all(&doomed).map_err(io_error("remove", &doomed))
    }
}

/// Whole checkpoints in `directory`, earliest first.
pub(super) fn list(directory: &Path) -> Result<Vec<Checkpoint>, RunFolderError> {
    let entries = disk::entries(directory).map_err(io_error("list", directory))?;
    let mut found: Vec<Checkpoint> = entries
        .iter()
        .filter_map(|path| Checkpoint::at(path))
        .collect();
    found.sort_by_key(|checkpoint| checkpoint.step);
    Ok(found)
}

/// Lets `write` fill a partial folder, forces it to the disk, then gives it its name. If any of that fails the partial
/// folder is removed and nothing else has changed.
pub(super) fn write_whole<E>(
    directory: &Path,
    step: u64,
    write: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<Checkpoint, RunFolderError>
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = directory.join(format!("checkpoint-{step}"));
    let partial = with_suffix(&path, PARTIAL);
    let written = start_empty(&partial)
        .map_err(Into::into)
        .and_then(|()| write(&partial).map_err(Into::into));
    match written.and_then(|()| publish(&partial, &path).map_err(Into::into)) {
        Ok(()) => Ok(Checkpoint { step, path }),
        Err(source) => {
            if let Err(error) = fs::remove_dir_all(&partial) {
                log::warn!("{}: cannot be removed: {error}", partial.display());
            }
            Err(RunFolderError::Save {
                path,
                source,
                last: list(directory)?.pop(),
            })
        }
    }
}

fn start_empty(directory: &Path) -> io::Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory)?;
    }
    fs::create_dir(directory)
}

/// Gives the complete `partial` its final name. A checkpoint of the same step steps aside first, and [`repair`] puts it
/// back if a kill comes between the two renames.
fn publish(partial: &Path, path: &Path) -> io::Result<()> {
    disk::sync_tree(partial)?;
    let replaced = with_suffix(path, REPLACED);
    if path.exists() {
        fs::rename(path, &replaced)?;
    }
    fs::rename(partial, path)?;
    path.parent().map_or(Ok(()), disk::sync_directory)?;
    if replaced.exists() {
        fs::remove_dir_all(&replaced)
    } else {
        Ok(())
    }
}

/// Removes partial checkpoints, and puts one back that was to be replaced but was not.
pub(super) fn repair(directory: &Path) -> Result<(), RunFolderError> {
    for path in disk::entries(directory).map_err(io_error("list", directory))? {
        let name = file_name(&path);
        let partial = name
            .strip_suffix(PARTIAL)
            .is_some_and(|name| step_of(name).is_some());
        let replaced = name
            .strip_suffix(REPLACED)
            .filter(|name| step_of(name).is_some());
        match replaced.map(|name| directory.join(name)) {
            Some(whole) if !whole.exists() => {
                fs::rename(&path, &whole).map_err(io_error("restore", &whole))?
            }
            Some(_) => fs::remove_dir_all(&path).map_err(io_error("remove", &path))?,
            None if partial => fs::remove_dir_all(&path).map_err(io_error("remove", &path))?,
            None => {}
        }
    }
    Ok(())
}

fn step_of(name: &str) -> Option<u64> {
    name.strip_prefix("checkpoint-")?.parse().ok()
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    path.with_file_name(file_name(path) + suffix)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, step: u64, weights: &str) -> Result<Checkpoint, RunFolderError> {
        write_whole(directory, step, |partial| {
            fs::create_dir(partial.join("optimizer"))?;
            fs::write(partial.join("optimizer/moments"), "m")?;
            fs::write(partial.join("weights"), weights)
        })
    }

    fn weights(checkpoint: &Checkpoint) -> String {
        fs::read_to_string(checkpoint.path.join("weights")).unwrap()
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<String> = disk::entries(directory)
            .unwrap()
            .iter()
            .map(|path| file_name(path))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn checkpoints_are_listed_by_number_not_by_name() {
        let directory = tempfile::tempdir().unwrap();
        for step in [10, 9, 100] {
            write(directory.path(), step, "w").unwrap();
        }
        for stranger in [
            "checkpoint-",
            "checkpoint-x",
            "checkpoint-7.partial",
            "checkpoint-8.replaced",
        ] {
            fs::create_dir(directory.path().join(stranger)).unwrap();
        }
        fs::write(directory.path().join("checkpoint-200"), "a file").unwrap();
        let steps: Vec<u64> = list(directory.path())
            .unwrap()
            .iter()
            .map(|checkpoint| checkpoint.step)
            .collect();
        assert_eq!(steps, [9, 10, 100]);
    }

    #[test]
    fn a_failed_write_leaves_the_earlier_checkpoint_and_names_it() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 10, "ten").unwrap();
        let failed = write_whole(directory.path(), 20, |partial| {
            fs::write(partial.join("weights"), "twe")?;
            Err(io::Error::other("model.safetensors: tensor 7 is odd"))
        });
        let error = failed.unwrap_err().to_string();
        assert!(
            error.contains(
                "checkpoint-20: the checkpoint could not be written: model.safetensors: tensor 7"
            ),
            "{error}"
        );
        assert!(
            error.contains("\nhint: ")
                && error.contains("checkpoint-10` with `--resume_from_checkpoint true`"),
            "{error}"
        );
        assert_eq!(names(directory.path()), ["checkpoint-10"]);
        assert_eq!(weights(&list(directory.path()).unwrap()[0]), "ten");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_disk_that_fills_up_while_saving_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), 10, "ten").unwrap();
        let failed = write_whole(directory.path(), 20, |partial| {
            std::os::unix::fs::symlink("/dev/full", partial.join("weights"))?;
            fs::write(partial.join("weights"), "twenty")
        });
        let error = failed.unwrap_err().to_string();
        assert!(
            error.contains("No space left on device") && error.contains("is the disk full?"),
            "{error}"
        );
        assert_eq!(names(directory.path()), ["checkpoint-10"]);
    }

    #[cfg(unix)]
    #[test]
    fn read_only_files_copied_into_a_checkpoint_do_not_stop_it() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let written = write_whole(directory.path(), 1, |partial| {
            fs::write(partial.join("tokenizer.json"), "{}")?;
            fs::set_permissions(
                partial.join("tokenizer.json"),
                fs::Permissions::from_mode(0o444),
            )
        });
        assert_eq!(written.unwrap().step, 1);
    }

    /// Leaves what a kill leaves while step 20 is saved over an older checkpoint of step 20, and expects `weights` after
    /// the repair and after saving again.
    fn killed(moment: &str, leave_behind: impl FnOnce(&Path), expected: &str) {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        leave_behind(directory);
        repair(directory).unwrap();
        assert_eq!(names(directory), ["checkpoint-20"], "killed {moment}");
        assert_eq!(
            weights(&list(directory).unwrap()[0]),
            expected,
            "killed {moment}"
        );
        write(directory, 20, "again").unwrap();
        assert_eq!(
            names(directory),
            ["checkpoint-20"],
            "killed {moment}, then saved again"
        );
        assert_eq!(weights(&list(directory).unwrap()[0]), "again");
    }

    #[test]
    fn a_kill_at_any_moment_leaves_a_whole_last_checkpoint() {
        let whole = |directory: &Path, name: &str, weights: &str| {
            write(directory, 99, weights).unwrap();
            fs::rename(directory.join("checkpoint-99"), directory.join(name)).unwrap();
        };
        let half = |directory: &Path, name: &str| {
            fs::create_dir(directory.join(name)).unwrap();
            fs::write(directory.join(name).join("weights"), "ha").unwrap();
        };
        let writing = |directory: &Path| {
            whole(directory, "checkpoint-20", "old");
            half(directory, "checkpoint-20.partial");
        };
        killed("while writing", writing, "old");
        let renaming = |directory: &Path| {
            whole(directory, "checkpoint-20.replaced", "old");
            whole(directory, "checkpoint-20.partial", "new");
        };
        killed("between the renames", renaming, "old");
        let replaced = |directory: &Path| {
            whole(directory, "checkpoint-20", "new");
            half(directory, "checkpoint-20.replaced");
        };
        killed("while the old one is removed", replaced, "new");
        let limited = |directory: &Path| {
            whole(directory, "checkpoint-20", "new");
            half(directory, "checkpoint-5.partial");
        };
        killed("while the limit removes one", limited, "new");
    }
}
