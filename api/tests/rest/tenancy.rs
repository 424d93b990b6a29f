//! No tenant sees or changes another's things, and no key does more than it may, by any operation there is.
//!
//! The operations are those of the OpenAPI document, so that a new one is tried here by itself. How long an answer
//! takes tells no more than the answer: another tenant's id and one that never was are asked of the database by the
//! same statements, which have the tenant in their condition.

use crate::operations::{Asked, For, Ids, Operation, all};
use crate::world::{ADMIN_KEY, Answer, TOPIC, World, config};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use platform::catalog::{NewKey, Scope, Scopes};
use platform::clock::Clock;
use platform::event_log::{EventLog, NewRecord};
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::{AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use serde_json::{Value, json};
use std::time::Duration;

const START: Millis = Millis(1_795_000_000_000);
/// The tenant whose things nobody else may see. Its name is in all that it has, and in no example.
const OWNER: &str = "zanzibar";
const SPY: &str = "spy";

/// A tenant with one of each thing.
struct Side {
    key: String,
    ids: Ids,
}

async fn send(world: &World, key: Option<&str>, asked: &Asked) -> Answer {
    let mut request = Request::builder()
        .method(asked.method.clone())
        .uri(format!("{}/v1{}", world.root, asked.path))
        .header("content-type", &asked.media_type);
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    world
        .send(request.body(Full::new(Bytes::from(asked.body.clone()))).unwrap())
        .await
}

async fn side(world: &World, name: &str) -> Side {
    let key = world.tenant(name).await;
    let make = async |path: &str, body: Value| {
        let made = world.call(&key, Method::POST, path, body.to_string()).await;
        made.expect(201)["id"].to_string()
    };
    let url = format!("https://{name}.example/");
    let target = make(
        "/webhooks/targets",
        json!({"url": url, "headers": {"x-who": name}}),
    )
    .await;
    let pattern = format!("{name}.made");
    let filter = make("/webhooks/filters", json!({"name": name, "events": [pattern]})).await;
    let number = |id: &str| id.parse::<i64>().unwrap();
    let joined = json!({"targetId": number(&target), "filterId": number(&filter)});
    let subscription = make("/webhooks/subscriptions", joined).await;
    let endpoint = make("/webhooks/endpoints", json!({"url": url, "events": [pattern]})).await;
    let (event, delivery) = given_up(world, name, TargetId(number(&target))).await;
    let asked = json!({"targetId": number(&target), "from": "2020-01-01T00:00:00Z", "status": "all"});
    let replay = world
        .call(&key, Method::POST, "/webhooks/replays", asked.to_string())
        .await;
    let replay = replay.expect(202)["id"].to_string();
    let keys = format!("/admin/tenants/{name}/keys");
    let other = world
        .admin(Method::POST, &keys, json!({"name": name}))
        .await
        .expect(201);
    let ids = [
        ("targets", target),
        ("filters", filter),
        ("subscriptions", subscription),
        ("endpoints", endpoint),
        ("events", event),
        ("deliveries", delivery),
        ("replays", replay),
        ("keys", other["id"].to_string()),
    ];
    Side { key, ids: ids.into() }
}

/// An event whose delivery was given up; the ids of both.
async fn given_up(world: &World, name: &str, target: TargetId) -> (String, String) {
    let record = NewRecord {
        value: Bytes::from_static(b"a record"),
        ..NewRecord::default()
    };
    let places = world.log.append(TOPIC, vec![record]).await.unwrap();
    let position: Position = places[0].clone();
    let tenant = Tenant::new(name).unwrap();
    let event = EventRecord {
        event_id: EventId::new(&format!("evt_{name}")).unwrap(),
        tenant: tenant.clone(),
        event_type: format!("{name}.made").into(),
        accepted_at: START,
        payload_size: 2,
        content_type: "application/json".into(),
        position: position.clone(),
        targets: vec![target],
    };
    let ended = AttemptRecord {
        reason: None,
        event_id: event.event_id.clone(),
        target,
        tenant,
        event_type: event.event_type.clone(),
        accepted_at: START,
        position,
        status: DeliveryStatus::Exhausted,
        number: 14,
        attempt: None,
        next_at: None,
        recorded_at: START,
    };
    let delivery = DeliveryId::derive(&event.event_id, target).as_str().to_owned();
    let event_id = event.event_id.as_str().to_owned();
    let records = [HistoryRecord::Event(event), HistoryRecord::Attempt(ended)];
    world.history.write(&records).await.unwrap();
    (event_id, delivery)
}

/// Ids of the same form and length that never were.
fn never_were(ids: &Ids) -> Ids {
    let other = |id: &String| match id.parse::<i64>() {
        Ok(number) => (number + 5_000_000_000).to_string(),
        Err(_) => match id.split_once('_') {
            Some((prefix, rest)) => format!("{prefix}_{}", rest.chars().rev().collect::<String>()),
            None => panic!("{id}"),
        },
    };
    ids.iter().map(|(name, id)| (*name, other(id))).collect()
}

/// Everything of an answer but when it was, with the ids it may repeat from the request struck out.
fn whole(answer: &Answer, ids: &Ids) -> String {
    let mut lines: Vec<String> = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "date")
        .map(|(name, value)| format!("{name}: {value:?}"))
        .collect();
    lines.sort();
    let body = String::from_utf8_lossy(&answer.body);
    let mut text = format!("{}\n{}\n\n{body}", answer.status, lines.join("\n"));
    for id in ids.values() {
        text = text.replace(id, "ID");
    }
    text
}

