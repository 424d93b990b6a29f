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
