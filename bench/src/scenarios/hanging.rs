//! Many requests that hang at once: what they cost in memory.

use super::{Context, Embedded, megabytes};
use crate::report::Row;
use crate::sink::Answer;
use anyhow::{Result, bail};
use std::time::Duration;

/// Targets they hang at.
const TARGETS: usize = 16;
/// How long all of them may take to be under way: less than `delivery.timeout`, at which the first ones end.
const LOOKS: u32 = 280;
const LOOK: Duration = Duration::from_millis(50);
/// The most memory they may take.
const BOUND_MB: f64 = 400.0;

/// `requests` to 16 targets that never answer, all at once.
pub async fn run(context: &Context, requests: u64) -> Result<Row> {
    let each = requests.div_ceil(TARGETS as u64);
    let all_of_them = each * TARGETS as u64;
    let mut context = context.clone();
    // A target is given all it may have at once; the slow lane's eighth comes on top.
    context.settings.extend([
        format!("delivery.concurrency={}", all_of_them + all_of_them / 4),
        format!("delivery.per_target={each}"),
        format!("delivery.per_target_start={each}"),
        format!("delivery.per_target_min={each}"),
    ]);
    let all = Embedded::start(&context, TARGETS).await?;
    let process = all.product.proc().clone();
    let idle = process.resident()?;
    process.reset_peak();
    all.sink.answer(Answer::Hang);
    let before = all.sink.turned_away();
    all.driver.post_batches(all.first..all.first + each).await?;
    let mut hanging = 0;
    for _ in 0..LOOKS {
        hanging = all.sink.turned_away() - before;
        if hanging >= all_of_them {
            break;
        }
        // The sink counts what reaches it; there is nothing to be told by.
        tokio::time::sleep(LOOK).await;
    }
    let in_flight = all.product.metric("hookwright_inflight_deliveries").await?;
    let mut row = Row::new(format!("embedded, {requests} requests hang"));
    row.peak_mb = Some(megabytes(process.peak_resident()?));
    row.note(format!(
        "{hanging} requests came and {in_flight} were under way at once; {:.0} MB before them",
        megabytes(idle)
    ));
    if hanging < requests || in_flight < requests as f64 {
        bail!("only {hanging} requests of {requests} came, {in_flight} at once");
    }
    row.at_most("peak MB", row.peak_mb, BOUND_MB);
    // Nothing of it is wanted any more.
    all.product.kill().await?;
    Ok(row)
}
