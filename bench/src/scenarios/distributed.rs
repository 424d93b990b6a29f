//! The distributed pipeline over Kafka, SQS, S3 and Postgres: as a whole, and its two busiest roles
//! alone, each beside the bare loop on the same queue.

use super::{
    Context, Meter, PATIENCE, WARM_UP, account, consumer_alone, probe, random_key, raw_sqs, subscribe,
    warm_up,
};
use crate::driver::Driver;
use crate::ledger::Ledger;
use crate::payload::Template;
use crate::product::Launch;
use crate::report::{Row, middle};
use crate::sink::Sink;
use crate::world::World;
use anyhow::{Context as _, Result};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

/// The tenant everything belongs to.
const TENANT: &str = "bench";

/// Partitions of its topics: what a topic is created with by default.
const PARTITIONS: u32 = 12;

/// How many events each part takes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Posted through the whole pipeline, as fast as they are taken.
    pub whole: u64,
    /// Put into the log for the consumer, then left in the queue for the dispatcher.
    pub alone: u64,
    /// Events per second of the paced part, which lasts 10 s.
    pub rate: f64,
    /// How often consumer and dispatcher alone, between the bare loops.
    pub rounds: u32,
}

/// All rows: the limits of the queue, the whole pipeline at full speed and paced, consumer, dispatcher.
pub async fn run(context: &Context, sizes: Sizes, connections: usize) -> Result<Vec<Row>> {
    let world = World::from_env().await?;
    world.create_database().await?;
    let rows = measure(context, &world, sizes, connections).await;
    for left in world.clean_up().await {
        eprintln!("could not remove {left}");
    }
    rows
}

async fn measure(context: &Context, world: &World, sizes: Sizes, connections: usize) -> Result<Vec<Row>> {
    let folder = context.folder()?;
    let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
    launch.set("secrets.key", &world.secrets_key);
    launch.set("api.admin_key", &random_key());
    std::fs::write(
        folder.path().join("hookwright.toml"),
        world.config(folder.path(), TENANT, PARTITIONS)?,
    )?;
    launch.run(&["provision"]).await?;
    launch.run(&["tenants", "create", TENANT]).await?;
    let printed = launch.run(&["keys", "create", "--tenant", TENANT]).await?;
    let key = find_key(&printed).context("`hookwright keys create` printed no key")?;

    let ledger = Arc::new(Ledger::default());
    let sink = Sink::start(SocketAddr::from(([127, 0, 0, 1], 0)), ledger.clone()).await?;
    let template = Template::new(context.payload);
    let driver = Driver::new(launch.api, key, template.clone(), ledger.clone())?;
    let parts = Parts {
        world,
        launch,
        ledger,
        sink,
        driver,
        template,
    };

    let mut rows = Vec::new();
    let next = parts.whole(key, sizes, connections, &mut rows).await?;
    // Before and after each, since the service has days and minutes of its own.
    let mut limits = vec![raw_sqs::run(context, sizes.alone).await?];
    let mut rounds = Vec::new();
    for round in 0..u64::from(sizes.rounds.max(1)) {
        let first = next + round * sizes.alone;
        let seqs = first..first + sizes.alone;
        let consumer = parts.consumer(seqs.clone()).await?;
        rounds.push([consumer, parts.dispatcher(seqs).await?]);
        limits.push(raw_sqs::run(context, sizes.alone).await?);
    }
    compare(&mut rounds, &limits);
    let (first, after) = limits.split_at(1);
    rows.extend(first.concat());
    for (round, after) in rounds.into_iter().zip(after) {
        rows.extend(round);
        rows.extend(after.clone());
    }
    Ok(rows)
}

/// Holds consumer and dispatcher of each round against the bare loops around it, and the middle of their shares
/// against the bound.
fn compare(rounds: &mut [[Row; 2]], limits: &[[Row; 2]]) {
    for role in 0..2 {
        let mut shares = Vec::new();
        for (round, around) in rounds.iter_mut().zip(limits.windows(2)) {
            let rates = around[0][role].per_second.zip(around[1][role].per_second);
            round[role].compare(rates.map(|(before, after)| f64::midpoint(before, after)));
            shares.extend(round[role].of_limit);
        }
        if let Some(last) = rounds.last_mut() {
            last[role].at_least("share of the bare loop", Some(middle(&shares)), 0.9);
        }
    }
    if let Some([consumer, dispatcher]) = rounds.last_mut() {
        consumer.at_most("SQS requests per 1,000", consumer.sqs_per_1000, 110.0);
        dispatcher.at_most("SQS requests per 1,000", dispatcher.sqs_per_1000, 210.0);
    }
}

