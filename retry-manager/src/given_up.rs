//! Telling the tenant of a delivery that is given up.
//!
//! Its operational event is in the log before its message is deleted: killed between the two, it is told
//! twice, by one id. But what waits for its next attempt must not wait for a log that is away: an append has
//! a few seconds, and after one that failed none is tried for a while. What is not told is counted.

use platform::announce::Announcer;
use platform::telemetry::{Outage, names};
use schemas::delivery::Delivery;
use schemas::notice::Notice;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an append may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long none is tried after one that failed.
const REST: Duration = Duration::from_secs(10);

static EVENTS: Outage = Outage::new("event log (operational events)");

/// Tells of deliveries that are given up. Cloned freely.
#[derive(Clone)]
pub struct Obituaries {
    announcer: Option<Announcer>,
    rests_until: Arc<Mutex<Option<Instant>>>,
}

impl Obituaries {
    /// Tells by `announcer`; without one, of nothing.
    #[must_use]
    pub fn new(announcer: Option<Announcer>) -> Self {
        Self {
            announcer,
            rests_until: Arc::default(),
        }
    }

    /// Tells of a delivery, unless the log is away.
    pub async fn tell(&self, delivery: &Delivery) {
        let (Some(announcer), Some(notice)) = (&self.announcer, Notice::exhausted(delivery)) else {
            return;
        };
        if !self.rests() {
            match tokio::time::timeout(PATIENCE, announcer.publish(&delivery.tenant, &notice)).await {
                Ok(Ok(())) => return EVENTS.works(),
                Ok(Err(error)) => EVENTS.failed(&error),
                Err(_) => EVENTS.failed(&format!("no answer within {PATIENCE:?}")),
            }
            *self.lock() = Some(Instant::now() + REST);
        }
        metrics::counter!(names::NOTICES_DROPPED).increment(1);
    }

    fn rests(&self) -> bool {
        self.lock().is_some_and(|until| Instant::now() < until)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.rests_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
