//! What happened: the records of the attempts topic, which the recorder turns into history.
//!
//! History is a by-product: a record lost here loses a line in a list, never a delivery. Records
//! are JSON with short names, since there is one for every event and one for every attempt. They travel
//! many together, one a line: a log's record costs more than what is in it.

use crate::delivery::{Delivery, DeliveryStatus};
use crate::event::{Event, Position};
use crate::ids::{DeliveryId, EventId, TargetId, Tenant};
use crate::time::Millis;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One record of the attempts topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HistoryRecord {
    /// An event was accepted and matched (or not: then `targets` is empty).
    Event(EventRecord),
    /// A delivery was tried, or ended without being tried.
    Attempt(AttemptRecord),
}

/// About how many bytes of lines go together: far below what a log takes as one record (1 MiB in Kafka
/// by default), even if the last line is the longest there can be.
const LINES_BYTES: usize = 256 << 10;

/// Records as lines of JSON, as many together as one record of the log takes.
pub fn write_lines<'r>(records: impl IntoIterator<Item = &'r HistoryRecord>) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for record in records {
        if all.last().is_none_or(|lines| lines.len() >= LINES_BYTES) {
            all.push(Vec::new());
        }
        if let Some(lines) = all.last_mut() {
            // Unwrap safety: text and numbers under fixed names, written to memory, cannot fail.
            serde_json::to_writer(&mut *lines, record).expect("plain fields serialise");
            lines.push(b'\n');
        }
    }
    all
}

/// The records of lines; an error for each line that is none.
pub fn read_lines(lines: &[u8]) -> impl Iterator<Item = Result<HistoryRecord, serde_json::Error>> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(serde_json::from_slice)
}

/// An event as accepted, and the targets it matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventRecord {
    /// The event.
    #[serde(rename = "id")]
    pub event_id: EventId,
    /// Whose it is.
    #[serde(rename = "tn")]
    pub tenant: Tenant,
    /// What happened.
    #[serde(rename = "ty")]
    pub event_type: Arc<str>,
    /// When it was accepted.
    #[serde(rename = "at")]
    pub accepted_at: Millis,
    /// The payload's length in bytes.
    #[serde(rename = "sz")]
    pub payload_size: u64,
    /// Its media type.
    #[serde(rename = "ct")]
    pub content_type: Arc<str>,
    /// Its place in the log.
    #[serde(rename = "ps")]
    pub position: Position,
    /// The targets it matched: each has a delivery from now on. A list of many is split over
    /// several records of the same event.
    #[serde(rename = "tg", default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<TargetId>,
}

impl EventRecord {
    /// The record of an accepted event.
    #[must_use]
    pub fn new(event: &Event, targets: Vec<TargetId>) -> Self {
        Self {
            event_id: event.id.clone(),
            tenant: event.tenant.clone(),
            event_type: event.event_type.clone(),
            accepted_at: event.accepted_at,
            payload_size: event.payload.len() as u64,
            content_type: event.content_type.clone(),
            position: event.position.clone(),
            targets,
        }
    }
}

/// One attempt at a delivery, and where the delivery stands after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// The event.
    #[serde(rename = "id")]
    pub event_id: EventId,
    /// The target.
    #[serde(rename = "tg")]
    pub target: TargetId,
    /// Whose it is.
    #[serde(rename = "tn")]
    pub tenant: Tenant,
    /// What happened.
    #[serde(rename = "ty")]
    pub event_type: Arc<str>,
    /// When the event was accepted.
    #[serde(rename = "at")]
    pub accepted_at: Millis,
    /// The event's place in the log.
    #[serde(rename = "ps")]
    pub position: Position,
    /// The delivery's status after this.
    #[serde(rename = "st")]
    pub status: DeliveryStatus,
    /// Attempts made so far, this one included. Orders the records of a delivery.
    #[serde(rename = "n")]
    pub number: u32,
    /// The attempt itself; `None` when the delivery ended without one (canceled, exhausted).
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<Attempt>,
    /// When the next attempt is due, for a delivery that is retrying.
    #[serde(rename = "nx", default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Millis>,
    /// Why the delivery was given up: a short word such as `http_503`.
    #[serde(rename = "y", default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When this was written.
    #[serde(rename = "w")]
    pub recorded_at: Millis,
}

impl AttemptRecord {
    /// The delivery's id.
    #[must_use]
    pub fn delivery_id(&self) -> DeliveryId {
        DeliveryId::derive(&self.event_id, self.target)
    }

    /// The record of `delivery` after attempt `number`.
    #[must_use]
    pub fn new(delivery: &Delivery, status: DeliveryStatus, number: u32, now: Millis) -> Self {
        Self {
            event_id: delivery.event_id.clone(),
            target: delivery.target,
            tenant: delivery.tenant.clone(),
            event_type: delivery.event_type.clone(),
            accepted_at: delivery.accepted_at,
            position: delivery.position.clone(),
            status,
            number,
            attempt: None,
            next_at: None,
            reason: None,
            recorded_at: now,
        }
    }
}

