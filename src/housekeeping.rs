//! What each process does beside its roles: follow the catalog, look how much waits, remove what is too old.

use platform::catalog::{Catalog, CatalogError};
use platform::delivery_queue::DeliveryQueue;
use platform::follow::Follower;
use platform::harness::Role;
use platform::payload_store::{KEPT, PayloadStore};
use platform::replays::Replays;
use platform::telemetry::{self, Outage};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long is kept what the configuration says.
#[derive(Clone, Copy)]
pub struct Kept {
    /// Idempotency keys and their answers.
    pub idempotency_keys: Duration,
    /// Entries of the audit log.
    pub audit: Duration,
}

/// All of it, as roles of the process.
pub fn roles(
    follower: Arc<Follower>,
    queue: Arc<dyn DeliveryQueue>,
    payloads: Arc<dyn PayloadStore>,
    catalog: Catalog,
    kept: Kept,
    shutdown: &CancellationToken,
) -> [Role; 3] {
    let [following, watching, sweeping] = [(); 3].map(|()| shutdown.clone());
    [
        Role::new("catalog follower", async move {
            follower.run(following).await;
            Ok::<(), Infallible>(())
        }),
        Role::new("queue depths", async move {
            watch_depths(queue, watching).await;
            Ok::<(), Infallible>(())
        }),
        Role::new("housekeeping", async move {
            sweep(payloads, catalog, kept, sweeping).await;
            Ok::<(), Infallible>(())
        }),
    ]
}

/// How often queue depths are asked for: it costs four requests.
const DEPTHS_EVERY: Duration = Duration::from_secs(30);

/// Shows how many messages wait, until `shutdown`.
#[allow(clippy::cast_precision_loss, reason = "a gauge")]
async fn watch_depths(queue: Arc<dyn DeliveryQueue>, shutdown: CancellationToken) {
    let mut tick = tokio::time::interval(DEPTHS_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        for name in platform::delivery_queue::QueueName::ALL {
            if let Ok(depth) = queue.depth(name).await {
                let waiting = depth.visible + depth.delayed + depth.in_flight;
                metrics::gauge!(telemetry::names::QUEUE_DEPTH, "queue" => name.suffix()).set(waiting as f64);
            }
        }
    }
}

/// How often what is too old is removed.
const SWEEP_EVERY: Duration = Duration::from_secs(3600);

/// How long the catalog's changes are kept: a process that was cut off from the database for longer
/// forgets all it remembers of the catalog.
const CHANGES_KEPT: Duration = Duration::from_secs(3 * 24 * 3600);

/// How long a replay that came to its end can be looked up.
const REPLAYS_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Removes what is too old, now and each hour, until `shutdown`.
async fn sweep(payloads: Arc<dyn PayloadStore>, catalog: Catalog, kept: Kept, shutdown: CancellationToken) {
    let away = Outage::new("payload store (expiry)");
    let catalog_away = Outage::new("catalog (expiry)");
    let mut tick = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        match payloads.expire(KEPT).await {
            Ok(gone) => {
                away.works();
                tracing::debug!(gone, "old payloads removed");
            }
            Err(error) => away.failed(&error),
        }
        let swept = async {
            Replays::new(&catalog).prune(REPLAYS_KEPT).await?;
            catalog.prune_keys(kept.idempotency_keys).await?;
            let entries = catalog.prune_audit(kept.audit).await?;
            let changes = catalog.prune_changes(CHANGES_KEPT).await?;
            tracing::debug!(
                changes,
                entries,
                "old changes and entries of the audit log removed"
            );
            Ok::<(), CatalogError>(())
        };
        match swept.await {
            Ok(()) => catalog_away.works(),
            Err(error) => catalog_away.failed(&error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use platform::clock::Clock;
    use platform::payload_store::PayloadError;
    use platform::payload_store::embedded::DirectoryStore;
    use platform::secrets::Sealer;
    use platform::sqlite::Sync;
    use std::fs::File;
    use std::time::SystemTime;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn old_payloads_vanish_and_live_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(DirectoryStore::open(dir.path(), Sync::Normal).unwrap());
        let mut pointers = Vec::new();
        let day = Duration::from_secs(24 * 3600);
        for (key, age) in [
            ("new", Duration::ZERO),
            ("waiting", KEPT - day),
            ("again", KEPT + day),
            ("old", KEPT + day),
        ] {
            pointers.push(store.put(key, Bytes::from_static(b"payload")).await.unwrap());
            let file = File::options()
                .write(true)
                .open(dir.path().join("payloads").join(key))
                .unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        // One that is sent again is put again.
        store.put("again", Bytes::from_static(b"payload")).await.unwrap();
        let old = pointers.pop().unwrap();
        let shutdown = CancellationToken::new();
        let url = format!("sqlite:{}", dir.path().join("catalog.db").display());
        let catalog = Catalog::open(&url, Sealer::random().0, Clock::system())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        let kept = Kept {
            idempotency_keys: day,
            audit: KEPT,
        };
        let sweeping = tokio::spawn(sweep(store.clone(), catalog, kept, shutdown.clone()));
        let gone = async {
            while store.get(&old).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), gone).await.unwrap();
        assert!(matches!(store.get(&old).await, Err(PayloadError::Missing { .. })));
        shutdown.cancel();
        sweeping.await.unwrap();
        for pointer in &pointers {
            assert_eq!(store.get(pointer).await.unwrap(), "payload");
        }
    }
}
