//! Why an event went to nobody, asked when it is recorded: what the catalog has then is what it had when the event
//! was matched, but for what was changed in the moments between.

use super::History;
use crate::catalog::CatalogError;
use crate::catalog::db::Sql;
use schemas::history::{EventRecord, HistoryRecord};
use sqlx::Row;
use std::collections::HashMap;
use std::fmt;

/// Kinds of events that are asked about in one transaction: who makes event types out of ids shall not make a question
/// of each.
const MOST_ASKED: usize = 64;

/// Why no target got an event. Of several filters, subscriptions and targets the one that came nearest counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// No filter names its type.
    NoFilter,
    /// A filter does, but no subscription uses it.
    NoSubscription,
    /// A subscription does, but it is not active.
    SubscriptionInactive,
    /// An active subscription does, but its target is disabled.
    TargetDisabled,
    /// The same, but its target has not proved yet that it wants deliveries.
    TargetUnverified,
    /// When it was recorded, something wanted it: only since then.
    MatchedSince,
    /// It was not asked: there were too many kinds at once.
    Unknown,
}

impl Unmatched {
    /// All, the furthest from a match first.
    const ALL: [Self; 7] = [
        Self::NoFilter,
        Self::NoSubscription,
        Self::SubscriptionInactive,
        Self::TargetDisabled,
        Self::TargetUnverified,
        Self::MatchedSince,
        Self::Unknown,
    ];

    /// Its word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoFilter => "no_filter",
            Self::NoSubscription => "no_subscription",
            Self::SubscriptionInactive => "subscription_inactive",
            Self::TargetDisabled => "target_disabled",
            Self::TargetUnverified => "target_unverified",
            Self::MatchedSince => "matched_since",
            Self::Unknown => "unknown",
        }
    }

    /// The reason of a word; `Unknown` for one that a later release has written.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = Self::ALL.into_iter().find(|reason| reason.as_str() == word);
        known.unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why events of a tenant and a type went to nobody.
pub(super) type Reasons<'r> = HashMap<(&'r str, &'r str), Unmatched>;

impl History {
    /// The reasons of the events among `records` that have no target.
    pub(super) async fn reasons<'r>(
        &self,
        records: &'r [HistoryRecord],
    ) -> Result<Reasons<'r>, CatalogError> {
        let mut reasons = Reasons::new();
        for record in records {
            if let HistoryRecord::Event(event) = record
                && event.targets.is_empty()
                && !reasons.contains_key(&key(event))
            {
                let reason = if reasons.len() < MOST_ASKED {
                    self.reason(event).await?
                } else {
                    Unmatched::Unknown
                };
                reasons.insert(key(event), reason);
            }
        }
        Ok(reasons)
    }

    async fn reason(&self, event: &EventRecord) -> Result<Unmatched, CatalogError> {
        let mut sql = Sql::new(
            "SELECT MAX(CAST(CASE WHEN s.id IS NULL THEN 1 WHEN s.active = 0 THEN 2 \
             WHEN t.state = 'disabled' THEN 3 WHEN t.state = 'unverified' THEN 4 ELSE 5 END AS BIGINT)) \
             FROM filter_events e LEFT JOIN subscriptions s ON s.filter = e.filter \
             LEFT JOIN targets t ON t.id = s.target WHERE e.tenant = ",
        );
        sql.bind(event.tenant.as_str()).push(" AND e.pattern IN (");
        for (n, pattern) in schemas::pattern::candidates(&event.event_type)
            .into_iter()
            .enumerate()
        {
            if n > 0 {
                sql.push(", ");
            }
            sql.bind(pattern);
        }
        sql.push(")");
        let nearest: Option<i64> = sql
            .query()
            .fetch_one(self.db.of(&event.tenant).await?.on())
            .await?
            .try_get(0)?;
        let place = usize::try_from(nearest.unwrap_or(0)).unwrap_or(usize::MAX);
        Ok(Unmatched::ALL.get(place).copied().unwrap_or(Unmatched::Unknown))
    }
}

/// What the reason of an event depends on.
fn key(event: &EventRecord) -> (&str, &str) {
    (event.tenant.as_str(), &event.event_type)
}

/// The reason to store with an event; `None` for one that has targets.
pub(super) fn word(reasons: &Reasons<'_>, event: &EventRecord) -> Option<&'static str> {
    let unmatched = event.targets.is_empty().then(|| reasons.get(&key(event)));
    unmatched.flatten().map(|reason| reason.as_str())
}
