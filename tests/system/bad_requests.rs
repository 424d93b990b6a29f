//! Requests that are not right: each is told what is wrong, and nothing is half done.

use crate::product::{Product, Setup};
use hyper::Method;
use serde_json::{Value, json};

async fn fields(product: &Product, path: &str, body: Value) -> Vec<(String, String)> {
    product.post(path, body).await.problem(422).fields
}

#[tokio::test]
async fn json_that_is_malformed_is_400_and_says_where() {
    let setup = Setup::new();
    let product = setup.dev().await;
    for path in [
        "/webhooks/targets",
        "/webhooks/filters",
        "/webhooks/endpoints",
        "/webhooks/events",
    ] {
        for body in ["{", "{]", "nonsense"] {
            let problem = product.call(Method::POST, path, body).await.problem(400);
            assert!(
                problem.detail.contains("line 1 column"),
                "{path} {body}: {problem:?}"
            );
        }
    }
}

#[tokio::test]
async fn fields_that_are_wrong_are_422_and_all_named() {
    let setup = Setup::new();
    let product = setup.dev().await;
    let url = "http://127.0.0.1:9/";
    let table = [
        ("/webhooks/endpoints", json!({"url": 5, "events": ["*"]}), "url"),
        ("/webhooks/endpoints", json!({"url": url}), "events"),
        ("/webhooks/endpoints", json!({"url": url, "events": []}), "events"),
        (
            "/webhooks/endpoints",
            json!({"url": url, "events": ["a.*.b"]}),
            "events[0]",
        ),
        (
            "/webhooks/endpoints",
            json!({"url": url, "events": ["*"], "evnets": 1}),
            "evnets",
        ),
        ("/webhooks/targets", json!({}), "url"),
        (
            "/webhooks/targets",
            json!({"url": url, "timeout": "15"}),
            "timeout",
        ),
        (
            "/webhooks/targets",
            json!({"url": url, "rateLimit": 0}),
            "rateLimit",
        ),
        (
            "/webhooks/targets",
            json!({"url": url, "headers": {"Host": "x"}}),
            "headers.Host",
        ),
        (
            "/webhooks/targets",
            json!({"url": url, "retryPolicy": {"factor": 0.5}}),
            "retryPolicy.factor",
        ),
        ("/webhooks/filters", json!({"events": ["*"]}), "name"),
        (
            "/webhooks/subscriptions",
            json!({"targetId": 1, "filterId": 2}),
            "targetId",
        ),
        (
            "/webhooks/events",
            json!({"type": "core orders", "payload": 1}),
            "type",
        ),
        ("/webhooks/events", json!({"type": "a.b"}), "payload"),
        (
            "/webhooks/events",
            json!({"type": "a.b", "payload": 1, "id": "a.b"}),
            "id",
        ),
    ];
    for (path, body, field) in table {
        let named = fields(&product, path, body.clone()).await;
        assert!(
            named
                .iter()
                .any(|(name, message)| name == field && !message.is_empty()),
            "{path} {body}: {named:?}"
        );
    }
    let both = fields(
        &product,
        "/webhooks/events",
        json!({"type": "a b", "payload": 1, "id": "é"}),
    )
    .await;
    assert_eq!(
        both.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
        ["type", "id"]
    );
    for path in ["/webhooks/targets", "/webhooks/filters"] {
        assert_eq!(
            product.get(path).await.expect(200)["items"],
            json!([]),
            "{path}: nothing is half done"
        );
    }
}

#[tokio::test]
async fn addresses_inside_are_no_targets() {
    let setup = Setup::new();
    let product = setup.dev().await;
    let word = "this address is not allowed as a target";
    for address in [
        "http://169.254.169.254/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xa9.0xfe.0xa9.0xfe/",
        "http://10.0.0.1/",
        "http://192.168.1.1:8080/",
        "http://[fd00:ec2::254]/",
        "http://metadata.google.internal/",
        "http://0.0.0.0/",
    ] {
        for (path, body) in [
            ("/webhooks/targets", json!({"url": address})),
            ("/webhooks/endpoints", json!({"url": address, "events": ["*"]})),
        ] {
            assert_eq!(
                fields(&product, path, body).await,
                [("url".to_owned(), word.to_owned())],
                "{address}"
            );
        }
    }
    for (address, part) in [
        ("ftp://example.com/", "scheme"),
        ("http://user:pass@example.com/", "user name"),
        ("not a url", "not a valid URL"),
        ("https://example.com:22/", "port 22"),
        ("https://example.com/#a", "fragment"),
    ] {
        let named = fields(&product, "/webhooks/targets", json!({"url": address})).await;
        assert!(
            named[0].0 == "url" && named[0].1.contains(part),
            "{address}: {named:?}"
        );
    }
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let setup = Setup::new();
    let product = setup.dev().await;
    for path in [
        "/webhooks/targets/1",
        "/webhooks/targets/abc",
        "/webhooks/targets/99999999999999999999",
        "/webhooks/filters/1",
        "/webhooks/subscriptions/1",
        "/webhooks/endpoints/1",
        "/webhooks/events/evt_1",
        "/webhooks/deliveries/dlv_1",
        "/webhooks/deliveries/%00",
        "/webhooks/nothing",
        "/nothing",
    ] {
        product.get(path).await.problem(404);
    }
    product.delete("/webhooks/targets/1").await.problem(404);
    product.patch("/webhooks/targets/1", json!({})).await.problem(404);
    product
        .call(Method::PUT, "/webhooks/targets", "{}")
        .await
        .problem(405);
}

#[tokio::test]
async fn without_a_good_key_it_is_401() {
    let setup = Setup::new();
    let mut product = setup.dev().await;
    for key in [
        "",
        "hk_live_0000000000000000000000000000000000000000000",
        "x",
        "é",
    ] {
        product.key = key.to_owned();
        for path in ["/webhooks/targets", "/webhooks/events", "/admin/tenants"] {
            let answer = product.get(path).await;
            // A key that is not the admin key is not let in, whatever it is.
            let status = if path.starts_with("/admin") && !key.is_empty() && key != "é" {
                403
            } else {
                401
            };
            assert!(
                answer.status == 401 || answer.status == status,
                "{path} {key:?}: {}",
                answer.text()
            );
            let status = answer.status.as_u16();
            answer.problem(status);
        }
        let event = json!({"type": "a.b", "payload": 1});
        product.post("/webhooks/events", event).await.problem(401);
    }
}

#[tokio::test]
async fn a_payload_above_the_largest_is_413() {
    let setup = Setup::new().set("events.max_payload", "64KiB");
    let product = setup.dev().await;
    let event = |bytes: usize| json!({"type": "a.b", "payload": "x".repeat(bytes - 2)});
    product
        .post("/webhooks/events", event(64 * 1024))
        .await
        .expect(202);
    let problem = product
        .post("/webhooks/events", event(64 * 1024 + 1))
        .await
        .problem(413);
    assert_eq!(problem.fields[0].0, "payload");
    // So large that it is not read to its end; little beyond it, or the client is still sending when
    // the answer comes.
    product
        .post("/webhooks/events", event(200 * 1024))
        .await
        .problem(413);
    let url = "x".repeat((1 << 20) + 100);
    product
        .post("/webhooks/targets", json!({"url": url}))
        .await
        .problem(413);
}
