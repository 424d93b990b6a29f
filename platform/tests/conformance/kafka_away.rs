//! Brokers that are away: librdkafka's own cluster, which can be taken down.

use crate::support::{soon, unique};
use bytes::Bytes;
use platform::event_log::kafka::{KafkaConfig, KafkaLog};
use platform::event_log::{EventLog, LogError, LogEvent, NewRecord};
use rdkafka::mocking::MockCluster;
use std::time::{Duration, Instant};

fn log(brokers: String) -> KafkaLog {
    // Otherwise an append waits for the broker's return for half a minute.
    let properties = [("message.timeout.ms".to_owned(), "1000".to_owned())].into();
    KafkaLog::new(KafkaConfig {
        brokers,
        properties,
        ..KafkaConfig::default()
    })
}

fn record() -> Vec<NewRecord> {
    vec![NewRecord {
        value: Bytes::from_static(b"value"),
        ..NewRecord::default()
    }]
}

#[tokio::test]
async fn a_broker_that_is_not_there_is_named_with_the_reason() {
    let log = log("127.0.0.1:1".to_owned());
    let unreachable = log.check(&[]).await.unwrap_err();
    assert_eq!(
        unreachable.to_string(),
        "cannot reach 127.0.0.1:1 (connection refused after 5 s)"
    );
    let subscribed = log
        .subscribe(&unique("group"), &["topic".to_owned()])
        .await
        .map(|_reader| ());
    assert!(
        matches!(subscribed, Err(LogError::Unavailable(_))),
        "{subscribed:?}"
    );
    let appended = log.append("topic", record()).await;
    assert!(matches!(appended, Err(LogError::Unavailable(_))), "{appended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_outlives_an_outage_and_can_be_closed_in_one() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("topic", 1, 1).unwrap();
    let log = log(cluster.bootstrap_servers());
    let mut reader = log
        .subscribe(&unique("group"), &["topic".to_owned()])
        .await
        .unwrap();
    log.append("topic", record()).await.unwrap();
    let mut count = 0;
    for round in 1..=2 {
        soon("a record", async {
            while count < round {
                if let LogEvent::Records(records) = reader.next().await.unwrap() {
                    count += records.len();
                    let last = &records[records.len() - 1].position;
                    reader.store(&(last.topic.clone(), last.partition), last.offset + 1);
                }
            }
        })
        .await;
        cluster.broker_down(1).unwrap();
        let appended = log.append("topic", record()).await;
        assert!(matches!(appended, Err(LogError::Unavailable(_))), "{appended:?}");
        if round == 1 {
            cluster.broker_up(1).unwrap();
            soon("an append", async {
                while log.append("topic", record()).await.is_err() {}
            })
            .await;
        }
    }
    let started = Instant::now();
    reader.close().await;
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
}
