//! From a decoded record to an accepted event: its id, tenant and content type settled.

use crate::avro::WebhookEvent;
use crate::dead_letter;
use crate::event::{DEFAULT_CONTENT_TYPE, Event, Position};
use crate::ids::{EventId, InvalidId, Tenant};
use crate::pattern;
use crate::time::Millis;
use std::time::Duration;

/// The longest content type, and the longest original id that is kept, in characters.
pub const MAX_TEXT: usize = 256;

/// How far back the log's timestamp counts: a producer's wrong clock or a long backlog must not eat
/// the retry window.
const MAX_AGE: Duration = Duration::from_secs(3600);

/// What a record's headers say; they win over its fields. An empty one says nothing, except that an
/// empty tenant is an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderFields<'a> {
    /// `event-id`.
    pub event_id: Option<&'a str>,
    /// `tenant`.
    pub tenant: Option<&'a str>,
    /// `content-type`.
    pub content_type: Option<&'a str>,
    /// `traceparent`.
    pub traceparent: Option<&'a str>,
    /// [`dead_letter::ORIGIN`]: where a record stood before it was injected again.
    pub origin: Option<&'a str>,
}

/// A record that can be decoded but not delivered. Reading it again will not help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcceptError {
    /// The tenant it names is no tenant's name.
    #[error(transparent)]
    Tenant(#[from] InvalidId),
    /// Its event type is none; says what would be right.
    #[error("{0}")]
    EventType(String),
    /// Its content type cannot stand in a header.
    #[error("the content type must be 1 to {MAX_TEXT} visible ASCII characters, such as application/json")]
    ContentType,
}

impl AcceptError {
    /// A short word that never changes, for headers and metrics.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "invalid_tenant",
            Self::EventType(_) => "invalid_event_type",
            Self::ContentType => "invalid_content_type",
        }
    }
}

/// Settles what a record leaves open.
///
/// - The id is the header's, the field's, or derived from the position: of a record that was injected
///   again, the one it had at first. An id that does not fit is replaced by one derived from it, and kept
///   beside it if it can stand in a header.
/// - The tenant is the header's, the field's, or the topic's.
/// - The content type is the header's, the field's, or [`DEFAULT_CONTENT_TYPE`].
/// - The event was accepted at `timestamp`, the log's, but no more than an hour ago and not in the
///   future.
/// - A `traceparent` that is not of the W3C's form is dropped.
///
/// # Errors
/// When tenant, event type or content type is not valid.
pub fn accept(
    decoded: WebhookEvent,
    headers: &HeaderFields<'_>,
    topic_tenant: &Tenant,
    position: Position,
    timestamp: Millis,
    now: Millis,
) -> Result<Event, AcceptError> {
    pattern::check_event_type(&decoded.event_type).map_err(AcceptError::EventType)?;
    let tenant = match headers.tenant.or(decoded.tenant.as_deref()) {
        // An empty name is a producer's mistake: passing the event to the topic's tenant would show
        // one tenant's data to another.
        Some(name) => Tenant::new(name)?,
        None => topic_tenant.clone(),
    };
    let content_type = said(headers.content_type, decoded.content_type.as_deref());
    let content_type = content_type.unwrap_or(DEFAULT_CONTENT_TYPE);
    if !fits_header(content_type) {
        return Err(AcceptError::ContentType);
    }
    // Were an empty id adopted, all events without one would be one event to receivers.
    let (id, original_id) = match said(headers.event_id, decoded.event_id.as_deref()) {
        Some(given) => EventId::adopt(given),
        None => {
            let origin = headers.origin.and_then(dead_letter::read_place);
            let first = origin.as_ref().unwrap_or(&position);
            (
                EventId::from_position(&first.topic, first.partition, first.offset),
                None,
            )
        }
    };
    let earliest = Millis(now.0.saturating_sub(MAX_AGE.as_millis() as i64));
    Ok(Event {
        id,
        original_id: original_id.filter(|original| fits_header(original)),
        tenant,
        event_type: decoded.event_type.into(),
        payload: decoded.payload,
        content_type: content_type.into(),
        occurred_at: decoded.occurred_at,
        accepted_at: timestamp.max(earliest).min(now),
        traceparent: headers
            .traceparent
            .filter(|text| is_traceparent(text))
            .map(str::to_owned),
        position,
    })
}

fn said<'a>(header: Option<&'a str>, field: Option<&'a str>) -> Option<&'a str> {
    let not_empty = |text: &&str| !text.is_empty();
    header.filter(not_empty).or(field.filter(not_empty))
}

/// Whether this can be a header's value as it is: visible ASCII, spaces only within.
fn fits_header(text: &str) -> bool {
    (1..=MAX_TEXT).contains(&text.len())
        && text.bytes().all(|b| matches!(b, 0x20..=0x7E))
        && !text.starts_with(' ')
        && !text.ends_with(' ')
}

/// Whether this is a `traceparent` of W3C Trace Context: version, trace id, parent id and flags in
/// lower-case hex, neither id all zeros, not version ff.
fn is_traceparent(text: &str) -> bool {
    let mut parts = text.split('-');
    let mut next = |length: usize| {
        parts.next().filter(|part| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    };
    let version = next(2).is_some_and(|version| version != "ff");
    let mut id = |length| next(length).is_some_and(|id| id.bytes().any(|b| b != b'0'));
    version && id(32) && id(16) && next(2).is_some() && parts.next().is_none()
}

#[cfg(test)]
mod tests;
