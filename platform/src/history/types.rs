//! History's rows and questions.

use super::Unmatched;
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::Attempt;
use schemas::ids::{DeliveryId, EventId, TargetId};
use schemas::time::Millis;

/// An event as history knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its id.
    pub id: EventId,
    /// What happened.
    pub event_type: String,
    /// When it was accepted.
    pub accepted_at: Millis,
    /// The payload's length in bytes.
    pub payload_size: u64,
    /// The payload's media type.
    pub content_type: String,
    /// Its place in the log.
    pub position: Position,
    /// How many targets it matched.
    pub targets: u64,
    /// Why it has none, if it has none.
    pub unmatched: Option<Unmatched>,
}

/// A delivery as history knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryRow {
    /// Its id.
    pub id: DeliveryId,
    /// The event.
    pub event_id: EventId,
    /// The target.
    pub target: TargetId,
    /// What happened.
    pub event_type: String,
    /// How far it has come.
    pub status: DeliveryStatus,
    /// Attempts made.
    pub attempts: u32,
    /// When the event was accepted.
    pub accepted_at: Millis,
    /// When the next attempt is due, while retrying.
    pub next_at: Option<Millis>,
    /// When the status was last changed.
    pub updated_at: Millis,
    /// The last answer's status.
    pub last_status_code: Option<u16>,
    /// Why there was no answer the last time.
    pub last_error: Option<String>,
}

/// An attempt as history knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// Its number, from 1.
    pub number: u32,
    /// What came of it.
    pub attempt: Attempt,
}

/// Which deliveries to list. Newest first, by acceptance, then id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryQuery {
    /// Only of this target.
    pub target: Option<TargetId>,
    /// Only of this event.
    pub event: Option<EventId>,
    /// Only with this status.
    pub status: Option<DeliveryStatus>,
    /// Only of this event type.
    pub event_type: Option<String>,
    /// Only accepted at or after this.
    pub from: Option<Millis>,
    /// Only accepted before this.
    pub to: Option<Millis>,
    /// At most so many.
    pub limit: u32,
    /// Only those after this one in the list's order: the last row's `(accepted_at, id)`.
    pub after: Option<(Millis, String)>,
}

/// Which events to list. Newest first, by acceptance, then id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only of this type.
    pub event_type: Option<String>,
    /// Only those that went to nobody.
    pub unmatched: bool,
    /// Only accepted at or after this.
    pub from: Option<Millis>,
    /// Only accepted before this.
    pub to: Option<Millis>,
    /// At most so many.
    pub limit: u32,
    /// Only those after this one in the list's order: the last row's `(accepted_at, id)`.
    pub after: Option<(Millis, String)>,
}

/// Which deliveries to a target, given up or canceled, to send again. Oldest first, by acceptance, then id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenUp {
    /// The target.
    pub target: TargetId,
    /// Those that were canceled too.
    pub canceled: bool,
    /// Only accepted at or after this.
    pub from: Millis,
    /// Only accepted before this.
    pub to: Millis,
    /// Only those after this one: the last row's `(accepted_at, id)`.
    pub after: Option<(Millis, String)>,
    /// At most so many.
    pub limit: u32,
}

/// What history knows of an event and its delivery to one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// When the event was accepted.
    pub accepted_at: Millis,
    /// The delivery's status and the attempts made; `None` when it has none.
    pub delivery: Option<(DeliveryStatus, u32)>,
}
