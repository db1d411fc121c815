//! Files that the program writes: never through a link, never over what somebody else made, never one that it reads.
//!
//! Knows nothing of what is in them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What to do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It is somebody's: leave it alone.
    Refuse,
    /// It is ours, or its owner said so: write it anew.
    Replace,
}

impl From<bool> for Existing {
    /// Whether its owner said that it may go.
    fn from(overwrite: bool) -> Self {
        if overwrite {
            Self::Replace
        } else {
            Self::Refuse
        }
    }
}

/// Why a file must not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OutputError {
    /// The file is one that is read.
    #[error("{}: {output} names the file of {input}, which would be lost\nhint: name another file", path.display())]
    IsInput {
        /// As it was given.
        path: PathBuf,
        /// The key or flag of the output.
        output: String,
        /// That of the input.
        input: String,
    },
    /// The file is there, and nobody said that it may go.
    #[error("{}: the file of {output} exists\nhint: name another file, or set `overwrite: true` (`--overwrite`) to replace it", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// The key or flag of the output.
        output: String,
    },
}

/// A path with the key or flag that gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As a message shows it: `` `dump_rollouts` ``, `--output`.
    pub what: String,
    /// As it was given.
    pub path: PathBuf,
}

impl Named {
    /// A path with the key or flag that gave it.
    #[must_use]
    pub fn new(what: &str, path: &Path) -> Self {
        Self {
            what: what.to_owned(),
            path: path.to_owned(),
        }
    }

    /// Makes sure that this output is none of `inputs`, whatever way they are spelt.
    ///
    /// # Errors
    /// [`OutputError::IsInput`] names both.
    pub fn is_none_of(&self, inputs: &[Self]) -> Result<(), OutputError> {
        match inputs.iter().find(|input| is_same(&input.path, &self.path)) {
            None => Ok(()),
            Some(input) => Err(OutputError::IsInput {
                path: self.path.clone(),
                output: self.what.clone(),
                input: input.what.clone(),
            }),
        }
    }

    /// Makes sure that nothing is lost when this output is written.
    ///
    /// # Errors
    /// [`OutputError::Exists`] if it is there and `existing` does not let it go.
    pub fn may_be_written(&self, existing: Existing) -> Result<(), OutputError> {
        let is_there = self.path.symlink_metadata().is_ok() && !is_device(&self.path);
        if is_there && existing == Existing::Refuse {
            return Err(OutputError::Exists {
                path: self.path.clone(),
                output: self.what.clone(),
            });
        }
        Ok(())
    }
}

/// An empty file to write.
///
/// # Errors
/// The system refuses; the file exists and `existing` is [`Existing::Refuse`]; it is a link or has several names.
pub fn create(path: &Path, existing: Existing) -> io::Result<File> {
    if is_device(path) {
        return File::options().write(true).open(path);
    }
    match existing {
        Existing::Refuse => File::options().write(true).create_new(true).open(path),
        Existing::Replace => {
            let file = open(path, OpenOptions::new().write(true).create(true))?;
            file.set_len(0)?;
            Ok(file)
        }
    }
}

/// Makes sure that a file can be written later, and leaves everything as it is.
///
/// # Errors
/// As [`create`].
pub fn try_out(path: &Path) -> io::Result<()> {
    let is_new = path.symlink_metadata().is_err();
    drop(open_to_append(path)?);
    if is_new {
        fs::remove_file(path)
    } else {
        Ok(())
    }
}

/// The file to read and write from its beginning, or a new one; nothing is cut.
///
/// # Errors
/// The system refuses, or it is a link or has several names.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true).write(true).create(true))
}

/// The file to write after its end, or a new one.
///
/// # Errors
/// As [`open_or_create`].
pub fn open_to_append(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().append(true).create(true))
}

/// As [`std::fs::write`], by the rules of [`create`].
///
/// # Errors
/// As [`create`], or the disk is full or gone.
pub fn write(path: &Path, content: impl AsRef<[u8]>, existing: Existing) -> io::Result<()> {
    create(path, existing)?.write_all(content.as_ref())
}

/// Writes beside the file and renames, so that whoever looks sees the old content or the new one.
///
/// # Errors
/// As [`create`], or the disk is full or gone.
pub fn write_whole(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = create(&partial, Existing::Replace).and_then(|mut file| {
        file.write_all(content.as_ref())?;
        file.sync_data()
    });
    written.and_then(|()| fs::rename(&partial, path))
}

/// Whether two paths name one file, however they are spelt, through links and by several names; files that do not exist
/// yet are told apart by the names that they will have.
#[must_use]
pub fn is_same(a: &Path, b: &Path) -> bool {
    canonical(a) == canonical(b) || is_same_inode(a, b)
}

/// Whether `path` is `folder` or below it, however they are spelt.
#[must_use]
pub fn is_within(path: &Path, folder: &Path) -> bool {
    canonical(path).starts_with(canonical(folder))
}

/// The one absolute name of a place: links resolved as far as it exists.
#[must_use]
pub fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (absolute.parent(), absolute.file_name()) {
        (Some(parent), Some(name)) => canonical(parent).join(name),
        _ => absolute,
    }
}

/// Standard output and the like, which are links by nature and lose nothing.
fn is_device(path: &Path) -> bool {
    path.starts_with("/dev")
}

/// Opens without following a link, and takes no file that has another name too: emptying it would empty that one.
fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if is_device(path) {
        return options.create(false).open(path);
    }
    // A pipe would make us wait for its other end before it can be looked at.
    let found = path.symlink_metadata();
    if found.is_ok_and(|data| !data.is_file() && !data.is_symlink()) {
        return Err(io::Error::other("it is no plain file, and is not written"));
    }
    let file = no_follow(path, options)?;
    let data = file.metadata()?;
    if data.is_file() && names(&data) > 1 {
        return Err(io::Error::other(
            "it has several names (hard links), and is not written",
        ));
    }
    Ok(file)
}

