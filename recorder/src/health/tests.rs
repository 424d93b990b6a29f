//! What attempts say, and what follows.

use super::*;
use platform::catalog::NewTarget;
use platform::clock::Clock;
use platform::secrets::Sealer;
use proptest::prelude::*;
use schemas::event::Position;
use schemas::history::AttemptRecord;
use schemas::ids::{EventId, Tenant};
use schemas::target::TargetState;

const DAY: i64 = 24 * 3600 * 1000;
const AFTER: Option<Duration> = Some(Duration::from_secs(5 * 24 * 3600));

fn record(at: i64, status_code: Option<u16>, error: Option<&str>) -> HistoryRecord {
    let delivered = status_code.is_some_and(|status| (200..300).contains(&status));
    HistoryRecord::Attempt(AttemptRecord {
        event_id: EventId::new("evt_1").unwrap(),
        target: TargetId(1),
        tenant: Tenant::new("acme").unwrap(),
        event_type: "a".into(),
        accepted_at: Millis(0),
        position: Position {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
        status: if delivered {
            DeliveryStatus::Delivered
        } else {
            DeliveryStatus::Retrying
        },
        number: 1,
        attempt: Some(Attempt {
            started_at: Millis(at),
            duration_ms: 5,
            status_code,
            error: error.map(str::to_owned),
            headers: Vec::new(),
            response: None,
        }),
        next_at: None,
        reason: None,
        recorded_at: Millis(at + 5),
    })
}

fn bad(at: i64) -> HistoryRecord {
    record(at, Some(503), None)
}

fn good(at: i64) -> HistoryRecord {
    record(at, Some(204), None)
}

fn given_up(at: i64, reason: &str) -> HistoryRecord {
    let HistoryRecord::Attempt(record) = bad(at) else {
        unreachable!()
    };
    HistoryRecord::Attempt(AttemptRecord {
        status: DeliveryStatus::Exhausted,
        attempt: None,
        reason: Some(reason.to_owned()),
        recorded_at: Millis(at),
        ..record
    })
}

fn of(records: &[HistoryRecord]) -> Signs {
    signs(records).remove(&TargetId(1)).unwrap_or_default()
}

fn known(good_at: i64, failing_since: Option<i64>, warned_at: Option<i64>) -> Health {
    Health {
        good_at: Millis(good_at),
        failing_since: failing_since.map(Millis),
        warned_at: warned_at.map(Millis),
    }
}

#[test]
fn what_is_our_own_fault_and_a_plea_for_patience_say_nothing() {
    let table = [
        (Some(200), None, Sign::Good),
        (Some(299), None, Sign::Good),
        (Some(302), None, Sign::Bad),
        (Some(404), None, Sign::Bad),
        (Some(429), None, Sign::None),
        (Some(500), None, Sign::Bad),
        (None, Some("timeout"), Sign::Bad),
        (None, Some("connect"), Sign::Bad),
        (None, Some("tls"), Sign::Bad),
        (None, Some("dns"), Sign::Bad),
        (None, Some("protocol"), Sign::Bad),
        (None, Some("blocked"), Sign::None),
        (None, Some("payload_missing"), Sign::None),
        (None, Some("of a later release"), Sign::None),
        (None, None, Sign::None),
    ];
    for (status, error, expected) in table {
        let HistoryRecord::Attempt(record) = record(1, status, error) else {
            unreachable!()
        };
        let attempt = record.attempt.unwrap();
        assert_eq!(sign_of(&attempt), expected, "{status:?} {error:?}");
    }
}

#[test]
fn a_batch_says_what_came_after_its_last_success() {
    let found = of(&[bad(5), good(3), bad(9), bad(1), bad(7)]);
    assert_eq!(found.good_at, Some(Millis(3)));
    assert_eq!(found.bad, Some((Millis(5), Millis(9), "http_503".to_owned())));
    assert_eq!(of(&[bad(1), good(3)]).bad, None);
    assert_eq!(of(&[record(1, Some(429), None)]), Signs::default());
    let lost = of(&[given_up(7, "timeout"), given_up(5, "dns")]);
    assert_eq!(
        lost.given_up,
        Some((2, Millis(5), Millis(7), "timeout".to_owned()))
    );
}

#[test]
fn only_what_changes_something_is_written() {
    let failing = Health {
        failing_since: Some(Millis(5)),
        ..known(0, None, None)
    };
    let none: Vec<HealthChange> = Vec::new();
    let table = [
        (vec![good(9)], None, none.clone()),
        (vec![good(9)], Some(known(3, None, None)), none.clone()),
        (vec![bad(9)], None, vec![HealthChange::Failing(Millis(9))]),
        (vec![bad(9)], Some(failing), none.clone()),
        (vec![good(9)], Some(failing), vec![HealthChange::Good(Millis(9))]),
        (vec![good(4)], Some(failing), none.clone()),
        (
            vec![good(9), bad(10)],
            Some(failing),
            vec![HealthChange::Good(Millis(9)), HealthChange::Failing(Millis(10))],
        ),
        // Come late: there was a success since.
        (vec![bad(2)], Some(known(3, None, None)), none),
    ];
    for (records, known, expected) in table {
        let found = changes(&of(&records), known.as_ref(), AFTER);
        assert_eq!(found, expected, "{records:?} {known:?}");
    }
}

#[test]
fn a_target_is_warned_of_at_half_and_disabled_at_the_end_and_never_unannounced() {
    let half = DAY * 5 / 2;
    let after = |warned: Option<i64>, last: i64| {
        let changes = changes(&of(&[bad(last)]), Some(&known(0, Some(1), warned)), AFTER);
        changes.into_iter().next()
    };
    let warn = |at: i64| Some(HealthChange::Warn(Millis(at), "http_503".to_owned()));
    assert_eq!(after(None, half), None);
    assert_eq!(after(None, 1 + half), warn(1 + half));
    assert_eq!(after(Some(1 + half), 5 * DAY), None);
    let end = after(Some(1 + half), 1 + 5 * DAY);
    assert!(
        matches!(&end, Some(HealthChange::Disable(reason)) if reason.contains("http_503")),
        "{end:?}"
    );
    // Two attempts that lie six days apart: the second warns, and half the time goes by first.
    assert_eq!(after(None, 6 * DAY), warn(6 * DAY));
    assert_eq!(after(Some(6 * DAY), 7 * DAY), None);
    assert!(matches!(
        after(Some(6 * DAY), 6 * DAY + half),
        Some(HealthChange::Disable(_))
    ));
    // Off.
    let off = changes(&of(&[bad(99 * DAY)]), Some(&known(0, Some(1), Some(2))), None);
    assert_eq!(off, []);
}

/// A target in a database, and what a recorder that has just started notes of it.
struct World {
    url: String,
    sealer: Sealer,
    clock: Clock,
    target: TargetId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut world = Self {
            url: format!("sqlite:{}", folder.path().join("hookwright.db").display()),
            sealer: Sealer::random().0,
            clock: Clock::driven(Millis(1_795_000_000_000)),
            target: TargetId(0),
            _folder: folder,
        };
        let (catalog, tenant) = (world.catalog().await, Tenant::new("acme").unwrap());
        catalog.migrate().await.unwrap();
        catalog.create_tenant(&tenant).await.unwrap();
        let new = NewTarget::at("https://example.com/");
        world.target = catalog.create_target(&tenant, new).await.unwrap().0.id;
        world
    }

    async fn catalog(&self) -> Catalog {
        Catalog::open(&self.url, self.sealer.clone(), self.clock.clone())
            .await
            .unwrap()
    }

    /// An attempt now, seen by a process that has just started: what it said, and the target's state.
    async fn attempt(&self, status: u16) -> (TargetState, Option<Health>) {
        let HistoryRecord::Attempt(record) = record(self.clock.now().0, Some(status), None) else {
            unreachable!()
        };
        let target = self.target;
        let record = HistoryRecord::Attempt(AttemptRecord { target, ..record });
        let catalog = self.catalog().await;
        note(&catalog, &[record], AFTER).await.unwrap();
        let details = catalog.target_details(target).await.unwrap().unwrap();
        (
            details.state,
            catalog.health(&[target]).await.unwrap().remove(&target),
        )
    }

    /// An attempt every four hours, each by a new process, until the target is disabled or the days are
    /// over; after how many hours it was warned of, and disabled.
    async fn days(&self, days: u64, status: impl Fn(u64) -> u16) -> (Option<u64>, Option<u64>) {
        let mut warned = None;
        for hour in (0..days * 24).step_by(4) {
            let (state, health) = self.attempt(status(hour)).await;
            if health.is_some_and(|health| health.warned_at.is_some()) {
                warned = warned.or(Some(hour));
            }
            if state == TargetState::Disabled {
                return (warned, Some(hour));
            }
            self.clock.advance(Duration::from_secs(4 * 3600));
        }
        (warned, None)
    }
}

