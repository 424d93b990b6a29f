//! One record's way through the consumer: decode, match, spill, enqueue.

use crate::RunError;
use crate::decode::{Decoded, TopicDecoders};
use crate::fan_out::FanOut;
use crate::matcher::Matcher;
use crate::poison::{DeadLetters, Poison};
use crate::spill::Spill;
use platform::clock::Clock;
use platform::event_log::Record;
use platform::report::Reporter;
use platform::telemetry::names;
use schemas::event::Event;
use schemas::history::{EventRecord, HistoryRecord};
use schemas::ids::TargetId;

/// Targets named by one history record.
const TARGETS_PER_RECORD: usize = 1_000;

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
}

impl Enqueue {
    /// Takes a record to its end: its deliveries are in the queue, or nothing matched, or its poison
    /// copy is in the dead-letter topic. Dependencies that are away are waited for.
    ///
    /// # Errors
    /// When too much of the topic is unreadable to go on.
    pub async fn process(&self, record: Record) -> Result<(), RunError> {
        metrics::counter!(names::EVENTS_CONSUMED).increment(1);
        let event = match self.decoders.decode(&record, self.clock.now()).await {
            Decoded::Event(event) => event,
            Decoded::Poison(poison) => return self.bury(record, poison).await,
        };
        if event.payload.len() > self.max_payload {
            let poison = Poison::new(
                "payload_too_large",
                format!(
                    "the payload has {} bytes; events.max_payload allows {}",
                    event.payload.len(),
                    self.max_payload
                ),
            );
            return self.bury(record, poison).await;
        }
        self.dead_letters.readable();
        let targets = self.matcher.targets(&event).await;
        self.report(&event, &targets);
        if targets.is_empty() {
            metrics::counter!(names::EVENTS_UNMATCHED).increment(1);
            return Ok(());
        }
        match self.fan_out(&event, &record, &targets).await {
            Ok(()) => Ok(()),
            Err(poison) => self.bury(record, poison).await,
        }
    }

    /// Sends one delivery per target, the payload stored before the first of them.
    async fn fan_out(&self, event: &Event, record: &Record, targets: &[TargetId]) -> Result<(), Poison> {
        let payload = self.spill.place(event, record, targets.len()).await?;
        let sent = self.fan_out.send(event, targets, &payload).await;
        sent.map_err(|why| Poison::new("queue_refused", why))
    }

    fn report(&self, event: &Event, targets: &[TargetId]) {
        let mut chunks = targets.chunks(TARGETS_PER_RECORD);
        let first = chunks.next().unwrap_or_default();
        for chunk in std::iter::once(first).chain(chunks) {
            self.reporter
                .report(HistoryRecord::Event(EventRecord::new(event, chunk.to_vec())));
        }
    }

    async fn bury(&self, record: Record, poison: Poison) -> Result<(), RunError> {
        Ok(self.dead_letters.bury(record, poison).await?)
    }
}
