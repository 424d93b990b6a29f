//! Load on a product that is killed under it, and what became of it.

use crate::product::Product;
use crate::secs;
use crate::sink::Sink;
use hyper::Method;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// How much is posted.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Connections that post at once.
    pub connections: usize,
    /// How long each waits between two posts.
    pub pause: Duration,
}

/// Marsaglia's xorshift64: random enough for moments, repeatable by its seed.
pub struct Moments(u64);

impl Moments {
    /// So many milliseconds, or up to the other.
    pub fn between(&mut self, least: u64, most: u64) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_millis(least + self.0 % (most - least))
    }
}

/// Seeded by `HOOKWRIGHT_TEST_SEED`, or by the time; printed, so that a failure can be repeated.
pub fn moments() -> Moments {
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
pub async fn load(product: &Product, round: usize, pace: Pace) -> Vec<String> {
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
            tokio::time::sleep(pace.pause).await;
        }
        accepted
    };
    let all = futures_util::future::join_all((0..pace.connections).map(one)).await;
    all.into_iter().flatten().collect()
}

/// Waits until each of `events` was accepted at each of `paths`, as long as there is progress.
pub async fn all_arrive(sink: &Sink, events: &[String], paths: &[&str]) {
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
pub fn duplicates(sink: &Sink) -> Vec<Vec<Instant>> {
    sink.look(|all| {
        let mut times: HashMap<(&str, &str), Vec<Instant>> = HashMap::new();
        for one in all.iter().filter(|one| one.accepted()) {
            times.entry((&one.id, &one.path)).or_default().push(one.at);
        }
        times.into_values().filter(|times| times.len() > 1).collect()
    })
}
