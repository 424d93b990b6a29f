//! What the dispatcher needs to know.

use crate::gate::Rules;
use crate::gate::breaker::BreakerPolicy;
use crate::gate::limit::Bounds;
use crate::permits::Shares;
use crate::proxy::Proxy;
use schemas::egress::EgressRules;
use schemas::schedule::RetryPolicy;
use std::time::Duration;

/// What the dispatcher needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// One attempt, from connecting to the last byte of the answer that is read.
    pub timeout: Duration,
    /// Connecting, within that.
    pub connect_timeout: Duration,
    /// Attempts at once, over both lanes.
    pub concurrency: usize,
    /// Attempts at once at one target: at least, at first, at most.
    pub per_target: Bounds,
    /// The share of `concurrency` that one tenant may have while there are others, above 0 and up to 1.
    pub tenant_share: f64,
    /// When a target's circuit breaker opens.
    pub breaker: BreakerPolicy,
    /// How many dispatchers there are: each keeps to its part of a target's rate limit.
    pub dispatchers: u32,
    /// Bytes of an answer that are read.
    pub response_limit: usize,
    /// A target's `Retry-After` is honoured up to this.
    pub retry_after_cap: Duration,
    /// Whether what waits long is packed in the retry queue.
    pub packs: bool,
    /// The policy of targets that have none of their own.
    pub retry: RetryPolicy,
    /// What may be dialled.
    pub rules: EgressRules,
    /// The name that we go by with targets that are verified by the handshake of CloudEvents.
    pub origin: Option<String>,
    /// Through what targets are reached, if not directly.
    pub proxy: Option<Proxy>,
}

impl Config {
    /// Attempts at once of the slow lane: an eighth. First attempts and retries that are due have the rest.
    #[must_use]
    pub fn slow(&self) -> usize {
        (self.concurrency / 8).max(1)
    }

    /// Attempts at once of the dispatch lane.
    #[must_use]
    pub fn fast(&self) -> usize {
        self.concurrency.saturating_sub(self.slow()).max(1)
    }

    /// What holds for every target. In the slow lane one target may have an eighth.
    #[must_use]
    pub fn gate_rules(&self) -> Rules {
        Rules {
            bounds: self.per_target,
            slow: (self.slow() / 8).max(1),
            breaker: self.breaker,
        }
    }

    /// What tenants and retries may have of all attempts. Retries leave half of the dispatch lane to first attempts.
    #[must_use]
    pub fn shares(&self) -> Shares {
        Shares {
            tenant: ((self.concurrency as f64 * self.tenant_share) as usize).max(1),
            retries: (self.fast() / 2).max(1),
        }
    }

    /// How long a message stays hidden while it is handled: longer than the longest attempt with
    /// what lies around it (looking up, fetching the payload, the next step), so that no second
    /// dispatcher begins the same one. A target's own timeout is at most 60 s.
    #[must_use]
    pub fn visibility(&self) -> Duration {
        Duration::from_secs(120).max(self.timeout * 2)
    }
}
