//! The invariants of the architecture that show at the queue: the product is killed at a chosen call,
//! and what it had to have done by then, and what comes of it, is looked at.
//!
//! Each invariant has a module named after it.

mod next_steps;
mod offsets;
mod order;
mod packs;

use crate::product::{Product, Setup};
use crate::queue_front::{Call, QueueFront, Trap};
use crate::sink::Sink;
use crate::world::World;
use crate::{eventually, secs};
use schemas::avro::{self, WebhookEvent};
use serde_json::{Value, json};
use std::collections::HashSet;

const ORDER: &str = "core.orders.created.v1";
const SEND: &str = "SendMessageBatch";
const DELETE: &str = "DeleteMessageBatch";

/// The pipeline with a front between it and SQS.
struct Pipeline {
    product: Product,
    sink: Sink,
    front: QueueFront,
    setup: Setup,
    // Last: dropped when all that uses it is gone.
    world: World,
}

impl Pipeline {
    async fn start() -> Self {
        Self::start_with(|setup| setup).await
    }

    async fn start_with(change: impl FnOnce(Setup) -> Setup) -> Self {
        let (world, sink) = (World::new().await, Sink::start().await);
        let front = QueueFront::start(&world.sqs).await;
        let setup = change(world.setup()).env("AWS_ENDPOINT_URL_SQS", &front.url());
        world.provision(&setup).await;
        let product = world.start(&setup, "all").await;
        Self {
            product,
            sink,
            front,
            setup,
            world,
        }
    }

    /// A target at `path` that is soon tried again.
    async fn target(&self, path: &str) -> i64 {
        let target = self.product.endpoint(&self.sink, path, &["core.orders.*"]).await;
        self.product.retry_soon(target).await;
        target
    }

    /// Publishes an event with this id.
    async fn publish(&self, id: &str) {
        let body = json!({"type": ORDER, "id": id, "payload": id});
        self.product.post("/webhooks/events", body).await.expect(202);
    }

    /// The offset committed for the events published.
    async fn committed(&self) -> i64 {
        let topic = self.world.topic("events");
        let committed = self.world.kafka.committed(self.world.group(), &topic).await;
        committed.get(&0).copied().unwrap_or(0)
    }

    /// Waits until this offset is committed.
    async fn commits(&self, offset: i64) {
        let what = format!("offset {offset} is committed");
        eventually(secs(20), &what, async || {
            (self.committed().await == offset).then_some(())
        })
        .await;
    }

    /// Waits until offsets that were stored by now are committed too: those of a record of another topic,
    /// finished later, are.
    async fn stored_is_committed(&self) {
        let (topic, kafka) = (self.world.topic("other"), &self.world.kafka);
        let record = avro::encode_single_object(&WebhookEvent {
            event_type: "nobody.wants.it".into(),
            ..WebhookEvent::default()
        });
        let offset = kafka.append(&topic, &record, &[]).await;
        eventually(secs(20), "a later record is committed", async || {
            let committed = kafka.committed(self.world.group(), &topic).await;
            (committed.get(&0) > Some(&offset)).then_some(())
        })
        .await;
    }

    /// `kill -9`; then the visibility of what it held runs out, and the rule that it met ends.
    async fn dies_in(&mut self, trap: Trap) {
        self.product.kill().await;
        self.front.visibility_passes().await;
        trap.lift();
    }

    async fn restart(&mut self) {
        self.product = self.world.start(&self.setup, "all").await;
    }

    /// The sends of an event to a queue, each entry, whether acknowledged or not.
    fn sends(&self, queue: &str, event: &str) -> Vec<(Call, Value)> {
        let calls = self.front.calls().into_iter().filter(|call| call.is(SEND, queue));
        calls
            .flat_map(|call| {
                let entries: Vec<Value> = call
                    .entries()
                    .iter()
                    .filter(|entry| is_of(entry, event))
                    .cloned()
                    .collect();
                entries.into_iter().map(move |entry| (call.clone(), entry))
            })
            .collect()
    }

    fn deletes(&self, queue: &str) -> usize {
        self.front
            .calls()
            .iter()
            .filter(|call| call.is(DELETE, queue))
            .count()
    }

    /// The accepted deliveries of an event at a path.
    fn accepted(&self, event: &str, path: &str) -> usize {
        let all = self.sink.of(event);
        all.iter()
            .filter(|one| one.path == path && one.accepted())
            .count()
    }

    /// Waits until an event was accepted so often at a path.
    async fn arrives(&self, event: &str, path: &str, times: usize) {
        let what = format!("{event} is accepted at {path}, {times} times");
        eventually(secs(30), &what, async || {
            (self.accepted(event, path) >= times).then_some(())
        })
        .await;
    }

    /// All deliveries of an event are verified and of one delivery id for each target.
    fn is_sound(&self, event: &str) {
        let all = self.sink.of(event);
        assert!(all.iter().all(|one| one.verified == Some(true)));
        let ids: HashSet<_> = all.iter().map(|one| (&one.path, &one.delivery_id)).collect();
        let paths: HashSet<_> = all.iter().map(|one| &one.path).collect();
        assert_eq!(ids.len(), paths.len(), "{ids:?}");
    }

    async fn stop(self) {
        self.product.stop().await;
    }
}

/// What the product writes beside a message's body.
fn attribute(entry: &Value) -> Value {
    let text = entry["MessageAttributes"]["hookwright"]["StringValue"].as_str();
    text.and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or(Value::Null)
}

fn is_of(entry: &Value, event: &str) -> bool {
    attribute(entry)["id"] == event
}

fn of(event: &'static str) -> impl Fn(&Value) -> bool + Send + Sync + 'static {
    move |entry| is_of(entry, event)
}

fn any(_: &Value) -> bool {
    true
}
