//! Kafka as a test looks at it: by a client of its own, past the product.

use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long the broker of a busy machine may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A record as it stands in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Option<Vec<u8>>,
    pub value: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub partition: i32,
    pub offset: i64,
}

impl Record {
    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(key, _)| key == name);
        found.map_or_else(String::new, |(_, value)| {
            String::from_utf8_lossy(value).into_owned()
        })
    }
}

/// The brokers.
#[derive(Clone)]
pub struct Kafka {
    brokers: String,
    producer: FutureProducer,
}

impl Kafka {
    /// At these addresses.
    pub fn new(brokers: &str) -> Self {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", brokers)
            // A record that is sent again, because the broker went away, is appended once.
            .set("enable.idempotence", "true")
            .set("message.max.bytes", "16777216");
        Self {
            brokers: brokers.to_owned(),
            producer: config.create().expect("a producer"),
        }
    }

    /// Appends a record to partition 0; its offset.
    pub async fn append(&self, topic: &str, value: &[u8], headers: &[(&str, &[u8])]) -> i64 {
        let given = headers.iter().fold(OwnedHeaders::new(), |all, (key, value)| {
            all.insert(Header {
                key,
                value: Some(*value),
            })
        });
        let record = FutureRecord::to(topic)
            .key("a key")
            .payload(value)
            .headers(given)
            .partition(0);
        let sent = self.producer.send(record, PATIENCE).await;
        sent.unwrap_or_else(|(error, _)| panic!("{topic}: {error}"))
            .offset
    }

    /// Appends a value to a partition; its offset.
    pub async fn append_to(&self, topic: &str, partition: i32, value: &[u8]) -> i64 {
        let record = FutureRecord::<(), [u8]>::to(topic)
            .payload(value)
            .partition(partition);
        let sent = self.producer.send(record, PATIENCE).await;
        sent.unwrap_or_else(|(error, _)| panic!("{topic}: {error}"))
            .offset
    }

    /// All records of a topic, by partition and offset.
    pub async fn records(&self, topic: &str) -> Vec<Record> {
        let (this, topic) = (self.clone(), topic.to_owned());
        tokio::task::spawn_blocking(move || this.read(&topic))
            .await
            .expect("it was read")
    }

    fn read(&self, topic: &str) -> Vec<Record> {
        let consumer = self.consumer("hookwright-tests");
        let (mut places, mut left) = (TopicPartitionList::new(), 0);
        for partition in self.partitions(&consumer, topic) {
            let (low, high) = consumer
                .fetch_watermarks(topic, partition, PATIENCE)
                .expect("watermarks");
            left += usize::try_from(high - low).expect("fits");
            places
                .add_partition_offset(topic, partition, Offset::Beginning)
                .expect("a place");
        }
        consumer.assign(&places).expect("assigned");
        let (mut records, since) = (Vec::with_capacity(left), Instant::now());
        while records.len() < left {
            assert!(
                since.elapsed() < PATIENCE,
                "{} of {left} of {topic}",
                records.len()
            );
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => records.push(record(&message)),
                Some(Err(error)) => panic!("{topic}: {error}"),
                None => {}
            }
        }
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// The offset that a group has committed in each partition of a topic; 0 where it has none.
    pub async fn committed(&self, group: &str, topic: &str) -> HashMap<i32, i64> {
        let (this, group, topic) = (self.clone(), group.to_owned(), topic.to_owned());
        let ask = move || {
            let consumer = this.consumer(&group);
            let mut places = TopicPartitionList::new();
            for partition in this.partitions(&consumer, &topic) {
                places.add_partition(&topic, partition);
            }
            let since = Instant::now();
            let committed = loop {
                match consumer.committed_offsets(places.clone(), PATIENCE) {
                    Ok(committed) => break committed,
                    // One that has just come up does not lead the group yet.
                    Err(error) if is_coming_up(&error) && since.elapsed() < PATIENCE => {
                        tokio::runtime::Handle::current()
                            .block_on(tokio::time::sleep(Duration::from_millis(50)));
                    }
                    Err(error) => panic!("committed offsets: {error}"),
                }
            };
            let elements = committed.elements();
            elements
                .iter()
                .map(|element| (element.partition(), element.offset().to_raw().unwrap_or(0).max(0)))
                .collect()
        };
        tokio::task::spawn_blocking(ask).await.expect("it was asked")
    }

    /// Deletes topics and groups, as far as they are there.
    pub async fn delete(&self, topics: &[String], groups: &[String]) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .create()
            .map_err(|error| error.to_string())?;
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let deleted = admin
            .delete_topics(&topics, &AdminOptions::new())
            .await
            .map_err(|error| error.to_string())?;
        for result in deleted {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
                Err((topic, code)) => return Err(format!("topic {topic}: {code}")),
            }
        }
        let since = Instant::now();
        for group in groups {
            loop {
                let deleted = admin
                    .delete_groups(&[group], &AdminOptions::new())
                    .await
                    .map_err(|error| error.to_string())?;
                match deleted.into_iter().next() {
                    // A member that was killed counts as there until its session has run out.
                    Some(Err((_, RDKafkaErrorCode::NonEmptyGroup))) if since.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Some(Err((_, code))) if code != RDKafkaErrorCode::GroupIdNotFound => {
                        return Err(format!("group {group}: {code}"));
                    }
                    Some(_) | None => break,
                }
            }
        }
        Ok(())
    }

    /// A consumer that joins no group, though it may ask about one.
    fn consumer(&self, group: &str) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.brokers)
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("message.max.bytes", "16777216")
            .set("fetch.max.bytes", "16777216")
            .create()
            .expect("a consumer")
    }

    fn partitions(&self, consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
        let metadata = consumer
            .fetch_metadata(Some(topic), PATIENCE)
            .expect("metadata of the topic");
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.map(|partition| partition.id()).collect()
    }
}

/// Whether a broker says that it cannot answer for a group yet.
fn is_coming_up(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::NotCoordinator
                | RDKafkaErrorCode::CoordinatorNotAvailable
                | RDKafkaErrorCode::CoordinatorLoadInProgress
        )
    )
}

fn record(message: &BorrowedMessage<'_>) -> Record {
    let headers = message.headers().into_iter().flat_map(Headers::iter);
    Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().unwrap_or_default().to_vec(),
        headers: headers
            .map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()))
            .collect(),
        partition: message.partition(),
        offset: message.offset(),
    }
}
