//! A catalog of any size, written in bulk: the same SQL for both databases.

use anyhow::Result;
use schemas::event::{Event, Position};
use schemas::ids::{EventId, Tenant};
use schemas::time::Millis;
use sqlx::{AnyPool, AssertSqlSafe};

/// Subscriptions of a tenant, each to a target of its own.
pub const PER_TENANT: u64 = 100;
/// Filters of a tenant: each is subscribed to by every so many-th target, and has two patterns.
const FILTERS: u64 = 20;
/// Types of events of a tenant that match something.
pub const TYPES: u64 = FILTERS * 2;
/// Targets that each of them matches.
pub const MATCHED: usize = (PER_TENANT / FILTERS) as usize;

/// Fills an empty catalog with so many tenants.
pub async fn fill(pool: &AnyPool, tenants: u64) -> Result<()> {
    let series = |name: &str, count: u64| {
        format!("{name}(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM {name} WHERE n + 1 < {count})")
    };
    let (tenant, each) = (series("t", tenants), series("s", PER_TENANT));
    let filter = series("f", FILTERS);
    let statements = [
        format!("WITH RECURSIVE {tenant} INSERT INTO tenants SELECT 'tenant-' || n, 0 FROM t"),
        format!(
            "WITH RECURSIVE {tenant}, {each} INSERT INTO targets \
             (id, tenant, url, headers, state, created_at, updated_at) \
             SELECT t.n * {PER_TENANT} + s.n + 1, 'tenant-' || t.n, 'https://a.example/', '[]', 'active', 0, 0 FROM t, s"
        ),
        format!(
            "WITH RECURSIVE {tenant}, {filter} INSERT INTO filters (id, tenant, name, events, created_at, updated_at) \
             SELECT t.n * {FILTERS} + f.n + 1, 'tenant-' || t.n, 'filter', '[]', 0, 0 FROM t, f"
        ),
        format!(
            "INSERT INTO filter_events \
             SELECT tenant, 'area-' || ((id - 1) % {FILTERS}) || '.items.*', id FROM filters \
             UNION ALL SELECT tenant, 'area-' || ((id - 1) % {FILTERS}) || '.created', id FROM filters"
        ),
        format!(
            "INSERT INTO subscriptions (id, tenant, target, filter, active, created_at, updated_at) \
             SELECT id, tenant, id, (id - 1) / {PER_TENANT} * {FILTERS} + (id - 1) % {FILTERS} + 1, 1, 0, 0 FROM targets"
        ),
        "ANALYZE".to_owned(),
    ];
    let mut connection = pool.acquire().await?;
    // Postgres's limits are those of a request.
    if connection.backend_name() == "PostgreSQL" {
        sqlx::raw_sql("SET statement_timeout = 0")
            .execute(&mut *connection)
            .await?;
    }
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement))
            .execute(&mut *connection)
            .await?;
    }
    // Not for others to use without limits.
    connection.close().await?;
    Ok(())
}

/// The event by which the `n`-th of all matches is asked for.
pub fn event(n: u64, tenants: u64) -> Result<Event> {
    let (tenant, kind) = (n % tenants, n / tenants % TYPES);
    let end = if kind < FILTERS { "created" } else { "items.added" };
    Ok(Event {
        id: EventId::new("evt")?,
        original_id: None,
        tenant: Tenant::new(&format!("tenant-{tenant}"))?,
        event_type: format!("area-{}.{end}", kind % FILTERS).into(),
        payload: bytes::Bytes::new(),
        content_type: "application/json".into(),
        occurred_at: None,
        accepted_at: Millis(0),
        traceparent: None,
        position: Position {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
    })
}
