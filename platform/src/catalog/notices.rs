//! What owners of targets are still to be told: written with what happened, taken away once it is told.
//!
//! One row for each target and kind, so that it stays small whatever happens. Whoever tells claims a
//! target's rows for a while: killed meanwhile, somebody tells them again.

use super::db::{self, Write, bounded, broken, millis, unsigned};
use super::{Catalog, CatalogError};
use schemas::ids::{TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;
use std::time::Duration;

/// How long deliveries that are given up are gathered before they are told of.
const GATHER: Duration = Duration::from_secs(60);

/// A kind of news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Deliveries were given up. Its events are published by whoever gives up.
    Exhausted,
    /// The target will be disabled if it goes on failing.
    Failing,
    /// The target was disabled.
    Disabled,
}

impl NoticeKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exhausted => "exhausted",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
        }
    }

    fn from_word(word: &str) -> Option<Self> {
        match word {
            "exhausted" => Some(Self::Exhausted),
            "failing" => Some(Self::Failing),
            "disabled" => Some(Self::Disabled),
            _ => None,
        }
    }
}

/// News of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// Of what.
    pub kind: NoticeKind,
    /// How often it happened since it was last told.
    pub times: u32,
    /// First then; of a target that fails, since then.
    pub first_at: Millis,
    /// Last then.
    pub last_at: Millis,
    /// Why, the last time.
    pub reason: String,
    /// Whether its operational event is in the log.
    pub published: bool,
}

/// A target's news, and whom to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetNews {
    /// The target.
    pub target: TargetId,
    /// Its owner.
    pub tenant: Tenant,
    /// Its address.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// Whom to write to.
    pub contact: Option<String>,
    /// When the contact was last written to.
    pub mailed_at: Option<Millis>,
    /// What there is to tell.
    pub news: Vec<News>,
}

