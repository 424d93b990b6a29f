//! Round trips, the files every release must read and write alike, and what is refused.

use super::*;
use proptest::prelude::*;

fn delivery(payload: Payload) -> Delivery {
    Delivery {
        event_id: EventId::new("evt_1").unwrap(),
        original_id: None,
        tenant: Tenant::new("acme").unwrap(),
        target: TargetId(7),
        event_type: "orders.created".into(),
        content_type: "application/json".into(),
        accepted_at: Millis(1_767_225_599_123),
        traceparent: None,
        position: Position {
            topic: "webhook-events".into(),
            partition: 3,
            offset: 42,
        },
        attempt: 1,
        due_at: None,
        reason: None,
        resend: None,
        payload,
    }
}

fn pointer() -> PayloadPointer {
    PayloadPointer {
        bucket: "hookwright-payloads".to_owned(),
        key: "2025/12/31/ab/acme/evt_1".to_owned(),
        size: 1_048_577,
        sha256: crate::ids::sha256_hex(b""),
    }
}

/// Compares with the files of `golden/`, and reads them back.
fn assert_golden(delivery: &Delivery, body: &[u8], attribute: &str) {
    let message = encode(delivery);
    assert_eq!(message.attribute, attribute);
    assert_eq!(message.body, body);
    assert_eq!(
        decode(Bytes::copy_from_slice(body), attribute).as_ref(),
        Ok(delivery)
    );
}

macro_rules! golden {
    ($name:literal) => {
        (
            include_bytes!(concat!("../../golden/", $name, ".body")).as_slice(),
            include_str!(concat!("../../golden/", $name, ".attribute.json")),
        )
    };
}

