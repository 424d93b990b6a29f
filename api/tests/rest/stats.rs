//! What was delivered, counted.

use crate::history::{START, attempt, event, story};
use http::Method;
use schemas::delivery::DeliveryStatus::{Exhausted, Retrying};
use schemas::history::HistoryRecord;
use schemas::time::Millis;
use serde_json::{Value, json};

const DAY: &str = "from=2026-01-01T00:00:00Z&to=2026-01-02T00:00:00Z";

#[tokio::test]
async fn counts_tell_what_became_of_deliveries_and_attempts() {
    let world = story().await;
    let stats = world.get(&format!("/webhooks/stats?{DAY}")).await.expect(200);
    let counts = json!({
        "deliveries": {"total": 3, "pending": 1, "retrying": 1, "delivered": 1, "exhausted": 0, "canceled": 0,
            "successRate": 1.0},
        "attempts": {"total": 3, "outcomes": {"2xx": 1, "timeout": 2}, "successRate": 0.3333,
            "durationMs": {"p50": 121, "p95": 121, "p99": 121}},
    });
    let mut item = json!({"from": "2026-01-01T00:00:00.000Z", "targetId": null, "eventType": null});
    item.as_object_mut()
        .unwrap()
        .extend(counts.as_object().unwrap().clone());
    assert_eq!(
        stats,
        json!({"from": "2026-01-01T00:00:00.000Z", "to": "2026-01-02T00:00:00.000Z", "total": counts, "items": [item]})
    );
    world.stop().await;
}

#[tokio::test]
async fn counts_are_narrowed_and_counted_apart() {
    let world = story().await;
    // Accepted at five in the morning, given up the day after.
    let mut late = event(5 * 3600, "orders.paid", &[8]);
    late.accepted_at = Millis(START + 5 * 3_600_000);
    let mut ended = attempt(&late, 8, 2, Exhausted);
    let made = ended.attempt.as_mut().unwrap();
    (made.started_at, made.duration_ms) = (Millis(START + 25 * 3_600_000), 15_000);
    let records = [
        HistoryRecord::Event(late.clone()),
        HistoryRecord::Attempt(attempt(&late, 8, 1, Retrying)),
        HistoryRecord::Attempt(ended),
    ];
    world.history.write(&records).await.unwrap();

    let two_days = "from=2026-01-01T00:00:00Z&to=2026-01-03T00:00:00Z";
    // What each item is of: its beginning, target, type, and how many deliveries and attempts.
    let table = [
        (
            "",
            vec![
                ("01T00", None, None, 3, 3),
                ("01T05", None, None, 1, 1),
                ("02T01", None, None, 0, 1),
            ],
        ),
        (
            "&bucket=day",
            vec![("01T00", None, None, 4, 4), ("02T00", None, None, 0, 1)],
        ),
        (
            "&bucket=day&groupBy=target",
            vec![
                ("01T00", Some(7), None, 2, 2),
                ("01T00", Some(8), None, 2, 2),
                ("02T00", Some(8), None, 0, 1),
            ],
        ),
        (
            "&bucket=day&groupBy=eventType",
            vec![
                ("01T00", None, Some("orders.created"), 2, 3),
                ("01T00", None, Some("orders.paid"), 2, 1),
                ("02T00", None, Some("orders.paid"), 0, 1),
            ],
        ),
        (
            "&bucket=day&targetId=7&groupBy=eventType",
            vec![
                ("01T00", Some(7), Some("orders.created"), 1, 2),
                ("01T00", Some(7), Some("orders.paid"), 1, 0),
            ],
        ),
        (
            "&targetId=8&eventType=orders.paid",
            vec![
                ("01T05", Some(8), Some("orders.paid"), 1, 1),
                ("02T01", Some(8), Some("orders.paid"), 0, 1),
            ],
        ),
        ("&targetId=9", vec![]),
    ];
    for (query, expected) in table {
        let stats = world
            .get(&format!("/webhooks/stats?{two_days}{query}"))
            .await
            .expect(200);
        let items: Vec<Value> = stats["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                let from = item["from"].as_str().unwrap();
                json!([
                    &from[8..13],
                    item["targetId"],
                    item["eventType"],
                    item["deliveries"]["total"],
                    item["attempts"]["total"]
                ])
            })
            .collect();
        assert_eq!(json!(items), json!(expected), "{query}");
        let sum = |kind: &str| -> u64 {
            let items = stats["items"].as_array().unwrap().iter();
            items.map(|item| item[kind]["total"].as_u64().unwrap()).sum()
        };
        assert_eq!(
            stats["total"]["deliveries"]["total"],
            sum("deliveries"),
            "{query}"
        );
        assert_eq!(stats["total"]["attempts"]["total"], sum("attempts"), "{query}");
    }
    let stats = world
        .get(&format!("/webhooks/stats?{two_days}&targetId=8"))
        .await
        .expect(200);
    assert_eq!(stats["total"]["deliveries"]["successRate"], 0.0);
    assert_eq!(
        stats["total"]["attempts"]["durationMs"],
        json!({"p50": 121, "p95": 15103, "p99": 15103}),
        "within a thirty-second of 120 and 15,000"
    );

    // Somebody else's counts.
    let key = world.tenant("globex").await;
    let stats = world
        .call(&key, Method::GET, &format!("/webhooks/stats?{two_days}"), "")
        .await;
    assert_eq!(stats.expect(200)["items"], json!([]));
    world.stop().await;
}

#[tokio::test]
async fn by_default_a_day_of_hours_or_a_month_of_days_until_now() {
    let world = story().await;
    for (query, hours) in [("", 24), ("?bucket=day", 30 * 24)] {
        let stats = world.get(&format!("/webhooks/stats{query}")).await.expect(200);
        let time = |field: &str| Millis::parse_rfc3339(stats[field].as_str().unwrap()).unwrap();
        let asked = time("to").since(time("from")).as_secs();
        assert!(
            (hours * 3600..(hours + 24) * 3600).contains(&asked),
            "{query}: {asked} s"
        );
    }
    world.stop().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_is_named() {
    let world = story().await;
    let query = "from=x&bucket=minute&targetId=y&eventType=a..b&groupBy=tenant";
    let mut fields = world
        .get(&format!("/webhooks/stats?{query}"))
        .await
        .invalid_fields();
    fields.sort();
    assert_eq!(fields, ["bucket", "eventType", "from", "groupBy", "targetId"]);
    let mut records = Vec::new();
    for hour in 0..5_001 {
        let mut accepted = event(10_000 + hour, "orders.created", &[7, 8]);
        accepted.accepted_at = Millis(START + hour * 3_600_000);
        records.push(HistoryRecord::Event(accepted));
    }
    for part in records.chunks(500) {
        world.history.write(part).await.unwrap();
    }
    let wide = "/webhooks/stats?from=2026-01-01T00:00:00Z&to=2027-01-01T00:00:00Z&groupBy=target";
    assert_eq!(world.get(wide).await.invalid_fields(), ["from"]);
    let days = world.get(&format!("{wide}&bucket=day")).await.expect(200);
    assert_eq!(days["total"]["deliveries"]["pending"], 2 * 5_001 + 1);
    world.stop().await;
}
