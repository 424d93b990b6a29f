//! What nine targets that work see of a tenth that does not, and of another tenant's flood.
//!
//! Each part has a product of its own and the same load on the nine; the ratio is that of its 99th percentile to the
//! one without trouble, which is measured before and after, since the machine drifts.

use super::{Context, PATIENCE, WARM_UP, check_signatures, endpoint, probe, random_key, subscribe, warm_up};
use crate::driver::Driver;
use crate::http::post;
use crate::ledger::Ledger;
use crate::payload::Template;
use crate::product::{Launch, Product};
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
    /// So many deliveries of the tenth wait, which answers 503.
    Dead(u64),
}

/// Each trouble at `rate` events per second to nine targets for `seconds`; `waiting` deliveries wait for the dead one.
pub async fn run(context: &Context, rate: f64, seconds: f64, waiting: u64) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for trouble in [
        Trouble::None,
        Trouble::Hangs,
        Trouble::Flood,
        Trouble::Dead(waiting),
        Trouble::None,
    ] {
        rows.push(part(context, trouble, rate, seconds).await?);
    }
    let without = [&rows[0], &rows[4]].map(|row| row.p99_ms.unwrap_or(f64::NAN));
    let without = (without[0] + without[1]) / 2.0;
    for row in &mut rows[1..4] {
        let ratio = row.p99_ms.map(|with| with / without);
        row.at_most("p99 of the nine, times that without", ratio, BOUND);
    }
    Ok(rows)
}

async fn part(context: &Context, trouble: Trouble, rate: f64, seconds: f64) -> Result<Row> {
    let folder = context.folder()?;
    let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
    launch.set("secrets.key", &random_key());
    let product = launch.dev().await?;
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    let (api, key) = (launch.api, launch.dev_key()?);
    let driver = Driver::new(api, &key, Template::new(context.payload), ledger.clone())?;
    let mut first = 0;
    if let Trouble::Dead(waiting) = trouble {
        endpoint(api, &key, &sink, TENTH).await?;
        sink.answer_at(TENTH, Answer::Status(503));
        driver.post_batches(0..waiting).await?;
        all_wait(&product, waiting).await?;
        first = waiting;
    }
    subscribe(api, &key, &sink, NINE).await?;
    first = probe(&driver, &ledger, first, NINE).await?;
    if matches!(trouble, Trouble::None | Trouble::Hangs) {
        endpoint(api, &key, &sink, TENTH).await?;
    }
    first = warm_up(&driver, &ledger, first, WARM_UP, NINE, CONNECTIONS).await?;
    if trouble == Trouble::Hangs {
        sink.answer_at(TENTH, Answer::Hang);
    }
    let flood = match trouble {
        Trouble::Flood => Some(flood(context, &launch, &sink, rate * FLOOD, seconds).await?),
        Trouble::None | Trouble::Hangs | Trouble::Dead(_) => None,
    };

    let seqs = first..first + (rate * seconds) as u64;
    let away = sink.turned_away();
    let cpu = product.proc().cpu_seconds()?;
    let posted = driver.post_paced(seqs.clone(), rate, CONNECTIONS).await?;
    let cpu = product.proc().cpu_seconds()? - cpu;
    let missing = ledger.wait(seqs.clone(), NINE, PATIENCE).await;
    let flooded = match flood {
        Some(flood) => flood.await??,
        None => 0,
    };

    let mut row = Row::new(format!("{rate} events/s to nine, {}", trouble.name()));
    row.latencies(&ledger.latencies_of(seqs.clone(), NINE));
    row.lost = Some(missing);
    row.note(format!(
        "{} events, {cpu:.1} CPU-s; {} requests to the tenth unanswered or refused, {} deliveries put off; {flooded} of the flood",
        posted.accepted,
        sink.turned_away() - away,
        product.metric("hookwright_deliveries_postponed_total").await?,
    ));
    check_signatures(&mut row, &sink)?;
    // What hangs is not waited for.
    product.kill().await?;
    drop(folder);
    Ok(row)
}

impl Trouble {
    fn name(self) -> String {
        match self {
            Self::None => "a tenth works".to_owned(),
            Self::Hangs => "a tenth hangs".to_owned(),
            Self::Flood => format!("{FLOOD} times as much of another tenant"),
            Self::Dead(waiting) => format!("{waiting} wait for a dead tenth"),
        }
    }
}

/// Another tenant's events, from now on and for as long; how many were accepted.
async fn flood(
    context: &Context,
    launch: &Launch,
    sink: &Sink,
    rate: f64,
    seconds: f64,
) -> Result<tokio::task::JoinHandle<Result<u64>>> {
    let admin = std::fs::read_to_string(launch.data().join("admin-key")).context("the admin key")?;
    let admin = admin.trim();
    post(launch.api, "/v1/admin/tenants", admin, &json!({"name": "flood"})).await?;
    let path = "/v1/admin/tenants/flood/keys";
    let made = post(launch.api, path, admin, &json!({"name": "bench"})).await?;
    let key = made["key"].as_str().context("a new key came without its value")?;
    endpoint(launch.api, key, sink, FLOODED).await?;
    // An account of its own: its events have the same numbers.
    let driver = Driver::new(
        launch.api,
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
