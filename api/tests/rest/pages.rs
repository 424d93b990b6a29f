//! Cursors: good for the list, tenant and filters they were given for.

use crate::world::World;
use http::Method;
use serde_json::json;

#[tokio::test]
async fn a_cursor_of_another_list_tenant_or_choice_is_refused_and_says_so() {
    let world = World::start().await;
    let other = world.tenant("other").await;
    for number in 0..3 {
        let filter = json!({"name": format!("f{number}"), "events": ["*"]});
        world.post("/webhooks/filters", filter).await.expect(201);
        let target = json!({"url": "https://example.com/"});
        world.post("/webhooks/targets", target).await.expect(201);
    }
    let first = world.get("/webhooks/filters?limit=1").await.expect(200);
    let cursor = first["nextCursor"].as_str().unwrap().to_owned();
    // Pages may be of another size.
    for limit in ["limit=2", "limit=1"] {
        let path = format!("/webhooks/filters?cursor={cursor}&{limit}");
        let page = world.get(&path).await.expect(200);
        assert_eq!(page["items"][0]["name"], "f1");
    }
    for list in [
        "targets",
        "subscriptions",
        "endpoints",
        "replays",
        "events",
        "deliveries",
        "deliveries?status=pending",
        "dead-letters",
    ] {
        let sign = if list.contains('?') { '&' } else { '?' };
        let path = format!("/webhooks/{list}{sign}cursor={cursor}");
        let errors = world.get(&path).await.problem(422);
        assert_eq!(errors.len(), 1);
        assert_eq!(errors[0].0, "cursor", "{list}");
        assert!(
            errors[0].1.contains("another list, tenant or choice"),
            "{errors:?}"
        );
    }
    let path = format!("/webhooks/filters?cursor={cursor}");
    let theirs = world.call(&other, Method::GET, &path, "").await;
    assert_eq!(theirs.invalid_fields(), ["cursor"]);
    let errors = world.get("/webhooks/filters?cursor=MTIz").await.problem(422);
    assert!(errors[0].1.contains("as it was"), "{errors:?}");
    world.stop().await;
}
