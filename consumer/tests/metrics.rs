//! What the consumer tells of itself. In a process of its own: metrics are the whole process's.

#[allow(dead_code, reason = "not all who share this file need all of it")]
#[path = "fan_out/world.rs"]
mod world;

use bytes::Bytes;
use consumer::price::{Prices, Threshold};
use platform::delivery_queue::QueueError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use world::World;

static OPEN: AtomicBool = AtomicBool::new(false);

fn answer(_: &str, _: usize) -> Result<(), QueueError> {
    if OPEN.load(Ordering::Relaxed) {
        Ok(())
    } else {
        Err(QueueError::Unavailable("not yet".to_owned()))
    }
}

/// The value of a metric, by its name and labels as they are printed.
fn value(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.strip_prefix(' ')?.parse().ok()
}

/// 64 KiB.
static PAYLOAD: [u8; 1 << 16] = [b'x'; 1 << 16];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_sees_what_is_under_way_and_what_was_done() {
    let metrics = platform::telemetry::start_metrics().unwrap();
    let becomes = async |name: &str, holds: &dyn Fn(f64) -> bool| {
        // Gauges are set each 5 s.
        let mut now_and_then = tokio::time::interval(Duration::from_millis(20));
        let waiting = async {
            while !value(&metrics.render(), name).is_some_and(holds) {
                now_and_then.tick().await;
            }
        };
        let seen = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        assert!(seen.is_ok(), "{name} in\n{}", metrics.render());
    };
    // By these prices 64 KiB are spilled from 15 targets.
    let by_cost = Threshold {
        limit: 1 << 18,
        prices: Some(Prices {
            queue: 0.40,
            put: 5.00,
            get: 0.40,
            storage: 0.023,
        }),
    };
    let tenants = [("few", 2), ("many", 20)];
    let mut world = World::start(&tenants, Duration::ZERO, answer, by_cost).await;
    world.append(1, 0, "few", &PAYLOAD);
    world.append(2, 0, "many", &PAYLOAD);
    becomes("hookwright_inflight_events", &|events| events == 2.0).await;
    let bytes = PAYLOAD.len() as f64;
    becomes("hookwright_inflight_bytes", &|seen| {
        (2.0 * bytes..2.1 * bytes).contains(&seen)
    })
    .await;
    // Both were taken when time began.
    becomes("hookwright_oldest_event_seconds", &|age| age > 1e9).await;
    becomes("hookwright_consumer_lag{topic=\"t\",partition=\"0\"}", &|lag| {
        lag == 7.0
    })
    .await;

    OPEN.store(true, Ordering::Relaxed);
    world.stored(1, 1).await;
    world.stored(2, 1).await;
    world.append(1, 1, "few", b"{}");
    world.append_record(3, 0, Bytes::from_static(b"\xff"));
    world.append(4, 0, "nobody", b"{}");
    world.dead().await;
    for (partition, next) in [(1, 2), (3, 1), (4, 1)] {
        world.stored(partition, next).await;
    }
    becomes("hookwright_inflight_events", &|events| events == 0.0).await;
    becomes("hookwright_inflight_bytes", &|bytes| bytes == 0.0).await;
    becomes("hookwright_oldest_event_seconds", &|age| age == 0.0).await;
    let text = metrics.render();
    for (name, expected) in [
        ("events_consumed_total", 5.0),
        ("events_unmatched_total", 1.0),
        ("events_dead_lettered_total{class=\"truncated\"}", 1.0),
        ("matches_total{from=\"catalog\"}", 3.0),
        ("matches_total{from=\"memory\"}", 1.0),
        ("payloads_spilled_total", 1.0),
        ("spilled_bytes_total", bytes),
        ("deliveries_enqueued_total", 24.0),
    ] {
        assert_eq!(
            value(&text, &format!("hookwright_{name}")),
            Some(expected),
            "{name}\n{text}"
        );
    }
    world.stop().await;
}
