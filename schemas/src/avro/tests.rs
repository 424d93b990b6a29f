//! Against apache-avro, and against damaged and hostile bytes.

use super::library;
use super::writer_tests::record;
use super::*;
use apache_avro::Schema;
use apache_avro::headers::HeaderBuilder as _;
use apache_avro::rabin::Rabin;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;

pub(super) fn v1_event() -> WebhookEvent {
    WebhookEvent {
        event_type: "orders.created".to_owned(),
        payload: Bytes::from_static(br#"{"a": 1}"#),
        ..WebhookEvent::default()
    }
}

pub(super) fn v2_event() -> WebhookEvent {
    WebhookEvent {
        event_id: Some("order-42".to_owned()),
        tenant: Some("acme".to_owned()),
        content_type: Some("text/plain".to_owned()),
        occurred_at: Some(Millis(1_767_225_599_123)),
        ..v1_event()
    }
}

/// A datum of version 1, as apache-avro writes it.
fn datum_v1(event: &WebhookEvent) -> Vec<u8> {
    write(
        SCHEMA_V1,
        vec![
            ("event_type", Value::String(event.event_type.clone())),
            (
                "payload",
                Value::String(String::from_utf8(event.payload.to_vec()).unwrap()),
            ),
        ],
    )
}

/// A datum of version 2, as apache-avro writes it.
pub(super) fn datum_v2(event: &WebhookEvent) -> Vec<u8> {
    let optional = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    write(
        SCHEMA_V2,
        vec![
            ("event_type", Value::String(event.event_type.clone())),
            (
                "payload",
                Value::String(String::from_utf8(event.payload.to_vec()).unwrap()),
            ),
            ("event_id", optional(event.event_id.clone().map(Value::String))),
            ("tenant", optional(event.tenant.clone().map(Value::String))),
            (
                "content_type",
                optional(event.content_type.clone().map(Value::String)),
            ),
            (
                "occurred_at",
                optional(event.occurred_at.map(|at| Value::TimestampMillis(at.0))),
            ),
        ],
    )
}

pub(super) fn write(schema: &str, fields: Vec<(&str, Value)>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let record = Value::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    );
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(record).unwrap()
}

fn by_library(schema: &str, datum: &Bytes) -> Result<WebhookEvent, DecodeError> {
    library::read(&Schema::parse_str(schema).unwrap(), datum)
}

fn by_plan(schema: &str, datum: &Bytes) -> Result<WebhookEvent, DecodeError> {
    WriterSchema::parse(schema, &Fields::default())
        .unwrap()
        .read(datum)
}

fn single_object(value: impl Into<Bytes>) -> Result<WebhookEvent, DecodeError> {
    decode_single_object(&value.into(), &[])
}

#[test]
fn fingerprints_are_those_of_the_schemas() {
    let of = |json| Schema::parse_str(json).unwrap().fingerprint::<Rabin>().bytes;
    assert_eq!(of(SCHEMA_V1), FINGERPRINT_V1);
    assert_eq!(of(SCHEMA_V2), FINGERPRINT_V2_OTHER);
    // The form Java and fastavro give a timestamp is the one of a plain long.
    let plain = SCHEMA_V2.replace(
        r#"{"type": "long", "logicalType": "timestamp-millis"}"#,
        r#""long""#,
    );
    assert_eq!(of(&plain), FINGERPRINT_V2);
}

#[test]
fn the_schemas_are_those_of_the_contract() {
    let v1 = Schema::parse_str(SCHEMA_V1).unwrap();
    assert_eq!(
        v1.canonical_form(),
        r#"{"name":"com.yotpo.platform.webhookdelivery.messages.WebhookEvent","type":"record","fields":[{"name":"event_type","type":"string"},{"name":"payload","type":"string"}]}"#
    );
    let Schema::Record(reader) = library::reader_schema() else {
        panic!("not a record");
    };
    assert!(matches!(reader.fields[1].schema, Schema::Bytes));
    assert_eq!(reader.fields.len(), 6);
    assert!(
        reader.fields[2..]
            .iter()
            .all(|field| field.default == Some(serde_json::Value::Null))
    );
}

