//! What is too old, removed.

use super::History;
use crate::catalog::CatalogError;
use crate::catalog::db::{Sql, Write};
use schemas::time::Millis;
use sqlx::{AssertSqlSafe, Row};

/// Rows removed in one transaction at most: other writers wait no longer than that.
const STEP: u32 = 500;

/// The tables whose rows have an age, and how to find the attempts of deliveries.
#[derive(Clone, Copy)]
enum Table {
    Deliveries,
    Events,
}

impl Table {
    fn name(self) -> &'static str {
        match self {
            Self::Deliveries => "deliveries",
            Self::Events => "events",
        }
    }
}

impl History {
    /// Removes events and deliveries accepted before `before`, with their attempts: at most
    /// `limit`, the oldest of each tenant first, in steps that keep other writers waiting only
    /// shortly. Returns how many events and deliveries went; fewer than `limit` means that no more
    /// are due.
    ///
    /// # Errors
    /// `Unavailable`; the steps done so far stay done.
    pub async fn expire(&self, before: Millis, limit: u32) -> Result<u64, CatalogError> {
        let mut gone = 0;
        for table in [Table::Deliveries, Table::Events] {
            let mut tenant = String::new();
            while let Some(next) = self.next_tenant(table, &tenant).await? {
                tenant = next;
                while gone < u64::from(limit) {
                    let step = u64::from(STEP).min(u64::from(limit) - gone);
                    let removed = self.step(table, &tenant, before, step).await?;
                    gone += removed;
                    if removed < step {
                        break;
                    }
                }
            }
        }
        Ok(gone)
    }

    /// The tenant after `tenant` that has rows: one look into the index, since a list of tenants
    /// would miss those that were deleted.
    async fn next_tenant(&self, table: Table, tenant: &str) -> Result<Option<String>, CatalogError> {
        let sql = format!("SELECT MIN(tenant) FROM {} WHERE tenant > $1", table.name());
        Ok(sqlx::query(AssertSqlSafe(sql))
            .bind(tenant)
            .fetch_one(&self.db.pool)
            .await?
            .try_get(0)?)
    }

    async fn step(&self, table: Table, tenant: &str, before: Millis, step: u64) -> Result<u64, CatalogError> {
        let mut write = self.db.begin().await?;
        let mut due = Sql::new(format!("SELECT id FROM {} WHERE tenant = ", table.name()));
        due.bind(tenant).push(" AND accepted_at < ").bind(before.0);
        due.push(" ORDER BY accepted_at, id LIMIT ")
            .bind(i64::try_from(step).unwrap_or(i64::MAX));
        let rows = due.query().fetch_all(write.on()).await?;
        let ids = rows
            .iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<String>, _>>()?;
        if ids.is_empty() {
            return Ok(0);
        }
        match table {
            Table::Deliveries => {
                remove(&mut write, "DELETE FROM attempts WHERE delivery_id IN (", &ids).await?;
                remove(&mut write, "DELETE FROM deliveries WHERE id IN (", &ids).await?;
            }
            Table::Events => {
                let mut sql = Sql::new("DELETE FROM events WHERE tenant = ");
                sql.bind(tenant).push(" AND id IN (");
                in_list(sql, &ids).query().execute(write.on()).await?;
            }
        }
        write.commit().await?;
        Ok(ids.len() as u64)
    }
}

async fn remove(write: &mut Write, sql: &str, ids: &[String]) -> Result<(), CatalogError> {
    in_list(Sql::new(sql), ids).query().execute(write.on()).await?;
    Ok(())
}

/// Ends a list in parentheses.
fn in_list(mut sql: Sql, ids: &[String]) -> Sql {
    for (n, id) in ids.iter().enumerate() {
        if n > 0 {
            sql.push(", ");
        }
        sql.bind(id.as_str());
    }
    sql.push(")");
    sql
}
