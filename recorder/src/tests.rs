//! The recorder in a group of two, on the real Kafka, while its database is away.

mod gather;
mod killed;

use super::*;
use bytes::Bytes;
use platform::catalog::Catalog;
use platform::event_log::NewRecord;
use platform::event_log::kafka::{KafkaConfig, KafkaLog};
use platform::secrets::Sealer;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use schemas::event::Position;
use schemas::history::{EventRecord, write_lines};
use schemas::ids::{EventId, Tenant};
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::time::Instant;
use tokio::sync::oneshot;

const PARTITIONS: i32 = 4;
const EVENTS: usize = 400;
const PATIENCE: Duration = Duration::from_secs(60);
/// A drain that nobody tells of lasts five seconds.
const PROMPT: Duration = Duration::from_secs(3);

fn brokers() -> String {
    std::env::var("WORLD_KAFKA_BROKERS").expect("set by `make test`, which brings the world up")
}

async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, work).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}"))
}

fn id(number: usize) -> EventId {
    EventId::new(&format!("event-{number}")).unwrap()
}

fn event_record(number: usize) -> EventRecord {
    EventRecord {
        event_id: id(number),
        tenant: Tenant::new("default").unwrap(),
        event_type: "test.v1".into(),
        accepted_at: Millis(1_000),
        payload_size: 2,
        content_type: "application/json".into(),
        position: Position {
            topic: Arc::from("events"),
            partition: 0,
            offset: i64::try_from(number).unwrap(),
        },
        targets: Vec::new(),
    }
}

fn event(number: usize) -> NewRecord {
    let record = HistoryRecord::Event(event_record(number));
    NewRecord {
        key: Some(Bytes::from(format!("key {number}"))),
        value: Bytes::from(write_lines([&record]).remove(0)),
        headers: Vec::new(),
    }
}

/// The ids in a batch of the topic.
fn ids(records: &[Record]) -> Vec<EventId> {
    let events = records
        .iter()
        .flat_map(|record| read_lines(&record.value))
        .map(|line| match line.unwrap() {
            HistoryRecord::Event(event) => event.event_id,
            HistoryRecord::Attempt(attempt) => attempt.event_id,
        });
    events.collect()
}

async fn remove(topic: &str) {
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .create()
        .unwrap();
    admin.delete_topics(&[topic], &AdminOptions::new()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_does_not_wait_for_a_database_that_is_away() {
    let topic = format!(
        "recorder-{:016x}",
        RandomState::new().hash_one(std::process::id())
    );
    let case = tokio::spawn(a_second_member_comes_while_the_database_is_away(topic.clone())).await;
    remove(&topic).await;
    if let Err(failed) = case {
        std::panic::resume_unwind(failed.into_panic());
    }
}

async fn a_second_member_comes_while_the_database_is_away(topic: String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hookwright.db");
    let clock = Clock::system();
    let catalog = Catalog::open(
        &format!("sqlite:{}", file.display()),
        Sealer::random().0,
        clock.clone(),
    )
    .await
    .unwrap();
    catalog.migrate().await.unwrap();
    let history = History::new(&catalog);
    let log = Arc::new(KafkaLog::new(KafkaConfig {
        brokers: brokers(),
        partitions: PARTITIONS,
        // Members hear of a rebalance by their heartbeats: three seconds by default.
        properties: [("heartbeat.interval.ms".to_owned(), "300".to_owned())].into(),
        ..KafkaConfig::default()
    }));
    soon("the topic", log.provision(std::slice::from_ref(&topic)))
        .await
        .unwrap();
    // Who else writes does not let go of the file.
    let other = rusqlite::Connection::open(&file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();

    let (group, shutdown) = (format!("{topic}-group"), CancellationToken::new());
    let config = Config {
        group: group.clone(),
        topic: topic.clone(),
        keep: Duration::from_secs(3_600 * 24 * 365 * 100),
        disable_after: None,
    };
    let parts = Parts {
        log: log.clone(),
        history: History::new(&catalog),
        catalog: catalog.clone(),
        announcer: None,
        mailer: None,
        clock,
    };
    let (reads, reading) = oneshot::channel();
    let ready = || reads.send(()).unwrap();
    let running = tokio::spawn(run(config, parts, ready, shutdown.clone()));
    soon("the recorder reads", reading).await.unwrap();
    let first: Vec<NewRecord> = (0..EVENTS / 2).map(event).collect();
    soon("an append", log.append(&topic, first)).await.unwrap();
    // It has a batch and cannot write it: it says so once a try has failed.
    soon("a failed write", async {
        while !HISTORY.is_away() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;

    let mut second = soon("subscribe", log.subscribe(&group, std::slice::from_ref(&topic)))
        .await
        .unwrap();
    let begun = Instant::now();
    let given = soon("an assignment", second.next()).await.unwrap();
    let took = begun.elapsed();
    assert!(
        matches!(&given, LogEvent::Assigned(given) if (1..PARTITIONS as usize).contains(&given.len())),
        "{given:?}"
    );
    assert!(took < PROMPT, "{took:?}");

    // Each event is written by the one or comes to the other.
    let more: Vec<NewRecord> = (EVENTS / 2..EVENTS).map(event).collect();
    soon("an append", log.append(&topic, more)).await.unwrap();
    other.execute_batch("COMMIT").unwrap();
    let mut left: HashSet<EventId> = (0..EVENTS).map(id).collect();
    let tenant = Tenant::new("default").unwrap();
    soon("all events", async {
        while !left.is_empty() {
            tokio::select! {
                event = second.next() => if let LogEvent::Records(records) = event.unwrap() {
                    for id in ids(&records) {
                        left.remove(&id);
                    }
                },
                () = tokio::time::sleep(Duration::from_millis(50)) => for id in left.clone() {
                    if history.event(&tenant, &id).await.is_ok() {
                        left.remove(&id);
                    }
                },
            }
        }
    })
    .await;
    second.close().await;
    shutdown.cancel();
    soon("its end", running).await.unwrap().unwrap();
}
