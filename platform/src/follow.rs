//! What the delivery path remembers of the catalog, and how it hears of changes.
//!
//! An entry is good until something it depends on changes, not until a time has passed. While the
//! catalog is away, what is remembered stays in use, and its age is a metric.

use crate::catalog::{Catalog, CatalogError};
use crate::clock::Clock;
use crate::harness::at_once;
use crate::harness::backoff::Backoff;
use crate::telemetry::{Outage, names};
use schemas::ids::{TargetId, Tenant};
use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Mutex, MutexGuard, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often other processes' changes are looked for, heard of or not: everything is seen within 2 s.
const POLL: Duration = Duration::from_secs(1);
/// The least time between two looks: of a thousand changes in a second, many are read at once.
const BREATH: Duration = Duration::from_millis(20);
/// Changes read at once.
const BATCH: u32 = 1_000;
/// Changed tenants and targets remembered one by one; beyond that all count as changed.
const REMEMBERED: usize = 100_000;

/// Follows the catalog's change feed. Shared by the caches that depend on it.
pub struct Follower {
    catalog: Catalog,
    clock: Clock,
    applied: AtomicI64,
    applying: Mutex<()>,
    changed: RwLock<Changed>,
    heard_at: AtomicI64,
    outage: Outage,
    /// Told when another process has changed something.
    heard: Notify,
    deaf: Outage,
}

/// The feed's position at which each thing last changed.
#[derive(Default)]
struct Changed {
    everything: i64,
    tenants: HashMap<Tenant, i64>,
    targets: HashMap<TargetId, i64>,
}

impl Follower {
    /// Starts at the feed's end: nothing is remembered yet.
    ///
    /// # Errors
    /// When the catalog cannot be read.
    pub async fn start(catalog: Catalog, clock: Clock) -> Result<Arc<Self>, CatalogError> {
        let latest = catalog.latest_change().await?;
        let heard_at = AtomicI64::new(clock.now().0);
        Ok(Arc::new(Self {
            catalog,
            clock,
            applied: AtomicI64::new(latest),
            applying: Mutex::new(()),
            changed: RwLock::new(Changed {
                everything: latest,
                ..Changed::default()
            }),
            heard_at,
            outage: Outage::new("catalog"),
            heard: Notify::new(),
            deaf: Outage::new("catalog (notifications)"),
        }))
    }

