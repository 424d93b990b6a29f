//! The API: how many events it takes a second, and how long changes of the catalog take at a pace while
//! deliveries run.

use super::pipeline::{On, Pipeline};
use super::{Context, PATIENCE, WARM_UP, probe, subscribe, warm_up};
use crate::driver::Driver;
use crate::http::connect;
use crate::ledger::{Ledger, percentile_ms};
use crate::payload::Template;
use crate::report::Row;
use crate::sink::Sink;
use crate::world::World;
use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper::{Method, Request, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Connections that events are posted over.
const PUBLISHERS: usize = 64;
/// Events a second that have to be taken.
const PUBLISHED: f64 = 8_000.0;
/// Connections of the catalog's clients: enough that none waits for the answer to another.
const CLIENTS: usize = 32;
/// What the catalog's 99th percentile may be, in ms.
const CATALOG_MS: f64 = 20.0;
/// Events a second that are delivered meanwhile, and over how many connections.
const DELIVERIES: f64 = 200.0;
const DRIVERS: usize = 4;

/// Events on each log, then `rate` catalog requests a second for `seconds` on each database.
pub async fn run(context: &Context, events: u64, rate: f64, seconds: f64) -> Result<Vec<Row>> {
    let world = World::is_there();
    let mut rows = Vec::new();
    for on in [On::Files, On::Services] {
        if on == On::Files || world {
            rows.push(publish(context, on, events).await?);
        }
    }
    for on in [On::Files, On::Postgres] {
        if on == On::Files || world {
            rows.push(catalog(context, on, rate, seconds).await?);
        }
    }
    Ok(rows)
}

/// Events that nobody has subscribed to, so that what is measured is their way into the log.
async fn publish(context: &Context, on: On, events: u64) -> Result<Row> {
    let pipeline = Pipeline::start(context, on).await?;
    let published = async {
        let driver = Driver::new(
            pipeline.launch.api,
            &pipeline.key,
            Template::new(context.payload),
            Arc::new(Ledger::default()),
        )?;
        driver.post(0..WARM_UP, PUBLISHERS).await?;
        let begun = Instant::now();
        let posted = driver.post(WARM_UP..WARM_UP + events, PUBLISHERS).await?;
        let seconds = begun.elapsed().as_secs_f64();
        let log = if on == On::Files { "embedded" } else { "Kafka" };
        let mut row = Row::new(format!("events posted, {log} log"));
        row.per_second = Some(posted.accepted as f64 / seconds);
        row.note(format!(
            "{PUBLISHERS} connections; consumed meanwhile, by no target"
        ));
        if let Some(trouble) = posted.trouble() {
            row.note(trouble);
        }
        row.at_least("events/s", row.per_second, PUBLISHED);
        anyhow::Ok(row)
    }
    .await;
    pipeline.end().await?;
    published
}

async fn catalog(context: &Context, on: On, rate: f64, seconds: f64) -> Result<Row> {
    let pipeline = Pipeline::start(context, on).await?;
    let measured = changes(context, &pipeline, rate, seconds).await;
    pipeline.end().await?;
    let (times, missing) = measured?;
    let database = if on == On::Files { "SQLite" } else { "Postgres" };
    let mut row = Row::new(format!("catalog, {database}, {rate} requests/s"));
    row.per_second = Some(times.len() as f64 / seconds);
    row.sent_p50_ms = percentile_ms(&times, 0.5);
    row.sent_p99_ms = percentile_ms(&times, 0.99);
    row.lost = Some(missing);
    row.note(format!(
        "a fifth each of POST, GET, PATCH, list and DELETE of filters, from the moment each was due; {DELIVERIES} deliveries/s meanwhile"
    ));
    row.at_most("p99 ms", row.sent_p99_ms, CATALOG_MS);
    Ok(row)
}

/// How long each request took, ascending, and how many deliveries are missing.
async fn changes(context: &Context, pipeline: &Pipeline, rate: f64, seconds: f64) -> Result<(Vec<u64>, u64)> {
    let (api, key) = (pipeline.launch.api, pipeline.key.as_str());
    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    let driver = Driver::new(api, key, Template::new(context.payload), ledger.clone())?;
    subscribe(api, key, &sink, 1).await?;
    let first = probe(&driver, &ledger, 0, 1).await?;
    let first = warm_up(&driver, &ledger, first, WARM_UP, 1, DRIVERS).await?;
    let seqs = first..first + (DELIVERIES * seconds) as u64;

    let mut clients = JoinSet::new();
    let requests = (rate * seconds) as u32;
    let start = tokio::time::Instant::now();
    for place in 0..CLIENTS as u32 {
        let client = Client {
            sender: connect(api).await?,
            host: api.to_string(),
            authorization: format!("Bearer {key}"),
        };
        let every = Duration::from_secs_f64(1.0 / rate);
        let turns = (place..requests).step_by(CLIENTS).map(move |n| start + every * n);
        clients.spawn(client.work(turns));
    }
    driver.post_paced(seqs.clone(), DELIVERIES, DRIVERS).await?;
    let mut times = Vec::new();
    while let Some(client) = clients.join_next().await {
        times.extend(client??);
    }
    times.sort_unstable();
    Ok((times, ledger.wait(seqs, 1, PATIENCE).await))
}

/// Somebody who changes filters.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    host: String,
    authorization: String,
}

impl Client {
    /// Makes, reads, changes, lists and deletes filters, a request at each of these moments. Nanoseconds from each
    /// moment to the whole answer.
    async fn work(mut self, turns: impl Iterator<Item = tokio::time::Instant>) -> Result<Vec<u64>> {
        let filters = "/v1/webhooks/filters";
        let (mut times, mut own) = (Vec::new(), String::new());
        for (turn, due) in turns.enumerate() {
            tokio::time::sleep_until(due).await;
            let body = json!({"name": format!("filter {turn}"), "events": ["a.b.*"]});
            let answer = match turn % 5 {
                0 => {
                    let made = self.ask(Method::POST, filters, Some(&body)).await?;
                    own = format!("{filters}/{}", made["id"]);
                    made
                }
                1 => self.ask(Method::GET, &own, None).await?,
                2 => {
                    self.ask(Method::PATCH, &own, Some(&json!({"name": "other"})))
                        .await?
                }
                3 => {
                    self.ask(Method::GET, &format!("{filters}?limit=20"), None)
                        .await?
                }
                _ => self.ask(Method::DELETE, &own, None).await?,
            };
            drop(answer);
            times.push(u64::try_from(due.elapsed().as_nanos()).unwrap_or(u64::MAX));
        }
        Ok(times)
    }

    async fn ask(&mut self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host)
            .header("authorization", &self.authorization)
            .header("content-type", "application/json")
            .body(Full::from(
                body.map(Value::to_string).unwrap_or_default().into_bytes(),
            ))?;
        self.sender.ready().await?;
        let answer = self
            .sender
            .send_request(request)
            .await
            .with_context(|| what.clone())?;
        let status = answer.status();
        let answer = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            bail!("{what}: {status}: {}", String::from_utf8_lossy(&answer));
        }
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer).with_context(|| what)
    }
}
