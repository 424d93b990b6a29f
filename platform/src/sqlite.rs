//! SQLite as the embedded adapters use it: one thread that writes, others that read beside it.
//!
//! A file has one [`Writer`]: a thread that takes whatever commands are waiting, applies them in one
//! transaction and answers them all after its commit. The busier it is, the more commands share a
//! commit; when it is idle, a command is committed at once. Nothing here waits for a timer.
//! [`Reader`]s are threads with connections of their own; SQLite's write-ahead log lets them read
//! beside the writer.

use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

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
        // In pages: the log is folded into the file every 16 MB, and does not stay larger than that
        // for long after a burst.
        db.pragma_update(None, "wal_autocheckpoint", 4_000)?;
        db.pragma_update(None, "journal_size_limit", 64 << 20)?;
        db.pragma_update(None, "temp_store", "MEMORY")?;
        db.pragma_update(None, "cache_size", -4_096)?;
        db.set_prepared_statement_cache_capacity(64);
        Ok(db)
    };
    prepare().map_err(|error: rusqlite::Error| Failure(format!("{}: {error}", path.display())))
}

/// What a [`Writer`] applies.
pub trait Batch: Send + 'static {
    /// One thing to do, with the means to answer it.
    type Command: Send + 'static;

    /// How much weight one transaction takes, by [`Batch::weight`].
    const MOST: usize;

    /// How much of [`Batch::MOST`] a command takes.
    fn weight(command: &Self::Command) -> usize;

    /// Carries the commands out, within a transaction. Must not answer them yet, nor show anything
    /// to others.
    ///
    /// # Errors
    /// Any error undoes the whole transaction.
    fn apply(&mut self, db: &Connection, commands: &mut [Self::Command]) -> rusqlite::Result<()>;

    /// The commands are durable: show what they did and answer them.
    fn committed(&mut self, commands: &mut Vec<Self::Command>);

    /// Nothing of these commands was done: forget them and answer them.
    fn failed(&mut self, commands: &mut Vec<Self::Command>, failure: &Failure);
}

/// What a writer tells of itself.
#[derive(Debug, Default)]
struct Progress {
    commits: AtomicU64,
    failing: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// The one thread that writes a file. Dropping it carries out what was sent, and waits for that.
#[derive(Debug)]
pub struct Writer<C> {
    commands: Option<mpsc::Sender<C>>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
}

impl<C: Send + 'static> Writer<C> {
    /// Starts the thread; `name` is the thread's, at most 15 characters of it are seen.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start<B: Batch<Command = C>>(name: &str, db: Connection, batch: B) -> Result<Self, Failure> {
        let (commands, waiting) = mpsc::channel(2 * B::MOST);
        let progress = Arc::new(Progress::default());
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn({
                let progress = progress.clone();
                move || write(&db, batch, waiting, &progress)
            })
            .map_err(|error| Failure(format!("no thread: {error}")))?;
        Ok(Self {
            commands: Some(commands),
            progress,
            thread: Some(thread),
        })
    }

    /// Hands a command over, waiting while too many are waiting. Its answer comes from its
    /// [`Batch`]; when the answer's sender is dropped unused, the thread has died.
    ///
    /// # Errors
    /// When the thread has ended.
    pub async fn send(&self, command: C) -> Result<(), Failure> {
        match &self.commands {
            Some(commands) => commands.send(command).await.map_err(|_| Failure::stopped()),
            None => Err(Failure::stopped()),
        }
    }

    /// Hands a command over and waits for its answer.
    ///
    /// # Errors
    /// The answer's, or that the thread has ended.
    pub async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Failure>>) -> C,
    ) -> Result<T, Failure> {
        let (answer, answered) = oneshot::channel();
        self.send(command(answer)).await?;
        answered.await.unwrap_or_else(|_| Err(Failure::stopped()))
    }

    /// Makes sure that a commit follows: sends `command` unless so many are waiting that one will
    /// follow anyway.
    pub fn nudge(&self, command: C) {
        if let Some(commands) = &self.commands {
            // Full: a commit is coming. Closed: nothing to be done, and the next send says so.
            let _ = commands.try_send(command);
        }
    }

    /// How many transactions have been committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.progress.commits.load(Ordering::Relaxed)
    }

    /// Whether writing works, as far as was last seen.
    ///
    /// # Errors
    /// What the last transaction failed with, or that the thread has ended.
    pub fn check(&self) -> Result<(), Failure> {
        if self.commands.as_ref().is_none_or(mpsc::Sender::is_closed) {
            return Err(Failure::stopped());
        }
        match lock(&self.progress.failure).clone() {
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }
}

