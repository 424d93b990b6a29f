//! Which targets an event matches.

use crate::store::{Store, over_both, tenant, texts};
use platform::catalog::{Catalog, Change, NewTarget, TargetPatch};
use schemas::ids::{SubscriptionId, TargetId, Tenant};
use schemas::target::TargetState;

over_both!(
    exact_types_prefixes_and_the_star_match_as_patterns_do,
    only_active_subscriptions_to_active_targets_match,
    a_target_reached_in_several_ways_is_matched_once,
    a_change_of_a_filter_changes_what_matches,
    another_tenants_filters_never_match,
);

async fn subscribed(
    catalog: &Catalog,
    tenant: &Tenant,
    events: &[&str],
    active: bool,
) -> (TargetId, SubscriptionId) {
    let (target, _) = catalog
        .create_target(tenant, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let filter = catalog
        .create_filter(tenant, "f".to_owned(), texts(events))
        .await
        .unwrap();
    let subscription = catalog
        .create_subscription(tenant, target.id, filter.id, active)
        .await
        .unwrap();
    (target.id, subscription.id)
}

async fn exact_types_prefixes_and_the_star_match_as_patterns_do(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let lists: [&[&str]; 6] = [
        &["orders.created"],
        &["orders.*"],
        &["orders.items.*", "users"],
        &["*"],
        &["order.*"],
        &["users.*"],
    ];
    let mut made = Vec::new();
    for list in lists {
        made.push((subscribed(&catalog, &acme, list, true).await.0, list));
    }
    for event_type in [
        "orders.created",
        "orders.items.added",
        "orders.items",
        "orders",
        "users",
        "users.a.b.c.d",
        "Orders.created",
        "x",
    ] {
        let expected: Vec<TargetId> = made
            .iter()
            .filter(|(_, list)| {
                list.iter()
                    .any(|pattern| schemas::pattern::matches(pattern, event_type))
            })
            .map(|(id, _)| *id)
            .collect();
        let matched = catalog.match_targets(&acme, event_type).await.unwrap();
        assert_eq!(matched, expected, "{event_type}");
        assert!(matched.contains(&made[3].0), "the star takes {event_type}");
    }
}

async fn only_active_subscriptions_to_active_targets_match(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, subscription) = subscribed(&catalog, &acme, &["a.b"], false).await;
    let matched = async || catalog.match_targets(&acme, "a.b").await.unwrap();
    let set = async |state: TargetState| {
        let patch = TargetPatch {
            state: Change::Set(state),
            ..TargetPatch::default()
        };
        catalog.patch_target(&acme, target, patch).await.unwrap();
    };
    assert_eq!(matched().await, [], "inactive subscription");
    catalog
        .patch_subscription(&acme, subscription, Change::Set(true), Change::Keep, Change::Keep)
        .await
        .unwrap();
    assert_eq!(matched().await, [target]);
    for (state, expected) in [
        (TargetState::Disabled, vec![]),
        (TargetState::Active, vec![target]),
        (TargetState::Unverified, vec![]),
        (TargetState::Active, vec![target]),
    ] {
        set(state).await;
        assert_eq!(matched().await, expected, "{state:?}");
    }
    catalog.disable_target(target, "410 Gone").await.unwrap();
    assert_eq!(matched().await, []);
}

async fn a_target_reached_in_several_ways_is_matched_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (first, _) = subscribed(&catalog, &acme, &["a.b", "a.*", "*"], true).await;
    let (second, _) = subscribed(&catalog, &acme, &["a.b"], true).await;
    let more = catalog
        .create_filter(&acme, "more".to_owned(), texts(&["a.*"]))
        .await
        .unwrap();
    for target in [second, first] {
        catalog
            .create_subscription(&acme, target, more.id, true)
            .await
            .unwrap();
    }
    assert_eq!(
        catalog.match_targets(&acme, "a.b").await,
        Ok(vec![first, second]),
        "in order"
    );
}

async fn a_change_of_a_filter_changes_what_matches(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, subscription) = subscribed(&catalog, &acme, &["a.b"], true).await;
    let filter = catalog
        .get_subscription(&acme, subscription)
        .await
        .unwrap()
        .filter;
    catalog
        .patch_filter(&acme, filter, Change::Keep, Change::Set(texts(&["c.d"])))
        .await
        .unwrap();
    assert_eq!(catalog.match_targets(&acme, "a.b").await, Ok(vec![]));
    assert_eq!(catalog.match_targets(&acme, "c.d").await, Ok(vec![target]));
    catalog.delete_subscription(&acme, subscription).await.unwrap();
    assert_eq!(catalog.match_targets(&acme, "c.d").await, Ok(vec![]));
}

async fn another_tenants_filters_never_match(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let (theirs, _) = subscribed(&catalog, &other, &["*", "a.b"], true).await;
    assert_eq!(catalog.match_targets(&acme, "a.b").await, Ok(vec![]));
    assert_eq!(catalog.match_targets(&other, "a.b").await, Ok(vec![theirs]));
}
