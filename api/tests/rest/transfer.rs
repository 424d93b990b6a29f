//! A tenant's things as one document: written, brought in again, and refused with the place of what is wrong.

use crate::world::{World, config};
use api::transfer::{TransferError, export, import};
use platform::catalog::Settled;
use schemas::ids::Tenant;
use serde_json::{Value, json};

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

/// The fields that are wrong with a document, and what is said of each.
async fn wrong(world: &World, document: impl ToString) -> Vec<(String, String)> {
    let text = document.to_string();
    let error = import(&world.catalog, &config(), &tenant("acme"), text.as_bytes(), false).await;
    match error.unwrap_err() {
        TransferError::Document(errors) => errors.into_iter().map(|e| (e.field, e.message)).collect(),
        TransferError::Catalog(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn what_is_exported_comes_in_elsewhere_with_every_field_it_had() {
    let world = World::start().await;
    let full = json!({
        "url": "https://example.com/hooks", "description": "all of it", "headers": {"X-Shop": "42", "authorization": "Basic eDp5"},
        "contact": "ops@example.com", "rateLimit": "30/minute", "timeout": "3s", "signature": ["v1", "v1a"],
        "retryPolicy": {"schedule": ["5s", "1m"], "window": "2h"}, "verification": "crc",
        "signatureHeaders": [{"name": "x-hub-signature-256", "algorithm": "sha256", "encoding": "hex", "prefix": "sha256="}],
    });
    let full = world.post("/webhooks/targets", full).await.expect(201);
    let plain = world
        .post("/webhooks/targets", json!({"url": "https://example.com/"}))
        .await
        .expect(201);
    world
        .post(&format!("/webhooks/targets/{}/disable", plain["id"]), json!({}))
        .await
        .expect(200);
    let filter = json!({"name": "orders", "events": ["core.orders.*", "a"]});
    let filter = world.post("/webhooks/filters", filter).await.expect(201);
    let both = json!({"targetId": full["id"], "filterId": filter["id"], "active": false});
    world.post("/webhooks/subscriptions", both).await.expect(201);
    let endpoint = json!({"url": "https://example.com/e", "events": ["*"]});
    world.post("/webhooks/endpoints", endpoint).await.expect(201);

    let document = export(&world.catalog, &tenant("acme")).await.unwrap();
    let text = document.to_string();
    for secret in [&full, &plain] {
        assert!(!text.contains(&secret["secret"].as_str().unwrap()["whsec_".len()..]));
    }
    let elsewhere = World::start().await;
    let done = import(
        &elsewhere.catalog,
        &config(),
        &tenant("acme"),
        text.as_bytes(),
        false,
    )
    .await
    .unwrap();
    assert!(done.targets.iter().all(|(_, settled)| *settled == Settled::Made));
    assert_eq!(
        export(&elsewhere.catalog, &tenant("acme")).await.unwrap(),
        document
    );
    for kind in ["targets", "filters", "subscriptions"] {
        let path = format!("/webhooks/{kind}");
        let [here, there] = [world.get(&path).await, elsewhere.get(&path).await].map(|answer| {
            let mut list = answer.expect(200);
            for item in list["items"].as_array_mut().unwrap() {
                for time in ["createdAt", "updatedAt", "notProved", "verifiedAt"] {
                    item.as_object_mut().unwrap().remove(time);
                }
                // Whoever made it here has proved itself here.
                if item["verification"] == "crc" {
                    item.as_object_mut().unwrap().remove("state");
                }
            }
            list["items"].clone()
        });
        assert_eq!(there, here, "{kind}");
    }
    // A target that has to prove itself has not done so there.
    let there = elsewhere
        .get(&format!("/webhooks/targets/{}", full["id"]))
        .await
        .expect(200);
    assert_eq!(there["state"], "unverified");
    let again = import(
        &elsewhere.catalog,
        &config(),
        &tenant("acme"),
        text.as_bytes(),
        false,
    )
    .await
    .unwrap();
    assert!(again.targets.iter().all(|(_, settled)| *settled == Settled::Same));
    world.stop().await;
    elsewhere.stop().await;
}

#[tokio::test]
async fn what_is_wrong_is_named_by_its_place_and_nothing_is_brought_in() {
    let world = World::start().await;
    let good = json!({"id": 1, "url": "https://example.com/"});
    let fields = wrong(
        &world,
        json!({
            "version": 1,
            "targets": [
                good, {"id": 1, "url": "https://example.com/"}, {"url": "https://example.com/"},
                {"id": 2, "url": "https://169.254.169.254/", "timeout": "1h"}, {"id": 3, "url": "https://example.com/", "state": "active"},
                {"id": 4, "url": "https://example.com/", "colour": "red"}, {"id": 5, "url": "https://example.com/", "disabled": "no"},
                {"id": 6, "url": "https://example.com/", "headers": {"host": "x"}},
            ],
            "filters": [{"id": 1, "name": "", "events": []}, {"id": 2, "name": "f", "events": ["a b"]}, {"id": -1, "name": "f", "events": ["a"]}],
            "subscriptions": [
                {"id": 1, "targetId": 1, "filterId": 1}, {"id": 2, "targetId": 1, "filterId": 1}, {"id": 1, "targetId": 2, "filterId": 1},
            ],
        }),
    )
    .await;
    let named: Vec<&str> = fields.iter().map(|(field, _)| field.as_str()).collect();
    let expected = [
        "targets[1].id",
        "targets[2].id",
        "targets[3].url",
        "targets[3].timeout",
        "targets[4].state",
        "targets[5].colour",
        "targets[6].disabled",
        "targets[7].headers.host",
        "filters[0].name",
        "filters[0].events",
        "filters[1].events[0]",
        "filters[2].id",
        "subscriptions[1].filterId",
        "subscriptions[2].id",
    ];
    assert_eq!(named, expected, "{fields:#?}");
    assert!(fields[2].1.contains("not allowed"), "{fields:?}");
    let list = world.get("/webhooks/targets").await.expect(200);
    assert_eq!(list["items"], json!([]));

    let dangling =
        json!({"version": 1, "targets": [good], "subscriptions": [{"id": 1, "targetId": 1, "filterId": 7}]});
    assert_eq!(wrong(&world, dangling).await[0].0, "subscriptions[0].filterId");
    let bare = json!({"version": 1, "targets": [{"id": 1, "url": "https://example.com/", "tls": {"clientCertificate": "PEM"}}]});
    let (field, message) = wrong(&world, bare).await.remove(0);
    assert_eq!(field, "targets[0].tls.clientKey");
    assert!(message.contains("not exported"), "{message}");
    world.stop().await;
}

#[tokio::test]
async fn a_document_of_another_form_says_what_is_read() {
    let world = World::start().await;
    let table: [(Value, &str, &str); 6] = [
        (
            json!({}),
            "version",
            "is nothing; this version of hookwright reads 1",
        ),
        (
            json!({"version": 2, "secrets": []}),
            "version",
            "is 2; this version of hookwright reads 1",
        ),
        (json!({"version": "1"}), "version", "is \"1\""),
        (json!({"version": 1, "secrets": []}), "secrets", "unknown field"),
        (
            json!({"version": 1, "targets": [7]}),
            "targets[0]",
            "invalid type",
        ),
        (json!([]), "body", "is not a JSON object"),
    ];
    for (document, field, message) in table {
        let (named, said) = wrong(&world, &document).await.remove(0);
        assert!(
            named == field && said.contains(message),
            "{document}: {named}: {said}"
        );
    }
    let (field, said) = wrong(&world, "{\"version\": 1,\n \"targets\": [}")
        .await
        .remove(0);
    assert!(field == "body" && said.contains("line 2"), "{field}: {said}");
    world.stop().await;
}
