//! One delivery for each target of an event, sent in turns: an event with 50,000 targets never stands in
//! memory as a whole, and holds up no other event for longer than one with few.
//!
//! What is on its way to the queue is bounded for all events together. Whoever has more to send asks for
//! room for one turn, a batch at most, and room is given in the order in which it was asked for: so between
//! two turns of a large event every other event has had one.

use platform::delivery_queue::sender::{SendError, Sender};
use platform::delivery_queue::{OutMessage, QueueLimits};
use platform::telemetry::names;
use schemas::delivery::{Delivery, Payload};
use schemas::event::Event;
use schemas::ids::TargetId;
use schemas::wire;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
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
}

/// Sends deliveries to the dispatch queue.
pub struct FanOut {
    sender: Sender,
    room: Room,
    free: Arc<Semaphore>,
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
        }
    }

    /// Sends one delivery per target; returns when the queue has them all. One that the queue refuses
    /// does not keep the others back.
    ///
    /// # Errors
    /// Why the queue will never take one of them.
    pub async fn send(&self, event: &Event, targets: &[TargetId], payload: &Payload) -> Result<(), String> {
        let (units, turn) = self.room.turn(inline(payload));
        let mut refused = None;
        let mut sending = JoinSet::new();
        for turn in targets.chunks(turn) {
            let mut room = self.room_for(units * turn.len()).await;
            for target in turn {
                let message = message(&Delivery::first(event, *target, payload.clone()));
                if targets.len() == 1 {
                    // The usual fan-out of one needs no task of its own.
                    return acknowledged(Ok(self.sender.send(message).await)).await;
                }
                let (sender, own) = (self.sender.clone(), room.split(units));
                sending.spawn(async move {
                    let sent = sender.send(message).await;
                    drop(own);
                    sent
                });
            }
            while let Some(sent) = sending.try_join_next() {
                refused = acknowledged(sent).await.err().or(refused);
            }
        }
        while let Some(sent) = sending.join_next().await {
            refused = acknowledged(sent).await.err().or(refused);
        }
        refused.map_or(Ok(()), Err)
    }

    async fn room_for(&self, units: usize) -> tokio::sync::OwnedSemaphorePermit {
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

fn message(delivery: &Delivery) -> OutMessage {
    let wire = wire::encode(delivery);
    OutMessage {
        body: wire.body,
        attribute: wire.attribute,
        group: delivery.group(),
        delay: Duration::ZERO,
    }
}

/// Counts a delivery that the queue has taken.
///
/// # Errors
/// Why the queue will never take it.
async fn acknowledged(sent: Result<Result<(), SendError>, JoinError>) -> Result<(), String> {
    match sent {
        Ok(Ok(())) => {
            metrics::counter!(names::DELIVERIES_ENQUEUED).increment(1);
            Ok(())
        }
        Ok(Err(SendError::Refused(why))) => Err(why),
        // The process is ending. The record must not count as finished: whoever reads it next sends
        // what is missing.
        Ok(Err(SendError::Stopped(_))) => pending().await,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => pending().await,
        },
    }
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
    }
}
