//! The contract of `EventLog`.

mod scans;

use crate::support::{World, soon, unique};
use async_trait::async_trait;
use bytes::Bytes;
use platform::event_log::{EventLog, LogEvent, LogReader, NewRecord, Record};
pub use scans::*;
use schemas::event::Position;
use std::sync::Arc;
use std::time::Duration;

/// A world with an event log. Its topics have one partition.
#[async_trait]
pub trait LogWorld: World {
    /// Opens the log. A case that calls it again has dropped what it got before.
    async fn open(&self) -> Arc<dyn EventLog>;

    /// A name for a topic, to be created by `provision`; removed with the world.
    fn topic(&self) -> String;
}

/// One test for each case, over the world of `$world`.
macro_rules! event_log_suite {
    ($world:expr) => {
        suite!(
            $world,
            $crate::event_log,
            a_record_comes_back_with_all_it_carries,
            records_are_read_in_the_order_of_their_append,
            appending_nothing_is_no_error,
            provisioning_twice_is_no_error_and_then_the_check_passes,
            an_acknowledged_record_is_there_when_the_log_is_opened_again,
            a_group_goes_on_after_what_it_stored,
            what_was_not_stored_is_read_again,
            storing_an_older_offset_does_not_go_back,
            each_group_reads_from_the_beginning,
            a_reader_reads_all_its_topics,
            a_record_is_read_back_by_its_place,
            a_place_without_a_record_is_none,
            a_batch_of_thousands_comes_whole,
            a_waiting_reader_is_woken,
            a_dropped_wait_loses_no_record,
            many_appending_at_once_lose_nothing_and_keep_their_order,
            a_second_member_takes_over_where_the_first_left,
            a_scan_reads_a_topic_as_it_stood_and_moves_no_group,
            a_scan_of_an_empty_topic_is_at_its_end,
            records_of_a_time_are_found_and_read_from_any_place,
        );
    };
}

type TheWorld = Arc<dyn LogWorld>;

/// A log with one topic.
async fn opened(world: &dyn LogWorld) -> (Arc<dyn EventLog>, String) {
    let log = world.open().await;
    let topic = world.topic();
    log.provision(std::slice::from_ref(&topic)).await.unwrap();
    (log, topic)
}

fn numbered(numbers: std::ops::Range<usize>) -> Vec<NewRecord> {
    numbers
        .map(|number| NewRecord {
            key: Some(Bytes::from_static(b"key")),
            value: Bytes::from(format!("record {number}")),
            headers: Vec::new(),
        })
        .collect()
}

fn values(records: &[Record]) -> Vec<&[u8]> {
    records.iter().map(|record| &*record.value).collect()
}

fn expected(records: &[NewRecord]) -> Vec<&[u8]> {
    records.iter().map(|record| &*record.value).collect()
}

async fn append(log: &dyn EventLog, topic: &str, records: Vec<NewRecord>) -> Vec<Position> {
    soon("append", log.append(topic, records)).await.unwrap()
}

async fn subscribe(log: &dyn EventLog, group: &str, topics: &[&str]) -> Box<dyn LogReader> {
    let topics: Vec<String> = topics.iter().map(|topic| (*topic).to_owned()).collect();
    soon("subscribe", log.subscribe(group, &topics)).await.unwrap()
}

/// Reads until there are so many records.
async fn read(reader: &mut dyn LogReader, count: usize) -> Vec<Record> {
    let mut records = Vec::new();
    soon("records", async {
        while records.len() < count {
            match reader.next().await.unwrap() {
                LogEvent::Records(more) => records.extend(more),
                LogEvent::Assigned(_) => {}
                LogEvent::Revoked { drained, .. } => drop(drained),
            }
        }
    })
    .await;
    records
}

/// Notes that everything up to and with this record is finished.
fn store_after(reader: &dyn LogReader, record: &Record) {
    let position = &record.position;
    reader.store(&(position.topic.clone(), position.partition), position.offset + 1);
}