/// What the parts share.
struct Parts<'a> {
    world: &'a World,
    launch: Launch,
    ledger: Arc<Ledger>,
    sink: Sink,
    driver: Driver,
    template: Template,
}

impl Parts<'_> {
    /// POST to delivery through everything, in one process. The number of the next event.
    async fn whole(&self, key: &str, sizes: Sizes, connections: usize, rows: &mut Vec<Row>) -> Result<u64> {
        let product = self.launch.start(&["all"]).await?;
        subscribe(self.launch.api, key, &self.sink, 1).await?;
        let first = probe(&self.driver, &self.ledger, 0, 1).await?;
        let warm = warm_up(&self.driver, &self.ledger, first, WARM_UP / 4, 1, connections).await?;
        let paced = (sizes.rate * 10.0) as u64;
        let full = warm..warm + sizes.whole;
        let paced = full.end..full.end + paced;
        let next = paced.end;
        for (seqs, rate) in [(full, None), (paced, Some(sizes.rate))] {
            let duplicated = self.ledger.totals().duplicated;
            let requests = product.metric("hookwright_queue_requests_total").await?;
            let meter = Meter::start(product.proc()).await?;
            let posted = match rate {
                None => self.driver.post(seqs.clone(), connections).await?,
                Some(rate) => self.driver.post_paced(seqs.clone(), rate, 16).await?,
            };
            let missing = self.ledger.wait(seqs.clone(), 1, PATIENCE).await;
            let requests = product.metric("hookwright_queue_requests_total").await? - requests;
            let mut row = Row::new(match rate {
                None => "distributed, whole".to_owned(),
                Some(rate) => format!("distributed, {rate} events/s"),
            });
            let deliveries = account(&mut row, &self.ledger, &self.sink, seqs, missing, duplicated)?;
            meter.finish(deliveries, &mut row).await?;
            row.sqs_per_1000 = Some(requests * 1000.0 / deliveries as f64);
            if let Some(trouble) = posted.trouble() {
                row.note(trouble);
            }
            rows.push(row);
        }
        product.stop().await?;
        Ok(next)
    }

    /// The consumer alone: from a full log into the queue.
    async fn consumer(&self, seqs: Range<u64>) -> Result<Row> {
        let wanted = seqs.end - seqs.start;
        let url = self.world.queue_url("dispatch").await?;
        let before = self.world.depth(&url).await?;
        self.world
            .fill_log(seqs, self.template.clone(), self.ledger.clone())
            .await?;
        let mut row = Row::new("distributed, consumer alone");
        consumer_alone::run(&self.launch, wanted, &mut row).await?;
        let held = self.world.depth(&url).await?.saturating_sub(before);
        row.duplicated = Some(held.saturating_sub(wanted));
        row.lost = Some(wanted.saturating_sub(held));
        Ok(row)
    }

    /// The dispatcher alone: from a full queue to the sink.
    async fn dispatcher(&self, seqs: Range<u64>) -> Result<Row> {
        let duplicated = self.ledger.totals().duplicated;
        let product = self.launch.start(&["dispatcher"]).await?;
        let missing = self.ledger.wait(seqs.clone(), 1, PATIENCE).await;
        let requests = product.metric("hookwright_queue_requests_total").await?;
        let mut row = Row::new("distributed, dispatcher alone");
        let deliveries = account(
            &mut row,
            &self.ledger,
            &self.sink,
            seqs.clone(),
            missing,
            duplicated,
        )?;
        row.per_second = self
            .ledger
            .received_between(seqs)
            .map(|(first, last)| deliveries as f64 / (last.saturating_sub(first).max(1) as f64 / 1e9));
        // They waited in the queue for the dispatcher to start.
        (row.p50_ms, row.p99_ms, row.sent_p50_ms, row.sent_p99_ms) = (None, None, None, None);
        row.sqs_per_1000 = Some(requests * 1000.0 / deliveries as f64);
        Meter::of_new(product.proc()).finish(deliveries, &mut row).await?;
        row.bench_cpu_per_1000 = None;
        product.stop().await?;
        Ok(row)
    }
}

/// The API key in what the product printed.
pub(super) fn find_key(printed: &str) -> Option<&str> {
    printed
        .split(|letter: char| letter.is_whitespace() || "\",:".contains(letter))
        .find(|word| word.starts_with("hk_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_text_and_in_json() {
        assert_eq!(find_key("key hk_live_abc (shown once)\n"), Some("hk_live_abc"));
        assert_eq!(find_key(r#"{"key":"hk_live_abc","id":1}"#), Some("hk_live_abc"));
        assert_eq!(find_key("created"), None);
    }
}
