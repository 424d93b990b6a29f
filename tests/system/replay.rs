//! What was sent is sent again: a delivery, what was missed, what was given up.

use crate::product::{Product, Setup};
use crate::queue_front::QueueFront;
use crate::sink::{Behaviour, Delivery, Sink};
use crate::world::World;
use crate::{eventually, secs};
use hyper::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const EVENT: &str = "core.orders.created.v1";
const BEGINNING: &str = "2020-01-01T00:00:00Z";

/// A replay, once it is in this state.
async fn replay_with(product: &Product, replay: &Value, state: &str) -> Value {
    let what = format!("replay {} is {state}", replay["id"]);
    eventually(secs(60), &what, async || {
        let read = product
            .get(&format!("/webhooks/replays/{}", replay["id"]))
            .await
            .expect(200);
        let ended = ["done", "failed", "canceled"]
            .map(Value::from)
            .contains(&read["state"]);
        assert!(read["state"] == state || !ended, "{read}");
        (read["state"] == state).then_some(read)
    })
    .await
}

async fn replay(product: &Product, target: i64, status: &str) -> Value {
    let ask = json!({"targetId": target, "from": BEGINNING, "status": status});
    product.post("/webhooks/replays", ask).await.expect(202)
}

/// Publishes so many events at once; their ids.
async fn publish(product: &Product, event_type: &str, count: usize) -> Vec<String> {
    let line = format!("{}\n", json!({"type": event_type, "payload": {"a": 1}}));
    let url = format!("{}/v1/webhooks/events", product.root());
    let answer = product
        .fetch(
            Method::POST,
            &url,
            Some("application/x-ndjson"),
            line.repeat(count),
        )
        .await
        .expect("an answer")
        .expect(202);
    let ids = answer["ids"].as_array().expect("ids").iter();
    ids.map(|id| id.as_str().expect("an id").to_owned()).collect()
}

/// Publishes so many events that nobody wants, and waits until the consumer has seen that.
async fn publish_unmatched(product: &Product, count: usize) -> Vec<String> {
    let ids = publish(product, EVENT, count).await;
    eventually(secs(30), "all of them are consumed", async || {
        let metrics = product.metrics().await;
        let unmatched = metrics
            .lines()
            .find_map(|line| line.strip_prefix("hookwright_events_unmatched_total "))?;
        (unmatched.parse::<f64>().expect("a number") >= count as f64).then_some(())
    })
    .await;
    ids
}

