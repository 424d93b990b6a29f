//! The audit log: an entry with each change, and none without.

use crate::store::{ALL, START, Store, over_both, tenant, texts, walk};
use platform::catalog::{
    Actor, AuditQuery, AuditRow, Catalog, CatalogError, Change, NewKey, NewTarget, Scope, Scopes, TargetPatch,
};
use platform::replays::{NewReplay, Replays, Which};
use schemas::ids::Tenant;
use schemas::target::{SecretText, TargetState, TlsOptions};
use schemas::time::Millis;
use schemas::verification::Verification;
use serde_json::{Value, json};
use std::time::Duration;

over_both!(
    each_change_says_who_did_what_with_which_thing,
    what_is_refused_or_changes_nothing_leaves_no_entry,
    a_change_and_its_entry_are_made_together_or_not_at_all,
    values_that_may_be_secret_are_not_in_it,
    an_endpoints_changes_are_those_of_its_parts,
    what_nobody_asked_for_is_the_systems,
    entries_are_listed_newest_first_by_thing_and_time,
    an_earlier_tenant_of_the_same_name_is_not_shown,
    old_entries_are_removed,
);

const EVERYTHING: AuditQuery = AuditQuery {
    kind: None,
    thing: None,
    from: None,
    to: None,
    page: ALL,
};

/// Who did what with which kind of thing, the oldest first.
async fn told(catalog: &Catalog, acme: &Tenant) -> Vec<(String, String, Actor)> {
    let rows = catalog.audit(acme, &EVERYTHING).await.unwrap();
    let told = rows.into_iter().rev();
    told.map(|row| (row.action, row.kind, row.actor)).collect()
}

async fn newest(catalog: &Catalog, acme: &Tenant) -> AuditRow {
    catalog.audit(acme, &EVERYTHING).await.unwrap().remove(0)
}

fn state(state: TargetState) -> TargetPatch {
    TargetPatch {
        state: Change::Set(state),
        ..TargetPatch::default()
    }
}

