//! What goes on while a service is away, and what a stop leaves behind.

use crate::sink::{Behaviour, Sink};
use crate::tcp_front::TcpFront;
use crate::world::World;
use crate::{eventually, secs};
use serde_json::json;
use std::time::Duration;

const ORDER: &str = "core.orders.created.v1";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_postgres_is_away_deliveries_of_known_targets_go_on() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let postgres = TcpFront::start(world.postgres_address()).await;
    let setup = world
        .setup()
        .set("store.url", &world.database_at(&postgres.address()))
        .without_breakers();
    world.provision(&setup).await;
    let product = world.start(&setup, "all").await;
    product.endpoint(&sink, "/steady", &["*"]).await;
    let flaky = product.endpoint(&sink, "/flaky", &["core.orders.*"]).await;
    product.retry_soon(flaky).await;
    let known = product.publish(ORDER, json!("known")).await;
    for path in ["/steady", "/flaky"] {
        let come = sink
            .wait(secs(20), "both targets are known", |one| {
                one.id == known && one.path == path
            })
            .await;
        product.delivery_with(&come.delivery_id, "delivered").await;
    }

    postgres.cut();
    sink.answer("/flaky", Behaviour::failing(1, 500));
    // Nobody remembers who wants this one. It waits, and holds nothing up.
    let unknown = product.publish("core.users.created.v1", json!("unknown")).await;
    let mut events = Vec::new();
    for number in 0..20 {
        events.push(product.publish(ORDER, json!(number)).await);
    }
    let mut deliveries = Vec::new();
    for event in &events {
        for path in ["/steady", "/flaky"] {
            let come = sink
                .wait(secs(20), "it is delivered", |one| {
                    &one.id == event && one.path == path && one.accepted()
                })
                .await;
            assert_eq!(come.verified, Some(true));
            assert_eq!(come.attempt, if path == "/flaky" { 2 } else { 1 });
            deliveries.push(come.delivery_id);
        }
    }
    product.get("/webhooks/deliveries").await.problem(503);
    assert!(sink.of(&unknown).is_empty(), "its targets are not known");

    postgres.mend();
    sink.accepted(secs(20), &unknown).await;
    for delivery in &deliveries {
        let story = product.delivery_with(delivery, "delivered").await;
        assert!(
            story["attempts"].as_array().is_some_and(|all| !all.is_empty()),
            "{story}"
        );
    }
    product.endpoint(&sink, "/new", &["*"]).await;
    let event = product.publish(ORDER, json!("new")).await;
    sink.wait(secs(20), "a new target is told", |one| {
        one.id == event && one.path == "/new"
    })
    .await;
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_finishes_what_runs_and_what_waits_is_delivered_once_after_the_next_start() {
    const EVENTS: usize = 60;
    let (world, sink) = (World::new().await, Sink::start().await);
    // Few at once, so that most wait when it is told to stop.
    let setup = world.setup().set("delivery.concurrency", "16");
    world.provision(&setup).await;
    let mut product = world.start(&setup, "all").await;
    product.endpoint(&sink, "/slow", &["core.orders.*"]).await;
    sink.answer("/slow", Behaviour::default().after(Duration::from_millis(700)));
    let mut events = Vec::new();
    for number in 0..EVENTS {
        events.push(product.publish(ORDER, json!(number)).await);
    }
    eventually(secs(20), "some are running", async || {
        sink.look(|all| all.len() >= 8).then_some(())
    })
    .await;
    product.terminate();
    let status = product.ended().await;
    assert_eq!(status.code(), Some(0), "{}", product.stderr());
    let before = sink.look(<[_]>::len);
    assert!(before < EVENTS, "all were delivered before it stopped");
    // All were in the queue or on the way to it, and the offset says so.
    let committed = world.kafka.committed(world.group(), &world.topic("events")).await;
    let enqueued = usize::try_from(committed[&0]).expect("fits");
    assert!(enqueued >= before && enqueued <= EVENTS, "{enqueued}");

    sink.answer("/slow", Behaviour::default());
    let product = world.start(&setup, "all").await;
    for event in &events {
        sink.accepted(secs(30), event).await;
    }
    let marker = product.publish(ORDER, json!("marker")).await;
    sink.accepted(secs(20), &marker).await;
    assert_eq!(sink.look(<[_]>::len), EVENTS + 1, "each came once");
    product.stop().await;
}