#[test]
fn a_first_delivery_of_json_never_changes_its_form() {
    let payload = Payload::Inline(Bytes::from_static(br#"{"total": 12.50, "name": "caf\u00e9"}"#));
    let (body, attribute) = golden!("delivery_inline");
    assert_golden(&delivery(payload), body, attribute);
}

#[test]
fn a_delivery_with_every_field_never_changes_its_form() {
    let full = Delivery {
        original_id: Some("order.1 \"quoted\" \u{1}\u{FFFF}".to_owned()),
        content_type: "text/plain; charset=utf-8".into(),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        attempt: 4,
        due_at: Some(Millis(1_767_229_199_000)),
        reason: Some("http_500".to_owned()),
        ..delivery(Payload::Inline(Bytes::from_static(&[0xff, 0x00, 0x80])))
    };
    let (body, attribute) = golden!("delivery_base64");
    assert_golden(&full, body, attribute);
}

#[test]
fn a_delivery_that_is_sent_again_never_changes_its_form() {
    let again = Delivery {
        attempt: 15,
        resend: Some(Resend {
            since: Millis(1_767_229_199_000),
            after: 14,
            buried: true,
        }),
        ..delivery(Payload::Inline(Bytes::from_static(b"{}")))
    };
    let (body, attribute) = golden!("delivery_again");
    assert_golden(&again, body, attribute);
}

#[test]
fn a_delivery_without_its_payload_never_changes_its_form() {
    let (body, attribute) = golden!("delivery_empty");
    assert_golden(&delivery(Payload::Inline(Bytes::new())), body, attribute);
    let (body, attribute) = golden!("delivery_stored");
    assert_golden(&delivery(Payload::Stored(pointer())), body, attribute);
    let (body, attribute) = golden!("delivery_logged");
    assert_golden(&delivery(Payload::Logged { at: 17, len: 37 }), body, attribute);
}

#[test]
fn a_text_payload_is_handed_through_without_a_copy() {
    let payload = Bytes::from(vec![b'x'; 100]);
    let message = encode(&delivery(Payload::Inline(payload.clone())));
    assert_eq!(message.body.as_ptr(), payload.as_ptr());
    let Payload::Inline(read) = decode(message.body, &message.attribute).unwrap().payload else {
        panic!("not inline");
    };
    assert_eq!(read.as_ptr(), payload.as_ptr());
}

#[test]
fn fields_of_later_releases_are_ignored() {
    let (body, attribute) = golden!("delivery_inline");
    let with_more = attribute.replacen('{', r#"{"new":{"a":[1,null]},"#, 1);
    assert_eq!(
        decode(Bytes::from_static(body), &with_more),
        decode(Bytes::from_static(body), attribute)
    );
}

#[test]
fn a_message_that_is_no_delivery_is_refused_by_name() {
    let (_, good) = golden!("delivery_stored");
    let without = |field: &str| {
        let mut json: serde_json::Value = serde_json::from_str(good).unwrap();
        json.as_object_mut().unwrap().remove(field).unwrap();
        json.to_string()
    };
    for field in ["v", "id", "tn", "tg", "ty", "at", "ps", "n", "ptr"] {
        let refused = decode(Bytes::from_static(b"-"), &without(field)).unwrap_err();
        assert!(
            matches!(refused, WireError::MissingField(name) if name == field),
            "{field}: {refused}"
        );
    }
    let table = [
        (String::new(), WireError::NotJson),
        ("null".to_owned(), WireError::NotJson),
        ("[1]".to_owned(), WireError::NotJson),
        ("{}".to_owned(), WireError::MissingField("v")),
        (good.replace("\"n\":1", "\"n\":-1"), WireError::NotJson),
        (r#"{"v":2}"#.to_owned(), WireError::UnknownVersion(2)),
        (r#"{"v":2,"id":[1]}"#.to_owned(), WireError::UnknownVersion(2)),
        (r#"{"v":1,"id":[1]}"#.to_owned(), WireError::NotJson),
        (good.replace("evt_1\"", "evt.1\""), WireError::InvalidField("id")),
        (
            good.replace("\"acme\"", "\"ACME\""),
            WireError::InvalidField("tn"),
        ),
        (good.replace("\"stored\"", "\"gzip\""), WireError::BadEncoding),
        (good.replace("\"stored\"", "\"base64\""), WireError::BadEncoding),
    ];
    for (attribute, expected) in table {
        assert_eq!(
            decode(Bytes::from_static(b"-"), &attribute),
            Err(expected),
            "{attribute}"
        );
    }
}

#[test]
fn only_what_a_queue_takes_goes_as_it_is() {
    let table: [(&[u8], usize); 11] = [
        (b"", 1),
        (b"a", 1),
        (b"\t\n\r ", 4),
        (b"\x7f", 1),
        (
            "é\u{D7FF}\u{E000}\u{FFFD}\u{10000}\u{1FFFF}\u{10FFFF}".as_bytes(),
            23,
        ),
        (b"\x00", 4),
        (b"\x1f", 4),
        (b"abc\x0b", 8),
        ("\u{FFFE}".as_bytes(), 4),
        ("\u{FFFF}".as_bytes(), 4),
        (b"\xff", 4),
    ];
    for (payload, size) in table {
        assert_eq!(inline_size(payload), size, "{payload:?}");
    }
}

/// Whether SQS takes this text.
fn queue_takes(text: &str) -> bool {
    !text.is_empty()
        && text.chars().all(|c| {
            matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
        })
}

/// Strings with the characters that matter, which random ones seldom have.
fn any_text() -> impl Strategy<Value = String> {
    let special = prop::sample::select(vec![
        '\u{FFFE}', '\u{FFFF}', '\u{FFFD}', '\0', '\u{1f}', '"', '\\', '\u{7f}',
    ]);
    prop::collection::vec(prop_oneof![any::<char>(), special], 0..20).prop_map(String::from_iter)
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..60).prop_map(|bytes| Payload::Inline(bytes.into())),
        any_text().prop_map(|text| Payload::Inline(text.into())),
        (any_text(), any_text(), any::<u64>(), any_text()).prop_map(|(bucket, key, size, sha256)| {
            Payload::Stored(PayloadPointer {
                bucket,
                key,
                size,
                sha256,
            })
        }),
        (any::<u32>(), any::<u32>()).prop_map(|(at, len)| Payload::Logged { at, len }),
    ]
}

prop_compose! {
    fn any_delivery()(
        event_id in "[A-Za-z0-9_-]{1,64}",
        tenant in "[a-z0-9][a-z0-9_-]{0,62}",
        (original_id, traceparent, reason) in (
            prop::option::of(any_text()), prop::option::of(any_text()), prop::option::of(any_text())),
        (event_type, content_type, topic) in (any_text(), any_text(), any_text()),
        (target, accepted_at, due_at) in (any::<i64>(), any::<i64>(), prop::option::of(any::<i64>())),
        (partition, offset, attempt) in (any::<i32>(), any::<i64>(), any::<u32>()),
        resend in prop::option::of((any::<i64>(), any::<u32>(), any::<bool>())),
        payload in any_payload(),
    ) -> Delivery {
        Delivery {
            event_id: EventId::new(&event_id).unwrap(),
            original_id,
            tenant: Tenant::new(&tenant).unwrap(),
            target: TargetId(target),
            event_type: event_type.into(),
            content_type: content_type.into(),
            accepted_at: Millis(accepted_at),
            traceparent,
            position: Position { topic: topic.into(), partition, offset },
            attempt,
            due_at: due_at.map(Millis),
            reason,
            resend: resend.map(|(since, after, buried)| Resend { since: Millis(since), after, buried }),
            payload,
        }
    }
}

proptest! {
    #[test]
    fn every_delivery_comes_back_as_it_was_in_characters_a_queue_takes(delivery in any_delivery()) {
        let message = encode(&delivery);
        let body = std::str::from_utf8(&message.body).expect("UTF-8");
        prop_assert!(queue_takes(body), "{body:?}");
        prop_assert!(queue_takes(&message.attribute), "{:?}", message.attribute);
        if let Payload::Inline(payload) = &delivery.payload {
            prop_assert_eq!(inline_size(payload), message.body.len());
        }
        prop_assert_eq!(decode(message.body, &message.attribute), Ok(delivery));
    }

    #[test]
    fn no_message_makes_decode_panic(body in prop::collection::vec(any::<u8>(), 0..20), attribute in any_text()) {
        let _ = decode(body.clone().into(), &attribute);
        let _ = decode(body.into(), &format!("{{\"v\":1,\"enc\":{attribute:?}}}"));
    }
}
