//! Endpoints: the three in one.

use crate::store::{ALL, Store, over_both, tenant, texts, walk};
use platform::catalog::{CatalogError, Change, Endpoint, NewTarget, TargetPatch};
use schemas::signature::parse_secret;
use schemas::target::TargetState;
use schemas::time::Millis;

over_both!(
    an_endpoint_is_made_whole_and_deleted_whole,
    an_endpoint_of_nobody_leaves_nothing_behind,
    new_events_go_to_the_endpoints_own_filter,
    new_events_leave_shared_filters_alone,
    an_endpoint_is_disabled_and_enabled_but_not_verified,
    endpoints_show_every_target_and_what_its_active_subscriptions_want,
);

async fn an_endpoint_is_made_whole_and_deleted_whole(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, secret) = catalog
        .create_endpoint(&acme, NewTarget::at("https://a.example/"), texts(&["b.*", "a.b"]))
        .await
        .unwrap();
    assert_eq!(made.url, "https://a.example/");
    assert_eq!(made.events, ["a.b", "b.*"], "sorted");
    assert!(!made.disabled);
    assert_eq!(catalog.get_endpoint(&acme, made.id).await, Ok(made.clone()));
    assert_eq!(catalog.match_targets(&acme, "b.c").await, Ok(vec![made.id]));
    let details = catalog.target_details(made.id).await.unwrap().unwrap();
    assert!(details.keys_at(Millis(0)).eq([&parse_secret(&secret).unwrap()]));
    catalog.delete_endpoint(&acme, made.id).await.unwrap();
    assert_eq!(
        catalog.delete_endpoint(&acme, made.id).await,
        Err(CatalogError::NotFound)
    );
    assert_eq!(catalog.list_targets(&acme, ALL).await, Ok(vec![]));
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![]));
    assert_eq!(catalog.list_subscriptions(&acme, ALL).await, Ok(vec![]));
}

async fn an_endpoint_of_nobody_leaves_nothing_behind(store: Store) {
    let (catalog, _) = store.with_tenant().await;
    let before = catalog.latest_change().await.unwrap();
    let nobody = tenant("nobody");
    let error = catalog
        .create_endpoint(&nobody, NewTarget::at("https://a.example/"), texts(&["*"]))
        .await;
    assert_eq!(error, Err(CatalogError::NotFound));
    assert_eq!(catalog.latest_change().await, Ok(before));
    assert_eq!(catalog.list_targets(&nobody, ALL).await, Ok(vec![]));
}

async fn new_events_go_to_the_endpoints_own_filter(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog
        .create_endpoint(&acme, NewTarget::at("https://a.example/"), texts(&["a.b"]))
        .await
        .unwrap();
    let filters = catalog.list_filters(&acme, ALL).await.unwrap();
    store.tick();
    let patched = catalog
        .patch_endpoint(
            &acme,
            made.id,
            Change::Set("https://b.example/".to_owned()),
            Change::Set(texts(&["c.d"])),
            Change::Keep,
        )
        .await
        .unwrap();
    assert_eq!(
        (patched.url.as_str(), patched.events.as_slice()),
        ("https://b.example/", &texts(&["c.d"])[..])
    );
    assert_eq!(patched.updated_at, store.clock.now());
    assert_eq!(catalog.get_endpoint(&acme, made.id).await, Ok(patched));
    let after = catalog.list_filters(&acme, ALL).await.unwrap();
    assert_eq!(
        (after.len(), after[0].id),
        (1, filters[0].id),
        "the filter is the same one"
    );
}

async fn new_events_leave_shared_filters_alone(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let shared = catalog
        .create_filter(&acme, "shared".to_owned(), texts(&["s.*"]))
        .await
        .unwrap();
    let mut targets = Vec::new();
    for url in ["https://a.example/", "https://b.example/"] {
        let (target, _) = catalog.create_target(&acme, NewTarget::at(url)).await.unwrap();
        catalog
            .create_subscription(&acme, target.id, shared.id, true)
            .await
            .unwrap();
        targets.push(target.id);
    }
    let patched = catalog
        .patch_endpoint(
            &acme,
            targets[0],
            Change::Keep,
            Change::Set(texts(&["own"])),
            Change::Keep,
        )
        .await
        .unwrap();
    assert_eq!(patched.events, ["own"]);
    assert_eq!(catalog.match_targets(&acme, "s.x").await, Ok(vec![targets[1]]));
    assert_eq!(catalog.get_filter(&acme, shared.id).await, Ok(shared.clone()));
    // Gone with the endpoint: its own filter; not the shared one, while another uses it.
    catalog.delete_endpoint(&acme, targets[0]).await.unwrap();
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![shared]));
    catalog.delete_endpoint(&acme, targets[1]).await.unwrap();
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![]));
}

async fn an_endpoint_is_disabled_and_enabled_but_not_verified(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let unverified = NewTarget {
        state: TargetState::Unverified,
        ..NewTarget::at("https://a.example/")
    };
    let (made, _) = catalog
        .create_endpoint(&acme, unverified, texts(&["*"]))
        .await
        .unwrap();
    let set = async |disabled: bool| {
        let patched = catalog
            .patch_endpoint(&acme, made.id, Change::Keep, Change::Keep, Change::Set(disabled))
            .await
            .unwrap();
        assert_eq!(patched.disabled, disabled);
        catalog.get_target(&acme, made.id).await.unwrap().state
    };
    assert_eq!(set(false).await, TargetState::Unverified);
    let verified = TargetPatch {
        state: Change::Set(TargetState::Active),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, made.id, verified).await.unwrap();
    assert_eq!(set(false).await, TargetState::Active);
    assert_eq!(set(true).await, TargetState::Disabled);
    assert_eq!(set(true).await, TargetState::Disabled);
    assert_eq!(set(false).await, TargetState::Active);
}

async fn endpoints_show_every_target_and_what_its_active_subscriptions_want(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (bare, _) = catalog
        .create_target(&acme, NewTarget::at("https://bare.example/"))
        .await
        .unwrap();
    let (busy, _) = catalog
        .create_target(&acme, NewTarget::at("https://busy.example/"))
        .await
        .unwrap();
    for (name, events, active) in [
        ("one", ["b", "a"], true),
        ("two", ["b", "c"], true),
        ("off", ["d", "e"], false),
    ] {
        let filter = catalog
            .create_filter(&acme, name.to_owned(), texts(&events))
            .await
            .unwrap();
        catalog
            .create_subscription(&acme, busy.id, filter.id, active)
            .await
            .unwrap();
    }
    let (last, _) = catalog
        .create_endpoint(&acme, NewTarget::at("https://last.example/"), texts(&["z"]))
        .await
        .unwrap();
    let listed = walk(
        2,
        |row: &Endpoint| row.id.0,
        |page| catalog.list_endpoints(&acme, page),
    )
    .await;
    let seen: Vec<_> = listed.iter().map(|row| (row.id, row.events.join(","))).collect();
    assert_eq!(
        seen,
        [
            (last.id, "z".to_owned()),
            (busy.id, "a,b,c".to_owned()),
            (bare.id, String::new())
        ]
    );
}