async fn each_change_says_who_did_what_with_which_thing(store: Store) {
    let system = store.catalog().await;
    let acme = tenant("acme");
    let admin = system.by(Actor::Admin);
    admin.create_tenant(&acme).await.unwrap();
    let new = NewKey {
        name: "ci".to_owned(),
        scopes: Scopes::from_iter([Scope::Manage]),
        expires_at: Some(START.plus(Duration::from_secs(60))),
    };
    let (key, value) = admin.create_key(&acme, new).await.unwrap();
    let made = newest(&system, &acme).await;
    assert_eq!(made.thing, key.id.to_string());
    assert_eq!((made.before, &made.actor), (None, &Actor::Admin));
    let after = made.after.unwrap();
    assert_eq!(after["scopes"], json!(["manage"]));
    assert_eq!(after["expiresAt"], json!(key.expires_at.unwrap().to_rfc3339()));
    assert!(!after.to_string().contains(&value[12..]), "not the key itself");

    let by_key = Actor::from(&key);
    let catalog = system.by(by_key.clone());
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let url = TargetPatch {
        url: Change::Set("https://b.example/".to_owned()),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, target.id, url).await.unwrap();
    let moved = newest(&system, &acme).await;
    assert_eq!(moved.before.unwrap()["url"], "https://a.example/");
    assert_eq!(moved.after.unwrap()["url"], "https://b.example/");
    catalog
        .rotate_secret(&acme, target.id, Duration::from_secs(60))
        .await
        .unwrap();
    catalog
        .patch_target(&acme, target.id, state(TargetState::Disabled))
        .await
        .unwrap();
    catalog.enable_target(&acme, target.id).await.unwrap();
    let filter = catalog
        .create_filter(&acme, "f".to_owned(), texts(&["a"]))
        .await
        .unwrap();
    catalog
        .patch_filter(&acme, filter.id, Change::Keep, Change::Set(texts(&["b"])))
        .await
        .unwrap();
    let subscription = catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
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
    let changed = newest(&system, &acme).await;
    assert_eq!(changed.thing, subscription.id.to_string());
    assert_eq!(changed.before.unwrap()["active"], true);
    assert_eq!(changed.after.unwrap()["active"], false);
    catalog.delete_subscription(&acme, subscription.id).await.unwrap();
    let replays = Replays::new(&catalog);
    let new = NewReplay {
        target: target.id,
        which: Which::All,
        delivery: None,
        from: Millis(0),
        to: START,
    };
    let replay = replays.create(&acme, vec![new]).await.unwrap().remove(0);
    replays.cancel(&acme, replay.id).await.unwrap();
    catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
    catalog.delete_filter(&acme, filter.id, true).await.unwrap();
    let gone = newest(&system, &acme).await;
    assert_eq!(
        (gone.before.unwrap()["events"].clone(), gone.after),
        (json!(["b"]), None)
    );
    catalog.delete_target(&acme, target.id, true).await.unwrap();
    admin.revoke_key(&acme, key.id).await.unwrap();

    let expected = [
        ("create", "tenant", &Actor::Admin),
        ("create", "key", &Actor::Admin),
        ("create", "target", &by_key),
        ("update", "target", &by_key),
        ("rotate", "target", &by_key),
        ("disable", "target", &by_key),
        ("enable", "target", &by_key),
        ("create", "filter", &by_key),
        ("update", "filter", &by_key),
        ("create", "subscription", &by_key),
        ("update", "subscription", &by_key),
        ("delete", "subscription", &by_key),
        ("create", "replay", &by_key),
        ("stop", "replay", &by_key),
        ("create", "subscription", &by_key),
        ("delete", "subscription", &by_key),
        ("delete", "filter", &by_key),
        ("delete", "target", &by_key),
        ("delete", "key", &Actor::Admin),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(action, kind, actor)| (action.to_owned(), kind.to_owned(), actor.clone()))
        .collect();
    assert_eq!(told(&system, &acme).await, expected);
    admin.delete_tenant(&acme).await.unwrap();
    let all = system.audit_of_all(Some(&acme), &EVERYTHING).await.unwrap();
    assert_eq!(
        (all[0].action.as_str(), all[0].thing.as_str()),
        ("delete", "acme")
    );
    assert_eq!(all.len(), expected.len() + 1);
}

async fn what_is_refused_or_changes_nothing_leaves_no_entry(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let filter = catalog
        .create_filter(&acme, "f".to_owned(), texts(&["a"]))
        .await
        .unwrap();
    catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap();
    let before = told(&catalog, &acme).await;

    catalog.create_tenant(&acme).await.unwrap_err();
    catalog.delete_tenant(&acme).await.unwrap_err();
    catalog.delete_target(&acme, target.id, false).await.unwrap_err();
    catalog.delete_filter(&acme, filter.id, false).await.unwrap_err();
    catalog
        .create_subscription(&acme, target.id, filter.id, true)
        .await
        .unwrap_err();
    catalog.revoke_key(&acme, 1).await.unwrap_err();
    catalog.enable_target(&acme, target.id).await.unwrap();
    catalog
        .patch_target(&acme, target.id, TargetPatch::default())
        .await
        .unwrap();
    catalog
        .patch_filter(&acme, filter.id, Change::Set("f".to_owned()), Change::Keep)
        .await
        .unwrap();
    assert_eq!(told(&catalog, &acme).await, before);
}

async fn a_change_and_its_entry_are_made_together_or_not_at_all(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    sqlx::raw_sql("ALTER TABLE audit RENAME TO elsewhere")
        .execute(catalog.pool())
        .await
        .unwrap();
    let made = catalog.create_filter(&acme, "f".to_owned(), texts(&["a"])).await;
    assert!(matches!(made, Err(CatalogError::Unavailable(_))), "{made:?}");
    catalog.delete_target(&acme, target.id, true).await.unwrap_err();
    catalog.disable_target(target.id, "410 Gone").await.unwrap_err();
    catalog.create_key(&acme, "ci").await.unwrap_err();
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![]));
    assert_eq!(catalog.list_keys(&acme, ALL).await, Ok(vec![]));
    assert_eq!(catalog.get_target(&acme, target.id).await, Ok(target));
}

