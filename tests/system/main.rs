//! The whole system: the real binary as a child process, driven and judged from outside.
//!
//! `product` runs the binary, `sink` receives its deliveries. `world` names what a test uses of the real
//! Kafka, SQS, S3 and Postgres, which `kafka` and `aws` speak to past the product; `clients` are in Python.
//! `own` is a Kafka or a Postgres of a test's own.
//! `queue_front` stands between the product and SQS, `tcp_front` before Postgres, `registry` is one of
//! schemas (`server` serves the three), `load` is load and what became of it. All else is tests; `make soak` runs one of them for minutes.
#![allow(clippy::print_stderr, reason = "a failing test shows what the product said")]

mod answer;
mod aws;
mod clients;
mod kafka;
mod load;
mod own;
mod product;
mod queue_front;
mod registry;
mod server;
mod sink;
mod tcp_front;
mod world;

mod away;
mod bad_input;
mod bad_requests;
mod contract;
mod crash;
mod dead_letters;
mod distributed;
mod distributed_crash;
mod few_files;
mod first_minutes;
mod framings;
mod history_story;
mod invariants;
mod isolation;
mod keys;
mod odd_targets;
mod postgres_killed;
mod queue_invariants;
mod replay;
mod rotation;
mod secrecy;
mod small_disk;
mod soak;
mod told;
mod upgrade;
mod verification;

use std::future::Future;
use std::time::{Duration, Instant};

/// Asks `probe` again and again until it has an answer.
///
/// # Panics
/// When there is none within `limit`; says what was awaited.
#[track_caller]
fn eventually<T, F, Fut>(limit: Duration, what: &str, probe: F) -> impl Future<Output = T>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let started = Instant::now();
        loop {
            if let Some(answer) = probe().await {
                return answer;
            }
            assert!(
                started.elapsed() < limit,
                "{caller}: not within {limit:?}: {what}"
            );
            // What another process does can only be asked for.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Seconds.
const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
