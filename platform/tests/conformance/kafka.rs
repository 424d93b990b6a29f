//! The Kafka adapter, held to the suite over a real broker.

use crate::event_log::LogWorld;
use crate::support::{World, unique, world};
use async_trait::async_trait;
use platform::config::GroupProtocol;
use platform::event_log::EventLog;
use platform::event_log::kafka::{KafkaConfig, KafkaLog};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::{Arc, Mutex};

/// Topics of one case on the broker of the world.
pub struct Broker {
    topics: Mutex<Vec<String>>,
}

impl Broker {
    pub fn new() -> Self {
        Self {
            topics: Mutex::default(),
        }
    }

    /// A log whose topics are created with so many partitions.
    pub fn log(&self, partitions: i32) -> KafkaLog {
        self.member(partitions, GroupProtocol::Classic, None)
    }

    /// Deletes what a topic's only partition holds before `offset`, as retention does.
    pub async fn delete_before(&self, topic: &str, offset: i64) {
        let mut before = TopicPartitionList::new();
        before
            .add_partition_offset(topic, 0, Offset::Offset(offset))
            .unwrap();
        let deleted = admin()
            .delete_records(&before, &AdminOptions::new())
            .await
            .unwrap();
        for partition in deleted.elements() {
            partition.error().unwrap();
        }
    }

    /// The same, with what its readers are to their groups.
    pub fn member(&self, partitions: i32, protocol: GroupProtocol, instance: Option<&str>) -> KafkaLog {
        KafkaLog::new(KafkaConfig {
            brokers: world("WORLD_KAFKA_BROKERS"),
            partitions,
            protocol,
            instance: instance.map(str::to_owned),
            ..KafkaConfig::default()
        })
    }
}

fn admin() -> AdminClient<DefaultClientContext> {
    ClientConfig::new()
        .set("bootstrap.servers", world("WORLD_KAFKA_BROKERS"))
        .create()
        .unwrap()
}

#[async_trait]
impl World for Broker {
    async fn remove(&self) {
        let topics = std::mem::take(&mut *self.topics.lock().unwrap());
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let admin = admin();
        if !topics.is_empty() {
            admin.delete_topics(&topics, &AdminOptions::new()).await.unwrap();
        }
    }
}

#[async_trait]
impl LogWorld for Broker {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(self.log(1))
    }

    fn topic(&self) -> String {
        let topic = unique("topic");
        self.topics.lock().unwrap().push(topic.clone());
        topic
    }
}

mod log {
    event_log_suite!(super::Broker::new());
}
