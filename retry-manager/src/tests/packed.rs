//! Deliveries that wait long, packed: what goes in comes out, in time, whenever the process is killed.

use super::memory::Death;
use super::world::{ACCEPTED, World};
use platform::delivery_queue::QueueName;
use proptest::prelude::*;
use schemas::pack::Out;
use schemas::schedule::RetryPolicy;
use schemas::time::Millis;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const EVENTS: usize = 30;
const LATE: Duration = Duration::from_secs(1);

/// Three hours to the second attempt, and as many to the last.
fn rare() -> RetryPolicy {
    RetryPolicy {
        window: HOUR * 6,
        jitter: 0.002,
        schedule: vec![HOUR * 3],
        ..RetryPolicy::default()
    }
}

async fn of_many(death: Option<Death>) -> (World, usize) {
    let mut world = World::packing(rare(), death);
    for event in 0..EVENTS {
        world.accept(&format!("event-{event}"));
    }
    let calls = world.run_to_the_end().await;
    (world, calls)
}

/// Every event is tried three times at least, never early, and buried.
fn is_whole(world: &World, late: Duration) {
    let mut tried: HashMap<_, usize> = HashMap::new();
    for one in &world.made {
        let due = one.due.unwrap_or(ACCEPTED);
        assert!(one.at >= due, "{one:?} is early");
        assert!(one.at < due.plus(late), "{one:?} is late");
        *tried.entry((one.event.clone(), one.number)).or_default() += 1;
    }
    assert_eq!(tried.len(), EVENTS * 3, "each event is tried three times");
    assert!(world.queue.lying(QueueName::DeadLetter).len() >= EVENTS);
    assert!(world.queue.lying(QueueName::Retry).is_empty());
}

#[tokio::test]
async fn what_waits_long_is_packed_and_hops_once_for_all() {
    let (world, calls) = of_many(None).await;
    is_whole(&world, LATE);
    assert_eq!(world.made.len(), EVENTS * 3);
    assert_eq!(world.queue.lying(QueueName::DeadLetter).len(), EVENTS);
    assert_eq!(world.store.count(), 0, "no pack is left");
    // Twice eleven hops of a pack, and one of each delivery to its own second; apart they would be 660.
    assert!(world.hops() < 2 * 11 + 2 * EVENTS + 5, "{} hops", world.hops());
    assert!(calls > 20);

    let mut apart = World::new(rare(), None);
    for event in 0..EVENTS {
        apart.accept(&format!("event-{event}"));
    }
    apart.run_to_the_end().await;
    is_whole(&apart, LATE);
    assert!(apart.hops() > 600, "{} hops", apart.hops());
}

#[tokio::test]
async fn killed_at_any_call_nothing_is_lost_and_nothing_comes_early() {
    let (_, calls) = of_many(None).await;
    let hidden = crate::VISIBILITY;
    assert!(calls < 300, "{calls}");
    for call in (0..calls).step_by(3) {
        for after in [false, true] {
            let (world, _) = of_many(Some(Death { call, after })).await;
            is_whole(&world, LATE + hidden);
            // At most all of one pack come twice, from then on.
            assert!(world.made.len() <= EVENTS * 5, "{} attempts", world.made.len());
            assert!(world.store.count() <= 1, "at most one object is left to expire");
        }
    }
}

/// Thirty deliveries, each a second older than the one before, of a target that is left alone for a quarter of an hour
/// after they are due. Then one of them is to see whether it works; those of the first ten seconds leave; and all.
async fn of_a_dead_target(death: Option<Death>) -> (World, usize) {
    let mut world = World::packing(rare(), death);
    world.takes = true;
    world.says = |pack, now| {
        let quarter = HOUR / 4;
        let oldest = ACCEPTED.minus(Duration::from_secs(EVENTS as u64 - 1));
        match (now.since(ACCEPTED).as_secs() / quarter.as_secs(), pack.left) {
            (..=4, _) => (None, now.plus(quarter)),
            (5, 0) => (Some(Out::ONE), now.plus(quarter)),
            (_, ..10) => (Some(Out::those(oldest.plus(Duration::from_secs(9)))), now),
            _ => (Some(Out::ALL), now),
        }
    };
    for event in 0..EVENTS {
        let since = ACCEPTED.minus(Duration::from_secs(event as u64));
        world.waits_since(since, &format!("event-{event}"), 1, ACCEPTED.plus(HOUR));
    }
    let calls = world.run_to_the_end().await;
    (world, calls)
}

/// The events in the order of their attempts, and the quarters of an hour of these.
fn order(world: &World) -> Vec<(usize, u64)> {
    let quarter = |at: Millis| at.since(ACCEPTED).as_secs() / (15 * 60);
    let number = |event: &str| event.trim_start_matches("event-").parse().unwrap();
    let made = world.made.iter();
    made.map(|one| (number(one.event.as_str()), quarter(one.at)))
        .collect()
}

