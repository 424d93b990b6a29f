//! Replays on the embedded adapters: what is sent, and what is not.

use bytes::Bytes;
use consumer::Config;
use consumer::config::PayloadPlace;
use consumer::price::Threshold;
use platform::catalog::{Catalog, Change, NewTarget, TargetPatch};
use platform::clock::Clock;
use platform::config::Topic;
use platform::delivery_queue::embedded::EmbeddedQueue;
use platform::delivery_queue::{DeliveryQueue, QueueName};
use platform::event_log::embedded::EmbeddedLog;
use platform::event_log::{EventLog, NewRecord};
use platform::follow::Follower;
use platform::history::History;
use platform::payload_store::embedded::DirectoryStore;
use platform::replays::{LEASE, NewReplay, Replay, ReplayState, Replays, Which};
use platform::report::Reporter;
use platform::secrets::Sealer;
use platform::sqlite::Sync;
use schemas::avro::{WebhookEvent, encode_v2};
use schemas::delivery::{Delivery, DeliveryStatus, Payload, Resend};
use schemas::event::Position;
use schemas::history::{AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{EventId, TargetId, Tenant};
use schemas::rate::{Period, RateLimit};
use schemas::time::Millis;
use schemas::wire;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const START: Millis = Millis(1_795_000_000_000);
const TOPIC: &str = "events";
const HOUR: Duration = Duration::from_secs(3_600);
const PATIENCE: Duration = Duration::from_secs(60);
/// Larger payloads are spilled.
const INLINE: usize = 1_000;

struct World {
    rate: u32,
    clock: Clock,
    log: Arc<EmbeddedLog>,
    queue: Arc<EmbeddedQueue>,
    payloads: Arc<DirectoryStore>,
    catalog: Catalog,
    history: History,
    replays: Replays,
    acme: Tenant,
    target: TargetId,
    shutdown: CancellationToken,
    running: JoinHandle<()>,
    _dir: TempDir,
}

impl World {
    /// A tenant with a target that wants every event, and replays at so many a second.
    async fn start(rate: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::driven(START);
        let url = format!("sqlite:{}", dir.path().join("hookwright.db").display());
        let catalog = Catalog::open(&url, Sealer::random().0, clock.clone())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        let log = Arc::new(EmbeddedLog::open(dir.path(), Sync::Normal, clock.clone(), HOUR).unwrap());
        let queue = Arc::new(EmbeddedQueue::open(dir.path(), Sync::Normal, clock.clone()).unwrap());
        let payloads = Arc::new(DirectoryStore::open(&dir.path().join("payloads"), Sync::Normal).unwrap());
        let (history, replays) = (History::new(&catalog), Replays::new(&catalog));
        let acme = Tenant::new("acme").unwrap();
        catalog.create_tenant(&acme).await.unwrap();
        let new = NewTarget::at("https://a.example/".to_owned());
        let target = catalog.create_target(&acme, new).await.unwrap().0.id;
        let filter = catalog
            .create_filter(&acme, "all".to_owned(), vec!["*".to_owned()])
            .await
            .unwrap();
        catalog
            .create_subscription(&acme, target, filter.id, true)
            .await
            .unwrap();
        let mut world = Self {
            rate,
            clock,
            log,
            queue,
            payloads,
            catalog,
            history,
            replays,
            acme,
            target,
            shutdown: CancellationToken::new(),
            running: tokio::spawn(async {}),
            _dir: dir,
        };
        world.run().await;
        world
    }

    async fn run(&mut self) {
        let config = Config {
            group: "group".to_owned(),
            topics: vec![Topic::raw(TOPIC)],
            dead_letter_topic: "dead".to_owned(),
            max_payload: 1 << 20,
            spill: Threshold {
                limit: INLINE,
                prices: None,
            },
            payload_place: PayloadPlace::Log,
            registry: None,
            poison_share: 1.0,
            in_flight: 1,
            in_flight_bytes: 1,
            match_memory: 1 << 20,
        };
        let (reporter, reporting) = Reporter::new(self.log.clone(), "attempts".to_owned());
        tokio::spawn(reporting);
        let follower = Follower::start(self.catalog.clone(), self.clock.clone()).await;
        let parts = consumer::replay::Parts {
            log: self.log.clone(),
            queue: self.queue.clone(),
            payloads: self.payloads.clone(),
            catalog: follower.unwrap(),
            history: self.history.clone(),
            replays: self.replays.clone(),
            reporter,
            clock: self.clock.clone(),
        };
        let (rate, stop) = (self.rate, self.shutdown.clone());
        self.running = tokio::spawn(async move {
            consumer::replay::run(config, rate, parts, stop).await.unwrap();
        });
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.unwrap();
    }

    /// Ends it where it stands, and starts it again when its leases have run out.
    async fn crash(&mut self) {
        self.running.abort();
        assert!((&mut self.running).await.unwrap_err().is_cancelled());
        self.clock.advance(2 * LEASE);
        self.run().await;
    }

    /// Puts events into the log, each of a tenant, with an id and a payload.
    async fn append(&self, events: &[(&str, String, Bytes)]) -> Vec<Position> {
        let records = events.iter().map(|(tenant, id, payload)| NewRecord {
            value: encode_v2(&WebhookEvent {
                event_type: "orders.created".to_owned(),
                payload: payload.clone(),
                event_id: Some(id.clone()),
                tenant: Some((*tenant).to_owned()),
                ..WebhookEvent::default()
            })
            .into(),
            ..NewRecord::default()
        });
        self.log.append(TOPIC, records.collect()).await.unwrap()
    }

    /// Tells history that a delivery of this event, at this place, ended so.
    async fn ended(&self, id: &str, position: &Position, status: DeliveryStatus, attempts: u32) {
        let event = EventRecord {
            event_id: EventId::new(id).unwrap(),
            tenant: self.acme.clone(),
            event_type: "orders.created".into(),
            accepted_at: START,
            payload_size: 2,
            content_type: "application/json".into(),
            position: position.clone(),
            targets: vec![self.target],
        };
        let attempt = AttemptRecord {
            reason: None,
            event_id: event.event_id.clone(),
            target: self.target,
            tenant: self.acme.clone(),
            event_type: event.event_type.clone(),
            accepted_at: START,
            position: position.clone(),
            status,
            number: attempts,
            attempt: None,
            next_at: None,
            recorded_at: START,
        };
        let records = [HistoryRecord::Event(event), HistoryRecord::Attempt(attempt)];
        self.history.write(&records).await.unwrap();
    }

    async fn begin(&self, which: Which, from: Millis) -> Replay {
        let new = NewReplay {
            target: self.target,
            which,
            delivery: None,
            from,
            to: self.clock.now().plus(HOUR),
        };
        let made = self.replays.create(&self.acme, vec![new]).await;
        made.unwrap().remove(0)
    }

    /// The replay, once it has sent more than so many, or is at its end.
    async fn beyond(&self, replay: &Replay, sent: u64) -> Replay {
        let read = async {
            loop {
                let read = self.replays.get(&self.acme, replay.id).await.unwrap();
                let is_open = matches!(read.state, ReplayState::Waiting | ReplayState::Running);
                if !is_open || read.counts.sent > sent {
                    return read;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("it goes on")
    }

    async fn replay(&self, which: Which, from: Millis) -> Replay {
        let made = self.begin(which, from).await;
        self.beyond(&made, u64::MAX).await
    }

    /// All that is in the dispatch queue.
    async fn sent(&self) -> Vec<Delivery> {
        let mut sent = Vec::new();
        loop {
            let messages = self
                .queue
                .receive(QueueName::Dispatch, 10, Duration::ZERO, HOUR)
                .await;
            let messages = messages.unwrap();
            if messages.is_empty() {
                return sent;
            }
            let decoded = messages
                .into_iter()
                .map(|message| wire::decode(message.body, &message.attribute).unwrap());
            sent.extend(decoded);
        }
    }
}

fn small() -> Bytes {
    Bytes::from_static(b"{}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_goes_on_where_it_was_with_a_new_window_and_its_payload() {
    let world = World::start(1_000).await;
    let large = Bytes::from(vec![b'x'; INLINE + 1]);
    let events = [
        ("acme", "small".to_owned(), small()),
        ("acme", "large".to_owned(), large),
    ];
    let places = world.append(&events).await;
    world
        .ended("small", &places[0], DeliveryStatus::Exhausted, 14)
        .await;
    world
        .ended("large", &places[1], DeliveryStatus::Canceled, 3)
        .await;
    // The log's timestamp is two days later than history's: history's is the one that attempts are found by.
    world.clock.advance(48 * HOUR);
    let mut keys = BTreeSet::new();
    for _ in 0..2 {
        let replay = world.replay(Which::Failed, START).await;
        assert_eq!((replay.state, replay.percent), (ReplayState::Done, 100));
        assert_eq!((replay.counts.sent, replay.counts.lost), (2, 0));
        for delivery in world.sent().await {
            let is_small = delivery.event_id.as_str() == "small";
            let after = if is_small { 14 } else { 3 };
            assert_eq!((delivery.attempt, delivery.accepted_at), (after + 1, START));
            let resend = Resend {
                since: world.clock.now(),
                after,
                buried: is_small,
            };
            assert_eq!(delivery.resend, Some(resend));
            match delivery.payload {
                Payload::Inline(payload) => assert_eq!((is_small, payload), (true, small())),
                Payload::Stored(pointer) => {
                    assert!(!is_small);
                    keys.insert(pointer.key);
                }
                Payload::Logged { .. } => panic!("the record may be gone before the window is over"),
            }
        }
    }
    assert_eq!(keys.len(), 1, "one object, however often it is sent");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_another_tenant_is_sent_whatever_history_says() {
    let world = World::start(1_000).await;
    let events = [
        ("acme", "mine".to_owned(), small()),
        ("other", "theirs".to_owned(), small()),
        ("acme", "also-mine".to_owned(), small()),
    ];
    let places = world.append(&events).await;
    world
        .ended("mine", &places[0], DeliveryStatus::Exhausted, 1)
        .await;
    // As after a topic was made anew: other records stand in the old places.
    world
        .ended("theirs", &places[1], DeliveryStatus::Exhausted, 1)
        .await;
    world
        .ended("was-here", &places[2], DeliveryStatus::Exhausted, 1)
        .await;
    let replay = world.replay(Which::Failed, Millis(0)).await;
    assert_eq!((replay.counts.sent, replay.counts.lost), (1, 2));
    let ids = |sent: Vec<Delivery>| -> Vec<String> {
        sent.iter()
            .map(|delivery| delivery.event_id.as_str().to_owned())
            .collect()
    };
    assert_eq!(ids(world.sent().await), ["mine"]);
    let replay = world.replay(Which::All, Millis(0)).await;
    assert_eq!((replay.counts.sent, replay.counts.examined), (2, 2));
    let mut sent = ids(world.sent().await);
    sent.sort();
    assert_eq!(sent, ["also-mine", "mine"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_events_those_not_delivered_are_sent_each_once() {
    const EVENTS: usize = 700;
    // Few at a time, so that steps end between those that are sent and those that are not.
    let world = World::start(600).await;
    let events: Vec<_> = (0..EVENTS)
        .map(|number| ("acme", format!("e{number}"), small()))
        .collect();
    let places = world.append(&events).await;
    for (number, place) in places.iter().enumerate().filter(|(number, _)| number % 3 == 0) {
        world
            .ended(&format!("e{number}"), place, DeliveryStatus::Delivered, 1)
            .await;
    }
    let replay = world.replay(Which::Missed, START).await;
    assert_eq!(replay.state, ReplayState::Done, "{replay:?}");
    let sent = world.sent().await;
    let ids: BTreeSet<String> = sent
        .iter()
        .map(|delivery| delivery.event_id.as_str().to_owned())
        .collect();
    let missed = (0..EVENTS)
        .filter(|number| number % 3 != 0)
        .map(|number| format!("e{number}"));
    assert_eq!(ids, missed.collect());
    assert_eq!((sent.len(), replay.counts.sent), (ids.len(), ids.len() as u64));
    assert_eq!(replay.counts.examined, EVENTS as u64);
    // One that history does not know is a first attempt, and history is told of it.
    assert!(sent.iter().all(|delivery| delivery.attempt == 1));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_after_any_step_repeats_a_step_at_most_and_misses_nothing() {
    const EVENTS: usize = 100;
    // Steps of 20, of which history is asked for 64 at once: each leaves some behind that were looked at.
    let mut world = World::start(40).await;
    let events: Vec<_> = (0..EVENTS)
        .map(|number| ("acme", format!("e{number}"), small()))
        .collect();
    world.append(&events).await;
    let mut replay = world.begin(Which::All, START).await;
    let mut crashes = 0;
    while matches!(replay.state, ReplayState::Waiting | ReplayState::Running) {
        replay = world.beyond(&replay, replay.counts.sent).await;
        if replay.state == ReplayState::Running {
            world.crash().await;
            crashes += 1;
        }
    }
    assert!(crashes >= 4, "{crashes}: {replay:?}");
    let sent = world.sent().await;
    let ids: BTreeSet<&str> = sent.iter().map(|delivery| delivery.event_id.as_str()).collect();
    assert_eq!(ids.len(), EVENTS);
    assert!(sent.len() <= EVENTS + crashes * 20, "{}", sent.len());
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_that_the_log_no_longer_holds_fails_and_sends_nothing() {
    let world = World::start(1_000).await;
    let event = |number: usize| ("acme", format!("e{number}"), small());
    world.append(&[event(0)]).await;
    world.clock.advance(2 * HOUR);
    world.append(&[event(1)]).await;
    world.append(&[event(2)]).await;
    let replay = world.replay(Which::All, START).await;
    assert_eq!(replay.state, ReplayState::Failed);
    let why = replay.error.unwrap();
    assert!(
        why.starts_with("the event log no longer holds all events since 2026-11-1"),
        "{why}"
    );
    assert!(world.sent().await.is_empty());
    world.catalog.disable_target(world.target, "gone").await.unwrap();
    let replay = world.replay(Which::All, world.clock.now()).await;
    assert_eq!(
        replay.error.as_deref(),
        Some("the target is disabled: enable it, and ask again")
    );
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_between_two_slow_deliveries_sends_no_other() {
    let world = World::start(1_000).await;
    let patch = TargetPatch {
        rate_limit: Change::Set(RateLimit::new(1, Period::Minute)),
        ..TargetPatch::default()
    };
    let patched = world.catalog.patch_target(&world.acme, world.target, patch);
    patched.await.unwrap();
    let events: Vec<_> = (0..3)
        .map(|number| ("acme", format!("e{number}"), small()))
        .collect();
    world.append(&events).await;
    let begun = Instant::now();
    let first = world.begin(Which::All, START).await;
    world.beyond(&first, 0).await;
    world.replays.cancel(&world.acme, first.id).await.unwrap();
    // The target is free for the next one, long before the minute that the delivery is worth.
    let second = world.begin(Which::All, START).await;
    let second = world.beyond(&second, 0).await;
    assert_eq!((second.state, second.counts.sent), (ReplayState::Running, 1));
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(world.sent().await.len(), 2);
    world.stop().await;
}
