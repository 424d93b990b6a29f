//! What nine targets that work see of a tenth that does not, and of another tenant's flood.
//!
//! Each part has a product of its own and the same load on the nine; the ratio is that of its 99th percentile to the
//! ones without trouble that were measured before and after it, since the machine drifts. Of several rounds the
//! middle ratio counts.

use super::pipeline::{On, Pipeline};
use super::{Context, PATIENCE, WARM_UP, check_signatures, endpoint, probe, settle, subscribe, warm_up};
use crate::driver::Driver;
use crate::http::post;
use crate::ledger::Ledger;
use crate::payload::Template;
use crate::report::{Row, middle, number};
use crate::sink::{Answer, Sink};
use anyhow::{Context as _, Result, bail, ensure};
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
const LOOKS: u32 = 960;

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
    /// Nothing, after so many deliveries that the tenth took: as much is in the log and in history as when they wait.
    After(u64),
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

/// A trouble that is measured alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Only {
    /// A target that never answers.
    Hang,
    /// Another tenant's flood, at this product and at another one beside it.
    Flood,
    /// A target that is down, for which much waits.
    Dead,
}

/// Which troubles, how often, and where.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Over Kafka, SQS, S3 and Postgres.
    pub distributed: bool,
    /// One trouble alone.
    pub only: Option<Only>,
    /// How often each.
    pub rounds: u32,
}

impl Plan {
    /// The parts of a run: between any two troubles one without, since the machine drifts.
    fn parts(self, load: Load) -> Vec<Trouble> {
        let dead = [Trouble::Dead(load.waiting), Trouble::After(load.waiting)];
        // In packs there is little left of them to be held against as many that were delivered.
        let dead = if self.distributed { &dead[..1] } else { &dead };
        let all: [(Only, &[Trouble]); 3] = [
            (Only::Hang, &[Trouble::Hangs]),
            (Only::Flood, &[Trouble::Flood, Trouble::Beside]),
            (Only::Dead, dead),
        ];
        let mut parts = vec![Trouble::None];
        for _ in 0..self.rounds.max(1) {
            for (name, troubles) in all {
                if self.only.is_none_or(|only| only == name) {
                    parts.extend(troubles);
                    parts.push(Trouble::None);
                }
            }
        }
        parts
    }
}

/// Each trouble beside the load.
pub async fn run(context: &Context, load: Load, plan: Plan) -> Result<Vec<Row>> {
    let parts = plan.parts(load);
    let mut rows = Vec::new();
    for trouble in &parts {
        rows.push(part(context, *trouble, load, plan.distributed).await?);
    }
    let p99s: Vec<f64> = rows.iter().map(|row| row.p99_ms.unwrap_or(f64::NAN)).collect();
    for ((trouble, what), ratios) in ratios(&parts, &p99s) {
        let Some(last) = parts.iter().rposition(|part| *part == trouble) else {
            continue;
        };
        rows[last].at_most(what, Some(middle(&ratios)), BOUND);
        if ratios.len() > 1 {
            let ratios: Vec<String> = ratios.iter().map(|ratio| number(*ratio)).collect();
            rows[last].note(format!("{what}, each round: {}", ratios.join(", ")));
        }
    }
    Ok(rows)
}

