//! Replays: made, listed, stopped, and worked on by one process at a time.

use crate::store::{ALL, Store, over_both, tenant, walk};
use platform::catalog::{Catalog, CatalogError, NewTarget};
use platform::event_log::Span;
use platform::history::{GivenUp, History, Standing};
use platform::replays::{LEASE, MOST_OPEN, NewReplay, Place, Replay, ReplayState, Replays, Which};
use schemas::delivery::DeliveryStatus;
use schemas::event::Position;
use schemas::history::{AttemptRecord, EventRecord, HistoryRecord};
use schemas::ids::{DeliveryId, EventId, TargetId, Tenant};
use schemas::time::Millis;
use std::time::Duration;

over_both!(
    a_replay_reads_back_as_it_was_made_and_as_it_was_stored,
    another_tenant_sees_and_stops_nothing,
    a_tenant_has_so_many_open_and_no_more,
    of_two_processes_one_gets_a_target,
    who_lost_the_lease_stores_nothing_and_the_next_goes_on_from_the_last_place,
    turns_go_round_and_the_tenant_with_the_fewest_goes_first,
    a_stopped_replay_takes_no_more_and_one_at_its_end_stays,
    old_ends_are_removed_and_what_is_open_stays,
    what_was_given_up_is_found_oldest_first_with_its_place,
    history_says_how_events_stand_with_a_target,
);

fn new(target: i64) -> NewReplay {
    NewReplay {
        target: TargetId(target),
        which: Which::Missed,
        delivery: None,
        from: Millis(1_000),
        to: Millis(2_000),
    }
}

async fn create(replays: &Replays, tenant: &Tenant, target: i64) -> Replay {
    replays.create(tenant, vec![new(target)]).await.unwrap().remove(0)
}

async fn opened(store: &Store) -> (Catalog, Replays, Tenant) {
    let (catalog, tenant) = store.with_tenant().await;
    let replays = Replays::new(&catalog);
    (catalog, replays, tenant)
}

async fn a_replay_reads_back_as_it_was_made_and_as_it_was_stored(store: Store) {
    let (_catalog, replays, tenant) = opened(&store).await;
    let delivery = DeliveryId::derive(&EventId::new("e").unwrap(), TargetId(7));
    let one = NewReplay {
        which: Which::One,
        delivery: Some(delivery),
        ..new(7)
    };
    let made = replays.create(&tenant, vec![one, new(8)]).await.unwrap();
    for replay in &made {
        assert_eq!(replays.get(&tenant, replay.id).await.as_ref(), Ok(replay));
        assert_eq!(replay.state, ReplayState::Waiting);
    }
    let listed = walk(1, |replay: &Replay| replay.id, |page| replays.list(&tenant, page)).await;
    assert_eq!(listed, [made[1].clone(), made[0].clone()]);

    let mut claimed = replays.claim("a").await.unwrap().unwrap();
    assert_eq!(claimed.id, made[0].id);
    claimed.place = Place::Log {
        topics: [(
            "t".to_owned(),
            vec![Span {
                partition: 1,
                next: 2,
                end: 3,
            }],
        )]
        .into(),
        total: 9,
    };
    claimed.percent = 41;
    claimed.counts.examined = 5;
    claimed.counts.sent = 4;
    claimed.counts.lost = 1;
    store.tick();
    assert_eq!(replays.store("a", &claimed).await, Ok(true));
    claimed.updated_at = store.clock.now();
    assert_eq!(replays.get(&tenant, claimed.id).await.unwrap(), claimed);
    let why = "the target was deleted";
    let ended = replays
        .finish("a", &claimed, ReplayState::Failed, Some(why))
        .await;
    assert_eq!(ended, Ok(true));
    let read = replays.get(&tenant, claimed.id).await.unwrap();
    assert_eq!(
        (read.state, read.error.as_deref()),
        (ReplayState::Failed, Some(why))
    );
}

async fn another_tenant_sees_and_stops_nothing(store: Store) {
    let (catalog, replays, acme) = opened(&store).await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let made = create(&replays, &acme, 1).await;
    assert_eq!(replays.get(&other, made.id).await, Err(CatalogError::NotFound));
    assert_eq!(replays.cancel(&other, made.id).await, Err(CatalogError::NotFound));
    assert_eq!(replays.list(&other, ALL).await, Ok(Vec::new()));
    assert_eq!(
        replays.get(&acme, made.id).await.unwrap().state,
        ReplayState::Waiting
    );
}

