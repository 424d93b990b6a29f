//! Event log → match → spill → dispatch queue.
//!
//! Records are read by partition and decoded by their topic's framing. Each event is matched against
//! the remembered subscriptions, its payload is put into the payload store if it is too large for a
//! message, and one delivery per target is sent to the dispatch queue. A partition's offset moves only
//! past records whose every delivery the queue has acknowledged (or that matched nothing, or whose
//! poison copy is acknowledged): see [`ledger`], the one place that decides it, and [`assignments`], which
//! keeps one for each partition while it is ours.
//!
//! [`replay`] sends again what tenants ask for, in a role of its own.
//!
//! Killed anywhere: what was not stored is read again, and makes the same deliveries with the same ids.

pub mod assignments;
pub mod config;
pub mod decode;
pub mod enqueue;
pub mod fan_out;
pub mod intake;
pub mod ledger;
pub mod matcher;
pub mod poison;
pub mod price;
pub mod registry;
pub mod replay;
pub mod spill;
pub mod under_way;
pub mod writers;

pub use config::Config;

use decode::TopicDecoders;
use enqueue::{Counts, Enqueue};
use fan_out::FanOut;
use intake::Intake;
use matcher::Matcher;
use platform::clock::Clock;
use platform::delivery_queue::sender::Sender;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::{EventLog, LogError};
use platform::follow::Follower;
use platform::payload_store::PayloadStore;
use platform::report::Reporter;
use poison::DeadLetters;
use spill::Spill;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What the consumer works with.
pub struct Parts {
    /// Where events come in.
    pub log: Arc<dyn EventLog>,
    /// Where deliveries go.
    pub queue: Arc<dyn DeliveryQueue>,
    /// Where large payloads go.
    pub payloads: Arc<dyn PayloadStore>,
    /// What is subscribed.
    pub catalog: Arc<Follower>,
    /// History.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
}

/// Why the consumer stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log will not let it read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A topic cannot be decoded at all.
    #[error(transparent)]
    Decoder(#[from] decode::DecoderError),
    /// Too much of the topic is unreadable.
    #[error(transparent)]
    Poison(#[from] poison::TooMuchPoison),
}

/// Consumes until `shutdown`, then finishes what it has begun. `ready` is called once it reads.
///
/// # Errors
/// [`RunError`] when it cannot go on.
pub async fn run(
    config: Config,
    parts: Parts,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), RunError> {
    let decoders = TopicDecoders::new(&config.topics, config.registry.as_ref())?;
    let topics = decoders.topics();
    let (sender, sending) = Sender::new(parts.queue.clone(), QueueName::Dispatch);
    let sending = tokio::spawn(sending);
    let step = Arc::new(Enqueue {
        decoders,
        matcher: Matcher::new(parts.catalog, config.match_memory),
        spill: Spill::new(parts.payloads, config.payload_place, config.spill),
        fan_out: FanOut::new(sender, parts.queue.limits()),
        dead_letters: DeadLetters::new(parts.log.clone(), config.dead_letter_topic, config.poison_share),
        reporter: parts.reporter,
        clock: parts.clock,
        max_payload: config.max_payload,
        counts: Counts::default(),
    });
    let reader = parts.log.subscribe(&config.group, &topics).await?;
    ready();
    let result = Intake::new(
        reader,
        parts.queue,
        step.clone(),
        config.in_flight,
        config.in_flight_bytes,
    )
    .run(shutdown)
    .await;
    drop(step);
    sending.abort();
    result
}
