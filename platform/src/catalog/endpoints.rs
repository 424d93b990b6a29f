//! Endpoints: target, filter and subscription in one, for those who need no more.

use super::db::{Sql, Write};
use super::expected::hold_target;
use super::{Catalog, CatalogError, Change, Endpoint, NewTarget, Page, Target, TargetPatch};
use schemas::ids::{FilterId, SubscriptionId, TargetId, Tenant};
use schemas::target::TargetState;
use sqlx::{AnyConnection, Row};
use std::collections::{BTreeMap, BTreeSet};

/// One of a target's subscriptions, as far as endpoints care.
struct Link {
    subscription: SubscriptionId,
    filter: FilterId,
    active: bool,
    /// No other subscription uses the filter.
    own: bool,
}

impl Catalog {
    /// Makes a target with a filter and a subscription of its own, all or nothing; returns the
    /// secret (`whsec_…`) too, which cannot be shown again.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant.
    pub async fn create_endpoint(
        &self,
        tenant: &Tenant,
        new: NewTarget,
        events: Vec<String>,
    ) -> Result<(Endpoint, String), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        if let Some(made) = self.made_endpoint(&mut write, tenant).await? {
            return Ok(made);
        }
        let (target, secret) = self.insert_target(&mut write, tenant, new).await?;
        self.add_own_filter(&mut write, tenant, target.id, events).await?;
        let endpoint = endpoint(write.on(), target).await?;
        self.making(&mut write, &[endpoint.id.0]).await?;
        write.changed(tenant, Some(endpoint.id)).await?;
        self.commit(write).await?;
        Ok((endpoint, secret))
    }

    /// Looks an endpoint up, by its target's id.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_endpoint(&self, tenant: &Tenant, id: TargetId) -> Result<Endpoint, CatalogError> {
        let target = self.get_target(tenant, id).await?;
        let mut read = self.db.of(tenant).await?;
        endpoint(read.on(), target).await
    }

    /// Lists all of a tenant's targets as endpoints, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_endpoints(&self, tenant: &Tenant, page: Page) -> Result<Vec<Endpoint>, CatalogError> {
        let targets = self.list_targets(tenant, page).await?;
        let mut read = self.db.of(tenant).await?;
        endpoints(read.on(), targets).await
    }

    /// Changes an endpoint. New `events` replace those of all its active subscriptions: a filter of
    /// its own gets them (one is made if it has none), subscriptions to shared filters go.
    /// `disabled: false` makes a disabled target active and leaves an unverified one unverified.
    ///
    /// # Errors
    /// `NotFound`; `Changed`; `Conflict` when its subscriptions were changed meanwhile.
    pub async fn patch_endpoint(
        &self,
        tenant: &Tenant,
        id: TargetId,
        url: Change<String>,
        events: Change<Vec<String>>,
        disabled: Change<bool>,
    ) -> Result<Endpoint, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_endpoint(&mut write, tenant, id).await?;
        let old = hold_target(&mut write, tenant, id).await?;
        let state = match (disabled, old.state) {
            (Change::Keep, _)
            | (Change::Set(false), TargetState::Active | TargetState::Unverified)
            | (Change::Set(true), TargetState::Disabled) => Change::Keep,
            (Change::Set(false), TargetState::Disabled) => Change::Set(TargetState::Active),
            (Change::Set(true), TargetState::Active | TargetState::Unverified) => {
                Change::Set(TargetState::Disabled)
            }
        };
        let patch = TargetPatch {
            url,
            state,
            ..TargetPatch::default()
        };
        let target = self.update_target(&mut write, tenant, id, patch).await?;
        if let Change::Set(events) = events {
            self.replace_events(&mut write, tenant, id, events).await?;
        }
        let endpoint = endpoint(write.on(), target).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await?;
        Ok(endpoint)
    }

    async fn replace_events(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
        events: Vec<String>,
    ) -> Result<(), CatalogError> {
        let mut active: Vec<Link> = links(write, id)
            .await?
            .into_iter()
            .filter(|link| link.active)
            .collect();
        let kept = active
            .iter()
            .position(|link| link.own)
            .map(|at| active.remove(at));
        self.unlink(write, tenant, &active).await?;
        match kept {
            Some(link) => {
                self.update_filter(write, tenant, link.filter, Change::Keep, Change::Set(events))
                    .await?;
            }
            None => self.add_own_filter(write, tenant, id, events).await?,
        }
        Ok(())
    }

    async fn add_own_filter(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        target: TargetId,
        events: Vec<String>,
    ) -> Result<(), CatalogError> {
        let filter = self
            .insert_filter(write, tenant, format!("endpoint {target}"), events, None)
            .await?;
        self.insert_subscription(write, tenant, (target, filter.id), true, None)
            .await?;
        Ok(())
    }

    /// Deletes an endpoint: the target, its subscriptions, and the filters only it used.
    ///
    /// # Errors
    /// `NotFound`; `Changed`; `Conflict` when its subscriptions were changed meanwhile.
    pub async fn delete_endpoint(&self, tenant: &Tenant, id: TargetId) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_endpoint(&mut write, tenant, id).await?;
        self.lock_target(&mut write, tenant, id).await?;
        let links = links(&mut write, id).await?;
        self.unlink(&mut write, tenant, &links).await?;
        self.remove_target(&mut write, tenant, id).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await
    }

    /// Removes subscriptions, and the filters only they used.
    async fn unlink(&self, write: &mut Write, tenant: &Tenant, links: &[Link]) -> Result<(), CatalogError> {
        for link in links {
            self.remove_subscriptions(write, tenant, "id", link.subscription.0)
                .await?;
            if link.own {
                self.remove_filter(write, tenant, link.filter).await?;
            }
        }
        Ok(())
    }
}