/// All that a tenant can look up, by every GET there is.
async fn seen(world: &World, operations: &[Operation], side: &Side) -> Vec<(String, Value)> {
    let mut seen = Vec::new();
    for operation in operations {
        if operation.method != Method::GET || !matches!(operation.needs, For::Scope(_)) {
            continue;
        }
        for asked in operation.requests(OWNER, &side.ids, &side.ids) {
            let answer = send(world, Some(&side.key), &asked).await;
            assert_eq!(answer.status, 200, "{}: the test's own id", asked.path);
            seen.push((asked.path, answer.json()));
        }
    }
    seen
}

async fn start() -> (World, Clock, Vec<Operation>, Side, Side) {
    let clock = Clock::driven(START);
    let world = World::start_at(clock.clone(), config()).await;
    let operations = all(&serde_json::to_value(api::openapi(&config())).unwrap());
    let owner = side(&world, OWNER).await;
    let spy = side(&world, SPY).await;
    (world, clock, operations, owner, spy)
}

#[tokio::test]
async fn another_tenants_things_are_as_things_that_never_were() {
    let (world, _, operations, owner, spy) = start().await;
    let never = never_were(&owner.ids);
    let before = seen(&world, &operations, &owner).await;
    assert!(before.iter().all(|(path, shown)| {
        path.contains("public-keys")
            // Counts name nothing; each tenant has given one delivery up.
            || (path.contains("/stats") && shown["total"]["deliveries"]["exhausted"] == 1)
            || shown.to_string().contains(OWNER)
            || owner
                .ids
                .values()
                .any(|id| shown.to_string().contains(id.as_str()))
    }));

    for operation in &operations {
        let key = match operation.needs {
            For::All => continue,
            For::Admin => ADMIN_KEY,
            For::Scope(_) => &spy.key,
        };
        // Their ids everywhere; then within the spy's own things.
        let theirs = operation.requests(SPY, &owner.ids, &owner.ids);
        let of_nobody = operation.requests(SPY, &never, &never);
        let inside = operation.requests(SPY, &spy.ids, &owner.ids);
        let inside_of_nobody = operation.requests(SPY, &spy.ids, &never);
        let pairs = theirs.iter().zip(&of_nobody);
        let inside = inside.iter().zip(&inside_of_nobody);
        // What has ids in its path only would be done, inside.
        let inside =
            inside.filter(|(their, nobodys)| (&their.path, &their.body) != (&nobodys.path, &nobodys.body));
        for (asked, nobodys) in pairs.chain(inside) {
            if operation.needs == For::Admin && asked.path.contains('?') {
                // Administrators see all tenants' audit log.
                continue;
            }
            let name = format!("{} {} {}", asked.method, asked.path, asked.body);
            let answer = send(&world, Some(key), asked).await;
            let text = whole(&answer, &owner.ids);
            if asked.names_something {
                let same = whole(&send(&world, Some(key), nobodys).await, &never);
                assert_eq!(text, same, "{name}");
                assert!(!text.contains(OWNER), "{name}: {text}");
            } else if operation.needs != For::Admin {
                let body = String::from_utf8_lossy(&answer.body);
                let leaks = owner.ids.values().any(|id| body.contains(id.as_str()));
                assert!(!leaks && !body.contains(OWNER), "{name}: {body}");
            }
        }
    }
    assert_eq!(seen(&world, &operations, &owner).await, before, "it was changed");

    // Nor does a page of theirs go on in another's list.
    for operation in operations
        .iter()
        .filter(|operation| operation.params.contains(&"cursor".to_owned()))
    {
        let lists = matches!(operation.needs, For::Scope(_));
        for asked in operation
            .requests(OWNER, &owner.ids, &owner.ids)
            .iter()
            .filter(|_| lists)
        {
            let and = if asked.path.contains('?') { '&' } else { '?' };
            let page = format!("{}{and}limit=1", asked.path);
            let first = world.call(&owner.key, Method::GET, &page, "").await.expect(200);
            let Some(cursor) = first["nextCursor"].as_str() else {
                continue;
            };
            let next = format!("{page}&cursor={cursor}");
            let shown = world.call(&spy.key, Method::GET, &next, "").await.expect(422);
            assert!(!shown.to_string().contains(OWNER), "{next}: {shown}");
        }
    }
    world.stop().await;
}

