//! One target, or one tenant, is no trouble to the others; and a target is spared what it cannot bear.

use crate::product::{Product, Setup};
use crate::sink::{Behaviour, Sink};
use crate::{eventually, secs};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const ORDER: &str = "core.orders.created.v1";

/// When requests came to a path.
fn times(sink: &Sink, path: &str) -> Vec<Instant> {
    sink.look(|all| {
        let here = all.iter().filter(|one| one.path.starts_with(path));
        here.map(|one| one.at).collect()
    })
}

/// The most that came within any stretch of this length.
fn most_within(times: &[Instant], stretch: Duration) -> usize {
    let within = |from: Instant| {
        let inside = times.iter().filter(|at| **at >= from && **at < from + stretch);
        inside.count()
    };
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

async fn publish(product: &Product, events: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for number in 0..events {
        ids.push(product.publish(ORDER, json!({ "number": number })).await);
    }
    ids
}

fn accepted(sink: &Sink, path: &str) -> usize {
    let like = |one: &&crate::sink::Delivery| one.path == path && one.accepted();
    sink.look(|all| all.iter().filter(like).count())
}

/// The value of a metric with this beginning; 0 if it is not there.
async fn metric(product: &Product, name: &str) -> f64 {
    let text = product.metrics().await;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.trim().parse().ok()).unwrap_or(0.0)
}

async fn patch(product: &Product, target: i64, change: Value) {
    let path = format!("/webhooks/targets/{target}");
    product.patch(&path, change).await.expect(200);
}

#[tokio::test]
async fn a_hanging_target_does_not_hold_up_nine_others() {
    // Fewer places than deliveries of the one that hangs, which times out only after the test.
    let setup = Setup::new()
        .set("delivery.concurrency", "16")
        .set("delivery.timeout", "60s");
    let (product, sink) = (setup.dev().await, Sink::start().await);
    sink.answer("/hangs", Behaviour::hanging());
    product.endpoint(&sink, "/hangs", &["*"]).await;
    for number in 0..9 {
        product.endpoint(&sink, &format!("/works/{number}"), &["*"]).await;
    }
    let events = publish(&product, 60).await.len();
    eventually(secs(30), "all others have all of them", async || {
        let all = (0..9).all(|number| accepted(&sink, &format!("/works/{number}")) == events);
        all.then_some(())
    })
    .await;
    eventually(secs(30), "what does not hang goes out of the way", async || {
        let waiting = metric(&product, "hookwright_deliveries_postponed_total{why=\"target\"}").await;
        (waiting >= (events - 4) as f64).then_some(())
    })
    .await;
    let hung = times(&sink, "/hangs").len();
    assert!((1..=4).contains(&hung), "{hung} attempts hang, where 4 may");
}

#[tokio::test]
async fn a_target_that_asks_to_be_left_alone_sees_one_request_a_period() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/busy", &["*"]).await;
    product.retry_soon(target).await;
    sink.answer("/busy", Behaviour::status(429).retry_after("2"));
    let events = publish(&product, 20).await;
    eventually(secs(30), "three periods have passed", async || {
        let times = times(&sink, "/busy");
        let first = *times.first()?;
        times.iter().any(|at| *at > first + secs(5)).then_some(())
    })
    .await;
    let times = times(&sink, "/busy");
    // What ran together when it first asked.
    let together = times.iter().filter(|at| **at < times[0] + secs(1)).count();
    assert!(together <= 4, "{together} ran together");
    let apart = times[together - 1..].windows(2).map(|two| two[1] - two[0]);
    let least = apart.min().expect("more than one");
    assert!(
        least >= Duration::from_millis(1_990),
        "asked for 2 s, got {least:?}"
    );

    sink.answer("/busy", Behaviour::default());
    eventually(secs(30), "all of them are delivered", async || {
        (accepted(&sink, "/busy") == events.len()).then_some(())
    })
    .await;
    // No wait is told as an attempt.
    for event in &events {
        let requests = sink.of(event);
        let last = requests.last().expect("delivered");
        assert_eq!(last.attempt as usize, requests.len());
        let story = product.delivery_with(&last.delivery_id, "delivered").await;
        assert_eq!(
            story["attempts"].as_array().expect("a list").len(),
            requests.len()
        );
    }
    product.stop().await;
}

