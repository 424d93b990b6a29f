//! History is the same whatever the order of its records and however often they come.

use crate::days::texts;
use crate::history::{IntoRecord, attempt, delivery_of, event, everything, position};
use crate::store::{START, Store, on_postgres, over_both, tenant};
use platform::catalog::Catalog;
use platform::history::History;
use platform::secrets::random_bytes;
use schemas::delivery::DeliveryStatus::{Delivered, Exhausted, Retrying};
use schemas::history::HistoryRecord;
use schemas::ids::{EventId, TargetId, Tenant};
use schemas::time::Millis;
use std::time::Duration;

over_both!(
    any_order_and_repetition_give_the_same_rows,
    several_writers_at_once_give_the_same_rows_too,
    of_two_accounts_of_one_thing_the_same_is_kept_in_either_order,
);

/// Every record of 40 deliveries in all kinds of states, of two tenants.
fn many_records(tenants: &[Tenant]) -> Vec<HistoryRecord> {
    let mut records = Vec::new();
    for tenant in tenants {
        for n in 0..10_i64 {
            let id = format!("evt-{n}");
            let mut accepted = event(tenant, &id, &[1, 2]);
            // Ids of targets are no tenant's but its own.
            let base = 1000 * tenant.as_str().len() as i64;
            accepted.targets = vec![TargetId(base + 1), TargetId(base + 2)];
            accepted.accepted_at = Millis(START.0 + n / 2);
            records.push(HistoryRecord::Event(accepted.clone()));
            for (which, target) in accepted.targets.iter().enumerate() {
                let last = (n as u32 + which as u32) % 4;
                for number in 1..=last {
                    let status = if number < last {
                        Retrying
                    } else {
                        [Retrying, Delivered, Exhausted][n as usize % 3]
                    };
                    let mut record = attempt(tenant, &id, target.0, number, status);
                    record.accepted_at = accepted.accepted_at;
                    records.push(record.into_record());
                }
            }
        }
    }
    records
}

async fn any_order_and_repetition_give_the_same_rows(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    let tenants = [tenant("acme"), tenant("globex")];
    let records = many_records(&tenants);
    history.write(&records).await.unwrap();
    let mut expected = Vec::new();
    for tenant in &tenants {
        expected.push(everything(&history, tenant).await);
    }
    assert_eq!(expected[0].0.len(), 10);
    assert_eq!(expected[0].1.len(), 20);
    for (round, batch) in [(0, 1), (1, 7), (2, records.len())] {
        for table in ["events", "deliveries", "attempts"] {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(sql).execute(catalog.pool()).await.unwrap();
        }
        let twice = [records.clone(), records.clone()].concat();
        for part in shuffled(twice, round).chunks(batch) {
            history.write(part).await.unwrap();
        }
        for (tenant, expected) in tenants.iter().zip(&expected) {
            assert_eq!(
                &everything(&history, tenant).await,
                expected,
                "round {round}, {tenant}"
            );
        }
    }
}

/// A shuffle that is the same each time: by a hash of the round and the place.
pub fn shuffled(records: Vec<HistoryRecord>, round: usize) -> Vec<HistoryRecord> {
    let mut keyed: Vec<(String, HistoryRecord)> = records
        .into_iter()
        .enumerate()
        .map(|(n, record)| {
            (
                schemas::ids::sha256_hex(format!("{round} {n}").as_bytes()),
                record,
            )
        })
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|(_, record)| record).collect()
}

async fn several_writers_at_once_give_the_same_rows_too(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let records = many_records(std::slice::from_ref(&acme));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..4 {
        // Two processes, two tasks each, all with the same records in another order.
        let history = if n % 2 == 0 {
            history.clone()
        } else {
            History::new(&store.open().await)
        };
        let records = shuffled(records.clone(), n);
        writers.spawn(async move {
            // Large batches too: each holds many rows at once that the others want.
            for length in [5, records.len(), 40, records.len(), records.len()] {
                for part in records.chunks(length) {
                    history.write(part).await.unwrap();
                }
            }
        });
    }
    writers.join_all().await;
    let together = everything(&history, &acme).await;
    assert_eq!((together.0.len(), together.1.len()), (10, 20));
    for table in ["events", "deliveries", "attempts"] {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        sqlx::query(sql).execute(catalog.pool()).await.unwrap();
    }
    history.write(&records).await.unwrap();
    assert_eq!(everything(&history, &acme).await, together);
}

