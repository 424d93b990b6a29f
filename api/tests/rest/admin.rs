//! Tenants and their keys.

use crate::world::{ADMIN_KEY, Answer, World, config};
use http::Method;
use serde_json::{Value, json};

async fn admin(world: &World, method: Method, path: &str, body: Value) -> Answer {
    world.call(ADMIN_KEY, method, path, body.to_string()).await
}

#[tokio::test]
async fn an_admin_makes_a_tenant_and_a_key_that_works_until_it_is_revoked() {
    let world = World::start().await;
    let answer = admin(&world, Method::POST, "/admin/tenants", json!({"name": "globex"})).await;
    assert_eq!(answer.headers["location"], "/v1/admin/tenants/globex");
    assert_eq!(answer.expect(201)["name"], "globex");
    admin(&world, Method::POST, "/admin/tenants", json!({"name": "globex"}))
        .await
        .problem(409);

    let keys = "/admin/tenants/globex/keys";
    let answer = admin(&world, Method::POST, keys, json!({"name": "orders"})).await;
    let location = answer.headers["location"].to_str().unwrap().to_owned();
    let made = answer.expect(201);
    assert_eq!(location, format!("/v1{keys}/{}", made["id"]));
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("hk_live_"), "{key}");
    assert!(key.starts_with(made["prefix"].as_str().unwrap()));

    let listed = admin(&world, Method::GET, keys, json!({})).await.expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
    assert_eq!(listed["items"][0]["id"], made["id"]);
    assert!(!listed.to_string().contains(key));

    world
        .call(key, Method::GET, "/webhooks/targets", "")
        .await
        .expect(200);
    let path = format!("{keys}/{}", made["id"]);
    admin(&world, Method::DELETE, &path, json!({})).await.expect(204);
    // At once in this process.
    world
        .call(key, Method::GET, "/webhooks/targets", "")
        .await
        .problem(401);
    admin(&world, Method::DELETE, &path, json!({})).await.problem(404);

    admin(&world, Method::DELETE, "/admin/tenants/globex", json!({}))
        .await
        .expect(204);
    admin(&world, Method::GET, "/admin/tenants/globex", json!({}))
        .await
        .problem(404);
    admin(&world, Method::GET, keys, json!({})).await.problem(404);
    world.stop().await;
}

#[tokio::test]
async fn a_tenant_with_targets_is_kept() {
    let world = World::start().await;
    world
        .post("/webhooks/targets", json!({"url": "https://example.com/"}))
        .await
        .expect(201);
    admin(&world, Method::DELETE, "/admin/tenants/acme", json!({}))
        .await
        .problem(409);
    admin(&world, Method::GET, "/admin/tenants/acme", json!({}))
        .await
        .expect(200);
    world.stop().await;
}

#[tokio::test]
async fn tenants_are_listed_page_by_page() {
    let world = World::start().await;
    for name in ["a", "b", "c"] {
        world.tenant(name).await;
    }
    let mut seen = Vec::new();
    let mut path = "/admin/tenants?limit=3".to_owned();
    loop {
        let page = admin(&world, Method::GET, &path, json!({})).await.expect(200);
        seen.extend(
            page["items"]
                .as_array()
                .unwrap()
                .iter()
                .map(|item| item["name"].clone()),
        );
        let Some(cursor) = page["nextCursor"].as_str() else {
            break;
        };
        path = format!("/admin/tenants?limit=3&cursor={cursor}");
    }
    seen.sort_by_key(Value::to_string);
    assert_eq!(seen, ["a", "acme", "b", "c"]);
    world.stop().await;
}

#[tokio::test]
async fn a_tenants_name_is_checked_where_it_is_made_and_names_nothing_elsewhere() {
    let world = World::start().await;
    for name in ["", "Acme", "a b", "-a", &"x".repeat(64)] {
        let answer = admin(&world, Method::POST, "/admin/tenants", json!({"name": name})).await;
        assert_eq!(answer.invalid_fields(), ["name"], "{name}");
    }
    assert_eq!(
        admin(&world, Method::POST, "/admin/tenants", json!({}))
            .await
            .invalid_fields(),
        ["name"]
    );
    admin(&world, Method::GET, "/admin/tenants/Acme", json!({}))
        .await
        .problem(404);
    admin(
        &world,
        Method::POST,
        "/admin/tenants/nobody/keys",
        json!({"name": "a"}),
    )
    .await
    .problem(404);
    admin(&world, Method::DELETE, "/admin/tenants/acme/keys/x", json!({}))
        .await
        .problem(404);
    let answer = admin(
        &world,
        Method::POST,
        "/admin/tenants/acme/keys",
        json!({"name": "a\nb"}),
    )
    .await;
    assert_eq!(answer.invalid_fields(), ["name"]);
    world.stop().await;
}

#[tokio::test]
async fn only_the_admin_key_opens_the_admin_routes() {
    let world = World::start().await;
    for path in [
        "/admin/tenants",
        "/admin/tenants/acme",
        "/admin/tenants/acme/keys",
    ] {
        for key in [
            world.key.as_str(),
            "the-admin-key",
            "the-admin-key-of-these-tests-and-more",
        ] {
            world.call(key, Method::GET, path, "").await.problem(403);
        }
        world.call("", Method::GET, path, "").await.problem(401);
    }
    // And it opens nothing else.
    world
        .call(ADMIN_KEY, Method::GET, "/webhooks/targets", "")
        .await
        .problem(403);
    world.stop().await;
}

#[tokio::test]
async fn without_an_admin_key_configured_administration_is_off() {
    let world = World::start_with(api::Config {
        admin_key: None,
        ..config()
    })
    .await;
    for key in ["", ADMIN_KEY] {
        let answer = world.call(key, Method::GET, "/admin/tenants", "").await;
        answer.problem(if key.is_empty() { 401 } else { 403 });
    }
    world.stop().await;
}
