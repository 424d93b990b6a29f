//! Changes on a condition: no update is lost between those that expect what they have read.

use crate::store::{Store, over_both, texts};
use platform::catalog::{
    Catalog, CatalogError, Change, Endpoint, Filter, Found, NewTarget, Subscription, Target, TargetPatch,
};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use std::sync::Arc;

over_both!(
    of_changes_that_expect_the_same_one_is_made,
    a_filter_changed_meanwhile_is_noticed_by_its_endpoint,
    what_is_not_as_expected_is_neither_changed_nor_deleted,
    no_two_states_of_a_row_have_the_same_time,
);

/// A catalog that changes this target only.
fn if_target(catalog: &Catalog, seen: &Target) -> Catalog {
    let seen = seen.clone();
    catalog.expecting(Some(Arc::new(
        move |found| matches!(found, Found::Target(now) if *now == seen),
    )))
}

fn if_filter(catalog: &Catalog, seen: &Filter) -> Catalog {
    let seen = seen.clone();
    catalog.expecting(Some(Arc::new(
        move |found| matches!(found, Found::Filter(now) if *now == seen),
    )))
}

fn if_subscription(catalog: &Catalog, seen: &Subscription) -> Catalog {
    let seen = seen.clone();
    catalog.expecting(Some(Arc::new(
        move |found| matches!(found, Found::Subscription(now) if *now == seen),
    )))
}

fn if_endpoint(catalog: &Catalog, seen: &Endpoint) -> Catalog {
    let seen = seen.clone();
    catalog.expecting(Some(Arc::new(
        move |found| matches!(found, Found::Endpoint(now) if *now == seen),
    )))
}

/// One of each.
struct Things {
    target: TargetId,
    filter: FilterId,
    subscription: SubscriptionId,
    endpoint: TargetId,
}

async fn things(catalog: &Catalog, acme: &Tenant) -> Things {
    let at = || NewTarget::at("https://a.example/");
    let (target, _) = catalog.create_target(acme, at()).await.unwrap();
    let filter = catalog.create_filter(acme, "0".to_owned(), texts(&["*"]));
    let filter = filter.await.unwrap();
    let subscription = catalog.create_subscription(acme, target.id, filter.id, true);
    let subscription = subscription.await.unwrap();
    let (endpoint, _) = catalog.create_endpoint(acme, at(), texts(&["n0"])).await.unwrap();
    Things {
        target: target.id,
        filter: filter.id,
        subscription: subscription.id,
        endpoint: endpoint.id,
    }
}