async fn values_that_may_be_secret_are_not_in_it(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let header = |value: &str| vec![("authorization".to_owned(), value.to_owned())];
    let new = NewTarget {
        headers: header("Bearer hush-1"),
        ..NewTarget::at("https://a.example/")
    };
    let (target, secret) = catalog.create_target(&acme, new).await.unwrap();
    let patch = TargetPatch {
        headers: Change::Set(header("Bearer hush-2")),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, target.id, patch).await.unwrap();
    let changed = newest(&catalog, &acme).await;
    assert_eq!(changed.before.unwrap()["headers"], json!({"authorization": "…"}));
    assert_eq!(
        changed.after.unwrap()["headers"],
        json!({"authorization": "… (changed)"})
    );
    // Another private key alone is a change too.
    let tls = TlsOptions::default();
    let patch = TargetPatch {
        tls: Change::Set(Some((tls.clone(), Some(SecretText::new("hush-3".to_owned()))))),
        ..TargetPatch::default()
    };
    catalog
        .patch_target(&acme, target.id, patch.clone())
        .await
        .unwrap();
    catalog.patch_target(&acme, target.id, patch).await.unwrap();
    let changed = newest(&catalog, &acme).await;
    assert_eq!(changed.after.unwrap()["clientKey"], json!("… (changed)"));
    let rotated = catalog
        .rotate_secret(&acme, target.id, Duration::ZERO)
        .await
        .unwrap();
    catalog.delete_target(&acme, target.id, false).await.unwrap();

    let rows = catalog.audit(&acme, &EVERYTHING).await.unwrap();
    assert_eq!(rows.len(), 7, "{rows:#?}");
    let shown = format!("{rows:?}");
    for hidden in ["hush", &secret[6..], &rotated[6..]] {
        assert!(!shown.contains(hidden), "{hidden}");
    }
}

async fn an_endpoints_changes_are_those_of_its_parts(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let events = |list: &[&str]| Change::Set(texts(list));
    let new = NewTarget::at("https://a.example/");
    let (endpoint, _) = catalog.create_endpoint(&acme, new, texts(&["a"])).await.unwrap();
    catalog
        .patch_endpoint(
            &acme,
            endpoint.id,
            Change::Keep,
            events(&["b"]),
            Change::Set(true),
        )
        .await
        .unwrap();
    catalog.delete_endpoint(&acme, endpoint.id).await.unwrap();
    let told: Vec<_> = told(&catalog, &acme).await;
    let told: Vec<_> = told
        .iter()
        .map(|(action, kind, _)| format!("{action} {kind}"))
        .collect();
    let expected = [
        "create tenant",
        "create target",
        "create filter",
        "create subscription",
        "disable target",
        "update filter",
        "delete subscription",
        "delete filter",
        "delete target",
    ];
    assert_eq!(told, expected);
}

async fn what_nobody_asked_for_is_the_systems(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut new = NewTarget::at("https://a.example/");
    new.request.verification = Verification::Echo;
    let (target, _) = catalog.create_target(&acme, new).await.unwrap();
    let last = async || {
        let row = newest(&catalog, &acme).await;
        assert_eq!((row.actor, row.thing), (Actor::System, target.id.to_string()));
        (row.action, row.after.unwrap())
    };
    catalog.proved(target.id, &target.url).await.unwrap();
    assert_eq!(last().await, ("verify".to_owned(), json!({"state": "active"})));
    let count = told(&catalog, &acme).await.len();
    catalog.proved(target.id, &target.url).await.unwrap();
    assert_eq!(
        told(&catalog, &acme).await.len(),
        count,
        "each day's proof is no change"
    );
    catalog
        .not_proved(target.id, &target.url, "wrong", false)
        .await
        .unwrap();
    let said = json!({"state": "unverified", "notProved": "wrong"});
    assert_eq!(last().await, ("unverify".to_owned(), said));
    catalog.proved(target.id, &target.url).await.unwrap();
    assert_eq!(catalog.disable_target(target.id, "410 Gone").await, Ok(true));
    assert_eq!(catalog.disable_target(target.id, "410 Gone").await, Ok(false));
    let said = json!({"state": "disabled", "disabledReason": "410 Gone"});
    assert_eq!(last().await, ("disable".to_owned(), said));
    assert_eq!(told(&catalog, &acme).await.len(), count + 3);
}

