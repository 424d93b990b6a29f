//! The change feed.

use crate::store::{Store, over_both, tenant, texts};
use platform::catalog::{Catalog, Change, ChangeRow, NewTarget, TargetPatch};
use platform::follow::Follower;
use schemas::ids::TargetId;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::task::JoinSet;

over_both!(
    every_write_that_could_matter_shows_in_the_feed,
    a_failed_write_shows_nothing,
    the_version_rises_before_a_write_returns_and_when_others_writes_are_read,
    a_follower_sees_every_change_of_many_writers_in_order,
    old_changes_are_removed_and_young_ones_stay,
    a_follower_that_missed_removed_changes_forgets_everything,
);

async fn every_write_that_could_matter_shows_in_the_feed(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    assert_eq!(catalog.latest_change().await, Ok(0));
    let seen = std::sync::atomic::AtomicI64::new(0);
    let next = async |expected: Option<TargetId>| {
        let last = seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let rows = catalog.changes_since(last, 10).await.unwrap();
        let row = ChangeRow {
            seq: last + 1,
            tenant: acme.clone(),
            target: expected,
        };
        assert_eq!(rows, [row]);
        assert_eq!(catalog.latest_change().await, Ok(last + 1));
    };
    let new = || NewTarget::at("https://a.example/");
    let (target, _) = catalog.create_target(&acme, new()).await.unwrap();
    let id = Some(target.id);
    next(id).await;
    catalog
        .patch_target(&acme, target.id, TargetPatch::default())
        .await
        .unwrap();
    next(id).await;
    catalog
        .rotate_secret(&acme, target.id, Duration::ZERO)
        .await
        .unwrap();
    next(id).await;
    catalog.disable_target(target.id, "410 Gone").await.unwrap();
    next(id).await;
    let filter = catalog
        .create_filter(&acme, "f".to_owned(), texts(&["*"]))
        .await
        .unwrap();
    next(None).await;
    catalog
        .patch_filter(&acme, filter.id, Change::Keep, Change::Set(texts(&["a"])))
        .await
        .unwrap();
    next(None).await;
    let subscription = catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
    next(None).await;
    catalog
        .patch_subscription(
            &acme,
            subscription.id,
            Change::Set(false),
            Change::Keep,
            Change::Keep,
        )
        .await
        .unwrap();
    next(None).await;
    catalog.delete_subscription(&acme, subscription.id).await.unwrap();
    next(None).await;
    catalog.delete_filter(&acme, filter.id, false).await.unwrap();
    next(None).await;
    catalog.delete_target(&acme, target.id, false).await.unwrap();
    next(id).await;
    let (endpoint, _) = catalog
        .create_endpoint(&acme, new(), texts(&["*"]))
        .await
        .unwrap();
    next(Some(endpoint.id)).await;
    catalog
        .patch_endpoint(&acme, endpoint.id, Change::Keep, Change::Keep, Change::Set(true))
        .await
        .unwrap();
    next(Some(endpoint.id)).await;
    catalog.delete_endpoint(&acme, endpoint.id).await.unwrap();
    next(Some(endpoint.id)).await;
    let (key, _) = catalog.create_key(&acme, "k").await.unwrap();
    catalog.revoke_key(&acme, key.id).await.unwrap();
    next(None).await;
    catalog.delete_tenant(&acme).await.unwrap();
    next(None).await;
}

async fn a_failed_write_shows_nothing(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (endpoint, _) = catalog
        .create_endpoint(&acme, NewTarget::at("https://a.example/"), texts(&["*"]))
        .await
        .unwrap();
    let before = catalog.latest_change().await.unwrap();
    assert!(catalog.delete_target(&acme, endpoint.id, false).await.is_err());
    assert!(catalog.delete_tenant(&acme).await.is_err());
    assert!(catalog.create_tenant(&acme).await.is_err());
    assert_eq!(catalog.latest_change().await, Ok(before));
}

async fn the_version_rises_before_a_write_returns_and_when_others_writes_are_read(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = store.open().await;
    let mut watch = catalog.watch();
    assert_eq!((catalog.version(), other.version()), (0, 0));
    catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    assert_eq!(catalog.version(), 1);
    assert!(watch.has_changed().unwrap());
    assert_eq!(*watch.borrow_and_update(), 1);
    assert_eq!(other.version(), 0, "another process has not heard of it");
    assert_eq!(other.changes_since(0, 10).await.unwrap().len(), 1);
    assert_eq!(other.version(), 1);
    other
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    assert_eq!(catalog.latest_change().await, Ok(2));
    assert_eq!(catalog.version(), 2);
    assert!(catalog.clone().changes_since(2, 10).await.unwrap().is_empty());
    assert_eq!(catalog.clone().version(), 2, "clones share it");
}