pub async fn a_record_comes_back_with_all_it_carries(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let header = |name: &str, value: &'static [u8]| (name.to_owned(), Bytes::from_static(value));
    let records = vec![
        NewRecord::default(),
        NewRecord {
            key: Some(Bytes::from_static(b"a key \x00\xff")),
            value: Bytes::from_static(b"\x00\x01\xfe\xff"),
            headers: vec![
                header("event-id", b"evt_1"),
                header("empty", b""),
                header("event-id", b"evt_2\xff"),
                header("\u{e9}\u{1f980}", b"named so"),
            ],
        },
        NewRecord {
            key: Some(Bytes::from_static(b"large")),
            value: Bytes::from(vec![7; 1 << 20]),
            headers: Vec::new(),
        },
    ];
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    let positions = append(&*log, &topic, records.clone()).await;
    let read = read(&mut *reader, 3).await;
    for (index, (record, read)) in records.iter().zip(&read).enumerate() {
        assert_eq!(read.key, record.key, "record {index}");
        assert!(read.value == record.value, "record {index}: another value");
        assert_eq!(*read.headers, *record.headers, "record {index}");
        assert_eq!(read.position, positions[index], "record {index}");
        assert!(read.timestamp.0 > 0, "record {index}");
    }
    assert_eq!(
        read[1].header("event-id").map(|value| &**value),
        Some(&b"evt_2\xff"[..])
    );
    reader.close().await;
}

pub async fn records_are_read_in_the_order_of_their_append(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let mut positions = Vec::new();
    for part in [0..1, 1..4, 4..20] {
        positions.extend(append(&*log, &topic, numbered(part)).await);
    }
    assert!(positions.windows(2).all(|pair| pair[0].offset < pair[1].offset));
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    let read = read(&mut *reader, 20).await;
    assert_eq!(values(&read), expected(&numbered(0..20)));
    assert!(
        read.iter()
            .zip(&positions)
            .all(|(record, position)| record.position == *position)
    );
    reader.close().await;
}

pub async fn appending_nothing_is_no_error(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    assert_eq!(append(&*log, &topic, Vec::new()).await, []);
}

pub async fn provisioning_twice_is_no_error_and_then_the_check_passes(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let topics = [topic, world.topic()];
    log.provision(&topics).await.unwrap();
    log.provision(&topics).await.unwrap();
    log.check(&topics).await.unwrap();
}

pub async fn an_acknowledged_record_is_there_when_the_log_is_opened_again(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let positions = append(&*log, &topic, numbered(0..3)).await;
    drop(log);
    let log = world.open().await;
    for (position, record) in positions.iter().zip(numbered(0..3)) {
        let found = soon("read", log.read_at(position)).await.unwrap().unwrap();
        assert_eq!(found.value, record.value);
    }
    let further = append(&*log, &topic, numbered(3..4)).await;
    assert!(further[0].offset > positions[2].offset);
}

pub async fn a_group_goes_on_after_what_it_stored(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let group = unique("group");
    append(&*log, &topic, numbered(0..10)).await;
    let mut reader = subscribe(&*log, &group, &[&topic]).await;
    let first = read(&mut *reader, 10).await;
    store_after(&*reader, &first[5]);
    reader.close().await;
    drop(log);

    let log = world.open().await;
    let mut reader = subscribe(&*log, &group, &[&topic]).await;
    assert_eq!(values(&read(&mut *reader, 4).await), expected(&numbered(6..10)));
    reader.close().await;
}

pub async fn what_was_not_stored_is_read_again(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let group = unique("group");
    append(&*log, &topic, numbered(0..3)).await;
    for _ in 0..2 {
        let mut reader = subscribe(&*log, &group, &[&topic]).await;
        assert_eq!(values(&read(&mut *reader, 3).await), expected(&numbered(0..3)));
        reader.close().await;
    }
}

pub async fn storing_an_older_offset_does_not_go_back(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let group = unique("group");
    append(&*log, &topic, numbered(0..5)).await;
    let mut reader = subscribe(&*log, &group, &[&topic]).await;
    let first = read(&mut *reader, 5).await;
    store_after(&*reader, &first[3]);
    store_after(&*reader, &first[0]);
    reader.close().await;

    let mut reader = subscribe(&*log, &group, &[&topic]).await;
    assert_eq!(values(&read(&mut *reader, 1).await), expected(&numbered(4..5)));
    reader.close().await;
}

pub async fn each_group_reads_from_the_beginning(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    append(&*log, &topic, numbered(0..3)).await;
    for group in [unique("group"), unique("group")] {
        let mut reader = subscribe(&*log, &group, &[&topic]).await;
        let read = read(&mut *reader, 3).await;
        assert_eq!(values(&read), expected(&numbered(0..3)));
        store_after(&*reader, &read[2]);
        reader.close().await;
    }
}

