//! How the consumer's rate changes with fan-out, payload, partitions and subscriptions: Kafka to SQS, each
//! point beside the bare loop that sends as many bytes.

use super::{Context, consumer_alone, matching::fill, raw_sqs};
use crate::http::call;
use crate::ledger::now_ns;
use crate::payload::Template;
use crate::product::Launch;
use crate::report::Row;
use crate::subscribers;
use crate::world::World;
use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hyper::Method;
use platform::catalog::Catalog;
use schemas::avro::{WebhookEvent, encode_v2};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::task::JoinSet;

/// Partitions where they do not vary.
const PARTITIONS: u32 = 12;
/// Larger payloads travel in the payload store, by default.
const SPILLED: usize = 256 << 10;
/// Puts at once of the bare loop of the payload store: as many calls as that of the queue has in flight.
const PUTS: usize = 32;

/// What a point is about.
struct Point {
    name: String,
    fanout: u64,
    payload: usize,
    partitions: u32,
    events: u64,
}

/// All points, with so many deliveries each where they are small.
fn points(payload: usize, deliveries: u64) -> Vec<Point> {
    let point = |name: String, fanout, payload, partitions, events: u64| Point {
        name,
        fanout,
        payload,
        partitions,
        events: events.max(10),
    };
    let fan_out = [1, 10, 100, 1_000].map(|fanout| {
        let name = format!("fan-out {fanout}, {payload} bytes, {PARTITIONS} partitions");
        point(name, fanout, payload, PARTITIONS, deliveries / fanout)
    });
    let sizes = [(100, 1), (10_000, 2), (100_000, 10), (1_000_000, 60)];
    let sizes =
        sizes.map(|(size, part)| point(format!("{size} bytes"), 1, size, PARTITIONS, deliveries / part));
    let partitions = [1, 4].map(|partitions| {
        point(
            format!("{partitions} partitions"),
            1,
            payload,
            partitions,
            deliveries,
        )
    });
    fan_out.into_iter().chain(sizes).chain(partitions).collect()
}

/// A row for each point. `deliveries` of each, fewer where they are large.
pub async fn run(context: &Context, deliveries: u64) -> Result<Vec<Row>> {
    let world = World::from_env().await?;
    let mut rows = Vec::new();
    let measured = fan_outs(context, &world, deliveries, &mut rows).await;
    clean(&world).await;
    measured?;
    for subscriptions in [1_000, 100_000, 1_000_000] {
        // Its names are of this moment, and so of its own.
        let world = World::from_env().await?;
        let row = subscribed(context, &world, subscriptions, deliveries).await;
        clean(&world).await;
        rows.push(row?);
    }
    Ok(rows)
}

async fn clean(world: &World) {
    for left in world.clean_up().await {
        eprintln!("could not remove {left}");
    }
}

/// The points that one small catalog is enough for.
async fn fan_outs(context: &Context, world: &World, deliveries: u64, rows: &mut Vec<Row>) -> Result<()> {
    world.create_database().await?;
    let catalog = subscribers::open(&world.database_url, &world.secrets_key).await?;
    let tenants = [("to-1", 1), ("to-10", 10), ("to-100", 100), ("to-1000", 1_000)];
    subscribers::fill(catalog.pool(), &tenants).await?;
    catalog.pool().close().await;
    for (number, point) in points(context.payload, deliveries).into_iter().enumerate() {
        let part = world.named(&format!("point-{number}"));
        let template = Template::new(point.payload);
        let make = move |n| template.avro_v1(n, now_ns());
        let wanted = point.events * point.fanout;
        let bare = bare(&part, point.payload, wanted);
        let tenant = format!("to-{}", point.fanout);
        let row = measure(
            context,
            &part,
            &tenant,
            point.partitions,
            (point.events, make),
            wanted,
            bare,
        )
        .await;
        for left in part.clean_up_part().await {
            eprintln!("could not remove {left}");
        }
        let mut row = row.with_context(|| point.name.clone())?;
        row.scenario = format!("intake, {}", point.name);
        rows.push(row);
    }
    Ok(())
}

