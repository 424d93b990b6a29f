//! Who works on what.

use super::{COLUMNS, OPEN, Replay, ReplayState, Replays, place, replay_row};
use crate::catalog::CatalogError;
use crate::catalog::db::{Sql, Write, unsigned};
use schemas::ids::TargetId;
use schemas::time::Millis;
use sqlx::Row;
use std::time::Duration;

/// How long a target is somebody's who does not say that he still works on it. By the clocks of the
/// processes, which may differ by a part of it.
pub const LEASE: Duration = Duration::from_secs(6);

/// Targets tried for a lease before the next look: of several processes that look at once, each gets another.
const TRIED: i64 = 8;

impl Replays {
    /// Takes the replay whose turn it is, of the tenant with the fewest under way, and leases its target;
    /// `None` when there is nothing to do.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim(&self, owner: &str) -> Result<Option<Replay>, CatalogError> {
        let now = self.catalog.clock.now();
        let mut sql = Sql::new(format!(
            "SELECT r.target FROM replays r WHERE r.{OPEN} AND NOT EXISTS \
             (SELECT 1 FROM replay_leases l WHERE l.target = r.target AND l.until > "
        ));
        sql.bind(now.0);
        sql.push(") ORDER BY (SELECT COUNT(*) FROM replay_leases t WHERE t.tenant = r.tenant AND t.until > ")
            .bind(now.0);
        sql.push("), r.turn, r.id LIMIT ").bind(TRIED);
        let found = sql.query().fetch_all(self.catalog.db.of_all()).await?;
        for row in found {
            let target = TargetId(row.try_get(0)?);
            let mut write = self.catalog.db.begin_of_all().await?;
            if let Some(replay) = lease(&mut write, owner, target, now).await? {
                write.commit().await?;
                return Ok(Some(replay));
            }
        }
        Ok(None)
    }

    /// Says that the owner still works on this replay to the target; `false` when that is his no longer, or the
    /// replay was stopped.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn renew(&self, owner: &str, target: TargetId, replay: i64) -> Result<bool, CatalogError> {
        let mut write = self.catalog.db.begin_of_all().await?;
        let mut sql = Sql::new("UPDATE replay_leases SET until = ");
        sql.bind(self.catalog.clock.now().plus(LEASE).0);
        sql.push(" WHERE target = ").bind(target.0);
        sql.push(" AND owner = ").bind(owner);
        sql.push(" AND EXISTS (SELECT 1 FROM replays r WHERE r.state = 'running' AND r.id = ")
            .bind(replay)
            .push(")");
        let kept = sql.query().execute(write.on()).await?.rows_affected() > 0;
        write.commit().await?;
        Ok(kept)
    }

    /// Forgets all leases: of a database that one process has for itself, and has just opened. What the last
    /// one had leased need not run out.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn forget_leases(&self) -> Result<(), CatalogError> {
        let mut write = self.catalog.db.begin_of_all().await?;
        sqlx::query("DELETE FROM replay_leases")
            .execute(write.on())
            .await?;
        write.commit().await?;
        Ok(())
    }

    /// Stores how far a replay has come; `false` when it was stopped, or its target is the owner's no longer.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn store(&self, owner: &str, replay: &Replay) -> Result<bool, CatalogError> {
        self.put(owner, replay, ReplayState::Running, None).await
    }

    /// Brings a replay to its end; `false` as for [`Replays::store`].
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn finish(
        &self,
        owner: &str,
        replay: &Replay,
        state: ReplayState,
        error: Option<&str>,
    ) -> Result<bool, CatalogError> {
        self.put(owner, replay, state, error).await
    }

    async fn put(
        &self,
        owner: &str,
        replay: &Replay,
        state: ReplayState,
        error: Option<&str>,
    ) -> Result<bool, CatalogError> {
        let count = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let mut write = self.catalog.db.begin_of(&replay.tenant).await?;
        let mut sql = Sql::new("UPDATE replays SET place = ");
        sql.bind(place(&replay.place)?);
        sql.push(", state = ").bind(state.as_str());
        sql.push(", error = ").bind(error);
        sql.push(", percent = ").bind(i64::from(replay.percent));
        sql.push(", examined = ").bind(count(replay.counts.examined));
        sql.push(", sent = ").bind(count(replay.counts.sent));
        sql.push(", lost = ").bind(count(replay.counts.lost));
        sql.push(", updated_at = ").bind(self.catalog.clock.now().0);
        sql.push(" WHERE state = 'running' AND id = ").bind(replay.id);
        sql.push(" AND EXISTS (SELECT 1 FROM replay_leases l WHERE l.target = replays.target AND l.owner = ")
            .bind(owner)
            .push(")");
        let stored = sql.query().execute(write.on()).await?.rows_affected() > 0;
        write.commit().await?;
        Ok(stored)
    }

    /// Gives the target back, and puts the replay behind the others that wait.
    ///
    /// # Errors
    /// `Unavailable`: the lease runs out by itself.
    pub async fn release(&self, owner: &str, replay: &Replay) -> Result<(), CatalogError> {
        let mut write = self.catalog.db.begin_of(&replay.tenant).await?;
        let mut sql = Sql::new("DELETE FROM replay_leases WHERE target = ");
        sql.bind(replay.target.0).push(" AND owner = ").bind(owner);
        if sql.query().execute(write.on()).await?.rows_affected() > 0 {
            let mut sql = Sql::new("UPDATE replays SET turn = ");
            sql.bind(self.catalog.clock.now().0);
            sql.push(" WHERE id = ").bind(replay.id);
            sql.query().execute(write.on()).await?;
        }
        write.commit().await?;
        Ok(())
    }

    /// Whether another replay waits: to the same target, or to one that nobody works on.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn others_wait(&self, replay: &Replay) -> Result<bool, CatalogError> {
        let mut sql = Sql::new(format!(
            "SELECT COUNT(*) FROM replays r WHERE r.{OPEN} AND r.id <> "
        ));
        sql.bind(replay.id);
        sql.push(" AND (r.target = ").bind(replay.target.0);
        sql.push(" OR NOT EXISTS (SELECT 1 FROM replay_leases l WHERE l.target = r.target AND l.until > ")
            .bind(self.catalog.clock.now().0)
            .push("))");
        let waiting: u64 = unsigned(&sql.query().fetch_one(self.catalog.db.of_all()).await?, 0)?;
        Ok(waiting > 0)
    }

    /// Waits until this process makes a replay.
    pub async fn made_here(&self) {
        self.catalog.replays.notified().await;
    }
}