impl Catalog {
    /// Targets with news that are due, the longest waiting first.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn due_news(&self, most: u32) -> Result<Vec<TargetId>, CatalogError> {
        bounded(async {
            let rows = sqlx::query(
                "SELECT target FROM target_notices WHERE due_at <= $1 GROUP BY target ORDER BY MIN(due_at) LIMIT $2",
            )
            .bind(self.clock.now().0)
            .bind(i64::from(most))
            .fetch_all(self.db.of_all())
            .await?;
            rows.iter().map(|row| Ok(TargetId(row.try_get(0)?))).collect()
        })
        .await
    }

    /// Claims a target's due news for so long; `None` if somebody else has.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn claim_news(
        &self,
        target: TargetId,
        lease: Duration,
    ) -> Result<Option<TargetNews>, CatalogError> {
        bounded(async {
            let now = self.clock.now();
            let mut write = self.db.begin_of_all().await?;
            let rows = sqlx::query(
                "UPDATE target_notices SET due_at = $1 WHERE target = $2 AND due_at <= $3 \
                 RETURNING kind, times, first_at, last_at, reason, published",
            )
            .bind(now.plus(lease).0)
            .bind(target.0)
            .bind(now.0)
            .fetch_all(write.on())
            .await?;
            if rows.is_empty() {
                return Ok(None);
            }
            let mut news = Vec::with_capacity(rows.len());
            for row in &rows {
                news.push(News {
                    kind: NoticeKind::from_word(row.try_get(0)?).ok_or_else(|| broken(row, 0))?,
                    times: unsigned(row, 1)?,
                    first_at: millis(row, 2)?,
                    last_at: millis(row, 3)?,
                    reason: row.try_get(4)?,
                    published: row.try_get::<i64, _>(5)? != 0,
                });
            }
            let about = sqlx::query(
                "SELECT t.tenant, t.url, t.description, t.contact, h.mailed_at FROM targets t \
                 LEFT JOIN target_health h ON h.target = t.id WHERE t.id = $1",
            )
            .bind(target.0)
            .fetch_one(write.on())
            .await?;
            let found = TargetNews {
                target,
                tenant: db::tenant(&about, 0)?,
                url: about.try_get(1)?,
                description: about.try_get(2)?,
                contact: about.try_get(3)?,
                mailed_at: about.try_get::<Option<i64>, _>(4)?.map(Millis),
                news,
            };
            write.commit().await?;
            Ok(Some(found))
        })
        .await
    }

    /// Notes that the operational event of this news is in the log.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn news_published(&self, target: TargetId, news: &News) -> Result<(), CatalogError> {
        bounded(async {
            let mut write = self.db.begin_of_all().await?;
            sqlx::query(
                "UPDATE target_notices SET published = 1 WHERE target = $1 AND kind = $2 AND first_at = $3",
            )
            .bind(target.0)
            .bind(news.kind.as_str())
            .bind(news.first_at.0)
            .execute(write.on())
            .await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }

    /// Looks at all news of a target again at this time, and not before.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn postpone_news(&self, target: TargetId, until: Millis) -> Result<(), CatalogError> {
        bounded(async {
            let mut write = self.db.begin_of_all().await?;
            sqlx::query("UPDATE target_notices SET due_at = $1 WHERE target = $2")
                .bind(until.0)
                .bind(target.0)
                .execute(write.on())
                .await?;
            write.commit().await?;
            Ok(())
        })
        .await
    }

    /// Takes claimed news away: it is told, or will not be. What has come since stays, and is told at
    /// the next time. `mailed_at`: when the contact was written to, if it was.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn news_done(
        &self,
        claimed: &TargetNews,
        mailed_at: Option<Millis>,
    ) -> Result<(), CatalogError> {
        bounded(async {
            let mut write = self.db.begin_of_all().await?;
            for news in &claimed.news {
                sqlx::query(
                    "DELETE FROM target_notices \
                     WHERE target = $1 AND kind = $2 AND times = $3 AND last_at = $4",
                )
                .bind(claimed.target.0)
                .bind(news.kind.as_str())
                .bind(i64::from(news.times))
                .bind(news.last_at.0)
                .execute(write.on())
                .await?;
                // Of a kind that comes again: the same row with more in it, or another time in it.
                sqlx::query(
                    "UPDATE target_notices SET times = times - $1, first_at = last_at \
                     WHERE target = $2 AND kind = $3 AND times > $1",
                )
                .bind(i64::from(news.times))
                .bind(claimed.target.0)
                .bind(news.kind.as_str())
                .execute(write.on())
                .await?;
            }
            if let Some(at) = mailed_at {
                sqlx::query(
                    "INSERT INTO target_health (target, good_at, mailed_at) \
                     SELECT id, 0, $1 FROM targets WHERE id = $2 \
                     ON CONFLICT (target) DO UPDATE SET mailed_at = excluded.mailed_at",
                )
                .bind(at.0)
                .bind(claimed.target.0)
                .execute(write.on())
                .await?;
            }
            write.commit().await?;
            Ok(())
        })
        .await
    }
}

/// Adds news of a target, if that is still there. `between`: the first and the last time it happened.
pub(super) async fn add_notice(
    write: &mut Write,
    target: TargetId,
    kind: NoticeKind,
    times: u32,
    between: (Millis, Millis),
    reason: &str,
    now: Millis,
) -> Result<(), CatalogError> {
    let (due_at, adds) = match kind {
        // One mail for many: what is due already stays so.
        NoticeKind::Exhausted => (
            now.plus(GATHER),
            "times = target_notices.times + excluded.times, last_at = excluded.last_at, \
             reason = excluded.reason",
        ),
        // It is another failing, or another end, than the one not told yet.
        NoticeKind::Failing | NoticeKind::Disabled => (
            now,
            "times = excluded.times, first_at = excluded.first_at, last_at = excluded.last_at, \
             reason = excluded.reason, published = 0, due_at = excluded.due_at",
        ),
    };
    let statement = format!(
        "INSERT INTO target_notices (target, kind, times, first_at, last_at, reason, published, due_at) \
         SELECT id, $1, $2, $3, $4, $5, 0, $6 FROM targets WHERE id = $7 \
         ON CONFLICT (target, kind) DO UPDATE SET {adds}"
    );
    sqlx::query(sqlx::AssertSqlSafe(statement))
        .bind(kind.as_str())
        .bind(i64::from(times))
        .bind(between.0.0)
        .bind(between.1.0)
        .bind(reason)
        .bind(due_at.0)
        .bind(target.0)
        .execute(write.on())
        .await?;
    Ok(())
}
