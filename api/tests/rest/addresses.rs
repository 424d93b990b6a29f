//! Which addresses a target may have.

use crate::targets::create;
use crate::world::{World, config};
use schemas::egress::EgressRules;
use serde_json::json;

#[tokio::test]
async fn an_address_inside_is_refused_in_the_same_words_whatever_it_is() {
    let world = World::start().await;
    for url in [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data",
        "https://0x7f.1/",
        "https://10.0.0.1/",
        "https://localhost/",
        "https://db.internal/",
    ] {
        for (path, body) in [
            ("/webhooks/targets", json!({"url": url})),
            ("/webhooks/endpoints", json!({"url": url, "events": ["*"]})),
        ] {
            let errors = world.post(path, body).await.problem(422);
            let expected = (
                "url".to_owned(),
                "this address is not allowed as a target".to_owned(),
            );
            assert_eq!(errors, [expected], "{url}");
        }
    }
    let id = create(&world, json!({"url": "https://example.com/"})).await["id"].clone();
    for path in [
        format!("/webhooks/targets/{id}"),
        format!("/webhooks/endpoints/{id}"),
    ] {
        let fields = world
            .patch(&path, json!({"url": "https://192.168.0.1/"}))
            .await
            .invalid_fields();
        assert_eq!(fields, ["url"]);
    }
    world.stop().await;
}

#[tokio::test]
async fn no_known_bypass_is_registered_by_any_of_the_ways_there_are() {
    let bypasses = include_str!("../../../schemas/testdata/bypasses.txt");
    let world = World::start().await;
    let made = world
        .post(
            "/webhooks/endpoints",
            json!({"url": "https://example.com/", "events": ["*"]}),
        )
        .await
        .expect(201);
    let id = made["id"].clone();
    let (target, endpoint) = (
        format!("/webhooks/targets/{id}"),
        format!("/webhooks/endpoints/{id}"),
    );
    for url in bypasses
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let answers = [
            world.post("/webhooks/targets", json!({"url": url})).await,
            world
                .post("/webhooks/endpoints", json!({"url": url, "events": ["*"]}))
                .await,
            world.patch(&target, json!({"url": url})).await,
            world.patch(&endpoint, json!({"url": url})).await,
        ];
        for answer in answers {
            assert_eq!(answer.invalid_fields(), ["url"], "{url}");
        }
    }
    assert_eq!(
        world.get(&target).await.expect(200)["url"],
        "https://example.com/"
    );
    let listed = world.get("/webhooks/targets").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    world.stop().await;
}

#[tokio::test]
async fn http_and_loopback_targets_need_the_operators_leave() {
    let rules = EgressRules {
        allow_http: true,
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..EgressRules::default()
    };
    let world = World::start_with(api::Config { rules, ..config() }).await;
    let made = create(&world, json!({"url": "http://127.0.0.1:9/"})).await;
    assert_eq!(made["url"], "http://127.0.0.1:9/");
    world.stop().await;
}
