//! The folder of one run: whole checkpoints or none, one writer at a time, room for what will be written.
//!
//! Does not know what a checkpoint or a log holds.

mod checkpoint;
mod checkpoints;
mod disk;
mod error;

pub use checkpoint::Checkpoint;
pub use error::RunFolderError;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::system::files::{self, Existing};
use error::io_error;

/// Held by the run that writes the folder; the operating system releases it even when the process is killed.
const LOCK_FILE: &str = "run.lock";
/// Answers of endpoints: gathered ahead of a run, kept by every run.
pub const EXTERNAL_CACHE_FILE: &str = "external_cache.jsonl";
/// Written and removed to find out whether the folder takes data.
const PROBE_FILE: &str = "write-probe.partial";

/// Files of a run besides its checkpoints.
pub const RUN_FILES: [&str; 4] = [
    "metrics.jsonl",
    "completions.jsonl",
    "trainer_state.json",
    "config.yaml",
];

/// The rows that a start refused; it may be the only thing that a start leaves behind, so it is no sign of a run.
pub const REJECTED_FILE: &str = "rejected_rows.jsonl";

/// What to do with an earlier run in the same folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// There must be none.
    Fresh,
    /// Remove it when the new one begins.
    Overwrite,
    /// Continue it.
    Resume,
}

/// An `output_dir` that this process alone writes.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    mode: Mode,
    save_total_limit: Option<usize>,
    _lock: File,
}

