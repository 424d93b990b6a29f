//! Sending again: a replay's events, from the log or by history → spill → dispatch queue.
//!
//! ```text
//! replays ─▶ claim ─▶ turn ─▶ log walk:     spans of the log ─▶ decode ─▶ match ─▶ not delivered yet?
//!   ▲                  │  └─▶ history walk: deliveries given up ─▶ read back by place ─▶ decode
//!   └── place, counts ─┴────▶ spill ─▶ dispatch queue, at the target's rate
//! ```
//!
//! A process works on a few targets at once, on each by turns: who waits longest is next. How far a
//! replay has come is stored after the queue has acknowledged what was sent. Killed anywhere, another
//! process goes on from there: what was sent since comes twice, with the same ids.

mod history_walk;
mod log_walk;
pub mod pace;
mod turn;
mod walk;

use crate::config::{Config, PayloadPlace};
use crate::decode::{DecoderError, TopicDecoders};
use crate::spill::Spill;
use platform::clock::Clock;
use platform::delivery_queue::sender::Sender;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::EventLog;
use platform::follow::Follower;
use platform::harness::backoff::Backoff;
use platform::history::History;
use platform::payload_store::PayloadStore;
use platform::replays::Replays;
use platform::report::Reporter;
use platform::secrets::random_bytes;
use platform::telemetry::Outage;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Targets worked on at once by one process: each may have a reader of the log.
const AT_ONCE: usize = 16;
/// How many of them read at once. Reading is not bound to a target's rate where nothing is to be sent, and must
/// not crowd out what the process does besides.
const READERS: usize = 4;
/// What a walk remembers of matches, in bytes.
const MATCH_MEMORY: u64 = 1 << 20;
/// How often it is looked whether another process has made a replay, or left one.
const LOOK: Duration = Duration::from_secs(1);

/// What replays work with.
pub struct Parts {
    /// Where events are.
    pub log: Arc<dyn EventLog>,
    /// Where deliveries go.
    pub queue: Arc<dyn DeliveryQueue>,
    /// Where large payloads go.
    pub payloads: Arc<dyn PayloadStore>,
    /// What is subscribed.
    pub catalog: Arc<Follower>,
    /// What became of deliveries.
    pub history: History,
    /// What is to be done.
    pub replays: Replays,
    /// Tells history.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
}

/// What every turn shares.
struct Work {
    /// Names this process among those that work on replays.
    owner: String,
    /// Deliveries a second at most, to one target.
    rate: u32,
    /// The event topics.
    topics: Vec<String>,
    /// Larger payloads are not sent.
    max_payload: usize,
    decoders: TopicDecoders,
    readers: Semaphore,
    spill: Spill,
    sender: Sender,
    log: Arc<dyn EventLog>,
    queue: Arc<dyn DeliveryQueue>,
    catalog: Arc<Follower>,
    history: History,
    replays: Replays,
    reporter: Reporter,
    clock: Clock,
    /// The database, when it is asked what there is to do.
    outage: Outage,
    /// Whatever a turn needs.
    stalled: Outage,
    shutdown: CancellationToken,
}

/// Works on replays until `shutdown`, at most `rate` deliveries a second to each target; what it has begun
/// then is finished by whoever comes next.
///
/// # Errors
/// When the configured topics cannot be decoded at all.
pub async fn run(
    config: Config,
    rate: u32,
    parts: Parts,
    shutdown: CancellationToken,
) -> Result<(), DecoderError> {
    let decoders = TopicDecoders::new(&config.topics, config.registry.as_ref())?;
    let (sender, sending) = Sender::new(parts.queue.clone(), QueueName::Dispatch);
    let sending = tokio::spawn(sending);
    let work = Arc::new(Work {
        owner: format!("{:016x}", u64::from_be_bytes(random_bytes())),
        rate,
        topics: decoders.topics(),
        max_payload: config.max_payload,
        decoders,
        readers: Semaphore::new(READERS),
        // Never in the log: the record may be deleted before the new window has ended.
        spill: Spill::new(parts.payloads, PayloadPlace::Message, config.spill),
        sender,
        log: parts.log,
        queue: parts.queue,
        catalog: parts.catalog,
        history: parts.history,
        replays: parts.replays,
        reporter: parts.reporter,
        clock: parts.clock,
        outage: Outage::new("database (replays)"),
        stalled: Outage::new("replays"),
        shutdown: shutdown.clone(),
    });
    let permits = Arc::new(Semaphore::new(AT_ONCE));
    let mut turns = JoinSet::new();
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        if let Ok(permit) = permits.clone().try_acquire_owned() {
            match work.replays.claim(&work.owner).await {
                Ok(Some(replay)) => {
                    let work = work.clone();
                    turns.spawn(async move {
                        work.turn(replay).await;
                        drop(permit);
                    });
                    continue;
                }
                Ok(None) => {
                    work.outage.works();
                    backoff = Backoff::default();
                }
                Err(error) => {
                    work.outage.failed(&error);
                    backoff.wait(&shutdown).await;
                }
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = work.replays.made_here() => {}
            () = tokio::time::sleep(LOOK) => {}
            Some(ended) = turns.join_next() => resume(ended),
        }
    }
    while let Some(ended) = turns.join_next().await {
        resume(ended);
    }
    drop(work);
    sending.abort();
    Ok(())
}

/// A turn that panicked takes the role with it.
fn resume(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
