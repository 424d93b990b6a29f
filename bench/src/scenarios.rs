//! The scenarios, and what they share.

pub mod api;
pub mod backlog;
pub mod consumer_alone;
pub mod crash;
pub mod decode;
pub mod distributed;
pub mod drain;
pub mod embedded;
pub mod hanging;
pub mod history;
pub mod idle;
pub mod intake;
pub mod isolation;
pub mod matching;
pub mod null_queue;
pub mod pipeline;
pub mod quiet;
pub mod raw_http;
pub mod raw_sqs;
pub mod replay;
pub mod restart;
pub mod sending;
pub mod waiting;

use crate::driver::Driver;
use crate::http::post;
use crate::ledger::Ledger;
use crate::payload::{EVENT_PATTERN, Template};
use crate::proc::Proc;
use crate::product::{Launch, Product};
use crate::report::Row;
use crate::sink::Sink;
use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// How long nothing may arrive before what is missing counts as lost: longer than the first retries
/// of a delivery and than the visibility of a message whose dispatcher was killed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Events that are posted and delivered before anything is measured.
pub const WARM_UP: u64 = 2_000;

/// How many events may be tried until a new subscription is seen.
const PROBES: u64 = 150;

/// How long each of them may take.
const PROBE_WAIT: Duration = Duration::from_millis(200);

/// What every scenario is told.
#[derive(Clone, Debug)]
pub struct Context {
    /// The product's binary.
    pub binary: PathBuf,
    /// Where data folders are made; on a real disk, or durability costs nothing.
    pub work: PathBuf,
    /// Bytes of a payload.
    pub payload: usize,
    /// Configuration of the product, `key=value`.
    pub settings: Vec<String>,
    /// Deliveries per second of the bare loop in the same run, where it ran.
    pub limit: Option<f64>,
}

impl Context {
    /// A folder of one's own, removed when dropped.
    pub fn folder(&self) -> Result<TempDir> {
        std::fs::create_dir_all(&self.work).with_context(|| self.work.display().to_string())?;
        let work = self.work.canonicalize()?;
        Ok(tempfile::Builder::new().prefix("run-").tempdir_in(work)?)
    }
}

/// A running `hookwright dev`, a sink subscribed to it, and a driver for it.
pub struct Embedded {
    /// The product.
    pub product: Product,
    /// How it was started.
    pub launch: Launch,
    /// The sink.
    pub sink: Sink,
    /// The account.
    pub ledger: Arc<Ledger>,
    /// The driver.
    pub driver: Driver,
    /// The number of the first event nobody has posted yet.
    pub first: u64,
    /// Removed last, after the product has ended.
    pub folder: TempDir,
}

impl Embedded {
    /// Starts all of it, with `fanout` targets subscribed to every event.
    pub async fn start(context: &Context, fanout: usize) -> Result<Self> {
        let folder = context.folder()?;
        let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
        // Fixed here, so that a role started by itself on the same data can read it too.
        launch.set("secrets.key", &random_key());
        let product = launch.dev().await?;
        let ledger = Arc::new(Ledger::default());
        let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
        let key = launch.dev_key()?;
        subscribe(launch.api, &key, &sink, fanout).await?;
        let template = Template::new(context.payload);
        let driver = Driver::new(launch.api, &key, template, ledger.clone())?;
        let first = probe(&driver, &ledger, 0, fanout).await?;
        Ok(Self {
            product,
            launch,
            sink,
            ledger,
            driver,
            first,
            folder,
        })
    }

    /// Posts events that are not measured, and waits for them. The number of the next event.
    pub async fn warm_up(&self, fanout: usize, connections: usize) -> Result<u64> {
        warm_up(
            &self.driver,
            &self.ledger,
            self.first,
            WARM_UP,
            fanout,
            connections,
        )
        .await
    }
}

/// Posts `count` events from number `first` that are not measured, and waits for them. The number of
/// the next event.
pub async fn warm_up(
    driver: &Driver,
    ledger: &Ledger,
    first: u64,
    count: u64,
    fanout: usize,
    connections: usize,
) -> Result<u64> {
    let seqs = first..first + count;
    let posted = driver.post(seqs.clone(), connections).await?;
    let missing = ledger.wait(seqs.clone(), fanout, PATIENCE).await;
    if posted.accepted == 0 || missing > 0 {
        bail!(
            "warm-up: {} of {count} events accepted ({}), {missing} deliveries missing",
            posted.accepted,
            posted.trouble().unwrap_or_else(|| "no trouble".to_owned())
        );
    }
    Ok(seqs.end)
}

/// Posts one event after the other, from number `first` on, until one reaches all targets: a new subscription may take a moment
/// to be seen everywhere, and events before it have nobody to go to. The number of the next event.
pub async fn probe(driver: &Driver, ledger: &Ledger, first: u64, fanout: usize) -> Result<u64> {
    for seq in first..first + PROBES {
        let posted = driver.post(seq..seq + 1, 1).await?;
        if let Some(trouble) = posted.trouble() {
            bail!("the first event: {trouble}");
        }
        if ledger.wait(seq..seq + 1, fanout, PROBE_WAIT).await == 0 {
            return Ok(seq + 1);
        }
    }
    bail!(
        "no event reached all {fanout} targets within {} s of the subscription",
        (PROBE_WAIT * PROBES as u32).as_secs()
    )
}

