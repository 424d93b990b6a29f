//! Filters.

use crate::store::{ALL, Store, over_both, tenant, texts, walk};
use platform::catalog::{CatalogError, Change, Filter, NewTarget};

over_both!(
    a_filter_keeps_its_patterns_in_their_order_and_each_once,
    a_patch_of_a_filter_keeps_or_sets_name_and_events,
    filters_are_listed_newest_first_without_gaps,
    a_filter_in_use_names_its_subscriptions_unless_they_go_too,
);

async fn a_filter_keeps_its_patterns_in_their_order_and_each_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let made = catalog
        .create_filter(&acme, "orders".to_owned(), texts(&["z.*", "a.b", "z.*"]))
        .await
        .unwrap();
    assert_eq!(made.events, ["z.*", "a.b"]);
    assert_eq!(made.name, "orders");
    assert_eq!(catalog.get_filter(&acme, made.id).await, Ok(made.clone()));
    catalog.delete_filter(&acme, made.id, false).await.unwrap();
    assert_eq!(
        catalog.get_filter(&acme, made.id).await,
        Err(CatalogError::NotFound)
    );
    let nobody = catalog
        .create_filter(&tenant("nobody"), "x".to_owned(), texts(&["*"]))
        .await;
    assert_eq!(nobody, Err(CatalogError::NotFound));
}

async fn a_patch_of_a_filter_keeps_or_sets_name_and_events(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let made = catalog
        .create_filter(&acme, "orders".to_owned(), texts(&["a.b"]))
        .await
        .unwrap();
    store.tick();
    let renamed = catalog
        .patch_filter(&acme, made.id, Change::Set("Orders".to_owned()), Change::Keep)
        .await
        .unwrap();
    assert_eq!((renamed.name.as_str(), &renamed.events), ("Orders", &made.events));
    assert_eq!(
        (renamed.created_at, renamed.updated_at),
        (made.created_at, store.clock.now())
    );
    let moved = catalog
        .patch_filter(&acme, made.id, Change::Keep, Change::Set(texts(&["c.*", "*"])))
        .await
        .unwrap();
    assert_eq!(
        (moved.name.as_str(), moved.events.as_slice()),
        ("Orders", &texts(&["c.*", "*"])[..])
    );
    assert_eq!(catalog.get_filter(&acme, made.id).await, Ok(moved));
}

async fn filters_are_listed_newest_first_without_gaps(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        let made = catalog.create_filter(&acme, format!("filter {n}"), texts(&["*"]));
        expected.push(made.await.unwrap());
    }
    expected.reverse();
    assert_eq!(
        walk(
            2,
            |row: &Filter| row.id.0,
            |page| catalog.list_filters(&acme, page)
        )
        .await,
        expected
    );
}

async fn a_filter_in_use_names_its_subscriptions_unless_they_go_too(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let filter = catalog
        .create_filter(&acme, "all".to_owned(), texts(&["*"]))
        .await
        .unwrap();
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let used = catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
    let error = catalog.delete_filter(&acme, filter.id, false).await;
    assert_eq!(error, Err(CatalogError::InUse(vec![used.id])));
    catalog.delete_filter(&acme, filter.id, true).await.unwrap();
    assert_eq!(catalog.list_subscriptions(&acme, ALL).await, Ok(vec![]));
    assert!(
        catalog.get_target(&acme, target.id).await.is_ok(),
        "the target stays"
    );
    assert_eq!(catalog.match_targets(&acme, "a.b").await, Ok(vec![]));
}
