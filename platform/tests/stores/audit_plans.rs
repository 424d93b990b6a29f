//! How the databases look up what the API asks of the audit log: whatever it is narrowed by, along an index.

use crate::store::{Store, on_postgres, on_sqlite, tenant};
use platform::catalog::{AuditQuery, Catalog, Page};
use schemas::ids::Tenant;
use schemas::time::Millis;

/// 40,000 entries of four tenants about 10,000 things; of 100 entries one is about a tenant. The same SQL for both.
const FILL: [&str; 3] = [
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 4) \
     INSERT INTO tenants SELECT 'tenant-' || n, 0 FROM n",
    "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < 40000) \
     INSERT INTO audit (tenant, at, actor, action, kind, thing) \
     SELECT 'tenant-' || (n % 4), 1000000 + n, 'admin', 'update', \
     CASE WHEN n % 100 = 50 THEN 'tenant' WHEN n % 2 = 0 THEN 'target' ELSE 'filter' END, 'thing-' || (n % 10000) FROM n",
    "ANALYZE tenants; ANALYZE audit",
];

/// Every combination of what the audit log may be narrowed by.
fn queries() -> Vec<AuditQuery> {
    let all = (0..32_u32).map(|bits| {
        let has = |bit: u32| bits & (1 << bit) != 0;
        AuditQuery {
            kind: has(0).then(|| "tenant".to_owned()),
            thing: has(1).then(|| "thing-50".to_owned()),
            from: has(2).then_some(Millis(1_010_000)),
            to: has(3).then_some(Millis(1_020_000)),
            page: Page {
                limit: 51,
                before: has(4).then_some(30_000),
            },
        }
    });
    all.collect()
}

/// The index that leads to a tenant's entries, by what they are narrowed by.
fn index(query: &AuditQuery) -> &'static str {
    match (&query.kind, &query.thing) {
        (None, None) => "audit_by_tenant",
        (Some(_), None) => "audit_of_kind",
        (None, Some(_)) => "audit_of_thing",
        (Some(_), Some(_)) => "audit_by_thing",
    }
}

/// Every question's plan, with what it was: of a tenant, of an administrator about a tenant, and about all.
async fn plans(catalog: &Catalog, tenant: &Tenant) -> Vec<(AuditQuery, Option<Tenant>, Vec<String>)> {
    let mut plans = Vec::new();
    for query in queries() {
        let of_tenant = catalog.explain_audit(tenant, &query).await.unwrap();
        plans.push((query.clone(), Some(tenant.clone()), of_tenant));
        for about in [None, Some(tenant)] {
            let plan = catalog.explain_audit_of_all(about, &query).await.unwrap();
            plans.push((query.clone(), about.cloned(), plan));
        }
    }
    assert_eq!(plans.len(), 96);
    plans
}

/// Checks that no plan has a bad step and, where `leads`, that each is read along the index that finds the least.
async fn check(catalog: &Catalog, bad: &[&str], leads: bool) {
    let mut failed = Vec::new();
    for (query, about, plan) in plans(catalog, &tenant("tenant-2")).await {
        // The few entries of a thing may be sorted, and of all tenants those of a time.
        let of_a_time = about.is_none() && query.from.is_some() && query.to.is_some();
        let may_sort = query.thing.is_some() || of_a_time;
        let sorted = |step: &str| step.contains("TEMP B-TREE") && may_sort;
        let is_bad = |step: &String| bad.iter().any(|bad| step.contains(bad)) && !sorted(step);
        let misled = leads && about.is_some() && !plan.iter().any(|step| step.contains(index(&query)));
        if plan.iter().any(is_bad) || misled {
            failed.push((query, about, plan));
        }
    }
    assert!(failed.is_empty(), "{} questions: {failed:#?}", failed.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_reads_the_audit_log_along_indexes_in_the_order_of_the_list() {
    on_sqlite(async |store: Store| {
        let catalog = store.catalog().await;
        for statement in FILL {
            // Nobody analyses a database at a small user's.
            if statement.starts_with("ANALYZE") {
                check(&catalog, &["SCAN audit", "USE TEMP B-TREE"], true).await;
            }
            sqlx::raw_sql(statement).execute(catalog.pool()).await.unwrap();
        }
        // Of analysed ones SQLite knows where there are few rows, and may sort those.
        check(&catalog, &["SCAN audit"], false).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_reads_the_audit_log_along_indexes() {
    on_postgres(async |store: Store| {
        let catalog = store.catalog().await;
        for statement in FILL {
            sqlx::raw_sql(statement).execute(catalog.pool()).await.unwrap();
        }
        // It may find few rows by one index and sort them.
        check(&catalog, &["Seq Scan on audit"], false).await;
    })
    .await;
}
