//! Migrations: broken off in the middle they leave what was before, and what an earlier version knows stays as it is.

use crate::days;
use crate::store::{Store, on_postgres, over_both, tenant};
use platform::catalog::{Catalog, NewTarget};
use sqlx::Row;
use std::collections::BTreeSet;

over_both!(
    one_that_fails_in_the_middle_changes_nothing_and_the_next_run_completes,
    what_an_earlier_version_reads_and_writes_is_there_after_all_later_ones,
);

/// A line for each column: table, name, type, and `required` where a row must give it.
async fn columns(catalog: &Catalog, store: &Store) -> BTreeSet<String> {
    let sql = match store.folder {
        Some(_) => {
            "SELECT m.name || ' ' || c.name || ' ' || c.type || \
             CASE WHEN c.\"notnull\" = 1 AND c.dflt_value IS NULL THEN ' required' ELSE '' END \
             FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'"
        }
        None => {
            "SELECT CAST(table_name || ' ' || column_name || ' ' || data_type || \
             CASE WHEN is_nullable = 'NO' AND column_default IS NULL THEN ' required' ELSE '' END AS TEXT) \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
    };
    texts(catalog, sql).await
}

/// The indexes that were made by name, as SQL.
async fn indexes(catalog: &Catalog, store: &Store) -> BTreeSet<String> {
    let sql = match store.folder {
        Some(_) => {
            "SELECT tbl_name || ': ' || sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        }
        None => {
            // Of a partitioned table it says `ONLY`: each partition has one.
            "SELECT CAST(tablename || ': ' || replace(indexdef, ' ON ONLY ', ' ON ') AS TEXT) FROM pg_indexes \
             WHERE schemaname = current_schema()"
        }
    };
    texts(catalog, sql).await
}

async fn texts(catalog: &Catalog, sql: &str) -> BTreeSet<String> {
    days::texts(catalog, sql).await.into_iter().collect()
}

/// The versions that count as applied.
async fn versions(catalog: &Catalog) -> Vec<i64> {
    let sql = "SELECT version FROM hookwright_migrations ORDER BY version";
    let rows = sqlx::query(sql).fetch_all(catalog.pool()).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// All of it: what a run that was broken off must leave as it was.
async fn state(catalog: &Catalog, store: &Store) -> (BTreeSet<String>, BTreeSet<String>, Vec<i64>) {
    (
        columns(catalog, store).await,
        indexes(catalog, store).await,
        versions(catalog).await,
    )
}

async fn one_that_fails_in_the_middle_changes_nothing_and_the_next_run_completes(store: Store) {
    let catalog = store.open().await;
    catalog.migrate_to(5).await.unwrap();
    // The seventh makes another table before this one, and the sixth is in the same run.
    let in_the_way = "CREATE TABLE replay_leases (id BIGINT)";
    sqlx::raw_sql(in_the_way).execute(catalog.pool()).await.unwrap();
    let before = state(&catalog, &store).await;
    for _ in 0..2 {
        let error = catalog.migrate().await.unwrap_err().to_string();
        assert!(error.contains("replay_leases"), "{error}");
        assert_eq!(state(&catalog, &store).await, before);
    }
    let gone = "DROP TABLE replay_leases";
    sqlx::raw_sql(gone).execute(catalog.pool()).await.unwrap();
    catalog.migrate().await.unwrap();
    works(&catalog).await;
}

/// The newest version's tables are all there.
async fn works(catalog: &Catalog) {
    catalog.check().await.unwrap();
    let acme = tenant("acme");
    catalog.create_tenant(&acme).await.unwrap();
    let new = NewTarget::at("https://a.example/");
    let (target, _) = catalog.create_target(&acme, new).await.unwrap();
    catalog.target_details(target.id).await.unwrap().unwrap();
}

/// Ends the connection that waits for a table, once one does. Everybody sees who waits for whom; a test's tables are its
/// own.
pub async fn cut_off_who_waits_for(catalog: &Catalog, table: &str) {
    let cut = format!(
        "SELECT CAST(pg_terminate_backend(l.pid) AS TEXT) FROM pg_locks l \
         JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = '{table}' AND n.nspname = current_schema() AND NOT l.granted"
    );
    while days::texts(catalog, &cut).await.is_empty() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_cut_in_the_middle_changes_nothing_and_the_next_run_completes() {
    on_postgres(|store| async move {
        let catalog = store.open().await;
        catalog.migrate_to(5).await.unwrap();
        let before = state(&catalog, &store).await;
        // The eighth changes this table, and waits; the sixth and the seventh are done by then.
        let mut reader = catalog.pool().begin().await.unwrap();
        sqlx::raw_sql("LOCK TABLE targets IN ACCESS SHARE MODE")
            .execute(&mut *reader)
            .await
            .unwrap();
        let other = store.open().await;
        let migrating = tokio::spawn(async move { other.migrate().await });
        cut_off_who_waits_for(&catalog, "targets").await;
        assert!(migrating.await.unwrap().is_err());
        reader.rollback().await.unwrap();
        assert_eq!(state(&catalog, &store).await, before);
        catalog.migrate().await.unwrap();
        works(&catalog).await;
    })
    .await;
}

/// While processes are replaced one after the other, the version before reads and writes these tables too.
async fn what_an_earlier_version_reads_and_writes_is_there_after_all_later_ones(store: Store) {
    let catalog = store.open().await;
    let mut earlier = Vec::new();
    for version in 1.. {
        catalog.migrate_to(version).await.unwrap();
        if versions(&catalog).await.len() < earlier.len() + 1 {
            break;
        }
        earlier.push((columns(&catalog, &store).await, indexes(&catalog, &store).await));
    }
    let (columns, indexes) = earlier.pop().unwrap();
    assert!(earlier.len() >= 7);
    let table = |line: &str| line.split([' ', ':']).next().unwrap().to_owned();
    for (n, (old_columns, old_indexes)) in earlier.iter().enumerate() {
        let gone: Vec<_> = old_columns.difference(&columns).collect();
        assert!(
            gone.is_empty(),
            "version {} has, and later ones have not: {gone:?}",
            n + 1
        );
        let tables: BTreeSet<String> = old_columns.iter().map(|line| table(line)).collect();
        let asked = columns
            .difference(old_columns)
            .filter(|line| line.ends_with(" required"));
        let asked: Vec<_> = asked.filter(|line| tables.contains(&table(line))).collect();
        assert!(asked.is_empty(), "version {} does not write {asked:?}", n + 1);
        let stricter = indexes
            .difference(old_indexes)
            .filter(|line| line.contains("UNIQUE INDEX"));
        let stricter: Vec<_> = stricter.filter(|line| tables.contains(&table(line))).collect();
        assert!(
            stricter.is_empty(),
            "version {} does not know {stricter:?}",
            n + 1
        );
    }
}

/// What no test of the newest tables would show: data lost or rewritten on the way.
#[test]
fn no_migration_removes_renames_or_rewrites() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("0013_attempts_by_day.sql") {
            // Renames, and puts the like in its place: `days_migration` shows that the version before does not notice.
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.lines().map(|line| line.split("--").next().unwrap());
        let code = code.collect::<Vec<_>>().join(" ").to_uppercase();
        for statement in code.split(';').map(str::trim).filter(|text| !text.is_empty()) {
            let is_known = [
                "CREATE TABLE ",
                "CREATE INDEX ",
                "CREATE UNIQUE INDEX ",
                "INSERT INTO ",
            ]
            .iter()
            .any(|begin| statement.starts_with(begin));
            let adds = statement.starts_with("ALTER TABLE ") && statement.contains(" ADD COLUMN ");
            let strict = adds && statement.contains(" NOT NULL") && !statement.contains(" DEFAULT ");
            assert!(
                (is_known || adds) && !strict,
                "{}: a version that runs beside this one does not expect: {statement}",
                path.display()
            );
            seen += 1;
        }
    }
    assert!(seen > 20);
}
