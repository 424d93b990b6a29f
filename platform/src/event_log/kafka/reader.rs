//! A member of a group, as the service sees it.

use super::mailbox::Mailbox;
use super::poll::{self, Member};
use super::progress::Progress;
use super::{KafkaConfig, LogError, LogReader, Record, faults, settings};
use crate::event_log::{LogEvent, Partition};
use async_trait::async_trait;
use bytes::Bytes;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use schemas::event::Position;
use schemas::time::Millis;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// How long leaving a group may take.
const LEAVE: Duration = Duration::from_secs(10);

/// Reads as a member of a group. Dropped without a close it leaves the group too, a moment later.
pub(super) struct KafkaReader {
    mailbox: Arc<Mailbox>,
    progress: Arc<Progress>,
    thread: Option<JoinHandle<()>>,
    /// Ends with the thread.
    ended: oneshot::Receiver<()>,
}

impl KafkaReader {
    /// Joins the group and starts the thread that polls.
    pub(super) fn start(config: &KafkaConfig, group: &str, topics: &[String]) -> Result<Self, LogError> {
        let fault = |error| faults::sort(&format!("join group {group}"), &error);
        let member = Member::default();
        let (mailbox, progress) = (member.mailbox.clone(), member.progress.clone());
        let consumer =
            BaseConsumer::from_config_and_context(&settings::member(config, group), member).map_err(fault)?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(fault)?;
        let (alive, ended) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("kafka-poll".to_owned())
            .spawn(move || {
                poll::run(consumer);
                drop(alive);
            })
            .map_err(|error| LogError::Unavailable(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            mailbox,
            progress,
            thread: Some(thread),
            ended,
        })
    }
}

#[async_trait]
impl LogReader for KafkaReader {
    async fn next(&mut self) -> Result<LogEvent, LogError> {
        self.mailbox.next().await
    }

    async fn change(&mut self) -> LogEvent {
        self.mailbox.change().await
    }

    fn store(&self, partition: &Partition, next_offset: i64) {
        self.progress.store(partition, next_offset);
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        self.progress.lag()
    }

    async fn close(mut self: Box<Self>) {
        self.mailbox.close();
        // Leaving the group waits until the broker has answered, and one that is away never does.
        // Not on tokio's threads for blocking work: the runtime would not end before them.
        if tokio::time::timeout(LEAVE, &mut self.ended).await.is_err() {
            tracing::warn!("the group could not be left in time; some records may be seen again");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the kafka poll thread panicked");
        }
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

/// A message as a record. Copies its bytes: librdkafka's own would keep a whole fetch in memory.
pub(super) fn record(topic: &Arc<str>, message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers
            .iter()
            .map(|header| {
                let value = header.value.unwrap_or_default();
                (header.key.to_owned(), Bytes::copy_from_slice(value))
            })
            .collect()
    });
    Record {
        position: Position {
            topic: topic.clone(),
            partition: message.partition(),
            offset: message.offset(),
        },
        timestamp: message.timestamp().to_millis().map_or_else(now, Millis),
        key: message.key().map(Bytes::copy_from_slice),
        value: Bytes::copy_from_slice(message.payload().unwrap_or_default()),
        headers: headers.into(),
    }
}

/// For records of producers so old that they stamp none: the retry window must not start in 1970.
fn now() -> Millis {
    let since = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    Millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
