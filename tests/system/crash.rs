//! Killed at any moment, as often as one likes: what was accepted arrives, and little of it twice.

use crate::load::{Pace, all_arrive, duplicates, load, moments};
use crate::product::Setup;
use crate::secs;
use crate::sink::{Behaviour, Sink};
use std::time::{Duration, Instant};

/// No more than can be delivered by a debug build beside other tests.
const PACE: Pace = Pace {
    connections: 8,
    pause: Duration::from_millis(5),
};
/// Times it is killed.
const KILLS: usize = 6;
/// Attempts at once. A message's permit is held until it is deleted, so no more than these are
/// delivered and not deleted when it is killed.
const CONCURRENCY: usize = 64;
/// What was delivered so long before a kill is deleted, and its event's offset stored, for good:
/// both wait for one group commit, which even a busy machine makes within this.
const SETTLED: Duration = secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_nothing_accepted_is_lost_and_little_comes_twice() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let setup = setup.set("delivery.concurrency", &CONCURRENCY.to_string());
    let paths = ["/a", "/b"];
    let mut product = setup.dev().await;
    for path in paths {
        product.endpoint(&sink, path, &["load.*"]).await;
    }
    let mut moments = moments();
    let (mut events, mut kills) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        let moment = moments.between(300, 1_500);
        let (accepted, ()) = tokio::join!(load(&product, round, PACE), async {
            tokio::time::sleep(moment).await;
            kills.push(Instant::now());
            product.kill_now();
        });
        product.ended().await;
        assert!(!accepted.is_empty(), "nothing was accepted in {moment:?}");
        events.extend(accepted);
        product = setup.dev().await;
    }
    all_arrive(&sink, &events, &paths).await;
    let twice = duplicates(&sink);
    let deliveries = events.len() * paths.len();
    eprintln!("{} of {deliveries} deliveries came more than once", twice.len());
    for times in &twice {
        let between = times.windows(2).all(|pair| {
            kills
                .iter()
                .any(|kill| *kill < pair[1] && pair[0] + SETTLED > *kill)
        });
        assert!(
            between,
            "a delivery that was over came again, {times:?}; killed at {kills:?}"
        );
    }
    // Delivered and not deleted, and enqueued with their event's offset not stored: what the
    // consumer has in flight is never more than what was accepted since the last commit.
    let recent = kills.iter().map(|kill| {
        sink.look(|all| {
            all.iter()
                .filter(|one| one.at + SETTLED > *kill && one.at < *kill + SETTLED)
                .count()
        })
    });
    let most = KILLS * CONCURRENCY + recent.sum::<usize>();
    assert!(
        twice.len() <= most,
        "{} deliveries came twice; at most {most} were in flight",
        twice.len()
    );
    assert!(sink.look(|all| all.iter().all(|one| one.verified == Some(true))));
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_deliveries_wait_for_their_retry_none_is_lost() {
    let (setup, sink) = (Setup::new(), Sink::start().await);
    let mut product = setup.dev().await;
    let target = product.endpoint(&sink, "/down", &["load.*"]).await;
    product.retry_soon(target).await;
    sink.answer("/down", Behaviour::status(500));
    let mut moments = moments();
    let mut events = Vec::new();
    for round in 0..KILLS {
        let moment = moments.between(300, 1_500);
        let (accepted, ()) = tokio::join!(load(&product, round, PACE), async {
            tokio::time::sleep(moment).await;
            product.kill_now();
        });
        product.ended().await;
        events.extend(accepted);
        product = setup.dev().await;
    }
    // All that arrived so far was refused; now it may come.
    sink.answer("/down", Behaviour::default());
    all_arrive(&sink, &events, &["/down"]).await;
    let retried = sink.look(|all| all.iter().filter(|one| one.accepted() && one.attempt > 1).count());
    assert!(retried > 0, "some waited for their retry when it was killed");
    product.stop().await;
}
