//! Targets and their secrets.

use crate::store::{ALL, Store, over_both, tenant, texts, walk};
use platform::catalog::{CatalogError, Change, NewTarget, Target, TargetPatch};
use schemas::ids::{MAX_NUMERIC_ID, TargetId};
use schemas::rate::{MAX_RATE, Period, RateLimit};
use schemas::schedule::RetryPolicy;
use schemas::signature::compatible::{Algorithm, Encoding, SignatureHeader};
use schemas::signature::parse_secret;
use schemas::target::{RequestOptions, Scheme, SecretText, TargetState, TlsOptions};
use schemas::time::Millis;
use sqlx::Row;
use std::time::Duration;

over_both!(
    a_target_is_kept_with_everything_it_was_given,
    a_patch_keeps_what_it_does_not_name_and_sets_what_it_does_to_null_too,
    patches_at_once_are_made_one_after_the_other,
    the_dispatcher_sees_a_rate_limit_and_one_set_by_an_older_version_counts,
    targets_are_listed_newest_first_without_gaps,
    a_target_in_use_names_its_subscriptions_unless_they_go_too,
    old_secrets_sign_until_the_overlap_ends,
    at_most_ten_secrets_sign_at_once,
    a_later_rotation_never_lengthens_an_old_secrets_life,
    a_target_is_disabled_once_and_its_details_say_so,
    ids_are_exact_in_json_and_grow_across_processes,
    how_requests_are_made_is_kept_and_its_secrets_are_sealed,
    a_target_that_comes_to_v1a_later_gets_a_pair_for_each_live_secret,
);

fn full_target() -> NewTarget {
    NewTarget {
        url: "https://hooks.example/in".to_owned(),
        description: Some("the \"blue\" one ✓".to_owned()),
        headers: vec![
            ("x-env".to_owned(), "prod".to_owned()),
            ("x-env".to_owned(), "two".to_owned()),
        ],
        contact: Some("ops@hooks.example".to_owned()),
        state: TargetState::Unverified,
        rate_limit: RateLimit::new(MAX_RATE, Period::Minute),
        retry: Some(RetryPolicy {
            window: Duration::from_secs(3600),
            first: Duration::from_millis(1500),
            factor: 1.7,
            max: Duration::from_secs(600),
            jitter: 0.25,
            schedule: vec![Duration::from_secs(5), Duration::from_millis(250)],
        }),
        timeout: Some(Duration::from_millis(2500)),
        request: RequestOptions {
            schemes: vec![Scheme::V1, Scheme::V1a],
            signature_headers: vec![SignatureHeader {
                name: "x-hub-signature".to_owned(),
                algorithm: Algorithm::Sha1,
                encoding: Encoding::Hex,
                prefix: "sha1=".to_owned(),
            }],
            tls: Some(TlsOptions {
                ca: None,
                client_certificate: Some("CERTIFICATE".to_owned()),
            }),
            ..RequestOptions::default()
        },
        client_key: Some(SecretText::new("KEY".to_owned())),
    }
}

async fn how_requests_are_made_is_kept_and_its_secrets_are_sealed(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    assert_eq!(made.request, full_target().request);
    assert_eq!(catalog.get_target(&acme, made.id).await, Ok(made.clone()));
    let details = || async { catalog.target_details(made.id).await.unwrap().unwrap() };
    let first = details().await;
    assert_eq!(first.request, made.request);
    assert_eq!(first.client_key.as_ref().map(SecretText::reveal), Some("KEY"));
    let pair = first.keys[0].pair.clone().unwrap();
    // What lies in the database shows neither.
    let sql = "SELECT t.client_key, k.sealed_seed FROM targets t JOIN target_secrets k ON k.target = t.id WHERE t.id = $1";
    let row = sqlx::query(sql)
        .bind(made.id.0)
        .fetch_one(catalog.pool())
        .await
        .unwrap();
    let (key, seed): (Vec<u8>, Vec<u8>) = (row.get(0), row.get(1));
    assert!(!key.windows(3).any(|bytes| bytes == b"KEY") && seed.len() > 32);

    // A rotation makes a pair for the new secret, and leaves the old one's.
    catalog
        .rotate_secret(&acme, made.id, Duration::from_secs(60))
        .await
        .unwrap();
    let rotated = details().await.keys;
    assert_eq!(rotated.len(), 2);
    assert_eq!(rotated[1].pair.as_ref(), Some(&pair));
    assert!(rotated[0].pair.is_some() && rotated[0].pair != rotated[1].pair);

    // Other changes keep all of it; TLS goes with its key.
    let patch = TargetPatch {
        description: Change::Set(None),
        ..TargetPatch::default()
    };
    let patched = catalog.patch_target(&acme, made.id, patch).await.unwrap();
    assert_eq!(patched.request, made.request);
    assert!(details().await.client_key.is_some());
    let patch = TargetPatch {
        tls: Change::Set(None),
        schemes: Change::Set(vec![Scheme::V1]),
        signature_headers: Change::Set(Vec::new()),
        ..TargetPatch::default()
    };
    let patched = catalog.patch_target(&acme, made.id, patch).await.unwrap();
    assert_eq!(patched.request, RequestOptions::default());
    assert_eq!(catalog.get_target(&acme, made.id).await, Ok(patched));
    assert_eq!(details().await.client_key, None);
}

