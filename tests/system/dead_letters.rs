//! What could not be read is listed, and injected again once the cause is gone.

use crate::product::Setup;
use crate::sink::Sink;
use crate::world::World;
use crate::{eventually, secs};
use schemas::avro::{self, WebhookEvent};
use schemas::ids::{EventId, sha256_hex};

const EVENT: &str = "core.orders.created.v1";

/// A raw datum with a payload of 2,000 bytes.
fn large(id: Option<&str>) -> Vec<u8> {
    avro::encode_v2(&WebhookEvent {
        event_type: EVENT.to_owned(),
        payload: payload().into(),
        event_id: id.map(str::to_owned),
        ..WebhookEvent::default()
    })
}

fn payload() -> String {
    "secret ".repeat(300)
}

/// The lines of `dead-letters list`, each as its columns.
async fn list(setup: &Setup, more: &[&str]) -> Vec<Vec<String>> {
    let answer = setup.run(&[&["dead-letters", "list"], more].concat()).await.ok();
    let columns = |line: &str| line.split('\t').map(str::to_owned).collect();
    answer.lines().map(columns).collect()
}

async fn inject(setup: &Setup, more: &[&str]) -> String {
    setup
        .run(&[&["dead-letters", "inject"], more].concat())
        .await
        .ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_kafka_are_listed_and_injected_once_and_keep_their_ids() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let fixed = world.setup();
    let broken = world.setup().set("events.max_payload", "1KiB");
    world.provision(&fixed).await;
    let product = world.start(&broken, "all").await;
    product.endpoint(&sink, "/a", &["core.orders.*"]).await;
    let (events, dead) = (world.topic("events"), world.topic("dead-letter"));
    let of_its_own: [(&str, &[u8]); 1] = [("of-its-own", b"\xff\x00")];
    for value in [large(None), large(Some("with-an-id")), vec![0x80]] {
        world.kafka.append(&events, &value, &of_its_own).await;
    }
    let buried = async |count: usize| {
        let what = format!("{count} dead letters");
        eventually(secs(20), &what, async || {
            let copies = world.kafka.records(&dead).await;
            let letters = copies
                .iter()
                .filter(|copy| !copy.header("hookwright-error").is_empty());
            (letters.count() == count).then_some(())
        })
        .await;
    };
    buried(3).await;

    let mut all = list(&fixed, &[]).await;
    // They were put aside at once, in any order.
    all.sort_by(|one, other| one[3].cmp(&other[3]));
    let classes: Vec<&str> = all.iter().map(|letter| letter[2].as_str()).collect();
    assert_eq!(classes, ["payload_too_large", "payload_too_large", "truncated"]);
    assert_eq!(all[2][3], format!("{events}/0/2"));
    assert_eq!(all[2].len(), 6, "no payload");
    let some = list(&fixed, &["--class", "truncated", "--raw", "--origin", &events]).await;
    assert_eq!((some.len(), some[0][6].as_str()), (1, "gA=="));
    assert!(list(&fixed, &["--origin", "nothing"]).await.is_empty());
    assert!(list(&fixed, &["--to", "2026-01-01T00:00:00Z"]).await.is_empty());

    // Too early: it comes back, as a new dead letter.
    let large_ones = ["--class", "payload_too_large"];
    let one = [&large_ones[..], &["--limit", "1"]].concat();
    assert_eq!(inject(&fixed, &one).await, "1 record injected\n");
    buried(4).await;
    product.stop().await;

    // The cause is gone.
    let product = world.start(&fixed, "all").await;
    assert_eq!(inject(&fixed, &large_ones).await, "2 records injected\n");
    let first = EventId::from_position(&events, 0, 0);
    for id in ["with-an-id", first.as_str()] {
        let come = sink.accepted(secs(20), id).await;
        assert_eq!(come.sha256, sha256_hex(payload().as_bytes()), "{id}");
    }
    assert_eq!(
        inject(&fixed, &large_ones).await,
        "0 records injected\n",
        "each once, by whatever run"
    );
    assert_eq!(list(&fixed, &[]).await, [all[2].clone()]);
    let appended = world.kafka.records(&events).await;
    assert_eq!(appended.len(), 3 + 1 + 2);
    for injected in &appended[3..] {
        let original = appended.iter().find(|one| one.value == injected.value);
        let original = original.expect("the original");
        assert_eq!(injected.key, original.key);
        assert_eq!(injected.headers[..1], original.headers[..]);
        assert_eq!(
            injected.header("hookwright-origin"),
            format!("{events}/0/{}", original.offset)
        );
        assert_eq!(injected.headers.len(), 2);
    }

    // Asked for again, it is the same event to receivers.
    let again = [&large_ones[..], &["--again", "--topic", &events]].concat();
    assert_eq!(inject(&fixed, &again).await, "3 records injected\n");
    eventually(secs(20), "it comes again", async || {
        (sink.of(first.as_str()).len() >= 2).then_some(())
    })
    .await;
    let both = sink.of(first.as_str());
    assert_eq!(both[0].delivery_id, both[1].delivery_id);
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_may_come_from_a_topic_that_is_read_no_more() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let setup = world.setup();
    world.provision(&setup).await;
    let (events, other) = (world.topic("events"), world.topic("other"));
    let product = world.start(&setup, "all").await;
    product.endpoint(&sink, "/a", &["core.orders.*"]).await;
    // A raw record, where single objects are awaited.
    world.kafka.append(&other, &large(Some("moved")), &[]).await;
    eventually(secs(20), "a dead letter", async || {
        let copies = world.kafka.records(&world.topic("dead-letter")).await;
        (copies.len() == 1).then_some(())
    })
    .await;
    let without = world
        .setup()
        .set("events.topics", &format!("[{{name=\"{events}\"}}]"));
    let ended = without.run(&["dead-letters", "inject"]).await;
    assert_eq!(ended.code, Some(64), "{ended:#?}");
    for part in ["--topic: 1 come from", &other, &events] {
        assert!(ended.stderr.contains(part), "{part}: {ended:#?}");
    }
    assert_eq!(
        inject(&without, &["--origin", &other, "--topic", &events]).await,
        "1 record injected\n"
    );
    sink.accepted(secs(20), "moved").await;
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_the_embedded_log_are_injected_while_it_is_stopped() {
    let (setup, sink) = (Setup::new().set("data", "data"), Sink::start().await);
    let limit = |limit: &str| {
        let text = format!("[events]\nmax_payload = \"{limit}\"\n");
        std::fs::write(setup.folder().join("hookwright.toml"), text).expect("a file");
    };
    assert!(list(&setup, &[]).await.is_empty(), "nothing has ever run");
    limit("8MiB");
    setup
        .run_with(
            &["produce", "--type", EVENT, "--id", "too-large", "-"],
            &payload(),
        )
        .await
        .ok();
    limit("1KiB");
    let product = setup.dev().await;
    product.endpoint(&sink, "/a", &["core.orders.*"]).await;
    eventually(secs(20), "it is a dead letter", async || {
        let metrics = product.metrics().await;
        metrics
            .contains("events_dead_lettered_total{class=\"payload_too_large\"} 1")
            .then_some(())
    })
    .await;
    let ended = setup.run(&["dead-letters", "list"]).await;
    assert_eq!(ended.code, Some(69), "{ended:#?}");
    assert!(
        ended.stderr.contains("in use by another hookwright"),
        "{ended:#?}"
    );
    product.stop().await;

    assert_eq!(list(&setup, &[]).await.len(), 1);
    limit("8MiB");
    assert_eq!(inject(&setup, &[]).await, "1 record injected\n");
    assert!(list(&setup, &[]).await.is_empty());
    let product = setup.dev().await;
    let come = sink.accepted(secs(20), "too-large").await;
    assert_eq!(come.sha256, sha256_hex(payload().as_bytes()));
    product.stop().await;
}
