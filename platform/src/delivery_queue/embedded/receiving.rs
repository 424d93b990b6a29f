//! What a receive takes, and whom it tells.

use super::super::{InMessage, QueueError, Receipt};
use super::waiting::Taken;
use super::{EmbeddedQueue, Queue, store};
use crate::sqlite::lock;
use std::time::Duration;

/// The most messages one receive gets: few receives serve many attempts.
pub(super) const RECEIVE: usize = 64;

/// What a receiver finds.
pub(super) enum Look {
    Taken(Vec<Taken>),
    /// Nothing before this long has passed, unless it is told.
    Nothing(Duration),
}

impl EmbeddedQueue {
    /// Takes what is visible, or says how long to sleep.
    pub(super) fn look(&self, queue: &Queue, max: usize, visibility: Duration, left: Duration) -> Look {
        let now = self.clock.now();
        let mut waiting = lock(&queue.waiting);
        waiting.due(now);
        let taken = waiting.take(max, now.plus(visibility));
        if !waiting.is_crowded() {
            queue.room.notify_waiters();
        }
        if taken.is_empty() {
            let pause = waiting.next_due().map_or(left, |due| left.min(due.since(now)));
            waiting.sleeps_until(now.plus(pause));
            return Look::Nothing(pause);
        }
        let more = waiting.ready() > 0;
        let sooner = waiting.must_tell(now.plus(visibility));
        drop(waiting);
        if sooner {
            queue.changed.notify_waiters();
        }
        if more {
            // One wakes the next, as long as there is something to do.
            queue.changed.notify_one();
        }
        Look::Taken(taken)
    }

    /// The messages of fresh claims; those not in memory are read from the file.
    pub(super) async fn messages(
        &self,
        queue: &Queue,
        taken: Vec<Taken>,
    ) -> Result<Vec<InMessage>, QueueError> {
        let missing: Vec<i64> = taken
            .iter()
            .filter(|claim| claim.message.is_none())
            .map(|claim| claim.seq)
            .collect();
        let mut read = Vec::new();
        if !missing.is_empty() {
            match self.reader.read(move |db| store::read(db, &missing)).await {
                Ok(messages) => read = messages,
                Err(failure) => {
                    let mut waiting = lock(&queue.waiting);
                    for claim in &taken {
                        waiting.give_back(claim.seq, claim.count);
                    }
                    return Err(failure.into());
                }
            }
        }
        let mut read = read.into_iter();
        let mut messages = Vec::with_capacity(taken.len());
        for Taken { seq, count, message } in taken {
            let message = match message {
                Some(message) => Some(*message),
                None => read.next().flatten(),
            };
            match message {
                Some(message) => messages.push(InMessage {
                    body: message.body,
                    attribute: message.attribute,
                    receipt: Receipt::Claim(seq, count),
                    receive_count: count,
                }),
                // Deleted by a receipt from before this process.
                None => lock(&queue.waiting).deleted(seq),
            }
        }
        Ok(messages)
    }
}
