//! Sending and deleting one message at a time, packed into batches behind the scenes.
//!
//! Sending goes on until the queue has it: the caller still holds what it would lose. Only the
//! entries that failed are sent again. Deleting is tried a few times and then left: the message is
//! seen again, which costs a duplicate and never a loss.

use super::{DeliveryQueue, OutMessage, QueueError, QueueName, Receipt};
use crate::batch::{Batcher, Stopped};
use crate::harness::backoff::Backoff;
use crate::telemetry::Outage;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Why a message could not be sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The queue will never take it.
    #[error("the queue refused the message: {0}")]
    Refused(String),
    /// The process is stopping.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

/// Sends messages to one queue. Cloned freely.
#[derive(Clone)]
pub struct Sender {
    batcher: Batcher<OutMessage, Result<(), Failed>>,
    /// How many batches the queue has taken something of.
    taken: watch::Receiver<u64>,
}

/// While the queue takes others, one that failed is tried again after this at most: it was the entry's bad luck,
/// and what waits for it (a drain, a partition that is taken away) has no long time.
const WORKING: Duration = Duration::from_secs(1);

/// A message that the queue did not take, and why.
#[derive(Debug)]
pub struct Failed(Box<(OutMessage, QueueError)>);

static SENDING: Outage = Outage::new("delivery queue");

impl Sender {
    /// A sender, and the task that must be run for it.
    pub fn new(queue: Arc<dyn DeliveryQueue>, name: QueueName) -> (Self, impl Future<Output = ()> + Send) {
        let limits = queue.limits().into();
        let (counter, taken) = watch::channel(0);
        let (batcher, task) = Batcher::new(limits, move |batch| {
            send_all(queue.clone(), name, batch, counter.clone())
        });
        (Self { batcher, taken }, task)
    }

    /// Sends a message; answers once it is durable.
    ///
    /// # Errors
    /// [`SendError::Refused`] when the queue will never take it; [`SendError::Stopped`].
    pub async fn send(&self, message: OutMessage) -> Result<(), SendError> {
        let size = message.size();
        match self.batcher.submit(message, size).await? {
            Ok(()) => Ok(()),
            Err(failed) => self.send_again(failed).await,
        }
    }

    /// Sends messages once: the result of each, in order, `Ok` once it is durable. For those that failed
    /// there is [`Sender::send_again`]: each by itself, so that none keeps the others back.
    ///
    /// # Errors
    /// When the process is stopping. Some may have been sent.
    pub async fn send_once(&self, messages: Vec<OutMessage>) -> Result<Vec<Result<(), Failed>>, Stopped> {
        let sized = messages.into_iter().map(|message| {
            let size = message.size();
            (message, size)
        });
        self.batcher.submit_all(sized.collect()).await
    }

    /// Sends a message that has failed, with pauses, until the queue has it.
    ///
    /// # Errors
    /// As for [`Sender::send`].
    pub async fn send_again(&self, failed: Failed) -> Result<(), SendError> {
        let mut failed = failed;
        let mut backoff = Backoff::default();
        loop {
            let message = match *failed.0 {
                (_, QueueError::Refused(why)) => return Err(SendError::Refused(why)),
                (message, QueueError::Unavailable(_) | QueueError::Expired) => message,
            };
            self.pause(backoff.next_pause()).await;
            let size = message.size();
            match self.batcher.submit(message, size).await? {
                Ok(()) => return Ok(()),
                Err(again) => failed = again,
            }
        }
    }

    /// Waits so long, and no longer than [`WORKING`] once the queue is seen to take others.
    async fn pause(&self, pause: Duration) {
        let taken = *self.taken.borrow();
        tokio::time::sleep(pause.min(WORKING)).await;
        if let Some(rest) = pause.checked_sub(WORKING)
            && *self.taken.borrow() == taken
        {
            let mut news = self.taken.clone();
            // Whichever is first: the pause is over, or the queue takes something.
            let _ = tokio::time::timeout(rest, news.wait_for(|now| *now != taken)).await;
        }
    }
}

async fn send_all(
    queue: Arc<dyn DeliveryQueue>,
    name: QueueName,
    batch: Vec<OutMessage>,
    taken: watch::Sender<u64>,
) -> Vec<Result<(), Failed>> {
    let sent = queue.send(name, &batch).await;
    if sent.iter().any(Result::is_ok) {
        taken.send_modify(|taken| *taken += 1);
    }
    let passing = |result: &Result<(), QueueError>| match result {
        Ok(()) | Err(QueueError::Refused(_)) => None,
        Err(error @ (QueueError::Unavailable(_) | QueueError::Expired)) => Some(error.clone()),
    };
    match sent.iter().find_map(passing) {
        Some(error) => SENDING.failed(&error),
        None => SENDING.works(),
    }
    let results = batch.into_iter().zip(sent);
    results
        .map(|(message, result)| result.map_err(|error| Failed(Box::new((message, error)))))
        .collect()
}

