//! Reading a topic from beginning to end.

use super::weather::Quiet;
use super::{KafkaConfig, LogError, LogScan, Record, Span, faults, reader, settings, spans};
use async_trait::async_trait;
use rdkafka::Offset;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::TopicPartitionList;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the brokers may take for one answer, or for the next record.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How much is handed over at once: no more of either.
const RECORDS: usize = 256;
const BYTES: usize = 1 << 20;

/// A consumer on all partitions of a topic, and where each of them ends. Its calls block.
pub(super) struct Scan {
    consumer: BaseConsumer<Quiet>,
    topic: Arc<str>,
    /// Partitions not yet read to their end, and that.
    left: HashMap<i32, i64>,
}

impl Scan {
    /// Notes where the topic ends now.
    pub(super) fn start(config: &KafkaConfig, topic: &str) -> Result<Self, LogError> {
        let topic = spans::Topic::open(config, topic, settings::scan)?;
        let all = topic.all()?;
        Self::over(topic, &all)
    }

    /// Reads these spans; `None` when one of them is no longer there from its beginning.
    pub(super) fn start_at(
        config: &KafkaConfig,
        topic: &str,
        spans: &[Span],
    ) -> Result<Option<Self>, LogError> {
        let topic = spans::Topic::open(config, topic, settings::scan_slowly)?;
        if !topic.holds(spans)? {
            return Ok(None);
        }
        Self::over(topic, spans).map(Some)
    }

    fn over(topic: spans::Topic, spans: &[Span]) -> Result<Self, LogError> {
        let spans::Topic {
            consumer,
            name: topic,
        } = topic;
        let fault = |error: KafkaError| faults::sort(&format!("read topic {topic}"), &error);
        let (mut places, mut left) = (TopicPartitionList::new(), HashMap::new());
        for span in spans.iter().filter(|span| span.next < span.end) {
            left.insert(span.partition, span.end);
            places
                .add_partition_offset(&topic, span.partition, Offset::Offset(span.next))
                .map_err(fault)?;
        }
        consumer.assign(&places).map_err(fault)?;
        Ok(Self {
            consumer,
            topic,
            left,
        })
    }

    fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let mut deadline = Instant::now() + TIMEOUT;
        let (mut records, mut bytes) = (Vec::new(), 0);
        while !self.left.is_empty() && records.len() < RECORDS && bytes < BYTES {
            let wait = if records.is_empty() {
                deadline.saturating_duration_since(Instant::now())
            } else {
                Duration::ZERO
            };
            let message = match self.consumer.poll(wait) {
                Some(Ok(message)) => message,
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    self.left.remove(&partition);
                    continue;
                }
                Some(Err(error)) if error.rdkafka_error_code().is_some_and(ends_it) => {
                    return Err(faults::sort(&format!("read topic {}", self.topic), &error));
                }
                // A connection failed: librdkafka makes another.
                Some(Err(_)) | None if Instant::now() < deadline && records.is_empty() => continue,
                Some(Err(_)) | None if !records.is_empty() => break,
                Some(Err(_)) | None => return Err(self.nothing_came()),
            };
            deadline = Instant::now() + TIMEOUT;
            let (partition, offset) = (message.partition(), message.offset());
            let Some(end) = self.left.get(&partition).copied() else {
                continue;
            };
            if offset < end {
                bytes += message.payload().map_or(0, <[u8]>::len);
                records.push(reader::record(&self.topic, &message));
            }
            if offset + 1 >= end {
                self.left.remove(&partition);
            }
        }
        Ok(records)
    }

    fn nothing_came(&self) -> LogError {
        let cause = self.consumer.context().0.cause().unwrap_or_default();
        let (topic, seconds) = (&self.topic, TIMEOUT.as_secs());
        LogError::Unavailable(format!("no answer within {seconds} s from {topic} {cause}"))
    }
}

/// Whether reading on is of no use: another will not be answered either, or what follows is deleted and must not be
/// passed over.
fn ends_it(code: RDKafkaErrorCode) -> bool {
    faults::is_refusal(code) || code == RDKafkaErrorCode::AutoOffsetReset
}

/// A scan whose calls disturb nobody.
pub(super) struct KafkaScan(Option<Scan>);

impl KafkaScan {
    pub(super) fn new(scan: Scan) -> Self {
        Self(Some(scan))
    }
}

#[async_trait]
impl LogScan for KafkaScan {
    async fn next(&mut self) -> Result<Vec<Record>, LogError> {
        let Some(mut scan) = self.0.take() else {
            return Err(LogError::Unavailable("the scan was broken off".to_owned()));
        };
        let (scan, records) = super::blocking(move || {
            let records = scan.next()?;
            Ok((scan, records))
        })
        .await?;
        self.0 = Some(scan);
        Ok(records)
    }
}
