//! Another master key: what is sealed comes under it, whatever happens meanwhile.

use crate::store::{Store, over_both, tenant};
use platform::catalog::{Catalog, Change, Claimed, NewTarget, Resealed, TargetPatch};
use platform::secrets::{KeyId, MasterKey, Sealer};
use schemas::ids::{TargetId, Tenant};
use schemas::target::{RequestOptions, Scheme, SecretText, TlsOptions};
use sqlx::Row;
use std::collections::BTreeMap;
use std::time::Duration;

over_both!(
    everything_comes_under_the_new_key_and_the_old_one_can_go,
    a_run_that_is_broken_off_is_taken_up_by_the_next,
    what_changes_meanwhile_stays_as_it_was_changed,
    what_no_key_opens_is_left_and_the_key_check_with_it,
    every_sealed_column_is_known,
);

/// A key as it is kept.
fn text() -> String {
    Sealer::random().1
}

fn key(text: &str) -> MasterKey {
    MasterKey::from_base64(text).unwrap()
}

/// A process with these keys: the one that seals, and those that open.
async fn process(store: &Store, seals: &str, opens: &[&str]) -> Catalog {
    let sealer = Sealer::new(key(seals), opens.iter().map(|text| key(text)).collect());
    Catalog::open(&store.url, sealer, store.clock.clone())
        .await
        .unwrap()
}

/// A target with one of each that is sealed: 2 secrets, 2 seeds, 1 client key.
async fn full_target(catalog: &Catalog, acme: &Tenant) -> TargetId {
    let new = NewTarget {
        request: RequestOptions {
            schemes: vec![Scheme::V1, Scheme::V1a],
            tls: Some(TlsOptions::default()),
            ..RequestOptions::default()
        },
        client_key: Some(SecretText::new("a key in PEM".to_owned())),
        ..NewTarget::at("https://a.example/")
    };
    let (target, _) = catalog.create_target(acme, new).await.unwrap();
    let day = Duration::from_secs(86_400);
    catalog.rotate_secret(acme, target.id, day).await.unwrap();
    target.id
}

/// All that a dispatcher is given of a target's secrets.
async fn opened(catalog: &Catalog, target: TargetId) -> String {
    let details = catalog.target_details(target).await.unwrap().unwrap();
    let keys: Vec<_> = details
        .keys
        .iter()
        .map(|live| (live.key.as_bytes().to_vec(), live.pair.clone()))
        .collect();
    format!(
        "{keys:?} {:?}",
        details.client_key.as_ref().map(SecretText::reveal)
    )
}

fn counts(of: &[(KeyId, u64)]) -> BTreeMap<Option<KeyId>, u64> {
    of.iter().map(|(key, count)| (Some(*key), *count)).collect()
}

async fn everything_comes_under_the_new_key_and_the_old_one_can_go(store: Store) {
    let (old, new) = (text(), text());
    let before = process(&store, &old, &[]).await;
    before.migrate().await.unwrap();
    let acme = tenant("acme");
    before.create_tenant(&acme).await.unwrap();
    let mut targets = Vec::new();
    // More than one batch.
    for _ in 0..110 {
        targets.push(full_target(&before, &acme).await);
    }
    let kept = Duration::from_secs(86_400);
    for n in 0..3 {
        match before
            .claim(&acme, &format!("key {n}"), "hash", kept)
            .await
            .unwrap()
        {
            Claimed::Mine(claim) => before.answered(&claim, b"an answer").await.unwrap(),
            other => panic!("{other:?}"),
        }
    }
    let first = opened(&before, targets[0]).await;
    let between = process(&store, &new, &[&old]).await;
    between.check().await.unwrap();
    assert_eq!(opened(&between, targets[0]).await, first);
    let all = 110 * 5 + 3 + 1;
    let (old_id, new_id) = (before.seals_with(), between.seals_with());
    assert_eq!(between.sealed_by().await.unwrap(), counts(&[(old_id, all)]));
    let mut steps = Vec::new();
    let done = between.reseal(|step| steps.push(step.sealed)).await.unwrap();
    assert_eq!(
        done,
        Resealed {
            sealed: all,
            ..Resealed::default()
        }
    );
    assert!(steps.len() > 3 && steps.is_sorted(), "{steps:?}");
    assert_eq!(between.sealed_by().await.unwrap(), counts(&[(new_id, all)]));
    let after = process(&store, &new, &[]).await;
    after.check().await.unwrap();
    assert_eq!(opened(&after, targets[0]).await, first);
    match after.claim(&acme, "key 2", "hash", kept).await.unwrap() {
        Claimed::Answered(answer) => assert_eq!(*answer, b"an answer"),
        other => panic!("{other:?}"),
    }
    let again = after.reseal(|_| {}).await.unwrap();
    assert_eq!(again, Resealed::default(), "nothing is left to do");
    let why = before.check().await.unwrap_err().to_string();
    assert!(
        why.contains("secrets.old_keys") && why.contains(&new_id.to_string()),
        "{why}"
    );
}

