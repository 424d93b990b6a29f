//! The consumer as a process of its own, from a log that is full into the queue.

use super::{Meter, PATIENCE};
use crate::product::Launch;
use crate::report::Row;
use anyhow::{Result, bail};
use std::time::{Duration, Instant};

/// How often to ask how far it is: seldom enough to cost next to nothing.
const POLL: Duration = Duration::from_millis(25);

/// What the queue has acknowledged, as the consumer counts it.
pub const ENQUEUED: &str = "hookwright_deliveries_enqueued_total";

/// Starts it, and stops it when the queue has acknowledged `wanted` deliveries. Rate, SQS requests, processor
/// time and memory go into the row: the rate from the first look that finds any, so that neither the
/// start of the process nor its joining of the group counts.
pub async fn run(launch: &Launch, wanted: u64, row: &mut Row) -> Result<()> {
    let product = launch.start(&["consumer"]).await?;
    let mut first = None;
    let mut grown = (Instant::now(), 0);
    let (from, at_first, to) = loop {
        let taken = product.metric(ENQUEUED).await? as u64;
        let now = Instant::now();
        if taken > grown.1 {
            grown = (now, taken);
        }
        if first.is_none() && taken > 0 {
            first = Some((now, taken));
        }
        if let Some((from, at_first)) = first
            && taken >= wanted
        {
            break (from, at_first, now);
        }
        if grown.0.elapsed() > PATIENCE {
            bail!("the consumer put only {taken} of {wanted} deliveries into the queue");
        }
        // The process can only be asked.
        tokio::time::sleep(POLL).await;
    };
    row.per_second = Some((wanted - at_first) as f64 / (to - from).as_secs_f64());
    let requests = product.metric("hookwright_queue_requests_total").await?;
    row.sqs_per_1000 = Some(requests * 1000.0 / wanted as f64);
    Meter::of_new(product.proc()).finish(wanted, row).await?;
    row.bench_cpu_per_1000 = None;
    product.stop().await
}
