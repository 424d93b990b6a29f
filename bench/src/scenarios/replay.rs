//! Replay of what a target missed while it was disabled, killed twice, beside nine targets that go on.
//!
//! The tenth target has a sink and an account of its own. The nine have the same load before the replay, with which
//! their latencies are compared, and all through it, but for the moments in which there is no product.

use super::{Context, Embedded, PATIENCE, WARM_UP, check_signatures, warm_up};
use crate::driver::{Driver, Posted};
use crate::http::{ask, post};
use crate::ledger::{Ledger, percentile_ms};
use crate::payload::Template;
use crate::product::Product;
use crate::report::Row;
use crate::sink::Sink;
use anyhow::{Context as _, Result, bail};
use hyper::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The targets that go on.
const NINE: usize = 9;
/// What the tenth wants, and nobody else.
const MISSED: &str = "bench.missed.created.v1";
/// It is killed after each part of the deliveries but the last.
const PARTS: u64 = 3;
/// Connections of a paced driver.
const CONNECTIONS: usize = 8;
/// The most deliveries that are sent between two places that a replay stores.
const STEP: u64 = 64;
/// The most that the 99th percentile of the nine may grow by, as in `isolation`.
const BOUND: f64 = 1.2;
/// The longest that a part may take.
const LONGEST: Duration = Duration::from_secs(600);
/// How often to look how far it is.
const LOOK: Duration = Duration::from_millis(20);

/// How much there is to do.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Deliveries that the tenth missed.
    pub missed: u64,
    /// Its rate limit, deliveries per second.
    pub limit: u32,
    /// Events per second to the nine.
    pub rate: f64,
    /// For how long they are measured before the replay.
    pub seconds: f64,
}

/// The target that was away.
struct Tenth {
    id: i64,
    sink: Sink,
    ledger: Arc<Ledger>,
}

/// The nine before the replay, the nine while it runs, and the replay.
pub async fn run(context: &Context, sizes: Sizes) -> Result<Vec<Row>> {
    let Sizes {
        missed, limit, rate, ..
    } = sizes;
    let mut context = context.clone();
    // First, so that one of the user's own holds.
    context.settings.insert(0, format!("replay.rate={limit}"));
    let Embedded {
        mut product,
        launch,
        sink,
        ledger,
        driver,
        first,
        folder,
    } = Embedded::start(&context, NINE).await?;
    let (api, key) = (launch.api, launch.dev_key()?);
    let mut next = warm_up(&driver, &ledger, first, WARM_UP, NINE, CONNECTIONS).await?;

    let tenth = Tenth::new(api, &key).await?;
    let template = Template::new(context.payload).of(MISSED);
    let missing = Driver::new(api, &key, template, tenth.ledger.clone())?;
    missing.post_batches(0..missed).await?;
    nobody_wants(&product, missed).await?;

    let seqs = next..next + (rate * sizes.seconds) as u64;
    next = seqs.end;
    driver.post_paced(seqs.clone(), rate, CONNECTIONS).await?;
    let mut before = Row::new(format!("{rate} events/s to nine, before a replay"));
    before.lost = Some(ledger.wait(seqs.clone(), NINE, PATIENCE).await);
    before.latencies(&ledger.latencies(seqs));

    let replay = tenth.replay(api, &key, limit).await?;
    let (during, begun) = (next, Instant::now());
    let (mut in_flight, mut ready, mut posting) = (Vec::new(), Duration::ZERO, Duration::ZERO);
    let duplicated = ledger.totals().duplicated;
    for part in 1..=PARTS {
        let seqs = next..next + (rate * LONGEST.as_secs_f64()) as u64;
        next = seqs.end;
        let from = Instant::now();
        let come = tenth.come(missed * part / PARTS);
        if part < PARTS {
            let (posted, killed) = tokio::join!(driver.post_paced(seqs, rate, CONNECTIONS), async {
                come.await?;
                in_flight.push(product.metric("hookwright_inflight_deliveries").await?);
                product.kill().await
            });
            killed?;
            not_refused(&posted?)?;
            posting += from.elapsed();
            product = launch.dev().await?;
            ready = ready.max(product.ready_after);
        } else {
            tokio::select! {
                posted = driver.post_paced(seqs, rate, CONNECTIONS) => bail!("the events ended first: {:?}", posted?),
                come = come => come?,
            }
            posting += from.elapsed();
        }
    }
    let took = begun.elapsed();
    let done = at_its_end(api, &key, &replay).await?;

    let mut while_it_runs = Row::new(format!(
        "{rate} events/s to nine, beside the replay, killed twice"
    ));
    while_it_runs.lost = Some(ledger.wait(during..next, NINE, PATIENCE).await);
    while_it_runs.duplicated = Some(ledger.totals().duplicated - duplicated);
    let latencies = ledger.latencies(during..next);
    while_it_runs.latencies(&latencies);
    let deliveries = latencies.from_accepted.len();
    let events = (deliveries / NINE) as f64;
    let ratio = while_it_runs
        .p99_ms
        .zip(before.p99_ms)
        .map(|(with, without)| with / without);
    while_it_runs.at_most("p99 of the nine, times that before", ratio, BOUND);
    while_it_runs.at_least(
        "events/s to the nine",
        Some(events / posting.as_secs_f64()),
        rate * 0.95,
    );
    while_it_runs.note(format!(
        "{deliveries} deliveries, p99.9 {:.2} ms, {:.2} ms at most",
        percentile_ms(&latencies.from_accepted, 0.999).unwrap_or(f64::NAN),
        percentile_ms(&latencies.from_accepted, 1.0).unwrap_or(f64::NAN),
    ));
    check_signatures(&mut while_it_runs, &sink)?;

    let mut row = Row::new(format!("replay of {missed} at {limit}/s, killed twice"));
    row.per_second = Some(missed as f64 / took.as_secs_f64());
    row.lost = Some(tenth.ledger.missing(0..missed, 1));
    let twice = tenth.ledger.totals().duplicated;
    row.duplicated = Some(twice);
    let explained = in_flight.iter().sum::<f64>() + ((PARTS - 1) * STEP) as f64;
    row.at_most(
        "duplicates beyond a step and what was in flight at each kill",
        Some((twice as f64 - explained).max(0.0)),
        0.0,
    );
    let busiest = tenth.ledger.most_within(Duration::from_secs(1)) as f64;
    row.at_most(
        "deliveries in the busiest second: the limit and its burst",
        Some(busiest),
        2.0 * f64::from(limit),
    );
    row.at_least(
        "deliveries/s of the limit",
        row.per_second,
        0.9 * f64::from(limit),
    );
    row.at_least(
        "examined, as the API says at the end",
        done["examined"].as_f64(),
        missed as f64,
    );
    row.note(format!(
        "{:.1} s, {} at the end; {in_flight:?} in flight at the kills, {twice} came twice; ready again after {} ms at most",
        took.as_secs_f64(),
        done,
        ready.as_millis(),
    ));
    check_signatures(&mut row, &tenth.sink)?;
    product.stop().await?;
    drop(folder);
    Ok(vec![before, while_it_runs, row])
}