async fn a_target_that_comes_to_v1a_later_gets_a_pair_for_each_live_secret(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    catalog
        .rotate_secret(&acme, made.id, Duration::from_secs(60))
        .await
        .unwrap();
    let pairs = || async {
        let details = catalog.target_details(made.id).await.unwrap().unwrap();
        details.keys.into_iter().map(|live| live.pair).collect::<Vec<_>>()
    };
    assert_eq!(pairs().await, [None, None]);
    let to = |schemes: &[Scheme]| TargetPatch {
        schemes: Change::Set(schemes.to_vec()),
        ..TargetPatch::default()
    };
    catalog
        .patch_target(&acme, made.id, to(&[Scheme::V1a]))
        .await
        .unwrap();
    let there = pairs().await;
    assert!(there.iter().all(Option::is_some) && there[0] != there[1]);
    // Gone and back: the same public keys.
    catalog
        .patch_target(&acme, made.id, to(&[Scheme::V1]))
        .await
        .unwrap();
    catalog
        .patch_target(&acme, made.id, to(&[Scheme::V1, Scheme::V1a]))
        .await
        .unwrap();
    assert_eq!(pairs().await, there);
}

async fn a_target_is_kept_with_everything_it_was_given(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, secret) = catalog.create_target(&acme, full_target()).await.unwrap();
    let new = full_target();
    assert_eq!(made.url, new.url);
    assert_eq!(made.headers, new.headers);
    assert_eq!(
        (made.created_at, made.updated_at),
        (store.clock.now(), store.clock.now())
    );
    assert_eq!(catalog.get_target(&acme, made.id).await, Ok(made.clone()));
    let details = catalog.target_details(made.id).await.unwrap().unwrap();
    assert_eq!(details.tenant, acme);
    assert_eq!(details.url, new.url);
    assert_eq!(details.headers, new.headers);
    assert_eq!(details.contact, new.contact);
    assert_eq!(details.state, new.state);
    assert_eq!(details.retry, new.retry);
    assert_eq!(details.timeout, new.timeout);
    assert!(details.keys_at(Millis(0)).eq([&parse_secret(&secret).unwrap()]));

    let (plain, _) = catalog
        .create_target(&acme, NewTarget::at("https://b.example/"))
        .await
        .unwrap();
    assert_eq!(catalog.get_target(&acme, plain.id).await, Ok(plain.clone()));
    catalog.delete_target(&acme, plain.id, false).await.unwrap();
    assert_eq!(
        catalog.get_target(&acme, plain.id).await,
        Err(CatalogError::NotFound)
    );
    assert!(catalog.target_details(plain.id).await.unwrap().is_none());
    let nobody = catalog.create_target(&tenant("nobody"), full_target()).await;
    assert_eq!(nobody, Err(CatalogError::NotFound));
}

