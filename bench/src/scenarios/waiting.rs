//! Many deliveries that wait for a target that is down: what they cost in memory.

use super::{Context, Embedded, PATIENCE, megabytes};
use crate::report::Row;
use crate::sink::Answer;
use anyhow::Result;
use std::time::Duration;

/// Parts in which the events are posted; memory is read after each.
const PARTS: u64 = 8;

/// Connections of the driver.
const CONNECTIONS: usize = 32;

/// `events` to one target that answers 503; then `hold` of waiting. With `recover`, the target then
/// works again and every delivery has to come; how long that takes is for the retry schedule to say.
pub async fn run(context: &Context, events: u64, hold: Duration, recover: bool) -> Result<Row> {
    let all = Embedded::start(context, 1).await?;
    let process = all.product.proc().clone();
    all.sink.answer(Answer::Status(503));
    process.reset_peak();
    let idle = process.resident()?;
    let cpu = process.cpu_seconds()?;

    let mut row = Row::new(format!("embedded, {events} deliveries waiting"));
    let mut resident = Vec::new();
    for part in 0..PARTS {
        let seqs = all.first + events * part / PARTS..all.first + events * (part + 1) / PARTS;
        let posted = all.driver.post(seqs, CONNECTIONS).await?;
        if let Some(trouble) = posted.trouble() {
            row.note(trouble);
        }
        resident.push(process.resident()?);
    }
    tokio::time::sleep(hold).await;
    let end = process.resident()?;

    let mb: Vec<String> = resident
        .iter()
        .map(|bytes| format!("{:.0}", megabytes(*bytes)))
        .collect();
    row.peak_mb = Some(megabytes(process.peak_resident()?));
    row.note(format!(
        "MB resident: {:.0} before, {} while they came, {:.0} after {} s more; {} attempts, {:.1} CPU-s; {} events accepted",
        megabytes(idle),
        mb.join(" "),
        megabytes(end),
        hold.as_secs(),
        all.sink.turned_away(),
        process.cpu_seconds()? - cpu,
        all.ledger.accepted_count(),
    ));
    row.at_most("peak MB", row.peak_mb, 150.0);
    // Flat: the second half of them adds little to what the first half took.
    let half = resident[resident.len() / 2 - 1];
    row.at_most(
        "MB added by the second half",
        Some(megabytes(end) - megabytes(half)),
        15.0,
    );
    if recover {
        all.sink.answer(Answer::Accept);
        // The breaker and the later retries may keep everything still for a while.
        row.lost = Some(
            all.ledger
                .wait(all.first..all.first + events, 1, PATIENCE * 10)
                .await,
        );
        row.duplicated = Some(all.ledger.totals().duplicated);
        all.product.stop().await?;
    } else {
        // Nothing of it is wanted any more.
        all.product.kill().await?;
    }
    Ok(row)
}
