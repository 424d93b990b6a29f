//! Filters, subscriptions and endpoints; deleting what is in use; pages; other tenants' ids.

use crate::world::World;
use http::Method;
use schemas::ids::Tenant;
use serde_json::{Value, json};

/// A target, a filter and a subscription that ties them.
async fn three(world: &World) -> (Value, Value, Value) {
    let target = json!({"url": "https://example.com/"});
    let target = world.post("/webhooks/targets", target).await.expect(201)["id"].clone();
    let filter = json!({"name": "orders", "events": ["orders.*"]});
    let filter = world.post("/webhooks/filters", filter).await.expect(201)["id"].clone();
    let subscription = json!({"targetId": target, "filterId": filter});
    let subscription = world
        .post("/webhooks/subscriptions", subscription)
        .await
        .expect(201);
    (target, filter, subscription["id"].clone())
}

async fn matched(world: &World, event_type: &str) -> usize {
    let tenant = Tenant::new("acme").unwrap();
    world
        .catalog
        .match_targets(&tenant, event_type)
        .await
        .unwrap()
        .len()
}

#[tokio::test]
async fn a_filter_is_made_read_changed_listed_and_deleted() {
    let world = World::start().await;
    let body = json!({"name": "orders", "events": ["orders.*", "refunds.created", "orders.*"]});
    let answer = world.post("/webhooks/filters", body).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.expect(201);
    let path = format!("/webhooks/filters/{}", made["id"]);
    assert_eq!(location, format!("/v1{path}"));
    assert_eq!(made["events"], json!(["orders.*", "refunds.created"]));
    assert_eq!(world.get(&path).await.expect(200), made);
    assert_eq!(
        world.get("/webhooks/filters").await.expect(200)["items"],
        json!([made])
    );

    let renamed = world.patch(&path, json!({"name": "all"})).await.expect(200);
    assert_eq!(
        (&renamed["name"], &renamed["events"]),
        (&json!("all"), &made["events"])
    );
    let widened = world.patch(&path, json!({"events": ["*"]})).await.expect(200);
    assert_eq!(
        (&widened["name"], &widened["events"]),
        (&json!("all"), &json!(["*"]))
    );

    world.delete(&path).await.expect(204);
    world.get(&path).await.problem(404);
    world.stop().await;
}

#[tokio::test]
async fn a_filter_names_each_pattern_that_is_wrong() {
    let world = World::start().await;
    let body = json!({"name": " ", "events": ["a.b", "a..b", "*", "a*"]});
    let fields = world.post("/webhooks/filters", body).await.invalid_fields();
    assert_eq!(fields, ["name", "events[1]", "events[3]"]);
    let fields = world.post("/webhooks/filters", json!({})).await.invalid_fields();
    assert_eq!(fields, ["name", "events"]);
    let fields = world
        .post("/webhooks/filters", json!({"name": "a", "events": []}))
        .await
        .invalid_fields();
    assert_eq!(fields, ["events"]);
    let fields = world
        .post("/webhooks/filters", json!({"name": "a", "events": [1]}))
        .await
        .invalid_fields();
    assert_eq!(fields, ["events[0]"]);
    world.stop().await;
}

#[tokio::test]
async fn a_subscription_ties_target_and_filter_while_it_is_active() {
    let world = World::start().await;
    let (target, filter, subscription) = three(&world).await;
    let path = format!("/webhooks/subscriptions/{subscription}");
    assert_eq!(matched(&world, "orders.created").await, 1);
    let read = world.get(&path).await.expect(200);
    assert_eq!(
        (&read["targetId"], &read["filterId"], &read["active"]),
        (&target, &filter, &json!(true))
    );

    let paused = world.patch(&path, json!({"active": false})).await.expect(200);
    assert_eq!(paused["active"], false);
    assert_eq!(matched(&world, "orders.created").await, 0);

    let same = json!({"targetId": target, "filterId": filter});
    world.post("/webhooks/subscriptions", same).await.problem(409);
    let dangling = json!({"targetId": 1, "filterId": filter});
    assert_eq!(
        world
            .post("/webhooks/subscriptions", dangling)
            .await
            .invalid_fields(),
        ["targetId"]
    );
    let dangling = json!({"filterId": 1});
    assert_eq!(world.patch(&path, dangling).await.invalid_fields(), ["filterId"]);
    let nothing = world
        .post("/webhooks/subscriptions", json!({}))
        .await
        .invalid_fields();
    assert_eq!(nothing, ["targetId", "filterId"]);

    world.delete(&path).await.expect(204);
    world.get(&path).await.problem(404);
    world
        .get(&format!("/webhooks/targets/{target}"))
        .await
        .expect(200);
    world.stop().await;
}

