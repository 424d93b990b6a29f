//! Kafka's records: read by their topic's framing, or put aside where they cannot be read.

use crate::kafka::Record;
use crate::product::{Product, Setup};
use crate::registry::Registry;
use crate::sink::Sink;
use crate::world::World;
use crate::{eventually, secs};
use schemas::avro::{self, WebhookEvent};
use schemas::ids::sha256_hex;
use serde_json::json;

const EVENT: &str = "core.orders.created.v1";
const PAYLOAD: &str = r#"{ "orderId": 42, "text": "é" }"#;

/// A schema of a producer of its own: other fields in another order, which resolve to ours.
const FOREIGN: &str = r#"{
    "type": "record", "name": "WebhookEvent", "namespace": "com.yotpo.platform.webhookdelivery.messages",
    "fields": [
        {"name": "weight", "type": "long"},
        {"name": "payload", "type": "string"},
        {"name": "event_type", "type": "string"}
    ]
}"#;

/// An Avro string or bytes: its length as a zigzag varint, then itself.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = text.len() << 1;
    while length > 0x7f {
        bytes.push(u8::try_from(length & 0x7f).expect("seven bits") | 0x80);
        length >>= 7;
    }
    bytes.push(u8::try_from(length).expect("seven bits"));
    [&bytes, text.as_bytes()].concat()
}

/// A datum of version 1.
fn v1(payload: &str) -> Vec<u8> {
    [text(EVENT), text(payload)].concat()
}

/// Confluent's framing.
fn framed(schema: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &schema.to_be_bytes()[..], datum].concat()
}

/// `events` raw, `other` in `framing`.
fn with_framing(world: &World, framing: &str) -> Setup {
    let topics = format!(
        r#"[{{name="{}", framing="raw"}}, {{name="{}", framing="{framing}"}}]"#,
        world.topic("events"),
        world.topic("other"),
    );
    world.setup().set("events.topics", &topics)
}

async fn ready(world: &World, setup: &Setup, sink: &Sink) -> Product {
    world.provision(setup).await;
    let product = world.start(setup, "all").await;
    product.endpoint(sink, "/a", &["core.orders.*"]).await;
    product
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn confluent_framing_is_read_by_the_schema_that_the_registry_has() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let registry = Registry::start(&[(7, avro::SCHEMA_V1), (4_000_000, FOREIGN)]).await;
    let setup = with_framing(&world, "confluent").set("kafka.schema_registry", &registry.url());
    let product = ready(&world, &setup, &sink).await;
    let weight = [0x54];
    let foreign = [&weight[..], &text("the foreign one"), &text(EVENT)].concat();
    let topic = world.topic("other");
    for (id, value, payload) in [
        ("by-ours", framed(7, &v1(PAYLOAD)), PAYLOAD),
        ("by-theirs", framed(4_000_000, &foreign), "the foreign one"),
    ] {
        world
            .kafka
            .append(&topic, &value, &[("event-id", id.as_bytes())])
            .await;
        let come = sink.accepted(secs(20), id).await;
        assert_eq!(come.sha256, sha256_hex(payload.as_bytes()), "{id}");
        assert_eq!(come.verified, Some(true));
    }
    assert!(world.kafka.records(&world.topic("dead-letter")).await.is_empty());
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_object_framing_is_read_by_fingerprint() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let setup = with_framing(&world, "single-object");
    let product = ready(&world, &setup, &sink).await;
    let first = [&[0xC3, 0x01], &avro::FINGERPRINT_V1[..], &v1(PAYLOAD)].concat();
    let second = avro::encode_single_object(&WebhookEvent {
        event_id: Some("by-field".to_owned()),
        content_type: Some("text/plain".to_owned()),
        ..event(PAYLOAD)
    });
    let topic = world.topic("other");
    world
        .kafka
        .append(&topic, &first, &[("event-id", b"by-header")])
        .await;
    world.kafka.append(&topic, &second, &[]).await;
    for (id, content_type) in [("by-header", "application/json"), ("by-field", "text/plain")] {
        let come = sink.accepted(secs(20), id).await;
        assert_eq!(come.sha256, sha256_hex(PAYLOAD.as_bytes()), "{id}");
        assert_eq!(come.header("content-type"), content_type);
    }
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_of_other_fields_is_read_by_the_schema_in_its_header() {
    const ORDER: &str = r#"{"type":"record","name":"Order","fields":[
        {"name":"id","type":"string"},{"name":"body","type":["null","bytes"]},{"name":"type","type":"string"}]}"#;
    let (world, sink) = (World::new().await, Sink::start().await);
    let topics = format!(
        r#"[{{name="{}"}}, {{name="{}", framing="header", schema_header="avro.schema",
            fields={{event_type="type", payload="body", event_id="id"}}}}]"#,
        world.topic("events"),
        world.topic("other"),
    );
    let setup = world.setup().set("events.topics", &topics);
    let product = ready(&world, &setup, &sink).await;
    let order = [&text("order-42")[..], &[2], &text(PAYLOAD), &text(EVENT)].concat();
    let topic = world.topic("other");
    world
        .kafka
        .append(&topic, &order, &[("avro.schema", ORDER.as_bytes())])
        .await;
    let come = sink.accepted(secs(20), "order-42").await;
    assert_eq!(come.sha256, sha256_hex(PAYLOAD.as_bytes()));
    // A schema without the fields that are named.
    let headers: [(&str, &[u8]); 1] = [("avro.schema", FOREIGN.as_bytes())];
    world.kafka.append(&topic, &order, &headers).await;
    let originals = world.kafka.records(&topic).await;
    let copy = buried(&world, &originals[1], &topic).await;
    assert_eq!(copy.header("hookwright-error"), "unresolved");
    let detail = copy.header("hookwright-error-detail");
    assert!(
        detail.contains("no field \"type\" for the event_type; it has \"weight\""),
        "{detail}"
    );
    product.stop().await;
}

