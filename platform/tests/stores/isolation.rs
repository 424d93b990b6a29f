//! Another tenant's things are answered as if they did not exist, by every call that takes an id.

use crate::store::{ALL, Store, over_both, tenant, texts};
use platform::catalog::{AuditQuery, CatalogError, Change, NewTarget, TargetPatch};
use platform::history::{DeliveryQuery, EventQuery, History};
use schemas::delivery::DeliveryStatus;
use schemas::history::HistoryRecord;
use schemas::ids::{DeliveryId, EventId};
use std::time::Duration;

over_both!(another_tenants_ids_are_not_found_by_any_call);

async fn another_tenants_ids_are_not_found_by_any_call(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let spy = tenant("spy");
    catalog.create_tenant(&spy).await.unwrap();
    let (key, _) = catalog.create_key(&acme, "ci").await.unwrap();
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let filter = catalog
        .create_filter(&acme, "f".to_owned(), texts(&["*"]))
        .await
        .unwrap();
    let subscription = catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
    let history = History::new(&catalog);
    let event = crate::history::event(&acme, "evt-1", &[target.id.0]);
    let attempt = crate::history::attempt(&acme, "evt-1", target.id.0, 1, DeliveryStatus::Delivered);
    history
        .write(&[HistoryRecord::Event(event), HistoryRecord::Attempt(attempt)])
        .await
        .unwrap();
    let event = EventId::new("evt-1").unwrap();
    let delivery = DeliveryId::derive(&event, target.id);

    let before = catalog.latest_change().await.unwrap();
    let day = Duration::from_secs(86_400);
    let patch = TargetPatch {
        url: Change::Set("https://spy.example/".to_owned()),
        ..TargetPatch::default()
    };
    let url = Change::Set("https://spy.example/".to_owned());
    let (c, h) = (&catalog, &history);
    let calls: [(&str, Result<(), CatalogError>); 19] = [
        ("revoke_key", c.revoke_key(&spy, key.id).await),
        ("get_target", c.get_target(&spy, target.id).await.map(drop)),
        (
            "patch_target",
            c.patch_target(&spy, target.id, patch).await.map(drop),
        ),
        ("delete_target", c.delete_target(&spy, target.id, false).await),
        (
            "delete_target, cascade",
            c.delete_target(&spy, target.id, true).await,
        ),
        (
            "rotate_secret",
            c.rotate_secret(&spy, target.id, day).await.map(drop),
        ),
        ("get_filter", c.get_filter(&spy, filter.id).await.map(drop)),
        (
            "patch_filter",
            c.patch_filter(&spy, filter.id, Change::Keep, Change::Set(texts(&["x"])))
                .await
                .map(drop),
        ),
        ("delete_filter", c.delete_filter(&spy, filter.id, false).await),
        (
            "delete_filter, cascade",
            c.delete_filter(&spy, filter.id, true).await,
        ),
        (
            "get_subscription",
            c.get_subscription(&spy, subscription.id).await.map(drop),
        ),
        (
            "patch_subscription",
            c.patch_subscription(
                &spy,
                subscription.id,
                Change::Set(false),
                Change::Keep,
                Change::Keep,
            )
            .await
            .map(drop),
        ),
        (
            "delete_subscription",
            c.delete_subscription(&spy, subscription.id).await,
        ),
        ("get_endpoint", c.get_endpoint(&spy, target.id).await.map(drop)),
        (
            "patch_endpoint",
            c.patch_endpoint(
                &spy,
                target.id,
                url,
                Change::Set(texts(&["x"])),
                Change::Set(true),
            )
            .await
            .map(drop),
        ),
        ("delete_endpoint", c.delete_endpoint(&spy, target.id).await),
        ("event", h.event(&spy, &event).await.map(drop)),
        ("delivery", h.delivery(&spy, &delivery).await.map(drop)),
        (
            "get_tenant of nobody",
            c.get_tenant(&tenant("nobody")).await.map(drop),
        ),
    ];
    for (call, result) in calls {
        assert_eq!(result, Err(CatalogError::NotFound), "{call}");
    }
    let create = c.create_subscription(&spy, target.id, filter.id, true).await;
    assert!(matches!(create, Err(CatalogError::Dangling { .. })), "{create:?}");

    let all_events = EventQuery {
        limit: 10,
        ..EventQuery::default()
    };
    let all_deliveries = DeliveryQuery {
        limit: 10,
        ..DeliveryQuery::default()
    };
    let of_event = DeliveryQuery {
        event: Some(event.clone()),
        target: Some(target.id),
        ..all_deliveries.clone()
    };
    let of_target = AuditQuery {
        kind: None,
        thing: Some(target.id.to_string()),
        from: None,
        to: None,
        page: ALL,
    };
    let lists: [(&str, usize); 10] = [
        ("keys", c.list_keys(&spy, ALL).await.unwrap().len()),
        ("targets", c.list_targets(&spy, ALL).await.unwrap().len()),
        ("filters", c.list_filters(&spy, ALL).await.unwrap().len()),
        (
            "subscriptions",
            c.list_subscriptions(&spy, ALL).await.unwrap().len(),
        ),
        ("endpoints", c.list_endpoints(&spy, ALL).await.unwrap().len()),
        ("events", h.events(&spy, &all_events).await.unwrap().len()),
        (
            "deliveries",
            h.deliveries(&spy, &all_deliveries).await.unwrap().len(),
        ),
        (
            "deliveries of an event",
            h.deliveries(&spy, &of_event).await.unwrap().len(),
        ),
        ("attempts", h.attempts(&spy, &delivery).await.unwrap().len()),
        ("audit", c.audit(&spy, &of_target).await.unwrap().len()),
    ];
    for (list, length) in lists {
        assert_eq!(length, 0, "{list}");
    }

    // And nothing of it left a trace.
    assert_eq!(catalog.latest_change().await, Ok(before));
    assert_eq!(catalog.get_target(&acme, target.id).await, Ok(target.clone()));
    assert_eq!(catalog.get_filter(&acme, filter.id).await, Ok(filter));
    assert_eq!(
        catalog.get_subscription(&acme, subscription.id).await,
        Ok(subscription)
    );
    assert_eq!(catalog.list_keys(&acme, ALL).await, Ok(vec![key]));
    assert_eq!(history.attempts(&acme, &delivery).await.unwrap().len(), 1);
}
