//! A log that is already full: how fast the rest of the pipeline empties it.
//!
//! The events are posted to the `api` role running by itself, so that nothing consumes them; then the
//! whole pipeline starts on the same data.

use super::{Context, Embedded, Meter, PATIENCE, account, random_key};
use crate::ledger::now_ns;
use crate::report::Row;
use anyhow::{Context as _, Result};

/// `events` preloaded, one target. Measured from the start of the process to the last delivery.
pub async fn run(context: &Context, events: u64) -> Result<Row> {
    let Embedded {
        product,
        mut launch,
        sink,
        ledger,
        driver,
        first,
        folder,
    } = Embedded::start(context, 1).await?;
    product.stop().await?;
    let seqs = first..first + events;

    let data = launch.data();
    launch.set(
        "data",
        data.to_str().context("the data folder's name is not UTF-8")?,
    );
    launch.set("api.admin_key", &random_key());
    let api = launch.start(&["api"]).await?;
    driver.post_batches(seqs.clone()).await?;
    api.stop().await?;

    let started = now_ns();
    let product = launch.dev().await?;
    product.proc().reset_peak();
    let missing = ledger.wait(seqs.clone(), 1, PATIENCE).await;

    let mut row = Row::new("embedded, draining a full log");
    let deliveries = account(&mut row, &ledger, &sink, seqs.clone(), missing, 0)?;
    // The process is new: all it has used counts.
    let (began, last) = ledger.received_between(seqs).unwrap_or((started, started));
    Meter::of_new(product.proc()).finish(deliveries, &mut row).await?;
    row.bench_cpu_per_1000 = None;
    row.per_second = Some(deliveries as f64 / (last.saturating_sub(started) as f64 / 1e9));
    // They waited in the log for the product to start.
    (row.p50_ms, row.p99_ms, row.sent_p50_ms, row.sent_p99_ms) = (None, None, None, None);
    row.note(format!(
        "{events} events; first delivery {} ms after the start",
        began.saturating_sub(started) / 1_000_000
    ));
    row.compare(context.limit);
    row.at_least("deliveries/s", row.per_second, 9_000.0);
    row.at_most("peak MB", row.peak_mb, 100.0);
    product.stop().await?;
    drop(folder);
    Ok(row)
}
