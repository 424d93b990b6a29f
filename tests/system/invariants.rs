//! The invariants of the architecture that show on the embedded adapters, one test each.
//! `queue_invariants` has those that show at the queue.

use crate::product::Setup;
use crate::sink::{Behaviour, Sink};
use crate::{eventually, secs};
use base64::Engine as _;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};
use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

const ORDER: &str = "core.orders.created.v1";

#[tokio::test]
async fn every_id_is_derived() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let mut product = setup.dev().await;
    let target = product.endpoint(&sink, "/a", &["core.orders.*"]).await;
    // A second and a third subscription of the same target match the same event.
    for events in [json!([ORDER]), json!(["*"])] {
        let filter = product
            .post("/webhooks/filters", json!({"name": "more", "events": events}))
            .await
            .expect(201);
        let subscription = json!({"targetId": target, "filterId": filter["id"]});
        product
            .post("/webhooks/subscriptions", subscription)
            .await
            .expect(201);
    }
    let event = json!({"type": ORDER, "id": "order-42", "payload": {"orderId": 42}});
    product.post("/webhooks/events", event.clone()).await.expect(202);
    let delivery = sink.accepted(secs(10), "order-42").await;
    // One event, three subscriptions, one delivery: a later event comes alone too.
    let marker = product.publish(ORDER, json!(1)).await;
    sink.accepted(secs(10), &marker).await;
    assert_eq!(sink.of("order-42").len(), 1);

    // Told again by its producer, and again after a crash: the same id, not another delivery.
    product.post("/webhooks/events", event.clone()).await.expect(202);
    eventually(secs(10), "it comes again", async || {
        (sink.of("order-42").len() == 2).then_some(())
    })
    .await;
    product.kill().await;
    let product = setup.dev().await;
    product.post("/webhooks/events", event).await.expect(202);
    eventually(secs(10), "and again", async || {
        (sink.of("order-42").len() >= 3).then_some(())
    })
    .await;
    let ids: HashSet<String> = sink
        .of("order-42")
        .into_iter()
        .map(|one| one.delivery_id)
        .collect();
    assert_eq!(ids, HashSet::from([delivery.delivery_id.clone()]));
    product.delivery_with(&delivery.delivery_id, "delivered").await;
    let listed = product
        .get("/webhooks/deliveries?eventId=order-42")
        .await
        .expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    product.stop().await;
}

/// Whether `needle` stands in a file.
fn holds(file: &Path, needle: &[u8]) -> bool {
    let bytes = std::fs::read(file).unwrap_or_default();
    bytes.windows(needle.len()).any(|window| window == needle)
}

fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path))
        } else {
            found.push(path)
        }
    }
    found
}

