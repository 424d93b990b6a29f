//! The consumer's loop: begin records in order, finish them in any order, store what may be stored.
//!
//! What a record needs no wait for is done in the loop itself. Deliveries of neighbours share a task, as far
//! as they fit one turn at the queue; what has to wait for anything else has a task of its own.

use crate::RunError;
use crate::assignments::{Assignments, Begun};
use crate::enqueue::{Begin, Enqueue, Left};
use crate::fan_out::{Fits, Ready, Unsent};
use crate::under_way::{Share, UnderWay};
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::{LogError, LogEvent, LogReader, Record};
use platform::harness::backoff::Backoff;
use platform::telemetry::{Outage, names};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often the gauges are set.
const SHOWN: Duration = Duration::from_secs(5);

static READING: Outage = Outage::new("event log (read)");

/// A record that has begun and not finished.
struct Going {
    record: Record,
    begun: Begun,
    share: Share,
}

/// How a task left a record.
enum End {
    Finished,
    /// Some of its deliveries have failed, and go on by themselves.
    Unsent(Unsent),
    Failed(RunError),
}

/// Records of one task.
type Ended = Vec<(Going, End)>;

/// Records whose deliveries are to be sent together.
#[derive(Default)]
struct Turn {
    records: Vec<Going>,
    events: Vec<Ready>,
    room: usize,
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
    running: JoinSet<Ended>,
    under_way: UnderWay,
    /// Read, not begun: at most what one read brought.
    waiting: VecDeque<Record>,
    assignments: Assignments,
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
            under_way: UnderWay::default(),
            waiting: VecDeque::new(),
            assignments: Assignments::default(),
        }
    }

    /// Runs until `shutdown`, then finishes what has begun and leaves.
    ///
    /// # Errors
    /// When the log refuses to be read, or too much of it is unreadable.
    pub async fn run(mut self, shutdown: CancellationToken) -> Result<(), RunError> {
        let mut backoff = Backoff::default();
        let mut resting: Option<Instant> = None;
        let mut shown = tokio::time::interval(SHOWN);
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
                _ = shown.tick() => self.show(),
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
            LogEvent::Assigned(partitions) => self.assignments.assign(partitions),
            LogEvent::Revoked { partitions, drained } => {
                let gone = |record: &Record| {
                    partitions.iter().any(|(topic, partition)| {
                        *topic == record.position.topic && *partition == record.position.partition
                    })
                };
                self.waiting.retain(|record| !gone(record));
                self.assignments.revoke(partitions, drained);
            }
        }
    }

    /// Begins waiting records while there is room. One event always fits, however large.
    fn begin_waiting(&mut self) {
        let mut turn = Turn::default();
        while self.under_way.events() < self.max_events
            && (self.under_way.bytes() < self.max_bytes || self.under_way.events() == 0)
            && let Some(record) = self.waiting.pop_front()
        {
            let partition = (record.position.topic.clone(), record.position.partition);
            let Some(begun) = self.assignments.begin(&partition, record.position.offset) else {
                continue;
            };
            let share = Share {
                bytes: record.value.len(),
                at: record.timestamp,
            };
            self.under_way.begin(share);
            let begin = self.step.begin(&record);
            let going = Going { record, begun, share };
            match begin {
                Begin::Done => self.finish(&going),
                Begin::Left(left) => self.go_on(going, left),
                Begin::Ready(event) => self.join(&mut turn, going, event),
            }
        }
        self.send(turn);
    }

    /// Sends an event with its neighbours, or by itself if it is more than a turn.
    fn join(&mut self, turn: &mut Turn, going: Going, event: Ready) {
        let room = match self.step.fits(&event, turn.room) {
            Fits::Now(room) => room,
            Fits::Next(room) => {
                self.send(std::mem::take(turn));
                room
            }
            Fits::Never => return self.go_on(going, Left::Placed(event)),
        };
        turn.room += room;
        turn.records.push(going);
        turn.events.push(event);
    }

    fn send(&mut self, turn: Turn) {
        if turn.records.is_empty() {
            return;
        }
        let step = self.step.clone();
        self.running.spawn(async move {
            let sent = step.send(&turn.events).await;
            let ends = sent.into_iter().map(|sent| match sent {
                Ok(()) => End::Finished,
                Err(unsent) => End::Unsent(unsent),
            });
            turn.records.into_iter().zip(ends).collect()
        });
    }

    /// Gives a record a task of its own.
    fn go_on(&mut self, going: Going, left: Left) {
        let step = self.step.clone();
        self.running.spawn(async move {
            let end = match step.process(going.record.clone(), left).await {
                Ok(()) => End::Finished,
                Err(error) => End::Failed(error),
            };
            vec![(going, end)]
        });
    }

    /// Goes on with the records of this task, and of what other tasks have ended.
    fn finish_all(&mut self, first: Result<Ended, JoinError>) -> Result<(), RunError> {
        let mut ended = Some(first);
        while let Some(task) = ended {
            let records = match task {
                Ok(records) => records,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            for (going, end) in records {
                match end {
                    End::Finished => self.finish(&going),
                    End::Unsent(unsent) => self.go_on(going, Left::Unsent(unsent)),
                    End::Failed(error) => return Err(error),
                }
            }
            ended = self.running.try_join_next();
        }
        self.assignments.let_go();
        Ok(())
    }

    /// The one place that stores offsets.
    fn finish(&mut self, going: &Going) {
        self.under_way.finish(going.share);
        if let Some(next) = self.assignments.finish(&going.begun) {
            self.reader.store(going.begun.partition(), next);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "gauges")]
    fn show(&self) {
        for ((topic, partition), lag) in self.reader.lag() {
            let labels = [("topic", topic.to_string()), ("partition", partition.to_string())];
            metrics::gauge!(names::CONSUMER_LAG, &labels).set(lag as f64);
        }
        metrics::gauge!(names::INFLIGHT_EVENTS).set(self.under_way.events() as f64);
        metrics::gauge!(names::INFLIGHT_BYTES).set(self.under_way.bytes() as f64);
        // What waits for room is unfinished too.
        let waiting = self.waiting.iter().map(|record| record.timestamp).min();
        let oldest = self.under_way.oldest().into_iter().chain(waiting).min();
        let age = oldest.map_or(0, |at| (self.step.clock.now().0 - at.0).max(0));
        metrics::gauge!(names::OLDEST_EVENT).set(age as f64 / 1000.0);
    }
}
