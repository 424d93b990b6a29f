//! Filters and their patterns.

use super::audited::{Action, Entry};
use super::db::{self, Write, broken, from_json, json};
use super::expected::TOUCH;
use super::subscriptions::remove;
use super::targets::used_by;
use super::tenants::{no_tenant, page_of};
use super::{Catalog, CatalogError, Change, Filter, ID_DRAWS, Page, no_free_id};
use schemas::ids::{FilterId, Tenant};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// What [`filter_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, name, events, created_at, updated_at";

impl Catalog {
    /// Makes a filter. The patterns have passed `schemas::pattern::check`; a repeated one is kept once.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant.
    pub async fn create_filter(
        &self,
        tenant: &Tenant,
        name: String,
        events: Vec<String>,
    ) -> Result<Filter, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        if let Some(made) = self.made_filter(&mut write, tenant).await? {
            return Ok(made);
        }
        let filter = self.insert_filter(&mut write, tenant, name, events, None).await?;
        self.making(&mut write, &[filter.id.0]).await?;
        write.changed(tenant, None).await?;
        self.commit(write).await?;
        Ok(filter)
    }

    /// Inserts a filter and its patterns, by this id if it is free.
    pub(super) async fn insert_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        name: String,
        events: Vec<String>,
        mut wanted: Option<FilterId>,
    ) -> Result<Filter, CatalogError> {
        let now = self.clock.now();
        let mut filter = Filter {
            id: FilterId(0),
            name,
            events: without_repeats(events),
            created_at: now,
            updated_at: now,
        };
        for _ in 0..ID_DRAWS {
            filter.id = wanted.take().unwrap_or_else(|| FilterId(self.next_id()));
            let made = sqlx::query(
                "INSERT INTO filters (tenant, id, name, events, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
            )
            .bind(tenant.as_str())
            .bind(filter.id.0)
            .bind(&filter.name)
            .bind(json(&filter.events)?)
            .bind(now.0)
            .bind(now.0)
            .execute(write.on())
            .await
            .map_err(no_tenant)?
            .rows_affected();
            if made == 1 {
                insert_patterns(write, tenant, &filter).await?;
                self.note(write, tenant, Entry::created(&filter)).await?;
                return Ok(filter);
            }
        }
        Err(no_free_id())
    }

    /// Looks a filter up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_filter(&self, tenant: &Tenant, id: FilterId) -> Result<Filter, CatalogError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM filters WHERE tenant = $1 AND id = $2"
        )))
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(self.db.of(tenant).await?.on())
        .await?;
        filter_row(&row)
    }

    /// Lists a tenant's filters, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_filters(&self, tenant: &Tenant, page: Page) -> Result<Vec<Filter>, CatalogError> {
        let rows = page_of(&format!("SELECT {COLUMNS} FROM filters"), tenant, page)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(filter_row).collect()
    }

    /// Changes a filter; two changes at once are made one after the other.
    ///
    /// # Errors
    /// `NotFound`; `Changed`.
    pub async fn patch_filter(
        &self,
        tenant: &Tenant,
        id: FilterId,
        name: Change<String>,
        events: Change<Vec<String>>,
    ) -> Result<Filter, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_filter(&mut write, tenant, id).await?;
        let filter = self.update_filter(&mut write, tenant, id, name, events).await?;
        write.changed(tenant, None).await?;
        self.commit(write).await?;
        Ok(filter)
    }

    pub(super) async fn update_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: FilterId,
        name: Change<String>,
        events: Change<Vec<String>>,
    ) -> Result<Filter, CatalogError> {
        let old = self.lock_filter(write, tenant, id).await?;
        let mut filter = old.clone();
        filter.name = name.apply(filter.name);
        if let Change::Set(events) = events {
            filter.events = without_repeats(events);
            sqlx::query("DELETE FROM filter_events WHERE filter = $1")
                .bind(id.0)
                .execute(write.on())
                .await?;
            insert_patterns(write, tenant, &filter).await?;
        }
        sqlx::query("UPDATE filters SET name = $1, events = $2 WHERE id = $3")
            .bind(&filter.name)
            .bind(json(&filter.events)?)
            .bind(id.0)
            .execute(write.on())
            .await?;
        let entry = Entry::changed(Action::Update, &old, &filter);
        self.note(write, tenant, entry).await?;
        Ok(filter)
    }

    /// Reads a filter that is about to be changed, and holds it until the commit.
    async fn lock_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: FilterId,
    ) -> Result<Filter, CatalogError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "UPDATE filters SET {TOUCH} WHERE tenant = $2 AND id = $3 RETURNING {COLUMNS}"
        )))
        .bind(self.clock.now().0)
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(write.on())
        .await?;
        filter_row(&row)
    }

    /// Deletes a filter, and the subscriptions that use it if `cascade`.
    ///
    /// # Errors
    /// `InUse` by subscriptions unless `cascade`; `NotFound`; `Changed`; `Conflict` when one was made meanwhile.
    pub async fn delete_filter(
        &self,
        tenant: &Tenant,
        id: FilterId,
        cascade: bool,
    ) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_filter(&mut write, tenant, id).await?;
        self.lock_filter(&mut write, tenant, id).await?;
        if cascade {
            self.remove_subscriptions(&mut write, tenant, "filter", id.0)
                .await?;
        } else {
            let used = used_by(
                &mut write,
                "SELECT id FROM subscriptions WHERE filter = $1 ORDER BY id",
                id.0,
            )
            .await?;
            if !used.is_empty() {
                return Err(CatalogError::InUse(used));
            }
        }
        self.remove_filter(&mut write, tenant, id).await?;
        write.changed(tenant, None).await?;
        self.commit(write).await
    }

    /// Removes a filter that no subscription uses any more; its patterns go with it.
    pub(super) async fn remove_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: FilterId,
    ) -> Result<(), CatalogError> {
        let gone = remove(write, "filters", COLUMNS, id.0, "with this filter").await?;
        self.note(write, tenant, Entry::deleted(&filter_row(&gone)?))
            .await
    }
}

async fn insert_patterns(write: &mut Write, tenant: &Tenant, filter: &Filter) -> Result<(), CatalogError> {
    for pattern in &filter.events {
        sqlx::query("INSERT INTO filter_events (tenant, pattern, filter) VALUES ($1, $2, $3)")
            .bind(tenant.as_str())
            .bind(pattern)
            .bind(filter.id.0)
            .execute(write.on())
            .await?;
    }
    Ok(())
}

/// Each pattern once, in the order in which they were given.
fn without_repeats(events: Vec<String>) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    events
        .into_iter()
        .filter(|pattern| seen.insert(pattern.clone()))
        .collect()
}

pub(super) fn filter_row(row: &AnyRow) -> Result<Filter, CatalogError> {
    Ok(Filter {
        id: FilterId(row.try_get(0)?),
        name: row.try_get(1)?,
        events: from_json(row, 2)?.ok_or_else(|| broken(row, 2))?,
        created_at: db::millis(row, 3)?,
        updated_at: db::millis(row, 4)?,
    })
}
