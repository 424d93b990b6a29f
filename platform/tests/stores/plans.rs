//! How the databases look up what the delivery path asks.

use crate::store::{Store, behind_the_wall, on_postgres, on_sqlite, tenant};
use schemas::ids::TargetId;

/// 20,000 subscriptions of 200 tenants: enough that no database would rather read whole tables, unless it
/// had to. The same SQL for both.
const FILL: [&str; 6] = [
    "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 200) \
     INSERT INTO tenants SELECT 'tenant-' || n, 0 FROM n",
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 20000) \
     INSERT INTO targets (id, tenant, url, headers, state, created_at, updated_at) \
     SELECT n + 1, 'tenant-' || (n / 100 + 1), 'https://a.example/', '[]', 'active', 0, 0 FROM n",
    "INSERT INTO filters (id, tenant, name, events, created_at, updated_at) \
     SELECT id, tenant, 'filter', '[]', 0, 0 FROM targets",
    "INSERT INTO filter_events SELECT tenant, 'orders.n' || (id % 100) || '.*', id FROM filters",
    "INSERT INTO subscriptions (id, tenant, target, filter, active, created_at, updated_at) \
     SELECT id, tenant, id, id, 1, 0, 0 FROM targets",
    "ANALYZE tenants; ANALYZE targets; ANALYZE filters; ANALYZE filter_events; ANALYZE subscriptions",
];

/// The plan of a match in a catalog of that size.
async fn plan(store: &Store) -> Vec<String> {
    let catalog = store.catalog().await;
    for statement in FILL {
        sqlx::raw_sql(statement).execute(catalog.pool()).await.unwrap();
    }
    let (tenant, event_type) = (tenant("tenant-7"), "orders.n42.created");
    let matched = catalog.match_targets(&tenant, event_type).await;
    assert_eq!(matched, Ok(vec![TargetId(642)]));
    catalog.explain_match(&tenant, event_type).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_matches_by_indexes_alone() {
    on_sqlite(async |store: Store| {
        let plan = plan(&store).await;
        assert!(!plan.iter().any(|step| step.contains("SCAN")), "{plan:#?}");
        for found in ["SEARCH e ", "SEARCH s ", "SEARCH t "] {
            let step = plan.iter().find(|step| step.contains(found)).unwrap();
            assert!(
                step.contains("USING PRIMARY KEY (tenant=? AND pattern=?)")
                    || step.contains("subscriptions_by_filter (filter=? AND active=?)")
                    || step.contains("USING INTEGER PRIMARY KEY (rowid=?)"),
                "{step}"
            );
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_matches_by_indexes_alone() {
    on_postgres(matches_by_indexes_alone).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_behind_the_wall_matches_by_indexes_alone() {
    behind_the_wall(matches_by_indexes_alone).await;
}

async fn matches_by_indexes_alone(store: Store) {
    let plan = plan(&store).await;
    assert!(!plan.iter().any(|step| step.contains("Seq Scan")), "{plan:#?}");
    for index in ["filter_events_pkey", "subscriptions_by_filter", "targets_pkey"] {
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
    }
    assert!(
        plan.iter().any(|step| step.contains("tenant = 'tenant-7'")),
        "{plan:#?}"
    );
}
