//! What a target's owner sees of odd targets, through the whole product.

use crate::product::Setup;
use crate::sink::{Behaviour, Sink};
use schemas::signature::compatible::{Algorithm, Encoding, SignatureHeader};
use schemas::signature::{parse_secret, v1a};
use serde_json::json;

#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used_and_a_redirect_is_told_and_not_followed() {
    let sink = Sink::start().await;
    let mut setup = Setup::new();
    // Nobody listens there: a request that went through it would fail.
    for name in [
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "all_proxy",
    ] {
        setup = setup.env(name, "http://127.0.0.1:1");
    }
    let product = setup.dev().await;
    let target = product.endpoint(&sink, "/moved", &["a.b"]).await;
    sink.answer("/moved", Behaviour::status(302));
    product.retry_soon(target).await;
    let event = product.publish("a.b", json!({"n": 1})).await;
    let tried = sink
        .wait(crate::secs(20), "the redirect is answered", |delivery| {
            delivery.id == event
        })
        .await;
    let story = product.delivery_with(&tried.delivery_id, "retrying").await;
    assert_eq!(story["attempts"][0]["statusCode"], 302, "{story}");
    assert_eq!(story["attempts"][0]["error"], json!(null));
    assert!(story["attempts"][0]["responseHeaders"].is_object(), "{story}");
    sink.answer("/moved", Behaviour::default());
    let delivered = sink.accepted(crate::secs(20), &event).await;
    assert_eq!(delivered.verified, Some(true));
    product.delivery_with(&tried.delivery_id, "delivered").await;
    product.stop().await;
}

#[tokio::test]
async fn a_target_that_is_no_longer_allowed_is_blocked_and_told_in_one_word() {
    let sink = Sink::start().await;
    let setup = Setup::new();
    let product = setup.dev().await;
    product.endpoint(&sink, "/hook", &["a.b"]).await;
    product.stop().await;
    // The operator closes loopback; what was registered stays, and is judged anew at each attempt.
    let setup = setup.set("delivery.deny_networks", "[\"127.0.0.0/8\"]");
    let product = setup.dev().await;
    let event = product.publish("a.b", json!({"n": 1})).await;
    let story = crate::eventually(crate::secs(20), "the attempt is in history", async || {
        let list = product.get(&format!("/webhooks/events/{event}")).await;
        let id = (list.status == 200).then(|| list.expect(200))?["deliveries"][0]["id"]
            .as_str()?
            .to_owned();
        let answer = product.get(&format!("/webhooks/deliveries/{id}")).await;
        let story = (answer.status == 200).then(|| answer.expect(200))?;
        (story["attempts"][0]["error"] == "blocked").then_some(story)
    })
    .await;
    let attempt = &story["attempts"][0];
    assert_eq!(attempt["statusCode"], json!(null));
    assert_eq!(attempt["response"], json!(null));
    assert!(sink.of(&event).is_empty());
    product.stop().await;
}

#[tokio::test]
async fn a_delivery_carries_every_signature_its_target_asked_for() {
    let sink = Sink::start().await;
    let setup = Setup::new();
    let product = setup.dev().await;
    let made = json!({
        "url": sink.url("/hook"), "signature": ["v1", "v1a"], "signatureHeaders": [
            {"name": "X-Hub-Signature-256", "algorithm": "sha256", "encoding": "hex", "prefix": "sha256="}],
    });
    let target = product.post("/webhooks/targets", made).await.expect(201);
    let (id, secret) = (&target["id"], target["secret"].as_str().expect("a secret"));
    sink.verify("/hook", secret);
    let filter = json!({"name": "all", "events": ["*"]});
    let filter = product.post("/webhooks/filters", filter).await.expect(201);
    let subscription = json!({"targetId": id, "filterId": filter["id"]});
    product
        .post("/webhooks/subscriptions", subscription)
        .await
        .expect(201);
    // The old secret signs beside the new one, in every form.
    let path = format!("/webhooks/targets/{id}");
    product
        .post(&format!("{path}/secret"), json!({}))
        .await
        .expect(200);
    let keys = product.get(&format!("{path}/public-keys")).await.expect(200);
    let keys = keys["items"].as_array().expect("keys").clone();
    let event = product.publish("a.b", json!({"n": 1})).await;
    let delivery = sink.accepted(crate::secs(20), &event).await;
    assert_eq!(delivery.verified, Some(true));
    let signature = delivery.header("webhook-signature");
    let kinds: Vec<&str> = signature
        .split(' ')
        .filter_map(|one| one.split(',').next())
        .collect();
    assert_eq!(kinds, ["v1", "v1", "v1a", "v1a"]);
    let timestamp = delivery.header("webhook-timestamp").parse().expect("a time");
    assert_eq!(keys.len(), 2);
    for key in keys {
        let key = key["key"].as_str().expect("a key");
        assert!(
            v1a::verify(key, &event, timestamp, b"{\"n\":1}", signature),
            "{key}"
        );
    }
    let header = SignatureHeader {
        name: String::new(),
        algorithm: Algorithm::Sha256,
        encoding: Encoding::Hex,
        prefix: "sha256=".to_owned(),
    };
    let expected = header.value(&parse_secret(secret).expect("a secret"), b"{\"n\":1}");
    let given: Vec<_> = delivery.headers.get_all("x-hub-signature-256").iter().collect();
    assert_eq!(given.len(), 2);
    assert_eq!(given[1], expected.as_str(), "the new secret's comes first");
    product.stop().await;
}
