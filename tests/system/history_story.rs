//! Failures, and what history tells of them: `GET /webhooks/deliveries/{id}` reads as a story.

use crate::product::Setup;
use crate::sink::{Behaviour, Sink};
use crate::{eventually, secs};
use serde_json::{Value, json};
use std::time::Duration;

const ORDER: &str = "core.orders.created.v1";

fn statuses(story: &Value) -> Vec<u64> {
    let attempts = story["attempts"].as_array().expect("a list").iter();
    attempts
        .map(|attempt| attempt["statusCode"].as_u64().expect("a status"))
        .collect()
}

#[tokio::test]
async fn a_target_that_fails_twice_gets_it_on_the_third_attempt() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/flaky", &["core.orders.*"]).await;
    product.retry_soon(target).await;
    sink.answer("/flaky", Behaviour::failing(2, 500));
    let event = product.publish(ORDER, json!({"orderId": 42})).await;
    let delivery = sink.accepted(secs(20), &event).await;
    assert_eq!(delivery.attempt, 3);

    let tries = sink.of(&event);
    assert_eq!(tries.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(
        tries.iter().all(|one| one.verified == Some(true)),
        "each attempt is signed anew"
    );
    assert!(
        tries
            .iter()
            .all(|one| one.sha256 == delivery.sha256 && one.delivery_id == delivery.delivery_id)
    );

    let story = product.delivery_with(&delivery.delivery_id, "delivered").await;
    assert_eq!(statuses(&story), [500, 500, 204]);
    assert_eq!(
        (&story["attemptCount"], &story["nextAttemptAt"]),
        (&json!(3), &Value::Null)
    );
    let listed = product
        .get("/webhooks/deliveries?status=delivered")
        .await
        .expect(200);
    assert_eq!(listed["items"][0]["id"], json!(delivery.delivery_id));
    product.stop().await;
}

#[tokio::test]
async fn while_it_waits_history_says_when_it_is_tried_again() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    product.endpoint(&sink, "/down", &["*"]).await;
    sink.answer("/down", Behaviour::status(503));
    let event = product.publish(ORDER, json!(1)).await;
    let first = sink
        .wait(secs(10), "the first attempt", |one| one.id == event)
        .await;
    let story = product.delivery_with(&first.delivery_id, "retrying").await;
    assert_eq!(statuses(&story), [503]);
    assert_eq!(story["lastStatusCode"], 503);
    // The default policy: 5 s, and a fifth of that at most.
    let time =
        |field: &str| -> jiff::Timestamp { story[field].as_str().expect(field).parse().expect("RFC 3339") };
    let pause = time("nextAttemptAt")
        .duration_since(time("updatedAt"))
        .as_millis();
    assert!((4_900..=6_100).contains(&pause), "{pause} ms: {story}");
    product.stop().await;
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_is_told_by_a_word() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let setup = setup.set("delivery.timeout", "500ms");
    let product = setup.dev().await;
    sink.answer("/hangs", Behaviour::hanging());
    let hangs = product.endpoint(&sink, "/hangs", &["*"]).await;
    // A port that was free a moment ago and that nobody listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .expect("a port")
        .local_addr()
        .expect("an address");
    let body = json!({"url": format!("http://{closed}/"), "events": ["*"]});
    let nobody = product.post("/webhooks/endpoints", body).await.expect(201)["id"].clone();
    product.publish(ORDER, json!(1)).await;
    for (target, word) in [(json!(hangs), "timeout"), (nobody, "connect")] {
        let what = format!("history says {word}");
        let found = eventually(secs(15), &what, async || {
            let listed = product
                .get(&format!("/webhooks/deliveries?targetId={target}"))
                .await
                .expect(200);
            (listed["items"][0]["lastError"] == word).then_some(listed)
        });
        assert_eq!(found.await["items"][0]["status"], "retrying");
    }
    product.stop().await;
}

#[tokio::test]
async fn retry_after_is_waited_for() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/busy", &["*"]).await;
    product.retry_soon(target).await;
    sink.answer("/busy", Behaviour::failing(1, 429).retry_after("3"));
    let event = product.publish(ORDER, json!(1)).await;
    let second = sink.accepted(secs(20), &event).await;
    let first = &sink.of(&event)[0];
    let pause = second.at.duration_since(first.at);
    // Times travel in whole milliseconds.
    assert!(
        pause >= Duration::from_millis(2_990),
        "asked for 3 s, waited {pause:?}"
    );
    product.stop().await;
}

#[tokio::test]
async fn a_target_that_answers_410_is_disabled() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let gone = product.endpoint(&sink, "/gone", &["*"]).await;
    product.endpoint(&sink, "/here", &["*"]).await;
    sink.answer("/gone", Behaviour::status(410));
    let event = product.publish(ORDER, json!(1)).await;
    let told = sink
        .wait(secs(10), "the attempt", |one| {
            one.id == event && one.path == "/gone"
        })
        .await;
    product.delivery_with(&told.delivery_id, "canceled").await;
    let target = product
        .get(&format!("/webhooks/targets/{gone}"))
        .await
        .expect(200);
    assert_eq!(target["state"], "disabled");

    let later = product.publish(ORDER, json!(2)).await;
    sink.accepted(secs(10), &later).await;
    assert!(sink.of(&later).iter().all(|one| one.path == "/here"));

    sink.answer("/gone", Behaviour::default());
    product
        .post(&format!("/webhooks/targets/{gone}/enable"), json!({}))
        .await
        .expect(200);
    let again = product.publish(ORDER, json!(3)).await;
    sink.wait(secs(10), "it is back", |one| {
        one.id == again && one.path == "/gone"
    })
    .await;
    product.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_deleted_target_is_canceled() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/down", &["*"]).await;
    let slowly = json!({"retryPolicy": {"first": "2s", "factor": 1.0, "jitter": 0.0}});
    product
        .patch(&format!("/webhooks/targets/{target}"), slowly)
        .await
        .expect(200);
    sink.answer("/down", Behaviour::status(500));
    let event = product.publish(ORDER, json!(1)).await;
    let first = sink
        .wait(secs(10), "the first attempt", |one| one.id == event)
        .await;
    product.delivery_with(&first.delivery_id, "retrying").await;
    product
        .delete(&format!("/webhooks/targets/{target}"))
        .await
        .problem(409);
    product
        .delete(&format!("/webhooks/targets/{target}?cascade=true"))
        .await
        .expect(204);

    let story = product.delivery_with(&first.delivery_id, "canceled").await;
    assert_eq!(statuses(&story), [500]);
    assert_eq!(sink.of(&event).len(), 1, "nothing was sent after it was deleted");
    product.stop().await;
}

#[tokio::test]
async fn what_is_tried_to_the_end_of_its_window_is_exhausted() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/down", &["*"]).await;
    let briefly = json!({"retryPolicy": {"window": "2s", "first": "1s", "factor": 1.0, "jitter": 0.0}});
    product
        .patch(&format!("/webhooks/targets/{target}"), briefly)
        .await
        .expect(200);
    sink.answer("/down", Behaviour::status(500));
    let event = product.publish(ORDER, json!(1)).await;
    let first = sink
        .wait(secs(10), "the first attempt", |one| one.id == event)
        .await;
    let story = product.delivery_with(&first.delivery_id, "exhausted").await;
    let tries = sink.of(&event).len();
    assert!(
        (2..=3).contains(&tries),
        "{tries} attempts in 2 s at a pause of 1 s"
    );
    assert_eq!(
        (story["attemptCount"].as_u64(), story["nextAttemptAt"].as_str()),
        (Some(tries as u64), None)
    );
    product.stop().await;
}
