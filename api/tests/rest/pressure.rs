//! Clients that press: too often, too much, without a key.

use crate::world::{World, config};
use api::Pace;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Sends the head of a request whose body never comes, and reads the head of the answer; `None` where the server waits
/// for the body.
async fn head_only(world: &World, headers: &str) -> Option<String> {
    let mut stream = TcpStream::connect(world.root.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    let head =
        format!("POST /v1/webhooks/events HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let read = async {
        while !answer.windows(4).any(|four| four == b"\r\n\r\n") {
            let mut part = [0; 1024];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&part[..read]);
        }
    };
    tokio::time::timeout(Duration::from_secs(5), read).await.ok()?;
    Some(String::from_utf8(answer).unwrap().to_lowercase())
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_again_before_its_body_is_read() {
    let pace = Pace { rate: 1, burst: 50 };
    let world = World::start_with(api::Config {
        pace: Some(pace),
        ..config()
    })
    .await;
    let other = world.tenant("other").await;
    let pressed = async || {
        for _ in 0..200 {
            let answer = world.get("/webhooks/targets").await;
            if answer.status == 429 {
                return answer;
            }
            answer.expect(200);
        }
        panic!("200 requests took more than 150 s");
    };
    let refused = pressed().await;
    let seconds: u32 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(seconds >= 1);
    refused.problem(429);
    let bearer = format!("authorization: Bearer {}\r\n", world.key);
    let answer = loop {
        // A token may have come back just now: then its request waits for its body, and not for us.
        if let Some(answer) = head_only(&world, &bearer).await {
            break answer;
        }
        pressed().await.problem(429);
    };
    assert!(answer.starts_with("http/1.1 429"), "{answer}");
    assert!(answer.contains("retry-after: 1\r\n"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    world
        .call(&other, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    // Who has no good key is not counted, and told so.
    for _ in 0..100 {
        world
            .call("hk_live_wrong", Method::GET, "/webhooks/targets", "")
            .await
            .problem(401);
    }
    world.stop().await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused_before_anything_is_asked() {
    let world = World::start().await;
    let filler = |bytes: usize| format!("authorization: Bearer x\r\nx-filler: {}\r\n", "x".repeat(bytes));
    assert!(
        head_only(&world, &filler(30_000))
            .await
            .unwrap()
            .starts_with("http/1.1 401")
    );
    let answer = head_only(&world, &filler(40_000)).await.unwrap();
    assert!(answer.starts_with("http/1.1 431"), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
    // Far too large, or too many: the connection itself does not take them.
    let many: String = (0..1000).map(|n| format!("x-{n}: x\r\n")).collect();
    for headers in [filler(600_000), many] {
        let answer = head_only(&world, &headers).await.unwrap();
        assert!(answer.starts_with("http/1.1 431"), "{answer}");
    }
    world.stop().await;
}

#[tokio::test]
async fn what_a_request_may_hold_has_an_end_and_names_it() {
    let world = World::start().await;
    let url = "https://example.com/";
    let headers = |count: usize| -> Value { (0..count).map(|n| (format!("x-{n}"), json!("v"))).collect() };
    let patterns = |count: usize| -> Value { (0..count).map(|n| json!(format!("a.n{n}"))).collect() };
    let target = |headers: Value| json!({"url": url, "headers": headers});
    let filter = |events: Value| json!({"name": "a", "events": events});
    for (path, fits, too_many, field) in [
        ("targets", target(headers(50)), target(headers(51)), "headers"),
        ("filters", filter(patterns(500)), filter(patterns(501)), "events"),
        (
            "endpoints",
            json!({"url": url, "events": patterns(500)}),
            json!({"url": url, "events": patterns(501)}),
            "events",
        ),
        (
            "targets",
            target(json!({"x-a": "v".repeat(4096), "x-b": "v".repeat(4000)})),
            target(json!({"x-a": "v".repeat(4096), "x-b": "v".repeat(4096)})),
            "headers",
        ),
        (
            "targets",
            json!({"url": url, "description": "é".repeat(1000)}),
            json!({"url": url, "description": "é".repeat(1001)}),
            "description",
        ),
        (
            "filters",
            json!({"name": "é".repeat(200), "events": ["*"]}),
            json!({"name": "é".repeat(201), "events": ["*"]}),
            "name",
        ),
    ] {
        let path = format!("/webhooks/{path}");
        world.post(&path, fits).await.expect(201);
        let errors = world.post(&path, too_many).await.problem(422);
        assert_eq!(errors[0].0, field, "{path}");
        assert!(errors[0].1.contains("at most"), "{errors:?}");
    }
    // 1 MiB for whatever is no event, whichever way it comes.
    let large = format!("{{\"url\":\"{}\"}}", "x".repeat(1 << 20));
    for (method, path) in [
        (Method::POST, "/webhooks/targets"),
        (Method::PATCH, "/webhooks/targets/1"),
        (Method::POST, "/webhooks/targets/1/secret"),
        (Method::POST, "/webhooks/filters"),
        (Method::POST, "/webhooks/subscriptions"),
        (Method::POST, "/webhooks/endpoints"),
        (Method::POST, "/webhooks/replays"),
        (Method::POST, "/webhooks/dead-letters/redrive"),
    ] {
        world
            .call(&world.key, method, path, large.clone())
            .await
            .problem(413);
    }
    let with_key = Request::post(format!("{}/v1/webhooks/targets", world.root))
        .header("authorization", format!("Bearer {}", world.key))
        .header("idempotency-key", "k")
        .body(Full::new(Bytes::from(large)))
        .unwrap();
    world.send(with_key).await.problem(413);
    for list in [
        "targets",
        "filters",
        "subscriptions",
        "endpoints",
        "events",
        "deliveries",
        "dead-letters",
        "replays",
    ] {
        world
            .get(&format!("/webhooks/{list}?limit=250"))
            .await
            .expect(200);
        let fields = world
            .get(&format!("/webhooks/{list}?limit=251"))
            .await
            .invalid_fields();
        assert_eq!(fields, ["limit"], "{list}");
    }
    world.stop().await;
}