async fn a_tenant_has_so_many_open_and_no_more(store: Store) {
    let (catalog, replays, acme) = opened(&store).await;
    let many = |count: usize| (0..count).map(|_| new(1)).collect::<Vec<_>>();
    replays.create(&acme, many(MOST_OPEN)).await.unwrap();
    let refused = replays.create(&acme, many(1)).await;
    assert!(matches!(refused, Err(CatalogError::Conflict(_))), "{refused:?}");
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    replays.create(&other, many(1)).await.unwrap();
    let first = replays.claim("a").await.unwrap().unwrap();
    replays
        .finish("a", &first, ReplayState::Done, None)
        .await
        .unwrap();
    replays.create(&acme, many(1)).await.unwrap();
}

async fn of_two_processes_one_gets_a_target(store: Store) {
    let (_catalog, first, tenant) = opened(&store).await;
    // Another process has its own connections.
    let second = Replays::new(&store.open().await);
    for _ in 0..2 {
        create(&first, &tenant, 1).await;
    }
    let (one, other) = tokio::join!(first.claim("a"), second.claim("b"));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_eq!(
        usize::from(one.is_some()) + usize::from(other.is_some()),
        1,
        "{one:?} {other:?}"
    );
    create(&first, &tenant, 2).await;
    let next = second.claim("c").await.unwrap().unwrap();
    assert_eq!(next.target, TargetId(2), "the other target is free");
    assert_eq!(first.claim("d").await, Ok(None));
}

async fn who_lost_the_lease_stores_nothing_and_the_next_goes_on_from_the_last_place(store: Store) {
    let (_catalog, replays, tenant) = opened(&store).await;
    create(&replays, &tenant, 1).await;
    let mut slow = replays.claim("slow").await.unwrap().unwrap();
    slow.place = Place::History {
        after: Some((Millis(1), "dlv_1".to_owned())),
        total: 7,
    };
    assert_eq!(replays.store("slow", &slow).await, Ok(true));
    // A lease that is renewed in time is kept.
    store.clock.advance(LEASE / 2);
    assert_eq!(replays.renew("slow", slow.target, slow.id).await, Ok(true));
    store.clock.advance(LEASE / 2);
    assert_eq!(replays.claim("next").await, Ok(None));
    store.clock.advance(LEASE);
    let next = replays.claim("next").await.unwrap().unwrap();
    assert_eq!((next.id, &next.place), (slow.id, &slow.place));
    slow.counts.sent = 1_000;
    assert_eq!(replays.store("slow", &slow).await, Ok(false));
    assert_eq!(replays.renew("slow", slow.target, slow.id).await, Ok(false));
    let ended = replays.finish("slow", &slow, ReplayState::Done, None).await;
    assert_eq!(ended, Ok(false));
    replays.release("slow", &slow).await.unwrap();
    assert_eq!(
        replays.store("next", &next).await,
        Ok(true),
        "the lease is the next one's still"
    );
    assert_eq!(replays.get(&tenant, slow.id).await.unwrap().counts.sent, 0);
}

async fn turns_go_round_and_the_tenant_with_the_fewest_goes_first(store: Store) {
    let (catalog, replays, acme) = opened(&store).await;
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let mut made = Vec::new();
    for target in [1, 1, 2, 3] {
        made.push(create(&replays, &acme, target).await.id);
        store.tick();
    }
    let others = create(&replays, &other, 9).await.id;
    let first = replays.claim("a").await.unwrap().unwrap();
    assert_eq!(first.id, made[0]);
    assert_eq!(replays.others_wait(&first).await, Ok(true));
    let second = replays.claim("b").await.unwrap().unwrap();
    assert_eq!(second.id, others, "its tenant has none under way");
    store.tick();
    replays.release("a", &first).await.unwrap();
    // Of the same target, the one that has not had its turn.
    let third = replays.claim("a").await.unwrap().unwrap();
    assert_eq!(third.id, made[1]);
    let rest = [replays.claim("c").await, replays.claim("d").await];
    assert_eq!(rest.map(|replay| replay.unwrap().unwrap().id), [made[2], made[3]]);
    assert_eq!(replays.others_wait(&second).await, Ok(false));
    assert_eq!(
        replays.others_wait(&third).await,
        Ok(true),
        "one to its own target"
    );
}