#[tokio::test]
async fn a_dead_target_is_left_alone_and_recovers_within_its_limit() {
    let setup = Setup::new()
        .set("breaker.open", "1s")
        .set("breaker.open_max", "2s")
        .set("breaker.min_attempts", "5");
    let (product, sink) = (setup.dev().await, Sink::start().await);
    let target = product.endpoint(&sink, "/dead", &["*"]).await;
    product.retry_soon(target).await;
    patch(&product, target, json!({"rateLimit": 20})).await;
    sink.answer("/dead", Behaviour::status(500));
    let events = publish(&product, 60).await;
    eventually(secs(20), "its breaker is open", async || {
        (metric(&product, "hookwright_breakers_open").await > 0.5).then_some(())
    })
    .await;
    // What ran when it opened, and then a probe each second or two.
    let opened = Instant::now();
    eventually(secs(20), "some probes", async || {
        (times(&sink, "/dead").iter().filter(|at| **at > opened).count() >= 3).then_some(())
    })
    .await;
    let probes: Vec<_> = times(&sink, "/dead")
        .into_iter()
        .filter(|at| *at > opened)
        .collect();
    assert!(
        most_within(&probes, Duration::from_millis(900)) <= 1,
        "{probes:?}"
    );
    let attempts = times(&sink, "/dead").len();
    assert!(
        attempts <= 30,
        "{attempts} attempts of 60 deliveries at a dead target"
    );

    sink.answer("/dead", Behaviour::default());
    eventually(secs(40), "all of them are delivered", async || {
        (accepted(&sink, "/dead") == events.len()).then_some(())
    })
    .await;
    let most = most_within(&times(&sink, "/dead"), secs(1));
    assert!(
        most <= 40,
        "{most} within a second, where 20 and a burst of 20 may"
    );
    eventually(secs(10), "its breaker is closed", async || {
        (metric(&product, "hookwright_breakers_open").await < 0.5).then_some(())
    })
    .await;
    product.stop().await;
}

#[tokio::test]
async fn what_a_rate_limit_keeps_back_comes_in_turn_and_ends_with_its_window() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let slow = product.endpoint(&sink, "/slow", &["*"]).await;
    let never = product.endpoint(&sink, "/never", &["*"]).await;
    patch(&product, slow, json!({"rateLimit": "3/second"})).await;
    let briefly = json!({"rateLimit": "1/minute", "retryPolicy": {"window": "3s", "first": "1s"}});
    patch(&product, never, briefly).await;
    let events = publish(&product, 12).await;
    eventually(secs(30), "all of them are delivered", async || {
        (accepted(&sink, "/slow") == events.len()).then_some(())
    })
    .await;
    let most = most_within(&times(&sink, "/slow"), secs(1));
    assert!(most <= 6, "{most} within a second, where 3 and a burst of 3 may");
    assert!(sink.look(|all| all.iter().all(|one| one.attempt == 1)));

    // The other's first took its only token of the minute; the rest was never attempted.
    eventually(secs(20), "the rest is exhausted", async || {
        let path = format!("/webhooks/deliveries?targetId={never}&status=exhausted&limit=50");
        let items = product.get(&path).await.expect(200)["items"].clone();
        let items = items.as_array().expect("a list").clone();
        (items.len() == events.len() - 1).then_some(items)
    })
    .await
    .iter()
    .for_each(|one| assert_eq!(one["attemptCount"], 0, "{one}"));
    assert_eq!(times(&sink, "/never").len(), 1);
    product.stop().await;
}

#[tokio::test]
async fn one_tenant_with_ten_times_the_load_leaves_others_their_room() {
    let setup = Setup::new().set("delivery.concurrency", "16");
    let (mut product, sink) = (setup.dev().await, Sink::start().await);
    // The quiet one.
    product.endpoint(&sink, "/quiet", &["*"]).await;
    let (quiet, loud) = (product.key.clone(), another_tenant(&setup, &product).await);
    publish(&product, 1).await;
    product.key.clone_from(&loud);
    for number in 0..8 {
        let path = format!("/loud/{number}");
        sink.answer(&path, Behaviour::default().after(secs(1)));
        product.endpoint(&sink, &path, &["*"]).await;
    }
    publish(&product, 10).await;
    product.key.clone_from(&quiet);
    publish(&product, 8).await;
    eventually(secs(20), "the quiet one has its nine", async || {
        (accepted(&sink, "/quiet") == 9).then_some(())
    })
    .await;
    let loud = eventually(secs(20), "the loud one has some of its eighty", async || {
        let times = times(&sink, "/loud/");
        (times.len() >= 20).then_some(times)
    })
    .await;
    // An answer takes a second: what came within one ran together.
    let together = most_within(&loud, Duration::from_millis(990));
    assert!(
        together <= 8,
        "{together} at once of one tenant, whose share is half of 16"
    );
    let last = times(&sink, "/quiet").into_iter().max().expect("nine");
    let before = loud.iter().filter(|at| **at < last).count();
    assert!(before < 40, "the quiet one waited for {before} of the loud one's");
}

/// The API key of a tenant of its own.
async fn another_tenant(setup: &Setup, product: &Product) -> String {
    let admin = std::fs::read_to_string(setup.data().join("admin-key")).expect("the key");
    let post = async |path: &str, body: Value| {
        let request = hyper::Request::post(format!("{}/v1/admin/tenants{path}", product.root()))
            .header("authorization", format!("Bearer {}", admin.trim()))
            .header("content-type", "application/json")
            .body(http_body_util::Full::from(body.to_string()))
            .expect("a request");
        product.send(request).await.expect("an answer").expect(201)
    };
    post("", json!({"name": "loud"})).await;
    let made = post("/loud/keys", json!({"name": "test"})).await;
    made["key"].as_str().expect("a key").to_owned()
}
