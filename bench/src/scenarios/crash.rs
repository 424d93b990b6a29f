//! Killed under load, again and again: what was accepted must arrive.

use super::{Context, Embedded, PATIENCE, check_signatures};
use crate::report::Row;
use anyhow::{Result, bail};
use std::time::Duration;

/// Connections of the driver.
const CONNECTIONS: usize = 8;

/// The most events of one round; more than can be posted until the kill.
const ROUND: u64 = 1_000_000;

/// `rounds` times: post, SIGKILL at a moment between 100 and 1,500 ms, start again on the same data.
/// `seed` chooses the moments.
pub async fn run(context: &Context, rounds: u32, fanout: usize, seed: u64) -> Result<Row> {
    let Embedded {
        mut product,
        launch,
        sink,
        ledger,
        driver,
        first,
        folder,
    } = Embedded::start(context, fanout).await?;
    let mut row = Row::new(format!("embedded, killed {rounds} times"));
    let mut random = seed | 1;
    let (mut next, mut behind, mut unanswered) = (first, Vec::new(), 0);
    let mut slowest_start = Duration::ZERO;
    for _ in 0..rounds {
        let moment = Duration::from_millis(100 + xorshift(&mut random) % 1_400);
        let (posted, killed) = tokio::join!(driver.post(next..next + ROUND, CONNECTIONS), async {
            tokio::time::sleep(moment).await;
            product.kill().await
        });
        killed?;
        let posted = posted?;
        if posted.accepted == 0 && next == first {
            bail!("no event was accepted: {}", posted.trouble().unwrap_or_default());
        }
        next += posted.accepted + posted.unanswered + posted.refused.values().sum::<u64>();
        unanswered += posted.unanswered;
        behind.push(ledger.missing(first..next, fanout));
        product = launch.dev().await?;
        slowest_start = slowest_start.max(product.ready_after);
    }
    row.lost = Some(ledger.wait(first..next, fanout, PATIENCE).await);
    let totals = ledger.totals();
    row.duplicated = Some(totals.duplicated);
    row.note(format!(
        "{} events accepted, {unanswered} unanswered; accepted and not yet arrived at each kill: {behind:?}; \
         {:.1} duplicates a kill; ready again after {} ms at most; seed {seed}",
        ledger.accepted_count(),
        totals.duplicated as f64 / f64::from(rounds.max(1)),
        slowest_start.as_millis(),
    ));
    check_signatures(&mut row, &sink)?;
    product.stop().await?;
    drop(folder);
    Ok(row)
}

/// Marsaglia's xorshift64: random enough for moments, repeatable by its seed.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
