//! An event as accepted, and its place in the log.

use crate::ids::{EventId, Tenant};
use crate::time::Millis;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a record stands in the event log. History keeps it, so that a resend reads the record
/// back instead of keeping a second copy.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The topic's name.
    #[serde(rename = "t")]
    pub topic: Arc<str>,
    /// The partition within the topic.
    #[serde(rename = "p")]
    pub partition: i32,
    /// The record's offset within the partition.
    #[serde(rename = "o")]
    pub offset: i64,
}

/// An event as hookwright accepted it: decoded, with its id, tenant and content type settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The id sent as `webhook-id`.
    pub id: EventId,
    /// The producer's id where it did not fit the form of an [`EventId`].
    pub original_id: Option<String>,
    /// Whose event it is.
    pub tenant: Tenant,
    /// What happened, such as `core.orders.created.v1`.
    pub event_type: Arc<str>,
    /// The body to deliver, byte for byte.
    pub payload: Bytes,
    /// The body's media type.
    pub content_type: Arc<str>,
    /// When it happened, where the producer said so.
    pub occurred_at: Option<Millis>,
    /// When the log took it: the start of the retry window.
    pub accepted_at: Millis,
    /// The W3C trace context to pass on, where known.
    pub traceparent: Option<String>,
    /// Its place in the log.
    pub position: Position,
}

/// The content type of an event that names none.
pub const DEFAULT_CONTENT_TYPE: &str = "application/json";
