//! Invariant 1: an offset is stored only when every delivery of every earlier record of its partition is
//! acknowledged by the queue.

use super::{Pipeline, SEND, attribute, of};
use crate::{eventually, secs};
use serde_json::Value;
use std::collections::HashSet;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_a_send_is_held_the_record_is_read_again() {
    let mut pipeline = Pipeline::start().await;
    for path in ["/a", "/b"] {
        pipeline.target(path).await;
    }
    pipeline.publish("before").await;
    pipeline.commits(1).await;
    let trap = pipeline.front.hold(SEND, "dispatch", 1, of("held"));
    pipeline.publish("held").await;
    trap.sprung().await;
    // The record behind it is finished first.
    pipeline.publish("behind").await;
    for path in ["/a", "/b"] {
        pipeline.arrives("behind", path, 1).await;
    }
    pipeline.stored_is_committed().await;
    assert_eq!(pipeline.committed().await, 1, "the offset waits for what is held");
    pipeline.dies_in(trap).await;
    assert_eq!(pipeline.committed().await, 1);
    assert_eq!(pipeline.sink.of("held").len(), 0);

    pipeline.restart().await;
    for path in ["/a", "/b"] {
        pipeline.arrives("held", path, 1).await;
        // Not known to be finished by the one before: read and sent again.
        pipeline.arrives("behind", path, 2).await;
    }
    pipeline.commits(3).await;
    for event in ["before", "held", "behind"] {
        pipeline.is_sound(event);
    }
    assert_eq!(
        pipeline.sink.of("before").len(),
        2,
        "what was committed is not read again"
    );
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_before_it_knows_of_the_acknowledgement_it_sends_again() {
    let mut pipeline = Pipeline::start().await;
    pipeline.target("/a").await;
    let trap = pipeline.front.withhold(SEND, "dispatch", 1, of("withheld"));
    pipeline.publish("withheld").await;
    trap.sprung().await;
    pipeline.arrives("withheld", "/a", 1).await;
    pipeline.stored_is_committed().await;
    assert_eq!(pipeline.committed().await, 0, "nobody said that the queue has it");
    pipeline.dies_in(trap).await;
    assert_eq!(pipeline.committed().await, 0);

    pipeline.restart().await;
    pipeline.arrives("withheld", "/a", 2).await;
    pipeline.commits(1).await;
    pipeline.is_sound("withheld");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_batch_only_what_failed_is_sent_again_and_the_offset_waits_for_it() {
    let mut pipeline = Pipeline::start().await;
    let paths = ["/0", "/1", "/2", "/3", "/4", "/5"];
    let mut targets = Vec::new();
    for path in paths {
        targets.push(pipeline.target(path).await);
    }
    let failing = HashSet::from([targets[1], targets[4]]);
    let theirs = failing.clone();
    let is_theirs = move |entry: &Value| {
        attribute(entry)["tg"]
            .as_i64()
            .is_some_and(|target| theirs.contains(&target))
    };
    let trap = pipeline.front.refuse(SEND, "dispatch", is_theirs);
    pipeline.publish("in-part").await;
    for path in ["/0", "/2", "/3", "/5"] {
        pipeline.arrives("in-part", path, 1).await;
    }
    eventually(secs(20), "the failed ones are sent again", async || {
        let sends = pipeline.sends("dispatch", "in-part");
        (sends.len() >= paths.len() + 2 * failing.len()).then_some(())
    })
    .await;
    let mut sent: HashSet<i64> = HashSet::new();
    for (_, entry) in pipeline.sends("dispatch", "in-part") {
        let target = attribute(&entry)["tg"].as_i64().expect("a target");
        assert!(
            sent.insert(target) || failing.contains(&target),
            "{target} was taken and is sent again"
        );
    }
    pipeline.stored_is_committed().await;
    assert_eq!(pipeline.committed().await, 0, "two of six are not acknowledged");

    // Killed in it, the whole record is read again; those two are lost to nobody.
    pipeline.dies_in(trap).await;
    assert_eq!(pipeline.committed().await, 0);
    assert_eq!(
        (
            pipeline.accepted("in-part", "/1"),
            pipeline.accepted("in-part", "/4")
        ),
        (0, 0)
    );
    pipeline.restart().await;
    for path in paths {
        pipeline.arrives("in-part", path, 1).await;
    }
    pipeline.commits(1).await;
    pipeline.is_sound("in-part");

    // Without a death, each comes once.
    let trap = pipeline.front.refuse(SEND, "dispatch", of("mended"));
    pipeline.publish("mended").await;
    trap.sprung().await;
    trap.lift();
    for path in paths {
        pipeline.arrives("mended", path, 1).await;
    }
    pipeline.commits(2).await;
    assert_eq!(pipeline.sink.of("mended").len(), paths.len());
    pipeline.stop().await;
}
