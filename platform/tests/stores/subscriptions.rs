//! Subscriptions.

use crate::store::{ALL, Store, over_both, tenant, texts, walk};
use platform::catalog::{Catalog, CatalogError, Change, NewTarget, Subscription};
use schemas::ids::{FilterId, TargetId, Tenant};

over_both!(
    a_subscription_is_made_found_patched_and_deleted,
    a_target_and_a_filter_are_together_once,
    what_a_subscription_refers_to_must_be_the_tenants,
    subscriptions_are_listed_newest_first_without_gaps,
    writers_of_two_processes_wait_for_each_other_and_do_not_fail,
);

async fn pair(catalog: &Catalog, tenant: &Tenant) -> (TargetId, FilterId) {
    let (target, _) = catalog
        .create_target(tenant, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let filter = catalog
        .create_filter(tenant, "all".to_owned(), texts(&["*"]))
        .await
        .unwrap();
    (target.id, filter.id)
}

async fn a_subscription_is_made_found_patched_and_deleted(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, filter) = pair(&catalog, &acme).await;
    let (target2, filter2) = pair(&catalog, &acme).await;
    let made = catalog
        .create_subscription(&acme, target, filter, false)
        .await
        .unwrap();
    assert_eq!((made.target, made.filter, made.active), (target, filter, false));
    assert_eq!(catalog.get_subscription(&acme, made.id).await, Ok(made.clone()));
    store.tick();
    let mut expected = made.clone();
    expected.updated_at = store.clock.now();
    let kept = catalog
        .patch_subscription(&acme, made.id, Change::Keep, Change::Keep, Change::Keep)
        .await;
    assert_eq!(kept, Ok(expected.clone()));
    store.tick();
    expected.updated_at = store.clock.now();
    expected.active = true;
    expected.target = target2;
    expected.filter = filter2;
    let set = catalog
        .patch_subscription(
            &acme,
            made.id,
            Change::Set(true),
            Change::Set(target2),
            Change::Set(filter2),
        )
        .await;
    assert_eq!(set, Ok(expected.clone()));
    assert_eq!(catalog.get_subscription(&acme, made.id).await, Ok(expected));
    catalog.delete_subscription(&acme, made.id).await.unwrap();
    assert_eq!(
        catalog.delete_subscription(&acme, made.id).await,
        Err(CatalogError::NotFound)
    );
}

async fn a_target_and_a_filter_are_together_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, filter) = pair(&catalog, &acme).await;
    let (_, filter2) = pair(&catalog, &acme).await;
    let first = catalog
        .create_subscription(&acme, target, filter, true)
        .await
        .unwrap();
    let error = catalog
        .create_subscription(&acme, target, filter, true)
        .await
        .unwrap_err();
    let names_it = |error: &CatalogError| matches!(error, CatalogError::Conflict(why) if why.contains(&first.id.to_string()));
    assert!(names_it(&error), "{error}");
    let second = catalog
        .create_subscription(&acme, target, filter2, true)
        .await
        .unwrap();
    let error = catalog
        .patch_subscription(&acme, second.id, Change::Keep, Change::Keep, Change::Set(filter))
        .await
        .unwrap_err();
    assert!(names_it(&error), "{error}");
    assert_eq!(catalog.get_subscription(&acme, second.id).await, Ok(second));
}

async fn what_a_subscription_refers_to_must_be_the_tenants(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let (target, filter) = pair(&catalog, &acme).await;
    let (their_target, their_filter) = pair(&catalog, &other).await;
    let no_target = CatalogError::Dangling {
        field: "targetId",
        what: "target",
    };
    let no_filter = CatalogError::Dangling {
        field: "filterId",
        what: "filter",
    };
    let made = catalog
        .create_subscription(&acme, target, filter, true)
        .await
        .unwrap();
    for bad in [their_target, TargetId(1)] {
        let create = catalog.create_subscription(&acme, bad, filter, true).await;
        assert_eq!(create, Err(no_target.clone()));
        let patch = catalog
            .patch_subscription(&acme, made.id, Change::Keep, Change::Set(bad), Change::Keep)
            .await;
        assert_eq!(patch, Err(no_target.clone()));
    }
    for bad in [their_filter, FilterId(1)] {
        let create = catalog.create_subscription(&acme, target, bad, true).await;
        assert_eq!(create, Err(no_filter.clone()));
        let patch = catalog
            .patch_subscription(&acme, made.id, Change::Keep, Change::Keep, Change::Set(bad))
            .await;
        assert_eq!(patch, Err(no_filter.clone()));
    }
    assert_eq!(
        catalog.get_subscription(&acme, made.id).await,
        Ok(made),
        "nothing was changed"
    );
}

async fn subscriptions_are_listed_newest_first_without_gaps(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut expected = Vec::new();
    for _ in 0..5 {
        let (target, filter) = pair(&catalog, &acme).await;
        let made = catalog.create_subscription(&acme, target, filter, true);
        expected.push(made.await.unwrap());
    }
    expected.reverse();
    let listed = walk(
        2,
        |row: &Subscription| row.id.0,
        |page| catalog.list_subscriptions(&acme, page),
    )
    .await;
    assert_eq!(listed, expected);
}

async fn writers_of_two_processes_wait_for_each_other_and_do_not_fail(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (catalog, acme) = (store.open().await, acme.clone());
        let (target, filter) = pair(&catalog, &acme).await;
        writers.spawn(async move {
            // Looks both up before it inserts: a transaction that reads first.
            for _ in 0..20 {
                let made = catalog
                    .create_subscription(&acme, target, filter, true)
                    .await
                    .unwrap();
                catalog.delete_subscription(&acme, made.id).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(catalog.list_subscriptions(&acme, ALL).await, Ok(vec![]));
}
