//! Attempts in partitions of a day, on Postgres: made ahead of need, never needed, dropped when they are over.

use crate::history::{IntoRecord, attempt, delivery_of, event, everything};
use crate::store::{START, Store, on_postgres, tenant};
use platform::catalog::Catalog;
use platform::history::History;
use platform::secrets::random_bytes;
use schemas::delivery::DeliveryStatus::{Delivered, Retrying};
use schemas::history::HistoryRecord;
use schemas::ids::Tenant;
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Row};
use std::time::{Duration, Instant};

/// In milliseconds.
pub const DAY: i64 = 86_400_000;
/// Where days begin: the migration leaves the rest of its day, and the next one, to `attempts_before`.
pub const FIRST: i64 = (START.0 / DAY + 2) * DAY;
/// Days that there are from there to the seventh after the start's.
const AHEAD: u32 = 6;

/// What a delivery accepted then leaves: its event and two attempts.
pub fn story(tenant: &Tenant, id: &str, accepted_at: i64) -> Vec<HistoryRecord> {
    let mut accepted = event(tenant, id, &[7]);
    accepted.accepted_at = Millis(accepted_at);
    let mut records = vec![HistoryRecord::Event(accepted)];
    for (number, status) in [(1, Retrying), (2, Delivered)] {
        let mut tried = attempt(tenant, id, 7, number, status);
        tried.accepted_at = Millis(accepted_at);
        records.push(tried.into_record());
    }
    records
}

async fn expire(history: &History, before: i64) {
    history.expire(Millis(before), u32::MAX).await.unwrap();
}