/// Reads a number, adds one and writes it, on the condition that nobody did meanwhile, until it is written.
macro_rules! add_one {
    ($read:expr, $number:expr, $write:expr) => {
        loop {
            let seen = $read.await.unwrap();
            let number: u32 = $number(&seen).parse().unwrap();
            match $write(seen, (number + 1).to_string()).await {
                Ok(_) => break,
                Err(CatalogError::Changed) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
}

async fn of_changes_that_expect_the_same_one_is_made(store: Store) {
    const CLIENTS: u32 = 4;
    const EACH: u32 = 5;
    let (catalog, acme) = store.with_tenant().await;
    let ids = things(&catalog, &acme).await;
    let begin = TargetPatch {
        description: Change::Set(Some("0".to_owned())),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, ids.target, begin).await.unwrap();
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        // Each in a process of its own.
        let (catalog, acme) = (store.open().await, acme.clone());
        clients.spawn(async move {
            for _ in 0..EACH {
                add_one!(
                    catalog.get_target(&acme, ids.target),
                    |seen: &Target| seen.description.clone().unwrap(),
                    async |seen, next| {
                        let patch = TargetPatch {
                            description: Change::Set(Some(next)),
                            ..TargetPatch::default()
                        };
                        if_target(&catalog, &seen)
                            .patch_target(&acme, ids.target, patch)
                            .await
                    }
                );
                add_one!(
                    catalog.get_filter(&acme, ids.filter),
                    |seen: &Filter| seen.name.clone(),
                    async |seen, next| {
                        if_filter(&catalog, &seen)
                            .patch_filter(&acme, ids.filter, Change::Set(next), Change::Keep)
                            .await
                    }
                );
                add_one!(
                    catalog.get_endpoint(&acme, ids.endpoint),
                    |seen: &Endpoint| seen.events[0][1..].to_owned(),
                    async |seen, next| {
                        let events = Change::Set(vec![format!("n{next}")]);
                        if_endpoint(&catalog, &seen)
                            .patch_endpoint(&acme, ids.endpoint, Change::Keep, events, Change::Keep)
                            .await
                    }
                );
            }
        });
    }
    clients.join_all().await;
    let all = (CLIENTS * EACH).to_string();
    let target = catalog.get_target(&acme, ids.target).await.unwrap();
    assert_eq!(target.description.as_deref(), Some(all.as_str()));
    assert_eq!(catalog.get_filter(&acme, ids.filter).await.unwrap().name, all);
    let endpoint = catalog.get_endpoint(&acme, ids.endpoint).await.unwrap();
    assert_eq!(endpoint.events, [format!("n{all}")]);
}

async fn a_filter_changed_meanwhile_is_noticed_by_its_endpoint(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let ids = things(&catalog, &acme).await;
    let seen = catalog.get_endpoint(&acme, ids.target).await.unwrap();
    let events = Change::Set(texts(&["new"]));
    catalog
        .patch_filter(&acme, ids.filter, Change::Keep, events.clone())
        .await
        .unwrap();
    let refused = if_endpoint(&catalog, &seen)
        .patch_endpoint(&acme, ids.target, Change::Keep, events.clone(), Change::Keep)
        .await;
    assert_eq!(refused, Err(CatalogError::Changed));
    let seen = catalog.get_endpoint(&acme, ids.target).await.unwrap();
    let changed = if_endpoint(&catalog, &seen)
        .patch_endpoint(&acme, ids.target, Change::Keep, events, Change::Set(true))
        .await;
    assert!(changed.unwrap().disabled);
}

async fn what_is_not_as_expected_is_neither_changed_nor_deleted(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let ids = things(&catalog, &acme).await;
    let never = catalog.expecting(Some(Arc::new(|_| false)));
    let subscription = catalog.get_subscription(&acme, ids.subscription).await.unwrap();
    let changed = Err(CatalogError::Changed);
    let keep = || TargetPatch::default();
    assert_eq!(
        never.patch_target(&acme, ids.target, keep()).await.map(drop),
        changed
    );
    assert_eq!(
        never
            .patch_filter(&acme, ids.filter, Change::Keep, Change::Keep)
            .await
            .map(drop),
        changed
    );
    assert_eq!(
        never
            .patch_subscription(
                &acme,
                ids.subscription,
                Change::Set(false),
                Change::Keep,
                Change::Keep
            )
            .await
            .map(drop),
        changed
    );
    assert_eq!(never.delete_subscription(&acme, ids.subscription).await, changed);
    assert_eq!(never.delete_target(&acme, ids.target, true).await, changed);
    assert_eq!(never.delete_filter(&acme, ids.filter, true).await, changed);
    assert_eq!(never.delete_endpoint(&acme, ids.endpoint).await, changed);
    // What is not there is not there, whatever was expected of it.
    let nothing = never.delete_target(&acme, TargetId(1), false).await;
    assert_eq!(nothing, Err(CatalogError::NotFound));
    assert_eq!(
        catalog.get_subscription(&acme, ids.subscription).await,
        Ok(subscription.clone()),
        "nothing was changed"
    );
    if_subscription(&catalog, &subscription)
        .delete_subscription(&acme, ids.subscription)
        .await
        .unwrap();
    let filter = catalog.get_filter(&acme, ids.filter).await.unwrap();
    if_filter(&catalog, &filter)
        .delete_filter(&acme, ids.filter, false)
        .await
        .unwrap();
}

async fn no_two_states_of_a_row_have_the_same_time(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let ids = things(&catalog, &acme).await;
    let mut last = catalog.get_target(&acme, ids.target).await.unwrap().updated_at;
    // The clock stands.
    for _ in 0..3 {
        let patch = TargetPatch::default();
        let now = catalog
            .patch_target(&acme, ids.target, patch)
            .await
            .unwrap()
            .updated_at;
        assert!(now > last);
        last = now;
    }
    store.tick();
    let overlap = std::time::Duration::ZERO;
    catalog.rotate_secret(&acme, ids.target, overlap).await.unwrap();
    let now = catalog.get_target(&acme, ids.target).await.unwrap().updated_at;
    assert_eq!(now, store.clock.now());
}
