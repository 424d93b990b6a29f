//! The delivery queue in a SQLite file, `queue.db`, of one process.
//!
//! Only sending and deleting reach the disk. Who has received what, and until when, stands in
//! memory: after a crash every message that was not deleted is simply visible again, its delay kept.
//! One thread writes, with group commit; acknowledged means that it survives the end of the process,
//! and with [`sqlite::Sync::Full`] a power loss.
//!
//! | file | holds |
//! |---|---|
//! | `receiving` | what a receive takes, and whom it tells |
//! | `waiting` | what waits, is delayed or in flight, in memory: a pure data structure |
//! | `store` | the writing thread, and messages read back |

mod receiving;
mod store;
mod waiting;

#[cfg(test)]
mod tests;

use super::{
    DeliveryQueue, Depth, InMessage, MAX_DELAY, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use crate::clock::Clock;
use crate::sqlite::{self, Failure, Reader, Writer, lock};
use async_trait::async_trait;
use receiving::{Look, RECEIVE};
use rusqlite::Connection;
use schemas::time::Millis;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Command, New, Store};
use tokio::sync::Notify;
use tokio::time::Instant;
use waiting::{Verdict, Waiting};

/// A delivery queue of one process. See the module.
#[derive(Debug)]
pub struct EmbeddedQueue {
    queues: Arc<Queues>,
    clock: Clock,
    // The reader goes before the writer, whose connection then is the last and tidies the file up.
    reader: Reader,
    writer: Writer<Command>,
}

/// The four queues, by [`number`].
type Queues = [Queue; 4];

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    /// Told when there is something to receive, or to be waited for less long.
    changed: Notify,
    /// Told when it is no longer crowded.
    room: Notify,
}

/// A queue's number in the file: never to be changed.
fn number(queue: QueueName) -> usize {
    match queue {
        QueueName::Dispatch => 0,
        QueueName::Slow => 1,
        QueueName::Retry => 2,
        QueueName::DeadLetter => 3,
    }
}

impl From<Failure> for QueueError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.0)
    }
}

impl EmbeddedQueue {
    /// Opens `queue.db` in a folder that exists, creating it where it is not there.
    ///
    /// The folder must be this process's alone, see [`crate::data_dir::DataDir`].
    ///
    /// # Errors
    /// [`QueueError::Unavailable`] naming the file when it cannot be opened, read or written.
    pub fn open(dir: &Path, sync: sqlite::Sync, clock: Clock) -> Result<Self, QueueError> {
        let path = dir.join("queue.db");
        Self::with(sqlite::open(&path, sync)?, &path, clock)
    }

    fn with(db: Connection, path: &Path, clock: Clock) -> Result<Self, QueueError> {
        let explain =
            |error: rusqlite::Error| QueueError::Unavailable(format!("{}: {error}", path.display()));
        let (queues, next) = store::load(&db, clock.now()).map_err(explain)?;
        let queues = Arc::new(queues);
        let reader = Reader::start("queue-reader", path)?;
        let writer = Writer::start("queue-writer", db, Store::new(queues.clone(), next))?;
        Ok(Self {
            queues,
            clock,
            reader,
            writer,
        })
    }

    /// Looks at the clock again: to be called after moving a driven one.
    pub fn poke(&self) {
        for queue in self.queues.iter() {
            queue.changed.notify_waiters();
        }
    }

    /// How many commits the queue has made: far fewer than calls when many wait at once.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.writer.commits()
    }

    /// How many waiting messages stand in memory with body and attribute; the others only on disk.
    #[must_use]
    pub fn resident(&self) -> usize {
        self.queues
            .iter()
            .map(|queue| lock(&queue.waiting).resident())
            .sum()
    }

    fn queue(&self, queue: QueueName) -> &Queue {
        &self.queues[number(queue)]
    }
}

/// The number and count of a receipt of this queue.
fn claim(receipt: &Receipt) -> Result<(i64, u32), QueueError> {
    match receipt {
        Receipt::Claim(seq, count) => Ok((*seq, *count)),
        Receipt::Handle(_) => Err(QueueError::Refused(
            "the receipt is of another kind of queue".to_owned(),
        )),
    }
}

fn check(message: &OutMessage) -> Result<(), QueueError> {
    if message.body.is_empty() {
        return Err(QueueError::Refused(
            "the body has 0 bytes; at least 1 is needed".to_owned(),
        ));
    }
    if message.delay > MAX_DELAY {
        return Err(QueueError::Refused(format!(
            "the delay is {:?}; at most {MAX_DELAY:?} is possible",
            message.delay
        )));
    }
    Ok(())
}

