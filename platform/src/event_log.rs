//! Port: the event log. Records are appended to topics and read by partition, in order.
//!
//! Two adapters: [`kafka`] and [`embedded`] (SQLite). Both keep this contract, and one conformance
//! suite runs over both.

pub mod embedded;
pub mod kafka;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::event::Position;
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A record to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// Records of one key stay in order: they share a partition.
    pub key: Option<Bytes>,
    /// The record's bytes.
    pub value: Bytes,
    /// Names and values beside the record.
    pub headers: Vec<(String, Bytes)>,
}

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place.
    pub position: Position,
    /// When the log, or its producer, stamped it.
    pub timestamp: Millis,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its bytes.
    pub value: Bytes,
    /// What stands beside it. Names may repeat; the last one counts.
    pub headers: Arc<[(String, Bytes)]>,
}

impl Record {
    /// The last header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        self.headers
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
    }
}

/// Why the log could not do what was asked.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// Trying again later may succeed: the broker is away, the disk is full.
    #[error("{0}")]
    Unavailable(String),
    /// Trying again will not help: no such topic, not permitted, a record too large.
    #[error("{0}")]
    Refused(String),
}

/// One partition of one topic.
pub type Partition = (Arc<str>, i32);

/// A stretch of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// The partition.
    #[serde(rename = "p")]
    pub partition: i32,
    /// The offset of its first record, or of where that would be.
    #[serde(rename = "n")]
    pub next: i64,
    /// The offset before which it ends.
    #[serde(rename = "e")]
    pub end: i64,
}

/// Records may be stamped out of order by so much: producers' clocks differ, and a clock is set back.
pub const DISORDER: Duration = Duration::from_secs(300);

/// What a reader meets.
#[derive(Debug)]
pub enum LogEvent {
    /// Records, in order within each partition.
    Records(Vec<Record>),
    /// These partitions are now this reader's; records of them follow.
    Assigned(Vec<Partition>),
    /// These partitions are being taken away. Dropping `drained` says that all their work is done
    /// and its offsets stored; the log waits for that for a few seconds at most.
    Revoked {
        /// What is taken.
        partitions: Vec<Partition>,
        /// To be dropped when drained.
        drained: Drained,
    },
}

/// Tells the log, by being dropped, that a revoked partition's work is done.
#[derive(Debug)]
pub struct Drained(
    #[allow(dead_code, reason = "its drop is the message")] pub std::sync::mpsc::SyncSender<()>,
);

/// Where events come in.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends records to a topic. Answers once **all** are durable, with their places in the order
    /// given. On an error none is acknowledged, though some may be there.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] when the log cannot be reached or written in time,
    /// [`LogError::Refused`] for an unknown topic or a record it will never take.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError>;

    /// Reads one record back by its place; `None` when the log no longer holds it.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn read_at(&self, position: &Position) -> Result<Option<Record>, LogError>;

    /// Reads a topic as it stands now, from the beginning: as no member of any group, and storing nothing.
    /// What is appended later is left out.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn scan(&self, topic: &str) -> Result<Box<dyn LogScan>, LogError>;

    /// Where the records of a topic stamped at or after `from`, and before `to`, lie: one span for each
    /// partition that has any. Spans may hold others beside them, and are sure to hold only those that are at most
    /// [`DISORDER`] away from where their time would have them. `None` when the log may have deleted
    /// records of that time: its oldest is not the topic's first, and not older than `from`.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn find(&self, topic: &str, from: Millis, to: Millis) -> Result<Option<Vec<Span>>, LogError>;

    /// Reads these spans of a topic, as [`EventLog::scan`] does the whole of it. `None` when the log no longer
    /// holds the beginning of one. Unlike that, it is an error of the scan when records are deleted before it has come
    /// to them; begun anew from there, the answer is `None`.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn scan_spans(&self, topic: &str, spans: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError>;

    /// Joins `group` and reads `topics` from the group's stored offsets, or from the beginning where
    /// it has stored none. Members of one group share the partitions between them.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn LogReader>, LogError>;

    /// Creates the topics that do not exist. Safe to repeat.
    ///
    /// # Errors
    /// As for [`EventLog::append`].
    async fn provision(&self, topics: &[String]) -> Result<(), LogError>;

    /// Whether the log can be reached and has these topics.
    ///
    /// # Errors
    /// Says what is wrong.
    async fn check(&self, topics: &[String]) -> Result<(), LogError>;
}

/// A topic as it stood, being read.
#[async_trait]
pub trait LogScan: Send {
    /// The next records, in order within each partition: at least one, or none at the end.
    ///
    /// # Errors
    /// As for [`EventLog::append`]. After an error, or a call that was dropped, begin anew.
    async fn next(&mut self) -> Result<Vec<Record>, LogError>;
}

/// A member of a group, reading.
#[async_trait]
pub trait LogReader: Send {
    /// Waits for what comes next. Cancel safe: a dropped call loses no record.
    ///
    /// # Errors
    /// [`LogError::Unavailable`] for a passing fault: call again. [`LogError::Refused`]: stop.
    async fn next(&mut self) -> Result<LogEvent, LogError>;

    /// Waits for the next `Assigned` or `Revoked`, and leaves the records before it where they are:
    /// for a service that has no room for records, and must not keep partitions from others meanwhile.
    /// Changes come in their order, each once, here or by [`LogReader::next`]. Cancel safe.
    ///
    /// A log that takes nothing away tells by `next` alone, and this never answers.
    async fn change(&mut self) -> LogEvent {
        std::future::pending().await
    }

    /// Notes that everything before `next_offset` of this partition is finished. Made durable soon
    /// and at [`LogReader::close`]; ignored for a partition that is no longer this reader's.
    fn store(&self, partition: &Partition, next_offset: i64);

    /// Records not yet finished by this group, per partition, where known.
    fn lag(&self) -> Vec<(Partition, i64)>;

    /// Leaves the group; what was stored is durable when this returns.
    async fn close(self: Box<Self>);
}
