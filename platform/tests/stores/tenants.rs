//! Tenants and keys.

use crate::store::{ALL, Store, over_both, tenant, texts, walk};
use platform::catalog::{CatalogError, KeyRow, NewKey, NewTarget, Scope, Scopes};
use schemas::ids::sha256_hex;
use schemas::time::Millis;
use std::time::Duration;

over_both!(
    a_tenant_is_made_once_found_listed_and_deleted,
    tenants_are_listed_newest_first_without_gaps,
    a_tenant_with_targets_stays_and_one_without_takes_its_filters_and_keys_along,
    a_key_speaks_for_its_tenant_until_it_is_revoked,
    keys_are_listed_newest_first_without_gaps,
    a_limited_key_comes_back_as_it_was_made_and_is_not_known_to_versions_before,
    a_key_of_an_earlier_version_may_do_everything,
    the_last_use_of_a_key_is_noted_once_a_minute,
);

async fn a_tenant_is_made_once_found_listed_and_deleted(store: Store) {
    let catalog = store.catalog().await;
    let acme = tenant("acme");
    assert_eq!(catalog.get_tenant(&acme).await, Err(CatalogError::NotFound));
    let row = catalog.create_tenant(&acme).await.unwrap();
    assert_eq!((&row.name, row.created_at), (&acme, store.clock.now()));
    let again = catalog.create_tenant(&acme).await.unwrap_err();
    assert_eq!(
        again,
        CatalogError::Conflict("there is a tenant \"acme\" already".to_owned())
    );
    assert_eq!(catalog.get_tenant(&acme).await, Ok(row.clone()));
    assert_eq!(catalog.list_tenants(10, None).await, Ok(vec![row]));
    catalog.delete_tenant(&acme).await.unwrap();
    assert_eq!(catalog.delete_tenant(&acme).await, Err(CatalogError::NotFound));
    assert_eq!(catalog.list_tenants(10, None).await, Ok(vec![]));
}

async fn tenants_are_listed_newest_first_without_gaps(store: Store) {
    let catalog = store.catalog().await;
    let mut expected = Vec::new();
    for n in 0..10 {
        // Two in each moment.
        if n % 2 == 0 {
            store.tick();
        }
        expected.push(catalog.create_tenant(&tenant(&format!("t{n}"))).await.unwrap());
    }
    expected.reverse();
    let mut seen = Vec::new();
    loop {
        let before = seen
            .last()
            .map(|row: &platform::catalog::TenantRow| (row.created_at, row.name.as_str().to_owned()));
        let page = catalog.list_tenants(3, before).await.unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page);
    }
    assert_eq!(seen, expected);
}

async fn a_tenant_with_targets_stays_and_one_without_takes_its_filters_and_keys_along(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let error = catalog.delete_tenant(&acme).await.unwrap_err();
    assert!(
        matches!(&error, CatalogError::Conflict(why) if why.contains("targets")),
        "{error}"
    );
    catalog.delete_target(&acme, target.id, false).await.unwrap();
    catalog
        .create_filter(&acme, "all".to_owned(), texts(&["*"]))
        .await
        .unwrap();
    let (_, key) = catalog.create_key(&acme, "ci").await.unwrap();
    catalog.delete_tenant(&acme).await.unwrap();
    assert_eq!(catalog.authenticate(&key).await, Ok(None));
    catalog.create_tenant(&acme).await.unwrap();
    assert_eq!(catalog.list_filters(&acme, ALL).await, Ok(vec![]));
}

async fn a_key_speaks_for_its_tenant_until_it_is_revoked(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (row, value) = catalog.create_key(&acme, "ci").await.unwrap();
    assert_eq!((row.tenant.clone(), row.name.as_str()), (acme.clone(), "ci"));
    assert!(value.starts_with(&row.prefix) && row.prefix.len() < 16);
    assert_eq!(catalog.authenticate(&value).await, Ok(Some(row.clone())));
    assert_eq!(catalog.authenticate(&row.prefix).await, Ok(None));
    assert_eq!(catalog.authenticate("").await, Ok(None));
    assert_eq!(catalog.list_keys(&acme, ALL).await, Ok(vec![row.clone()]));
    let before = catalog.latest_change().await.unwrap();
    catalog.revoke_key(&acme, row.id).await.unwrap();
    assert_eq!(catalog.authenticate(&value).await, Ok(None));
    assert_eq!(
        catalog.revoke_key(&acme, row.id).await,
        Err(CatalogError::NotFound)
    );
    let changes = catalog.changes_since(before, 10).await.unwrap();
    assert_eq!(changes.len(), 1, "a revoked key shows in the feed");
    let nobody = catalog.create_key(&tenant("nobody"), "x").await;
    assert_eq!(nobody, Err(CatalogError::NotFound));
}