    /// The catalog followed.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Follows until `shutdown`: hears of what others change, and looks by itself where nobody tells.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::join!(self.follow(&shutdown), self.listen(&shutdown));
    }

    async fn follow(&self, shutdown: &CancellationToken) {
        let mut local = self.catalog.watch();
        loop {
            let looked = Instant::now();
            self.look().await;
            let age = self.clock.now().0 - self.heard_at.load(Ordering::Relaxed);
            #[allow(clippy::cast_precision_loss, reason = "an age in seconds")]
            metrics::gauge!(names::CATALOG_AGE).set(age as f64 / 1000.0);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.made_here(&mut local) => {}
                () = self.heard.notified() => {}
                () = tokio::time::sleep(POLL) => {}
            }
            tokio::time::sleep(BREATH.saturating_sub(looked.elapsed())).await;
        }
    }

    /// Waits for a change that is not applied yet. What a look has read raises the version too, and is
    /// no reason for another look.
    async fn made_here(&self, local: &mut watch::Receiver<i64>) {
        while local.changed().await.is_ok() {
            if *local.borrow() > self.applied.load(Ordering::Acquire) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Applies what is new; answers whether that worked.
    async fn look(&self) -> bool {
        let one_at_a_time = self.applying.lock().await;
        self.applied_or_away(&one_at_a_time).await
    }

    async fn applied_or_away(&self, one_at_a_time: &MutexGuard<'_, ()>) -> bool {
        match self.apply(one_at_a_time).await {
            Ok(()) => {
                self.heard_at.store(self.clock.now().0, Ordering::Relaxed);
                self.outage.works();
                true
            }
            Err(error) => {
                self.outage.failed(&error);
                false
            }
        }
    }

    async fn listen(&self, shutdown: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let error = tokio::select! {
                () = shutdown.cancelled() => return,
                ended = self.listen_once(&mut backoff) => match ended {
                    Ok(()) => return,
                    Err(error) => error,
                },
            };
            // With the database away too, that is the one outage to tell of.
            if self.look().await {
                self.deaf.failed(&error);
            }
            if backoff.wait(shutdown).await {
                return;
            }
        }
    }

    /// Listens until the connection is lost; returns at once where nobody tells.
    async fn listen_once(&self, backoff: &mut Backoff) -> Result<(), CatalogError> {
        let Some(mut listener) = self.catalog.listen().await? else {
            return Ok(());
        };
        self.deaf.works();
        loop {
            // The first time for what was changed while nobody listened.
            self.heard.notify_one();
            listener.heard().await?;
            *backoff = Backoff::default();
        }
    }

    /// Applies what this process has changed itself, before anything remembered is used: who makes
    /// a subscription and then publishes finds it matched.
    pub async fn catch_up(&self) {
        if !self.is_caught_up() {
            let one_at_a_time = self.applying.lock().await;
            if !self.is_caught_up() {
                self.applied_or_away(&one_at_a_time).await;
            }
        }
    }

    /// Whether what is remembered may be used as it is: [`catch_up`](Self::catch_up) has nothing to do.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        // While the catalog is away, what is remembered is used: one who looks tells all.
        self.catalog.version() <= self.applied.load(Ordering::Acquire) || self.outage.is_away()
    }

    async fn apply(&self, _one_at_a_time: &MutexGuard<'_, ()>) -> Result<(), CatalogError> {
        loop {
            let since = self.applied.load(Ordering::Acquire);
            let changes = self.catalog.changes_since(since, BATCH).await?;
            let Some(last) = changes.last().map(|change| change.seq) else {
                return Ok(());
            };
            let more = changes.len() == BATCH as usize;
            // Old changes are removed in the end: whom those between concerned nobody knows any more.
            let missed = changes.first().is_some_and(|first| first.seq != since + 1);
            {
                let mut changed = self.changed.write().unwrap_or_else(PoisonError::into_inner);
                for change in changes {
                    if let Some(target) = change.target {
                        changed.targets.insert(target, change.seq);
                    }
                    changed.tenants.insert(change.tenant, change.seq);
                }
                if missed || changed.targets.len() + changed.tenants.len() > REMEMBERED {
                    *changed = Changed {
                        everything: last,
                        ..Changed::default()
                    };
                }
            }
            self.applied.store(last, Ordering::Release);
            if !more {
                return Ok(());
            }
        }
    }

    /// When anything of this tenant last changed. 0 while the catalog is away: all that is remembered is
    /// good then, however old, and nobody waits to hear that it cannot be asked.
    #[must_use]
    pub fn tenant_changed(&self, tenant: &Tenant) -> i64 {
        if self.outage.is_away() {
            return 0;
        }
        let changed = self.changed.read().unwrap_or_else(PoisonError::into_inner);
        changed
            .tenants
            .get(tenant)
            .copied()
            .unwrap_or(0)
            .max(changed.everything)
    }

    /// When this target last changed; 0 while the catalog is away, as in
    /// [`tenant_changed`](Self::tenant_changed).
    #[must_use]
    pub fn target_changed(&self, target: TargetId) -> i64 {
        if self.outage.is_away() {
            return 0;
        }
        let changed = self.changed.read().unwrap_or_else(PoisonError::into_inner);
        changed
            .targets
            .get(&target)
            .copied()
            .unwrap_or(0)
            .max(changed.everything)
    }
}

/// Remembers answers of the catalog, each with the feed's position it is good for.
pub struct Remembered<K, V> {
    entries: moka::future::Cache<K, (i64, V)>,
}

impl<K, V> Remembered<K, V>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Remembers up to `weight`, where each entry weighs what `weigh` says.
    pub fn new(weight: u64, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        let entries = moka::future::Cache::builder()
            .max_capacity(weight)
            .weigher(move |key, (_, value)| weigh(key, value))
            .build();
        Self { entries }
    }

    /// The answer for `key` if it is known and nothing changed since, without a wait.
    pub fn known(&self, key: &K, changed: impl Fn() -> i64) -> Option<V> {
        let (good_for, value) = at_once(self.entries.get(key))??;
        (good_for >= changed()).then_some(value)
    }

    /// The answer for `key`, loaded if it is not known or something changed since: `changed` says when
    /// something last did, asked again after waiting. One load at a time per key. If loading fails, the
    /// old answer stays in use.
    ///
    /// # Errors
    /// When there is no old answer and loading fails.
    pub async fn get<E: Send + Sync + 'static>(
        &self,
        key: &K,
        changed: impl Fn() -> i64,
        load: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        if let Some((good_for, value)) = self.entries.get(key).await
            && good_for >= changed()
        {
            return Ok(value);
        }
        let computed = self
            .entries
            .entry_by_ref(key)
            .and_try_compute_with(async |known| {
                let changed = changed();
                if known.is_some_and(|entry| entry.value().0 >= changed) {
                    return Ok(moka::ops::compute::Op::Nop);
                }
                load.await
                    .map(|value| moka::ops::compute::Op::Put((changed, value)))
            })
            .await;
        // Who is over the limit goes now: of large answers many would come before the cache looks by itself.
        self.entries.run_pending_tasks().await;
        match computed {
            Ok(entry) => match entry.into_entry() {
                Some(entry) => Ok(entry.into_value().1),
                // Unwrap safety: the closure puts a value or keeps one that is there.
                None => unreachable!("a computed entry is present"),
            },
            Err(error) => match self.entries.get(key).await {
                Some((_, value)) => Ok(value),
                None => Err(error),
            },
        }
    }
}
