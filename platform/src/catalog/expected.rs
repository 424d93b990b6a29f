//! Changes on a condition: only of what still is as the caller saw it.
//!
//! What is there is read, held against what was expected, and changed in one transaction, in which nobody
//! else changes it: of two changes that expect the same, one is made.

use super::db::{Dialect, Write};
use super::endpoints::endpoint;
use super::filters::filter_row;
use super::subscriptions::subscription_row;
use super::targets::target_row;
use super::{Catalog, CatalogError, Endpoint, Filter, Subscription, Target};
use super::{filters, subscriptions, targets};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use std::sync::Arc;

/// Something of the catalog, before it is changed.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// A target.
    Target(&'a Target),
    /// A filter.
    Filter(&'a Filter),
    /// A subscription.
    Subscription(&'a Subscription),
    /// An endpoint.
    Endpoint(&'a Endpoint),
}

/// Whether what is there is what was expected.
pub type Expected = Arc<dyn Fn(Found<'_>) -> bool + Send + Sync>;

/// Sets `updated_at` to `$1`, or later: it grows with each change, also within one millisecond, so that no two
/// states of a row look the same.
pub(super) const TOUCH: &str = "updated_at = CASE WHEN updated_at < $1 THEN $1 ELSE updated_at + 1 END";

impl Write {
    /// What makes a SELECT hold its rows until the commit. SQLite has one writer at a time, and this is it.
    pub(super) fn hold(&self) -> &'static str {
        match self.dialect {
            Dialect::Sqlite => "",
            Dialect::Postgres => " FOR UPDATE",
        }
    }
}

impl Catalog {
    /// This catalog, with a condition: its PATCHes and deletions fail with [`CatalogError::Changed`] unless
    /// what they find is `expected`.
    #[must_use]
    pub fn expecting(&self, expected: Option<Expected>) -> Self {
        Self {
            expected,
            ..self.clone()
        }
    }

    /// Holds a target, if there is a condition, and checks it.
    pub(super) async fn expect_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
    ) -> Result<(), CatalogError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let target = hold_target(write, tenant, id).await?;
        met(expected(Found::Target(&target)))
    }

    /// Holds a filter, if there is a condition, and checks it.
    pub(super) async fn expect_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: FilterId,
    ) -> Result<(), CatalogError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let filter = filter_row(&held(write, "filters", filters::COLUMNS, tenant, id.0).await?)?;
        met(expected(Found::Filter(&filter)))
    }

    /// Holds a subscription, if there is a condition, and checks it.
    pub(super) async fn expect_subscription(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: SubscriptionId,
    ) -> Result<(), CatalogError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let subscription =
            subscription_row(&held(write, "subscriptions", subscriptions::COLUMNS, tenant, id.0).await?)?;
        met(expected(Found::Subscription(&subscription)))
    }

    /// Holds an endpoint, if there is a condition, and checks it: the target, so that it gets no further
    /// subscriptions, those it has, and their filters.
    pub(super) async fn expect_endpoint(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
    ) -> Result<(), CatalogError> {
        let Some(expected) = &self.expected else {
            return Ok(());
        };
        let target = hold_target(write, tenant, id).await?;
        for sql in [
            "SELECT id FROM subscriptions WHERE target = $1 ORDER BY id",
            "SELECT id FROM filters WHERE id IN (SELECT filter FROM subscriptions WHERE target = $1) ORDER BY id",
        ] {
            let sql = format!("{sql}{}", write.hold());
            sqlx::query(AssertSqlSafe(sql))
                .bind(id.0)
                .fetch_all(write.on())
                .await?;
        }
        let endpoint = endpoint(write.on(), target).await?;
        met(expected(Found::Endpoint(&endpoint)))
    }
}

/// Reads a target, and holds it as it is.
pub(super) async fn hold_target(
    write: &mut Write,
    tenant: &Tenant,
    id: TargetId,
) -> Result<Target, CatalogError> {
    target_row(&held(write, "targets", targets::COLUMNS, tenant, id.0).await?)
}

/// Reads a row of the tenant's, and holds it as it is.
pub(super) async fn held(
    write: &mut Write,
    table: &str,
    columns: &str,
    tenant: &Tenant,
    id: i64,
) -> Result<AnyRow, CatalogError> {
    let hold = write.hold();
    let row = sqlx::query(AssertSqlSafe(format!(
        "SELECT {columns} FROM {table} WHERE tenant = $1 AND id = $2{hold}"
    )))
    .bind(tenant.as_str())
    .bind(id)
    .fetch_one(write.on())
    .await?;
    Ok(row)
}

fn met(is_expected: bool) -> Result<(), CatalogError> {
    if is_expected {
        Ok(())
    } else {
        Err(CatalogError::Changed)
    }
}
