//! The audit log as the API tells it. That each change is in it is `tenancy`'s.

use crate::world::World;
use http::Method;
use serde_json::{Value, json};

#[tokio::test]
async fn a_change_is_told_with_who_made_it_and_what_it_was_and_is() {
    let world = World::start().await;
    let headers = json!({"url": "https://example.com/", "headers": {"authorization": "Bearer hush"}});
    let target = world.post("/webhooks/targets", headers).await.expect(201);
    let path = format!("/webhooks/targets/{}", target["id"]);
    world
        .patch(&path, json!({"description": "the shop"}))
        .await
        .expect(200);
    let path = format!("/webhooks/audit?kind=target&id={}&limit=1", target["id"]);
    let page = world.get(&path).await.expect(200);
    let entry = &page["items"][0];
    assert_eq!(entry["id"], target["id"].to_string());
    for (field, value) in [("tenant", "acme"), ("action", "update"), ("kind", "target")] {
        assert_eq!(entry[field], value);
    }
    assert_eq!(entry["actor"]["type"], "key");
    assert!(
        world
            .key
            .starts_with(entry["actor"]["keyPrefix"].as_str().unwrap())
    );
    assert_eq!(entry["before"]["description"], Value::Null);
    assert_eq!(entry["after"]["description"], "the shop");
    let cursor = page["nextCursor"].as_str().unwrap();
    let page = world.get(&format!("{path}&cursor={cursor}")).await.expect(200);
    assert_eq!(
        (&page["items"][0]["action"], &page["nextCursor"]),
        (&json!("create"), &json!(null))
    );
    assert!(!page.to_string().contains("hush"));

    let all = world
        .admin(Method::GET, "/admin/audit?tenant=acme&kind=key", json!({}))
        .await;
    let all = all.expect(200);
    assert_eq!(all["items"][0]["actor"]["type"], "system");
    assert!(!all.to_string().contains(&world.key));
    world.stop().await;
}

#[tokio::test]
async fn what_is_asked_of_the_audit_log_is_checked() {
    let world = World::start().await;
    for (query, field) in [
        ("kind=endpoint", "kind"),
        ("id=%00", "id"),
        ("from=yesterday", "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", "to"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("tenant=acme", "query"),
    ] {
        let answer = world.get(&format!("/webhooks/audit?{query}")).await;
        assert_eq!(answer.invalid_fields(), [field], "{query}");
    }
    let answer = world
        .admin(Method::GET, "/admin/audit?tenant=Acme", json!({}))
        .await;
    assert_eq!(answer.invalid_fields(), ["tenant"]);
    world.stop().await;
}
