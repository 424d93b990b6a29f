//! Queue, payload store and log in memory, and the moment of death.

use async_trait::async_trait;
use bytes::Bytes;
use platform::clock::Clock;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, MAX_DELAY, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use platform::event_log::{EventLog, LogError, LogReader, LogScan, NewRecord, Record, Span};
use platform::payload_store::{PayloadError, PayloadStore};
use schemas::delivery::PayloadPointer;
use schemas::event::Position;
use schemas::ids::sha256_hex;
use schemas::time::Millis;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;

const VISIBILITY: Duration = crate::VISIBILITY;

/// When the process dies: at its call of this number, from 0, before it takes effect or after.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) call: usize,
    pub(super) after: bool,
}

struct Message {
    id: i64,
    message: OutMessage,
    visible_at: Millis,
    receives: u32,
}

#[derive(Default)]
struct State {
    queues: HashMap<QueueName, Vec<Message>>,
    next: i64,
    calls: usize,
    death: Option<Death>,
    hops: usize,
}

/// A queue in memory, by a driven clock.
pub(super) struct MemoryQueue {
    clock: Clock,
    state: Mutex<State>,
    pub(super) died: Notify,
}

impl MemoryQueue {
    /// An empty queue; whoever uses it may be about to die.
    pub(super) fn new(clock: Clock, death: Option<Death>) -> Self {
        Self {
            clock,
            state: Mutex::new(State {
                death,
                ..State::default()
            }),
            died: Notify::new(),
        }
    }

    /// How many calls were made of it and of the store.
    pub(super) fn calls(&self) -> usize {
        self.state().calls
    }

    /// How often the process has sent a message to wait once more.
    pub(super) fn hops(&self) -> usize {
        self.state().hops
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Counts a call of the process; does it, unless that is where the process dies.
    pub(super) async fn call<T>(&self, effect: impl FnOnce() -> T) -> T {
        let dies = {
            let mut state = self.state();
            let number = state.calls;
            state.calls += 1;
            state.death.filter(|death| death.call == number)
        };
        let Some(death) = dies else {
            return effect();
        };
        if death.after {
            effect();
        }
        self.died.notify_one();
        std::future::pending().await
    }

    /// Takes a message in, past the process.
    pub(super) fn put(&self, queue: QueueName, message: &OutMessage) {
        assert!(message.delay <= MAX_DELAY);
        let seconds = message.delay.as_millis().div_ceil(1000);
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        let entry = Message {
            id,
            message: message.clone(),
            visible_at: self
                .clock
                .now()
                .plus(Duration::from_secs(u64::try_from(seconds).unwrap())),
            receives: 0,
        };
        state.queues.entry(queue).or_default().push(entry);
    }

    /// Receives one visible message.
    pub(super) fn take(&self, queue: QueueName) -> Option<InMessage> {
        let now = self.clock.now();
        let mut state = self.state();
        let waiting = state.queues.entry(queue).or_default();
        let one = waiting.iter_mut().find(|one| one.visible_at <= now)?;
        one.visible_at = now.plus(VISIBILITY);
        one.receives += 1;
        Some(InMessage {
            body: one.message.body.clone(),
            attribute: one.message.attribute.clone(),
            receipt: Receipt::Claim(one.id, one.receives),
            receive_count: one.receives,
        })
    }

    /// When the next message is visible, of dispatch and retry queue.
    pub(super) fn next_visible(&self) -> Option<Millis> {
        let state = self.state();
        let both = [QueueName::Dispatch, QueueName::Retry];
        let waiting = both.iter().filter_map(|name| state.queues.get(name)).flatten();
        waiting.map(|one| one.visible_at).min()
    }

    /// What lies in a queue.
    pub(super) fn lying(&self, queue: QueueName) -> Vec<OutMessage> {
        let state = self.state();
        let messages = state.queues.get(&queue).map_or(&[][..], Vec::as_slice);
        messages.iter().map(|one| one.message.clone()).collect()
    }

    /// Takes a message away.
    pub(super) fn remove(&self, queue: QueueName, receipt: &Receipt) {
        let Receipt::Claim(id, _) = receipt else {
            panic!("not of this queue")
        };
        let mut state = self.state();
        state.queues.entry(queue).or_default().retain(|one| one.id != *id);
    }
}

#[async_trait]
impl DeliveryQueue for MemoryQueue {
    async fn send(&self, queue: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        if queue == QueueName::Retry {
            self.state().hops += batch.len();
        }
        self.call(|| batch.iter().for_each(|one| self.put(queue, one)))
            .await;
        vec![Ok(()); batch.len()]
    }

    async fn receive(
        &self,
        _: QueueName,
        _: usize,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        unreachable!("the test takes messages itself")
    }