impl RunFolder {
    /// Creates the folder if need be, takes its lock, makes sure that it can be written and clears away what a kill left
    /// half done. Nothing whole is removed yet.
    ///
    /// `save_total_limit`: how many checkpoints to keep; at least one is kept.
    ///
    /// # Errors
    /// The folder cannot be written, another run holds it, or it is not empty and `mode` is [`Mode::Fresh`].
    pub fn open(
        output_dir: &Path,
        mode: Mode,
        save_total_limit: Option<usize>,
    ) -> Result<Self, RunFolderError> {
        fs::create_dir_all(output_dir).map_err(io_error("create the folder", output_dir))?;
        let lock = take_lock(output_dir)?;
        if mode == Mode::Fresh {
            refuse_earlier_run(output_dir)?;
        }
        probe(output_dir)?;
        checkpoints::repair(output_dir)?;
        Ok(Self {
            path: output_dir.to_path_buf(),
            mode,
            save_total_limit,
            _lock: lock,
        })
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a small file of the run, as a whole or not at all.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<(), RunFolderError> {
        let path = self.path.join(name);
        files::write_whole(&path, text).map_err(io_error("write", &path))
    }

    /// Makes sure that the disk has room for all that the run will keep, and for one checkpoint more while it is written.
    ///
    /// # Errors
    /// Fewer than `needed_bytes` are free.
    pub fn check_space(&self, needed_bytes: u64) -> Result<(), RunFolderError> {
        match disk::free_bytes(&self.path)
            .map_err(io_error("measure the free space of", &self.path))?
        {
            Some(free) if free < needed_bytes => Err(RunFolderError::NoSpace {
                path: self.path.clone(),
                needed: needed_bytes,
                free,
            }),
            _ => Ok(()),
        }
    }

    /// Once everything that can fail before step 1 has passed: with [`Mode::Overwrite`] it removes the earlier run, that
    /// is its checkpoints and the files named (those that every run writes), nothing else.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub fn begin(&self, files_of_a_run: &[&str]) -> Result<(), RunFolderError> {
        if self.mode != Mode::Overwrite {
            return Ok(());
        }
        self.checkpoints()?
            .iter()
            .try_for_each(Checkpoint::remove)?;
        for path in files_of_a_run.iter().map(|name| self.path.join(name)) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(io_error("remove", &path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whole checkpoints, earliest first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn checkpoints(&self) -> Result<Vec<Checkpoint>, RunFolderError> {
        checkpoints::list(&self.path)
    }

    /// The newest whole checkpoint.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub fn last_checkpoint(&self) -> Result<Option<Checkpoint>, RunFolderError> {
        Ok(self.checkpoints()?.pop())
    }

    /// The checkpoint to continue from: `requested`, which may lie in another folder, or the newest one here.
    ///
    /// # Errors
    /// There is none, or this folder holds a later one than requested.
    pub fn resume_from(&self, requested: Option<&Path>) -> Result<Checkpoint, RunFolderError> {
        let last = self.last_checkpoint()?;
        let none = |path: &Path| RunFolderError::NoCheckpoint {
            path: path.to_path_buf(),
        };
        let Some(requested) = requested else {
            return last.ok_or_else(|| none(&self.path));
        };
        let asked = Checkpoint::at(requested).ok_or_else(|| none(requested))?;
        match last {
            Some(last) if last.step > asked.step => Err(RunFolderError::LaterCheckpoint {
                path: last.path,
                later: last.step,
                step: asked.step,
            }),
            _ => Ok(asked),
        }
    }

    /// Writes `checkpoint-{step}`: `write` fills a partial folder, which is forced to the disk and then renamed; only
    /// then do checkpoints over `save_total_limit` go, earliest first.
    ///
    /// # Errors
    /// `write` failed or the disk is full; the partial folder is removed and earlier checkpoints are untouched.
    pub fn save_checkpoint<E>(
        &self,
        step: u64,
        write: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<Checkpoint, RunFolderError>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let newest = checkpoints::write_whole(&self.path, step, write)?;
        if let Some(limit) = self.save_total_limit {
            let mut others = self.checkpoints()?;
            others.retain(|checkpoint| *checkpoint != newest);
            let excess = (others.len() + 1).saturating_sub(limit.max(1));
            others[..excess].iter().try_for_each(Checkpoint::remove)?;
        }
        Ok(newest)
    }
}

/// The newest whole checkpoint of a run's folder, without taking the folder's lock.
#[must_use]
pub fn newest_checkpoint(output_dir: &Path) -> Option<PathBuf> {
    let mut found = checkpoints::list(output_dir).ok()?;
    found.pop().map(|checkpoint| checkpoint.path)
}

/// Whether a run holds the folder.
#[must_use]
pub fn is_locked(output_dir: &Path) -> bool {
    let file = File::open(output_dir.join(LOCK_FILE));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

fn take_lock(output_dir: &Path) -> Result<File, RunFolderError> {
    let path = output_dir.join(LOCK_FILE);
    let lock = files::open_or_create(&path).map_err(io_error("write", &path))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let process = fs::read_to_string(&path)
                .unwrap_or_default()
                .trim()
                .to_owned();
            return Err(RunFolderError::Locked {
                path: output_dir.to_path_buf(),
                process,
            });
        }
        Err(TryLockError::Error(error)) => {
            log::warn!(
                "{}: this file system has no locks ({error})\nhint: start no second run here",
                path.display()
            );
        }
    }
    write_process_id(&lock).map_err(io_error("write", &path))?;
    Ok(lock)
}

/// Puts our number into a lock file; one with anything but a number in it is no lock file, and keeps its bytes.
fn write_process_id(mut lock: &File) -> io::Result<()> {
    let mut start = Vec::new();
    lock.take(32).read_to_end(&mut start)?;
    if !start.trim_ascii().iter().all(u8::is_ascii_digit) {
        return Err(io::Error::other(
            "it holds something else than the number of a process",
        ));
    }
    lock.set_len(0)?;
    lock.rewind()?;
    lock.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn refuse_earlier_run(output_dir: &Path) -> Result<(), RunFolderError> {
    let entries = disk::entries(output_dir).map_err(io_error("list", output_dir))?;
    let names = entries
        .iter()
        .filter_map(|path| path.file_name())
        .map(|name| name.to_string_lossy().into_owned());
    match names
        .filter(|name| {
            ![LOCK_FILE, PROBE_FILE, REJECTED_FILE, EXTERNAL_CACHE_FILE].contains(&name.as_str())
        })
        .min()
    {
        Some(found) => Err(RunFolderError::NotEmpty {
            path: output_dir.to_path_buf(),
            found,
        }),
        None => Ok(()),
    }
}

/// Writes a file, forces it to the disk and removes it: a full disk or a quota shows here, not at the first checkpoint.
fn probe(output_dir: &Path) -> Result<(), RunFolderError> {
    let path = output_dir.join(PROBE_FILE);
    let written = files::create(&path, Existing::Replace).and_then(|mut file| {
        file.write_all(&[0x5a; 1 << 16])?;
        file.sync_all()
    });
    let removed = fs::remove_file(&path);
    written.and(removed).map_err(io_error("write", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn save(folder: &RunFolder, step: u64) -> Checkpoint {
        folder
            .save_checkpoint(step, |path| {
                fs::write(path.join("weights"), step.to_string())
            })
            .unwrap()
    }

    fn steps(folder: &RunFolder) -> Vec<u64> {
        folder
            .checkpoints()
            .unwrap()
            .iter()
            .map(|checkpoint| checkpoint.step)
            .collect()
    }

    fn refused(path: &Path, mode: Mode) -> String {
        let error = RunFolder::open(path, mode, None).unwrap_err().to_string();
        assert!(error.contains("\nhint: "), "{error}");
        error
    }

    #[test]
    fn a_run_saves_and_the_next_one_resumes_from_its_last_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs/demo");
        let folder = RunFolder::open(&path, Mode::Fresh, None).unwrap();
        save(&folder, 9);
        let last = save(&folder, 10);
        drop(folder);
        let folder = RunFolder::open(&path, Mode::Resume, None).unwrap();
        assert_eq!(folder.resume_from(None).unwrap(), last);
        assert_eq!(fs::read_to_string(last.path.join("weights")).unwrap(), "10");
    }

    #[test]
    fn the_limit_removes_the_earliest_but_never_the_newest() {
        let directory = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(directory.path(), Mode::Fresh, Some(2)).unwrap();
        for step in [5, 10, 15] {
            save(&folder, step);
        }
        assert_eq!(steps(&folder), [10, 15]);
        drop(folder);
        let folder = RunFolder::open(directory.path(), Mode::Resume, Some(0)).unwrap();
        save(&folder, 20);
        assert_eq!(steps(&folder), [20]);
    }

    #[test]
    fn a_folder_in_use_is_refused_until_its_owner_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let owner = RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
        let error = refused(directory.path(), Mode::Resume);
        assert!(error.contains("is writing here"), "{error}");
        if cfg!(unix) {
            assert!(
                error.contains(&format!("(process {})", std::process::id())),
                "{error}"
            );
        }
        drop(owner);
        RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
    }

    #[test]
    fn a_lock_file_left_by_a_killed_run_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(LOCK_FILE), "4194304\n").unwrap();
        RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_lock_file_that_is_none_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (lock, precious) = (directory.path().join(LOCK_FILE), directory.path().join("p"));
        fs::write(&precious, "precious\n").unwrap();
        std::os::unix::fs::symlink("p", &lock).unwrap();
        let error = refused(directory.path(), Mode::Overwrite);
        assert!(
            error.contains("run.lock: cannot write: it is a symbolic link"),
            "{error}"
        );
        fs::remove_file(&lock).unwrap();
        fs::hard_link(&precious, &lock).unwrap();
        let error = refused(directory.path(), Mode::Overwrite);
        assert!(error.contains("several names"), "{error}");
        fs::remove_file(&lock).unwrap();
        fs::write(&lock, "precious\n").unwrap();
        let error = refused(directory.path(), Mode::Overwrite);
        assert!(error.contains("something else than the number"), "{error}");
        for path in [precious, lock] {
            assert_eq!(fs::read_to_string(path).unwrap(), "precious\n");
        }
    }