/// Leases a target, and takes the replay to it whose turn it is; `None` when another was first.
async fn lease(
    write: &mut Write,
    owner: &str,
    target: TargetId,
    now: Millis,
) -> Result<Option<Replay>, CatalogError> {
    let mut sql = Sql::new(format!(
        "SELECT {COLUMNS} FROM replays WHERE {OPEN} AND target = "
    ));
    sql.bind(target.0).push(" ORDER BY turn, id LIMIT 1");
    let Some(row) = sql.query().fetch_optional(write.on()).await? else {
        return Ok(None);
    };
    let mut replay = replay_row(&row)?;
    let mut sql = Sql::new("INSERT INTO replay_leases (target, tenant, owner, until) VALUES (");
    sql.bind(target.0).push(", ").bind(replay.tenant.as_str());
    sql.push(", ").bind(owner).push(", ").bind(now.plus(LEASE).0);
    sql.push(
        ") ON CONFLICT (target) DO UPDATE SET tenant = excluded.tenant, owner = excluded.owner, \
         until = excluded.until WHERE replay_leases.until <= ",
    )
    .bind(now.0);
    if sql.query().execute(write.on()).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let mut sql = Sql::new(format!(
        "UPDATE replays SET state = 'running' WHERE {OPEN} AND id = "
    ));
    sql.bind(replay.id);
    if sql.query().execute(write.on()).await?.rows_affected() == 0 {
        return Ok(None);
    }
    replay.state = ReplayState::Running;
    Ok(Some(replay))
}
