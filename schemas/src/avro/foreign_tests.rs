//! Schemas of other hands.

use super::tests::{datum_v2, v1_event, v2_event, write};
use super::*;
use apache_avro::types::Value;

fn decode_with(schema: &str, datum: Vec<u8>) -> Result<WebhookEvent, DecodeError> {
    Decoder::new().decode_with(&WriterSchema::parse(schema).unwrap(), &datum.into())
}

/// A record schema with these fields.
pub(super) fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Other","namespace":"x.y","fields":[{fields}]}}"#)
}

#[test]
fn a_known_schema_is_known_by_its_form_not_its_text() {
    let java = SCHEMA_V2.replace(r#""string""#, r#"{"type":"string","avro.java.string":"String"}"#);
    assert_eq!(
        WriterSchema::parse(&java).unwrap().known(),
        Some(datum::Version::V2)
    );
    // The same canonical form, another meaning.
    let micros = SCHEMA_V2.replace("timestamp-millis", "timestamp-micros");
    assert_eq!(WriterSchema::parse(&micros).unwrap().known(), None);
    assert_eq!(
        decode_with(&micros, datum_v2(&v2_event())),
        Err(DecodeError::Unresolved)
    );
    assert_eq!(decode_with(&micros, datum_v2(&v1_event())), Ok(v1_event()));
}

#[test]
fn another_writers_schema_is_resolved() {
    let fields = r#"
        {"name":"amounts","type":{"type":"array","items":"double"}},
        {"name":"payload","type":"bytes"},
        {"name":"tenant","type":"string"},
        {"name":"level","type":{"type":"enum","name":"Level","symbols":["low","high"]}},
        {"name":"occurred_at","type":"long"},
        {"name":"event_type","type":["null","string"]}"#;
    let written = write(
        &record(fields),
        vec![
            (
                "amounts",
                Value::Array(vec![Value::Double(1.5), Value::Double(2.5)]),
            ),
            ("payload", Value::Bytes(vec![0xff, 0])),
            ("tenant", Value::String("acme".to_owned())),
            ("level", Value::Enum(1, "high".to_owned())),
            ("occurred_at", Value::Long(5)),
            (
                "event_type",
                Value::Union(1, Box::new(Value::String("a.b".to_owned()))),
            ),
        ],
    );
    let expected = WebhookEvent {
        event_type: "a.b".to_owned(),
        payload: Bytes::from_static(&[0xff, 0]),
        tenant: Some("acme".to_owned()),
        occurred_at: Some(Millis(5)),
        ..WebhookEvent::default()
    };
    assert_eq!(decode_with(&record(fields), written), Ok(expected));
}

#[test]
fn a_schema_without_what_an_event_needs_does_not_resolve() {
    let table = [
        (r#"{"name":"event_type","type":"string"}"#, vec![0x02, b'a']),
        (r#"{"name":"payload","type":"string"}"#, vec![0x02, b'a']),
        (
            r#"{"name":"event_type","type":"string"},{"name":"payload","type":"double"}"#,
            vec![0x02, b'a', 0, 0, 0, 0, 0, 0, 0, 0],
        ),
        (
            r#"{"name":"event_type","type":["null","string"]},{"name":"payload","type":"string"}"#,
            vec![0x00, 0x02, b'a'],
        ),
    ];
    for (fields, datum) in table {
        assert_eq!(
            decode_with(&record(fields), datum),
            Err(DecodeError::Unresolved),
            "{fields}"
        );
    }
    assert_eq!(
        decode_with(r#""string""#, vec![0x02, b'a']),
        Err(DecodeError::Unresolved)
    );
}

#[test]
fn a_schema_that_contains_itself_is_refused() {
    let within = r#"{"name":"event_type","type":"string"},{"name":"payload","type":"string"},
        {"name":"next","type":["null","x.y.Other"]}"#;
    assert!(
        WriterSchema::parse(&record(within))
            .unwrap_err()
            .contains("contains itself")
    );
    let deeper = r#"{"name":"a","type":{"type":"record","name":"Inner","fields":[
        {"name":"b","type":{"type":"map","values":{"type":"array","items":"Other"}}}]}}"#;
    assert!(
        WriterSchema::parse(&record(deeper))
            .unwrap_err()
            .contains("contains itself")
    );
    let twice = r#"{"name":"a","type":{"type":"record","name":"Inner","fields":[{"name":"b","type":"int"}]}},
        {"name":"c","type":"Inner"}"#;
    assert!(WriterSchema::parse(&record(twice)).is_ok());
    for wrong in [
        "",
        "{}",
        "nonsense",
        r#"{"type":"record","name":"A","fields":[{"name":"b","type":"Gone"}]}"#,
    ] {
        assert!(WriterSchema::parse(wrong).is_err(), "{wrong}");
    }
}
