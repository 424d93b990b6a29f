//! What only Kafka does: members of a group that share partitions, and a service that is slow.

use crate::event_log::LogWorld;
use crate::kafka::Broker;
use crate::support::{PATIENCE, run, soon, unique, world};
use bytes::Bytes;
use platform::event_log::kafka::{KafkaConfig, KafkaLog};
use platform::event_log::{Drained, EventLog, LogError, LogEvent, LogReader, NewRecord, Partition, Record};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{ClientConfig, TopicPartitionList};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

pub const PARTITIONS: i32 = 4;

/// A topic of several partitions.
pub async fn opened(broker: &Broker) -> (KafkaLog, String) {
    let log = broker.log(PARTITIONS);
    let topic = broker.topic();
    log.provision(std::slice::from_ref(&topic)).await.unwrap();
    (log, topic)
}

/// Records with keys that spread over the partitions.
pub fn numbered(numbers: std::ops::Range<usize>) -> Vec<NewRecord> {
    numbers
        .map(|number| NewRecord {
            key: Some(Bytes::from(format!("key {number}"))),
            value: Bytes::from(format!("{number}")),
            headers: Vec::new(),
        })
        .collect()
}

pub fn number(record: &Record) -> usize {
    std::str::from_utf8(&record.value).unwrap().parse().unwrap()
}

pub fn partition(record: &Record) -> Partition {
    (record.position.topic.clone(), record.position.partition)
}

pub async fn subscribe(log: &KafkaLog, group: &str, topic: &str) -> Box<dyn LogReader> {
    soon("subscribe", log.subscribe(group, &[topic.to_owned()]))
        .await
        .unwrap()
}

/// Reads so many records, storing none.
pub async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    soon("records", async {
        while records.len() < count {
            if let LogEvent::Records(more) = reader.next().await.unwrap() {
                records.extend(more);
            }
        }
    })
    .await;
    records
}

/// Waits for a revocation.
pub async fn revoked(reader: &mut dyn LogReader) -> (Vec<Partition>, Drained) {
    soon("revocation", async {
        loop {
            if let LogEvent::Revoked { partitions, drained } = reader.next().await.unwrap() {
                return (partitions, drained);
            }
        }
    })
    .await
}

/// After 200 records are stored: each new one comes to one of two members, none of the stored ones again.
pub async fn go_on_after_what_was_stored(
    log: &KafkaLog,
    topic: &str,
    [first, second]: [&mut dyn LogReader; 2],
) {
    log.append(topic, numbered(200..300)).await.unwrap();
    let mut numbers = Vec::new();
    soon("new records", async {
        while numbers.len() < 100 {
            let event = tokio::select! {
                event = first.next() => event.unwrap(),
                event = second.next() => event.unwrap(),
            };
            if let LogEvent::Records(records) = event {
                numbers.extend(records.iter().map(number));
            }
        }
    })
    .await;
    numbers.sort_unstable();
    assert_eq!(numbers, Vec::from_iter(200..300));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_partition_waits_for_its_drain_and_goes_on_after_what_was_stored() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let group = unique("group");
        log.append(&topic, numbered(0..200)).await.unwrap();
        let mut first = subscribe(&log, &group, &topic).await;
        let records = read(&mut *first, 200).await;

        let mut second = subscribe(&log, &group, &topic).await;
        let (taken, drained) = revoked(&mut *first).await;
        assert!(
            !taken.is_empty() && taken.len() < PARTITIONS as usize,
            "{taken:?}"
        );
        // The work is not done, so nobody else has them yet.
        let early = tokio::time::timeout(Duration::from_millis(1_500), second.next()).await;
        assert!(early.is_err(), "{early:?}");
        for record in &records {
            first.store(&partition(record), record.position.offset + 1);
        }
        drop(drained);

        let assigned = soon("assignment", second.next()).await.unwrap();
        let LogEvent::Assigned(given) = assigned else {
            panic!("{assigned:?} before an assignment");
        };
        assert_eq!(HashSet::<Partition>::from_iter(given), HashSet::from_iter(taken));

        go_on_after_what_was_stored(&log, &topic, [&mut *first, &mut *second]).await;
        first.close().await;
        second.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_without_room_for_records_hears_of_what_is_taken_from_it() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let group = unique("group");
        // More than lies ready for a reader, so that its partitions are paused.
        log.append(&topic, numbered(0..20_000)).await.unwrap();
        let mut first = subscribe(&log, &group, &topic).await;
        let assigned = soon("assignment", first.change()).await;
        assert!(
            matches!(&assigned, LogEvent::Assigned(given) if given.len() == PARTITIONS as usize),
            "{assigned:?}"
        );
        let mut second = subscribe(&log, &group, &topic).await;
        let revoked = soon("revocation", first.change()).await;
        let LogEvent::Revoked { partitions, drained } = revoked else {
            panic!("{revoked:?} before the revocation");
        };
        let told = Instant::now();
        drop(drained);
        let given = soon("assignment", second.change()).await;
        assert!(
            matches!(&given, LogEvent::Assigned(given) if HashSet::<&Partition>::from_iter(given) == HashSet::from_iter(&partitions)),
            "{given:?}"
        );
        // A drain that nobody tells of takes five seconds.
        assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());

        // All of them are there still, each for one of the two.
        let mut numbers = HashSet::new();
        soon("all records", async {
            while numbers.len() < 20_000 {
                let event = tokio::select! {
                    event = first.next() => event.unwrap(),
                    event = second.next() => event.unwrap(),
                };
                if let LogEvent::Records(records) = event {
                    numbers.extend(records.iter().map(number));
                }
            }
        })
        .await;
        first.close().await;
        second.close().await;
    })
    .await;
}

