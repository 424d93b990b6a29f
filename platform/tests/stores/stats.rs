//! What is counted is what history has, row for row, however its records came.

use crate::history::{IntoRecord, attempt, event};
use crate::history_order::shuffled;
use crate::store::{START, Store, over_both, tenant};
use platform::catalog::Catalog;
use platform::history::{Bucket, GroupBy, History, StatsQuery, StatsRow, Tally};
use schemas::delivery::DeliveryStatus::{Canceled, Delivered, Exhausted, Retrying};
use schemas::history::HistoryRecord;
use schemas::ids::{TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;
use std::collections::BTreeMap;
use std::time::Duration;

over_both!(
    counts_are_what_a_walk_over_history_finds_however_often_and_in_whatever_order_records_come,
    two_writers_count_each_thing_once,
    event_types_beyond_the_bound_are_counted_together_and_nothing_is_lost,
    what_an_earlier_release_wrote_takes_nothing_away,
    counts_go_with_the_history_they_count,
);

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

fn all(bucket: Bucket, group_by: Option<GroupBy>) -> StatsQuery {
    StatsQuery {
        bucket,
        from: Millis(0),
        to: Millis(i64::MAX),
        target: None,
        event_type: None,
        group_by,
        limit: 1_000_000,
    }
}

/// 60 events over 20 hours, of three types, to two of four targets each: delivered at once, late, given up and sent
/// again, canceled without an attempt, and attempts that a crash had made twice, with another end.
fn records(tenant: &Tenant) -> Vec<HistoryRecord> {
    let mut records = Vec::new();
    for n in 0..60_i64 {
        let id = format!("evt-{n}");
        let base = 1000 * tenant.as_str().len() as i64;
        let targets = [base + n % 4, base + (n + 1) % 4];
        let mut accepted = event(tenant, &id, &targets);
        accepted.accepted_at = Millis(START.0 + n * HOUR / 3);
        accepted.event_type = ["orders.created", "orders.paid", "users.created"][n as usize % 3].into();
        records.push(HistoryRecord::Event(accepted.clone()));
        for (which, target) in targets.into_iter().enumerate() {
            let ends: &[_] = match (n as usize + which) % 6 {
                0 => &[],
                1 => &[Delivered],
                2 => &[Retrying, Retrying, Delivered],
                3 => &[Retrying, Exhausted, Delivered],
                4 => &[Retrying, Canceled],
                _ => &[Retrying, Retrying],
            };
            for (number, status) in ends.iter().enumerate() {
                let mut tried = attempt(tenant, &id, target, number as u32 + 1, *status);
                tried.accepted_at = accepted.accepted_at;
                tried.event_type = accepted.event_type.clone();
                let made = tried.attempt.as_mut().unwrap();
                made.started_at = Millis(accepted.accepted_at.0 + number as i64 * HOUR * 2 / 3);
                made.duration_ms = (n as u32 * 37 + number as u32 * 901) % 4_000;
                if *status == Retrying && n % 5 == 0 {
                    (made.status_code, made.error) = (None, Some("timeout".to_owned()));
                }
                let mut again = tried.clone();
                if *status == Canceled {
                    tried.attempt = None;
                }
                records.push(tried.into_record());
                if n % 7 == 0 {
                    let made = again.attempt.as_mut().unwrap();
                    made.started_at = Millis(made.started_at.0 + HOUR / 2);
                    made.duration_ms += 10_000;
                    made.status_code = Some(500);
                    records.push(again.into_record());
                }
            }
        }
    }
    records
}

type Key = (i64, Option<i64>, Option<String>);

/// Counts history's rows themselves, in the way that is asked for.
async fn walked(catalog: &Catalog, tenant: &Tenant, query: &StatsQuery) -> BTreeMap<Key, Tally> {
    let span = match query.bucket {
        Bucket::Hour => HOUR,
        Bucket::Day => DAY,
    };
    let key = |row: &sqlx::any::AnyRow| {
        let (target, event_type, at): (i64, String, i64) = (row.get(0), row.get(1), row.get(2));
        let fits = query.target.is_none_or(|asked| asked.0 == target)
            && query.event_type.as_ref().is_none_or(|asked| *asked == event_type);
        let by_target = query.group_by == Some(GroupBy::Target) || query.target.is_some();
        let by_type = query.group_by == Some(GroupBy::EventType) || query.event_type.is_some();
        fits.then(|| {
            (
                at - at % span,
                by_target.then_some(target),
                by_type.then_some(event_type),
            )
        })
    };
    let mut counted: BTreeMap<Key, Tally> = BTreeMap::new();
    let deliveries = "SELECT target, event_type, accepted_at, status FROM deliveries WHERE tenant = $1";
    for row in sqlx::query(deliveries)
        .bind(tenant.as_str())
        .fetch_all(catalog.pool())
        .await
        .unwrap()
    {
        if let Some(key) = key(&row) {
            let tally = counted.entry(key).or_default();
            *tally.deliveries.entry(row.get(3)).or_default() += 1;
        }
    }
    let attempts = "SELECT d.target, d.event_type, a.started_at, a.status_code, a.error, a.duration_ms \
        FROM attempts a JOIN deliveries d ON d.id = a.delivery_id WHERE a.tenant = $1";
    for row in sqlx::query(attempts)
        .bind(tenant.as_str())
        .fetch_all(catalog.pool())
        .await
        .unwrap()
    {
        if let Some(key) = key(&row) {
            let tally = counted.entry(key).or_default();
            let word = match row.get::<Option<i64>, _>(3) {
                Some(status) => format!("{}xx", status / 100),
                None => row.get(4),
            };
            *tally.attempts.entry(word).or_default() += 1;
            let took: i64 = row.get(5);
            tally.durations.count(u32::try_from(took).unwrap(), 1);
        }
    }
    counted
}

fn keyed(rows: Vec<StatsRow>) -> BTreeMap<Key, Tally> {
    let rows = rows.into_iter().map(|row| {
        let key = (row.at.0, row.target.map(|target| target.0), row.event_type);
        (key, row.tally)
    });
    rows.filter(|(_, tally)| *tally != Tally::default()).collect()
}

/// Holds every kind of question against a walk.
async fn reconcile(catalog: &Catalog, history: &History, tenant: &Tenant) {
    let mut asked = 0;
    for bucket in [Bucket::Hour, Bucket::Day] {
        for group_by in [None, Some(GroupBy::Target), Some(GroupBy::EventType)] {
            for target in [None, Some(TargetId(1000 * tenant.as_str().len() as i64 + 2))] {
                for event_type in [None, Some("orders.paid".to_owned())] {
                    for (from, to) in [(0, i64::MAX), (START.0 - START.0 % DAY, START.0 + 5 * HOUR)] {
                        let query = StatsQuery {
                            from: Millis(from),
                            to: Millis(to),
                            target,
                            event_type: event_type.clone(),
                            ..all(bucket, group_by)
                        };
                        let mut expected = walked(catalog, tenant, &query).await;
                        expected.retain(|(at, ..), _| (from..to).contains(at));
                        assert!(!expected.is_empty(), "{query:?}");
                        let rows = history.stats(tenant, &query).await.unwrap();
                        assert!(rows.is_sorted_by_key(|row| row.at), "{query:?}");
                        assert_eq!(keyed(rows), expected, "{query:?}");
                        asked += 1;
                    }
                }
            }
        }
    }
    assert_eq!(asked, 48);
}

async fn counts_are_what_a_walk_over_history_finds_however_often_and_in_whatever_order_records_come(
    store: Store,
) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    let tenants = [tenant("acme"), tenant("globex")];
    let mut before: Option<Vec<StatsRow>> = None;
    for (round, batch) in [(0, 1000), (1, 7), (2, 64)] {
        for table in ["events", "deliveries", "attempts", "stats"] {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(sql).execute(catalog.pool()).await.unwrap();
        }
        let once = tenants.iter().flat_map(records).collect::<Vec<_>>();
        let thrice = [once.clone(), once.clone(), once].concat();
        for part in shuffled(thrice, round).chunks(batch) {
            history.write(part).await.unwrap();
        }
        for tenant in &tenants {
            reconcile(&catalog, &history, tenant).await;
        }
        let rows = history
            .stats(&tenants[0], &all(Bucket::Hour, Some(GroupBy::Target)))
            .await
            .unwrap();
        assert_eq!(
            before.get_or_insert(rows.clone()),
            &rows,
            "the order makes no difference"
        );
    }
}

