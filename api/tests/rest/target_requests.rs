//! How requests to a target are made: what may be set, what is shown, and what never is.

use crate::world::World;
use rcgen::{CertificateParams, KeyPair};
use schemas::ids::TargetId;
use schemas::signature::v1a;
use serde_json::{Value, json};

/// A certificate and its key in PEM.
fn certificate() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["client.example".to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_target_says_how_it_wants_its_requests_and_shows_all_but_the_key() {
    let world = World::start().await;
    let (certificate, key) = certificate();
    let body = json!({
        "url": "https://example.com/", "signature": ["v1a", "v1"],
        "signatureHeaders": [
            {"name": "X-Hub-Signature-256", "algorithm": "sha256", "encoding": "hex", "prefix": "sha256="},
            {"name": "x-shopify-hmac-sha256", "algorithm": "sha256", "encoding": "base64"},
        ],
        "tls": {"ca": certificate, "clientCertificate": certificate, "clientKey": key},
    });
    let made = world.post("/webhooks/targets", body).await.expect(201);
    let path = format!("/webhooks/targets/{}", made["id"]);
    let read = world.get(&path).await.expect(200);
    assert_eq!(read["signature"], json!(["v1", "v1a"]));
    assert_eq!(read["signatureHeaders"][0]["name"], "x-hub-signature-256");
    assert_eq!(read["signatureHeaders"][1]["prefix"], "");
    assert_eq!(
        read["tls"],
        json!({"ca": certificate, "clientCertificate": certificate})
    );
    for shown in [&made, &read, &world.get("/webhooks/targets").await.expect(200)] {
        assert!(!shown.to_string().contains("PRIVATE KEY"));
    }
    let id = TargetId(made["id"].as_i64().unwrap());
    let details = || async { world.catalog.target_details(id).await.unwrap().unwrap() };
    assert_eq!(details().await.client_key.unwrap().reveal(), key);

    // What is not named stays; null is as for a new target.
    world.patch(&path, json!({"description": "x"})).await.expect(200);
    assert!(details().await.client_key.is_some());
    let nulls = json!({"signature": null, "signatureHeaders": null, "tls": null});
    let emptied = world.patch(&path, nulls).await.expect(200);
    assert_eq!(emptied["signature"], json!(["v1"]));
    assert_eq!(
        (&emptied["signatureHeaders"], &emptied["tls"]),
        (&json!([]), &Value::Null)
    );
    assert!(details().await.client_key.is_none());
    world.stop().await;
}

#[tokio::test]
async fn the_public_keys_are_those_that_sign() {
    let world = World::start().await;
    let made = world
        .post("/webhooks/targets", json!({"url": "https://example.com/"}))
        .await
        .expect(201);
    let path = format!("/webhooks/targets/{}", made["id"]);
    let keys = || async { world.get(&format!("{path}/public-keys")).await.expect(200)["items"].clone() };
    assert_eq!(keys().await, json!([]));
    world
        .patch(&path, json!({"signature": ["v1", "v1a"]}))
        .await
        .expect(200);
    let first = keys().await;
    assert_eq!(
        (first.as_array().unwrap().len(), &first[0]["until"]),
        (1, &Value::Null)
    );
    world
        .post(&format!("{path}/secret"), json!({"overlap": "1h"}))
        .await
        .expect(200);
    let both = keys().await;
    assert_eq!(both[1]["key"], first[0]["key"]);
    assert!(both[1]["until"].is_string() && both[0]["until"].is_null());
    let id = TargetId(made["id"].as_i64().unwrap());
    let details = world.catalog.target_details(id).await.unwrap().unwrap();
    for (live, shown) in details.keys.iter().zip(both.as_array().unwrap()) {
        let signed = live.pair.as_ref().unwrap().sign("id", 1, b"{}");
        assert!(v1a::verify(
            shown["key"].as_str().unwrap(),
            "id",
            1,
            b"{}",
            &signed
        ));
    }
    world.get("/webhooks/targets/1/public-keys").await.problem(404);
    world.stop().await;
}

#[tokio::test]
async fn what_cannot_be_used_is_named() {
    let world = World::start().await;
    let (certificate, key) = certificate();
    let (other, _) = self::certificate();
    let header = |name: &str, prefix: &str| json!({"name": name, "algorithm": "sha256", "encoding": "hex", "prefix": prefix});
    let many: Vec<Value> = (0..6).map(|n| header(&format!("x-{n}"), "")).collect();
    let table = [
        (json!({"signature": []}), "signature"),
        (json!({"signature": ["v1", "v1"]}), "signature"),
        (json!({"signature": ["v2"]}), "signature[0]"),
        (json!({"signatureHeaders": many}), "signatureHeaders"),
        (
            json!({"signatureHeaders": [header("webhook-signature", "")]}),
            "signatureHeaders.0",
        ),
        (
            json!({"signatureHeaders": [header("host", "")]}),
            "signatureHeaders.0",
        ),
        (
            json!({"signatureHeaders": [header("x-a", ""), header("X-A", "")]}),
            "signatureHeaders.1",
        ),
        (
            json!({"signatureHeaders": [header("x-a", "a\r\nb")]}),
            "signatureHeaders.0",
        ),
        (json!({"tls": {"ca": "no PEM"}}), "tls.ca"),
        (json!({"tls": {"ca": key}}), "tls.ca"),
        (
            json!({"tls": {"ca": format!("{certificate}{}", "#".repeat(64 * 1024))}}),
            "tls.ca",
        ),
        (
            json!({"tls": {"clientCertificate": certificate}}),
            "tls.clientKey",
        ),
        (json!({"tls": {"clientKey": key}}), "tls.clientCertificate"),
        (
            json!({"tls": {"clientCertificate": "x", "clientKey": key}}),
            "tls.clientCertificate",
        ),
        (
            json!({"tls": {"clientCertificate": certificate, "clientKey": "hush"}}),
            "tls.clientKey",
        ),
        (
            json!({"tls": {"clientCertificate": other, "clientKey": key}}),
            "tls.clientKey",
        ),
    ];
    let made = world
        .post("/webhooks/targets", json!({"url": "https://example.com/"}))
        .await
        .expect(201);
    let path = format!("/webhooks/targets/{}", made["id"]);
    for (body, field) in table {
        let errors = world.patch(&path, body.clone()).await.problem(422);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].0, field, "{errors:?}");
        assert!(
            !errors[0].1.contains("hush") && !errors[0].1.contains("PRIVATE"),
            "{errors:?}"
        );
        let mut new = body;
        new["url"] = json!("https://example.com/");
        assert_eq!(
            world.post("/webhooks/targets", new).await.invalid_fields(),
            [field]
        );
    }
    world.stop().await;
}
