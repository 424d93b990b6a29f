//! What is too old, removed.

use super::History;
use super::tally::DAY;
use crate::catalog::CatalogError;
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Row};

/// Rows removed in one transaction at most: other writers wait no longer than that.
const STEP: u64 = 500;

/// The tables, and the last column of the index that has their rows by tenant and time. Attempts
/// go first: what a crash leaves behind is a delivery without them, not the other way round.
const TABLES: [(&str, &str); 3] = [
    ("attempts", "delivery_id"),
    ("deliveries", "id"),
    ("events", "id"),
];

impl History {
    /// Removes events, deliveries and attempts of events accepted before `before`, and what was counted of that time:
    /// about `limit` rows, the oldest of each tenant first, in steps that keep other writers waiting only shortly.
    /// Returns how many rows went; fewer than `limit` means that no more are due. Attempts in a partition of their day go
    /// with it, uncounted, when the whole day is due, and what belongs to them stays as long.
    ///
    /// # Errors
    /// `Unavailable`; the steps done so far stay done.
    pub async fn expire(&self, before: Millis, limit: u32) -> Result<u64, CatalogError> {
        let limit = u64::from(limit);
        let mut gone = 0;
        let rows_before = self.drop_days(before).await?;
        for (table, id) in TABLES {
            let mut tenant = String::new();
            while gone < limit {
                let Some(next) = self.next_tenant(table, &tenant).await? else {
                    break;
                };
                tenant = next;
                while gone < limit {
                    let step = STEP.min(limit - gone);
                    let removed = self.step(table, id, &tenant, rows_before, step).await?;
                    gone += removed;
                    if removed < step {
                        break;
                    }
                }
            }
        }
        while gone < limit {
            let step = STEP.min(limit - gone);
            let removed = self.expire_stats(before, step).await?;
            gone += removed;
            if removed < step {
                break;
            }
        }
        Ok(gone)
    }

    /// Removes the counts of hours and days that ended before `before`: an hour goes a day after it began.
    async fn expire_stats(&self, before: Millis, step: u64) -> Result<u64, CatalogError> {
        let last = before.0.saturating_sub(DAY);
        let first: Option<i64> = sqlx::query("SELECT MIN(at) FROM stats")
            .fetch_one(self.db.of_all())
            .await?
            .try_get(0)?;
        if first.is_none_or(|first| first > last) {
            return Ok(0);
        }
        let mut write = self.db.begin_of_all().await?;
        let removed = sqlx::query(
            "DELETE FROM stats WHERE (tenant, target, event_type, span, at) IN \
             (SELECT tenant, target, event_type, span, at FROM stats WHERE at <= $1 ORDER BY at LIMIT $2)",
        )
        .bind(last)
        .bind(i64::try_from(step).unwrap_or(i64::MAX))
        .execute(write.on())
        .await?
        .rows_affected();
        write.commit().await?;
        Ok(removed)
    }

    /// The tenant after `tenant` that has rows: one look into the index, since a list of tenants
    /// would miss those that were deleted.
    async fn next_tenant(&self, table: &str, tenant: &str) -> Result<Option<String>, CatalogError> {
        let sql = format!("SELECT MIN(tenant) FROM {table} WHERE tenant > $1");
        Ok(sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .fetch_one(self.db.of_all())
            .await?
            .try_get(0)?)
    }

    /// Removes a tenant's oldest rows, up to the `step`th that is due, or all that are.
    async fn step(
        &self,
        table: &str,
        id: &str,
        tenant: &str,
        before: Millis,
        step: u64,
    ) -> Result<u64, CatalogError> {
        let mut write = self.db.begin_of_all().await?;
        let last = sqlx::query(AssertSqlSafe(format!(
            "SELECT accepted_at, {id} FROM {table} WHERE tenant = $1 AND accepted_at < $2 \
             ORDER BY accepted_at, {id} LIMIT 1 OFFSET $3"
        )))
        .bind(tenant)
        .bind(before.0)
        .bind(i64::try_from(step.saturating_sub(1)).unwrap_or(i64::MAX))
        .fetch_optional(write.on())
        .await?;
        // The time by itself too: it says which partitions there is nothing in.
        let removal = match last {
            Some(last) => sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM {table} WHERE tenant = $1 AND accepted_at <= $2 AND (accepted_at, {id}) <= ($2, $3)"
            )))
            .bind(tenant)
            .bind(last.try_get::<i64, _>(0)?)
            .bind(last.try_get::<String, _>(1)?),
            None => sqlx::query(AssertSqlSafe(format!(
                "DELETE FROM {table} WHERE tenant = $1 AND accepted_at < $2"
            )))
            .bind(tenant)
            .bind(before.0),
        };
        let removed = removal.execute(write.on()).await?.rows_affected();
        write.rows(usize::try_from(removed).unwrap_or(usize::MAX));
        write.commit().await?;
        Ok(removed)
    }
}