#[test]
fn a_raw_topic_carries_either_version() {
    assert_eq!(decode_raw(&datum_v1(&v1_event()).into()), Ok(v1_event()));
    assert_eq!(decode_raw(&datum_v2(&v2_event()).into()), Ok(v2_event()));
    assert_eq!(decode_raw(&datum_v2(&v1_event()).into()), Ok(v1_event()));
}

#[test]
fn neither_version_can_be_read_as_the_other() {
    let v1 = Bytes::from(datum_v1(&v1_event()));
    let v2 = Bytes::from(datum_v2(&v1_event()));
    assert_eq!(datum::read(&v1, datum::Version::V2), Err(DecodeError::Truncated));
    assert_eq!(
        datum::read(&v2, datum::Version::V1),
        Err(DecodeError::Trailing(4))
    );
}

#[test]
fn the_payload_is_a_slice_of_the_record() {
    let record = Bytes::from(encode_v2(&v2_event()));
    let event = decode_raw(&record).unwrap();
    assert!(record.as_ptr_range().contains(&event.payload.as_ptr()));
}

#[test]
fn a_payload_that_is_not_utf8_comes_out_as_it_went_in() {
    let event = WebhookEvent {
        payload: Bytes::from_static(&[0xff, 0, 0x80]),
        ..v2_event()
    };
    assert_eq!(decode_raw(&encode_v2(&event).into()), Ok(event));
}

#[test]
fn a_datum_cut_short_or_too_long_is_refused() {
    let whole = encode_v2(&v2_event());
    let v1_length = datum_v1(&v1_event()).len();
    for length in 0..whole.len() {
        let cut = Bytes::copy_from_slice(&whole[..length]);
        let by_other_writer = by_library(SCHEMA_V2, &cut);
        assert_eq!(by_other_writer, Err(DecodeError::Truncated), "{length}");
        if length == v1_length {
            assert_eq!(decode_raw(&cut), Ok(v1_event()));
        } else {
            assert_eq!(decode_raw(&cut), Err(DecodeError::Truncated), "{length}");
        }
    }
    let mut longer = whole;
    longer.push(0);
    let longer = Bytes::from(longer);
    assert_eq!(decode_raw(&longer), Err(DecodeError::Trailing(1)));
    assert_eq!(by_library(SCHEMA_V2, &longer), Err(DecodeError::Trailing(1)));
}

#[test]
fn damaged_datums_are_refused_by_class() {
    let table: [(&[u8], DecodeError, &str); 9] = [
        (&[], DecodeError::Truncated, "truncated"),
        // A length of 2^62 in a datum of a few bytes.
        (
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            DecodeError::Truncated,
            "truncated",
        ),
        (
            &[0x80; 11],
            DecodeError::Malformed("event_type".to_owned()),
            "malformed",
        ),
        (
            &[0x01],
            DecodeError::Malformed("event_type".to_owned()),
            "malformed",
        ),
        (
            &[0x02, 0xff, 0x00],
            DecodeError::NotUtf8("event_type".to_owned()),
            "not_utf8",
        ),
        // Branch 2 of a union of two, then branch -1.
        (
            &[0x02, b'a', 0x00, 0x04, 0x00, 0x00, 0x00],
            DecodeError::Malformed("event_id".to_owned()),
            "malformed",
        ),
        (
            &[0x02, b'a', 0x00, 0x01, 0x00, 0x00, 0x00],
            DecodeError::Malformed("event_id".to_owned()),
            "malformed",
        ),
        (
            &[0x02, b'a', 0x00, 0x00, 0x02, 0x02, 0xff, 0x00, 0x00],
            DecodeError::NotUtf8("tenant".to_owned()),
            "not_utf8",
        ),
        (
            &[0x02, b'a', 0x00, 0x00, 0x00, 0x00, 0x00, 0x07],
            DecodeError::Trailing(1),
            "trailing_bytes",
        ),
    ];
    for (bytes, error, class) in table {
        assert_eq!(
            decode_raw(&Bytes::from_static(bytes)),
            Err(error.clone()),
            "{bytes:x?}"
        );
        assert_eq!(error.class(), class);
    }
}