#[tokio::test]
async fn five_days_of_failing_disable_a_target_whatever_restarts_and_anything_less_does_not() {
    let day = 24;
    assert_eq!(World::new().await.days(9, |_| 503).await, (Some(60), Some(120)));
    // One success in the fourth day.
    let once = |hour| if hour == 4 * day { 200 } else { 503 };
    assert_eq!(World::new().await.days(8, once).await, (Some(60), None));
    // It only asks for patience.
    assert_eq!(World::new().await.days(8, |_| 429).await, (None, None));
    let now_and_then = |hour| if hour % 12 == 0 { 429 } else { 500 };
    let (warned, disabled) = World::new().await.days(9, now_and_then).await;
    assert!(warned.is_some() && disabled.is_some_and(|hour| (120..=128).contains(&hour)));
}

#[tokio::test]
async fn one_that_is_enabled_again_has_five_days_again() {
    let world = World::new().await;
    assert!(world.days(9, |_| 503).await.1.is_some());
    let (catalog, tenant) = (world.catalog().await, Tenant::new("acme").unwrap());
    world.clock.advance(Duration::from_secs(3600));
    catalog.enable_target(&tenant, world.target).await.unwrap();
    assert_eq!(world.days(4, |_| 503).await, (Some(64), None));
    let (state, _) = world.attempt(200).await;
    assert_eq!(state, TargetState::Active);
    assert_eq!(world.days(4, |_| 503).await.1, None);
}

