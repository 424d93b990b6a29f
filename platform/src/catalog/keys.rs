//! API keys: whose they are, what they may do and until when, and when they were last used.

use super::audited::Entry;
use super::db::{self, Sql, bounded, broken};
use super::scopes::Scopes;
use super::tenants::{no_tenant, page_of};
use super::{Catalog, CatalogError, ID_DRAWS, KeyRow, NewKey, Page, no_free_id};
use crate::secrets::new_api_key;
use schemas::ids::{Tenant, sha256_hex};
use schemas::time::Millis;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;

/// Characters of a key that are kept to recognise it by: `hk_live_` and 4 of its 43.
const PREFIX_LEN: usize = 12;
/// What [`key_row`] reads, in its order.
const COLUMNS: &str = "id, tenant, name, prefix, created_at, scopes, expires_at, last_used_at";
/// How often the last use of a key is written down.
const USE_NOTED_EVERY: Duration = Duration::from_secs(60);

impl KeyRow {
    /// Whether its time is over. It ends at that moment, not after it.
    #[must_use]
    pub fn has_expired(&self, now: Millis) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    /// Whether a use at this time is to be written down: the last one written is a minute ago.
    #[must_use]
    pub fn use_is_news(&self, now: Millis) -> bool {
        self.last_used_at
            .is_none_or(|last| now >= last.plus(USE_NOTED_EVERY))
    }
}

impl Catalog {
    /// Makes an API key; returns its value too, which is kept nowhere and cannot be shown again. A name
    /// alone makes a key for everything and for ever.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant; `Conflict` when the key was made [`under`](Self::under) the same claim
    /// before.
    pub async fn create_key(
        &self,
        tenant: &Tenant,
        new: impl Into<NewKey>,
    ) -> Result<(KeyRow, String), CatalogError> {
        let new = new.into();
        let value = new_api_key();
        let is_limited = new.scopes != Scopes::ALL || new.expires_at.is_some();
        let [full, limited] = hashes(&value);
        let mut key = KeyRow {
            id: 0,
            tenant: tenant.clone(),
            name: new.name,
            prefix: value[..PREFIX_LEN].to_owned(),
            scopes: new.scopes,
            expires_at: new.expires_at,
            last_used_at: None,
            created_at: self.clock.now(),
        };
        let mut write = self.db.begin_of(tenant).await?;
        self.made_no_key(&mut write).await?;
        for _ in 0..ID_DRAWS {
            key.id = self.next_id();
            let made = sqlx::query(
                "INSERT INTO api_keys (id, tenant, name, prefix, hash, created_at, scopes, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO NOTHING",
            )
            .bind(key.id)
            .bind(tenant.as_str())
            .bind(&key.name)
            .bind(&key.prefix)
            .bind(if is_limited { &limited } else { &full })
            .bind(key.created_at.0)
            .bind(key.scopes.to_string())
            .bind(key.expires_at.map(|end| end.0))
            .execute(write.on())
            .await
            .map_err(no_tenant)?
            .rows_affected();
            if made == 1 {
                self.note(&mut write, tenant, Entry::created(&key)).await?;
                self.making(&mut write, &[key.id]).await?;
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
        let rows = page_of(&format!("SELECT {COLUMNS} FROM api_keys"), tenant, page)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(key_row).collect()
    }

    /// Deletes a key. Shows in the change feed, for those who keep keys in memory.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn revoke_key(&self, tenant: &Tenant, id: i64) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        let sql = format!("DELETE FROM api_keys WHERE tenant = $1 AND id = $2 RETURNING {COLUMNS}");
        let gone = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(id)
            .fetch_one(write.on())
            .await?;
        self.note(&mut write, tenant, Entry::deleted(&key_row(&gone)?))
            .await?;
        write.changed(tenant, None).await?;
        self.commit(write).await
    }

    /// The key of this value, expired or not; `None` for one that is not, or no longer, there.
    ///
    /// Only hashes are compared, of which who tries values can choose no part: how long that takes tells
    /// nothing of a key.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn authenticate(&self, value: &str) -> Result<Option<KeyRow>, CatalogError> {
        let [full, limited] = hashes(value);
        bounded(async {
            let sql = format!("SELECT {COLUMNS} FROM api_keys WHERE hash IN ($1, $2)");
            let row = sqlx::query(AssertSqlSafe(sql))
                .bind(full)
                .bind(limited)
                .fetch_optional(self.db.of_all())
                .await?;
            row.as_ref().map(key_row).transpose()
        })
        .await
    }

    /// Notes that these keys are used now, of those whose last use noted is a minute ago.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn keys_used(&self, ids: &[i64]) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let mut sql = Sql::new("UPDATE api_keys SET last_used_at = ");
        sql.bind(now.0).push(" WHERE id IN (");
        for (n, id) in ids.iter().enumerate() {
            if n > 0 {
                sql.push(", ");
            }
            sql.bind(*id);
        }
        let before = now.0.saturating_sub(USE_NOTED_EVERY.as_millis() as i64);
        sql.push(") AND (last_used_at IS NULL OR last_used_at <= ");
        sql.bind(before).push(")");
        bounded(async {
            let mut write = self.db.begin_of_all().await?;
            sql.query().execute(write.on()).await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }
}

/// What the database may know a key by: one that may do everything for ever, and one that may not.
fn hashes(value: &str) -> [String; 2] {
    let hash = sha256_hex(value.as_bytes());
    let limited = format!("limited:{hash}");
    [hash, limited]
}

fn key_row(row: &AnyRow) -> Result<KeyRow, CatalogError> {
    let scopes = match row.try_get::<Option<&str>, _>(5)? {
        None => Scopes::ALL,
        Some(words) => Scopes::from_words(words).ok_or_else(|| broken(row, 5))?,
    };
    Ok(KeyRow {
        id: row.try_get(0)?,
        tenant: db::tenant(row, 1)?,
        name: row.try_get(2)?,
        prefix: row.try_get(3)?,
        created_at: db::millis(row, 4)?,
        scopes,
        expires_at: row.try_get::<Option<i64>, _>(6)?.map(Millis),
        last_used_at: row.try_get::<Option<i64>, _>(7)?.map(Millis),
    })
}
