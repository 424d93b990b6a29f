//! Which targets an event goes to: remembered, and asked of the catalog when it is not known.

use metrics::Counter;
use platform::follow::{Follower, Remembered};
use platform::harness::backoff::Backoff;
use platform::telemetry::{Outage, names};
use schemas::event::Event;
use schemas::ids::{TargetId, Tenant};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A tenant and an event type.
pub type Key = (Tenant, Arc<str>);

/// About the bytes that a remembered match takes.
#[must_use]
pub fn weight(key: &Key, targets: &Arc<[TargetId]>) -> u32 {
    // What the cache itself keeps of an entry, in seven allocations, and its share of the table.
    const ENTRY: usize = 300;
    // Three allocations, each with two counts and rounded up.
    const SHARED: usize = 16;
    u32::try_from(
        ENTRY + 3 * SHARED + key.0.as_str().len() + key.1.len() + targets.len() * size_of::<TargetId>(),
    )
    .unwrap_or(u32::MAX)
}

/// Matches events against the subscriptions.
pub struct Matcher {
    catalog: Arc<Follower>,
    /// An empty list is remembered too: most types of most tenants match nothing.
    matches: Remembered<Key, Arc<[TargetId]>>,
    outage: Outage,
    from_memory: Counter,
    from_catalog: Counter,
}

impl Matcher {
    /// Remembers matches in up to `memory` bytes.
    #[must_use]
    pub fn new(catalog: Arc<Follower>, memory: u64) -> Self {
        Self {
            catalog,
            matches: Remembered::new(memory, weight),
            outage: Outage::new("catalog (match)"),
            from_memory: metrics::counter!(names::MATCHES, "from" => "memory"),
            from_catalog: metrics::counter!(names::MATCHES, "from" => "catalog"),
        }
    }

    /// The targets of an event, each once, if they are remembered: without a wait.
    #[must_use]
    pub fn known(&self, event: &Event) -> Option<Arc<[TargetId]>> {
        if !self.catalog.is_caught_up() {
            return None;
        }
        let key = (event.tenant.clone(), event.event_type.clone());
        let changed = || self.catalog.tenant_changed(&event.tenant);
        let targets = self.matches.known(&key, changed)?;
        self.from_memory.increment(1);
        Some(targets)
    }

    /// The targets of an event, each once. While the catalog is away and the answer is not known, it
    /// waits: an event is never dropped for want of an answer.
    pub async fn targets(&self, event: &Event) -> Arc<[TargetId]> {
        let key = (event.tenant.clone(), event.event_type.clone());
        let mut backoff = Backoff::default();
        loop {
            self.catalog.catch_up().await;
            let changed = || self.catalog.tenant_changed(&event.tenant);
            let asked = AtomicBool::new(false);
            let load = async {
                asked.store(true, Ordering::Relaxed);
                let targets = self
                    .catalog
                    .catalog()
                    .match_targets(&event.tenant, &event.event_type)
                    .await?;
                Ok::<Arc<[TargetId]>, platform::catalog::CatalogError>(targets.into())
            };
            match self.matches.get(&key, changed, load).await {
                Ok(targets) => {
                    self.outage.works();
                    if asked.load(Ordering::Relaxed) {
                        self.from_catalog.increment(1);
                    } else {
                        self.from_memory.increment(1);
                    }
                    return targets;
                }
                Err(error) => {
                    self.outage.failed(&error);
                    tokio::time::sleep(backoff.next_pause()).await;
                }
            }
        }
    }
}
