//! What a replay goes through, a step at a time.

use super::Work;
use super::history_walk::HistoryWalk;
use super::log_walk::LogWalk;
use crate::decode::Decoded;
use platform::catalog::CatalogError;
use platform::event_log::{LogError, Record};
use platform::replays::{Place, Replay, Which};
use schemas::delivery::DeliveryStatus;
use schemas::event::Event;

/// Why a walk cannot go on.
pub(super) enum Stop {
    /// Something is away: later.
    Away(String),
    /// For good; why, for the tenant.
    Failed(String),
}

impl From<CatalogError> for Stop {
    fn from(error: CatalogError) -> Self {
        Self::Away(error.to_string())
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        // A topic that the log refuses is the operator's to mend, and goes on then.
        Self::Away(error.to_string())
    }
}

/// An event to be sent again.
pub(super) struct Again {
    /// The event; accepted when it was accepted at first.
    pub(super) event: Event,
    /// Its record.
    pub(super) record: Record,
    /// What became of its delivery, and the attempts made; `None` when history knows of none.
    pub(super) delivery: Option<(DeliveryStatus, u32)>,
}

/// What one step found.
pub(super) struct Step {
    /// To be sent.
    pub(super) again: Vec<Again>,
    /// Events or deliveries of the tenant looked at.
    pub(super) examined: u64,
    /// Deliveries that cannot be sent.
    pub(super) lost: u64,
    /// Where the next step begins, once these are sent.
    pub(super) place: Place,
    /// How much is done then, 0 to 100.
    pub(super) percent: u32,
    /// Whether nothing is left then.
    pub(super) done: bool,
}

/// A replay's way.
pub(super) enum Walk {
    Log(Box<LogWalk>),
    History(Box<HistoryWalk>),
}

impl Walk {
    /// Begins where the replay stands.
    pub(super) async fn open(work: &Work, replay: &Replay) -> Result<Self, Stop> {
        Ok(match replay.which {
            Which::Missed | Which::All => Self::Log(Box::new(LogWalk::open(work, replay).await?)),
            Which::Failed | Which::Exhausted | Which::One => {
                Self::History(Box::new(HistoryWalk::open(work, replay).await?))
            }
        })
    }

    /// The next step: at most so many deliveries, and no end of looking for them.
    pub(super) async fn next(&mut self, work: &Work, most: usize) -> Result<Step, Stop> {
        match self {
            Self::Log(walk) => walk.next(work, most).await,
            Self::History(walk) => walk.next(work, most).await,
        }
    }
}

impl Work {
    /// The event of a record; `None` when it cannot be read, or is too large. Its time of acceptance is the log's.
    pub(super) async fn event(&self, record: &Record) -> Option<Event> {
        let now = self.clock.now();
        match self.decoders.decode(record, now).await {
            Decoded::Event(mut event) if event.payload.len() <= self.max_payload => {
                event.accepted_at = record.timestamp.min(now);
                Some(event)
            }
            Decoded::Event(_) | Decoded::Poison(_) => None,
        }
    }
}

/// How much of a whole is done, 0 to 100; all of nothing.
pub(super) fn percent(left: u64, total: u64) -> u32 {
    let done = total.saturating_sub(left);
    match total {
        0 => 100,
        total => u32::try_from(u128::from(done) * 100 / u128::from(total)).unwrap_or(100),
    }
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn a_hundred_percent_is_all_of_it() {
        for (left, total, expected) in [(0, 0, 100), (0, 7, 100), (1, 1_000, 99), (7, 7, 0), (9, 7, 0)] {
            assert_eq!(percent(left, total), expected, "{left} of {total}");
        }
        assert_eq!(percent(1, u64::MAX), 99);
    }
}
