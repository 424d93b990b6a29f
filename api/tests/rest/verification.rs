//! Targets that are to prove that they want deliveries, and tests of them.

use crate::targets::create;
use crate::world::{World, config};
use http::Method;
use platform::prober::NotProved;
use schemas::verification::{NoProof, Verification};
use serde_json::json;
use std::sync::atomic::Ordering;

fn refuse(world: &World) {
    let why = NotProved::NoProof(NoProof::Wrong("the answer does not repeat the challenge"));
    *world.answers.refusal.lock().unwrap() = Some(why);
}

#[tokio::test]
async fn a_target_is_active_once_it_has_proved_itself_and_not_before() {
    let world = World::start().await;
    refuse(&world);
    let made = create(
        &world,
        json!({"url": "https://example.com/", "verification": "echo"}),
    )
    .await;
    assert_eq!(made["state"], "unverified");
    assert_eq!(made["notProved"], "the answer does not repeat the challenge");
    assert_eq!(made["verifiedAt"], json!(null));
    let path = format!("/webhooks/targets/{}", made["id"]);
    let refused = world.post(&format!("{path}/verify"), json!({})).await.expect(409);
    assert_eq!(refused["detail"], "the answer does not repeat the challenge");
    world
        .post(&format!("{path}/enable"), json!({}))
        .await
        .problem(409);

    *world.answers.refusal.lock().unwrap() = None;
    let proved = world.post(&format!("{path}/verify"), json!({})).await.expect(200);
    assert_eq!(proved["state"], "active");
    assert_eq!(proved["notProved"], json!(null));
    assert!(proved["verifiedAt"].is_string());
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 3);

    // What has nothing to do with its address asks for no new proof.
    let renamed = world.patch(&path, json!({"description": "d"})).await.expect(200);
    assert_eq!(renamed["verifiedAt"], proved["verifiedAt"]);
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 3);
    let moved = json!({"url": "https://example.com/other"});
    assert_eq!(world.patch(&path, moved).await.expect(200)["state"], "active");
    assert_eq!(world.answers.asked.load(Ordering::SeqCst), 4);
    refuse(&world);
    let moved = world
        .patch(&path, json!({"url": "https://example.com/third"}))
        .await
        .expect(200);
    assert_eq!(moved["state"], "unverified");
    // Switched off and on again it is as unproved as before.
    world
        .post(&format!("{path}/disable"), json!({}))
        .await
        .expect(200);
    let enabled = world.post(&format!("{path}/enable"), json!({})).await.expect(200);
    assert_eq!(enabled["state"], "unverified");
    let free = world
        .patch(&path, json!({"verification": "none"}))
        .await
        .expect(200);
    assert_eq!(free["state"], "active");
    world
        .post(&format!("{path}/verify"), json!({}))
        .await
        .problem(409);
    world.stop().await;
}

#[tokio::test]
async fn where_the_server_asks_for_proof_nobody_does_without() {
    let world = World::start_with(api::Config {
        verification: Verification::Crc,
        ..config()
    })
    .await;
    refuse(&world);
    let made = create(&world, json!({"url": "https://example.com/"})).await;
    assert_eq!(
        (&made["verification"], &made["state"]),
        (&json!("crc"), &json!("unverified"))
    );
    let body = json!({"url": "https://example.com/", "events": ["*"]});
    let endpoint = world.post("/webhooks/endpoints", body).await.expect(201);
    let target = world
        .get(&format!("/webhooks/targets/{}", endpoint["id"]))
        .await
        .expect(200);
    assert_eq!(target["state"], "unverified");
    let free = json!({"url": "https://example.com/", "verification": "none"});
    let answer = world.post("/webhooks/targets", free).await;
    assert_eq!(answer.invalid_fields(), ["verification"]);
    let path = format!("/webhooks/targets/{}", made["id"]);
    world
        .patch(&path, json!({"verification": "none"}))
        .await
        .problem(422);
    // It has no name to be allowed.
    world
        .patch(&path, json!({"verification": "cloudevents"}))
        .await
        .problem(422);
    world
        .patch(&path, json!({"verification": "echo"}))
        .await
        .expect(200);
    world.stop().await;
}

#[tokio::test]
async fn a_test_tells_what_the_target_said_and_another_tenants_target_is_none() {
    let world = World::start().await;
    let made = create(&world, json!({"url": "https://example.com/"})).await;
    let path = format!("/webhooks/targets/{}", made["id"]);
    let tested = world.post(&format!("{path}/test"), json!({})).await.expect(200);
    assert_eq!(
        tested,
        json!({"delivered": false, "statusCode": 418, "error": "http_418", "response": "short and stout", "durationMs": 7})
    );
    let other = world.tenant("other").await;
    for verb in ["test", "verify"] {
        let url = format!("{path}/{verb}");
        let answer = world.call(&other, Method::POST, &url, "{}".to_owned());
        answer.await.problem(404);
    }
    world.stop().await;
}
