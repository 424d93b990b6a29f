//! Deliveries that wait long are packed: killed at each step, some come twice and none is lost.

use super::{DELETE, Pipeline, SEND, attribute};
use crate::product::Setup;
use crate::queue_front::Trap;
use crate::sink::Behaviour;
use crate::{eventually, secs};
use bytes::Bytes;
use hyper::Method;
use schemas::delivery::{Delivery, Payload, PayloadPointer};
use schemas::event::Position;
use schemas::ids::{EventId, TargetId, Tenant, sha256_hex};
use schemas::pack::{self, Pack};
use schemas::time::Millis;
use schemas::wire::{self, WireMessage};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// As many as fill a pack.
const FULL: usize = 1_000;
const FEW: usize = 120;

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Millis(i64::try_from(since.as_millis()).expect("before the year 292 million"))
}

/// Deliveries to a target that failed once, and are due after `wait`.
fn waiting(target: i64, count: usize, wait: Duration) -> Vec<WireMessage> {
    let accepted_at = now();
    let waiting = (0..count).map(|number| Delivery {
        resend: None,
        event_id: EventId::new(&format!("event-{number}")).expect("an id"),
        original_id: None,
        tenant: Tenant::new("default").expect("a tenant"),
        target: TargetId(target),
        event_type: super::ORDER.into(),
        content_type: "application/json".into(),
        accepted_at,
        traceparent: None,
        position: Position {
            topic: "t".into(),
            partition: 0,
            offset: 0,
        },
        attempt: 2,
        due_at: Some(accepted_at.plus(wait)),
        reason: Some("http_503".to_owned()),
        payload: Payload::Inline(Bytes::from(format!("{{\"number\":{number}}}"))),
    });
    waiting.map(|delivery| wire::encode(&delivery)).collect()
}

fn is_a_delivery(entry: &Value) -> bool {
    !is_a_pack(entry)
}

fn is_a_pack(entry: &Value) -> bool {
    attribute(entry)["v"] == pack::VERSION
}

impl Pipeline {
    /// Puts messages into the retry queue, past the product and its front.
    async fn put(&self, messages: &[WireMessage]) {
        let aws = &self.world.aws;
        let name = json!({"QueueName": self.world.queue("retry")});
        let url = aws.sqs("GetQueueUrl", name).await["QueueUrl"].clone();
        for ten in messages.chunks(10) {
            let entry = |(place, message): (usize, &WireMessage)| {
                let attribute = json!({"DataType": "String", "StringValue": message.attribute});
                json!({
                    "Id": place.to_string(), "MessageBody": String::from_utf8_lossy(&message.body),
                    "MessageAttributes": {"hookwright": attribute},
                })
            };
            let entries: Vec<Value> = ten.iter().enumerate().map(entry).collect();
            let input = json!({"QueueUrl": url, "Entries": entries});
            let answer = aws.sqs("SendMessageBatch", input).await;
            assert_eq!(answer["Successful"].as_array().map(Vec::len), Some(ten.len()));
        }
    }

    /// How many messages the retry queue has, visible or not.
    async fn left(&self) -> u64 {
        let aws = &self.world.aws;
        let name = json!({"QueueName": self.world.queue("retry")});
        let url = aws.sqs("GetQueueUrl", name).await["QueueUrl"].clone();
        let input = json!({"QueueUrl": url, "AttributeNames": ["All"]});
        let found = aws.sqs("GetQueueAttributes", input).await["Attributes"].clone();
        let count = |kind: &str| {
            let text = found[format!("ApproximateNumberOfMessages{kind}")].as_str();
            text.and_then(|text| text.parse::<u64>().ok()).expect("a number")
        };
        count("") + count("NotVisible") + count("Delayed")
    }

    /// A pack that is due.
    async fn pack(&self, target: i64) -> Pack {
        let bucket = self.world.bucket();
        let object = pack::write(&waiting(target, FEW, Duration::ZERO));
        let pointer = PayloadPointer {
            bucket: bucket.to_owned(),
            key: "packs/default/test".to_owned(),
            size: object.len() as u64,
            sha256: sha256_hex(&object),
        };
        self.world.aws.put_object(bucket, &pointer.key, object).await;
        Pack {
            tenant: Tenant::new("default").expect("a tenant"),
            target: TargetId(target),
            due_at: now(),
            count: FEW as u32,
            object: pointer,
            since: now(),
            left: 0,
            out: None,
        }
    }

    /// Message and object of a pack are gone.
    async fn is_unpacked(&self) {
        eventually(secs(30), "message and object are gone", async || {
            let objects = self.world.aws.objects(self.world.bucket()).await;
            (objects.expect("the bucket").is_empty() && self.left().await == 0).then_some(())
        })
        .await;
    }

