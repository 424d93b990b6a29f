//! What is counted, and in which cells: pure.
//!
//! A cell is an hour or a day of one target and one event type, of all targets, of all event types, or of all
//! of both: a question reads the cells it asks for and adds up none but its own.

use super::histogram::Histogram;
use schemas::history::Attempt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An hour, in milliseconds.
pub(super) const HOUR: i64 = 3_600_000;
/// A day, in milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;

/// Stands in a cell for all targets. Ids of targets begin at 1.
pub(super) const ALL_TARGETS: i64 = 0;
/// Stands in a cell for all event types. No event type is empty.
pub(super) const ALL_TYPES: &str = "";
/// Stands in a cell for the event types that found no place of their own. It is no event type.
pub(super) const OTHER_TYPES: &str = "*";

/// What happened in a cell: its deliveries by where they stand, its attempts by what came of them and by how
/// long they took. As a change the counts are signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Deliveries of events accepted in this time, by the word of their status now.
    #[serde(rename = "d", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub deliveries: BTreeMap<String, i64>,
    /// Attempts begun in this time, by what came of them: `2xx` to `5xx`, or the word of the error.
    #[serde(rename = "a", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attempts: BTreeMap<String, i64>,
    /// The same attempts by how long each took, in milliseconds.
    #[serde(rename = "h", default)]
    pub durations: Histogram,
}

impl Tally {
    /// Counts deliveries more, or less.
    pub(super) fn delivery(&mut self, status: &str, times: i64) {
        *self.deliveries.entry(status.to_owned()).or_default() += times;
    }

    /// Counts an attempt more, or less.
    pub(super) fn attempt(&mut self, outcome: String, duration_ms: u32, times: i64) {
        *self.attempts.entry(outcome).or_default() += times;
        self.durations.count(duration_ms, times);
    }

    /// Adds another, or the change that it says.
    pub fn add(&mut self, other: &Self) {
        for (ours, others) in [
            (&mut self.deliveries, &other.deliveries),
            (&mut self.attempts, &other.attempts),
        ] {
            for (word, times) in others {
                *ours.entry(word.clone()).or_default() += times;
            }
        }
        self.durations.add(&other.durations);
    }

    /// Drops what is zero, and what is less: of what was recorded before there were tallies only the end may
    /// have been counted.
    pub(super) fn settle(&mut self) {
        self.deliveries.retain(|_, times| *times > 0);
        self.attempts.retain(|_, times| *times > 0);
        self.durations.settle();
    }
}

/// What came of an attempt, as a word: `2xx` to `5xx` for an answer, or why there was none; `other` for what no
/// release until now writes.
pub(super) fn outcome(attempt: &Attempt) -> String {
    outcome_of(attempt.status_code, attempt.error.as_deref())
}

pub(super) fn outcome_of(status_code: Option<u16>, error: Option<&str>) -> String {
    match (status_code, error) {
        (Some(status), _) => format!("{}xx", status / 100),
        (
            None,
            Some(word @ ("timeout" | "connect" | "tls" | "dns" | "blocked" | "protocol" | "payload_missing")),
        ) => word.to_owned(),
        (None, _) => "other".to_owned(),
    }
}

/// Whose deliveries and attempts are counted together, before time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) tenant: Arc<str>,
    pub(super) target: i64,
    pub(super) event_type: Arc<str>,
}

/// A cell's place, in the order of the table's key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cell {
    pub(super) kind: Kind,
    /// [`HOUR`] or [`DAY`].
    pub(super) span: i64,
    /// When it begins, in milliseconds since the epoch.
    pub(super) at: i64,
}

impl Cell {
    /// Whether it counts one event type.
    pub(super) fn is_of_one_type(&self) -> bool {
        !matches!(&*self.kind.event_type, ALL_TYPES | OTHER_TYPES)
    }

    /// The cell that counts what found none of its own.
    pub(super) fn of_other_types(mut self) -> Self {
        self.kind.event_type = OTHER_TYPES.into();
        self
    }
}

