//! Reading a topic as it stands, or the records of a time.

use super::{TheWorld, append, expected, numbered, opened, read, subscribe, values};
use crate::support::{soon, unique};
use platform::event_log::{DISORDER, EventLog, LogScan, NewRecord, Record, Span};
use schemas::time::Millis;

/// Reads a topic from beginning to end; `meanwhile` is appended once the scan has begun.
async fn scan(log: &dyn EventLog, topic: &str, meanwhile: Vec<NewRecord>) -> Vec<Record> {
    let scan = soon("scan", log.scan(topic)).await.unwrap();
    append(log, topic, meanwhile).await;
    rest(scan).await
}

async fn rest(mut scan: Box<dyn LogScan>) -> Vec<Record> {
    let mut records = Vec::new();
    loop {
        let more = soon("records", scan.next()).await.unwrap();
        if more.is_empty() {
            return records;
        }
        records.extend(more);
    }
}

pub async fn a_scan_reads_a_topic_as_it_stood_and_moves_no_group(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let records = numbered(0..1_500);
    append(&*log, &topic, records.clone()).await;
    let found = scan(&*log, &topic, numbered(1_500..1_510)).await;
    assert_eq!(values(&found), expected(&records));
    assert_eq!(found[7].key, records[7].key);
    assert_eq!(scan(&*log, &topic, Vec::new()).await.len(), 1_510);
    let mut reader = subscribe(&*log, &unique("group"), &[&topic]).await;
    assert_eq!(read(&mut *reader, 1_510).await.len(), 1_510);
    reader.close().await;
}

pub async fn a_scan_of_an_empty_topic_is_at_its_end(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    assert!(scan(&*log, &topic, Vec::new()).await.is_empty());
}

pub async fn records_of_a_time_are_found_and_read_from_any_place(world: TheWorld) {
    let (log, topic) = opened(&*world).await;
    let find = async |from: Millis, to: Millis| {
        let found = soon("find", log.find(&topic, from, to)).await.unwrap();
        found.expect("a topic from which nothing was deleted")
    };
    assert_eq!(find(Millis(0), Millis(i64::MAX)).await, []);
    let positions = append(&*log, &topic, numbered(0..700)).await;
    let at = |index: usize| positions[index].offset;
    let stamped = soon("read", log.read_at(&positions[0]))
        .await
        .unwrap()
        .unwrap()
        .timestamp;
    let all = find(stamped, Millis(stamped.0 + 1)).await;
    assert_eq!(all.len(), 1, "{all:?}");
    let Span { partition, next, end } = all[0];
    assert!(next <= at(0) && end > at(0), "{all:?}");
    let far = |sign: i64| Millis(stamped.0 + sign * 3 * Millis(0).plus(DISORDER).0);
    assert_eq!(find(far(1), far(2)).await, [], "a time after the last record");
    assert_eq!(find(far(-2), far(-1)).await, [], "a time before the first one");
    let read = async |next, end| {
        let spans = [Span { partition, next, end }];
        let scan = soon("scan", log.scan_spans(&topic, &spans)).await.unwrap();
        rest(scan.expect("nothing was deleted")).await
    };
    assert_eq!(values(&read(at(5), at(650)).await), expected(&numbered(5..650)));
    assert_eq!(
        values(&read(at(690), at(699) + 1).await),
        expected(&numbered(690..700))
    );
    assert!(read(at(5), at(5)).await.is_empty());
    assert!(
        rest(soon("scan", log.scan_spans(&topic, &[])).await.unwrap().unwrap())
            .await
            .is_empty()
    );
}
