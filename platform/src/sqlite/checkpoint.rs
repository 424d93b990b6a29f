//! Folding the write-ahead log back into the file, beside the writer.
//!
//! SQLite's own way is that a commit now and then does it all, and waits for the disk meanwhile:
//! tens of milliseconds in which nothing is acknowledged. Done by another thread it holds nobody up.
//! Only the very end of the log must be folded while nothing is written, for SQLite to begin the log
//! anew. Where there is no such moment the log grows; when it has grown long, the writer folds the
//! rest itself, and finds little left to do.

use super::{Failure, join, lock};
use rusqlite::Connection;
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// The log is long when it has so many pages: 32 MB.
const LONG: i64 = 8_000;

/// The thread. Dropping it waits for the folding under way.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    asked: Option<SyncSender<()>>,
    state: Arc<Mutex<State>>,
    thread: Option<JoinHandle<()>>,
}

/// When the thread gets a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// As any other thread.
    Any,
    /// When no other wants it: for a file that others do not wait for. Under full load it comes late, and the log grows.
    Idle,
}

/// Who folds next. The thread and the writer never do it at once: one would find the file locked.
#[derive(Clone, Copy, Debug)]
enum State {
    /// The thread, when it is asked.
    Resting,
    /// The thread, just now.
    Folding,
    /// The writer: the thread has been through, and the log is still long.
    Long,
}

impl Checkpoint {
    /// Opens a connection of its own to a file, and starts its thread.
    pub(crate) fn start(path: &Path, turn: Turn) -> Result<Self, Failure> {
        let db = Connection::open(path).map_err(|error| Failure(format!("{}: {error}", path.display())))?;
        let (asked, asking) = sync_channel(1);
        let state = Arc::new(Mutex::new(State::Resting));
        let thread = std::thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn({
                let state = state.clone();
                move || {
                    if turn == Turn::Idle {
                        last();
                    }
                    while asking.recv().is_ok() {
                        let left = fold(&db);
                        *lock(&state) = if left > LONG { State::Long } else { State::Resting };
                    }
                }
            })
            .map_err(|error| Failure(format!("no thread: {error}")))?;
        Ok(Self {
            asked: Some(asked),
            state,
            thread: Some(thread),
        })
    }

    /// To be called by the writer, between two transactions, when it has written so much that it is
    /// worth it. Whether it was begun or done: not while it is still under way.
    pub(super) fn fold(&self, writer: &Connection) -> bool {
        let mut state = lock(&self.state);
        if matches!(*state, State::Long) {
            *state = State::Resting;
            fold(writer);
            return true;
        }
        self.ask_in(&mut state)
    }

    /// Asks the thread, also where the log is long; whether it has begun.
    pub(crate) fn ask(&self) -> bool {
        self.ask_in(&mut lock(&self.state))
    }

    fn ask_in(&self, state: &mut State) -> bool {
        if matches!(*state, State::Folding) {
            return false;
        }
        *state = State::Folding;
        self.asked
            .as_ref()
            .is_some_and(|asked| asked.try_send(()).is_ok())
    }
}

/// Lets every other thread of the machine go first, also one that wakes while this one runs. As good without where the
/// system has no such thing.
fn last() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{
            NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        if let Err(error) = set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy) {
            tracing::debug!(reason = ?error, "a thread that was to go last takes its turn like others");
        }
    }
}

/// Folds what can be folded without waiting for anybody; how many pages the log has. An error here,
/// such as a full disk, loses nothing: the log stays longer, and the writer meets the same error.
fn fold(db: &Connection) -> i64 {
    let folded = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1));
    folded.unwrap_or_else(|error| {
        tracing::debug!(reason = %error, "write-ahead log not folded");
        0
    })
}

impl Drop for Checkpoint {
    fn drop(&mut self) {
        self.asked = None;
        join(self.thread.take());
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Sync, open};
    use super::*;

    #[test]
    fn a_log_the_thread_could_not_finish_is_finished_by_the_writer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blobs.db");
        let db = open(&path, Sync::Normal).unwrap();
        db.execute_batch("CREATE TABLE blobs(bytes BLOB)").unwrap();
        let write = |megabytes: u32| {
            let sql = "INSERT INTO blobs VALUES (zeroblob(1 << 20))";
            for _ in 0..megabytes {
                db.execute(sql, []).unwrap();
            }
        };
        let checkpoint = Checkpoint::start(&path, Turn::Any).unwrap();

        // A reader that began before the writes keeps the thread from folding them.
        let reader = Connection::open(&path).unwrap();
        reader.execute_batch("BEGIN; SELECT * FROM blobs;").unwrap();
        write(40);
        assert!(checkpoint.fold(&db), "the thread was resting");
        while matches!(*lock(&checkpoint.state), State::Folding) {
            std::thread::yield_now();
        }
        assert!(matches!(*lock(&checkpoint.state), State::Long));
        reader.execute_batch("COMMIT").unwrap();

        assert!(checkpoint.fold(&db), "it is the writer's turn");
        assert!(matches!(*lock(&checkpoint.state), State::Resting));
        // The log began anew: it has this one megabyte and not the forty before it.
        write(1);
        let pages = fold(&db);
        assert!(pages < 1_000, "the log still has {pages} pages");
    }
}