fn event(payload: &str) -> WebhookEvent {
    let datum = v1(payload);
    avro::decode_raw(&datum.into()).expect("a v1 datum")
}

/// The record's copy in the dead-letter topic, waited for.
async fn buried(world: &World, original: &Record, topic: &str) -> Record {
    let what = format!("the copy of {topic}/{}", original.offset);
    let dead_letter = world.topic("dead-letter");
    eventually(secs(20), &what, async || {
        let copies = world.kafka.records(&dead_letter).await;
        copies.into_iter().find(|copy| {
            copy.header("hookwright-topic") == topic
                && copy.header("hookwright-offset") == original.offset.to_string()
        })
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poison_is_put_aside_with_its_bytes_its_place_and_the_reason_and_what_follows_is_delivered() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let registry = Registry::start(&[(7, avro::SCHEMA_V1)]).await;
    let setup = with_framing(&world, "confluent")
        .set("kafka.schema_registry", &registry.url())
        .set("events.max_payload", "64KiB");
    let product = ready(&world, &setup, &sink).await;
    let (raw, confluent) = (world.topic("events"), world.topic("other"));
    let too_large = v1(&"x".repeat(65_537));
    let poison = [
        (&raw, vec![0x80], "truncated"),
        (&raw, [v1("{}"), b"more".to_vec()].concat(), "malformed"),
        (&raw, too_large.clone(), "payload_too_large"),
        (&confluent, framed(99, &v1("{}")), "unknown_schema"),
        (&confluent, framed(7, &[0x80]), "truncated"),
        (&confluent, v1("{}"), "not_framed"),
        (&confluent, framed(7, &too_large), "payload_too_large"),
    ];
    for (topic, value, _) in &poison {
        let headers: [(&str, &[u8]); 2] = [("event-id", b"poison"), ("of-its-own", b"\xff\x00")];
        world.kafka.append(topic, value, &headers).await;
    }
    // What comes behind it in the same partition.
    world
        .kafka
        .append(&raw, &v1(PAYLOAD), &[("event-id", b"after-raw")])
        .await;
    world
        .kafka
        .append(
            &confluent,
            &framed(7, &v1(PAYLOAD)),
            &[("event-id", b"after-confluent")],
        )
        .await;
    for id in ["after-raw", "after-confluent"] {
        assert_eq!(sink.accepted(secs(20), id).await.verified, Some(true));
    }
    let mut originals = Vec::new();
    for topic in [&raw, &confluent] {
        originals.extend(
            world
                .kafka
                .records(topic)
                .await
                .into_iter()
                .map(|one| (topic, one)),
        );
    }
    for (topic, value, class) in &poison {
        let (_, original) = originals
            .iter()
            .find(|(at, one)| at == topic && one.value == *value)
            .expect("it was appended");
        let copy = buried(&world, original, topic).await;
        assert_eq!(
            (&copy.key, &copy.value),
            (&original.key, &original.value),
            "{class}"
        );
        assert_eq!(copy.headers[..2], original.headers[..], "the headers it had");
        assert_eq!(copy.header("hookwright-partition"), "0");
        assert_eq!(&copy.header("hookwright-error"), class);
        assert!(!copy.header("hookwright-error-detail").is_empty());
        assert!(!copy.header("hookwright-timestamp").is_empty());
    }
    let copies = world.kafka.records(&world.topic("dead-letter")).await;
    assert_eq!(copies.len(), poison.len(), "each once, and nothing else");
    assert!(sink.of("poison").is_empty(), "none of it was delivered");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_above_the_limit_is_refused_at_the_door_as_well() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let setup = with_framing(&world, "single-object").set("events.max_payload", "1KiB");
    let product = ready(&world, &setup, &sink).await;
    let body = json!({"type": EVENT, "payload": "x".repeat(1_100)});
    product.post("/webhooks/events", body).await.problem(413);
    let event = product.publish(EVENT, json!("x".repeat(900))).await;
    sink.accepted(secs(20), &event).await;
    assert_eq!(world.kafka.records(&world.topic("events")).await.len(), 1);
    product.stop().await;
}

#[tokio::test]
async fn a_schema_that_is_not_there_is_named_before_anything_starts() {
    let setup = Setup::new().set("secrets.key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let configuration = r#"
        [events]
        log = "kafka"
        topics = [{ name = "orders", framing = "raw", schemas = ["order.avsc"] }]
        [kafka]
        brokers = "127.0.0.1:9"
    "#;
    std::fs::write(setup.folder().join("hookwright.toml"), configuration).expect("a file");
    for command in ["check", "consumer"] {
        let ended = setup.run(&[command]).await;
        assert_eq!(ended.code, Some(64), "{command}: {ended:?}");
        for said in ["events.topics.schemas", "orders", "order.avsc", "no such file"] {
            assert!(ended.stderr.contains(said), "{command}: {ended:?}");
        }
    }
    // One that is there is read, and the broker asked.
    let schema = r#"{"type":"record","name":"Order","fields":[{"name":"event_type","type":"string"},{"name":"payload","type":"string"}]}"#;
    std::fs::write(setup.folder().join("order.avsc"), schema).expect("a file");
    let ended = setup.run(&["check"]).await;
    assert_eq!(ended.code, Some(69), "{ended:?}");
}
