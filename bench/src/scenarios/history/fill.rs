//! A month of history, written in bulk.

use anyhow::Result;
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, PgConnection};

/// When it begins.
pub const BEGIN: Millis = Millis(1_795_046_400_000);
/// How long it lasts: 30 days, in milliseconds.
pub const SPAN: i64 = 30 * 86_400_000;
/// Deliveries of an event.
const DELIVERIES: u64 = 2;
/// Attempts at each of them.
const ATTEMPTS: u64 = 5;
/// Events written by one statement.
const STEP: u64 = 100_000;
/// What a tally looks like.
const TALLY: &str = r#"{"d":{"delivered":27,"exhausted":1},"a":{"2xx":27,"5xx":99,"timeout":9},"h":{"70":9,"71":13,"73":20,"77":31,"80":24,"83":17,"90":12,"101":9}}"#;

/// Ten tenants with ten targets each and 20 event types; of 100 deliveries 95 are delivered, and one event in 1,000
/// went to nobody.
pub async fn fill(on: &mut PgConnection, attempts: u64) -> Result<()> {
    let events = (attempts / ATTEMPTS / DELIVERIES).max(1);
    let (begin, every) = (BEGIN.0, (SPAN / i64::try_from(events)?).max(1));
    let mut first = 0;
    while first < events {
        let last = (first + STEP).min(events) - 1;
        let accepted_at = format!("{begin} + n * {every}");
        let deliveries = format!(
            "SELECT 'tenant-' || n % 10 AS tenant, {accepted_at} AS accepted_at, \
             'dlv_' || md5(n || '-' || w) AS id, 1 + n % 10 * 10 + (n / 10 * 7 + w * 3) % 10 AS target, \
             'evt_' || md5(n::text) AS event_id, 'core.orders.n' || n / 10 % 20 AS event_type, \
             CASE (n / 10 * 31 + w * 17) % 100 WHEN 1 THEN 'pending' WHEN 2 THEN 'retrying' WHEN 3 THEN 'exhausted' \
             WHEN 4 THEN 'exhausted' WHEN 5 THEN 'canceled' ELSE 'delivered' END AS status \
             FROM generate_series({first}::bigint, {last}) n, generate_series(1, {DELIVERIES}) w \
             WHERE n / 10 % 1000 <> 7"
        );
        let statements = [
            format!(
                "INSERT INTO events (tenant, accepted_at, id, event_type, payload_size, content_type, log_topic, \
                 log_partition, log_offset, unmatched) \
                 SELECT 'tenant-' || n % 10, {accepted_at}, 'evt_' || md5(n::text), 'core.orders.n' || n / 10 % 20, 1024, \
                 'application/json', 'webhook-events', 0, n, CASE WHEN n / 10 % 1000 = 7 THEN 'no_filter' END \
                 FROM generate_series({first}::bigint, {last}) n"
            ),
            format!(
                "INSERT INTO deliveries (tenant, accepted_at, id, target, event_id, event_type, status, progress, updated_at) \
                 SELECT tenant, accepted_at, id, target, event_id, event_type, status, {}, accepted_at FROM ({deliveries}) d",
                ATTEMPTS * 4 + 2
            ),
            format!(
                "INSERT INTO attempts (tenant, accepted_at, delivery_id, number, started_at, duration_ms, status_code) \
                 SELECT tenant, accepted_at, id, a, accepted_at + a * 1000, 80 + a, CASE WHEN a = {ATTEMPTS} \
                 THEN 204 ELSE 503 END FROM ({deliveries}) d, generate_series(1, {ATTEMPTS}) a"
            ),
        ];
        for statement in statements {
            sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut *on).await?;
        }
        first = last + 1;
    }
    for (span, count) in [(3_600_000, 30 * 24), (86_400_000, 30)] {
        let cells = format!(
            "INSERT INTO stats (tenant, target, event_type, span, at, tally) \
             SELECT 'tenant-' || t, CASE WHEN g = 0 THEN 0 ELSE t * 10 + g END, \
             CASE WHEN y = 0 THEN '' ELSE 'core.orders.n' || y - 1 END, {span}, {begin} + b * {span}::bigint, '{TALLY}' \
             FROM generate_series(0, {count} - 1) b, generate_series(0, 9) t, generate_series(0, 10) g, \
             generate_series(0, 20) y"
        );
        sqlx::raw_sql(AssertSqlSafe(cells)).execute(&mut *on).await?;
    }
    sqlx::raw_sql("VACUUM ANALYZE").execute(&mut *on).await?;
    Ok(())
}
