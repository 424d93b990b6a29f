//! Where a topic's records lie: in all, and of a time.

use super::weather::Quiet;
use super::{KafkaConfig, LogError, Span, faults};
use crate::event_log::DISORDER;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::{ClientConfig, Offset};
use schemas::time::Millis;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long the brokers may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A topic, and the consumer that asks about it. Its calls block.
pub(super) struct Topic {
    pub(super) consumer: BaseConsumer<Quiet>,
    pub(super) name: Arc<str>,
}

impl Topic {
    /// A consumer of these settings, connected at the first question.
    pub(super) fn open(
        config: &KafkaConfig,
        name: &str,
        settings: fn(&KafkaConfig) -> ClientConfig,
    ) -> Result<Self, LogError> {
        let consumer = BaseConsumer::from_config_and_context(&settings(config), Quiet::default())
            .map_err(|error| faults::sort(&format!("read topic {name}"), &error))?;
        Ok(Self {
            consumer,
            name: Arc::from(name),
        })
    }

    fn fault(&self, error: &KafkaError) -> LogError {
        faults::sort(&format!("read topic {}", self.name), error)
    }

    fn partitions(&self) -> Result<Vec<i32>, LogError> {
        let metadata = self
            .consumer
            .fetch_metadata(Some(&self.name), TIMEOUT)
            .map_err(|error| self.fault(&error))?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        Ok(partitions.map(|partition| partition.id()).collect())
    }

    /// All that the partition holds.
    fn held(&self, partition: i32) -> Result<Span, LogError> {
        let (next, end) = self
            .consumer
            .fetch_watermarks(&self.name, partition, TIMEOUT)
            .map_err(|error| self.fault(&error))?;
        Ok(Span { partition, next, end })
    }

    /// All that the topic holds now.
    pub(super) fn all(&self) -> Result<Vec<Span>, LogError> {
        let partitions = self.partitions()?;
        partitions
            .into_iter()
            .map(|partition| self.held(partition))
            .collect()
    }

    /// Whether the beginnings of these spans are still there.
    pub(super) fn holds(&self, spans: &[Span]) -> Result<bool, LogError> {
        for span in spans.iter().filter(|span| span.next < span.end) {
            if self.held(span.partition)?.next > span.next {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// By partition, the offset of the first record stamped at or after `at`; the partition's end where there
    /// is none.
    fn offsets(&self, held: &[Span], at: Millis) -> Result<BTreeMap<i32, i64>, LogError> {
        let mut places = TopicPartitionList::new();
        for span in held {
            places
                .add_partition_offset(&self.name, span.partition, Offset::Offset(at.0.max(0)))
                .map_err(|error| self.fault(&error))?;
        }
        let found = self
            .consumer
            .offsets_for_times(places, TIMEOUT)
            .map_err(|error| self.fault(&error))?;
        let mut offsets: BTreeMap<i32, i64> = held.iter().map(|span| (span.partition, span.end)).collect();
        for place in found.elements() {
            place.error().map_err(|error| self.fault(&error))?;
            if let Offset::Offset(offset) = place.offset() {
                offsets.insert(place.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// See [`crate::event_log::EventLog::find`].
    pub(super) fn find(&self, from: Millis, to: Millis) -> Result<Option<Vec<Span>>, LogError> {
        let held = self.all()?;
        if held.is_empty() {
            return Ok(Some(Vec::new()));
        }
        // Kafka answers with the first record of that time or a later one, however they are ordered: none
        // of them lies before it. After the end some may.
        let starts = self.offsets(&held, from)?;
        let ends = self.offsets(&held, to.plus(DISORDER))?;
        let mut spans = Vec::new();
        for held in held {
            let at = |offsets: &BTreeMap<i32, i64>| offsets.get(&held.partition).copied();
            let next = at(&starts).unwrap_or(held.end).max(held.next);
            let end = at(&ends).unwrap_or(held.end).min(held.end);
            // What was deleted was older than the oldest there is; whether older than `from`, that tells.
            if held.next > 0 && held.next < held.end && next == held.next {
                return Ok(None);
            }
            if next < end {
                spans.push(Span {
                    partition: held.partition,
                    next,
                    end,
                });
            }
        }
        Ok(Some(spans))
    }
}
