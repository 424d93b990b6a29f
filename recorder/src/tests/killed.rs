//! The recorder, killed at each of its steps, and two of them with the same records: history is what was sent, record
//! for record, and so are its counts.

use super::*;
use platform::event_log::embedded::EmbeddedLog;
use platform::history::{Bucket, StatsQuery};
use platform::sqlite;
use schemas::delivery::DeliveryStatus::{self, Delivered, Exhausted, Retrying};
use schemas::history::{Attempt, AttemptRecord};
use schemas::ids::{DeliveryId, TargetId};
use std::collections::BTreeMap;
use std::path::Path;
use std::task::Poll;

pub(super) const TOPIC: &str = "webhook-attempts";
const STORIES: i64 = 120;
/// Polls of a whole batch are fewer: everything from the first to the last await is killed at.
const MOST_POLLS: u32 = 60;

/// Long enough that nothing of these stories is too old.
pub(super) const LONG: Duration = Duration::from_secs(3_600 * 24 * 365 * 100);

/// An attempt's answer and length.
type Tried = (Option<u16>, u32);

/// An event's way, as it really was: its deliveries, with each attempt, and the end.
struct Story {
    event: EventRecord,
    deliveries: Vec<(TargetId, Vec<Tried>, DeliveryStatus)>,
}

fn story(n: i64) -> Story {
    let targets: Vec<TargetId> = (0..n % 3).map(|which| TargetId(7 + which)).collect();
    let deliveries = targets.iter().map(|target| {
        let made = (n + target.0) % 4;
        let end = [Retrying, Delivered, Exhausted][n as usize % 3];
        let attempts = (0..made).map(|number| {
            let last = number + 1 == made;
            let status = if last && end == Delivered { Some(204) } else { None };
            (status, (n * 31 + number * 7) as u32)
        });
        (*target, attempts.collect(), end)
    });
    Story {
        event: EventRecord {
            event_id: id(n as usize),
            tenant: Tenant::new("default").unwrap(),
            event_type: "test.v1".into(),
            accepted_at: Millis(1_000 + n),
            payload_size: 2,
            content_type: "application/json".into(),
            position: Position {
                topic: Arc::from("events"),
                partition: 0,
                offset: n,
            },
            targets: targets.clone(),
        },
        deliveries: deliveries.collect(),
    }
}

/// The records that tell it, attempts before their event.
fn records(story: &Story) -> Vec<HistoryRecord> {
    let event = &story.event;
    let mut records = Vec::new();
    for (target, attempts, end) in &story.deliveries {
        for (place, (status_code, duration_ms)) in attempts.iter().enumerate().rev() {
            let last = place + 1 == attempts.len();
            let began = Millis(event.accepted_at.0 + 1_000 * place as i64);
            records.push(HistoryRecord::Attempt(AttemptRecord {
                event_id: event.event_id.clone(),
                target: *target,
                tenant: event.tenant.clone(),
                event_type: event.event_type.clone(),
                accepted_at: event.accepted_at,
                position: event.position.clone(),
                status: if last { *end } else { Retrying },
                number: place as u32 + 1,
                attempt: Some(Attempt {
                    started_at: began,
                    duration_ms: *duration_ms,
                    status_code: *status_code,
                    error: status_code.is_none().then(|| "timeout".to_owned()),
                    response: None,
                    headers: Vec::new(),
                }),
                next_at: None,
                reason: None,
                recorded_at: began,
            }));
        }
    }
    records.push(HistoryRecord::Event(event.clone()));
    records
}

/// A recorder's process: its own connections, its own group.
struct Process {
    catalog: Catalog,
    group: &'static str,
    keep: Duration,
}

impl Process {
    async fn open(file: &Path, sealer: &Sealer, group: &'static str) -> Self {
        let url = format!("sqlite:{}", file.display());
        let catalog = Catalog::open(&url, sealer.clone(), Clock::system())
            .await
            .unwrap();
        catalog.migrate().await.unwrap();
        Self {
            catalog,
            group,
            keep: LONG,
        }
    }

    async fn run(&self, log: &Arc<EmbeddedLog>, shutdown: &CancellationToken) {
        let config = Config {
            group: self.group.to_owned(),
            topic: TOPIC.to_owned(),
            keep: self.keep,
            disable_after: None,
        };
        let parts = Parts {
            log: log.clone(),
            history: History::new(&self.catalog),
            catalog: self.catalog.clone(),
            announcer: None,
            mailer: None,
            clock: Clock::system(),
        };
        run(config, parts, || (), shutdown.clone()).await.unwrap();
    }

    /// Runs until it has gone `polls` steps and drops it in the middle of the next, or until history has `last`.
    /// Whether it was killed.
    async fn killed(&self, log: &Arc<EmbeddedLog>, polls: u32, last: &EventId) -> bool {
        let shutdown = CancellationToken::new();
        let mut left = polls;
        let mut work = Box::pin(self.run(log, &shutdown));
        let kill = std::future::poll_fn(|context| {
            if left == 0 {
                return Poll::Ready(());
            }
            left -= 1;
            work.as_mut().poll(context)
        });
        let killed = tokio::select! {
            () = kill => true,
            () = self.has(last) => false,
        };
        drop(work);
        // Ends what tells owners.
        shutdown.cancel();
        killed
    }