async fn two_writers_count_each_thing_once(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let records = records(&acme);
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
            for length in [11, records.len(), 40] {
                for part in records.chunks(length) {
                    history.write(part).await.unwrap();
                }
            }
        });
    }
    writers.join_all().await;
    reconcile(&catalog, &history, &acme).await;
}

async fn event_types_beyond_the_bound_are_counted_together_and_nothing_is_lost(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let mut waiting = Vec::new();
    let mut tried = Vec::new();
    for n in 0..250 {
        let id = format!("evt-{n}");
        let mut accepted = event(&acme, &id, &[7]);
        accepted.event_type = format!("orders.n{n}").into();
        let mut attempt = attempt(&acme, &id, 7, 1, Delivered);
        attempt.event_type = accepted.event_type.clone();
        waiting.push(HistoryRecord::Event(accepted));
        tried.push(attempt.into_record());
    }
    let other = History::new(&store.open().await);
    let half = waiting.split_at(130);
    let (one, two) = tokio::join!(history.write(half.0), other.write(half.1));
    one.and(two).unwrap();
    for part in shuffled(tried, 1).chunks(40) {
        history.write(part).await.unwrap();
    }
    let query = all(Bucket::Day, Some(GroupBy::EventType));
    for target in [None, Some(TargetId(7))] {
        let query = StatsQuery {
            target,
            ..query.clone()
        };
        let rows = history.stats(&acme, &query).await.unwrap();
        assert_eq!(rows.len(), 101);
        for row in &rows {
            let others = row.event_type.as_deref() == Some(StatsRow::OTHER_TYPES);
            let times = if others { 150 } else { 1 };
            assert_eq!(
                row.tally.deliveries,
                BTreeMap::from([("delivered".to_owned(), times)])
            );
            assert_eq!(row.tally.attempts, BTreeMap::from([("2xx".to_owned(), times)]));
        }
    }
    let rows = history.stats(&acme, &all(Bucket::Day, None)).await.unwrap();
    assert_eq!(rows[0].tally.deliveries["delivered"], 250);
}