async fn a_stopped_replay_takes_no_more_and_one_at_its_end_stays(store: Store) {
    let (_catalog, replays, tenant) = opened(&store).await;
    let made = create(&replays, &tenant, 1).await;
    let claimed = replays.claim("a").await.unwrap().unwrap();
    let renew = async || replays.renew("a", claimed.target, claimed.id).await;
    assert_eq!(renew().await, Ok(true));
    replays.cancel(&tenant, made.id).await.unwrap();
    assert_eq!(renew().await, Ok(false));
    assert_eq!(replays.store("a", &claimed).await, Ok(false));
    assert_eq!(
        replays.finish("a", &claimed, ReplayState::Done, None).await,
        Ok(false)
    );
    replays.release("a", &claimed).await.unwrap();
    assert_eq!(replays.claim("a").await, Ok(None));
    replays.cancel(&tenant, made.id).await.unwrap();
    assert_eq!(
        replays.get(&tenant, made.id).await.unwrap().state,
        ReplayState::Canceled
    );

    create(&replays, &tenant, 1).await;
    let done = replays.claim("a").await.unwrap().unwrap();
    replays.finish("a", &done, ReplayState::Done, None).await.unwrap();
    replays.cancel(&tenant, done.id).await.unwrap();
    assert_eq!(
        replays.get(&tenant, done.id).await.unwrap().state,
        ReplayState::Done
    );
}

async fn old_ends_are_removed_and_what_is_open_stays(store: Store) {
    let (_catalog, replays, tenant) = opened(&store).await;
    for target in [1, 2, 3] {
        create(&replays, &tenant, target).await;
    }
    let [ended, running] = [replays.claim("a").await, replays.claim("a").await].map(|r| r.unwrap().unwrap());
    replays
        .finish("a", &ended, ReplayState::Done, None)
        .await
        .unwrap();
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(replays.prune(day).await, Ok(0));
    store.clock.advance(2 * day);
    assert_eq!(replays.prune(day).await, Ok(1));
    assert_eq!(replays.get(&tenant, ended.id).await, Err(CatalogError::NotFound));
    assert_eq!(replays.list(&tenant, ALL).await.unwrap().len(), 2);
    let next = replays.claim("b").await.unwrap().unwrap();
    assert_eq!(next.id, running.id, "its lease has long run out");
}

fn event(tenant: &Tenant, number: i64, targets: &[TargetId]) -> EventRecord {
    EventRecord {
        event_id: EventId::new(&format!("e{number}")).unwrap(),
        tenant: tenant.clone(),
        event_type: "a".into(),
        accepted_at: Millis(number * 1_000),
        payload_size: 1,
        content_type: "application/json".into(),
        position: Position {
            topic: "t".into(),
            partition: 3,
            offset: number,
        },
        targets: targets.to_vec(),
    }
}

fn end(event: &EventRecord, target: TargetId, status: DeliveryStatus, number: u32) -> HistoryRecord {
    HistoryRecord::Attempt(AttemptRecord {
        event_id: event.event_id.clone(),
        target,
        tenant: event.tenant.clone(),
        event_type: event.event_type.clone(),
        accepted_at: event.accepted_at,
        position: event.position.clone(),
        status,
        number,
        attempt: None,
        next_at: None,
        reason: None,
        recorded_at: Millis(event.accepted_at.0 + 10),
    })
}

/// Ten events to two targets; to the first of them they ended in turn in each possible way.
async fn ended(history: &History, tenant: &Tenant, targets: [TargetId; 2]) -> Vec<EventRecord> {
    use DeliveryStatus::{Canceled, Delivered, Exhausted, Retrying};
    let events: Vec<EventRecord> = (1..=10).map(|number| event(tenant, number, &targets)).collect();
    let mut records = Vec::new();
    for (index, event) in events.iter().enumerate() {
        let status = [Delivered, Exhausted, Canceled, Retrying, Exhausted][index % 5];
        records.push(HistoryRecord::Event(event.clone()));
        records.push(end(event, targets[0], status, 14));
        records.push(end(event, targets[1], Delivered, 1));
    }
    history.write(&records).await.unwrap();
    events
}