#[test]
fn single_object_encoding_names_its_schema() {
    let framed = |fingerprint: &[u8], datum: &[u8]| Bytes::from([&[0xC3, 0x01], fingerprint, datum].concat());
    assert_eq!(single_object(encode_single_object(&v2_event())), Ok(v2_event()));
    let v1 = framed(&FINGERPRINT_V1, &datum_v1(&v1_event()));
    assert_eq!(single_object(v1.clone()), Ok(v1_event()));
    // The fingerprint decides, not what the bytes look like.
    let v1_as_v2 = framed(&FINGERPRINT_V2, &datum_v1(&v1_event()));
    assert_eq!(single_object(v1_as_v2), Err(DecodeError::Truncated));
    let v2_as_v1 = framed(&FINGERPRINT_V1, &datum_v2(&v1_event()));
    assert_eq!(single_object(v2_as_v1), Err(DecodeError::Trailing(4)));

    let unknown = framed(&[8, 7, 6, 5, 4, 3, 2, 1], &[]);
    let refused = single_object(unknown).unwrap_err();
    assert_eq!(refused, DecodeError::UnknownFingerprint(0x0102_0304_0506_0708));
    assert_eq!(refused.class(), "unknown_fingerprint");
    assert_eq!(single_object(v1.slice(..9)), Err(DecodeError::Truncated));
    for bare in [
        Bytes::new(),
        Bytes::from_static(&[0xC3]),
        datum_v1(&v1_event()).into(),
    ] {
        let refused = single_object(bare).unwrap_err();
        assert_eq!(refused.class(), "not_framed");
    }
}

#[test]
fn a_record_the_library_frames_is_read() {
    let schema = Schema::parse_str(SCHEMA_V2).unwrap();
    let header = apache_avro::headers::RabinFingerprintHeader::from_schema(&schema).build_header();
    let record = Bytes::from([header, datum_v2(&v2_event())].concat());
    assert_eq!(single_object(record), Ok(v2_event()));
}

#[test]
fn confluent_framing_comes_apart() {
    let framed = Bytes::from_static(&[0, 0, 0, 1, 2, 9, 8]);
    assert_eq!(confluent_schema_id(&framed), Ok((258, framed.slice(5..))));
    assert_eq!(confluent_schema_id(&framed.slice(..5)), Ok((258, Bytes::new())));
    assert_eq!(
        confluent_schema_id(&framed.slice(..4)),
        Err(DecodeError::Truncated)
    );
    assert_eq!(confluent_schema_id(&Bytes::new()), Err(DecodeError::Truncated));
    let refused = confluent_schema_id(&Bytes::from_static(&[3, 0, 0, 0, 0])).unwrap_err();
    assert_eq!(refused.class(), "not_framed");
}

#[test]
fn a_header_holds_an_id_a_guid_or_the_schema() {
    let read = |header: &'static [u8]| schema_in_header(&Bytes::from_static(header));
    assert_eq!(read(&[0, 0, 0, 1, 2]), Ok(SchemaKey::Id(258)));
    let guid = read(b"\x01\x89\x79\x1b\xb0\x5d\x8f\x4c\x2b\x9e\x77\x1c\x50\x1e\x40\x6a\xff").unwrap();
    assert_eq!(
        guid.to_string(),
        "schema GUID 89791bb0-5d8f-4c2b-9e77-1c501e406aff"
    );
    assert_eq!(
        read(b"\"string\""),
        Ok(SchemaKey::Text(Bytes::from_static(b"\"string\"")))
    );
    for wrong in [&b""[..], &[0], &[0, 0, 0, 1], &[0; 9], &[1; 16], &[1; 18]] {
        assert_eq!(read(wrong).unwrap_err().class(), "not_framed", "{wrong:?}");
    }
}

