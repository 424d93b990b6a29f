//! The embedded pipeline under load: POST to signed delivery, as fast as it goes and at a pace.

use super::{Context, Embedded, Meter, PATIENCE, account};
use crate::report::Row;
use anyhow::Result;

/// Connections of the paced driver: enough that no event waits for the answer to another.
const PACED_CONNECTIONS: usize = 8;

/// `events` posted by `connections` connections to `fanout` targets each, as fast as they are taken.
pub async fn throughput(context: &Context, fanout: usize, events: u64, connections: usize) -> Result<Row> {
    let all = Embedded::start(context, fanout).await?;
    let first = all.warm_up(fanout, connections).await?;
    let seqs = first..first + events;
    let duplicated = all.ledger.totals().duplicated;
    let meter = Meter::start(all.product.proc()).await?;
    let posted = all.driver.post(seqs.clone(), connections).await?;
    let missing = all.ledger.wait(seqs.clone(), fanout, PATIENCE).await;

    let mut row = Row::new(format!("embedded, fan-out {fanout}"));
    let deliveries = account(&mut row, &all.ledger, &all.sink, seqs, missing, duplicated)?;
    meter.finish(deliveries, &mut row).await?;
    if let Some(trouble) = posted.trouble() {
        row.note(trouble);
    }
    row.compare(context.limit);
    match fanout {
        1 => {
            row.at_least("deliveries/s", row.per_second, 6_000.0);
            row.at_most("CPU-s per 1,000", row.cpu_per_1000, 0.25);
        }
        5 => row.at_least("deliveries/s", row.per_second, 10_000.0),
        _ => {}
    }
    row.at_most("peak MB", row.peak_mb, 100.0);
    all.product.stop().await?;
    Ok(row)
}

/// Events at a pace of `rate` per second for `seconds`, one target.
pub async fn latency(context: &Context, rate: f64, seconds: f64) -> Result<Row> {
    let all = Embedded::start(context, 1).await?;
    let first = all.warm_up(1, PACED_CONNECTIONS).await?;
    let seqs = first..first + (rate * seconds) as u64;
    let duplicated = all.ledger.totals().duplicated;
    let meter = Meter::start(all.product.proc()).await?;
    let posted = all
        .driver
        .post_paced(seqs.clone(), rate, PACED_CONNECTIONS)
        .await?;
    let missing = all.ledger.wait(seqs.clone(), 1, PATIENCE).await;

    let mut row = Row::new(format!("embedded, {rate} events/s"));
    let deliveries = account(&mut row, &all.ledger, &all.sink, seqs, missing, duplicated)?;
    meter.finish(deliveries, &mut row).await?;
    if let Some(trouble) = posted.trouble() {
        row.note(trouble);
    }
    row.at_most("p50 ms", row.p50_ms, 3.0);
    row.at_most("p99 ms", row.p99_ms, 15.0);
    all.product.stop().await?;
    Ok(row)
}