#[tokio::test]
async fn what_subscriptions_use_is_deleted_only_with_them() {
    let world = World::start().await;
    for kind in ["targets", "filters"] {
        let (target, filter, subscription) = three(&world).await;
        let id = if kind == "targets" { &target } else { &filter };
        let path = format!("/webhooks/{kind}/{id}");

        let refused = world.delete(&path).await;
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(&subscription.to_string()), "{detail}");
        let errors = refused.problem(409);
        assert_eq!(errors, [("subscriptionId".to_owned(), subscription.to_string())]);
        world.delete(&format!("{path}?cascade=false")).await.problem(409);
        let fields = world
            .delete(&format!("{path}?cascade=yes"))
            .await
            .invalid_fields();
        assert_eq!(fields, ["cascade"]);
        world.get(&path).await.expect(200);

        world.delete(&format!("{path}?cascade=true")).await.expect(204);
        world.get(&path).await.problem(404);
        world
            .get(&format!("/webhooks/subscriptions/{subscription}"))
            .await
            .problem(404);
    }
    world.stop().await;
}

#[tokio::test]
async fn an_endpoint_is_target_filter_and_subscription_in_one() {
    let world = World::start().await;
    let body = json!({"url": "https://example.com/hooks", "events": ["orders.*", "a"]});
    let answer = world.post("/webhooks/endpoints", body).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.expect(201);
    let path = format!("/webhooks/endpoints/{}", made["id"]);
    assert_eq!(location, format!("/v1{path}"));
    assert!(made["secret"].as_str().unwrap().starts_with("whsec_"));
    assert_eq!(made["events"], json!(["a", "orders.*"]));
    assert_eq!(made["disabled"], false);
    world
        .get(&format!("/webhooks/targets/{}", made["id"]))
        .await
        .expect(200);
    let read = world.get(&path).await.expect(200);
    assert_eq!(read.get("secret"), None);
    assert_eq!(
        world.get("/webhooks/endpoints").await.expect(200)["items"],
        json!([read])
    );

    let changed = json!({"events": ["refunds.*"], "disabled": true});
    let changed = world.patch(&path, changed).await.expect(200);
    assert_eq!(
        (&changed["events"], &changed["disabled"]),
        (&json!(["refunds.*"]), &json!(true))
    );
    assert_eq!(matched(&world, "refunds.created").await, 0);
    world.patch(&path, json!({"disabled": false})).await.expect(200);
    assert_eq!(matched(&world, "refunds.created").await, 1);
    assert_eq!(matched(&world, "orders.created").await, 0);

    let fields = world
        .post("/webhooks/endpoints", json!({}))
        .await
        .invalid_fields();
    assert_eq!(fields, ["url", "events"]);
    world.delete(&path).await.expect(204);
    world.get(&path).await.problem(404);
    for kind in ["targets", "filters", "subscriptions"] {
        let left = world.get(&format!("/webhooks/{kind}")).await.expect(200);
        assert_eq!(left["items"], json!([]), "{kind}");
    }
    let disabled = json!({"url": "https://example.com/", "events": ["*"], "disabled": true});
    assert_eq!(
        world.post("/webhooks/endpoints", disabled).await.expect(201)["disabled"],
        true
    );
    world.stop().await;
}