    async fn has(&self, id: &EventId) {
        let (history, tenant) = (History::new(&self.catalog), Tenant::new("default").unwrap());
        while history.event(&tenant, id).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(super) async fn topic(folder: &Path) -> Arc<EmbeddedLog> {
    let log = EmbeddedLog::open(folder, sqlite::Sync::Normal, Clock::system(), LONG).unwrap();
    log.provision(&[TOPIC.to_owned()]).await.unwrap();
    Arc::new(log)
}

pub(super) async fn append(log: &EmbeddedLog, records: &[HistoryRecord]) {
    let lines = write_lines(records).into_iter().map(|value| NewRecord {
        key: None,
        value: Bytes::from(value),
        headers: Vec::new(),
    });
    log.append(TOPIC, lines.collect()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_step_and_two_at_once_it_records_everything_exactly_once() {
    let folder = tempfile::tempdir().unwrap();
    let log = topic(folder.path()).await;
    let (file, sealer) = (folder.path().join("hookwright.db"), Sealer::random().0);
    let one = Process::open(&file, &sealer, "one").await;
    let two = Process::open(&file, &sealer, "two").await;

    let stories: Vec<Story> = (0..STORIES).map(story).collect();
    let mut kills = 0;
    for (round, some) in stories.chunks(STORIES as usize / MOST_POLLS as usize).enumerate() {
        for story in some {
            append(&log, &records(story)).await;
        }
        let last = &some[some.len() - 1].event.event_id;
        // The one takes a step more each time, the other one less.
        let polls = round as u32 + 1;
        let (first, second) = soon("a round", async {
            tokio::join!(
                one.killed(&log, polls, last),
                two.killed(&log, MOST_POLLS - polls, last)
            )
        })
        .await;
        kills += u32::from(first) + u32::from(second);
    }
    assert!(kills > MOST_POLLS / 4, "{kills} kills");

    // Each comes to the end of what it has not done, though the other has.
    for (process, number) in [(&one, STORIES), (&two, STORIES + 1)] {
        let marker = story(number * 3);
        append(&log, &records(&marker)).await;
        soon("the end", process.killed(&log, u32::MAX, &marker.event.event_id)).await;
    }

    let (history, tenant) = (History::new(&one.catalog), Tenant::new("default").unwrap());
    let markers = [story(STORIES * 3), story(STORIES * 3 + 3)];
    let mut counted: BTreeMap<String, i64> = BTreeMap::new();
    for story in stories.iter().chain(&markers) {
        let row = history.event(&tenant, &story.event.event_id).await.unwrap();
        assert_eq!(row.targets, story.deliveries.len() as u64);
        assert_eq!(
            (row.accepted_at, row.position),
            (story.event.accepted_at, story.event.position.clone())
        );
        for (target, attempts, end) in &story.deliveries {
            let id = DeliveryId::derive(&story.event.event_id, *target);
            let delivery = history.delivery(&tenant, &id).await.unwrap();
            let end = if attempts.is_empty() {
                DeliveryStatus::Pending
            } else {
                *end
            };
            assert_eq!((delivery.status, delivery.attempts), (end, attempts.len() as u32));
            *counted.entry(end.as_str().to_owned()).or_default() += 1;
            let rows = history.attempts(&tenant, &id).await.unwrap();
            let rows = rows
                .into_iter()
                .map(|row| (row.attempt.status_code, row.attempt.duration_ms));
            assert_eq!(rows.collect::<Vec<_>>(), *attempts);
            for (status_code, _) in attempts {
                let word = if status_code.is_some() { "2xx" } else { "timeout" };
                *counted.entry(word.to_owned()).or_default() += 1;
            }
        }
    }
    let query = StatsQuery {
        bucket: Bucket::Day,
        from: Millis(0),
        to: Millis(i64::MAX),
        target: None,
        event_type: None,
        group_by: None,
        limit: 10,
    };
    let stats = history.stats(&tenant, &query).await.unwrap();
    let [day] = &stats[..] else {
        panic!("{stats:?}");
    };
    let all = [day.tally.deliveries.clone(), day.tally.attempts.clone()].into_iter();
    assert_eq!(all.flatten().collect::<BTreeMap<_, _>>(), counted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_old_goes_while_others_come() {
    let folder = tempfile::tempdir().unwrap();
    let log = topic(folder.path()).await;
    let file = folder.path().join("hookwright.db");
    let mut process = Process::open(&file, &Sealer::random().0, "one").await;
    process.keep = Duration::from_secs(3_600);
    let (history, tenant) = (History::new(&process.catalog), Tenant::new("default").unwrap());
    let old = story(1);
    history.write(&records(&old)).await.unwrap();
    let shutdown = CancellationToken::new();
    let expired = async {
        // There is always something to read.
        for number in 2.. {
            let mut new = story(number);
            new.event.accepted_at = Clock::system().now();
            append(&log, &records(&new)).await;
            process.has(&new.event.event_id).await;
            if history.event(&tenant, &old.event.event_id).await.is_err() {
                break;
            }
        }
        shutdown.cancel();
    };
    soon("the old event to go", async {
        tokio::join!(process.run(&log, &shutdown), expired)
    })
    .await;
}