#[tokio::test]
async fn no_secret_in_any_file_queue_log_or_metric() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    // At its most talkative.
    let setup = setup
        .set("log.level", "trace")
        .set("payloads.inline_limit", "1KiB");
    let product = setup.dev().await;
    let (payload, header) = ("PAYLOAD-MARKER", "HEADER-MARKER");
    let body = json!({"url": sink.url("/a"), "headers": {"authorization": header}});
    let target = product.post("/webhooks/targets", body).await.expect(201);
    let filter = product
        .post("/webhooks/filters", json!({"name": "all", "events": ["*"]}))
        .await
        .expect(201);
    let subscription = json!({"targetId": target["id"], "filterId": filter["id"]});
    product
        .post("/webhooks/subscriptions", subscription)
        .await
        .expect(201);
    product.retry_soon(target["id"].as_i64().expect("an id")).await;
    let rotate = format!("/webhooks/targets/{}/secret", target["id"]);
    let rotated = product.post(&rotate, json!({"overlap": "1h"})).await.expect(200);
    sink.answer("/a", Behaviour::failing(1, 500));

    let small = product.publish(ORDER, json!(payload)).await;
    let large = product.publish(ORDER, json!(payload.repeat(1_000))).await;
    let mut signatures = Vec::new();
    for event in [&small, &large] {
        let delivery = sink.accepted(secs(20), event).await;
        assert_eq!(delivery.header("authorization"), header);
        signatures.extend(delivery.header("webhook-signature").split(' ').map(str::to_owned));
        product.delivery_with(&delivery.delivery_id, "delivered").await;
    }
    assert_eq!(signatures.len(), 4, "both secrets sign");
    product
        .post("/webhooks/events", json!({"type": "a b", "payload": payload}))
        .await
        .problem(422);
    let metrics = product.metrics().await;
    let api_key = product.key.clone();
    let admin_key = std::fs::read_to_string(setup.data().join("admin-key")).expect("the key");
    // Of stdout the banner alone shows a key, and says so.
    product.stop().await;

    let mut secrets: Vec<Vec<u8>> = Vec::new();
    for secret in [&target["secret"], &rotated["secret"]] {
        let secret = secret.as_str().expect("a secret");
        let encoded = secret.strip_prefix("whsec_").expect("a prefix");
        let key = base64::engine::general_purpose::STANDARD
            .decode(encoded)
            .expect("base64");
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        secrets.extend([encoded.as_bytes().to_vec(), key, hex.into_bytes()]);
    }
    let logs: Vec<_> = files(setup.folder())
        .into_iter()
        .filter(|file| !file.starts_with(setup.data()))
        .collect();
    assert!(logs.iter().any(|log| holds(log, b"api listening")), "{logs:?}");
    for file in files(&setup.data()).iter().chain(&logs) {
        for secret in &secrets {
            assert!(!holds(file, secret), "{} holds a signing secret", file.display());
        }
        for signature in &signatures {
            assert!(
                !holds(file, signature.as_bytes()),
                "{} holds a signature",
                file.display()
            );
        }
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or("");
        for (key, its_file) in [(&api_key, "api-key"), (&admin_key, "admin-key")] {
            let may = name == its_file || (its_file == "api-key" && name.starts_with("stdout"));
            assert!(
                may || !holds(file, key.trim().as_bytes()),
                "{} holds the {its_file}",
                file.display()
            );
        }
        // The target's own headers stand in the catalog, whose reader may see them, and nowhere else.
        let catalog = name.starts_with("hookwright.db");
        assert!(
            catalog || !holds(file, header.as_bytes()),
            "{} holds a target's header",
            file.display()
        );
    }
    for log in &logs {
        assert!(
            !holds(log, payload.as_bytes()),
            "{} holds a payload",
            log.display()
        );
    }
    for word in [payload, header, api_key.as_str(), "whsec_", "v1,", small.as_str()] {
        assert!(!metrics.contains(word), "{word} is in /metrics");
    }
}

#[tokio::test]
async fn deliveries_go_on_while_history_is_down() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let mut product = setup.dev().await;
    product.endpoint(&sink, "/a", &["*"]).await;
    let first = product.publish(ORDER, json!(1)).await;
    sink.accepted(secs(10), &first).await;

    // Another writer that does not let go: no batch of history is taken meanwhile.
    let file = setup.data().join("hookwright.db");
    let mut other = SqliteConnection::connect(&format!("sqlite:{}", file.display()))
        .await
        .expect("the database");
    sqlx::raw_sql("PRAGMA busy_timeout = 10000; BEGIN IMMEDIATE")
        .execute(&mut other)
        .await
        .expect("the lock");
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(product.publish(ORDER, json!(number)).await);
    }
    for event in &events {
        sink.accepted(secs(10), event).await;
    }
    let last = events.last().expect("an event");
    product
        .get(&format!("/webhooks/events/{last}"))
        .await
        .problem(404);

    // Killed in the middle of it: the attempts topic still has what history does not.
    product.kill().await;
    sqlx::raw_sql("ROLLBACK")
        .execute(&mut other)
        .await
        .expect("the lock is given back");
    other.close().await.expect("closed");
    let product = setup.dev().await;
    for event in &events {
        let path = format!("/webhooks/events/{event}");
        let what = format!("history has caught up with {event}");
        eventually(secs(20), &what, async || {
            let answer = product.get(&path).await;
            let story = (answer.status == 200).then(|| answer.expect(200))?;
            (story["deliveries"][0]["status"] == "delivered").then_some(())
        })
        .await;
    }
    product.stop().await;
}

#[tokio::test]
async fn waiting_is_not_an_attempt() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let setup = setup.set("delivery.per_target", "1");
    let mut product = setup.dev().await;
    product.endpoint(&sink, "/slow", &["*"]).await;
    sink.answer("/slow", Behaviour::default().after(Duration::from_millis(300)));
    let mut events = Vec::new();
    for number in 0..10 {
        events.push(product.publish(ORDER, json!(number)).await);
    }
    // Some wait for a permit in the slow lane when it is killed: they have not been tried either.
    sink.accepted(secs(20), &events[0]).await;
    product.kill().await;
    let product = setup.dev().await;
    for event in &events {
        sink.accepted(secs(40), event).await;
    }
    let attempts: HashSet<u32> = sink.look(|all| all.iter().map(|one| one.attempt).collect());
    assert_eq!(attempts, HashSet::from([1]));
    product.stop().await;
}
