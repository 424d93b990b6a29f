//! Opening, migrating, and what lies in the database at rest.

use crate::store::{Store, over_both, tenant, texts};
use platform::catalog::{Catalog, CatalogError, NewTarget};
use platform::clock::Clock;
use platform::secrets::Sealer;
use schemas::signature::parse_secret;
use sqlx::Row;
use std::time::{Duration, Instant};

over_both!(
    check_says_what_is_missing,
    migrating_again_and_by_several_at_once_is_harmless,
    another_sealing_key_is_noticed_at_once_and_says_what_to_do,
    secrets_and_keys_never_lie_in_the_clear,
    what_was_written_is_there_for_another_process,
);

fn reason(error: CatalogError) -> String {
    match error {
        CatalogError::Unavailable(why) => why,
        CatalogError::NotFound
        | CatalogError::Conflict(_)
        | CatalogError::Changed
        | CatalogError::InUse(_)
        | CatalogError::Dangling { .. } => panic!("not Unavailable: {error:?}"),
    }
}

async fn check_says_what_is_missing(store: Store) {
    let catalog = store.open().await;
    let why = reason(catalog.check().await.unwrap_err());
    assert!(why.contains("hookwright provision"), "{why}");
    catalog.migrate().await.unwrap();
    catalog.check().await.unwrap();
}

async fn migrating_again_and_by_several_at_once_is_harmless(store: Store) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        tasks.spawn(async move { store.open().await.migrate().await });
    }
    for result in tasks.join_all().await {
        result.unwrap();
    }
    let (catalog, acme) = store.with_tenant().await;
    catalog.migrate().await.unwrap();
    catalog.get_tenant(&acme).await.unwrap();
    let versions = sqlx::query("SELECT version FROM hookwright_migrations ORDER BY version")
        .fetch_all(catalog.pool())
        .await
        .unwrap();
    let versions: Vec<i64> = versions.iter().map(|row| row.get(0)).collect();
    assert_eq!(versions, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]);
}

async fn another_sealing_key_is_noticed_at_once_and_says_what_to_do(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, _) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let other = Catalog::open(&store.url, Sealer::random().0, store.clock.clone())
        .await
        .unwrap();
    for result in [
        other.check().await,
        other.migrate().await,
        other.target_details(target.id).await.map(drop),
    ] {
        let why = reason(result.unwrap_err());
        assert!(
            why.contains("another key") && why.contains("secrets.key"),
            "{why}"
        );
    }
    catalog.check().await.unwrap();
}

async fn secrets_and_keys_never_lie_in_the_clear(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (target, first) = catalog
        .create_target(&acme, NewTarget::at("https://a.example/"))
        .await
        .unwrap();
    let second = catalog
        .rotate_secret(&acme, target.id, Duration::from_secs(60))
        .await
        .unwrap();
    let (_, api_key) = catalog.create_key(&acme, "ci").await.unwrap();
    let mut hidden: Vec<Vec<u8>> = vec![api_key.as_bytes()["hk_live_".len()..].to_vec()];
    for secret in [first, second] {
        hidden.push(secret.as_bytes()["whsec_".len()..].to_vec());
        hidden.push(parse_secret(&secret).unwrap().as_bytes().to_vec());
    }
    let details = catalog.target_details(target.id).await.unwrap().unwrap();
    let shown = format!("{details:?} {:?} {catalog:?}", store.sealer);
    assert!(shown.contains("https://a.example/"), "{shown}");
    for live in &details.keys {
        // As text, and as a list of numbers.
        let text = schemas::signature::encode_secret(&live.key);
        let numbers = format!("{:?}", live.key.as_bytes());
        assert!(
            !shown.contains(&text) && !shown.contains(&numbers),
            "a key shows in {shown}"
        );
    }
    let contents = match &store.folder {
        Some(folder) => {
            let mut bytes = Vec::new();
            for entry in std::fs::read_dir(folder).unwrap() {
                bytes.extend(std::fs::read(entry.unwrap().path()).unwrap());
            }
            bytes
        }
        None => {
            let mut bytes = Vec::new();
            for sql in [
                "SELECT CAST(row_to_json(t) AS TEXT) FROM (SELECT *, encode(sealed, 'escape') AS raw FROM target_secrets) t",
                "SELECT encode(sealed, 'base64') FROM target_secrets",
                "SELECT CAST(row_to_json(t) AS TEXT) FROM api_keys t",
                "SELECT CAST(row_to_json(t) AS TEXT) FROM targets t",
            ] {
                for row in sqlx::query(sql).fetch_all(catalog.pool()).await.unwrap() {
                    bytes.extend(row.get::<String, _>(0).into_bytes());
                }
            }
            for row in sqlx::query("SELECT sealed FROM target_secrets")
                .fetch_all(catalog.pool())
                .await
                .unwrap()
            {
                bytes.extend(row.get::<Vec<u8>, _>(0));
            }
            bytes
        }
    };
    let found = |needle: &[u8]| contents.windows(needle.len()).any(|part| part == needle);
    assert!(
        found(b"https://a.example/"),
        "the search finds what lies there in the clear"
    );
    assert!(
        found(schemas::ids::sha256_hex(api_key.as_bytes()).as_bytes()),
        "the key's hash does"
    );
    for (n, secret) in hidden.iter().enumerate() {
        assert!(!found(secret), "secret {n} lies in the clear");
    }
}