fn link_error() -> io::Error {
    io::Error::other("it is a symbolic link, which is not followed")
}

#[cfg(unix)]
fn no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let flag = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    options.custom_flags(flag).open(path).map_err(|error| {
        let is_link = path.symlink_metadata().is_ok_and(|data| data.is_symlink());
        if is_link { link_error() } else { error }
    })
}

/// Elsewhere the look and the opening are two steps.
#[cfg(not(unix))]
fn no_follow(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    if path.symlink_metadata().is_ok_and(|data| data.is_symlink()) {
        return Err(link_error());
    }
    options.open(path)
}

#[cfg(unix)]
fn names(data: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::nlink(data)
}

#[cfg(not(unix))]
const fn names(_: &fs::Metadata) -> u64 {
    1
}

#[cfg(unix)]
fn is_same_inode(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.is_file() && (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
const fn is_same_inode(_: &Path, _: &Path) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("precious"), "precious").expect("written");
        fs::create_dir(folder.path().join("sub")).expect("a folder");
        symlink("precious", folder.path().join("link")).expect("a link");
        symlink("nowhere", folder.path().join("dangling")).expect("a link");
        fs::hard_link(folder.path().join("precious"), folder.path().join("second"))
            .expect("a link");
        folder
    }

    #[test]
    fn links_are_never_written_through() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["link", "dangling", "second"] {
            for error in [
                create(&path(name), Existing::Replace),
                create(&path(name), Existing::Refuse),
                open_or_create(&path(name)),
                open_to_append(&path(name)),
            ] {
                let error = error.expect_err(name).to_string();
                let words = ["symbolic link", "several names", "exists"];
                assert!(
                    words.iter().any(|word| error.contains(word)),
                    "{name}: {error}"
                );
            }
        }
        assert!(!path("nowhere").exists());
        let pipe = path("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo").success());
        for name in ["pipe", "sub"] {
            let error = open_or_create(&path(name)).expect_err(name).to_string();
            assert!(error.contains("no plain file"), "{name}: {error}");
        }
        write_whole(&path("link"), "new").expect("the link is replaced");
        assert_eq!(fs::read(path("link")).expect("readable"), b"new");
        assert_eq!(fs::read(path("precious")).expect("readable"), b"precious");
    }

    #[test]
    fn files_of_others_are_replaced_only_where_that_is_said() {
        let folder = folder();
        let path = folder.path().join("sub/a");
        write(&path, "one", Existing::Refuse).expect("a new file");
        write(&path, "two", Existing::Refuse).expect_err("it exists");
        assert_eq!(fs::read(&path).expect("readable"), b"one");
        write(&path, "2", Existing::Replace).expect("replaced");
        assert_eq!(fs::read(&path).expect("readable"), b"2");
        try_out(&path).expect("it can be written");
        try_out(&folder.path().join("sub/b")).expect("it can be written");
        try_out(&folder.path().join("absent/b")).expect_err("no folder");
        assert!(!folder.path().join("sub/b").exists(), "only tried");
        open_to_append(&path)
            .and_then(|mut file| file.write_all(b"3"))
            .expect("appended");
        assert_eq!(fs::read(&path).expect("readable"), b"23");
        write(Path::new("/dev/null"), "gone", Existing::Refuse).expect("a device");
    }

    #[test]
    fn one_file_is_one_file_under_every_spelling() {
        let folder = folder();
        let root = folder.path();
        symlink("sub", root.join("also-sub")).expect("a link");
        let same = [
            ("precious", "./precious"),
            ("precious", "sub/../precious"),
            ("precious", "link"),
            ("precious", "second"),
            ("sub/new", "also-sub/new"),
            ("sub/new/deeper", "also-sub/./new/deeper"),
        ];
        for (a, b) in same {
            assert!(is_same(&root.join(a), &root.join(b)), "{a} and {b}");
        }
        for (a, b) in [("precious", "sub"), ("sub/new", "new"), ("a", "b")] {
            assert!(!is_same(&root.join(a), &root.join(b)), "{a} and {b}");
        }
        assert!(is_within(&root.join("also-sub/x"), &root.join("sub")));
        assert!(!is_within(&root.join("subway"), &root.join("sub")));
        assert!(is_same(
            Path::new("Cargo.toml"),
            Path::new("./src/../Cargo.toml")
        ));
    }

    #[test]
    fn an_output_that_is_an_input_is_named_with_both_keys() {
        let folder = folder();
        let path = |name: &str| folder.path().join(name);
        let inputs = [Named::new("`dataset_name`", &path("precious"))];
        let output = Named::new("--output", &path("sub/../link"));
        let error = output
            .is_none_of(&inputs)
            .expect_err("one file")
            .to_string();
        assert!(
            error.contains(
                "link: --output names the file of `dataset_name`, which would be lost\nhint: "
            ),
            "{error}"
        );
        let other = Named::new("--output", &path("new"));
        assert_eq!(other.is_none_of(&inputs), Ok(()));
        assert_eq!(other.may_be_written(Existing::Refuse), Ok(()));
        let there = Named::new("--output", &path("second"));
        let error = there
            .may_be_written(Existing::Refuse)
            .expect_err("it exists");
        assert!(error.to_string().contains("--overwrite"), "{error}");
        assert_eq!(there.may_be_written(Existing::Replace), Ok(()));
    }
}
