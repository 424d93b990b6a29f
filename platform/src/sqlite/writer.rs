//! The one thread that writes a file, with group commit.

use super::checkpoint::{Checkpoint, Turn};
use super::rush::Rush;
use super::{Failure, join, lock, transact};
use rusqlite::Connection;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

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

/// After about so many pages written the log is folded into the file.
const FOLD_AFTER: usize = 1_000;

/// So many commands are looked at together, to tell how fast they come.
const STRETCH: usize = 64;
/// They come in a rush when a stretch of them takes no longer: 5,000 per second.
const RUSH: Duration = Duration::from_micros(STRETCH as u64 * 200);

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
        let checkpoint = Checkpoint::start(Path::new(db.path().unwrap_or_default()), Turn::Any)?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn({
                let progress = progress.clone();
                move || write(&db, batch, waiting, &progress, &checkpoint)
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
    checkpoint: &Checkpoint,
) {
    let mut commands = Vec::with_capacity(B::MOST);
    let mut unfolded = 0;
    let mut rush = Rush::new(STRETCH, RUSH, Instant::now());
    while let Some(first) = waiting.blocking_recv() {
        // Whoever else is about to ask and only lacks a processor asks now, and shares the commit. Not where few ask:
        // who yields to another program's work may wait for its whole slice of 3 ms, beside an idle processor.
        if rush.is_on() {
            std::thread::yield_now();
        }
        let mut weight = B::weight(&first);
        commands.push(first);
        while weight < B::MOST
            && let Ok(next) = waiting.try_recv()
        {
            weight += B::weight(&next);
            commands.push(next);
        }
        rush.note(commands.len(), Instant::now);
        match transact(db, |db| batch.apply(db, &mut commands)) {
            Ok(()) => {
                progress.commits.fetch_add(1, Ordering::Relaxed);
                if progress.failing.swap(false, Ordering::Relaxed) {
                    *lock(&progress.failure) = None;
                    tracing::info!("embedded storage writes again");
                }
                batch.committed(&mut commands);
                // In pages, about: records and messages of a kilobyte, and what each commit writes again.
                unfolded += 4 + weight / 2;
                if unfolded >= FOLD_AFTER && checkpoint.fold(db) {
                    unfolded = 0;
                }
            }
            Err(error) => {
                let failure = Failure::from(error);
                // Once, not for each of the thousands that follow.
                if !progress.failing.swap(true, Ordering::Relaxed) {
                    tracing::error!(reason = %failure, "embedded storage cannot write");
                }
                *lock(&progress.failure) = Some(failure.clone());
                batch.failed(&mut commands, &failure);
            }
        }
        commands.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Reader, Sync, open};
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
