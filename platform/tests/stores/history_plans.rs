//! How the databases look up what the API asks of history: whatever it is narrowed by, along an index, in the order of
//! the list.

use crate::store::{Store, behind_the_wall, on_postgres, on_sqlite, tenant};
use platform::history::{Bucket, DeliveryQuery, EventQuery, GroupBy, History, StatsQuery};
use schemas::delivery::DeliveryStatus::{self, Canceled, Delivered, Exhausted, Pending, Retrying};
use schemas::ids::{EventId, TargetId};
use schemas::time::Millis;

/// 20,000 events of four tenants with two deliveries and an attempt each, to 50 targets, of 20 types; of 100 deliveries
/// 96 are delivered, and one in each of the other states; one event in 100 went to nobody. The same SQL for both.
const FILL: [&str; 5] = [
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 20000) \
     INSERT INTO events (tenant, accepted_at, id, event_type, payload_size, content_type, log_topic, log_partition, \
     log_offset, unmatched) \
     SELECT 'tenant-' || (n % 4), 1000000 + n, 'evt-' || n, 'orders.n' || (n / 4 % 20), 2, 'a', 't', 0, n, \
     CASE WHEN n % 100 = 50 THEN 'no_filter' END FROM n",
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 40000) \
     INSERT INTO deliveries (tenant, accepted_at, id, target, event_id, event_type, status, progress, updated_at) \
     SELECT 'tenant-' || (n / 2 % 4), 1000000 + n / 2, 'dlv_' || n, 1 + n * 7 % 50, 'evt-' || (n / 2), \
     'orders.n' || (n / 8 % 20), CASE n * 3 % 100 WHEN 3 THEN 'pending' WHEN 8 THEN 'retrying' WHEN 21 THEN 'exhausted' \
     WHEN 42 THEN 'canceled' ELSE 'delivered' END, 4, 0 FROM n",
    "INSERT INTO attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms) \
     SELECT tenant, accepted_at, id, 1, accepted_at, 5 FROM deliveries",
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 40000) \
     INSERT INTO stats (tenant, target, event_type, span, at, tally) \
     SELECT 'tenant-' || (n % 4), n / 4 % 10, CASE n / 40 % 10 WHEN 0 THEN '' ELSE 'orders.n' || (n / 40 % 10) END, \
     3600000, 3600000 * (n / 400), '{}' FROM n",
    "ANALYZE events; ANALYZE deliveries; ANALYZE attempts; ANALYZE stats",
];

/// Partitions of attempts with rows in each of them.
const PARTS: &str = "DROP TABLE attempts_before; \
    CREATE TABLE attempts_a PARTITION OF attempts FOR VALUES FROM (MINVALUE) TO (1004000); \
    CREATE TABLE attempts_b PARTITION OF attempts FOR VALUES FROM (1004000) TO (1008000); \
    CREATE TABLE attempts_c PARTITION OF attempts FOR VALUES FROM (1008000) TO (1012000); \
    CREATE TABLE attempts_d PARTITION OF attempts FOR VALUES FROM (1012000) TO (1016000)";

const RANGE: (Option<Millis>, Option<Millis>) = (Some(Millis(1_005_000)), Some(Millis(1_015_000)));

/// Every combination of what deliveries may be narrowed by.
fn deliveries() -> Vec<DeliveryQuery> {
    let after = (Millis(1_014_000), "dlv_28000".to_owned());
    let statuses: [Option<DeliveryStatus>; 6] = [
        None,
        Some(Pending),
        Some(Retrying),
        Some(Delivered),
        Some(Exhausted),
        Some(Canceled),
    ];
    let mut queries = Vec::new();
    for status in statuses {
        for bits in 0..32_u32 {
            let has = |bit: u32| bits & (1 << bit) != 0;
            let (from, to) = if has(3) { RANGE } else { (None, None) };
            queries.push(DeliveryQuery {
                target: has(0).then_some(TargetId(8)),
                event: has(1).then(|| EventId::new("evt-14002").unwrap()),
                status,
                event_type: has(2).then(|| "orders.n7".to_owned()),
                from,
                to,
                limit: 51,
                after: has(4).then(|| after.clone()),
            });
        }
    }
    queries
}

fn events() -> Vec<EventQuery> {
    let after = (Millis(1_014_000), "evt-14000".to_owned());
    let all = (0..16_u32).map(|bits| {
        let has = |bit: u32| bits & (1 << bit) != 0;
        let (from, to) = if has(2) { RANGE } else { (None, None) };
        EventQuery {
            event_type: has(0).then(|| "orders.n7".to_owned()),
            unmatched: has(1),
            from,
            to,
            limit: 51,
            after: has(3).then(|| after.clone()),
        }
    });
    all.collect()
}