async fn key(world: &World, scopes: Scopes, expires_at: Option<Millis>) -> (i64, String) {
    let new = NewKey {
        name: "limited".to_owned(),
        scopes,
        expires_at,
    };
    let tenant = Tenant::new(OWNER).unwrap();
    let (row, value) = world.catalog.create_key(&tenant, new).await.unwrap();
    (row.id, value)
}

#[tokio::test]
async fn every_operation_asks_for_the_key_that_the_document_says() {
    let (world, clock, operations, owner, _) = start().await;
    let (revoked_id, revoked) = key(&world, Scopes::ALL, None).await;
    let (_, expired) = key(&world, Scopes::ALL, Some(START.plus(Duration::from_secs(1)))).await;
    let probe = |key: &str| Asked {
        method: Method::GET,
        path: "/webhooks/targets".to_owned(),
        media_type: "application/json".to_owned(),
        body: key.to_owned(),
        names_something: false,
    };
    // Both are remembered as good.
    for good in [&revoked, &expired] {
        send(&world, Some(good), &probe("")).await.expect(200);
    }
    let path = format!("/admin/tenants/{OWNER}/keys/{revoked_id}");
    world.admin(Method::DELETE, &path, json!({})).await.expect(204);
    clock.advance(Duration::from_secs(1));
    let mut alone = Vec::new();
    let mut lacking = Vec::new();
    for scope in Scope::ALL {
        alone.push(key(&world, Scopes::from_iter([scope]), None).await.1);
        let others = Scope::ALL.into_iter().filter(|other| *other != scope);
        lacking.push(key(&world, others.collect(), None).await.1);
    }
    let before = seen(&world, &operations, &owner).await;
    let never = never_were(&owner.ids);

    for operation in operations.iter().filter(|operation| operation.needs != For::All) {
        for asked in operation.requests(OWNER, &owner.ids, &owner.ids) {
            let name = format!("{} {}", asked.method, asked.path);
            let status = async |key: Option<&str>| send(&world, key, &asked).await.status.as_u16();
            assert_eq!(status(None).await, 401, "{name} without a key");
            match &operation.needs {
                For::Admin => {
                    // Whose key it is, and whether it is any, does not matter.
                    for key in [&owner.key, &revoked, &expired] {
                        assert_eq!(status(Some(key)).await, 403, "{name} with a tenant's key");
                    }
                }
                For::Scope(scope) => {
                    assert_eq!(status(Some(&revoked)).await, 401, "{name} with a revoked key");
                    assert_eq!(status(Some(&expired)).await, 401, "{name} with an expired key");
                    assert_eq!(
                        status(Some("hk_live_never")).await,
                        401,
                        "{name} with a wrong key"
                    );
                    assert_eq!(status(Some(ADMIN_KEY)).await, 403, "{name} with the admin key");
                    let at = Scope::from_word(scope).unwrap() as usize;
                    let refused = send(&world, Some(&lacking[at]), &asked).await;
                    assert_eq!(refused.status, 403, "{name} without scope {scope}");
                    let detail = refused.json()["detail"].as_str().unwrap().to_owned();
                    refused.problem(403);
                    assert!(detail.contains(&format!("scope {scope}")), "{name}: {detail}");
                }
                For::All => unreachable!(),
            }
        }
    }
    let mut after = seen(&world, &operations, &owner).await;
    // The audit log has the keys that were made.
    let audit = |(path, _): &(String, Value)| path.starts_with("/webhooks/audit");
    after.retain(|one| !audit(one));
    let kept: Vec<_> = before.into_iter().filter(|one| !audit(one)).collect();
    assert_eq!(after, kept, "something was done without the right key");

    // And no more than the document says.
    for operation in &operations {
        let For::Scope(scope) = &operation.needs else {
            continue;
        };
        let at = Scope::from_word(scope).unwrap() as usize;
        for asked in operation.requests(OWNER, &never, &never) {
            let status = send(&world, Some(&alone[at]), &asked).await.status.as_u16();
            let name = format!("{} {}", asked.method, asked.path);
            assert!(
                ![401, 403].contains(&status),
                "{name} needs more than {scope}: {status}"
            );
        }
    }
    world.stop().await;
}

