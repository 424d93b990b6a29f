//! Targets and their secrets.

use super::audited::{Action, Entry};
use super::db::{self, Write, broken, from_json, json};
use super::expected::{TOUCH, hold_target};
use super::health::begin_anew;
use super::rates::{rate, rate_by};
use super::subscriptions::remove;
use super::tenants::{no_tenant, page_of};
use super::verification::{first_asked, provable};
use super::{Catalog, CatalogError, Change, ID_DRAWS, NewTarget, Page, Target, TargetPatch, no_free_id};
use crate::secrets::new_whsec;
use schemas::ids::{SubscriptionId, TargetId, Tenant};
use schemas::rate::Period;
use schemas::target::{RequestOptions, TargetState};
use schemas::time::Millis;
use schemas::verification::Verification;
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;

/// What [`target_row`] reads, in its order.
pub(super) const COLUMNS: &str = "id, url, description, headers, contact, state, rate_limit, rate_limit_minute, retry, \
     timeout_ms, created_at, updated_at, request, disabled_reason, verified_at, not_proved";

impl Catalog {
    /// Makes a target; returns its secret (`whsec_…`) too, which cannot be shown again.
    ///
    /// # Errors
    /// `NotFound` when there is no such tenant.
    pub async fn create_target(
        &self,
        tenant: &Tenant,
        new: NewTarget,
    ) -> Result<(Target, String), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        if let Some(made) = self.made_target(&mut write, tenant).await? {
            return Ok(made);
        }
        let (target, secret) = self.insert_target(&mut write, tenant, new).await?;
        self.making(&mut write, &[target.id.0]).await?;
        write.changed(tenant, Some(target.id)).await?;
        self.commit(write).await?;
        Ok((target, secret))
    }

    /// Inserts a target and its first secret.
    pub(super) async fn insert_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        new: NewTarget,
    ) -> Result<(Target, String), CatalogError> {
        let target = self.insert_bare_target(write, tenant, new, None).await?;
        let (secret, key) = new_whsec();
        self.insert_secret(write, target.id, &key).await?;
        self.add_pairs(write, &target).await?;
        Ok((target, secret))
    }

    /// Inserts a target without any secret, by this id if it is free.
    pub(super) async fn insert_bare_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        new: NewTarget,
        mut wanted: Option<TargetId>,
    ) -> Result<Target, CatalogError> {
        let now = self.clock.now();
        let state = provable(new.state, new.request.verification, None);
        let mut target = Target {
            id: TargetId(0),
            url: new.url,
            description: new.description,
            headers: new.headers,
            contact: new.contact,
            state,
            disabled_reason: None,
            rate_limit: new.rate_limit,
            retry: new.retry,
            timeout: new.timeout,
            request: new.request,
            verified_at: None,
            not_proved: None,
            created_at: now,
            updated_at: now,
        };
        for _ in 0..ID_DRAWS {
            target.id = wanted.take().unwrap_or_else(|| TargetId(self.next_id()));
            let made = sqlx::query(
                "INSERT INTO targets (tenant, id, url, description, headers, contact, state, rate_limit, \
                 rate_limit_minute, retry, timeout_ms, created_at, updated_at, request, client_key, ask_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(tenant.as_str())
            .bind(target.id.0)
            .bind(&target.url)
            .bind(target.description.as_deref())
            .bind(json(&target.headers)?)
            .bind(target.contact.as_deref())
            .bind(target.state.as_str())
            .bind(rate_by(target.rate_limit, Period::Second))
            .bind(rate_by(target.rate_limit, Period::Minute))
            .bind(target.retry.as_ref().map(json).transpose()?)
            .bind(target.timeout.map(whole_millis))
            .bind(now.0)
            .bind(now.0)
            .bind(json(&target.request)?)
            .bind(self.sealed_key(new.client_key.as_ref()))
            .bind(first_asked(&target, now))
            .execute(write.on())
            .await
            .map_err(no_tenant)?
            .rows_affected();
            if made == 1 {
                self.note(write, tenant, Entry::created(&target)).await?;
                return Ok(target);
            }
        }
        Err(no_free_id())
    }

    /// Looks a target up.
    ///
    /// # Errors
    /// `NotFound`.
    pub async fn get_target(&self, tenant: &Tenant, id: TargetId) -> Result<Target, CatalogError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM targets WHERE tenant = $1 AND id = $2"
        )))
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(self.db.of(tenant).await?.on())
        .await?;
        target_row(&row)
    }

    /// Lists a tenant's targets, newest first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn list_targets(&self, tenant: &Tenant, page: Page) -> Result<Vec<Target>, CatalogError> {
        let rows = page_of(&format!("SELECT {COLUMNS} FROM targets"), tenant, page)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        rows.iter().map(target_row).collect()
    }

    /// Changes a target; two changes at once are made one after the other.
    ///
    /// # Errors
    /// `NotFound`; `Changed`.
    pub async fn patch_target(
        &self,
        tenant: &Tenant,
        id: TargetId,
        patch: TargetPatch,
    ) -> Result<Target, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_target(&mut write, tenant, id).await?;
        let target = self.update_target(&mut write, tenant, id, patch).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await?;
        Ok(target)
    }

    /// Makes a disabled target active.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is not verified.
    pub async fn enable_target(&self, tenant: &Tenant, id: TargetId) -> Result<Target, CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        if hold_target(&mut write, tenant, id).await?.state == TargetState::Unverified {
            return Err(CatalogError::Conflict(
                "this target needs to be verified before it gets deliveries".to_owned(),
            ));
        }
        let patch = TargetPatch {
            state: Change::Set(TargetState::Active),
            ..TargetPatch::default()
        };
        let target = self.update_target(&mut write, tenant, id, patch).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await?;
        Ok(target)
    }

    pub(super) async fn update_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
        patch: TargetPatch,
    ) -> Result<Target, CatalogError> {
        let old = self.lock_target(write, tenant, id).await?;
        let before = old.clone();
        let (tls, client_key) = match patch.tls {
            Change::Keep => (old.request.tls, None),
            Change::Set(None) => (None, Some(None)),
            Change::Set(Some((tls, key))) => (Some(tls), Some(key)),
        };
        let verification = patch.verification.apply(old.request.verification);
        let url = patch.url.apply(old.url.clone());
        // What was proved was that address, in that way.
        let is_asked_anew = url != old.url || verification != old.request.verification;
        let verified_at = old.verified_at.filter(|_| !is_asked_anew);
        let needs_none_now =
            verification == Verification::None && old.request.verification != Verification::None;
        let state = match patch.state.apply(old.state) {
            // It was so only for want of a proof that nobody asks for any more.
            TargetState::Unverified if needs_none_now => TargetState::Active,
            state => provable(state, verification, verified_at),
        };
        let new = Target {
            id,
            url,
            description: patch.description.apply(old.description),
            headers: patch.headers.apply(old.headers),
            contact: patch.contact.apply(old.contact),
            state,
            disabled_reason: old.disabled_reason.filter(|_| state == TargetState::Disabled),
            rate_limit: patch.rate_limit.apply(old.rate_limit),
            retry: patch.retry.apply(old.retry),
            timeout: patch.timeout.apply(old.timeout),
            request: RequestOptions {
                schemes: patch.schemes.apply(old.request.schemes),
                signature_headers: patch.signature_headers.apply(old.request.signature_headers),
                tls,
                verification,
            },
            verified_at,
            not_proved: old.not_proved.filter(|_| !is_asked_anew),
            created_at: old.created_at,
            updated_at: old.updated_at,
        };
        sqlx::query(
            "UPDATE targets SET url = $1, description = $2, headers = $3, contact = $4, state = $5, \
             disabled_reason = $6, rate_limit = $7, rate_limit_minute = $8, retry = $9, timeout_ms = $10, \
             request = $11, verified_at = $12, not_proved = $13 WHERE id = $14",
        )
        .bind(&new.url)
        .bind(new.description.as_deref())
        .bind(json(&new.headers)?)
        .bind(new.contact.as_deref())
        .bind(new.state.as_str())
        .bind(new.disabled_reason.as_deref())
        .bind(rate_by(new.rate_limit, Period::Second))
        .bind(rate_by(new.rate_limit, Period::Minute))
        .bind(new.retry.as_ref().map(json).transpose()?)
        .bind(new.timeout.map(whole_millis))
        .bind(json(&new.request)?)
        .bind(new.verified_at.map(|at| at.0))
        .bind(new.not_proved.as_deref())
        .bind(id.0)
        .execute(write.on())
        .await?;
        if is_asked_anew {
            sqlx::query("UPDATE targets SET ask_at = $1 WHERE id = $2")
                .bind(first_asked(&new, self.clock.now()))
                .bind(id.0)
                .execute(write.on())
                .await?;
        }
        let mut entry = Entry::changed(Action::of_change(old.state, new.state), &before, &new);
        if let Some(key) = client_key {
            entry.note_key(key.is_some());
            sqlx::query("UPDATE targets SET client_key = $1 WHERE id = $2")
                .bind(self.sealed_key(key.as_ref()))
                .bind(id.0)
                .execute(write.on())
                .await?;
        }
        self.add_pairs(write, &new).await?;
        if old.state == TargetState::Disabled && state == TargetState::Active {
            begin_anew(write, id, self.clock.now()).await?;
        }
        self.note(write, tenant, entry).await?;
        Ok(new)
    }

    /// Reads a target that is about to be changed, and holds it until the commit: an update that
    /// returns the row does both at once in either dialect.
    pub(super) async fn lock_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
    ) -> Result<Target, CatalogError> {
        let row = sqlx::query(AssertSqlSafe(format!(
            "UPDATE targets SET {TOUCH} WHERE tenant = $2 AND id = $3 RETURNING {COLUMNS}"
        )))
        .bind(self.clock.now().0)
        .bind(tenant.as_str())
        .bind(id.0)
        .fetch_one(write.on())
        .await?;
        target_row(&row)
    }

    /// Deletes a target with its secrets, and with its subscriptions if `cascade`.
    ///
    /// # Errors
    /// `InUse` by its subscriptions unless `cascade`; `NotFound`; `Changed`; `Conflict` when one was made
    /// meanwhile.
    pub async fn delete_target(
        &self,
        tenant: &Tenant,
        id: TargetId,
        cascade: bool,
    ) -> Result<(), CatalogError> {
        let mut write = self.db.begin_of(tenant).await?;
        self.expect_target(&mut write, tenant, id).await?;
        self.lock_target(&mut write, tenant, id).await?;
        if cascade {
            self.remove_subscriptions(&mut write, tenant, "target", id.0)
                .await?;
        } else {
            let used = used_by(
                &mut write,
                "SELECT id FROM subscriptions WHERE target = $1 ORDER BY id",
                id.0,
            )
            .await?;
            if !used.is_empty() {
                return Err(CatalogError::InUse(used));
            }
        }
        self.remove_target(&mut write, tenant, id).await?;
        write.changed(tenant, Some(id)).await?;
        self.commit(write).await
    }

    /// Removes a target that has no subscriptions any more.
    pub(super) async fn remove_target(
        &self,
        write: &mut Write,
        tenant: &Tenant,
        id: TargetId,
    ) -> Result<(), CatalogError> {
        let gone = remove(write, "targets", COLUMNS, id.0, "to this target").await?;
        self.note(write, tenant, Entry::deleted(&target_row(&gone)?))
            .await
    }
}

