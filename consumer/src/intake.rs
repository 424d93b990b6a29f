//! The consumer's loop: begin records in order, finish them in any order, store what may be stored.

use crate::RunError;
use crate::enqueue::Enqueue;
use crate::ledger::Ledger;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::{Drained, LogError, LogEvent, LogReader, Partition, Record};
use platform::harness::backoff::Backoff;
use platform::telemetry::Outage;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

static READING: Outage = Outage::new("event log (read)");

/// A record that finished.
struct Finished {
    partition: Partition,
    /// Which assignment of the partition the record was read under.
    epoch: u64,
    offset: i64,
    bytes: usize,
    result: Result<(), RunError>,
}

struct Assigned {
    epoch: u64,
    ledger: Ledger,
}

/// What the reader meets next: without room for records, only changes of assignment. These cannot
/// wait: whoever is to have a revoked partition waits for us.
async fn come(reader: &mut dyn LogReader, room: bool) -> Result<LogEvent, LogError> {
    if room {
        reader.next().await
    } else {
        Ok(reader.change().await)
    }
}

/// Reads, begins, finishes and stores.
pub struct Intake {
    reader: Box<dyn LogReader>,
    queue: Arc<dyn DeliveryQueue>,
    step: Arc<Enqueue>,
    max_events: usize,
    max_bytes: usize,
    running: JoinSet<Finished>,
    running_bytes: usize,
    /// Read, not begun: at most what one read brought.
    waiting: VecDeque<Record>,
    assigned: HashMap<Partition, Assigned>,
    /// Partitions that are being taken away, each list with what is dropped when all are idle.
    leaving: Vec<(Vec<Partition>, Drained)>,
    epoch: u64,
}

impl Intake {
    /// An intake with nothing assigned yet.
    #[must_use]
    pub fn new(
        reader: Box<dyn LogReader>,
        queue: Arc<dyn DeliveryQueue>,
        step: Arc<Enqueue>,
        max_events: usize,
        max_bytes: usize,
    ) -> Self {
        Self {
            reader,
            queue,
            step,
            max_events,
            max_bytes,
            running: JoinSet::new(),
            running_bytes: 0,
            waiting: VecDeque::new(),
            assigned: HashMap::new(),
            leaving: Vec::new(),
            epoch: 0,
        }
    }

