//! Schemas of other hands.

use super::tests::{datum_v2, v2_event, write};
use super::*;
use apache_avro::types::Value;

fn decode_with(schema: &str, datum: Vec<u8>) -> Result<WebhookEvent, DecodeError> {
    WriterSchema::parse(schema, &Fields::default())
        .unwrap()
        .read(&datum.into())
}

fn refused(schema: &str, fields: &Fields) -> SchemaError {
    WriterSchema::parse(schema, fields).unwrap_err()
}

pub(super) fn named(event_type: &str, payload: &str) -> Fields {
    Fields {
        event_type: Some(event_type.to_owned()),
        payload: Some(payload.to_owned()),
        ..Fields::default()
    }
}

/// A record schema with these fields.
pub(super) fn record(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"Other","namespace":"x.y","fields":[{fields}]}}"#)
}

#[test]
fn times_are_of_their_own_unit() {
    let time = |logical: &str| format!(r#"{{"type":"long","logicalType":"{logical}"}}"#);
    let table = [
        (r#""long""#.to_owned(), 1_500_i64, 1_500),
        (r#""int""#.to_owned(), 1_500, 1_500),
        (time("timestamp-millis"), -1, -1),
        (time("timestamp-micros"), 1_999, 1),
        (time("timestamp-micros"), -1, -1),
        (time("timestamp-nanos"), 1_999_999, 1),
    ];
    for (of, written, millis) in table {
        let schema = format!(
            r#"{{"name":"occurred_at","type":{of}}},{{"name":"event_type","type":"string"}},
            {{"name":"payload","type":"string"}}"#
        );
        let zigzag = ((written << 1) ^ (written >> 63)).cast_unsigned();
        let mut datum = Vec::new();
        let mut rest = zigzag;
        while rest >= 0x80 {
            datum.push((rest & 0x7F) as u8 | 0x80);
            rest >>= 7;
        }
        datum.extend([rest as u8, 0, 0]);
        let event = decode_with(&record(&schema), datum).unwrap();
        assert_eq!(event.occurred_at, Some(Millis(millis)), "{of}");
    }
    let date = record(
        r#"{"name":"occurred_at","type":{"type":"int","logicalType":"date"}},
        {"name":"event_type","type":"string"},{"name":"payload","type":"string"}"#,
    );
    assert_eq!(
        refused(&date, &Fields::default()).to_string(),
        "the writer's field \"occurred_at\" is of type date; the occurred_at has to be long or a timestamp, \
         or a union with null"
    );
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
fn the_names_of_a_writers_fields_are_given() {
    let schema = record(
        r#"
        {"name":"event_type","type":"int"},
        {"name":"id","type":{"type":"string","logicalType":"uuid"}},
        {"name":"type","type":{"type":"enum","name":"Kind","symbols":["order_created","order_deleted"]}},
        {"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}]},
        {"name":"was","type":"Kind"},
        {"name":"body","type":["null","string","bytes"]}"#,
    );
    let fields = Fields {
        event_id: Some("id".to_owned()),
        occurred_at: Some("at".to_owned()),
        ..named("type", "body")
    };
    let writer = WriterSchema::parse(&schema, &fields).unwrap();
    // The last branch of the payload's union is bytes.
    let datum = Bytes::from_static(&[
        0x07, 0x04, b'i', b'd', 0x02, 0x02, 0xA0, 0x1F, 0x00, 0x04, 0x04, 0xFF, b'x',
    ]);
    let expected = WebhookEvent {
        event_type: "order_deleted".to_owned(),
        payload: Bytes::from_static(&[0xFF, b'x']),
        event_id: Some("id".to_owned()),
        occurred_at: Some(Millis(2)),
        ..WebhookEvent::default()
    };
    let event = writer.read(&datum).unwrap();
    assert_eq!(event, expected);
    assert!(datum.as_ptr_range().contains(&event.payload.as_ptr()));
    let null = Bytes::from_static(&[0x07, 0x00, 0x02, 0x00, 0x00, 0x00]);
    assert_eq!(
        writer.read(&null).unwrap_err().to_string(),
        "\"body\" is null: there is no event without its payload"
    );
    // A symbol that there is not.
    let symbol = Bytes::from_static(&[0x07, 0x00, 0x04, 0x00, 0x00, 0x00]);
    assert_eq!(
        writer.read(&symbol),
        Err(DecodeError::Malformed("type".to_owned()))
    );
}

#[test]
fn a_schema_without_what_an_event_needs_names_it_and_what_there_is() {
    let schema = record(r#"{"name":"id","type":"string"},{"name":"body","type":"double"}"#);
    let missing = refused(&schema, &Fields::default());
    assert_eq!(missing.class(), "unresolved");
    assert_eq!(
        missing.to_string(),
        "the writer's schema has no field \"event_type\" for the event_type; it has \"id\", \"body\". \
         The topic's fields.event_type names the field to take it from"
    );
    assert!(
        refused(&schema, &named("id", "bod"))
            .to_string()
            .contains("no field \"bod\" for the payload")
    );
    assert_eq!(
        refused(&schema, &named("id", "body")).to_string(),
        "the writer's field \"body\" is of type double; the payload has to be string or bytes, or a union with null"
    );
    let tenant = Fields {
        tenant: Some("shop".to_owned()),
        ..Fields::default()
    };
    let ours = refused(SCHEMA_V1, &tenant);
    assert!(
        ours.to_string().contains("no field \"shop\" for the tenant"),
        "what is named must be there"
    );
    let wide: Vec<String> = (0..1_000)
        .map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#))
        .collect();
    let wide = refused(&record(&wide.join(",")), &Fields::default()).to_string();
    assert!(
        wide.contains("\"f29\" and 970 more") && wide.len() < 500,
        "{wide}"
    );
    for of in [r#"["null","double"]"#, r#""null""#] {
        let schema = record(&format!(
            r#"{{"name":"event_type","type":"string"}},{{"name":"payload","type":{of}}}"#
        ));
        assert_eq!(refused(&schema, &Fields::default()).class(), "unresolved", "{of}");
    }
    assert_eq!(refused(r#""string""#, &Fields::default()).class(), "unresolved");
}

#[test]
fn names_of_fields_are_checked() {
    assert_eq!(named("type", "body").check(), Ok(()));
    let wrong = |fields: Fields| fields.check().unwrap_err();
    assert_eq!(wrong(named("", "body")).0, "event_type");
    assert_eq!(
        wrong(named("type", "the body")),
        (
            "payload",
            "\"the body\" is not the name of an Avro field: letters, digits and _".to_owned()
        )
    );
    assert_eq!(
        wrong(named("type", "type")),
        (
            "payload",
            "\"type\" is the field of event_type already".to_owned()
        )
    );
}

#[test]
fn a_schema_that_has_no_end_is_refused() {
    let why = |schema: &str| refused(schema, &Fields::default()).to_string();
    let event = r#"{"name":"event_type","type":"string"},{"name":"payload","type":"string"}"#;
    let within = record(&format!(
        r#"{event},{{"name":"next","type":["null","x.y.Other"]}}"#
    ));
    assert_eq!(why(&within), "not a usable Avro schema: it contains itself");
    let deeper = record(&format!(
        r#"{event},{{"name":"a","type":{{"type":"record","name":"Inner","fields":[
        {{"name":"b","type":{{"type":"map","values":{{"type":"array","items":"Other"}}}}}}]}}}}"#
    ));
    assert_eq!(why(&deeper), "not a usable Avro schema: it contains itself");
    // Each doubles the one before: 2^60 nulls, if it were not shared.
    let mut fields = event.to_owned();
    let mut chain = |depth: usize| {
        for n in 0..depth {
            let of = if n == 0 {
                r#""string""#.to_owned()
            } else {
                format!(r#""R{}""#, n - 1)
            };
            fields += &format!(
                r#",{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[
                {{"name":"a","type":{of}}},{{"name":"b","type":{of}}}]}}}}"#
            );
        }
        record(&fields)
    };
    assert!(WriterSchema::parse(&chain(60), &Fields::default()).is_ok());
    fields = event.to_owned();
    let mut chain = |depth: usize| {
        for n in 0..depth {
            let of = if n == 0 {
                r#""int""#.to_owned()
            } else {
                format!(r#""R{}""#, n - 1)
            };
            fields += &format!(
                r#",{{"name":"f{n}","type":{{"type":"record","name":"R{n}","fields":[
                {{"name":"a","type":{of}}}]}}}}"#
            );
        }
        record(&fields)
    };
    assert_eq!(
        why(&chain(70)),
        "not a usable Avro schema: it is nested more than 64 deep"
    );
    for wrong in [
        "",
        "{}",
        "nonsense",
        r#"{"type":"record","name":"A","fields":[{"name":"b","type":"Gone"}]}"#,
    ] {
        assert_eq!(
            refused(wrong, &Fields::default()).class(),
            "unknown_schema",
            "{wrong}"
        );
    }
}

