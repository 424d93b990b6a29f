//! What a target's owner sees of odd targets, through the whole product.

use crate::product::Setup;
use crate::sink::{Behaviour, Sink};
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
