//! Killed at any moment under load, on Kafka and SQS: what was accepted arrives, and no more of it
//! comes twice than was on its way.

use crate::load::{Pace, all_arrive, duplicates, load, moments};
use crate::queue_front::QueueFront;
use crate::secs;
use crate::sink::{Behaviour, Sink};
use crate::world::World;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

/// Times it is killed.
const KILLS: usize = 5;
/// What a debug build and LocalStack can do on two cores beside other tests, a little less.
const PACE: Pace = Pace {
    connections: 4,
    pause: Duration::from_millis(25),
};
/// What was delivered so long before a kill is deleted for good, and its event's offset committed:
/// the one takes a batch, the other 0.3 s.
const SETTLED: Duration = secs(3);

/// A death, and what was on its way then.
struct Death {
    at: Instant,
    /// Received and not deleted.
    claimed: usize,
    /// The offset from which records are read again, by partition.
    committed: HashMap<i32, i64>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_nothing_accepted_is_lost_and_no_more_comes_twice_than_was_on_its_way() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let front = QueueFront::start(&world.sqs).await;
    let setup = world
        .setup()
        .env("AWS_ENDPOINT_URL_SQS", &front.url())
        .set("kafka.partitions", "4");
    world.provision(&setup).await;
    let paths = ["/a", "/b"];
    let mut product = world.start(&setup, "all").await;
    for path in paths {
        product.endpoint(&sink, path, &["load.*"]).await;
        // Slow enough that some are always being delivered, and others wait for a permit.
        sink.answer(path, Behaviour::default().after(Duration::from_millis(60)));
    }
    let mut moments = moments();
    let (mut events, mut deaths) = (Vec::new(), Vec::new());
    for round in 0..KILLS {
        // Some before the partitions of the one before are its own, most in the middle of delivering.
        let moment = moments.between(1_000, 5_000);
        let (accepted, at) = tokio::join!(load(&product, round, PACE), async {
            tokio::time::sleep(moment).await;
            product.kill_now();
            Instant::now()
        });
        product.ended().await;
        deaths.push(Death {
            at,
            claimed: front.claimed(),
            committed: world.kafka.committed(world.group(), &world.topic("events")).await,
        });
        front.visibility_passes().await;
        assert!(!accepted.is_empty(), "nothing was accepted in {moment:?}");
        events.extend(accepted);
        product = world.start(&setup, "all").await;
    }
    all_arrive(&sink, &events, &paths).await;
    let twice = duplicates(&sink);
    for times in &twice {
        let between = times.windows(2).all(|pair| {
            deaths
                .iter()
                .any(|death| death.at < pair[1] && pair[0] + SETTLED > death.at)
        });
        assert!(between, "a delivery that was over came again: {times:?}");
    }
    let more: usize = twice.iter().map(|times| times.len() - 1).sum();
    let lives = deaths.iter().enumerate();
    let each: Vec<(usize, usize)> = lives
        .map(|(life, death)| (death.claimed, sent_again(&front, life, death)))
        .collect();
    let under_way: usize = each.iter().map(|(claimed, sent)| claimed + sent).sum();
    eprintln!(
        "{} deliveries; {more} came again; claimed, and sent without their offset, at each kill: {each:?}",
        events.len() * paths.len()
    );
    assert!(more <= under_way, "{more} came again; {under_way} were under way");
    assert!(sink.look(|all| all.iter().all(|one| one.verified == Some(true))));
    product.stop().await;
}

/// Deliveries that a process sent to the dispatch queue in its life, and whose record is read again: each
/// is sent once more by one of the next.
fn sent_again(front: &QueueFront, life: usize, death: &Death) -> usize {
    let calls = front.calls();
    let sends = calls
        .iter()
        .filter(|call| call.is("SendMessageBatch", "dispatch") && call.life == life);
    let deliveries = sends.flat_map(|call| call.entries()).filter_map(|entry| {
        let text = entry["MessageAttributes"]["hookwright"]["StringValue"].as_str();
        let delivery: Value = serde_json::from_str(text.expect("our attribute")).expect("JSON");
        let place = &delivery["ps"];
        let partition = i32::try_from(place["p"].as_i64().expect("a partition")).expect("fits");
        let again = place["o"].as_i64().expect("an offset") >= death.committed[&partition];
        again.then(|| (delivery["id"].to_string(), delivery["tg"].to_string()))
    });
    deliveries.collect::<HashSet<_>>().len()
}
