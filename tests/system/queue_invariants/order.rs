//! Invariant 3: the next step is sent before the last one is deleted, so that a death between the two makes
//! a duplicate and never a loss.

use super::{DELETE, Pipeline, SEND, any, attribute};
use crate::queue_front::Call;
use crate::sink::Behaviour;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::Instant;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_retry_and_the_delete_there_are_two_and_not_none() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/flaky").await;
    pipeline.sink.answer("/flaky", Behaviour::failing(1, 500));
    let trap = pipeline.front.hold(DELETE, "dispatch", 1, any);
    pipeline.publish("event").await;
    trap.sprung().await;
    let sends = pipeline.sends("retry", "event");
    assert!(
        !sends.is_empty() && sends.iter().all(|(call, _)| call.answer.is_some()),
        "acknowledged before the delete"
    );
    pipeline.commits(1).await;
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    // The first attempt again, and the second of each of the two.
    pipeline.arrives("event", "/flaky", 2).await;
    let first = pipeline
        .sink
        .of("event")
        .iter()
        .filter(|one| one.attempt == 1)
        .count();
    assert_eq!(first, 2);
    pipeline.is_sound("event");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_the_due_retry_and_its_delete_there_are_two_and_not_none() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/flaky").await;
    pipeline.sink.answer("/flaky", Behaviour::failing(1, 500));
    let trap = pipeline.front.hold(DELETE, "retry", 1, any);
    pipeline.publish("event").await;
    trap.sprung().await;
    let again = pipeline.sends("dispatch", "event");
    let again: Vec<_> = again
        .iter()
        .filter(|(_, entry)| attribute(entry)["n"] == 2)
        .collect();
    assert!(
        !again.is_empty() && again.iter().all(|(call, _)| call.answer.is_some()),
        "acknowledged before the delete"
    );
    pipeline.commits(1).await;
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    pipeline.arrives("event", "/flaky", 2).await;
    let attempts: HashSet<u32> = pipeline.sink.of("event").iter().map(|one| one.attempt).collect();
    assert_eq!(attempts, HashSet::from([1, 2]), "a copy is the same attempt");
    pipeline.is_sound("event");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_message_is_deleted_after_its_next_step_is_acknowledged() {
    let pipeline = Pipeline::start().await;
    let briefly = json!({"retryPolicy": {"window": "3s", "first": "1s", "factor": 1.0, "jitter": 0.0}});
    let mut targets = HashMap::new();
    for (path, behaviour) in [
        ("/flaky", Behaviour::failing(1, 500)),
        ("/down", Behaviour::status(503)),
    ] {
        let target = pipeline.target(path).await;
        targets.insert(path.to_owned(), target);
        let target = format!("/webhooks/targets/{target}");
        pipeline.product.patch(&target, briefly.clone()).await.expect(200);
        pipeline.sink.answer(path, behaviour);
    }
    let events = ["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7"];
    for event in events {
        pipeline.publish(event).await;
    }
    for event in events {
        pipeline.arrives(event, "/flaky", 1).await;
        let down = pipeline
            .sink
            .of(event)
            .into_iter()
            .find(|one| one.path == "/down");
        pipeline
            .product
            .delivery_with(&down.expect("it was tried").delivery_id, "exhausted")
            .await;
    }
    let calls = pipeline.front.calls();
    let mut checked = 0;
    for delete in calls.iter().filter(|call| call.operation == DELETE) {
        for handle in delete.entries().iter().map(|entry| &entry["ReceiptHandle"]) {
            let (message, since) = received(&calls, handle);
            let delivered = pipeline.sink.look(|all| {
                all.iter().any(|one| {
                    one.accepted()
                        && one.at <= delete.arrived
                        && message["id"] == json!(one.id)
                        && message["n"] == json!(one.attempt)
                        && targets.get(&one.path) == message["tg"].as_i64().as_ref()
                })
            });
            let is_next = |entry: &&Value| {
                let next = attribute(entry);
                next["id"] == message["id"] && next["tg"] == message["tg"]
            };
            let acknowledged = calls.iter().filter(|call| call.operation == SEND).any(|send| {
                let in_time = send.answer.as_ref().is_some_and(|(_, at)| *at <= delete.arrived);
                send.arrived >= since && in_time && send.taken().iter().any(is_next)
            });
            assert!(
                (delivered && delete.queue.ends_with("-dispatch")) || acknowledged,
                "{message} was deleted from {} too soon",
                delete.queue
            );
            checked += 1;
        }
    }
    // Each: a first attempt, a retry that waits, a second attempt; the one that is given up, more.
    assert!(checked >= events.len() * 7, "{checked} deletions were seen");
    pipeline.stop().await;
}

/// What a message said that was received under this handle, and when it was.
fn received(calls: &[Call], handle: &Value) -> (Value, Instant) {
    for call in calls.iter().filter(|call| call.operation == "ReceiveMessage") {
        let Some((answer, at)) = &call.answer else {
            continue;
        };
        let messages = answer["Messages"].as_array().map_or(&[][..], Vec::as_slice);
        if let Some(message) = messages.iter().find(|one| one["ReceiptHandle"] == *handle) {
            return (attribute(message), *at);
        }
    }
    panic!("what is deleted was never received");
}
