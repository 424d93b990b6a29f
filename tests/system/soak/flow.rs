//! Records that flow into all partitions of a topic, so many a second.

use crate::kafka::Kafka;
use crate::secs;
use schemas::avro::{self, WebhookEvent};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

/// How many partitions the topic has.
pub const PARTITIONS: i32 = 12;

/// One in so many records has a payload that is stored in S3.
const LARGE_ONE_IN: usize = 50;

/// How often records are appended.
const TICK: Duration = Duration::from_millis(100);

/// A running flow.
pub struct Flow {
    ends: Arc<[AtomicI64; PARTITIONS as usize]>,
    task: JoinHandle<()>,
}

impl Flow {
    /// Appends so many records to a topic, spread over so long.
    pub fn start(kafka: Kafka, topic: String, records: usize, during: Duration) -> Self {
        let ends: Arc<[AtomicI64; PARTITIONS as usize]> = Arc::default();
        let behind = ends.clone();
        let ticks = usize::try_from(during.as_millis() / TICK.as_millis()).expect("fits");
        let task = tokio::spawn(async move {
            let mut clock = tokio::time::interval(TICK);
            for tick in 0..ticks {
                clock.tick().await;
                let numbers = records * tick / ticks..records * (tick + 1) / ticks;
                let appends = numbers.map(|number| append(&kafka, &topic, number));
                for (partition, offset) in futures_util::future::join_all(appends).await {
                    behind[partition].fetch_max(offset + 1, Ordering::Relaxed);
                }
            }
        });
        Self { ends, task }
    }

    /// Where each partition ends, as far as it is known.
    pub fn ends(&self) -> Vec<i64> {
        self.ends.iter().map(|end| end.load(Ordering::Relaxed)).collect()
    }

    /// Waits until all records are there.
    pub async fn done(&mut self, limit: Duration) {
        tokio::time::timeout(limit + secs(30), &mut self.task)
            .await
            .expect("the records are appended in time")
            .expect("and without a fault");
    }
}

async fn append(kafka: &Kafka, topic: &str, number: usize) -> (usize, i64) {
    let length = if number.is_multiple_of(LARGE_ONE_IN) {
        3_000
    } else {
        20
    };
    let event = WebhookEvent {
        event_type: "load.soak.v1".to_owned(),
        payload: format!("{number:0length$}").into(),
        ..WebhookEvent::default()
    };
    let partition = number % PARTITIONS as usize;
    let to = i32::try_from(partition).expect("fits");
    let offset = kafka.append_to(topic, to, &avro::encode_v2(&event)).await;
    (partition, offset)
}
