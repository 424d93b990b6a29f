//! Retry queue → due? → dispatch queue, or once more round, or dead letter.
//!
//! A failed delivery waits here for its next attempt. A message can be hidden for 900 s at most, so a
//! longer wait is a chain of hops: received before it is due, it is sent again with the next hop's
//! delay. A delivery without a next attempt is given up: it goes to the dead-letter queue.
//!
//! Each next step is sent before the message is deleted: killed between the two, there is a duplicate
//! and never a loss.

pub mod decide;

use decide::Step;
use platform::clock::Clock;
use platform::delivery_queue::intake::Intake;
use platform::delivery_queue::sender::{Deleter, SendError, Sender};
use platform::delivery_queue::{DeliveryQueue, InMessage, OutMessage, QueueName};
use platform::report::Reporter;
use schemas::delivery::{Delivery, DeliveryStatus};
use schemas::history::{AttemptRecord, HistoryRecord};
use schemas::wire;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Messages handled at once.
const AT_ONCE: usize = 256;
/// How long a message stays hidden while it is handled: sending is all there is to do.
const VISIBILITY: Duration = Duration::from_secs(60);

/// What the retry manager works with.
pub struct Parts {
    /// Where deliveries wait.
    pub queue: Arc<dyn DeliveryQueue>,
    /// History.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
}

/// Runs until `shutdown`, then finishes what it has begun. `ready` is called once it takes messages.
///
/// # Errors
/// None so far: what is away is waited for.
pub async fn run(
    parts: Parts,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let queue = parts.queue;
    let (dispatch, task) = Sender::new(queue.clone(), QueueName::Dispatch);
    let dispatching = tokio::spawn(task);
    let (retry, task) = Sender::new(queue.clone(), QueueName::Retry);
    let retrying = tokio::spawn(task);
    let (dead_letter, task) = Sender::new(queue.clone(), QueueName::DeadLetter);
    let burying = tokio::spawn(task);
    let (deleter, task) = Deleter::new(queue.clone(), QueueName::Retry);
    let deleting = tokio::spawn(task);
    let exits = Exits {
        dispatch,
        retry,
        dead_letter,
        deleter,
        reporter: parts.reporter,
        clock: parts.clock,
    };
    let intake = Intake {
        queue,
        name: QueueName::Retry,
        permits: Arc::new(Semaphore::new(AT_ONCE)),
        visibility: VISIBILITY,
    };
    let handle = |message, permit| {
        let exits = exits.clone();
        async move {
            exits.message(message).await;
            drop(permit);
        }
    };
    ready();
    intake.run(handle, shutdown).await;
    // The senders' tasks end when their last handle is gone.
    drop(exits);
    for task in [dispatching, retrying, burying, deleting] {
        drop(task.await);
    }
    Ok(())
}

/// Where a waiting delivery goes next.
#[derive(Clone)]
struct Exits {
    dispatch: Sender,
    retry: Sender,
    dead_letter: Sender,
    deleter: Deleter,
    reporter: Reporter,
    clock: Clock,
}

impl Exits {
    async fn message(&self, message: InMessage) {
        let sent = match wire::decode(message.body.clone(), &message.attribute) {
            Ok(delivery) => self.delivery(delivery).await,
            Err(error) => {
                tracing::error!(%error, "unreadable message goes to the dead-letter queue");
                let as_it_is = OutMessage {
                    body: message.body,
                    attribute: message.attribute,
                    group: "unreadable".to_owned(),
                    delay: Duration::ZERO,
                };
                self.dead_letter.send(as_it_is).await
            }
        };
        match sent {
            Ok(()) => self.deleter.delete(message.receipt).await,
            Err(SendError::Refused(why)) => {
                tracing::error!(%why, "the queue refuses the next step; the message stays");
            }
            Err(SendError::Stopped(_)) => {}
        }
    }

    async fn delivery(&self, delivery: Delivery) -> Result<(), SendError> {
        let now = self.clock.now();
        match decide::next_step(&delivery, now) {
            Step::Dispatch => self.dispatch.send(out(&delivery, Duration::ZERO)).await,
            Step::Hop(delay) => self.retry.send(out(&delivery, delay)).await,
            Step::GiveUp => {
                // Sent again and given up again, it lies there from the first time.
                if !delivery.resend.is_some_and(|resend| resend.buried) {
                    self.dead_letter.send(out(&delivery, Duration::ZERO)).await?;
                }
                tracing::info!(
                    delivery = %delivery.id(), target = %delivery.target, attempts = delivery.attempt,
                    reason = delivery.reason.as_deref().unwrap_or("unknown"), "delivery given up"
                );
                let record = AttemptRecord::new(&delivery, DeliveryStatus::Exhausted, delivery.attempt, now);
                self.reporter.report(HistoryRecord::Attempt(record));
                Ok(())
            }
        }
    }
}

fn out(delivery: &Delivery, delay: Duration) -> OutMessage {
    let wire = wire::encode(delivery);
    OutMessage {
        body: wire.body,
        attribute: wire.attribute,
        group: delivery.group(),
        delay,
    }
}
