//! The dispatcher by itself: a queue that serves deliveries from memory and deletes at once, beside the bare
//! client loop that signs and posts as much to the same kind of sink. What is left is the dispatcher's own work:
//! message, target, gate, signature, request, history. In this process, on a runtime like the product's.

mod queue;

use super::null_queue::ports::Backlog;
use super::{Context, check_signatures, random_key, raw_http};
use crate::ledger::{Ledger, now_ns};
use crate::payload::{EVENT_TYPE, Template};
use crate::proc::Proc;
use crate::report::Row;
use crate::sink::Sink;
use crate::subscribers;
use anyhow::Result;
use dispatcher::gate::breaker::BreakerPolicy;
use dispatcher::gate::limit::Bounds;
use dispatcher::{Config, Parts};
use platform::catalog::NewTarget;
use platform::clock::Clock;
use platform::delivery_queue::OutMessage;
use platform::follow::Follower;
use platform::payload_store::embedded::DirectoryStore;
use platform::report::Reporter;
use platform::sqlite::Sync;
use queue::Served;
use schemas::delivery::{Delivery, Payload};
use schemas::egress::EgressRules;
use schemas::event::Position;
use schemas::ids::{EventId, TargetId, Tenant};
use schemas::schedule::RetryPolicy;
use schemas::time::Millis;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whose deliveries they are.
const TENANT: &str = "bench";
/// Targets they go to, in turn: together they may have as many attempts at once as the bare loop has tasks.
const TARGETS: usize = 4;
/// Tasks of the bare loop.
const TASKS: usize = 64;
/// Of all deliveries, an n-th is sent before anything is measured: until then limits and connections grow.
const WARM: u64 = 5;
/// How long nothing may arrive.
const PATIENCE: Duration = Duration::from_secs(20);
/// The share of the bare loop that is asked for.
const WANTED: f64 = 0.6;

/// The two bare loops and the dispatcher, `deliveries` each.
pub async fn run(context: &Context, deliveries: u64) -> Result<Vec<Row>> {
    let mut rows = raw_http::run(context, deliveries, TASKS).await?;
    let bare = rows
        .iter()
        .filter_map(|row| row.per_second)
        .max_by(f64::total_cmp);
    let folder = context.folder()?;
    let template = Template::new(context.payload);
    let row = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(measure(folder.path(), template, deliveries))
    });
    let mut row = row.await??;
    row.compare(bare);
    row.at_least("share of the bare loop", row.of_limit, WANTED);
    rows.push(row);
    Ok(rows)
}

async fn measure(folder: &Path, template: Template, deliveries: u64) -> Result<Row> {
    // As in the product: what is counted costs. A second start in one process keeps the first.
    drop(platform::telemetry::start_metrics());
    let clock = Clock::system();
    let url = format!("sqlite:{}", folder.join("catalog.db").display());
    let catalog = subscribers::open(&url, &random_key()).await?;
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    let tenant = Tenant::new(TENANT)?;
    catalog.create_tenant(&tenant).await?;
    let mut targets = Vec::new();
    for index in 0..TARGETS {
        let (target, secret) = catalog
            .create_target(&tenant, NewTarget::at(sink.url(index)))
            .await?;
        sink.verify(index, &secret)?;
        targets.push(target.id);
    }

    let warm = deliveries / WARM;
    let message = |seq| message(&tenant, targets[seq as usize % TARGETS], &template, seq);
    let queue = Arc::new(Served::new((0..warm + deliveries).map(message).collect()));
    let log = Arc::new(Backlog::new(Vec::new()));
    let (reporter, reporting) = Reporter::new(log.clone(), "attempts".to_owned());
    tokio::spawn(reporting);
    let parts = Parts {
        queue: queue.clone(),
        payloads: Arc::new(DirectoryStore::open(&folder.join("payloads"), Sync::Normal)?),
        log,
        catalog: Follower::start(catalog, clock.clone()).await?,
        reporter,
        clock,
    };
    let shutdown = CancellationToken::new();
    let dispatching = tokio::spawn(dispatcher::run(config(), parts, || (), shutdown.clone()));
    queue.give(warm);
    ledger.wait_for(warm, PATIENCE).await;
    let (own, sinks) = (Proc::own().cpu_seconds()?, sink.cpu_seconds()?);
    let begun = now_ns();
    queue.give(deliveries);
    ledger.wait_for(warm + deliveries, PATIENCE).await;
    let seconds = (now_ns() - begun) as f64 / 1e9;
    let (own, sinks) = (Proc::own().cpu_seconds()? - own, sink.cpu_seconds()? - sinks);
    shutdown.cancel();
    dispatching.await??;

    let came = ledger.totals();
    let mut row = Row::new("the dispatcher by itself");
    row.per_second = Some(deliveries as f64 / seconds);
    let thousands = deliveries as f64 / 1_000.0;
    row.cpu_per_1000 = Some((own - sinks) / thousands);
    row.bench_cpu_per_1000 = Some(sinks / thousands);
    row.lost = Some((warm + deliveries).saturating_sub(came.unique));
    row.duplicated = Some(came.duplicated);
    row.note(format!(
        "{TARGETS} targets; {} put off; CPU-s/1k is the dispatcher's and the queue's, bench the sink's",
        queue.put_off()
    ));
    check_signatures(&mut row, &sink)?;
    Ok(row)
}

/// The product's defaults, but for what may be dialled.
fn config() -> Config {
    Config {
        timeout: Duration::from_secs(15),
        connect_timeout: Duration::from_secs(5),
        concurrency: 512,
        per_target: Bounds::new(1, 4, 16),
        tenant_share: 0.5,
        breaker: BreakerPolicy {
            min_attempts: 10,
            share: 0.7,
            window: Duration::from_secs(300),
            open: Duration::from_secs(5),
            open_max: Duration::from_secs(300),
        },
        dispatchers: 1,
        origin: None,
        response_limit: 16 << 10,
        retry_after_cap: Duration::from_secs(3_600),
        packs: false,
        retry: RetryPolicy::default(),
        rules: EgressRules {
            allow_http: true,
            allow_networks: vec!["127.0.0.0/8".parse().expect("a network")],
            ..EgressRules::default()
        },
        proxy: None,
    }
}

fn message(tenant: &Tenant, target: TargetId, template: &Template, seq: u64) -> OutMessage {
    let delivery = Delivery {
        event_id: EventId::adopt(&format!("evt_{seq:010}")).0,
        original_id: None,
        tenant: tenant.clone(),
        target,
        event_type: EVENT_TYPE.into(),
        content_type: "application/json".into(),
        accepted_at: Millis((now_ns() / 1_000_000) as i64),
        traceparent: None,
        position: Position {
            topic: "events".into(),
            partition: 0,
            offset: seq as i64,
        },
        attempt: 1,
        due_at: None,
        reason: None,
        resend: None,
        payload: Payload::Inline(template.payload(seq, now_ns()).into()),
    };
    OutMessage::of(&delivery, Duration::ZERO)
}
