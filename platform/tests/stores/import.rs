//! What a tenant has, brought in: once, twice, for another tenant, and not at all when something is wrong.

use crate::store::{Store, over_both, tenant, texts};
use platform::catalog::{
    Catalog, CatalogError, Change, Import, ImportError, ImportFilter, ImportSubscription, ImportTarget,
    Imported, NewTarget, Settled, TargetPatch, Whole,
};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use schemas::target::{RequestOptions, Scheme, TargetState, TlsOptions};
use schemas::time::Millis;

over_both!(
    brought_in_elsewhere_it_is_the_same_by_the_same_ids,
    the_same_again_changes_nothing_and_something_else_changes_that_alone,
    ids_of_another_tenant_are_not_touched_and_replaced_once,
    whatever_is_wrong_nothing_is_brought_in,
    a_dry_run_says_all_and_does_nothing,
    two_at_once_make_everything_once,
    a_certificate_without_its_key_is_taken_only_where_it_is,
);

fn target(id: i64, url: &str) -> ImportTarget {
    ImportTarget {
        id: TargetId(id),
        target: NewTarget::at(url),
        lacks_key: false,
    }
}

fn filter(id: i64, name: &str, events: &[&str]) -> ImportFilter {
    ImportFilter {
        id: FilterId(id),
        name: name.to_owned(),
        events: texts(events),
    }
}

fn subscription(id: i64, target: i64, filter: i64) -> ImportSubscription {
    ImportSubscription {
        id: SubscriptionId(id),
        target: TargetId(target),
        filter: FilterId(filter),
        active: true,
    }
}

/// Two targets, one of them disabled, with all that they have.
fn some() -> Import {
    let mut second = target(12, "https://b.example/");
    second.target.state = TargetState::Disabled;
    second.target.description = Some("the second".to_owned());
    second.target.headers = vec![("x-a".to_owned(), "1".to_owned())];
    second.target.request.schemes = vec![Scheme::V1, Scheme::V1a];
    Import {
        targets: vec![target(11, "https://a.example/"), second],
        filters: vec![filter(21, "orders", &["a.b", "c.*"]), filter(22, "all", &["*"])],
        subscriptions: vec![
            subscription(31, 11, 21),
            subscription(32, 12, 21),
            ImportSubscription {
                active: false,
                ..subscription(33, 12, 22)
            },
        ],
    }
}

/// How many were made, changed, the same.
fn counts(done: &Imported) -> [usize; 3] {
    let all = || {
        let targets = done.targets.iter().map(|(_, settled)| *settled);
        let filters = done.filters.iter().map(|(_, settled)| *settled);
        let subscriptions = done.subscriptions.iter().map(|(_, settled)| *settled);
        targets.chain(filters).chain(subscriptions)
    };
    [Settled::Made, Settled::Changed, Settled::Same].map(|like| all().filter(|one| *one == like).count())
}

/// What a tenant has, without the times.
async fn content(catalog: &Catalog, tenant: &Tenant) -> Whole {
    let mut whole = catalog.whole(tenant).await.unwrap();
    for target in &mut whole.targets {
        (target.created_at, target.updated_at) = (Millis(0), Millis(0));
    }
    for filter in &mut whole.filters {
        (filter.created_at, filter.updated_at) = (Millis(0), Millis(0));
    }
    for subscription in &mut whole.subscriptions {
        (subscription.created_at, subscription.updated_at) = (Millis(0), Millis(0));
    }
    whole
}

async fn brought_in_elsewhere_it_is_the_same_by_the_same_ids(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let version = catalog.version();
    let done = catalog.import(&acme, some(), false).await.unwrap();
    assert_eq!(counts(&done), [7, 0, 0]);
    assert_eq!(done.targets[1], (TargetId(12), Settled::Made));
    assert_eq!(done.subscriptions[2], (SubscriptionId(33), Settled::Made));
    let whole = catalog.whole(&acme).await.unwrap();
    let ids: Vec<i64> = whole.targets.iter().map(|target| target.id.0).collect();
    assert_eq!(ids, [11, 12]);
    assert_eq!(whole.targets[1].state, TargetState::Disabled);
    // It is delivered by: whoever remembers that there was none is told.
    assert_eq!(catalog.match_targets(&acme, "a.b").await.unwrap(), [TargetId(11)]);
    let changes = catalog.changes_since(version, 100).await.unwrap();
    let mut told: Vec<_> = changes.iter().filter_map(|change| change.target).collect();
    told.sort_unstable();
    assert_eq!(told, [TargetId(11), TargetId(12)]);
    // Each has a secret, and a pair where it is to sign by one.
    let details = catalog.target_details(TargetId(12)).await.unwrap().unwrap();
    assert!(details.keys.len() == 1 && details.keys[0].pair.is_some());
}

async fn the_same_again_changes_nothing_and_something_else_changes_that_alone(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    catalog.import(&acme, some(), false).await.unwrap();
    let (before, version) = (catalog.whole(&acme).await.unwrap(), catalog.version());
    // Its owner's affair, and the recorder's.
    catalog.enable_target(&acme, TargetId(12)).await.unwrap();
    store.tick();
    let done = catalog.import(&acme, some(), false).await.unwrap();
    assert_eq!(counts(&done), [0, 0, 7]);
    let after = catalog.whole(&acme).await.unwrap();
    assert_eq!(after.targets[1].state, TargetState::Active);
    assert_eq!(
        (&after.filters, &after.subscriptions),
        (&before.filters, &before.subscriptions)
    );
    assert_eq!(catalog.version(), version + 1, "that of the enabling");

    let mut other = some();
    other.targets[0].target.url = "https://c.example/".to_owned();
    other.targets[0].target.contact = Some("a@a.example".to_owned());
    other.filters[1].events = texts(&["d"]);
    other.subscriptions[2].active = true;
    let own = catalog
        .create_filter(&acme, "its own".to_owned(), texts(&["e"]))
        .await
        .unwrap();
    let done = catalog.import(&acme, other.clone(), false).await.unwrap();
    assert_eq!(counts(&done), [0, 3, 4]);
    assert_eq!(catalog.match_targets(&acme, "d").await.unwrap(), [TargetId(12)]);
    let target = catalog.get_target(&acme, TargetId(11)).await.unwrap();
    assert_eq!(
        (target.url.as_str(), target.contact.as_deref()),
        ("https://c.example/", Some("a@a.example"))
    );
    assert_eq!(
        counts(&catalog.import(&acme, other, false).await.unwrap()),
        [0, 0, 7]
    );
    // Nothing is deleted that is not in it.
    catalog.get_filter(&acme, own.id).await.unwrap();
}

