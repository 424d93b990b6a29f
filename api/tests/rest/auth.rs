//! Keys: missing, wrong, revoked elsewhere, and good while the database is away.

use crate::world::{World, config};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use schemas::ids::Tenant;
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn without_a_good_key_nothing_is_answered_but_401() {
    let world = World::start().await;
    let uri = format!("{}/v1/webhooks/targets", world.root);
    let mut values = vec![
        "".to_owned(),
        "Bearer".to_owned(),
        "Bearer ".to_owned(),
        "Bearer hk_live_wrong".to_owned(),
        format!("Basic {}", world.key),
        world.key.clone(),
        format!("Bearer {}x", world.key),
        format!("Bearer {}", "x".repeat(10_000)),
    ];
    values.push(format!("Bearer {}", &world.key[..world.key.len() - 1]));
    let bare = Request::get(&uri).body(Full::default()).unwrap();
    let mut requests = vec![bare];
    for value in values {
        let request = Request::get(&uri).header("authorization", value);
        requests.push(request.body(Full::<Bytes>::default()).unwrap());
    }
    for request in requests {
        let shown = format!("{:?}", request.headers());
        let answer = world.send(request).await;
        assert_eq!(answer.status, 401, "{shown}");
        assert!(
            answer.headers["www-authenticate"]
                .to_str()
                .unwrap()
                .starts_with("Bearer")
        );
        answer.problem(401);
    }
    // The scheme's name has no case (RFC 9110, 11.1).
    let lower = Request::get(&uri).header("authorization", format!("bearer {}", world.key));
    world.send(lower.body(Full::default()).unwrap()).await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn who_has_no_key_is_told_so_before_the_body_is_looked_at() {
    let world = World::start().await;
    for body in [vec![b'x'; 1 << 20], b"{".to_vec()] {
        world
            .call("hk_live_wrong", Method::POST, "/webhooks/events", body.clone())
            .await
            .problem(401);
        world
            .call("hk_live_wrong", Method::POST, "/webhooks/targets", body)
            .await
            .problem(401);
    }
    world.stop().await;
}

/// Revokes the world's key past its server.
async fn revoke_its_key(world: &World) {
    let tenant = Tenant::new("acme").unwrap();
    let page = platform::catalog::Page {
        limit: 1,
        before: None,
    };
    let id = world.catalog.list_keys(&tenant, page).await.unwrap()[0].id;
    world.catalog.revoke_key(&tenant, id).await.unwrap();
}

#[tokio::test]
async fn a_key_revoked_by_another_process_is_refused_within_two_seconds() {
    let world = World::start().await;
    world.get("/webhooks/targets").await.expect(200);
    revoke_its_key(&world).await;

    let revoked = Instant::now();
    while world.get("/webhooks/targets").await.status != 401 {
        assert!(
            revoked.elapsed() < Duration::from_millis(2500),
            "still good after 2.5 s"
        );
    }
    world.stop().await;
}

/// What stands before a handler has found the caller before the body came: that is not enough.
#[tokio::test]
async fn a_key_revoked_while_a_body_comes_is_refused() {
    let world = World::start_with(api::Config {
        pace: Some(api::Pace {
            rate: 1000,
            burst: 1000,
        }),
        ..config()
    })
    .await;
    let body = r#"{"name":"a","events":["*"]}"#;
    let head = format!(
        "POST /v1/webhooks/filters HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nidempotency-key: k\r\n\
         content-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        world.key,
        body.len()
    );
    let address = world.root.strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all((head + &body[..5]).as_bytes()).await.unwrap();
    world.get("/webhooks/targets").await.expect(200);
    revoke_its_key(&world).await;
    while world.get("/webhooks/targets").await.status != 401 {}
    stream.write_all(&body.as_bytes()[5..]).await.unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 401"), "{said}");
    world.stop().await;
}

#[tokio::test]
async fn a_key_made_after_it_was_refused_is_taken_soon() {
    let world = World::start().await;
    let key = world.tenant("late").await;
    let tenant = Tenant::new("late").unwrap();
    world
        .call("hk_live_other", Method::GET, "/webhooks/targets", "")
        .await
        .problem(401);
    world
        .call(&key, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    assert_eq!(world.catalog.get_tenant(&tenant).await.unwrap().name, tenant);
    world.stop().await;
}

#[tokio::test]
async fn publishing_goes_on_while_the_database_is_away() {
    let world = World::start().await;
    let event = json!({"type": "a", "payload": 1});
    world.post("/webhooks/events", event.clone()).await.expect(202);
    world.catalog.pool().close().await;

    // Longer than a key counts as good without being asked for: it is asked for, in vain.
    let until = Instant::now() + Duration::from_millis(2500);
    while Instant::now() < until {
        world.post("/webhooks/events", event.clone()).await.expect(202);
    }
    let answer = world.get("/webhooks/targets").await;
    assert_eq!(answer.headers["retry-after"], "1");
    answer.problem(503);
    // A key that was not seen before cannot be told from a wrong one.
    world
        .call(
            "hk_live_other",
            Method::POST,
            "/webhooks/events",
            event.to_string(),
        )
        .await
        .problem(503);
    world.stop().await;
}
