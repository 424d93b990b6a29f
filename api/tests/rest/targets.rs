//! Targets: the tour, PATCH, secrets, and what their fields may hold.

use crate::world::World;
use platform::catalog::{Change, TargetPatch};
use schemas::ids::{TargetId, Tenant};
use schemas::target::TargetState;
use serde_json::{Value, json};

pub async fn create(world: &World, body: Value) -> Value {
    world.post("/webhooks/targets", body).await.expect(201)
}

#[tokio::test]
async fn a_target_is_made_read_changed_listed_and_deleted() {
    let world = World::start().await;
    let answer = world
        .post(
            "/webhooks/targets",
            json!({
                "url": "HTTPS://Example.COM:443/hooks?a=1", "description": "the order desk", "headers": {"X-Shop": "42"},
                "contact": "ops@example.com", "rateLimit": 100, "timeout": "2s", "retryPolicy": {"window": "1h", "factor": 2},
            }),
        )
        .await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.expect(201);
    let id = made["id"].as_i64().unwrap();
    assert!(id > 0 && id < 1 << 53, "{id}");
    assert_eq!(location, format!("/v1/webhooks/targets/{id}"));
    let secret = made["secret"].as_str().unwrap();
    assert!(secret.starts_with("whsec_") && secret.len() > 40, "{secret}");

    let read = world.get(&format!("/webhooks/targets/{id}")).await.expect(200);
    assert_eq!(
        read,
        json!({
            "id": id, "url": "https://example.com/hooks?a=1", "description": "the order desk", "headers": {"x-shop": "42"},
            "contact": "ops@example.com", "state": "active", "disabledReason": null, "rateLimit": 100, "timeout": "2s",
            "retryPolicy": {"window": "1h", "first": "5s", "factor": 2.0, "max": "4h", "jitter": 0.2},
            "signature": ["v1"], "signatureHeaders": [], "tls": null,
            "verification": "none", "verifiedAt": null, "notProved": null,
            "createdAt": made["createdAt"], "updatedAt": made["updatedAt"],
        })
    );
    let stamp = read["createdAt"].as_str().unwrap();
    assert!(stamp.ends_with('Z') && stamp.len() == 24, "{stamp}");

    let listed = world.get("/webhooks/targets").await.expect(200);
    assert_eq!(listed, json!({"items": [read], "nextCursor": null}));

    let path = format!("/webhooks/targets/{id}");
    let changed = world
        .patch(&path, json!({"url": "https://example.com/other"}))
        .await
        .expect(200);
    assert_eq!(changed["url"], "https://example.com/other");
    assert_eq!(changed["description"], "the order desk");

    assert_eq!(world.delete(&path).await.expect(204), Value::Null);
    world.get(&path).await.problem(404);
    world.delete(&path).await.problem(404);
    world.stop().await;
}

#[tokio::test]
async fn a_patch_tells_null_from_absent() {
    let world = World::start().await;
    let full = json!({
        "url": "https://example.com/", "description": "d", "headers": {"x-a": "1"}, "contact": "a@example.com",
        "rateLimit": 5, "timeout": "3s", "retryPolicy": {"max": "1h"},
    });
    let made = create(&world, full).await;
    let path = format!("/webhooks/targets/{}", made["id"]);

    let kept = world.patch(&path, json!({})).await.expect(200);
    for field in [
        "description",
        "headers",
        "contact",
        "rateLimit",
        "timeout",
        "retryPolicy",
    ] {
        assert_eq!(kept[field], made[field], "{field}");
        assert!(!kept[field].is_null(), "{field}");
    }
    let emptied = json!({
        "description": null, "headers": null, "contact": null, "rateLimit": null, "timeout": null, "retryPolicy": null,
    });
    let emptied = world.patch(&path, emptied).await.expect(200);
    for field in ["description", "contact", "rateLimit", "timeout", "retryPolicy"] {
        assert!(emptied[field].is_null(), "{field}");
    }
    assert_eq!(emptied["headers"], json!({}));
    for (given, shown) in [
        (json!("30/minute"), json!("30/minute")),
        (json!("7/second"), json!(7)),
    ] {
        let set = world.patch(&path, json!({"rateLimit": given})).await.expect(200);
        assert_eq!(set["rateLimit"], shown);
        assert_eq!(world.get(&path).await.expect(200)["rateLimit"], shown);
    }
    assert_eq!(
        world
            .patch(&path, json!({"rateLimit": "5"}))
            .await
            .invalid_fields(),
        ["rateLimit"]
    );
    assert_eq!(
        world.patch(&path, json!({"url": null})).await.invalid_fields(),
        ["url"]
    );
    world.stop().await;
}

