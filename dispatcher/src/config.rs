//! What the dispatcher needs to know.

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
    /// Attempts at once at one target.
    pub per_target: usize,
    /// Bytes of an answer that are read.
    pub response_limit: usize,
    /// A target's `Retry-After` is honoured up to this.
    pub retry_after_cap: Duration,
    /// The policy of targets that have none of their own.
    pub retry: RetryPolicy,
    /// What may be dialled.
    pub rules: EgressRules,
}

impl Config {
    /// How long a message stays hidden while it is handled: longer than the longest attempt with
    /// what lies around it (looking up, fetching the payload, the next step), so that no second
    /// dispatcher begins the same one. A target's own timeout is at most 60 s.
    #[must_use]
    pub fn visibility(&self) -> Duration {
        Duration::from_secs(120).max(self.timeout * 2)
    }
}
