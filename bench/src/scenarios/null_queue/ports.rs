//! A log that serves from memory, and a queue that takes everything at once.

use async_trait::async_trait;
use bytes::Bytes;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use platform::event_log::{
    EventLog, LogError, LogEvent, LogReader, LogScan, NewRecord, Partition, Record, Span,
};
use schemas::event::Position;
use schemas::time::Millis;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;

/// The topic of all records.
pub const TOPIC: &str = "events";
/// Its partitions.
const PARTITIONS: usize = 4;
/// Records handed over at once, of one partition: as Kafka's reader does.
const BATCH: u64 = 256;

/// Records without end, of which as many are given out as are asked for.
pub struct Backlog {
    records: Arc<[Bytes]>,
    state: Arc<State>,
}

struct State {
    /// How many may be read.
    wanted: watch::Sender<u64>,
    /// The offset stored of each partition.
    stored: [AtomicI64; PARTITIONS],
    /// How many are finished, in jumps.
    finished: watch::Sender<u64>,
}

impl Backlog {
    /// A log of these records, again and again.
    pub fn new(records: Vec<Bytes>) -> Self {
        Self {
            records: records.into(),
            state: Arc::new(State {
                wanted: watch::Sender::new(0),
                stored: Default::default(),
                finished: watch::Sender::new(0),
            }),
        }
    }

    /// Gives out records until there were so many, and waits until the offsets of all are stored.
    pub async fn finish(&self, records: u64) {
        self.state.wanted.send_replace(records);
        let mut finished = self.state.finished.subscribe();
        // It cannot fail: the sender is in the state, which is here.
        drop(finished.wait_for(|finished| *finished >= records).await);
    }
}

#[async_trait]
impl EventLog for Backlog {
    /// History: taken, and forgotten.
    async fn append(&self, topic: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        let topic: Arc<str> = topic.into();
        let place = |offset| Position {
            topic: topic.clone(),
            partition: 0,
            offset,
        };
        Ok((0..records.len() as i64).map(place).collect())
    }

    async fn read_at(&self, _: &Position) -> Result<Option<Record>, LogError> {
        Ok(None)
    }

    async fn scan(&self, _: &str) -> Result<Box<dyn LogScan>, LogError> {
        Err(LogError::Refused("nothing is scanned here".to_owned()))
    }

    async fn subscribe(&self, _: &str, _: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        Ok(Box::new(Reader {
            topic: TOPIC.into(),
            records: self.records.clone(),
            headers: Vec::new().into(),
            wanted: self.state.wanted.subscribe(),
            state: self.state.clone(),
            read: 0,
            next: [0; PARTITIONS],
            turn: None,
        }))
    }

    async fn find(&self, _: &str, _: Millis, _: Millis) -> Result<Option<Vec<Span>>, LogError> {
        Ok(Some(Vec::new()))
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

struct Reader {
    topic: Arc<str>,
    records: Arc<[Bytes]>,
    headers: Arc<[(String, Bytes)]>,
    wanted: watch::Receiver<u64>,
    state: Arc<State>,
    read: u64,
    /// The next offset of each partition.
    next: [i64; PARTITIONS],
    /// The partition whose turn it is; none is assigned before the first.
    turn: Option<usize>,
}

#[async_trait]
impl LogReader for Reader {
    async fn next(&mut self) -> Result<LogEvent, LogError> {
        let Some(partition) = self.turn else {
            self.turn = Some(0);
            let all = (0..PARTITIONS as i32).map(|partition| (self.topic.clone(), partition));
            return Ok(LogEvent::Assigned(all.collect()));
        };
        let read = self.read;
        let wanted = match self.wanted.wait_for(|wanted| *wanted > read).await {
            Ok(wanted) => *wanted,
            Err(_) => return Err(LogError::Unavailable("the log is gone".to_owned())),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = Millis(now.as_millis() as i64);
        let count = (wanted - read).min(BATCH);
        let records = (0..count).map(|n| {
            let value = &self.records[(read + n) as usize % self.records.len()];
            let offset = self.next[partition];
            self.next[partition] += 1;
            Record {
                position: Position {
                    topic: self.topic.clone(),
                    partition: partition as i32,
                    offset,
                },
                timestamp,
                key: None,
                // A copy, as of what came over a connection.
                value: Bytes::copy_from_slice(value),
                headers: self.headers.clone(),
            }
        });
        let records = records.collect();
        self.read += count;
        self.turn = Some((partition + 1) % PARTITIONS);
        Ok(LogEvent::Records(records))
    }

    fn store(&self, (_, partition): &Partition, next_offset: i64) {
        self.state.stored[*partition as usize].store(next_offset, Ordering::Relaxed);
        let finished: i64 = self
            .state
            .stored
            .iter()
            .map(|stored| stored.load(Ordering::Relaxed))
            .sum();
        // Whoever waits looks at what was asked for alone.
        if finished as u64 >= *self.wanted.borrow() {
            self.state.finished.send_replace(finished as u64);
        }
    }

    fn lag(&self) -> Vec<(Partition, i64)> {
        Vec::new()
    }

    async fn close(self: Box<Self>) {}
}

/// What a call may carry: the limits of SQS.
pub const LIKE_SQS: QueueLimits = QueueLimits {
    batch_entries: 10,
    batch_bytes: (1 << 20) - 8_192,
    linger: Duration::from_millis(5),
    concurrency: 32,
    receive_entries: 10,
    receive_wait: Duration::ZERO,
    drop_receive: true,
};

/// A queue of SQS's limits that takes what it is given, and keeps nothing.
#[derive(Default)]
pub struct NullQueue {
    calls: AtomicU64,
    messages: AtomicU64,
}

/// What was sent.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Batches.
    pub calls: u64,
    /// Messages in them.
    pub messages: u64,
}

impl NullQueue {
    /// What was sent so far.
    pub fn sent(&self) -> Sent {
        Sent {
            calls: self.calls.load(Ordering::Relaxed),
            messages: self.messages.load(Ordering::Relaxed),
        }
    }
}

#[async_trait]
impl DeliveryQueue for NullQueue {
    async fn send(&self, _: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.messages.fetch_add(batch.len() as u64, Ordering::Relaxed);
        vec![Ok(()); batch.len()]
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
        LIKE_SQS
    }

    async fn provision(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}
