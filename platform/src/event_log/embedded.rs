//! The event log in a SQLite file, `log.db`, of one process.
//!
//! One table per topic, one partition (0) per topic, one thread that writes. Acknowledged records
//! survive the end of the process, and with [`sqlite::Sync::Full`] a power loss. The newest records
//! of each topic also stand in memory, where readers that keep up and [`EventLog::read_at`] find
//! them; who has fallen behind reads the file.
//!
//! | file | holds |
//! |---|---|
//! | `topic` | a topic's newest records in memory, and whom to wake for more |
//! | `groups` | how far each group has come, and who of it reads |
//! | `store` | the writing thread: appends, offsets, expiry |
//! | `rows` | records as rows, and their batches read back |
//! | `reader` | a member of a group, reading |
//! | `scan` | a topic as it stands, or stretches of it, read by no group |

mod groups;
mod reader;
mod rows;
mod scan;
mod store;
mod topic;

#[cfg(test)]
mod tests;

use super::{EventLog, LogError, LogReader, LogScan, NewRecord, Record, Span};
use crate::clock::Clock;
use crate::sqlite::{self, Failure, Reader, Writer, lock};
use async_trait::async_trait;
use groups::Groups;
use rows::Chunks;
use rusqlite::Connection;
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use store::{Command, Store};
use topic::Topic;

/// The largest record: 64 MiB of key, headers and value together.
pub const MAX_RECORD: usize = 64 << 20;

/// An event log of one process. See the module.
#[derive(Debug)]
pub struct EmbeddedLog {
    inner: Arc<Inner>,
}

/// What the log, its readers and its writing thread share.
#[derive(Debug, Default)]
struct Shared {
    topics: Mutex<HashMap<Arc<str>, Arc<Topic>>>,
    groups: Groups,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    // The readers go before the writer, whose connection then is the last and tidies the file up.
    /// For batches: who has fallen behind.
    scans: Reader,
    /// For single records.
    lookups: Reader,
    chunks: Arc<Chunks>,
    writer: Writer<Command>,
}

impl From<Failure> for LogError {
    fn from(failure: Failure) -> Self {
        Self::Unavailable(failure.0)
    }
}

impl EmbeddedLog {
    /// Opens `log.db` in a folder that exists, creating it where it is not there.
    ///
    /// Records older than `retention` are deleted as new ones come, but never one that a group with
    /// a stored offset, or with a member now reading, has not finished.
    ///
    /// The folder must be this process's alone, see [`crate::data_dir::DataDir`].
    ///
    /// # Errors
    /// [`LogError::Unavailable`] naming the file when it cannot be opened, read or written.
    pub fn open(dir: &Path, sync: sqlite::Sync, clock: Clock, retention: Duration) -> Result<Self, LogError> {
        let path = dir.join("log.db");
        Self::with(sqlite::open(&path, sync)?, &path, clock, retention)
    }

    fn with(db: Connection, path: &Path, clock: Clock, retention: Duration) -> Result<Self, LogError> {
        let explain = |error: rusqlite::Error| LogError::Unavailable(format!("{}: {error}", path.display()));
        let shared = Arc::new(store::load(&db).map_err(explain)?);
        let scans = Reader::start("log-scans", path)?;
        let lookups = Reader::start("log-lookups", path)?;
        let writer = Writer::start("log-writer", db, Store::new(shared.clone(), clock, retention))?;
        Ok(Self {
            inner: Arc::new(Inner {
                shared,
                scans,
                lookups,
                chunks: Arc::default(),
                writer,
            }),
        })
    }

    /// How many commits the log has made: far fewer than appends when many wait at once.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.writer.commits()
    }
}

impl Inner {
    fn known(&self, name: &str) -> Option<Arc<Topic>> {
        lock(&self.shared.topics).get(name).cloned()
    }

