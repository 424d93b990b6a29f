//! The writing thread of the log: appends, offsets, expiry.

use super::super::{NewRecord, Record};
use super::groups::{Groups, Progress};
use super::topic::Topic;
use super::{Shared, rows};
use crate::clock::Clock;
use crate::sqlite::{self, Batch, Failure, lock};
use rusqlite::{Connection, OptionalExtension as _, params};
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

type Answer<T> = oneshot::Sender<Result<T, Failure>>;

/// What the thread is asked to do. `id` and `first` are its own notes, filled in on the way.
#[derive(Debug)]
pub(super) enum Command {
    /// Create a topic that may exist.
    Create {
        name: Arc<str>,
        id: i64,
        answer: Answer<Arc<Topic>>,
    },
    /// Append records; answered with the first one's offset.
    Append {
        topic: Arc<Topic>,
        records: Vec<NewRecord>,
        first: i64,
        answer: Answer<i64>,
    },
    /// Make stored offsets durable; every command does.
    Offsets,
    /// The same, and say when.
    Flush { answer: Answer<()> },
}

/// Opens what the file holds, creating the tables it lacks.
pub(super) fn load(db: &Connection) -> rusqlite::Result<Shared> {
    sqlite::transact(db, |db| {
        db.execute_batch(
            "CREATE TABLE IF NOT EXISTS topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
             CREATE TABLE IF NOT EXISTS offsets(
                 consumer TEXT NOT NULL, topic INTEGER NOT NULL, next INTEGER NOT NULL,
                 PRIMARY KEY (consumer, topic)) STRICT, WITHOUT ROWID;",
        )?;
        let mut topics = HashMap::new();
        let mut rows = db.prepare("SELECT id, name FROM topics")?;
        for row in rows.query_map([], |row| Ok((row.get(0)?, row.get::<_, String>(1)?)))? {
            let (id, name) = row?;
            let name: Arc<str> = Arc::from(name);
            let last: Option<i64> =
                db.query_row(&format!("SELECT max(offset) FROM t{id}"), [], |row| row.get(0))?;
            let end = last.map_or(0, |last| last + 1);
            topics.insert(name.clone(), Arc::new(Topic::new(id, name, end)));
        }
        let stored = db
            .prepare("SELECT consumer, topic, next FROM offsets")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        Ok(Shared {
            topics: topics.into(),
            groups: Groups::stored(stored),
        })
    })
}

/// The state of the thread.
#[derive(Debug)]
pub(super) struct Store {
    shared: Arc<Shared>,
    clock: Clock,
    retention: Duration,
    now: Millis,
    /// By topic id: the next offset, this transaction's appends included.
    next: HashMap<i64, i64>,
    /// By topic id: offset and time of the oldest record, where known.
    oldest: HashMap<i64, (i64, Millis)>,
    /// This transaction's offsets.
    offsets: Vec<(Arc<Progress>, i64)>,
    /// Topics whose old records a group holds back, already warned of.
    held_back: HashSet<i64>,
}

impl Batch for Store {
    type Command = Command;

    /// Records; 16 KiB of them count as one more.
    const MOST: usize = 512;

    fn weight(command: &Command) -> usize {
        match command {
            Command::Append { records, .. } => {
                records.iter().map(|record| 1 + (rows::size(record) >> 14)).sum()
            }
            Command::Create { .. } | Command::Offsets | Command::Flush { .. } => 1,
        }
    }

    fn apply(&mut self, db: &Connection, commands: &mut [Command]) -> rusqlite::Result<()> {
        self.now = self.clock.now();
        for command in &mut *commands {
            match command {
                Command::Create { name, id, .. } => *id = create(db, name)?,
                Command::Append {
                    topic,
                    records,
                    first,
                    ..
                } => *first = self.append(db, topic, records)?,
                Command::Offsets | Command::Flush { .. } => {}
            }
        }
        self.offsets = self.shared.groups.unsaved();
        for (progress, next) in &self.offsets {
            db.prepare_cached(
                "INSERT INTO offsets(consumer, topic, next) VALUES (?1, ?2, ?3)
                 ON CONFLICT (consumer, topic) DO UPDATE SET next = excluded.next",
            )?
            .execute(params![&*progress.group, progress.topic, next])?;
        }
        self.expire(db, commands)
    }

    fn committed(&mut self, commands: &mut Vec<Command>) {
        for (progress, next) in self.offsets.drain(..) {
            progress.saved(next);
        }
        let mut touched: Vec<Arc<Topic>> = Vec::new();
        for command in &mut *commands {
            if let Command::Append {
                topic,
                records,
                first,
                ..
            } = command
            {
                let at = self.now;
                let shown = (*first..).zip(std::mem::take(records));
                topic.push(shown.map(|(offset, record)| Record {
                    position: Position {
                        topic: topic.name.clone(),
                        partition: 0,
                        offset,
                    },
                    timestamp: at,
                    key: record.key,
                    value: record.value,
                    headers: record.headers.into(),
                }));
                if !touched.iter().any(|other| other.id == topic.id) {
                    touched.push(topic.clone());
                }
            }
        }
        for topic in touched {
            topic.wake();
        }
        // Who asked may have gone away: then nobody misses the answer.
        for command in commands.drain(..) {
            match command {
                Command::Create { name, id, answer } => {
                    let _ = answer.send(Ok(self.show(&name, id)));
                }
                Command::Append { first, answer, .. } => {
                    let _ = answer.send(Ok(first));
                }
                Command::Flush { answer } => {
                    let _ = answer.send(Ok(()));
                }
                Command::Offsets => {}
            }
        }
    }

