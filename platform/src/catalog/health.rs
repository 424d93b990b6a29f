//! Which targets fail: read for a batch of attempts, and written only where something changes.
//!
//! Attempts of one target come in no order, from several recorders, and again after a crash: each
//! statement therefore says under what it holds.

use super::db::{Sql, Write, bounded, millis};
use super::notices::add_notice;
use super::{Catalog, CatalogError, NoticeKind};
use schemas::ids::TargetId;
use schemas::time::Millis;
use sqlx::Row;
use std::collections::HashMap;

/// Targets asked for in one statement.
const AT_ONCE: usize = 256;

/// What is known of a target that failed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// A success, or when it was enabled: failures before that do not count.
    pub good_at: Millis,
    /// The first failure after the last success, while it fails.
    pub failing_since: Option<Millis>,
    /// When its owner was warned, by the time of the attempt that was the reason.
    pub warned_at: Option<Millis>,
}

/// What attempts change of a target's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthChange {
    /// A success ends its failing.
    Good(Millis),
    /// It fails, first then.
    Failing(Millis),
    /// It has failed so long that its owner is to be warned, at this attempt, which failed for this reason.
    Warn(Millis, String),
    /// It is to be disabled, for this reason.
    Disable(String),
    /// So many of its deliveries were given up, the first and the last then, the last for this reason.
    GivenUp(u32, Millis, Millis, String),
}

impl Catalog {
    /// What is known of these targets; of most there is nothing.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn health(&self, targets: &[TargetId]) -> Result<HashMap<TargetId, Health>, CatalogError> {
        let mut found = HashMap::new();
        for some in targets.chunks(AT_ONCE) {
            let mut sql = Sql::new(
                "SELECT target, good_at, failing_since, warned_at FROM target_health WHERE target IN (",
            );
            for (n, target) in some.iter().enumerate() {
                if n > 0 {
                    sql.push(", ");
                }
                sql.bind(target.0);
            }
            sql.push(")");
            let rows = bounded(async { Ok(sql.query().fetch_all(self.db.of_all()).await?) }).await?;
            for row in &rows {
                let health = Health {
                    good_at: millis(row, 1)?,
                    failing_since: row.try_get::<Option<i64>, _>(2)?.map(Millis),
                    warned_at: row.try_get::<Option<i64>, _>(3)?.map(Millis),
                };
                found.insert(TargetId(row.try_get(0)?), health);
            }
        }
        Ok(found)
    }

    /// Makes changes, in order. May be repeated. Targets that are gone, or not active, are left alone.
    ///
    /// # Errors
    /// `Unavailable`; some may be made then.
    pub async fn change_health(&self, changes: &[(TargetId, HealthChange)]) -> Result<(), CatalogError> {
        bounded(async {
            let now = self.clock.now();
            let mut write = self.db.begin_of_all().await?;
            for (target, change) in changes {
                match change {
                    HealthChange::Good(at) => good(&mut write, *target, *at).await?,
                    HealthChange::Failing(since) => failing(&mut write, *target, *since).await?,
                    HealthChange::Warn(at, reason) => {
                        let since = warn(&mut write, *target, *at).await?;
                        if let Some(since) = since {
                            let kind = NoticeKind::Failing;
                            add_notice(&mut write, *target, kind, 1, (since, since), reason, now).await?;
                        }
                    }
                    HealthChange::GivenUp(times, first, last, reason) => {
                        let kind = NoticeKind::Exhausted;
                        add_notice(&mut write, *target, kind, *times, (*first, *last), reason, now).await?;
                    }
                    // In a transaction of its own, below.
                    HealthChange::Disable(_) => {}
                }
            }
            write.commit().await?;
            Ok(())
        })
        .await?;
        for (target, change) in changes {
            if let HealthChange::Disable(reason) = change
                && self.disable_target(*target, reason).await?
            {
                tracing::info!(%target, %reason, "target disabled");
            }
        }
        Ok(())
    }
}

async fn good(write: &mut Write, target: TargetId, at: Millis) -> Result<(), CatalogError> {
    sqlx::query(
        "UPDATE target_health SET good_at = $1, failing_since = NULL, warned_at = NULL \
         WHERE target = $2 AND failing_since < $1",
    )
    .bind(at.0)
    .bind(target.0)
    .execute(write.on())
    .await?;
    sqlx::query("DELETE FROM target_notices WHERE target = $1 AND kind = 'failing' AND first_at < $2")
        .bind(target.0)
        .bind(at.0)
        .execute(write.on())
        .await?;
    Ok(())
}

async fn failing(write: &mut Write, target: TargetId, since: Millis) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO target_health (target, good_at, failing_since) \
         SELECT id, 0, $1 FROM targets WHERE id = $2 AND state = 'active' \
         ON CONFLICT (target) DO UPDATE SET failing_since = excluded.failing_since \
         WHERE target_health.failing_since IS NULL AND target_health.good_at < excluded.failing_since",
    )
    .bind(since.0)
    .bind(target.0)
    .execute(write.on())
    .await?;
    Ok(())
}

/// Notes a warning; since when the target fails, if there was none before.
async fn warn(write: &mut Write, target: TargetId, at: Millis) -> Result<Option<Millis>, CatalogError> {
    let row = sqlx::query(
        "UPDATE target_health SET warned_at = $1 \
         WHERE target = $2 AND warned_at IS NULL AND failing_since IS NOT NULL RETURNING failing_since",
    )
    .bind(at.0)
    .bind(target.0)
    .fetch_optional(write.on())
    .await?;
    row.map(|row| millis(&row, 0)).transpose()
}

/// A target is enabled: what was before does not count.
pub(super) async fn begin_anew(write: &mut Write, target: TargetId, now: Millis) -> Result<(), CatalogError> {
    sqlx::query(
        "INSERT INTO target_health (target, good_at) VALUES ($1, $2) \
         ON CONFLICT (target) DO UPDATE SET good_at = excluded.good_at, failing_since = NULL, warned_at = NULL",
    )
    .bind(target.0)
    .bind(now.0)
    .execute(write.on())
    .await?;
    sqlx::query("DELETE FROM target_notices WHERE target = $1 AND kind = 'failing'")
        .bind(target.0)
        .execute(write.on())
        .await?;
    Ok(())
}
