//! Where a waiting delivery goes next: sent there, and only then deleted here.

use crate::decide::{self, Step};
use crate::gather::Held;
use crate::given_up::Obituaries;
use crate::packs::Packs;
use platform::clock::Clock;
use platform::delivery_queue::sender::{Deleter, SendError, Sender};
use platform::delivery_queue::{DeliveryQueue, InMessage, OutMessage, QueueName};
use platform::report::Reporter;
use schemas::delivery::{Delivery, DeliveryStatus};
use schemas::history::{AttemptRecord, HistoryRecord};
use schemas::pack::{self, Pack};
use schemas::wire::{self, WireError, WireMessage};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// The queues that a waiting delivery may go to, and history. Cloned freely.
#[derive(Clone)]
pub(crate) struct Exits {
    pub(crate) queue: Arc<dyn DeliveryQueue>,
    pub(crate) dispatch: Sender,
    pub(crate) retry: Sender,
    dead_letter: Sender,
    pub(crate) deleter: Deleter,
    pub(crate) packs: Arc<Packs>,
    obituaries: Obituaries,
    reporter: Reporter,
    pub(crate) clock: Clock,
}

impl Exits {
    /// Exits to the queues, and the tasks behind them, which end when all clones are gone.
    pub(crate) fn new(
        queue: Arc<dyn DeliveryQueue>,
        packs: Packs,
        obituaries: Obituaries,
        reporter: Reporter,
        clock: Clock,
    ) -> (Self, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let mut sender = |name| {
            let (sender, task) = Sender::new(queue.clone(), name);
            tasks.spawn(task);
            sender
        };
        let dispatch = sender(QueueName::Dispatch);
        let retry = sender(QueueName::Retry);
        let dead_letter = sender(QueueName::DeadLetter);
        let (deleter, task) = Deleter::new(queue.clone(), QueueName::Retry);
        tasks.spawn(task);
        let exits = Self {
            queue,
            dispatch,
            retry,
            dead_letter,
            deleter,
            packs: Arc::new(packs),
            obituaries,
            reporter,
            clock,
        };
        (exits, tasks)
    }

    /// Takes a message of the retry queue to its next step; one that waits so long that it had better be
    /// packed with others comes back.
    pub(crate) async fn message(&self, message: InMessage) -> Option<Held> {
        let delivery = match wire::decode(message.body.clone(), &message.attribute) {
            Ok(delivery) => delivery,
            Err(WireError::UnknownVersion(pack::VERSION)) => {
                match Pack::from_attribute(&message.attribute) {
                    Ok(pack) => self.pack(pack, message).await,
                    Err(error) => self.unreadable(&error, message).await,
                }
                return None;
            }
            Err(error) => {
                self.unreadable(&error, message).await;
                return None;
            }
        };
        if let Some(due_at) = delivery.due_at
            && self.packs.gathers()
            && decide::waits_long(due_at, self.clock.now())
        {
            let since = delivery.window_start();
            return Some(Held {
                receipt: message.receipt,
                message: WireMessage {
                    body: message.body,
                    attribute: message.attribute,
                },
                tenant: delivery.tenant,
                target: delivery.target,
                due_at,
                since,
            });
        }
        if went(self.delivery(delivery).await) {
            self.deleter.delete(message.receipt).await;
        }
        None
    }

    /// Takes a message to its next step, whether that is near or far; whether it has one now, and may be
    /// deleted where it was.
    pub(crate) async fn waits_on(&self, message: WireMessage) -> bool {
        let sent = match wire::decode(message.body.clone(), &message.attribute) {
            Ok(delivery) => self.delivery(delivery).await,
            Err(error) => {
                tracing::error!(%error, "unreadable message goes to the dead-letter queue");
                self.dead_letter
                    .send(OutMessage::unreadable(message.body, message.attribute))
                    .await
            }
        };
        went(sent)
    }

    async fn unreadable(&self, error: &WireError, message: InMessage) {
        tracing::error!(%error, "unreadable message goes to the dead-letter queue");
        self.bury(message).await;
    }

    /// Puts a message into the dead-letter queue as it is.
    pub(crate) async fn bury(&self, message: InMessage) {
        if went(
            self.dead_letter
                .send(OutMessage::unreadable(message.body, message.attribute))
                .await,
        ) {
            self.deleter.delete(message.receipt).await;
        }
    }

    async fn delivery(&self, delivery: Delivery) -> Result<(), SendError> {
        let now = self.clock.now();
        match decide::next_step(&delivery, now) {
            Step::Dispatch => {
                self.dispatch
                    .send(OutMessage::of(&delivery, Duration::ZERO))
                    .await
            }
            Step::Hop(delay) => self.retry.send(OutMessage::of(&delivery, delay)).await,
            Step::GiveUp => {
                // Sent again and given up again, it lies there from the first time.
                if !delivery.resend.is_some_and(|resend| resend.buried) {
                    self.dead_letter
                        .send(OutMessage::of(&delivery, Duration::ZERO))
                        .await?;
                }
                tracing::info!(
                    delivery = %delivery.id(), target = %delivery.target, attempts = delivery.attempt,
                    reason = delivery.reason.as_deref().unwrap_or("unknown"), "delivery given up"
                );
                self.obituaries.tell(&delivery).await;
                let mut record =
                    AttemptRecord::new(&delivery, DeliveryStatus::Exhausted, delivery.attempt, now);
                record.reason = delivery.reason;
                self.reporter.report(HistoryRecord::Attempt(record));
                Ok(())
            }
        }
    }
}

/// Whether a next step is durable.
fn went(sent: Result<(), SendError>) -> bool {
    match sent {
        Ok(()) => true,
        Err(SendError::Refused(why)) => {
            tracing::error!(%why, "the queue refuses the next step; the message stays");
            false
        }
        Err(SendError::Stopped(_)) => false,
    }
}
