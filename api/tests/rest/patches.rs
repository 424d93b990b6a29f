//! PATCH: a field left out stays, a null empties it or is refused. Each field of each resource.

use crate::world::World;
use serde_json::{Value, json};

/// What null does to a field.
enum Null {
    /// It becomes this.
    Empties(Value),
    /// 422.
    Refused,
}

use Null::{Empties, Refused};

/// Sets each field by itself, then to null, and looks at all the others each time.
async fn each_field(world: &World, path: &str, table: &[(&str, Value, Value, Null)]) {
    let fields = |mut body: Value| {
        let map = body.as_object_mut().unwrap();
        for moves in ["updatedAt", "verifiedAt", "notProved", "state"] {
            map.remove(moves);
        }
        body
    };
    for (field, given, shown, null) in table {
        let before = fields(world.get(path).await.expect(200));
        let mut expected = before.clone();
        expected[*field] = shown.clone();
        assert_ne!(expected, before, "{path}: {field} is to change");
        let changed = world.patch(path, json!({*field: given})).await.expect(200);
        assert_eq!(fields(changed), expected, "{path}: {field} set");

        let nulled = world.patch(path, json!({*field: null})).await;
        match null {
            Empties(value) => {
                expected[*field] = value.clone();
                assert_eq!(fields(nulled.expect(200)), expected, "{path}: {field} null");
                // Set again, so that the next fields are looked at with this one set.
                world.patch(path, json!({*field: given})).await.expect(200);
                expected[*field] = shown.clone();
            }
            Refused => assert_eq!(nulled.invalid_fields(), [*field], "{path}"),
        }
        let untouched = world.patch(path, json!({})).await.expect(200);
        assert_eq!(fields(untouched), expected, "{path}: nothing given");
    }
    // Read-only, whatever it is said to be.
    for field in ["id", "createdAt", "updatedAt"] {
        for value in [json!(1), Value::Null] {
            let fields = world.patch(path, json!({field: value})).await.invalid_fields();
            assert_eq!(fields, [field], "{path}");
        }
    }
}

#[tokio::test]
async fn each_field_of_a_target_is_kept_set_or_emptied() {
    let world = World::start().await;
    let target = json!({"url": "https://example.com/"});
    let id = world.post("/webhooks/targets", target).await.expect(201)["id"].clone();
    let path = format!("/webhooks/targets/{id}");
    let header = json!([{"name": "x-hub", "algorithm": "sha256", "encoding": "hex", "prefix": "sha256="}]);
    let policy = json!({"window": "1h", "first": "1s", "factor": 2.0, "max": "10m", "jitter": 0.0});
    let certificate = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
    let pem = certificate.cert.pem();
    let same = |value: Value| (value.clone(), value);
    let table = [
        ("url", same(json!("https://example.org/")), Refused),
        ("description", same(json!("mine")), Empties(Value::Null)),
        ("headers", same(json!({"x-a": "1"})), Empties(json!({}))),
        ("contact", same(json!("ops@example.com")), Empties(Value::Null)),
        ("rateLimit", same(json!(7)), Empties(Value::Null)),
        ("retryPolicy", same(policy), Empties(Value::Null)),
        ("timeout", same(json!("3s")), Empties(Value::Null)),
        ("signature", same(json!(["v1", "v1a"])), Empties(json!(["v1"]))),
        ("signatureHeaders", same(header), Empties(json!([]))),
        (
            "tls",
            (json!({"ca": pem}), json!({"ca": pem, "clientCertificate": null})),
            Empties(Value::Null),
        ),
        ("verification", same(json!("echo")), Refused),
    ];
    let table = table.map(|(field, (given, shown), null)| (field, given, shown, null));
    each_field(&world, &path, &table).await;
    for value in [json!("disabled"), Value::Null] {
        let errors = world.patch(&path, json!({"state": value})).await.problem(422);
        assert_eq!(errors[0].0, "state");
        assert!(errors[0].1.contains("/enable or /disable"), "{errors:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn each_field_of_filters_subscriptions_and_endpoints_is_kept_or_set() {
    let world = World::start().await;
    let target = json!({"url": "https://example.com/"});
    let mut targets = Vec::new();
    let mut filters = Vec::new();
    for _ in 0..2 {
        targets.push(world.post("/webhooks/targets", target.clone()).await.expect(201)["id"].clone());
        let filter = json!({"name": "a", "events": ["a"]});
        filters.push(world.post("/webhooks/filters", filter).await.expect(201)["id"].clone());
    }
    let both = json!({"targetId": targets[0], "filterId": filters[0]});
    let subscription = world.post("/webhooks/subscriptions", both).await.expect(201)["id"].clone();
    let endpoint = json!({"url": "https://example.com/", "events": ["a"]});
    let endpoint = world.post("/webhooks/endpoints", endpoint).await.expect(201)["id"].clone();

    let same = |field: &'static str, value: Value| (field, value.clone(), value, Refused);
    each_field(
        &world,
        &format!("/webhooks/filters/{}", filters[0]),
        &[same("name", json!("b")), same("events", json!(["b", "c.*"]))],
    )
    .await;
    each_field(
        &world,
        &format!("/webhooks/subscriptions/{subscription}"),
        &[
            same("targetId", targets[1].clone()),
            same("filterId", filters[1].clone()),
            same("active", json!(false)),
        ],
    )
    .await;
    each_field(
        &world,
        &format!("/webhooks/endpoints/{endpoint}"),
        &[
            same("url", json!("https://example.org/")),
            same("events", json!(["b", "c.*"])),
            same("disabled", json!(true)),
        ],
    )
    .await;
    world.stop().await;
}