async fn entries_are_listed_newest_first_by_thing_and_time(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let spy = tenant("spy");
    catalog.create_tenant(&spy).await.unwrap();
    let mut filters = Vec::new();
    for n in 0..5 {
        store.tick();
        let events = texts(&["a"]);
        filters.push(
            catalog
                .create_filter(&acme, format!("f{n}"), events)
                .await
                .unwrap(),
        );
        catalog
            .create_filter(&spy, format!("s{n}"), texts(&["a"]))
            .await
            .unwrap();
    }
    let names = |rows: &[AuditRow]| -> Vec<Value> {
        let after = rows.iter().map(|row| row.after.as_ref().unwrap());
        after.map(|after| after["name"].clone()).collect()
    };
    let ask = async |query: AuditQuery| names(&catalog.audit(&acme, &query).await.unwrap());
    let kind = |kind: &str| AuditQuery {
        kind: Some(kind.to_owned()),
        ..EVERYTHING
    };
    assert_eq!(ask(kind("filter")).await, ["f4", "f3", "f2", "f1", "f0"]);
    assert_eq!(ask(kind("tenant")).await, ["acme"]);
    let thing = AuditQuery {
        thing: Some(filters[2].id.to_string()),
        ..kind("filter")
    };
    assert_eq!(ask(thing).await, ["f2"]);
    let between = AuditQuery {
        from: Some(START.plus(Duration::from_secs(2))),
        to: Some(START.plus(Duration::from_secs(4))),
        ..EVERYTHING
    };
    assert_eq!(ask(between.clone()).await, ["f2", "f1"]);
    let all = catalog.audit_of_all(None, &between).await.unwrap();
    assert_eq!(names(&all), ["s2", "f2", "s1", "f1"]);
    let of_spy = catalog.audit_of_all(Some(&spy), &between).await.unwrap();
    assert_eq!(names(&of_spy), ["s2", "s1"]);
    let page = async |page| catalog.audit(&acme, &AuditQuery { page, ..EVERYTHING }).await;
    let walked = walk(2, |row: &AuditRow| row.id, page).await;
    assert_eq!(names(&walked), ["f4", "f3", "f2", "f1", "f0", "acme"]);
}

async fn an_earlier_tenant_of_the_same_name_is_not_shown(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    catalog
        .create_filter(&acme, "theirs".to_owned(), texts(&["a"]))
        .await
        .unwrap();
    catalog.delete_tenant(&acme).await.unwrap();
    assert_eq!(catalog.audit(&acme, &EVERYTHING).await, Ok(vec![]));
    store.tick();
    catalog.create_tenant(&acme).await.unwrap();
    let told = told(&catalog, &acme).await;
    assert_eq!(told, [("create".to_owned(), "tenant".to_owned(), Actor::System)]);
    let all = catalog.audit_of_all(Some(&acme), &EVERYTHING).await.unwrap();
    assert_eq!(all.len(), 4);
}

async fn old_entries_are_removed(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let filter = catalog
        .create_filter(&acme, "f".to_owned(), texts(&["a"]))
        .await
        .unwrap();
    let rename = async |name: String| {
        let name = Change::Set(name);
        catalog
            .patch_filter(&acme, filter.id, name, Change::Keep)
            .await
            .unwrap();
    };
    for n in 0..600 {
        rename(format!("f{n}")).await;
    }
    store.clock.advance(Duration::from_secs(3600));
    rename("late".to_owned()).await;
    let hour = Duration::from_secs(3600);
    assert_eq!(catalog.prune_audit(hour).await, Ok(0), "none is older");
    store.clock.advance(Duration::from_secs(1));
    assert_eq!(catalog.prune_audit(hour).await, Ok(602));
    let left = catalog.audit_of_all(None, &EVERYTHING).await.unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].after.as_ref().unwrap()["name"], "late");
}