#[tokio::test]
async fn every_change_is_in_the_audit_log_under_the_key_that_made_it() {
    let (world, clock, mut operations, owner, _) = start().await;
    clock.advance(Duration::from_secs(1));
    let from = clock.now().to_rfc3339();
    let entries = async || {
        let path = format!("/admin/audit?tenant={OWNER}&limit=250&from={from}");
        let listed = world.admin(Method::GET, &path, json!({})).await.expect(200);
        listed["items"].as_array().unwrap().clone()
    };
    operations.retain(|operation| operation.method != Method::GET);
    operations.sort_by_key(rank);
    // Nothing to enable or to verify, no change of the catalog, and a tenant that there is.
    let unchanging = [
        "/enable",
        "/verify",
        "/test",
        "/webhooks/events",
        "/admin/tenants",
    ];
    let mut changed = 0;
    for operation in &operations {
        let (key, kind, prefix) = match operation.needs {
            For::Admin => (ADMIN_KEY, "admin", None),
            For::Scope(_) => (owner.key.as_str(), "key", Some(&owner.key[..12])),
            For::All => continue,
        };
        let name = format!("{} {}", operation.method, operation.path);
        let before = entries().await.len();
        let mut is_done = false;
        for asked in operation.requests(OWNER, &owner.ids, &owner.ids) {
            let status = send(&world, Some(key), &asked).await.status;
            assert!(![401, 403, 404].contains(&status.as_u16()), "{name}: {status}");
            is_done |= status.is_success();
        }
        let entries = entries().await;
        let entries = &entries[..entries.len() - before];
        if is_done && !unchanging.iter().any(|end| operation.path.ends_with(end)) {
            assert!(!entries.is_empty(), "{name} is not in the audit log");
            changed += 1;
        }
        for entry in entries {
            assert_eq!(entry["actor"]["type"], kind, "{name}: {entry}");
            assert_eq!(entry["actor"]["keyPrefix"].as_str(), prefix, "{name}");
        }
    }
    assert!(changed > 18, "{changed}");
    world.stop().await;
}

/// Operations in an order in which each can be done.
fn rank(operation: &Operation) -> u8 {
    let path = operation.path.as_str();
    match (operation.method == Method::DELETE, path) {
        (false, path) if path.ends_with("/disable") => 1,
        (false, _) => 0,
        (true, "/webhooks/subscriptions/{id}") => 2,
        (true, "/admin/tenants/{tenant}") => 4,
        (true, _) => 3,
    }
}
