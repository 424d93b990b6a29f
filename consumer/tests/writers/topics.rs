//! Records of topics that are written by other hands.

use crate::served::{Answer, Served, schema};
use bytes::Bytes;
use consumer::decode::{Decoded, TopicDecoders};
use consumer::poison::Poison;
use platform::config::{SchemaRegistry, Topic};
use platform::event_log::Record;
use schemas::avro::{Fields, Framing, WriterSchema};
use schemas::event::{Event, Position};
use schemas::time::Millis;

/// An order as its own service writes it.
const ORDER: &str = r#"{"type":"record","name":"Order","namespace":"com.acme","fields":[
    {"name":"id","type":"string"},
    {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["order_created","order_paid"]}},
    {"name":"total","type":"double"},
    {"name":"body","type":["null","bytes"]}]}"#;

type Headers = &'static [(&'static str, &'static [u8])];

/// Order 42, paid.
fn order() -> Vec<u8> {
    let mut datum = vec![4, b'4', b'2', 2];
    datum.extend([0; 8]);
    datum.extend([2, 4, b'{', b'}']);
    datum
}

fn orders(framing: Framing) -> Topic {
    Topic {
        framing,
        fields: Fields {
            event_type: Some("kind".to_owned()),
            payload: Some("body".to_owned()),
            event_id: Some("id".to_owned()),
            ..Fields::default()
        },
        ..Topic::raw("orders")
    }
}

fn decoders(topic: Topic, registry: Option<SchemaRegistry>) -> Result<TopicDecoders, String> {
    TopicDecoders::new(&[topic], registry.as_ref()).map_err(|error| error.to_string())
}

async fn decode(
    decoders: &TopicDecoders,
    value: Vec<u8>,
    headers: &[(&str, &[u8])],
) -> Result<Event, Poison> {
    let headers = headers
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Bytes::copy_from_slice(value)));
    let record = Record {
        position: Position {
            topic: "orders".into(),
            partition: 0,
            offset: 0,
        },
        timestamp: Millis(1),
        key: None,
        value: value.into(),
        headers: headers.collect(),
    };
    match decoders.decode(&record, Millis(1)).await {
        Decoded::Event(event) => Ok(event),
        Decoded::Poison(poison) => Err(poison),
    }
}

#[track_caller]
fn is_the_order(event: Result<Event, Poison>) {
    let event = event.unwrap();
    assert_eq!(event.id.as_str(), "42");
    assert_eq!(&*event.event_type, "order_paid");
    assert_eq!(&event.payload[..], b"{}");
}

#[tokio::test]
async fn a_registry_that_is_away_or_lets_nobody_in_is_waited_for() {
    let say = |status| Answer::Say(status, String::new());
    let served = Served::start(vec![Answer::HangUp, say(503), say(401), schema(ORDER)]).await;
    let decoders = decoders(orders(Framing::Confluent), Some(served.settings())).unwrap();
    let framed = [&[0, 0, 0, 0, 7], &order()[..]].concat();
    is_the_order(decode(&decoders, framed, &[]).await);
    assert_eq!(served.asked().len(), 4);
}

#[tokio::test]
async fn a_record_brings_its_schema_along_in_a_header() {
    let topic = Topic {
        schema_header: Some("avro.schema".to_owned()),
        ..orders(Framing::Header)
    };
    let decoders = decoders(topic, None).unwrap();
    is_the_order(decode(&decoders, order(), &[("avro.schema", ORDER.as_bytes())]).await);
    let table: [(Headers, &str, &str); 5] = [
        (
            &[],
            "not_framed",
            "there is no header avro.schema, which names the writer's schema",
        ),
        (
            &[("avro.schema", b"")],
            "not_framed",
            "the record does not name its writer's schema in a header",
        ),
        (
            &[("avro.schema", b"{}")],
            "unknown_schema",
            "the schema in the header: not a usable Avro schema",
        ),
        (
            &[("avro.schema", b"\xff")],
            "unknown_schema",
            "the schema in the header is not UTF-8",
        ),
        (
            &[("avro.schema", &[0, 0, 0, 0, 7])],
            "unknown_schema",
            "schema id 7: there is no registry; set kafka.schema_registry",
        ),
    ];
    for (headers, class, detail) in table {
        let poison = decode(&decoders, order(), headers).await.unwrap_err();
        assert_eq!(poison.class, class, "{}", poison.detail);
        assert!(poison.detail.starts_with(detail), "{}", poison.detail);
    }
}

#[tokio::test]
async fn confluents_header_holds_an_id_or_a_guid() {
    let served = Served::start(vec![schema(ORDER)]).await;
    let decoders = decoders(orders(Framing::Header), Some(served.settings())).unwrap();
    let guid = [&[1], &[0x11_u8; 16][..]].concat();
    for header in [&[0, 0, 0, 0, 7][..], &guid, &guid] {
        is_the_order(decode(&decoders, order(), &[("__value_schema_id", header)]).await);
    }
    let paths: Vec<String> = served.asked().into_iter().map(|asked| asked.path).collect();
    assert_eq!(
        paths,
        [
            "/schemas/ids/7",
            "/schemas/guids/11111111-1111-1111-1111-111111111111"
        ]
    );
}

#[tokio::test]
async fn the_schemas_of_records_that_do_not_bring_them_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("order.avsc");
    std::fs::write(&file, ORDER).unwrap();
    let with_file = |framing| Topic {
        schemas: vec![file.clone()],
        ..orders(framing)
    };
    let raw = decoders(with_file(Framing::Raw), None).unwrap();
    is_the_order(decode(&raw, order(), &[]).await);
    let named = decoders(with_file(Framing::SingleObject), None).unwrap();
    // CRC-64-AVRO of the schema's canonical form.
    let schema = WriterSchema::parse(ORDER, &orders(Framing::Raw).fields).unwrap();
    let framed = [&[0xC3, 0x01], schema.fingerprint(), &order()].concat();
    is_the_order(decode(&named, framed, &[]).await);
    std::fs::write(&file, r#"{"type":"record","name":"Order","fields":[]}"#).unwrap();
    let error = decoders(with_file(Framing::Raw), None).err().unwrap();
    assert!(
        error.starts_with("events.topics.schemas: topic orders: "),
        "{error}"
    );
    assert!(
        error.contains("order.avsc: the writer's schema has no field \"kind\""),
        "{error}"
    );
    std::fs::remove_file(&file).unwrap();
    assert!(
        decoders(with_file(Framing::Raw), None)
            .err()
            .unwrap()
            .contains("order.avsc: ")
    );
}

#[tokio::test]
async fn a_null_payload_is_poison_and_names_the_field() {
    let topic = Topic {
        schema_header: Some("avro.schema".to_owned()),
        ..orders(Framing::Header)
    };
    let decoders = decoders(topic, None).unwrap();
    let null = [&order()[..12], &[0]].concat();
    let poison = decode(&decoders, null, &[("avro.schema", ORDER.as_bytes())])
        .await
        .unwrap_err();
    assert_eq!(poison.class, "unresolved");
    assert_eq!(
        poison.detail,
        "\"body\" is null: there is no event without its payload"
    );
}