#[async_trait]
impl DeliveryQueue for EmbeddedQueue {
    async fn send(&self, queue: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        let now = self.clock.now();
        let mut results: Vec<_> = batch.iter().map(check).collect();
        let messages: Vec<New> = batch
            .iter()
            .zip(&results)
            .filter(|(_, result)| result.is_ok())
            .map(|(message, _)| New::from(message, now))
            .collect();
        if messages.is_empty() {
            return results;
        }
        let sent = self
            .writer
            .ask(|answer| Command::Send {
                queue: number(queue),
                messages,
                answer,
            })
            .await;
        if let Err(failure) = sent {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(failure.clone().into());
            }
        }
        results
    }

    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        let queue = self.queue(queue);
        let until = Instant::now() + wait;
        loop {
            let changed = queue.changed.notified();
            tokio::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let left = until.saturating_duration_since(Instant::now());
            let pause = match self.look(queue, max.min(RECEIVE), visibility, left) {
                Look::Taken(taken) => return self.messages(queue, taken).await,
                Look::Nothing(_) if left.is_zero() => return Ok(Vec::new()),
                Look::Nothing(pause) => pause,
            };
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    async fn delete(&self, queue: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        let mut seqs = Vec::with_capacity(receipts.len());
        let mut results: Vec<_> = {
            let now = self.clock.now();
            let mut waiting = lock(&self.queue(queue).waiting);
            waiting.due(now);
            receipts
                .iter()
                .map(|receipt| {
                    let (seq, count) = claim(receipt)?;
                    match waiting.may_delete(seq, count) {
                        Verdict::Yes => {
                            seqs.push(seq);
                            Ok(())
                        }
                        Verdict::No => Err(QueueError::Expired),
                    }
                })
                .collect()
        };
        if seqs.is_empty() {
            return results;
        }
        let deleted = self
            .writer
            .ask(|answer| Command::Delete {
                queue: number(queue),
                seqs,
                answer,
            })
            .await;
        if let Err(failure) = deleted {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(failure.clone().into());
            }
        }
        results
    }

    async fn extend(&self, queue: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
        let queue = self.queue(queue);
        let now = self.clock.now();
        let (mut ready, mut sooner) = (false, false);
        let results = {
            let mut waiting = lock(&queue.waiting);
            waiting.due(now);
            entries
                .iter()
                .map(|(receipt, visibility)| {
                    let (seq, count) = claim(receipt)?;
                    let deadline = now.plus(*visibility);
                    match waiting.extend(seq, count, deadline) {
                        Verdict::Yes => {
                            ready |= visibility.is_zero();
                            sooner |= waiting.must_tell(deadline);
                            Ok(())
                        }
                        Verdict::No => Err(QueueError::Expired),
                    }
                })
                .collect()
        };
        if sooner {
            queue.changed.notify_waiters();
        }
        if ready {
            queue.changed.notify_one();
        }
        results
    }

    fn is_crowded(&self, queue: QueueName) -> bool {
        lock(&self.queue(queue).waiting).is_crowded()
    }

    async fn room(&self, name: QueueName) {
        loop {
            let room = self.queue(name).room.notified();
            tokio::pin!(room);
            // From here on no change is missed.
            room.as_mut().enable();
            if !self.is_crowded(name) {
                return;
            }
            room.await;
        }
    }

    async fn depth(&self, queue: QueueName) -> Result<Depth, QueueError> {
        let mut waiting = lock(&self.queue(queue).waiting);
        waiting.due(self.clock.now());
        Ok(waiting.depth())
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            batch_entries: 256,
            batch_bytes: 8 << 20,
            linger: Duration::ZERO,
            concurrency: 4,
            receive_entries: RECEIVE,
            receive_wait: Duration::from_secs(20),
            // Claims live in this process's memory.
            drop_receive: true,
        }
    }

    /// The queues are there as soon as the file is open.
    async fn provision(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), QueueError> {
        Ok(self.writer.check()?)
    }
}

impl New {
    fn from(message: &OutMessage, now: Millis) -> Self {
        Self {
            visible_at: if message.delay.is_zero() {
                Millis(0)
            } else {
                now.plus(message.delay)
            },
            message: Box::new(store::Message {
                body: message.body.clone(),
                attribute: message.attribute.clone(),
            }),
        }
    }
}
