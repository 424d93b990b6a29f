//! One record's way through the consumer: decode, match, spill, enqueue.
//!
//! What needs no wait is done at once, and whole: [`Enqueue::begin`]. Deliveries go to the queue together with
//! those of other records, [`Enqueue::send`]. A record that has to wait for something, or that is large, has
//! what is [`Left`] of its way for itself, [`Enqueue::process`], and keeps no other back.

use crate::RunError;
use crate::decode::{Decoded, TopicDecoders};
use crate::fan_out::{FanOut, Fits, Ready, Unsent};
use crate::matcher::Matcher;
use crate::poison::{DeadLetters, Poison};
use crate::spill::Spill;
use metrics::Counter;
use platform::clock::Clock;
use platform::event_log::Record;
use platform::report::Reporter;
use platform::telemetry::names;
use schemas::event::Event;
use schemas::history::{EventRecord, HistoryRecord};
use schemas::ids::TargetId;
use std::sync::Arc;

/// Targets named by one history record.
const TARGETS_PER_RECORD: usize = 1_000;

/// Records of more bytes have a task of their own from the start: to look through one takes so long that
/// it would hold up the others.
const LARGE: usize = 64 << 10;

/// Where a record stands after what can be done at once.
pub enum Begin {
    /// At its end: nothing matched.
    Done,
    /// Its deliveries may go to the queue.
    Ready(Ready),
    /// It has to wait.
    Left(Left),
}

/// What is left of a record's way.
pub enum Left {
    /// All of it.
    Record,
    /// It is decoded.
    Decoded(Event),
    /// It is matched: to be sent to all of these.
    Matched(Event, Arc<[TargetId]>),
    /// Its payload is placed.
    Placed(Ready),
    /// Some of its deliveries have failed.
    Unsent(Unsent),
    /// It cannot be read.
    Poison(Poison),
}

/// What is counted of records.
pub struct Counts {
    consumed: Counter,
    unmatched: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            consumed: metrics::counter!(names::EVENTS_CONSUMED),
            unmatched: metrics::counter!(names::EVENTS_UNMATCHED),
        }
    }
}

/// The stages a record goes through.
pub struct Enqueue {
    /// Bytes to event.
    pub decoders: TopicDecoders,
    /// Event to targets.
    pub matcher: Matcher,
    /// Large payloads to the store.
    pub spill: Spill,
    /// Deliveries to the dispatch queue.
    pub fan_out: FanOut,
    /// Unreadable records to the dead-letter topic.
    pub dead_letters: DeadLetters,
    /// History.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
    /// Larger payloads are not accepted.
    pub max_payload: usize,
    /// Metrics.
    pub counts: Counts,
}

impl Enqueue {
    /// Takes a record as far as it comes without a wait.
    pub fn begin(&self, record: &Record) -> Begin {
        self.counts.consumed.increment(1);
        if record.value.len() > LARGE {
            return Begin::Left(Left::Record);
        }
        let Some(decoded) = self.decoders.decode_now(record, self.clock.now()) else {
            return Begin::Left(Left::Record);
        };
        let event = match self.readable(decoded) {
            Ok(event) => event,
            Err(poison) => return Begin::Left(Left::Poison(poison)),
        };
        let Some(targets) = self.matcher.known(&event) else {
            return Begin::Left(Left::Decoded(event));
        };
        self.matched(&event, &targets);
        if targets.is_empty() {
            return Begin::Done;
        }
        match self.spill.place_now(&event, record, targets.len()) {
            Some(payload) => Begin::Ready(Ready {
                event,
                targets,
                payload,
            }),
            None => Begin::Left(Left::Matched(event, targets)),
        }
    }

    /// Whether an event's deliveries fit what is left of a turn: see [`FanOut::fits`].
    #[must_use]
    pub fn fits(&self, event: &Ready, taken: usize) -> Fits {
        self.fan_out.fits(event, taken)
    }

    /// Sends the deliveries of events that fit one turn: see [`FanOut::send_together`].
    pub async fn send(&self, events: &[Ready]) -> Vec<Result<(), Unsent>> {
        self.fan_out.send_together(events).await
    }

    /// Takes a record to its end: its deliveries are in the queue, or nothing matched, or its poison
    /// copy is in the dead-letter topic. Dependencies that are away are waited for.
    ///
    /// # Errors
    /// When too much of the topic is unreadable to go on.
    pub async fn process(&self, record: Record, left: Left) -> Result<(), RunError> {
        match self.go_on(&record, left).await {
            Ok(()) => Ok(()),
            Err(poison) => Ok(self.dead_letters.bury(record, poison).await?),
        }
    }

    async fn go_on(&self, record: &Record, left: Left) -> Result<(), Poison> {
        let (event, targets) = match left {
            Left::Record => {
                let decoded = self.decoders.decode(record, self.clock.now()).await;
                self.targets(self.readable(decoded)?).await
            }
            Left::Decoded(event) => self.targets(event).await,
            Left::Matched(event, targets) => (event, targets),
            Left::Placed(ready) => return refused(self.fan_out.send(ready).await),
            Left::Unsent(unsent) => return refused(self.fan_out.send_again(unsent).await),
            Left::Poison(poison) => return Err(poison),
        };
        if targets.is_empty() {
            return Ok(());
        }
        // The payload is stored before the first delivery is sent.
        let payload = self.spill.place(&event, record, targets.len()).await?;
        let ready = Ready {
            event,
            targets,
            payload,
        };
        refused(self.fan_out.send(ready).await)
    }

    /// The event, if it is one to be delivered.
    fn readable(&self, decoded: Decoded) -> Result<Event, Poison> {
        let event = match decoded {
            Decoded::Event(event) => event,
            Decoded::Poison(poison) => return Err(poison),
        };
        if event.payload.len() > self.max_payload {
            return Err(Poison::new(
                "payload_too_large",
                format!(
                    "the payload has {} bytes; events.max_payload allows {}",
                    event.payload.len(),
                    self.max_payload
                ),
            ));
        }
        self.dead_letters.readable();
        Ok(event)
    }

    async fn targets(&self, event: Event) -> (Event, Arc<[TargetId]>) {
        let targets = self.matcher.targets(&event).await;
        self.matched(&event, &targets);
        (event, targets)
    }

    /// Tells of an event and its targets.
    fn matched(&self, event: &Event, targets: &[TargetId]) {
        let mut chunks = targets.chunks(TARGETS_PER_RECORD);
        let first = chunks.next().unwrap_or_default();
        for chunk in std::iter::once(first).chain(chunks) {
            self.reporter
                .report(HistoryRecord::Event(EventRecord::new(event, chunk.to_vec())));
        }
        if targets.is_empty() {
            self.counts.unmatched.increment(1);
        }
    }
}

fn refused(sent: Result<(), String>) -> Result<(), Poison> {
    sent.map_err(|why| Poison::new("queue_refused", why))
}
