//! Partitions come and go while the consumer has all it can hold.

use async_trait::async_trait;
use bytes::Bytes;
use consumer::config::PayloadPlace;
use consumer::price::Threshold;
use consumer::{Config, Parts};
use platform::catalog::Catalog;
use platform::clock::Clock;
use platform::delivery_queue::embedded::EmbeddedQueue;
use platform::event_log::{
    Drained, EventLog, LogError, LogEvent, LogReader, LogScan, NewRecord, Partition, Record, Span,
};
use platform::follow::Follower;
use platform::payload_store::embedded::DirectoryStore;
use platform::report::Reporter;
use platform::secrets::Sealer;
use platform::sqlite::Sync;
use schemas::event::Position;
use schemas::time::Millis;
use std::collections::HashSet;
use std::sync::mpsc::{self, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// More than any test sends.
const AHEAD: usize = 16;
const PATIENCE: Duration = Duration::from_secs(30);

/// A log driven by the test. Its records are unreadable, so that the work on each of them is one
/// append to the dead-letter topic, which lasts until the test lets it finish.
struct Driven {
    reader: Mutex<Option<DrivenReader>>,
    begun: Sender<Bytes>,
    finished: watch::Sender<HashSet<Bytes>>,
}

struct DrivenReader {
    changes: Receiver<LogEvent>,
    records: Receiver<Vec<Record>>,
    stored: Sender<(Partition, i64)>,
}

#[async_trait]
impl EventLog for Driven {
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        for record in &records {
            self.begun.try_send(record.value.clone()).unwrap();
            let mut finished = self.finished.subscribe();
            finished
                .wait_for(|values| values.contains(&record.value))
                .await
                .unwrap();
        }
        Ok(vec![place(topic, 0, 0); records.len()])
    }

    async fn read_at(&self, _position: &Position) -> Result<Option<Record>, LogError> {
        Ok(None)
    }

    async fn scan(&self, _topic: &str) -> Result<Box<dyn LogScan>, LogError> {
        Err(LogError::Refused("nothing is kept".to_owned()))
    }

    async fn subscribe(&self, _group: &str, _topics: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(self.reader.lock().unwrap().take().unwrap()))
    }

    async fn find(&self, _: &str, _: Millis, _: Millis) -> Result<Option<Vec<Span>>, LogError> {
        Ok(None)
    }

    async fn scan_spans(&self, _: &str, _: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        Ok(None)
    }

    async fn provision(&self, _topics: &[String]) -> Result<(), LogError> {
        Ok(())
    }

    async fn check(&self, _topics: &[String]) -> Result<(), LogError> {
        Ok(())
    }
}

#[async_trait]
impl LogReader for DrivenReader {
    async fn next(&mut self) -> Result<LogEvent, LogError> {
        tokio::select! {
            biased;
            Some(change) = self.changes.recv() => Ok(change),
            Some(records) = self.records.recv() => Ok(LogEvent::Records(records)),
        }
    }

    async fn change(&mut self) -> LogEvent {
        self.changes.recv().await.unwrap()
    }

    fn store(&self, partition: &Partition, next_offset: i64) {
        self.stored.try_send((partition.clone(), next_offset)).unwrap();
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    async fn close(self: Box<Self>) {}
}

/// A consumer on a driven log.
struct World {
    log: Arc<Driven>,
    changes: Sender<LogEvent>,
    records: Sender<Vec<Record>>,
    begun: AsyncMutex<Receiver<Bytes>>,
    stored: AsyncMutex<Receiver<(Partition, i64)>>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    /// A consumer that works on so many events at once.
    async fn start(in_flight: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let url = format!("sqlite:{}", folder.path().join("catalog.db").display());
        let catalog = Catalog::open(&url, Sealer::random().0, clock.clone())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        let (changes, driven_changes) = channel(AHEAD);
        let (records, driven_records) = channel(AHEAD);
        let (begin, begun) = channel(AHEAD);
        let (store, stored) = channel(AHEAD);
        let log = Arc::new(Driven {
            reader: Mutex::new(Some(DrivenReader {
                changes: driven_changes,
                records: driven_records,
                stored: store,
            })),
            begun: begin,
            finished: watch::Sender::default(),
        });
        let config = Config {
            group: "group".to_owned(),
            topics: vec![platform::config::Topic::raw("t")],
            dead_letter_topic: "dead".to_owned(),
            max_payload: 1 << 20,
            spill: Threshold {
                limit: 1 << 10,
                prices: None,
            },
            payload_place: PayloadPlace::Message,
            registry: None,
            poison_share: 1.0,
            in_flight,
            in_flight_bytes: 1 << 20,
            match_memory: 1 << 20,
        };
        let parts = Parts {
            log: log.clone(),
            queue: Arc::new(EmbeddedQueue::open(folder.path(), Sync::Normal, clock.clone()).unwrap()),
            payloads: Arc::new(DirectoryStore::open(&folder.path().join("payloads"), Sync::Normal).unwrap()),
            catalog: Follower::start(catalog, clock.clone()).await.unwrap(),
            reporter: Reporter::new(log.clone(), "attempts".to_owned()).0,
            clock,
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { consumer::run(config, parts, || (), stop).await.unwrap() });
        Self {
            log,
            changes,
            records,
            begun: AsyncMutex::new(begun),
            stored: AsyncMutex::new(stored),
            shutdown,
            running,
            _folder: folder,
        }
    }

