//! Folding the write-ahead log back into the file, beside the writer.
//!
//! SQLite's own way is that a commit now and then does it all, and waits for the disk meanwhile:
//! tens of milliseconds in which nothing is acknowledged. Done by another thread it holds nobody up.
//! Only the very end of the log must be folded while nothing is written, for SQLite to begin the log
//! anew; under load the writer does that now and then, and finds little left to do.

use super::{Failure, join};
use rusqlite::Connection;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The thread. Dropping it waits for the folding under way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    asked: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoint {
    /// Opens a second connection to a file, and starts its thread.
    pub(super) fn start(writer: &Connection) -> Result<Self, Failure> {
        let path = writer.path().unwrap_or_default().to_owned();
        let db = Connection::open(&path).map_err(|error| Failure(format!("{path}: {error}")))?;
        let (asked, asking) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || {
                while asking.recv().is_ok() {
                    fold(&db);
                }
            })
            .map_err(|error| Failure(format!("no thread: {error}")))?;
        Ok(Self {
            asked: Some(asked),
            thread: Some(thread),
        })
    }

    /// Asks for it to be done; whether it was not asked for already.
    pub(super) fn fold(&self) -> bool {
        self.asked
            .as_ref()
            .is_some_and(|asked| asked.try_send(()).is_ok())
    }
}

/// An error here, such as a full disk, loses nothing: the log only stays longer, and the writer meets
/// the same error.
fn fold(db: &Connection) {
    let folded = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = folded {
        tracing::debug!(reason = %error, "write-ahead log not folded");
    }
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.asked = None;
        join(self.thread.take());
    }
}
