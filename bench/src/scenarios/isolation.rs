//! What nine targets that work see of a tenth that does not, and of another tenant's flood.
//!
//! Each part has a product of its own and the same load on the nine; the ratio is that of its 99th percentile to the
//! one without trouble, which is measured before and after, since the machine drifts.

use super::pipeline::{On, Pipeline};
use super::{Context, PATIENCE, WARM_UP, check_signatures, endpoint, probe, subscribe, warm_up};
use crate::driver::Driver;
use crate::http::post;
use crate::ledger::Ledger;
use crate::payload::Template;
use crate::product::Product;
use crate::report::Row;
use crate::sink::{Answer, Sink};
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// The targets that work: the first ones.
const NINE: usize = 9;
/// The one that does not.
const TENTH: usize = 9;
/// The other tenant's.
const FLOODED: usize = 10;
/// How many times the load of the first tenant the flood is.
const FLOOD: f64 = 10.0;
/// Connections of a paced driver.
const CONNECTIONS: usize = 8;
/// The most that its 99th percentile may grow by.
const BOUND: f64 = 1.2;
/// How often to look whether all waits, and for how long.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 480;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    /// Nothing: all ten work.
    None,
    /// The tenth never answers.
    Hangs,
    /// Another tenant has [`FLOOD`] times the load.
    Flood,
    /// The same flood at another product on this machine: what the flood takes of the processor alone.
    Beside,
    /// So many deliveries of the tenth wait, which answers 503.
    Dead(u64),
}

/// What the nine targets have to do, and the others.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Events per second, each for all targets.
    pub rate: f64,
    /// For how long.
    pub seconds: f64,
    /// Deliveries that wait for the dead target.
    pub waiting: u64,
}

/// Each trouble beside the load; `distributed` has each part over Kafka, SQS, S3 and Postgres.
pub async fn run(context: &Context, load: Load, distributed: bool) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for trouble in [
        Trouble::None,
        Trouble::Hangs,
        Trouble::Flood,
        Trouble::Beside,
        Trouble::Dead(load.waiting),
        Trouble::None,
    ] {
        rows.push(part(context, trouble, load, distributed).await?);
    }
    let without = [&rows[0], &rows[5]].map(|row| row.p99_ms.unwrap_or(f64::NAN));
    let without = (without[0] + without[1]) / 2.0;
    for row in &mut rows[1..5] {
        let ratio = row.p99_ms.map(|with| with / without);
        row.at_most("p99 of the nine, times that without", ratio, BOUND);
    }
    let beside = rows[3].p99_ms;
    let ratio = rows[2].p99_ms.zip(beside).map(|(with, beside)| with / beside);
    rows[2].at_most("times that with the flood at another product", ratio, BOUND);
    Ok(rows)
}

async fn part(context: &Context, trouble: Trouble, load: Load, distributed: bool) -> Result<Row> {
    let on = if distributed { On::Services } else { On::Files };
    let pipeline = Pipeline::start(context, on).await?;
    let row = if trouble == Trouble::Beside {
        let other = Pipeline::start(context, on).await?;
        let row = measured(context, &pipeline, &other, trouble, load).await;
        other.end().await?;
        row
    } else {
        measured(context, &pipeline, &pipeline, trouble, load).await
    };
    pipeline.end().await?;
    let mut row = row?;
    if distributed {
        row.scenario = format!("distributed, {}", row.scenario);
    }
    Ok(row)
}