    fn assign(&self, partitions: &[i32]) {
        let given = partitions.iter().map(|number| partition(*number)).collect();
        self.changes.try_send(LogEvent::Assigned(given)).unwrap();
    }

    /// Takes a partition away; the receiver hears of its drain by its sender's end.
    fn revoke(&self, number: i32) -> mpsc::Receiver<()> {
        let (sender, drained) = sync_channel(0);
        let revoked = LogEvent::Revoked {
            partitions: vec![partition(number)],
            drained: Drained(sender),
        };
        self.changes.try_send(revoked).unwrap();
        drained
    }

    fn append(&self, places: &[(i32, i64)]) {
        let records = places
            .iter()
            .map(|(partition, offset)| Record {
                position: place("t", *partition, *offset),
                timestamp: Millis(0),
                key: None,
                value: Bytes::from(format!("{partition}@{offset}")),
                headers: Vec::new().into(),
            })
            .collect();
        self.records.try_send(records).unwrap();
    }

    /// The next record that the consumer begins.
    async fn begun(&self) -> Bytes {
        let mut begun = self.begun.lock().await;
        tokio::time::timeout(PATIENCE, begun.recv())
            .await
            .unwrap()
            .unwrap()
    }

    /// The next offset that the consumer stores.
    async fn stored(&self) -> (i32, i64) {
        let mut stored = self.stored.lock().await;
        let ((_, partition), next) = tokio::time::timeout(PATIENCE, stored.recv())
            .await
            .unwrap()
            .unwrap();
        (partition, next)
    }

    /// Lets a record finish.
    fn finish(&self, value: &'static str) {
        self.log.finished.send_modify(|values| {
            values.insert(Bytes::from_static(value.as_bytes()));
        });
    }

    async fn end(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap();
    }
}

fn partition(number: i32) -> Partition {
    (Arc::from("t"), number)
}

fn place(topic: &str, partition: i32, offset: i64) -> Position {
    Position {
        topic: Arc::from(topic),
        partition,
        offset,
    }
}

async fn drains(drained: mpsc::Receiver<()>) {
    let heard = tokio::task::spawn_blocking(move || drained.recv_timeout(PATIENCE)).await;
    assert_eq!(heard.unwrap(), Err(RecvTimeoutError::Disconnected));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_let_go_while_records_wait_for_room() {
    let world = World::start(1).await;
    world.assign(&[0, 1]);
    world.append(&[(0, 0), (1, 0), (1, 1), (0, 1)]);
    assert_eq!(world.begun().await, "0@0");
    // No room is left, and nothing of partition 1 has begun.
    drains(world.revoke(1)).await;
    world.finish("0@0");
    assert_eq!(world.stored().await, (0, 1));
    assert_eq!(world.begun().await, "0@1");
    world.finish("0@1");
    assert_eq!(world.stored().await, (0, 2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_comes_back_before_its_old_work_is_done_is_kept() {
    let world = World::start(1).await;
    world.assign(&[0]);
    world.append(&[(0, 0), (0, 1)]);
    assert_eq!(world.begun().await, "0@0");
    // The log has waited long enough: it takes the partition, and later gives it again.
    let drained = world.revoke(0);
    world.assign(&[0]);
    drains(drained).await;
    world.append(&[(0, 0)]);
    world.finish("0@0");
    assert_eq!(world.begun().await, "0@0");
    assert_eq!(world.stored().await, (0, 1));
    world.append(&[(0, 1)]);
    assert_eq!(world.begun().await, "0@1");
    world.finish("0@1");
    assert_eq!(world.stored().await, (0, 2));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_is_let_go_while_the_consumer_drains() {
    let world = World::start(2).await;
    world.assign(&[0, 1]);
    world.append(&[(0, 0), (1, 0)]);
    world.begun().await;
    world.begun().await;
    world.shutdown.cancel();
    let drained = world.revoke(1);
    world.finish("1@0");
    drains(drained).await;
    world.finish("0@0");
    world.end().await;
}
