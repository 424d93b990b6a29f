//! A queue of SQS's limits that serves messages made before, each once, and deletes at once. What is sent to it
//! comes back at the end of the line: nothing is lost that is put off.

use crate::scenarios::null_queue::ports::LIKE_SQS;
use async_trait::async_trait;
use platform::delivery_queue::{
    DeliveryQueue, Depth, InMessage, OutMessage, QueueError, QueueLimits, QueueName, Receipt,
};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Messages in memory.
pub struct Served {
    waiting: Mutex<VecDeque<OutMessage>>,
    /// How many may still be received.
    given: watch::Sender<u64>,
    put_off: AtomicU64,
}

impl Served {
    /// A queue of these.
    pub fn new(messages: VecDeque<OutMessage>) -> Self {
        Self {
            waiting: messages.into(),
            given: watch::Sender::new(0),
            put_off: AtomicU64::new(0),
        }
    }

    /// Lets so many more be received.
    pub fn give(&self, messages: u64) {
        self.given.send_modify(|given| *given += messages);
    }

    /// How many came back.
    pub fn put_off(&self) -> u64 {
        self.put_off.load(Ordering::Relaxed)
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<OutMessage>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DeliveryQueue for Served {
    async fn send(&self, _: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>> {
        self.put_off.fetch_add(batch.len() as u64, Ordering::Relaxed);
        self.waiting().extend(batch.iter().cloned());
        self.give(batch.len() as u64);
        vec![Ok(()); batch.len()]
    }

    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        _: Duration,
        _: Duration,
    ) -> Result<Vec<InMessage>, QueueError> {
        if queue != QueueName::Dispatch {
            return std::future::pending().await;
        }
        let mut given = self.given.subscribe();
        loop {
            // It cannot fail: the sender is here.
            drop(given.wait_for(|given| *given > 0).await);
            let mut taken = 0;
            self.given.send_if_modified(|given| {
                taken = (*given).min(max as u64);
                *given -= taken;
                false
            });
            if taken > 0 {
                let mut waiting = self.waiting();
                let count = waiting.len().min(taken as usize);
                let messages = waiting.drain(..count);
                return Ok(messages.map(received).collect());
            }
        }
    }

    async fn delete(&self, _: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); receipts.len()]
    }

    async fn extend(&self, _: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>> {
        vec![Ok(()); entries.len()]
    }

    async fn depth(&self, _: QueueName) -> Result<Depth, QueueError> {
        Ok(Depth::default())
    }

    fn limits(&self) -> QueueLimits {
        LIKE_SQS
    }

    async fn provision(&self) -> Result<(), QueueError> {
        Ok(())
    }

    async fn check(&self) -> Result<(), QueueError> {
        Ok(())
    }
}

fn received(message: OutMessage) -> InMessage {
    InMessage {
        body: message.body,
        attribute: message.attribute,
        receipt: Receipt::Claim(0, 1),
        receive_count: 1,
    }
}