#[tokio::test]
async fn lists_are_read_page_by_page_newest_first() {
    let world = World::start().await;
    let mut made = Vec::new();
    for number in 0..5 {
        let filter = json!({"name": format!("f{number}"), "events": ["*"]});
        made.push(world.post("/webhooks/filters", filter).await.expect(201)["id"].clone());
    }
    made.reverse();
    let mut seen = Vec::new();
    let mut pages = 0;
    let mut path = "/webhooks/filters?limit=2".to_owned();
    loop {
        let page = world.get(&path).await.expect(200);
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["id"].clone()),
        );
        pages += 1;
        let Some(cursor) = page["nextCursor"].as_str() else {
            break;
        };
        path = format!("/webhooks/filters?limit=2&cursor={cursor}");
    }
    assert_eq!((seen, pages), (made, 3));

    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=251", "limit"),
        ("limit=ten", "limit"),
        ("cursor=!", "cursor"),
        ("cursor=MS5h", "cursor"),
        ("colour=red", "query"),
        ("limit=1&limit=2", "query"),
    ] {
        let fields = world
            .get(&format!("/webhooks/filters?{query}"))
            .await
            .invalid_fields();
        assert_eq!(fields, [field], "{query}");
    }
    world.get("/webhooks/filters?limit=250").await.expect(200);
    world.stop().await;
}

#[tokio::test]
async fn another_tenants_ids_are_the_ids_of_nothing() {
    let world = World::start().await;
    let other = world.tenant("other").await;
    let (target, filter, subscription) = three(&world).await;
    let target_path = format!("/webhooks/targets/{target}");
    let table = [
        (Method::GET, target_path.clone(), json!({})),
        (Method::PATCH, target_path.clone(), json!({"description": "mine"})),
        (Method::DELETE, target_path.clone(), json!({})),
        (Method::DELETE, format!("{target_path}?cascade=true"), json!({})),
        (Method::POST, format!("{target_path}/secret"), json!({})),
        (Method::POST, format!("{target_path}/enable"), json!({})),
        (Method::POST, format!("{target_path}/disable"), json!({})),
        (Method::GET, format!("/webhooks/filters/{filter}"), json!({})),
        (
            Method::PATCH,
            format!("/webhooks/filters/{filter}"),
            json!({"events": ["*"]}),
        ),
        (
            Method::DELETE,
            format!("/webhooks/filters/{filter}?cascade=true"),
            json!({}),
        ),
        (
            Method::GET,
            format!("/webhooks/subscriptions/{subscription}"),
            json!({}),
        ),
        (
            Method::PATCH,
            format!("/webhooks/subscriptions/{subscription}"),
            json!({"active": false}),
        ),
        (
            Method::DELETE,
            format!("/webhooks/subscriptions/{subscription}"),
            json!({}),
        ),
        (Method::GET, format!("/webhooks/endpoints/{target}"), json!({})),
        (
            Method::PATCH,
            format!("/webhooks/endpoints/{target}"),
            json!({"disabled": true}),
        ),
        (Method::DELETE, format!("/webhooks/endpoints/{target}"), json!({})),
    ];
    for (method, path, body) in table {
        let answer = world.call(&other, method.clone(), &path, body.to_string()).await;
        assert_eq!(answer.status, 404, "{method} {path}");
        answer.problem(404);
    }
    let borrowed = json!({"targetId": target, "filterId": filter}).to_string();
    let answer = world
        .call(&other, Method::POST, "/webhooks/subscriptions", borrowed)
        .await;
    assert_eq!(answer.invalid_fields().len(), 1);
    for kind in ["targets", "filters", "subscriptions", "endpoints"] {
        let list = world
            .call(&other, Method::GET, &format!("/webhooks/{kind}"), "")
            .await
            .expect(200);
        assert_eq!(list["items"], json!([]), "{kind}");
    }
    // Nothing of it was changed.
    assert_eq!(matched(&world, "orders.created").await, 1);
    assert!(world.get(&target_path).await.expect(200)["description"].is_null());
    world.stop().await;
}