    #[test]
    fn answers_gathered_ahead_of_a_run_do_not_block() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(EXTERNAL_CACHE_FILE), "{}\n").unwrap();
        RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
    }

    #[test]
    fn a_new_run_does_not_mix_with_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("thesis.txt"), "years of work").unwrap();
        let error = refused(directory.path(), Mode::Fresh);
        assert!(
            error.contains("expected an empty folder, found `thesis.txt`"),
            "{error}"
        );
        assert!(error.contains("--overwrite_output_dir true"), "{error}");
    }

    #[test]
    fn overwriting_removes_the_earlier_run_when_it_begins_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        save(
            &RunFolder::open(directory.path(), Mode::Fresh, None).unwrap(),
            10,
        );
        for name in ["metrics.jsonl", "thesis.txt"] {
            fs::write(directory.path().join(name), "text").unwrap();
        }
        let folder = RunFolder::open(directory.path(), Mode::Overwrite, None).unwrap();
        assert_eq!(
            steps(&folder),
            [10],
            "a run that fails before step 1 must lose nothing"
        );
        folder
            .begin(&["metrics.jsonl", "completions.jsonl"])
            .unwrap();
        assert_eq!(steps(&folder), [0; 0]);
        assert!(
            !directory.path().join("metrics.jsonl").exists()
                && directory.path().join("thesis.txt").exists()
        );
    }

    #[test]
    fn resuming_needs_a_whole_checkpoint() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("checkpoint-10.partial")).unwrap();
        let folder = RunFolder::open(directory.path(), Mode::Resume, None).unwrap();
        let error = folder.resume_from(None).unwrap_err().to_string();
        assert!(
            error.contains("expected a whole checkpoint") && error.contains("\nhint: "),
            "{error}"
        );
        let absent = directory.path().join("checkpoint-30");
        let error = folder.resume_from(Some(&absent)).unwrap_err().to_string();
        assert!(
            error.contains("checkpoint-30: expected a whole checkpoint"),
            "{error}"
        );
    }

    #[test]
    fn resuming_from_an_earlier_checkpoint_does_not_leave_later_ones_of_another_course() {
        let directory = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
        let (early, late) = (save(&folder, 10), save(&folder, 20));
        let error = folder
            .resume_from(Some(&early.path))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("checkpoint-20: step 20 is later than step 10"),
            "{error}"
        );
        assert_eq!(folder.resume_from(Some(&late.path)).unwrap(), late);
    }

    #[test]
    fn an_output_dir_that_cannot_be_made_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a-file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("run")] {
            let error = refused(&path, Mode::Fresh);
            assert!(
                error.starts_with(&format!("{}: cannot create the folder: ", path.display())),
                "{error}"
            );
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_read_only_output_dir_is_named() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o555)).unwrap();
        if File::create(directory.path().join("allowed")).is_ok() {
            return; // root may write anywhere
        }
        let error = refused(directory.path(), Mode::Fresh);
        assert!(
            error.contains("run.lock: cannot write: Permission denied"),
            "{error}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_disk_without_room_for_the_run_is_refused_before_step_one() {
        let directory = tempfile::tempdir().unwrap();
        let folder = RunFolder::open(directory.path(), Mode::Fresh, None).unwrap();
        folder.check_space(1).unwrap();
        let error = folder
            .check_space(5_000_000_000_000_000)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("expected 5000000.0 GB of free space"),
            "{error}"
        );
        assert!(
            error.contains(", found ") && error.contains("\nhint: free some"),
            "{error}"
        );
    }
}
