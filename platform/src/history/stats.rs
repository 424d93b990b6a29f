//! What is counted, read: never from the rows that were counted.

use super::History;
use super::settle::tally;
use super::tally::{ALL_TARGETS, ALL_TYPES, DAY, HOUR, OTHER_TYPES, Tally, begin};
use crate::catalog::CatalogError;
use crate::catalog::db::{Sql, millis};
use schemas::ids::{TargetId, Tenant};
use schemas::time::Millis;
use sqlx::Row;

/// What time is cut into, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bucket {
    /// Hours.
    Hour,
    /// Days.
    Day,
}

impl Bucket {
    fn span(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }

    /// When the bucket of a moment begins.
    #[must_use]
    pub fn begin(self, at: Millis) -> Millis {
        Millis(begin(at.0, self.span()))
    }
}

/// What is counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    /// Each target.
    Target,
    /// Each event type; those beyond the first hundred of a bucket together.
    EventType,
}

/// Which counts to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsQuery {
    /// What time is cut into.
    pub bucket: Bucket,
    /// Only buckets that begin at or after this.
    pub from: Millis,
    /// Only buckets that begin before this.
    pub to: Millis,
    /// Only of this target.
    pub target: Option<TargetId>,
    /// Only of this event type.
    pub event_type: Option<String>,
    /// What to count apart.
    pub group_by: Option<GroupBy>,
    /// At most so many rows.
    pub limit: u32,
}

/// What is counted in one bucket, of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsRow {
    /// When the bucket begins.
    pub at: Millis,
    /// The target, where each is counted apart or one was asked for.
    pub target: Option<TargetId>,
    /// The event type, where each is counted apart or one was asked for; [`StatsRow::OTHER_TYPES`] for those that have
    /// no row of their own.
    pub event_type: Option<String>,
    /// The counts.
    pub tally: Tally,
}

impl StatsRow {
    /// Stands for the event types beyond those that are counted apart. It is no event type.
    pub const OTHER_TYPES: &'static str = OTHER_TYPES;
}

impl History {
    /// What is counted, oldest first. Buckets and groups in which nothing happened have no row.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn stats(&self, tenant: &Tenant, query: &StatsQuery) -> Result<Vec<StatsRow>, CatalogError> {
        let rows = stats("", tenant, query)
            .query()
            .fetch_all(self.db.of(tenant).await?.on())
            .await?;
        let mut all = Vec::with_capacity(rows.len());
        for row in &rows {
            let (target, event_type): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
            all.push(StatsRow {
                at: millis(row, 2)?,
                target: (target != ALL_TARGETS).then_some(TargetId(target)),
                event_type: (event_type != ALL_TYPES).then_some(event_type),
                tally: tally(row, 3)?,
            });
        }
        Ok(all)
    }

    /// How the database answers [`History::stats`], in its own words.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn explain_stats(
        &self,
        tenant: &Tenant,
        query: &StatsQuery,
    ) -> Result<Vec<String>, CatalogError> {
        self.db
            .explain(Some(tenant), |head| stats(head, tenant, query))
            .await
    }
}

fn stats(head: &str, tenant: &Tenant, query: &StatsQuery) -> Sql {
    let mut sql = Sql::new(format!(
        "{head}SELECT target, event_type, at, tally FROM stats WHERE tenant = "
    ));
    sql.bind(tenant.as_str());
    match (query.group_by, query.target) {
        (Some(GroupBy::Target), None) => sql.push(" AND target > ").bind(ALL_TARGETS),
        (_, target) => sql
            .push(" AND target = ")
            .bind(target.map_or(ALL_TARGETS, |target| target.0)),
    };
    match (query.group_by, &query.event_type) {
        (Some(GroupBy::EventType), None) => sql.push(" AND event_type > ").bind(ALL_TYPES),
        (_, event_type) => sql
            .push(" AND event_type = ")
            .bind(event_type.as_deref().unwrap_or(ALL_TYPES)),
    };
    sql.push(" AND span = ").bind(query.bucket.span());
    sql.push(" AND at >= ").bind(query.from.0);
    sql.push(" AND at < ").bind(query.to.0);
    sql.push(" ORDER BY at, target, event_type LIMIT ")
        .bind(i64::from(query.limit));
    sql
}
