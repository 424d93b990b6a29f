//! The event log in Kafka.
//!
//! | module | holds |
//! |---|---|
//! | `settings` | what librdkafka is told, under what the user tells it |
//! | `weather` | librdkafka's log and errors: one line when the brokers go, one when they are back |
//! | `faults` | its errors as ours |
//! | `produce` | appending |
//! | `topics` | creating topics, and whether they are there |
//! | `lookup` | reading one record back |
//! | `scan` | reading a topic from beginning to end, or stretches of it |
//! | `spans` | where a topic's records lie |
//! | `reader` | a member of a group, as the service sees it |
//! | `poll` | the thread that polls for it, and the callbacks of a rebalance |
//! | `mailbox` | what passes between the two |
//! | `progress` | what is finished in each partition, and what is not |
//!
//! A reader polls a plain `BaseConsumer` on a thread of its own rather than use `StreamConsumer`:
//! a rebalance calls back inside the poll, and there it has to wait, for seconds maybe, until the
//! service has drained what is being taken away. On a thread of its own that holds nobody else up,
//! and the consumer is polled however slowly the service takes records.

mod faults;
mod lookup;
mod mailbox;
mod poll;
mod produce;
mod progress;
mod reader;
mod scan;
mod settings;
mod spans;
mod topics;
mod weather;

use super::{EventLog, LogError, LogReader, LogScan, NewRecord, Record, Span};
use crate::config::GroupProtocol;
use async_trait::async_trait;
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long a rebalance waits for a service to finish what is taken from it.
pub const DRAIN: Duration = Duration::from_secs(5);

/// Where Kafka is, and how to speak to it.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaConfig {
    /// Brokers to start from, as `host:port,host:port`.
    pub brokers: String,
    /// librdkafka's properties, as they are; they win over what hookwright sets.
    pub properties: BTreeMap<String, String>,
    /// A name of this process among its group's members that outlives it: the others do not notice when it
    /// restarts within the session timeout.
    pub instance: Option<String>,
    /// Who shares the partitions out.
    pub protocol: GroupProtocol,
    /// How many partitions a topic is created with.
    pub partitions: i32,
    /// How many copies of each partition a topic is created with; -1 leaves it to the broker.
    pub replication: i32,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".to_owned(),
            properties: BTreeMap::new(),
            instance: None,
            protocol: GroupProtocol::Classic,
            partitions: 12,
            replication: -1,
        }
    }
}

impl fmt::Debug for KafkaConfig {
    /// Leaves out the properties' values: passwords are among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("properties", &self.properties.keys())
            .field("instance", &self.instance)
            .field("protocol", &self.protocol)
            .field("partitions", &self.partitions)
            .field("replication", &self.replication)
            .finish()
    }
}

/// Topics of a Kafka cluster.
pub struct KafkaLog {
    config: KafkaConfig,
    producer: Arc<produce::Producer>,
    lookup: Arc<lookup::Lookup>,
}

impl KafkaLog {
    /// A log at these brokers. Connects at the first use.
    #[must_use]
    pub fn new(config: KafkaConfig) -> Self {
        Self {
            producer: Arc::new(produce::Producer::new(config.clone())),
            lookup: Arc::new(lookup::Lookup::new(config.clone())),
            config,
        }
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        self.producer.append(topic, &records).await
    }

    async fn read_at(&self, position: &Position) -> Result<Option<Record>, LogError> {
        let lookup = self.lookup.clone();
        let position = position.clone();
        blocking(move || lookup.read(&position)).await
    }

    async fn scan(&self, topic: &str) -> Result<Box<dyn LogScan>, LogError> {
        self.check(&[topic.to_owned()]).await?;
        let (config, topic) = (self.config.clone(), topic.to_owned());
        let scan = blocking(move || scan::Scan::start(&config, &topic)).await?;
        Ok(Box::new(scan::KafkaScan::new(scan)))
    }

    async fn find(&self, topic: &str, from: Millis, to: Millis) -> Result<Option<Vec<Span>>, LogError> {
        self.check(&[topic.to_owned()]).await?;
        let (config, topic) = (self.config.clone(), topic.to_owned());
        blocking(move || spans::Topic::open(&config, &topic, settings::scan_slowly)?.find(from, to)).await
    }

    async fn scan_spans(&self, topic: &str, spans: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        self.check(&[topic.to_owned()]).await?;
        let (config, topic, spans) = (self.config.clone(), topic.to_owned(), spans.to_vec());
        let scan = blocking(move || scan::Scan::start_at(&config, &topic, &spans)).await?;
        Ok(scan.map(|scan| Box::new(scan::KafkaScan::new(scan)) as Box<dyn LogScan>))
    }

    async fn subscribe(&self, group: &str, topics: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        // librdkafka would say of a missing topic only that there is nothing to read.
        self.check(topics).await?;
        let reader = reader::KafkaReader::start(&self.config, group, topics)?;
        Ok(Box::new(reader))
    }

    async fn provision(&self, topics: &[String]) -> Result<(), LogError> {
        topics::create(&self.config, &self.producer, topics).await
    }

    async fn check(&self, topics: &[String]) -> Result<(), LogError> {
        let producer = self.producer.clone();
        let topics = topics.to_vec();
        blocking(move || topics::check(&producer, &topics)).await
    }
}

/// Runs a call that blocks where that disturbs nobody.
async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, LogError> + Send + 'static,
) -> Result<T, LogError> {
    match tokio::task::spawn_blocking(call).await {
        Ok(result) => result,
        Err(error) => Err(LogError::Unavailable(format!("the call did not finish: {error}"))),
    }
}
