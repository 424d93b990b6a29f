//! The change feed: what to forget, for those who keep a copy of the catalog in memory.

use super::db::{self, Dialect, Write, bounded};
use super::listen::TELL;
use super::{Catalog, CatalogError, ChangeRow};
use schemas::ids::{TargetId, Tenant};
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;
use tokio::sync::watch;

impl Write {
    /// Adds a change row. Comes last in a transaction: the head's row stays locked from here to the
    /// commit, so numbers are taken in the order in which they become visible, and a reader that
    /// has seen 7 will never find a 6 it had not seen. They have no gaps either.
    pub(super) async fn changed(
        &mut self,
        tenant: &Tenant,
        target: Option<TargetId>,
    ) -> Result<(), CatalogError> {
        let seq: i64 = sqlx::query("UPDATE change_head SET seq = seq + 1 WHERE one = 1 RETURNING seq")
            .fetch_one(self.on())
            .await?
            .try_get(0)?;
        let tell = match self.dialect {
            Dialect::Sqlite => String::new(),
            // Told at the commit, or never; as text, since `Any` has no void.
            Dialect::Postgres => format!(" RETURNING {TELL}::text"),
        };
        let insert = format!("INSERT INTO changes (seq, tenant, target) VALUES ($1, $2, $3){tell}");
        sqlx::query(AssertSqlSafe(insert))
            .bind(seq)
            .bind(tenant.as_str())
            .bind(target.map(|id| id.0))
            .execute(self.on())
            .await?;
        self.newest = Some(seq);
        Ok(())
    }
}

impl Catalog {
    /// Commits, and tells this process's followers.
    pub(super) async fn commit(&self, write: Write) -> Result<(), CatalogError> {
        if let Some(seq) = write.commit().await? {
            self.seen(seq);
        }
        Ok(())
    }

    fn seen(&self, seq: i64) {
        self.newest.send_if_modified(|newest| {
            let newer = seq > *newest;
            *newest = seq.max(*newest);
            newer
        });
    }

    /// The newest change this process knows of: its own, raised before the call that made it
    /// returns, or read from the feed. 0 before the first of either.
    #[must_use]
    pub fn version(&self) -> i64 {
        *self.newest.borrow()
    }

    /// Tells of each rise of [`version`](Self::version).
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// The changes after `seq`, of every process, in order, at most `limit`. Numbers have no gaps: if
    /// the first is not `seq + 1`, what was between is removed.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn changes_since(&self, seq: i64, limit: u32) -> Result<Vec<ChangeRow>, CatalogError> {
        bounded(async {
            let rows =
                sqlx::query("SELECT seq, tenant, target FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2")
                    .bind(seq)
                    .bind(i64::from(limit))
                    .fetch_all(self.db.of_all())
                    .await?;
            let changes = rows
                .iter()
                .map(|row| {
                    Ok(ChangeRow {
                        seq: row.try_get(0)?,
                        tenant: db::tenant(row, 1)?,
                        target: row.try_get::<Option<i64>, _>(2)?.map(TargetId),
                    })
                })
                .collect::<Result<Vec<_>, CatalogError>>()?;
            if let Some(last) = changes.last() {
                self.seen(last.seq);
            }
            Ok(changes)
        })
        .await
    }

    /// Removes the changes that were there `age` ago, but never the newest: a follower that is further
    /// behind sees by it that it has missed some. Notes where the feed stands now, so that age counts
    /// from the first call after a change. Returns how many went.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn prune_changes(&self, age: Duration) -> Result<u64, CatalogError> {
        let now = self.clock.now().0;
        let before = now.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let mut write = self.db.begin_of_all().await?;
        sqlx::query(
            "INSERT INTO change_marks (seq, at) SELECT seq, $1 FROM change_head WHERE one = 1 \
             ON CONFLICT (seq) DO NOTHING",
        )
        .bind(now)
        .execute(write.on())
        .await?;
        let removed = sqlx::query(
            "DELETE FROM changes WHERE seq <= (SELECT MAX(seq) FROM change_marks WHERE at <= $1) \
             AND seq < (SELECT seq FROM change_head WHERE one = 1)",
        )
        .bind(before)
        .execute(write.on())
        .await?
        .rows_affected();
        sqlx::query(
            "DELETE FROM change_marks WHERE seq < (SELECT MAX(seq) FROM change_marks WHERE at <= $1)",
        )
        .bind(before)
        .execute(write.on())
        .await?;
        write.commit().await?;
        Ok(removed)
    }

    /// The newest change there is: where a follower that has read everything now begins.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn latest_change(&self) -> Result<i64, CatalogError> {
        bounded(async {
            let seq = sqlx::query("SELECT seq FROM change_head WHERE one = 1")
                .fetch_one(self.db.of_all())
                .await?
                .try_get(0)?;
            self.seen(seq);
            Ok(seq)
        })
        .await
    }
}
