//! The folder the embedded adapters live in, held by one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Why a data folder cannot be used. Each message names the folder and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process holds it.
    #[error("{} is in use by another hookwright: stop it, or choose another folder", .0.display())]
    InUse(PathBuf),
    /// The path exists and is something else.
    #[error("{} is not a folder: move it away, or choose another", .0.display())]
    NotAFolder(PathBuf),
    /// The folder or a file in it cannot be created or written.
    #[error("{} cannot be written by this user: allow it, or choose another folder", .0.display())]
    NoPermission(PathBuf),
    /// Anything else the system says.
    #[error("{} cannot be used: {reason}", .path.display())]
    Unusable {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
}

impl DataDirError {
    /// Why this cannot be done with this folder.
    #[must_use]
    pub fn explain(path: &Path, error: &std::io::Error) -> Self {
        let path = path.to_owned();
        match error.kind() {
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => Self::NoPermission(path),
            ErrorKind::AlreadyExists | ErrorKind::NotADirectory => Self::NotAFolder(path),
            _ => Self::Unusable {
                path,
                reason: crate::plain::io(error),
            },
        }
    }
}

/// A data folder that is this process's until dropped.
///
/// Whoever composes the embedded adapters opens this first and keeps it beside them: their files
/// have one writer, whose memory is part of the truth, so a second process must not open them.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// The lock ends when this file is closed, also when the process is killed.
    _lock: File,
}

impl DataDir {
    /// Creates the folder where it does not exist, readable by its owner alone, and takes it. Databases
    /// that an earlier version left open to others are closed to them; a folder that was there stays
    /// as it is.
    ///
    /// # Errors
    /// As the variants of [`DataDirError`] say.
    pub fn open(path: &Path) -> Result<Self, DataDirError> {
        create(path).map_err(|error| DataDirError::explain(path, &error))?;
        if !path.is_dir() {
            return Err(DataDirError::NotAFolder(path.to_owned()));
        }
        let explain = |error: std::io::Error| DataDirError::explain(path, &error);
        let mut lock = File::options();
        lock.create(true).truncate(false).write(true);
        let lock = private(&mut lock).open(path.join("lock")).map_err(explain)?;
        match lock.try_lock() {
            Ok(()) => {
                for name in ["log.db", "queue.db", "hookwright.db", "lock"] {
                    for file in ["", "-wal", "-shm"].map(|end| path.join(format!("{name}{end}"))) {
                        close_to_others(&file).map_err(explain)?;
                    }
                }
                Ok(Self {
                    path: path.to_owned(),
                    _lock: lock,
                })
            }
            Err(TryLockError::WouldBlock) => Err(DataDirError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(DataDirError::explain(path, &error)),
        }
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Lets a file that is created be its owner's alone.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Creates an empty file for its owner alone, where there is none. SQLite takes it for a new database
/// and gives its other files the same rights.
///
/// Closing a file ends all locks that the process holds on it, SQLite's too. So one that is there is
/// not opened, and whoever finds it there waits until its maker has closed it.
pub(crate) fn create_file(path: &Path) -> std::io::Result<()> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    match private(File::options().write(true).create_new(true)).open(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Takes from all but its owner what they may do with a file, if it is there.
fn close_to_others(path: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        match path.metadata() {
            Ok(about) if about.permissions().mode() & 0o077 != 0 => {
                return std::fs::set_permissions(path, Permissions::from_mode(0o600));
            }
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}

/// Creates a folder, and those above it, readable by its owner alone; one that exists stays as it is.
///
/// # Errors
/// What the system says; [`DataDirError::explain`] says it in words.
pub fn create(path: &Path) -> std::io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_created_for_its_owner_alone_and_has_one_holder() {
        use std::os::unix::fs::PermissionsExt as _;
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("some/where");
        let held = DataDir::open(&path).unwrap();
        let mode = std::fs::metadata(held.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);

        let second = DataDir::open(&path).unwrap_err();
        assert!(matches!(&second, DataDirError::InUse(at) if *at == path));
        assert!(second.to_string().contains("is in use by another hookwright"));

        drop(held);
        DataDir::open(&path).unwrap();
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let above = tempfile::tempdir().unwrap();
        let path = above.path().join("file");
        std::fs::write(&path, b"x").unwrap();
        for path in [path.clone(), path.join("below")] {
            let error = DataDir::open(&path).unwrap_err();
            assert!(
                matches!(&error, DataDirError::NotAFolder(at) if *at == path),
                "{error}"
            );
        }
    }
}