pub async fn a_reader_reads_all_its_topics(world: TheWorld) {
    let (log, first) = opened(&*world).await;
    let second = world.topic();
    log.provision(std::slice::from_ref(&second)).await.unwrap();
    let mut reader = subscribe(&*log, &unique("group"), &[&first, &second]).await;
    append(&*log, &first, numbered(0..3)).await;
    append(&*log, &second, numbered(3..6)).await;
    let read = read(&mut *reader, 6).await;
    for (topic, numbers) in [(first, 0..3), (second, 3..6)] {
        let of_topic: Vec<Record> = read
            .iter()
            .filter(|record| *record.position.topic == *topic)
            .cloned()
            .collect();
        assert_eq!(values(&of_topic), expected(&numbered(numbers)));
    }
    reader.close().await;
}

pub async fn a_record_is_read_back_by_its_place(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let mut records = numbered(0..50);
    records[7].headers = vec![("name".to_owned(), Bytes::from_static(b"value"))];
    let positions = append(&*log, &topic, records.clone()).await;
    for index in [7, 49, 0, 7] {
        let found = soon("read", log.read_at(&positions[index]))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found.position, positions[index]);
        assert_eq!(found.value, records[index].value);
        assert_eq!(*found.headers, *records[index].headers);
        assert_eq!(found.key, records[index].key);
    }
}

pub async fn a_place_without_a_record_is_none(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let mut position = append(&*log, &topic, numbered(0..1)).await.remove(0);
    position.offset += 1;
    assert_eq!(soon("read", log.read_at(&position)).await.unwrap(), None);
}

pub async fn a_batch_of_thousands_comes_whole(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let positions = append(&*log, &topic, numbered(0..5_000)).await;
    assert_eq!(positions.len(), 5_000);
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    assert!(values(&read(&mut *reader, 5_000).await) == expected(&numbered(0..5_000)));
    reader.close().await;
}

pub async fn a_waiting_reader_is_woken(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    append(&*log, &topic, numbered(0..1)).await;
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    read(&mut *reader, 1).await;
    // It has everything, so it waits; then one more comes.
    let waiting = tokio::spawn(async move {
        let read = read(&mut *reader, 1).await;
        reader.close().await;
        read
    });
    append(&*log, &topic, numbered(1..2)).await;
    let woken = waiting.await.unwrap();
    assert_eq!(values(&woken), expected(&numbered(1..2)));
}

pub async fn a_dropped_wait_loses_no_record(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    let appending = {
        let (log, topic) = (log.clone(), topic.clone());
        tokio::spawn(async move {
            for number in 0..200 {
                append(&*log, &topic, numbered(number..number + 1)).await;
            }
        })
    };
    let mut records = Vec::new();
    soon("records", async {
        while records.len() < 200 {
            // Dropped at whatever point the deadline finds it.
            let next = tokio::time::timeout(Duration::from_micros(300), reader.next()).await;
            if let Ok(Ok(LogEvent::Records(more))) = next {
                records.extend(more);
            }
        }
    })
    .await;
    appending.await.unwrap();
    assert_eq!(values(&records), expected(&numbered(0..200)));
    reader.close().await;
}

pub async fn many_appending_at_once_lose_nothing_and_keep_their_order(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let appending: Vec<_> = (0..16_usize)
        .map(|who| {
            let (log, topic) = (log.clone(), topic.clone());
            tokio::spawn(async move {
                for number in 0..20 {
                    append(
                        &*log,
                        &topic,
                        numbered(who * 1_000 + number..who * 1_000 + number + 1),
                    )
                    .await;
                }
            })
        })
        .collect();
    for one in appending {
        one.await.unwrap();
    }
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    let read = read(&mut *reader, 320).await;
    for who in 0..16_usize {
        let all = numbered(who * 1_000..who * 1_000 + 20);
        let own: Vec<&[u8]> = values(&read)
            .into_iter()
            .filter(|value| all.iter().any(|record| record.value == *value))
            .collect();
        assert_eq!(own, expected(&all), "appender {who}");
    }
    reader.close().await;
}

pub async fn a_second_member_takes_over_where_the_first_left(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let group = unique("group");
    append(&*log, &topic, numbered(0..4)).await;
    let mut first = subscribe(&*log, &group, &[&topic]).await;
    let read_first = read(&mut *first, 4).await;
    store_after(&*first, &read_first[3]);
    first.close().await;

    let mut second = subscribe(&*log, &group, &[&topic]).await;
    append(&*log, &topic, numbered(4..8)).await;
    assert_eq!(values(&read(&mut *second, 4).await), expected(&numbered(4..8)));
    second.close().await;
}
