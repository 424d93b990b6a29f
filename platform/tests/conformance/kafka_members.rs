//! What a member is to its group: by which protocol it shares the partitions, and whether it has a name
//! that outlives it.

use crate::kafka::Broker;
use crate::kafka_group::{
    PARTITIONS, go_on_after_what_was_stored, number, numbered, opened, partition, read, revoked, subscribe,
};
use crate::support::{run, soon, unique};
use platform::config::GroupProtocol;
use platform::event_log::{EventLog, LogError, LogEvent, LogReader, Partition};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// Waits for an assignment that is not empty.
async fn assigned(reader: &mut dyn LogReader) -> HashSet<Partition> {
    soon("assignment", async {
        loop {
            if let LogEvent::Assigned(given) = reader.change().await {
                return HashSet::from_iter(given);
            }
        }
    })
    .await
}

/// Whether nothing changes for a reader within a moment.
async fn undisturbed(reader: &mut dyn LogReader) -> bool {
    let quiet = Duration::from_millis(1_500);
    tokio::time::timeout(quiet, reader.change()).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_brokers_protocol_a_revoked_partition_waits_for_its_drain_too() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (_, topic) = opened(&broker).await;
        let log = broker.member(PARTITIONS, GroupProtocol::Consumer, None);
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
        assert!(undisturbed(&mut *second).await, "the work is not done");
        for record in &records {
            first.store(&partition(record), record.position.offset + 1);
        }
        drop(drained);
        assert_eq!(assigned(&mut *second).await, HashSet::from_iter(taken));

        go_on_after_what_was_stored(&log, &topic, [&mut *first, &mut *second]).await;
        first.close().await;
        second.close().await;
    })
    .await;
}

/// A static member that restarts while another one reads; what each protocol promises alike.
async fn restarted(broker: Arc<Broker>, protocol: GroupProtocol) {
    let (log, topic) = opened(&broker).await;
    let group = unique("group");
    let [first, second] = ["first", "second"].map(|name| broker.member(PARTITIONS, protocol, Some(name)));
    log.append(&topic, numbered(0..200)).await.unwrap();
    let mut one = subscribe(&first, &group, &topic).await;
    assigned(&mut *one).await;
    let mut other = subscribe(&second, &group, &topic).await;
    let (_, drained) = revoked(&mut *one).await;
    drop(drained);
    let its = assigned(&mut *other).await;
    let records = soon("records", async {
        loop {
            if let LogEvent::Records(records) = other.next().await.unwrap() {
                return records;
            }
        }
    })
    .await;
    let (first_of_all, last) = (&records[0], &records[records.len() - 1]);
    let of_one = partition(last);
    other.store(&of_one, last.position.offset + 1);
    let stored = last.position.offset + 1;
    assert!(first_of_all.position.offset < stored);

    soon("close", other.close()).await;
    assert!(
        undisturbed(&mut *one).await,
        "it is awaited, and its partitions kept for it"
    );
    let mut other = subscribe(&second, &group, &topic).await;
    assert_eq!(assigned(&mut *other).await, its, "the same again");
    assert!(undisturbed(&mut *one).await, "nobody else noticed");
    let again = soon("records", async {
        loop {
            if let LogEvent::Records(records) = other.next().await.unwrap()
                && let Some(record) = records.iter().find(|record| partition(record) == of_one)
            {
                return record.position.offset;
            }
        }
    });
    log.append(&topic, numbered(200..400)).await.unwrap();
    assert_eq!(again.await, stored, "it goes on after what it stored");
    one.close().await;
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_with_a_name_gets_its_partitions_back_and_the_others_notice_nothing() {
    run(Broker::new(), |broker| restarted(broker, GroupProtocol::Classic)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_brokers_protocol_a_member_with_a_name_gets_its_partitions_back_too() {
    run(Broker::new(), |broker| restarted(broker, GroupProtocol::Consumer)).await;
}

/// Waits until a reader is refused for good.
async fn refused(reader: &mut dyn LogReader) -> String {
    soon("refusal", async {
        loop {
            match reader.next().await {
                Err(LogError::Refused(why)) => return why,
                Ok(_) | Err(LogError::Unavailable(_)) => {}
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_with_one_name_one_is_told_to_stop() {
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (_, topic) = opened(&broker).await;
        for protocol in [GroupProtocol::Classic, GroupProtocol::Consumer] {
            let group = unique("group");
            let log = broker.member(PARTITIONS, protocol, Some("twin"));
            let mut first = subscribe(&log, &group, &topic).await;
            assigned(&mut *first).await;
            let mut second = subscribe(&log, &group, &topic).await;
            // The members' own protocol fences the one that was there, the brokers' the one that comes.
            let why = match protocol {
                GroupProtocol::Classic => refused(&mut *first).await,
                GroupProtocol::Consumer => refused(&mut *second).await,
            };
            assert!(why.contains("kafka.instance"), "{why}");
            first.close().await;
            second.close().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_left_while_it_was_paused_is_read_when_it_comes_back() {
    const RECORDS: usize = 20_000;
    run(Broker::new(), |broker: Arc<Broker>| async move {
        let (log, topic) = opened(&broker).await;
        let group = unique("group");
        // More than lies ready for a reader that takes none of it: its partitions are paused.
        log.append(&topic, numbered(0..RECORDS)).await.unwrap();
        let mut first = subscribe(&log, &group, &topic).await;
        assert_eq!(assigned(&mut *first).await.len(), PARTITIONS as usize);
        assert!(undisturbed(&mut *first).await, "time to pause");
        let mut second = subscribe(&log, &group, &topic).await;
        // Its records stay where they are, so that it is paused still.
        let revocation = soon("revocation", first.change()).await;
        let LogEvent::Revoked {
            partitions: taken,
            drained,
        } = revocation
        else {
            panic!("{revocation:?} before the revocation");
        };
        drop(drained);
        assert_eq!(assigned(&mut *second).await, HashSet::from_iter(taken.clone()));
        // It takes records again, and what it still has goes on.
        let mut numbers: HashSet<usize> = HashSet::new();
        numbers.extend(read(&mut *first, 4_000).await.iter().map(number));
        second.close().await;
        soon("the records of all partitions", async {
            while numbers.len() < RECORDS {
                if let LogEvent::Records(records) = first.next().await.unwrap() {
                    numbers.extend(records.iter().map(number));
                }
            }
        })
        .await;
        first.close().await;
    })
    .await;
}
