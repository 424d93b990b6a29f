//! What history makes of records.

use crate::store::{START, Store, over_both, tenant};
use platform::history::{AttemptRow, DeliveryQuery, DeliveryRow, EventQuery, EventRow, History};
use schemas::delivery::DeliveryStatus::{self, Canceled, Delivered, Exhausted, Pending, Retrying};
use schemas::event::Position;
use schemas::history::{Attempt, AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;

over_both!(
    an_event_and_its_deliveries_are_there_as_recorded,
    a_delivery_only_moves_forward,
    an_end_without_an_attempt_keeps_the_last_answer,
    an_events_targets_over_several_records_are_counted_once_each,
    text_that_postgres_does_not_take_does_not_keep_a_batch_out,
    batches_of_any_length_are_written_whole,
    old_rows_expire_in_bounded_steps,
);

pub fn position(offset: i64) -> Position {
    Position {
        topic: "webhook-events".into(),
        partition: 3,
        offset,
    }
}

/// The record of an event accepted at the start.
pub fn event(tenant: &Tenant, id: &str, targets: &[i64]) -> EventRecord {
    EventRecord {
        event_id: EventId::new(id).unwrap(),
        tenant: tenant.clone(),
        event_type: "orders.created".into(),
        accepted_at: START,
        payload_size: 1000,
        content_type: "application/json".into(),
        position: position(17),
        targets: targets.iter().copied().map(TargetId).collect(),
    }
}

/// The record of a delivery of that event after attempt `number`, a second later each.
pub fn attempt(tenant: &Tenant, id: &str, target: i64, number: u32, status: DeliveryStatus) -> AttemptRecord {
    let began = Millis(START.0 + 1000 * i64::from(number));
    AttemptRecord {
        event_id: EventId::new(id).unwrap(),
        target: TargetId(target),
        tenant: tenant.clone(),
        event_type: "orders.created".into(),
        accepted_at: START,
        position: position(17),
        status,
        number,
        attempt: Some(Attempt {
            started_at: began,
            duration_ms: 40 + number,
            status_code: Some(if status == Delivered { 204 } else { 503 }),
            error: None,
            response: Some(format!("answer {number}")),
            headers: vec![("server".to_owned(), format!("one\0 of \"{number}\""))],
        }),
        next_at: (status == Retrying).then_some(Millis(began.0 + 5000)),
        reason: None,
        recorded_at: Millis(began.0 + 50),
    }
}

pub fn delivery_of(id: &str, target: i64) -> DeliveryId {
    DeliveryId::derive(&EventId::new(id).unwrap(), TargetId(target))
}

/// Everything history has of a tenant.
pub async fn everything(
    history: &History,
    tenant: &Tenant,
) -> (Vec<EventRow>, Vec<(DeliveryRow, Vec<AttemptRow>)>) {
    let events = EventQuery {
        limit: 10_000,
        ..EventQuery::default()
    };
    let deliveries = DeliveryQuery {
        limit: 10_000,
        ..DeliveryQuery::default()
    };
    let mut with_attempts = Vec::new();
    for row in history.deliveries(tenant, &deliveries).await.unwrap() {
        let attempts = history.attempts(tenant, &row.id).await.unwrap();
        with_attempts.push((row, attempts));
    }
    (history.events(tenant, &events).await.unwrap(), with_attempts)
}

async fn an_event_and_its_deliveries_are_there_as_recorded(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let mut failed = attempt(&acme, "evt-1", 7, 1, Retrying);
    failed.attempt = Some(Attempt {
        started_at: Millis(START.0 + 1000),
        duration_ms: 15_000,
        status_code: None,
        error: Some("timeout".to_owned()),
        response: None,
        headers: Vec::new(),
    });
    history
        .write(&[
            HistoryRecord::Event(event(&acme, "evt-1", &[7, 8])),
            HistoryRecord::Event(event(&acme, "evt-2", &[])),
            HistoryRecord::Attempt(failed.clone()),
        ])
        .await
        .unwrap();
    let row = history
        .event(&acme, &EventId::new("evt-1").unwrap())
        .await
        .unwrap();
    let expected = EventRow {
        id: EventId::new("evt-1").unwrap(),
        event_type: "orders.created".to_owned(),
        accepted_at: START,
        payload_size: 1000,
        content_type: "application/json".to_owned(),
        position: position(17),
        targets: 2,
        unmatched: None,
    };
    assert_eq!(row, expected);
    let unmatched = history
        .event(&acme, &EventId::new("evt-2").unwrap())
        .await
        .unwrap();
    assert_eq!(unmatched.targets, 0);
    let tried = history.delivery(&acme, &delivery_of("evt-1", 7)).await.unwrap();
    let expected = DeliveryRow {
        id: delivery_of("evt-1", 7),
        event_id: EventId::new("evt-1").unwrap(),
        target: TargetId(7),
        event_type: "orders.created".to_owned(),
        status: Retrying,
        attempts: 1,
        accepted_at: START,
        next_at: failed.next_at,
        updated_at: failed.recorded_at,
        last_status_code: None,
        last_error: Some("timeout".to_owned()),
    };
    assert_eq!(tried, expected);
    let waiting = history.delivery(&acme, &delivery_of("evt-1", 8)).await.unwrap();
    assert_eq!(
        (waiting.status, waiting.attempts, waiting.next_at),
        (Pending, 0, None)
    );
    let attempts = history.attempts(&acme, &delivery_of("evt-1", 7)).await.unwrap();
    let expected = AttemptRow {
        number: 1,
        attempt: failed.attempt.unwrap(),
    };
    assert_eq!(attempts, [expected]);
}

async fn a_delivery_only_moves_forward(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let id = delivery_of("evt-1", 7);
    let first = HistoryRecord::Event(event(&acme, "evt-1", &[7]));
    let steps = [
        (first.clone(), Pending, 0),
        (attempt(&acme, "evt-1", 7, 1, Retrying).into_record(), Retrying, 1),
        (first.clone(), Retrying, 1),
        (attempt(&acme, "evt-1", 7, 3, Retrying).into_record(), Retrying, 3),
        (
            attempt(&acme, "evt-1", 7, 2, Delivered).into_record(),
            Retrying,
            3,
        ),
        (
            attempt(&acme, "evt-1", 7, 3, Exhausted).into_record(),
            Exhausted,
            3,
        ),
        (
            attempt(&acme, "evt-1", 7, 3, Retrying).into_record(),
            Exhausted,
            3,
        ),
        (
            attempt(&acme, "evt-1", 7, 4, Delivered).into_record(),
            Delivered,
            4,
        ),
        (first, Delivered, 4),
    ];
    for (n, (record, status, attempts)) in steps.into_iter().enumerate() {
        history.write(&[record]).await.unwrap();
        let row = history.delivery(&acme, &id).await.unwrap();
        assert_eq!((row.status, row.attempts), (status, attempts), "after step {n}");
    }
    let numbers: Vec<u32> = history
        .attempts(&acme, &id)
        .await
        .unwrap()
        .iter()
        .map(|row| row.number)
        .collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
}

pub trait IntoRecord {
    fn into_record(self) -> HistoryRecord;
}

impl IntoRecord for AttemptRecord {
    fn into_record(self) -> HistoryRecord {
        HistoryRecord::Attempt(self)
    }
}

async fn an_end_without_an_attempt_keeps_the_last_answer(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let mut ended = attempt(&acme, "evt-1", 7, 2, Canceled);
    ended.attempt = None;
    history
        .write(&[
            ended.into_record(),
            attempt(&acme, "evt-1", 7, 2, Retrying).into_record(),
            attempt(&acme, "evt-1", 7, 1, Retrying).into_record(),
        ])
        .await
        .unwrap();
    let row = history.delivery(&acme, &delivery_of("evt-1", 7)).await.unwrap();
    assert_eq!((row.status, row.attempts), (Canceled, 2));
    assert_eq!((row.last_status_code, row.next_at), (Some(503), None));
}

async fn an_events_targets_over_several_records_are_counted_once_each(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    for targets in [&[1, 2, 3][..], &[4, 5], &[1, 2, 3]] {
        let record = HistoryRecord::Event(event(&acme, "evt-1", targets));
        history.write(&[record]).await.unwrap();
    }
    let row = history
        .event(&acme, &EventId::new("evt-1").unwrap())
        .await
        .unwrap();
    assert_eq!(row.targets, 5);
}

async fn text_that_postgres_does_not_take_does_not_keep_a_batch_out(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let mut record = attempt(&acme, "evt-1", 7, 1, Delivered);
    record.attempt.as_mut().unwrap().response = Some("a\0b \u{1F980}".to_owned());
    record.attempt.as_mut().unwrap().error = Some("\0".to_owned());
    let mut accepted = event(&acme, "evt-1", &[7]);
    accepted.content_type = "text/\0plain".into();
    accepted.payload_size = u64::MAX;
    history
        .write(&[HistoryRecord::Event(accepted), record.into_record()])
        .await
        .unwrap();
    let attempts = history.attempts(&acme, &delivery_of("evt-1", 7)).await.unwrap();
    assert_eq!(
        attempts[0].attempt.response.as_deref(),
        Some("a\u{fffd}b \u{1F980}")
    );
}

async fn batches_of_any_length_are_written_whole(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    history.write(&[]).await.unwrap();
    let mut written = 0;
    for length in [1, 2, 3, 63, 64, 65, 127, 200] {
        let records: Vec<HistoryRecord> = (0..length)
            .map(|n| HistoryRecord::Event(event(&acme, &format!("evt-{length}-{n}"), &[n, n + 1000])))
            .collect();
        history.write(&records).await.unwrap();
        written += records.len();
        let (events, deliveries) = everything(&history, &acme).await;
        assert_eq!(
            (events.len(), deliveries.len()),
            (written, 2 * written),
            "after {length}"
        );
    }
}

async fn old_rows_expire_in_bounded_steps(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    let (acme, globex) = (tenant("acme"), tenant("globex"));
    let mut records = Vec::new();
    for (tenant, target) in [(&acme, 1), (&globex, 2)] {
        for n in 0..700_i64 {
            let id = format!("evt-{n:03}");
            let mut accepted = event(tenant, &id, &[target]);
            accepted.accepted_at = Millis(START.0 + n);
            let mut tried = attempt(tenant, &id, target, 1, Delivered);
            tried.accepted_at = accepted.accepted_at;
            records.extend([HistoryRecord::Event(accepted), tried.into_record()]);
        }
    }
    history.write(&records).await.unwrap();
    let before = Millis(START.0 + 600);
    let count = async |table: &str| -> i64 {
        let sql = sqlx::AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        use sqlx::Row;
        sqlx::query(sql).fetch_one(catalog.pool()).await.unwrap().get(0)
    };
    assert_eq!(history.expire(START, 10_000).await, Ok(0));
    assert_eq!(history.expire(before, 700).await, Ok(700), "no more than it may");
    assert_eq!(
        count("attempts").await,
        700,
        "attempts before what they belong to"
    );
    assert_eq!((count("deliveries").await, count("events").await), (1400, 1400));
    assert_eq!(history.expire(before, 10_000).await, Ok(2900));
    assert_eq!(history.expire(before, 10_000).await, Ok(0), "no more are due");
    for tenant in [&acme, &globex] {
        let (events, deliveries) = everything(&history, tenant).await;
        assert_eq!((events.len(), deliveries.len()), (100, 100));
        assert!(events.iter().all(|row| row.accepted_at >= before));
        assert!(
            deliveries
                .iter()
                .all(|(row, attempts)| row.accepted_at >= before && attempts.len() == 1)
        );
    }
    assert_eq!(count("attempts").await, 200);
}