async fn ids_of_another_tenant_are_not_touched_and_replaced_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    catalog.import(&other, some(), false).await.unwrap();
    let before = catalog.whole(&other).await.unwrap();
    let mut twins = some();
    // Two that are alike stay two.
    twins.targets.push(target(13, "https://a.example/"));
    let done = catalog.import(&acme, twins.clone(), false).await.unwrap();
    assert_eq!(counts(&done), [8, 0, 0]);
    assert!(
        done.targets[..2].iter().all(|(id, _)| ![11, 12].contains(&id.0)),
        "{done:?}"
    );
    assert_eq!(done.targets[2].0, TargetId(13), "this one was free");
    let again = catalog.import(&acme, twins, false).await.unwrap();
    assert_eq!(counts(&again), [0, 0, 8]);
    let ids = |done: &Imported| done.targets.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    assert_eq!(ids(&again), ids(&done));
    assert_eq!(catalog.whole(&other).await.unwrap(), before);
    assert_eq!(
        catalog.match_targets(&acme, "a.b").await.unwrap(),
        [done.targets[0].0]
    );
}

async fn whatever_is_wrong_nothing_is_brought_in(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let nothing = content(&catalog, &acme).await;
    let mut dangling = some();
    dangling.subscriptions[2].filter = FilterId(99);
    let error = catalog.import(&acme, dangling, false).await.unwrap_err();
    assert_eq!(error, ImportError::Dangling(2, "filterId"));
    let mut bare = some();
    bare.targets[1].lacks_key = true;
    let error = catalog.import(&acme, bare, false).await.unwrap_err();
    assert_eq!(error, ImportError::NoKey(1));
    assert_eq!(content(&catalog, &acme).await, nothing);
    let error = catalog
        .import(&tenant("nobody"), some(), false)
        .await
        .unwrap_err();
    assert_eq!(error, ImportError::Catalog(CatalogError::NotFound));
    assert_eq!(
        catalog.whole(&tenant("nobody")).await,
        Err(CatalogError::NotFound)
    );
}

async fn a_dry_run_says_all_and_does_nothing(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (nothing, version) = (content(&catalog, &acme).await, catalog.version());
    let dry = catalog.import(&acme, some(), true).await.unwrap();
    assert_eq!(counts(&dry), [7, 0, 0]);
    assert_eq!(content(&catalog, &acme).await, nothing);
    assert_eq!(catalog.latest_change().await.unwrap(), version);
    assert_eq!(catalog.import(&acme, some(), false).await.unwrap(), dry);
}

async fn two_at_once_make_everything_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    // Taken, so that ids are drawn: nothing but the content tells them.
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    catalog.import(&other, some(), false).await.unwrap();
    let elsewhere = store.open().await;
    let (one, two) = tokio::join!(
        catalog.import(&acme, some(), false),
        elsewhere.import(&acme, some(), false)
    );
    let mut both = [counts(&one.unwrap()), counts(&two.unwrap())];
    both.sort_unstable();
    assert_eq!(both, [[0, 0, 7], [7, 0, 0]]);
    assert_eq!(catalog.whole(&acme).await.unwrap().targets.len(), 2);
}

async fn a_certificate_without_its_key_is_taken_only_where_it_is(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let with = |certificate: &str| RequestOptions {
        tls: Some(TlsOptions {
            ca: None,
            client_certificate: Some(certificate.to_owned()),
        }),
        ..RequestOptions::default()
    };
    let bare = |certificate: &str, description: &str| {
        let mut one = target(11, "https://a.example/");
        one.lacks_key = true;
        one.target.request = with(certificate);
        one.target.description = Some(description.to_owned());
        Import {
            targets: vec![one],
            ..Import::default()
        }
    };
    let mut whole = bare("first", "it comes with its key");
    whole.targets[0].lacks_key = false;
    whole.targets[0].target.client_key = Some(schemas::target::SecretText::new("its key".to_owned()));
    catalog.import(&acme, whole, false).await.unwrap();
    let done = catalog
        .import(&acme, bare("first", "another text"), false)
        .await
        .unwrap();
    assert_eq!(done.targets, [(TargetId(11), Settled::Changed)]);
    let key = catalog
        .target_details(TargetId(11))
        .await
        .unwrap()
        .unwrap()
        .client_key;
    assert_eq!(key.unwrap().reveal(), "its key");
    let error = catalog
        .import(&acme, bare("second", "another text"), false)
        .await
        .unwrap_err();
    assert_eq!(error, ImportError::NoKey(0));
    // It is deleted between two runs: it would have to be made.
    let gone = TargetPatch {
        tls: Change::Set(None),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, TargetId(11), gone).await.unwrap();
    let error = catalog
        .import(&acme, bare("first", "another text"), false)
        .await
        .unwrap_err();
    assert_eq!(error, ImportError::NoKey(0));
}
