//! The consumer by itself: a log that serves from memory, and a queue that acknowledges at once. What
//! is left is the consumer's own work on an event: decode, match, history, the delivery's message, and
//! the way through its tasks. In this process, on a runtime like the product's.

pub(super) mod ports;

use super::{Context, random_key};
use crate::proc::Proc;
use crate::report::Row;
use crate::subscribers;
use anyhow::{Result, ensure};
use bytes::Bytes;
use consumer::config::PayloadPlace;
use consumer::price::Threshold;
use consumer::{Config, Parts};
use platform::clock::Clock;
use platform::follow::Follower;
use platform::payload_store::embedded::DirectoryStore;
use platform::report::Reporter;
use platform::sqlite::Sync;
use ports::{Backlog, NullQueue};
use schemas::avro::{WebhookEvent, encode_v2};
use schemas::ids::Tenant;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whose events they are.
const TENANT: &str = "bench";
/// Event types, one after the other: each is a match of its own.
const TYPES: usize = 64;
/// Of all events, how many are read before anything is measured: an n-th.
const WARM: u64 = 10;
/// What is asked for, in events for each second of processor time.
const WANTED: f64 = 250_000.0;

/// A row for each fan-out: events that match nothing, one target, and ten.
pub async fn run(context: &Context, events: u64, record: usize) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for fanout in [0, 1, 10] {
        let folder = context.folder()?;
        let events = events / (fanout as u64).max(1);
        let row = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(measure(folder.path(), events, record, fanout))
        });
        rows.push(row.await??);
    }
    Ok(rows)
}

async fn measure(folder: &Path, events: u64, record: usize, fanout: usize) -> Result<Row> {
    // As in the product: what is counted costs. A second start in one process keeps the first.
    drop(platform::telemetry::start_metrics());
    let backlog = Arc::new(Backlog::new(records(record)?));
    let queue = Arc::new(NullQueue::default());
    let clock = Clock::system();
    let url = format!("sqlite:{}", folder.join("catalog.db").display());
    let catalog = subscribers::open(&url, &random_key()).await?;
    subscribers::fill(catalog.pool(), &[(TENANT, fanout as u64)]).await?;
    let (reporter, reporting) = Reporter::new(backlog.clone(), "attempts".to_owned());
    tokio::spawn(reporting);
    let config = Config {
        group: "bench".to_owned(),
        topics: vec![platform::config::Topic {
            tenant: Tenant::new(TENANT)?,
            ..platform::config::Topic::raw(ports::TOPIC)
        }],
        dead_letter_topic: "dead".to_owned(),
        max_payload: 1 << 20,
        spill: Threshold {
            limit: 256 << 10,
            prices: None,
        },
        payload_place: PayloadPlace::Message,
        registry: None,
        poison_share: 0.5,
        in_flight: 1_024,
        in_flight_bytes: 32 << 20,
        match_memory: 32 << 20,
    };
    let parts = Parts {
        log: backlog.clone(),
        queue: queue.clone(),
        payloads: Arc::new(DirectoryStore::open(&folder.join("payloads"), Sync::Normal)?),
        catalog: Follower::start(catalog, clock.clone()).await?,
        reporter,
        clock,
    };
    let shutdown = CancellationToken::new();
    let consumer = tokio::spawn(consumer::run(config, parts, || (), shutdown.clone()));

    let warm = events / WARM;
    backlog.finish(warm).await;
    let (begun, cpu, sent) = (Instant::now(), Proc::own().cpu_seconds()?, queue.sent());
    backlog.finish(events).await;
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), Proc::own().cpu_seconds()? - cpu);
    let (messages, calls) = (
        queue.sent().messages - sent.messages,
        queue.sent().calls - sent.calls,
    );
    shutdown.cancel();
    consumer.await??;

    let measured = events - warm;
    ensure!(
        messages == measured * fanout as u64,
        "{messages} deliveries of {measured} events to {fanout} targets"
    );
    let mut row = Row::new(format!("consumer, null queue, fan-out {fanout}"));
    row.per_second = Some(measured as f64 / seconds);
    row.cpu_per_1000 = Some(cpu * 1000.0 / measured as f64);
    row.sqs_per_1000 = (messages > 0).then(|| calls as f64 * 1000.0 / messages as f64);
    row.note(format!(
        "events of {record}-byte records, not deliveries; {:.0} for each second of processor time",
        measured as f64 / cpu
    ));
    if fanout == 1 {
        row.at_least("events per CPU-s", Some(measured as f64 / cpu), WANTED);
    }
    Ok(row)
}

/// A record of each type, as long as asked for.
fn records(size: usize) -> Result<Vec<Bytes>> {
    let of = |kind: usize, payload: usize| {
        encode_v2(&WebhookEvent {
            event_type: format!("bench.load.kind-{kind}.v1"),
            payload: format!("{{\"pad\":\"{}\"}}", "x".repeat(payload)).into(),
            ..WebhookEvent::default()
        })
    };
    let record = |kind| {
        let around = of(kind, 64).len() - 64;
        let record = of(kind, size.saturating_sub(around));
        ensure!(record.len() == size, "a record of {size} bytes cannot be made");
        Ok(record.into())
    };
    (0..TYPES).map(record).collect()
}
