//! Killed at any moment, as often as one likes: what was accepted arrives, and little of it twice.

use crate::product::{Product, Setup};
use crate::secs;
use crate::sink::{Behaviour, Sink};
use hyper::Method;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Connections that post at once.
const CONNECTIONS: usize = 8;
/// Times it is killed.
const KILLS: usize = 6;
/// Attempts at once. A message's permit is held until it is deleted, so no more than these are
/// delivered and not deleted when it is killed.
const CONCURRENCY: usize = 64;
/// What was delivered so long before a kill is deleted, and its event's offset stored, for good:
/// both wait for one group commit, which even a busy machine makes within this.
const SETTLED: Duration = secs(1);
/// Pace of one connection: no more than can be delivered by a debug build beside other tests.
const PAUSE: Duration = Duration::from_millis(5);

/// Marsaglia's xorshift64: random enough for moments, repeatable by its seed.
struct Moments(u64);

impl Moments {
    fn between(&mut self, least: u64, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(least + self.0 % (most - least))
    }
}

/// Seeded by `HOOKWRIGHT_TEST_SEED`, or by the time; printed, so that a failure can be repeated.
fn moments() -> Moments {
    let seed = std::env::var("HOOKWRIGHT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970");
    let seed = seed.unwrap_or(u64::try_from(now.as_nanos() & 0xffff_ffff).expect("fits")) | 1;
    eprintln!("HOOKWRIGHT_TEST_SEED={seed}");
    Moments(seed)
}

/// Posts numbered events from all connections until the product is gone; the ids it accepted.
async fn load(product: &Product, round: usize) -> Vec<String> {
    let one = async |connection: usize| {
        let url = format!("{}/v1/webhooks/events", product.root());
        let mut accepted = Vec::new();
        for number in 0.. {
            let id = format!("r{round}-c{connection}-{number}");
            let body = json!({"type": "load.test.v1", "id": id, "payload": {"id": id}}).to_string();
            match product
                .fetch(Method::POST, &url, Some("application/json"), body)
                .await
            {
                Ok(answer) if answer.status == 202 => accepted.push(id),
                Ok(answer) => panic!("{}: {}", answer.status, answer.text()),
                // Killed: whether this one was taken is not known.
                Err(_) => break,
            }
            tokio::time::sleep(PAUSE).await;
        }
        accepted
    };
    let all = futures_util::future::join_all((0..CONNECTIONS).map(one)).await;
    all.into_iter().flatten().collect()
}

/// Waits until each of `events` was accepted at each of `paths`, as long as there is progress.
async fn all_arrive(sink: &Sink, events: &[String], paths: &[&str]) {
    let patience = secs(20);
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        let missing = sink.look(|all| {
            let there: HashSet<(&str, &str)> = all
                .iter()
                .filter(|one| one.accepted())
                .map(|one| (one.id.as_str(), one.path.as_str()))
                .collect();
            let wanted = events
                .iter()
                .flat_map(|id| paths.iter().map(move |path| (id.as_str(), *path)));
            wanted
                .filter(|one| !there.contains(one))
                .map(|(id, path)| format!("{id} at {path}"))
                .collect::<Vec<_>>()
        });
        if missing.is_empty() {
            return;
        }
        if missing.len() < fewest {
            (fewest, since) = (missing.len(), Instant::now());
        }
        assert!(
            since.elapsed() < patience,
            "{} lost, such as {:?}",
            missing.len(),
            &missing[..missing.len().min(5)]
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The accepted deliveries of each event at each path, when there were more than one: their times.
fn duplicates(sink: &Sink) -> Vec<Vec<Instant>> {
    sink.look(|all| {
        let mut times: HashMap<(&str, &str), Vec<Instant>> = HashMap::new();
        for one in all.iter().filter(|one| one.accepted()) {
            times.entry((&one.id, &one.path)).or_default().push(one.at);
        }
        times.into_values().filter(|times| times.len() > 1).collect()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_nothing_accepted_is_lost_and_little_comes_twice() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let setup = setup.set("delivery.concurrency", &CONCURRENCY.to_string());
    let paths = ["/a", "/b"];
    let mut product = setup.dev().await;
    for path in paths {
        product.endpoint(&sink, path, &["load.*"]).await;
    }
    let mut moments = moments();
    let (mut events, mut kills) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        let moment = moments.between(300, 1_500);
        let (accepted, ()) = tokio::join!(load(&product, round), async {
            tokio::time::sleep(moment).await;
            kills.push(Instant::now());
            product.kill_now();
        });
        product.ended().await;
        assert!(!accepted.is_empty(), "nothing was accepted in {moment:?}");
        events.extend(accepted);
        product = setup.dev().await;
    }
    all_arrive(&sink, &events, &paths).await;
    let twice = duplicates(&sink);
    let deliveries = events.len() * paths.len();
    eprintln!("{} of {deliveries} deliveries came more than once", twice.len());
    for times in &twice {
        let between = times.windows(2).all(|pair| {
            kills
                .iter()
                .any(|kill| *kill < pair[1] && pair[0] + SETTLED > *kill)
        });
        assert!(
            between,
            "a delivery that was over came again, {times:?}; killed at {kills:?}"
        );
    }
    // Delivered and not deleted, and enqueued with their event's offset not stored: what the
    // consumer has in flight is never more than what was accepted since the last commit.
    let recent = kills.iter().map(|kill| {
        sink.look(|all| {
            all.iter()
                .filter(|one| one.at + SETTLED > *kill && one.at < *kill + SETTLED)
                .count()
        })
    });
    let most = KILLS * CONCURRENCY + recent.sum::<usize>();
    assert!(
        twice.len() <= most,
        "{} deliveries came twice; at most {most} were in flight",
        twice.len()
    );
    assert!(sink.look(|all| all.iter().all(|one| one.verified == Some(true))));
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_deliveries_wait_for_their_retry_none_is_lost() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let mut product = setup.dev().await;
    let target = product.endpoint(&sink, "/down", &["load.*"]).await;
    product.retry_soon(target).await;
    sink.answer("/down", Behaviour::status(500));
    let mut moments = moments();
    let mut events = Vec::new();
    for round in 0..KILLS {
        let moment = moments.between(300, 1_500);
        let (accepted, ()) = tokio::join!(load(&product, round), async {
            tokio::time::sleep(moment).await;
            product.kill_now();
        });
        product.ended().await;
        events.extend(accepted);
        product = setup.dev().await;
    }
    // All that arrived so far was refused; now it may come.
    sink.answer("/down", Behaviour::default());
    all_arrive(&sink, &events, &["/down"]).await;
    let retried = sink.look(|all| all.iter().filter(|one| one.accepted() && one.attempt > 1).count());
    assert!(retried > 0, "some waited for their retry when it was killed");
    product.stop().await;
}
