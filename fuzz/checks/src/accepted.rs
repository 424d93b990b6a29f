//! What a decoded record becomes.

use bytes::Bytes;
use schemas::accept::{HeaderFields, accept as settle};
use schemas::avro::WebhookEvent;
use schemas::dead_letter::{mark, place_text, read_mark, read_place};
use schemas::event::{Event, Position};
use schemas::ids::{EventId, Tenant};
use schemas::pattern;
use schemas::time::Millis;

const NOW: Millis = Millis(1_767_225_599_123);

/// The parts of an event and the headers beside it, divided by `FF`; one that begins with `FE` is not there.
pub fn accept(data: &[u8]) {
    let texts: Vec<Option<String>> = data
        .split(|b| *b == 0xFF)
        .map(|part| (part.first() != Some(&0xFE)).then(|| String::from_utf8_lossy(part).into_owned()))
        .collect();
    let text = |at: usize| texts.get(at).cloned().flatten();
    let event = WebhookEvent {
        event_type: text(0).unwrap_or_default(),
        payload: Bytes::from(text(1).unwrap_or_default()),
        event_id: text(2),
        tenant: text(3),
        content_type: text(4),
        occurred_at: None,
    };
    let (event_id, tenant, content_type) = (text(5), text(6), text(7));
    let (traceparent, origin) = (text(8), text(9));
    let headers = HeaderFields {
        event_id: event_id.as_deref(),
        tenant: tenant.as_deref(),
        content_type: content_type.as_deref(),
        traceparent: traceparent.as_deref(),
        origin: origin.as_deref(),
    };
    settles_with(&event, &headers);
    if let Some(place) = origin.as_deref().and_then(read_place) {
        assert_eq!(read_place(&place_text(&place)), Some(place));
    }
    let (headers, _) = mark(&[]);
    if let Some(places) = read_mark(&headers, origin.unwrap_or_default().as_bytes()) {
        let (headers, value) = mark(&places);
        assert_eq!(read_mark(&headers, &value), Some(places));
    }
}

/// An event with no headers beside it.
pub fn settles(event: &WebhookEvent) {
    settles_with(event, &HeaderFields::default());
}

fn settles_with(event: &WebhookEvent, headers: &HeaderFields<'_>) {
    let settled = || {
        let position = Position {
            topic: "topic".into(),
            partition: 3,
            offset: 5,
        };
        // Unwrap safety: it is the form of a tenant.
        let topic_tenant = Tenant::new("topic-tenant").expect("a tenant");
        settle(event.clone(), headers, &topic_tenant, position, Millis(0), NOW)
    };
    let first = settled();
    assert_eq!(first, settled(), "read again, it is the same");
    match first {
        Ok(settled) => keeps_the_contract(&settled, event),
        Err(error) => assert!(!error.class().is_empty() && error.to_string().len() < 1_000),
    }
}

fn keeps_the_contract(settled: &Event, event: &WebhookEvent) {
    let id = settled.id.as_str();
    assert_eq!(EventId::new(id).as_ref(), Ok(&settled.id));
    assert!((1..=64).contains(&id.len()));
    assert!(
        id.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
    );
    assert!(Tenant::new(settled.tenant.as_str()).is_ok());
    assert_eq!(pattern::check_event_type(&settled.event_type), Ok(()));
    assert!(
        pattern::candidates(&settled.event_type)
            .iter()
            .all(|of| pattern::check(of).is_ok())
    );
    assert_eq!(settled.payload, event.payload);
    assert!(settled.accepted_at <= NOW && settled.accepted_at.0 >= NOW.0 - 3_600_000);
    let values = [
        Some(&*settled.content_type),
        settled.original_id.as_deref(),
        settled.traceparent.as_deref(),
    ];
    for value in values.into_iter().flatten() {
        assert!(http::HeaderValue::from_str(value).is_ok());
        assert!(!value.is_empty() && value.trim() == value);
    }
}
