//! History's lists: filters, order, pages.

use crate::history::{attempt, event};
use crate::store::{START, Store, over_both};
use platform::history::{DeliveryQuery, DeliveryRow, EventQuery, EventRow, History};
use schemas::delivery::DeliveryStatus::{Delivered, Exhausted, Pending, Retrying};
use schemas::history::HistoryRecord;
use schemas::ids::{EventId, TargetId, Tenant};
use schemas::time::Millis;

over_both!(
    each_filter_of_deliveries_gives_what_a_walk_over_all_would,
    each_filter_of_events_gives_what_a_walk_over_all_would,
    pages_newest_first_have_no_gaps_even_within_one_moment,
);

/// 30 events, five in each moment, of three types, to two targets each, in different states.
async fn filled(store: &Store) -> (History, Tenant) {
    let (catalog, acme) = store.with_tenant().await;
    let history = History::new(&catalog);
    let mut records = Vec::new();
    for n in 0..30_i64 {
        let id = format!("evt-{n}");
        let event_type = ["orders.created", "orders.paid", "users.created"][n as usize % 3];
        let mut accepted = event(&acme, &id, &[n % 4, 9]);
        accepted.accepted_at = Millis(START.0 + n / 5);
        accepted.event_type = event_type.into();
        records.push(HistoryRecord::Event(accepted));
        let status = [Delivered, Retrying, Exhausted, Pending][n as usize % 4];
        if status != Pending {
            let mut tried = attempt(&acme, &id, 9, 1, status);
            tried.accepted_at = Millis(START.0 + n / 5);
            tried.event_type = event_type.into();
            records.push(HistoryRecord::Attempt(tried));
        }
    }
    history.write(&records).await.unwrap();
    (history, acme)
}

fn deliveries_all() -> DeliveryQuery {
    DeliveryQuery {
        limit: 1000,
        ..DeliveryQuery::default()
    }
}

fn events_all() -> EventQuery {
    EventQuery {
        limit: 1000,
        ..EventQuery::default()
    }
}

async fn each_filter_of_deliveries_gives_what_a_walk_over_all_would(store: Store) {
    let (history, acme) = filled(&store).await;
    let all = history.deliveries(&acme, &deliveries_all()).await.unwrap();
    assert_eq!(all.len(), 60);
    assert!(
        all.is_sorted_by_key(|row| std::cmp::Reverse((row.accepted_at, row.id.clone()))),
        "newest first"
    );
    let event_id = EventId::new("evt-13").unwrap();
    let queries = [
        DeliveryQuery {
            target: Some(TargetId(9)),
            ..deliveries_all()
        },
        DeliveryQuery {
            event: Some(event_id.clone()),
            ..deliveries_all()
        },
        DeliveryQuery {
            status: Some(Exhausted),
            ..deliveries_all()
        },
        DeliveryQuery {
            event_type: Some("orders.paid".to_owned()),
            ..deliveries_all()
        },
        DeliveryQuery {
            from: Some(Millis(START.0 + 2)),
            ..deliveries_all()
        },
        DeliveryQuery {
            to: Some(Millis(START.0 + 2)),
            ..deliveries_all()
        },
        DeliveryQuery {
            target: Some(TargetId(9)),
            status: Some(Delivered),
            event_type: Some("orders.created".to_owned()),
            from: Some(Millis(START.0 + 1)),
            to: Some(Millis(START.0 + 5)),
            ..deliveries_all()
        },
    ];
    for query in queries {
        let expected: Vec<DeliveryRow> = all
            .iter()
            .filter(|row| query.target.is_none_or(|target| row.target == target))
            .filter(|row| query.event.as_ref().is_none_or(|event| row.event_id == *event))
            .filter(|row| query.status.is_none_or(|status| row.status == status))
            .filter(|row| {
                query
                    .event_type
                    .as_ref()
                    .is_none_or(|name| row.event_type == *name)
            })
            .filter(|row| query.from.is_none_or(|from| row.accepted_at >= from))
            .filter(|row| query.to.is_none_or(|to| row.accepted_at < to))
            .cloned()
            .collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{query:?}");
        assert_eq!(
            history.deliveries(&acme, &query).await.unwrap(),
            expected,
            "{query:?}"
        );
    }
    let none = DeliveryQuery {
        event: Some(EventId::new("evt-99").unwrap()),
        ..deliveries_all()
    };
    assert_eq!(history.deliveries(&acme, &none).await, Ok(vec![]));
}

async fn each_filter_of_events_gives_what_a_walk_over_all_would(store: Store) {
    let (history, acme) = filled(&store).await;
    let all = history.events(&acme, &events_all()).await.unwrap();
    assert_eq!(all.len(), 30);
    assert!(all.iter().all(|row| row.targets == 2));
    assert!(all.is_sorted_by_key(|row| std::cmp::Reverse((row.accepted_at, row.id.clone()))));
    let queries = [
        EventQuery {
            event_type: Some("users.created".to_owned()),
            ..events_all()
        },
        EventQuery {
            from: Some(Millis(START.0 + 4)),
            ..events_all()
        },
        EventQuery {
            to: Some(Millis(START.0 + 4)),
            ..events_all()
        },
    ];
    for query in queries {
        let expected: Vec<EventRow> = all
            .iter()
            .filter(|row| {
                query
                    .event_type
                    .as_ref()
                    .is_none_or(|name| row.event_type == *name)
            })
            .filter(|row| query.from.is_none_or(|from| row.accepted_at >= from))
            .filter(|row| query.to.is_none_or(|to| row.accepted_at < to))
            .cloned()
            .collect();
        assert!(!expected.is_empty() && expected.len() < all.len(), "{query:?}");
        assert_eq!(
            history.events(&acme, &query).await.unwrap(),
            expected,
            "{query:?}"
        );
    }
}

async fn pages_newest_first_have_no_gaps_even_within_one_moment(store: Store) {
    let (history, acme) = filled(&store).await;
    for target in [None, Some(TargetId(9))] {
        let whole = DeliveryQuery {
            target,
            ..deliveries_all()
        };
        let mut seen: Vec<DeliveryRow> = Vec::new();
        loop {
            let page = DeliveryQuery {
                limit: 7,
                after: seen
                    .last()
                    .map(|row| (row.accepted_at, row.id.as_str().to_owned())),
                ..whole.clone()
            };
            let rows = history.deliveries(&acme, &page).await.unwrap();
            if rows.is_empty() {
                break;
            }
            seen.extend(rows);
        }
        assert_eq!(seen, history.deliveries(&acme, &whole).await.unwrap());
    }
    let mut seen: Vec<EventRow> = Vec::new();
    loop {
        let page = EventQuery {
            limit: 4,
            after: seen
                .last()
                .map(|row| (row.accepted_at, row.id.as_str().to_owned())),
            ..EventQuery::default()
        };
        let rows = history.events(&acme, &page).await.unwrap();
        if rows.is_empty() {
            break;
        }
        seen.extend(rows);
    }
    assert_eq!(seen, history.events(&acme, &events_all()).await.unwrap());
}
