//! Invariant 2: a message is deleted only after its next step is durable.

use super::{DELETE, Pipeline, SEND, any, attribute, of};
use crate::sink::Behaviour;
use crate::{eventually, secs};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_post_and_delete_the_delivery_comes_again() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/a").await;
    let trap = pipeline.front.hold(DELETE, "dispatch", 1, any);
    pipeline.publish("event").await;
    trap.sprung().await;
    assert_eq!(
        pipeline.accepted("event", "/a"),
        1,
        "it is deleted only when it is delivered"
    );
    pipeline.commits(1).await;
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    pipeline.arrives("event", "/a", 2).await;
    pipeline.is_sound("event");
    assert!(
        pipeline.sink.of("event").iter().all(|one| one.attempt == 1),
        "the same attempt"
    );
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_the_retry_is_sent_nothing_is_deleted() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/flaky").await;
    pipeline.sink.answer("/flaky", Behaviour::status(500));
    let trap = pipeline.front.hold(SEND, "retry", 1, of("event"));
    pipeline.publish("event").await;
    trap.sprung().await;
    pipeline.commits(1).await;
    assert_eq!(pipeline.deletes("dispatch"), 0, "its retry is not acknowledged");
    pipeline.dies_in(trap).await;
    pipeline.sink.answer("/flaky", Behaviour::default());

    pipeline.restart().await;
    pipeline.arrives("event", "/flaky", 1).await;
    pipeline.is_sound("event");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_it_is_buried_a_delivery_is_buried_after_all() {
    let mut pipeline = Pipeline::start().await;
    let target = pipeline.target("/down").await;
    let briefly = json!({"retryPolicy": {"window": "1s", "first": "1s", "factor": 1.0, "jitter": 0.0}});
    let path = format!("/webhooks/targets/{target}");
    pipeline.product.patch(&path, briefly).await.expect(200);
    pipeline.sink.answer("/down", Behaviour::status(500));
    let trap = pipeline.front.hold(SEND, "dead-letter", 1, of("event"));
    pipeline.publish("event").await;
    trap.sprung().await;
    pipeline.commits(1).await;
    let sends = pipeline.sends("retry", "event").len();
    let deleted = pipeline
        .front
        .calls()
        .iter()
        .filter(|call| call.is(DELETE, "retry"))
        .flat_map(|call| call.entries().to_vec())
        .count();
    assert!(
        deleted < sends,
        "{deleted} of {sends} messages of the retry queue are deleted"
    );
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    let queue = pipeline.world.queue("dead-letter");
    let dead = eventually(secs(20), "it lies in the dead-letter queue", async || {
        pipeline.world.aws.peek(&queue).await.into_iter().next()
    })
    .await;
    assert_eq!(attribute(&dead)["id"], "event");
    pipeline
        .product
        .delivery_with(&pipeline.sink.of("event")[0].delivery_id, "exhausted")
        .await;
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delete_that_took_effect_unheard_makes_no_duplicate() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/a").await;
    let trap = pipeline.front.withhold(DELETE, "dispatch", 1, any);
    pipeline.publish("event").await;
    trap.sprung().await;
    pipeline.commits(1).await;
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    pipeline.publish("marker").await;
    pipeline.arrives("marker", "/a", 1).await;
    assert_eq!(pipeline.sink.of("event").len(), 1);
    pipeline.stop().await;
}
