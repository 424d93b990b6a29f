//! The consumer's latency when little happens: from a record written to its message received, beside what the
//! broker and the queue take by themselves, at the same pace in the same run.

use super::{Context, raw_sqs};
use crate::ledger::{Ledger, now_ns, percentile_ms};
use crate::payload::{Template, seq_of};
use crate::product::Launch;
use crate::report::Row;
use crate::subscribers;
use crate::world::World;
use anyhow::{Context as _, Result, bail};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// Whose events they are.
const TENANT: &str = "bench";
/// Records sent before any is measured, of each part.
const WARM: u64 = 20;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What is asked for, in ms.
const WANTED: f64 = 25.0;

/// Three rows: the broker by itself, the queue by itself, and the consumer between them.
pub async fn run(context: &Context, rate: f64, seconds: f64) -> Result<Vec<Row>> {
    let world = World::from_env().await?;
    world.create_database().await?;
    let rows = measure(context, &world, rate, (rate * seconds) as u64).await;
    for left in world.clean_up().await {
        eprintln!("could not remove {left}");
    }
    rows
}

async fn measure(context: &Context, world: &World, rate: f64, count: u64) -> Result<Vec<Row>> {
    let catalog = subscribers::open(&world.database_url, &world.secrets_key).await?;
    subscribers::fill(catalog.pool(), &[(TENANT, 1)]).await?;
    catalog.pool().close().await;
    let folder = context.folder()?;
    let mut launch = Launch::new(&context.binary, folder.path(), &context.settings)?;
    launch.set("secrets.key", &world.secrets_key);
    std::fs::write(
        folder.path().join("hookwright.toml"),
        world.config(folder.path(), TENANT, 1)?,
    )?;
    launch.run(&["provision"]).await?;
    let pace = Pace {
        ledger: Arc::default(),
        template: Template::new(context.payload),
        every: Duration::from_secs_f64(1.0 / rate),
        count: count + WARM,
    };
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", &world.brokers)
        .set("acks", "all")
        .set("linger.ms", "0")
        .create()?;
    let topic = world.topics()[0].clone();
    let url = world.queue_url("dispatch").await?;

    let reading = read(world, &topic, pace.ledger.clone())?;
    let broker = pace
        .run(0, async |seq| {
            produce(&producer, &topic, pace.template.avro_v1(seq, now_ns())).await
        })
        .await;
    reading.stop();
    let mut broker = broker?.row("the broker by itself", rate);

    let receiving = tokio::spawn(receive(world.clone(), url.clone(), pace.ledger.clone()));
    let (first, second) = (pace.count, 2 * pace.count);
    let queue = pace
        .run(first, async |seq| {
            let body = String::from_utf8(pace.template.payload(seq, now_ns()))?;
            let batch = world.sqs.send_message_batch().queue_url(&url);
            let sent = batch.entries(raw_sqs::entry("0", &body)?).send().await;
            sent.map_err(aws_sdk_sqs::Error::from)?;
            Ok(())
        })
        .await?;
    let mut queue = queue.row("the queue by itself", rate);

    let product = launch.start(&["consumer"]).await?;
    let whole = pace
        .run(second, async |seq| {
            produce(&producer, &topic, pace.template.avro_v1(seq, now_ns())).await
        })
        .await;
    receiving.abort();
    product.stop().await?;
    let mut whole = whole?.row("record to message", rate);

    let own = |row: &Row| row.sent_p50_ms.zip(row.sent_p99_ms);
    let ((broker_50, broker_99), (queue_50, queue_99), (_, whole_99)) = own(&broker)
        .zip(own(&queue))
        .zip(own(&whole))
        .map(|((broker, queue), whole)| (broker, queue, whole))
        .context("nothing was measured")?;
    // Medians are the least that broker and queue could have taken of the slowest records.
    whole.at_most(
        "ms, p99 above their medians",
        Some(whole_99 - broker_50 - queue_50),
        WANTED,
    );
    whole.note(format!(
        "p99 is {:.1} ms above the sum of the p99 of broker and queue",
        whole_99 - broker_99 - queue_99
    ));
    for row in [&mut broker, &mut queue, &mut whole] {
        row.note("from the beginning of the send to the end of the receive, in the columns `sent`");
    }
    Ok(vec![broker, queue, whole])
}