const WRITERS: usize = 8;
const WRITES: usize = 50;

async fn a_follower_sees_every_change_of_many_writers_in_order(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let follower = tokio::spawn(follow(store.open().await));
    // Half the writers are another process.
    let other = store.open().await;
    let mut writers = JoinSet::new();
    for n in 0..WRITERS {
        let (catalog, acme) = (if n % 2 == 0 { &catalog } else { &other }.clone(), acme.clone());
        writers.spawn(async move {
            let mut made = Vec::new();
            for _ in 0..WRITES {
                let new = NewTarget::at("https://a.example/");
                made.push(catalog.create_target(&acme, new).await.unwrap().0.id);
            }
            made
        });
    }
    let made: BTreeSet<TargetId> = writers.join_all().await.into_iter().flatten().collect();
    assert_eq!(made.len(), WRITERS * WRITES, "no id twice");
    let seen = follower.await.unwrap();
    let seqs: Vec<i64> = seen.iter().map(|row| row.seq).collect();
    assert_eq!(
        seqs,
        (1..=(WRITERS * WRITES) as i64).collect::<Vec<_>>(),
        "in order, none missed"
    );
    let targets: BTreeSet<TargetId> = seen.iter().filter_map(|row| row.target).collect();
    assert_eq!(targets, made);
}

/// Reads the feed as fast as it can, from its own cursor on, until it has seen enough.
async fn follow(catalog: Catalog) -> Vec<ChangeRow> {
    let mut seen: Vec<ChangeRow> = Vec::new();
    let reading = async {
        while seen.len() < WRITERS * WRITES {
            let last = seen.last().map_or(0, |row| row.seq);
            seen.extend(catalog.changes_since(last, 7).await.unwrap());
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(60), reading).await;
    assert!(
        in_time.is_ok(),
        "changes were missed: saw {} of {}",
        seen.len(),
        WRITERS * WRITES
    );
    seen
}

const DAYS: Duration = Duration::from_secs(3 * 24 * 3600);

async fn old_changes_are_removed_and_young_ones_stay(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let change = || catalog.create_target(&acme, NewTarget::at("https://a.example/"));
    for _ in 0..3 {
        change().await.unwrap();
    }
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(0), "none is old");
    store.clock.advance(DAYS / 2);
    change().await.unwrap();
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(0), "none is old");
    store.clock.advance(DAYS / 2);
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(3));
    let left = catalog.changes_since(0, 10).await.unwrap();
    assert_eq!(left.iter().map(|row| row.seq).collect::<Vec<_>>(), [4]);
    // The newest stays, however old: without it nobody would know what was missed.
    store.clock.advance(DAYS);
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(0));
    assert_eq!(catalog.changes_since(3, 10).await.unwrap().len(), 1);
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(0));
    change().await.unwrap();
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(1));
    assert_eq!(catalog.latest_change().await, Ok(5));
}

async fn a_follower_that_missed_removed_changes_forgets_everything(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    // Another process, whose follower reads only when it is told to.
    let other = store.open().await;
    let follower = Follower::start(other.clone(), store.clock.clone()).await.unwrap();
    let quiet = tenant("quiet");
    let start = other.latest_change().await.unwrap();
    assert!(follower.target_changed(target.id) <= start);

    catalog
        .patch_target(&acme, target.id, TargetPatch::default())
        .await
        .unwrap();
    catalog.prune_changes(DAYS).await.unwrap();
    store.clock.advance(DAYS);
    let filter = catalog.create_filter(&acme, "f".to_owned(), texts(&["*"])).await;
    filter.unwrap();
    assert_eq!(catalog.prune_changes(DAYS).await, Ok(2));

    let last = other.latest_change().await.unwrap();
    follower.catch_up().await;
    assert_eq!(follower.target_changed(target.id), last, "its own change is gone");
    assert_eq!(follower.tenant_changed(&quiet), last);

    // What follows without a gap concerns only whom it names.
    catalog
        .patch_target(&acme, target.id, TargetPatch::default())
        .await
        .unwrap();
    other.latest_change().await.unwrap();
    follower.catch_up().await;
    assert_eq!(follower.target_changed(target.id), last + 1);
    assert_eq!(follower.tenant_changed(&quiet), last);
}
