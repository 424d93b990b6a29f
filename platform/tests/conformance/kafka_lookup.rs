//! Reading single records back from Kafka, many times, and all of a topic.

use crate::event_log::LogWorld;
use crate::kafka::Broker;
use crate::support::{run, soon};
use bytes::Bytes;
use platform::event_log::{EventLog, LogError, NewRecord, Span};
use schemas::time::Millis;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PARTITIONS: i32 = 4;
const READS: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_record_comes_back_without_a_pause_of_its_own() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = broker.log(PARTITIONS);
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        let records: Vec<NewRecord> = (0..READS)
            .map(|number| NewRecord {
                key: Some(Bytes::from(format!("key {number}"))),
                value: Bytes::from(format!("record {number}")),
                headers: Vec::new(),
            })
            .collect();
        let positions = log.append(&topic, records.clone()).await.unwrap();
        // The first connects, and learns where the partitions are.
        soon("the first", log.read_at(&positions[0])).await.unwrap();
        let begun = Instant::now();
        // Back and forth, over all partitions.
        for step in 0..READS {
            let index = (step * 37) % READS;
            let found = soon("read", log.read_at(&positions[index]))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(found.position, positions[index]);
            assert_eq!(found.value, records[index].value);
        }
        let each = begun.elapsed() / u32::try_from(READS).unwrap();
        // librdkafka asks for metadata every 100 ms at most: with a new assignment for each record,
        // one took 121 ms.
        assert!(each < Duration::from_millis(60), "{each:?} for one record");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_read_at_once_get_each_their_own() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = Arc::new(broker.log(PARTITIONS));
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        let records: Vec<NewRecord> = (0..READS)
            .map(|number| NewRecord {
                key: Some(Bytes::from(format!("key {number}"))),
                value: Bytes::from(format!("record {number}")),
                headers: Vec::new(),
            })
            .collect();
        let positions = log.append(&topic, records.clone()).await.unwrap();
        let mut reading = tokio::task::JoinSet::new();
        for (position, record) in positions.into_iter().zip(records) {
            let log = log.clone();
            reading.spawn(async move {
                let found = soon("read", log.read_at(&position)).await.unwrap().unwrap();
                assert_eq!((found.position, found.value), (position, record.value));
            });
        }
        while let Some(read) = reading.join_next().await {
            read.unwrap();
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_whose_records_may_be_deleted_is_not_found_and_later_ones_are() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = broker.log(1);
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        let record = NewRecord {
            value: Bytes::from_static(b"record"),
            ..NewRecord::default()
        };
        let positions = log.append(&topic, vec![record; 10]).await.unwrap();
        let stamped = log.read_at(&positions[0]).await.unwrap().unwrap().timestamp;
        broker.delete_before(&topic, positions[4].offset).await;
        let (before, after) = (Millis(stamped.0 - 1_000), Millis(stamped.0 + 3_600_000));
        let found = soon("find", log.find(&topic, before, after)).await.unwrap();
        assert_eq!(found, None, "records of that time are gone");
        let span = |next: usize| Span {
            partition: 0,
            next: positions[next].offset,
            end: positions[9].offset + 1,
        };
        assert!(log.scan_spans(&topic, &[span(3)]).await.unwrap().is_none());
        let mut scan = log.scan_spans(&topic, &[span(4)]).await.unwrap().unwrap();
        assert_eq!(soon("records", scan.next()).await.unwrap().len(), 6);
        // All of them gone, nothing is left to say how old they were.
        broker.delete_before(&topic, positions[9].offset + 1).await;
        assert_eq!(log.find(&topic, before, after).await.unwrap(), Some(Vec::new()));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_under_a_reader_of_a_stretch_are_an_error_and_not_passed_over() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = broker.log(1);
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        // Several times what is read ahead.
        let record = NewRecord {
            value: Bytes::from(vec![b'x'; 32 << 10]),
            ..NewRecord::default()
        };
        let positions = log.append(&topic, vec![record; 400]).await.unwrap();
        let span = Span {
            partition: 0,
            next: positions[0].offset,
            end: positions[399].offset + 1,
        };
        let mut scan = log.scan_spans(&topic, &[span]).await.unwrap().unwrap();
        let mut read = soon("records", scan.next()).await.unwrap().len();
        broker.delete_before(&topic, positions[399].offset).await;
        let error = loop {
            match soon("more records", scan.next()).await {
                Ok(records) if records.is_empty() => panic!("the end after {read} of 400 records"),
                Ok(records) => read += records.len(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, LogError::Unavailable(_)), "{error}");
        assert!(log.scan_spans(&topic, &[span]).await.unwrap().is_none());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_without_a_record_does_not_spoil_the_next_read() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = broker.log(1);
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        let record = NewRecord {
            value: Bytes::from_static(b"record"),
            ..NewRecord::default()
        };
        let position = log.append(&topic, vec![record.clone()]).await.unwrap().remove(0);
        for beyond in [1, 1_000] {
            let mut nowhere = position.clone();
            nowhere.offset += beyond;
            assert_eq!(soon("nothing", log.read_at(&nowhere)).await.unwrap(), None);
            let found = soon("the record", log.read_at(&position)).await.unwrap().unwrap();
            assert_eq!(found.value, record.value);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_reads_every_partition_to_its_end() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let log = broker.log(PARTITIONS);
        let topic = broker.topic();
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        // One of the partitions stays empty.
        let records = |count: usize| {
            let record = |number: usize| NewRecord {
                key: Some(Bytes::from(format!("key {}", number % 3))),
                value: Bytes::from(vec![b'x'; 3_000]),
                headers: Vec::new(),
            };
            (0..count).map(record).collect::<Vec<_>>()
        };
        log.append(&topic, records(900)).await.unwrap();
        let mut scan = log.scan(&topic).await.unwrap();
        log.append(&topic, records(10)).await.unwrap();
        let mut found = Vec::new();
        loop {
            let more = soon("records", scan.next()).await.unwrap();
            if more.is_empty() {
                break;
            }
            found.extend(more.into_iter().map(|record| record.position));
        }
        let count = found.len();
        found.sort_by_key(|position| (position.partition, position.offset));
        found.dedup();
        assert_eq!((count, found.len()), (900, 900));
    })
    .await;
}
