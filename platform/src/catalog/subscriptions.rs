//! Subscriptions: this target gets what this filter wants.

use super::audited::{Action, Entry};
use super::db::{self, Write, is_duplicate, is_reference};
use super::expected::TOUCH;
use super::tenants::page_of;
use super::{Catalog, CatalogError, Change, ID_DRAWS, Page, Subscription, no_free_id};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};

/// What [`subscription_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, target, filter, active, created_at, updated_at";

const NO_TARGET: CatalogError = CatalogError::Dangling {
    field: "targetId",
    what: "target",
};
const NO_FILTER: CatalogError = CatalogError::Dangling {
    field: "filterId",
    what: "filter",
};

impl Catalog {
    /// Subscribes a target to a filter.
    ///
    /// # Errors
    /// `Dangling` when the tenant has no such target or filter; `Conflict` when the two are
    /// together already.
    pub async fn create_subscription(
        &self,
        tenant: &Tenant,
        target: TargetId,
        filter: FilterId,
        active: bool,
    ) -> Result<Subscription, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        if let Some(made) = self.made_subscription(&mut write, tenant).await? {
            return Ok(made);
        }
        let made = self
            .insert_subscription(&mut write, tenant, (target, filter), active, None)
            .await?;
        self.making(&mut write, &[made.id.0]).await?;
        write.changed(tenant, None).await?;
        self.commit(write).await?;
        Ok(made)
    }

    /// Inserts a subscription, by this id if it is free.
    pub(super) async fn insert_subscription(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        (target, filter): (TargetId, FilterId),
        active: bool,
        mut wanted: Option<SubscriptionId>,
    ) -> Result<Subscription, CatalogError> {
        require(write, tenant, target, filter).await?;
        let now = self.clock.now();
        for _ in 0..ID_DRAWS {
            let id = wanted.take().unwrap_or_else(|| SubscriptionId(self.next_id()));
            let made = sqlx::query(
                "INSERT INTO subscriptions (tenant, id, target, filter, active, created_at, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
            )
            .bind(tenant.as_str())
            .bind(id.0)
            .bind(target.0)
            .bind(filter.0)
            .bind(i64::from(active))
            .bind(now.0)
            .bind(now.0)
            .execute(write.on())
            .await
            .map_err(gone_meanwhile)?
            .rows_affected();
            if made == 1 {
                let made = Subscription {
                    id,
                    target,
                    filter,
                    active,
                    created_at: now,
                    updated_at: now,
                };
                self.note(write, tenant, Entry::created(&made)).await?;
                return Ok(made);
            }
            // The pair or the id is taken: which?
            let pair = sqlx::query("SELECT id FROM subscriptions WHERE target = $1 AND filter = $2")
                .bind(target.0)
                .bind(filter.0)
                .fetch_optional(write.on())
                .await?;
            if let Some(row) = pair {
                return Err(same_pair(SubscriptionId(row.try_get(0)?)));
            }
        }
        Err(no_free_id())
    }

    /// Looks a subscription up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_subscription(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
    ) -> Result<Subscription, CatalogError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM subscriptions WHERE tenant = $1 AND id = $2"
        )))
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(self.db.of(tenant).await?.on())
        .await?;
        subscription_row(&row)
    }

    /// Lists a tenant's subscriptions, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_subscriptions(
        &self,
        tenant: &Tenant,
        page: Page,
    ) -> Result<Vec<Subscription>, CatalogError> {
        let rows = page_of(&format!("SELECT {COLUMNS} FROM subscriptions"), tenant, page)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(subscription_row).collect()
    }

    /// Changes a subscription; two changes at once are made one after the other.
    ///
    /// # Errors
    /// `NotFound`; `Changed`; `Dangling` when the tenant has no such target or filter; `Conflict` when another
    /// subscription has the two together.
    pub async fn patch_subscription(
        &self,
        tenant: &Tenant,
        id: SubscriptionId,
        active: Change<bool>,
        target: Change<TargetId>,
        filter: Change<FilterId>,
    ) -> Result<Subscription, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_subscription(&mut write, tenant, id).await?;
        let row = sqlx::query(AssertSqlSafe(format!(
            "UPDATE subscriptions SET {TOUCH} WHERE tenant = $2 AND id = $3 RETURNING {COLUMNS}"
        )))
        .bind(self.clock.now().0)
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(write.on())
        .await?;
        let old = subscription_row(&row)?;
        let mut new = old.clone();
        new.active = active.apply(new.active);
        new.target = target.apply(new.target);
        new.filter = filter.apply(new.filter);
        require(&mut write, tenant, new.target, new.filter).await?;
        let taken =
            sqlx::query("SELECT id FROM subscriptions WHERE target = $1 AND filter = $2 AND id <> $3")
                .bind(new.target.0)
                .bind(new.filter.0)
                .bind(id.0)
                .fetch_optional(write.on())
                .await?;
        if let Some(row) = taken {
            return Err(same_pair(SubscriptionId(row.try_get(0)?)));
        }
        sqlx::query("UPDATE subscriptions SET active = $1, target = $2, filter = $3 WHERE id = $4")
            .bind(i64::from(new.active))
            .bind(new.target.0)
            .bind(new.filter.0)
            .bind(id.0)
            .execute(write.on())
            .await
            .map_err(|e| {
                if is_duplicate(&e) {
                    CatalogError::Conflict("another subscription has this target and filter".to_owned())
                } else {
                    gone_meanwhile(e)
                }
            })?;
        let entry = Entry::changed(Action::Update, &old, &new);
        self.note(&mut write, tenant, entry).await?;
        write.changed(tenant, None).await?;
        self.commit(write).await?;
        Ok(new)
    }

    /// Deletes a subscription; target and filter stay.
    ///
    /// # Errors
    /// `NotFound`; `Changed`.
    pub async fn delete_subscription(&self, tenant: &Tenant, id: SubscriptionId) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_subscription(&mut write, tenant, id).await?;
        let gone = self.remove_subscriptions(&mut write, tenant, "id", id.0).await?;
        if gone == 0 {
            return Err(CatalogError::NotFound);
        }
        write.changed(tenant, None).await?;
        self.commit(write).await
    }

    /// Removes a tenant's subscriptions with this in that column, which is one of `id`, `target` and `filter`;
    /// how many.
    pub(super) async fn remove_subscriptions(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        column: &'static str,
        value: i64,
    ) -> Result<usize, CatalogError> {
        let sql =
            format!("DELETE FROM subscriptions WHERE tenant = $1 AND {column} = $2 RETURNING {COLUMNS}");
        let gone = sqlx::query(AssertSqlSafe(sql))
            .bind(tenant.as_str())
            .bind(value)
            .fetch_all(write.on())
            .await?;
        for row in &gone {
            self.note(write, tenant, Entry::deleted(&subscription_row(row)?))
                .await?;
        }
        Ok(gone.len())
    }
}

