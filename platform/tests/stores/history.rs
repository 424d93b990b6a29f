//! What history makes of records: the same whatever their order and however often they come.

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
    any_order_and_repetition_give_the_same_rows,
    several_writers_at_once_give_the_same_rows_too,
    an_events_targets_over_several_records_are_counted_once_each,
    of_two_accounts_of_one_thing_the_same_is_kept_in_either_order,
    text_that_postgres_does_not_take_does_not_keep_a_batch_out,
    batches_of_any_length_are_written_whole,
    old_rows_expire_in_bounded_steps,
);

fn position(offset: i64) -> Position {
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
        }),
        next_at: (status == Retrying).then_some(Millis(began.0 + 5000)),
        recorded_at: Millis(began.0 + 50),
    }
}

fn delivery_of(id: &str, target: i64) -> DeliveryId {
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

trait IntoRecord {
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

/// Every record of 40 deliveries in all kinds of states, of two tenants.
fn many_records(tenants: &[Tenant]) -> Vec<HistoryRecord> {
    let mut records = Vec::new();
    for tenant in tenants {
        for n in 0..10_i64 {
            let id = format!("evt-{n}");
            let mut accepted = event(tenant, &id, &[1, 2]);
            // Ids of targets are no tenant's but its own.
            let base = 1000 * tenant.as_str().len() as i64;
            accepted.targets = vec![TargetId(base + 1), TargetId(base + 2)];
            accepted.accepted_at = Millis(START.0 + n / 2);
            records.push(HistoryRecord::Event(accepted.clone()));
            for (which, target) in accepted.targets.iter().enumerate() {
                let last = (n as u32 + which as u32) % 4;
                for number in 1..=last {
                    let status = if number < last {
                        Retrying
                    } else {
                        [Retrying, Delivered, Exhausted][n as usize % 3]
                    };
                    let mut record = attempt(tenant, &id, target.0, number, status);
                    record.accepted_at = accepted.accepted_at;
                    records.push(record.into_record());
                }
            }
        }
    }
    records
}

async fn any_order_and_repetition_give_the_same_rows(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    let tenants = [tenant("acme"), tenant("globex")];
    let records = many_records(&tenants);
    history.write(&records).await.unwrap();
    let mut expected = Vec::new();
    for tenant in &tenants {
        expected.push(everything(&history, tenant).await);
    }
    assert_eq!(expected[0].0.len(), 10);
    assert_eq!(expected[0].1.len(), 20);
    for (round, batch) in [(0, 1), (1, 7), (2, records.len())] {
        for table in ["events", "deliveries", "attempts"] {
            let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
            sqlx::query(sql).execute(catalog.pool()).await.unwrap();
        }
        let twice = [records.clone(), records.clone()].concat();
        for part in shuffled(twice, round).chunks(batch) {
            history.write(part).await.unwrap();
        }
        for (tenant, expected) in tenants.iter().zip(&expected) {
            assert_eq!(
                &everything(&history, tenant).await,
                expected,
                "round {round}, {tenant}"
            );
        }
    }
}

/// A shuffle that is the same each time: by a hash of the round and the place.
fn shuffled(records: Vec<HistoryRecord>, round: usize) -> Vec<HistoryRecord> {
    let mut keyed: Vec<(String, HistoryRecord)> = records
        .into_iter()
        .enumerate()
        .map(|(n, record)| {
            (
                schemas::ids::sha256_hex(format!("{round} {n}").as_bytes()),
                record,
            )
        })
        .collect();
    keyed.sort_by(|a, b| a.0.cmp(&b.0));
    keyed.into_iter().map(|(_, record)| record).collect()
}

async fn several_writers_at_once_give_the_same_rows_too(store: Store) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let records = many_records(std::slice::from_ref(&acme));
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..4 {
        // Two processes, two tasks each, all with the same records in another order.
        let history = if n % 2 == 0 {
            history.clone()
        } else {
            History::new(&store.open().await)
        };
        let records = shuffled(records.clone(), n);
        writers.spawn(async move {
            // Large batches too: each holds many rows at once that the others want.
            for length in [5, records.len(), 40, records.len(), records.len()] {
                for part in records.chunks(length) {
                    history.write(part).await.unwrap();
                }
            }
        });
    }
    writers.join_all().await;
    let together = everything(&history, &acme).await;
    assert_eq!((together.0.len(), together.1.len()), (10, 20));
    for table in ["events", "deliveries", "attempts"] {
        let sql = sqlx::AssertSqlSafe(format!("DELETE FROM {table}"));
        sqlx::query(sql).execute(catalog.pool()).await.unwrap();
    }
    history.write(&records).await.unwrap();
    assert_eq!(everything(&history, &acme).await, together);
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

async fn of_two_accounts_of_one_thing_the_same_is_kept_in_either_order(store: Store) {
    let catalog = store.catalog().await;
    let history = History::new(&catalog);
    // The producer sent the event twice; the dispatcher crashed after an attempt and made it again.
    for (name, turned, together) in [
        ("a", false, false),
        ("b", true, false),
        ("c", false, true),
        ("d", true, true),
    ] {
        let acme = tenant(name);
        let first = event(&acme, "evt-1", &[]);
        let mut second = first.clone();
        second.accepted_at = Millis(START.0 + 9);
        second.position = position(18);
        let before = attempt(&acme, "evt-1", 7, 1, Retrying);
        let mut after = attempt(&acme, "evt-1", 7, 1, Delivered);
        after.recorded_at = Millis(before.recorded_at.0 + 60_000);
        after.attempt.as_mut().unwrap().started_at = Millis(START.0 + 60_000);
        let mut records = vec![
            HistoryRecord::Event(first),
            before.into_record(),
            HistoryRecord::Event(second),
            after.into_record(),
        ];
        // Ids of targets differ between tenants; these four each have an event of the same id.
        for record in &mut records {
            if let HistoryRecord::Attempt(record) = record {
                record.target = TargetId(i64::from(name.as_bytes()[0]));
            }
        }
        if turned {
            records.reverse();
        }
        for part in records.chunks(if together { 4 } else { 1 }) {
            history.write(part).await.unwrap();
        }
        let row = history
            .event(&acme, &EventId::new("evt-1").unwrap())
            .await
            .unwrap();
        assert_eq!((row.accepted_at, row.position), (START, position(17)), "{name}");
        let id = delivery_of("evt-1", i64::from(name.as_bytes()[0]));
        let attempts = history.attempts(&acme, &id).await.unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].attempt.status_code, Some(204), "{name}");
        assert_eq!(
            history.delivery(&acme, &id).await.unwrap().status,
            Delivered,
            "{name}"
        );
    }
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