async fn what_was_given_up_is_found_oldest_first_with_its_place(store: Store) {
    let (catalog, replays, acme) = opened(&store).await;
    let history = History::new(&catalog);
    let other = tenant("other");
    catalog.create_tenant(&other).await.unwrap();
    let url = "https://a.example/";
    let mut targets = Vec::new();
    for _ in 0..2 {
        targets.push(
            catalog
                .create_target(&acme, NewTarget::at(url))
                .await
                .unwrap()
                .0
                .id,
        );
    }
    let targets = [targets[0], targets[1]];
    ended(&history, &acme, targets).await;
    let mut query = GivenUp {
        target: targets[0],
        canceled: true,
        from: Millis(0),
        to: Millis(10_000),
        after: None,
        limit: 3,
    };
    let mut offsets = Vec::new();
    assert_eq!(history.count_given_up(&acme, &query).await, Ok(5));
    loop {
        let page = history.given_up(&acme, &query).await.unwrap();
        let Some((last, _)) = page.last() else { break };
        query.after = Some((last.accepted_at, last.id.as_str().to_owned()));
        offsets.extend(page.iter().map(|(row, place)| {
            assert_eq!((row.target, row.attempts), (targets[0], 14));
            place.as_ref().unwrap().offset
        }));
    }
    // The tenth was accepted at the end of the range, which is not in it.
    assert_eq!(offsets, [2, 3, 5, 7, 8]);
    query.after = None;
    query.canceled = false;
    query.limit = 100;
    let exhausted = history.given_up(&acme, &query).await.unwrap();
    assert_eq!(exhausted.len(), 3);
    assert_eq!(history.given_up(&other, &query).await, Ok(Vec::new()));
    assert_eq!(history.count_given_up(&other, &query).await, Ok(0));

    let id = &exhausted[0].0.id;
    let (row, place) = history.placed(&acme, id).await.unwrap();
    assert_eq!((row.id.clone(), place.unwrap().offset), (id.clone(), 2));
    assert_eq!(history.placed(&other, id).await, Err(CatalogError::NotFound));

    assert_eq!(history.targets_given_up(&acme, 10).await, Ok(vec![targets[0]]));
    assert_eq!(history.targets_given_up(&other, 10).await, Ok(Vec::new()));
    let redrive = NewReplay {
        which: Which::Exhausted,
        ..new(targets[0].0)
    };
    let made = replays.create(&acme, vec![redrive]).await.unwrap().remove(0);
    assert_eq!(
        history.targets_given_up(&acme, 10).await,
        Ok(Vec::new()),
        "one is under way"
    );
    replays.cancel(&acme, made.id).await.unwrap();
    assert_eq!(history.targets_given_up(&acme, 10).await, Ok(vec![targets[0]]));
    catalog.disable_target(targets[0], "gone").await.unwrap();
    assert_eq!(
        history.targets_given_up(&acme, 10).await,
        Ok(Vec::new()),
        "it takes none"
    );
}

async fn history_says_how_events_stand_with_a_target(store: Store) {
    let (catalog, _replays, acme) = opened(&store).await;
    let history = History::new(&catalog);
    let events = ended(&history, &acme, [TargetId(1), TargetId(2)]).await;
    let mut ids: Vec<EventId> = events.iter().map(|event| event.event_id.clone()).collect();
    ids.push(EventId::new("unknown").unwrap());
    let known = history.standing(&acme, TargetId(1), &ids).await.unwrap();
    assert_eq!(known.len(), 10);
    let expected = |number: i64, status| Standing {
        accepted_at: Millis(number * 1_000),
        delivery: Some((status, 14)),
    };
    assert_eq!(known[&ids[0]], expected(1, DeliveryStatus::Delivered));
    assert_eq!(known[&ids[1]], expected(2, DeliveryStatus::Exhausted));
    let unmatched = history.standing(&acme, TargetId(3), &ids).await.unwrap();
    assert!(unmatched.values().all(|standing| standing.delivery.is_none()));
    assert_eq!(unmatched.len(), 10);
    let other = tenant("other");
    assert!(
        history
            .standing(&other, TargetId(1), &ids)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        history
            .standing(&acme, TargetId(1), &[])
            .await
            .unwrap()
            .is_empty()
    );
}