/// What a transaction changes.
#[derive(Debug, Default)]
pub(super) struct Changes(BTreeMap<(Kind, i64), Tally>);

impl Changes {
    /// How what is counted of `kind` in the hour of `at` changes.
    pub(super) fn of(&mut self, kind: &Kind, at: i64) -> &mut Tally {
        self.0.entry((kind.clone(), begin(at, HOUR))).or_default()
    }

    /// The cells that change, and how.
    pub(super) fn cells(self) -> BTreeMap<Cell, Tally> {
        let mut cells: BTreeMap<Cell, Tally> = BTreeMap::new();
        for ((kind, hour), change) in self.0 {
            for span in [HOUR, DAY] {
                for target in [kind.target, ALL_TARGETS] {
                    for event_type in [kind.event_type.clone(), ALL_TYPES.into()] {
                        let kind = Kind {
                            tenant: kind.tenant.clone(),
                            target,
                            event_type,
                        };
                        let at = begin(hour, span);
                        cells.entry(Cell { kind, span, at }).or_default().add(&change);
                    }
                }
            }
        }
        cells
    }
}

/// When the hour or day of a moment begins.
pub(super) fn begin(at: i64, span: i64) -> i64 {
    at.saturating_sub(at.rem_euclid(span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reaches_each_cell_it_belongs_to_once() {
        let kind = |target, event_type: &str| Kind {
            tenant: "acme".into(),
            target,
            event_type: event_type.into(),
        };
        let mut changes = Changes::default();
        let late = DAY + 23 * HOUR + 59;
        changes.of(&kind(7, "a"), late).delivery("pending", -1);
        changes.of(&kind(7, "a"), late).delivery("delivered", 1);
        changes.of(&kind(7, "b"), DAY).attempt("2xx".to_owned(), 12, 1);
        changes.of(&kind(8, "a"), DAY).attempt("2xx".to_owned(), 12, 1);
        let cells = changes.cells();
        let count = |target, event_type: &str, span, at| {
            let kind = kind(target, event_type);
            cells.get(&Cell { kind, span, at }).map(|tally| {
                let delivered = tally.deliveries.get("delivered").copied().unwrap_or(0);
                (delivered, tally.durations.total())
            })
        };
        assert_eq!(count(7, "a", HOUR, DAY + 23 * HOUR), Some((1, 0)));
        assert_eq!(count(7, "a", DAY, DAY), Some((1, 0)));
        assert_eq!(count(7, ALL_TYPES, DAY, DAY), Some((1, 1)));
        assert_eq!(count(ALL_TARGETS, "a", DAY, DAY), Some((1, 1)));
        assert_eq!(count(ALL_TARGETS, ALL_TYPES, DAY, DAY), Some((1, 2)));
        assert_eq!(count(ALL_TARGETS, ALL_TYPES, HOUR, DAY), Some((0, 2)));
        assert_eq!(count(8, "b", DAY, DAY), None);
    }

    #[test]
    fn every_answer_and_every_error_has_a_word() {
        assert_eq!(outcome_of(Some(204), None), "2xx");
        assert_eq!(outcome_of(Some(503), Some("timeout")), "5xx");
        assert_eq!(outcome_of(None, Some("dns")), "dns");
        assert_eq!(outcome_of(None, Some("of a later release")), "other");
        assert_eq!(outcome_of(None, None), "other");
    }

    #[test]
    fn what_was_never_counted_takes_nothing_away() {
        let mut tally = Tally::default();
        tally.delivery("pending", -1);
        tally.delivery("delivered", 1);
        tally.attempt("5xx".to_owned(), 40, -1);
        tally.settle();
        let mut expected = Tally::default();
        expected.delivery("delivered", 1);
        assert_eq!(tally, expected);
    }

    #[test]
    fn hours_begin_on_the_hour_also_before_1970() {
        assert_eq!(begin(HOUR, HOUR), HOUR);
        assert_eq!(begin(HOUR - 1, HOUR), 0);
        assert_eq!(begin(-1, DAY), -DAY);
    }
}
