//! Publishing: byte for byte, one or many, all or none.

use crate::world::{MAX_PAYLOAD, World, config};
use api::Encoding;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use platform::event_log::LogError;
use schemas::avro;
use serde_json::{Value, json};

#[tokio::test]
async fn a_payload_is_accepted_byte_for_byte_as_it_stands_in_the_request() {
    let world = World::start().await;
    let payloads = [
        r#"{"b" :1 ,"a":[ 1,2 ] }"#,
        "{\n\t\"x\" : [ ]\r\n}",
        r#""é \u00e9 \ud83d\ude00 \/ 😀""#,
        r#""lone \ud800 surrogate""#,
        "123456789012345678901234567890.1234567890123456789e+0",
        "-0.0",
        "1E400",
        r#"{"a":1,"a":2}"#,
        "null",
        "true",
        r#""""#,
        "[]",
        &format!("{}{}", "[".repeat(500), "]".repeat(500)),
    ];
    for payload in payloads {
        for around in ["", " ", "\n\t "] {
            let body = format!(r#"{{"payload":{around}{payload}{around},"type":"orders.created"}}"#);
            let answer = world.publish("application/json", body).await.expect(202);
            let (record, event) = world.last_appended().await.remove(0);
            assert_eq!(event.payload, payload.as_bytes(), "{payload}");
            assert_eq!(event.event_type, "orders.created");
            assert_eq!(answer["id"], event.event_id.unwrap());
            assert_eq!(record.position.topic.as_ref(), "webhook-events");
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn a_raw_payload_is_delivered_as_what_the_string_holds() {
    let world = World::start().await;
    for text in ["", "plain", "<a href=\"x\">\n\t\u{0}é😀</a>", "{not json"] {
        let body = json!({"type": "a", "rawPayload": text, "contentType": "text/plain; charset=utf-8"});
        world.post("/webhooks/events", body).await.expect(202);
        let (_, event) = world.last_appended().await.remove(0);
        assert_eq!(event.payload, text.as_bytes());
        assert_eq!(event.content_type.as_deref(), Some("text/plain; charset=utf-8"));
    }
    world.stop().await;
}

#[tokio::test]
async fn a_record_says_whose_it_is_in_headers_and_in_fields() {
    let world = World::start().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = Request::post(format!("{}/v1/webhooks/events", world.root))
        .header("authorization", format!("Bearer {}", world.key))
        .header("traceparent", trace);
    let body = r#"{"type":"a","payload":1,"id":"order-42_A"}"#;
    let answer = world
        .send(request.body(Full::new(Bytes::from(body))).unwrap())
        .await;
    assert_eq!(answer.expect(202), json!({"id": "order-42_A"}));

    let (record, event) = world.last_appended().await.remove(0);
    assert_eq!(record.key.as_deref(), Some(b"order-42_A".as_slice()));
    for (name, value) in [
        ("event-id", "order-42_A"),
        ("tenant", "acme"),
        ("traceparent", trace),
    ] {
        assert_eq!(
            record.header(name).map(Bytes::as_ref),
            Some(value.as_bytes()),
            "{name}"
        );
    }
    assert_eq!(event.event_id.as_deref(), Some("order-42_A"));
    assert_eq!(event.tenant.as_deref(), Some("acme"));
    assert_eq!(event.content_type, None);
    world.stop().await;
}

#[tokio::test]
async fn records_are_written_as_the_topics_framing_says() {
    let world = World::start_with(api::Config {
        encoding: Encoding::SingleObject,
        ..config()
    })
    .await;
    world
        .post("/webhooks/events", json!({"type": "a", "payload": 1}))
        .await
        .expect(202);
    let position = world.log.appended.lock().unwrap()[0][0].clone();
    let log: &dyn platform::event_log::EventLog = world.log.as_ref();
    let record = log.read_at(&position).await.unwrap().unwrap();
    let event = avro::decode_single_object(&record.value, &[]).unwrap();
    assert_eq!(event.event_type, "a");
    world.stop().await;
}

#[tokio::test]
async fn an_event_that_is_not_valid_names_its_fields_and_reaches_no_log() {
    let world = World::start().await;
    let table: [(Value, &[&str]); 14] = [
        (json!({}), &["type", "payload"]),
        (json!({"type": "a"}), &["payload"]),
        (json!({"payload": 1}), &["type"]),
        (
            json!({"type": "a", "payload": 1, "rawPayload": "1"}),
            &["rawPayload"],
        ),
        (
            json!({"type": "a", "payload": null, "rawPayload": "1"}),
            &["rawPayload"],
        ),
        (json!({"type": "a..b", "payload": 1}), &["type"]),
        (
            json!({"type": "", "payload": 1, "id": "", "contentType": ""}),
            &["type", "id", "contentType"],
        ),
        (json!({"type": "a", "payload": 1, "id": "a.b"}), &["id"]),
        (json!({"type": "a", "payload": 1, "id": "x".repeat(65)}), &["id"]),
        (json!({"type": "a", "payload": 1, "id": 7}), &["id"]),
        (json!({"type": 1, "payload": 1}), &["type"]),
        (json!({"type": "a", "rawPayload": {"a": 1}}), &["rawPayload"]),
        (json!({"type": "a", "payload": 1, "tenant": "other"}), &["tenant"]),
        (json!(["a", 1, null, null, null]), &["body"]),
    ];
    for (body, fields) in table {
        let answer = world.post("/webhooks/events", body.clone()).await;
        assert_eq!(answer.invalid_fields(), fields, "{body}");
    }
    for (body, place) in [
        (r#"{"type":"a","payload":{"b":1}"#, "column"),
        ("{\n\"type\": nope}", "line 2 column"),
        ("", "column"),
        (r#"{"type":"a","payload":1} x"#, "trailing"),
    ] {
        let errors = world.publish("application/json", body).await.problem(400);
        assert!(errors[0].1.contains(place), "{body}: {errors:?}");
    }
    let not_utf8 = [br#"{"type":"a","payload":""#.as_slice(), &[0xff], br#""}"#].concat();
    let answer = world.publish("application/json", not_utf8).await;
    assert_eq!(answer.status, 400);
    assert_eq!(world.appends(), 0);
    world.stop().await;
}

#[tokio::test]
async fn a_payload_of_the_largest_size_is_taken_and_one_byte_more_is_not() {
    let world = World::start().await;
    let of = |size: usize| json!({"type": "a", "rawPayload": "x".repeat(size)});
    world.post("/webhooks/events", of(MAX_PAYLOAD)).await.expect(202);
    assert_eq!(world.last_appended().await[0].1.payload.len(), MAX_PAYLOAD);
    let errors = world
        .post("/webhooks/events", of(MAX_PAYLOAD + 1))
        .await
        .problem(413);
    assert_eq!(errors[0].0, "payload");
    // So large that it is not even read.
    world
        .post("/webhooks/events", of(MAX_PAYLOAD * 4))
        .await
        .problem(413);
    // What escapes to twice its size in the request still fits.
    let quotes = json!({"type": "a", "rawPayload": "\"".repeat(MAX_PAYLOAD)});
    world.post("/webhooks/events", quotes).await.expect(202);
    assert_eq!(world.appends(), 2);
    world.stop().await;
}

#[tokio::test]
async fn many_events_are_appended_in_one_go_in_the_order_of_the_lines() {
    let world = World::start().await;
    let mut lines = String::new();
    for number in 0..500 {
        lines.push_str(&format!(
            "{{\"type\":\"a.b\",\"payload\":{{ \"n\": {number} }},\"id\":\"n{number}\"}}\r\n\n"
        ));
    }
    lines.push_str(r#"{"type":"last","payload":null}"#);
    let answer = world
        .publish("application/x-ndjson; charset=utf-8", lines)
        .await
        .expect(202);
    let ids = answer["ids"].as_array().unwrap();
    assert_eq!((ids.len(), &ids[7]), (501, &json!("n7")));
    assert_eq!(world.appends(), 1);
    let records = world.last_appended().await;
    assert_eq!(records.len(), 501);
    assert_eq!(records[7].1.payload, r#"{ "n": 7 }"#);
    assert_eq!(records[500].1.payload, "null");
    assert_eq!(records[500].1.event_id.as_deref(), ids[500].as_str());
    world.stop().await;
}

#[tokio::test]
async fn one_bad_line_among_many_refuses_them_all() {
    let world = World::start().await;
    let good = r#"{"type":"a","payload":1}"#;
    let lines =
        format!("{good}\n{{\"type\":\"a..b\"}}\n\n{good}\n{{\"type\":\"a\",\"payload\":1,\"x\":1}}\n");
    let fields = world
        .publish("application/x-ndjson", lines)
        .await
        .invalid_fields();
    assert_eq!(fields, ["line 2: type", "line 2: payload", "line 5: x"]);

    let errors = world
        .publish("application/x-ndjson", format!("{good}\n{{oops\n"))
        .await
        .problem(400);
    assert_eq!(errors[0].0, "line 2: body");
    let large = json!({"type": "a", "rawPayload": "x".repeat(MAX_PAYLOAD + 1)});
    let errors = world
        .publish("application/x-ndjson", format!("{good}\n{large}"))
        .await
        .problem(413);
    assert_eq!(errors[0].0, "line 2: payload");

    let fields = world
        .publish("application/x-ndjson", "\n \n")
        .await
        .invalid_fields();
    assert_eq!(fields, ["body"]);
    let many = format!("{good}\n").repeat(10_001);
    world.publish("application/x-ndjson", many).await.problem(413);
    // However many lines are wrong, only the first are named.
    let answer = world.publish("application/x-ndjson", "{}\n".repeat(1000)).await;
    assert_eq!(answer.invalid_fields().len(), 20);
    assert_eq!(world.appends(), 0);
    world.stop().await;
}

#[tokio::test]
async fn while_the_log_is_away_nothing_is_accepted() {
    let world = World::start().await;
    let one = r#"{"type":"a","payload":1}"#;
    *world.log.fault.lock().unwrap() = Some(LogError::Unavailable("broker 10.0.0.7 is away".to_owned()));
    for content_type in ["application/json", "application/x-ndjson"] {
        let answer = world.publish(content_type, one).await;
        assert_eq!(answer.headers["retry-after"], "1");
        assert!(!String::from_utf8_lossy(&answer.body).contains("10.0.0.7"));
        answer.problem(503);
    }
    *world.log.fault.lock().unwrap() = Some(LogError::Refused("no such topic".to_owned()));
    world.publish("application/json", one).await.problem(500);
    *world.log.fault.lock().unwrap() = None;
    world.publish("application/json", one).await.expect(202);
    assert_eq!(world.appends(), 1);
    world.stop().await;
}

#[tokio::test]
async fn a_shutdown_finishes_the_requests_that_run() {
    let world = World::start().await;
    let shut = world.log.gate.lock().await;
    let request = world.post("/webhooks/events", json!({"type": "a", "payload": 1}));
    let shutdown = async {
        // The request waits for the log.
        world.log.reached.acquire().await.unwrap().forget();
        world.shutdown.cancel();
        // Nobody listens any more once the shutdown has begun.
        let address = world.root.strip_prefix("http://").unwrap();
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        drop(shut);
    };
    let (answer, ()) = tokio::join!(request, shutdown);
    answer.expect(202);
    assert_eq!(world.appends(), 1);
    world.stop().await;
}