async fn what_an_earlier_release_wrote_takes_nothing_away(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let write = async |record: HistoryRecord| history.write(&[record]).await.unwrap();
    write(HistoryRecord::Event(event(&acme, "evt-1", &[7]))).await;
    write(attempt(&acme, "evt-1", 7, 1, Retrying).into_record()).await;
    // An earlier release counts nothing.
    sqlx::query("DELETE FROM stats")
        .execute(catalog.pool())
        .await
        .unwrap();
    let mut again = attempt(&acme, "evt-1", 7, 1, Delivered);
    let made = again.attempt.as_mut().unwrap();
    (made.started_at, made.duration_ms) = (Millis(START.0 + 60_000), 700);
    write(again.into_record()).await;
    let rows = history.stats(&acme, &all(Bucket::Hour, None)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(
        rows[0].tally.deliveries,
        BTreeMap::from([("delivered".to_owned(), 1)])
    );
    assert_eq!(rows[0].tally.attempts, BTreeMap::from([("2xx".to_owned(), 1)]));
    assert_eq!(rows[0].tally.durations.total(), 1);
}

async fn counts_go_with_the_history_they_count(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    history.write(&records(&acme)).await.unwrap();
    let begin = Millis(START.0 - START.0 % DAY);
    let left = async || {
        let hours = history.stats(&acme, &all(Bucket::Hour, None)).await.unwrap();
        let days = history.stats(&acme, &all(Bucket::Day, None)).await.unwrap();
        (hours.len(), days.len())
    };
    let (hours, days) = left().await;
    assert!(hours > 10 && days >= 1, "{hours} hours, {days} days");
    // As soon as there is a day whose rows are all too old, and not before.
    let day = Duration::from_secs(24 * 3600);
    let end = begin.plus(day);
    history.expire(Millis(end.0 - 1), 100_000).await.unwrap();
    assert_eq!(left().await, (hours, days));
    history.expire(end, 3).await.unwrap();
    while history.expire(end, 10_000).await.unwrap() > 0 {}
    assert_eq!(left().await.1, days - 1);
    history.expire(end.plus(day * 3), 1_000_000).await.unwrap();
    assert_eq!(left().await, (0, 0));
}
