//! Telling history, without waiting for it.
//!
//! Records go to the attempts topic in batches, through a bounded channel. When that is full, or the
//! log does not take them in time, they are dropped and counted: deliveries go on.

use crate::event_log::{EventLog, NewRecord};
use crate::harness::backoff::Backoff;
use crate::telemetry::names;
use schemas::history::{HistoryRecord, write_lines};
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{broadcast, mpsc};

/// Records that may wait to be appended.
const WAITING: usize = 16_384;
/// Records of one append at most: they travel as lines of few records of the log.
const BATCH: usize = 512;
/// How long an append is tried before its records are dropped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Reports to history. Cloned freely; its task ends when all clones are gone.
#[derive(Clone)]
pub struct Reporter {
    records: mpsc::Sender<HistoryRecord>,
    watchers: broadcast::Sender<Arc<HistoryRecord>>,
}

impl Reporter {
    /// A reporter to `topic`, and the task that must be run for it.
    pub fn new(log: Arc<dyn EventLog>, topic: String) -> (Self, impl Future<Output = ()> + Send) {
        let (records, queue) = mpsc::channel(WAITING);
        let (watchers, _) = broadcast::channel(256);
        (Self { records, watchers }, append(log, topic, queue))
    }

    /// Reports; drops the record and counts it when too many wait already.
    pub fn report(&self, record: HistoryRecord) {
        if self.watchers.receiver_count() > 0 {
            // A watcher that is too slow misses some: it only prints.
            drop(self.watchers.send(Arc::new(record.clone())));
        }
        if self.records.try_send(record).is_err() {
            metrics::counter!(names::HISTORY_DROPPED).increment(1);
        }
    }

    /// Follows what is reported from now on, as `dev --demo` prints it.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Arc<HistoryRecord>> {
        self.watchers.subscribe()
    }
}

async fn append(log: Arc<dyn EventLog>, topic: String, mut queue: mpsc::Receiver<HistoryRecord>) {
    let mut batch = Vec::with_capacity(BATCH);
    while queue.recv_many(&mut batch, BATCH).await > 0 {
        let count = batch.len() as u64;
        let records: Vec<NewRecord> = write_lines(&batch)
            .into_iter()
            .map(|lines| NewRecord {
                // Exactly as long as it is: it stays in memory for a while.
                value: lines.into_boxed_slice().into(),
                ..NewRecord::default()
            })
            .collect();
        batch.clear();
        let started = Instant::now();
        let mut backoff = Backoff::default();
        while let Err(error) = log.append(&topic, records.clone()).await {
            if started.elapsed() > PATIENCE {
                metrics::counter!(names::HISTORY_DROPPED).increment(count);
                tracing::warn!(records = count, %error, "history records dropped");
                break;
            }
            tokio::time::sleep(backoff.next_pause()).await;
        }
    }
}
