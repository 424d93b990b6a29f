//! Consumers that come, go, die and stand still at random while records flow, a broker that dies, and SQS
//! and S3 that fail: every record's deliveries come to the queue, and no more of them twice than were under way.
//!
//! `cargo test` has it run for some seconds, `make soak` for minutes. The seed is printed; with it the same
//! things happen at the same moments.

mod cuts;
mod flow;
mod front;

use crate::load::{Moments, moments};
use crate::own::Own;
use crate::product::{Product, Setup};
use crate::world::World;
use crate::{eventually, secs};
use cuts::Cuts;
use flow::{Flow, PARTITIONS};
use front::{Front, Sent, Weather};
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// Longer than the session of a member (see `World`): one that stands still for so long is given up.
const STANDSTILL: Duration = secs(4);
/// The most consumers at once.
const MOST: usize = 3;
/// Targets that want every record.
const TARGETS: usize = 2;

/// How long, how much.
struct Size {
    records: usize,
    during: Duration,
    outage: Duration,
}

fn size() -> Size {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("HOOKWRIGHT_SOAK_SECONDS");
    let records = number("HOOKWRIGHT_SOAK_RECORDS").unwrap_or(1_400);
    Size {
        records: usize::try_from(records).expect("fits"),
        during: secs(seconds.unwrap_or(7)),
        // A minute in five.
        outage: seconds.map_or(secs(2), |seconds| secs(seconds / 5)),
    }
}

/// A consumer, and the front it sends through.
struct Member {
    product: Product,
    front: Front,
    _setup: Setup,
}

struct Soak {
    world: World,
    weather: Arc<Weather>,
    members: Vec<Member>,
    /// The fronts of those that are no more.
    past: Vec<(usize, Front)>,
    started: usize,
    numbers: Vec<usize>,
    cuts: Cuts,
    flow: Flow,
    began: Instant,
    /// What was done when, to which front's consumer.
    story: Vec<String>,
    /// What the consumers that are no more have warned of.
    warned: Vec<String>,
}

impl Soak {
    fn setup(&self, front: Option<&Front>) -> Setup {
        let setup = self
            .world
            .setup()
            .set("kafka.partitions", &PARTITIONS.to_string())
            .set("payloads.inline_limit", "1KiB");
        match front {
            None => setup,
            Some(front) => setup
                .env("AWS_ENDPOINT_URL_SQS", &front.url())
                .env("AWS_ENDPOINT_URL_S3", &front.url()),
        }
    }

    fn tell(&mut self, what: &str, front: usize) {
        self.story.push(format!(
            "{:.1} s {what} {front}",
            self.began.elapsed().as_secs_f64()
        ));
    }

    /// Keeps what a consumer has warned of.
    fn keep(&mut self, front: usize, log: &str) {
        let warnings = log
            .lines()
            .filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        self.warned
            .extend(warnings.map(|line| format!("{front}: {line}")));
        self.cuts.read(front, log);
    }

    async fn start(&mut self) {
        self.tell("start", self.started);
        let front = Front::start(&self.world.sqs, &self.world.sqs, self.weather.clone()).await;
        let setup = self.setup(Some(&front));
        let product = self.world.start(&setup, "consumer").await;
        self.members.push(Member {
            product,
            front,
            _setup: setup,
        });
        self.numbers.push(self.started);
        self.started += 1;
    }

    async fn committed(&self) -> HashMap<i32, i64> {
        let at = Instant::now();
        let topic = self.world.topic("events");
        let committed = self.world.kafka.committed(self.world.group(), &topic).await;
        self.cuts.stand(at, &committed, self.flow.ends());
        committed
    }

    async fn stop(&mut self, place: usize) {
        let (mut member, number) = (self.members.remove(place), self.numbers.remove(place));
        self.tell("stop", number);
        member.product.terminate();
        let status = member.product.ended().await;
        self.tell("stopped", number);
        self.committed().await;
        self.keep(number, &member.product.stderr());
        assert_eq!(
            status.code(),
            Some(0),
            "consumer {number} ended badly: {:#?}",
            self.warned
        );
        self.past.push((number, member.front));
    }

    async fn kill(&mut self, place: usize) {
        let (mut member, number) = (self.members.remove(place), self.numbers.remove(place));
        self.tell("kill", number);
        member.product.kill().await;
        // Nobody has its partitions before its session is over.
        let committed = self.committed().await;
        self.cuts.killed(number, committed);
        self.keep(number, &member.product.stderr());
        self.past.push((number, member.front));
    }

    async fn stand_still(&mut self, place: usize, long: Duration) {
        self.tell("stand still", self.numbers[place]);
        let committed = self.committed().await;
        self.members[place].product.pause();
        tokio::time::sleep(long).await;
        self.cuts.mended(self.numbers[place], committed, self.flow.ends());
        self.members[place].product.resume();
    }

    /// SQS is away: what was not sent is under way, and partitions may be taken away meanwhile.
    async fn outage(&mut self, long: Duration) {
        self.tell("SQS is away", 0);
        let committed = self.committed().await;
        self.weather.outage.store(true, Ordering::Relaxed);
        tokio::time::sleep(long).await;
        self.weather.outage.store(false, Ordering::Relaxed);
        self.cut_all(&committed);
    }