impl<C> Drop for Writer<C> {
    fn drop(&mut self) {
        self.commands = None;
        join(self.thread.take());
    }
}

fn write<B: Batch>(
    db: &Connection,
    mut batch: B,
    mut waiting: mpsc::Receiver<B::Command>,
    progress: &Progress,
) {
    let mut commands = Vec::with_capacity(B::MOST);
    while let Some(first) = waiting.blocking_recv() {
        let mut weight = B::weight(&first);
        commands.push(first);
        while weight < B::MOST
            && let Ok(next) = waiting.try_recv()
        {
            weight += B::weight(&next);
            commands.push(next);
        }
        match transact(db, |db| batch.apply(db, &mut commands)) {
            Ok(()) => {
                progress.commits.fetch_add(1, Ordering::Relaxed);
                if progress.failing.swap(false, Ordering::Relaxed) {
                    *lock(&progress.failure) = None;
                }
                batch.committed(&mut commands);
            }
            Err(error) => {
                let failure = Failure::from(error);
                tracing::error!(reason = %failure, "embedded storage cannot write");
                progress.failing.store(true, Ordering::Relaxed);
                *lock(&progress.failure) = Some(failure.clone());
                batch.failed(&mut commands, &failure);
            }
        }
        commands.clear();
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Inserts numbers; one that is there already fails the batch, 0 panics.
    struct Numbers;

    type Insert = (i64, oneshot::Sender<Result<(), Failure>>);

    impl Batch for Numbers {
        type Command = Insert;
        const MOST: usize = 10;

        fn weight(_: &Insert) -> usize {
            1
        }

        fn apply(&mut self, db: &Connection, commands: &mut [Insert]) -> rusqlite::Result<()> {
            for (number, _) in commands {
                assert_ne!(*number, 0, "asked to panic");
                db.execute("INSERT INTO numbers VALUES (?1)", [*number])?;
            }
            Ok(())
        }

        fn committed(&mut self, commands: &mut Vec<Insert>) {
            for (_, answer) in commands.drain(..) {
                let _ = answer.send(Ok(()));
            }
        }

        fn failed(&mut self, commands: &mut Vec<Insert>, failure: &Failure) {
            for (_, answer) in commands.drain(..) {
                let _ = answer.send(Err(failure.clone()));
            }
        }
    }

    fn numbers(dir: &tempfile::TempDir) -> (Writer<Insert>, Reader) {
        let path = dir.path().join("numbers.db");
        let db = open(&path, Sync::Full).unwrap();
        db.execute_batch("CREATE TABLE numbers(number INTEGER PRIMARY KEY)")
            .unwrap();
        (
            Writer::start("numbers", db, Numbers).unwrap(),
            Reader::start("reader", &path).unwrap(),
        )
    }

    fn count(db: &Connection) -> rusqlite::Result<i64> {
        db.query_row("SELECT count(*) FROM numbers", [], |row| row.get(0))
    }

    #[tokio::test]
    async fn a_failed_batch_is_undone_and_answered_and_the_next_one_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = numbers(&dir);
        assert_eq!(writer.ask(|answer| (1, answer)).await, Ok(()));
        let failed = writer.ask(|answer| (1, answer)).await.unwrap_err();
        assert!(failed.0.contains("UNIQUE"), "{failed}");
        assert_eq!(writer.check(), Err(failed));
        assert_eq!(writer.ask(|answer| (2, answer)).await, Ok(()));
        assert_eq!(writer.check(), Ok(()));
        assert_eq!(writer.commits(), 2);
        assert_eq!(reader.read(count).await, Ok(2));
    }

    #[tokio::test]
    async fn a_dead_thread_is_an_error_for_everyone() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, _reader) = numbers(&dir);
        assert_eq!(writer.ask(|answer| (0, answer)).await, Err(Failure::stopped()));
        assert_eq!(writer.ask(|answer| (1, answer)).await, Err(Failure::stopped()));
        assert_eq!(writer.check(), Err(Failure::stopped()));
    }

    #[tokio::test]
    async fn dropping_a_writer_carries_out_what_was_sent() {
        let dir = tempfile::tempdir().unwrap();
        let (writer, reader) = numbers(&dir);
        for number in 1..=15 {
            let (answer, _) = oneshot::channel();
            writer.send((number, answer)).await.unwrap();
        }
        drop(writer);
        assert_eq!(reader.read(count).await, Ok(15));
    }
}