async fn keys_are_listed_newest_first_without_gaps(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut expected = Vec::new();
    for n in 0..7 {
        expected.push(
            catalog
                .create_key(&acme, format!("key {n}").as_str())
                .await
                .unwrap()
                .0,
        );
    }
    expected.reverse();
    assert_eq!(
        walk(3, |row: &KeyRow| row.id, |page| catalog.list_keys(&acme, page)).await,
        expected
    );
}

async fn a_limited_key_comes_back_as_it_was_made_and_is_not_known_to_versions_before(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let end = store.clock.now().plus(Duration::from_secs(60));
    for (scopes, expires_at) in [
        (Scopes::from_iter([Scope::Read]), None),
        (Scopes::from_iter([Scope::Manage, Scope::Publish]), Some(end)),
        (Scopes::ALL, Some(end)),
    ] {
        let new = NewKey {
            name: "limited".to_owned(),
            scopes,
            expires_at,
        };
        let (row, value) = catalog.create_key(&acme, new).await.unwrap();
        assert_eq!((row.scopes, row.expires_at), (scopes, expires_at));
        assert_eq!(catalog.authenticate(&value).await, Ok(Some(row)));
        // What the version before asks for.
        let known = sqlx::query("SELECT id FROM api_keys WHERE hash = $1")
            .bind(sha256_hex(value.as_bytes()))
            .fetch_optional(catalog.pool())
            .await
            .unwrap();
        assert!(known.is_none(), "it would let it do everything");
    }
    let rows = catalog.list_keys(&acme, ALL).await.unwrap();
    for row in rows.iter().filter(|row| row.expires_at.is_some()) {
        assert!(!row.has_expired(Millis(end.0 - 1)));
        assert!(row.has_expired(end), "it ends at that moment");
    }
}

async fn a_key_of_an_earlier_version_may_do_everything(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    sqlx::query(
        "INSERT INTO api_keys (id, tenant, name, prefix, hash, created_at) VALUES (7, 'acme', 'old', 'hk_', $1, 5)",
    )
    .bind(sha256_hex(b"hk_old"))
    .execute(catalog.pool())
    .await
    .unwrap();
    let key = catalog.authenticate("hk_old").await.unwrap().unwrap();
    assert_eq!((key.id, &key.tenant, key.scopes), (7, &acme, Scopes::ALL));
    assert_eq!((key.expires_at, key.last_used_at), (None, None));
    // And what this version makes without limits, an earlier one knows.
    let (_, value) = catalog.create_key(&acme, "new").await.unwrap();
    let known = sqlx::query("SELECT id FROM api_keys WHERE hash = $1")
        .bind(sha256_hex(value.as_bytes()))
        .fetch_optional(catalog.pool())
        .await
        .unwrap();
    assert!(known.is_some());
}

async fn the_last_use_of_a_key_is_noted_once_a_minute(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (key, value) = catalog.create_key(&acme, "ci").await.unwrap();
    let (other, _) = catalog.create_key(&acme, "other").await.unwrap();
    let seen = async || catalog.authenticate(&value).await.unwrap().unwrap();
    assert!(seen().await.use_is_news(store.clock.now()));
    let first = store.clock.now();
    // Several processes say so at once, of keys that may be gone.
    for _ in 0..2 {
        catalog.keys_used(&[key.id, key.id, 1]).await.unwrap();
    }
    assert_eq!(seen().await.last_used_at, Some(first));
    store.clock.advance(Duration::from_millis(59_999));
    assert!(!seen().await.use_is_news(store.clock.now()));
    catalog.keys_used(&[key.id]).await.unwrap();
    assert_eq!(seen().await.last_used_at, Some(first), "a minute has not passed");
    store.clock.advance(Duration::from_millis(1));
    assert!(seen().await.use_is_news(store.clock.now()));
    catalog.keys_used(&[key.id]).await.unwrap();
    assert_eq!(seen().await.last_used_at, Some(store.clock.now()));
    let rows = catalog.list_keys(&acme, ALL).await.unwrap();
    assert_eq!(
        rows.iter().find(|row| row.id == other.id).unwrap().last_used_at,
        None
    );
}