    async fn killed_in(&mut self, trap: Trap) {
        trap.sprung().await;
        self.dies_in(trap).await;
    }

    /// The packs whose messages SQS has taken.
    fn packs(&self) -> Vec<Pack> {
        let calls = self.front.calls();
        let sends = calls.iter().filter(|call| call.is(SEND, "retry"));
        let entries = sends
            .flat_map(|call| call.taken())
            .filter(|entry| is_a_pack(entry));
        let text = |entry: &Value| {
            let text = entry["MessageAttributes"]["hookwright"]["StringValue"].as_str();
            Pack::from_attribute(text.expect("our attribute")).expect("a pack")
        };
        entries.map(text).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_packs_each_delivery_is_in_a_pack_after_all() {
    let mut pipeline = Pipeline::start().await;
    let target = pipeline.target("/a").await;
    let trap = pipeline.front.hold(SEND, "retry", 1, is_a_pack);
    pipeline
        .put(&waiting(target, FULL, Duration::from_secs(7200)))
        .await;
    trap.sprung().await;
    let bucket = pipeline.world.bucket().to_owned();
    let objects = pipeline.world.aws.objects(&bucket).await.expect("the bucket");
    assert!(!objects.is_empty(), "put before its message is sent");
    assert_eq!(pipeline.deletes("retry"), 0, "nothing is deleted before that");
    pipeline.dies_in(trap).await;

    // And between the message and the deletes.
    let trap = pipeline.front.hold(DELETE, "retry", 1, super::any);
    pipeline.restart().await;
    pipeline.killed_in(trap).await;
    assert!(
        !pipeline.packs().is_empty(),
        "its message is sent before anything is deleted"
    );

    pipeline.restart().await;
    let packed = eventually(secs(60), "only packs are left", async || {
        let packs = pipeline.packs();
        (pipeline.left().await == packs.len() as u64).then_some(packs)
    })
    .await;
    let mut copies: HashMap<String, usize> = HashMap::new();
    for pack in &packed {
        assert_eq!(pack.target, TargetId(target));
        let object = pipeline.world.aws.object(&bucket, &pack.object.key).await;
        let members = pack::read(&object).expect("a pack");
        assert_eq!(members.len(), pack.count as usize);
        for member in members {
            let delivery = wire::decode(member.body, &member.attribute).expect("a delivery");
            assert!(delivery.due_at.expect("it waits") >= pack.due_at);
            *copies.entry(delivery.event_id.as_str().to_owned()).or_default() += 1;
        }
    }
    assert_eq!(copies.len(), FULL, "none is lost");
    assert!(copies.values().all(|copies| *copies <= 2), "twice at most");
    assert!(pipeline.sink.of("event-0").is_empty(), "none comes early");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_while_it_unpacks_each_delivery_comes_and_the_object_goes() {
    let mut pipeline = Pipeline::start().await;
    let target = pipeline.target("/a").await;
    let bucket = pipeline.world.bucket().to_owned();
    let pack = pipeline.pack(target).await;
    // When it asks, and when the dispatcher answers.
    let trap = pipeline.front.hold(SEND, "dispatch", 1, is_a_pack);
    pipeline.put(&[pack.message()]).await;
    trap.sprung().await;
    assert_eq!(pipeline.deletes("retry"), 0, "it stays until it has asked");
    pipeline.dies_in(trap).await;
    let trap = pipeline.front.hold(SEND, "retry", 1, is_a_pack);
    pipeline.restart().await;
    trap.sprung().await;
    assert_eq!(
        pipeline.deletes("dispatch"),
        0,
        "the question stays until it is answered"
    );
    pipeline.dies_in(trap).await;
    // In the midst of it.
    let trap = pipeline.front.hold(SEND, "dispatch", 5, is_a_delivery);
    pipeline.restart().await;
    trap.sprung().await;
    assert_eq!(pipeline.left().await, 1, "the pack stays until all of it is sent");
    pipeline.dies_in(trap).await;
    // When all is sent, and its message not deleted.
    let trap = pipeline.front.hold(DELETE, "retry", 1, super::any);
    pipeline.restart().await;
    trap.sprung().await;
    let objects = pipeline.world.aws.objects(&bucket).await.expect("the bucket");
    assert_eq!(objects.len(), 1, "the object stays as long as its message");
    pipeline.dies_in(trap).await;

    pipeline.restart().await;
    for number in 0..FEW {
        pipeline.arrives(&format!("event-{number}"), "/a", 1).await;
    }
    pipeline.is_unpacked().await;
    let ids: HashSet<String> = (0..FEW).map(|number| format!("event-{number}")).collect();
    for id in &ids {
        let sends = pipeline.sends("dispatch", id);
        let sent = sends.iter().filter(|(call, _)| call.answer.is_some()).count();
        assert!(sent <= 3, "{sent}: once for each death, and once more");
        pipeline.is_sound(id);
    }
    assert!(
        pipeline
            .world
            .aws
            .peek(&pipeline.world.queue("dead-letter"))
            .await
            .is_empty()
    );
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_of_a_target_that_takes_no_more_is_opened_and_nothing_is_sent() {
    let pipeline = Pipeline::start().await;
    let target = pipeline.target("/a").await;
    let path = format!("/webhooks/targets/{target}/disable");
    pipeline.product.post(&path, json!({})).await.expect(200);
    let pack = pipeline.pack(target).await;
    pipeline.put(&[pack.message()]).await;
    eventually(secs(30), "all of it came up", async || {
        let ended = (0..FEW).all(|number| !pipeline.sends("dispatch", &format!("event-{number}")).is_empty());
        ended.then_some(())
    })
    .await;
    pipeline.is_unpacked().await;
    assert!(pipeline.sink.look(|all| all.is_empty()), "nothing is sent");
    pipeline.stop().await;
}

/// Breakers open after five failures, for so long.
fn breakers_open(setup: Setup, open: &str) -> Setup {
    setup
        .set("breaker.min_attempts", "5")
        .set("breaker.open", open)
        .set("breaker.open_max", open)
}

async fn breaker_opens(pipeline: &Pipeline) {
    pipeline.sink.answer("/a", Behaviour::status(503));
    for number in 0..5 {
        pipeline.publish(&format!("first-{number}")).await;
    }
    eventually(secs(20), "its breaker is open", async || {
        let metrics = pipeline.product.metrics().await;
        metrics.contains("hookwright_breakers_open 1").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_open_breaker_holds_back_for_long_waits_in_packs() {
    let pipeline = Pipeline::start_with(|setup| breakers_open(setup, "4m")).await;
    pipeline.target("/a").await;
    breaker_opens(&pipeline).await;
    // More than two packs: they may come back in two quarters of an hour, and one pack is full then.
    let many = 2 * FULL + 100;
    let event = |number| json!({"type": super::ORDER, "id": format!("event-{number}"), "payload": number});
    let events: Vec<String> = (0..many).map(|number| event(number).to_string()).collect();
    let url = format!("{}/v1/webhooks/events", pipeline.product.root());
    for batch in events.chunks(500) {
        let ndjson = Some("application/x-ndjson");
        let answer = pipeline
            .product
            .fetch(Method::POST, &url, ndjson, batch.join("\n"));
        answer.await.expect("an answer").expect(202);
    }
    let pack = eventually(secs(90), "a full pack", async || {
        let mut packs = pipeline.packs().into_iter();
        packs.find(|pack| pack.count as usize == FULL)
    })
    .await;
    assert!(
        pack.due_at.since(now()) > secs(120),
        "it comes back when its deliveries would"
    );
    assert_eq!((pack.left, pack.out), (0, None));
    assert!(pipeline.sink.of("event-0").is_empty(), "none was attempted");
    pipeline.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pack_of_a_dead_target_waits_as_it_is_and_comes_when_one_of_it_was_taken() {
    let pipeline = Pipeline::start_with(|setup| breakers_open(setup, "1s")).await;
    let target = pipeline.target("/a").await;
    breaker_opens(&pipeline).await;
    let pack = pipeline.pack(target).await;
    pipeline.put(&[pack.message()]).await;
    let waits = eventually(secs(60), "it has asked five times", async || {
        let waits: Vec<Pack> = pipeline.packs();
        (waits
            .iter()
            .filter(|pack| pack.due_at > now().minus(secs(60)))
            .count()
            >= 10)
            .then_some(waits)
    })
    .await;
    assert!(waits.iter().all(|pack| pack.out.is_none_or(|out| out.most == 1)));
    let tried = |pipeline: &Pipeline| {
        let ids = (0..FEW).map(|number| format!("event-{number}"));
        ids.filter(|id| !pipeline.sink.of(id).is_empty()).count()
    };
    assert!(tried(&pipeline) <= waits.len(), "one for each time at most");

    pipeline.sink.answer("/a", Behaviour::status(204));
    for number in 0..FEW {
        pipeline.arrives(&format!("event-{number}"), "/a", 1).await;
    }
    pipeline.is_unpacked().await;
    for number in 0..FEW {
        pipeline.is_sound(&format!("event-{number}"));
        assert_eq!(pipeline.accepted(&format!("event-{number}"), "/a"), 1);
    }
    pipeline.stop().await;
}
