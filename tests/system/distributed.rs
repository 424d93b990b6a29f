//! The pipeline on Kafka, SQS, S3 and Postgres: what goes in comes out, byte for byte.

use crate::clients::{Verifier, produce_v1};
use crate::product::Product;
use crate::sink::{Behaviour, Sink};
use crate::world::World;
use crate::{eventually, secs};
use schemas::ids::sha256_hex;
use serde_json::{Value, json};

const ORDER: &str = "core.orders.created.v1";

/// Makes an endpoint whose address comes later; its id and secret.
async fn endpoint(product: &Product, events: &str) -> (i64, String) {
    let body = json!({"url": "http://127.0.0.1:1/", "events": [events]});
    let made = product.post("/webhooks/endpoints", body).await.expect(201);
    let secret = made["secret"].as_str().expect("a secret");
    (made["id"].as_i64().expect("an id"), secret.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_another_producer_arrives_byte_for_byte_and_verifies_by_the_official_library() {
    let world = World::new().await;
    let (_setup, product) = world.all().await;
    let (a, secret_a) = endpoint(&product, "core.orders.*").await;
    let (b, secret_b) = endpoint(&product, ORDER).await;
    let (c, secret_c) = endpoint(&product, "core.users.*").await;
    let verifier = Verifier::start(&[("/a", &secret_a), ("/b", &secret_b), ("/c", &secret_c)]).await;
    for (target, path) in [(a, "/a"), (b, "/b"), (c, "/c")] {
        let place = json!({"url": verifier.url(path)});
        product
            .patch(&format!("/webhooks/targets/{target}"), place)
            .await
            .expect(200);
    }
    // Neither compact nor ASCII nor sorted: whoever parses and writes it anew is found out.
    let payload = "{ \"z\": 1.0,\t\"a\":\"Zürich \\u00e9 \u{1f4e6}\" ,\"a\" : null}\r\n";
    produce_v1(&world, &world.topic("events"), ORDER, payload).await;
    for path in ["/a", "/b"] {
        let come = verifier.first(path).await;
        assert_eq!(come["verified"], true, "{come}");
        assert_eq!(come["body_sha256"], sha256_hex(payload.as_bytes()), "{come}");
        assert_eq!(
            (&come["event_type"], &come["attempt"]),
            (&json!(ORDER), &json!(1))
        );
        assert_eq!(come["content_type"], "application/json");
    }
    produce_v1(&world, &world.topic("events"), "core.users.created.v1", "{}").await;
    let come = verifier.first("/c").await;
    assert_eq!((&come["verified"], &come["body_len"]), (&json!(true), &json!(2)));
    let counts = ["/a", "/b", "/c"].map(|path| verifier.at(path).len());
    assert_eq!(counts, [1, 1, 1], "each target has what it wants, once");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payload_of_3_mb_is_one_object_and_arrives_whole_at_each_target() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let (_setup, product) = world.all().await;
    for path in ["/a", "/b"] {
        product.endpoint(&sink, path, &["core.orders.*"]).await;
    }
    let payload = json!("large ".repeat(500_000));
    let event = product.publish(ORDER, payload.clone()).await;
    let bytes = payload.to_string();
    for path in ["/a", "/b"] {
        let come = sink
            .wait(secs(30), "the payload", |one| one.id == event && one.path == path)
            .await;
        assert_eq!(
            (come.len, &come.sha256),
            (bytes.len(), &sha256_hex(bytes.as_bytes()))
        );
        assert_eq!(come.verified, Some(true));
    }
    let objects = world.aws.objects(world.bucket()).await.expect("the bucket");
    assert_eq!(objects.len(), 1, "{objects:?}");
    let stored = world.aws.object(world.bucket(), &objects[0]).await;
    assert_eq!(sha256_hex(&stored), sha256_hex(bytes.as_bytes()));

    // A small one makes none, and by its arrival nothing of the large one came twice.
    let small = product.publish(ORDER, json!("small")).await;
    sink.accepted(secs(10), &small).await;
    assert_eq!(sink.of(&event).len(), 2);
    assert_eq!(
        world.aws.objects(world.bucket()).await.map(|all| all.len()),
        Ok(1)
    );
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_be_a_process_of_its_own() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let setup = world.setup();
    world.provision(&setup).await;
    let api = world.start(&setup, "api").await;
    let mut roles = Vec::new();
    for role in ["consumer", "dispatcher", "retry-manager", "recorder"] {
        roles.push(world.start(&setup, role).await);
    }
    let target = api.endpoint(&sink, "/flaky", &["core.orders.*"]).await;
    api.retry_soon(target).await;
    sink.answer("/flaky", Behaviour::failing(1, 503));
    let event = api.publish(ORDER, json!({"orderId": 42})).await;
    let come = sink.accepted(secs(20), &event).await;
    assert_eq!((come.attempt, come.verified), (2, Some(true)));
    let story = api.delivery_with(&come.delivery_id, "delivered").await;
    assert_eq!(story["attemptCount"], 2, "{story}");

    // What the API changes is seen by the others within 2 s.
    let path = format!("/webhooks/targets/{target}/disable");
    api.post(&path, json!({})).await.expect(200);
    eventually(secs(5), "the target gets nothing more", async || {
        let event = api.publish(ORDER, json!(1)).await;
        let path = format!("/webhooks/events/{event}");
        let story = eventually(secs(10), "history has it", async || {
            let answer = api.get(&path).await;
            (answer.status == 200).then(|| answer.expect(200))
        })
        .await;
        (story["deliveries"] == json!([])).then_some(())
    })
    .await;
    for role in roles {
        role.stop().await;
    }
    api.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_fails_gets_it_later_and_history_tells_each_attempt() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let (_setup, product) = world.all().await;
    let target = product.endpoint(&sink, "/flaky", &["core.orders.*"]).await;
    product.retry_soon(target).await;
    sink.answer("/flaky", Behaviour::failing(2, 500));
    let event = product.publish(ORDER, json!({"orderId": 42})).await;
    let come = sink.accepted(secs(30), &event).await;
    let tries = sink.of(&event);
    assert_eq!(tries.iter().map(|one| one.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(
        tries
            .iter()
            .all(|one| one.verified == Some(true) && one.sha256 == come.sha256)
    );
    let story = product.delivery_with(&come.delivery_id, "delivered").await;
    let attempts = story["attempts"].as_array().expect("a list").iter();
    let statuses: Vec<&Value> = attempts.map(|attempt| &attempt["statusCode"]).collect();
    assert_eq!(statuses, [500, 500, 204], "{story}");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_whose_window_ends_lies_in_the_dead_letter_queue() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let (_setup, product) = world.all().await;
    let target = product.endpoint(&sink, "/down", &["core.orders.*"]).await;
    let briefly = json!({"retryPolicy": {"window": "2s", "first": "1s", "factor": 1.0, "jitter": 0.0}});
    product
        .patch(&format!("/webhooks/targets/{target}"), briefly)
        .await
        .expect(200);
    sink.answer("/down", Behaviour::status(503));
    let event = product.publish(ORDER, json!("given up")).await;
    let first = sink
        .wait(secs(20), "the first attempt", |one| one.id == event)
        .await;
    let story = product.delivery_with(&first.delivery_id, "exhausted").await;
    let dead = world.aws.peek(&world.queue("dead-letter")).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["Body"], "\"given up\"");
    let attribute = dead[0]["MessageAttributes"]["hookwright"]["StringValue"].as_str();
    let attribute: Value = serde_json::from_str(attribute.expect("our attribute")).expect("JSON");
    assert_eq!(
        (&attribute["id"], &attribute["tg"]),
        (&json!(event), &json!(target))
    );
    assert_eq!(attribute["why"], "http_503");
    assert_eq!(story["attemptCount"], json!(sink.of(&event).len()), "{story}");
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_brokers_may_share_the_partitions_out_and_what_was_hardly_meant_is_warned_of() {
    let (world, sink) = (World::new().await, Sink::start().await);
    let setup = world
        .setup()
        .set("kafka.protocol", "consumer")
        .set("shutdown.grace", "4s");
    // With that protocol the session is the brokers' affair.
    let file = setup.folder().join("hookwright.toml");
    let text = std::fs::read_to_string(&file).expect("the file");
    let kept = text.lines().filter(|line| !line.contains("session.timeout.ms"));
    std::fs::write(&file, kept.collect::<Vec<_>>().join("\n")).expect("the file");
    world.provision(&setup).await;
    let setup = setup.set("kafka.instance", "one");
    let answer = setup.run(&["check"]).await.ok();
    let setup = setup.unset("kafka.instance");
    for part in [
        "warning  kafka.instance: \"one\"",
        "HOOKWRIGHT_KAFKA__INSTANCE",
        "warning  shutdown.grace: \"4s\" is less than the 5s",
    ] {
        assert!(answer.contains(part), "{part}: {answer}");
    }
    let product = world.start(&setup, "all").await;
    assert!(
        product.stderr().contains("shutdown.grace"),
        "told at the start too"
    );
    product.endpoint(&sink, "/a", &["core.orders.*"]).await;
    let event = product.publish(ORDER, json!({})).await;
    sink.accepted(secs(20), &event).await;
    product.stop().await;
}
