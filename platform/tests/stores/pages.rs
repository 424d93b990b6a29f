//! Lists that are read page by page while rows come, change and go.

use crate::history::{attempt, event};
use crate::store::{START, Store, here, over_both, tenant, texts};
use platform::catalog::{Catalog, Change, NewTarget, Page, TargetPatch};
use platform::history::{DeliveryQuery, EventQuery, History};
use platform::replays::{NewReplay, Replays, Which};
use schemas::delivery::DeliveryStatus::{Delivered, Exhausted, Retrying};
use schemas::history::HistoryRecord;
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use schemas::time::Millis;
use std::collections::BTreeSet;
use std::fmt::Debug;

over_both!(
    targets_and_endpoints_are_paged_while_they_change,
    filters_and_subscriptions_are_paged_while_they_change,
    keys_and_tenants_are_paged_while_they_change,
    replays_are_paged_while_they_change,
    history_is_paged_while_it_is_written,
);

/// Rows there are before the first page, and how many a page has.
const OLD: usize = 24;
const LIMIT: u32 = 5;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    /// One of these, taken out.
    fn take<T>(&mut self, of: &mut Vec<T>) -> T {
        let at = self.below(of.len());
        of.swap_remove(at)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(self.0 >> 33).unwrap() % end
    }
}