async fn a_run_that_is_broken_off_is_taken_up_by_the_next(store: Store) {
    let (old, new) = (text(), text());
    let before = process(&store, &old, &[]).await;
    before.migrate().await.unwrap();
    let acme = tenant("acme");
    before.create_tenant(&acme).await.unwrap();
    for _ in 0..50 {
        full_target(&before, &acme).await;
    }
    let between = process(&store, &new, &[&old]).await;
    // The database goes away in the middle.
    let pool = between.pool().clone();
    let broken = between.reseal(|step| {
        assert!(step.sealed > 0);
        drop(pool.close());
    });
    assert!(broken.await.is_err());
    let between = process(&store, &new, &[&old]).await;
    let left = between.sealed_by().await.unwrap();
    assert_eq!(
        left.len(),
        2,
        "some are under the new key, some are not: {left:?}"
    );
    // With the old key gone too early no process starts.
    assert!(process(&store, &new, &[]).await.check().await.is_err());
    between.reseal(|_| {}).await.unwrap();
    let all = counts(&[(between.seals_with(), 50 * 5 + 1)]);
    assert_eq!(between.sealed_by().await.unwrap(), all);
}

async fn what_changes_meanwhile_stays_as_it_was_changed(store: Store) {
    let (old, new) = (text(), text());
    let before = process(&store, &old, &[&new]).await;
    before.migrate().await.unwrap();
    let acme = tenant("acme");
    before.create_tenant(&acme).await.unwrap();
    let mut targets = Vec::new();
    for _ in 0..20 {
        targets.push(full_target(&before, &acme).await);
    }
    let between = process(&store, &new, &[&old]).await;
    // A process with the old key first, one with the new, and two runs at once.
    let changing = async {
        for (n, target) in targets.iter().enumerate() {
            let by = if n % 2 == 0 { &before } else { &between };
            let key = Some(SecretText::new(format!("key {n}")));
            let tls = Change::Set(Some((TlsOptions::default(), key)));
            let patch = TargetPatch {
                tls,
                ..TargetPatch::default()
            };
            by.patch_target(&acme, *target, patch).await.unwrap();
            by.rotate_secret(&acme, *target, Duration::ZERO).await.unwrap();
        }
    };
    let (one, two, ()) = tokio::join!(between.reseal(|_| {}), between.reseal(|_| {}), changing);
    assert_eq!((one.unwrap().closed, two.unwrap().closed), (0, 0));
    for (n, target) in targets.iter().enumerate() {
        let details = between.target_details(*target).await.unwrap().unwrap();
        let key = details.client_key.as_ref().map(SecretText::reveal);
        assert_eq!(key, Some(format!("key {n}").as_str()));
        assert_eq!(details.keys.len(), 1, "the rotated one signs no more");
        assert!(details.keys[0].pair.is_some());
    }
    between.reseal(|_| {}).await.unwrap();
    assert_eq!(between.sealed_by().await.unwrap().len(), 1);
}

async fn what_no_key_opens_is_left_and_the_key_check_with_it(store: Store) {
    let (lost, old, new) = (text(), text(), text());
    let before = process(&store, &old, &[]).await;
    before.migrate().await.unwrap();
    let acme = tenant("acme");
    before.create_tenant(&acme).await.unwrap();
    full_target(&before, &acme).await;
    let strange = process(&store, &lost, &[]).await;
    let target = full_target(&strange, &acme).await;
    let between = process(&store, &new, &[&old]).await;
    let done = between.reseal(|_| {}).await.unwrap();
    assert_eq!((done.sealed, done.closed), (5, 5));
    let left = between.sealed_by().await.unwrap();
    let expected = [
        (between.seals_with(), 5),
        (strange.seals_with(), 5),
        (before.seals_with(), 1),
    ];
    assert_eq!(left, counts(&expected));
    // Once that key is found, all comes right.
    let whole = process(&store, &new, &[&old, &lost]).await;
    assert_eq!(whole.reseal(|_| {}).await.unwrap().sealed, 6);
    assert!(
        process(&store, &new, &[])
            .await
            .target_details(target)
            .await
            .is_ok()
    );
}

/// One that a new table brings must be added to what is sealed anew.
async fn every_sealed_column_is_known(store: Store) {
    let catalog = store.catalog().await;
    let columns = match store.folder {
        Some(_) => {
            "SELECT m.name || '.' || c.name FROM sqlite_master m, pragma_table_info(m.name) c \
             WHERE m.type = 'table' AND c.type = 'BLOB' ORDER BY 1"
        }
        None => {
            "SELECT CAST(table_name || '.' || column_name AS TEXT) FROM information_schema.columns \
             WHERE table_schema = current_schema() AND data_type = 'bytea' ORDER BY 1"
        }
    };
    let rows = sqlx::query(columns).fetch_all(catalog.pool()).await.unwrap();
    let found: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let known = [
        "idempotency_keys.answer",
        "settings.value",
        "target_secrets.sealed",
        "target_secrets.sealed_seed",
        "targets.client_key",
    ];
    assert_eq!(
        found, known,
        "platform/src/catalog/reseal.rs has to know what is sealed"
    );
}
