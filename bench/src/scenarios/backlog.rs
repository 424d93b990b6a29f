//! The consumer's memory: with a long backlog of small records, and with large ones under way at once.
//! The log is Kafka; queue and payload store keep nothing ([`NullAws`]), so that the consumer is as fast as it
//! can be, or as slow as the store is made.

use super::{Context, PATIENCE, consumer_alone, megabytes};
use crate::ledger::now_ns;
use crate::null_aws::NullAws;
use crate::payload::Template;
use crate::product::{Launch, Product};
use crate::report::Row;
use crate::subscribers;
use crate::world::World;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// Whose events they are.
const TENANT: &str = "bench";
/// Partitions of the log.
const PARTITIONS: u32 = 12;
/// How often to ask how far the consumer is.
const POLL: Duration = Duration::from_millis(100);
/// What is asked for, in MB.
const WANTED: f64 = 200.0;
/// Bytes of a large payload, and how many of them there are.
const LARGE: (usize, u64) = (5_000_000, 100);
/// How long the store takes for each of them.
const HELD: Duration = Duration::from_millis(500);

/// A row for `records` small ones, and one for the large ones.
pub async fn run(context: &Context, records: u64) -> Result<Vec<Row>> {
    let world = World::from_env().await?;
    world.create_database().await?;
    let rows = measure(context, &world, records).await;
    for left in world.clean_up().await {
        eprintln!("could not remove {left}");
    }
    rows
}

async fn measure(context: &Context, world: &World, records: u64) -> Result<Vec<Row>> {
    let catalog = subscribers::open(&world.database_url, &world.secrets_key).await?;
    subscribers::fill(catalog.pool(), &[(TENANT, 1)]).await?;
    catalog.pool().close().await;
    let mut rows = Vec::new();
    for (part, payload, count, held) in [
        ("small", context.payload, records, Duration::ZERO),
        ("large", LARGE.0, LARGE.1, HELD),
    ] {
        let part = world.named(part);
        let row = one(context, &part, payload, count, held).await;
        if let Err(error) = part.delete_topics().await {
            eprintln!("could not remove the topics of {}: {error:#}", part.name);
        }
        rows.push(row?);
    }
    Ok(rows)
}

async fn one(context: &Context, world: &World, payload: usize, count: u64, held: Duration) -> Result<Row> {
    let aws = NullAws::start().await?;
    let folder = context.folder()?;
    let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
    launch.set("secrets.key", &world.secrets_key);
    launch.set("aws.endpoint", &aws.url());
    std::fs::write(
        folder.path().join("hookwright.toml"),
        world.config(folder.path(), TENANT, PARTITIONS)?,
    )?;
    launch.run(&["provision"]).await?;
    let template = Template::new(payload);
    world
        .fill_events(count, move |n| template.avro_v1(n, now_ns()))
        .await?;
    aws.slow_puts(held);

    let mut row = Row::new(format!("consumer, backlog of {count} records of {payload} bytes"));
    let product = launch.start(&["consumer"]).await?;
    let begun = Instant::now();
    // Both halves by themselves: what grows shows in the second.
    let first = until(&product, count / 2).await?;
    product.proc().reset_peak();
    let second = until(&product, count).await?;
    row.per_second = Some(count as f64 / begun.elapsed().as_secs_f64());
    row.cpu_per_1000 = Some(product.proc().cpu_seconds()? * 1000.0 / count as f64);
    row.peak_mb = Some(first.max(second));
    row.note(format!(
        "peak {first:.1} MB in the first half, {second:.1} MB in the second; from the start of the process"
    ));
    row.at_most("peak MB", row.peak_mb, WANTED);
    let (puts, messages) = aws.taken();
    row.lost = Some(count.saturating_sub(messages));
    row.duplicated = Some(messages.saturating_sub(count));
    if puts > 0 {
        row.note(format!(
            "each of {puts} payloads kept the store busy for {} ms",
            held.as_millis()
        ));
    }
    product.stop().await?;
    Ok(row)
}

/// Waits until so many deliveries are taken; the peak by then, in MB.
async fn until(product: &Product, wanted: u64) -> Result<f64> {
    let mut grown = (Instant::now(), 0);
    loop {
        let taken = product.metric(consumer_alone::ENQUEUED).await? as u64;
        if taken >= wanted {
            return Ok(megabytes(product.proc().peak_resident()?));
        }
        if taken > grown.1 {
            grown = (Instant::now(), taken);
        }
        if grown.0.elapsed() > PATIENCE {
            bail!("the consumer put only {taken} of {wanted} deliveries into the queue");
        }
        // The process can only be asked.
        tokio::time::sleep(POLL).await;
    }
}