#[test]
fn what_takes_no_bytes_takes_no_time() {
    let schema = record(
        r#"{"name":"a","type":{"type":"array","items":"null"}},
        {"name":"event_type","type":"string"},{"name":"payload","type":"string"}"#,
    );
    // 2^62 nulls, the end of the array, and two empty texts.
    let mut datum = vec![0x80; 8];
    datum.extend([0x80, 0x01, 0, 0, 0]);
    assert!(decode_with(&schema, datum).is_ok());
}

#[test]
fn blocks_are_stepped_over_by_their_length() {
    let schema = record(
        r#"{"name":"m","type":{"type":"map","values":"long"}},
        {"name":"event_type","type":"string"},{"name":"payload","type":"string"}"#,
    );
    // Two entries in 6 bytes, then one entry as a block without its length.
    let datum = vec![
        0x03, 0x0C, 2, b'k', 1, 2, b'l', 3, 0x02, 2, b'm', 5, 0, 2, b'e', 2, b'p',
    ];
    assert_eq!(decode_with(&schema, datum).unwrap().event_type, "e");
}

#[test]
fn another_writers_schema_is_known_by_either_fingerprint() {
    let schema = SCHEMA_V2.replace("WebhookEvent", "Other");
    let plain = schema.replace(
        r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
        r#""long""#,
    );
    let fingerprint = |json: &str| {
        apache_avro::Schema::parse_str(json)
            .unwrap()
            .fingerprint::<apache_avro::rabin::Rabin>()
            .bytes
    };
    assert_ne!(fingerprint(&schema), fingerprint(&plain));
    let others = [WriterSchema::parse(&schema, &Fields::default()).unwrap()];
    for fingerprint in [fingerprint(&schema), fingerprint(&plain)] {
        let record = [&[0xC3, 0x01], &fingerprint[..], &datum_v2(&v2_event())]
            .concat()
            .into();
        assert_eq!(decode_single_object(&record, &others), Ok(v2_event()));
        assert_eq!(
            decode_single_object(&record, &[]).unwrap_err().class(),
            "unknown_fingerprint"
        );
    }
}

#[test]
fn a_field_that_is_named_for_another_part_is_not_read_for_its_own() {
    let payload_is_the_type = Fields {
        event_type: Some("payload".to_owned()),
        ..Fields::default()
    };
    assert!(
        refused(SCHEMA_V1, &payload_is_the_type)
            .to_string()
            .contains("no field \"payload\" for the payload")
    );
}