/// What the 99th percentiles of a trouble's rounds are held against, and the ratios.
fn ratios(parts: &[Trouble], p99s: &[f64]) -> Vec<((Trouble, &'static str), Vec<f64>)> {
    let none = |place: &usize| parts[*place] == Trouble::None;
    let mut found: Vec<((Trouble, &'static str), Vec<f64>)> = Vec::new();
    let mut add = |trouble, what, ratio| match found.iter_mut().find(|(of, _)| *of == (trouble, what)) {
        Some((_, ratios)) => ratios.push(ratio),
        None => found.push(((trouble, what), vec![ratio])),
    };
    for (place, trouble) in parts.iter().enumerate().filter(|(place, _)| !none(place)) {
        let before = (0..place).rev().find(none).map_or(f64::NAN, |place| p99s[place]);
        let after = (place..parts.len())
            .find(none)
            .map_or(f64::NAN, |place| p99s[place]);
        let without = f64::midpoint(before, after);
        add(
            *trouble,
            "p99 of the nine, times that without",
            p99s[place] / without,
        );
        let beside = match (trouble, parts.get(place + 1)) {
            (Trouble::Flood, _) => "times that with the flood at another product",
            (Trouble::Dead(_), Some(Trouble::After(_))) => "times that after as many that were delivered",
            _ => continue,
        };
        add(*trouble, beside, p99s[place] / p99s[place + 1]);
    }
    found
}

async fn part(context: &Context, trouble: Trouble, load: Load, distributed: bool) -> Result<Row> {
    let on = if distributed { On::Services } else { On::Files };
    let pipeline = Pipeline::start(context, on).await?;
    let row = match trouble {
        Trouble::Beside => {
            let other = Pipeline::start(context, on).await?;
            let row = measured(context, &pipeline, &other, trouble, load).await;
            other.end().await?;
            row
        }
        _ => measured(context, &pipeline, &pipeline, trouble, load).await,
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
    if let Trouble::Dead(before) | Trouble::After(before) = trouble {
        endpoint(api, key, &sink, TENTH).await?;
        if trouble == Trouble::Dead(before) {
            sink.answer_at(TENTH, Answer::Status(503));
        }
        driver.post_batches(0..before).await?;
        if trouble == Trouble::Dead(before) {
            all_wait(pipeline, before).await?;
        } else {
            ledger.wait_for(before, PATIENCE).await;
            let came = ledger.totals().unique;
            ensure!(came == before, "{came} of {before} deliveries arrived");
        }
        first = before;
    }
    subscribe(api, key, &sink, NINE).await?;
    first = probe(&driver, &ledger, first, NINE).await?;
    if matches!(trouble, Trouble::None | Trouble::Hangs) {
        endpoint(api, key, &sink, TENTH).await?;
    }
    // What another part has left to be written is not this one's.
    let synced = tokio::process::Command::new("sync").status().await?;
    ensure!(synced.success(), "sync ended with {synced}");
    first = warm_up(&driver, &ledger, first, WARM_UP, NINE, CONNECTIONS).await?;
    // History has the warm-up too, then.
    settle(product.proc()).await?;
    if trouble == Trouble::Hangs {
        sink.answer_at(TENTH, Answer::Hang);
    }
    let flood = match trouble {
        Trouble::Flood | Trouble::Beside => {
            Some(flood(context, flooded, &sink, rate * FLOOD, seconds).await?)
        }
        _ => None,
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
            Self::After(before) => format!("{before} were delivered to the tenth"),
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

/// Waits until so many deliveries have been put off and, on SQS, lie in packs: the first of them once they have come
/// back and been put off for longer.
async fn all_wait(pipeline: &Pipeline, waiting: u64) -> Result<()> {
    let waiting = waiting as f64;
    reaches(pipeline, "hookwright_deliveries_postponed_total", |count| {
        count >= waiting * 0.99
    })
    .await?;
    if pipeline.is_on_services() {
        reaches(pipeline, "hookwright_packed_deliveries_total", |count| {
            count >= waiting * 0.99
        })
        .await?;
        // A pack is one message.
        reaches(pipeline, "hookwright_queue_depth", |depth| {
            depth <= waiting / 100.0
        })
        .await?;
    }
    Ok(())
}

/// Waits until a metric is as it should be.
async fn reaches(pipeline: &Pipeline, metric: &str, is_enough: impl Fn(f64) -> bool) -> Result<()> {
    let mut count = f64::NAN;
    for _ in 0..LOOKS {
        count = pipeline.product.metric(metric).await?;
        if is_enough(count) {
            return Ok(());
        }
        tokio::time::sleep(LOOK).await;
    }
    bail!("{metric} is still {count} after {:?}", LOOK * LOOKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_trouble_is_held_against_its_neighbours_and_its_rounds_are_kept_together() {
        let load = Load {
            rate: 1.0,
            seconds: 1.0,
            waiting: 5,
        };
        let plan = Plan {
            distributed: false,
            only: Some(Only::Dead),
            rounds: 2,
        };
        let parts = plan.parts(load);
        let (none, dead, after) = (Trouble::None, Trouble::Dead(5), Trouble::After(5));
        assert_eq!(parts, [none, dead, after, none, dead, after, none]);
        let without = "p99 of the nine, times that without";
        assert_eq!(
            ratios(&parts, &[1.0, 4.0, 2.0, 3.0, 6.0, 12.0, 1.0]),
            [
                ((dead, without), vec![2.0, 3.0]),
                (
                    (dead, "times that after as many that were delivered"),
                    vec![2.0, 0.5]
                ),
                ((after, without), vec![1.0, 6.0]),
            ]
        );
    }
}
