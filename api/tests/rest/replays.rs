//! Resends, replays and redrives as they are asked for. The consumer, which does them, is not here.

use crate::world::{Answer, TOPIC, World};
use bytes::Bytes;
use http::Method;
use platform::catalog::NewTarget;
use platform::event_log::{EventLog, NewRecord};
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::{AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::target::TargetState;
use schemas::time::Millis;
use serde_json::{Value, json};

const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

fn acme() -> Tenant {
    Tenant::new("acme").unwrap()
}

async fn target(world: &World, state: TargetState) -> TargetId {
    let new = NewTarget {
        state,
        ..NewTarget::at("https://a.example/")
    };
    world.catalog.create_target(&acme(), new).await.unwrap().0.id
}

/// A delivery in history that came to this end, of an event at this offset of the log; its id.
async fn delivery(
    world: &World,
    number: i64,
    offset: i64,
    target: TargetId,
    status: DeliveryStatus,
) -> String {
    let event = EventRecord {
        event_id: EventId::new(&format!("e{number}")).unwrap(),
        tenant: acme(),
        event_type: "orders.created".into(),
        accepted_at: Millis(START + number * 1000),
        payload_size: 2,
        content_type: "application/json".into(),
        position: Position {
            topic: TOPIC.into(),
            partition: 0,
            offset,
        },
        targets: vec![target],
    };
    let ended = AttemptRecord {
        reason: None,
        event_id: event.event_id.clone(),
        target,
        tenant: acme(),
        event_type: event.event_type.clone(),
        accepted_at: event.accepted_at,
        position: event.position.clone(),
        status,
        number: 14,
        attempt: None,
        next_at: None,
        recorded_at: Millis(event.accepted_at.0 + 10),
    };
    let id = DeliveryId::derive(&event.event_id, target).as_str().to_owned();
    let records = [HistoryRecord::Event(event), HistoryRecord::Attempt(ended)];
    world.history.write(&records).await.unwrap();
    id
}

async fn append(world: &World) {
    let record = NewRecord {
        value: Bytes::from_static(b"a record"),
        ..NewRecord::default()
    };
    world.log.append(TOPIC, vec![record]).await.unwrap();
}

#[track_caller]
fn refused(answer: Answer, status: u16, why: &str) {
    let body: Value = answer.json();
    answer.problem(status);
    assert!(body["detail"].as_str().unwrap().contains(why), "{body}");
}

fn resend(id: &str) -> String {
    format!("/webhooks/deliveries/{id}/resend")
}

#[tokio::test]
async fn a_delivery_is_resent_while_its_target_and_its_event_are_there() {
    let world = World::start().await;
    append(&world).await;
    let active = target(&world, TargetState::Active).await;
    let id = delivery(&world, 1, 0, active, DeliveryStatus::Delivered).await;
    let made = world.post(&resend(&id), json!({})).await.expect(202);
    assert_eq!(
        (
            &made["status"],
            &made["deliveryId"],
            &made["state"],
            &made["targetId"]
        ),
        (&json!("one"), &json!(id), &json!("waiting"), &json!(active.0))
    );
    let read = world
        .get(&format!("/webhooks/replays/{}", made["id"]))
        .await
        .expect(200);
    assert_eq!(read, made);

    let gone = delivery(&world, 2, 1, active, DeliveryStatus::Exhausted).await;
    refused(
        world.post(&resend(&gone), json!({})).await,
        410,
        "no longer holds",
    );
    let disabled = target(&world, TargetState::Disabled).await;
    let id = delivery(&world, 3, 0, disabled, DeliveryStatus::Exhausted).await;
    refused(world.post(&resend(&id), json!({})).await, 409, "is disabled");
    let id = delivery(&world, 4, 0, TargetId(77), DeliveryStatus::Canceled).await;
    refused(world.post(&resend(&id), json!({})).await, 409, "was deleted");
    for nothing in ["dlv_0f2a163e1df6ac11a3fd38aee9c27cc6", "e1", "%00", "..%2f"] {
        refused(world.post(&resend(nothing), json!({})).await, 404, "nothing");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_replay_is_made_listed_looked_up_and_stopped() {
    let world = World::start().await;
    let target = target(&world, TargetState::Active).await;
    let ask = |status: &str| json!({"targetId": target.0, "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z", "status": status});
    let mut made = Vec::new();
    for status in ["missed", "failed", "all"] {
        let replay = world.post("/webhooks/replays", ask(status)).await.expect(202);
        assert_eq!(replay["status"], status);
        assert_eq!(replay["from"], "2026-01-01T00:00:00.000Z");
        assert_eq!(replay["to"], "2026-01-02T00:00:00.000Z");
        assert_eq!(
            replay["progress"],
            json!({"percent": 0, "examined": 0, "sent": 0, "lost": 0})
        );
        made.push(replay);
    }
    let first = world.get("/webhooks/replays?limit=2").await.expect(200);
    assert_eq!(first["items"], json!([made[2], made[1]]));
    let cursor = first["nextCursor"].as_str().unwrap();
    let rest = world
        .get(&format!("/webhooks/replays?cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(rest, json!({"items": [made[0]], "nextCursor": null}));

    let path = format!("/webhooks/replays/{}", made[0]["id"]);
    for _ in 0..2 {
        assert_eq!(world.delete(&path).await.status, 204);
        assert_eq!(world.get(&path).await.expect(200)["state"], "canceled");
    }
    refused(world.delete("/webhooks/replays/1").await, 404, "nothing");
    // Now, when it is left out.
    let open = json!({"targetId": target.0, "from": "2026-01-01T00:00:00Z", "status": "missed"});
    let replay = world.post("/webhooks/replays", open).await.expect(202);
    assert!(replay["to"].as_str() <= replay["createdAt"].as_str(), "{replay}");
    assert!(replay["to"].as_str() > made[2]["createdAt"].as_str(), "{replay}");
    world.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_replay_is_named() {
    let world = World::start().await;
    let active = target(&world, TargetState::Active).await.0;
    let unverified = target(&world, TargetState::Unverified).await.0;
    let (from, to) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let table: [(Value, &[&str]); 9] = [
        (json!({}), &["targetId", "from", "status"]),
        (
            json!({"targetId": 0, "from": from, "status": "all"}),
            &["targetId"],
        ),
        (
            json!({"targetId": 7, "from": from, "status": "all"}),
            &["targetId"],
        ),
        (
            json!({"targetId": active, "from": "then", "status": "all"}),
            &["from"],
        ),
        (
            json!({"targetId": active, "from": to, "to": from, "status": "all"}),
            &["to"],
        ),
        (
            json!({"targetId": active, "from": "2096-01-01T00:00:00Z", "status": "all"}),
            &["from"],
        ),
        (
            json!({"targetId": active, "from": from, "status": "one"}),
            &["status"],
        ),
        (
            json!({"targetId": active, "from": from, "status": "exhausted"}),
            &["status"],
        ),
        (
            json!({"targetId": active, "from": from, "status": "all", "rate": 1}),
            &["rate"],
        ),
    ];
    for (body, fields) in table {
        let problem = world.post("/webhooks/replays", body.clone()).await.problem(422);
        let named: Vec<&str> = problem.iter().map(|(field, _)| field.as_str()).collect();
        assert_eq!(named, fields, "{body}");
    }
    let body = json!({"targetId": unverified, "from": from, "status": "all"});
    refused(world.post("/webhooks/replays", body).await, 409, "is unverified");
    let body = json!({"targetId": active, "deliveryId": "dlv_1"});
    refused(
        world.post("/webhooks/dead-letters/redrive", body).await,
        422,
        "not valid",
    );
    world.stop().await;
}

#[tokio::test]
async fn dead_letters_are_listed_and_redriven_by_target_one_by_one_and_all() {
    use DeliveryStatus::{Canceled, Delivered, Exhausted};
    let world = World::start().await;
    append(&world).await;
    let (one, other) = (
        target(&world, TargetState::Active).await,
        target(&world, TargetState::Active).await,
    );
    let disabled = target(&world, TargetState::Disabled).await;
    let mut letters = Vec::new();
    for (number, to, status) in [
        (1, one, Exhausted),
        (2, one, Delivered),
        (3, other, Exhausted),
        (4, other, Canceled),
        (5, disabled, Exhausted),
    ] {
        letters.push(delivery(&world, number, 0, to, status).await);
    }
    let ids = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().unwrap().iter();
        items
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = world.get("/webhooks/dead-letters").await.expect(200);
    assert_eq!(
        ids(&all),
        [letters[4].clone(), letters[2].clone(), letters[0].clone()]
    );
    let of_one = world
        .get(&format!("/webhooks/dead-letters?targetId={one}"))
        .await
        .expect(200);
    assert_eq!(ids(&of_one), [letters[0].clone()]);
    let page = world.get("/webhooks/dead-letters?limit=1").await.expect(200);
    let cursor = page["nextCursor"].as_str().unwrap();
    let next = world
        .get(&format!("/webhooks/dead-letters?limit=1&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(ids(&next), [letters[2].clone()]);
    refused(
        world.get("/webhooks/dead-letters?status=delivered").await,
        422,
        "not valid",
    );

    let redrive = "/webhooks/dead-letters/redrive";
    let single = world
        .post(redrive, json!({"deliveryId": letters[0]}))
        .await
        .expect(202);
    assert_eq!(single["items"][0]["deliveryId"], json!(letters[0]));
    let alive = json!({"deliveryId": letters[1]});
    refused(world.post(redrive, alive).await, 409, "is delivered");
    let by_target = world.post(redrive, json!({"targetId": one.0})).await.expect(202);
    assert_eq!(by_target["items"][0]["status"], "exhausted");
    refused(
        world.post(redrive, json!({"targetId": disabled.0})).await,
        409,
        "is disabled",
    );
    // What is under way, and what takes nothing, is left out.
    let rest = world.post(redrive, json!({})).await.expect(202);
    assert_eq!(rest["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&rest["items"][0]["targetId"], &rest["more"]),
        (&json!(other.0), &json!(false))
    );
    world.stop().await;
}

#[tokio::test]
async fn another_tenant_sees_resends_and_stops_nothing() {
    let world = World::start().await;
    append(&world).await;
    let mine = target(&world, TargetState::Active).await;
    let id = delivery(&world, 1, 0, mine, DeliveryStatus::Exhausted).await;
    let made = world.post(&resend(&id), json!({})).await.expect(202);
    let other = world.tenant("other").await;
    let replay = format!("/webhooks/replays/{}", made["id"]);
    let ask = json!({"targetId": mine.0, "from": "2026-01-01T00:00:00Z", "status": "all"});
    let redrive = "/webhooks/dead-letters/redrive";
    let by_target = json!({"targetId": mine.0});
    let by_delivery = json!({"deliveryId": id});
    for (method, path, body, status) in [
        (Method::POST, resend(&id).as_str(), Value::Null, 404),
        (Method::GET, &replay, Value::Null, 404),
        (Method::DELETE, &replay, Value::Null, 404),
        // As for an id that is nobody's.
        (Method::POST, "/webhooks/replays", ask, 422),
        (Method::POST, redrive, by_target, 422),
        (Method::POST, redrive, by_delivery, 404),
    ] {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let answer = world.call(&other, method.clone(), path, body).await;
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let empty = json!({"items": [], "nextCursor": null});
    for list in ["/webhooks/replays", "/webhooks/dead-letters"] {
        assert_eq!(world.call(&other, Method::GET, list, "").await.expect(200), empty);
    }
    let all = world.call(&other, Method::POST, redrive, "{}").await.expect(202);
    assert_eq!(all, json!({"items": [], "more": false}));
    assert_eq!(world.get(&replay).await.expect(200)["state"], "waiting");
    world.stop().await;
}
