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
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    const NOW: Millis = Millis(1_767_225_599_123);
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn decoded() -> WebhookEvent {
        WebhookEvent {
            event_type: "orders.created".to_owned(),
            payload: Bytes::from_static(b"{}"),
            ..WebhookEvent::default()
        }
    }

    fn position() -> Position {
        Position {
            topic: "webhook-events".into(),
            partition: 3,
            offset: 42,
        }
    }

    fn accept_now(decoded: WebhookEvent, headers: &HeaderFields<'_>) -> Result<Event, AcceptError> {
        accept(decoded, headers, &tenant("default"), position(), NOW, NOW)
    }

    fn tenant(name: &str) -> Tenant {
        Tenant::new(name).unwrap()
    }

    fn text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn a_bare_record_gets_an_id_the_topics_tenant_and_json() {
        let event = accept_now(decoded(), &HeaderFields::default()).unwrap();
        let expected = Event {
            id: EventId::from_position("webhook-events", 3, 42),
            original_id: None,
            tenant: tenant("default"),
            event_type: "orders.created".into(),
            payload: Bytes::from_static(b"{}"),
            content_type: "application/json".into(),
            occurred_at: None,
            accepted_at: NOW,
            traceparent: None,
            position: position(),
        };
        assert_eq!(event, expected);
        let again = accept_now(decoded(), &HeaderFields::default()).unwrap();
        assert_eq!(again.id, event.id);
    }

    #[test]
    fn headers_win_over_fields_and_fields_over_the_topic() {
        let full = WebhookEvent {
            event_id: text("field-id"),
            tenant: text("field"),
            content_type: text("text/field"),
            occurred_at: Some(Millis(5)),
            ..decoded()
        };
        let of_fields = accept_now(full.clone(), &HeaderFields::default()).unwrap();
        assert_eq!(of_fields.id.as_str(), "field-id");
        assert_eq!(of_fields.tenant, tenant("field"));
        assert_eq!(&*of_fields.content_type, "text/field");
        assert_eq!(of_fields.occurred_at, Some(Millis(5)));
        let headers = HeaderFields {
            event_id: Some("header-id"),
            tenant: Some("header"),
            content_type: Some("text/header"),
            traceparent: Some(TRACE),
            origin: None,
        };
        let of_headers = accept_now(full, &headers).unwrap();
        assert_eq!(of_headers.id.as_str(), "header-id");
        assert_eq!(of_headers.tenant, tenant("header"));
        assert_eq!(&*of_headers.content_type, "text/header");
        assert_eq!(of_headers.traceparent.as_deref(), Some(TRACE));
    }

    #[test]
    fn an_id_that_does_not_fit_is_replaced_and_kept_beside_where_a_header_can_hold_it() {
        let long = "x".repeat(257);
        let table = [
            ("order.42", Some("order.42")),
            ("order 42!", Some("order 42!")),
            ("заказ-42", None),
            ("a\r\nb", None),
            (" a", None),
            (&long, None),
        ];
        for (given, kept) in table {
            let headers = HeaderFields {
                event_id: Some(given),
                ..HeaderFields::default()
            };
            let event = accept_now(decoded(), &headers).unwrap();
            assert_eq!(event.id, EventId::adopt(given).0, "{given}");
            assert_eq!(event.original_id.as_deref(), kept, "{given}");
        }
    }

    #[test]
    fn empty_ids_do_not_make_all_events_one() {
        let empty = WebhookEvent {
            event_id: text(""),
            content_type: text(""),
            ..decoded()
        };
        let headers = HeaderFields {
            event_id: Some(""),
            content_type: Some(""),
            ..HeaderFields::default()
        };
        let event = accept_now(empty, &headers).unwrap();
        assert_eq!(event.id, EventId::from_position("webhook-events", 3, 42));
        assert_eq!(&*event.content_type, "application/json");
    }

    #[test]
    fn a_record_injected_again_keeps_the_id_of_its_first_place() {
        let headers = HeaderFields {
            origin: Some("orders/0/7"),
            ..HeaderFields::default()
        };
        let event = accept_now(decoded(), &headers).unwrap();
        assert_eq!(event.id, EventId::from_position("orders", 0, 7));
        assert_eq!(event.position, position(), "where it stands is where it is read");
        let with_id = WebhookEvent {
            event_id: text("its-own"),
            ..decoded()
        };
        assert_eq!(accept_now(with_id, &headers).unwrap().id.as_str(), "its-own");
        let nonsense = HeaderFields {
            origin: Some("orders"),
            ..HeaderFields::default()
        };
        let event = accept_now(decoded(), &nonsense).unwrap();
        assert_eq!(event.id, EventId::from_position("webhook-events", 3, 42));
    }

    #[test]
    fn an_empty_header_leaves_the_fields_word() {
        let with_id = WebhookEvent {
            event_id: text("field-id"),
            ..decoded()
        };
        let headers = HeaderFields {
            event_id: Some(""),
            ..HeaderFields::default()
        };
        assert_eq!(accept_now(with_id, &headers).unwrap().id.as_str(), "field-id");
    }

    #[test]
    fn what_cannot_be_delivered_is_refused_by_class() {
        let long = "x".repeat(257);
        let with = |change: &dyn Fn(&mut WebhookEvent)| {
            let mut event = decoded();
            change(&mut event);
            accept_now(event, &HeaderFields::default()).map_err(|error| error.class())
        };
        for bad in ["", "ACME", "a.b", "a/b"] {
            assert_eq!(
                with(&|event| event.tenant = text(bad)),
                Err("invalid_tenant"),
                "{bad}"
            );
        }
        for bad in ["", "a..b", "a b", "a.*", &long] {
            let refused = with(&|event| event.event_type = bad.to_owned());
            assert_eq!(refused, Err("invalid_event_type"), "{bad}");
        }
        for bad in ["a\r\nx: y", "é", "a\0", " a", "a ", "\t", &long] {
            let refused = with(&|event| event.content_type = text(bad));
            assert_eq!(refused, Err("invalid_content_type"), "{bad}");
        }
    }

    #[test]
    fn a_wrong_clock_does_not_eat_the_retry_window() {
        let hour = 3_600_000;
        let table = [
            (NOW.0, NOW.0),
            (NOW.0 - 5, NOW.0 - 5),
            (NOW.0 - hour, NOW.0 - hour),
            (NOW.0 - hour - 1, NOW.0 - hour),
            (0, NOW.0 - hour),
            (i64::MIN, NOW.0 - hour),
            (NOW.0 + 1, NOW.0),
            (i64::MAX, NOW.0),
        ];
        for (timestamp, expected) in table {
            let event = accept(
                decoded(),
                &HeaderFields::default(),
                &tenant("default"),
                position(),
                Millis(timestamp),
                NOW,
            );
            assert_eq!(event.unwrap().accepted_at, Millis(expected), "{timestamp}");
        }
    }

    #[test]
    fn a_traceparent_of_another_form_is_dropped() {
        let table = [
            (TRACE.to_owned(), true),
            (TRACE.replacen("00", "01", 1), true),
            (TRACE.replacen("00", "ff", 1), false),
            (TRACE.to_uppercase(), false),
            (format!("{TRACE}-x"), false),
            (format!("{TRACE}\n"), false),
            (TRACE[..54].to_owned(), false),
            (
                "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned(),
                false,
            ),
            (
                "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned(),
                false,
            ),
            (String::new(), false),
        ];
        for (given, kept) in table {
            let headers = HeaderFields {
                traceparent: Some(&given),
                ..HeaderFields::default()
            };
            let event = accept_now(decoded(), &headers).unwrap();
            assert_eq!(event.traceparent.is_some(), kept, "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_can_stand_in_headers(
            event_id in prop::option::of(any::<String>()),
            content_type in prop::option::of(any::<String>()),
            traceparent in any::<String>(),
        ) {
            let given = WebhookEvent { event_id, content_type, ..decoded() };
            let headers = HeaderFields { traceparent: Some(&traceparent), ..HeaderFields::default() };
            if let Ok(event) = accept_now(given, &headers) {
                for value in [Some(event.id.as_str()), event.original_id.as_deref(), Some(&event.content_type),
                    event.traceparent.as_deref()].into_iter().flatten()
                {
                    prop_assert!(http::HeaderValue::from_str(value).is_ok_and(|value| value.to_str().is_ok()));
                }
            }
        }
    }
}
