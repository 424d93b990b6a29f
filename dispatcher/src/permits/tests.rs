//! Permits by a driven clock.

use super::*;
use crate::gate::breaker::BreakerPolicy;
use crate::gate::limit::Bounds;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn permits(shares: Shares) -> Arc<Permits> {
    let rules = Rules {
        bounds: Bounds {
            min: 1,
            start: 2,
            max: 16,
        },
        slow: 8,
        breaker: BreakerPolicy {
            min_attempts: 10,
            share: 0.7,
            window: secs(300),
            open: secs(30),
            open_max: secs(300),
        },
    };
    Permits::new(rules, shares)
}

const ROOM: Shares = Shares {
    tenant: 100,
    retries: 100,
};

fn tenant(name: &str) -> Tenant {
    Tenant::new(name).unwrap()
}

fn entrant(tenant: &Tenant, target: i64) -> Entrant<'_> {
    Entrant {
        target: TargetId(target),
        tenant,
        first: true,
        ask: Ask {
            rate: None,
            slow: false,
            returned: false,
            left: secs(86_400),
            chance: 0.5,
        },
    }
}

async fn enter(permits: &Arc<Permits>, entrant: Entrant<'_>) -> Permit {
    match permits.enter(entrant).await {
        Entry::In(permit) => permit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_target_refuses_after_a_moment_and_others_are_free() {
    let (permits, acme) = (permits(ROOM), tenant("acme"));
    let _first = enter(&permits, entrant(&acme, 1)).await;
    let second = enter(&permits, entrant(&acme, 1)).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(
        permits.enter(entrant(&acme, 1)).await,
        Entry::Slow(Why::Target, _)
    ));
    assert_eq!(began.elapsed(), PATIENCE);
    drop(enter(&permits, entrant(&acme, 2)).await);
    // By now it is known not to answer soon.
    tokio::time::advance(secs(1)).await;
    let began = tokio::time::Instant::now();
    assert!(matches!(
        permits.enter(entrant(&acme, 1)).await,
        Entry::Slow(Why::Target, _)
    ));
    assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits for it");
    drop(second);
    drop(enter(&permits, entrant(&acme, 1)).await);
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_get_the_place_in_turn_and_are_not_overtaken() {
    let (permits, acme) = (permits(ROOM), tenant("acme"));
    let mut held = vec![
        enter(&permits, entrant(&acme, 1)).await,
        enter(&permits, entrant(&acme, 1)).await,
    ];
    let order = Arc::new(Mutex::new(Vec::new()));
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..6 {
        let (permits, acme, order) = (permits.clone(), acme.clone(), order.clone());
        waiting.spawn(async move {
            let permit = enter(&permits, entrant(&acme, 1)).await;
            order.lock().unwrap().push(number);
            permit
        });
        // It has come to wait before the next one comes.
        tokio::task::yield_now().await;
    }
    // One place becomes free at a time, and one who has just come does not get it.
    while let Some(permit) = held.pop() {
        permit.end(Sign::Nothing, None);
        assert!(permits.lock().targets[&TargetId(1)].waiting > 0 || waiting.is_empty());
        if let Some(next) = waiting.join_next().await {
            held.push(next.unwrap());
        }
    }
    assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(permits.lock().targets[&TargetId(1)].waiting, 0);
    assert!(!permits.lock().targets[&TargetId(1)].gate.is_running());
}

#[tokio::test(start_paused = true)]
async fn a_tenant_has_its_share_while_there_are_others_and_all_of_it_alone() {
    let shares = Shares { tenant: 4, ..ROOM };
    let (permits, acme, other) = (permits(shares), tenant("acme"), tenant("other"));
    let mut held = Vec::new();
    for target in 0..6 {
        held.push(enter(&permits, entrant(&acme, target)).await);
    }
    drop(enter(&permits, entrant(&other, 100)).await);
    assert!(matches!(
        permits.enter(entrant(&acme, 6)).await,
        Entry::Slow(Why::Tenant, _)
    ));
    drop(enter(&permits, entrant(&other, 100)).await);
    held.truncate(3);
    held.push(enter(&permits, entrant(&acme, 6)).await);
    assert!(matches!(
        permits.enter(entrant(&acme, 7)).await,
        Entry::Slow(Why::Tenant, _)
    ));
    tokio::time::advance(GONE).await;
    held.push(enter(&permits, entrant(&acme, 7)).await);
}

#[tokio::test(start_paused = true)]
async fn retries_leave_room_while_first_attempts_come() {
    let shares = Shares { retries: 2, ..ROOM };
    let (permits, acme) = (permits(shares), tenant("acme"));
    let retry = |target| Entrant {
        first: false,
        ..entrant(&acme, target)
    };
    let mut held = Vec::new();
    for target in 0..4 {
        held.push(enter(&permits, retry(target)).await);
    }
    drop(enter(&permits, entrant(&acme, 9)).await);
    assert!(matches!(
        permits.enter(retry(5)).await,
        Entry::Slow(Why::Retries, _)
    ));
    let slow = Entrant {
        ask: Ask {
            slow: true,
            ..retry(5).ask
        },
        ..retry(5)
    };
    drop(enter(&permits, slow).await);
    held.truncate(1);
    held.push(enter(&permits, retry(5)).await);
    tokio::time::advance(FRESH).await;
    held.push(enter(&permits, retry(6)).await);
}

#[tokio::test(start_paused = true)]
async fn what_something_of_ours_is_away_for_comes_back_spread() {
    let permits = permits(ROOM);
    let waits: Vec<_> = (0..5_000).map(|_| permits.ours_is_away(0.0)).collect();
    assert_eq!(waits[0], secs(5));
    assert!(
        waits[4_999] >= secs(14) && waits[4_999] <= secs(16),
        "{:?}",
        waits[4_999]
    );
}

#[tokio::test(start_paused = true)]
async fn memory_is_bounded_and_what_runs_is_kept() {
    let (permits, acme) = (permits(ROOM), tenant("acme"));
    let held = enter(&permits, entrant(&acme, 0)).await;
    let mut tenants = 0;
    for target in 1..=3 * REMEMBERED as i64 {
        let one = tenant(&format!("t{target}"));
        enter(&permits, entrant(&one, target)).await.end(Sign::Good, None);
        tenants = tenants.max(permits.lock().tenants.len());
        assert!(permits.lock().targets.len() <= REMEMBERED + 1);
    }
    assert!(tenants <= REMEMBERED + 1);
    assert!(permits.lock().targets[&TargetId(0)].gate.is_running());
    drop(held);
    tokio::time::advance(secs(301)).await;
    permits.forget_idle();
    assert!(permits.lock().targets.is_empty() && permits.lock().tenants.is_empty());
}