/// When each event of a path came, as often as it did.
fn arrivals(sink: &Sink, path: &str) -> HashMap<String, Vec<Instant>> {
    sink.look(|all| {
        let mut times: HashMap<String, Vec<Instant>> = HashMap::new();
        for one in all.iter().filter(|one| one.path == path && one.accepted()) {
            times.entry(one.id.clone()).or_default().push(one.at);
        }
        times
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_is_sent_again_under_its_ids_and_its_attempts_go_on() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/a", &["core.*"]).await;
    let event = product.publish(EVENT, json!({"orderId": 42})).await;
    let first = sink.accepted(secs(10), &event).await;
    product.delivery_with(&first.delivery_id, "delivered").await;

    let resend = format!("/webhooks/deliveries/{}/resend", first.delivery_id);
    let made = product.post(&resend, json!({})).await.expect(202);
    let second = sink
        .wait(secs(10), "the second time", |one| {
            one.id == event && one.attempt == 2
        })
        .await;
    assert_eq!(
        (&second.delivery_id, &second.sha256, second.verified),
        (&first.delivery_id, &first.sha256, Some(true))
    );
    let done = replay_with(&product, &made, "done").await;
    assert_eq!(
        done["progress"],
        json!({"percent": 100, "examined": 1, "sent": 1, "lost": 0})
    );
    let story = eventually(secs(10), "both attempts in history", async || {
        let story = product.delivery_with(&first.delivery_id, "delivered").await;
        (story["attemptCount"] == 2).then_some(story)
    })
    .await;
    let numbers = [&story["attempts"][0]["number"], &story["attempts"][1]["number"]];
    assert_eq!(numbers, [1, 2]);

    let path = format!("/webhooks/targets/{target}/disable");
    product.post(&path, json!({})).await.expect(200);
    product.post(&resend, json!({})).await.problem(409);
    product.stop().await;
}

/// Kills the product when a third, and when two thirds, of so many have come to one of these paths, and has it started
/// again. Others are served meanwhile.
async fn killed_twice(
    mut product: Product,
    sink: &Sink,
    paths: &[&str],
    total: usize,
    start: impl AsyncFn() -> Product,
) -> Product {
    for part in [1, 2] {
        let what = format!("{part} of 3 parts have come");
        eventually(secs(60), &what, async || {
            let mut come = paths.iter().map(|path| arrivals(sink, path).len());
            come.any(|come| come > total * part / 3).then_some(())
        })
        .await;
        let event = product.publish("others.meanwhile", json!({})).await;
        sink.accepted(secs(20), &event).await;
        for path in paths {
            let come = arrivals(sink, path).len();
            assert!(
                come < total,
                "{path}: others are not behind a replay, and it is killed in it"
            );
        }
        product.kill().await;
        product = start().await;
    }
    product
}

/// The most deliveries that came to a path within any second.
fn busiest_second(sink: &Sink, path: &str) -> usize {
    let mut times: Vec<Instant> = arrivals(sink, path).into_values().flatten().collect();
    times.sort_unstable();
    let within = |(place, from): (usize, &Instant)| times.partition_point(|at| *at < *from + secs(1)) - place;
    times.iter().enumerate().map(within).max().unwrap_or(0)
}

/// Waits until all of these have come to a path; how many of them came twice.
async fn all_come(sink: &Sink, path: &str, events: &[String]) -> usize {
    eventually(secs(60), "all of them", async || {
        let arrived = arrivals(sink, path);
        events
            .iter()
            .all(|event| arrived.contains_key(event))
            .then_some(())
    })
    .await;
    let arrived = arrivals(sink, path);
    assert_eq!(arrived.len(), events.len(), "{path}");
    arrived.values().map(|times| times.len() - 1).sum()
}

/// The most deliveries of one step.
const STEP: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_that_were_missed_arrive_at_their_rate_though_it_is_killed_twice() {
    const MISSED: usize = 2_000;
    const RATE: usize = 400;
    const CONCURRENCY: usize = 64;
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let setup = setup
        .set("replay.rate", "1000")
        .set("delivery.concurrency", &CONCURRENCY.to_string());
    let product = setup.dev().await;
    let others = product.endpoint(&sink, "/others", &["others.*"]).await;
    let missed = publish_unmatched(&product, MISSED).await;
    publish(&product, "others.before", 50).await;
    // Two at once: one is asked for what was missed, of the other nothing is left out that was sent once.
    let wanted = [("/missed", "missed"), ("/all", "all")];
    let (mut targets, mut made) = (Vec::new(), Vec::new());
    for (path, _) in wanted {
        let target = product.endpoint(&sink, path, &["core.*"]).await;
        let limit = json!({"rateLimit": RATE});
        product
            .patch(&format!("/webhooks/targets/{target}"), limit)
            .await
            .expect(200);
        targets.push(target);
    }
    let begun = Instant::now();
    for (target, (_, status)) in targets.iter().zip(wanted) {
        made.push(replay(&product, *target, status).await);
    }
    let paths = wanted.map(|(path, _)| path);
    let product = killed_twice(product, &sink, &paths, MISSED, async || setup.dev().await).await;
    for ((path, status), made) in wanted.into_iter().zip(&made) {
        let done = replay_with(&product, made, "done").await;
        let took = begun.elapsed();
        let twice = all_come(&sink, path, &missed).await;
        // A step sent and not stored, and what was delivered and not deleted.
        assert!(twice <= 2 * (STEP + CONCURRENCY), "{path}: {twice} came twice");
        // Not faster than its rate, but for a step at each start, which is paid for after it.
        let least = Duration::from_secs_f64((MISSED - 3 * STEP) as f64 / RATE as f64);
        assert!(took > least, "{took:?} for {MISSED} at {RATE}/s");
        let busiest = busiest_second(&sink, path);
        assert!(busiest <= 2 * RATE, "{path}: {busiest} in a second");
        let progress = &done["progress"];
        let count = |name: &str| progress[name].as_u64().expect("a number") as usize;
        assert_eq!(
            (count("percent"), count("examined"), count("lost")),
            (100, MISSED, 0),
            "{done}"
        );
        // Of a step that is repeated some may be known as delivered already, and are not missed any more.
        let least = if status == "all" {
            MISSED
        } else {
            MISSED - 2 * STEP
        };
        assert!((least..=MISSED).contains(&count("sent")), "{done}");
    }
    let others_came = arrivals(&sink, "/others");
    assert_eq!(others_came.len(), 52);

    // Once history knows of a later delivery it knows all that it will. What a kill took from it before it was written
    // was delivered and stays missed; nothing else is, and all of it can be had again.
    let last = product.publish("core.last", json!({})).await;
    let like = |delivery: &Delivery| delivery.id == last && delivery.path == "/missed";
    let last = sink.wait(secs(20), "a later delivery", like).await;
    product.delivery_with(&last.delivery_id, "delivered").await;
    let target = targets[0];
    let list = format!("/webhooks/deliveries?targetId={target}&limit=250&status=pending");
    let pending = product.get(&list).await.expect(200);
    let unknown = pending["items"].as_array().expect("a list").len();
    let again = replay(&product, target, "missed").await;
    let done = replay_with(&product, &again, "done").await;
    let sent = done["progress"]["sent"].as_u64().expect("a number") as usize;
    assert!((unknown..=2 * CONCURRENCY).contains(&sent), "{unknown}: {done}");
    let others = replay(&product, others, "all").await;
    let done = replay_with(&product, &others, "done").await;
    assert_eq!(done["progress"]["sent"], 52, "{done}");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_and_sqs_too_a_replay_that_is_killed_twice_goes_on_where_it_was() {
    const ALL: usize = 300;
    const RATE: usize = 60;
    let (world, sink) = (World::new().await, Sink::start().await);
    let front = QueueFront::start(&world.sqs).await;
    let setup = world
        .setup()
        .env("AWS_ENDPOINT_URL_SQS", &front.url())
        .set("kafka.partitions", "4")
        .set("replay.rate", "1000");
    world.provision(&setup).await;
    let product = world.start(&setup, "all").await;
    product.endpoint(&sink, "/others", &["others.*"]).await;
    let events = publish_unmatched(&product, ALL).await;
    let target = product.endpoint(&sink, "/all", &["core.*"]).await;
    let limit = json!({"rateLimit": RATE});
    product
        .patch(&format!("/webhooks/targets/{target}"), limit)
        .await
        .expect(200);
    let made = replay(&product, target, "all").await;
    let claimed = Mutex::new(0);
    let product = killed_twice(product, &sink, &["/all"], ALL, async || {
        *claimed.lock().expect("not poisoned") += front.claimed();
        front.visibility_passes().await;
        world.start(&setup, "all").await
    })
    .await;
    let done = replay_with(&product, &made, "done").await;
    let twice = all_come(&sink, "/all", &events).await;
    let under_way = claimed.into_inner().expect("not poisoned") + 2 * RATE.div_ceil(2);
    assert!(
        twice <= under_way,
        "{twice} came twice, {under_way} were under way"
    );
    let busiest = busiest_second(&sink, "/all");
    assert!(busiest <= 2 * RATE, "{busiest} in a second");
    let expected = json!({"percent": 100, "examined": ALL, "sent": ALL, "lost": 0});
    assert_eq!(done["progress"], expected);
    assert!(sink.look(|all| all.iter().all(|one| one.verified == Some(true))));
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_replay_sends_no_more_and_one_to_a_disabled_target_fails_and_says_why() {
    let (setup, sink) = (Setup::new().set("replay.rate", "20"), Sink::start().await);
    let product = setup.dev().await;
    publish_unmatched(&product, 500).await;
    let target = product.endpoint(&sink, "/a", &["core.*"]).await;
    let made = replay(&product, target, "all").await;
    eventually(secs(20), "the first", async || {
        (!arrivals(&sink, "/a").is_empty()).then_some(())
    })
    .await;
    let path = format!("/webhooks/replays/{}", made["id"]);
    assert_eq!(product.delete(&path).await.status, 204);
    let stopped = replay_with(&product, &made, "canceled").await;
    assert!(
        stopped["progress"]["sent"].as_u64().expect("a number") < 500,
        "{stopped}"
    );

    let made = replay(&product, target, "all").await;
    replay_with(&product, &made, "running").await;
    // Nothing matches a disabled target: that must not look like the end.
    product
        .post(&format!("/webhooks/targets/{target}/disable"), json!({}))
        .await
        .expect(200);
    let failed = replay_with(&product, &made, "failed").await;
    assert_eq!(
        failed["error"],
        "the target is disabled: enable it, and ask again"
    );
    product.stop().await;
}

/// A target whose deliveries are given up after two attempts at once.
async fn short(product: &Product, sink: &Sink, path: &str) -> i64 {
    let target = product.endpoint(sink, path, &["core.*"]).await;
    let policy = json!({"retryPolicy": {"window": "2s", "first": "1s", "factor": 1.0, "jitter": 0.0}});
    product
        .patch(&format!("/webhooks/targets/{target}"), policy)
        .await
        .expect(200);
    target
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_redriven_with_a_new_window_and_in_sqs_stay_one_message_each() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let (_setup, product) = world.all().await;
    let target = short(&product, &sink, "/a").await;
    sink.answer("/a", Behaviour::status(500));
    // One in the message, one in the payload store.
    let small = product.publish(EVENT, json!({"orderId": 42})).await;
    let large = product.publish(EVENT, json!("x".repeat(300 << 10))).await;
    let buried = async |attempts: u64| {
        let what = format!("two dead letters after {attempts} attempts or more");
        eventually(secs(60), &what, async || {
            let list = product.get("/webhooks/dead-letters").await.expect(200);
            let items = list["items"].as_array().expect("items");
            let tried = |item: &Value| item["attemptCount"].as_u64() >= Some(attempts);
            (items.len() == 2 && items.iter().all(tried)).then(|| items.clone())
        })
        .await
    };
    let first = buried(2).await;
    let made = product
        .post("/webhooks/dead-letters/redrive", json!({}))
        .await
        .expect(202);
    assert_eq!(made["items"][0]["targetId"], target);
    // More than one attempt again: its window is a new one.
    let tried = first
        .iter()
        .filter_map(|item| item["attemptCount"].as_u64())
        .max();
    buried(tried.expect("some") + 2).await;
    let letters = eventually(secs(20), "messages of both in the queue", async || {
        let messages = world.aws.peek(&world.queue("dead-letter")).await;
        (messages.len() >= 2).then_some(messages)
    })
    .await;
    assert_eq!(letters.len(), 2, "given up twice, they are one message each");

    sink.answer("/a", Behaviour::default());
    let by_target = json!({"targetId": target});
    let made = product
        .post("/webhooks/dead-letters/redrive", by_target)
        .await
        .expect(202);
    for event in [&small, &large] {
        let delivery = sink.accepted(secs(20), event).await;
        assert_eq!(delivery.verified, Some(true));
        product.delivery_with(&delivery.delivery_id, "delivered").await;
    }
    let done = replay_with(&product, &made["items"][0], "done").await;
    assert_eq!(done["progress"]["sent"], 2, "{done}");
    let list = product.get("/webhooks/dead-letters").await.expect(200);
    assert_eq!(list["items"], json!([]));

    // From Kafka by time, to one who wants them only now.
    let late = product.endpoint(&sink, "/late", &["core.*"]).await;
    let made = replay(&product, late, "missed").await;
    let done = replay_with(&product, &made, "done").await;
    assert_eq!(done["progress"]["sent"], 2, "{done}");
    for event in [small, large] {
        sink.wait(secs(20), "the event at the late one", |one| {
            one.id == event && one.path == "/late" && one.accepted() && one.attempt == 1
        })
        .await;
    }
    product.stop().await;
}
