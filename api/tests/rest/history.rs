//! Events and deliveries as history tells them.

use crate::world::World;
use http::Method;
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::{Attempt, AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use serde_json::{Value, json};
use std::sync::Arc;

pub const START: i64 = 1_767_225_600_000; // 2026-01-01T00:00:00Z

pub fn event(number: i64, event_type: &str, targets: &[i64]) -> EventRecord {
    EventRecord {
        event_id: EventId::new(&format!("e{number}")).unwrap(),
        tenant: Tenant::new("acme").unwrap(),
        event_type: Arc::from(event_type),
        accepted_at: Millis(START + number * 1000),
        payload_size: 31,
        content_type: Arc::from("application/json"),
        position: Position {
            topic: Arc::from("webhook-events"),
            partition: 0,
            offset: number,
        },
        targets: targets.iter().map(|id| TargetId(*id)).collect(),
    }
}

pub fn attempt(event: &EventRecord, target: i64, number: u32, status: DeliveryStatus) -> AttemptRecord {
    let delivered = status == DeliveryStatus::Delivered;
    let started_at = Millis(event.accepted_at.0 + i64::from(number) * 5000);
    AttemptRecord {
        event_id: event.event_id.clone(),
        target: TargetId(target),
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        accepted_at: event.accepted_at,
        position: event.position.clone(),
        status,
        number,
        attempt: Some(Attempt {
            started_at,
            duration_ms: 120,
            status_code: delivered.then_some(200),
            error: (!delivered).then(|| "timeout".to_owned()),
            response: delivered.then(|| "thanks".to_owned()),
            headers: delivered
                .then(|| ("server".to_owned(), "x".to_owned()))
                .into_iter()
                .collect(),
        }),
        next_at: (status == DeliveryStatus::Retrying).then(|| Millis(started_at.0 + 15_000)),
        reason: None,
        recorded_at: Millis(started_at.0 + 120),
    }
}

/// Three events; the first went to two targets: delivered to 7 at the second try, retrying at 8.
pub async fn story() -> World {
    let world = World::start().await;
    let first = event(1, "orders.created", &[7, 8]);
    let records = [
        HistoryRecord::Event(first.clone()),
        HistoryRecord::Event(event(2, "orders.paid", &[7])),
        HistoryRecord::Event(event(3, "orders.created", &[])),
        HistoryRecord::Attempt(attempt(&first, 7, 1, DeliveryStatus::Retrying)),
        HistoryRecord::Attempt(attempt(&first, 7, 2, DeliveryStatus::Delivered)),
        HistoryRecord::Attempt(attempt(&first, 8, 1, DeliveryStatus::Retrying)),
    ];
    world.history.write(&records).await.unwrap();
    world
}

fn delivery_id(event: &str, target: i64) -> String {
    DeliveryId::derive(&EventId::new(event).unwrap(), TargetId(target))
        .as_str()
        .to_owned()
}

fn ids(list: &Value) -> Vec<&str> {
    list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_delivery_reads_as_a_story() {
    let world = story().await;
    let id = delivery_id("e1", 7);
    let told = world.get(&format!("/webhooks/deliveries/{id}")).await.expect(200);
    assert_eq!(
        told,
        json!({
            "id": id, "eventId": "e1", "targetId": 7, "eventType": "orders.created", "status": "delivered",
            "attemptCount": 2, "acceptedAt": "2026-01-01T00:00:01.000Z", "nextAttemptAt": null,
            "updatedAt": "2026-01-01T00:00:11.120Z", "lastStatusCode": 200, "lastError": null,
            "attempts": [
                {"number": 1, "startedAt": "2026-01-01T00:00:06.000Z", "durationMs": 120, "statusCode": null,
                    "error": "timeout", "response": null, "responseHeaders": {}},
                {"number": 2, "startedAt": "2026-01-01T00:00:11.000Z", "durationMs": 120, "statusCode": 200,
                    "error": null, "response": "thanks", "responseHeaders": {"server": "x"}},
            ],
        })
    );
    let waiting = world
        .get(&format!("/webhooks/deliveries/{}", delivery_id("e1", 8)))
        .await
        .expect(200);
    assert_eq!(waiting["status"], "retrying");
    assert_eq!(waiting["nextAttemptAt"], "2026-01-01T00:00:21.000Z");
    assert_eq!(waiting["lastError"], "timeout");
    world.stop().await;
}

#[tokio::test]
async fn an_event_is_told_with_its_deliveries() {
    let world = story().await;
    let told = world.get("/webhooks/events/e1").await.expect(200);
    assert_eq!(told["type"], "orders.created");
    assert_eq!(told["targets"], 2);
    assert_eq!(told["payloadSize"], 31);
    assert_eq!(told["acceptedAt"], "2026-01-01T00:00:01.000Z");
    assert_eq!(
        told["position"],
        json!({"topic": "webhook-events", "partition": 0, "offset": 1})
    );
    let mut states: Vec<(i64, &str)> = told["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|delivery| {
            (
                delivery["targetId"].as_i64().unwrap(),
                delivery["status"].as_str().unwrap(),
            )
        })
        .collect();
    states.sort_unstable();
    assert_eq!(states, [(7, "delivered"), (8, "retrying")]);
    let unmatched = world.get("/webhooks/events/e3").await.expect(200);
    assert_eq!(
        (&unmatched["targets"], &unmatched["deliveries"]),
        (&json!(0), &json!([]))
    );
    world.stop().await;
}

#[tokio::test]
async fn events_that_went_to_nobody_are_listed_with_the_reason() {
    let world = story().await;
    let url = json!({"url": "https://shop.example/"});
    let target = world.post("/webhooks/targets", url).await.expect(201)["id"].clone();
    let make = async |path: &str, body: Value| world.post(path, body).await.expect(201)["id"].clone();
    let mut reasons = vec![("e3", "no_filter")];
    let record = async |number: i64| {
        let event = HistoryRecord::Event(event(number, "users.created", &[]));
        world.history.write(&[event]).await.unwrap();
    };
    let filter = make(
        "/webhooks/filters",
        json!({"name": "users", "events": ["users.*"]}),
    )
    .await;
    record(4).await;
    reasons.push(("e4", "no_subscription"));
    let wanted = json!({"targetId": target, "filterId": filter, "active": false});
    let subscription = make("/webhooks/subscriptions", wanted).await;
    record(5).await;
    reasons.push(("e5", "subscription_inactive"));
    let path = format!("/webhooks/subscriptions/{subscription}");
    world.patch(&path, json!({"active": true})).await.expect(200);
    record(6).await;
    reasons.push(("e6", "matched_since"));
    world
        .post(&format!("/webhooks/targets/{target}/disable"), json!(null))
        .await
        .expect(200);
    record(7).await;
    reasons.push(("e7", "target_disabled"));

    reasons.reverse();
    let list = world.get("/webhooks/events?unmatched=true").await.expect(200);
    let items = list["items"].as_array().unwrap().iter();
    let told: Vec<(&str, &str)> = items
        .map(|item| (item["id"].as_str().unwrap(), item["unmatched"].as_str().unwrap()))
        .collect();
    assert_eq!(told, reasons);
    let matched = world.get("/webhooks/events/e1").await.expect(200);
    assert_eq!(matched["unmatched"], Value::Null);

    // Sent to somebody since: it is none of them any more.
    let again = HistoryRecord::Event(event(7, "users.created", &[9]));
    world.history.write(&[again]).await.unwrap();
    let list = world
        .get("/webhooks/events?unmatched=true&limit=1")
        .await
        .expect(200);
    assert_eq!(ids(&list), ["e6"]);
    assert_eq!(
        world.get("/webhooks/events/e7").await.expect(200)["unmatched"],
        Value::Null
    );
    assert_eq!(
        world
            .get("/webhooks/events?unmatched=maybe")
            .await
            .invalid_fields(),
        ["unmatched"]
    );
    world.stop().await;
}

#[tokio::test]
async fn lists_are_narrowed_by_what_is_asked_and_paged() {
    let world = story().await;
    let table = [
        ("", vec!["e3", "e2", "e1"]),
        ("?eventType=orders.created", vec!["e3", "e1"]),
        ("?from=2026-01-01T00:00:02Z", vec!["e3", "e2"]),
        ("?to=2026-01-01T00:00:02Z", vec!["e1"]),
        (
            "?from=2026-01-01T01:00:02%2B01:00&to=2026-01-01T00:00:03Z",
            vec!["e2"],
        ),
    ];
    for (query, expected) in table {
        let list = world.get(&format!("/webhooks/events{query}")).await.expect(200);
        assert_eq!(ids(&list), expected, "{query}");
    }
    let (first, second, paid) = (delivery_id("e1", 7), delivery_id("e1", 8), delivery_id("e2", 7));
    let table = [
        ("?targetId=8".to_owned(), vec![second.as_str()]),
        ("?status=delivered".to_owned(), vec![&first]),
        ("?status=pending".to_owned(), vec![&paid]),
        ("?eventType=orders.paid".to_owned(), vec![&paid]),
        ("?eventId=e2&targetId=7".to_owned(), vec![&paid]),
        ("?from=2026-01-01T00:00:02Z".to_owned(), vec![&paid]),
        ("?targetId=9".to_owned(), vec![]),
    ];
    for (query, expected) in table {
        let list = world
            .get(&format!("/webhooks/deliveries{query}"))
            .await
            .expect(200);
        assert_eq!(ids(&list), expected, "{query}");
    }
    for (kind, all) in [("events", 3), ("deliveries", 3)] {
        let mut seen = Vec::new();
        let mut path = format!("/webhooks/{kind}?limit=1");
        loop {
            let page = world.get(&path).await.expect(200);
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(cursor) = page["nextCursor"].as_str() else {
                break;
            };
            path = format!("/webhooks/{kind}?limit=1&cursor={cursor}");
        }
        assert_eq!(seen.len(), all, "{kind}: {seen:?}");
        seen.dedup();
        assert_eq!(seen.len(), all, "{kind}: {seen:?}");
    }
    world.stop().await;
}

#[tokio::test]
async fn a_question_that_is_not_valid_names_its_parameters() {
    let world = story().await;
    let query = "targetId=x&status=lost&eventId=a.b&eventType=a..b&from=today&limit=0&cursor=NDI";
    let mut fields = world
        .get(&format!("/webhooks/deliveries?{query}"))
        .await
        .invalid_fields();
    fields.sort();
    assert_eq!(
        fields,
        [
            "cursor",
            "eventId",
            "eventType",
            "from",
            "limit",
            "status",
            "targetId"
        ]
    );
    let backwards = "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z";
    assert_eq!(
        world
            .get(&format!("/webhooks/events?{backwards}"))
            .await
            .invalid_fields(),
        ["to"]
    );
    assert_eq!(
        world
            .get("/webhooks/events?status=pending")
            .await
            .invalid_fields(),
        ["query"]
    );
    world.stop().await;
}

#[tokio::test]
async fn another_tenants_history_is_not_there() {
    let world = story().await;
    let other = world.tenant("other").await;
    let get = async |path: &str| world.call(&other, Method::GET, path, "").await;
    get("/webhooks/events/e1").await.problem(404);
    get(&format!("/webhooks/deliveries/{}", delivery_id("e1", 7)))
        .await
        .problem(404);
    for path in [
        "/webhooks/events",
        "/webhooks/deliveries",
        "/webhooks/deliveries?eventId=e1&targetId=7",
    ] {
        assert_eq!(get(path).await.expect(200)["items"], json!([]), "{path}");
    }
    for path in [
        "/webhooks/events/nothing",
        "/webhooks/events/a.b",
        "/webhooks/deliveries/dlv_%00",
        "/webhooks/deliveries/x",
    ] {
        world.get(path).await.problem(404);
    }
    world.stop().await;
}