proptest! {
    #[test]
    fn the_order_of_records_does_not_matter(
        events in prop::collection::vec((0_i64..50, 0_u8..5), 0..40).prop_shuffle(),
    ) {
        let records: Vec<HistoryRecord> = events
            .iter()
            .map(|(at, kind)| match kind {
                0 => good(*at),
                1 | 2 => bad(*at),
                3 => record(*at, Some(429), None),
                _ => given_up(*at, "http_503"),
            })
            .collect();
        let mut sorted = records.clone();
        sorted.sort_by_key(|record| match record {
            HistoryRecord::Attempt(record) => record.recorded_at,
            HistoryRecord::Event(_) => Millis(0),
        });
        prop_assert_eq!(of(&records), of(&sorted));
    }

    #[test]
    fn a_success_since_means_no_harm(
        moments in prop::collection::vec((0_i64..10 * DAY, any::<bool>()), 1..20),
        since in 0_i64..10 * DAY,
        warned in prop::option::of(0_i64..10 * DAY),
    ) {
        let records: Vec<HistoryRecord> = moments
            .iter()
            .map(|(at, ok)| if *ok { good(*at) } else { bad(*at) })
            .collect();
        let latest_good = moments.iter().filter(|(_, ok)| *ok).map(|(at, _)| *at).max();
        let changes = changes(&of(&records), Some(&known(0, Some(since), warned)), AFTER);
        let disables = changes.iter().any(|change| matches!(change, HealthChange::Disable(_)));
        if latest_good.is_some_and(|good| good > since) {
            prop_assert!(!disables, "{:?}", changes);
        }
        if disables {
            prop_assert!(warned.is_some());
        }
    }
}