#[tokio::test]
async fn every_wrong_field_is_named_in_one_answer() {
    let world = World::start().await;
    let wrong = json!({
        "url": "ftp://example.com/", "description": "x".repeat(1001), "headers": {"webhook-id": "1", "x-ok": "1"},
        "contact": "nobody", "rateLimit": 0, "timeout": "10m", "state": "disabled",
        "retryPolicy": {"window": "0s", "factor": 0.5, "jitter": 2},
    });
    let mut fields = world.post("/webhooks/targets", wrong).await.invalid_fields();
    fields.sort();
    assert_eq!(
        fields,
        [
            "contact",
            "description",
            "headers.webhook-id",
            "rateLimit",
            "retryPolicy.factor",
            "retryPolicy.jitter",
            "retryPolicy.window",
            "state",
            "timeout",
            "url",
        ]
    );
    assert_eq!(
        world.post("/webhooks/targets", json!({})).await.invalid_fields(),
        ["url"]
    );
    assert_eq!(
        world.get("/webhooks/targets").await.expect(200)["items"],
        json!([])
    );
    world.stop().await;
}

#[tokio::test]
async fn a_wrong_type_names_its_field_what_was_found_and_what_would_be_right() {
    let world = World::start().await;
    let table = [
        (json!({"url": 5}), "url", "integer `5`, expected a string"),
        (
            json!({"url": "https://a.example/", "rateLimit": true}),
            "rateLimit",
            "boolean `true`, expected a number of attempts per second, or a rate such as \"30/minute\"",
        ),
        (
            json!({"url": "https://a.example/", "timeout": 15}),
            "timeout",
            "expected a duration with its unit such as \"15s\"",
        ),
        (
            json!({"url": "https://a.example/", "timeout": "soon"}),
            "timeout",
            "expected a duration with its unit such as \"15s\"",
        ),
        (
            json!({"url": "https://a.example/", "headers": {"x-a": 1}}),
            "headers.x-a",
            "integer `1`, expected a string",
        ),
        (
            json!({"url": "https://a.example/", "retryPolicy": {"windows": "1h"}}),
            "retryPolicy.windows",
            "unknown field `windows`",
        ),
        (
            json!({"url": "https://a.example/", "colour": "red"}),
            "colour",
            "unknown field `colour`, expected one of `url`",
        ),
        (json!(["https://a.example/"]), "body", "not a JSON object"),
        (json!("https://a.example/"), "body", "not a JSON object"),
    ];
    for (body, field, message) in table {
        let errors = world.post("/webhooks/targets", body.clone()).await.problem(422);
        assert_eq!(errors.len(), 1, "{body}: {errors:?}");
        assert_eq!(errors[0].0, field, "{body}: {errors:?}");
        assert!(errors[0].1.contains(message), "{body}: {errors:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_rotated_secret_signs_beside_the_one_before_it() {
    let world = World::start().await;
    let made = create(&world, json!({"url": "https://example.com/"})).await;
    let id = TargetId(made["id"].as_i64().unwrap());
    let path = format!("/webhooks/targets/{id}/secret");
    let live = async || {
        world
            .catalog
            .target_details(id)
            .await
            .unwrap()
            .unwrap()
            .keys
            .len()
    };

    let rotated = world.post(&path, json!({"overlap": "1h"})).await.expect(200);
    assert_eq!(rotated["overlap"], "1h");
    assert_ne!(rotated["secret"], made["secret"]);
    assert_eq!(live().await, 2);

    // Without a body: the default overlap.
    let answer = world.call(&world.key, http::Method::POST, &path, "").await;
    assert_eq!(answer.expect(200)["overlap"], "1day");
    assert_eq!(live().await, 3);

    world.post(&path, json!({"overlap": "0s"})).await.expect(200);
    assert_eq!(live().await, 1);

    for _ in live().await..10 {
        world.post(&path, json!({})).await.expect(200);
    }
    world.post(&path, json!({})).await.problem(409);
    assert_eq!(live().await, 10);
    assert_eq!(
        world.post(&path, json!({"overlap": "1y"})).await.invalid_fields(),
        ["overlap"]
    );
    world.stop().await;
}

#[tokio::test]
async fn a_disabled_target_matches_nothing_until_it_is_enabled() {
    let world = World::start().await;
    let endpoint = json!({"url": "https://example.com/", "events": ["*"]});
    let id = world.post("/webhooks/endpoints", endpoint).await.expect(201)["id"]
        .as_i64()
        .unwrap();
    let tenant = Tenant::new("acme").unwrap();
    let matched = async || world.catalog.match_targets(&tenant, "a").await.unwrap();
    let switch = async |verb: &str| {
        let path = format!("/webhooks/targets/{id}/{verb}");
        world.post(&path, json!({})).await.expect(200)["state"].clone()
    };

    assert_eq!(matched().await, [TargetId(id)]);
    assert_eq!(switch("disable").await, "disabled");
    assert_eq!(matched().await, []);
    assert_eq!(switch("disable").await, "disabled");
    assert_eq!(switch("enable").await, "active");
    assert_eq!(matched().await, [TargetId(id)]);
    world.stop().await;
}

#[tokio::test]
async fn a_retry_window_outlives_no_payload() {
    let world = World::start().await;
    let target = |window: &str| json!({"url": "https://example.com/", "retryPolicy": {"window": window}});
    let made = create(&world, target("71h")).await;
    let problem = world.post("/webhooks/targets", target("72h")).await.expect(422);
    assert_eq!(
        problem["errors"],
        json!([{"field": "retryPolicy.window", "message": "3days is not between 1s and 2days 23h"}])
    );
    let path = format!("/webhooks/targets/{}", made["id"]);
    world
        .patch(&path, json!({"retryPolicy": {"window": "30days"}}))
        .await
        .expect(422);
    assert_eq!(
        world.get(&path).await.expect(200)["retryPolicy"]["window"],
        "2days 23h"
    );
}

#[tokio::test]
async fn a_target_that_was_disabled_says_why_until_it_is_enabled() {
    let world = World::start().await;
    let made = create(&world, json!({"url": "https://example.com/"})).await;
    let path = format!("/webhooks/targets/{}", made["id"]);
    let id = TargetId(made["id"].as_i64().unwrap());
    world.catalog.disable_target(id, "gone").await.unwrap();
    let read = world.get(&path).await.expect(200);
    assert_eq!(
        (&read["state"], &read["disabledReason"]),
        (&json!("disabled"), &json!("gone"))
    );
    let kept = world.patch(&path, json!({"description": "d"})).await.expect(200);
    assert_eq!(kept["disabledReason"], "gone");
    for (call, state) in [("enable", "active"), ("disable", "disabled")] {
        let read = world.post(&format!("{path}/{call}"), json!({})).await.expect(200);
        assert_eq!(
            (&read["state"], &read["disabledReason"]),
            (&json!(state), &Value::Null)
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn a_list_of_pauses_stands_in_place_of_the_three_that_make_one() {
    let world = World::start().await;
    let target = |policy: Value| json!({"url": "https://example.com/", "retryPolicy": policy});
    let made = create(
        &world,
        target(json!({"schedule": ["5s", "5m", "2h"], "jitter": 0})),
    )
    .await;
    let path = format!("/webhooks/targets/{}", made["id"]);
    assert_eq!(
        world.get(&path).await.expect(200)["retryPolicy"],
        json!({"window": "1day", "jitter": 0.0, "schedule": ["5s", "5m", "2h"]})
    );
    let changed = world.patch(&path, json!({"retryPolicy": {"max": "1h"}})).await;
    assert_eq!(
        changed.expect(200)["retryPolicy"],
        json!({"window": "1day", "first": "5s", "factor": 3.0, "max": "1h", "jitter": 0.2})
    );
    for (policy, field) in [
        (json!({"schedule": []}), "retryPolicy.schedule"),
        (json!({"schedule": vec!["1s"; 101]}), "retryPolicy.schedule"),
        (json!({"schedule": ["5s", "0s"]}), "retryPolicy.schedule[1]"),
        (json!({"schedule": ["30days"]}), "retryPolicy.schedule[0]"),
        (json!({"schedule": ["5s"], "factor": 2}), "retryPolicy.schedule"),
    ] {
        let answer = world.post("/webhooks/targets", target(policy)).await;
        assert_eq!(answer.invalid_fields(), [field]);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_target_that_is_not_verified_is_not_enabled_by_asking() {
    let world = World::start().await;
    let tenant = Tenant::new("acme").unwrap();
    let body = json!({"url": "https://example.com/"});
    let id = TargetId(create(&world, body).await["id"].as_i64().unwrap());
    let unverified = TargetPatch {
        state: Change::Set(TargetState::Unverified),
        ..TargetPatch::default()
    };
    world.catalog.patch_target(&tenant, id, unverified).await.unwrap();
    let path = format!("/webhooks/targets/{}", id.0);
    let answer = world.post(&format!("{path}/enable"), json!({})).await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("needs to be verified"), "{detail}");
    answer.problem(409);
    assert_eq!(world.get(&path).await.expect(200)["state"], "unverified");
    world.stop().await;
}
