//! What is refused before it reaches a resource: paths, methods, bodies.

use crate::world::World;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;

#[tokio::test]
async fn a_path_that_is_no_route_answers_404() {
    let world = World::start().await;
    for path in [
        "/webhooks",
        "/webhooks/targets/1/2/3",
        "/webhooks/targets/",
        "/nothing",
        "/webhooks/stats/7",
    ] {
        world.get(path).await.problem(404);
    }
    for id in [
        "0",
        "-1",
        "x",
        "9007199254740992",
        "99999999999999999999",
        "%ff",
        "1%00",
        "1.0",
    ] {
        world.get(&format!("/webhooks/targets/{id}")).await.problem(404);
    }
    world.stop().await;
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_answers_405_and_names_those_it_takes() {
    let world = World::start().await;
    let answer = world
        .call(&world.key, Method::PUT, "/webhooks/targets/1", "{}")
        .await;
    let allow = answer.headers["allow"].to_str().unwrap().to_owned();
    for method in ["GET", "PATCH", "DELETE"] {
        assert!(allow.contains(method), "{allow}");
    }
    answer.problem(405);
    world.delete("/webhooks/events").await.problem(405);
    world.stop().await;
}

#[tokio::test]
async fn a_body_must_be_json_and_say_so() {
    let world = World::start().await;
    for path in ["/webhooks/targets", "/webhooks/filters", "/webhooks/events"] {
        let post = async |content_type: &str, body: &'static str| {
            let request = Request::post(format!("{}/v1{path}", world.root))
                .header("authorization", format!("Bearer {}", world.key))
                .header("content-type", content_type);
            world
                .send(
                    request
                        .body(Full::new(Bytes::from_static(body.as_bytes())))
                        .unwrap(),
                )
                .await
        };
        post("text/plain", "{}").await.problem(415);
        // What `curl -d` calls every body: JSON is taken, a form is not.
        post("application/x-www-form-urlencoded", "{}").await.problem(422);
        post("application/x-www-form-urlencoded", "a=1")
            .await
            .problem(400);
        post("application/json; charset=utf-8", "{}").await.problem(422);
        let answer = post("application/json", "{\n oops").await;
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("line 2 column"), "{detail}");
        assert_eq!(answer.problem(400)[0].0, "body");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_answers_413() {
    let world = World::start().await;
    let body = json!({"url": "https://example.com/", "description": "x".repeat(1 << 20)});
    world.post("/webhooks/targets", body).await.problem(413);
    world.stop().await;
}

#[tokio::test]
async fn without_a_database_everything_but_publishing_answers_503() {
    let world = World::start().await;
    world.get("/webhooks/targets").await.expect(200);
    world.catalog.pool().close().await;
    let table = [
        (Method::GET, "/webhooks/targets", json!({})),
        (Method::GET, "/webhooks/targets/1", json!({})),
        (
            Method::POST,
            "/webhooks/targets",
            json!({"url": "https://example.com/"}),
        ),
        (
            Method::POST,
            "/webhooks/endpoints",
            json!({"url": "https://example.com/", "events": ["*"]}),
        ),
        (Method::GET, "/webhooks/events/e1", json!({})),
        (Method::GET, "/webhooks/deliveries", json!({})),
    ];
    for (method, path, body) in table {
        let answer = world.call(&world.key, method, path, body.to_string()).await;
        assert_eq!(answer.headers["retry-after"], "1", "{path}");
        answer.problem(503);
    }
    world.stop().await;
}
