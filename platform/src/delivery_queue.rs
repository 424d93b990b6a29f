//! Port: the delivery queue, where deliveries wait to be dispatched, retried or looked at.
//!
//! At least once: a message is seen again unless it is deleted before its visibility runs out.
//! Order is not promised. Two adapters: [`sqs`] and [`embedded`] (SQLite), one conformance suite.

pub mod embedded;
pub mod intake;
pub mod sender;
pub mod sqs;

use async_trait::async_trait;
use bytes::Bytes;
use schemas::delivery::Delivery;
use schemas::pack::Pack;
use schemas::wire::{self, WireMessage};
use std::time::Duration;

/// The longest delay of a message: 900 s, SQS's limit (quotas-messages in the SQS developer guide).
pub const MAX_DELAY: Duration = Duration::from_secs(900);

/// The most messages one receive of any queue may ask for: 10, SQS's limit. A queue may allow more
/// ([`QueueLimits::receive_entries`]).
pub const MAX_RECEIVE: usize = 10;

/// The four queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueName {
    /// Deliveries to be tried now.
    Dispatch,
    /// Deliveries of targets that have no permit free: tried beside the others, holding nobody up.
    Slow,
    /// Deliveries that failed and wait for their next attempt.
    Retry,
    /// Deliveries given up.
    DeadLetter,
}

impl QueueName {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Dispatch, Self::Slow, Self::Retry, Self::DeadLetter];

    /// The end of the queue's name, after the configured prefix; also its metric label.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::Slow => "slow",
            Self::Retry => "retry",
            Self::DeadLetter => "dead-letter",
        }
    }
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutMessage {
    /// The body: UTF-8 of the characters SQS allows, at least one byte (see `schemas::wire`).
    pub body: Bytes,
    /// Everything else, as JSON.
    pub attribute: String,
    /// The message group: `tenant:target`.
    pub group: String,
    /// How long it stays hidden, at most [`MAX_DELAY`]. Whole seconds; a part of one counts as one.
    pub delay: Duration,
}

impl OutMessage {
    /// The message of a delivery, hidden for so long.
    #[must_use]
    pub fn of(delivery: &Delivery, delay: Duration) -> Self {
        let wire = wire::encode(delivery);
        Self {
            body: wire.body,
            attribute: wire.attribute,
            group: delivery.group(),
            delay,
        }
    }

    /// The message of a pack, hidden for so long.
    #[must_use]
    pub fn of_pack(pack: &Pack, delay: Duration) -> Self {
        let WireMessage { body, attribute } = pack.message();
        Self {
            body,
            attribute,
            group: pack.group(),
            delay,
        }
    }

    /// A message that nobody here can read, as it came: for the dead-letter queue.
    #[must_use]
    pub fn unreadable(body: Bytes, attribute: String) -> Self {
        Self {
            body,
            attribute,
            group: "unreadable".to_owned(),
            delay: Duration::ZERO,
        }
    }

    /// What it counts against the batch limit: body, attribute, and the attribute's name and type.
    #[must_use]
    pub fn size(&self) -> usize {
        self.body.len() + self.attribute.len() + 32
    }
}

/// A message as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InMessage {
    /// The body.
    pub body: Bytes,
    /// Everything else, as JSON.
    pub attribute: String,
    /// What deletes or extends it.
    pub receipt: Receipt,
    /// How often it has been received, this time included, where the queue knows.
    pub receive_count: u32,
}

/// One receive of one message. Meaningful only to the queue that gave it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Receipt {
    /// A handle as text.
    Handle(String),
    /// A message's number and the count of its receives.
    Claim(i64, u32),
}

/// What one call may carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Entries of one send or delete.
    pub batch_entries: usize,
    /// Bytes of one send, by [`OutMessage::size`].
    pub batch_bytes: usize,
    /// How long to wait for a batch to fill: a request costs money, or it does not.
    pub linger: Duration,
    /// How many batch calls should run at once.
    pub concurrency: usize,
    /// The most messages one receive may ask for: at least [`MAX_RECEIVE`].
    pub receive_entries: usize,
    /// How long a receive should wait for its first message.
    pub receive_wait: Duration,
    /// Whether a waiting receive may be dropped when the process stops: what it would have got is
    /// not hidden from the next process.
    pub drop_receive: bool,
}

/// Why a call, or one entry of it, failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// Trying this entry again later may succeed.
    #[error("{0}")]
    Unavailable(String),
    /// This entry will never be taken as it is.
    #[error("queue refused the message: {0}")]
    Refused(String),
    /// The receipt no longer holds: the message is visible again, or deleted.
    #[error("the receipt is no longer valid")]
    Expired,
}

/// How many messages a queue holds, as nearly as it knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Ready to be received.
    pub visible: u64,
    /// Hidden by a delay.
    pub delayed: u64,
    /// Received and not deleted.
    pub in_flight: u64,
}

/// Where deliveries wait.
#[async_trait]
pub trait DeliveryQueue: Send + Sync {
    /// Sends a batch of at most [`QueueLimits::batch_entries`] and [`QueueLimits::batch_bytes`].
    /// One result per entry, in order: `Ok` once that entry is durable.
    async fn send(&self, queue: QueueName, batch: &[OutMessage]) -> Vec<Result<(), QueueError>>;

    /// Receives up to `max` (at most [`QueueLimits::receive_entries`]) messages, waiting up to `wait` for
    /// the first.
    /// They are hidden from others for `visibility`. Not to be dropped half-way: what was received
    /// by a dropped call stays hidden until its visibility ends.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`]: call again after a pause.
    async fn receive(
        &self,
        queue: QueueName,
        max: usize,
        wait: Duration,
        visibility: Duration,
    ) -> Result<Vec<InMessage>, QueueError>;

    /// Deletes a batch of at most [`QueueLimits::batch_entries`]. One result per entry, in order:
    /// `Ok` once that entry's deletion is durable. Deleting twice is no error.
    async fn delete(&self, queue: QueueName, receipts: &[Receipt]) -> Vec<Result<(), QueueError>>;

    /// Sets the time until a received message is visible again; zero makes it visible now.
    /// One result per entry, in order.
    async fn extend(&self, queue: QueueName, entries: &[(Receipt, Duration)]) -> Vec<Result<(), QueueError>>;

    /// Whether so much waits that who has a durable log behind it had better wait there too. Sending is
    /// possible all the same. Always `false` of a queue that keeps itself.
    fn is_crowded(&self, _: QueueName) -> bool {
        false
    }

    /// Waits until the queue is not crowded.
    async fn room(&self, _: QueueName) {}

    /// How many messages wait.
    ///
    /// # Errors
    /// [`QueueError::Unavailable`].
    async fn depth(&self, queue: QueueName) -> Result<Depth, QueueError>;

    /// What one call may carry.
    fn limits(&self) -> QueueLimits;

    /// Creates the queues that do not exist. Safe to repeat.
    ///
    /// # Errors
    /// Says what could not be created.
    async fn provision(&self) -> Result<(), QueueError>;

    /// Whether the queues can be reached.
    ///
    /// # Errors
    /// Says what is wrong.
    async fn check(&self) -> Result<(), QueueError>;
}