async fn a_patch_keeps_what_it_does_not_name_and_sets_what_it_does_to_null_too(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    store.tick();
    let kept = catalog
        .patch_target(&acme, made.id, TargetPatch::default())
        .await
        .unwrap();
    let mut expected = made.clone();
    expected.updated_at = store.clock.now();
    assert_eq!(kept, expected);

    let plain = NewTarget::at("https://c.example/");
    let everything = TargetPatch {
        url: Change::Set(plain.url.clone()),
        description: Change::Set(None),
        headers: Change::Set(Vec::new()),
        contact: Change::Set(None),
        state: Change::Set(TargetState::Active),
        rate_limit: Change::Set(None),
        retry: Change::Set(None),
        timeout: Change::Set(None),
        ..TargetPatch::default()
    };
    store.tick();
    let set = catalog.patch_target(&acme, made.id, everything).await.unwrap();
    expected.updated_at = store.clock.now();
    expected.url = plain.url;
    expected.description = None;
    expected.headers = Vec::new();
    expected.contact = None;
    expected.state = TargetState::Active;
    expected.rate_limit = None;
    expected.retry = None;
    expected.timeout = None;
    assert_eq!(set, expected);
    assert_eq!(catalog.get_target(&acme, made.id).await, Ok(expected));
}

async fn patches_at_once_are_made_one_after_the_other(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = store.open().await;
    // Each of two processes sets one field: a lost update would leave one as it was.
    let rate = TargetPatch {
        rate_limit: Change::Set(RateLimit::new(7, Period::Second)),
        ..TargetPatch::default()
    };
    let description = TargetPatch {
        description: Change::Set(Some("seven".to_owned())),
        ..TargetPatch::default()
    };
    for _ in 0..20 {
        let (made, _) = catalog.create_target(&acme, full_target()).await.unwrap();
        let (one, two) = tokio::join!(
            catalog.patch_target(&acme, made.id, rate.clone()),
            other.patch_target(&acme, made.id, description.clone()),
        );
        one.unwrap();
        two.unwrap();
        let after = catalog.get_target(&acme, made.id).await.unwrap();
        assert_eq!(after.rate_limit, RateLimit::new(7, Period::Second));
        assert_eq!(after.description.as_deref(), Some("seven"));
    }
}

async fn the_dispatcher_sees_a_rate_limit_and_one_set_by_an_older_version_counts(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    let seen = || async { catalog.target_details(made.id).await.unwrap().unwrap().rate_limit };
    assert_eq!(seen().await, RateLimit::new(MAX_RATE, Period::Minute));
    // Knows the limit by the second alone.
    sqlx::query("UPDATE targets SET rate_limit = 5")
        .execute(catalog.pool())
        .await
        .unwrap();
    assert_eq!(seen().await, RateLimit::new(5, Period::Second));
    let none = TargetPatch {
        rate_limit: Change::Set(None),
        ..TargetPatch::default()
    };
    catalog.patch_target(&acme, made.id, none).await.unwrap();
    assert_eq!(seen().await, None, "neither is left");
}

async fn targets_are_listed_newest_first_without_gaps(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let mut expected = Vec::new();
    for n in 0..11 {
        let new = NewTarget::at(format!("https://{n}.example/"));
        expected.push(catalog.create_target(&acme, new).await.unwrap().0);
    }
    expected.reverse();
    assert_eq!(
        walk(
            4,
            |row: &Target| row.id.0,
            |page| catalog.list_targets(&acme, page)
        )
        .await,
        expected
    );
}

async fn a_target_in_use_names_its_subscriptions_unless_they_go_too(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    let mut used = Vec::new();
    for name in ["one", "two"] {
        let filter = catalog
            .create_filter(&acme, name.to_owned(), texts(&["*"]))
            .await
            .unwrap();
        let made = catalog
            .create_subscription(&acme, target.id, filter.id, name == "one")
            .await
            .unwrap();
        used.push(made.id);
    }
    let error = catalog.delete_target(&acme, target.id, false).await;
    assert_eq!(error, Err(CatalogError::InUse(used)));
    assert!(catalog.get_target(&acme, target.id).await.is_ok());
    catalog.delete_target(&acme, target.id, true).await.unwrap();
    assert_eq!(catalog.list_subscriptions(&acme, ALL).await, Ok(vec![]));
    assert_eq!(
        catalog.list_filters(&acme, ALL).await.unwrap().len(),
        2,
        "filters stay"
    );
}

