//! Dispatch queue → POST → outcome → next step.
//!
//! A permit of the lane is taken before a message is received. The delivery's target is looked up; whether it may be
//! sent to now is asked of its gate, and what may not goes to the slow lane or the retry queue. The payload is fetched, the request signed and sent, and the answer judged. The next step is made durable before the
//! message is deleted: nothing for a delivered one, a message in the retry queue for a failed one. The
//! attempt is reported to history on the way. A pack of the retry queue asks here whether what is in it may come.
//!
//! | file | stage |
//! |---|---|
//! | [`dispatch`] | one message from receipt to its next step |
//! | [`lane`] | two lanes, so that a target without a free permit holds nobody up |
//! | [`permits`] | who may be attempted now: targets, tenants, retries |
//! | [`gate`] | one target's limit, breaker, `Retry-After` and rate limit: pure decisions |
//! | [`targets`] | what is remembered of a target, ready to send |
//! | [`payload`] | the payload, wherever it is |
//! | [`probe`] | requests that are no deliveries: challenges and tests |
//! | [`request`] | headers and signature |
//! | [`client`] | the POST, under one deadline |
//! | [`guard`] | which address may be dialled |
//! | [`resolver`] | names to addresses |
//! | [`proxy`] | a tunnel through a proxy |
//! | [`tls`] | TLS, in time |
//! | [`connection`] | connections, counted |

pub mod client;
pub mod config;
pub mod connection;
pub mod dispatch;
pub mod gate;
pub mod guard;
pub mod lane;
pub mod payload;
pub mod permits;
pub mod probe;
pub mod proxy;
pub mod request;
pub mod resolver;
pub mod targets;
pub mod tls;

pub use config::Config;

use client::HttpClient;
use dispatch::Dispatch;
use lane::Lane;
use payload::Payloads;
use permits::Permits;
use platform::clock::Clock;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::EventLog;
use platform::follow::Follower;
use platform::payload_store::PayloadStore;
use platform::report::Reporter;
use probe::{Asking, Probe};
use std::sync::Arc;
use std::time::Duration;
use targets::Targets;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the dispatcher works with.
pub struct Parts {
    /// Where deliveries wait.
    pub queue: Arc<dyn DeliveryQueue>,
    /// Where large payloads lie.
    pub payloads: Arc<dyn PayloadStore>,
    /// Where payloads lie that were not copied into a message.
    pub log: Arc<dyn EventLog>,
    /// The targets.
    pub catalog: Arc<Follower>,
    /// History.
    pub reporter: Reporter,
    /// The time.
    pub clock: Clock,
}

/// Dispatches until `shutdown`, then finishes the attempts that run. `ready` is called once it takes
/// messages.
///
/// # Errors
/// None so far: what is away is waited for.
pub async fn run(
    config: Config,
    parts: Parts,
    ready: impl FnOnce() + Send,
    shutdown: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let permits = Permits::new(config.gate_rules(), config.shares());
    // One for both: its pool and its bound of connections are over all targets.
    let client = Arc::new(HttpClient::new(&config));
    let asking = Asking {
        catalog: parts.catalog.catalog().clone(),
        prober: Probe::with(&config, client.clone(), parts.clock.clone()),
    };
    let dispatch = Arc::new(Dispatch {
        targets: Targets::new(parts.catalog),
        payloads: Payloads::new(parts.payloads, parts.log),
        client,
        permits: permits.clone(),
        reporter: parts.reporter,
        clock: parts.clock.clone(),
        retry: config.retry.clone(),
        retry_after_cap: config.retry_after_cap,
        timeout: config.timeout,
        packs: config.packs,
        dispatchers: config.dispatchers,
        origin: config.origin.clone(),
    });
    let (fast, slow) = (config.fast(), config.slow());
    let visibility = config.visibility();
    let dispatching = Lane::new(
        parts.queue.clone(),
        QueueName::Dispatch,
        fast,
        visibility,
        dispatch.clone(),
    );
    let slow = Lane::new(parts.queue, QueueName::Slow, slow, visibility, dispatch);
    ready();
    // Each on a task of its own: joined in one, all of them would be polled whenever one is woken, and a lane is
    // woken at each batch of messages.
    let mut working = JoinSet::new();
    working.spawn(dispatching.run(shutdown.clone()));
    working.spawn(slow.run(shutdown.clone()));
    working.spawn(tidy(permits, shutdown.clone()));
    working.spawn(async move { asking.run(&shutdown).await });
    while let Some(ended) = working.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    Ok(())
}

/// How often idle targets are forgotten.
const TIDY: Duration = Duration::from_secs(30);

async fn tidy(permits: Arc<Permits>, shutdown: CancellationToken) {
    while tokio::time::timeout(TIDY, shutdown.cancelled()).await.is_err() {
        permits.forget_idle();
    }
}