/// Events of all tenants and types of a large catalog, in no order.
async fn subscribed(context: &Context, world: &World, subscriptions: u64, deliveries: u64) -> Result<Row> {
    world.create_database().await?;
    let catalog: Catalog = subscribers::open(&world.database_url, &world.secrets_key).await?;
    let tenants = (subscriptions / fill::PER_TENANT).max(1);
    fill::fill(catalog.pool(), tenants).await?;
    catalog.pool().close().await;
    let matches = tenants * fill::TYPES;
    let events = (deliveries / fill::MATCHED as u64).max(10);
    let payload: Bytes = Template::new(context.payload).payload(0, now_ns()).into();
    let make = move |n: u64| {
        // An odd factor larger than any count of matches, prime: every match once before any twice.
        let of = fill::event(n.wrapping_mul(2_147_483_647) % matches, tenants);
        // Unwrap safety: names of this benchmark's own, all valid; of none, an empty record is poison.
        of.map_or_else(
            |_| Vec::new(),
            |event| {
                encode_v2(&WebhookEvent {
                    event_type: event.event_type.to_string(),
                    tenant: Some(event.tenant.to_string()),
                    payload: payload.clone(),
                    ..WebhookEvent::default()
                })
            },
        )
    };
    let wanted = events * fill::MATCHED as u64;
    let bare = bare(world, context.payload, wanted);
    let mut row = measure(
        context,
        world,
        "tenant-0",
        PARTITIONS,
        (events, make),
        wanted,
        bare,
    )
    .await?;
    row.scenario = format!("intake, {subscriptions} subscriptions, {} targets", fill::MATCHED);
    row.note(format!(
        "{} matches in all, none remembered at first",
        matches.min(events)
    ));
    Ok(row)
}

/// The log filled, the bare loop, and then the consumer.
async fn measure(
    context: &Context,
    world: &World,
    tenant: &str,
    partitions: u32,
    (events, make): (u64, impl Fn(u64) -> Vec<u8> + Send + 'static),
    wanted: u64,
    bare: impl Future<Output = Result<f64>>,
) -> Result<Row> {
    let folder = context.folder()?;
    let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
    launch.set("secrets.key", &world.secrets_key);
    let config = world.config(folder.path(), tenant, partitions)?;
    std::fs::write(folder.path().join("hookwright.toml"), config)?;
    launch.run(&["provision"]).await?;
    world.fill_events(events, make).await?;
    let bare = bare.await?;
    let mut row = Row::new("");
    consumer_alone::run(&launch, wanted, &mut row).await?;
    let held = world.depth(&world.queue_url("dispatch").await?).await?;
    row.lost = Some(wanted.saturating_sub(held));
    row.duplicated = Some(held.saturating_sub(wanted));
    row.compare(Some(bare));
    row.note(format!("{events} events; the bare loop {bare:.0} per s"));
    Ok(row)
}

/// Deliveries per second of the bare loop: of the queue, or where payloads are spilled, of the store.
async fn bare(world: &World, payload: usize, deliveries: u64) -> Result<f64> {
    if payload <= SPILLED {
        return raw_sqs::send_rate(payload, deliveries).await;
    }
    let s3 = world.s3.context("WORLD_S3_ENDPOINT is not set")?;
    let body = Bytes::from(Template::new(payload).payload(0, now_ns()));
    let (begun, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut putting = JoinSet::new();
    for _ in 0..PUTS {
        let (body, next, bucket) = (body.clone(), next.clone(), world.name.clone());
        putting.spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= deliveries {
                    return anyhow::Ok(());
                }
                let path = format!("/{bucket}/bare/{n}");
                let content = Some(("application/octet-stream", body.clone()));
                let (status, _) = call(s3, Method::PUT, &path, None, content).await?;
                ensure!(status.is_success(), "PUT of {path}: {status}");
            }
        });
    }
    while let Some(done) = putting.join_next().await {
        done??;
    }
    Ok(deliveries as f64 / begun.elapsed().as_secs_f64())
}
