//! One delivery for each target of an event, sent in turns: an event with 50,000 targets never stands in
//! memory as a whole, and holds up no other event for longer than one with few.
//!
//! What is on its way to the queue is bounded for all events together. Whoever has more to send asks for
//! room for one turn, a batch at most, and room is given in the order in which it was asked for: so between
//! two turns of a large event every other event has had one.

use metrics::Counter;
use platform::delivery_queue::sender::{Failed, SendError, Sender};
use platform::delivery_queue::{OutMessage, QueueLimits};
use platform::telemetry::names;
use schemas::delivery::{Delivery, Payload};
use schemas::event::Event;
use schemas::ids::TargetId;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};

/// What the room is measured in: an entry of a batch, with its share of the batch's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Room {
    /// Of all events together: what may be under way at once, and as much again that gathers meanwhile.
    units: usize,
    /// Of one batch.
    batch: usize,
    /// Bytes of a unit.
    bytes: usize,
}

impl Room {
    fn of(limits: QueueLimits) -> Self {
        let batch = limits.batch_entries.max(1);
        Self {
            units: 2 * limits.concurrency.max(1) * batch,
            batch,
            bytes: (limits.batch_bytes / batch).max(1),
        }
    }

    /// The units of a message with so many bytes of payload in it, and how many such messages are a turn.
    fn turn(self, payload: usize) -> (usize, usize) {
        let units = (payload / self.bytes + 1).min(self.units);
        (units, (self.batch / units).max(1))
    }

    /// Whether so many messages with so many bytes of payload fit a turn of which `taken` is taken.
    fn fits(self, payload: usize, messages: usize, taken: usize) -> Fits {
        let (units, turn) = self.turn(payload);
        let own = units * messages;
        if messages > turn {
            Fits::Never
        } else if taken > 0 && taken + own > self.batch {
            Fits::Next(own)
        } else {
            Fits::Now(own)
        }
    }
}

/// Whether an event fits what is left of a turn, and the room it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fits {
    /// It does.
    Now(usize),
    /// Not any more: the next turn has room for it.
    Next(usize),
    /// It is more than a turn.
    Never,
}

/// An event whose deliveries may go to the queue: matched, and its payload placed.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The event.
    pub event: Event,
    /// Where it goes.
    pub targets: Arc<[TargetId]>,
    /// Its payload, as each delivery carries it.
    pub payload: Payload,
}

/// Deliveries of one event that the queue did not take, and the room they keep.
pub struct Unsent {
    failed: Vec<Failed>,
    /// Of each of them.
    units: usize,
    room: OwnedSemaphorePermit,
}

/// Sends deliveries to the dispatch queue. Cloned freely.
#[derive(Clone)]
pub struct FanOut {
    sender: Sender,
    room: Room,
    free: Arc<Semaphore>,
    enqueued: Counter,
}

impl FanOut {
    /// Sends by `sender`, to a queue of these limits.
    #[must_use]
    pub fn new(sender: Sender, limits: QueueLimits) -> Self {
        let room = Room::of(limits);
        Self {
            sender,
            room,
            free: Arc::new(Semaphore::new(room.units)),
            enqueued: metrics::counter!(names::DELIVERIES_ENQUEUED),
        }
    }

    /// The room that all deliveries of an event take, and whether there is so much left of a turn of which
    /// `taken` is taken. The first of a turn always fits, if all of it is one turn.
    #[must_use]
    pub fn fits(&self, event: &Ready, taken: usize) -> Fits {
        self.room.fits(inline(&event.payload), event.targets.len(), taken)
    }

    /// Sends all deliveries of events that fit one turn. Answers once the queue has taken or failed each:
    /// for each event that it has them all, or what is left for [`FanOut::send_again`].
    pub async fn send_together(&self, events: &[Ready]) -> Vec<Result<(), Unsent>> {
        let units = events
            .iter()
            .map(|event| self.units(event).0 * event.targets.len());
        let room = self.room_for(units.sum()).await;
        self.send_in(room, events).await
    }

    async fn send_in(&self, mut room: OwnedSemaphorePermit, events: &[Ready]) -> Vec<Result<(), Unsent>> {
        let messages = events.iter().flat_map(messages).collect();
        let Ok(results) = self.sender.send_once(messages).await else {
            return stopping().await;
        };
        let mut results = results.into_iter();
        let of_each = events.iter().map(|event| {
            let count = event.targets.len();
            let failed: Vec<_> = results.by_ref().take(count).filter_map(Result::err).collect();
            self.enqueued.increment((count - failed.len()) as u64);
            if failed.is_empty() {
                return Ok(());
            }
            let units = self.units(event).0;
            let room = split(&mut room, units * failed.len());
            Err(Unsent { failed, units, room })
        });
        of_each.collect()
    }