/// Whether the tenant has this target and this filter.
async fn require(
    write: &mut Write,
    tenant: &Tenant,
    target: TargetId,
    filter: FilterId,
) -> Result<(), CatalogError> {
    for (sql, id, missing) in [
        (
            "SELECT id FROM targets WHERE tenant = $1 AND id = $2",
            target.0,
            NO_TARGET,
        ),
        (
            "SELECT id FROM filters WHERE tenant = $1 AND id = $2",
            filter.0,
            NO_FILTER,
        ),
    ] {
        let row = sqlx::query(sql)
            .bind(tenant.as_str())
            .bind(id)
            .fetch_optional(write.on())
            .await?;
        if row.is_none() {
            return Err(missing);
        }
    }
    Ok(())
}

/// Deletes the row of a target or filter that no subscription uses any more, and answers with it; `of_it` is how a
/// subscription `to` or `with` it is called.
pub(super) async fn remove(
    write: &mut Write,
    table: &str,
    columns: &str,
    id: i64,
    of_it: &str,
) -> Result<AnyRow, CatalogError> {
    let sql = format!("DELETE FROM {table} WHERE id = $1 RETURNING {columns}");
    let gone = sqlx::query(AssertSqlSafe(sql))
        .bind(id)
        .fetch_one(write.on())
        .await;
    gone.map_err(|error| {
        if is_reference(&error) {
            CatalogError::Conflict(format!("a subscription {of_it} was made meanwhile: try again"))
        } else {
            error.into()
        }
    })
}

/// The error of a statement whose target or filter was deleted after it was looked up.
fn gone_meanwhile(error: sqlx::Error) -> CatalogError {
    if is_reference(&error) {
        CatalogError::Conflict("the target or filter was deleted meanwhile".to_owned())
    } else {
        error.into()
    }
}

fn same_pair(id: SubscriptionId) -> CatalogError {
    CatalogError::Conflict(format!(
        "subscription {id} has this target and this filter already"
    ))
}

pub(super) fn subscription_row(row: &AnyRow) -> Result<Subscription, CatalogError> {
    Ok(Subscription {
        id: SubscriptionId(row.try_get(0)?),
        target: TargetId(row.try_get(1)?),
        filter: FilterId(row.try_get(2)?),
        active: row.try_get::<i64, _>(3)? != 0,
        created_at: db::millis(row, 4)?,
        updated_at: db::millis(row, 5)?,
    })
}