    /// Runs until `shutdown`, then finishes what has begun and leaves.
    ///
    /// # Errors
    /// When the log refuses to be read, or too much of it is unreadable.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let mut backoff = Backoff::default();
        let mut resting: Option<Instant> = None;
        let mut lag = tokio::time::interval(Duration::from_secs(5));
        let result = loop {
            // What the queue is too full for waits where it is durable: in the log.
            let crowded = self.queue.is_crowded(QueueName::Dispatch);
            if !crowded {
                self.begin_waiting();
            }
            let room = self.waiting.is_empty() && resting.is_none();
            // Completions first: they make room, and they move the offsets.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break Ok(()),
                Some(finished) = self.running.join_next() => {
                    if let Err(error) = self.finish_all(finished) {
                        break Err(error);
                    }
                }
                () = self.queue.room(QueueName::Dispatch), if crowded => {}
                event = come(self.reader.as_mut(), room) => match event {
                    Ok(event) => {
                        if room {
                            READING.works();
                            backoff = Backoff::default();
                        }
                        self.meet(event);
                    }
                    Err(error @ LogError::Refused(_)) => break Err(error.into()),
                    Err(error @ LogError::Unavailable(_)) => {
                        READING.failed(&error);
                        resting = Some(Instant::now() + backoff.next_pause());
                    }
                },
                () = tokio::time::sleep_until(resting.unwrap_or_else(Instant::now)), if resting.is_some() => resting = None,
                _ = lag.tick() => self.show_lag(),
            }
        };
        self.waiting.clear();
        if result.is_ok() {
            self.drain().await?;
        }
        self.running.shutdown().await;
        self.reader.close().await;
        result
    }

    /// Finishes what has begun. Partitions may be taken away meanwhile: a release that stops all
    /// members one after the other moves them around.
    async fn drain(&mut self) -> Result<(), RunError> {
        while !self.running.is_empty() {
            tokio::select! {
                biased;
                Some(finished) = self.running.join_next() => self.finish_all(finished)?,
                change = self.reader.change() => self.meet(change),
            }
        }
        Ok(())
    }

    fn meet(&mut self, event: LogEvent) {
        match event {
            LogEvent::Records(records) => self.waiting.extend(records),
            LogEvent::Assigned(partitions) => {
                for partition in partitions {
                    self.epoch += 1;
                    // Taken and given back before its old work was done: that has nothing to say any more.
                    for (leaving, _) in &mut self.leaving {
                        leaving.retain(|left| *left != partition);
                    }
                    let fresh = Assigned {
                        epoch: self.epoch,
                        ledger: Ledger::default(),
                    };
                    self.assigned.insert(partition, fresh);
                }
                self.let_go();
            }
            LogEvent::Revoked { partitions, drained } => {
                let gone = |record: &Record| {
                    partitions.iter().any(|(topic, partition)| {
                        *topic == record.position.topic && *partition == record.position.partition
                    })
                };
                self.waiting.retain(|record| !gone(record));
                self.leaving.push((partitions, drained));
                self.let_go();
            }
        }
    }

    /// Begins waiting records while there is room. One event always fits, however large.
    fn begin_waiting(&mut self) {
        while self.running.len() < self.max_events
            && (self.running_bytes < self.max_bytes || self.running.is_empty())
            && let Some(record) = self.waiting.pop_front()
        {
            let partition = (record.position.topic.clone(), record.position.partition);
            let Some(assigned) = self.assigned.get_mut(&partition) else {
                continue;
            };
            let (offset, bytes) = (record.position.offset, record.value.len());
            assigned.ledger.begin(offset);
            let epoch = assigned.epoch;
            self.running_bytes += bytes;
            let step = self.step.clone();
            self.running.spawn(async move {
                let result = step.process(record).await;
                Finished {
                    partition,
                    epoch,
                    offset,
                    bytes,
                    result,
                }
            });
        }
    }

    /// Finishes this record and what else has finished.
    fn finish_all(&mut self, first: Result<Finished, JoinError>) -> Result<(), RunError> {
        let mut finished = Some(first);
        while let Some(one) = finished {
            self.finish(one)?;
            finished = self.running.try_join_next();
        }
        self.let_go();
        Ok(())
    }

    /// The one place that stores offsets.
    fn finish(&mut self, finished: Result<Finished, JoinError>) -> Result<(), RunError> {
        let finished = match finished {
            Ok(finished) => finished,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        };
        self.running_bytes -= finished.bytes;
        finished.result?;
        // A record of an assignment that has ended: whoever has the partition now reads it again.
        if let Some(assigned) = self.assigned.get_mut(&finished.partition)
            && assigned.epoch == finished.epoch
            && let Some(next) = assigned.ledger.finish(finished.offset)
        {
            self.reader.store(&finished.partition, next);
        }
        Ok(())
    }

    /// Lets partitions go whose records have all finished.
    fn let_go(&mut self) {
        let assigned = &mut self.assigned;
        self.leaving.retain(|(partitions, _)| {
            let busy = partitions.iter().any(|partition| {
                assigned
                    .get(partition)
                    .is_some_and(|assigned| !assigned.ledger.is_idle())
            });
            if !busy {
                for partition in partitions {
                    assigned.remove(partition);
                }
            }
            busy
        });
    }

    #[allow(clippy::cast_precision_loss, reason = "a gauge")]
    fn show_lag(&self) {
        for ((topic, partition), lag) in self.reader.lag() {
            let labels = [("topic", topic.to_string()), ("partition", partition.to_string())];
            metrics::gauge!(platform::telemetry::names::CONSUMER_LAG, &labels).set(lag as f64);
        }
    }
}
