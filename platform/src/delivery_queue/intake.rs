//! Taking messages from a queue: permits first, then receive.
//!
//! Nothing is received that cannot start at once, so no message's visibility runs out in a local
//! buffer. One receive waits while the queue is quiet; more run beside it while they come back full.

use super::{DeliveryQueue, InMessage, QueueError, QueueName};
use crate::harness::backoff::Backoff;
use crate::telemetry::Outage;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How to take from a queue.
pub struct Intake {
    /// The queue.
    pub queue: Arc<dyn DeliveryQueue>,
    /// Which of the four.
    pub name: QueueName,
    /// One permit per message being handled.
    pub permits: Arc<Semaphore>,
    /// How long a message stays hidden while it is handled.
    pub visibility: Duration,
}

/// The most receives that run at once.
const MAX_POLLS: usize = 16;

/// How much longer than its wait a receive may take at shutdown, with what makes its messages visible.
pub const LATE: Duration = Duration::from_secs(2);

static RECEIVING: Outage = Outage::new("delivery queue (receive)");

type Received = (Result<Vec<InMessage>, QueueError>, Vec<OwnedSemaphorePermit>);

impl Intake {
    /// Hands each message to `handle` with its permit, until `shutdown`; then waits for what runs.
    pub async fn run<F, Fut>(self, handle: F, shutdown: CancellationToken)
    where
        F: Fn(InMessage, OwnedSemaphorePermit) -> Fut,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let mut polls: JoinSet<Received> = JoinSet::new();
        let mut handlers: JoinSet<()> = JoinSet::new();
        let most = self.queue.limits().receive_entries;
        let mut wanted = 1;
        let mut backoff = Backoff::default();
        loop {
            while handlers.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(poll) = polls.join_next() => {
                    let Ok((received, permits)) = poll else { continue };
                    match received {
                        Ok(messages) => {
                            RECEIVING.works();
                            backoff = Backoff::default();
                            // Full: there is more. Empty: one waiting receive is enough.
                            wanted = match messages.len() {
                                0 => 1,
                                count if count == permits.len() => (wanted + 1).min(MAX_POLLS),
                                _ => wanted,
                            };
                            for (message, permit) in messages.into_iter().zip(permits) {
                                handlers.spawn(handle(message, permit));
                            }
                        }
                        Err(error) => {
                            RECEIVING.failed(&error);
                            wanted = 1;
                            drop(permits);
                            if backoff.wait(&shutdown).await {
                                break;
                            }
                        }
                    }
                }
                permits = take(&self.permits, most), if polls.len() < wanted => {
                    let queue = self.queue.clone();
                    let (name, visibility) = (self.name, self.visibility);
                    let wait = queue.limits().receive_wait;
                    polls.spawn(async move {
                        (queue.receive(name, permits.len(), wait, visibility).await, permits)
                    });
                }
            }
        }
        self.put_back(polls).await;
        while handlers.join_next().await.is_some() {}
    }

    /// Lets the receives that still wait come to their end, and makes what they got visible again. One
    /// that takes longer than it was asked to wait is of a queue that does not answer, and brings nothing.
    async fn put_back(&self, mut polls: JoinSet<Received>) {
        let limits = self.queue.limits();
        if !limits.drop_receive {
            let back = self.make_visible(&mut polls);
            drop(tokio::time::timeout(limits.receive_wait + LATE, back).await);
        }
        polls.shutdown().await;
    }

    async fn make_visible(&self, polls: &mut JoinSet<Received>) {
        while let Some(poll) = polls.join_next().await {
            if let Ok((Ok(messages), _)) = poll
                && !messages.is_empty()
            {
                let entries: Vec<_> = messages
                    .into_iter()
                    .map(|message| (message.receipt, Duration::ZERO))
                    .collect();
                // A failure leaves them hidden until their visibility ends.
                drop(self.queue.extend(self.name, &entries).await);
            }
        }
    }
}

/// Waits for one permit, then takes up to `most` of those that are free.
async fn take(permits: &Arc<Semaphore>, most: usize) -> Vec<OwnedSemaphorePermit> {
    let Ok(first) = permits.clone().acquire_owned().await else {
        return std::future::pending().await;
    };
    let mut taken = vec![first];
    while taken.len() < most
        && let Ok(permit) = permits.clone().try_acquire_owned()
    {
        taken.push(permit);
    }
    taken
}
