//! The writing thread of the queue, and messages read back.

use super::{Queue, Queues};
use crate::sqlite::{self, Batch, Failure, lock};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, params};
use schemas::time::Millis;
use std::sync::Arc;
use tokio::sync::oneshot;

type Answer = oneshot::Sender<Result<(), Failure>>;

/// A message's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub body: Bytes,
    pub attribute: String,
}

impl Message {
    pub(super) fn size(&self) -> usize {
        self.body.len() + self.attribute.len()
    }
}

/// A message to send.
#[derive(Debug)]
pub(super) struct New {
    /// 0 for at once.
    pub visible_at: Millis,
    pub message: Box<Message>,
}

/// What the thread is asked to do; all of a command or nothing.
#[derive(Debug)]
pub(super) enum Command {
    Send {
        queue: usize,
        messages: Vec<New>,
        answer: Answer,
    },
    Delete {
        queue: usize,
        seqs: Vec<i64>,
        answer: Answer,
    },
}

/// What the file holds, without the messages themselves, and the next message's number.
pub(super) fn load(db: &Connection, now: Millis) -> rusqlite::Result<(Queues, i64)> {
    // The small columns come first: reading them does not touch the pages a long body runs over to.
    db.execute_batch(
        "CREATE TABLE IF NOT EXISTS messages(
             seq INTEGER PRIMARY KEY, queue INTEGER NOT NULL, visible_at INTEGER NOT NULL,
             attribute TEXT NOT NULL, body BLOB NOT NULL) STRICT",
    )?;
    let mut queues: Queues = std::array::from_fn(|_| Queue::default());
    let mut last = 0;
    let mut statement = db.prepare("SELECT seq, queue, visible_at FROM messages ORDER BY seq")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        last = row.get(0)?;
        let visible_at = Some(Millis(row.get(2)?))
            .filter(|at| *at > now)
            .unwrap_or_default();
        let queue: u8 = row.get(1)?;
        if let Some(queue) = queues.get_mut(usize::from(queue)) {
            let waiting = queue
                .waiting
                .get_mut()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            waiting.add(last, visible_at, None);
        }
    }
    Ok((queues, last + 1))
}

/// Reads messages; `None` for one that is not there.
pub(super) fn read(db: &Connection, seqs: &[i64]) -> rusqlite::Result<Vec<Option<Message>>> {
    sqlite::snapshot(db, |db| {
        let mut select = db.prepare_cached("SELECT attribute, body FROM messages WHERE seq = ?1")?;
        seqs.iter()
            .map(|seq| {
                select
                    .query_row([seq], |row| {
                        Ok(Message {
                            attribute: row.get(0)?,
                            body: Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?),
                        })
                    })
                    .optional()
            })
            .collect()
    })
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Store {
    queues: Arc<Queues>,
    /// The number of the next message; numbers of messages undone are not used again.
    next: i64,
    /// The number of this transaction's first message.
    first: i64,
}

impl Store {
    pub(super) fn new(queues: Arc<Queues>, next: i64) -> Self {
        Self {
            queues,
            next,
            first: next,
        }
    }
}

impl Batch for Store {
    type Command = Command;

    /// Messages; 16 KiB of them count as one more.
    const MOST: usize = 1_024;

    fn weight(command: &Command) -> usize {
        match command {
            Command::Send { messages, .. } => messages.iter().map(|new| 1 + (new.message.size() >> 14)).sum(),
            Command::Delete { seqs, .. } => seqs.len(),
        }
    }

    fn apply(&mut self, db: &Connection, commands: &mut [Command]) -> rusqlite::Result<()> {
        self.first = self.next;
        let mut insert = db.prepare_cached(
            "INSERT INTO messages(seq, queue, visible_at, attribute, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let mut delete = db.prepare_cached("DELETE FROM messages WHERE seq = ?1")?;
        for command in commands {
            match command {
                Command::Send { queue, messages, .. } => {
                    let number = i64::try_from(*queue).unwrap_or(i64::MAX);
                    for New { visible_at, message } in messages {
                        insert.execute(params![
                            self.next,
                            number,
                            visible_at.0,
                            message.attribute,
                            &*message.body
                        ])?;
                        self.next += 1;
                    }
                }
                Command::Delete { seqs, .. } => {
                    for seq in seqs {
                        delete.execute([*seq])?;
                    }
                }
            }
        }
        Ok(())
    }

    fn committed(&mut self, commands: &mut Vec<Command>) {
        let mut seq = self.first;
        let (mut ready, mut sooner) = ([false; 4], [false; 4]);
        // First what was done becomes visible, then all are answered: a sender that looks at once
        // finds its message.
        for command in &mut *commands {
            match command {
                Command::Send { queue, messages, .. } => {
                    let mut waiting = lock(&self.queues[*queue].waiting);
                    for New { visible_at, message } in messages.drain(..) {
                        match visible_at {
                            Millis(0) => ready[*queue] = true,
                            at => sooner[*queue] |= waiting.must_tell(at),
                        }
                        waiting.add(seq, visible_at, Some(message));
                        seq += 1;
                    }
                }
                Command::Delete { queue, seqs, .. } => {
                    let mut waiting = lock(&self.queues[*queue].waiting);
                    for seq in seqs {
                        waiting.deleted(*seq);
                    }
                    // One that had become visible again is one less to be received.
                    if !waiting.is_crowded() {
                        self.queues[*queue].room.notify_waiters();
                    }
                }
            }
        }
        for ((queue, ready), sooner) in self.queues.iter().zip(ready).zip(sooner) {
            if sooner {
                queue.changed.notify_waiters();
            }
            if ready {
                queue.changed.notify_one();
            }
        }
        for command in commands.drain(..) {
            answer(command, Ok(()));
        }
    }

    fn failed(&mut self, commands: &mut Vec<Command>, failure: &Failure) {
        for command in commands.drain(..) {
            answer(command, Err(failure.clone()));
        }
    }
}

fn answer(command: Command, result: Result<(), Failure>) {
    let (Command::Send { answer, .. } | Command::Delete { answer, .. }) = command;
    // Who asked may have gone away: then nobody misses the answer.
    let _ = answer.send(result);
}
