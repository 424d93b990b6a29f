//! When to try again.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long and how often to keep trying one delivery.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Tries end this long after the event was accepted.
    pub window: Duration,
    /// The pause after the first failure.
    pub first: Duration,
    /// Each pause is this many times the one before.
    pub factor: f64,
    /// No pause is longer than this.
    pub max: Duration,
    /// A pause is lengthened by up to this share of itself, so that many deliveries that failed
    /// together do not come back together.
    pub jitter: f64,
}

// `factor` and `jitter` are finite: checked where policies are read.
impl Eq for RetryPolicy {}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(24 * 3600),
            first: Duration::from_secs(5),
            factor: 3.0,
            max: Duration::from_secs(4 * 3600),
            jitter: 0.2,
        }
    }
}
