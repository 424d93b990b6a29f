//! A batch of records as the rows it comes to: pure.
//!
//! Folding first means that an event's record and the records of its attempts cost one row each
//! and no update, when they come in one batch, as they mostly do.

use schemas::delivery::DeliveryStatus;
use schemas::history::{Attempt, AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The rows of a batch, each key once and in the order of the keys: writers that come together
/// meet the rows in the same order and cannot wait for each other in a circle.
#[derive(Debug, Default)]
pub(super) struct Rows<'r> {
    pub(super) events: BTreeMap<(&'r str, &'r str), &'r EventRecord>,
    pub(super) deliveries: BTreeMap<DeliveryId, Delivery<'r>>,
    pub(super) attempts: BTreeMap<AttemptKey<'r>, &'r Attempt>,
}

/// The key of an attempt's row, in the order of the table's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AttemptKey<'r> {
    pub(super) tenant: &'r str,
    pub(super) accepted_at: Millis,
    pub(super) delivery_id: DeliveryId,
    pub(super) number: u32,
}

impl<'r> AttemptKey<'r> {
    fn of(record: &'r AttemptRecord, delivery_id: DeliveryId) -> Self {
        Self {
            tenant: record.tenant.as_str(),
            accepted_at: record.accepted_at,
            delivery_id,
            number: record.number,
        }
    }
}

/// A delivery's row.
#[derive(Clone, Debug)]
pub(super) struct Delivery<'r> {
    pub(super) tenant: &'r Tenant,
    pub(super) event_id: &'r EventId,
    pub(super) target: TargetId,
    pub(super) event_type: &'r str,
    pub(super) accepted_at: Millis,
    pub(super) status: DeliveryStatus,
    pub(super) progress: i64,
    pub(super) next_at: Option<Millis>,
    pub(super) updated_at: Millis,
}

impl Delivery<'_> {
    /// Orders what is known of one delivery, the latest last. `write` says the same in SQL.
    pub(super) fn standing(&self) -> (i64, Millis, &'static str) {
        (self.progress, self.updated_at, self.status.as_str())
    }
}

/// How far a delivery has come, as one number that only grows: attempts first, and after equally
/// many an end beats retrying beats pending.
pub(super) fn progress(attempts: u32, status: DeliveryStatus) -> i64 {
    let phase = match status {
        DeliveryStatus::Pending => 0,
        DeliveryStatus::Retrying => 1,
        DeliveryStatus::Delivered | DeliveryStatus::Exhausted | DeliveryStatus::Canceled => 2,
    };
    i64::from(attempts) * 4 + phase
}

/// The attempts in a [`progress`].
pub(super) fn attempts(progress: i64) -> u32 {
    u32::try_from(progress / 4).unwrap_or(u32::MAX)
}

/// Whether `a` is what to keep of two accounts of the same event: the one accepted first.
fn accepted_before(a: &EventRecord, b: &EventRecord) -> bool {
    let key = |record: &EventRecord| {
        let position = &record.position;
        (
            record.accepted_at,
            position.topic.clone(),
            position.partition,
            position.offset,
        )
    };
    key(a) < key(b)
}

/// Whether `a` is what to keep of two accounts of the same attempt: the one begun last, which was
/// made after a crash had hidden how the other ended.
fn begun_after(a: &Attempt, b: &Attempt) -> bool {
    (a.started_at, a.duration_ms) > (b.started_at, b.duration_ms)
}

/// Folds records, in any order and however often they come.
pub(super) fn fold(records: &[HistoryRecord]) -> Rows<'_> {
    let mut rows = Rows::default();
    for record in records {
        match record {
            HistoryRecord::Event(event) => {
                for target in &event.targets {
                    let delivery = Delivery {
                        tenant: &event.tenant,
                        event_id: &event.event_id,
                        target: *target,
                        event_type: &event.event_type,
                        accepted_at: event.accepted_at,
                        status: DeliveryStatus::Pending,
                        progress: progress(0, DeliveryStatus::Pending),
                        next_at: None,
                        updated_at: event.accepted_at,
                    };
                    keep_latest(&mut rows, DeliveryId::derive(&event.event_id, *target), delivery);
                }
                rows.events
                    .entry((event.tenant.as_str(), event.event_id.as_str()))
                    .and_modify(|kept| {
                        if accepted_before(event, kept) {
                            *kept = event;
                        }
                    })
                    .or_insert(event);
            }
            HistoryRecord::Attempt(record) => {
                let id = record.delivery_id();
                if let Some(attempt) = &record.attempt {
                    rows.attempts
                        .entry(AttemptKey::of(record, id.clone()))
                        .and_modify(|kept| {
                            if begun_after(attempt, kept) {
                                *kept = attempt;
                            }
                        })
                        .or_insert(attempt);
                }
                let delivery = Delivery {
                    tenant: &record.tenant,
                    event_id: &record.event_id,
                    target: record.target,
                    event_type: &record.event_type,
                    accepted_at: record.accepted_at,
                    status: record.status,
                    progress: progress(record.number, record.status),
                    next_at: record.next_at,
                    updated_at: record.recorded_at,
                };
                keep_latest(&mut rows, id, delivery);
            }
        }
    }
    rows
}

fn keep_latest<'r>(rows: &mut Rows<'r>, id: DeliveryId, delivery: Delivery<'r>) {
    rows.deliveries
        .entry(id)
        .and_modify(|kept| {
            if delivery.standing() > kept.standing() {
                *kept = delivery.clone();
            }
        })
        .or_insert(delivery);
}

/// Text as Postgres takes it: it has no NUL. One record with one would otherwise keep its whole
/// batch out for ever.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    if text.contains('\0') {
        Cow::Owned(text.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_orders_attempts_first_then_ends() {
        use DeliveryStatus::{Canceled, Delivered, Exhausted, Pending, Retrying};
        let ascending = [
            progress(0, Pending),
            progress(0, Canceled),
            progress(1, Retrying),
            progress(1, Exhausted),
            progress(2, Pending),
            progress(2, Delivered),
        ];
        assert!(ascending.is_sorted_by(|a, b| a < b), "{ascending:?}");
        for count in [0, 1, 7, u32::MAX] {
            for status in [Pending, Retrying, Delivered] {
                assert_eq!(attempts(progress(count, status)), count);
            }
        }
    }

    #[test]
    fn text_keeps_everything_but_nul() {
        assert_eq!(storable("täglich\n"), "täglich\n");
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
    }
}
