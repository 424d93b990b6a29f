//! A consumer on a log and a queue that the test drives, and a catalog of many targets.

use async_trait::async_trait;
use bytes::Bytes;
use consumer::config::PayloadPlace;
use consumer::price::Threshold;
use consumer::{Config, Parts};
use platform::catalog::Catalog;
use platform::clock::Clock;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use platform::event_log::{
    EventLog, LogError, LogEvent, LogReader, LogScan, NewRecord, Partition, Record, Span,
};
use platform::follow::Follower;
use platform::payload_store::embedded::DirectoryStore;
use platform::report::Reporter;
use platform::secrets::Sealer;
use platform::sqlite::Sync;
use schemas::avro::{WebhookEvent, encode_v2};
use schemas::event::Position;
use schemas::time::Millis;
use sqlx::AssertSqlSafe;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(60);
pub const ENTRIES: usize = 10;
pub const CONCURRENCY: usize = 4;
/// More than any test sends.
const AHEAD: usize = 64;
/// Partitions of the log.
const PARTITIONS: i32 = 64;

/// What the queue says of a message that was sent for the n-th time, from 1.
pub type Answer = fn(&str, usize) -> Result<(), QueueError>;

/// A queue that takes 1 ms for a batch, and remembers whose deliveries came.
pub struct Queue {
    answer: Answer,
    linger: Duration,
    taken: watch::Sender<Taken>,
}

/// What was sent, in order, by message group (`tenant:target`).
#[derive(Default)]
pub struct Taken {
    pub groups: Vec<String>,
    tries: HashMap<String, usize>,
}

impl Taken {
    pub fn of(&self, tenant: &str) -> usize {
        let own = |group: &&String| group.split(':').next() == Some(tenant);
        self.groups.iter().filter(own).count()
    }

    pub fn tries(&self, group: &str) -> usize {
        self.tries.get(group).copied().unwrap_or(0)
    }
}

#[async_trait]
impl DeliveryQueue for Queue {
    async fn send(&self, _: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut results = Vec::new();
        self.taken.send_modify(|taken| {
            for message in batch {
                let tries = taken.tries.entry(message.group.clone()).or_default();
                *tries += 1;
                let result = (self.answer)(&message.group, *tries);
                if result.is_ok() {
                    taken.groups.push(message.group.clone());
                }
                results.push(result);
            }
        });
        results
    }

    async fn receive(
        &self,
        _: QueueName,
        _: usize,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        Ok(Vec::new())
    }

    async fn delete(&self, _: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); receipts.len()]
    }

    async fn extend(&self, _: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); entries.len()]
    }

    async fn depth(&self, _: QueueName) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }

    fn limits(&self) -> QueueLimits {
        QueueLimits {
            batch_entries: ENTRIES,
            batch_bytes: 1 << 20,
            linger: self.linger,
            concurrency: CONCURRENCY,
            receive_entries: 10,
            receive_wait: Duration::ZERO,
            drop_receive: true,
        }
    }

    async fn provision(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

struct Log {
    reader: Mutex<Option<Reader>>,
    dead: Sender<NewRecord>,
}

struct Reader {
    events: Receiver<LogEvent>,
    stored: watch::Sender<HashMap<i32, i64>>,
}

#[async_trait]
impl EventLog for Log {
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        let places = vec![place(0, 0); records.len()];
        if topic == "dead" {
            for record in records {
                self.dead.try_send(record).unwrap();
            }
        }
        Ok(places)
    }

    async fn read_at(&self, _: &Position) -> Result<Option<Record>, LogError> {
        Ok(None)
    }

    async fn subscribe(&self, _: &str, _: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(self.reader.lock().unwrap().take().unwrap()))
    }

    async fn scan(&self, _: &str) -> Result<Box<dyn LogScan>, LogError> {
        Err(LogError::Unavailable("nothing is scanned here".to_owned()))
    }

    async fn find(&self, _: &str, _: Millis, _: Millis) -> Result<Option<Vec<Span>>, LogError> {
        Ok(None)
    }

    async fn scan_spans(&self, _: &str, _: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        Ok(None)
    }

    async fn provision(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }

    async fn check(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<LogEvent, LogError> {
        Ok(self.events.recv().await.unwrap())
    }

    fn store(&self, (_, partition): &Partition, next_offset: i64) {
        self.stored.send_modify(|stored| {
            stored.insert(*partition, next_offset);
        });
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        vec![(("t".into(), 0), 7)]
    }

    async fn close(self: Box<Self>) {}
}

fn place(partition: i32, offset: i64) -> Position {
    Position {
        topic: "t".into(),
        partition,
        offset,
    }
}

fn record(partition: i32, offset: i64, value: Bytes) -> Record {
    Record {
        position: place(partition, offset),
        timestamp: Millis(0),
        key: None,
        value,
        headers: Vec::new().into(),
    }
}

/// A running consumer.
pub struct World {
    events: Sender<LogEvent>,
    taken: watch::Receiver<Taken>,
    stored: watch::Receiver<HashMap<i32, i64>>,
    dead: Receiver<NewRecord>,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    _folder: tempfile::TempDir,
}

