//! `Idempotency-Key`: a request that comes again is answered again, and not done again.

use crate::document::operations;
use crate::world::{ADMIN_KEY, Answer, World, config};
use http::{Method, Request};
use http_body_util::Full;
use platform::catalog::Page;
use schemas::ids::Tenant;
use serde_json::json;

/// POSTs with an idempotency key.
async fn post(world: &World, key: &str, path: &str, body: &str) -> Answer {
    post_as(world, &world.key, key, path, body).await
}

async fn post_as(world: &World, api_key: &str, key: &str, path: &str, body: &str) -> Answer {
    let request = Request::post(format!("{}/v1{path}", world.root))
        .header("authorization", format!("Bearer {api_key}"))
        .header("content-type", "application/json")
        .header("idempotency-key", key);
    world
        .send(request.body(Full::new(body.to_owned().into())).unwrap())
        .await
}

/// Checks that two answers are the same, byte for byte, and that the second one says so.
#[track_caller]
fn replayed(first: &Answer, second: &Answer) {
    assert_eq!(first.status, second.status);
    assert_eq!(first.body, second.body);
    assert!(!first.headers.contains_key("idempotent-replayed"));
    assert_eq!(second.headers["idempotent-replayed"], "true");
    let without = |answer: &Answer| {
        let mut headers = answer.headers.clone();
        headers.remove("idempotent-replayed");
        headers.remove("date");
        headers
    };
    assert_eq!(without(first), without(second));
}

async fn count(world: &World, kind: &str) -> usize {
    let list = world.get(&format!("/webhooks/{kind}")).await.expect(200);
    list["items"].as_array().unwrap().len()
}

