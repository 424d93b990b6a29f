//! Killed with a backlog: how soon it moves again, and what comes twice.
//!
//! One target that takes its time, so that a backlog can form; `SIGKILL`; then the target answers at once and
//! the product starts on the same data.

use super::{Context, Embedded, PATIENCE, check_signatures};
use crate::ledger::now_ns;
use crate::report::Row;
use crate::sink::Answer;
use anyhow::{Result, bail};
use std::time::Duration;

/// What the target takes for an answer until the kill.
const ANSWER_MS: u16 = 100;
/// Deliveries that come before the kill: all limits have been reached by then.
const BEFORE: u64 = 200;
/// How soon the backlog has to move.
const MOVING_MS: f64 = 2_000.0;
/// How often to look for the first delivery after the start.
const LOOK: Duration = Duration::from_millis(2);

/// `queued` deliveries wait when the product is killed.
pub async fn run(context: &Context, queued: u64) -> Result<Row> {
    let Embedded {
        product,
        launch,
        sink,
        ledger,
        driver,
        first,
        folder,
    } = Embedded::start(context, 1).await?;
    sink.answer(Answer::Slow(ANSWER_MS));
    let before = ledger.totals().unique;
    let seqs = first..first + queued + BEFORE;
    driver.post_batches(seqs.clone()).await?;
    ledger.wait_for(before + BEFORE, PATIENCE).await;
    let in_flight = product.metric("hookwright_inflight_deliveries").await?;
    let put_off = product.metric("hookwright_deliveries_postponed_total").await?;
    product.kill().await?;
    let behind = ledger.missing(seqs.clone(), 1);
    if behind < queued * 9 / 10 {
        bail!("only {behind} of {queued} deliveries were left at the kill");
    }

    sink.answer(Answer::Accept);
    let totals = ledger.totals();
    let started = now_ns();
    let product = launch.dev().await?;
    let moved = async {
        while ledger.totals().unique == totals.unique {
            tokio::time::sleep(LOOK).await;
        }
    };
    if tokio::time::timeout(PATIENCE, moved).await.is_err() {
        bail!("nothing was delivered within {PATIENCE:?} of the start");
    }
    let moving = (now_ns() - started) as f64 / 1e6;
    let missing = ledger.wait(seqs.clone(), 1, PATIENCE).await;
    let took = ledger
        .received_between(seqs)
        .map_or(0.0, |(_, last)| last.saturating_sub(started) as f64 / 1e9);

    let mut row = Row::new(format!("embedded, killed with {behind} queued"));
    row.lost = Some(missing);
    row.duplicated = Some(ledger.totals().duplicated);
    row.note(format!(
        "{in_flight} in flight and {put_off} put off at the kill; ready after {} ms, the first delivery after {moving:.0} ms, \
         the last after {took:.2} s",
        product.ready_after.as_millis(),
    ));
    row.at_most("ms until the backlog moves", Some(moving), MOVING_MS);
    row.at_most(
        "duplicates beyond what was in flight",
        Some((ledger.totals().duplicated as f64 - in_flight).max(0.0)),
        0.0,
    );
    check_signatures(&mut row, &sink)?;
    product.stop().await?;
    drop(folder);
    Ok(row)
}