/// Reads a list whole, and meddles with it after each page: that gives the rows it deletes. Of the old rows that
/// stay, none may be missing; none may come twice.
async fn walk<K: Ord + Clone + Debug>(
    old: &[K],
    page: impl AsyncFn(Option<K>) -> Vec<K>,
    mut meddle: impl AsyncFnMut() -> Vec<K>,
) {
    let mut seen: Vec<K> = Vec::new();
    let mut deleted: BTreeSet<K> = BTreeSet::new();
    for pages in 0.. {
        let rows = page(seen.last().cloned()).await;
        if rows.is_empty() {
            assert!(pages > OLD / LIMIT as usize / 2, "{pages} pages");
            break;
        }
        seen.extend(rows);
        deleted.extend(meddle().await);
    }
    assert!(
        seen.is_sorted_by(|a, b| a > b),
        "newest first, each once: {seen:?}"
    );
    let seen: BTreeSet<K> = seen.into_iter().collect();
    let missing: Vec<&K> = old
        .iter()
        .filter(|row| !seen.contains(row) && !deleted.contains(row))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

fn from(before: Option<i64>) -> Page {
    Page { limit: LIMIT, before }
}

async fn target(catalog: &Catalog, acme: &Tenant) -> i64 {
    let new = NewTarget::at("https://a.example/");
    catalog.create_target(acme, new).await.unwrap().0.id.0
}

async fn targets_and_endpoints_are_paged_while_they_change(store: Store) {
    here(targets_and_endpoints(&store));
}

async fn targets_and_endpoints(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    for as_endpoints in [false, true] {
        let mut dice = Dice(1);
        let mut old = Vec::new();
        for _ in 0..OLD {
            old.push(target(&catalog, &acme).await);
        }
        let mut left = old.clone();
        let page = async |before| -> Vec<i64> {
            if as_endpoints {
                let rows = catalog.list_endpoints(&acme, from(before)).await.unwrap();
                return rows.iter().map(|row| row.id.0).collect();
            }
            let rows = catalog.list_targets(&acme, from(before)).await.unwrap();
            rows.iter().map(|row| row.id.0).collect()
        };
        walk(&old, page, async || {
            store.tick();
            target(&catalog, &acme).await;
            let patch = TargetPatch {
                description: Change::Set(Some("changed".to_owned())),
                ..TargetPatch::default()
            };
            let changed = TargetId(left[dice.below(left.len())]);
            catalog.patch_target(&acme, changed, patch).await.unwrap();
            let gone = dice.take(&mut left);
            catalog.delete_target(&acme, TargetId(gone), false).await.unwrap();
            vec![gone]
        })
        .await;
    }
}

async fn filters_and_subscriptions_are_paged_while_they_change(store: Store) {
    here(filters_and_subscriptions(&store));
}

async fn filters_and_subscriptions(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    let target = TargetId(target(&catalog, &acme).await);
    let make = async || {
        let filter = catalog.create_filter(&acme, "f".to_owned(), texts(&["*"]));
        let filter = filter.await.unwrap().id;
        let made = catalog.create_subscription(&acme, target, filter, true).await;
        (made.unwrap().id.0, filter.0)
    };
    let mut dice = Dice(2);
    let (mut old, mut filters) = (Vec::new(), Vec::new());
    for _ in 0..OLD {
        let (subscription, filter) = make().await;
        old.push(subscription);
        filters.push(filter);
    }
    let mut left = old.clone();
    let page = async |before| -> Vec<i64> {
        let rows = catalog.list_subscriptions(&acme, from(before)).await.unwrap();
        rows.iter().map(|row| row.id.0).collect()
    };
    walk(&old, page, async || {
        store.tick();
        make().await;
        let changed = SubscriptionId(left[dice.below(left.len())]);
        catalog
            .patch_subscription(&acme, changed, Change::Set(false), Change::Keep, Change::Keep)
            .await
            .unwrap();
        let gone = dice.take(&mut left);
        catalog
            .delete_subscription(&acme, SubscriptionId(gone))
            .await
            .unwrap();
        vec![gone]
    })
    .await;
    let mut left = filters.clone();
    let page = async |before| -> Vec<i64> {
        let rows = catalog.list_filters(&acme, from(before)).await.unwrap();
        rows.iter().map(|row| row.id.0).collect()
    };
    walk(&filters, page, async || {
        store.tick();
        make().await;
        let changed = FilterId(left[dice.below(left.len())]);
        let name = Change::Set("changed".to_owned());
        catalog
            .patch_filter(&acme, changed, name, Change::Keep)
            .await
            .unwrap();
        let gone = dice.take(&mut left);
        catalog.delete_filter(&acme, FilterId(gone), true).await.unwrap();
        vec![gone]
    })
    .await;
}

async fn keys_and_tenants_are_paged_while_they_change(store: Store) {
    here(keys_and_tenants(&store));
}

async fn keys_and_tenants(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    let key = async || catalog.create_key(&acme, "key").await.unwrap().0.id;
    let mut dice = Dice(3);
    let mut old = Vec::new();
    for _ in 0..OLD {
        old.push(key().await);
    }
    let mut left = old.clone();
    let page = async |before| -> Vec<i64> {
        let rows = catalog.list_keys(&acme, from(before)).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    walk(&old, page, async || {
        store.tick();
        key().await;
        let gone = dice.take(&mut left);
        catalog.revoke_key(&acme, gone).await.unwrap();
        vec![gone]
    })
    .await;

    let mut number = 0;
    let mut make = async || {
        // Several in one moment, in an order that is not that of their names.
        number += 1;
        if number % 4 == 0 {
            store.tick();
        }
        let made = tenant(&format!("t{}", (number * 37) % 101));
        let made = catalog.create_tenant(&made).await.unwrap();
        (made.created_at, made.name.as_str().to_owned())
    };
    let mut old: Vec<(Millis, String)> = Vec::new();
    for _ in 0..OLD {
        old.push(make().await);
    }
    let mut left = old.clone();
    let page = async |before| -> Vec<(Millis, String)> {
        let rows = catalog.list_tenants(LIMIT, before).await.unwrap();
        rows.into_iter()
            .map(|row| (row.created_at, row.name.as_str().to_owned()))
            .collect()
    };
    walk(&old, page, async || {
        make().await;
        let gone = dice.take(&mut left);
        catalog.delete_tenant(&tenant(&gone.1)).await.unwrap();
        vec![gone]
    })
    .await;
}

async fn replays_are_paged_while_they_change(store: Store) {
    here(replays(&store));
}

async fn replays(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    let replays = Replays::new(&catalog);
    let make = async || {
        let new = NewReplay {
            target: TargetId(1),
            which: Which::All,
            delivery: None,
            from: Millis(0),
            to: Millis(1),
        };
        replays.create(&acme, vec![new]).await.unwrap()[0].id
    };
    let mut dice = Dice(4);
    let mut old = Vec::new();
    for _ in 0..OLD {
        old.push(make().await);
    }
    let page = async |before| -> Vec<i64> {
        let rows = replays.list(&acme, from(before)).await.unwrap();
        rows.iter().map(|row| row.id).collect()
    };
    walk(&old, page, async || {
        store.tick();
        make().await;
        replays.cancel(&acme, old[dice.below(OLD)]).await.unwrap();
        vec![]
    })
    .await;
}

async fn history_is_paged_while_it_is_written(store: Store) {
    here(history(&store));
}

async fn history(store: &Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    // Events of few moments, many in each: ids decide the order within one.
    let write = async |number: i64| {
        let mut record = event(&acme, &format!("evt-{}", (number * 37) % 101), &[1, 2]);
        record.accepted_at = Millis(START.0 + number / 8);
        let records = [HistoryRecord::Event(record)];
        history.write(&records).await.unwrap();
    };
    let try_again = async |number: i64, status| {
        let mut record = attempt(&acme, &format!("evt-{}", (number * 37) % 101), 1, 1, status);
        record.accepted_at = Millis(START.0 + number / 8);
        history.write(&[HistoryRecord::Attempt(record)]).await.unwrap();
    };
    let old_numbers = i64::try_from(OLD).unwrap();
    let mut next = 0;
    for _ in 0..OLD {
        write(next).await;
        next += 1;
    }
    let events = async |after, limit| -> Vec<(Millis, String)> {
        let query = EventQuery {
            limit,
            after,
            ..EventQuery::default()
        };
        let rows = history.events(&acme, &query).await.unwrap();
        rows.into_iter()
            .map(|row| (row.accepted_at, row.id.as_str().to_owned()))
            .collect()
    };
    let deliveries = async |after, limit| -> Vec<(Millis, String)> {
        let query = DeliveryQuery {
            limit,
            after,
            ..DeliveryQuery::default()
        };
        let rows = history.deliveries(&acme, &query).await.unwrap();
        rows.into_iter()
            .map(|row| (row.accepted_at, row.id.as_str().to_owned()))
            .collect()
    };
    let mut meddle = async || {
        // A new one, and one that is written in among the old.
        write(next).await;
        next += 1;
        let mut late = event(&acme, &format!("late-{next}"), &[1]);
        late.accepted_at = Millis(START.0 + next % 3);
        history.write(&[HistoryRecord::Event(late)]).await.unwrap();
        for status in [Retrying, Delivered, Exhausted] {
            try_again(next * 7 % old_numbers, status).await;
        }
        vec![]
    };
    let old = events(None, 1000).await;
    assert_eq!(old.len(), OLD);
    walk(&old, async |after| events(after, LIMIT).await, &mut meddle).await;
    let old = deliveries(None, 1000).await;
    walk(&old, async |after| deliveries(after, LIMIT).await, &mut meddle).await;
}