#[test]
fn framings_have_the_words_of_the_configuration() {
    for (framing, word) in [
        (Framing::Raw, "raw"),
        (Framing::SingleObject, "single-object"),
        (Framing::Confluent, "confluent"),
        (Framing::Header, "header"),
    ] {
        assert_eq!(serde_json::to_value(framing).unwrap(), word);
        assert_eq!(serde_json::from_value::<Framing>(word.into()).unwrap(), framing);
    }
}

prop_compose! {
    fn any_event()(
        event_type in any::<String>(),
        payload in any::<String>(),
        event_id in prop::option::of(any::<String>()),
        tenant in prop::option::of(any::<String>()),
        content_type in prop::option::of(any::<String>()),
        occurred_at in prop::option::of(any::<i64>()),
    ) -> WebhookEvent {
        WebhookEvent {
            event_type,
            payload: payload.into(),
            event_id,
            tenant,
            content_type,
            occurred_at: occurred_at.map(Millis),
        }
    }
}

/// Datums, whole and damaged, and bytes of any kind.
fn any_bytes() -> impl Strategy<Value = Bytes> {
    let damaged = (
        any_event(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    )
        .prop_map(|(event, damages)| {
            let mut datum = encode_v2(&event);
            for (place, byte) in damages {
                let place = place.index(datum.len());
                datum[place] = byte;
            }
            datum
        });
    let short = prop::collection::vec(prop_oneof![0..8_u8, any::<u8>()], 0..24);
    prop_oneof![damaged, short].prop_map(Bytes::from)
}

proptest! {
    #[test]
    fn what_is_written_is_what_the_library_writes(event in any_event()) {
        let written = encode_v2(&event);
        prop_assert_eq!(&written, &datum_v2(&event));
        prop_assert_eq!(decode_raw(&written.into()), Ok(event));
    }

    #[test]
    fn any_bytes_are_read_as_the_library_reads_them(bytes in any_bytes()) {
        for (schema, version) in [(SCHEMA_V1, datum::Version::V1), (SCHEMA_V2, datum::Version::V2)] {
            let ours = datum::read(&bytes, version);
            prop_assert_eq!(&by_plan(schema, &bytes), &ours);
            let theirs = by_library(schema, &bytes);
            match &ours {
                // The one difference: the payload may be any bytes.
                Ok(event) if std::str::from_utf8(&event.payload).is_err() => prop_assert!(theirs.is_err()),
                Ok(_) => prop_assert_eq!(ours, theirs),
                Err(_) => prop_assert!(theirs.is_err()),
            }
        }
    }

    #[test]
    fn a_raw_datum_is_of_one_version_at_most(bytes in any_bytes()) {
        let v1 = datum::read(&bytes, datum::Version::V1);
        let v2 = datum::read(&bytes, datum::Version::V2);
        prop_assert!(v1.is_err() || v2.is_err());
        prop_assert_eq!(decode_raw(&bytes).ok(), v2.or(v1).ok());
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in any_bytes()) {
            let _ = single_object(bytes.clone());
        let _ = confluent_schema_id(&bytes);
        let everything = record(r#"
            {"name":"a","type":{"type":"array","items":["null","string"]}},
            {"name":"m","type":{"type":"map","values":"bytes"}},
            {"name":"u","type":{"type":"string","logicalType":"uuid"}},
            {"name":"d","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
            {"name":"e","type":{"type":"enum","name":"E","symbols":["x","y"]}},
            {"name":"f","type":{"type":"fixed","name":"F","size":12}},
            {"name":"b","type":["boolean","int","float"]},
            {"name":"payload","type":["null","bytes"]},
            {"name":"event_type","type":"E"}"#);
        let _ = by_plan(&everything, &bytes);
    }
}
