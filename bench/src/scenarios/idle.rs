//! Doing nothing: how soon it is ready, what it holds and what it uses.

use super::{Context, Embedded, megabytes};
use crate::report::Row;
use anyhow::Result;
use std::time::Duration;

/// How long to look at it.
const WATCH: Duration = Duration::from_secs(10);

/// Starts it on no data, then on the data it left; then watches it.
pub async fn run(context: &Context) -> Result<Row> {
    let all = Embedded::start(context, 1).await?;
    let fresh = all.product.ready_after;
    all.product.stop().await?;
    let product = all.launch.dev().await?;
    let again = product.ready_after;

    let process = product.proc();
    let before = process.cpu_seconds()?;
    tokio::time::sleep(WATCH).await;
    let used = process.cpu_seconds()? - before;

    let mut row = Row::new("embedded, idle");
    row.peak_mb = Some(megabytes(process.peak_resident()?));
    row.note(format!(
        "ready {} ms after the start on no data, {} ms on its data; {:.1} MB resident, {:.1} ms of processor time per second",
        fresh.as_millis(),
        again.as_millis(),
        megabytes(process.resident()?),
        used * 1000.0 / WATCH.as_secs_f64(),
    ));
    product.stop().await?;
    Ok(row)
}
