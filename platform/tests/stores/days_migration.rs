//! The tables of the version before, brought to partitions of a day while that version runs.

use crate::days::{DAY, FIRST, lie, remove_role, texts, without_tables};
use crate::days_plans::{one_connection, seq_read};
use crate::history::{IntoRecord, attempt, event, everything};
use crate::migrations::cut_off_who_waits_for;
use crate::store::{START, Store, on_postgres, tenant};
use platform::history::History;
use schemas::delivery::DeliveryStatus::Delivered;
use schemas::history::HistoryRecord;
use schemas::ids::Tenant;
use schemas::time::Millis;
use sqlx::AssertSqlSafe;

/// The newest version without partitions.
const BEFORE: i64 = 12;

fn story(tenant: &Tenant, id: &str, accepted_at: i64) -> Vec<HistoryRecord> {
    let mut accepted = event(tenant, id, &[7]);
    accepted.accepted_at = Millis(accepted_at);
    let mut tried = attempt(tenant, id, 7, 1, Delivered);
    tried.accepted_at = Millis(accepted_at);
    vec![HistoryRecord::Event(accepted), tried.into_record()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_was_there_before_reads_and_writes_on() {
    on_postgres(async |store: Store| {
        let catalog = store.open().await;
        catalog.migrate_to(BEFORE).await.unwrap();
        let history = History::new(&catalog);
        let acme = tenant("acme");
        let year = 365 * DAY;
        for (id, at) in [
            ("old", 0),
            ("new", START.0),
            ("ahead", FIRST),
            ("far", START.0 + year),
        ] {
            history.write(&story(&acme, id, at)).await.unwrap();
        }
        let before = everything(&history, &acme).await;
        assert_eq!(before.1.len(), 4);

        // Statements that are prepared, in the middle of it all.
        let (writes, tenant) = (history.clone(), acme.clone());
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut begun = Some(begun);
            for number in 0.. {
                let records = story(&tenant, &format!("evt-{number}"), START.0 + number);
                writes.write(&records).await.unwrap();
                writes.write(&records).await.unwrap();
                everything(&writes, &tenant).await;
                if number == 5 {
                    begun.take().unwrap().send(()).unwrap();
                }
                if number > 5 && stopped.try_recv().is_ok() {
                    return number + 1;
                }
            }
            unreachable!()
        });
        has_begun.await.unwrap();
        store.open().await.migrate().await.unwrap();
        stop.send(()).unwrap();
        let written = writing.await.unwrap();
        let lies = [
            format!("attempts_before: {}", 2 + written),
            "attempts_default: 2".to_owned(),
        ];
        assert_eq!(lie(&catalog).await, lies);
        let after = everything(&history, &acme).await;
        assert_eq!(after.1.len(), usize::try_from(4 + written).unwrap());
        assert!(before.1.iter().all(|delivery| after.1.contains(delivery)));
        // By a new process, too.
        let new = History::new(&store.open().await);
        assert_eq!(new.make_days(START).await, Ok(5), "of one day a row was there");
        assert_eq!(everything(&new, &acme).await, after);
    })
    .await;
}