impl World {
    /// A consumer of a catalog in which each tenant has so many targets of every event.
    pub async fn start(
        tenants: &[(&str, usize)],
        linger: Duration,
        answer: Answer,
        spill: Threshold,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let url = format!("sqlite:{}", folder.path().join("catalog.db").display());
        let catalog = Catalog::open(&url, Sealer::random().0, clock.clone())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        fill(&catalog, tenants).await;
        let (events, driven) = mpsc::channel(AHEAD);
        let (dead, buried) = mpsc::channel(AHEAD);
        let (store, stored) = watch::channel(HashMap::new());
        let (take, taken) = watch::channel(Taken::default());
        let log = Arc::new(Log {
            reader: Mutex::new(Some(Reader {
                events: driven,
                stored: store,
            })),
            dead,
        });
        let config = Config {
            group: "group".to_owned(),
            topics: vec![platform::config::Topic::raw("t")],
            dead_letter_topic: "dead".to_owned(),
            max_payload: 1 << 20,
            spill,
            payload_place: PayloadPlace::Message,
            registry: None,
            poison_share: 1.0,
            in_flight: 1_024,
            in_flight_bytes: 32 << 20,
            match_memory: 32 << 20,
        };
        let parts = Parts {
            log: log.clone(),
            queue: Arc::new(Queue {
                answer,
                linger,
                taken: take,
            }),
            payloads: Arc::new(DirectoryStore::open(&folder.path().join("payloads"), Sync::Normal).unwrap()),
            catalog: Follower::start(catalog, clock.clone()).await.unwrap(),
            reporter: Reporter::new(log, "attempts".to_owned()).0,
            clock,
        };
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let running = tokio::spawn(async move { consumer::run(config, parts, || (), stop).await.unwrap() });
        let partitions = (0..PARTITIONS).map(|partition| ("t".into(), partition));
        events.try_send(LogEvent::Assigned(partitions.collect())).unwrap();
        Self {
            events,
            taken,
            stored,
            dead: buried,
            shutdown,
            running,
            _folder: folder,
        }
    }

    /// Puts an event of a tenant into the log.
    pub fn append(&self, partition: i32, offset: i64, tenant: &str, payload: &'static [u8]) {
        self.append_together(&[(partition, offset, tenant)], payload);
    }

    /// Puts events of tenants into the log, to be read at once.
    pub fn append_together(&self, events: &[(i32, i64, &str)], payload: &'static [u8]) {
        let record = |(partition, offset, tenant): &(i32, i64, &str)| {
            let event = WebhookEvent {
                event_type: "orders.created".into(),
                payload: Bytes::from_static(payload),
                event_id: Some(format!("event-{partition}-{offset}")),
                tenant: Some((*tenant).into()),
                content_type: None,
                occurred_at: None,
            };
            record(*partition, *offset, encode_v2(&event).into())
        };
        let records = events.iter().map(record).collect();
        self.events.try_send(LogEvent::Records(records)).unwrap();
    }

    /// Puts a record into the log, as old as can be.
    pub fn append_record(&self, partition: i32, offset: i64, value: Bytes) {
        let records = vec![record(partition, offset, value)];
        self.events.try_send(LogEvent::Records(records)).unwrap();
    }

    /// Waits until the queue has taken what is asked for.
    pub async fn taken<T>(&mut self, what: &str, look: impl Fn(&Taken) -> Option<T>) -> T {
        let seen = self.taken.wait_for(|taken| look(taken).is_some());
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        look(&seen.unwrap_or_else(|_| panic!("{what}")).unwrap()).unwrap()
    }

    /// What the queue has taken so far.
    pub fn look<T>(&self, look: impl Fn(&Taken) -> T) -> T {
        look(&self.taken.borrow())
    }

    /// Waits until this offset of a partition is stored.
    pub async fn stored(&mut self, partition: i32, offset: i64) {
        let seen = self
            .stored
            .wait_for(|stored| stored.get(&partition) == Some(&offset));
        tokio::time::timeout(PATIENCE, seen)
            .await
            .expect("stored")
            .unwrap();
    }

    /// What is stored of a partition.
    pub fn stored_now(&self, partition: i32) -> Option<i64> {
        self.stored.borrow().get(&partition).copied()
    }

    /// The next record in the dead-letter topic.
    pub async fn dead(&mut self) -> NewRecord {
        let dead = tokio::time::timeout(PATIENCE, self.dead.recv()).await;
        dead.expect("a dead letter").unwrap()
    }

    /// Stops it, which finishes what has begun.
    pub async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// Targets are numbered from 1, tenant after tenant.
async fn fill(catalog: &Catalog, tenants: &[(&str, usize)]) {
    let mut first = 1;
    for (number, (tenant, targets)) in (1..).zip(tenants) {
        let ids = format!(
            "WITH RECURSIVE n(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM n WHERE n + 1 < {})",
            first + targets
        );
        first += targets;
        for statement in [
            format!("INSERT INTO tenants VALUES ('{tenant}', 0)"),
            format!("INSERT INTO filters VALUES ({number}, '{tenant}', 'all', '[\"*\"]', 0, 0)"),
            format!("INSERT INTO filter_events VALUES ('{tenant}', '*', {number})"),
            format!(
                "{ids} INSERT INTO targets (id, tenant, url, headers, state, created_at, updated_at) \
                 SELECT n, '{tenant}', 'https://a.example/', '[]', 'active', 0, 0 FROM n"
            ),
            format!(
                "{ids} INSERT INTO subscriptions (id, tenant, target, filter, active, created_at, updated_at) \
                 SELECT n, '{tenant}', n, {number}, 1, 0, 0 FROM n"
            ),
        ] {
            sqlx::raw_sql(AssertSqlSafe(statement))
                .execute(catalog.pool())
                .await
                .unwrap();
        }
    }
}
