//! SQLite's write-ahead log of catalog and history, folded back into the file by a thread that goes last.
//!
//! What history writes lies all over its indexes by id, so folding takes tens of milliseconds of a processor. Nobody
//! waits for it, and it must not keep a delivery waiting for the rest of its turn: so it runs when nothing else would.
//! Under full load that is hardly ever, and a long log makes all reads slower. Then the thread is not asked, and a commit
//! that finds the log long folds it itself.

use crate::catalog::CatalogError;
use crate::sqlite::{Checkpoint, Rush, Turn, lock};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// After about so many pages written: 8 MB.
const FOLD_AFTER: usize = 2_000;
/// Where they were written in less time the load is full: four times what 2,000 deliveries a second write.
const RUSH: Duration = Duration::from_millis(125);

/// See the module.
#[derive(Debug)]
pub(super) struct Folds {
    thread: Mutex<Option<Checkpoint>>,
    /// Pages, about.
    written: Mutex<Rush>,
}

impl Folds {
    /// Starts the thread for a file that is there.
    pub(super) fn start(file: &Path) -> Result<Arc<Self>, CatalogError> {
        let thread = Checkpoint::start(file, Turn::Idle)
            .map_err(|failure| CatalogError::Unavailable(failure.to_string()))?;
        Ok(Arc::new(Self {
            thread: Mutex::new(Some(thread)),
            written: Mutex::new(Rush::new(FOLD_AFTER, RUSH, Instant::now())),
        }))
    }

    /// A transaction was committed that wrote so many pages, about.
    pub(super) fn wrote(&self, pages: usize) {
        let mut written = lock(&self.written);
        if written.note(pages, Instant::now)
            && !written.is_on()
            && let Some(thread) = &*lock(&self.thread)
        {
            thread.ask();
        }
    }

    /// Ends the thread, once it is through with what it does.
    pub(super) async fn end(&self) {
        let thread = lock(&self.thread).take();
        // A panic there is told by the thread's own end.
        let _ = tokio::task::spawn_blocking(move || drop(thread)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sqlite::{Sync, open};

    /// How many pages the log has after 20 MB were written in this time, and another page after them.
    async fn pages_of_log(took: Duration) -> i64 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("blobs.db");
        let db = open(&path, Sync::Normal).unwrap();
        db.execute_batch("CREATE TABLE blobs(bytes BLOB)").unwrap();
        let folds = Folds::start(&path).unwrap();
        db.execute("INSERT INTO blobs VALUES (zeroblob(20 << 20))", [])
            .unwrap();
        let since = Instant::now().checked_sub(took).unwrap();
        *lock(&folds.written) = Rush::new(FOLD_AFTER, RUSH, since);
        folds.wrote(FOLD_AFTER);
        folds.end().await;
        db.execute("INSERT INTO blobs VALUES (zeroblob(1))", []).unwrap();
        db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| row.get(1))
            .unwrap()
    }

    #[tokio::test]
    async fn the_log_is_folded_after_so_many_pages_and_left_to_a_commit_in_a_rush() {
        assert!(pages_of_log(2 * RUSH).await < 10, "the log began anew");
        assert!(pages_of_log(Duration::ZERO).await > 5_000, "nobody was asked");
    }
}
