//! SQLite as the embedded adapters use it: one thread that writes, others that read beside it.
//!
//! A file has one [`Writer`]: a thread that takes whatever commands are waiting, applies them in one
//! transaction and answers them all after its commit. The busier it is, the more commands share a
//! commit; when it is idle, a command is committed at once. Nothing here waits for a timer.
//! [`Reader`]s are threads with connections of their own; SQLite's write-ahead log lets them read
//! beside the writer. Another thread beside each writer folds that log back into the file.

mod checkpoint;
mod reader;
mod rush;
mod writer;

pub(crate) use checkpoint::{Checkpoint, Turn};
pub use reader::Reader;
pub(crate) use rush::Rush;
pub use writer::{Batch, Writer};

use rusqlite::Connection;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sync {
    /// The end of the process, however it ends. A power loss may take the last moments with it, and
    /// leaves the files sound.
    #[default]
    Normal,
    /// A power loss as well: each commit waits for the disk.
    Full,
}

/// Why the database could not do what was asked: what SQLite says, or that its thread has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    fn stopped() -> Self {
        Self("the database thread has stopped".to_owned())
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// Opens a file for its writer, creating it where it does not exist.
///
/// # Errors
/// Names the file and says what SQLite says.
pub fn open(path: &Path, sync: Sync) -> Result<Connection, Failure> {
    let prepare = || {
        let db = Connection::open(path)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(
            None,
            "synchronous",
            match sync {
                Sync::Normal => "NORMAL",
                Sync::Full => "FULL",
            },
        )?;
        // `checkpoint` sees to that, and keeps the log far smaller than these 128 MB (in pages).
        db.pragma_update(None, "wal_autocheckpoint", 32_000)?;
        db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "cache_size", -2_048)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    };
    prepare().map_err(|error: rusqlite::Error| Failure(format!("{}: {error}", path.display())))
}

/// Runs `work` in a transaction that is committed if it succeeds and undone if not.
///
/// # Errors
/// Those of `work`, and SQLite's.
pub fn transact<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let run = |sql| db.prepare_cached(sql)?.execute([]);
    run("BEGIN IMMEDIATE")?;
    let done = work(db).and_then(|result| run("COMMIT").map(|_| result));
    // A full disk or an I/O error may have ended the transaction already.
    if done.is_err() && !db.is_autocommit() {
        let _ = run("ROLLBACK");
    }
    done
}

/// Runs several reads as one: they see one state of the file, and SQLite locks it once.
///
/// # Errors
/// Those of `work`, and SQLite's.
pub fn snapshot<T>(
    db: &Connection,
    work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> rusqlite::Result<T> {
    let run = |sql| db.prepare_cached(sql)?.execute([]);
    run("BEGIN")?;
    let result = work(db);
    run("ROLLBACK")?;
    result
}

fn join(thread: Option<JoinHandle<()>>) {
    if let Some(thread) = thread
        && thread.join().is_err()
    {
        tracing::error!("a database thread ended in a panic");
    }
}

/// Locks, also after a panic elsewhere: what these locks guard is whole between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
