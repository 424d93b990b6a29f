//! Tenants and their API keys.

use super::db::{self, Sql, bounded, is_reference};
use super::{Catalog, CatalogError, ID_DRAWS, KeyRow, Page, TenantRow, no_free_id};
use crate::secrets::new_api_key;
use schemas::ids::{Tenant, sha256_hex};
use schemas::time::Millis;
use sqlx::Row;
use sqlx::any::AnyRow;

/// Characters of a key that are kept to recognise it by: `hk_live_` and 4 of its 43.
const PREFIX_LEN: usize = 12;

impl Catalog {
    /// Makes a tenant.
    ///
    /// # Errors
    /// `Conflict` when there is one of that name.
    pub async fn create_tenant(&self, tenant: &Tenant) -> Result<TenantRow, CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin().await?;
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
        self.commit(write).await?;
        Ok(TenantRow {
            name: tenant.clone(),
            created_at: now,
        })
    }

    /// Looks a tenant up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_tenant(&self, tenant: &Tenant) -> Result<TenantRow, CatalogError> {
        let row = sqlx::query("SELECT name, created_at FROM tenants WHERE name = $1")
            .bind(tenant.as_str())
            .fetch_one(&self.db.pool)
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
        let rows = sql.query().fetch_all(&self.db.pool).await?;
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
        let mut write = self.db.begin().await?;
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
        let gone = sqlx::query("DELETE FROM tenants WHERE name = $1")
            .bind(tenant.as_str())
            .execute(write.on())
            .await
            // Something was made for it meanwhile.
            .map_err(|e| if is_reference(&e) { in_use() } else { e.into() })?
            .rows_affected();
        if gone == 0 {
            return Err(CatalogError::NotFound);
        }
        write.changed(tenant, None).await?;
        self.commit(write).await
    }

    /// Makes an API key; returns its value too, which is kept nowhere and cannot be shown again.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant.
    pub async fn create_key(&self, tenant: &Tenant, name: &str) -> Result<(KeyRow, String), CatalogError> {
        let value = new_api_key();
        let mut key = KeyRow {
            id: 0,
            tenant: tenant.clone(),
            name: name.to_owned(),
            prefix: value[..PREFIX_LEN].to_owned(),
            created_at: self.clock.now(),
        };
        let mut write = self.db.begin().await?;
        for _ in 0..ID_DRAWS {
            key.id = self.next_id();
            let made = sqlx::query(
                "INSERT INTO api_keys (id, tenant, name, prefix, hash, created_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
            )
            .bind(key.id)
            .bind(tenant.as_str())
            .bind(name)
            .bind(&key.prefix)
            .bind(sha256_hex(value.as_bytes()))
            .bind(key.created_at.0)
            .execute(write.on())
            .await
            .map_err(no_tenant)?
            .rows_affected();
            if made == 1 {
                self.commit(write).await?;
                return Ok((key, value));
            }
        }
        Err(no_free_id())
    }

    /// Lists a tenant's keys, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_keys(&self, tenant: &Tenant, page: Page) -> Result<Vec<KeyRow>, CatalogError> {
        let rows = page_of(
            "SELECT id, tenant, name, prefix, created_at FROM api_keys",
            tenant,
            page,
        )
        .query()
        .fetch_all(&self.db.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(KeyRow {
                    id: row.try_get(0)?,
                    tenant: db::tenant(row, 1)?,
                    name: row.try_get(2)?,
                    prefix: row.try_get(3)?,
                    created_at: db::millis(row, 4)?,
                })
            })
            .collect()
    }

    /// Deletes a key. Shows in the change feed, for those who keep keys in memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_key(&self, tenant: &Tenant, id: i64) -> Result<(), CatalogError> {
        let mut write = self.db.begin().await?;
        let gone = sqlx::query("DELETE FROM api_keys WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id)
            .execute(write.on())
            .await?
            .rows_affected();
        if gone == 0 {
            return Err(CatalogError::NotFound);
        }
        write.changed(tenant, None).await?;
        self.commit(write).await
    }

    /// Whose key this is, and its id; `None` for a key that is not, or no longer, there.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn authenticate(&self, key: &str) -> Result<Option<(i64, Tenant)>, CatalogError> {
        bounded(async {
            let row = sqlx::query("SELECT id, tenant FROM api_keys WHERE hash = $1")
                .bind(sha256_hex(key.as_bytes()))
                .fetch_optional(&self.db.pool)
                .await?;
            row.map(|row| Ok((row.try_get(0)?, db::tenant(&row, 1)?)))
                .transpose()
        })
        .await
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

fn tenant_row(row: &AnyRow) -> Result<TenantRow, CatalogError> {
    Ok(TenantRow {
        name: db::tenant(row, 0)?,
        created_at: db::millis(row, 1)?,
    })
}
