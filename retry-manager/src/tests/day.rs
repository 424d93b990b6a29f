//! The 24 hours of a delivery that nobody takes, with the process killed at each of its calls.

use super::memory::Death;
use super::world::{ACCEPTED, World};
use platform::delivery_queue::QueueName;
use schemas::schedule::RetryPolicy;
use schemas::time::Millis;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The queue's delays are whole seconds, and a message is handled at once here.
const LATE: Duration = Duration::from_secs(1);
/// A message that a killed process had is visible again after so long.
const HIDDEN: Duration = crate::VISIBILITY;

fn steady() -> RetryPolicy {
    RetryPolicy {
        jitter: 0.0,
        ..RetryPolicy::default()
    }
}

fn listed(pauses: &[u64]) -> RetryPolicy {
    RetryPolicy {
        schedule: pauses.iter().copied().map(Duration::from_secs).collect(),
        ..RetryPolicy::default()
    }
}

/// The seconds after acceptance at which a day's attempts were made.
fn seconds(world: &World) -> Vec<u64> {
    world
        .made
        .iter()
        .map(|one| one.at.since(ACCEPTED).as_secs())
        .collect()
}

/// What holds whatever happens: none early, numbered without a gap, the last at the window's end, and
/// the delivery buried in the end.
fn is_whole(world: &World, late: Duration) {
    let end = ACCEPTED.plus(world.policy.window);
    for one in &world.made {
        let due = one.due.unwrap_or(ACCEPTED);
        assert!(one.at >= due, "{one:?} is early");
        assert!(one.at < due.plus(late), "{one:?} is late");
    }
    let last = world.made.iter().map(|one| one.number).max().unwrap();
    for number in 1..=last {
        assert!(world.made.iter().any(|one| one.number == number), "no {number}");
    }
    let last = world.made.iter().filter(|one| one.number == last);
    let at_the_end = |at: Millis| at >= end && at < end.plus(late);
    assert!(last.clone().count() > 0 && last.clone().all(|one| at_the_end(one.at)));
    assert!(!world.queue.lying(QueueName::DeadLetter).is_empty());
    let told = world.log.ids();
    assert!(!told.is_empty(), "its tenant is told");
    assert!(told.iter().all(|id| *id == told[0]), "by one id, however often");
    assert!(world.queue.lying(QueueName::Retry).is_empty());
}

#[tokio::test]
async fn a_day_without_jitter_is_the_table_of_the_schedule_to_the_second() {
    let mut world = World::new(steady(), None);
    world.accept("event");
    world.run_to_the_end().await;
    assert_eq!(
        seconds(&world),
        [
            0, 5, 20, 65, 200, 605, 1820, 5465, 16_400, 30_800, 45_200, 59_600, 74_000, 86_400
        ]
    );
    is_whole(&world, Duration::from_millis(1));
    assert_eq!(world.queue.lying(QueueName::DeadLetter).len(), 1);
}

#[tokio::test]
async fn a_day_takes_at_most_96_hops_with_jitter_and_with_a_list_of_pauses() {
    let standard = [5, 300, 1800, 7200, 18_000, 36_000];
    for policy in [
        RetryPolicy::default(),
        listed(&standard),
        listed(&[1]),
        listed(&[86_399]),
    ] {
        for event in ["a", "b", "c", "d", "e", "f"] {
            let mut world = World::new(policy.clone(), None);
            world.accept(event);
            world.run_to_the_end().await;
            is_whole(&world, LATE);
            assert!(world.hops() <= 96, "{} hops: {policy:?}", world.hops());
            assert_eq!(world.queue.lying(QueueName::DeadLetter).len(), 1);
        }
    }
}

/// Kills the process at each of its calls, or at every so many, before it takes effect and after.
async fn dies_at_every(step: usize, policy: RetryPolicy, at_least: usize) {
    let mut undisturbed = World::new(policy.clone(), None);
    undisturbed.accept("event");
    let calls = undisturbed.run_to_the_end().await;
    assert!(calls >= at_least, "{calls}");
    for call in (0..calls).step_by(step) {
        for after in [false, true] {
            let mut world = World::new(policy.clone(), Some(Death { call, after }));
            world.accept("event");
            world.run_to_the_end().await;
            is_whole(&world, LATE + HIDDEN);
            let copies = world.queue.lying(QueueName::DeadLetter).len();
            assert!(copies <= 2, "{copies} after one death");
        }
    }
}

#[tokio::test]
async fn killed_at_any_call_nothing_is_lost_and_nothing_comes_early() {
    let three_hours = RetryPolicy {
        window: Duration::from_secs(3 * 3600),
        ..RetryPolicy::default()
    };
    dies_at_every(1, three_hours, 35).await;
    // Of the whole day, whose hops are all alike, some.
    dies_at_every(7, RetryPolicy::default(), 150).await;
}

#[tokio::test]
async fn what_the_target_asks_for_is_never_undercut() {
    for (policy, asked) in [(steady(), 3600), (listed(&[1, 1, 1]), 7200), (listed(&[1]), 901)] {
        let mut world = World::new(policy, None);
        world.retry_after = Some(Duration::from_secs(asked));
        world.accept("event");
        world.run_to_the_end().await;
        let seconds = seconds(&world);
        assert!(seconds.len() > 2);
        assert!(
            seconds.windows(2).all(|two| two[1] - two[0] >= asked),
            "{seconds:?}"
        );
        assert!(seconds.iter().all(|at| *at <= DAY.as_secs() + 1));
    }
}

#[tokio::test]
async fn a_log_that_is_away_holds_up_no_burial() {
    let briefly = RetryPolicy {
        window: Duration::from_secs(60),
        ..steady()
    };
    let mut world = World::new(briefly, None);
    world.log.away.store(true, std::sync::atomic::Ordering::SeqCst);
    for event in 0..50 {
        world.accept(&format!("event-{event}"));
    }
    world.run_to_the_end().await;
    assert_eq!(world.queue.lying(QueueName::DeadLetter).len(), 50);
    assert!(world.log.ids().is_empty());
}
