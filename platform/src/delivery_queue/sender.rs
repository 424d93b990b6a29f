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
pub struct Sender(Batcher<OutMessage, Result<(), Failed>>);

/// A message that the queue did not take, and why.
#[derive(Debug)]
pub struct Failed(Box<(OutMessage, QueueError)>);

static SENDING: Outage = Outage::new("delivery queue");

impl Sender {
    /// A sender, and the task that must be run for it.
    pub fn new(queue: Arc<dyn DeliveryQueue>, name: QueueName) -> (Self, impl Future<Output = ()> + Send) {
        let limits = queue.limits().into();
        let (batcher, task) = Batcher::new(limits, move |batch| send_all(queue.clone(), name, batch));
        (Self(batcher), task)
    }

    /// Sends a message; answers once it is durable.
    ///
    /// # Errors
    /// [`SendError::Refused`] when the queue will never take it; [`SendError::Stopped`].
    pub async fn send(&self, message: OutMessage) -> Result<(), SendError> {
        let size = message.size();
        match self.0.submit(message, size).await? {
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
        self.0.submit_all(sized.collect()).await
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
            tokio::time::sleep(backoff.next_pause()).await;
            let size = message.size();
            match self.0.submit(message, size).await? {
                Ok(()) => return Ok(()),
                Err(again) => failed = again,
            }
        }
    }
}

async fn send_all(
    queue: Arc<dyn DeliveryQueue>,
    name: QueueName,
    batch: Vec<OutMessage>,
) -> Vec<Result<(), Failed>> {
    let sent = queue.send(name, &batch).await;
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
