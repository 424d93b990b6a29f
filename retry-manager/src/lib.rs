//! Retry queue → due? → dispatch queue, or once more round, or dead letter.
//!
//! A failed delivery waits here for its next attempt. A message can be hidden for 900 s at most, so a
//! longer wait is a chain of hops: received before it is due, it is sent again with the next hop's
//! delay. Where each hop costs money, those of one target that wait long for about the same time are packed:
//! one object holds them, one message hops for all, and asks for all in the dispatch queue when it is due. A delivery without a next attempt is given up: it
//! goes to the dead-letter queue, and its tenant is told by an operational event.
//!
//! Each next step is sent before the message is deleted: killed between the two, there is a duplicate
//! and never a loss.
//!
//! | file | stage |
//! |---|---|
//! | [`decide`] | due, not due, or given up |
//! | `exits` | to the next step, and only then deleted |
//! | [`given_up`] | the tenant is told |
//! | [`gather`], `packer` | those that wait long, held until there are enough |
//! | [`price`] | whether a pack pays |
//! | [`packs`] | packs written, sent on, and unpacked |

pub mod decide;
mod exits;
pub mod gather;
pub mod given_up;
mod packer;
pub mod packs;
pub mod price;

use exits::Exits;
use given_up::Obituaries;
use packs::Packs;
use platform::announce::Announcer;
use platform::clock::Clock;
use platform::config::Prices;
use platform::delivery_queue::intake::Intake;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::payload_store::PayloadStore;
use platform::report::Reporter;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

/// Messages handled at once.
const AT_ONCE: usize = 256;
/// How long a message stays hidden while it is handled: longer than it is held for a pack, and then takes to
/// be in one. After a crash what was due comes so much later.
const VISIBILITY: Duration = Duration::from_secs(120);

/// What the retry manager needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// What requests cost, where deliveries that wait long are packed if that is cheaper.
    pub packs: Option<Prices>,
}

/// What the retry manager works with.
pub struct Parts {
    /// Where deliveries wait.
    pub queue: Arc<dyn DeliveryQueue>,
    /// Where packs lie.
    pub payloads: Arc<dyn PayloadStore>,
    /// Where operational events go, if there is a topic that takes them.
    pub announcer: Option<Announcer>,
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
    config: Config,
    parts: Parts,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let queue = parts.queue;
    let (exits, mut tasks) = Exits::new(
        queue.clone(),
        Packs::new(parts.payloads, config.packs),
        Obituaries::new(parts.announcer),
        parts.reporter,
        parts.clock,
    );
    let (held, to_hold) = mpsc::channel(packer::QUEUE);
    let packing = tokio::spawn(packer::run(exits.clone(), to_hold));
    let intake = Intake {
        queue,
        name: QueueName::Retry,
        permits: Arc::new(Semaphore::new(AT_ONCE)),
        visibility: VISIBILITY,
    };
    let handle = |message, permit| {
        let (exits, held) = (exits.clone(), held.clone());
        async move {
            if let Some(waits) = exits.message(message).await
                && let Err(full) = held.try_send(waits)
            {
                exits.hop_on(full.into_inner()).await;
            }
            drop(permit);
        }
    };
    ready();
    intake.run(handle, shutdown).await;
    drop(held);
    drop(packing.await);
    // The tasks behind the exits end when the last handle is gone.
    drop(exits);
    while tasks.join_next().await.is_some() {}
    Ok(())
}

#[cfg(test)]
mod tests;
