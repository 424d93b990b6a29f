//! Tenants.

use super::audited::Entry;
use super::db::{self, Sql, is_reference};
use super::{Catalog, CatalogError, Page, TenantRow};
use schemas::ids::Tenant;
use schemas::time::Millis;
use sqlx::Row;
use sqlx::any::AnyRow;

impl Catalog {
    /// Makes a tenant.
    ///
    /// # Errors
    /// `Conflict` when there is one of that name, unless it was made [`under`](Self::under) the same claim.
    pub async fn create_tenant(&self, tenant: &Tenant) -> Result<TenantRow, CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin_of(tenant).await?;
        if let Some(row) = self.made_tenant(&mut write, tenant).await? {
            return Ok(row);
        }
        let made =
            sqlx::query("INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT DO NOTHING")
                .bind(tenant.as_str())
                .bind(now.0)
                .execute(write.on())
                .await?
                .rows_affected();
        if made == 0 {
            return Err(CatalogError::Conflict(format!(
                "there is a tenant \"{tenant}\" already"
            )));
        }
        let row = TenantRow {
            name: tenant.clone(),
            created_at: now,
        };
        self.note(&mut write, tenant, Entry::created(&row)).await?;
        // Its name is its id, and the claim's too.
        self.making(&mut write, &[]).await?;
        self.commit(write).await?;
        Ok(row)
    }

    /// Looks a tenant up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_tenant(&self, tenant: &Tenant) -> Result<TenantRow, CatalogError> {
        let row = sqlx::query("SELECT name, created_at FROM tenants WHERE name = $1")
            .bind(tenant.as_str())
            .fetch_one(self.db.of(tenant).await?.on())
            .await?;
        tenant_row(&row)
    }

    /// Lists tenants, newest first, then by name backwards; `before` is the `(created_at, name)` of
    /// the last one already seen.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_tenants(
        &self,
        limit: u32,
        before: Option<(Millis, String)>,
    ) -> Result<Vec<TenantRow>, CatalogError> {
        let mut sql = Sql::new("SELECT name, created_at FROM tenants");
        if let Some((created_at, name)) = before {
            sql.push(" WHERE (created_at, name) < (").bind(created_at.0);
            sql.push(", ").bind(name).push(")");
        }
        sql.push(" ORDER BY created_at DESC, name DESC LIMIT ")
            .bind(i64::from(limit));
        let rows = sql.query().fetch_all(self.db.of_all()).await?;
        rows.iter().map(tenant_row).collect()
    }

    /// Deletes a tenant with its keys and filters. Its history stays until it expires.
    ///
    /// # Errors
    /// `Conflict` while it has targets; `NotFound`.
    pub async fn delete_tenant(&self, tenant: &Tenant) -> Result<(), CatalogError> {
        let in_use = || {
            CatalogError::Conflict(format!(
                "tenant \"{tenant}\" still has targets: delete them first"
            ))
        };
        let mut write = self.db.begin_of(tenant).await?;
        let targets: i64 = sqlx::query("SELECT COUNT(*) FROM targets WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_one(write.on())
            .await?
            .try_get(0)?;
        if targets > 0 {
            return Err(in_use());
        }
        for sql in [
            "DELETE FROM filters WHERE tenant = $1",
            "DELETE FROM api_keys WHERE tenant = $1",
            "DELETE FROM idempotency_keys WHERE tenant = $1",
        ] {
            sqlx::query(sql).bind(tenant.as_str()).execute(write.on()).await?;
        }
        let gone = sqlx::query("DELETE FROM tenants WHERE name = $1 RETURNING name, created_at")
            .bind(tenant.as_str())
            .fetch_one(write.on())
            .await
            // Something was made for it meanwhile.
            .map_err(|e| if is_reference(&e) { in_use() } else { e.into() })?;
        self.note(&mut write, tenant, Entry::deleted(&tenant_row(&gone)?))
            .await?;
        write.changed(tenant, None).await?;
        self.commit(write).await
    }
}

/// A tenant's rows of a page, newest first.
pub(super) fn page_of(select: &str, tenant: &Tenant, page: Page) -> Sql {
    let mut sql = Sql::new(select);
    sql.push(" WHERE tenant = ").bind(tenant.as_str());
    if let Some(before) = page.before {
        sql.push(" AND id < ").bind(before);
    }
    sql.push(" ORDER BY id DESC LIMIT ").bind(i64::from(page.limit));
    sql
}

/// The error of an insert whose tenant is not there.
pub(super) fn no_tenant(error: sqlx::Error) -> CatalogError {
    if is_reference(&error) {
        CatalogError::NotFound
    } else {
        error.into()
    }
}

pub(super) fn tenant_row(row: &AnyRow) -> Result<TenantRow, CatalogError> {
    Ok(TenantRow {
        name: db::tenant(row, 0)?,
        created_at: db::millis(row, 1)?,
    })
}