/// A target's subscriptions, the oldest first.
async fn links(write: &mut Write, target: TargetId) -> Result<Vec<Link>, CatalogError> {
    let rows = sqlx::query(
        "SELECT s.id, s.filter, s.active, \
         (SELECT COUNT(*) FROM subscriptions o WHERE o.filter = s.filter) \
         FROM subscriptions s WHERE s.target = $1 ORDER BY s.id",
    )
    .bind(target.0)
    .fetch_all(write.on())
    .await?;
    rows.iter()
        .map(|row| {
            Ok(Link {
                subscription: SubscriptionId(row.try_get(0)?),
                filter: FilterId(row.try_get(1)?),
                active: row.try_get::<i64, _>(2)? != 0,
                own: row.try_get::<i64, _>(3)? == 1,
            })
        })
        .collect()
}

pub(super) async fn endpoint(
    connection: &mut AnyConnection,
    target: Target,
) -> Result<Endpoint, CatalogError> {
    let mut one = endpoints(connection, vec![target]).await?;
    one.pop().ok_or(CatalogError::NotFound)
}

/// Turns targets of one tenant into endpoints, with one query for the patterns of all.
async fn endpoints(
    connection: &mut AnyConnection,
    targets: Vec<Target>,
) -> Result<Vec<Endpoint>, CatalogError> {
    if targets.is_empty() {
        return Ok(Vec::new());
    }
    let mut sql = Sql::new(
        "SELECT s.target, e.pattern FROM subscriptions s JOIN filter_events e ON e.filter = s.filter \
         WHERE s.active = 1 AND s.target IN (",
    );
    for (n, target) in targets.iter().enumerate() {
        if n > 0 {
            sql.push(", ");
        }
        sql.bind(target.id.0);
    }
    sql.push(")");
    let rows = sql.query().fetch_all(connection).await?;
    let mut patterns: BTreeMap<i64, BTreeSet<String>> = BTreeMap::new();
    for row in &rows {
        patterns
            .entry(row.try_get(0)?)
            .or_default()
            .insert(row.try_get(1)?);
    }
    Ok(targets
        .into_iter()
        .map(|target| Endpoint {
            id: target.id,
            url: target.url,
            events: patterns
                .remove(&target.id.0)
                .unwrap_or_default()
                .into_iter()
                .collect(),
            disabled: target.state == TargetState::Disabled,
            created_at: target.created_at,
            updated_at: target.updated_at,
        })
        .collect())
}
