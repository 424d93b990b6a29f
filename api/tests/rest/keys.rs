//! What API keys may do, until when, and when they were used.

use crate::world::{World, config};
use http::Method;
use platform::clock::Clock;
use schemas::time::Millis;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const KEYS: &str = "/admin/tenants/acme/keys";

/// Makes a key; its value, and what was said of it.
async fn make(world: &World, body: Value) -> (String, Value) {
    let made = world.admin(Method::POST, KEYS, body).await.expect(201);
    (made["key"].as_str().unwrap().to_owned(), made)
}

/// What is said of a key now.
async fn shown(world: &World, id: &Value) -> Value {
    let listed = world.admin(Method::GET, KEYS, json!({})).await.expect(200);
    let mut items = listed["items"].as_array().unwrap().iter();
    items.find(|item| item["id"] == *id).unwrap().clone()
}

#[tokio::test]
async fn a_key_does_what_its_scopes_say_and_is_told_what_it_lacks() {
    let world = World::start().await;
    let (producer, made) = make(
        &world,
        json!({"name": "orders", "scopes": ["publish", "publish"]}),
    )
    .await;
    assert_eq!(made["scopes"], json!(["publish"]));
    let event = json!({"type": "a", "payload": 1}).to_string();
    world
        .call(&producer, Method::POST, "/webhooks/events", event.clone())
        .await
        .expect(202);
    let refused = world.call(&producer, Method::GET, "/webhooks/targets", "").await;
    assert_eq!(
        refused.json()["detail"],
        "this needs an API key with scope read; this one has publish"
    );
    refused.problem(403);

    let (reader, _) = make(&world, json!({"name": "desk", "scopes": ["read"]})).await;
    world
        .call(&reader, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    // Before its fields are looked at.
    for (path, scope) in [("/webhooks/events", "publish"), ("/webhooks/targets", "manage")] {
        let refused = world.call(&reader, Method::POST, path, "{").await;
        assert!(
            refused.json()["detail"].as_str().unwrap().contains(scope),
            "{path}"
        );
        refused.problem(403);
    }

    let (all, made) = make(&world, json!({"name": "all"})).await;
    assert_eq!(made["scopes"], json!(["manage", "publish", "read"]));
    assert_eq!(
        (&made["expiresAt"], &made["lastUsedAt"]),
        (&json!(null), &json!(null))
    );
    world
        .call(&all, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    world.stop().await;
}

#[tokio::test]
async fn scopes_and_end_of_a_key_are_checked() {
    let world = World::start().await;
    let table = [
        (json!({"name": "a", "scopes": []}), "scopes"),
        (json!({"name": "a", "scopes": ["read", "write"]}), "scopes[1]"),
        (json!({"name": "a", "scopes": "read"}), "scopes"),
        (
            json!({"name": "a", "expiresAt": "2020-01-01T00:00:00Z"}),
            "expiresAt",
        ),
        (json!({"name": "a", "expiresAt": "tomorrow"}), "expiresAt"),
    ];
    for (body, field) in table {
        let answer = world.admin(Method::POST, KEYS, body.clone()).await;
        assert_eq!(answer.invalid_fields(), [field], "{body}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_key_ends_at_its_time_however_well_it_is_remembered() {
    let start = Millis(1_795_000_000_000);
    let clock = Clock::driven(start);
    let world = World::start_at(clock.clone(), config()).await;
    let end = start.plus(Duration::from_secs(60)).to_rfc3339();
    let (key, made) = make(&world, json!({"name": "short", "expiresAt": end})).await;
    assert_eq!(made["expiresAt"], json!(end));
    let get = async || world.call(&key, Method::GET, "/webhooks/targets", "").await;
    get().await.expect(200);
    clock.advance(Duration::from_millis(59_999));
    get().await.expect(200);
    // Within a moment of the last answer, which is remembered for longer than that.
    clock.advance(Duration::from_millis(1));
    let refused = get().await;
    assert_eq!(refused.json()["detail"], format!("this API key expired at {end}"));
    refused.problem(401);

    // Nor does it go on while the database is away.
    world.catalog.pool().close().await;
    get().await.problem(401);
    world.stop().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_told_and_no_request_waits_for_it() {
    let start = Millis(1_795_000_000_000);
    let clock = Clock::driven(start);
    let world = World::start_at(clock.clone(), config()).await;
    let (key, made) = make(&world, json!({"name": "used"})).await;
    assert_eq!(made["lastUsedAt"], json!(null));

    // Nobody can write meanwhile.
    let writer = world.catalog.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
    // Longer than that nothing waits for another writer: who waited would have an answer only then.
    let busy = Duration::from_millis(4500);
    let asked = Instant::now();
    world
        .call(&key, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    assert!(asked.elapsed() < busy, "it waited for the note of its use");
    writer.commit().await.unwrap();

    let until = Instant::now() + Duration::from_secs(30);
    while shown(&world, &made["id"]).await["lastUsedAt"] != json!(start.to_rfc3339()) {
        assert!(Instant::now() < until, "its use was not noted");
    }
    world.stop().await;
}
