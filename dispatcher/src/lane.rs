//! A lane: one queue and its own share of the attempts.

use crate::dispatch::{Dispatch, Step};
use platform::delivery_queue::intake::Intake;
use platform::delivery_queue::sender::{Deleter, SendError, Sender};
use platform::delivery_queue::{DeliveryQueue, InMessage, QueueName};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// One queue's messages, dispatched.
pub struct Lane {
    queue: Arc<dyn DeliveryQueue>,
    name: QueueName,
    permits: usize,
    visibility: Duration,
    dispatch: Arc<Dispatch>,
}

/// Where the next step of a message goes.
struct Exits {
    name: QueueName,
    retry: Sender,
    slow: Sender,
    dead_letter: Sender,
    deleter: Deleter,
}

impl Lane {
    /// A lane with `permits` attempts at once.
    pub fn new(
        queue: Arc<dyn DeliveryQueue>,
        name: QueueName,
        permits: usize,
        visibility: Duration,
        dispatch: Arc<Dispatch>,
    ) -> Self {
        Self {
            queue,
            name,
            permits,
            visibility,
            dispatch,
        }
    }

    /// Runs until `shutdown`, then finishes what it has begun.
    pub async fn run(self, shutdown: CancellationToken) {
        let (retry, task) = Sender::new(self.queue.clone(), QueueName::Retry);
        let retrying = tokio::spawn(task);
        let (slow, task) = Sender::new(self.queue.clone(), QueueName::Slow);
        let slowing = tokio::spawn(task);
        let (dead_letter, task) = Sender::new(self.queue.clone(), QueueName::DeadLetter);
        let burying = tokio::spawn(task);
        let (deleter, task) = Deleter::new(self.queue.clone(), self.name);
        let deleting = tokio::spawn(task);
        let exits = Arc::new(Exits {
            name: self.name,
            retry,
            slow,
            dead_letter,
            deleter,
        });
        let intake = Intake {
            queue: self.queue,
            name: self.name,
            permits: Arc::new(Semaphore::new(self.permits)),
            visibility: self.visibility,
        };
        let dispatch = self.dispatch;
        let handle = |message: InMessage, permit| {
            let (dispatch, exits) = (dispatch.clone(), exits.clone());
            let slow = exits.name == QueueName::Slow;
            async move {
                let step = dispatch.message(&message, slow).await;
                exits.leave(message, step).await;
                // Held to the end: what runs stays bounded while the queue is slow to delete.
                drop(permit);
            }
        };
        intake.run(handle, shutdown).await;
        // The senders' tasks end when their last handle is gone.
        drop(exits);
        for task in [retrying, slowing, burying, deleting] {
            drop(task.await);
        }
    }
}

impl Exits {
    /// Makes the next step durable, then deletes the message. Killed between the two: a duplicate.
    async fn leave(&self, message: InMessage, step: Step) {
        let sent = match step {
            Step::Done => Ok(()),
            Step::Retry(next) => self.retry.send(next).await,
            Step::Slow(next) => self.slow.send(next).await,
            Step::DeadLetter(next) => self.dead_letter.send(next).await,
        };
        match sent {
            Ok(()) => self.deleter.delete(message.receipt).await,
            Err(SendError::Refused(why)) => {
                tracing::error!(queue = self.name.suffix(), %why, "the queue refuses the next step; the message stays");
            }
            Err(SendError::Stopped(_)) => {}
        }
    }
}