#[tokio::test]
async fn whatever_a_tenant_posts_is_done_once_and_answered_again() {
    let world = World::start().await;
    let mut made = Vec::new();
    let target = json!({"url": "https://example.com/", "verification": "echo"});
    for (kind, body) in [
        ("targets", target),
        ("filters", json!({"name": "a", "events": ["*"]})),
        (
            "endpoints",
            json!({"url": "https://example.com/", "events": ["a"]}),
        ),
    ] {
        let path = format!("/webhooks/{kind}");
        let first = post(&world, kind, &path, &body.to_string()).await;
        let second = post(&world, kind, &path, &body.to_string()).await;
        replayed(&first, &second);
        assert!(second.headers.contains_key("location") && second.headers.contains_key("etag"));
        made.push(first.expect(201)["id"].clone());
    }
    assert_eq!(
        (count(&world, "targets").await, count(&world, "filters").await),
        (2, 2)
    );
    assert_eq!(world.answers.asked.load(std::sync::atomic::Ordering::SeqCst), 1);

    let both = json!({"targetId": made[0], "filterId": made[1]}).to_string();
    let first = post(&world, "s", "/webhooks/subscriptions", &both).await;
    replayed(&first, &post(&world, "s", "/webhooks/subscriptions", &both).await);
    first.expect(201);

    let target = format!("/webhooks/targets/{}", made[0]);
    for verb in ["secret", "disable", "enable", "verify", "test"] {
        let path = format!("{target}/{verb}");
        let first = post(&world, verb, &path, "").await;
        replayed(&first, &post(&world, verb, &path, "").await);
        first.expect(200);
    }
    let details = world
        .catalog
        .target_details(schemas::ids::TargetId(made[0].as_i64().unwrap()));
    assert_eq!(details.await.unwrap().unwrap().keys.len(), 2, "rotated once");

    let replay = json!({"targetId": made[0], "from": "2026-01-01T00:00:00Z", "status": "all"}).to_string();
    for (path, body) in [("replays", replay.as_str()), ("dead-letters/redrive", "{}")] {
        let path = format!("/webhooks/{path}");
        let first = post(&world, &path, &path, body).await;
        replayed(&first, &post(&world, &path, &path, body).await);
        first.expect(202);
    }
    assert_eq!(count(&world, "replays").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn a_key_stands_for_one_tenants_path_and_body() {
    let world = World::start().await;
    let body = r#"{"name":"a","events":["*"]}"#;
    let first = post(&world, "k", "/webhooks/filters", body).await;
    for (path, other) in [
        ("/webhooks/filters", r#"{"name":"b","events":["*"]}"#),
        // Not the same bytes.
        ("/webhooks/filters", r#"{"name":"a", "events":["*"]}"#),
        ("/webhooks/endpoints", body),
    ] {
        let fields = post(&world, "k", path, other).await.invalid_fields();
        assert_eq!(fields, ["idempotency-key"], "{path} {other}");
    }
    let other = world.tenant("other").await;
    let theirs = post_as(&world, &other, "k", "/webhooks/filters", body).await;
    assert!(!theirs.headers.contains_key("idempotent-replayed"));
    assert_ne!(theirs.expect(201)["id"], first.json()["id"]);
    // Who may not ask is not told what was answered.
    post_as(&world, "hk_live_wrong", "k", "/webhooks/filters", body)
        .await
        .problem(401);
    replayed(&first, &post(&world, "k", "/webhooks/filters", body).await);
    assert_eq!(count(&world, "filters").await, 1);
    for wrong in ["", "a\tb", &"x".repeat(256)] {
        let errors = post(&world, wrong, "/webhooks/filters", body).await.problem(400);
        assert_eq!(errors[0].0, "idempotency-key");
        let event = r#"{"type":"a","payload":1}"#;
        post(&world, wrong, "/webhooks/events", event).await.problem(400);
    }
    world.stop().await;
}

#[tokio::test]
async fn what_was_refused_may_be_corrected_under_the_same_key() {
    let world = World::start().await;
    for wrong in ["{", "{}", r#"{"name":"a","events":["a..b"]}"#] {
        post(&world, "k", "/webhooks/filters", wrong)
            .await
            .problem(if wrong == "{" { 400 } else { 422 });
    }
    let body = r#"{"name":"a","events":["*"]}"#;
    let first = post(&world, "k", "/webhooks/filters", body).await;
    replayed(&first, &post(&world, "k", "/webhooks/filters", body).await);
    // What is not there is not there the second time.
    for _ in 0..2 {
        post(&world, "n", "/webhooks/targets/1/enable", "")
            .await
            .problem(404);
    }
    world.stop().await;
}

#[tokio::test]
async fn while_it_is_worked_on_others_are_told_to_wait_and_a_client_that_left_finds_its_answer() {
    let world = World::start().await;
    let hold = world.answers.hold.lock().await;
    let body = r#"{"url":"https://example.com/","verification":"echo"}"#;
    {
        let first = post(&world, "k", "/webhooks/targets", body);
        let mut first = std::pin::pin!(first);
        // The target is made, and asked; its client goes away.
        tokio::select! {
            _ = &mut first => panic!("it is held"),
            permit = world.answers.reached.0.acquire() => permit.unwrap().forget(),
        }
        let second = post(&world, "k", "/webhooks/targets", body).await;
        assert_eq!(second.headers["retry-after"], "1");
        second.problem(409);
    }
    drop(hold);
    let found = loop {
        let again = post(&world, "k", "/webhooks/targets", body).await;
        if again.status != 409 {
            break again;
        }
    };
    assert_eq!(found.headers["idempotent-replayed"], "true");
    let found = found.expect(201);
    assert!(found["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(count(&world, "targets").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn many_at_once_make_one() {
    let world = World::start().await;
    let body = r#"{"name":"a","events":["*"]}"#;
    let all = (0..20).map(|_| post(&world, "k", "/webhooks/filters", body));
    let mut made = Vec::new();
    for answer in futures_util::future::join_all(all).await {
        match answer.status.as_u16() {
            201 => made.push(answer.json()["id"].clone()),
            _ => drop(answer.problem(409)),
        }
    }
    made.dedup();
    assert_eq!(made.len(), 1);
    assert_eq!(count(&world, "filters").await, 1);
    world.stop().await;
}

#[tokio::test]
async fn an_events_id_comes_from_its_requests_key_unless_it_has_one() {
    let world = World::start().await;
    let path = "/webhooks/events";
    let event = r#"{"type":"a","payload":1}"#;
    let first = post(&world, "k", path, event).await;
    replayed(&first, &post(&world, "k", path, event).await);
    assert_eq!(world.appends(), 1, "it is known to be accepted");
    let id = first.expect(202)["id"].clone();
    let other = post(&world, "k", path, r#"{"type":"a","payload":2}"#).await;
    assert_eq!(other.invalid_fields(), ["idempotency-key"]);
    let named = post(&world, "n", path, r#"{"type":"a","payload":1,"id":"mine"}"#).await;
    assert_eq!(named.expect(202)["id"], "mine");
    let tenant = world.tenant("other").await;
    let theirs = post_as(&world, &tenant, "k", path, event).await.expect(202);
    assert_ne!(theirs["id"], id);

    // A request that was not accepted is not remembered.
    *world.log.fault.lock().unwrap() = Some(platform::event_log::LogError::Unavailable("away".to_owned()));
    post(&world, "x", path, event).await.problem(503);
    *world.log.fault.lock().unwrap() = None;
    let appends = world.appends();
    post(&world, "x", path, event).await.expect(202);
    assert_eq!(world.appends(), appends + 1);

    // Another process does not know, appends again, and names the same event.
    let second = World::start_with(config()).await;
    assert_eq!(post(&second, "k", path, event).await.expect(202)["id"], id);
    second.stop().await;
    world.stop().await;
}

#[tokio::test]
async fn events_of_many_lines_have_ids_by_their_place() {
    let world = World::start().await;
    let lines = "{\"type\":\"a\",\"payload\":1}\n\n{\"type\":\"a\",\"payload\":1}\n{\"type\":\"b\",\"payload\":1,\"id\":\"b\"}\n";
    let post = async |key: &str| {
        let request = Request::post(format!("{}/v1/webhooks/events", world.root))
            .header("authorization", format!("Bearer {}", world.key))
            .header("content-type", "application/x-ndjson")
            .header("idempotency-key", key);
        world.send(request.body(Full::new(lines.into())).unwrap()).await
    };
    let first = post("k").await;
    replayed(&first, &post("k").await);
    let ids = first.expect(202)["ids"].clone();
    assert_ne!(ids[0], ids[1]);
    assert_eq!(ids[2], "b");
    assert_ne!(post("l").await.expect(202)["ids"][0], ids[0]);
    world.stop().await;
}

#[tokio::test]
async fn keys_are_taken_while_the_database_is_away_where_events_are_published() {
    let world = World::start().await;
    let event = r#"{"type":"a","payload":1}"#;
    post(&world, "a", "/webhooks/events", event).await.expect(202);
    world.catalog.pool().close().await;
    post(&world, "b", "/webhooks/events", event).await.expect(202);
    post(&world, "c", "/webhooks/filters", r#"{"name":"a","events":["*"]}"#)
        .await
        .problem(503);
    world.stop().await;
}

#[tokio::test]
async fn what_an_administrator_makes_is_made_once_and_answered_again() {
    let world = World::start().await;
    let ask = async |key: &str, path: &str, body: &str| post_as(&world, ADMIN_KEY, key, path, body).await;
    let (tenants, globex) = ("/admin/tenants", r#"{"name":"globex"}"#);
    let first = ask("k", tenants, globex).await;
    replayed(&first, &ask("k", tenants, globex).await);
    first.expect(201);
    ask("other", tenants, globex).await.problem(409);
    // The same key about another tenant is another one.
    ask("k", tenants, r#"{"name":"initech"}"#).await.expect(201);

    let (keys, body) = ("/admin/tenants/globex/keys", r#"{"name":"orders"}"#);
    let first = ask("new", keys, body).await;
    replayed(&first, &ask("new", keys, body).await);
    let value = first.expect(201)["key"].as_str().unwrap().to_owned();
    let listed = world.call(ADMIN_KEY, Method::GET, keys, "").await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    let fields = ask("new", keys, r#"{"name":"other"}"#).await.invalid_fields();
    assert_eq!(fields, ["idempotency-key"]);

    // A tenant's key is not an administrator's: not to be asked for its answer, nor in its way.
    post_as(&world, &value, "new", keys, body).await.problem(403);
    let filter = r#"{"name":"a","events":["*"]}"#;
    let theirs = post_as(&world, &value, "new", "/webhooks/filters", filter).await;
    theirs.expect(201);
    // What is refused is as new, and what cannot be about a tenant is refused in the route's words.
    for body in ["{", "{}", r#"{"name":"No"}"#] {
        let status = if body == "{" { 400 } else { 422 };
        ask("bad", tenants, body).await.problem(status);
    }
    ask("bad", "/admin/tenants/No/keys", body).await.problem(404);
    ask("bad", "/admin/tenants/nobody/keys", body).await.problem(404);
    ask("", tenants, r#"{"name":"a"}"#).await.problem(400);
    world.stop().await;
}

/// Whatever POST is described as taking a key takes it: a second request finds the first one's claim.
#[tokio::test]
async fn every_post_takes_a_key() {
    let world = World::start().await;
    let mut posts = 0;
    for (path, method, operation) in operations(&serde_json::to_value(api::openapi(&config())).unwrap()) {
        if method != "post" {
            continue;
        }
        let parameters = operation["parameters"].as_array();
        let described = parameters
            .into_iter()
            .flatten()
            .any(|parameter| parameter["name"] == "idempotency-key");
        assert!(described, "{path}");
        if path.starts_with("/v1/admin") || path.ends_with("/events") {
            continue;
        }
        posts += 1;
        let path = path.trim_start_matches("/v1").replace("{id}", "1");
        let tenant = Tenant::new("acme").unwrap();
        let day = std::time::Duration::from_secs(24 * 3600);
        // Somebody asked for something else.
        world.catalog.claim(&tenant, &path, "other", day).await.unwrap();
        let fields = post(&world, &path, &path, "{}").await.invalid_fields();
        assert_eq!(fields, ["idempotency-key"], "{path}");
    }
    assert!(posts >= 12, "{posts}");
    let page = Page {
        limit: 1,
        before: None,
    };
    let tenant = Tenant::new("acme").unwrap();
    assert_eq!(world.catalog.list_filters(&tenant, page).await, Ok(vec![]));
    world.stop().await;
}
