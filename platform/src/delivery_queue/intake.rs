//! Taking messages from a queue: permits first, then receive.
//!
//! Nothing is received that cannot start at once, so no message's visibility runs out in a local
//! buffer. One receive waits while the queue is quiet; more run beside it while they come back full, and fewer again
//! when they have to wait for the little they bring: each is a request, and they only take it from each other.

use super::{DeliveryQueue, InMessage, QueueError, QueueName};
use crate::harness::backoff::Backoff;
use crate::telemetry::Outage;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};
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

/// What a receive brought, the permits it had, and what it took.
type Received = (
    Result<Vec<InMessage>, QueueError>,
    Vec<OwnedSemaphorePermit>,
    Duration,
);

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
        let mut pace = Pace::default();
        let mut backoff = Backoff::default();
        loop {
            while handlers.try_join_next().is_some() {}
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(poll) = polls.join_next() => {
                    let Ok((received, permits, took)) = poll else { continue };
                    match received {
                        Ok(messages) => {
                            RECEIVING.works();
                            backoff = Backoff::default();
                            pace.after(messages.len(), permits.len(), took);
                            for (message, permit) in messages.into_iter().zip(permits) {
                                handlers.spawn(handle(message, permit));
                            }
                        }
                        Err(error) => {
                            RECEIVING.failed(&error);
                            pace = Pace::default();
                            drop(permits);
                            if backoff.wait(&shutdown).await {
                                break;
                            }
                        }
                    }
                }
                permits = take(&self.permits, most), if polls.len() < pace.receives => {
                    let queue = self.queue.clone();
                    let (name, visibility) = (self.name, self.visibility);
                    let wait = queue.limits().receive_wait;
                    polls.spawn(async move {
                        let began = Instant::now();
                        let received = queue.receive(name, permits.len(), wait, visibility).await;
                        (received, permits, began.elapsed())
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
            if let Ok((Ok(messages), ..)) = poll
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

/// How many receives are to run at once.
struct Pace {
    receives: usize,
    /// What a receive takes that need not wait for messages: less than most that came back full.
    quick: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let (receives, quick) = (1, Duration::from_millis(20));
        Self { receives, quick }
    }
}

impl Pace {
    /// One of them brought so many of those it asked for.
    fn after(&mut self, brought: usize, asked: usize, took: Duration) {
        if brought == 0 {
            // One that waits is enough.
            self.receives = 1;
        } else if brought == asked {
            // There is more.
            self.receives = (self.receives + 1).min(MAX_POLLS);
            self.quick = took.min(self.quick + took.saturating_sub(self.quick) / 16);
        } else if 2 * brought < asked && took > 2 * self.quick {
            self.receives = (self.receives - 1).max(1);
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

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn more_receive_while_they_come_back_full_and_fewer_when_they_wait_for_little() {
        let mut pace = Pace::default();
        let mut after = |brought, took| {
            pace.after(brought, 10, ms(took));
            pace.receives
        };
        // One alone that waits is as few as there can be.
        assert_eq!([after(1, 500), after(10, 8), after(10, 8)], [1, 2, 3]);
        // Most of what was asked for, or at once: there may be more of it.
        assert_eq!([after(9, 500), after(5, 500), after(1, 16)], [3, 3, 3]);
        assert_eq!([after(4, 17), after(1, 17), after(1, 17)], [2, 1, 1]);
        (0..2 * MAX_POLLS).for_each(|_| assert!(after(10, 8) <= MAX_POLLS));
        assert_eq!([after(10, 8), after(0, 20_000)], [MAX_POLLS, 1]);
    }

    #[test]
    fn what_is_quick_follows_the_queue() {
        let mut pace = Pace::default();
        pace.after(10, 10, ms(3));
        assert_eq!(pace.quick, ms(3), "at once");
        pace.after(10, 10, ms(19));
        assert_eq!(pace.quick, ms(4), "one that was slow means little");
        (0..100).for_each(|_| pace.after(10, 10, ms(100)));
        assert!(pace.quick > ms(95), "all of them are");
        // With one permit a message is all that was asked for.
        let mut pace = Pace::default();
        pace.after(1, 1, ms(500));
        assert_eq!(pace.receives, 2);
    }
}