    fn failed(&mut self, commands: &mut Vec<Command>, failure: &Failure) {
        self.next.clear();
        self.oldest.clear();
        self.offsets.clear();
        for command in commands.drain(..) {
            match command {
                Command::Create { answer, .. } => drop(answer.send(Err(failure.clone()))),
                Command::Append { answer, .. } => drop(answer.send(Err(failure.clone()))),
                Command::Flush { answer } => drop(answer.send(Err(failure.clone()))),
                Command::Offsets => {}
            }
        }
    }
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>, clock: Clock, retention: Duration) -> Self {
        Self {
            shared,
            clock,
            retention,
            now: Millis(0),
            next: HashMap::new(),
            oldest: HashMap::new(),
            offsets: Vec::new(),
            held_back: HashSet::new(),
        }
    }

    fn append(&mut self, db: &Connection, topic: &Topic, records: &[NewRecord]) -> rusqlite::Result<i64> {
        let next = self.next.entry(topic.id).or_insert_with(|| topic.end());
        let first = *next;
        let mut insert = db.prepare_cached(&format!(
            "INSERT INTO t{}(offset, at, key, headers, value) VALUES (?1, ?2, ?3, ?4, ?5)",
            topic.id
        ))?;
        for record in records {
            insert.execute(params![
                *next,
                self.now.0,
                record.key.as_deref(),
                rows::encode(&record.headers),
                &*record.value
            ])?;
            *next += 1;
        }
        Ok(first)
    }

    /// The topic as others see it; created by this transaction, or known already.
    fn show(&self, name: &Arc<str>, id: i64) -> Arc<Topic> {
        lock(&self.shared.topics)
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Topic::new(id, name.clone(), 0)))
            .clone()
    }

    /// Deletes some of the records that are past their time, more than were just appended. Those just
    /// appended never are, so one always stays: the next offset is derived from it at the next start.
    fn expire(&mut self, db: &Connection, commands: &[Command]) -> rusqlite::Result<()> {
        let mut appended: Vec<(&Topic, i64)> = Vec::new();
        for command in commands {
            if let Command::Append { topic, records, .. } = command {
                let count = i64::try_from(records.len()).unwrap_or(i64::MAX);
                match appended.iter_mut().find(|(other, _)| other.id == topic.id) {
                    Some((_, so_far)) => *so_far += count,
                    None => appended.push((topic, count)),
                }
            }
        }
        for (topic, count) in appended {
            self.expire_topic(db, topic, count)?;
        }
        Ok(())
    }

    fn expire_topic(&mut self, db: &Connection, topic: &Topic, appended: i64) -> rusqlite::Result<()> {
        let (offset, at) = match self.oldest.get(&topic.id) {
            Some(oldest) => *oldest,
            None => {
                let sql = format!("SELECT offset, at FROM t{} ORDER BY offset LIMIT 1", topic.id);
                let oldest = db
                    .prepare_cached(&sql)?
                    .query_row([], |row| Ok((row.get(0)?, Millis(row.get(1)?))))
                    .optional()?;
                let Some(oldest) = oldest else { return Ok(()) };
                self.oldest.insert(topic.id, oldest);
                oldest
            }
        };
        if self.now.since(at) <= self.retention {
            return Ok(());
        }
        let slowest = self.shared.groups.slowest(topic.id);
        let finished = slowest.as_ref().map_or(i64::MAX, |(_, finished)| *finished);
        let until = (offset + 64.max(2 * appended)).min(finished);
        if until <= offset {
            if let Some((group, _)) = slowest
                && finished <= offset
                && self.held_back.insert(topic.id)
            {
                tracing::warn!(%group, topic = %topic.name, "records past the retention are kept: the group has not read them");
            }
            return Ok(());
        }
        let youngest = self
            .now
            .0
            .saturating_sub(i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX));
        db.prepare_cached(&format!(
            "DELETE FROM t{} WHERE offset < ?1 AND at < ?2",
            topic.id
        ))?
        .execute(params![until, youngest])?;
        self.oldest.remove(&topic.id);
        Ok(())
    }
}

fn create(db: &Connection, name: &str) -> rusqlite::Result<i64> {
    db.execute(
        "INSERT INTO topics(name) VALUES (?1) ON CONFLICT DO NOTHING",
        [name],
    )?;
    let id = db.query_row("SELECT id FROM topics WHERE name = ?1", [name], |row| row.get(0))?;
    db.execute_batch(&format!(
        "CREATE TABLE IF NOT EXISTS t{id}(
             offset INTEGER PRIMARY KEY, at INTEGER NOT NULL, key BLOB, headers BLOB, value BLOB NOT NULL) STRICT"
    ))?;
    Ok(id)
}
