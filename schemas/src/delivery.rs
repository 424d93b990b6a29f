//! One event for one target: the message that waits in a queue.

use crate::event::{Event, Position};
use crate::ids::{DeliveryId, EventId, TargetId, Tenant};
use crate::time::Millis;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a spilled payload lies, and how to tell that it is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PayloadPointer {
    /// The bucket, or the directory of the embedded store.
    pub bucket: String,
    /// The object's key, derived from the event id.
    pub key: String,
    /// The payload's length in bytes.
    pub size: u64,
    /// The payload's SHA-256, 64 lower-case hex digits.
    pub sha256: String,
}

/// How a delivery carries its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// In the message itself.
    Inline(Bytes),
    /// In the payload store: it was too large for a message.
    Stored(PayloadPointer),
    /// In the event log, within the record at the delivery's `position`: log and queue share one
    /// process's disk, so a payload is written once whatever the fan-out.
    Logged {
        /// The payload's first byte within the record's value.
        at: u32,
        /// Its length in bytes.
        len: u32,
    },
}

/// What a delivery that is sent again knows of its way before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resend {
    /// When it was sent again: its retry window starts here, and not when the event was accepted.
    #[serde(rename = "s")]
    pub since: Millis,
    /// How many attempts were made before. The numbers go on, so that history stays in order; the pauses
    /// between attempts begin anew.
    #[serde(rename = "n")]
    pub after: u32,
    /// Whether it had been given up: its message lies in the dead-letter queue, which needs no second one.
    #[serde(rename = "b", default, skip_serializing_if = "std::ops::Not::not")]
    pub buried: bool,
}

/// One event on its way to one target.
///
/// Carries no secret and no address: the dispatcher looks the target up at each attempt, so that
/// a change of either applies to what already waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// The event.
    pub event_id: EventId,
    /// The producer's id where it did not fit.
    pub original_id: Option<String>,
    /// Whose it is.
    pub tenant: Tenant,
    /// Where it goes.
    pub target: TargetId,
    /// What happened.
    pub event_type: Arc<str>,
    /// The payload's media type.
    pub content_type: Arc<str>,
    /// When the log took the event: the retry window starts here, unless it is sent again.
    pub accepted_at: Millis,
    /// The trace to continue.
    pub traceparent: Option<String>,
    /// The event's place in the log.
    pub position: Position,
    /// The number of the next attempt, from 1.
    pub attempt: u32,
    /// When the next attempt is due; `None` for at once.
    pub due_at: Option<Millis>,
    /// Why the last attempt failed, for dead letters: a short word such as `http_500` or `timeout`.
    pub reason: Option<String>,
    /// What came before, for a delivery that is sent again.
    pub resend: Option<Resend>,
    /// The payload, or where it is.
    pub payload: Payload,
}

impl Delivery {
    /// The first attempt of `event` at `target`.
    #[must_use]
    pub fn first(event: &Event, target: TargetId, payload: Payload) -> Self {
        Self {
            event_id: event.id.clone(),
            original_id: event.original_id.clone(),
            tenant: event.tenant.clone(),
            target,
            event_type: event.event_type.clone(),
            content_type: event.content_type.clone(),
            accepted_at: event.accepted_at,
            traceparent: event.traceparent.clone(),
            position: event.position.clone(),
            attempt: 1,
            due_at: None,
            reason: None,
            resend: None,
            payload,
        }
    }

    /// The next attempt of `event` at `target`, after what `resend` says: under the same id, so that the
    /// receiver knows it, and with a retry window of its own.
    #[must_use]
    pub fn again(event: &Event, target: TargetId, payload: Payload, resend: Resend) -> Self {
        Self {
            attempt: resend.after.saturating_add(1),
            resend: Some(resend),
            ..Self::first(event, target, payload)
        }
    }

    /// When its retry window began.
    #[must_use]
    pub fn window_start(&self) -> Millis {
        self.resend.map_or(self.accepted_at, |resend| resend.since)
    }

    /// The next attempt's number within its retry window, from 1: what the pauses grow with.
    #[must_use]
    pub fn attempt_in_window(&self) -> u32 {
        let before = self.resend.map_or(0, |resend| resend.after);
        self.attempt.saturating_sub(before).max(1)
    }

    /// The delivery's id.
    #[must_use]
    pub fn id(&self) -> DeliveryId {
        DeliveryId::derive(&self.event_id, self.target)
    }

    /// The queue's message group: one target of one tenant, the unit that may be slow.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}:{}", self.tenant, self.target)
    }
}

/// How far a delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeliveryStatus {
    /// Queued, not yet tried.
    Pending,
    /// Tried without success; waits for the next attempt.
    Retrying,
    /// Answered with 2xx.
    Delivered,
    /// Given up: in the dead-letter queue.
    Exhausted,
    /// The target is gone, disabled or not verified.
    Canceled,
}

impl DeliveryStatus {
    /// The status's word in the API and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Delivered => "delivered",
            Self::Exhausted => "exhausted",
            Self::Canceled => "canceled",
        }
    }

    /// The status of a word; `None` for any other word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "pending" => Some(Self::Pending),
            "retrying" => Some(Self::Retrying),
            "delivered" => Some(Self::Delivered),
            "exhausted" => Some(Self::Exhausted),
            "canceled" => Some(Self::Canceled),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sent_again_it_keeps_its_id_and_numbers_and_gets_a_window_of_its_own() {
        let event = Event {
            id: EventId::new("evt_1").unwrap(),
            original_id: None,
            tenant: Tenant::new("acme").unwrap(),
            event_type: "a".into(),
            payload: Bytes::new(),
            content_type: "application/json".into(),
            occurred_at: None,
            accepted_at: Millis(1_000),
            traceparent: None,
            position: Position {
                topic: "t".into(),
                partition: 0,
                offset: 0,
            },
        };
        let payload = Payload::Inline(Bytes::new());
        let first = Delivery::first(&event, TargetId(1), payload.clone());
        assert_eq!(
            (first.window_start(), first.attempt_in_window()),
            (Millis(1_000), 1)
        );
        let resend = Resend {
            since: Millis(90_000),
            after: 14,
            buried: true,
        };
        let mut again = Delivery::again(&event, TargetId(1), payload, resend);
        assert_eq!(again.id(), first.id());
        assert_eq!(again.accepted_at, first.accepted_at);
        assert_eq!((again.attempt, again.attempt_in_window()), (15, 1));
        assert_eq!(again.window_start(), Millis(90_000));
        again.attempt += 1;
        assert_eq!(again.attempt_in_window(), 2);
    }
}