impl Tenth {
    /// A target that is disabled.
    async fn new(api: SocketAddr, key: &str) -> Result<Self> {
        let ledger = Arc::new(Ledger::default());
        let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
        let endpoint = json!({ "url": sink.url(0), "events": [MISSED], "disabled": true });
        let made = post(api, "/v1/webhooks/endpoints", key, &endpoint).await?;
        let secret = made["secret"]
            .as_str()
            .context("a new endpoint came without its secret")?;
        sink.verify(0, secret)?;
        let id = made["id"]
            .as_i64()
            .context("a new endpoint came without its id")?;
        Ok(Self { id, sink, ledger })
    }

    /// Enables it, with a rate limit, and asks for what it missed; the replay's path.
    async fn replay(&self, api: SocketAddr, key: &str, limit: u32) -> Result<String> {
        let path = format!("/v1/webhooks/targets/{}", self.id);
        ask(
            api,
            Method::PATCH,
            &path,
            key,
            Some(&json!({ "rateLimit": limit })),
        )
        .await?;
        post(api, &format!("{path}/enable"), key, &json!({})).await?;
        let wanted = json!({ "targetId": self.id, "from": "2020-01-01T00:00:00Z", "status": "missed" });
        let made = post(api, "/v1/webhooks/replays", key, &wanted).await?;
        Ok(format!("/v1/webhooks/replays/{}", made["id"]))
    }

    /// Waits until so many different deliveries have come.
    ///
    /// # Errors
    /// When it takes too long.
    async fn come(&self, count: u64) -> Result<()> {
        self.ledger.wait_for(count, LONGEST).await;
        let come = self.ledger.totals().unique;
        if come < count {
            bail!("{come} of {count} deliveries came in {LONGEST:?}");
        }
        Ok(())
    }
}

/// Waits until the consumer has passed so many events that nobody wants.
async fn nobody_wants(product: &Product, events: u64) -> Result<()> {
    let begun = Instant::now();
    while product.metric("hookwright_events_unmatched_total").await? < events as f64 {
        if begun.elapsed() > PATIENCE {
            bail!("not all of {events} events were consumed in {PATIENCE:?}");
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// What a replay has come to, once it is done.
async fn at_its_end(api: SocketAddr, key: &str, path: &str) -> Result<Value> {
    let begun = Instant::now();
    loop {
        let replay = ask(api, Method::GET, path, key, None).await?;
        match replay["state"].as_str() {
            Some("done") => return Ok(replay["progress"].clone()),
            Some("waiting" | "running") if begun.elapsed() < PATIENCE => tokio::time::sleep(LOOK).await,
            _ => bail!("the replay is not done: {replay}"),
        }
    }
}

/// Posting ends by the kill, and by nothing else.
fn not_refused(posted: &Posted) -> Result<()> {
    if posted.refused.is_empty() {
        return Ok(());
    }
    bail!("events to the nine: {}", posted.trouble().unwrap_or_default())
}