/// What one POST came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began.
    #[serde(rename = "s")]
    pub started_at: Millis,
    /// How long it took, in milliseconds.
    #[serde(rename = "d")]
    pub duration_ms: u32,
    /// The answer's status, if there was an answer.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Why there was none: a word such as `timeout`, `connect`, `tls`, `dns`, `blocked`.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The beginning of the answer's body, at most 1 KiB, as text.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// The answer's headers, of [`KEPT_HEADERS`] those that are there, cut to [`KEPT_HEADER_BYTES`]; names in lower
    /// case.
    #[serde(rename = "h", default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// The headers of an answer that are kept: what it is, where it moved, when to come again and who answered.
pub const KEPT_HEADERS: [&str; 4] = ["content-type", "location", "retry-after", "server"];

/// Bytes of such a header that are kept.
pub const KEPT_HEADER_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// A record, and the file every release must read and write alike.
    fn assert_golden(record: &HistoryRecord, golden: &str) {
        assert_eq!(serde_json::to_string(record).unwrap(), golden);
        assert_eq!(&serde_json::from_str::<HistoryRecord>(golden).unwrap(), record);
        let with_more = golden.replacen(":{", r#":{"new":{"a":[1,null]},"#, 1);
        assert_eq!(
            &serde_json::from_str::<HistoryRecord>(&with_more).unwrap(),
            record
        );
    }

    fn position() -> Position {
        Position {
            topic: "webhook-events".into(),
            partition: 3,
            offset: 42,
        }
    }

    fn attempt_record(status: DeliveryStatus) -> AttemptRecord {
        AttemptRecord {
            event_id: EventId::new("evt_1").unwrap(),
            target: TargetId(7),
            tenant: Tenant::new("acme").unwrap(),
            event_type: "orders.created".into(),
            accepted_at: Millis(1_767_225_599_123),
            position: position(),
            status,
            number: 2,
            attempt: None,
            next_at: None,
            reason: None,
            recorded_at: Millis(1_767_225_604_118),
        }
    }

    #[test]
    fn the_record_of_an_event_never_changes_its_form() {
        let record = EventRecord {
            event_id: EventId::new("evt_1").unwrap(),
            tenant: Tenant::new("acme").unwrap(),
            event_type: "orders.created".into(),
            accepted_at: Millis(1_767_225_599_123),
            payload_size: 37,
            content_type: "application/json".into(),
            position: position(),
            targets: vec![TargetId(7), TargetId(8)],
        };
        assert_golden(
            &HistoryRecord::Event(record),
            include_str!("../golden/history_event.json"),
        );
    }

    #[test]
    fn the_record_of_an_attempt_never_changes_its_form() {
        let record = AttemptRecord {
            attempt: Some(Attempt {
                started_at: Millis(1_767_225_604_000),
                duration_ms: 118,
                status_code: Some(500),
                error: None,
                response: Some("try later".to_owned()),
                headers: Vec::new(),
            }),
            next_at: Some(Millis(1_767_225_619_000)),
            ..attempt_record(DeliveryStatus::Retrying)
        };
        assert_golden(
            &HistoryRecord::Attempt(record),
            include_str!("../golden/history_attempt.json"),
        );
    }

    #[test]
    fn the_record_of_an_end_without_an_attempt_never_changes_its_form() {
        assert_golden(
            &HistoryRecord::Attempt(attempt_record(DeliveryStatus::Canceled)),
            include_str!("../golden/history_end.json"),
        );
    }

    #[test]
    fn records_travel_together_one_a_line_and_a_bad_line_costs_only_itself() {
        let end = HistoryRecord::Attempt(attempt_record(DeliveryStatus::Canceled));
        let mut other = attempt_record(DeliveryStatus::Retrying);
        other.attempt = Some(Attempt {
            started_at: Millis(1),
            duration_ms: 1,
            status_code: None,
            error: None,
            response: Some("two\nlines".to_owned()),
            headers: vec![("server".to_owned(), "x".to_owned())],
        });
        let other = HistoryRecord::Attempt(other);
        let written = write_lines([&end, &other]);
        assert_eq!(written.len(), 1);
        let read: Vec<_> = read_lines(&written[0]).collect::<Result<_, _>>().unwrap();
        assert_eq!(read, [end.clone(), other.clone()]);

        let damaged = [b"{\"event\":7}\n".as_slice(), &written[0]].concat();
        let read: Vec<_> = read_lines(&damaged).collect();
        assert!(read[0].is_err());
        assert_eq!(
            read.into_iter().flatten().collect::<Vec<_>>(),
            [end.clone(), other]
        );

        assert!(write_lines([]).is_empty());
        assert_eq!(read_lines(b"").count(), 0);
        let many = write_lines(std::iter::repeat_n(&end, 5_000));
        assert!(many.len() > 1 && many.iter().all(|lines| lines.len() < LINES_BYTES + 1_000));
        assert_eq!(many.iter().flat_map(|lines| read_lines(lines)).count(), 5_000);
    }

    #[test]
    fn every_status_has_one_word_everywhere() {
        use DeliveryStatus::{Canceled, Delivered, Exhausted, Pending, Retrying};
        for status in [Pending, Retrying, Delivered, Exhausted, Canceled] {
            assert_eq!(
                serde_json::to_value(status).unwrap(),
                serde_json::json!(status.as_str())
            );
            assert_eq!(DeliveryStatus::from_word(status.as_str()), Some(status));
        }
        assert_eq!(DeliveryStatus::from_word("done"), None);
    }
}
