//! A thread that reads a file beside its writer.

use super::{Failure, join};
use rusqlite::Connection;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

type Job = Box<dyn FnOnce(&Connection) + Send>;

/// A thread that reads a file beside its writer. Dropping it waits for the read under way.
#[derive(Debug)]
pub struct Reader {
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Opens a connection to a file that exists, and starts its thread.
    ///
    /// # Errors
    /// Names the file and says what SQLite says.
    pub fn start(name: &str, path: &Path) -> Result<Self, Failure> {
        let prepare = || {
            let db = Connection::open(path)?;
            db.busy_timeout(Duration::from_secs(5))?;
            db.pragma_update(None, "query_only", true)?;
            db.pragma_update(None, "cache_size", -1_024)?;
            Ok(db)
        };
        let db: Connection =
            prepare().map_err(|error: rusqlite::Error| Failure(format!("{}: {error}", path.display())))?;
        let (jobs, mut waiting) = mpsc::channel::<Job>(256);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                while let Some(job) = waiting.blocking_recv() {
                    job(&db);
                }
            })
            .map_err(|error| Failure(format!("no thread: {error}")))?;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Runs a read on the thread.
    ///
    /// # Errors
    /// SQLite's, or that the thread has ended.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |db| {
            // Nobody waits any more: not worth reading.
            if !answer.is_closed() {
                let _ = answer.send(work(db));
            }
        });
        match &self.jobs {
            Some(jobs) => jobs.send(job).await.map_err(|_| Failure::stopped())?,
            None => return Err(Failure::stopped()),
        }
        Ok(answered.await.map_err(|_| Failure::stopped())??)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.jobs = None;
        join(self.thread.take());
    }
}