/// What the version before asks in other words than this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_of_the_version_before_mean_what_they_did() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        history.make_days(START).await.unwrap();
        for (id, at) in [("old", START.0), ("new", FIRST), ("newer", FIRST + DAY)] {
            history.write(&story(&acme, id, at)).await.unwrap();
        }
        let list = "SELECT d.event_id || ' ' || a.status_code FROM deliveries d LEFT JOIN attempts a \
            ON a.tenant = d.tenant AND a.accepted_at = d.accepted_at AND a.delivery_id = d.id \
            AND a.number = (SELECT MAX(l.number) FROM attempts l \
            WHERE l.tenant = d.tenant AND l.accepted_at = d.accepted_at AND l.delivery_id = d.id) \
            WHERE d.tenant = 'acme' ORDER BY d.accepted_at";
        assert_eq!(texts(&catalog, list).await, ["old 204", "new 204", "newer 204"]);
        let mut write = catalog.pool().begin().await.unwrap();
        let known = format!(
            "WITH k (tenant, accepted_at, delivery_id, number) AS ( \
             SELECT tenant, accepted_at, id, 1 FROM deliveries WHERE accepted_at >= {FIRST}) \
             SELECT a.tenant FROM k CROSS JOIN attempts a WHERE a.tenant = k.tenant \
             AND a.accepted_at = k.accepted_at AND a.delivery_id = k.delivery_id AND a.number = k.number \
             ORDER BY a.tenant, a.accepted_at, a.delivery_id, a.number FOR UPDATE OF a"
        );
        let known = sqlx::query(AssertSqlSafe(known))
            .fetch_all(&mut *write)
            .await
            .unwrap();
        assert_eq!(known.len(), 2);
        write.rollback().await.unwrap();
        let expire = format!(
            "DELETE FROM attempts WHERE tenant = 'acme' AND (accepted_at, delivery_id) <= ({FIRST}, \
             (SELECT id FROM deliveries WHERE accepted_at = {FIRST}))"
        );
        let expire = sqlx::query(AssertSqlSafe(expire))
            .execute(catalog.pool())
            .await
            .unwrap();
        assert_eq!(expire.rows_affected(), 2);
        assert_eq!(lie(&catalog).await, ["attempts_2026_11_21: 1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_while_it_waits_for_a_reader_it_has_changed_nothing() {
    on_postgres(async |store: Store| {
        let catalog = store.open().await;
        catalog.migrate_to(BEFORE).await.unwrap();
        let history = History::new(&catalog);
        let acme = tenant("acme");
        history.write(&story(&acme, "evt-1", START.0)).await.unwrap();
        let mut reader = catalog.pool().begin().await.unwrap();
        sqlx::raw_sql("SELECT COUNT(*) FROM attempts").execute(&mut *reader).await.unwrap();
        let other = store.open().await;
        let migrating = tokio::spawn(async move { other.migrate().await });
        cut_off_who_waits_for(&catalog, "attempts").await;
        assert!(migrating.await.unwrap().is_err());
        reader.rollback().await.unwrap();
        let tables = "SELECT relname || ' ' || CAST(relkind AS TEXT) FROM pg_class \
                      WHERE relnamespace = current_schema()::regnamespace AND relname LIKE 'attempts%' ORDER BY 1";
        assert_eq!(texts(&catalog, tables).await, ["attempts r", "attempts_pkey i"]);
        assert_eq!(history.make_days(START).await, Ok(0), "there is nothing to be parted");
        catalog.migrate().await.unwrap();
        assert_eq!(lie(&catalog).await, ["attempts_before: 1"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_might_use_the_table_still_may() {
    on_postgres(async |store: Store| {
        let catalog = store.open().await;
        catalog.migrate_to(BEFORE).await.unwrap();
        let (limited, role) = without_tables(&store, &catalog).await;
        let process = limited.open().await;
        let history = History::new(&process);
        let acme = tenant("acme");
        history.write(&story(&acme, "evt-1", START.0)).await.unwrap();
        catalog.migrate().await.unwrap();
        history.write(&story(&acme, "evt-2", FIRST)).await.unwrap();
        assert_eq!(everything(&history, &acme).await.1.len(), 2);
        history.expire(Millis(START.0 + 1), u32::MAX).await.unwrap();
        assert_eq!(lie(&catalog).await, ["attempts_default: 1"]);
        process.pool().close().await;
        remove_role(&catalog, &role).await;
    })
    .await;
}

/// What docs/operations.md says of large tables: how many rows were read one after the other to bring a table over
///, with a constraint or without.
async fn rows_read(store: &Store, constraint: &str) -> i64 {
    let catalog = one_connection(store).await;
    catalog.migrate_to(BEFORE).await.unwrap();
    let fill = "INSERT INTO attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms) \
                SELECT 'acme', n, 'dlv_' || n, 1, n, 5 FROM generate_series(1, 20000) n; ANALYZE attempts";
    sqlx::raw_sql(fill).execute(catalog.pool()).await.unwrap();
    let constrain = AssertSqlSafe(constraint.to_owned());
    sqlx::raw_sql(constrain).execute(catalog.pool()).await.unwrap();
    let before = seq_read(&catalog, "attempts%").await;
    catalog.migrate().await.unwrap();
    let read = seq_read(&catalog, "attempts%").await - before;
    assert_eq!(lie(&catalog).await, ["attempts_before: 20000"]);
    let left = "SELECT CAST(conname AS TEXT) FROM pg_constraint WHERE conname = 'attempts_before_days' \
                AND connamespace = current_schema()::regnamespace";
    assert_eq!(texts(&catalog, left).await, [""; 0]);
    read
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_constraint_that_is_known_to_hold_spares_reading_the_table() {
    on_postgres(async |store: Store| assert_eq!(rows_read(&store, "").await, 20_000)).await;
    on_postgres(async |store: Store| {
        let constraint = format!(
            "ALTER TABLE attempts ADD CONSTRAINT attempts_before_days CHECK (accepted_at < {FIRST}) NOT VALID; \
             ALTER TABLE attempts VALIDATE CONSTRAINT attempts_before_days"
        );
        assert_eq!(rows_read(&store, &constraint).await, 0);
    })
    .await;
}
