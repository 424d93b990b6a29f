//! Turns between events, and what a failing delivery means for the others.

use crate::world::{CONCURRENCY, ENTRIES, World};
use consumer::price::Threshold;
use platform::delivery_queue::QueueError;
use std::time::Duration;

const BY_SIZE: Threshold = Threshold {
    limit: 1 << 18,
    prices: None,
};

fn take(_: &str, _: usize) -> Result<(), QueueError> {
    Ok(())
}

/// How many other deliveries the queue takes between a small event's arrival and its delivery, while it
/// is busy with as many large ones as are asked for.
async fn overtaken(large: i32, targets: usize) -> usize {
    let mut world = World::start(&[("large", targets), ("small", 1)], Duration::ZERO, take, BY_SIZE).await;
    world.append(63, 0, "small", b"{}");
    world.stored(63, 1).await;
    for partition in 0..large {
        world.append(partition, 0, "large", b"{}");
    }
    let begun = |taken: &crate::world::Taken| (taken.of("large") >= 2_000).then_some(());
    world.taken("the large ones begin", begun).await;
    let before = world.look(|taken| taken.of("large"));
    world.append(63, 1, "small", b"{}");
    let after = world.taken("the small one", |taken| {
        (taken.of("small") == 2).then(|| taken.of("large"))
    });
    let after = after.await;
    world.stored(63, 2).await;
    let whole = targets * usize::try_from(large).unwrap();
    assert!(after < whole, "the large ones were done before");
    for partition in 0..large {
        world.stored(partition, 1).await;
    }
    assert_eq!(world.look(|taken| taken.of("large")), whole);
    world.stop().await;
    after - before
}

/// What may be on its way to the queue, and again what it takes while the event is read and matched.
const ON_THE_WAY: usize = 2 * CONCURRENCY * ENTRIES;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_with_50_000_targets_does_not_hold_up_another_partition() {
    let overtaken = overtaken(1, 50_000).await;
    assert!(overtaken <= 4 * ON_THE_WAY, "{overtaken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_events_take_turns_with_a_small_one() {
    let overtaken = overtaken(20, 5_000).await;
    assert!(overtaken <= 4 * ON_THE_WAY + 20 * ENTRIES, "{overtaken}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_failed_is_sent_again_and_what_is_refused_is_put_aside() {
    fn answer(group: &str, tries: usize) -> Result<(), QueueError> {
        let target: usize = group.rsplit(':').next().unwrap().parse().unwrap();
        match target {
            33 => Err(QueueError::Refused("too strange".to_owned())),
            _ if target.is_multiple_of(7) && tries < 3 => Err(QueueError::Unavailable("not now".to_owned())),
            _ => Ok(()),
        }
    }
    let mut world = World::start(&[("acme", 100)], Duration::ZERO, answer, BY_SIZE).await;
    world.append(0, 0, "acme", b"{}");
    let dead = world.dead().await;
    let reason = dead
        .headers
        .iter()
        .find(|(name, _)| &**name == "hookwright-error");
    assert_eq!(reason.unwrap().1, "queue_refused");
    world.stored(0, 1).await;
    for target in 1..=100u32 {
        let tries = world.look(|taken| taken.tries(&format!("acme:{target}")));
        let expected = if target.is_multiple_of(7) { 3 } else { 1 };
        assert_eq!(tries, expected, "target {target}");
    }
    assert_eq!(world.look(|taken| taken.of("acme")), 99);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_that_fails_on_and_on_keeps_none_of_its_batch_back() {
    fn answer(group: &str, tries: usize) -> Result<(), QueueError> {
        match group.split(':').next() {
            Some("unlucky") if tries < 6 => Err(QueueError::Unavailable("not now".to_owned())),
            _ => Ok(()),
        }
    }
    // Long enough for both to be of one batch.
    let linger = Duration::from_millis(100);
    let mut world = World::start(&[("unlucky", 1), ("lucky", 1)], linger, answer, BY_SIZE).await;
    world.append(0, 0, "unlucky", b"{}");
    world.append(1, 0, "lucky", b"{}");
    world.stored(1, 1).await;
    assert_eq!(world.stored_now(0), None, "it waits");
    world.stored(0, 1).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_that_share_a_turn_finish_without_the_one_that_fails() {
    fn answer(group: &str, tries: usize) -> Result<(), QueueError> {
        match group.split(':').next() {
            Some("unlucky") if (2..6).contains(&tries) => Err(QueueError::Unavailable("not now".to_owned())),
            Some("refused") if tries > 1 => Err(QueueError::Refused("too strange".to_owned())),
            _ => Ok(()),
        }
    }
    let tenants = ["unlucky", "refused", "lucky", "many", "nobody"];
    let targets = [1, 1, 1, 3, 0];
    let of: Vec<_> = tenants.into_iter().zip(targets).collect();
    let mut world = World::start(&of, Duration::ZERO, answer, BY_SIZE).await;
    // Each tenant has a partition. What is not remembered has a task of its own.
    for (partition, tenant) in (0..).zip(tenants) {
        world.append(partition, 0, tenant, b"{}");
        world.stored(partition, 1).await;
    }
    let second: Vec<_> = (0..)
        .zip(tenants)
        .map(|(partition, tenant)| (partition, 1, tenant))
        .collect();
    world.append_together(&second, b"{}");
    let dead = world.dead().await;
    assert!(dead.headers.iter().any(|(_, value)| *value == "queue_refused"));
    for partition in [1, 2, 3, 4] {
        world.stored(partition, 2).await;
    }
    assert_eq!(world.stored_now(0), Some(1), "it waits");
    world.stored(0, 2).await;
    assert_eq!(world.look(|taken| taken.tries("unlucky:1")), 6);
    assert_eq!(world.look(|taken| taken.of("many")), 6);
    world.stop().await;
}