/// The backend that such a question finds, once it finds one. Postgres tells nobody who waits: it is looked for now and then.
async fn backend(catalog: &Catalog, question: &str) -> String {
    let looking = async {
        let mut now_and_then = tokio::time::interval(Duration::from_millis(10));
        loop {
            now_and_then.tick().await;
            if let Some(pid) = texts(catalog, question).await.pop() {
                return pid;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(20), looking).await;
    found.unwrap_or_else(|_| panic!("nobody waits: {question}"))
}

/// Two find no row and each puts its own in: one is held between the first of the table's unique indexes and the second
/// when the other comes to the first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_put_one_row_in_at_once_both_succeed() {
    for (table, by_id) in [("events", "tenant, id"), ("deliveries", "id")] {
        on_postgres(async move |store: Store| {
            let (catalog, acme) = store.with_tenant().await;
            // Indexes are written in the order in which they were made.
            let key = u32::from_be_bytes(random_bytes());
            let held = format!(
                "CREATE FUNCTION held(id TEXT) RETURNS INT IMMUTABLE LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_xact_lock_shared({key}); RETURN 0; END $$; \
                 DROP INDEX {table}_by_id; CREATE INDEX {table}_held ON {table} (held(id)); \
                 CREATE UNIQUE INDEX {table}_by_id ON {table} ({by_id})"
            );
            let held = sqlx::AssertSqlSafe(held);
            sqlx::raw_sql(held).execute(catalog.pool()).await.unwrap();
            let mut holder = catalog.pool().begin().await.unwrap();
            let hold = sqlx::AssertSqlSafe(format!("SELECT pg_advisory_xact_lock({key})"));
            sqlx::raw_sql(hold).execute(&mut *holder).await.unwrap();

            let (record, expected) = match table {
                "events" => (HistoryRecord::Event(event(&acme, "evt-1", &[])), (1, 0)),
                _ => (attempt(&acme, "evt-1", 7, 1, Delivered).into_record(), (0, 1)),
            };
            let write = |from: Catalog| {
                let (history, record) = (History::new(&from), record.clone());
                tokio::spawn(async move { history.write(&[record]).await })
            };
            let one = write(store.open().await);
            let waits = format!(
                "SELECT CAST(pid AS TEXT) FROM pg_locks WHERE locktype = 'advisory' AND objid = {key} AND NOT granted"
            );
            let first = backend(&catalog, &waits).await;
            let other = write(store.open().await);
            let waits = format!(
                "SELECT CAST(pid AS TEXT) FROM pg_stat_activity WHERE {first} = ANY(pg_blocking_pids(pid))"
            );
            backend(&catalog, &waits).await;
            holder.rollback().await.unwrap();
            one.await.unwrap().unwrap();
            other.await.unwrap().unwrap();
            let (events, deliveries) = everything(&History::new(&catalog), &acme).await;
            assert_eq!((events.len(), deliveries.len()), expected, "{table}");
        })
        .await;
    }
}

async fn of_two_accounts_of_one_thing_the_same_is_kept_in_either_order(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    // The producer sent the event twice; the dispatcher crashed after an attempt and made it again.
    for (name, turned, together) in [
        ("a", false, false),
        ("b", true, false),
        ("c", false, true),
        ("d", true, true),
    ] {
        let acme = tenant(name);
        let first = event(&acme, "evt-1", &[]);
        let mut second = first.clone();
        second.accepted_at = Millis(START.0 + 9);
        second.position = position(18);
        let before = attempt(&acme, "evt-1", 7, 1, Retrying);
        let mut after = attempt(&acme, "evt-1", 7, 1, Delivered);
        after.recorded_at = Millis(before.recorded_at.0 + 60_000);
        after.attempt.as_mut().unwrap().started_at = Millis(START.0 + 60_000);
        let mut records = vec![
            HistoryRecord::Event(first),
            before.into_record(),
            HistoryRecord::Event(second),
            after.into_record(),
        ];
        // Ids of targets differ between tenants; these four each have an event of the same id.
        for record in &mut records {
            if let HistoryRecord::Attempt(record) = record {
                record.target = TargetId(i64::from(name.as_bytes()[0]));
            }
        }
        if turned {
            records.reverse();
        }
        for part in records.chunks(if together { 4 } else { 1 }) {
            history.write(part).await.unwrap();
        }
        let row = history
            .event(&acme, &EventId::new("evt-1").unwrap())
            .await
            .unwrap();
        assert_eq!((row.accepted_at, row.position), (START, position(17)), "{name}");
        let id = delivery_of("evt-1", i64::from(name.as_bytes()[0]));
        let attempts = history.attempts(&acme, &id).await.unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].attempt.status_code, Some(204), "{name}");
        assert_eq!(
            history.delivery(&acme, &id).await.unwrap().status,
            Delivered,
            "{name}"
        );
    }
}