    /// The topic, created where it does not exist: an embedded log has no administrator to ask.
    async fn topic(&self, name: &str) -> Result<Arc<Topic>, LogError> {
        if let Some(topic) = self.known(name) {
            return Ok(topic);
        }
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > 249 || !name.bytes().all(valid) {
            return Err(LogError::Refused(format!(
                "topic \"{}\" is not 1 to 249 characters of A-Z, a-z, 0-9, '.', '_' and '-'",
                name.chars().take(80).collect::<String>()
            )));
        }
        let name: Arc<str> = Arc::from(name);
        Ok(self
            .writer
            .ask(|answer| Command::Create { name, id: 0, answer })
            .await?)
    }
}

#[async_trait]
impl EventLog for EmbeddedLog {
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        for (index, record) in records.iter().enumerate() {
            let size = rows::size(record);
            if size > MAX_RECORD {
                return Err(LogError::Refused(format!(
                    "record {index} has {size} bytes; at most {MAX_RECORD} are possible"
                )));
            }
        }
        let topic = self.inner.topic(topic).await?;
        if records.is_empty() {
            return Ok(Vec::new());
        }
        let (name, count) = (topic.name.clone(), records.len());
        let first = self
            .inner
            .writer
            .ask(|answer| Command::Append {
                topic,
                records,
                first: 0,
                answer,
            })
            .await?;
        Ok((first..)
            .take(count)
            .map(|offset| Position {
                topic: name.clone(),
                partition: 0,
                offset,
            })
            .collect())
    }

    async fn read_at(&self, position: &Position) -> Result<Option<Record>, LogError> {
        let Some(topic) = self.inner.known(&position.topic) else {
            return Ok(None);
        };
        if position.partition != 0 || position.offset < 0 || position.offset >= topic.end() {
            return Ok(None);
        }
        if let Some(record) = topic.get(position.offset) {
            return Ok(Some(record));
        }
        let offset = position.offset;
        if let Some(found) = self.inner.chunks.get(&topic, offset) {
            return Ok(found);
        }
        let chunks = self.inner.chunks.clone();
        Ok(self
            .inner
            .lookups
            .read(move |db| chunks.load(db, &topic, offset))
            .await?)
    }

    async fn scan(&self, topic: &str) -> Result<Box<dyn LogScan>, LogError> {
        // One that nobody has named yet has nothing in it.
        let topic = self.inner.known(topic);
        Ok(Box::new(scan::EmbeddedScan::new(self.inner.clone(), topic)))
    }

    async fn find(&self, topic: &str, from: Millis, to: Millis) -> Result<Option<Vec<Span>>, LogError> {
        let Some(topic) = self.inner.known(topic) else {
            return Ok(Some(Vec::new()));
        };
        let find = move |db: &_| scan::find(db, &topic, from, to);
        Ok(self.inner.scans.read(find).await?)
    }

    async fn scan_spans(&self, topic: &str, spans: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        let topic = self.inner.known(topic);
        // There is one partition.
        let span = spans
            .iter()
            .find(|span| span.partition == 0 && span.next < span.end);
        let (next, end) = span.map_or((0, 0), |span| (span.next, span.end));
        if let (Some(topic), true) = (topic.clone(), next < end) {
            let first = move |db: &_| scan::first(db, &topic, 0);
            let oldest = self.inner.scans.read(first).await?;
            if oldest.is_none_or(|(offset, _)| offset > next) {
                return Ok(None);
            }
        }
        let scan = scan::EmbeddedScan::over(self.inner.clone(), topic, next, end);
        Ok(Some(Box::new(scan)))
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        let mut open = Vec::with_capacity(topics.len());
        for name in topics {
            open.push(self.inner.topic(name).await?);
        }
        Ok(Box::new(reader::Member::new(self.inner.clone(), group, open)))
    }

    async fn provision(&self, topics: &[String]) -> Result<(), LogError> {
        for name in topics {
            self.inner.topic(name).await?;
        }
        Ok(())
    }

    /// Topics are created when first named, so only the writing is checked.
    async fn check(&self, _topics: &[String]) -> Result<(), LogError> {
        Ok(self.inner.writer.check()?)
    }
}