async fn what_was_written_is_there_for_another_process(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let (made, _) = catalog
        .create_endpoint(&acme, NewTarget::at("https://a.example/"), texts(&["*"]))
        .await
        .unwrap();
    let other = store.open().await;
    assert_eq!(other.match_targets(&acme, "a.b").await, Ok(vec![made.id]));
    catalog.pool().close().await;
    drop(catalog);
    assert_eq!(store.open().await.get_endpoint(&acme, made.id).await, Ok(made));
}

#[tokio::test]
async fn a_database_that_is_away_is_unavailable_within_seconds() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    // One port that refuses, one that takes connections and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    for port in [port, silent.local_addr().unwrap().port()] {
        let began = Instant::now();
        let url = format!("postgres://user:p4ssw0rd@127.0.0.1:{port}/x");
        let error = Catalog::open(&url, Sealer::random().0, Clock::system())
            .await
            .unwrap_err();
        assert!(began.elapsed() < Duration::from_secs(6));
        assert!(!reason(error).contains("p4ssw0rd"));
    }
}

#[tokio::test]
async fn a_url_that_is_neither_says_what_would_be_right() {
    for url in [
        "mysql://127.0.0.1/x",
        "sqlite:",
        "sqlite::memory:",
        "nonsense",
        "postgres",
    ] {
        let opened = Catalog::open(url, Sealer::random().0, Clock::system()).await;
        let why = reason(opened.unwrap_err());
        assert!(!why.is_empty(), "{url}");
    }
}

#[tokio::test]
async fn an_sqlite_path_is_taken_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b/50% done?#1/hook wright.db");
    let url = format!("sqlite:{}", path.display());
    let catalog = Catalog::open(&url, Sealer::random().0, Clock::system())
        .await
        .unwrap();
    catalog.migrate().await.unwrap();
    catalog.create_tenant(&tenant("acme")).await.unwrap();
    assert!(path.is_file());
    // The file was opened as a process with many writers and a crash in mind wants it.
    let mode: String = sqlx::query("PRAGMA journal_mode")
        .fetch_one(catalog.pool())
        .await
        .unwrap()
        .get(0);
    let foreign_keys: i64 = sqlx::query("PRAGMA foreign_keys")
        .fetch_one(catalog.pool())
        .await
        .unwrap()
        .get(0);
    let synchronous: i64 = sqlx::query("PRAGMA synchronous")
        .fetch_one(catalog.pool())
        .await
        .unwrap()
        .get(0);
    assert_eq!((mode.as_str(), foreign_keys, synchronous), ("wal", 1, 1));
}