/// Creates an endpoint for each of the sink's first `fanout` targets.
pub async fn subscribe(api: SocketAddr, key: &str, sink: &Sink, fanout: usize) -> Result<()> {
    for index in 0..fanout {
        endpoint(api, key, sink, index).await?;
    }
    Ok(())
}

/// Creates an endpoint for one of the sink's targets.
pub async fn endpoint(api: SocketAddr, key: &str, sink: &Sink, index: usize) -> Result<()> {
    let endpoint = json!({ "url": sink.url(index), "events": [EVENT_PATTERN] });
    let made = post(api, "/v1/webhooks/endpoints", key, &endpoint).await?;
    let secret = made["secret"]
        .as_str()
        .context("a new endpoint came without its secret")?;
    sink.verify(index, secret)
}

/// Processor time and peak memory between two moments.
pub struct Meter {
    product: Proc,
    product_cpu: f64,
    bench_cpu: f64,
}

impl Meter {
    /// Starts measuring, once what came before has settled.
    pub async fn start(product: &Proc) -> Result<Self> {
        let product_cpu = settle(product).await?;
        product.reset_peak();
        Ok(Self {
            product: product.clone(),
            product_cpu,
            bench_cpu: Proc::own().cpu_seconds()?,
        })
    }

    /// Measures a process that has only just started: all it has used.
    pub fn of_new(product: &Proc) -> Self {
        Self {
            product: product.clone(),
            product_cpu: 0.0,
            bench_cpu: 0.0,
        }
    }

    /// Writes into `row` what `deliveries` cost: also what the product still did after the last one.
    pub async fn finish(self, deliveries: u64, row: &mut Row) -> Result<()> {
        let bench = Proc::own().cpu_seconds()? - self.bench_cpu;
        let product = settle(&self.product).await? - self.product_cpu;
        let thousands = deliveries as f64 / 1000.0;
        row.cpu_per_1000 = Some(product / thousands);
        row.bench_cpu_per_1000 = Some(bench / thousands);
        row.peak_mb = Some(megabytes(self.product.peak_resident()?));
        Ok(())
    }
}

/// Waits until the process has used almost no processor time for a while; the time used by then.
async fn settle(process: &Proc) -> Result<f64> {
    let mut cpu = process.cpu_seconds()?;
    for _ in 0..20 {
        // Whether another process still works is seen only by looking twice.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = process.cpu_seconds()?;
        if now - cpu < 0.025 {
            return Ok(now);
        }
        cpu = now;
    }
    Ok(cpu)
}

/// Fills rate, latencies, losses and duplicates of `seqs` to `fanout` targets; `missing` as
/// [`Ledger::wait`] gave it.
pub fn account(
    row: &mut Row,
    ledger: &Ledger,
    sink: &Sink,
    seqs: Range<u64>,
    missing: u64,
    duplicated_before: u64,
) -> Result<u64> {
    let latencies = ledger.latencies(seqs.clone());
    let deliveries = latencies.from_sent.len() as u64;
    if let (Some(from), Some((_, to))) = (ledger.first_sent(seqs.clone()), ledger.received_between(seqs)) {
        row.per_second = Some(deliveries as f64 / (to.saturating_sub(from) as f64 / 1e9));
    }
    row.latencies(&latencies);
    row.lost = Some(missing);
    let totals = ledger.totals();
    row.duplicated = Some(totals.duplicated - duplicated_before);
    if totals.strangers > 0 {
        row.note(format!(
            "{} requests that were no events of ours",
            totals.strangers
        ));
    }
    check_signatures(row, sink)?;
    Ok(deliveries)
}

/// Notes how many signatures were checked.
///
/// # Errors
/// When one was wrong.
pub fn check_signatures(row: &mut Row, sink: &Sink) -> Result<()> {
    let counts = sink.signature_counts();
    if counts.wrong > 0 {
        bail!(
            "{} of {} signatures checked were missing or wrong",
            counts.wrong,
            counts.checked
        );
    }
    row.note(format!("{} signatures checked, all right", counts.checked));
    Ok(())
}

/// Bytes as 10^6 bytes.
pub fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// 32 random bytes in base64: a key for one run.
pub fn random_key() -> String {
    use base64::Engine as _;
    use ring::rand::{SecureRandom as _, SystemRandom};
    let mut key = [0_u8; 32];
    // Unwrap safety: without the system's randomness nothing here could be started anyway, and a key
    // of zeros guards nothing but this run's own data.
    let _ = SystemRandom::new().fill(&mut key);
    base64::engine::general_purpose::STANDARD.encode(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::tests::{api, driver};
    use crate::ledger::now_ns;

    #[tokio::test]
    async fn events_before_the_subscription_is_seen_are_not_waited_for() {
        let (api, _) = api(|_| 202).await;
        let (driver, ledger) = driver(api);
        // Only the third event finds a subscription.
        let delivers = tokio::spawn({
            let ledger = ledger.clone();
            async move {
                while ledger.accepted_count() < 3 {
                    tokio::task::yield_now().await;
                }
                ledger.received(0, Some(2), now_ns());
            }
        });
        assert_eq!(probe(&driver, &ledger, 0, 1).await.unwrap(), 3);
        delivers.await.unwrap();
    }

    #[tokio::test]
    async fn an_api_that_refuses_events_is_not_tried_again() {
        let (api, asked) = api(|_| 401).await;
        let (driver, ledger) = driver(api);
        let error = probe(&driver, &ledger, 0, 1).await.unwrap_err();
        assert!(error.to_string().contains("1 answered 401"), "{error}");
        assert_eq!(asked.lock().unwrap().len(), 1);
    }
}