#[tokio::test]
async fn a_pack_asks_for_all_that_are_in_it_and_the_oldest_leave_it_first() {
    let (world, _) = of_a_dead_target(None).await;
    let made = order(&world);
    assert_eq!(made[0], (EVENTS - 1, 5), "the oldest goes first, to see");
    let mut next: Vec<usize> = made[1..10].iter().map(|(number, _)| *number).collect();
    next.sort_unstable();
    assert_eq!(
        next,
        (EVENTS - 10..EVENTS - 1).collect::<Vec<_>>(),
        "then the old ones"
    );
    assert!(made[1..].iter().all(|(_, quarter)| *quarter == 6));
    assert_eq!((made.len(), world.store.count()), (EVENTS, 0));
    assert_eq!(
        world.asked, 4,
        "while it is left alone, for one, for the old ones, for all"
    );
    assert!(world.queue.lying(QueueName::DeadLetter).is_empty());
}

#[tokio::test]
async fn killed_at_any_call_all_of_a_dead_targets_pack_come_and_no_more_than_once_again() {
    let (_, calls) = of_a_dead_target(None).await;
    assert!(calls < 200, "{calls}");
    for call in 0..calls {
        for after in [false, true] {
            let (world, _) = of_a_dead_target(Some(Death { call, after })).await;
            let mut times = [0; EVENTS];
            for (number, quarter) in order(&world) {
                times[number] += 1;
                // What did not come into a pack before the death goes by itself, which the dispatcher takes here.
                assert!(quarter >= 4, "{number} is early");
            }
            let fair = times.iter().all(|times| (1..=2).contains(times));
            assert!(fair, "killed at call {call}, {after}: {times:?}");
            assert!(world.queue.lying(QueueName::Retry).is_empty());
        }
    }
}

#[tokio::test]
async fn while_the_store_is_away_messages_hop_by_themselves_and_packs_wait() {
    let mut world = World::packing(rare(), None);
    world.store.away.store(true, Ordering::SeqCst);
    for event in 0..EVENTS {
        world.accept(&format!("event-{event}"));
    }
    world.run_to_the_end().await;
    is_whole(&world, LATE);
    assert_eq!(world.made.len(), EVENTS * 3);
}

#[tokio::test]
async fn a_pack_that_is_due_while_the_store_is_away_waits_for_it() {
    let mut world = World::packing(rare(), None);
    world.takes = true;
    let due = ACCEPTED.plus(HOUR);
    for event in 0..EVENTS {
        world.waits(&format!("event-{event}"), 1, due);
    }
    world.run_until(ACCEPTED.plus(HOUR / 2)).await;
    world.store.away.store(true, Ordering::SeqCst);
    world.run_until(due.plus(HOUR / 4)).await;
    assert_eq!((world.made.len(), world.store.count()), (0, 1));
    world.store.away.store(false, Ordering::SeqCst);
    world.run_to_the_end().await;
    assert_eq!((world.made.len(), world.store.count()), (EVENTS, 0));
}

#[tokio::test]
async fn a_pack_that_is_gone_or_damaged_lies_in_the_dead_letter_queue() {
    let mut world = World::packing(rare(), None);
    let due = ACCEPTED.plus(HOUR);
    for event in 0..EVENTS {
        world.waits(&format!("event-{event}"), 1, due);
    }
    // Until it is packed, and a little longer.
    world.run_until(ACCEPTED.plus(HOUR / 2)).await;
    assert_eq!(world.store.count(), 1);
    world.store.damage();
    world.run_to_the_end().await;
    assert!(world.made.is_empty());
    let dead = world.queue.lying(QueueName::DeadLetter);
    assert_eq!(dead.len(), 1);
    assert!(dead[0].attribute.contains("\"n\":30"), "{}", dead[0].attribute);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn whatever_waits_comes_out_once_in_time_and_in_any_order(
        waiting in prop::collection::vec((0_i64..3, 0_i64..14_400_000), 1..60).prop_shuffle(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut world = World::packing(RetryPolicy::default(), None);
            world.takes = true;
            for (number, (target, wait)) in waiting.iter().enumerate() {
                world.waits(&format!("event-{number}"), *target, Millis(ACCEPTED.0 + wait));
            }
            world.run_to_the_end().await;
            let mut seen: Vec<_> = world.made.iter().map(|one| one.event.clone()).collect();
            seen.sort_unstable();
            seen.dedup();
            assert_eq!((seen.len(), world.made.len()), (waiting.len(), waiting.len()));
            for one in &world.made {
                let due = one.due.unwrap();
                assert!(one.at >= due && one.at < due.plus(LATE), "{one:?}");
            }
            assert_eq!(world.store.count(), 0);
            assert!(world.queue.lying(QueueName::DeadLetter).is_empty());
        });
    }
}