async fn old_secrets_sign_until_the_overlap_ends(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, first) = catalog.create_target(&acme, full_target()).await.unwrap();
    let second = catalog
        .rotate_secret(&acme, target.id, Duration::from_secs(60))
        .await
        .unwrap();
    // As they are read from the database, and as they are remembered from just after the rotation.
    let remembered = catalog.target_details(target.id).await.unwrap().unwrap();
    let keys = || async {
        let now = store.clock.now();
        let read = catalog.target_details(target.id).await.unwrap().unwrap();
        read.keys_at(now).cloned().collect::<Vec<_>>()
    };
    let old = || remembered.keys_at(store.clock.now()).cloned().collect::<Vec<_>>();
    let [first, second] = [first, second].map(|text| parse_secret(&text).unwrap());
    assert_eq!(keys().await, [second.clone(), first.clone()], "the newest first");
    store.clock.advance(Duration::from_millis(59_999));
    assert_eq!(keys().await, [second.clone(), first]);
    store.clock.advance(Duration::from_millis(1));
    assert_eq!(keys().await, std::slice::from_ref(&second));
    assert_eq!(old(), [second], "what is remembered ends in time too");
    let third = catalog
        .rotate_secret(&acme, target.id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        keys().await,
        [parse_secret(&third).unwrap()],
        "no overlap: at once"
    );
}

async fn at_most_ten_secrets_sign_at_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    let minute = Duration::from_secs(60);
    for _ in 1..10 {
        store.tick();
        catalog.rotate_secret(&acme, target.id, minute).await.unwrap();
    }
    let live = || async { catalog.target_details(target.id).await.unwrap().unwrap().keys };
    let before = live().await;
    assert_eq!(before.len(), 10);
    let error = catalog.rotate_secret(&acme, target.id, minute).await.unwrap_err();
    assert!(
        matches!(&error, CatalogError::Conflict(why) if why.contains("10")),
        "{error}"
    );
    assert_eq!(live().await, before, "nothing was changed");
    catalog
        .rotate_secret(&acme, target.id, Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(
        live().await.len(),
        1,
        "a rotation that ends the others is no eleventh"
    );
}

async fn a_later_rotation_never_lengthens_an_old_secrets_life(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog.create_target(&acme, full_target()).await.unwrap();
    for overlap in [10, 1000] {
        catalog
            .rotate_secret(&acme, target.id, Duration::from_secs(overlap))
            .await
            .unwrap();
    }
    let live = || async {
        catalog
            .target_details(target.id)
            .await
            .unwrap()
            .unwrap()
            .keys
            .len()
    };
    assert_eq!(live().await, 3);
    store.clock.advance(Duration::from_secs(10));
    assert_eq!(live().await, 2);
    catalog
        .rotate_secret(&acme, target.id, Duration::from_secs(5))
        .await
        .unwrap();
    store.clock.advance(Duration::from_secs(5));
    assert_eq!(live().await, 1, "a shorter overlap ends the older ones sooner");
}

async fn a_target_is_disabled_once_and_its_details_say_so(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    store.tick();
    assert_eq!(catalog.disable_target(target.id, "410 Gone").await, Ok(true));
    assert_eq!(catalog.disable_target(target.id, "410 Gone").await, Ok(false));
    assert_eq!(catalog.disable_target(TargetId(1), "410 Gone").await, Ok(false));
    let after = catalog.get_target(&acme, target.id).await.unwrap();
    assert_eq!(
        (after.state, after.updated_at),
        (TargetState::Disabled, store.clock.now())
    );
    let details = catalog.target_details(target.id).await.unwrap().unwrap();
    assert_eq!(details.state, TargetState::Disabled);
}

async fn ids_are_exact_in_json_and_grow_across_processes(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let other = store.open().await;
    let mut last = 0;
    for n in 0..6 {
        let catalog = if n % 2 == 0 { &catalog } else { &other };
        // Processes draw ids in the same millisecond without order; apart from that, by time.
        store.clock.advance(Duration::from_millis(1));
        let (made, _) = catalog
            .create_target(&acme, NewTarget::at("https://a.example/"))
            .await
            .unwrap();
        assert!(made.id.0 > last && made.id.0 <= MAX_NUMERIC_ID);
        last = made.id.0;
    }
}
