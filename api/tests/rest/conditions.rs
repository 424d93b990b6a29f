//! `ETag`, `If-Match` and `If-None-Match` of what can be changed.

use crate::world::{Answer, World};
use http::{Method, Request};
use http_body_util::Full;
use serde_json::{Value, json};

/// Sends a request with one header more.
async fn with(world: &World, method: Method, path: &str, header: (&str, &str), body: Value) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(format!("{}/v1{path}", world.root))
        .header("authorization", format!("Bearer {}", world.key))
        .header(header.0, header.1);
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    world.send(request.body(Full::new(body.into())).unwrap()).await
}

fn tag(answer: &Answer) -> String {
    let tag = answer.headers["etag"].to_str().unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag} is strong");
    tag.to_owned()
}

/// One of each kind: its path, its tag when it was made, and a change to it.
async fn each(world: &World) -> Vec<(String, String, Value)> {
    let mut all = Vec::new();
    let mut make = async |kind: &str, body: Value, change: Value| {
        let answer = world.post(&format!("/webhooks/{kind}"), body).await;
        let tag = tag(&answer);
        let id = answer.expect(201)["id"].clone();
        all.push((format!("/webhooks/{kind}/{id}"), tag, change));
        id
    };
    let url = "https://example.com/";
    let target = make("targets", json!({"url": url}), json!({"description": "mine"})).await;
    let filter = make(
        "filters",
        json!({"name": "a", "events": ["a.*"]}),
        json!({"name": "b"}),
    )
    .await;
    let both = json!({"targetId": target, "filterId": filter});
    make("subscriptions", both, json!({"active": false})).await;
    make(
        "endpoints",
        json!({"url": url, "events": ["a"]}),
        json!({"events": ["b"]}),
    )
    .await;
    all
}

#[tokio::test]
async fn what_was_changed_meanwhile_is_not_changed_again_unseen() {
    let world = World::start().await;
    for (path, made, change) in each(&world).await {
        let read = world.get(&path).await;
        assert_eq!(tag(&read), made, "{path}: the tag of a POST is that of a GET");
        let read = read.expect(200);
        let patch =
            async |tag: &str| with(&world, Method::PATCH, &path, ("if-match", tag), change.clone()).await;
        let first = patch(&made).await;
        let now = tag(&first);
        assert_ne!(now, made, "{path}");
        first.expect(200);
        patch(&made).await.problem(412);
        let other = world.get(&path).await;
        assert_eq!(tag(&other), now, "{path}");
        assert_ne!(other.expect(200), read);
        // One of several, and whatever there is.
        let again = patch(&format!("{made} , \"x\", {now}")).await;
        let now = tag(&again);
        again.expect(200);
        patch("*").await.expect(200);
        patch(&now).await.problem(412);
        // A weak tag is the same as none.
        let now = tag(&world.get(&path).await);
        patch(&format!("W/{now}")).await.problem(412);
        for wrong in ["nonsense", "\"a", "\"a\","] {
            let errors = patch(wrong).await.problem(400);
            assert_eq!(errors[0].0, "if-match", "{wrong}");
        }
        let delete =
            async |tag: &str| with(&world, Method::DELETE, &path, ("if-match", tag), Value::Null).await;
        if path.contains("subscriptions") || path.contains("endpoints") {
            delete(&made).await.problem(412);
            delete(&now).await.expect(204);
            delete(&now).await.problem(404);
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_as_it_was_seen_is_not_sent_again() {
    let world = World::start().await;
    for (path, made, change) in each(&world).await {
        let get =
            async |tag: &str| with(&world, Method::GET, &path, ("if-none-match", tag), Value::Null).await;
        for seen in [made.clone(), format!("\"x\", W/{made}"), "*".to_owned()] {
            let answer = get(&seen).await;
            assert_eq!(tag(&answer), made, "{path}");
            assert!(!answer.headers.contains_key("content-type"));
            assert_eq!(answer.expect(304), Value::Null);
        }
        for other in ["\"x\"", "\"x,y\""] {
            assert_eq!(get(other).await.expect(200), world.get(&path).await.json());
        }
        get("x").await.problem(400);
        // Who has no key is told that first.
        let uri = format!("{}/v1{path}", world.root);
        let keyless = Request::get(uri)
            .header("if-none-match", "x")
            .body(Full::default());
        world.send(keyless.unwrap()).await.problem(401);
        world.patch(&path, change).await.expect(200);
        get(&made).await.expect(200);
    }
    world.stop().await;
}

#[tokio::test]
async fn whatever_changes_what_is_shown_changes_the_tag() {
    let world = World::start().await;
    let target = json!({"url": "https://example.com/", "verification": "echo"});
    *world.answers.refusal.lock().unwrap() = Some(platform::prober::NotProved::NoAnswer(
        schemas::outcome::AttemptError::Timeout,
    ));
    let made = world.post("/webhooks/targets", target).await;
    let mut last = tag(&made);
    let path = format!("/webhooks/targets/{}", made.expect(201)["id"]);
    *world.answers.refusal.lock().unwrap() = None;
    for verb in ["verify", "disable", "enable", "secret"] {
        let answer = world.post(&format!("{path}/{verb}"), json!({})).await;
        if verb != "secret" {
            assert_eq!(tag(&answer), tag(&world.get(&path).await), "{verb}");
        }
        answer.expect(200);
        let now = tag(&world.get(&path).await);
        assert_ne!(now, last, "{verb}");
        last = now;
    }
    world.stop().await;
}