/// The first column of what a statement answers, as text.
pub async fn texts(catalog: &Catalog, sql: &str) -> Vec<String> {
    let sql = AssertSqlSafe(sql.to_owned());
    let rows = sqlx::query(sql).fetch_all(catalog.pool()).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Where attempts lie: `partition: rows`, without the empty ones.
pub async fn lie(catalog: &Catalog) -> Vec<String> {
    let sql = "SELECT tableoid::regclass || ': ' || COUNT(*) FROM attempts GROUP BY tableoid ORDER BY 1";
    texts(catalog, sql).await
}

/// The partitions of attempts.
async fn parts(catalog: &Catalog) -> Vec<String> {
    let sql =
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'attempts'::regclass ORDER BY 1";
    texts(catalog, sql).await
}

/// What a table has, by the day: `day: rows`, days counted from [`FIRST`].
async fn by_day(catalog: &Catalog, table: &str) -> Vec<String> {
    let day = format!("(accepted_at - {FIRST}) / {DAY}");
    let sql = format!("SELECT {day} || ': ' || COUNT(*) FROM {table} GROUP BY {day} ORDER BY {day}");
    texts(catalog, &sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_time_has_its_place_and_nothing_is_there_twice() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        assert_eq!(history.make_days(START).await, Ok(AHEAD));
        assert_eq!(history.make_days(START).await, Ok(0));
        let year = 365 * DAY;
        let times = [
            ("long-ago", 0),
            ("before-all-time", -year),
            ("now", START.0),
            ("before-days", FIRST - 1),
            ("first", FIRST),
            ("before-midnight", FIRST + DAY - 1),
            ("after-midnight", FIRST + DAY),
            ("years-ahead", START.0 + 3 * year),
        ];
        let records: Vec<HistoryRecord> = times
            .iter()
            .flat_map(|(id, accepted_at)| story(&acme, id, *accepted_at))
            .collect();
        history.write(&records).await.unwrap();
        let expected = [
            "attempts_2026_11_20: 4",
            "attempts_2026_11_21: 2",
            "attempts_before: 8",
            "attempts_default: 2",
        ];
        assert_eq!(lie(&catalog).await, expected);
        let written = everything(&history, &acme).await;
        assert_eq!((written.0.len(), written.1.len()), (times.len(), times.len()));
        for (delivery, attempts) in &written.1 {
            assert_eq!((delivery.attempts, delivery.last_status_code), (2, Some(204)));
            assert_eq!(attempts.len(), 2);
        }
        // Again, together and one by one, and by another process.
        history.write(&records).await.unwrap();
        let other = History::new(&store.open().await);
        for record in records {
            other.write(&[record]).await.unwrap();
        }
        assert_eq!(lie(&catalog).await, expected);
        assert_eq!(everything(&history, &acme).await, written);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_that_are_over_go_whole_and_all_else_is_left() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        history.make_days(START).await.unwrap();
        let mut records = Vec::new();
        for day in -1..=6_i64 {
            for part in 0..4 {
                let at = FIRST + day * DAY + part * DAY / 4;
                records.extend(story(&acme, &format!("evt-{day}-{part}"), at));
            }
        }
        history.write(&records).await.unwrap();
        assert_eq!(
            lie(&catalog).await.len(),
            1 + 6 + 1,
            "one day is beyond those made"
        );
        let expire = async |before: i64| expire(&history, before).await;
        let left = async || {
            let mut all = Vec::new();
            for table in ["attempts", "deliveries", "events"] {
                all.push(by_day(&catalog, table).await);
            }
            all
        };
        // Before there are days: row by row.
        expire(FIRST - DAY / 2).await;
        assert_eq!(lie(&catalog).await[6], "attempts_before: 4");
        assert!(parts(&catalog).await.contains(&"attempts_before".to_owned()));
        // Its last moment is not over: what is in no day goes, the day stays, and what belongs to it.
        expire(FIRST + DAY - 1).await;
        assert!(!parts(&catalog).await.contains(&"attempts_before".to_owned()));
        let whole = |first: i64, rows: i64| -> Vec<String> {
            (first..=6).map(|day| format!("{day}: {rows}")).collect()
        };
        assert_eq!(left().await, [whole(0, 8), whole(0, 4), whole(0, 4)]);
        expire(FIRST + DAY).await;
        assert_eq!(left().await, [whole(1, 8), whole(1, 4), whole(1, 4)]);
        expire(FIRST + 3 * DAY + DAY / 2).await;
        assert_eq!(left().await, [whole(3, 8), whole(3, 4), whole(3, 4)]);
        let found = [
            "attempts_2026_11_23",
            "attempts_2026_11_24",
            "attempts_2026_11_25",
            "attempts_default",
        ];
        assert_eq!(parts(&catalog).await, found);
        // The last of the days, and half of one that has none.
        expire(FIRST + 6 * DAY + DAY / 2).await;
        assert_eq!(left().await, [["6: 4"], ["6: 2"], ["6: 2"]]);
        assert_eq!(parts(&catalog).await, ["attempts_default"]);
        let (events, deliveries) = everything(&history, &acme).await;
        assert_eq!((events.len(), deliveries.len()), (2, 2));
        assert!(deliveries.iter().all(|(row, attempts)| {
            row.accepted_at.0 >= FIRST + 6 * DAY + DAY / 2 && attempts.len() == 2
        }));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_of_a_day_that_was_dropped_is_written_and_expires() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        history.make_days(START).await.unwrap();
        history.write(&story(&acme, "evt-1", FIRST)).await.unwrap();
        expire(&history, FIRST + DAY).await;
        assert_eq!(lie(&catalog).await, [""; 0]);
        let mut batch = story(&acme, "evt-1", FIRST);
        batch.extend(story(&acme, "evt-2", FIRST + DAY));
        history.write(&batch).await.unwrap();
        assert_eq!(
            lie(&catalog).await,
            ["attempts_2026_11_21: 2", "attempts_default: 2"]
        );
        expire(&history, FIRST + DAY).await;
        assert_eq!(lie(&catalog).await, ["attempts_2026_11_21: 2"]);
        assert_eq!(everything(&history, &acme).await.1.len(), 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_recorders_make_days_and_drop_them_at_once() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let mut recorders = Vec::new();
        for _ in 0..4 {
            recorders.push(History::new(&store.open().await));
        }
        let mut making = tokio::task::JoinSet::new();
        for recorder in recorders.clone() {
            making.spawn(async move { recorder.make_days(START).await.unwrap() });
        }
        assert_eq!(making.join_all().await.iter().sum::<u32>(), AHEAD);
        assert_eq!(parts(&catalog).await.len(), 2 + 6);
        recorders[0].write(&story(&acme, "evt-1", FIRST)).await.unwrap();
        recorders[1]
            .write(&story(&acme, "evt-2", FIRST + DAY))
            .await
            .unwrap();
        let mut dropping = tokio::task::JoinSet::new();
        for recorder in recorders {
            dropping.spawn(async move { expire(&recorder, FIRST + DAY).await });
        }
        dropping.join_all().await;
        assert_eq!(parts(&catalog).await.len(), 1 + 5);
        assert_eq!(lie(&catalog).await, ["attempts_2026_11_21: 2"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_whose_rows_came_before_it_is_left_to_the_default() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        let second = FIRST + DAY;
        history.write(&story(&acme, "evt-1", second)).await.unwrap();
        assert_eq!(history.make_days(START).await, Ok(AHEAD - 1));
        assert!(!parts(&catalog).await.contains(&"attempts_2026_11_21".to_owned()));
        history.write(&story(&acme, "evt-2", second + 1)).await.unwrap();
        assert_eq!(lie(&catalog).await, ["attempts_default: 4"]);
        // Days go on, and what is in none of them is removed row by row.
        assert_eq!(history.make_days(Millis(START.0 + DAY)).await, Ok(1));
        expire(&history, second + 1).await;
        assert_eq!(lie(&catalog).await, ["attempts_default: 2"]);
    })
    .await;
}

/// A clock that was a year ahead, and one that was a year behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn days_made_by_a_wrong_clock_do_no_harm() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        let year = 365 * DAY;
        assert_eq!(history.make_days(Millis(START.0 + year)).await, Ok(8));
        assert_eq!(history.make_days(Millis(START.0 - year)).await, Ok(0));
        assert_eq!(history.make_days(START).await, Ok(AHEAD));
        history.write(&story(&acme, "evt-1", FIRST)).await.unwrap();
        assert_eq!(lie(&catalog).await, ["attempts_2026_11_20: 2"]);
        expire(&history, FIRST + DAY).await;
        assert_eq!(
            history.make_days(Millis(START.0 - year)).await,
            Ok(8),
            "attempts_before is gone"
        );
        expire(&history, FIRST + DAY).await;
        assert_eq!(parts(&catalog).await.len(), 5 + 8 + 1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_a_long_reader_days_wait_for_another_time_and_nobody_for_them() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let history = History::new(&catalog);
        history.make_days(START).await.unwrap();
        history.write(&story(&acme, "evt-0", FIRST)).await.unwrap();
        let mut reader = catalog.pool().begin().await.unwrap();
        // As a backup does.
        sqlx::raw_sql("SELECT COUNT(*) FROM attempts")
            .execute(&mut *reader)
            .await
            .unwrap();

        let (writes, tenant) = (History::new(&store.open().await), acme.clone());
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writing = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for number in 1.. {
                let began = Instant::now();
                let records = story(&tenant, &format!("evt-{number}"), FIRST + 2 * DAY);
                writes.write(&records).await.unwrap();
                everything(&writes, &tenant).await;
                longest = longest.max(began.elapsed());
                if stopped.try_recv().is_ok() {
                    return (number, longest);
                }
            }
            unreachable!()
        });
        let later = Millis(START.0 + DAY);
        assert_eq!(
            history.make_days(later).await,
            Ok(0),
            "attempts_default is being read"
        );
        expire(&history, FIRST + DAY).await;
        stop.send(()).unwrap();
        let (written, longest) = writing.await.unwrap();
        assert!(written > 0);
        // The pool's own lock timeout, at which a write would have failed.
        assert!(longest < Duration::from_secs(5), "{longest:?}");
        assert_eq!(parts(&catalog).await.len(), 2 + 6);
        let (events, deliveries) = everything(&history, &acme).await;
        let all = usize::try_from(1 + written).unwrap();
        assert_eq!((events.len(), deliveries.len()), (all, all), "they wait too");
        assert!(deliveries.iter().all(|(_, attempts)| attempts.len() == 2));

        reader.rollback().await.unwrap();
        assert_eq!(history.make_days(later).await, Ok(1));
        expire(&history, FIRST + DAY).await;
        assert_eq!(
            lie(&catalog).await,
            [format!("attempts_2026_11_22: {}", 2 * written)]
        );
    })
    .await;
}