    /// The broker dies and comes back: what it has not heard of is under way.
    async fn restart(&mut self, broker: &Own) {
        self.tell("the broker dies", 0);
        let committed = self.committed().await;
        broker.kill().await;
        broker.up().await;
        self.tell("the broker is back", 0);
        self.cut_all(&committed);
    }

    fn cut_all(&mut self, committed: &HashMap<i32, i64>) {
        for front in &self.numbers {
            self.cuts.mended(*front, committed.clone(), self.flow.ends());
        }
    }

    async fn act(&mut self, moments: &mut Moments) {
        let draw = moments.between(0, 100).as_millis();
        let place =
            usize::try_from(moments.between(0, 1_000).as_millis()).expect("fits") % self.members.len().max(1);
        match draw {
            _ if self.members.len() < 2 => self.start().await,
            0..30 if self.members.len() < MOST => self.start().await,
            0..45 => self.stop(place).await,
            45..85 => self.kill(place).await,
            _ => self.stand_still(place, STANDSTILL).await,
        }
    }

    fn fronts(&self) -> HashMap<usize, Vec<(Instant, Sent)>> {
        let living = self.numbers.iter().zip(&self.members);
        let living = living.map(|(number, member)| (*number, member.front.sent()));
        let past = self.past.iter().map(|(number, front)| (*number, front.sent()));
        living.chain(past).collect()
    }

    /// How often each delivery was sent.
    fn counts(&self) -> HashMap<Sent, usize> {
        let mut counts = HashMap::new();
        for (_, sent) in self.fronts().into_values().flatten() {
            *counts.entry(sent).or_default() += 1;
        }
        counts
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_becomes_of_consumers_every_record_is_sent_and_few_twice() {
    let size = size();
    let broker = Own::start("kafka").await;
    let world = World::on(&broker.variable("WORLD_KAFKA_BROKERS")).await;
    let topic = world.topic("events");
    let mut soak = {
        let flow = Flow::start(world.kafka.clone(), topic.clone(), 0, Duration::ZERO);
        Soak {
            world,
            weather: Arc::default(),
            members: Vec::new(),
            past: Vec::new(),
            started: 0,
            numbers: Vec::new(),
            cuts: Cuts::default(),
            flow,
            began: Instant::now(),
            story: Vec::new(),
            warned: Vec::new(),
        }
    };
    let setup = soak.setup(None);
    soak.world.provision(&setup).await;
    let api = soak.world.start(&setup, "api").await;
    for target in 0..TARGETS {
        let url = format!("http://127.0.0.1:9/{target}");
        api.post("/webhooks/endpoints", json!({"url": url, "events": ["load.*"]}))
            .await
            .expect(201);
    }
    api.stop().await;

    soak.start().await;
    soak.flow = Flow::start(soak.world.kafka.clone(), topic, size.records, size.during);
    let (mut moments, began) = (moments(), Instant::now());
    let (mut has_died, mut was_away) = (false, false);
    soak.began = began;
    while began.elapsed() < size.during {
        if !has_died && began.elapsed() > size.during / 5 {
            has_died = true;
            soak.restart(&broker).await;
        }
        if !was_away && began.elapsed() > size.during / 2 {
            was_away = true;
            soak.outage(size.outage).await;
        }
        soak.act(&mut moments).await;
        // Some moments are in the middle of a rebalance, some are not.
        tokio::time::sleep(moments.between(100, 1_200)).await;
    }
    soak.flow.done(size.during).await;
    if soak.members.is_empty() {
        soak.start().await;
    }

    let ends = soak.flow.ends();
    assert_eq!(
        ends.iter().sum::<i64>(),
        i64::try_from(size.records).expect("fits")
    );
    eventually(
        secs(60) + size.during / 2,
        "all are sent and committed",
        async || {
            let committed = soak.committed().await;
            let all = ends
                .iter()
                .zip(0..)
                .all(|(end, partition)| committed.get(&partition) == Some(end));
            all.then_some(())
        },
    )
    .await;
    while !soak.members.is_empty() {
        soak.stop(0).await;
    }
    let counts = soak.counts();
    let sent: HashSet<(i32, i64)> = counts.keys().map(|sent| (sent.0, sent.1)).collect();
    assert_eq!(
        sent.len(),
        size.records,
        "records with a delivery: {:?}",
        soak.story
    );
    assert_eq!(
        counts.len(),
        size.records * TARGETS,
        "deliveries: {:?}",
        soak.story
    );
    let under_way = soak.cuts.under_way(&soak.fronts());
    let (mut again, mut unexplained) = (0, Vec::new());
    for (sent, count) in &counts {
        again += count - 1;
        if count - 1 > under_way.get(sent).copied().unwrap_or(0) {
            unexplained.push((*sent, *count));
        }
    }
    if let Some((sent, _)) = unexplained.first() {
        for (front, sendings) in soak.fronts() {
            for (at, _) in sendings.iter().filter(|(_, other)| other == sent) {
                let at = at.duration_since(soak.began).as_secs_f64();
                eprintln!("{sent:?} was sent through {front} at {at:.1} s");
            }
        }
        eprintln!("{}\n{}", soak.story.join("\n"), soak.warned.join("\n"));
    }
    eprintln!(
        "{} deliveries, {again} again; {} were under way at a cut; {} unexplained",
        counts.len(),
        under_way.len(),
        unexplained.len(),
    );
    assert!(
        unexplained.is_empty(),
        "{} came again and were not under way, such as {:?}",
        unexplained.len(),
        &unexplained[..unexplained.len().min(20)],
    );
}
