//! Owners are told: by operational events, and by mail to a real server.

use crate::product::{Product, Setup};
use crate::sink::{Behaviour, Delivery, Sink};
use crate::{eventually, secs};
use serde_json::{Value, json};
use std::path::PathBuf;

const ORDER: &str = "core.orders.created.v1";

/// A product that sends mail, and an endpoint at `/ops` that is told of everything.
async fn start(sink: &Sink) -> (Setup, Product) {
    let port = std::env::var("WORLD_SMTP_PORT").expect("set by `make test`, which brings the world up");
    let setup = Setup::new()
        .set("mail.smtp", &format!("smtp://127.0.0.1:{port}"))
        .set("mail.from", "webhooks@example.com");
    let product = setup.dev().await;
    product.endpoint(sink, "/ops", &["hookwright.*"]).await;
    (setup, product)
}

/// A target with a contact of its own, for orders and everything else but what is operational.
async fn target(product: &Product, sink: &Sink, path: &str, more: Value) -> (i64, String) {
    let id = product.endpoint(sink, path, &["*"]).await;
    let contact = format!("ops-{id}@example.com");
    let mut body = json!({"contact": contact});
    body.as_object_mut()
        .expect("an object")
        .extend(more.as_object().cloned().unwrap_or_default());
    product
        .patch(&format!("/webhooks/targets/{id}"), body)
        .await
        .expect(200);
    (id, contact)
}

/// What came at a path that is operational.
fn operational(sink: &Sink, path: &str) -> Vec<Delivery> {
    sink.look(|all| {
        let told = |one: &&Delivery| one.header("webhook-event-type").starts_with("hookwright.");
        all.iter()
            .filter(|one| one.path == path)
            .filter(told)
            .cloned()
            .collect()
    })
}

/// The mail to an address that the server has.
fn mail_to(address: &str) -> Vec<String> {
    let folder = PathBuf::from(std::env::var("WORLD_SMTP_MAILDIR").expect("beside the port")).join("new");
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let all = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    all.filter(|mail| mail.contains(address)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_answers_410_is_disabled_and_its_owner_told_by_event_and_mail() {
    let sink = Sink::start().await;
    let (_setup, product) = start(&sink).await;
    let (id, contact) = target(&product, &sink, "/gone", json!({})).await;
    sink.answer("/gone", Behaviour::status(410));
    product.publish(ORDER, json!(1)).await;
    let told = eventually(secs(20), "the event", async || operational(&sink, "/ops").pop()).await;
    assert_eq!(told.header("webhook-event-type"), "hookwright.target.disabled");
    assert_eq!(told.verified, Some(true));
    let mail = eventually(secs(20), "the mail", async || mail_to(&contact).pop()).await;
    assert!(
        mail.contains(&format!("Subject: Webhook target {id}: is disabled")),
        "{mail}"
    );
    let read = product.get(&format!("/webhooks/targets/{id}")).await.expect(200);
    assert_eq!(
        (&read["state"], &read["disabledReason"]),
        (&json!("disabled"), &json!("the target answered 410 Gone"))
    );
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_given_up_makes_one_event_and_an_operational_one_none() {
    let sink = Sink::start().await;
    let (_setup, product) = start(&sink).await;
    let briefly = json!({"retryPolicy": {"window": "1s", "schedule": ["500ms"], "jitter": 0.0}});
    let (id, _) = target(&product, &sink, "/down", briefly.clone()).await;
    // Told of everything operational too, and as deaf.
    let deaf = product.endpoint(&sink, "/deaf", &["hookwright.*"]).await;
    product
        .patch(&format!("/webhooks/targets/{deaf}"), briefly)
        .await
        .expect(200);
    for path in ["/down", "/deaf"] {
        sink.answer(path, Behaviour::status(503));
    }
    let event = product.publish(ORDER, json!(1)).await;
    let told = eventually(secs(20), "the event", async || operational(&sink, "/ops").pop()).await;
    assert_eq!(told.header("webhook-event-type"), "hookwright.delivery.exhausted");
    let first = sink
        .of(&event)
        .into_iter()
        .find(|one| one.path == "/down")
        .expect("it was tried");
    product.delivery_with(&first.delivery_id, "exhausted").await;
    // What tells of it is given up at the deaf one, and nobody is told of that.
    let unheard = eventually(secs(20), "the deaf one is tried", async || {
        operational(&sink, "/deaf").pop()
    })
    .await;
    product.delivery_with(&unheard.delivery_id, "exhausted").await;
    product.publish(ORDER, json!(2)).await;
    eventually(secs(20), "the second event", async || {
        (operational(&sink, "/ops").len() >= 2).then_some(())
    })
    .await;
    let ids: Vec<String> = operational(&sink, "/ops")
        .iter()
        .map(|one| one.id.clone())
        .collect();
    assert_eq!(ids.len(), 2, "one for each order: {ids:?}");
    assert!(
        operational(&sink, "/down").is_empty(),
        "`*` does not ask for them"
    );
    assert_eq!(
        product.get(&format!("/webhooks/targets/{id}")).await.expect(200)["state"],
        "active"
    );
    product.stop().await;
}