fn stats() -> Vec<StatsQuery> {
    let mut queries = Vec::new();
    for bucket in [Bucket::Hour, Bucket::Day] {
        for group_by in [None, Some(GroupBy::Target), Some(GroupBy::EventType)] {
            for bits in 0..4_u32 {
                queries.push(StatsQuery {
                    bucket,
                    from: Millis(0),
                    to: Millis(3_600_000 * 24),
                    target: (bits & 1 != 0).then_some(TargetId(3)),
                    event_type: (bits & 2 != 0).then(|| "orders.n7".to_owned()),
                    group_by,
                    limit: 10_001,
                });
            }
        }
    }
    queries
}

/// Every question's plan, with what it was.
async fn plans(history: &History) -> Vec<(String, Vec<String>)> {
    let tenant = tenant("tenant-2");
    let mut plans = Vec::new();
    for query in deliveries() {
        let plan = history.explain_deliveries(&tenant, &query).await.unwrap();
        plans.push((format!("{query:?}"), plan));
    }
    for query in events() {
        let plan = history.explain_events(&tenant, &query).await.unwrap();
        plans.push((format!("{query:?}"), plan));
    }
    for query in stats() {
        let plan = history.explain_stats(&tenant, &query).await.unwrap();
        plans.push((format!("{query:?}"), plan));
    }
    assert_eq!(plans.len(), 192 + 16 + 24);
    plans
}

/// The index that a list narrowed by one thing is read along.
async fn leading_indexes(history: &History) -> Vec<(&'static str, Vec<String>)> {
    let tenant = tenant("tenant-2");
    let of = async |query: DeliveryQuery| {
        let query = DeliveryQuery { limit: 51, ..query };
        history.explain_deliveries(&tenant, &query).await.unwrap()
    };
    let by_target = DeliveryQuery {
        target: Some(TargetId(8)),
        ..DeliveryQuery::default()
    };
    let by_type = DeliveryQuery {
        event_type: Some("orders.n7".to_owned()),
        ..DeliveryQuery::default()
    };
    let mut found = vec![
        ("deliveries_by_target", of(by_target.clone()).await),
        ("deliveries_by_type", of(by_type).await),
    ];
    for status in [Pending, Retrying, Exhausted, Canceled] {
        let by_status = DeliveryQuery {
            status: Some(status),
            ..DeliveryQuery::default()
        };
        found.push(("deliveries_by_status", of(by_status).await));
        let both = DeliveryQuery {
            status: Some(status),
            ..by_target.clone()
        };
        found.push(("deliveries_by_target_status", of(both).await));
    }
    let of = async |query: EventQuery| {
        let query = EventQuery { limit: 51, ..query };
        history.explain_events(&tenant, &query).await.unwrap()
    };
    let by_type = EventQuery {
        event_type: Some("orders.n7".to_owned()),
        ..EventQuery::default()
    };
    let unmatched = EventQuery {
        unmatched: true,
        ..EventQuery::default()
    };
    found.push(("events_by_type", of(by_type).await));
    found.push(("events_unmatched", of(unmatched).await));
    let events: Vec<EventId> = (0..64)
        .map(|n| EventId::new(&format!("evt-{n}")).unwrap())
        .collect();
    let standing = history.explain_standing(&tenant, TargetId(8), &events).await;
    found.push(("deliveries_by_id", standing.unwrap()));
    found
}

async fn check(history: &History, scan: &str, sort: Option<&str>) {
    let mut failed = Vec::new();
    for (query, plan) in plans(history).await {
        // An event's few deliveries may be sorted.
        let sort = sort.filter(|_| !query.contains("event: Some"));
        let bad = |step: &String| step.contains(scan) || sort.is_some_and(|sort| step.contains(sort));
        if plan.iter().any(bad) {
            failed.push((query, plan));
        }
    }
    for (index, plan) in leading_indexes(history).await {
        if !plan.iter().any(|step| step.contains(&format!("{index} "))) {
            failed.push((index.to_owned(), plan));
        }
    }
    assert!(failed.is_empty(), "{} questions: {failed:#?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_reads_history_along_indexes_in_the_order_of_the_list() {
    on_sqlite(async |store: Store| {
        let catalog = store.catalog().await;
        let history = History::new(&catalog);
        for statement in FILL {
            // Nobody analyses a database at a small user's.
            if statement.starts_with("ANALYZE") {
                check(&history, "SCAN", Some("USE TEMP B-TREE")).await;
            }
            sqlx::raw_sql(statement).execute(catalog.pool()).await.unwrap();
        }
        // Of analysed ones SQLite knows where there are few rows, and may sort those.
        check(&history, "SCAN", None).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_history_along_indexes() {
    on_postgres(reads_along_indexes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_behind_the_wall_reads_history_along_indexes() {
    behind_the_wall(reads_along_indexes).await;
}

async fn reads_along_indexes(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    // Four partitions of 4 s, and the last 4 s in the default one.
    for statement in [PARTS].iter().chain(&FILL) {
        sqlx::raw_sql(*statement).execute(catalog.pool()).await.unwrap();
    }
    // It may find few rows by one index and sort them.
    check(&history, "Seq Scan", None).await;
}