/// The nine are at `pipeline`, a flood is at `flooded`.
async fn measured(
    context: &Context,
    pipeline: &Pipeline,
    flooded: &Pipeline,
    trouble: Trouble,
    load: Load,
) -> Result<Row> {
    let Load { rate, seconds, .. } = load;
    let (product, key) = (&pipeline.product, pipeline.key.as_str());
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    let api = pipeline.launch.api;
    let driver = Driver::new(api, key, Template::new(context.payload), ledger.clone())?;
    let mut first = 0;
    if let Trouble::Dead(waiting) = trouble {
        endpoint(api, key, &sink, TENTH).await?;
        sink.answer_at(TENTH, Answer::Status(503));
        driver.post_batches(0..waiting).await?;
        all_wait(product, waiting).await?;
        first = waiting;
    }
    subscribe(api, key, &sink, NINE).await?;
    first = probe(&driver, &ledger, first, NINE).await?;
    if matches!(trouble, Trouble::None | Trouble::Hangs) {
        endpoint(api, key, &sink, TENTH).await?;
    }
    first = warm_up(&driver, &ledger, first, WARM_UP, NINE, CONNECTIONS).await?;
    if trouble == Trouble::Hangs {
        sink.answer_at(TENTH, Answer::Hang);
    }
    let flood = match trouble {
        Trouble::Flood | Trouble::Beside => {
            Some(flood(context, flooded, &sink, rate * FLOOD, seconds).await?)
        }
        Trouble::None | Trouble::Hangs | Trouble::Dead(_) => None,
    };

    let seqs = first..first + (rate * seconds) as u64;
    let away = sink.turned_away();
    let cpu = product.proc().cpu_seconds()?;
    let posted = driver.post_paced(seqs.clone(), rate, CONNECTIONS).await?;
    let cpu = product.proc().cpu_seconds()? - cpu;
    let missing = ledger.wait(seqs.clone(), NINE, PATIENCE).await;
    let of_flood = match flood {
        Some(flood) => flood.await??,
        None => 0,
    };

    let mut row = Row::new(format!("{rate} events/s to nine, {}", trouble.name()));
    row.latencies(&ledger.latencies_of(seqs.clone(), NINE));
    row.lost = Some(missing);
    row.note(format!(
        "{} events, {cpu:.1} CPU-s; {} requests to the tenth unanswered or refused, {} deliveries put off; {of_flood} of the flood",
        posted.accepted,
        sink.turned_away() - away,
        product.metric("hookwright_deliveries_postponed_total").await?,
    ));
    check_signatures(&mut row, &sink)?;
    Ok(row)
}

impl Trouble {
    fn name(self) -> String {
        match self {
            Self::None => "a tenth works".to_owned(),
            Self::Hangs => "a tenth hangs".to_owned(),
            Self::Flood => format!("{FLOOD} times as much of another tenant"),
            Self::Beside => "the same flood at another product".to_owned(),
            Self::Dead(waiting) => format!("{waiting} wait for a dead tenth"),
        }
    }
}

/// Another tenant's events, from now on and for as long; how many were accepted.
async fn flood(
    context: &Context,
    pipeline: &Pipeline,
    sink: &Sink,
    rate: f64,
    seconds: f64,
) -> Result<tokio::task::JoinHandle<Result<u64>>> {
    let (api, admin) = (pipeline.launch.api, pipeline.admin.as_str());
    post(api, "/v1/admin/tenants", admin, &json!({"name": "flood"})).await?;
    let path = "/v1/admin/tenants/flood/keys";
    let made = post(api, path, admin, &json!({"name": "bench"})).await?;
    let key = made["key"].as_str().context("a new key came without its value")?;
    endpoint(api, key, sink, FLOODED).await?;
    // An account of its own: its events have the same numbers.
    let driver = Driver::new(
        api,
        key,
        Template::new(context.payload),
        Arc::new(Ledger::default()),
    )?;
    let seqs = 0..(rate * seconds) as u64;
    Ok(tokio::spawn(async move {
        Ok(driver.post_paced(seqs, rate, 2 * CONNECTIONS).await?.accepted)
    }))
}

/// Waits until so many deliveries have been put off.
async fn all_wait(product: &Product, waiting: u64) -> Result<()> {
    for _ in 0..LOOKS {
        if product.metric("hookwright_deliveries_postponed_total").await? >= waiting as f64 * 0.99 {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!(
        "not all of {waiting} deliveries were put off in {:?}",
        LOOK * LOOKS
    )
}
