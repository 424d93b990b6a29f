//! A replay, and what it is made of.

use crate::event_log::Span;
use schemas::ids::{DeliveryId, TargetId, Tenant};
use schemas::time::Millis;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Which events or deliveries are sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Events that match the target's subscriptions now and were not delivered to it, whether they
    /// matched then or not.
    Missed,
    /// Deliveries that were given up or canceled.
    Failed,
    /// All events that match the target's subscriptions now.
    All,
    /// Deliveries that were given up: dead letters.
    Exhausted,
    /// One delivery.
    One,
}

impl Which {
    /// Its word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missed => "missed",
            Self::Failed => "failed",
            Self::All => "all",
            Self::Exhausted => "exhausted",
            Self::One => "one",
        }
    }

    /// The one of a word; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Missed, Self::Failed, Self::All, Self::Exhausted, Self::One]
            .into_iter()
            .find(|which| which.as_str() == word)
    }
}

/// How far a replay has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayState {
    /// Nobody has begun yet.
    Waiting,
    /// Begun; worked on now, or as soon as it is its turn again.
    Running,
    /// Everything was sent.
    Done,
    /// Given up, for the reason it has.
    Failed,
    /// Stopped by its tenant.
    Canceled,
}

impl ReplayState {
    /// Its word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// The one of a word; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [
            Self::Waiting,
            Self::Running,
            Self::Done,
            Self::Failed,
            Self::Canceled,
        ]
        .into_iter()
        .find(|state| state.as_str() == word)
    }
}

/// Where a replay goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// At the beginning.
    #[default]
    Start,
    /// In the log.
    Log {
        /// What is left, by topic.
        topics: BTreeMap<String, Vec<Span>>,
        /// How many records there were in all, of every tenant.
        total: u64,
    },
    /// In history.
    History {
        /// The last delivery looked at: when its event was accepted, and its id. None yet in `None`.
        after: Option<(Millis, String)>,
        /// How many deliveries there were in all when it began.
        total: u64,
    },
}

/// What came of it so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events or deliveries of the tenant looked at.
    pub examined: u64,
    /// Deliveries sent.
    pub sent: u64,
    /// Deliveries not sent, because the log no longer holds the event, or it cannot be read.
    pub lost: u64,
}

/// A replay to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewReplay {
    /// The target.
    pub target: TargetId,
    /// What is sent.
    pub which: Which,
    /// The delivery, of [`Which::One`].
    pub delivery: Option<DeliveryId>,
    /// Events accepted at or after this.
    pub from: Millis,
    /// Events accepted before this.
    pub to: Millis,
}

/// Deliveries to one target, sent again in the background.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Its id.
    pub id: i64,
    /// Whose it is.
    pub tenant: Tenant,
    /// See [`NewReplay::target`].
    pub target: TargetId,
    /// See [`NewReplay::which`].
    pub which: Which,
    /// See [`NewReplay::delivery`].
    pub delivery: Option<DeliveryId>,
    /// See [`NewReplay::from`].
    pub from: Millis,
    /// See [`NewReplay::to`].
    pub to: Millis,
    /// How far it has come.
    pub state: ReplayState,
    /// Why it failed.
    pub error: Option<String>,
    /// Where it goes on.
    pub place: Place,
    /// How much of its range is done, 0 to 100.
    pub percent: u32,
    /// What came of it so far.
    pub counts: Counts,
    /// When it was made.
    pub created_at: Millis,
    /// When it was last worked on.
    pub updated_at: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_place_never_changes_its_form() {
        let span = Span {
            partition: 3,
            next: 7,
            end: 9,
        };
        for (place, golden) in [
            (Place::Start, r#""start""#),
            (
                Place::Log {
                    topics: [("t".to_owned(), vec![span])].into(),
                    total: 5,
                },
                r#"{"log":{"topics":{"t":[{"p":3,"n":7,"e":9}]},"total":5}}"#,
            ),
            (
                Place::History {
                    after: Some((Millis(8), "dlv_1".to_owned())),
                    total: 2,
                },
                r#"{"history":{"after":[8,"dlv_1"],"total":2}}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&place).unwrap(), golden);
            assert_eq!(serde_json::from_str::<Place>(golden).unwrap(), place);
        }
    }
}