/// A role with the rights that docs/operations.md gives to all but `provision`.
pub async fn without_tables(store: &Store, catalog: &Catalog) -> (Store, String) {
    let role = format!("writer_{:x}", u64::from_be_bytes(random_bytes()));
    let schema = texts(catalog, "SELECT CAST(current_schema() AS TEXT)")
        .await
        .remove(0);
    let make = format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'writer'; GRANT USAGE ON SCHEMA {schema} TO {role}; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
    );
    sqlx::raw_sql(AssertSqlSafe(make))
        .execute(catalog.pool())
        .await
        .unwrap();
    let mut limited = store.clone();
    limited.url = store
        .url
        .replace("//hookwright:hookwright@", &format!("//{role}:writer@"));
    assert_ne!(limited.url, store.url);
    (limited, role)
}

pub async fn remove_role(catalog: &Catalog, role: &str) {
    let remove = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    sqlx::raw_sql(AssertSqlSafe(remove))
        .execute(catalog.pool())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_that_may_not_make_tables_writes_and_expires_row_by_row() {
    on_postgres(async |store: Store| {
        let (catalog, acme) = store.with_tenant().await;
        let (limited, role) = without_tables(&store, &catalog).await;
        let process = limited.open().await;
        let history = History::new(&process);
        assert_eq!(history.make_days(START).await, Ok(0));
        assert_eq!(parts(&catalog).await, ["attempts_before", "attempts_default"]);
        history.write(&story(&acme, "evt-1", FIRST)).await.unwrap();
        history.write(&story(&acme, "evt-2", FIRST + DAY)).await.unwrap();
        assert_eq!(lie(&catalog).await, ["attempts_default: 4"]);
        expire(&history, FIRST + 1).await;
        assert_eq!(lie(&catalog).await, ["attempts_default: 2"]);
        // Days that somebody else has made.
        assert_eq!(History::new(&catalog).make_days(START).await, Ok(AHEAD - 1));
        history
            .write(&story(&acme, "evt-3", FIRST + 2 * DAY))
            .await
            .unwrap();
        assert_eq!(
            lie(&catalog).await,
            ["attempts_2026_11_22: 2", "attempts_default: 2"]
        );
        expire(&history, FIRST + 3 * DAY).await;
        assert_eq!(everything(&history, &acme).await, (vec![], vec![]));
        process.pool().close().await;
        remove_role(&catalog, &role).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_has_no_days() {
    crate::store::on_sqlite(async |store: Store| {
        let history = History::new(&store.catalog().await);
        assert_eq!(history.make_days(START).await, Ok(0));
        let acme = tenant("acme");
        history.write(&story(&acme, "evt-1", FIRST)).await.unwrap();
        expire(&history, FIRST + 1).await;
        assert!(
            history
                .attempts(&acme, &delivery_of("evt-1", 7))
                .await
                .unwrap()
                .is_empty()
        );
    })
    .await;
}