/// The subscriptions a query finds for one id.
pub(super) async fn used_by(
    write: &mut Write,
    sql: &'static str,
    id: i64,
) -> Result<Vec<SubscriptionId>, CatalogError> {
    let rows = sqlx::query(sql).bind(id).fetch_all(write.on()).await?;
    rows.iter()
        .map(|row| Ok(SubscriptionId(row.try_get(0)?)))
        .collect()
}

pub(super) fn target_row(row: &AnyRow) -> Result<Target, CatalogError> {
    Ok(Target {
        id: TargetId(row.try_get(0)?),
        url: row.try_get(1)?,
        description: row.try_get(2)?,
        headers: from_json(row, 3)?.unwrap_or_default(),
        contact: row.try_get(4)?,
        state: state(row, 5)?,
        rate_limit: rate(row, 6)?,
        retry: from_json(row, 8)?,
        timeout: duration(row, 9)?,
        created_at: db::millis(row, 10)?,
        updated_at: db::millis(row, 11)?,
        request: from_json(row, 12)?.unwrap_or_default(),
        disabled_reason: row.try_get(13)?,
        verified_at: row.try_get::<Option<i64>, _>(14)?.map(Millis),
        not_proved: row.try_get(15)?,
    })
}

pub(super) fn state(row: &AnyRow, column: usize) -> Result<TargetState, CatalogError> {
    TargetState::from_word(row.try_get(column)?).ok_or_else(|| broken(row, column))
}

pub(super) fn duration(row: &AnyRow, column: usize) -> Result<Option<Duration>, CatalogError> {
    row.try_get::<Option<i64>, _>(column)?
        .map(|ms| u64::try_from(ms).map(Duration::from_millis))
        .transpose()
        .map_err(|_| broken(row, column))
}

fn whole_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