    async fn delete(&self, queue: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        self.call(|| receipts.iter().for_each(|one| self.remove(queue, one)))
            .await;
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
            batch_entries: 10,
            batch_bytes: 1 << 20,
            linger: Duration::ZERO,
            concurrency: 1,
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

/// A store in memory. Its calls are the process's too.
pub(super) struct MemoryStore {
    queue: Arc<MemoryQueue>,
    objects: Mutex<BTreeMap<String, Bytes>>,
    /// Whether nothing can be put or got now.
    pub(super) away: AtomicBool,
}

impl MemoryStore {
    /// An empty store, beside a queue.
    pub(super) fn new(queue: Arc<MemoryQueue>) -> Self {
        Self {
            queue,
            objects: Mutex::default(),
            away: AtomicBool::new(false),
        }
    }

    /// How many objects there are.
    pub(super) fn count(&self) -> usize {
        self.objects.lock().unwrap().len()
    }

    /// Other bytes in place of each object.
    pub(super) fn damage(&self) {
        for object in self.objects.lock().unwrap().values_mut() {
            *object = Bytes::from_static(b"other");
        }
    }

    fn here(&self) -> Result<(), PayloadError> {
        match self.away.load(Ordering::SeqCst) {
            true => Err(PayloadError::Unavailable("away".to_owned())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl PayloadStore for MemoryStore {
    async fn put(&self, key: &str, payload: Bytes) -> Result<PayloadPointer, PayloadError> {
        self.here()?;
        let pointer = PayloadPointer {
            bucket: "memory".to_owned(),
            key: key.to_owned(),
            size: payload.len() as u64,
            sha256: sha256_hex(&payload),
        };
        self.queue
            .call(|| self.objects.lock().unwrap().insert(key.to_owned(), payload))
            .await;
        Ok(pointer)
    }

    async fn get(&self, pointer: &PayloadPointer) -> Result<Bytes, PayloadError> {
        self.here()?;
        let found = self
            .queue
            .call(|| self.objects.lock().unwrap().get(&pointer.key).cloned())
            .await;
        let key = || pointer.key.clone();
        match found {
            None => Err(PayloadError::Missing { key: key() }),
            Some(object) if sha256_hex(&object) != pointer.sha256 => {
                Err(PayloadError::Damaged { key: key() })
            }
            Some(object) => Ok(object),
        }
    }

    async fn delete(&self, pointer: &PayloadPointer) -> Result<(), PayloadError> {
        self.queue
            .call(|| self.objects.lock().unwrap().remove(&pointer.key))
            .await;
        Ok(())
    }

    async fn provision(&self) -> Result<(), PayloadError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), PayloadError> {
        Ok(())
    }
}

/// A log in memory, of what is announced. Its calls are the process's too.
pub(super) struct MemoryLog {
    queue: Arc<MemoryQueue>,
    records: Mutex<Vec<NewRecord>>,
    /// Whether nothing can be appended now.
    pub(super) away: AtomicBool,
}

impl MemoryLog {
    /// An empty log, beside a queue.
    pub(super) fn new(queue: Arc<MemoryQueue>) -> Self {
        Self {
            queue,
            records: Mutex::default(),
            away: AtomicBool::new(false),
        }
    }

    /// The ids of the events in it.
    pub(super) fn ids(&self) -> Vec<Bytes> {
        let records = self.records.lock().unwrap();
        records.iter().map(|record| record.headers[0].1.clone()).collect()
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, _: &str, records: Vec<NewRecord>) -> Result<Vec<Position>, LogError> {
        if self.away.load(Ordering::SeqCst) {
            return Err(LogError::Unavailable("away".to_owned()));
        }
        self.queue
            .call(|| self.records.lock().unwrap().extend(records))
            .await;
        Ok(Vec::new())
    }

    async fn subscribe(&self, _: &str, _: &[String]) -> Result<Box<dyn LogReader>, LogError> {
        unreachable!("nobody reads")
    }

    async fn read_at(&self, _: &Position) -> Result<Option<Record>, LogError> {
        Ok(None)
    }

    async fn scan(&self, _: &str) -> Result<Box<dyn LogScan>, LogError> {
        unreachable!("nobody reads")
    }

    async fn find(&self, _: &str, _: Millis, _: Millis) -> Result<Option<Vec<Span>>, LogError> {
        unreachable!("nobody reads")
    }

    async fn scan_spans(&self, _: &str, _: &[Span]) -> Result<Option<Box<dyn LogScan>>, LogError> {
        unreachable!("nobody reads")
    }

    async fn provision(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }

    async fn check(&self, _: &[String]) -> Result<(), LogError> {
        Ok(())
    }
}