/// Sends one after the other at a pace.
struct Pace {
    ledger: Arc<Ledger>,
    template: Template,
    every: Duration,
    count: u64,
}

/// Ascending nanoseconds.
struct Times(Vec<u64>);

impl Times {
    fn row(&self, name: &str, rate: f64) -> Row {
        let mut row = Row::new(format!("quiet, {name}"));
        row.per_second = Some(rate);
        row.sent_p50_ms = percentile_ms(&self.0, 0.5);
        row.sent_p99_ms = percentile_ms(&self.0, 0.99);
        row
    }
}

impl Pace {
    /// Sends from number `first`, and waits for all; what those took that count.
    async fn run(&self, first: u64, send: impl AsyncFn(u64) -> Result<()>) -> Result<Times> {
        let seqs = first..first + self.count;
        // One alone: until it has come, what reads has not begun.
        self.one(first, &send).await?;
        self.wait(first..first + 1).await?;
        let mut ticks = interval_at(Instant::now() + self.every, self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for seq in first + 1..seqs.end {
            ticks.tick().await;
            self.one(seq, &send).await?;
        }
        self.wait(seqs.clone()).await?;
        Ok(Times(self.ledger.latencies(first + WARM..seqs.end).from_sent))
    }

    async fn one(&self, seq: u64, send: &impl AsyncFn(u64) -> Result<()>) -> Result<()> {
        self.ledger.sent(seq, now_ns());
        send(seq).await?;
        self.ledger.accepted(seq, now_ns());
        Ok(())
    }

    async fn wait(&self, seqs: Range<u64>) -> Result<()> {
        match self.ledger.wait(seqs, 1, PATIENCE).await {
            0 => Ok(()),
            missing => bail!("{missing} did not come"),
        }
    }
}

async fn produce(producer: &FutureProducer, topic: &str, value: Vec<u8>) -> Result<()> {
    let record = FutureRecord::<(), _>::to(topic).payload(&value).partition(0);
    let sent = producer.send(record, PATIENCE).await;
    sent.map_err(|(error, _)| error)?;
    Ok(())
}

/// A thread that reads a topic.
struct Reading {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Reading {
    fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        // A panic in it has been printed, and is seen by what did not come.
        let _ = self.thread.join();
    }
}

/// A plain reader that notes what comes.
fn read(world: &World, topic: &str, ledger: Arc<Ledger>) -> Result<Reading> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", &world.brokers)
        .set("group.id", format!("{}-bare", world.name))
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.commit", "false")
        .create()?;
    let mut place = rdkafka::TopicPartitionList::new();
    place.add_partition_offset(topic, 0, rdkafka::Offset::Beginning)?;
    consumer.assign(&place)?;
    let stop = Arc::new(AtomicBool::new(false));
    let thread = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(Ok(message)) = consumer.poll(Duration::from_millis(100)) {
                    ledger.received(0, message.payload().and_then(number), now_ns());
                }
            }
        }
    });
    Ok(Reading { stop, thread })
}

/// The event that a v1 record holds.
fn number(datum: &[u8]) -> Option<u64> {
    let payload = datum.windows(7).position(|seven| seven == b"{\"seq\":")?;
    seq_of(&datum[payload..])
}

/// Receives and deletes until it is aborted, and notes what came.
async fn receive(world: World, url: String, ledger: Arc<Ledger>) {
    loop {
        let receive = world.sqs.receive_message().queue_url(&url);
        let answer = receive
            .max_number_of_messages(10)
            .wait_time_seconds(5)
            .send()
            .await;
        let now = now_ns();
        for message in answer.ok().and_then(|answer| answer.messages).unwrap_or_default() {
            ledger.received(0, message.body().and_then(|body| seq_of(body.as_bytes())), now);
            let handle = message.receipt_handle.unwrap_or_default();
            let delete = world.sqs.delete_message().queue_url(&url).receipt_handle(handle);
            // It would be seen again, and counts once.
            let _ = delete.send().await;
        }
    }
}