/// A service that finishes each record at once, until it is told to leave.
async fn serve(
    mut reader: Box<dyn LogReader>,
    seen: mpsc::Sender<Record>,
    leave: tokio_util::sync::CancellationToken,
) {
    loop {
        let event = tokio::select! {
            () = leave.cancelled() => break,
            event = reader.next() => event.unwrap(),
        };
        if let LogEvent::Records(records) = event {
            for record in records {
                seen.send(record.clone()).await.unwrap();
                reader.store(&partition(&record), record.position.offset + 1);
            }
        }
    }
    reader.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_leave_no_record_out() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let group = unique("group");
        let (seen, mut records) = mpsc::channel(1_024);
        let log = Arc::new(log);
        let appending = {
            let (log, topic) = (log.clone(), topic.clone());
            tokio::spawn(async move {
                for part in 0..100 {
                    log.append(&topic, numbered(part * 20..part * 20 + 20))
                        .await
                        .unwrap();
                }
            })
        };
        let mut members = Vec::new();
        let mut counts: HashMap<usize, usize> = HashMap::new();
        soon("all records", async {
            // A member more at each quarter, and the oldest leaves once there are three.
            for quarter in 1..=4 {
                let leave = tokio_util::sync::CancellationToken::new();
                let reader = subscribe(&log, &group, &topic).await;
                members.push((tokio::spawn(serve(reader, seen.clone(), leave.clone())), leave));
                if members.len() == 3 {
                    members.remove(0).1.cancel();
                }
                while counts.len() < quarter * 500 {
                    *counts.entry(number(&records.recv().await.unwrap())).or_default() += 1;
                }
            }
        })
        .await;
        appending.await.unwrap();
        for (task, leave) in members {
            leave.cancel();
            task.await.unwrap();
        }
        assert_eq!(counts.len(), 2_000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_takes_nothing_for_a_while_gets_everything_in_order_and_once() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let value = Bytes::from(vec![b'x'; 1_000]);
        let records = vec![
            NewRecord {
                key: Some(Bytes::from_static(b"one partition")),
                value,
                headers: Vec::new()
            };
            20_000
        ];
        log.append(&topic, records).await.unwrap();
        let mut reader = subscribe(&log, &unique("group"), &topic).await;
        let mut offsets: Vec<i64> = Vec::new();
        for pause in [
            Duration::from_millis(1_500),
            Duration::from_millis(700),
            Duration::ZERO,
        ] {
            let more = read(
                &mut *reader,
                if pause.is_zero() {
                    20_000 - offsets.len()
                } else {
                    5_000
                },
            )
            .await;
            offsets.extend(more.iter().map(|record| record.position.offset));
            // The slow service itself: it takes nothing for so long.
            tokio::time::sleep(pause).await;
        }
        assert!(offsets == Vec::from_iter(0..20_000));
        reader.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_what_is_not_stored() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        log.append(&topic, numbered(0..100)).await.unwrap();
        let mut reader = subscribe(&log, &unique("group"), &topic).await;
        let records = read(&mut *reader, 100).await;
        let lag = |reader: &dyn LogReader| reader.lag().iter().map(|(_, lag)| lag).sum::<i64>();
        assert_eq!(lag(&*reader), 100);
        let of_one = partition(&records[0]);
        let its: Vec<&Record> = records
            .iter()
            .filter(|record| partition(record) == of_one)
            .collect();
        reader.store(&of_one, its[its.len() - 1].position.offset + 1);
        assert_eq!(lag(&*reader), 100 - its.len() as i64);
        reader.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_payload_passes_and_is_read_back() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let large = NewRecord {
            value: Bytes::from(vec![7; 9 << 20]),
            ..NewRecord::default()
        };
        let position = log.append(&topic, vec![large.clone()]).await.unwrap().remove(0);
        let mut reader = subscribe(&log, &unique("group"), &topic).await;
        assert!(read(&mut *reader, 1).await[0].value == large.value);
        let found = soon("read", log.read_at(&position)).await.unwrap().unwrap();
        assert!(found.value == large.value);
        reader.close().await;

        let too_large = NewRecord {
            value: Bytes::from(vec![7; 17 << 20]),
            ..NewRecord::default()
        };
        let refused = soon("append", log.append(&topic, vec![too_large])).await;
        assert!(matches!(refused, Err(LogError::Refused(_))), "{refused:?}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_is_refused_and_named() {
    let log = Broker::new().log(1);
    let topic = unique("missing");
    let expected = format!("topic {topic} does not exist; run hookwright provision");
    let topics = [topic.clone()];
    assert_eq!(log.check(&topics).await.unwrap_err().to_string(), expected);
    let subscribed = log.subscribe(&unique("group"), &topics).await.map(|_reader| ());
    assert_eq!(subscribed.unwrap_err().to_string(), expected);
    let appended = soon("append", log.append(&topic, numbered(0..1))).await;
    assert!(matches!(appended, Err(LogError::Refused(_))), "{appended:?}");
}

#[tokio::test]
async fn a_property_librdkafka_does_not_take_is_named_without_its_value() {
    let config = KafkaConfig {
        brokers: world("WORLD_KAFKA_BROKERS"),
        properties: [("acks".to_owned(), "a secret".to_owned())].into(),
        ..KafkaConfig::default()
    };
    assert!(!format!("{config:?}").contains("secret"));
    let refused = KafkaLog::new(config).check(&[]).await.unwrap_err();
    assert!(matches!(refused, LogError::Refused(_)), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("\"acks\"") && !text.contains("secret"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_stored_is_soon_committed_so_that_a_kill_repeats_little() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = (broker.log(1), broker.topic());
        log.provision(std::slice::from_ref(&topic)).await.unwrap();
        let group = unique("group");
        let mut reader = subscribe(&log, &group, &topic).await;
        let onlooker = onlooker(&group);
        // Each follows a commit, so that what is measured is a whole interval between two.
        let mut waits = Vec::new();
        for round in 0..7 {
            log.append(&topic, numbered(round..round + 1)).await.unwrap();
            let record = read(&mut *reader, 1).await.remove(0);
            let next = record.position.offset + 1;
            let stored = Instant::now();
            reader.store(&partition(&record), next);
            while committed(&onlooker, &topic).await < next {
                assert!(stored.elapsed() < PATIENCE, "offset {next}");
                // Another process would be asked no less often.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            waits.push(stored.elapsed());
        }
        waits.sort_unstable();
        // A poll of 100 ms, an interval of 200 ms, and the time of this machine.
        assert!(waits[3] < Duration::from_millis(600), "{waits:?}");
        reader.close().await;
    })
    .await;
}

/// A client that joins no group, to ask what one has committed.
fn onlooker(group: &str) -> Arc<BaseConsumer> {
    let consumer = ClientConfig::new()
        .set("bootstrap.servers", world("WORLD_KAFKA_BROKERS"))
        .set("group.id", group)
        .create();
    Arc::new(consumer.unwrap())
}

/// The offset that its group has committed in a topic of one partition.
async fn committed(onlooker: &Arc<BaseConsumer>, topic: &str) -> i64 {
    let (onlooker, topic) = (onlooker.clone(), topic.to_owned());
    let ask = move || {
        let mut places = TopicPartitionList::new();
        places.add_partition(&topic, 0);
        let found = onlooker.committed_offsets(places, PATIENCE).unwrap();
        found.elements()[0].offset().to_raw().unwrap_or(0)
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}