/// Deletes messages of one queue. Cloned freely.
#[derive(Clone)]
pub struct Deleter(Batcher<Receipt, ()>);

impl Deleter {
    /// A deleter, and the task that must be run for it.
    pub fn new(queue: Arc<dyn DeliveryQueue>, name: QueueName) -> (Self, impl Future<Output = ()> + Send) {
        let limits = queue.limits().into();
        let (batcher, task) = Batcher::new(limits, move |batch| delete_all(queue.clone(), name, batch));
        (Self(batcher), task)
    }

    /// Deletes a message whose next step is durable; answers when that is done or given up.
    pub async fn delete(&self, receipt: Receipt) {
        if self.0.submit(receipt, 0).await.is_err() {
            tracing::debug!("stopping; a handled message will be seen again");
        }
    }
}

/// How often a failed deletion is tried before the message is left to be seen again.
const DELETE_TRIES: usize = 4;

async fn delete_all(queue: Arc<dyn DeliveryQueue>, name: QueueName, batch: Vec<Receipt>) -> Vec<()> {
    let done = vec![(); batch.len()];
    let mut left = batch;
    let mut backoff = Backoff::default();
    for _ in 0..DELETE_TRIES {
        let results = queue.delete(name, &left).await;
        left = left
            .into_iter()
            .zip(results)
            .filter(|(_, result)| matches!(result, Err(QueueError::Unavailable(_))))
            .map(|(receipt, _)| receipt)
            .collect();
        if left.is_empty() {
            return done;
        }
        tokio::time::sleep(backoff.next_pause()).await;
    }
    tracing::warn!(
        queue = name.suffix(),
        messages = left.len(),
        "could not delete; they will be seen again"
    );
    done
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery_queue::{Depth, InMessage, QueueLimits};
    use async_trait::async_trait;
    use bytes::Bytes;
    use std::sync::atomic::{AtomicBool, Ordering};
    use tokio::time::Instant;

    /// A queue that is away, or takes everything but what is odd.
    #[derive(Default)]
    struct Fickle {
        away: AtomicBool,
        odd_fails: AtomicBool,
    }

    #[async_trait]
    impl DeliveryQueue for Fickle {
        async fn send(&self, _: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
            let fails = |message: &OutMessage| {
                self.away.load(Ordering::SeqCst)
                    || (self.odd_fails.load(Ordering::SeqCst) && message.body == "odd")
            };
            let result = |message| {
                if fails(message) {
                    Err(QueueError::Unavailable("away".to_owned()))
                } else {
                    Ok(())
                }
            };
            batch.iter().map(result).collect()
        }

        async fn receive(
            &self,
            _: QueueName,
            _: usize,
            _: Duration,
            _: Duration,
        ) -> Result<Vec<InMessage>, QueueError> {
            Ok(Vec::new())
        }

        async fn delete(&self, _: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
            receipts.iter().map(|_| Ok(())).collect()
        }

        async fn extend(&self, _: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
            entries.iter().map(|_| Ok(())).collect()
        }

        async fn depth(&self, _: QueueName) -> Result<Depth, QueueError> {
            Ok(Depth::default())
        }

        fn limits(&self) -> QueueLimits {
            QueueLimits {
                batch_entries: 10,
                batch_bytes: 1 << 20,
                linger: Duration::ZERO,
                concurrency: 4,
                receive_entries: 10,
                receive_wait: Duration::ZERO,
                drop_receive: false,
            }
        }

        async fn provision(&self) -> Result<(), QueueError> {
            Ok(())
        }

        async fn check(&self) -> Result<(), QueueError> {
            Ok(())
        }
    }

    fn message(body: &'static str) -> OutMessage {
        OutMessage {
            body: Bytes::from_static(body.as_bytes()),
            attribute: String::new(),
            group: String::new(),
            delay: Duration::ZERO,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn when_the_queue_is_back_nobody_sits_out_the_pauses_of_its_absence() {
        let queue = Arc::new(Fickle::default());
        queue.away.store(true, Ordering::SeqCst);
        queue.odd_fails.store(true, Ordering::SeqCst);
        let (sender, task) = Sender::new(queue.clone(), QueueName::Dispatch);
        let task = tokio::spawn(task);
        let odd = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(message("odd")).await }
        });
        // Its pauses have grown to five seconds each.
        tokio::time::sleep(Duration::from_secs(60)).await;
        queue.away.store(false, Ordering::SeqCst);
        let back = Instant::now();
        let mut tries = 0;
        while back.elapsed() < Duration::from_secs(10) {
            sender.send(message("even")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            tries += 1;
        }
        assert!(tries > 50 && !odd.is_finished(), "the odd one fails on");
        queue.odd_fails.store(false, Ordering::SeqCst);
        let well = Instant::now();
        sender.send(message("even")).await.unwrap();
        odd.await.unwrap().unwrap();
        assert!(well.elapsed() <= WORKING, "{:?}", well.elapsed());
        drop(sender);
        task.await.unwrap();
    }
}