    /// Sends what has failed until the queue has it: each by itself.
    ///
    /// # Errors
    /// As for [`FanOut::send`].
    pub async fn send_again(&self, mut unsent: Unsent) -> Result<(), String> {
        let mut sending = JoinSet::new();
        for failed in unsent.failed {
            let (sender, own) = (self.sender.clone(), split(&mut unsent.room, unsent.units));
            sending.spawn(async move {
                let sent = sender.send_again(failed).await;
                drop(own);
                sent
            });
        }
        let mut refused = None;
        while let Some(sent) = sending.join_next().await {
            match joined(sent).await {
                Ok(()) => self.enqueued.increment(1),
                Err(SendError::Refused(why)) => refused = Some(why),
                Err(SendError::Stopped(_)) => stopping().await,
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Sends one delivery per target; returns when the queue has them all. One that the queue refuses
    /// does not keep the others back.
    ///
    /// # Errors
    /// Why the queue will never take one of them.
    pub async fn send(&self, event: Ready) -> Result<(), String> {
        let (units, turn) = self.units(&event);
        let mut refused = None;
        let mut sending = JoinSet::new();
        for targets in event.targets.chunks(turn) {
            let room = self.room_for(units * targets.len()).await;
            let part = Ready {
                event: event.event.clone(),
                targets: targets.into(),
                payload: event.payload.clone(),
            };
            let this = self.clone();
            sending.spawn(async move {
                match this.send_in(room, &[part]).await.pop() {
                    Some(Err(unsent)) => this.send_again(unsent).await,
                    Some(Ok(())) | None => Ok(()),
                }
            });
            while let Some(sent) = sending.try_join_next() {
                refused = joined(sent).await.err().or(refused);
            }
        }
        while let Some(sent) = sending.join_next().await {
            refused = joined(sent).await.err().or(refused);
        }
        refused.map_or(Ok(()), Err)
    }

    /// The units of each delivery, and how many of them are a turn.
    fn units(&self, event: &Ready) -> (usize, usize) {
        self.room.turn(inline(&event.payload))
    }

    async fn room_for(&self, units: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        match self.free.clone().acquire_many_owned(units).await {
            Ok(room) => room,
            // Unwrap safety: the semaphore is never closed.
            Err(_) => unreachable!("the room is never closed"),
        }
    }
}

/// The most bytes of this payload that a message carries.
fn inline(payload: &Payload) -> usize {
    match payload {
        // In base64, if it must be.
        Payload::Inline(payload) => payload.len().div_ceil(3) * 4,
        Payload::Stored(_) | Payload::Logged { .. } => 0,
    }
}

fn messages(event: &Ready) -> impl Iterator<Item = OutMessage> {
    let delivery = |target: &TargetId| Delivery::first(&event.event, *target, event.payload.clone());
    event
        .targets
        .iter()
        .map(move |target| OutMessage::of(&delivery(target), Duration::ZERO))
}

/// Part of some room, given back by itself. All of it if there is less.
fn split(room: &mut OwnedSemaphorePermit, units: usize) -> OwnedSemaphorePermit {
    let all = room.num_permits();
    match room.split(units.min(all)) {
        Some(part) => part,
        // Unwrap safety: no more than there is was asked for.
        None => unreachable!("a part is no more than the whole"),
    }
}

/// What a task of one's own came to.
async fn joined<T>(task: Result<T, JoinError>) -> T {
    match task.map_err(JoinError::try_into_panic) {
        Ok(result) => result,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        Err(Err(_)) => stopping().await,
    }
}

/// The process is ending. The record must not count as finished: whoever reads it next sends what is
/// missing.
async fn stopping<T>() -> T {
    pending().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_a_batch_by_count_and_by_bytes() {
        let room = Room::of(QueueLimits {
            batch_entries: 10,
            batch_bytes: 1_000_000,
            linger: Duration::ZERO,
            concurrency: 32,
            receive_entries: 10,
            receive_wait: Duration::ZERO,
            drop_receive: false,
        });
        assert_eq!(room.units, 640);
        for (payload, expected) in [
            (0, (1, 10)),
            (99_999, (1, 10)),
            (100_000, (2, 5)),
            (399_999, (4, 2)),
            (500_000, (6, 1)),
            (1_000_000, (11, 1)),
            (1_000_000_000, (640, 1)),
        ] {
            assert_eq!(room.turn(payload), expected, "{payload}");
        }
        for (payload, messages, taken, expected) in [
            (0, 1, 0, Fits::Now(1)),
            (0, 1, 9, Fits::Now(1)),
            (0, 1, 10, Fits::Next(1)),
            (0, 10, 0, Fits::Now(10)),
            (0, 10, 1, Fits::Next(10)),
            (0, 11, 0, Fits::Never),
            (100_000, 2, 6, Fits::Now(4)),
            (100_000, 2, 7, Fits::Next(4)),
            // More than a batch by itself: alone.
            (1_000_000, 1, 0, Fits::Now(11)),
            (1_000_000, 1, 1, Fits::Next(11)),
            (1_000_000, 2, 0, Fits::Never),
        ] {
            assert_eq!(
                room.fits(payload, messages, taken),
                expected,
                "{payload} {messages} {taken}"
            );
        }
    }
}
