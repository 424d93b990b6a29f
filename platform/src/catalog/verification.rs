//! Targets that are to prove that they want deliveries: who is to be asked, and what came of it.
//!
//! A target that has to prove itself is `unverified` until it has, and again after a change of its address. One that
//! has is asked again each day. An answer that is wrong ends its proof at once; where there is none, or the
//! target is out of order, the proof lasts another while.

use super::audited::{Action, Entry};
use super::targets::state;
use super::{AuditKind, Catalog, CatalogError, Target};
use schemas::ids::{TargetId, Tenant};
use schemas::target::TargetState;
use schemas::time::Millis;
use schemas::verification::Verification;
use serde_json::json;
use sqlx::Row;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How often a target that has proved itself is asked again.
const AGAIN: Duration = HOUR.saturating_mul(24);
/// How long a proof lasts without a new one: four hours longer, as X has it (docs.x.com, webhooks).
const LASTS: Duration = HOUR.saturating_mul(28);
/// How soon a target is asked again that did not prove itself.
const SOON: Duration = MINUTE.saturating_mul(30);
/// For how long after its last change a target is asked that never did.
const PATIENCE: Duration = HOUR.saturating_mul(24);
/// How long nobody else asks whom somebody is about to ask: longer than a question may take.
const CLAIMED: Duration = MINUTE.saturating_mul(5);

/// The state of a target: active only if it has proved itself, or needs not.
pub(super) fn provable(
    state: TargetState,
    verification: Verification,
    verified_at: Option<Millis>,
) -> TargetState {
    match state {
        TargetState::Active if verification != Verification::None && verified_at.is_none() => {
            TargetState::Unverified
        }
        TargetState::Active | TargetState::Disabled | TargetState::Unverified => state,
    }
}

/// When a target is first asked without being asked for it, in milliseconds since the epoch.
pub(super) fn first_asked(target: &Target, now: Millis) -> Option<i64> {
    let is_asked = target.request.verification != Verification::None;
    is_asked.then(|| now.plus(SOON).0)
}

impl Catalog {
    /// Notes that a target has proved itself at this address: it is active now, unless it is disabled.
    ///
    /// # Errors
    /// `NotFound` when it is gone, or has another address by now.
    pub async fn proved(&self, id: TargetId, url: &str) -> Result<(), CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin_of_all().await?;
        // Taken for writing first, so that what is read holds until the commit.
        let row = sqlx::query(
            "UPDATE targets SET verified_at = $1, not_proved = NULL, ask_at = $2 \
             WHERE id = $3 AND url = $4 RETURNING tenant, state",
        )
        .bind(now.0)
        .bind(now.plus(AGAIN).0)
        .bind(id.0)
        .bind(url)
        .fetch_one(write.on())
        .await?;
        let tenant: Tenant = super::db::tenant(&row, 0)?;
        if state(&row, 1)? == TargetState::Unverified {
            sqlx::query("UPDATE targets SET state = 'active' WHERE id = $1")
                .bind(id.0)
                .execute(write.on())
                .await?;
            let entry = Entry {
                action: Action::Verify,
                kind: AuditKind::Target,
                thing: id.to_string(),
                before: Some(json!({"state": TargetState::Unverified})),
                after: Some(json!({"state": TargetState::Active})),
            };
            self.note(&mut write, &tenant, entry).await?;
        }
        write.changed(&tenant, Some(id)).await?;
        self.commit(write).await
    }

    /// Notes that a target did not prove itself at this address, and why. Unless that `may_pass`, and its last proof
    /// is not too old, it is unverified now; whether it is.
    ///
    /// # Errors
    /// `NotFound` when it is gone, or has another address by now.
    pub async fn not_proved(
        &self,
        id: TargetId,
        url: &str,
        why: &str,
        may_pass: bool,
    ) -> Result<bool, CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin_of_all().await?;
        // Taken for writing first, so that what is read holds until the commit.
        let row = sqlx::query(
            "UPDATE targets SET not_proved = $1 WHERE id = $2 AND url = $3 \
             RETURNING tenant, verified_at, updated_at, state",
        )
        .bind(why)
        .bind(id.0)
        .bind(url)
        .fetch_one(write.on())
        .await?;
        let tenant: Tenant = super::db::tenant(&row, 0)?;
        let verified_at = row.try_get::<Option<i64>, _>(1)?.map(Millis);
        let updated_at = super::db::millis(&row, 2)?;
        let keeps = may_pass && verified_at.is_some_and(|at| now < at.plus(LASTS));
        let asked_again = verified_at.is_some() || now < updated_at.plus(PATIENCE);
        sqlx::query(
            "UPDATE targets SET ask_at = $1, verified_at = $2, \
             state = CASE WHEN state = 'active' AND $2 IS NULL THEN 'unverified' ELSE state END WHERE id = $3",
        )
        .bind(asked_again.then(|| now.plus(SOON).0))
        .bind(verified_at.filter(|_| keeps).map(|at| at.0))
        .bind(id.0)
        .execute(write.on())
        .await?;
        if !keeps && state(&row, 3)? == TargetState::Active {
            let entry = Entry {
                action: Action::Unverify,
                kind: AuditKind::Target,
                thing: id.to_string(),
                before: Some(json!({"state": TargetState::Active})),
                after: Some(json!({"state": TargetState::Unverified, "notProved": why})),
            };
            self.note(&mut write, &tenant, entry).await?;
        }
        if !keeps {
            write.changed(&tenant, Some(id)).await?;
        }
        self.commit(write).await?;
        Ok(!keeps)
    }

    /// Targets that are to be asked now, at most so many. Nobody else is given them for five minutes.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn to_ask(&self, most: u32) -> Result<Vec<TargetId>, CatalogError> {
        let now = self.clock.now();
        let mut write = self.db.begin_of_all().await?;
        // Who comes second at the same moment finds the time changed already.
        let rows = sqlx::query(
            "UPDATE targets SET ask_at = $1 WHERE ask_at <= $2 AND id IN \
             (SELECT id FROM targets WHERE ask_at <= $2 AND state <> 'disabled' ORDER BY ask_at LIMIT $3) \
             RETURNING id",
        )
        .bind(now.plus(CLAIMED).0)
        .bind(now.0)
        .bind(i64::from(most))
        .fetch_all(write.on())
        .await?;
        write.commit().await?;
        rows.iter().map(|row| Ok(TargetId(row.try_get(0)?))).collect()
    }
}
